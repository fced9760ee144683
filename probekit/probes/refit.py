"""Quadrant-balanced refit of a readout on its support, and the dense readouts.

Rare positives would be crushed by a fit on the natural distribution, so the four quadrants weigh the same.
Among all readouts w·h + b with AND slope κ(w) = 1 on the fit half the refit takes the one with the least
balanced mean square error to A∧B: where the signal is weak this is the direction of best κ over noise, where
it is strong it also flattens the quadrants 10, 01 and 00, which is what ε asks for. Labels never enter the
readout.

Dense readouts (all neurons, or the whole input) come from the moments: ridge on the AND target with 1, A, B
partialled out, its strength chosen by the squared error on documents left out.
Axes: pair k neuron input quadrant fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int

from probekit.probes.moments import FrozenMoments, Moments
from probekit.probes.pairs import SIGNS, TokenSample
from probekit.probes.workers import one_blas_thread

JITTER = 1e-6
"""Ridge on the balanced covariance, relative to each neuron's own variance so that its unit does not matter: far
below the sampling error, enough for collinear neurons."""
SILENT = 1e-5
"""A neuron whose balanced variance is below this share of its square about the shift did not move on the sample:
what is left is the rounding of fp32 sums."""
RIDGE_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Dense ridge strengths, as multiples of the mean variance of a column."""
DEFAULT_RIDGE = 1e-2
"""The strength taken where no document folds were kept."""
CHUNK = 256
"""Entries gathered at a time: small enough for the nearest caches, long enough for a product."""


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
@no_type_check
def _support_moments(  # noqa: PLR0913
    columns, shift, start, low, high, token, weight, support, means, outer
):  # pragma: no cover - compiled
    for p in numba.prange(len(support)):
        k = 0
        while k < support.shape[1] and support[p, k] >= 0:
            k += 1
        x, ones = np.empty(k * CHUNK, np.float32), np.ones(CHUNK, np.float32)
        square, total = np.empty((k, k), np.float32), np.empty((k, k), np.float32)
        for q in range(4):
            last = high[4 * p + q]
            if last == low[4 * p + q]:
                continue
            total[:] = 0
            for first in range(low[4 * p + q], last, CHUNK):
                n = min(CHUNK, last - first)
                for i in range(k):
                    neuron, middle = columns[support[p, i]], shift[support[p, i]]
                    for e in range(n):
                        x[i * n + e] = neuron[np.uint64(token[first + e] - start)] - middle
                part = x[: k * n].reshape(k, n)
                means[p, q, :k] += np.dot(part, ones[:n])
                np.dot(part, part.T, square)
                total += square
            for i in range(k):
                for j in range(i + 1):
                    outer[p, i, j] += weight[p, q] * total[i, j]
                for j in range(i):
                    outer[p, j, i] += weight[p, q] * total[i, j]


@dataclass(frozen=True)
class Readouts:
    """One linear readout a pair: r(t) = Σ_k weights·h[neurons] + offset."""

    neurons: Int[np.ndarray, "pair k"]
    """Neurons used, in order of selection; −1 where unused."""
    weights: Float[np.ndarray, "pair k"]
    """Weights on the activations themselves; all 0 where no readout with κ = 1 exists."""
    offset: Float[np.ndarray, " pair"]
    """Constant added, chosen on the fit half."""


class BalancedMoments:
    """Streams the sampled tokens of the fit half into balanced moments on each pair's support."""

    def __init__(self, support: Int[np.ndarray, "pair k"], shift: torch.Tensor, sample: TokenSample) -> None:
        n_pairs, k = support.shape
        self.support = support
        self.sample = sample
        self._shift = shift.cpu().numpy()
        self._weight = (0.25 / np.maximum(sample.n_sampled, 1)).astype(np.float32)
        self._means = np.zeros((n_pairs, 4, k))
        self._outer = np.zeros((n_pairs, k, k))

    @classmethod
    def of_sums(
        cls,
        support: Int[np.ndarray, "pair k"],
        shift: Float[np.ndarray, " neuron"],
        sample: TokenSample,
        means: Float[np.ndarray, "pair quadrant k"],
        outer: Float[np.ndarray, "pair k k"],
    ) -> BalancedMoments:
        """Moments that were summed elsewhere: sums about the shift by quadrant, balanced sums of products."""
        moments = cls(support, torch.from_numpy(shift), sample)
        moments._means, moments._outer = means, outer
        return moments

    def add_tile(
        self, columns: Float[np.ndarray, "neuron token"], start: int, low: np.ndarray, high: np.ndarray
    ) -> None:
        """Add the sampled tokens of one tile; `TokenSample.between` gives low and high."""
        with one_blas_thread:
            _support_moments(
                columns, self._shift, start, low, high, self.sample.token, self._weight, self.support,
                self._means, self._outer,
            )  # fmt: skip

    def state(self) -> dict[str, np.ndarray]:
        """The sums as they stand between two tiles, to be kept and given to `restore`; not copied."""
        return {"means": self._means, "outer": self._outer}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state kept earlier, bit for bit."""
        for name, held in self.state().items():
            np.copyto(held, state[name], casting="no")

    def quadrant_means(self) -> Float[np.ndarray, "pair quadrant k"]:
        """Mean activation in each quadrant, less the shift."""
        return self._means / np.maximum(self.sample.n_sampled, 1)[:, :, None]

    def deviations(self) -> Float[np.ndarray, "pair k"]:
        """Balanced standard deviation of each neuron of the support; 0 for one that did not move."""
        square = np.einsum("pkk->pk", self._outer)
        variance = square - self.quadrant_means().mean(1) ** 2
        return np.sqrt(np.where(variance > SILENT * square, variance, 0.0))

    def fit(self, k: int) -> Readouts:
        """The readout on the first k neurons of each path."""
        k = min(k, self.support.shape[1])
        means, support = self.quadrant_means()[:, :, :k], self.support[:, :k]
        middle = means.mean(1)
        total = self._outer[:, :k, :k] - middle[:, :, None] * middle[:, None, :]
        contrast = np.einsum("q,pqk->pk", SIGNS, means)
        toward = 0.25 * (means[:, 0] - middle)
        diagonal = np.einsum("pkk->pk", total)
        moves = diagonal > SILENT * np.einsum("pkk->pk", self._outer)[:, :k]
        contrast, toward = np.where(moves, contrast, 0.0), np.where(moves, toward, 0.0)
        total *= moves[:, :, None] & moves[:, None, :]
        diagonal[...] = np.where(moves, (1 + JITTER) * diagonal, 1.0)
        both = np.linalg.solve(total, np.stack([toward, contrast], axis=2))
        slope = np.einsum("pk,pk->p", contrast, both[:, :, 1])
        fits = slope > 0
        missing = 1 - np.einsum("pk,pk->p", contrast, both[:, :, 0])
        pull = np.where(fits, missing / np.where(fits, slope, 1.0), 0.0)
        weights = np.where(fits[:, None], both[:, :, 0] + pull[:, None] * both[:, :, 1], 0.0)
        held = np.maximum(support, 0)
        offset = 0.25 - np.einsum("pk,pk->p", weights, middle + self._shift[held])
        return Readouts(support, weights, offset)

    def best_neuron(self, k: int) -> Readouts:
        """The single neuron of the first k with the largest κ over its balanced deviation on the fit half."""
        contrast = np.einsum("q,pqk->pk", SIGNS, self.quadrant_means()[:, :, :k])
        spread = self.deviations()[:, :k]
        score = np.abs(contrast) / np.where(spread > 0, spread, np.inf)
        best = score.argmax(1)[:, None]
        kappa = np.take_along_axis(contrast, best, 1)
        weights = np.where(np.take_along_axis(score, best, 1) > 0, 1 / np.where(kappa == 0, 1.0, kappa), 0.0)
        neurons = np.take_along_axis(self.support[:, :k], best, 1)
        middle = np.take_along_axis(self.quadrant_means().mean(1), best, 1)
        middle = middle + self._shift[np.maximum(neurons, 0)]
        return Readouts(neurons, weights, 0.25 - (weights * middle)[:, 0])


@dataclass(frozen=True)
class DenseReadouts:
    """Readouts over all columns: r(t) = weights·x + offset, scaled to κ = 1 on the fit half."""

    weights: Float[np.ndarray, "pair input"]
    """Weights on the columns themselves."""
    offset: Float[np.ndarray, " pair"]
    """Constant added, chosen on the fit half."""
    ridge: Float[np.ndarray, " pair"]
    """Chosen strength, as a multiple of the mean column variance."""


def _residual_targets(moments: FrozenMoments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cross-moments of the AND target and the two partialled directions, each [pair, column]."""
    a_unit, b_unit, b_on_a, y_on_a, y_on_b = (c[:, None] for c in moments.partialled())
    s_a, s_b = moments.concept_sums[moments.pairs[:, 0]], moments.concept_sums[moments.pairs[:, 1]]
    v1, v2 = s_a * a_unit, (s_b - b_on_a * s_a) * b_unit
    return moments.pair_sums - y_on_a * v1 - y_on_b * v2, v1, v2


def _ridge_weights(moments: FrozenMoments, strengths: tuple[float, ...]) -> list[np.ndarray]:
    """Ridge weights [pair, column] for each strength; A and B are taken out by Woodbury, not pair by pair."""
    target, v1, v2 = _residual_targets(moments)
    values, vectors = np.linalg.eigh(moments.gram)
    # squares of fp32 activations are 0 or above 1e-90; a smaller floor has an infinite inverse where all are silent
    mean_variance = max(np.trace(moments.gram) / len(values), 1e-150)
    rotated = [part @ vectors for part in (target, v1, v2)]
    weights: list[np.ndarray] = []
    for strength in strengths:
        inverse = 1.0 / (np.maximum(values, 0.0) + strength * mean_variance)
        t, u1, u2 = (part * inverse for part in rotated)
        # (G − V Vᵀ + λ)⁻¹ y with V = [v1 v2]: correct by the 2 × 2 system (I − Vᵀ G_λ⁻¹ V)
        s11, s12, s22 = ((rotated[i] * u).sum(1) for i, u in ((1, u1), (1, u2), (2, u2)))
        b1, b2 = (rotated[1] * t).sum(1), (rotated[2] * t).sum(1)
        m11, m22 = 1.0 - s11, 1.0 - s22
        determinant = m11 * m22 - s12 * s12
        determinant = np.where(np.abs(determinant) < 1e-12, np.inf, determinant)
        c1, c2 = (m22 * b1 + s12 * b2) / determinant, (s12 * b1 + m11 * b2) / determinant
        weights.append((t + c1[:, None] * u1 + c2[:, None] * u2) @ vectors.T)
    return weights


def quadrant_means(moments: FrozenMoments) -> Float[np.ndarray, "pair quadrant neuron"]:
    """Mean of each column in each quadrant, about the overall mean, from the sums alone."""
    both = moments.pair_sums
    s_a, s_b = moments.concept_sums[moments.pairs[:, 0]], moments.concept_sums[moments.pairs[:, 1]]
    n = moments.n_quadrant()
    sums = np.stack([both, s_a - both, s_b - both, both - s_a - s_b], axis=1)
    return sums / np.maximum(n, 1)[:, :, None]


def dense_readouts(moments: Moments, strengths: tuple[float, ...] = RIDGE_GRID) -> DenseReadouts:
    """Ridge readouts of every pair over all columns, strength chosen pair by pair on left-out document folds.

    A pair with an empty quadrant gets weights 0.
    """
    n_pairs = len(moments.pairs)
    error = np.zeros((len(strengths), n_pairs))
    if moments.n_folds > 1:
        for fold in range(moments.n_folds):
            held_out = np.arange(moments.n_folds) == fold
            test = moments.finalize(held_out)
            target, v1, v2 = _residual_targets(test)
            for row, w in enumerate(_ridge_weights(moments.finalize(~held_out), strengths)):
                fitted = ((w @ test.gram) * w).sum(1) - (w * v1).sum(1) ** 2 - (w * v2).sum(1) ** 2
                error[row] += fitted - 2 * (w * target).sum(1)
    else:
        error[[strength != DEFAULT_RIDGE for strength in strengths]] = np.inf
    best = np.argmin(error, axis=0)
    whole = moments.finalize()
    candidates = np.stack(_ridge_weights(whole, strengths))
    weights = candidates[best, np.arange(n_pairs)]
    means = quadrant_means(whole)
    kappa = np.einsum("q,pqn,pn->p", SIGNS, means, weights)
    fits = (kappa > 0) & whole.has_interaction()
    weights = np.where(fits[:, None], weights / np.where(fits, kappa, 1.0)[:, None], 0.0)
    middle = means.mean(1) + whole.mean
    return DenseReadouts(weights, 0.25 - (weights * middle).sum(1), np.array(strengths)[best])
