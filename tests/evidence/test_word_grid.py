"""The word grid's statistics: what is planted is found, what is not is not, and p-values keep their level."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from probekit.errors import DegenerateError, InputError
from probekit.evidence import word_grid as wg

N_FEATURES = 20


def cells(
    n_words: int, rng: np.random.Generator, *, word: float = 0.0, shared: np.ndarray | None = None
) -> np.ndarray:
    """Prefix part + suffix part + a bilinear term + noise, and on the diagonal a shared direction."""
    prefix, suffix = rng.standard_normal((2, n_words, N_FEATURES))
    mixing = rng.standard_normal((N_FEATURES, N_FEATURES, N_FEATURES)) / N_FEATURES
    found = (
        prefix[:, None] + suffix[None] + np.einsum("pa,sb,abf->psf", prefix, suffix, mixing, optimize=True)
    )
    found += 0.5 * rng.standard_normal(found.shape)
    if shared is not None:
        found[np.arange(n_words), np.arange(n_words)] += word * shared
    return found


def cross_test(a: np.ndarray, b: np.ndarray, pairings: np.ndarray) -> wg.GridTest:
    """The words of `a` along the direction learned on `b`."""
    direction = wg.word_direction(wg.double_centred(b))
    return wg.grid_test(wg.word_scores(wg.double_centred(a), direction), pairings)


def test_sums_of_prefix_and_suffix_parts_vanish():
    rng = np.random.default_rng(0)
    prefix, suffix = rng.standard_normal((2, 9, 4))
    held = wg.double_centred(prefix[:, None] + suffix[None])
    assert np.abs(held).max() < 1e-12  # rounding of a few additions of numbers near 1
    one = wg.double_centred(cells(9, rng))
    assert np.abs(one.mean(0)).max() < 1e-12
    assert np.abs(one.mean(1)).max() < 1e-12
    assert np.abs(one).max() > 0.1


def test_p_is_the_share_of_pairings_and_z_is_exact():
    """With all 120 pairings as draws p is the exact one, and their mean and spread are the formula's (Hoeffding 1951)."""
    rng = np.random.default_rng(1)
    scores = wg.double_centred(rng.standard_normal((5, 5, 1)))[:, :, 0]
    every = np.array(list(itertools.permutations(range(5))))
    sums = scores[np.arange(5), every].sum(1)
    found = wg.grid_test(scores, every)
    reached = np.count_nonzero(sums >= sums[0] - 1e-12)
    assert found.p == (1 + reached) / 121
    assert found.z == pytest.approx((sums[0] - sums.mean()) / sums.std(), rel=1e-9)
    uncentred = wg.grid_test(scores + rng.standard_normal((5, 1)) + 3.0, every)
    assert uncentred.z == pytest.approx(found.z, rel=1e-9), "rows and columns are in every pairing"
    assert uncentred.p == found.p


def test_other_numbers_of_a_test():
    scores = np.zeros((4, 4))
    np.fill_diagonal(scores, [3.0, 3.0, 3.0, 3.0])
    scores[0, 1], scores[1, 0] = 1.0, -1.0
    found = wg.grid_test(scores, wg.draw_pairings(4, 50, np.random.default_rng(0)))
    off = np.array([1.0, -1.0, *[0.0] * 10])
    assert found.effect == 3.0
    assert found.d_prime == pytest.approx(3.0 / off.std())
    assert found.auc == 1.0
    assert wg.grid_test(np.zeros((4, 4)), np.array([[1, 0, 2, 3]])) == wg.GridTest(0.0, 0.0, 1.0, 0.0, 0.5)
    with pytest.raises(DegenerateError, match="got 1 words, wanted two or more"):
        wg.grid_test(np.zeros((1, 1)), np.zeros((1, 1), np.int64))


@pytest.mark.parametrize("site", ["plain", "given"])
def test_p_values_keep_their_level(site: str):
    """Bilinear mixing and noise but no words: at most a share α of draws has p ≤ α, at each of three levels."""
    rng = np.random.default_rng(2)
    pairings = wg.draw_pairings(12, 199, rng)
    p = []
    for _ in range(200):
        a, b = (wg.double_centred(cells(12, rng)) for _ in range(2))
        if site == "given":
            # inputs that know the words, an output that is linear in them with noise of its own
            shared, weights = rng.standard_normal((2, N_FEATURES)), rng.standard_normal((N_FEATURES, 6))
            inputs = [wg.double_centred(cells(12, rng, word=1.5, shared=shared[0])) for _ in range(2)]
            rest = [
                wg.LinearPart.of(x).rest(x @ weights + wg.double_centred(rng.standard_normal((12, 12, 6))))
                for x in inputs
            ]
            a, b = rest
        p.append(wg.grid_test(wg.word_scores(a, wg.word_direction(b)), pairings).p)
    for level in (0.01, 0.05, 0.2):
        error = np.sqrt(level * (1 - level) / len(p))
        assert np.mean(np.array(p) <= level) <= level + 3 * error, level
    assert np.mean(p) < 0.6, "and it is not empty: p-values are spread over the interval"


def test_a_shared_word_direction_is_found_in_the_other_set():
    rng = np.random.default_rng(3)
    shared = rng.standard_normal(N_FEATURES)
    pairings = wg.draw_pairings(24, 999, rng)
    found = cross_test(
        cells(24, rng, word=1.0, shared=shared), cells(24, rng, word=1.0, shared=shared), pairings
    )
    assert found.p == 0.001
    assert found.z > 5
    assert found.auc > 0.8
    opposed = cross_test(
        cells(24, rng, word=-1.0, shared=shared), cells(24, rng, word=1.0, shared=shared), pairings
    )
    assert opposed.p > 0.99, "one-sided: the other way round is no find"


def test_two_sets_are_no_two_tests():
    """Each set scored along the other's direction: both z are nearly the one whitened product of the mean interactions."""
    rng = np.random.default_rng(10)
    pairings = wg.draw_pairings(16, 19, rng)
    z = []
    for _ in range(40):
        a, b = cells(16, rng), cells(16, rng)
        z.append((cross_test(a, b, pairings).z, cross_test(b, a, pairings).z))
    assert np.corrcoef(np.array(z).T)[0, 1] > 0.9


def test_a_pseudo_diagonal_holds_no_word_and_is_not_found():
    rng = np.random.default_rng(4)
    shared = rng.standard_normal(N_FEATURES)
    a, b = (wg.double_centred(cells(24, rng, word=1.0, shared=shared)) for _ in range(2))
    pairings = wg.draw_pairings(24, 199, rng)
    p = []
    for _ in range(100):
        one, other = wg.derangement(24, rng), wg.derangement(24, rng)
        assert (one != np.arange(24)).all()
        assert sorted(one) == list(range(24))
        p.append(wg.grid_test(wg.word_scores(a, wg.word_direction(b, other)), pairings, one).p)
    # draws share both arrays, so they are not independent: twice the level is allowed beside 3 s.e.
    assert np.mean(np.array(p) <= 0.05) <= 0.1 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_given_the_input_a_relay_is_nothing_and_an_and_remains():
    """An input that knows the words: a linear layer adds nothing to it; one with a neuron a word does."""
    rng = np.random.default_rng(5)
    n, shared = 24, rng.standard_normal(N_FEATURES)
    pairings = wg.draw_pairings(n, 999, rng)
    inputs = [wg.double_centred(cells(n, rng, word=1.0, shared=shared)) for _ in range(2)]
    weights = rng.standard_normal((N_FEATURES, 8))
    writes = rng.standard_normal(8)
    relayed = [x @ weights + 0.05 * wg.double_centred(rng.standard_normal((n, n, 8))) for x in inputs]
    computed = [y + wg.double_centred(0.5 * np.eye(n)[:, :, None] * writes) for y in relayed]
    for outputs, adds in ((relayed, False), (computed, True)):
        whole = wg.grid_test(wg.word_scores(outputs[0], wg.word_direction(outputs[1])), pairings)
        assert whole.p == 0.001, "the output knows the words in both cases"
        rest = [wg.LinearPart.of(x).rest(y) for x, y in zip(inputs, outputs, strict=True)]
        given = wg.grid_test(wg.word_scores(rest[0], wg.word_direction(rest[1])), pairings)
        assert (given.p == 0.001) == adds
        assert adds or given.p > 0.01


def test_features_without_variance_weigh_nothing():
    rng = np.random.default_rng(6)
    held = wg.double_centred(cells(10, rng))
    wider = np.concatenate([held, np.zeros((10, 10, 1)), 1e-9 * held[:, :, :1]], axis=2)
    direction = wg.word_direction(wider)
    assert direction[-1] == direction[-2] == 0.0
    assert np.isfinite(direction).all()
    assert np.allclose(direction[:-2] / direction[0], wg.word_direction(held) / wg.word_direction(held)[0])


def test_relay_directions_hold_both_means_and_the_widest_scatter():
    rng = np.random.default_rng(7)
    n, several = 30, np.linalg.qr(rng.standard_normal((N_FEATURES, 4)))[0].T
    held = []
    for _ in range(2):
        one = 0.1 * rng.standard_normal((n, n, N_FEATURES))
        for i in range(n):  # an AND that lies along one of four directions, another in other words
            one[i, i] += several[i % 4]
        held.append(wg.double_centred(one))
    directions = wg.interaction_directions(held, 5)
    assert np.allclose(directions.T @ directions, np.eye(5), atol=1e-10)
    for residuals in held:
        mean = residuals[np.arange(n), np.arange(n)].mean(0)
        assert np.linalg.norm(directions @ (directions.T @ mean) - mean) < 1e-10 * np.linalg.norm(mean)
    kept = np.linalg.norm(directions.T @ several.T, axis=0)
    assert kept.min() > 0.9, "all four directions lie within, where the two means are but two"
    with pytest.raises(InputError, match=r"relay: got 1 directions, wanted 2 \(one a word set\) to 20"):
        wg.interaction_directions(held, 1)


def test_a_twin_in_the_layers_place_keeps_the_level():
    rng = np.random.default_rng(8)
    values = rng.standard_normal((1_000, 9)) * 0.7 + 0.4
    p = np.array([wg.beside_twins(float(row[0]), row[1:]).p for row in values])  # pyright: ignore[reportOptionalMemberAccess]
    for level in (0.01, 0.05):
        assert abs(np.mean(p <= level) - level) <= 3 * np.sqrt(level * (1 - level) / len(p))
    far = wg.beside_twins(6.0, values[0, 1:])
    assert far is not None
    assert far.p < 0.001
    assert far.margin == pytest.approx(6.0 - values[0, 1:].max())
    assert wg.beside_twins(6.0, np.array([0.0, 1.0])) is None


def test_holm_is_the_known_one():
    p = [0.04, 0.001, 0.3, 0.012, 0.9]
    assert wg.holm(p) == pytest.approx(list(np.asarray(multipletests(p, method="holm")[1])))


def test_larger_means_are_told_and_equal_ones_are_not():
    rng = np.random.default_rng(9)
    p = [wg.p_larger(*rng.standard_normal((2, 15)), n_draws=199, rng=rng) for _ in range(300)]
    assert abs(np.mean(np.array(p) <= 0.1) - 0.1) <= 3 * np.sqrt(0.09 / 300)
    assert wg.p_larger(rng.standard_normal(15) + 3, rng.standard_normal(15), 199, rng) == 0.005
