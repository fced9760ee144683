"""Arrays that somebody brought along: the right ones pass in every precision, each usual slip is refused and named."""

# ruff: noqa: E501 - tables are read along their rows

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from probekit.errors import InputError
from probekit.model import proof
from probekit.model.harvest import harvest
from probekit.model.hooked_model import load_hooked_model
from probekit.model.proof import EXACT, TOLERANCE, prove_arrays
from probekit.model.weights import ACTIVATIONS, MlpWeights
from probekit.text.corpus import Corpus

N_TOKENS, D_MODEL, N_NEURONS = 3_000, 24, 72


@dataclass(frozen=True)
class Layer:
    """A layer with what it read and what came out, and the residual stream before its norm."""

    weights: MlpWeights
    x: Tensor
    h: Tensor
    residual: Tensor


def layer(
    activation: str = "relu", *, gated: bool = False, dtype: torch.dtype = torch.float32, norm: str = "layer"
) -> Layer:
    """A random layer behind a norm with a gain, computed in `dtype` as a model would."""
    draw = torch.Generator().manual_seed(1)
    residual = (
        torch.randn(N_TOKENS, D_MODEL, generator=draw) * (3 * torch.rand(N_TOKENS, 1, generator=draw)).exp()
    )
    residual += torch.randn(D_MODEL, generator=draw)
    if norm == "layer":
        normed = functional.layer_norm(residual, (D_MODEL,)) * (0.5 + torch.rand(D_MODEL, generator=draw))
        normed += 0.2 * torch.randn(D_MODEL, generator=draw)
    else:
        normed = functional.rms_norm(residual, (D_MODEL,)) * (0.5 + torch.rand(D_MODEL, generator=draw))
    w = [(torch.randn(N_NEURONS, D_MODEL, generator=draw) / D_MODEL**0.5).to(dtype) for _ in range(2)]
    b = [(0.3 * torch.randn(N_NEURONS, generator=draw)).to(dtype) for _ in range(2)]
    x = normed.to(dtype)
    act = ACTIVATIONS[activation]
    h = act(x @ w[1].T + b[1]) * (x @ w[0].T + b[0]) if gated else act(x @ w[0].T + b[0])
    gate = {"w_gate": w[1], "b_gate": b[1]} if gated else {}
    weights = MlpWeights.from_arrays(w[0], b[0], activation=activation, **gate)
    return Layer(weights, x.float(), h.float(), residual)


EVERY = [(name, gated) for name in ACTIVATIONS for gated in (False, True)]


class TestRightArraysPass:
    @pytest.mark.parametrize(("activation", "gated"), EVERY)
    def test_in_float32(self, activation: str, gated: bool):
        made = layer(activation, gated=gated)
        assert prove_arrays(made.weights, made.x, made.h) <= EXACT

    @pytest.mark.parametrize(("activation", "gated"), EVERY)
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_in_16_bits(self, activation: str, gated: bool, dtype: torch.dtype):
        made = layer(activation, gated=gated, dtype=dtype)
        error = prove_arrays(made.weights, made.x, made.h)
        # a positive control of the tolerance: float32's would refuse what 16 bits leave
        assert EXACT < error < (0.75 * TOLERANCE if dtype == torch.bfloat16 else TOLERANCE / 8)

    def test_products_taken_with_ten_bits(self):
        """TF32: a GPU rounds the factors of a product, and what comes out is full float32."""
        made = layer("gelu")

        def rounded(values: Tensor) -> Tensor:
            return (values.view(torch.int32) & ~0x1FFF).view(torch.float32)

        h = functional.gelu(rounded(made.x) @ rounded(made.weights.w_in).T + made.weights.b_in)
        assert EXACT < prove_arrays(made.weights, made.x, h) < TOLERANCE / 4

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_of_a_trained_model(self, dtype: str):
        """nano's neurons are aligned with what they read, as random ones are not."""
        hooked = load_hooked_model("nano", dtype=dtype)
        tokens = Corpus.docs().tokenize(hooked.tokenizer, context=64, max_tokens=600, bos_id=hooked.bos_id)
        for index in (0, 3):
            blocks = [
                block.sites[index] for block in harvest(hooked, tokens, np.arange(tokens.n_docs), [index])
            ]
            x, h = (torch.cat([block[i] for block in blocks]).float() for i in (0, 1))
            error = prove_arrays(hooked.mlp(index), x, h)
            assert error <= (EXACT if dtype == "float32" else TOLERANCE / 3)

    def test_few_tokens_and_silent_layers(self):
        made = layer()
        for n_tokens in (1, 2, 7, 9):
            assert prove_arrays(made.weights, made.x[:n_tokens], made.h[:n_tokens]) <= EXACT
        silent = replace(made.weights, b_in=torch.full((N_NEURONS,), -1e3))
        assert prove_arrays(silent, made.x, torch.zeros_like(made.h)) == 0.0


def _zero_bias(made: Layer) -> Layer:
    w = made.weights
    b_gate = None if w.b_gate is None else torch.zeros_like(w.b_gate)
    return replace(made, weights=replace(w, b_in=torch.zeros_like(w.b_in), b_gate=b_gate))


def _without_bias(made: Layer) -> Layer:
    return replace(made, h=_zero_bias(made).weights.neurons(made.x))


def _norm(made: Layer) -> Layer:
    """Behind the norm but without its gain, as TransformerLens's hook_normalized has it."""
    return replace(made, x=functional.layer_norm(made.residual, (D_MODEL,)))


def _no_gain_at_all(made: Layer) -> Layer:
    """The norm has no gain (or it is folded into the weights), and inputs are from before it."""
    return replace(
        made, x=made.residual, h=made.weights.neurons(functional.layer_norm(made.residual, (D_MODEL,)))
    )


def _half_off(made: Layer) -> Layer:
    """From the middle on one token was left out of the inputs."""
    half = N_TOKENS // 2
    return replace(made, x=torch.cat([made.x[:half], made.x[half - 1 : -1]]))


def _other_weights(made: Layer) -> Layer:
    draw = torch.Generator().manual_seed(9)
    return replace(
        made,
        weights=replace(made.weights, w_in=torch.randn(N_NEURONS, D_MODEL, generator=draw) / D_MODEL**0.5),
    )


def _shuffled(n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(3))


SLIPS: dict[str, tuple[Callable[[Layer], Layer], str]] = {
    "before the norm": (lambda m: replace(m, x=m.residual), "from before the norm: they follow from the layer norm of inputs with some gain"),
    "before a norm without gain": (_no_gain_at_all, r"from before the norm: they follow from the layer norm of inputs\. Pass"),
    "the norm's gain left out": (_norm, "a factor for each input dimension were missing: the gain of the norm"),
    "a token late": (lambda m: replace(m, x=m.x.roll(1, 0)), "inputs were 1 token off: the neurons of a token follow from the inputs 1 token behind it"),
    "a token early": (lambda m: replace(m, x=m.x.roll(-1, 0)), "1 token off: the neurons of a token follow from the inputs 1 token before it"),
    "nine tokens early": (lambda m: replace(m, x=m.x.roll(-9, 0)), "inputs were 9 tokens off.* 9 tokens before it"),
    "off from the middle on": (_half_off, r"at 1,\d\d\d of 3,000 sampled tokens, the first of them token 1,500: .*1 token off"),
    "tokens in another order": (lambda m: replace(m, h=m.h[_shuffled(N_TOKENS)]), "different orders: inputs of token 0 give the neurons of token"),
    "neurons in another order": (lambda m: replace(m, h=m.h[:, _shuffled(N_NEURONS)]), "columns of neurons and the rows of w_in stood in different orders: column 0"),
    "bias left out": (_zero_bias, r"the bias were another or missing: .*\(those given reach 0\)"),
    "bias that is not there": (_without_bias, "computed without a bias"),
    "neurons scaled": (lambda m: replace(m, h=m.h / 0.9), "neurons were 1.111 times what the layer computes"),
    "before the activation": (lambda m: replace(m, h=m.weights.pre(m.x)[:, -N_NEURONS:]), "neurons had been read before the activation"),
    "from elsewhere": (lambda m: replace(m, x=torch.randn(N_TOKENS, D_MODEL, generator=torch.Generator().manual_seed(7))), "None of the usual slips explains it"),
}  # fmt: skip


class TestSlipsAreNamed:
    @pytest.mark.parametrize(("activation", "gated"), [("relu", False), ("gelu_tanh", False), ("silu", True)])
    @pytest.mark.parametrize("slip", SLIPS)
    def test_of_every_kind_of_layer(self, activation: str, gated: bool, slip: str):
        change, told = SLIPS[slip]
        made = change(layer(activation, gated=gated))
        with pytest.raises(InputError, match=told) as caught:
            prove_arrays(made.weights, made.x, made.h)
        assert rf"{activation}(x Wᵀ + b)" in str(caught.value)
        assert "wanted ≤ 0.008, which is what 16-bit arithmetic leaves" in str(caught.value)

    @pytest.mark.parametrize(
        "slip", ["before the norm", "a token late", "bias left out", "neurons in another order"]
    )
    def test_in_bfloat16(self, slip: str):
        change, told = SLIPS[slip]
        made = change(layer("gelu", dtype=torch.bfloat16))
        with pytest.raises(InputError, match=told):
            prove_arrays(made.weights, made.x, made.h)

    def test_before_an_rms_norm(self):
        made = layer("silu", gated=True, norm="rms")
        with pytest.raises(InputError, match="they follow from the RMS norm of inputs with some gain"):
            prove_arrays(made.weights, made.residual, made.h)

    @pytest.mark.parametrize("given", ACTIVATIONS)
    @pytest.mark.parametrize("right", ACTIVATIONS)
    def test_another_activation(self, right: str, given: str):
        made = layer(right)
        if given == right:
            assert prove_arrays(made.weights, made.x, made.h) <= EXACT
            return
        with pytest.raises(InputError, match=f"Pass activation='{right}'"):
            prove_arrays(made.weights.with_activation(given), made.x, made.h)

    def test_weights_of_another_layer(self):
        made = _other_weights(layer("gelu"))
        with pytest.raises(
            InputError, match=r"by other weights. It looks as if w_in and b_in were those of another layer"
        ):
            prove_arrays(made.weights, made.x, made.h)

    def test_a_square_matrix_transposed(self):
        draw = torch.Generator().manual_seed(2)
        w_in, x = torch.randn(16, 16, generator=draw), torch.randn(400, 16, generator=draw)
        right = MlpWeights.from_arrays(w_in, torch.zeros(16), activation="relu")
        assert prove_arrays(right, x, right.neurons(x)) <= EXACT
        with pytest.raises(InputError, match=r"w_in were transposed. Pass it as \[neuron, input\]: w_in.T"):
            prove_arrays(replace(right, w_in=w_in.T), x, right.neurons(x))

    def test_halves_of_a_gated_layer(self):
        made = layer("silu", gated=True)
        w = made.weights
        assert w.w_gate is not None
        assert w.b_gate is not None
        swapped = replace(w, w_in=w.w_gate, b_in=w.b_gate, w_gate=w.w_in, b_gate=w.b_in)
        with pytest.raises(InputError, match="gate and linear half were exchanged"):
            prove_arrays(swapped, made.x, made.h)
        gate_only = functional.silu(made.x @ w.w_gate.T + w.b_gate)
        with pytest.raises(InputError, match="the activated gate only"):
            prove_arrays(w, made.x, gate_only)
        with pytest.raises(InputError, match="the layer were not gated"):
            prove_arrays(w, made.x, functional.silu(made.x @ w.w_in.T + w.b_in))
        with pytest.raises(InputError, match="a gated layer needs w_gate, b_gate too"):
            prove_arrays(replace(w, w_gate=None, b_gate=None), made.x, made.h)

    def test_one_document_of_another_text(self):
        """A few wrong tokens among many right ones are found where they are sampled."""
        made = layer()
        spoiled = made.x.clone()
        spoiled[1_000:1_200] = spoiled[2_000:2_200]
        with pytest.raises(
            InputError, match=r"at 200 of 3,000 sampled tokens, the first of them token 1,000"
        ):
            prove_arrays(made.weights, spoiled, made.h)


def test_a_large_layer_is_looked_at_in_samples(monkeypatch: pytest.MonkeyPatch):
    made = layer()
    monkeypatch.setattr(proof, "WORK", 1.0)
    assert prove_arrays(made.weights, made.x, made.h) <= EXACT
    off = _half_off(made)
    with pytest.raises(
        InputError, match=r"at 128 of 256 sampled tokens, the first of them token 1,5\d\d: .*1 token off"
    ):
        prove_arrays(off.weights, off.x, off.h)


def test_nobody_is_told_a_slip_that_was_not_made():
    """The control of the fits: on arrays that have nothing to do with each other no fitted slip explains anything."""
    for seed in range(2):
        draw = torch.Generator().manual_seed(seed)
        made = layer("gelu")
        h = functional.gelu(torch.randn(N_TOKENS, N_NEURONS, generator=draw))
        with pytest.raises(InputError, match="None of the usual slips"):
            prove_arrays(made.weights, made.x, h)
    assert proof.FITTED < 0.1
