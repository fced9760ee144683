"""Standardising against twins: how far a pair stands out from what random twins of the layer show for the same pair.

A twin is a random layer that sees the same inputs with the same pre-activation covariance. Pairs differ far more than
layers do, so each pair is standardised by its own twin values; with few twins the standard deviation is shrunk across
pairs (the moderated variance of limma, Smyth 2004). Every twin is standardised by all the others in turn and the layer
by equally many, which makes the layer exchangeable with its twins when it computes nothing. Removing what each concept
brings by itself is done by median polish: least squares lets the true pairs leak into their concepts' effects.
Axes: twin pair concept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, special

from probekit.evidence.robust import polish

MIN_TWINS = 4
"""Fewest twins that leave two to standardise by when one twin takes the layer's place and another is left out."""
PAIRS_PER_STRATUM = 500
MAX_STRATA = 4


def variance_prior(variance: Float[np.ndarray, " pair"], df: int) -> tuple[float, float]:
    """Prior degrees of freedom and prior variance of a scaled-F sample of variances (Smyth 2004, §6.2).

    Args:
        variance: sample variances, each with `df` degrees of freedom.
        df: their degrees of freedom.
    """
    positive = variance[variance > 0]
    if len(positive) < 3:
        return np.inf, float(positive.mean()) if len(positive) else 1.0
    logs = np.log(positive) - special.digamma(df / 2) + np.log(df / 2)
    excess = logs.var(ddof=1) - special.polygamma(1, df / 2)
    if excess <= 1e-6:  # prior degrees of freedom in the millions: all variances are one
        return np.inf, float(np.exp(logs.mean()))
    lowest, highest = 1e-3, 1e7
    aim = min(float(excess), 1e5)
    found: Any = optimize.brentq(lambda half: float(special.polygamma(1, half)) - aim, lowest, highest)
    prior = 2 * float(found)
    return prior, float(np.exp(logs.mean() + special.digamma(prior / 2) - np.log(prior / 2)))


def standardise(
    values: Float[np.ndarray, "item pair"], reference: Float[np.ndarray, "twin pair"]
) -> Float[np.ndarray, "item pair"]:
    """(value − reference mean) / moderated reference sd, pair by pair."""
    df = len(reference) - 1
    mean, variance = reference.mean(0), reference.var(0, ddof=1)
    prior_df, prior_variance = variance_prior(variance, df)
    if np.isinf(prior_df):
        moderated = np.full(len(variance), prior_variance)
    else:
        moderated = (prior_df * prior_variance + df * variance) / (prior_df + df)
    return (values - mean) / np.sqrt(moderated)


@dataclass(frozen=True)
class Standardised:
    """The layer's and the twins' standardised values."""

    layer: Float[np.ndarray, " pair"]
    """The layer, standardised by all but one twin: the mean over which one is left out."""
    twins: Float[np.ndarray, "twin pair"]
    """Each twin, standardised by the others."""


def leave_one_out(layer: Float[np.ndarray, " pair"], twins: Float[np.ndarray, "twin pair"]) -> Standardised:
    """Standardise the layer and every twin by equally many twins.

    Args:
        layer: asinh(d′/c) of the layer.
        twins: the same of at least three twins.
    """
    n_twins = len(twins)
    own: list[np.ndarray] = []
    theirs: list[np.ndarray] = []
    for left_out in range(n_twins):
        others = np.delete(twins, left_out, axis=0)
        pair_of_values = standardise(np.stack([layer, twins[left_out]]), others)
        own.append(pair_of_values[0])
        theirs.append(pair_of_values[1])
    return Standardised(np.mean(own, axis=0), np.stack(theirs))


def compress(
    layer: Float[np.ndarray, " pair"], twins: Float[np.ndarray, "twin pair"]
) -> tuple[Float[np.ndarray, " pair"], Float[np.ndarray, "twin pair"]]:
    """asinh(d′/c) with c the median |d′| over the twins: linear for weak, logarithmic for strong readouts."""
    scale = float(np.median(np.abs(twins)))
    scale = scale if scale > 0 else 1.0
    return np.arcsinh(layer / scale), np.arcsinh(twins / scale)


def median_polish(
    values: Float[np.ndarray, " pair"], pairs: Int[np.ndarray, "pair 2"], n_concepts: int
) -> Float[np.ndarray, " pair"]:
    """What is left of z_ij = level + a_i + a_j + rest when each concept's effect is its median (Tukey 1977).

    The rounds of medians start from the least-squares fit (rounds of means): alone they stop wherever half of a concept's
    pairs agree, which additive effects can bring about without being removed. A concept tested in one pair only takes
    all of that pair's value with it: such a pair can never be pair-specific.
    """
    # 30 rounds of each kind: the effects of sparse pair graphs settle to 1e-3 of a standard unit well before
    return polish(np.ascontiguousarray(values, float), pairs, n_concepts, 30, 1e-3)


def lower_half_mad(values: Float[np.ndarray, " pair"]) -> float:
    """Median distance below the median: a scale that real (upper-tail) finds do not inflate."""
    middle = np.median(values)
    below = middle - values[values < middle]
    return float(np.median(below)) if len(below) else 0.0


def pair_specific(z: Standardised, pairs: Int[np.ndarray, "pair 2"], n_concepts: int) -> Standardised:
    """The standardised values after concept effects are removed alike from the layer and from every twin.

    The layer's rest is divided by its lower-half MAD over the twins' (their median) where that ratio exceeds 1: a layer
    whose values are rough for reasons of single concepts must not look pair-specific.
    """
    layer = median_polish(z.layer, pairs, n_concepts)
    twins = np.stack([median_polish(twin, pairs, n_concepts) for twin in z.twins])
    usual = float(np.median([lower_half_mad(twin) for twin in twins]))
    ratio = lower_half_mad(layer) / usual if usual > 0 else 1.0
    return Standardised(layer / max(ratio, 1.0), twins)


def support_strata(n11: Int[np.ndarray, " pair"]) -> Int[np.ndarray, " pair"]:
    """Strata of similar support, of at least `PAIRS_PER_STRATUM` pairs, at most `MAX_STRATA`.

    Cut by rank, ties in the order of the pairs: many pairs of equal support would leave a stratum nearly empty, and a
    pair alone with its own twins could never be found.
    """
    n_strata = int(np.clip(len(n11) // PAIRS_PER_STRATUM, 1, MAX_STRATA))
    rank = np.empty(len(n11), np.int64)
    rank[np.argsort(n11, kind="stable")] = np.arange(len(n11))
    return rank * n_strata // max(len(n11), 1)


def pooled_p(z: Standardised, strata: Int[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
    """(b + 1)/(B + 1): b of the B leave-one-out twin values of the pair's stratum reach the layer's value."""
    p = np.ones(len(z.layer))
    for stratum in np.unique(strata):
        inside = strata == stratum
        null = np.sort(z.twins[:, inside].ravel())
        reached = len(null) - np.searchsorted(null, z.layer[inside], side="left")
        p[inside] = (reached + 1) / (len(null) + 1)
    return p
