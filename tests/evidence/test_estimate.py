"""Every interval covers what it says it covers, and the naive one does not where pairs share concepts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
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


def _census(
    rng: np.random.Generator, propensity: np.ndarray, n_concepts: int
) -> tuple[np.ndarray, np.ndarray]:
    drawn = rng.choice(len(propensity), n_concepts, replace=False)
    pairs = np.array(list(itertools.combinations(range(n_concepts), 2)))
    chance = 1 / (1 + np.exp(-(propensity[drawn][pairs].sum(1) - 4.2)))
    return rng.random(len(pairs)) < chance, pairs


def test_grid_interval_covers_where_the_naive_one_does_not() -> None:
    rng = np.random.default_rng(0)
    # pairs of some concepts are found far more often than those of others
    propensity = 1.2 * rng.standard_normal(2_000)
    both = propensity[:, None] + propensity[None, :] - 4.2
    truth = (1 / (1 + np.exp(-both)))[np.triu_indices(2_000, 1)].mean()
    covered, naive, widths = 0, 0, []
    for _ in range(N_CENSUSES):
        found, pairs = _census(rng, propensity, 50)
        got = concept_grid(found, pairs)
        covered += got.low <= truth <= got.high
        widths.append(got.high - got.low)
        plain = clopper_pearson(int(found.sum()), len(found))
        naive += plain.low <= truth <= plain.high
    assert covered / N_CENSUSES >= LEAST
    assert naive / N_CENSUSES <= 0.7  # the control: the pairs are not independent
    assert 0.02 < np.median(widths) < 0.15  # the truth is 3 to 7 %


def test_grid_without_finds_is_as_wide_as_a_matching() -> None:
    pairs = np.array(list(itertools.combinations(range(10), 2)))
    nothing = concept_grid(np.zeros(len(pairs), bool), pairs)
    # five pairs that share no concept: the exact limit of 0 of 5
    assert nothing.low == 0
    assert nothing.high == pytest.approx(clopper_pearson(0, 5).high)
    every = concept_grid(np.ones(len(pairs), bool), pairs)
    assert (every.low, every.high) == (pytest.approx(1 - nothing.high), 1.0)


def test_uniform_samples_cover() -> None:
    rng = np.random.default_rng(1)
    # clustered finds: the hypergeometric does not care
    flags = np.zeros(5_000, bool)
    flags[:180] = True
    covered, widths = 0, []
    for _ in range(N_CENSUSES):
        got = in_population(int(rng.choice(flags, 400, replace=False).sum()), 400, 5_000)
        covered += got.low <= 180 <= got.high
        widths.append(got.high - got.low)
    assert covered / N_CENSUSES >= LEAST
    assert 100 < np.median(widths) < 260  # a binomial of 400 at 3.6 %: ± 1.9 % of 5,000


def test_unequal_inclusion_covers_and_weights_matter() -> None:
    rng = np.random.default_rng(2)
    inclusion = rng.choice([0.05, 0.3, 1.0], size=4_000, p=[0.5, 0.4, 0.1])
    # rarely sampled pairs are found more often: the plain share is wrong
    flags = rng.random(4_000) < np.where(inclusion < 0.1, 0.10, 0.02)
    truth = int(flags.sum())
    covered, plain, widths = 0, 0, []
    for _ in range(N_CENSUSES):
        sampled = rng.random(4_000) < inclusion
        got = horvitz_thompson(flags[sampled], inclusion[sampled])
        covered += got.low <= truth <= got.high
        widths.append(got.high - got.low)
        naive = in_population(int(flags[sampled].sum()), int(sampled.sum()), 4_000)
        plain += naive.low <= truth <= naive.high
    assert covered / N_CENSUSES >= LEAST
    assert plain / N_CENSUSES < 0.1
    assert np.median(widths) < 350  # ± 4 standard errors of the design: √Σ(1 − π)/π² ≈ 65
    everything = horvitz_thompson(flags, np.ones(4_000))
    assert everything.value == everything.low == truth


def test_rogan_gladen_recovers_the_truth() -> None:
    rng = np.random.default_rng(3)
    truth, recall, wrong = 0.25, 0.7, 0.03
    covered, uncorrected = 0, 0
    for _ in range(N_CENSUSES):
        tested = Rate(int(rng.binomial(2_000, truth * recall + (1 - truth) * wrong)), 2_000)
        sensitivity, false = (
            Rate(int(rng.binomial(120, recall)), 120),
            Rate(int(rng.binomial(900, wrong)), 900),
        )
        got = rogan_gladen(tested, sensitivity, false, rng)
        assert got is not None
        covered += got.low <= truth <= got.high
        raw = clopper_pearson(tested.n_found, tested.n_cases)
        uncorrected += raw.low <= truth <= raw.high
        assert share_at_least(tested, false) <= got.value
    assert covered / N_CENSUSES >= LEAST
    assert uncorrected / N_CENSUSES < 0.6
    # no sensitivity to speak of: nothing is claimed
    assert rogan_gladen(Rate(10, 100), Rate(3, 10), Rate(0, 100), rng) is None


def test_lower_limit_without_sensitivity_holds() -> None:
    rng = np.random.default_rng(4)
    truth, recall, wrong = 0.05, 0.8, 0.02
    above = 0
    for _ in range(N_CENSUSES):
        tested = Rate(int(rng.binomial(1_500, truth * recall + (1 - truth) * wrong)), 1_500)
        above += share_at_least(tested, Rate(int(rng.binomial(1_500, wrong)), 1_500)) > truth
    assert above / N_CENSUSES <= 0.05
    assert share_at_least(Rate(900, 1_000), Rate(10, 1_000)) > 0.85  # and it is no empty statement


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
