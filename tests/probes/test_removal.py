"""Removing relays: the arithmetic is that of its formula, relays go, what neurons make of A and B stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probekit.model.weights import ACTIVATIONS, MlpWeights
from probekit.probes.pairs import SIGNS, LabelColumns, TokenSample, sample_tokens, splitmix64
from probekit.probes.refit import BalancedMoments
from probekit.probes.removal import (
    ACTIVATION_CODES,
    SCRAMBLES,
    Columns,
    Removal,
    RemovedMoments,
    RemovedSums,
)

N_TOKENS, WIDTH, N_NEURONS = 3_000, 24, 10
PAIRS = np.array([[0, 1], [0, 2], [1, 2]], np.int32)


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray, TokenSample]:
    rng = np.random.default_rng(seed)
    labels = rng.random((N_TOKENS, 3)) < 0.4
    x = labels @ rng.standard_normal((3, WIDTH)) * 0.5 + rng.standard_normal((N_TOKENS, WIDTH))
    token_hash = splitmix64(np.arange(N_TOKENS, dtype=np.uint64))
    sample = sample_tokens(
        LabelColumns.from_dense(labels), PAIRS, np.arange(N_TOKENS) // 20, token_hash, limit=200
    )
    return labels, (x - x.mean(0)).astype(np.float32), sample


def weights_of(activation: str, *, gated: bool, seed: int = 1) -> MlpWeights:
    rng = np.random.default_rng(seed)
    gate = (
        {"w_gate": rng.standard_normal((N_NEURONS, WIDTH)), "b_gate": rng.standard_normal(N_NEURONS)}
        if gated
        else {}
    )
    return MlpWeights.from_arrays(
        rng.standard_normal((N_NEURONS, WIDTH)) / 2,
        rng.standard_normal(N_NEURONS),
        activation=activation,
        **gate,
    )


def removal_of(n_directions: int = 3, seed: int = 2) -> Removal:
    rng = np.random.default_rng(seed)
    directions = np.stack([np.linalg.qr(rng.standard_normal((WIDTH, n_directions)))[0] for _ in PAIRS])
    signs = rng.choice([-1.0, 1.0], (SCRAMBLES, WIDTH))
    return Removal(directions.astype(np.float32), signs.astype(np.float32))


def by_formula(weights: MlpWeights, x: np.ndarray, removal: Removal, pair: int, scramble: int) -> np.ndarray:
    """Neurons after the removal, float64: p + (w·D) Dᵀ(T' − 1)x, both halves."""
    d = removal.directions[pair].astype(float)
    moved = (x * (removal.signs[scramble] - 1)) @ d
    pre = weights.pre(torch.from_numpy(x)).double().numpy() + moved @ (weights.weight.double().numpy() @ d).T
    act = ACTIVATIONS[weights.activation](torch.from_numpy(pre[:, :N_NEURONS])).numpy()
    return act * pre[:, N_NEURONS:] if weights.gated else act


def columns_of(weights: MlpWeights, inputs: torch.Tensor) -> Columns:
    neurons, pre = (part(inputs).numpy().T.copy() for part in (weights.neurons, weights.pre))
    return Columns(neurons, pre, weights.activation)


SUPPORT = np.array([[3, 1, 7, -1], [0, 9, 4, 2], [5, 6, -1, -1]], np.int32)


def summed(
    weights: MlpWeights, removal: Removal, sign: np.ndarray, tile: int
) -> tuple[RemovedMoments, RemovedSums]:
    _, x, sample = scene()
    reads = removal.reads(weights.weight.numpy(), sign, SUPPORT, 1 + weights.gated)
    shift = np.full(N_NEURONS, 0.3, np.float32)
    moments = RemovedMoments(SUPPORT, shift, reads, sample, SCRAMBLES)

    def tiles() -> list[tuple[Columns, int, np.ndarray]]:
        held = []
        for start in range(0, N_TOKENS, tile):
            part = x[start : start + tile]
            inputs = torch.from_numpy(part * sign)
            held.append(
                (
                    columns_of(weights, inputs),
                    start,
                    part,
                )
            )
        return held

    for columns, start, part in tiles():
        moments.add_tile(columns, start, removal.change(part, start, start + len(part), sample))
    sums = RemovedSums(moments.fit(), reads, sample)
    for columns, start, part in tiles():
        sums.add_tile(columns, start, removal.change(part, start, start + len(part), sample))
    return moments, sums


@pytest.mark.parametrize("activation", sorted(ACTIVATION_CODES))
@pytest.mark.parametrize("gated", [False, True])
def test_sums_are_those_of_the_formula(activation: str, gated: bool) -> None:
    weights, removal = weights_of(activation, gated=gated), removal_of()
    _, x, sample = scene()
    moments, sums = summed(weights, removal, np.ones(WIDTH, np.float32), 1_000)
    readouts = moments.fit()
    d_prime = np.zeros(len(PAIRS))
    for pair in range(len(PAIRS)):
        used = SUPPORT[pair][SUPPORT[pair] >= 0]
        for scramble in range(SCRAMBLES):
            neurons = by_formula(weights, x, removal, pair, scramble)[:, used]
            groups = [
                neurons[sample.token[sample.ptr[4 * pair + q] : sample.ptr[4 * pair + q + 1]]]
                for q in range(4)
            ]
            means = np.stack([group.mean(0) for group in groups])
            outer = sum(0.25 * (g - 0.3).T @ (g - 0.3) / len(g) for g in groups)
            # fp32 products of values of order 1 over some hundred tokens
            np.testing.assert_allclose(
                moments.state()["means"][scramble, pair, :, : len(used)] / sample.n_sampled[pair][:, None],
                means - 0.3, atol=2e-4 * max(1, np.abs(means).max()),
            )  # fmt: skip
            held = moments.state()["outer"][scramble, pair, : len(used), : len(used)]
            np.testing.assert_allclose(held, outer, atol=2e-4 * np.abs(outer).max())
            values = [g @ readouts[scramble].weights[pair, : len(used)] for g in groups]
            natural = sample.n_natural[pair] / sample.n_natural[pair].sum()
            kappa = SIGNS @ np.array([v.mean() for v in values])
            d_prime[pair] += kappa / np.sqrt(natural @ np.array([v.var() for v in values])) / SCRAMBLES
    np.testing.assert_allclose(sums.d_prime(), d_prime, rtol=2e-3, atol=2e-3)


def test_nothing_removed_changes_nothing_and_null_layers_read_by_their_own_signs() -> None:
    weights = weights_of("silu", gated=True)
    _, x, sample = scene()
    still = Removal(np.zeros((len(PAIRS), WIDTH, 3), np.float32), removal_of().signs)
    plain = BalancedMoments(SUPPORT, torch.full((N_NEURONS,), 0.3), sample)
    plain.add_tile(columns_of(weights, torch.from_numpy(x)).neurons, 0, *sample.between(0, N_TOKENS))
    moments, _ = summed(weights, still, np.ones(WIDTH, np.float32), N_TOKENS)
    for scramble in range(SCRAMBLES):
        # the same neurons in another order of summation, fp32
        np.testing.assert_allclose(moments.state()["means"][scramble], plain.state()["means"], atol=2e-2)
    # a twin with signs s reads W·diag(s): the same layer with its weights turned, on the same inputs
    sign = np.random.default_rng(3).choice([-1.0, 1.0], WIDTH).astype(np.float32)
    gate = weights.w_gate
    assert gate is not None
    turned = MlpWeights.from_arrays(
        weights.w_in * torch.from_numpy(sign), weights.b_in, w_gate=gate * torch.from_numpy(sign),
        b_gate=weights.b_gate, activation="silu",
    )  # fmt: skip
    of_twin, _ = summed(weights, removal_of(), sign, N_TOKENS)
    of_turned, _ = summed(turned, removal_of(), np.ones(WIDTH, np.float32), N_TOKENS)
    for name, values in of_twin.state().items():
        np.testing.assert_allclose(values, of_turned.state()[name], rtol=1e-4, atol=1e-2)


def test_tiles_cut_anywhere_and_states_taken_up_again_agree() -> None:
    weights, removal, sign = weights_of("gelu", gated=False), removal_of(), np.ones(WIDTH, np.float32)
    whole, sums = summed(weights, removal, sign, N_TOKENS)
    parts, _ = summed(weights, removal, sign, 700)
    for name, values in whole.state().items():
        np.testing.assert_allclose(values, parts.state()[name], rtol=1e-5, atol=1e-3)
    again, other = summed(weights, removal, sign, 700)
    again.restore({name: values.copy() for name, values in whole.state().items()})
    other.restore({name: values.copy() for name, values in sums.state().items()})
    np.testing.assert_array_equal(other.d_prime(), sums.d_prime())
    np.testing.assert_array_equal(again.state()["outer"], whole.state()["outer"])


def test_a_relay_loses_its_interaction_and_an_and_made_here_keeps_it() -> None:
    """Two neurons: one passes on an AND of the input over a threshold, one makes it of A and B."""
    rng = np.random.default_rng(5)
    n_tokens = 8_000
    labels = rng.random((n_tokens, 2)) < 0.4
    basis = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]
    a, b, there = basis[:, 0], basis[:, 1], basis[:, 2]
    x = (
        labels @ np.stack([a, b])
        + 1.5 * np.all(labels, axis=1)[:, None] * there
        + 0.2 * rng.standard_normal((n_tokens, WIDTH))
    )
    mean = x.mean(0)
    frame = np.linalg.eigh(np.cov(x.T))[1]
    weights = MlpWeights.from_arrays(np.stack([2 * there, 2 * (a + b)]) @ frame, np.array([-1.0, -2.5]))
    rotated = ((x - mean) @ frame).astype(np.float32)
    inputs = torch.from_numpy(rotated + (mean @ frame).astype(np.float32))
    pairs = np.array([[0, 1]], np.int32)
    token_hash = splitmix64(np.arange(n_tokens, dtype=np.uint64))
    sample = sample_tokens(
        LabelColumns.from_dense(labels), pairs, np.arange(n_tokens) // 20, token_hash, limit=800
    )
    removal = Removal((there @ frame).reshape(1, WIDTH, 1).astype(np.float32), removal_of(seed=7).signs)
    columns = columns_of(weights, inputs)
    change = removal.change(rotated, 0, n_tokens, sample)
    d_prime: dict[str, float] = {}
    as_read: dict[str, float] = {}
    for name, neuron in (("relay", 0), ("made here", 1)):
        support = np.array([[neuron]], np.int32)
        plain = BalancedMoments(support, torch.zeros(2), sample)
        plain.add_tile(columns.neurons, 0, *sample.between(0, n_tokens))
        groups = [columns.neurons[neuron, sample.token[sample.ptr[q] : sample.ptr[q + 1]]] for q in range(4)]
        natural = sample.n_natural[0] / sample.n_natural[0].sum()
        kappa = SIGNS @ np.array([g.mean() for g in groups])
        as_read[name] = float(kappa / np.sqrt(natural @ np.array([g.var() for g in groups])))
        reads = removal.reads(weights.weight.numpy(), np.ones(WIDTH, np.float32), support, 1)
        moments = RemovedMoments(support, np.zeros(2, np.float32), reads, sample, SCRAMBLES)
        moments.add_tile(columns, 0, change)
        sums = RemovedSums(moments.fit(), reads, sample)
        sums.add_tile(columns, 0, change)
        d_prime[name] = float(sums.d_prime()[0])
    assert as_read["relay"] > 5  # it stands out as read
    assert as_read["made here"] > 2
    assert (
        abs(d_prime["relay"]) < 0.15 * as_read["relay"]
    )  # T' leaves some of the direction where it was by chance
    assert d_prime["made here"] == pytest.approx(as_read["made here"], rel=0.1)
