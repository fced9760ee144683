"""Do two codes meet on more neurons than their margins allow? An exact test with fixed margins.

Given how many neurons either code takes, the number that both take is hypergeometric if codes fall independently. Two
things make codes meet more often in a layer that learned nothing, and both raise the odds ratio of the table, which
makes the count Fisher's noncentral hypergeometric; the tail is then exact given both margins:

* the two directions overlap, so their columns correlate: the odds ratio of a bivariate normal of that correlation
  beyond the threshold;
* some neurons take many codes and others few: if rows keep their loads r as well, two codes meet n·Σr(r − 1)/(Σr)² times
  as often as on equal neurons (1 for Poisson loads). That is the mean of the curveball null, which keeps both margins of
  the whole table; by drawing it a p-value cannot fall below one over the draws, and there are tens of thousands of pairs.

Axes: pair, neuron, concept, count.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln, owens_t
from scipy.stats import norm

BLOCK = 4096
"""Pairs at a time: bounds memory at block × the largest count."""


def overlap_tail(
    first: Bool[np.ndarray, "neuron concept"],
    second: Bool[np.ndarray, "neuron concept"],
    pairs: Int[np.ndarray, "pair 2"],
    log_odds: Callable[[Int[np.ndarray, " row"]], Float[np.ndarray, " row"]],
    *,
    least: int = 2,
    explained: Int[np.ndarray, " pair"] | None = None,
) -> tuple[Float[np.ndarray, " pair"], Int[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
    """P(meeting on as many neurons or more), the neurons met on, and how many independent codes would meet on.

    Args:
        first: neurons that the code of a pair's first concept takes.
        second: the same for the second concept; the same array where both are of one kind.
        pairs: concept indices.
        log_odds: logarithm of the odds ratio that the null gives some of the pairs (by row), 0 or more; most pairs meet on
            too few neurons to ask.
        least: fewer neurons than these are no set: p = 1.
        explained: neurons met on that do not count, because other pairs account for them.
    """
    a, b = pairs.T
    n_neurons = len(first)
    margin_a, margin_b = first.sum(axis=0)[a], second.sum(axis=0)[b]
    met = np.rint((first.astype(np.float64).T @ second.astype(np.float64))[a, b]).astype(np.int64)
    met = met if explained is None else met - explained
    expected = margin_a * margin_b / n_neurons
    p = np.ones(len(pairs))
    # an odds ratio of 1 or more only raises the expectation: where no more than the independent one are met,
    # p is near ½ or above, and 1 is the safe side of it
    wanted = np.flatnonzero((met >= least) & (met > expected))
    for start in range(0, len(wanted), BLOCK):
        rows = wanted[start : start + BLOCK]
        p[rows] = noncentral_tail(met[rows], margin_a[rows], margin_b[rows], n_neurons, log_odds(rows))
    return p, met, expected


def noncentral_tail(
    met: Int[np.ndarray, " pair"],
    margin_a: Int[np.ndarray, " pair"],
    margin_b: Int[np.ndarray, " pair"],
    n_neurons: int,
    log_odds: Float[np.ndarray, " pair"],
) -> Float[np.ndarray, " pair"]:
    """P(X ≥ met) for Fisher's noncentral hypergeometric count with the given margins and odds ratio."""
    a, b = margin_a[:, None], margin_b[:, None]
    count = np.arange(int(np.minimum(margin_a, margin_b).max(initial=0)) + 1)
    possible = (count <= a) & (count <= b) & (b - count <= n_neurons - a)
    x = np.where(possible, count, np.maximum(0, a + b - n_neurons))
    factorial = gammaln(np.arange(n_neurons + 1) + 1.0)
    choose = lambda n, k: factorial[n] - factorial[k] - factorial[n - k]
    logs = choose(a, x) + choose(n_neurons - a, b - x) + x * log_odds[:, None]
    logs = np.where(possible, logs, -np.inf)
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    beyond = count >= met[:, None]
    return (weights * beyond).sum(axis=1) / weights.sum(axis=1)


def log_load_ratio(
    first: Bool[np.ndarray, "neuron concept"],
    second: Bool[np.ndarray, "neuron concept"],
    known: Int[np.ndarray, "pair 2"] | None = None,
) -> float:
    """Log of how much oftener two codes meet because neurons take unequally many; 0 where it would be negative.

    The ratio is all meetings over those that independent codes of the same margins would have, so pairs that have a channel
    raise it. A concept meets itself on each of its neurons when `first` is `second`; such meetings are left out.

    Args:
        first: neurons that the first concept's code takes.
        second: the same for the second concept.
        known: pairs (both ways round where that is one question) that are known to meet; they do not count.
    """
    taken, also = first.sum(axis=1).astype(np.float64), second.sum(axis=1).astype(np.float64)
    if not taken.any() or not also.any():
        return 0.0
    own = (first & second).sum(axis=1)  # on these neurons a concept would meet itself
    met, expected = float(taken @ also - own.sum()), float(taken.sum() * also.sum()) / len(taken)
    if known is not None and len(known):
        a, b = known.T
        met -= float((first[:, a] & second[:, b]).sum())
        expected -= float(first.sum(axis=0)[a] @ second.sum(axis=0)[b]) / len(taken)
    return float(np.log(max(met / expected, 1.0))) if expected > 0 else 0.0


def log_odds_beyond(
    correlation: Float[np.ndarray, " pair"], threshold: float, *, two_sided_second: bool = False
) -> Float[np.ndarray, " pair"]:
    """Log odds ratio of {X > t} and {Y > t} (or |Y| > t) for a bivariate normal; 0 where it would be negative.

    Below 0 the geometry would lower the expected meetings; taking 0 instead only makes the test stricter.
    """
    one = float(norm.sf(threshold))
    both = _orthant(correlation, threshold)
    other = one
    if two_sided_second:
        both, other = both + _orthant(-correlation, threshold), 2.0 * one
    tiny = 1e-12 * one
    inside = np.clip(both, tiny, min(one, other) - tiny)
    odds = np.log(inside * (1.0 - one - other + inside)) - np.log((one - inside) * (other - inside))
    return np.maximum(odds, 0.0)


def _orthant(correlation: Float[np.ndarray, " pair"], threshold: float) -> Float[np.ndarray, " pair"]:
    """P(X > t, Y > t) for standard normals of some correlation, by Owen's T."""
    rho = np.clip(correlation, -1 + 1e-12, 1 - 1e-12)
    return norm.sf(threshold) - 2.0 * owens_t(threshold, np.sqrt((1.0 - rho) / (1.0 + rho)))
