"""Standardising against twins: calibrated when the layer is one more twin, concept effects removed, spikes kept."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.evidence.nulls import (
    PAIRS_PER_STRATUM,
    Standardised,
    compress,
    leave_one_out,
    lower_half_mad,
    median_polish,
    pair_specific,
    pooled_p,
    standardise,
    support_strata,
    variance_prior,
)

LEVELS = (0.001, 0.01, 0.1)


def every_pair(n_concepts: int) -> np.ndarray:
    return np.array(list(itertools.combinations(range(n_concepts), 2)))


@pytest.mark.parametrize(("df", "prior_df"), [(4, 6.0), (19, 6.0), (19, 40.0)])
def test_variance_prior_is_recovered(df: int, prior_df: float) -> None:
    rng = np.random.default_rng([df, int(prior_df)])
    n_pairs, prior_variance = 40_000, 0.37
    true = prior_variance * prior_df / rng.chisquare(prior_df, n_pairs)
    sample = true * rng.chisquare(df, n_pairs) / df
    found_df, found_variance = variance_prior(sample, df)
    # tolerances are 4 sd of the moment estimator over 40,000 pairs, found by repetition
    assert found_df == pytest.approx(prior_df, rel=0.25 if prior_df > 10 else 0.1)
    assert found_variance == pytest.approx(prior_variance, rel=0.03)


def test_equal_variances_shrink_all_the_way_and_degenerate_ones_do_not_fail() -> None:
    rng = np.random.default_rng(0)
    n_pairs, df = 20_000, 11
    found_df, found = variance_prior(2.0 * rng.chisquare(df, n_pairs) / df, df)
    assert found_df > 200  # infinite in expectation; the estimate scatters around 1/df = 0
    assert found == pytest.approx(2.0, rel=0.02)
    assert variance_prior(np.full(50, 3.0), df)[0] == np.inf
    assert variance_prior(np.zeros(10), df) == (np.inf, 1.0)
    assert np.isfinite(standardise(np.ones((1, 10)), np.zeros((5, 10)))).all()


def null_draw(
    rng: np.random.Generator, n_twins: int, n_pairs: int, heavy: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A layer and its twins, all alike; pairs differ in level and in spread."""
    level, spread = 3 * rng.standard_normal(n_pairs), np.sqrt(6 / rng.chisquare(6, n_pairs))
    noise = (
        rng.standard_t(5, (n_twins + 1, n_pairs)) if heavy else rng.standard_normal((n_twins + 1, n_pairs))
    )
    values = level + spread * noise
    return values[0], values[1:]


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("n_twins", [8, 20])
def test_a_layer_that_is_one_more_twin_gets_calibrated_p_values(n_twins: int, heavy: bool) -> None:
    rng = np.random.default_rng([n_twins, heavy])
    n_pairs, n_draws = 600, 60
    pooled: list[np.ndarray] = []
    for _ in range(n_draws):
        z = leave_one_out(*null_draw(rng, n_twins, n_pairs, heavy))
        pooled.append(pooled_p(z, np.zeros(n_pairs, np.int64)))
    p = np.concatenate(pooled)
    for t in LEVELS:
        se = np.sqrt(t * (1 - t) / len(p))
        assert (p <= t).mean() <= 1.1 * t + 3 * se
        assert (p >= 1 - t).mean() <= 1.1 * t + 3 * se
    assert (p <= 0.1).mean() > 0.06  # not calibrated by never saying anything


def test_concept_effects_of_the_layer_leave_p_pair_calibrated_and_lift_p_twin() -> None:
    rng = np.random.default_rng(3)
    pairs = every_pair(32)
    strata = np.zeros(len(pairs), np.int64)
    specific: list[np.ndarray] = []
    plain: list[np.ndarray] = []
    for _ in range(40):
        layer, twins = null_draw(rng, 12, len(pairs), False)
        lift = rng.exponential(2.0, 32)
        z = leave_one_out(layer + lift[pairs].sum(1), twins)
        plain.append(pooled_p(z, strata))
        specific.append(pooled_p(pair_specific(z, pairs, 32), strata))
    p = np.concatenate(specific)
    for t in LEVELS:
        # pairs of one concept share an effect that the polish estimates: 2 for the dependence
        assert (p <= t).mean() <= 1.1 * t + 2 * 3 * np.sqrt(t * (1 - t) / len(p))
    assert (np.concatenate(plain) <= 0.01).mean() > 0.3  # positive control: the lift is there


def test_shifted_pairs_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(4)
    pairs = every_pair(40)
    layer, twins = null_draw(rng, 20, len(pairs), False)
    shifted = rng.random(len(pairs)) < 0.05
    spread = twins.std(0)
    z = leave_one_out(layer + 8 * spread * shifted, twins)
    strata = np.zeros(len(pairs), np.int64)
    for p in (pooled_p(z, strata), pooled_p(pair_specific(z, pairs, 40), strata)):
        assert (p[shifted] <= 0.001).mean() > 0.9
        assert (p[~shifted] <= 0.001).mean() < 0.02


def test_standardising_is_blind_to_each_pairs_level_and_to_a_common_scale() -> None:
    rng = np.random.default_rng(5)
    layer, twins = null_draw(rng, 10, 300, False)
    level = 100 * rng.standard_normal(300)
    z, moved = leave_one_out(layer, twins), leave_one_out(7 * layer + level, 7 * twins + level)
    # 1e-9: cancellation of levels of order 100 in double precision
    np.testing.assert_allclose(moved.layer, z.layer, atol=1e-9)
    np.testing.assert_allclose(moved.twins, z.twins, atol=1e-9)


def test_each_twin_is_standardised_by_the_others_alone() -> None:
    rng = np.random.default_rng(6)
    layer, twins = null_draw(rng, 6, 200, False)
    z = leave_one_out(layer, twins)
    for r in range(6):
        np.testing.assert_array_equal(z.twins[r], standardise(twins[r : r + 1], np.delete(twins, r, 0))[0])
    # the layer's own value never enters the twins'
    np.testing.assert_array_equal(leave_one_out(layer + 50, twins).twins, z.twins)


def test_pooled_p_counts_the_twin_values_of_its_stratum() -> None:
    rng = np.random.default_rng(7)
    z = Standardised(rng.standard_normal(60), np.round(rng.standard_normal((5, 60)), 1))
    z.layer[:5] = z.twins[0, :5]  # ties count as reached
    strata = np.arange(60) % 3
    p = pooled_p(z, strata)
    for pair in range(60):
        null = z.twins[:, strata == strata[pair]].ravel()
        assert p[pair] == ((null >= z.layer[pair]).sum() + 1) / (len(null) + 1)


@given(st.integers(1, 6_000), st.integers(1, 50), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_strata_are_large_and_ordered_whatever_the_ties(n_pairs: int, n_values: int, seed: int) -> None:
    n11 = np.random.default_rng(seed).integers(0, n_values, n_pairs)
    strata = support_strata(n11)
    sizes = np.bincount(strata)
    assert sizes.min() >= min(n_pairs, PAIRS_PER_STRATUM)
    for low, high in itertools.pairwise(range(len(sizes))):
        assert n11[strata == low].max() <= n11[strata == high].min()


def test_median_polish_removes_additive_effects_whatever_they_are() -> None:
    rng = np.random.default_rng(8)
    for n_concepts, kept in ((12, 1.0), (24, 1.0), (25, 1.0), (40, 0.5), (64, 0.25)):
        pairs = every_pair(n_concepts)
        pairs = pairs[rng.random(len(pairs)) < kept]
        # medians alone can stop at ±c patterns that half of each concept's pairs agree on: draws of several shapes
        for effect in (rng.exponential(3.0, n_concepts), rng.choice([-2.0, 2.0], n_concepts)):
            additive = 2.0 + effect[pairs].sum(1)
            # rounds end when no effect moves by 1e-3; what is left is of that order, effects were of order 3
            assert np.abs(median_polish(additive, pairs, n_concepts)).max() < 0.01
            noise = rng.standard_normal(len(pairs))
            apart = median_polish(additive + noise, pairs, n_concepts) - median_polish(
                noise, pairs, n_concepts
            )
            assert np.abs(apart).max() < 0.01


def least_squares_rest(values: np.ndarray, pairs: np.ndarray, n_concepts: int) -> np.ndarray:
    design = np.zeros((len(pairs), n_concepts + 1))
    design[:, n_concepts] = 1
    for side in (0, 1):
        design[np.arange(len(pairs)), pairs[:, side]] += 1
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


def test_median_polish_keeps_sparse_spikes_that_least_squares_spreads() -> None:
    rng = np.random.default_rng(9)
    n_concepts, height = 32, 10.0
    pairs = every_pair(n_concepts)
    effect = rng.standard_normal(n_concepts)
    spiked = np.zeros(len(pairs), bool)
    partners = dict.fromkeys(range(n_concepts), 0)
    for row in rng.permutation(len(pairs)):
        a, b = (int(c) for c in pairs[row])
        if partners[a] < 4 and partners[b] < 4:
            spiked[row] = True
            partners[a], partners[b] = partners[a] + 1, partners[b] + 1
    values = effect[pairs].sum(1) + height * spiked + 0.1 * rng.standard_normal(len(pairs))
    polished = median_polish(values, pairs, n_concepts)
    squares = least_squares_rest(values, pairs, n_concepts)
    # each concept has 4 spikes of 10 among 31 pairs: the median hardly sees them, the mean takes 4·10/31 ≈ 1.3 a concept
    # noise of 0.1 and medians of 31 of them: 0.1 of a unit stays; 5 sd of the noise at the extremes
    assert np.abs(polished[~spiked]).mean() < 0.2
    assert polished[spiked].min() > height - 0.5
    assert np.abs(squares[~spiked]).mean() > 1.0
    assert squares[spiked].mean() < height - 1.0


def test_a_concept_tested_once_is_never_pair_specific() -> None:
    pairs = np.array([[0, 1], [0, 2], [1, 2], [2, 3]])
    rest = median_polish(np.array([1.0, 2.0, 3.0, 100.0]), pairs, 5)
    assert abs(rest[3]) < 1e-2


def test_lower_half_mad_ignores_finds() -> None:
    rng = np.random.default_rng(10)
    values = rng.standard_normal(100_000)
    # median of |z| of a standard normal is 0.6745
    assert lower_half_mad(values) == pytest.approx(0.6745, rel=0.02)
    found = values.copy()
    found[:5_000] += 30.0
    assert lower_half_mad(found) == pytest.approx(0.6745, rel=0.1)
    assert lower_half_mad(np.zeros(5)) == 0.0


def test_scale_guard_divides_a_rough_layer_and_spares_one_with_finds() -> None:
    rng = np.random.default_rng(11)
    pairs = every_pair(40)
    twins = rng.standard_normal((12, len(pairs)))
    base = rng.standard_normal(len(pairs))
    smooth = pair_specific(Standardised(base, twins), pairs, 40).layer
    rough = pair_specific(Standardised(4 * base, twins), pairs, 40).layer
    quiet = pair_specific(Standardised(0.25 * base, twins), pairs, 40).layer
    # a layer four times as rough is brought back; MADs of 780 values are known to some 5 %
    assert rough.std() == pytest.approx(smooth.std(), rel=0.15)
    assert quiet.std() == pytest.approx(0.25 * smooth.std(), rel=0.15)  # never amplified
    found = base.copy()
    found[::20] += 10.0
    kept = pair_specific(Standardised(found, twins), pairs, 40).layer
    assert kept[::20].min() > 5.0
    # without the guard the rough layer shows false finds
    strata = np.zeros(len(pairs), np.int64)
    unguarded = Standardised(median_polish(4 * base, pairs, 40), twins)
    assert (pooled_p(unguarded, strata) <= 0.001).mean() > 0.05
    assert (pooled_p(pair_specific(Standardised(4 * base, twins), pairs, 40), strata) <= 0.001).mean() < 0.02


def test_compress_is_odd_and_monotone_and_survives_silence() -> None:
    d = np.linspace(-5, 5, 11)
    layer, twins = compress(d, np.stack([d, -d]))
    np.testing.assert_array_equal(layer, -layer[::-1])
    assert (np.diff(layer) > 0).all()
    np.testing.assert_array_equal(twins[0], -twins[1])
    silent, _ = compress(np.zeros(3), np.zeros((4, 3)))
    np.testing.assert_array_equal(silent, 0.0)
