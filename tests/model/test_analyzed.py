"""The whole analysis on random models of the real classes: plain, parallel and gated MLPs go through unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import probekit as pk
from probekit.model.hooked_model import load_hooked_model

GATED = {"llama"}


@pytest.mark.parametrize(
    "family", ["gpt2", pytest.param("neox", marks=pytest.mark.sweep), "llama"]
)  # test_architectures.py goes through all of them
def test_analyze(family: str, model_folder: Callable[[str], Path]):
    """Every layer is measured against its twins, and a random layer shows no excess over them."""
    folder = model_folder(family)
    hooked = load_hooked_model(folder)
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, hooked.n_vocab, size=(400, 16))
    tokens[rng.random(tokens.shape) < 0.3] = 5
    masks = {f"m{i}": rng.random(hooked.n_vocab) < 0.35 for i in range(5)}
    run = pk.analyze(
        str(folder), pk.Corpus.from_tokens(tokens), concepts=pk.Concepts.from_vocab(masks, lags=(0, 1)), twins=4,
        context=16, max_pairs=40, min_support=20, progress=False,
    )  # fmt: skip
    assert len(run.layers) == hooked.n_layers
    assert run.summary["model"]["gated"] is (family in GATED)
    for row in run.summary["layers"]:
        assert row["n_tested"] == 40
        assert row["excess_low"] is not None
        assert row["excess_high"] is not None
        assert row["excess_low"] <= 0 <= row["excess_high"]
        assert row["n_neurons"] == hooked.d_mlp
        assert row["capacity"]["n_params"] == hooked.mlp(row["layer"]).n_params
    pairs = run.pairs(0)
    assert (
        np.isfinite(pairs[["kappa", "kappa_se", "d_prime", "d_prime_input", "d_prime_pre", "p_vs_linear"]])
        .all()
        .all()
    )
    # in a plain layer the linearised neurons are the pre-activations up to scale, in a gated one they are not
    same = (pairs["d_prime_linear"] == pairs["d_prime_pre"]).all()
    assert same == (family not in GATED)
