"""What a readoff over a channel of boolean neurons should give in each pattern of its own concepts.

A channel neuron has pre-activation u + B + σZ: u = (own concepts on) − (order − 1), B ~ Bin(s', p) counts the
other active concepts it happens to read, and σZ is the noise of decoding superposed inputs (0 for
basis-aligned ones, where this is the sd √(s'(1−p)/(pn)) of a sparse universal AND). The readoff is the mean
over the channel; decoding noise that channel neurons share does not average out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
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

    @property
    def input_sd(self) -> float:
        """Decoding noise in a pre-activation, √(p·m·s/d): each of a neuron's reads has variance s/d."""
        if self.d_model is None:
            return 0.0
        return float(np.sqrt(self.density * self.n_concepts * self.n_active / self.d_model))


def inverse_of_binomial(n: int, p: float) -> float:
    """E[1/X | X ≥ 1] for X ~ Bin(n, p): channels that are intersections have random sizes."""
    sizes = np.arange(1, n + 1)
    weights = binom.pmf(sizes, n, p)
    return float((weights / sizes).sum() / weights.sum())


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
    level = n_on - (channel.order - 1) + hits
    own, shared_others, noise = 0.0, 0.0, 0.0
    if channel.d_model is not None:
        read = channel.n_active / channel.d_model
        # each own read has s (s − 1 if itself on) overlaps; the overlap of two concepts that are on enters
        # twice
        own = (channel.order * channel.n_active - n_on + n_on * (n_on - 1)) / channel.d_model
        noise = own + channel.density * channel.n_concepts * read
        shared_others = channel.density**2 * channel.n_concepts * read
    first, second, slope = _relu_moments(level.astype(np.float64), float(np.sqrt(noise)))
    mean = float(weights @ first)
    variance = float(weights @ second) - mean**2
    # neurons of one channel read the same own concepts, and a share p of their other concepts
    shared = float(weights @ slope) ** 2 * (own + shared_others)
    inverse = channel.inverse_size
    return mean, float(np.sqrt(inverse * variance + (1.0 - inverse) * shared))


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
