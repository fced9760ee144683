"""Forward selection against greedy least squares, and its public face."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp_gram

import probekit as pk
from probekit.errors import InputError, ShapeError
from probekit.probes.moments import FrozenMoments, Moments
from probekit.probes.pairs import all_pairs
from probekit.probes.select import COLLINEAR, forward_select, least_squares_weights, select_readouts


def partialled(frozen: FrozenMoments) -> tuple[np.ndarray, np.ndarray]:
    """Gram [pair neuron neuron] and cross-moments [pair neuron] with 1, A and B taken out, fp64."""
    a_unit, b_unit, b_on_a, y_on_a, y_on_b = (c[:, None] for c in frozen.partialled())
    s_a, s_b = (frozen.concept_sums[frozen.pairs[:, side]] for side in (0, 1))
    v1, v2 = s_a * a_unit, (s_b - b_on_a * s_a) * b_unit
    gram = frozen.gram - v1[:, :, None] * v1[:, None] - v2[:, :, None] * v2[:, None]
    return gram, frozen.pair_sums - y_on_a * v1 - y_on_b * v2


def forward_in_fp64(frozen: FrozenMoments, k: int) -> np.ndarray:
    """Pivoted Cholesky for all pairs at once, in fp64."""
    gram, rest = partialled(frozen)
    floor = COLLINEAR * np.diag(frozen.gram)
    rows = np.arange(len(gram))
    support = np.full((len(gram), k), -1)
    for step in range(k):
        variance = np.einsum("pii->pi", gram)
        allowed = variance > floor
        score = np.where(allowed, rest**2 / np.where(allowed, variance, 1), 0)
        best = score.argmax(1)
        support[:, step] = np.where(score[rows, best] > 0, best, -1)
        column = gram[rows, best] / np.sqrt(np.maximum(variance[rows, best], 1e-300))[:, None]
        column = np.where(support[:, [step]] >= 0, column, 0)
        pull = rest[rows, best] / np.sqrt(np.maximum(variance[rows, best], 1e-300))
        rest = rest - pull[:, None] * column
        gram = gram - column[:, :, None] * column[:, None]
    return support


def explained(frozen: FrozenMoments, pair: int, neurons: np.ndarray) -> float:
    """Drop in residual sum of squares of A∧B from 1, A, B to 1, A, B and these neurons."""
    gram, cross = (part[pair] for part in partialled(frozen))
    held = neurons[neurons >= 0]
    return float(cross[held] @ np.linalg.lstsq(gram[np.ix_(held, held)], cross[held])[0])


def test_every_step_is_the_greedy_one(planted) -> None:
    """Brute force: least squares on tokens with explicit columns 1, A, B and every candidate."""
    x = planted.x.astype(float)
    support = forward_select(planted.moments().finalize(), 5)
    for p in range(0, len(planted.pairs), 3):
        a, b = planted.labels[:, planted.pairs[p]].T
        base = np.column_stack([np.ones(len(x)), a, b]).astype(float)
        y = (a & b).astype(float)
        for step in range(5):
            held = np.column_stack([base, x[:, support[p, :step]]])
            residual = np.column_stack([x, y]) - held @ np.linalg.lstsq(held, np.column_stack([x, y]))[0]
            drop = (residual[:, :-1].T @ residual[:, -1]) ** 2 / np.maximum(
                (residual[:, :-1] ** 2).sum(0), 1e-6
            )
            drop[support[p, :step]] = 0
            # the best one, or as good to the rounding of fp32 moments
            assert drop[support[p, step]] >= drop.max() * (1 - 1e-4)


def test_planted_supports_are_found(unmixed) -> None:
    support = forward_select(unmixed.moments().finalize(), 4)
    for pair, carriers in unmixed.carriers.items():
        assert sorted(support[pair].tolist()) == carriers
    # positive control: the other pairs, whose AND nothing carries, do not choose them
    other = [sorted(s) for p, s in enumerate(support.tolist()) if p not in unmixed.carriers]
    assert all(s not in list(unmixed.carriers.values()) for s in other)


def test_dead_constant_and_collinear_neurons_are_passed_over(planted) -> None:
    x = planted.x[:3_000].copy()
    x[:, 20], x[:, 21] = 0.0, 0.1
    # a constant to its last bit: the size of what an activation function leaves when it saturates
    x[::2, 21] = np.nextafter(np.float32(0.1), np.float32(1))
    x[:, 22] = 3 * x[:, 0] - 2 * x[:, 1]
    x[:, 23] = x[:, 0]
    moments = Moments(24, 6)
    moments.update(x, planted.labels[:3_000], planted.docs[:3_000])
    frozen = moments.finalize()
    support = forward_select(frozen, 24)
    assert not np.isin(support, [20, 21]).any()
    for path in support.tolist():
        used = [i for i in path if i >= 0]
        assert len(set(used)) == len(used)
        assert not {0, 23} <= set(used)
        assert len({0, 1, 22, 23} & set(used)) == 2
        assert path == used + [-1] * (24 - len(used))
    weights = least_squares_weights(frozen, support)
    assert np.isfinite(weights).all()
    assert (weights[support < 0] == 0).all()
    # positive control: with their variation back, 20 and 21 are used
    assert np.isin([20, 21], forward_select(planted.moments().finalize(), 24)).all()


@pytest.mark.parametrize("additive", [True, False])
def test_weights_are_those_of_least_squares(planted, additive: bool) -> None:
    """On whole and on shortened supports, against NumPy's solution of the same normal equations."""
    frozen = planted.moments().finalize()
    support = forward_select(frozen, 8, additive=additive)
    support[::3, 5:] = -1
    support[1] = -1
    weights = least_squares_weights(frozen, support, additive=additive)
    gram, target = (
        partialled(frozen) if additive else (np.stack([frozen.gram] * len(support)), frozen.pair_sums)
    )
    for p, chosen in enumerate(support):
        held = chosen[chosen >= 0]
        wanted = np.linalg.solve(gram[p][np.ix_(held, held)], target[p, held]) if len(held) else np.zeros(0)
        # the ridge is 1e-8 of a variance, supports keep 1e-5 of it apart
        np.testing.assert_allclose(weights[p, : len(held)], wanted, rtol=1e-2, atol=1e-5)
        assert (weights[p, len(held) :] == 0).all()
    assert np.abs(weights).max() > 0.01, "there is something to compare"


def test_paths_are_nested_and_k_is_clipped(planted) -> None:
    frozen = planted.moments().finalize()
    longest = forward_select(frozen, 1_000)
    assert longest.shape == (len(planted.pairs), 24)
    for k in (1, 4, 16):
        np.testing.assert_array_equal(forward_select(frozen, k), longest[:, :k])


def wide(n_tokens: int = 9_000, n_neurons: int = 64, n_concepts: int = 50) -> FrozenMoments:
    """Correlated neurons of different scales that read concepts through a ReLU; 1,225 targets."""
    rng = np.random.default_rng(4)
    labels = rng.random((n_tokens, n_concepts)) < 0.3
    x = labels @ rng.normal(0, 0.4, (n_concepts, n_neurons)) + rng.standard_normal((n_tokens, n_neurons))
    x = np.maximum(x - 0.5, 0) * np.exp(rng.normal(0, 1, n_neurons))
    moments = Moments(n_neurons, n_concepts)
    moments.update(x.astype(np.float32), labels, np.arange(n_tokens) // 30)
    return moments.finalize()


def test_fp32_supports_are_those_of_fp64() -> None:
    frozen = wide()
    single, double = (np.sort(f(frozen, 16), axis=1) for f in (forward_select, forward_in_fp64))
    assert (single == double).all(1).mean() >= 0.999


def test_no_worse_than_orthogonal_matching_pursuit() -> None:
    """Forward regression looks one step further: at equal k it explains as much on most targets, more on average."""
    frozen = wide(n_tokens=3_000, n_concepts=20)
    support = forward_select(frozen, 8)
    gram, cross = partialled(frozen)
    ours, theirs = [], []
    for pair in range(len(support)):
        # matching pursuit wants columns of unit norm
        scale = np.sqrt(np.diag(gram[pair]))
        coefficients = orthogonal_mp_gram(
            gram[pair] / np.outer(scale, scale), cross[pair] / scale, n_nonzero_coefs=8
        )
        ours.append(explained(frozen, pair, support[pair]))
        theirs.append(explained(frozen, pair, np.flatnonzero(coefficients)))
    ratio = np.array(ours) / np.array(theirs)
    assert (ratio >= 1 - 1e-4).mean() > 0.75
    assert ratio.mean() >= 1


def test_weights_are_least_squares_on_the_support(planted) -> None:
    neurons, weights = select_readouts(planted.moments(), k=6)
    x = planted.x.astype(float)
    for p in (0, 1, 7):
        a, b = planted.labels[:, planted.pairs[p]].T
        columns = np.column_stack([x[:, neurons[p]], np.ones(len(x)), a, b])
        expected = np.linalg.lstsq(columns, (a & b).astype(float))[0][:6]
        # jitter 1e-8 and fp32 moments: 1e-4 of the largest weight
        np.testing.assert_allclose(weights[p], expected, atol=1e-4 * np.abs(expected).max())


def test_pairs_in_any_order_and_from_anywhere(planted) -> None:
    moments = planted.moments()
    neurons, weights = pk.select_readouts(moments, k=3)
    wanted = [(3, 1), (0, 1), (1, 3)]
    rows = [planted.pairs.tolist().index(sorted(pair)) for pair in wanted]
    frozen = moments.finalize()
    for asked in (wanted, np.array(wanted), torch.tensor(wanted), np.array(wanted, np.int16)):
        for source in (moments, frozen):
            n, w = select_readouts(source, asked, k=3)
            np.testing.assert_array_equal(n, neurons[rows])
            np.testing.assert_array_equal(w, weights[rows])
    n, w = select_readouts(frozen, np.zeros((0, 2), int), k=3)
    assert n.shape == w.shape == (0, 3)


def test_moments_of_chosen_pairs_give_the_same(planted) -> None:
    moments = Moments(24, 6, pairs=[(4, 2), (0, 1)])
    moments.update(planted.x, planted.labels, planted.docs)
    neurons, weights = select_readouts(moments, [(2, 4)], k=5)
    n, w = select_readouts(planted.moments(), [(2, 4)], k=5)
    # A and B are taken out in the other order: the same path, weights to rounding
    np.testing.assert_array_equal(neurons, n)
    np.testing.assert_allclose(weights, w, rtol=1e-6)


def test_a_pair_without_interaction_has_no_readout(planted) -> None:
    labels = planted.labels.copy()
    labels[:, 1] |= labels[:, 0]  # 0 implies 1
    labels[:, 3] &= ~labels[:, 0]  # 0 excludes 3
    labels[:, 4] = False
    moments = Moments(24, 6)
    moments.update(planted.x, labels, planted.docs)
    neurons, weights = select_readouts(moments, [(0, 1), (0, 3), (0, 4), (0, 2)], k=4)
    assert (neurons[:3] == -1).all()
    assert (weights[:3] == 0).all()
    assert (neurons[3] >= 0).all()  # positive control
    assert np.abs(weights[3]).min() > 0


def test_units_do_not_change_the_support(planted) -> None:
    frozen = planted.moments().finalize()
    scale = np.exp2(np.arange(24) - 12.0)  # powers of two: exact
    scaled = replace(
        frozen, mean=frozen.mean * scale, gram=frozen.gram * np.outer(scale, scale),
        concept_sums=frozen.concept_sums * scale, pair_sums=frozen.pair_sums * scale,
    )  # fmt: skip
    np.testing.assert_array_equal(forward_select(frozen, 12), forward_select(scaled, 12))


def test_refusals(planted) -> None:
    moments = planted.moments()
    with pytest.raises(InputError, match="k=0; wanted at least 1"):
        select_readouts(moments, k=0)
    with pytest.raises(ShapeError, match=r"got shape \(2,\)"):
        select_readouts(moments, np.array([0, 1]))
    with pytest.raises(ShapeError, match="of float64; wanted whole numbers"):
        select_readouts(moments, np.array([[0.0, 1.0]]))
    some = Moments(24, 6, pairs=all_pairs(6)[:3])
    some.update(planted.x, planted.labels, planted.docs)
    with pytest.raises(InputError, match=r"got \(4, 5\), wanted some of the 3 pairs"):
        select_readouts(some, [(4, 5)])
