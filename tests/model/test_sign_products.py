"""Shared products give every twin what its own product gives, and a twin's bits do not depend on who is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probekit.model import sign_products
from probekit.model.sign_products import GROUP, SignFlipped, SignGroup
from probekit.model.twins import InputFrame, PcSignTwins
from probekit.model.weights import MlpWeights

N_TOKENS, N_INPUTS, N_HALF = 300, 40, 30


def drawn(n_twins: int) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(n_twins)
    shapes = {"rotated": (N_TOKENS, N_INPUTS), "weight": (N_INPUTS, N_HALF), "bias": (N_HALF,)}
    arrays = [torch.from_numpy(rng.standard_normal(shape)).float() for shape in shapes.values()]
    return (torch.from_numpy(rng.choice([-1.0, 1.0], (n_twins, N_INPUTS))).float(), *arrays)


@pytest.mark.parametrize("n_twins", range(1, GROUP + 1))
@pytest.mark.parametrize("cache_bytes", [1, 2**14, 2**30])
def test_every_twin_is_its_own_product(
    n_twins: int, cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_products, "CACHE_BYTES", cache_bytes)
    signs, rotated, weight, bias = drawn(n_twins)
    group = SignGroup.of(signs, weight)
    out, seen = torch.full((n_twins, N_TOKENS, N_HALF), torch.nan), []
    group.pre(rotated, group.by_class(bias.expand(n_twins, -1)), out, seen.append)
    wanted = torch.stack([(rotated * sign).double() @ weight.double() + bias for sign in signs])
    # fp32 sums of 40 products of size one, in another order
    assert float((out - wanted).abs().max()) < 1e-4
    assert [seen[0].start, seen[-1].stop] == [0, N_TOKENS], "every block was announced"
    # the control: another twin's signs are far from it
    if n_twins > 1:
        assert float((out[0] - wanted[1]).abs().mean()) > 1


@pytest.mark.parametrize("n_same", [0, N_INPUTS])
def test_classes_without_a_direction_are_nothing(n_same: int) -> None:
    """Twins that agree everywhere, or nowhere, leave all classes but one empty."""
    _, rotated, weight, bias = drawn(2)
    signs = torch.ones(2, N_INPUTS)
    signs[1, n_same:] = -1
    out = torch.empty(2, N_TOKENS, N_HALF)
    group = SignGroup.of(signs, weight)
    group.pre(rotated, group.by_class(bias.expand(2, -1)), out, lambda _: None)
    for sign, found in zip(signs, out, strict=True):
        assert float((found - ((rotated * sign) @ weight + bias)).abs().max()) < 1e-4


@pytest.mark.parametrize("gated", [False, True])
def test_bits_of_a_twin_do_not_depend_on_company(gated: bool) -> None:
    rng = np.random.default_rng(5)
    gate = {"w_gate": rng.standard_normal((20, 12)), "b_gate": rng.standard_normal(20)} if gated else {}
    weights = MlpWeights.from_arrays(
        rng.standard_normal((20, 12)), rng.standard_normal(20), activation="silu", **gate
    )
    x = torch.from_numpy(rng.standard_normal((500, 12))).float()
    twins = PcSignTwins.draw(weights, InputFrame.of(x), 10, rng)
    together = list(twins.activations(x))
    assert len(together) == 10
    for r in range(10):
        [(pre, neurons)] = twins.activations(x, [r])
        [alone] = twins.neurons(x, [r])
        assert torch.equal(neurons, together[r][1])
        assert torch.equal(alone, neurons), "with and without pre-activations"
        assert pre is not None
        assert torch.equal(pre, together[r][0])


@pytest.mark.parametrize("n_twins", range(1, GROUP + 3))
def test_every_twin_has_its_own_bias(n_twins: int) -> None:
    """Dealt to the classes that twins share, biases come back whole."""
    signs, rotated, weight, _ = drawn(n_twins)
    bias = torch.from_numpy(np.random.default_rng(9).standard_normal((n_twins, N_HALF))).float()
    layer = MlpWeights(torch.empty(N_HALF, N_INPUTS), torch.empty(N_HALF))
    flipped = SignFlipped(signs, weight, bias, layer)
    found = list(flipped.activations(rotated, None, with_pre=True))
    for sign, own, (pre, neurons) in zip(signs, bias, found, strict=True):
        wanted = (rotated * sign).double() @ weight.double() + own
        assert pre is not None
        assert float((pre - wanted).abs().max()) < 1e-4  # as above
        assert torch.equal(neurons, pre.clamp_min(0))
    # the control: biases that go to the wrong twin are seen
    if n_twins > 1:
        assert float((found[0][0] - ((rotated * signs[0]) @ weight + bias[1])).abs().mean()) > 0.3  # type: ignore[operator]


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("cache_bytes", [1, 2**16, 2**30])
def test_columns_are_the_rows_turned(gated: bool, cache_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of neurons, of whatever size, give what blocks of tokens give; whoever is asked for, the same bits."""
    monkeypatch.setattr(sign_products, "CACHE_BYTES", cache_bytes)
    rng = np.random.default_rng(6)
    gate = {"w_gate": rng.standard_normal((37, 12)), "b_gate": rng.standard_normal(37)} if gated else {}
    weights = MlpWeights.from_arrays(
        rng.standard_normal((37, 12)), rng.standard_normal(37), activation="silu", **gate
    )
    x = torch.from_numpy(rng.standard_normal((300, 12))).float()
    twins = PcSignTwins.draw(weights, InputFrame.of(x), 6, rng)
    together = list(twins.columns(x))
    for (pre, neurons), (turned, columns) in zip(twins.activations(x), together, strict=True):
        assert pre is not None
        assert turned is not None
        assert columns.is_contiguous()
        # fp32 sums of 12 products of size one, in another order
        assert float((turned.T - pre).abs().max()) < 1e-4
        assert float((columns.T - neurons).abs().max()) < 1e-3
    for r in (0, 5):
        [(pre, columns)] = twins.columns(x, [r])
        [(_, alone)] = twins.columns(x, [r], with_pre=False)
        assert torch.equal(columns, together[r][1])
        # without pre-activations blocks lie elsewhere, and the last bit of an exponential follows the place
        assert float((alone - columns).abs().max()) < 1e-5
        assert pre is not None
        assert torch.equal(pre, together[r][0])
    assert float((together[0][1] - together[1][1]).abs().max()) > 0.1
