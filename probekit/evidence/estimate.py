"""Intervals for a number of pairs that was counted in a sample, a grid, or with an imperfect detector.

How the pairs came to be tested decides the interval. A uniform sample of the testable pairs is hypergeometric whatever the
dependence between pairs; all pairs among a few concepts are not independent draws, and the naive interval then covers
about half of the time; unequal inclusion needs weights; and a detector of known sensitivity and false rate can be
corrected for both. Axes: pair concept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from probekit.errors import InputError

LEVEL = 0.95
MIN_GAP = 0.3
"""Least sensitivity less false rate at which the Rogan–Gladen correction is claimed: below it errors are divided by so
little that the interval says nothing."""
N_DRAWS = 4_000
_FEW = 3  # concepts: fewer leave no delete-one spread


@dataclass(frozen=True)
class Estimate:
    """A number or share with its interval."""

    value: float
    """Point estimate."""
    low: float
    """Lower limit."""
    high: float
    """Upper limit."""


def clopper_pearson(n_found: int, n_trials: int, *, level: float = LEVEL) -> Estimate:
    """Exact binomial interval of a share (Clopper & Pearson 1934).

    Args:
        n_found: successes.
        n_trials: independent trials, at least one.
        level: of the two-sided interval.

    Raises:
        InputError: more found than tried, or none tried.
    """
    _check_counts(n_found, n_trials)
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, n_found, n_trials - n_found + 1)) if n_found else 0.0
    high = float(stats.beta.ppf(1 - tail, n_found + 1, n_trials - n_found)) if n_found < n_trials else 1.0
    return Estimate(n_found / n_trials, low, high)


def in_population(n_found: int, n_sampled: int, n_population: int, *, level: float = LEVEL) -> Estimate:
    """How many of all pairs would be found, from a uniform sample of them: the exact hypergeometric interval.

    It holds whatever the dependence between pairs, since the sample is what is random. A census (all sampled) has an
    interval of one number.

    Args:
        n_found: pairs found in the sample.
        n_sampled: pairs sampled without replacement.
        n_population: pairs there are.
        level: of the two-sided interval.

    Raises:
        InputError: counts that cannot be.
    """
    _check_counts(n_found, n_sampled)
    if n_sampled > n_population:
        raise InputError(
            f"in_population: {n_sampled:,} sampled of {n_population:,}; wanted no more than there are."
        )
    tail = (1 - level) / 2
    lowest, highest = n_found, n_population - (n_sampled - n_found)
    # P(X ≥ found) rises with the true number, P(X ≤ found) falls: the limits by bisection
    low = _first(
        lowest, highest, lambda k: stats.hypergeom.sf(n_found - 1, n_population, k, n_sampled) > tail
    )
    beyond = _first(
        lowest, highest + 1, lambda k: stats.hypergeom.cdf(n_found, n_population, k, n_sampled) <= tail
    )
    return Estimate(n_found * n_population / n_sampled, float(low), float(beyond - 1))


def _first(low: int, high: int, holds: object) -> int:
    """The first whole number from low to high (exclusive of high, which stands for none) at which it holds."""
    assert callable(holds)
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def concept_grid(
    found: Bool[np.ndarray, " pair"],
    pairs: Int[np.ndarray, "pair 2"],
    *,
    level: float = LEVEL,
) -> Estimate:
    """Share of pairs found, when all pairs among some drawn concepts were tested: delete-one-concept jackknife.

    On the logit scale, t with as many degrees of freedom as concepts less one (the share is a U-statistic of order two;
    Arvesen 1969). Where all or none are found the jackknife sees no spread; then the pairs of a perfect matching,
    which share no concept and are independent, give an exact limit.

    Args:
        found: whether each pair was found.
        pairs: its two concepts.
        level: of the two-sided interval.

    Raises:
        InputError: fewer than three concepts.
    """
    concepts = np.unique(pairs)
    if len(concepts) < _FEW:
        raise InputError(
            f"concept_grid: got {len(concepts)} concepts; wanted at least {_FEW} to leave one out."
        )
    n_found, n_pairs = int(found.sum()), len(found)
    share = n_found / n_pairs
    tail = (1 - level) / 2
    n_independent = len(concepts) // 2
    if n_found in (0, n_pairs):
        reach = 1 - tail ** (1 / n_independent)
        return Estimate(share, 0.0, reach) if n_found == 0 else Estimate(share, 1 - reach, 1.0)
    at = np.searchsorted(concepts, pairs)
    n_concepts = len(concepts)
    own_pairs = np.bincount(at.ravel(), minlength=n_concepts)
    own_found = np.bincount(at[found].ravel(), minlength=n_concepts)
    left = (n_found - own_found) / np.maximum(n_pairs - own_pairs, 1)
    # a share of 0 or 1 with one concept left out has no logit: half a pair is added on both sides
    logit = _logit(left, n_pairs)
    centre = _logit(np.array([share]), n_pairs)[0]
    spread = np.sqrt((n_concepts - 1) / n_concepts * ((logit - logit.mean()) ** 2).sum())
    reach = stats.t.ppf(1 - tail, n_concepts - 1) * spread
    low, high = 1 / (1 + np.exp(-(centre + np.array([-reach, reach]))))
    return Estimate(share, float(low), float(high))


def _logit(share: Float[np.ndarray, " any"], n_pairs: int) -> Float[np.ndarray, " any"]:
    return np.log((share * n_pairs + 0.5) / ((1 - share) * n_pairs + 0.5))


def horvitz_thompson(
    found: Bool[np.ndarray, " pair"], inclusion: Float[np.ndarray, " pair"], *, level: float = LEVEL
) -> Estimate:
    """How many of all pairs would be found, when each was tested with a probability of its own.

    The sum of 1/inclusion over the found pairs (Horvitz & Thompson 1952), pairs drawn independently; the interval is the
    gamma one for weighted counts (Fay & Feuer 1997) with the variance of this design, Σ(1 − π)/π². It does not
    undershoot where few are found.

    Args:
        found: whether each sampled pair was found.
        inclusion: the probability with which each was sampled, above 0.
        level: of the two-sided interval.

    Raises:
        InputError: a probability outside (0, 1].
    """
    if len(inclusion) and not ((inclusion > 0) & (inclusion <= 1)).all():
        worst = float(inclusion[~((inclusion > 0) & (inclusion <= 1))][0])
        raise InputError(
            f"horvitz_thompson: got an inclusion probability of {worst}; wanted above 0 and at most 1."
        )
    weight = 1 / inclusion[found]
    total = float(weight.sum())
    variance = float((weight * (weight - 1)).sum())
    # the largest weight that an unseen pair could have had
    largest = float((1 / inclusion).max()) if len(inclusion) else 1.0
    largest_variance = largest * (largest - 1)
    tail = (1 - level) / 2
    low = (
        total
        if variance == 0
        else variance / (2 * total) * float(stats.chi2.ppf(tail, 2 * total**2 / variance))
    )
    above, wider = total + largest, variance + largest_variance
    high = (
        total if wider == 0 else wider / (2 * above) * float(stats.chi2.ppf(1 - tail, 2 * above**2 / wider))
    )
    # what was found exists
    return Estimate(total, max(low, float(found.sum())), max(high, total))


@dataclass(frozen=True)
class Rate:
    """A rate measured on known cases."""

    n_found: int
    """Cases found."""
    n_cases: int
    """Cases tried."""

    @property
    def value(self) -> float:
        """The share found."""
        return self.n_found / self.n_cases

    def draws(self, rng: np.random.Generator) -> Float[np.ndarray, " draw"]:
        """Draws from its Jeffreys posterior."""
        return rng.beta(self.n_found + 0.5, self.n_cases - self.n_found + 0.5, size=N_DRAWS)


def rogan_gladen(
    tested: Rate, sensitivity: Rate, false: Rate, rng: np.random.Generator, *, level: float = LEVEL
) -> Estimate | None:
    """Share of pairs that are truly computed, from the share found, the recall and the false rate (Rogan & Gladen 1978).

    (found − false)/(recall − false), clipped to [0, 1], with the interval from draws of all three rates.

    Args:
        tested: pairs found of those tested.
        sensitivity: designated pairs found of those planted.
        false: true nulls found of those tried.
        rng: of the draws.
        level: of the two-sided interval.

    Returns:
        None where sensitivity and false rate differ by no more than `MIN_GAP`: then nothing is claimed.

    Raises:
        InputError: counts that cannot be.
    """
    for rate in (tested, sensitivity, false):
        _check_counts(rate.n_found, rate.n_cases)
    gap = sensitivity.value - false.value
    if gap <= MIN_GAP:
        return None
    value = (tested.value - false.value) / gap
    q, recall, wrong = (rate.draws(rng) for rate in (tested, sensitivity, false))
    # a draw whose recall does not exceed its false rate says nothing about the share
    ratio = np.where(recall > wrong, (q - wrong) / np.where(recall > wrong, recall - wrong, 1.0), 1.0)
    low, high = np.quantile(np.clip(ratio, 0, 1), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(np.clip(value, 0, 1)), float(low), float(high))


def share_at_least(tested: Rate, false: Rate, *, level: float = LEVEL) -> float:
    """Lower limit of the share truly computed when the sensitivity is not known: as if it were 1 (theory of the same).

    (lower limit found − upper limit false)/(1 − upper limit false), never below 0; each limit at half the error.

    Args:
        tested: pairs found of those tested.
        false: true nulls found of those tried.
        level: of the one-sided statement.
    """
    # two-sided intervals at this level have one-sided errors of (1 − level)/2 each
    low = clopper_pearson(tested.n_found, tested.n_cases, level=level).low
    wrong = clopper_pearson(false.n_found, false.n_cases, level=level).high
    return max(0.0, (low - wrong) / (1 - wrong)) if wrong < 1 else 0.0


def _check_counts(n_found: int, n_trials: int) -> None:
    if not 0 <= n_found <= n_trials or n_trials < 1:
        raise InputError(
            f"got {n_found} found of {n_trials}; wanted 0 ≤ found ≤ tried and at least one tried."
        )
