"""A pair's readout with relays removed: what the neurons read along the pair's interaction directions is scrambled.

For a support neuron with pre-activation p(t) = w·x(t) + b, the pair's orthonormal interaction directions D (see
`probekit.probes.interaction`) and an orthogonal map T' that keeps mean and covariance of the inputs,

    p'(t) = p(t) + (w·D)·Dᵀ(T' − 1)(x(t) − μ)

reads along D what it would read there of the scrambled input T'(x − μ) + μ, at the same strength, and everything else as
before. An AND that merely lies in the input is gone from p'; one that the neurons make of A and B is not. The layer
and every null layer are treated alike, so what is left in them can be compared. In a gated layer both halves are treated.
T' flips the signs of the inputs' principal directions at random (as in the null layers); a few draws are averaged.

The neuron becomes h' = h + act(p') − act(p): h as the model computed it, changed by what the removal changes. Readouts are
refitted on h' and judged on other documents. Axes: pair entry scramble neuron direction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, no_type_check

import numba
import numpy as np
from jaxtyping import Float, Int

from probekit.probes.pairs import SIGNS, TokenSample
from probekit.probes.refit import BalancedMoments, Readouts
from probekit.probes.workers import one_blas_thread

SCRAMBLES = 3
"""Draws of the scrambled input that are averaged: a pair's value then hardly depends on the draw."""
CHUNK = 128
"""Entries handled at a time: their activations stay in the nearest cache."""
ACTIVATION_CODES = {"relu": 0, "relu2": 1, "gelu": 2, "gelu_tanh": 3, "silu": 4}
"""Numbers of the activations that the compiled code knows; those of `probekit.model.weights.ACTIVATIONS`."""


_FAST: dict[str, Any] = {"cache": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}


@numba.njit(inline="always", **_FAST)
@no_type_check
def _exp(x):  # pragma: no cover - compiled
    """exp in float32 to some 2e-7 of its value, without a call: the compiler makes vectors of it."""
    scaled = min(max(x, np.float32(-87)), np.float32(88)) * np.float32(1.4426950408889634)
    whole = math.floor(scaled + np.float32(0.5))
    f = np.float32(scaled - whole)
    # 2^f on [−½, ½], Chebyshev fit of degree 6: 3e-9 of the value before rounding
    value = np.float32(0.00015469732170458883)
    value = value * f + np.float32(0.0013400432653725147)
    value = value * f + np.float32(0.00961802527308464)
    value = value * f + np.float32(0.05550327152013779)
    value = value * f + np.float32(0.24022650718688965)
    value = value * f + np.float32(0.6931471824645996)
    value = value * f + np.float32(1)
    power = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
    return value * power


@numba.njit(inline="always", **_FAST)
@no_type_check
def _act(x, code):  # pragma: no cover - compiled
    if code == 0:
        return max(x, np.float32(0))
    if code == 1:
        held = max(x, np.float32(0))
        return held * held
    if code == 2:  # erf by Abramowitz & Stegun 7.1.26, to 1.5e-7
        z = abs(x) * np.float32(0.7071067811865476)
        t = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * z)
        series = np.float32(1.061405429)
        series = series * t + np.float32(-1.453152027)
        series = series * t + np.float32(1.421413741)
        series = series * t + np.float32(-0.284496736)
        series = series * t + np.float32(0.254829592)
        erf = np.float32(1) - series * t * _exp(-z * z)
        return np.float32(0.5) * (x + abs(x) * erf)
    if code == 3:
        inner = np.float32(1.5957691216057308) * (x + np.float32(0.044715) * x * x * x)
        return x / (np.float32(1) + _exp(-inner))
    return x / (np.float32(1) + _exp(-x))


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _moved(rotated, start, low, high, first, token, directions, signs, moved):  # pragma: no cover - compiled  # noqa: PLR0913
    n_scrambles, width = signs.shape
    n_directions = directions.shape[2]
    for p in numba.prange(len(directions)):
        if first[4 * p + 4] == first[4 * p]:
            continue
        change = np.empty((width, n_scrambles * n_directions), np.float32)
        for i in range(width):
            for j in range(n_scrambles):
                for c in range(n_directions):
                    change[i, j * n_directions + c] = (signs[j, i] - np.float32(1)) * directions[p, i, c]
        x = np.empty((CHUNK, width), np.float32)
        image = np.empty((CHUNK, n_scrambles * n_directions), np.float32)
        for g in range(4 * p, 4 * p + 4):
            for begin in range(low[g], high[g], CHUNK):
                n = min(CHUNK, high[g] - begin)
                for e in range(n):
                    x[e] = rotated[token[begin + e] - start]
                np.dot(x[:n], change, image[:n])
                at = first[g] + begin - low[g]
                for e in range(n):
                    for j in range(n_scrambles):
                        moved[n_scrambles * (at + e) + j] = image[
                            e, j * n_directions : (j + 1) * n_directions
                        ]


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _reads(weight, sign, support, directions, n_halves, reads):  # pragma: no cover - compiled
    k, n_neurons, width = support.shape[1], len(weight) // n_halves, weight.shape[1]
    for p in numba.prange(len(support)):
        line = np.empty(width, np.float32)
        for i in range(k):
            for half in range(n_halves):
                if support[p, i] < 0:
                    reads[p, :, half * k + i] = 0
                    continue
                for d in range(width):
                    line[d] = weight[half * n_neurons + support[p, i], d] * sign[d]
                for c in range(directions.shape[2]):
                    total = np.float32(0)
                    for d in range(width):
                        total += line[d] * directions[p, d, c]
                    reads[p, c, half * k + i] = total


@numba.njit(**_FAST)
@no_type_check
def _gather(  # noqa: PLR0913
    rows, pre, code, gated, tokens, start, column, n_held, middle, gate, linear, rest
):  # pragma: no cover - compiled
    """Pre-activations of some entries, and what of their neurons (less `middle`) the activation does not give."""
    n_neurons = rows.shape[1]
    for e in range(len(tokens)):
        t = tokens[e] - start
        for i in range(n_held):
            gate[e, i] = pre[t, column[i]]
            rest[e, i] = rows[t, column[i]] - middle[i]
        if gated:
            for i in range(n_held):
                linear[e, i] = pre[t, n_neurons + column[i]]
    for e in range(len(tokens)):
        for i in range(len(middle)):
            rest[e, i] -= _act(gate[e, i], code) * linear[e, i]


@numba.njit(**_FAST)
@no_type_check
def _changed(code, gated, gate, linear, rest, change, j, n_scrambles, n, out):  # pragma: no cover - compiled  # noqa: PLR0913
    """Neurons [entry, neuron] of n entries after the removal by scramble j."""
    k = gate.shape[1]
    for e in range(n):
        line = change[e * n_scrambles + j]
        if gated:
            for i in range(k):
                out[e, i] = rest[e, i] + _act(gate[e, i] + line[i], code) * (linear[e, i] + line[k + i])
        else:
            for i in range(k):
                out[e, i] = rest[e, i] + _act(gate[e, i] + line[i], code)


@numba.njit(parallel=True, **_FAST)
@no_type_check
def _removed_moments(  # noqa: PLR0913
    rows,
    pre,
    code,
    gated,
    shift,
    start,
    low,
    high,
    first,
    token,
    weight,
    support,
    reads,
    moved,
    n_scrambles,
    means,
    outer,
):  # pragma: no cover - compiled
    k = support.shape[1]
    for p in numba.prange(len(support)):
        column, middle = np.zeros(k, np.int64), np.zeros(k, np.float32)
        n_held = 0
        while n_held < k and support[p, n_held] >= 0:
            column[n_held] = support[p, n_held]
            middle[n_held] = shift[support[p, n_held]]
            n_held += 1
        gate, linear = np.zeros((CHUNK, k), np.float32), np.ones((CHUNK, k), np.float32)
        rest, x = np.zeros((CHUNK, k), np.float32), np.zeros((CHUNK, k), np.float32)
        change = np.zeros((n_scrambles * CHUNK, reads.shape[2]), np.float32)
        square, line = np.zeros((k, k), np.float32), np.zeros(k, np.float32)
        for q in range(4):
            g = 4 * p + q
            for begin in range(low[g], high[g], CHUNK):
                n = min(CHUNK, high[g] - begin)
                at = n_scrambles * (first[g] + begin - low[g])
                _gather(
                    rows,
                    pre,
                    code,
                    gated,
                    token[begin : begin + n],
                    start,
                    column,
                    n_held,
                    middle,
                    gate,
                    linear,
                    rest,
                )
                np.dot(moved[at : at + n_scrambles * n], reads[p], change[: n_scrambles * n])
                for j in range(n_scrambles):
                    _changed(code, gated, gate, linear, rest, change, j, n_scrambles, n, x)
                    line[:] = 0
                    for e in range(n):
                        for i in range(k):
                            line[i] += x[e, i]
                    np.dot(x[:n].T, x[:n], square)
                    for i in range(n_held):
                        means[j, p, q, i] += line[i]
                        for l in range(n_held):
                            outer[j, p, i, l] += weight[p, q] * square[i, l]


@numba.njit(parallel=True, **_FAST)
@no_type_check
def _removed_values(  # noqa: PLR0913
    rows, pre, code, gated, start, low, high, first, token, support, reads, moved, weights, offset, sums
):  # pragma: no cover - compiled
    n_scrambles, k = len(weights), support.shape[1]
    for p in numba.prange(len(support)):
        column, middle = np.zeros(k, np.int64), np.zeros(k, np.float32)
        n_held = 0
        while n_held < k and support[p, n_held] >= 0:
            column[n_held] = support[p, n_held]
            n_held += 1
        gate, linear = np.zeros((CHUNK, k), np.float32), np.ones((CHUNK, k), np.float32)
        rest, x = np.zeros((CHUNK, k), np.float32), np.zeros((CHUNK, k), np.float32)
        change = np.zeros((n_scrambles * CHUNK, reads.shape[2]), np.float32)
        for q in range(4):
            g = 4 * p + q
            for begin in range(low[g], high[g], CHUNK):
                n = min(CHUNK, high[g] - begin)
                at = n_scrambles * (first[g] + begin - low[g])
                _gather(
                    rows,
                    pre,
                    code,
                    gated,
                    token[begin : begin + n],
                    start,
                    column,
                    n_held,
                    middle,
                    gate,
                    linear,
                    rest,
                )
                np.dot(moved[at : at + n_scrambles * n], reads[p], change[: n_scrambles * n])
                for j in range(n_scrambles):
                    _changed(code, gated, gate, linear, rest, change, j, n_scrambles, n, x)
                    for e in range(n):
                        value = offset[j, p]
                        for i in range(k):
                            value += weights[j, p, i] * x[e, i]
                        sums[j, p, q, 0] += value
                        sums[j, p, q, 1] += value * value


@dataclass(frozen=True)
class TileChange:
    """What the scrambled inputs change along every pair's directions, for the sampled tokens of one tile."""

    low: Int[np.ndarray, " group"]
    """First entry of each group in the tile."""
    high: Int[np.ndarray, " group"]
    """Last-plus-one entry."""
    first: Int[np.ndarray, " groups_and_one"]
    """Where each group's entries begin in `moved`."""
    moved: Float[np.ndarray, "entry_scramble direction"]
    """Dᵀ(T' − 1)(x − μ); the scrambles of an entry follow one another."""


@dataclass(frozen=True)
class Removal:
    """What is removed for every pair: directions in the principal frame of the inputs, and the scrambles."""

    directions: Float[np.ndarray, "pair input direction"]
    """Orthonormal interaction directions in the frame; columns of zeros remove nothing."""
    signs: Float[np.ndarray, "scramble input"]
    """±1 along each principal direction."""

    def take(self, pairs: Int[np.ndarray, " chosen"]) -> Removal:
        """The same for some of the pairs."""
        return Removal(np.ascontiguousarray(self.directions[pairs]), self.signs)

    def change(
        self, rotated: Float[np.ndarray, "token input"], start: int, stop: int, sample: TokenSample
    ) -> TileChange:
        """What the scrambles change for the sampled tokens start … stop − 1.

        Args:
            rotated: inputs of the tile less their mean, in the frame, fp32.
            start: first token of the tile.
            stop: the token after its last.
            sample: tokens of every pair.
        """
        low, high = sample.between(start, stop)
        first = np.concatenate([[0], np.cumsum(high - low)])
        moved = np.empty((first[-1] * len(self.signs), self.directions.shape[2]), np.float32)
        with one_blas_thread:
            _moved(rotated, start, low, high, first, sample.token, self.directions, self.signs, moved)
        return TileChange(low, high, first, moved)

    def reads(
        self,
        weight: Float[np.ndarray, "half input"],
        sign: Float[np.ndarray, " input"],
        support: Int[np.ndarray, "pair k"],
        n_halves: int,
    ) -> Float[np.ndarray, "pair direction half_k"]:
        """How strongly each support neuron reads along each direction (gate first in a gated layer).

        Args:
            weight: the layer's weights in the frame.
            sign: the null layer's signs; ones for the layer itself.
            support: neurons of each pair; −1 where unused.
            n_halves: 2 in a gated layer, else 1.
        """
        reads = np.empty((len(support), self.directions.shape[2], n_halves * support.shape[1]), np.float32)
        _reads(weight, sign, support, self.directions, n_halves, reads)
        return reads


@dataclass(frozen=True)
class Rows:
    """One tile of one site: neurons and what they are made of, contiguous fp32."""

    neurons: Float[np.ndarray, "token neuron"]
    """Neurons."""
    pre: Float[np.ndarray, "token half"]
    """Their pre-activations, the gate's first."""
    activation: str
    """A key of ACTIVATION_CODES."""

    @property
    def gated(self) -> bool:
        """Whether the layer has a linear half."""
        return self.pre.shape[1] > self.neurons.shape[1]


class RemovedMoments:
    """Balanced moments of the fit half with relays removed, for every scramble."""

    def __init__(
        self,
        support: Int[np.ndarray, "pair k"],
        shift: Float[np.ndarray, " neuron"],
        reads: Float[np.ndarray, "pair direction half_k"],
        sample: TokenSample,
        n_scrambles: int,
    ) -> None:
        n_pairs, k = support.shape
        self._support, self._shift, self._reads, self._sample = support, shift, reads, sample
        self._weight = (0.25 / np.maximum(sample.n_sampled, 1)).astype(np.float32)
        self._means = np.zeros((n_scrambles, n_pairs, 4, k))
        self._outer = np.zeros((n_scrambles, n_pairs, k, k))

    def add_tile(self, rows: Rows, start: int, change: TileChange) -> None:
        """Add the sampled tokens of one tile."""
        with one_blas_thread:
            _removed_moments(
                rows.neurons, rows.pre, ACTIVATION_CODES[rows.activation], rows.gated, self._shift, start, change.low,
                change.high, change.first, self._sample.token, self._weight, self._support, self._reads, change.moved,
                len(self._means), self._means, self._outer,
            )  # fmt: skip

    def state(self) -> dict[str, np.ndarray]:
        """The sums as they stand between two tiles; not copied."""
        return {"means": self._means, "outer": self._outer}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state kept earlier, bit for bit."""
        for name, held in self.state().items():
            np.copyto(held, state[name], casting="no")

    def fit(self) -> list[Readouts]:
        """The quadrant-balanced readout of every scramble, fitted as that of the untouched neurons is."""
        return [
            BalancedMoments.of_sums(self._support, self._shift, self._sample, means, outer).fit(
                self._support.shape[1]
            )
            for means, outer in zip(self._means, self._outer, strict=True)
        ]


class RemovedSums:
    """What the refitted readouts do on the confirm half with relays removed."""

    def __init__(
        self, readouts: list[Readouts], reads: Float[np.ndarray, "pair direction half_k"], sample: TokenSample
    ) -> None:
        self._support = np.ascontiguousarray(readouts[0].neurons)
        self._weights = np.stack([r.weights for r in readouts]).astype(np.float32)
        self._offset = np.stack([r.offset for r in readouts]).astype(np.float32)
        self._reads, self._sample = reads, sample
        self._sums = np.zeros((len(readouts), sample.n_pairs, 4, 2))

    def add_tile(self, rows: Rows, start: int, change: TileChange) -> None:
        """Add the sampled tokens of one tile."""
        with one_blas_thread:
            _removed_values(
                rows.neurons, rows.pre, ACTIVATION_CODES[rows.activation], rows.gated, start, change.low, change.high,
                change.first, self._sample.token, self._support, self._reads, change.moved, self._weights, self._offset,
                self._sums,
            )  # fmt: skip

    def state(self) -> dict[str, np.ndarray]:
        """The sums as they stand between two tiles; not copied."""
        return {"sums": self._sums}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state kept earlier, bit for bit."""
        np.copyto(self._sums, state["sums"], casting="no")

    def d_prime(self) -> Float[np.ndarray, " pair"]:
        """d′ of every pair: κ over the pooled within-quadrant sd (natural weights), the mean over the scrambles."""
        n = np.maximum(self._sample.n_sampled, 1)[None, :, :]
        mean = self._sums[..., 0] / n
        variance = np.maximum(self._sums[..., 1] / n - mean**2, 0.0)
        natural = self._sample.n_natural / np.maximum(self._sample.n_natural.sum(1, keepdims=True), 1)
        pooled = np.sqrt((natural * variance).sum(2))
        kappa = mean @ SIGNS
        return np.where(pooled > 0, kappa / np.where(pooled > 0, pooled, 1.0), 0.0).mean(0)
