"""Standardising against twins: how far a pair stands out from what random twins of the layer show for the same pair.

A twin is a random layer that sees the same inputs with the same pre-activation covariance. Pairs differ far more than
layers do, so each pair is standardised by its own twin values; with few twins the standard deviation is shrunk across
pairs (the moderated variance of limma, Smyth 2004). Every twin is standardised by all the others in turn and the layer
by equally many, which makes the layer exchangeable with its twins when it computes nothing. What each concept brings by
itself is taken out by leave-one-out prediction (`probekit.evidence.mixed`).
Axes: twin pair concept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, special, stats

from probekit.evidence.mixed import PairGraph

MIN_TWINS_LEAVE_ONE_OUT = 4
"""Fewest twins that leave two to standardise by when one twin takes the layer's place and another is left out."""
MIN_PAIRS_SCALED = 30
"""Fewest pairs from which the scatter's dependence on support is fitted."""
TAIL_SHARE = 0.03
"""Share of the pooled twin values that makes up the fitted tail."""
MOST_HEAVY = 0.9
"""Largest shape of the tail: beyond it the fitted distribution has no mean."""
MIN_TAIL = 30
"""Fewest values a tail is fitted to."""


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


@dataclass(frozen=True)
class Moderated:
    """Mean and moderated standard deviation of the twins' values, pair by pair."""

    mean: Float[np.ndarray, " pair"]
    """Of the twins."""
    sd: Float[np.ndarray, " pair"]
    """Shrunk towards that of all pairs (limma, Smyth 2004)."""
    df: float
    """Degrees of freedom of the standard deviation, those of the prior among them; infinite where all pairs share one."""

    @classmethod
    def of(cls, reference: Float[np.ndarray, "twin pair"]) -> Moderated:
        """From the twins' values."""
        df = len(reference) - 1
        mean, variance = reference.mean(0), reference.var(0, ddof=1)
        prior_df, prior_variance = variance_prior(variance, df)
        if np.isinf(prior_df):
            return cls(mean, np.full(len(variance), np.sqrt(prior_variance)), np.inf)
        moderated = (prior_df * prior_variance + df * variance) / (prior_df + df)
        return cls(mean, np.sqrt(moderated), prior_df + df)

    @property
    def doubt(self) -> float:
        """Relative standard error of the standard deviations: 1/√(2 df), that of a χ² root."""
        return 1 / np.sqrt(2 * self.df)

    def standardise(self, values: Float[np.ndarray, "*item pair"]) -> Float[np.ndarray, "*item pair"]:
        """(value − mean) / sd, pair by pair."""
        return (values - self.mean) / self.sd


@dataclass(frozen=True)
class Standardised:
    """The layer's and the twins' standardised values."""

    layer: Float[np.ndarray, " pair"]
    """The layer, standardised by all but one twin: the mean over which one is left out."""
    twins: Float[np.ndarray, "twin pair"]
    """Each twin, standardised by the others."""
    doubt: float = 0.0
    """Relative error of the standard deviations: what lifts a value far multiplies that error."""


def leave_one_out(layer: Float[np.ndarray, " pair"], twins: Float[np.ndarray, "twin pair"]) -> Standardised:
    """Standardise the layer and every twin by equally many twins.

    Args:
        layer: asinh(d′/c) of the layer.
        twins: the same of at least three twins.
    """
    references = [Moderated.of(np.delete(twins, left_out, axis=0)) for left_out in range(len(twins))]
    own = [reference.standardise(layer) for reference in references]
    theirs = [reference.standardise(twin) for reference, twin in zip(references, twins, strict=True)]
    doubt = float(np.sqrt(np.mean([reference.doubt**2 for reference in references])))
    return Standardised(np.mean(own, axis=0), np.stack(theirs), doubt)


def compress(
    layer: Float[np.ndarray, " pair"], twins: Float[np.ndarray, "twin pair"]
) -> tuple[Float[np.ndarray, " pair"], Float[np.ndarray, "twin pair"]]:
    """asinh(d′/c) with c the median |d′| over the twins: linear for weak, logarithmic for strong readouts."""
    scale = float(np.median(np.abs(twins)))
    scale = scale if scale > 0 else 1.0
    return np.arcsinh(layer / scale), np.arcsinh(twins / scale)


def pair_specific(z: Standardised, graph: PairGraph) -> Standardised:
    """Leave-one-out residuals of the standardised values: what a pair shows beyond its two concepts.

    The layer's residuals are measured in units that are never below the twins' usual one: a layer whose values are smooth
    must not look pair-specific.
    """
    starts = [graph.pulled(twin, z.doubt) for twin in z.twins]
    usual = float(np.median([start.scale for start in starts]))
    twins = [graph.residuals(start, usual) for start in starts]
    least = float(np.median([one.scale for one in twins]))
    layer = graph.residuals(graph.pulled(z.layer, z.doubt), usual, least)
    return Standardised(layer.t, np.stack([one.t for one in twins]))


def support_scale(
    twins: Float[np.ndarray, "twin pair"], n11: Int[np.ndarray, " pair"]
) -> Float[np.ndarray, " pair"]:
    """How the twins' values scatter with the tokens of quadrant 11: a power of n11, fitted to all pairs.

    One stratum of all pairs can then serve as everyone's null, where strata of like support would each be small.
    """
    spread = np.sqrt((twins**2).mean(0))
    usable = spread > 0
    support = np.log(np.maximum(n11, 1).astype(float))
    if usable.sum() < MIN_PAIRS_SCALED or np.ptp(support[usable]) == 0:
        return np.ones(len(n11))
    slope = np.polyfit(support[usable], np.log(spread[usable]), 1)[0]
    return np.exp(slope * (support - support[usable].mean()))


def pooled_p(z: Standardised, n11: Int[np.ndarray, " pair"], tail: bool = True) -> Float[np.ndarray, " pair"]:
    """One-sided p-value of each pair against the pooled leave-one-out values of all twins and pairs.

    (b + 1)/(B + 1) with b the number of the B pooled values that reach the pair's; beyond all of them, where that is the
    floor 1/(B + 1), a generalised Pareto distribution fitted to the uppermost `TAIL_SHARE` of them by probability-weighted
    moments (Hosking & Wallis 1987; for permutation p-values Knijnenburg et al. 2009), so that a pair far beyond every twin
    is not held up by how many twins there are. The shape is not taken below 0 (no upper end is claimed that the twins did
    not show), and one standard error is added to it: where the tail is extrapolated, p errs upwards.

    Args:
        z: standardised values, or their pair-specific residuals.
        n11: tokens of quadrant 11; the scatter's dependence on it is taken out.
        tail: False leaves the counts as they are.
    """
    scale = support_scale(z.twins, n11)
    layer, null = z.layer / scale, np.sort((z.twins / scale).ravel())
    reached = len(null) - np.searchsorted(null, layer, side="left")
    p = (reached + 1) / (len(null) + 1)
    n_tail = int(TAIL_SHARE * len(null))
    if not tail or n_tail < MIN_TAIL:
        return p
    threshold = null[-n_tail - 1]
    excess = null[-n_tail:] - threshold
    mean = excess.mean()
    if mean <= 0:
        return p
    first = (np.arange(n_tail) / (n_tail - 1) * excess).mean()
    # with α₁ = E[X(1 − F)] = mean − first: shape and scale of Hosking & Wallis, in the sign where a heavy tail is positive
    heavy = max(2 - mean / (mean - 2 * (mean - first)), 0.0)
    heavy = min(heavy + (1 + heavy) / np.sqrt(n_tail), MOST_HEAVY)
    size = mean * (1 - heavy)
    beyond = reached == 0
    share = n_tail / len(null)
    fitted = share * stats.genpareto.sf(layer[beyond] - threshold, heavy, scale=size)
    p[beyond] = np.clip(fitted, np.finfo(float).tiny, p[beyond])
    return p
