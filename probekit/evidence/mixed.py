"""Pair-specific values: what is left of a pair's value once all *other* pairs have predicted it from its two concepts.

A layer that reads single concepts well lifts all of their pairs. The model of the values over the graph of tested pairs is

    z_ij = μ + a_i + a_j + e_ij,   a ~ N(0, λσ²),   e ~ N(0, σ²),

and a pair is judged by its leave-one-out residual, (z − prediction from all other pairs)/sd of that prediction: with P
the projection V⁻¹ − V⁻¹1(1ᵀV⁻¹1)⁻¹1ᵀV⁻¹, the residual is (Pz)_ij/P_ij,ij and its variance σ²/P_ij,ij. A concept tested
in one pair only is predicted by μ with a wide error, instead of taking its pair's value with it. λ is chosen by
restricted maximum likelihood (Patterson & Thompson 1971).

True finds lie in the upper tail and would inflate λ, σ and their neighbours' predictions; in the planted layers of the
tests a concept has several. So the fit is robust upwards, in two stages (as She & Owen 2011 start a redescending fit
from a monotone one): first a value more than `REACH` standard units above its prediction is pulled down to there, which
fits nearly medians; from there a value more than `LEFT_OUT` *usual* standard units above its prediction is left out: it
is replaced by its prediction and has no part in σ. The unit here is the geometric mean of the layer's own σ and the
usual one of its null layers: finds hide in a scale that they have widened themselves, and a layer that is rough everywhere
has no finds. σ is taken from the lower half of the residuals that are kept.

Values are standardised by standard deviations that few null layers tell only roughly. That error multiplies a value, so a
pair that its concepts lift far scatters more than others: with `doubt` the relative error of those standard deviations,
the residual's variance is σ²/P_ij,ij + (doubt · prediction)². Axes: pair concept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

REACH = (2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.5)
"""Standard units above its prediction to which a value is pulled down, round by round of the first stage: large steps first,
so that a concept which lifts all of its pairs is learned in few rounds."""
LEFT_OUT = 2.5
"""Standard units above its prediction beyond which a value is left out in the second stage: 1 in 160 of the nulls."""
N_ROUNDS = 6
"""Rounds of the second stage; they settle in three or four."""
RATIOS = np.geomspace(1e-3, 30.0, 25)
"""Ratios λ of the concepts' variance to the pairs' own that are compared; the likelihood is flat between neighbours."""
LOWER_MAD_TO_SD = 1 / 0.6745
"""Standard deviation of a normal distribution over its lower-half median absolute deviation."""


@dataclass(frozen=True)
class Pulled:
    """One layer's values after the first stage."""

    values: Float[np.ndarray, " pair"]
    """As they were given."""
    calm: Float[np.ndarray, " pair"]
    """Pulled down to near their predictions where they lay above."""
    scale: float
    """σ, from the lower half of the residuals."""
    doubt: float
    """Relative error of the standard deviations that the values were standardised by."""


@dataclass(frozen=True)
class PairSpecific:
    """Leave-one-out residuals of one layer."""

    t: Float[np.ndarray, " pair"]
    """Residuals in units of their predicted standard deviation."""
    scale: float
    """σ, from the lower half of the residuals that are kept."""
    ratio: float
    """λ, variance of the concepts' effects over σ²."""


def lower_scale(values: Float[np.ndarray, " pair"]) -> float:
    """Standard deviation by the distances below the median: finds in the upper tail do not inflate it."""
    if not len(values):
        return 0.0
    middle = np.median(values)
    below = middle - values[values < middle]
    return float(np.median(below)) * LOWER_MAD_TO_SD if len(below) else 0.0


class PairGraph:
    """The tested pairs as a graph over concepts: everything about the model that does not depend on the values.

    Args:
        pairs: concept indices of each pair.
        n_concepts: concepts there are.
    """

    def __init__(self, pairs: Int[np.ndarray, "pair 2"], n_concepts: int) -> None:
        used = np.unique(pairs)
        place = np.zeros(n_concepts, np.int64)
        place[used] = np.arange(len(used))
        self.ends = place[pairs]
        self.n_pairs, n_used = len(pairs), len(used)
        gram = np.zeros((n_used, n_used))
        first, second = self.ends.T
        np.add.at(gram, (first, first), 1.0)
        np.add.at(gram, (second, second), 1.0)
        np.add.at(gram, (first, second), 1.0)
        np.add.at(gram, (second, first), 1.0)
        self.degrees, self.axes = np.linalg.eigh(gram)
        self.degrees = np.maximum(self.degrees, 0.0)
        # for every ratio: V⁻¹1, 1ᵀV⁻¹1, and the diagonal of P
        ones = np.ones(self.n_pairs)
        self._ones_by_axis = self.axes.T @ self.by_concept(ones)
        self._of_ones = [self.inverse_times(ratio, ones) for ratio in RATIOS]
        self._diagonal = [
            self._projection_diagonal(ratio, of) for ratio, of in zip(RATIOS, self._of_ones, strict=True)
        ]

    def by_concept(self, values: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " concept"]:
        """Sum of the values of each concept's pairs."""
        n_used = len(self.degrees)
        first, second = self.ends.T
        return np.bincount(first, values, n_used) + np.bincount(second, values, n_used)

    def inverse_times(self, ratio: float, values: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
        """V⁻¹ times the values, V = 1 + λZZᵀ, by Woodbury in the number of concepts."""
        inner = self.axes @ ((self.axes.T @ self.by_concept(values)) / (1 / ratio + self.degrees))
        return values - inner[self.ends].sum(1)

    def _projection_diagonal(self, ratio: float, of_ones: np.ndarray) -> Float[np.ndarray, " pair"]:
        inverse = (self.axes / (1 / ratio + self.degrees)) @ self.axes.T
        first, second = self.ends.T
        leverage = inverse[first, first] + inverse[second, second] + 2 * inverse[first, second]
        return 1 - leverage - of_ones**2 / of_ones.sum()

    def project(self, index: int, values: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
        """P times the values, at one of the `RATIOS`."""
        of_ones = self._of_ones[index]
        held = self.inverse_times(float(RATIOS[index]), values)
        return held - of_ones * (held.sum() / of_ones.sum())

    def likeliest(self, values: Float[np.ndarray, " pair"]) -> int:
        """Index of the ratio of largest restricted likelihood."""
        held = self.axes.T @ self.by_concept(values)
        shrunk = 1 / (1 / RATIOS[:, None] + self.degrees)
        square = values @ values - shrunk @ held**2
        level = values.sum() - shrunk @ (held * self._ones_by_axis)
        of_ones = np.array([of.sum() for of in self._of_ones])
        variance = np.maximum((square - level**2 / of_ones) / max(self.n_pairs - 1, 1), 1e-300)
        spread = np.log1p(RATIOS[:, None] * self.degrees).sum(1)
        return int(np.argmin((self.n_pairs - 1) * np.log(variance) + spread + np.log(of_ones)))

    def pulled(self, values: Float[np.ndarray, " pair"], doubt: float = 0.0) -> Pulled:
        """The first stage: values far above their prediction are pulled down towards it.

        Args:
            values: of each pair.
            doubt: relative error of the standard deviations that the values were standardised by.
        """
        calm, scale = values, 1.0
        for reach in REACH:
            fit = self._fit(calm, doubt, scale)
            scale = lower_scale(fit.residual(values))
            calm = np.minimum(values, fit.prediction + reach * scale * fit.unit)
        return Pulled(values, calm, scale, doubt)

    def residuals(self, start: Pulled, usual: float, least_scale: float = 0.0) -> PairSpecific:
        """The second stage, and the leave-one-out residuals.

        Args:
            start: one layer's values after the first stage.
            usual: σ of a usual layer, which decides with the layer's own what lies far above its prediction.
            least_scale: σ is not taken below it.
        """
        values, calm, scale = start.values, start.calm, start.scale
        standard, ratio = np.zeros_like(values), 0.0
        for _ in range(N_ROUNDS):
            fit = self._fit(calm, start.doubt, max(scale, least_scale))
            standard, ratio = fit.residual(values), fit.ratio
            kept = standard <= LEFT_OUT * np.sqrt(scale * usual)
            calm = np.where(kept, values, fit.prediction)
            scale = lower_scale(standard[kept])
        unit = max(scale, least_scale)
        return PairSpecific(standard / unit if unit > 0 else np.zeros_like(standard), unit, ratio)

    def _fit(self, calm: Float[np.ndarray, " pair"], doubt: float, scale: float) -> _Fit:
        index = self.likeliest(calm)
        diagonal = np.maximum(self._diagonal[index], 1e-9)
        prediction = calm - self.project(index, calm) / diagonal
        widened = (doubt * prediction / scale) ** 2 if scale > 0 else 0.0
        return _Fit(prediction, np.sqrt(1 / diagonal + widened), float(RATIOS[index]))


@dataclass(frozen=True)
class _Fit:
    """Predictions from the calm values of all other pairs."""

    prediction: Float[np.ndarray, " pair"]
    """Of each pair's value."""
    unit: Float[np.ndarray, " pair"]
    """Standard deviation of value − prediction, in units of σ."""
    ratio: float
    """λ."""

    def residual(self, values: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
        """What is left of the values, σ times a standard value."""
        return (values - self.prediction) / self.unit
