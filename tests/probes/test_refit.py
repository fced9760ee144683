"""Refits with slope exactly one, least balanced error, and dense ridge readouts against explicit solves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from probekit.probes import pairs as pairing
from probekit.probes.moments import Moments, fold_of
from probekit.probes.pairs import LabelColumns, TokenSample, sample_tokens
from probekit.probes.refit import (
    DEFAULT_RIDGE,
    JITTER,
    RIDGE_GRID,
    BalancedMoments,
    Readouts,
    dense_readouts,
    quadrant_means,
)
from probekit.probes.select import forward_select

SIGNS = np.array([1.0, -1.0, -1.0, 1.0])


def sampled(planted, limit: int = 2_000) -> TokenSample:
    pos = np.arange(len(planted.docs)) - np.searchsorted(planted.docs, planted.docs)
    key = pairing.splitmix64(planted.docs.astype(np.uint64)) + pos.astype(np.uint64)
    token_hash = pairing.splitmix64(key)
    columns = LabelColumns.from_dense(planted.labels)
    return sample_tokens(columns, planted.pairs, planted.docs, token_hash, limit=limit)


def balanced(planted, support: np.ndarray, sample: TokenSample, n_tile: int = 1_000) -> BalancedMoments:
    moments = BalancedMoments(support, torch.from_numpy(planted.x[:500].mean(0)), sample)
    for start in range(0, len(planted.x), n_tile):
        rows = planted.x[start : start + n_tile]
        low, high = sample.between(start, start + len(rows))
        moments.add_tile(np.ascontiguousarray(rows.T), start, low, high)
    return moments


@pytest.fixture(scope="module")
def fitted(planted) -> tuple[BalancedMoments, np.ndarray, TokenSample]:
    support = forward_select(planted.moments().finalize(), 8)
    sample = sampled(planted, limit=400)
    return balanced(planted, support, sample), support, sample


def values(planted, readouts: Readouts, sample: TokenSample, pair: int) -> list[np.ndarray]:
    """The readout on each quadrant's sampled tokens."""
    used = readouts.neurons[pair] >= 0
    out = []
    for q in range(4):
        tokens = sample.token[sample.ptr[4 * pair + q] : sample.ptr[4 * pair + q + 1]]
        x = planted.x[tokens][:, readouts.neurons[pair][used]].astype(float)
        out.append(x @ readouts.weights[pair][used] + readouts.offset[pair])
    return out


def balanced_error(groups: list[np.ndarray]) -> float:
    """Mean over quadrants of the mean square error to A∧B."""
    return float(np.mean([((r - (q == 0)) ** 2).mean() for q, r in enumerate(groups)]))


@pytest.mark.parametrize("k", [1, 3, 8])
def test_slope_is_one_and_the_offset_centres(planted, fitted, k: int) -> None:
    moments, support, sample = fitted
    readouts = moments.fit(k)
    np.testing.assert_array_equal(readouts.neurons, support[:, :k])
    for pair in range(len(support)):
        means = np.array([r.mean() for r in values(planted, readouts, sample, pair)])
        # κ = 1 in the fp64 algebra of moments whose sums are fp32 within a tile
        norm = np.abs(readouts.weights[pair]).max()
        assert SIGNS @ means == pytest.approx(1.0, abs=2e-5 * (1 + norm))
        assert means.mean() == pytest.approx(0.25, abs=2e-5 * (1 + norm))


def test_no_other_readout_of_slope_one_has_less_balanced_error(planted, fitted) -> None:
    moments, _, sample = fitted
    readouts = moments.fit(8)
    contrast = np.einsum("q,pqk->pk", SIGNS, moments.quadrant_means())
    rng = np.random.default_rng(0)
    for pair in (0, 1, 5, 9):
        least = balanced_error(values(planted, readouts, sample, pair))
        for _ in range(20):
            step = rng.standard_normal(8) * np.abs(readouts.weights[pair]).max() * 0.1
            along = step - contrast[pair] * (contrast[pair] @ step) / (contrast[pair] @ contrast[pair])
            for size in (-1.0, 1.0):
                other = readouts.weights.copy()
                other[pair] += size * along
                moved = replace(readouts, weights=other)
                groups = values(planted, moved, sample, pair)
                groups = [r + 0.25 - np.mean([g.mean() for g in groups]) for r in groups]
                assert SIGNS @ [r.mean() for r in groups] == pytest.approx(1, abs=1e-3)
                assert balanced_error(groups) > least
        # positive control: off the constraint there is a better one, so the slope costs something
        shrunk = replace(readouts, weights=0.9 * readouts.weights)
        groups = values(planted, shrunk, sample, pair)
        assert balanced_error([r + 0.25 - np.mean([g.mean() for g in groups]) for r in groups]) < least


def test_weights_solve_the_stated_problem(planted, fitted) -> None:
    """Against the optimality conditions on the tokens themselves, solved by numpy in fp64."""
    moments, support, sample = fitted
    readouts = moments.fit(5)
    for pair in (0, 3):
        groups = [sample.token[sample.ptr[g] : sample.ptr[g + 1]] for g in range(4 * pair, 4 * pair + 4)]
        x = [planted.x[tokens][:, support[pair, :5]].astype(float) for tokens in groups]
        means = np.array([part.mean(0) for part in x])
        middle = means.mean(0)
        covariance = np.mean([(part - middle).T @ (part - middle) / len(part) for part in x], axis=0)
        covariance += JITTER * np.diag(np.diag(covariance))
        contrast, toward = SIGNS @ means, 0.25 * (means[0] - middle)
        system = np.block([[covariance, -contrast[:, None]], [contrast[None], np.zeros((1, 1))]])
        expected = np.linalg.solve(system, np.append(toward, 1.0))[:5]
        # fp32 sums within a tile: 1e-6 of a moment, times the conditioning (~10)
        np.testing.assert_allclose(readouts.weights[pair], expected, rtol=1e-3, atol=1e-4)


def test_rare_quadrants_weigh_as_much_as_common_ones(planted) -> None:
    """Leaving out nine tenths of the 00 tokens moves the readout by its sampling error, not by their number."""
    support = forward_select(planted.moments().finalize(), 4)
    some, more = (balanced(planted, support, sampled(planted, limit)).fit(4) for limit in (150, 2_000))
    for pair in planted.carriers:
        np.testing.assert_allclose(
            some.weights[pair], more.weights[pair], atol=0.3 * np.abs(more.weights[pair]).max()
        )


def test_tiles_do_not_matter(planted, fitted) -> None:
    moments, support, sample = fitted
    for n_tile in (64, 6_000):
        other = balanced(planted, support, sample, n_tile)
        # fp32 sums grouped otherwise
        np.testing.assert_allclose(other.quadrant_means(), moments.quadrant_means(), atol=1e-5)
        np.testing.assert_allclose(other.deviations(), moments.deviations(), rtol=1e-5)


def test_a_neuron_s_unit_does_not_matter(planted, fitted) -> None:
    """A small neuron beside a large one keeps its weight: nothing in the refit is relative to the others."""
    moments, support, sample = fitted
    scale = np.exp2(10.0 * (np.arange(24) % 3 - 1)).astype(np.float32)  # 2⁻¹⁰, 1, 2¹⁰: exact
    scaled = balanced(replace(planted, x=planted.x * scale), support, sample)
    np.testing.assert_allclose(
        scaled.fit(8).weights * scale[support], moments.fit(8).weights, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(scaled.fit(8).offset, moments.fit(8).offset, rtol=1e-9)


def test_a_neuron_that_does_not_move_gets_no_weight(planted) -> None:
    """Dead, constant, unused, or firing in the first tile only and silent on the sample."""
    x = planted.x.copy()
    x[:, 10], x[:, 11] = 0.0, 0.3
    sample = sampled(planted, limit=300)
    outside = np.setdiff1d(np.arange(500), sample.token)
    assert len(outside)
    x[:, 12] = 0.0
    x[outside, 12] = 50.0
    support = np.tile(np.array([10, 0, 11, 12, 1, -1], np.int32), (len(planted.pairs), 1))
    moments = balanced(replace(planted, x=x), support, sample)
    readouts = moments.fit(6)
    assert (readouts.weights[:, [0, 2, 3, 5]] == 0).all()
    assert (moments.deviations()[:, [0, 2, 3, 5]] == 0).all()
    assert (np.abs(readouts.weights[:, [1, 4]]) > 0).all()  # positive control
    # and they change nothing for the neurons that move
    plain = balanced(planted, np.ascontiguousarray(support[:, [1, 4]]), sample).fit(2)
    # fp32 products of five columns and of two are summed in another order
    np.testing.assert_allclose(readouts.weights[:, [1, 4]], plain.weights, rtol=1e-6)
    np.testing.assert_allclose(readouts.offset, plain.offset, rtol=1e-6, atol=1e-6)


def test_no_signal_no_readout(planted) -> None:
    sample = sampled(planted, limit=300)
    support = np.tile(np.array([3, 4], np.int32), (len(planted.pairs), 1))
    readouts = balanced(replace(planted, x=np.ones_like(planted.x)), support, sample).fit(2)
    assert (readouts.weights == 0).all()
    np.testing.assert_array_equal(readouts.offset, 0.25)


def test_best_neuron_is_the_best_of_the_first_k(planted, fitted) -> None:
    moments, support, sample = fitted
    for k in (2, 8):
        best = moments.best_neuron(k)
        for pair in range(len(support)):
            scores = []
            for neuron in support[pair, :k]:
                tokens = [
                    sample.token[sample.ptr[g] : sample.ptr[g + 1]] for g in range(4 * pair, 4 * pair + 4)
                ]
                x = [planted.x[t, neuron].astype(float) for t in tokens]
                means = np.array([part.mean() for part in x])
                sd = np.sqrt(np.mean([((part - means.mean()) ** 2).mean() for part in x]))
                scores.append(abs(SIGNS @ means) / sd)
            chosen = list(support[pair, :k]).index(best.neurons[pair, 0])
            assert scores[chosen] >= max(scores) * (1 - 1e-4)
            means = np.array([r.mean() for r in values(planted, best, sample, pair)])
            norm = abs(best.weights[pair, 0])
            assert SIGNS @ means == pytest.approx(1, abs=2e-5 * (1 + norm))
            assert means.mean() == pytest.approx(0.25, abs=2e-5 * (1 + norm))


def test_quadrant_means_come_from_sums(planted) -> None:
    frozen = planted.moments().finalize()
    means = quadrant_means(frozen) + frozen.mean
    for pair in range(len(planted.pairs)):
        quadrant = planted.quadrant(pair)
        for q in range(4):
            # fp32 sums of up to 4,096 rows: 64·2⁻²⁴ of a standard deviation, over quadrants of ≥ 240 tokens
            expected = planted.x[quadrant == q].astype(float).mean(0)
            np.testing.assert_allclose(means[pair, q], expected, atol=2e-4)


def explicit_ridge(planted, pair: int, strength: float, kept: np.ndarray | None = None) -> np.ndarray:
    """Ridge on tokens with the columns 1, A and B unpenalised, fp64."""
    kept = np.ones(len(planted.x), bool) if kept is None else kept
    x = planted.x[kept].astype(float)
    a, b = planted.labels[kept][:, planted.pairs[pair]].T
    columns = np.column_stack([np.ones(len(x)), a, b, x])
    total = ((x - x.mean(0)) ** 2).sum(0).mean()
    penalty = np.diag([0.0] * 3 + [strength * total] * x.shape[1])
    return np.linalg.solve(columns.T @ columns + penalty, columns.T @ (a & b))[3:]


@pytest.mark.parametrize("strength", RIDGE_GRID)
def test_dense_readouts_are_ridge_with_unpenalised_columns(planted, strength: float) -> None:
    dense = dense_readouts(planted.moments(), (strength,))
    assert (dense.ridge == strength).all()
    for pair in (0, 1, 6, 14):
        expected = explicit_ridge(planted, pair, strength)
        means = np.array([planted.x[planted.quadrant(pair) == q].astype(float).mean(0) for q in range(4)])
        expected = expected / (SIGNS @ means @ expected)
        # fp32 moments (2e-5) where the ridge is weak
        np.testing.assert_allclose(dense.weights[pair], expected, atol=1e-3 * np.abs(expected).max())
        readout = means @ dense.weights[pair] + dense.offset[pair]
        assert SIGNS @ readout == pytest.approx(1, abs=1e-3)
        assert readout.mean() == pytest.approx(0.25, abs=1e-3)


def test_without_folds_the_default_strength_is_taken(planted) -> None:
    assert (dense_readouts(planted.moments()).ridge == DEFAULT_RIDGE).all()


def test_folds_choose_the_strength_of_least_held_out_error(planted) -> None:
    few = replace(planted, x=planted.x[:600], labels=planted.labels[:600], docs=planted.docs[:600])
    dense = dense_readouts(few.moments(n_folds=3))
    fold = fold_of(few.docs, 3)
    for pair in (0, 1, 4, 8, 12):
        a, b = few.labels[:, few.pairs[pair]].T
        error = np.zeros(len(RIDGE_GRID))
        for f in range(3):
            inside = fold == f
            base = np.column_stack([np.ones(inside.sum()), a[inside], b[inside]]).astype(float)
            both = np.column_stack([few.x[inside].astype(float), (a & b)[inside]])
            residual = both - base @ np.linalg.lstsq(base, both)[0]
            for row, strength in enumerate(RIDGE_GRID):
                w = explicit_ridge(few, pair, strength, ~inside)
                error[row] += ((residual[:, -1] - residual[:, :-1] @ w) ** 2).sum()
        chosen = RIDGE_GRID.index(dense.ridge[pair])
        assert error[chosen] <= error.min() * (1 + 1e-4)


def test_folds_take_a_strong_ridge_on_noise_and_a_weak_one_on_signal() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((900, 5)) < 0.4
    docs = np.arange(900) // 15
    noise = rng.standard_normal((900, 60)).astype(np.float32)
    clean = 0.05 * noise
    pairs = pairing.all_pairs(5)
    for p, (a, b) in enumerate(pairs):
        # each AND in the difference of two correlated neurons: a strong ridge cannot reach it
        clean[:, 2 * p] += noise[:, 2 * p + 1]
        clean[:, 2 * p + 1] += noise[:, 2 * p + 1] + labels[:, a] * labels[:, b]
    strengths = []
    for x in (noise, clean):
        moments = Moments(60, 5, n_folds=3)
        moments.update(x, labels, docs)
        strengths.append(dense_readouts(moments).ridge)
    assert np.median(strengths[0]) == RIDGE_GRID[-1]
    assert np.median(strengths[1]) <= 1e-2


def test_a_concept_missing_from_a_fold_does_not_decide() -> None:
    """Its fold says nothing about A, but the others do: no NaN, and not the weakest ridge by default."""
    rng = np.random.default_rng(1)
    docs = np.arange(1_200) // 20
    labels = rng.random((1_200, 2)) < 0.5
    labels[fold_of(docs, 3) == 0, 0] = False
    moments = Moments(30, 2, n_folds=3)
    moments.update(rng.standard_normal((1_200, 30)), labels, docs)
    dense = dense_readouts(moments)
    assert np.isfinite(dense.weights).all()
    assert dense.ridge[0] == RIDGE_GRID[-1]


def test_a_pair_without_interaction_has_no_dense_readout(planted) -> None:
    labels = planted.labels.copy()
    labels[:, 1] |= labels[:, 0]
    moments = Moments(24, 6)
    moments.update(planted.x, labels, planted.docs)
    dense = dense_readouts(moments)
    assert (dense.weights[0] == 0).all()
    assert dense.offset[0] == 0.25
    assert np.abs(dense.weights[1:]).max(1).min() > 0  # positive control
