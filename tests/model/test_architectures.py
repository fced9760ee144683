"""Every decoder that TransformerLens supports and transformers builds: loaded, proved, read right and analysed, or refused.

One test an architecture, on random weights of the real class. `analyses/architectures.py` runs this file and writes the
matrix from its outcome. "phimoe", "apertus" and "modernbert-decoder" are refused for the reasons in architectures.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.errors import ModelError
from probekit.model.harvest import harvest
from probekit.model.hooked_model import load_hooked_model
from probekit.text.tokens import Tokens

sys.path.insert(0, str(Path(__file__).parent))
from architectures import DENSE, N_VOCAB, REFUSED

FAST = (
    "gpt2",
    "gpt_neox",
    "qwen3",
    "olmo2",
)  # plain, parallel, gated, norm after the MLP; the others are slow by number
CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # two kernels of attention in float32, on activations of size 1
DOWN = (
    "c_proj", "dense_4h_to_h", "down_proj", "fc2", "fc_out", "w2", "mlp.fc_out", "wo",
)  # fmt: skip
"""How transformers calls the matrix that neurons go into."""


def raw_neurons(folder: Path, ids: np.ndarray, width: int) -> list[torch.Tensor]:
    """Neurons of every layer, from the plain model by its own module names, in the order in which they are computed."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    captured: list[torch.Tensor] = []

    def keep(module: Any, given: tuple[torch.Tensor, ...]) -> None:
        captured.append(given[0])

    for name, module in model.named_modules():
        inside = any(part in name for part in ("mlp", "ffn", "feed_forward", "fc"))
        if inside and name.rsplit(".", 1)[-1] in DOWN and "attn" not in name:
            module.register_forward_pre_hook(keep)
    with torch.no_grad():
        model(input_ids=torch.from_numpy(ids))
    return [neurons.reshape(ids.size, -1) for neurons in captured if neurons.shape[-1] == width]


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in DENSE]
)
def test_dense(
    name: str,
    model_folder: Callable[[str], Path],
    ragged_tokens: Tokens,
    record_property: Callable[[str, object], None],
) -> None:
    folder = model_folder(name)
    hooked = load_hooked_model(folder)  # proves the sites of every layer, or raises
    record_property("loads", f"{hooked.activation}{', gated' if hooked.gated else ''}")
    blocks = list(harvest(hooked, ragged_tokens, np.arange(ragged_tokens.n_docs), range(hooked.n_layers)))
    raw = raw_neurons(folder, np.maximum(ragged_tokens.ids, 0).astype(np.int64), hooked.d_mlp)
    assert len(raw) == hooked.n_layers
    furthest = 0.0
    for layer in range(hooked.n_layers):
        inputs, neurons = (torch.cat([block.sites[layer][site] for block in blocks]) for site in (0, 1))
        plain = raw[layer][ragged_tokens.counted.ravel()]
        torch.testing.assert_close(neurons, plain, **CLOSE)
        torch.testing.assert_close(hooked.mlp(layer).neurons(inputs), neurons, **CLOSE)
        furthest = max(furthest, float(((neurons - plain).abs() / (1 + plain.abs())).max()))
    record_property("sites", f"{furthest:.0e}")

    rng = np.random.default_rng(0)
    tokens = rng.integers(0, N_VOCAB - 2, size=(300, 16))
    masks = {f"m{i}": rng.random(N_VOCAB) < 0.4 for i in range(3)}
    run = pk.analyze(
        str(folder), pk.Corpus.from_tokens(tokens), concepts=pk.Concepts.from_vocab(masks, lags=(0, 1)), twins=4,
        context=16, max_pairs=12, min_support=20, progress=False,
    )  # fmt: skip
    assert len(run.layers) == hooked.n_layers
    for row in run.summary["layers"]:
        assert row["n_tested"] == 12
        # random weights are one more twin
        assert row["excess_low"] is not None
        assert row["excess_high"] is not None
        assert row["excess_low"] <= 0 <= row["excess_high"]
    finite = run.pairs()[["kappa", "kappa_se", "d_prime", "d_prime_input", "d_prime_pre", "p_vs_linear"]]
    assert np.isfinite(finite.to_numpy(float)).all()
    record_property("analysed", f"{hooked.n_layers} layers")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "qwen3_moe" else pytest.mark.slow) for name in REFUSED]
)
def test_refused(
    name: str, model_folder: Callable[[str], Path], record_property: Callable[[str, object], None]
) -> None:
    with pytest.raises(ModelError, match=REFUSED[name]) as caught:
        load_hooked_model(model_folder(name))
    record_property("refused", str(caught.value).replace(str(model_folder(name)), name)[:160])
