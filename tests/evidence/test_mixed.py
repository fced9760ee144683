"""Leave-one-out prediction over the graph of pairs: exact against the definition, blind to concepts, kept by true finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from probekit.evidence.mixed import RATIOS, PairGraph, lower_scale


def graph_of(n_concepts: int, share: float, seed: int) -> tuple[np.ndarray, PairGraph]:
    rng = np.random.default_rng([seed, n_concepts])
    pairs = np.array(list(itertools.combinations(range(n_concepts), 2)))
    pairs = pairs[rng.random(len(pairs)) < share]
    return pairs, PairGraph(pairs, n_concepts)


def t_of(graph: PairGraph, values: np.ndarray, usual: float = 1.0) -> np.ndarray:
    return graph.residuals(graph.pulled(values), usual).t


def covariance(pairs: np.ndarray, n_concepts: int, ratio: float) -> np.ndarray:
    incidence = np.zeros((len(pairs), n_concepts))
    incidence[np.arange(len(pairs)), pairs[:, 0]] = 1
    incidence[np.arange(len(pairs)), pairs[:, 1]] = 1
    return np.eye(len(pairs)) + ratio * incidence @ incidence.T


@pytest.mark.parametrize(("n_concepts", "share"), [(8, 1.0), (14, 0.4)])
def test_residuals_are_those_of_refitting_without_the_pair(n_concepts: int, share: float) -> None:
    pairs, graph = graph_of(n_concepts, share, 1)
    z = np.random.default_rng(2).standard_normal(len(pairs))
    for index in (0, len(RATIOS) // 2, len(RATIOS) - 1):
        v = covariance(pairs, n_concepts, float(RATIOS[index]))
        for pair in range(len(pairs)):
            others = np.delete(np.arange(len(pairs)), pair)
            inverse = np.linalg.inv(v[np.ix_(others, others)])
            level = inverse.sum(0) @ z[others] / inverse.sum()
            weights = v[pair, others] @ inverse
            prediction = level + weights @ (z[others] - level)
            slack = 1 - weights.sum()
            variance = v[pair, pair] - weights @ v[others, pair] + slack**2 / inverse.sum()
            diagonal = graph._diagonal[index][pair]
            # two inverses of matrices of condition ≤ 1e4 in double precision
            assert graph.project(index, z)[pair] / diagonal == pytest.approx(z[pair] - prediction, abs=1e-9)
            assert 1 / diagonal == pytest.approx(variance, rel=1e-9)


def test_the_likelihood_is_that_of_the_definition() -> None:
    pairs, graph = graph_of(10, 0.7, 3)
    z = np.random.default_rng(4).standard_normal(len(pairs))
    scores: list[float] = []
    for ratio in RATIOS:
        v = covariance(pairs, 10, float(ratio))
        inverse = np.linalg.inv(v)
        projection = inverse - np.outer(inverse.sum(1), inverse.sum(0)) / inverse.sum()
        square = z @ projection @ z / (len(z) - 1)
        scores.append((len(z) - 1) * np.log(square) + np.linalg.slogdet(v)[1] + np.log(inverse.sum()))
    assert graph.likeliest(z) == int(np.argmin(scores))


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_concept_effects_are_predicted_and_finds_are_kept(share: float) -> None:
    pairs, graph = graph_of(40, share, 5)
    rng = np.random.default_rng(6)
    found = rng.random(len(pairs)) < 0.04
    lift = rng.exponential(3.0, 40)
    t = t_of(graph, lift[pairs].sum(1) + rng.standard_normal(len(pairs)) + 7.0 * found)
    # effects of order 3 are known to 1/√(pairs a concept): the residual's sd stays near 1
    assert t[~found].std() == pytest.approx(1.0, abs=0.15)
    assert np.median(t[found]) > 5.0
    # the same lift without leave-one-out would be taken for finds (the control)
    assert (lift[pairs].sum(1) - np.median(lift[pairs].sum(1)) > 5.0).mean() > 0.05


@pytest.mark.parametrize("seed", range(4))
def test_finds_do_not_push_their_neighbours_down(seed: int) -> None:
    """Seven of a concept's nineteen pairs are finds: the other twelve are not predicted to be as well."""
    rng = np.random.default_rng(seed)
    pairs, graph = graph_of(20, 1.0, 9)
    of_concept = np.flatnonzero((pairs == 0).any(axis=1))
    finds, others = of_concept[:7], of_concept[7:]
    z = rng.standard_normal(len(pairs))
    z[finds] += 8
    t = t_of(graph, z)
    # the median of twelve standard values has sd 0.36; with finds among the predictors it lies at −1.6 to −2.4
    assert abs(np.median(t[others])) < 1.0
    assert t[finds].min() > 4.5


def test_a_pair_whose_concepts_are_seen_once_is_predicted_by_the_level_with_a_wide_error() -> None:
    rng = np.random.default_rng(7)
    pairs = np.array([*itertools.combinations(range(12), 2), (12, 13)])
    effect = 3 * rng.standard_normal(14)
    z = effect[pairs].sum(1) + rng.standard_normal(len(pairs))
    z[-1] = 30.0
    graph = PairGraph(pairs, 14)
    t = t_of(graph, z)
    alone, usual = 1 / graph._diagonal[graph.likeliest(np.minimum(z, 10))][[-1, 0]]
    assert alone > 3 * usual  # both effects unknown: 2λ more variance
    assert 2 < t[-1] < 30 / 2  # not eaten with its concepts, and not taken at face value


def test_silent_and_constant_values_do_not_fail() -> None:
    pairs, graph = graph_of(6, 1.0, 8)
    for values in (np.zeros(len(pairs)), np.ones(len(pairs))):
        assert np.isfinite(t_of(graph, values)).all()
    assert lower_scale(np.zeros(5)) == 0.0
    one = PairGraph(np.array([[0, 1]]), 2)
    assert np.isfinite(t_of(one, np.array([3.0]))).all()


def test_lower_scale_ignores_the_upper_tail() -> None:
    values = np.random.default_rng(9).standard_normal(100_000)
    assert lower_scale(values) == pytest.approx(1.0, rel=0.02)
    values[:5_000] += 30.0
    # the median moves by 5 % of the distribution: 0.06 sd
    assert lower_scale(values) == pytest.approx(1.0, rel=0.1)


def test_lower_scale_ignores_a_tenth_far_below() -> None:
    """A layer whose neurons serve some pairs reads others worse than null layers do: they must not widen everyone's σ."""
    values = np.random.default_rng(10).standard_normal(100_000)
    values[:10_000] -= 6.0
    # quarter and median move to the quantiles 0.17 and 0.44 of the others, which lie 0.83 sd apart in place of 0.67
    assert lower_scale(values) == pytest.approx(0.83 / 0.6745, rel=0.03)


def test_many_finds_do_not_hide_in_the_scale_they_widen() -> None:
    """A sixth of all pairs are finds of very different size, as in a layer of small planted codes."""
    pairs, graph = graph_of(20, 1.0, 12)
    widened: list[float] = []
    for seed in range(8):
        rng = np.random.default_rng([seed, 11])
        found = rng.random(len(pairs)) < 1 / 6
        base = rng.standard_normal(len(pairs))
        start = graph.pulled(base + found * rng.uniform(2, 10, len(pairs)))
        one, without = graph.residuals(start, 1.0), graph.residuals(graph.pulled(base), 1.0)
        # fewer pairs tell σ less sharply, and finds of 2 to 2.5 units stay
        assert one.scale == pytest.approx(without.scale, rel=0.15)
        # the median of 158 residuals has sd 0.1
        assert np.median(one.t[~found]) == pytest.approx(0.0, abs=0.3)
        widened.append(start.scale / one.scale)
    assert np.mean(widened) > 1.08  # the control: from all residuals it would be wider, here by 1.15


def test_a_rough_layer_has_no_finds() -> None:
    """Residuals twice as wide as usual and normal: the upper ones are no finds, and σ is the layer's own."""
    rng = np.random.default_rng(13)
    _, graph = graph_of(40, 1.0, 14)
    one = graph.residuals(graph.pulled(2 * rng.standard_normal(graph.n_pairs)), 1.0)
    assert one.scale == pytest.approx(2.0, rel=0.15)
    assert one.t.max() < 4.5  # the largest of 780 standard values lies at 3.2, seldom above 4


def test_doubt_widens_a_residual_by_its_share_of_the_prediction() -> None:
    pairs, graph = graph_of(30, 1.0, 15)
    effect = np.r_[8.0, np.zeros(29)]
    rng = np.random.default_rng(16)
    z = effect[pairs].sum(1) + rng.standard_normal(len(pairs))
    sure, doubtful = (graph.residuals(graph.pulled(z, doubt), 1.0).t for doubt in (0.0, 0.2))
    lifted = (pairs == 0).any(axis=1)
    # sd² = 1 + (0.2 · 8)²; the level of the others is 0, so their residuals stay what they were
    assert np.median(sure[lifted] / doubtful[lifted]) == pytest.approx(np.sqrt(1 + 1.6**2), rel=0.1)
    assert np.median(sure[~lifted] / doubtful[~lifted]) == pytest.approx(1.0, rel=0.05)
