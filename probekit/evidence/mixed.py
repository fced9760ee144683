"""Pair-specific values: what is left of a pair's value once all *other* pairs have predicted it from its two concepts.

A layer that reads single concepts well lifts all of their pairs. The model of the values over the graph of tested pairs is

    z_ij = μ + a_i + a_j + e_ij,   a ~ N(0, λσ²),   e ~ N(0, σ²),

and a pair is judged by its leave-one-out residual, (z − prediction from all other pairs)/sd of that prediction: with P
the projection V⁻¹ − V⁻¹1(1ᵀV⁻¹1)⁻¹1ᵀV⁻¹, the residual is (Pz)_ij/P_ij,ij and its variance σ²/P_ij,ij. A concept tested
in one pair only is predicted by μ with a wide error, instead of taking its pair's value with it. λ is chosen by
restricted maximum likelihood (Patterson & Thompson 1971). True finds lie in the upper tail and would inflate both λ and
their neighbours' predictions: a value more than `REACH` standard units above its prediction is replaced by that
prediction, so that it says nothing about its neighbours (first only pulled down to there, so that a concept which lifts
all of its pairs is not left out pair by pair), and σ is taken from the lower half of the residuals. Axes: pair
concept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

REACH = 2.0
"""Standard units above its prediction beyond which a value does not predict its neighbours."""
LEFT_OUT = 3.0
"""Standard units beyond which it is left out altogether: hardly a null pair lies there, whatever its concepts do."""
N_ROUNDS = 5
"""Rounds of pulling down, and as many of leaving out; they settle in three or four."""
RATIOS = np.geomspace(1e-3, 30.0, 25)
"""Ratios λ of the concepts' variance to the pairs' own that are compared; the likelihood is flat between neighbours."""
LOWER_MAD_TO_SD = 1 / 0.6745
"""Standard deviation of a normal distribution over its lower-half median absolute deviation."""


@dataclass(frozen=True)
class PairSpecific:
    """Leave-one-out residuals of one layer."""

    t: Float[np.ndarray, " pair"]
    """Residuals in units of their predicted standard deviation."""
    scale: float
    """σ, from the lower half of the residuals."""
    ratio: float
    """λ, variance of the concepts' effects over σ²."""


def lower_scale(values: Float[np.ndarray, " pair"]) -> float:
    """Standard deviation by the distances below the median: finds in the upper tail do not inflate it."""
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

    def residuals(self, values: Float[np.ndarray, " pair"], least_scale: float = 0.0) -> PairSpecific:
        """Leave-one-out residuals of one layer's values.

        Args:
            values: of each pair.
            least_scale: σ is not taken below it.
        """
        calm = values.copy()
        index, scale, standard = 0, 1.0, values
        for number in range(2 * N_ROUNDS):
            index = self.likeliest(calm)
            diagonal = np.maximum(self._diagonal[index], 1e-9)
            away = self.project(index, calm) / diagonal  # calm value − prediction of it by all others
            residual = values - (calm - away)
            standard = residual * np.sqrt(diagonal)
            scale = max(lower_scale(standard), least_scale)
            if scale <= 0:
                break
            # first pulled down, so that a concept that lifts all its pairs is learned; then left out
            pulled = np.minimum(values, calm - away + REACH * scale / np.sqrt(diagonal))
            left_out = (standard > LEFT_OUT * scale) & (number >= N_ROUNDS)
            calm = np.where(left_out, calm - away, pulled)
        return PairSpecific(
            standard / scale if scale > 0 else np.zeros_like(standard), scale, float(RATIOS[index])
        )
