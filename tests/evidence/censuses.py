"""Simulated censuses for the intervals: how often each covers the truth, how wide it is, and how the naive one does.

Shared by tests/evidence/test_estimate.py and analyses/interval_coverage.py. Axes: pair concept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from probekit.evidence.census import excess_interval
from probekit.evidence.estimate import (
    Estimate,
    Rate,
    clopper_pearson,
    concept_grid,
    horvitz_thompson,
    in_population,
    rogan_gladen,
    share_at_least,
)
from probekit.evidence.lower_bound import non_null


@dataclass(frozen=True)
class Coverage:
    """How one estimator did over many censuses."""

    covered: Bool[np.ndarray, " census"]
    """Whether each interval held the truth."""
    width: Float[np.ndarray, " census"]
    """Width of each interval."""
    naive: Bool[np.ndarray, " census"]
    """Whether the naive interval of the same census held it."""
    truth: float
    """What was to be covered."""
    withheld: int = 0
    """Censuses in which nothing was claimed."""

    @property
    def share(self) -> float:
        """Share of the claimed intervals that held the truth."""
        return float(self.covered.mean())


def _covers(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def _coverage(
    one: Callable[[], tuple[Estimate | None, Estimate, float]], n_censuses: int, scale: float = 1.0
) -> Coverage:
    """Run a census many times: its estimate (None: not claimed), the naive one, the truth."""
    covered: list[bool] = []
    width: list[float] = []
    naive: list[bool] = []
    truths: list[float] = []
    for _ in range(n_censuses):
        estimate, plain, truth = one()
        truths.append(truth)
        naive.append(_covers(plain, truth))
        if estimate is not None:
            covered.append(_covers(estimate, truth))
            width.append(scale * (estimate.high - estimate.low))
    withheld = n_censuses - len(covered)
    return Coverage(np.array(covered), np.array(width), np.array(naive), float(np.mean(truths)), withheld)


def grids(
    rng: np.random.Generator, n_censuses: int, *, n_concepts: int = 50, spread: float = 1.2
) -> Coverage:
    """All pairs among a few drawn concepts, those of some concepts found far more often; naive: Clopper–Pearson."""
    propensity = spread * rng.standard_normal(2_000)
    both = propensity[:, None] + propensity[None, :] - 4.2
    truth = float((1 / (1 + np.exp(-both)))[np.triu_indices(2_000, 1)].mean())
    pairs = np.array(list(itertools.combinations(range(n_concepts), 2)))

    def one() -> tuple[Estimate, Estimate, float]:
        drawn = rng.choice(len(propensity), n_concepts, replace=False)
        chance = 1 / (1 + np.exp(-(propensity[drawn][pairs].sum(1) - 4.2)))
        found = rng.random(len(pairs)) < chance
        return concept_grid(found, pairs), clopper_pearson(int(found.sum()), len(found)), truth

    return _coverage(one, n_censuses)


def uniform_samples(
    rng: np.random.Generator,
    n_censuses: int,
    *,
    n_population: int = 5_000,
    n_found: int = 180,
    n_sampled: int = 400,
) -> Coverage:
    """A uniform sample of pairs whose finds are clustered as they like; naive: the same without the sample's error."""
    flags = np.zeros(n_population, bool)
    flags[:n_found] = True

    def one() -> tuple[Estimate, Estimate, float]:
        hits = int(rng.choice(flags, n_sampled, replace=False).sum())
        value = hits * n_population / n_sampled
        return in_population(hits, n_sampled, n_population), Estimate(value, value, value), float(n_found)

    return _coverage(one, n_censuses)


def independent_trials(
    rng: np.random.Generator, n_censuses: int, *, truth: float = 0.03, n: int = 400
) -> Coverage:
    """Independent pairs; naive: the normal interval of a share (Wald)."""

    def one() -> tuple[Estimate, Estimate, float]:
        hits = int(rng.binomial(n, truth))
        share = hits / n
        reach = 1.96 * np.sqrt(share * (1 - share) / n)
        return clopper_pearson(hits, n), Estimate(share, share - reach, share + reach), truth

    return _coverage(one, n_censuses)


def unequal_inclusion(
    rng: np.random.Generator, n_censuses: int, *, rare_rate: float = 0.10, usual_rate: float = 0.02
) -> Coverage:
    """Rarely sampled pairs are found more often; naive: the hypergeometric interval that forgets the weights."""
    n = 4_000
    inclusion = rng.choice([0.05, 0.3, 1.0], size=n, p=[0.5, 0.4, 0.1])
    flags = rng.random(n) < np.where(inclusion < 0.1, rare_rate, usual_rate)
    truth = float(flags.sum())

    def one() -> tuple[Estimate, Estimate, float]:
        sampled = rng.random(n) < inclusion
        plain = in_population(int(flags[sampled].sum()), int(sampled.sum()), n)
        return horvitz_thompson(flags[sampled], inclusion[sampled]), plain, truth

    return _coverage(one, n_censuses)


def imperfect_detectors(
    rng: np.random.Generator,
    n_censuses: int,
    *,
    truth: float = 0.25,
    recall: float = 0.7,
    wrong: float = 0.03,
    n_known: int = 120,
) -> Coverage:
    """A detector that misses and errs, its rates known from cases of their own; naive: the share found as it is."""

    def one() -> tuple[Estimate | None, Estimate, float]:
        tested = Rate(int(rng.binomial(2_000, truth * recall + (1 - truth) * wrong)), 2_000)
        sensitivity = Rate(int(rng.binomial(n_known, recall)), n_known)
        false = Rate(int(rng.binomial(900, wrong)), 900)
        plain = clopper_pearson(tested.n_found, tested.n_cases)
        return rogan_gladen(tested, sensitivity, false, rng), plain, truth

    return _coverage(one, n_censuses)


def lower_limits(
    rng: np.random.Generator,
    n_censuses: int,
    *,
    truth: float = 0.05,
    recall: float = 0.8,
    wrong: float = 0.02,
) -> Coverage:
    """The one-sided statement without a known sensitivity, [limit, 1]; naive: the lower limit of the share found."""

    def one() -> tuple[Estimate, Estimate, float]:
        tested = Rate(int(rng.binomial(1_500, truth * recall + (1 - truth) * wrong)), 1_500)
        low = share_at_least(tested, Rate(int(rng.binomial(1_500, wrong)), 1_500))
        plain = clopper_pearson(tested.n_found, tested.n_cases)
        return Estimate(low, low, 1.0), Estimate(plain.value, plain.low, 1.0), truth

    return _coverage(one, n_censuses)


def excesses(
    rng: np.random.Generator,
    n_censuses: int,
    *,
    n_true: int = 20,
    rate: float = 1.0,
    clumping: float = 1.0,
    n_twins: int = 20,
) -> Coverage:
    """The excess of a layer over its twins when false finds come in clumps (gamma-mixed Poisson counts).

    The interval predicts what the layer holds beyond one more twin, so the truth is the number of true finds; naive: the
    Poisson error of the count alone.
    """

    def counts(n: int) -> np.ndarray:
        return rng.poisson(rate * rng.gamma(1 / clumping, clumping, n))

    def one() -> tuple[Estimate, Estimate, float]:
        own = n_true + int(counts(1)[0])
        twins = counts(n_twins)
        value, low, high = excess_interval(own, [int(c) for c in twins])
        reach = 1.96 * np.sqrt(max(twins.mean(), 1 / n_twins))
        return Estimate(value, low, high), Estimate(value, value - reach, value + reach), float(n_true)

    return _coverage(one, n_censuses)


N_PAIRS, N_TWINS = 1_000, 20


def dependent_p(rng: np.random.Generator, n_items: int, shift: np.ndarray | float = 0.0) -> np.ndarray:
    """One-sided p-values of items whose pairs share a common factor within an item; exchangeable between items."""
    blocks = rng.standard_normal((n_items, 20)).repeat(N_PAIRS // 20, axis=1)
    z = np.sqrt(0.3) * blocks + np.sqrt(0.7) * rng.standard_normal((n_items, N_PAIRS)) + shift
    return stats.norm.sf(z)


def non_null_bounds(
    rng: np.random.Generator, n_censuses: int, *, n_true: int = 200, shift: float = 3.0
) -> Coverage:
    """At least so many non-null pairs, [bound, all]; naive: Storey's number, taken for one that has no error."""
    moved = np.where(np.arange(N_PAIRS) < n_true, shift, 0.0)
    moved = moved[np.random.default_rng(0).permutation(N_PAIRS)]

    def one() -> tuple[Estimate | None, Estimate, float]:
        p = dependent_p(rng, 1, moved)[0]
        bound = non_null(p, list(dependent_p(rng, N_TWINS))).n_low
        storey = N_PAIRS - 2 * float((p > 0.5).sum())
        estimate = None if bound is None else Estimate(bound, bound, N_PAIRS)
        return estimate, Estimate(storey, storey, N_PAIRS), float(n_true)

    return _coverage(one, n_censuses)
