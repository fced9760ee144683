"""R9: NaN and infinity are counted, refused or left out, never read as a silent neuron; what the identity covers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probekit.errors import ConfigError, NonFiniteError
from probekit.run.given import GivenArrays
from probekit.run.pipeline import analyze_arrays

N_TOKENS, N_NEURONS, N_INPUTS = 60, 7, 4
SHARES = (0.0, 0.01, 0.1, 0.5, 1.0)


def made(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Arrays with NaN or infinity at random places, from one to all of them; and which values of each token are bad."""
    rng = np.random.default_rng(seed)
    values = {
        "neurons": rng.random((N_TOKENS, N_NEURONS)),
        "inputs": rng.standard_normal((N_TOKENS, N_INPUTS)),
    }
    array = values["neurons" if rng.random() < 0.7 else "inputs"]
    n_bad = max(1, int(rng.choice(SHARES) * array.size))
    array.reshape(-1)[rng.permutation(array.size)[:n_bad]] = rng.choice([np.nan, np.inf, -np.inf])
    labels = rng.random((N_TOKENS, 3)) < 0.5
    docs = np.sort(rng.integers(0, 20, N_TOKENS))
    return {**values, "labels": labels, "docs": docs}, np.concatenate(
        [~np.isfinite(v) for v in values.values()], 1
    )


def check(values: dict[str, Any], nonfinite: str) -> GivenArrays:
    return GivenArrays.check(
        values["neurons"], values["labels"], values["docs"], values["inputs"], None, "relu", None, nonfinite
    )


@pytest.mark.parametrize("block", range(5))
def test_five_hundred_cases(block: int):
    for seed in range(100 * block, 100 * block + 100):
        values, bad = made(seed)
        with pytest.raises(
            NonFiniteError, match=rf"\b{int(bad.sum()):,} of [\d,]+ values are NaN or infinite"
        ):
            check(values, "refuse")
        kept = ~bad.any(1)
        if not kept.any():
            with pytest.raises(NonFiniteError, match="every token has an activation"):
                check(values, "drop_tokens")
            continue
        given = check(values, "drop_tokens")
        assert given.n_dropped == (~kept).sum()
        assert np.array_equal(given.neurons.numpy(), values["neurons"][kept].astype(np.float32))
        assert np.array_equal(given.labels, values["labels"][kept])
        # documents stay together and numbered without gaps
        old = values["docs"][kept]
        assert np.array_equal(given.doc[1:] != given.doc[:-1], old[1:] != old[:-1])
        assert given.doc[0] == 0
        assert set(np.diff(given.doc)) <= {0, 1}


def test_what_was_left_out_is_said(arrays: Any):
    neurons, labels, docs, inputs, weights = arrays
    spoiled = neurons.copy()
    spoiled[[5, 900, 901], [0, 3, 3]] = np.nan
    options: dict[str, Any] = {
        "inputs": inputs,
        "weights": weights,
        "twins": 0,
        "max_pairs": 5,
        "progress": False,
    }
    run = analyze_arrays(spoiled, labels, docs, nonfinite="drop_tokens", **options)
    assert run.summary["notes"][0].startswith("3 of 8,000 tokens were left out because an activation was NaN")
    kept = np.ones(8_000, bool)
    kept[[5, 900, 901]] = False
    without = analyze_arrays(neurons[kept], labels[kept], docs[kept], **{**options, "inputs": inputs[kept]})
    # positions within a document differ where one was left out, and so may the sample of tokens; here all are taken
    assert run.pairs()["n11"].equals(without.pairs()["n11"])
    assert np.allclose(run.pairs()["kappa"], without.pairs()["kappa"], rtol=1e-3)
    with pytest.raises(ConfigError, match="nonfinite: got 'ignore'"):
        analyze_arrays(neurons, labels, docs, nonfinite="ignore", **options)


def test_everything_that_matters_is_part_of_the_identity():
    values, _ = made(0)
    good = {
        **values,
        "neurons": np.abs(np.nan_to_num(values["neurons"], posinf=0, neginf=0)),
        "inputs": np.ones((60, 4)),
    }

    def digest(**changed: Any) -> str:
        v = {
            **good,
            "weights": (np.ones((7, 4)), np.zeros(7)),
            "activation": "relu",
            "names": None,
            **changed,
        }
        order = ("neurons", "labels", "docs", "inputs", "weights", "activation", "names")
        return GivenArrays.check(*(v[name] for name in order)).digest()

    others = [
        {"neurons": good["neurons"] + 1}, {"labels": np.logical_not(good["labels"])}, {"docs": np.arange(60)},
        {"inputs": np.zeros((60, 4))},
        {"weights": (2 * np.ones((7, 4)), np.zeros(7))}, {"activation": "gelu"}, {"names": ["a", "b", "c"]},
    ]  # fmt: skip
    digests = [digest(), *(digest(**other) for other in others)]
    assert digest() == digests[0]
    assert len(set(digests)) == len(digests)
