"""Every interval covers what it says it covers, and the naive one does not where pairs share concepts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from censuses import excesses, grids, imperfect_detectors, lower_limits, unequal_inclusion, uniform_samples
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from probekit.errors import InputError
from probekit.evidence.estimate import (
    Rate,
    clopper_pearson,
    concept_grid,
    horvitz_thompson,
    in_population,
    rogan_gladen,
    share_at_least,
)

N_CENSUSES = 600
# 600 censuses at 95 %: a coverage of .93 is 2.2 standard errors below, so an interval that covers passes
LEAST = 0.93


def test_clopper_pearson_is_statsmodels() -> None:
    for n_found, n in ((0, 7), (3, 7), (7, 7), (12, 400)):
        got = clopper_pearson(n_found, n)
        low, high = proportion_confint(n_found, n, 0.05, method="beta")
        assert got.low == pytest.approx(np.nan_to_num(low), abs=1e-12)
        assert got.high == pytest.approx(1.0 if np.isnan(high) else high, abs=1e-12)


def test_population_interval_inverts_the_hypergeometric_exactly() -> None:
    n_sampled, n_population = 40, 130
    for n_found in range(n_sampled + 1):
        got = in_population(n_found, n_sampled, n_population)
        inside = [
            k
            for k in range(n_found, n_population - n_sampled + n_found + 1)
            if stats.hypergeom.sf(n_found - 1, n_population, k, n_sampled) > 0.025
            and stats.hypergeom.cdf(n_found, n_population, k, n_sampled) > 0.025
        ]
        assert (got.low, got.high) == (inside[0], inside[-1])
    assert in_population(5, 60, 60).low == in_population(5, 60, 60).high == 5
    # zero hits: some 3/T of all pairs remain possible
    assert in_population(0, 3_000, 3_000_000).high == pytest.approx(3.69 / 3_000 * 3_000_000, rel=0.01)


def test_grid_interval_covers_where_the_naive_one_does_not() -> None:
    got = grids(np.random.default_rng(0), N_CENSUSES)
    assert got.share >= LEAST
    assert got.naive.mean() <= 0.7  # the control: the pairs are not independent
    assert 0.02 < np.median(got.width) < 0.15  # the truth is 3 to 7 %


def test_grid_without_finds_is_as_wide_as_a_matching() -> None:
    pairs = np.array(list(itertools.combinations(range(10), 2)))
    nothing = concept_grid(np.zeros(len(pairs), bool), pairs)
    # five pairs that share no concept: the exact limit of 0 of 5
    assert nothing.low == 0
    assert nothing.high == pytest.approx(clopper_pearson(0, 5).high)
    every = concept_grid(np.ones(len(pairs), bool), pairs)
    assert (every.low, every.high) == (pytest.approx(1 - nothing.high), 1.0)


def test_uniform_samples_cover() -> None:
    got = uniform_samples(np.random.default_rng(1), N_CENSUSES)
    assert got.share >= LEAST
    assert 100 < np.median(got.width) < 260  # a binomial of 400 at 3.6 %: ± 1.9 % of 5,000


def test_unequal_inclusion_covers_and_weights_matter() -> None:
    got = unequal_inclusion(np.random.default_rng(2), N_CENSUSES)
    assert got.share >= LEAST
    assert got.naive.mean() < 0.1
    assert np.median(got.width) < 350  # ± 4 standard errors of the design: √Σ(1 − π)/π² ≈ 65
    flags = np.arange(4_000) % 17 == 0
    everything = horvitz_thompson(flags, np.ones(4_000))
    assert everything.value == everything.low == flags.sum()


def test_rogan_gladen_recovers_the_truth() -> None:
    rng = np.random.default_rng(3)
    got = imperfect_detectors(rng, N_CENSUSES)
    assert got.withheld == 0
    assert got.share >= LEAST
    assert got.naive.mean() < 0.6
    # no sensitivity to speak of: nothing is claimed
    assert rogan_gladen(Rate(10, 100), Rate(3, 10), Rate(0, 100), rng) is None
    # and what is claimed without a sensitivity lies below
    tested, false = Rate(400, 2_000), Rate(27, 900)
    corrected = rogan_gladen(tested, Rate(84, 120), false, rng)
    assert corrected is not None
    assert share_at_least(tested, false) < corrected.value


def test_lower_limit_without_sensitivity_holds() -> None:
    got = lower_limits(np.random.default_rng(4), N_CENSUSES)
    assert got.share >= 0.95
    assert share_at_least(Rate(900, 1_000), Rate(10, 1_000)) > 0.85  # and it is no empty statement


def test_excess_interval_covers_where_twins_scatter_more_than_poisson_counts_do() -> None:
    got = excesses(np.random.default_rng(5), N_CENSUSES)
    assert got.share >= LEAST
    assert got.naive.mean() < got.share  # clumped counts scatter more
    assert np.median(got.width) < 20  # the truth is 20


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clopper_pearson(5, 4), "got 5 found of 4"),
        (lambda: in_population(1, 9, 8), "9 sampled of 8"),
        (lambda: concept_grid(np.array([True]), np.array([[0, 1]])), "got 2 concepts"),
        (lambda: horvitz_thompson(np.array([True]), np.array([0.0])), r"probability of 0\.0"),
    ],
)
def test_counts_that_cannot_be_are_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
