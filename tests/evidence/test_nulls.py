"""Standardising against twins: calibrated when the layer is one more twin, concept effects removed, spikes kept."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from probekit.evidence.mixed import PairGraph
from probekit.evidence.nulls import (
    Moderated,
    Standardised,
    compress,
    leave_one_out,
    pair_specific,
    pooled_p,
    support_scale,
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
    assert np.isfinite(Moderated.of(np.zeros((5, 10))).standardise(np.ones((1, 10)))).all()


def alike(n_pairs: int) -> np.ndarray:
    """The same support for every pair."""
    return np.full(n_pairs, 100)


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
        pooled.append(pooled_p(z, alike(n_pairs)))
    p = np.concatenate(pooled)
    for t in LEVELS:
        se = np.sqrt(t * (1 - t) / len(p))
        assert (p <= t).mean() <= 1.1 * t + 3 * se
        assert (p >= 1 - t).mean() <= 1.1 * t + 3 * se
    assert (p <= 0.1).mean() > 0.06  # not calibrated by never saying anything


def test_concept_effects_of_the_layer_leave_p_pair_calibrated_and_lift_p_twin() -> None:
    rng = np.random.default_rng(3)
    pairs = every_pair(32)
    graph = PairGraph(pairs, 32)
    specific: list[np.ndarray] = []
    plain: list[np.ndarray] = []
    certain: list[np.ndarray] = []
    for _ in range(40):
        layer, twins = null_draw(rng, 12, len(pairs), False)
        lift = rng.exponential(2.0, 32)
        z = leave_one_out(layer + lift[pairs].sum(1), twins)
        plain.append(pooled_p(z, alike(len(pairs))))
        specific.append(pooled_p(pair_specific(z, graph), alike(len(pairs))))
        certain.append(pooled_p(pair_specific(replace(z, doubt=0.0), graph), alike(len(pairs))))
    p = np.concatenate(specific)
    for t in LEVELS:
        # lifts of 2 on average and up to 10, each multiplied by the error of its pair's standard deviation
        assert (p <= t).mean() <= t + 3 * np.sqrt(t * (1 - t) / len(p))
    assert (np.concatenate(plain) <= 0.01).mean() > 0.3  # positive control: the lift is there
    assert (
        np.concatenate(certain) <= 0.001
    ).mean() > 0.003  # and so is what its standard deviations' error makes of it


def test_shifted_pairs_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(4)
    pairs = every_pair(40)
    layer, twins = null_draw(rng, 20, len(pairs), False)
    shifted = rng.random(len(pairs)) < 0.05
    spread = twins.std(0)
    z = leave_one_out(layer + 8 * spread * shifted, twins)
    n11 = alike(len(pairs))
    for p in (pooled_p(z, n11), pooled_p(pair_specific(z, PairGraph(pairs, 40)), n11)):
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
        np.testing.assert_array_equal(z.twins[r], Moderated.of(np.delete(twins, r, 0)).standardise(twins[r]))
    # the layer's own value never enters the twins'
    np.testing.assert_array_equal(leave_one_out(layer + 50, twins).twins, z.twins)


def test_p_in_the_bulk_is_counted_and_ties_count_as_reached() -> None:
    rng = np.random.default_rng(7)
    z = Standardised(rng.standard_normal(60), np.round(rng.standard_normal((20, 60)), 1))
    z.layer[:5] = z.twins[0, :5]
    p = pooled_p(z, alike(60))
    null = z.twins.ravel()
    for pair in range(60):
        reached = (null >= z.layer[pair]).sum()
        counted = (reached + 1) / (len(null) + 1)
        assert p[pair] == counted if reached else p[pair] <= counted


@pytest.mark.parametrize(("name", "tail"), [("normal", "light"), ("t5", "heavy"), ("uniform", "bounded")])
def test_the_fitted_tail_is_no_smaller_than_the_truth_and_far_below_the_floor_of_counts(
    name: str, tail: str
) -> None:
    draw = {
        "normal": lambda rng, shape: rng.standard_normal(shape),
        "t5": lambda rng, shape: rng.standard_t(5, shape),
        "uniform": lambda rng, shape: rng.random(shape),
    }[name]
    at = {0.01: 0.0, 0.001: 0.0, 0.0001: 0.0}
    n_repeats, n_pairs = 60, 2_000
    for repeat in range(n_repeats):
        rng = np.random.default_rng([repeat, len(name)])
        p = pooled_p(Standardised(draw(rng, n_pairs), draw(rng, (20, n_pairs))), alike(n_pairs))
        for t in at:
            at[t] += (p <= t).mean() / t / n_repeats
    # 120,000 values: 12 are meant at 1e-4, whose share is known to 30 %, and it must not be above what it says by 3 s.e.
    assert at[0.01] <= 1.1, (tail, at)
    assert at[0.001] <= 1.3, (tail, at)
    assert at[0.0001] <= 1.9, (tail, at)
    assert at[0.01] >= 0.7  # it can say something
    far = Standardised(np.full(500, 50.0), np.random.default_rng(0).standard_normal((20, 500)))
    assert pooled_p(far, alike(500)).max() < 1e-5
    assert pooled_p(far, alike(500), tail=False).min() == 1 / 10_001


def test_scatter_that_depends_on_support_is_taken_out() -> None:
    rng = np.random.default_rng(12)
    n_pairs = 800
    n11 = np.exp(rng.uniform(np.log(60), np.log(6_000), n_pairs)).astype(int)
    wide = (n11 / 600) ** -0.5
    twins = wide * rng.standard_normal((20, n_pairs))
    scale = support_scale(twins, n11)
    # a slope fitted to 800 pairs of 20 twins each: known to some 1 %, over a factor of ten in support
    np.testing.assert_allclose(scale / scale.mean(), wide / wide.mean(), rtol=0.1)
    few, many = n11 < 200, n11 > 2_000
    shares: list[tuple[float, float]] = []
    for _ in range(30):
        p = pooled_p(Standardised(wide * rng.standard_normal(n_pairs), twins), n11)
        shares.append((float((p[few] <= 0.02).mean()), float((p[many] <= 0.02).mean())))
    rare, common = np.mean(shares, axis=0)
    # 30 layers of some 200 pairs: a share of 2 % is known to 0.2 %
    assert rare == pytest.approx(0.02, abs=0.008)
    assert common == pytest.approx(0.02, abs=0.008)
    # with one scale for all, rare pairs would be flagged three times as often (the control)
    unscaled = pooled_p(Standardised(wide * rng.standard_normal(n_pairs), twins), alike(n_pairs))
    assert (unscaled[few] <= 0.02).mean() > 0.035
    assert (support_scale(twins[:, :10], n11[:10]) == 1).all()  # too few pairs to fit a slope
    assert (support_scale(np.zeros((5, 100)), n11[:100]) == 1).all()


def test_a_layer_smoother_than_its_twins_is_not_amplified() -> None:
    rng = np.random.default_rng(11)
    pairs = every_pair(40)
    graph = PairGraph(pairs, 40)
    twins = rng.standard_normal((12, len(pairs)))
    base = rng.standard_normal(len(pairs))
    usual = pair_specific(Standardised(base, twins), graph).layer
    quiet = pair_specific(Standardised(0.25 * base, twins), graph).layer
    rough = pair_specific(Standardised(2 * base, twins), graph).layer
    # scales of 780 values are known to some 5 %
    assert quiet.std() == pytest.approx(0.25 * usual.std(), rel=0.15)
    assert rough.std() == pytest.approx(usual.std(), rel=0.15)  # a rough layer is measured in its own unit
    found = base.copy()
    found[::20] += 10.0
    assert pair_specific(Standardised(found, twins), graph).layer[::20].min() > 5.0


def test_compress_is_odd_and_monotone_and_survives_silence() -> None:
    d = np.linspace(-5, 5, 11)
    layer, twins = compress(d, np.stack([d, -d]))
    np.testing.assert_array_equal(layer, -layer[::-1])
    assert (np.diff(layer) > 0).all()
    np.testing.assert_array_equal(twins[0], -twins[1])
    silent, _ = compress(np.zeros(3), np.zeros((4, 3)))
    np.testing.assert_array_equal(silent, 0.0)
