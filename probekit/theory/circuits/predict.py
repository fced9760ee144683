"""What a readoff over a channel of boolean neurons should give in each pattern of its own concepts.

A channel neuron has pre-activation u + B + σZ: u = (own concepts on) − (order − 1), B ~ Bin(s', p) counts the
other active concepts it happens to read, and σZ is the noise of decoding superposed inputs (0 for
basis-aligned ones, where this is the sd √(s'(1−p)/(pn)) of a sparse universal AND). The readoff is the mean
over the channel; decoding noise that channel neurons share does not average out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import binom, norm

from probekit.theory.circuits.circuit import patterns


@dataclass(frozen=True)
class Channel:
    """What the prediction needs to know of a construction."""

    order: int
    """Concepts of one output."""
    n_active: int
    """Concepts on in one input, s."""
    n_concepts: int
    """Concepts in all, m."""
    density: float
    """Probability p that a neuron reads a concept that is not its output's own."""
    inverse_size: float
    """Mean of 1/(neurons of a channel)."""
    d_model: int | None
    """Dimensions of the superposed inputs; None when basis-aligned."""
    noise_sd: float = 0.0
    """Noise in every decoded read besides that of the codes."""
    ramp: float | None = None
    """τ of ramp units; None for plain ReLU neurons at threshold order − 1."""
    density_variance: float = 0.0
    """Variance of p over concepts: a heavy concept reaches many neurons of a channel at once."""

    @property
    def read_variance(self) -> float:
        """Variance of one decoded read: s/d, and the noise given."""
        return (0.0 if self.d_model is None else self.n_active / self.d_model) + self.noise_sd**2

    @property
    def input_sd(self) -> float:
        """Decoding noise in a pre-activation: √(p·m) reads, each with its variance."""
        return float(np.sqrt(self.density * self.n_concepts * self.read_variance))


def inverse_of_binomial(n: int, p: float) -> float:
    """E[1/X | X ≥ 1] for X ~ Bin(n, p): channels that are intersections have random sizes."""
    sizes = np.arange(1, n + 1)
    weights = binom.pmf(sizes, n, p)
    return float((weights / sizes).sum() / weights.sum())


def foreign_density(
    route: Bool[np.ndarray, "neuron concept"],
    reads: Bool[np.ndarray, "output neuron"],
    pairs: Int[np.ndarray, "output order"],
    *,
    n_outputs: int = 200,
) -> tuple[float, float]:
    """Mean and variance over concepts of the share of an output's channel that reads a concept not its own.

    Taken over evenly spaced outputs. The variance is that of the underlying densities: what a channel of few
    neurons scatters by itself is subtracted.
    """
    sizes = reads.sum(axis=1)
    usable = np.flatnonzero(sizes >= 2)
    if not len(usable):
        return float(route.mean()), 0.0
    rows = usable[np.unique(np.linspace(0, len(usable) - 1, min(n_outputs, len(usable))).astype(np.int64))]
    shares = reads[rows].astype(np.float64) @ route.astype(np.float64) / sizes[rows][:, None]
    np.put_along_axis(shares, pairs[rows], np.nan, axis=1)
    within = shares * (1 - shares) / (sizes[rows][:, None] - 1)
    variance = np.nanmean(np.nanvar(shares, axis=1) - np.nanmean(within, axis=1))
    return float(np.nanmean(shares)), max(0.0, float(variance))


def channel_prediction(
    channel: Channel,
) -> tuple[Float[np.ndarray, " pattern"], Float[np.ndarray, " pattern"]]:
    """Mean and sd of the readoff in each pattern; NaN where more concepts are on than active."""
    settings = patterns(channel.order)
    means, sds = np.full(len(settings), np.nan), np.full(len(settings), np.nan)
    for i, setting in enumerate(settings):
        n_on = int(setting.sum())
        if n_on <= channel.n_active:
            means[i], sds[i] = _one_pattern(channel, n_on)
    return means, sds


def _one_pattern(channel: Channel, n_on: int) -> tuple[float, float]:
    n_others = channel.n_active - n_on
    hits = np.arange(n_others + 1)
    weights = binom.pmf(hits, n_others, channel.density)
    own = channel.order * channel.read_variance
    if channel.d_model is not None:
        # a concept that is on does not overlap with itself; the overlap of two that are on enters twice
        own += n_on * (n_on - 2) / channel.d_model
    others = channel.density * channel.n_concepts * channel.read_variance
    level, noise = (n_on + hits).astype(np.float64), float(np.sqrt(own + others))
    if channel.ramp is None:
        first, second, slope = _relu_moments(level - (channel.order - 1), noise)
        one_more, _, _ = _relu_moments(level - (channel.order - 1) + 1, noise)
    else:
        first, second, slope = _ramp_moments(level, noise, channel.ramp)
        one_more, _, _ = _ramp_moments(level + 1, noise, channel.ramp)
    mean = float(weights @ first)
    variance = float(weights @ second) - mean**2
    # neurons of one channel read the same own concepts, and a share p of their other concepts
    shared = float(weights @ slope) ** 2 * (own + channel.density * others)
    shared += float(weights @ (one_more - first)) ** 2 * n_others * channel.density_variance
    inverse = channel.inverse_size
    # rounding may leave a variance just below zero where a ramp is never left
    return mean, float(np.sqrt(max(0.0, inverse * variance + (1.0 - inverse) * shared)))


def _ramp_moments(
    level: Float[np.ndarray, " hit"], sd: float, ramp: float
) -> tuple[Float[np.ndarray, " hit"], Float[np.ndarray, " hit"], Float[np.ndarray, " hit"]]:
    """E g, E g² and E g' of g(x) = clip((x − ½ + τ)/2τ, 0, 1), from those of its two ReLUs."""
    low_1, low_2, low_on = _relu_moments((level - 0.5 + ramp) / (2 * ramp), sd / (2 * ramp))
    high_1, high_2, high_on = _relu_moments((level - 0.5 - ramp) / (2 * ramp), sd / (2 * ramp))
    # above the ramp the first ReLU is the second plus one, so g² = low² − high² − 2·high
    return low_1 - high_1, low_2 - high_2 - 2 * high_1, (low_on - high_on) / (2 * ramp)


def _relu_moments(
    level: Float[np.ndarray, " hit"], sd: float
) -> tuple[Float[np.ndarray, " hit"], Float[np.ndarray, " hit"], Float[np.ndarray, " hit"]]:
    """E relu(μ + σZ), E relu², and P(on)."""
    if sd == 0.0:
        on = np.maximum(level, 0.0)
        return on, on**2, (level > 0).astype(np.float64)
    z = level / sd
    on, density = norm.cdf(z), norm.pdf(z)
    return level * on + sd * density, (level**2 + sd**2) * on + level * sd * density, on
