"""Shared products give every twin what its own product gives, and a twin's bits do not depend on who is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probekit.model import sign_products
from probekit.model.sign_products import GROUP, SignGroup
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
    group.pre(rotated, bias, out, seen.append)
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
    SignGroup.of(signs, weight).pre(rotated, bias, out, lambda _: None)
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
