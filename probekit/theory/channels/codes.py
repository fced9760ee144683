"""Concept columns and their ternary codes, with thresholds that random codes of the same covariance set.

Column a of a layer is C_a = W·φ_a, what concept a adds to every pre-activation; in feature channel coding (Adler, Alistarh
& Shavit, arXiv 2504.08842) its signs are the concept's code. How large an entry must be to be one is decided by *twins
of the codes*: the directions are turned at random within bands of the principal axes of their own covariance (or of a
covariance given), which keeps every norm and that covariance. Over such turns an entry has mean 0 and variance
Σ_g ‖P_g w_i‖²‖P_g φ_a‖²/k_g, two columns correlate by their geometry alone, and nothing the layer learned is left.
Axes: neuron, input, concept, band.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Int8
from scipy.stats import norm

from probekit.errors import DegenerateError

BAND_RATIO = 2.0
"""Principal variances within this factor of each other form one band: the covariance is kept to that factor."""
_NO_VARIANCE = 1e-10
"""Axes with less than this share of the largest variance hold nothing of the codes."""


@dataclass(frozen=True, eq=False)
class CodeFrame:
    """Directions of concepts with the principal axes that their twins are turned in."""

    directions: Float[np.ndarray, "input concept"]
    """φ, one column a concept."""
    axes: Float[np.ndarray, "input axis"]
    """Principal axes, largest variance first; only those with any."""
    band: Int[np.ndarray, " axis"]
    """Band of each axis."""

    @classmethod
    def of(
        cls,
        directions: Float[np.ndarray, "input concept"],
        covariance: Float[np.ndarray, "input input"] | None = None,
        *,
        ratio: float = BAND_RATIO,
    ) -> CodeFrame:
        """The frame of some directions, in the axes of their own second moments or of a covariance given.

        Args:
            directions: φ, one column a concept.
            covariance: whose axes are taken.
            ratio: variances within this factor of each other form one band; near 1, only equal ones do.

        Raises:
            DegenerateError: the directions are all zero.
        """
        moments = directions @ directions.T / directions.shape[1] if covariance is None else covariance
        variance, axes = np.linalg.eigh((moments + moments.T) / 2)
        variance, axes = variance[::-1], axes[:, ::-1]
        held = variance > _NO_VARIANCE * max(variance[0], 0.0)
        if not held.any() or not np.abs(directions).max() > 0:
            raise DegenerateError(
                "directions: all zero, so no concept is read anywhere. Give directions of concepts."
            )
        return cls(directions, axes[:, held], _bands(variance[held], ratio))

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return int(self.band[-1]) + 1

    @cached_property
    def in_axes(self) -> Float[np.ndarray, "axis concept"]:
        """The directions in the axes."""
        return self.axes.T @ self.directions

    @cached_property
    def sizes(self) -> Int[np.ndarray, " band"]:
        """Axes of each band."""
        return np.bincount(self.band)

    def power(self, rows: Float[np.ndarray, "axis column"]) -> Float[np.ndarray, "band column"]:
        """Squared length of each column in each band."""
        found = np.zeros((self.n_bands, rows.shape[1]))
        np.add.at(found, self.band, rows**2)
        return found

    def twin(self, rng: np.random.Generator) -> CodeFrame:
        """The same concepts with their codes turned at random within every band."""
        turned = np.empty_like(self.in_axes)
        for band in range(self.n_bands):
            mine = self.band == band
            turned[mine] = _rotation(rng, int(mine.sum())) @ self.in_axes[mine]
        return CodeFrame(self.axes @ turned, self.axes, self.band)


@dataclass(frozen=True, eq=False)
class Columns:
    """What every concept adds to every pre-activation, in units of what a random code would."""

    values: Float[np.ndarray, "neuron concept"]
    """C = W·φ."""
    scores: Float[np.ndarray, "neuron concept"]
    """C over the standard deviation of its twins; 0 where that is 0."""
    correlation: Float[np.ndarray, "concept concept"]
    """Correlation of two columns over the twins: what their geometry gives by itself."""

    @classmethod
    def of(
        cls,
        rows: Float[np.ndarray, "neuron input"],
        frame: CodeFrame,
        unit: Float[np.ndarray, "neuron input"] | None = None,
    ) -> Columns:
        """Columns of a layer's rows in a frame.

        Args:
            rows: what the neurons read.
            frame: the directions.
            unit: the rows in whose units scores are, where `rows` are what is left of them; the rows themselves by default.
        """
        whole = (rows if unit is None else unit) @ frame.axes
        power = frame.power(whole.T) / frame.sizes[:, None]
        values = rows @ frame.axes @ frame.in_axes
        spread = np.sqrt(power.T @ frame.power(frame.in_axes))
        # an entry below rounding of its row and column is no reading
        floor = 1e-12 * max(float(spread.max()), np.finfo(float).tiny)
        scores = np.where(spread > floor, values / np.maximum(spread, floor), 0.0)
        weight = power.sum(axis=1)[frame.band]
        moments = (frame.in_axes * weight[:, None]).T @ frame.in_axes
        size = np.sqrt(np.maximum(np.diag(moments), np.finfo(float).tiny))
        return cls(values, scores, np.clip(moments / size[:, None] / size, -1.0, 1.0))


def ternary(scores: Float[np.ndarray, "neuron concept"], level: float) -> Int8[np.ndarray, "neuron concept"]:
    """+1, −1 or 0: entries beyond what a random code reaches with chance `level` on either side."""
    return (np.sign(scores) * (np.abs(scores) >= threshold(level))).astype(np.int8)


def threshold(level: float) -> float:
    """Standard deviations that a random code exceeds with chance `level`."""
    return float(norm.isf(level))


def _bands(variance: Float[np.ndarray, " axis"], ratio: float) -> Int[np.ndarray, " axis"]:
    """Consecutive axes whose variance is within a factor of their band's first."""
    band = np.zeros(len(variance), dtype=np.int64)
    first = 0
    for i in range(1, len(variance)):
        if variance[i] * ratio < variance[first]:
            first = i
            band[i] = band[i - 1] + 1
        else:
            band[i] = band[i - 1]
    return band


def _rotation(rng: np.random.Generator, size: int) -> Float[np.ndarray, "axis axis"]:
    """A random rotation, uniform over all (a random sign for a single axis)."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)
