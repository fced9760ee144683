"""A pair's readout with relays removed: what the neurons read along the pair's interaction directions is scrambled.

For a support neuron with pre-activation p(t) = w·x(t) + b, the pair's orthonormal interaction directions D (see
`probekit.probes.interaction`) and an orthogonal map T' that keeps mean and covariance of the inputs,

    p'(t) = p(t) + (w·D)·Dᵀ(T' − 1)(x(t) − μ)

reads along D what it would read there of the scrambled input T'(x − μ) + μ, at the same strength, and everything else as
before. An AND that merely lies in the input is gone from p'; one that the neurons make of A and B is not. The layer
and every null layer are treated alike, so what is left in them can be compared. In a gated layer both halves are treated.
T' flips the signs of the inputs' principal directions at random (as in the null layers); a few draws are averaged.

The neuron becomes h' = h + act(p') − act(p): h as the model computed it, changed by what the removal changes. Readouts are
refitted on h' and judged on other documents. Axes: pair entry scramble neuron direction side
(the gate, and in a gated layer the linear half).
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


@numba.njit(parallel=True, **_FAST)
@no_type_check
def _moved(rotated, start, low, high, first, token, directions, signs, moved):  # pragma: no cover - compiled  # noqa: PLR0913
    n_scrambles, width = signs.shape
    n_directions = directions.shape[2]
    n_rows = n_scrambles * n_directions
    for p in numba.prange(len(directions)):
        if first[4 * p + 4] == first[4 * p]:
            continue
        change = np.empty((n_rows, width), np.float32)
        for j in range(n_scrambles):
            for c in range(n_directions):
                for i in range(width):
                    change[j * n_directions + c, i] = (signs[j, i] - np.float32(1)) * directions[p, i, c]
        x = np.empty((CHUNK, width), np.float32)
        for g in range(4 * p, 4 * p + 4):
            for begin in range(low[g], high[g], CHUNK):
                n = min(CHUNK, high[g] - begin)
                for e in range(n):
                    x[e] = rotated[token[begin + e] - start]
                at = first[g] + begin - low[g]
                np.dot(change, x[:n].T, moved[n_rows * at : n_rows * (at + n)].reshape(n_rows, n))


@numba.njit(parallel=True, **_FAST)
@no_type_check
def _reads(weight, sign, support, directions, n_halves, reads):  # pragma: no cover - compiled
    k, n_neurons, width = support.shape[1], len(weight) // n_halves, weight.shape[1]
    for p in numba.prange(len(support)):
        lines = np.zeros((k, width), np.float32)
        for half in range(n_halves):
            for i in range(k):
                if support[p, i] < 0:
                    lines[i] = 0
                    continue
                row = weight[half * n_neurons + support[p, i]]
                for d in range(width):
                    lines[i, d] = row[d] * sign[d]
            reads[p, half] = np.dot(lines, directions[p])


@numba.njit(**_FAST)
@no_type_check
def _gather(  # noqa: PLR0913
    columns, pre, code, gated, tokens, start, held, middle, gate, linear, rest
):  # pragma: no cover - compiled
    """Pre-activations of some entries, and what of their neurons (less `middle`) the activation does not give."""
    n, n_neurons = len(tokens), len(columns)
    for i in range(len(held)):
        neuron, before = columns[held[i]], pre[held[i]]
        for e in range(n):
            t = tokens[e] - start
            gate[i * n + e] = before[t]
            rest[i * n + e] = neuron[t] - middle[i]
        if gated:
            before = pre[n_neurons + held[i]]
            for e in range(n):
                linear[i * n + e] = before[tokens[e] - start]
    # one long loop: the compiler makes vectors of it
    if gated:
        for i in range(len(held) * n):
            rest[i] -= _act(gate[i], code) * linear[i]
    else:
        for i in range(len(held) * n):
            rest[i] -= _act(gate[i], code)


@numba.njit(**_FAST)
@no_type_check
def _changed(code, gated, gate, linear, rest, on_gate, on_linear, out):  # pragma: no cover - compiled
    """Neurons of some entries after the removal by one scramble."""
    if gated:
        for i in range(len(out)):
            out[i] = rest[i] + _act(gate[i] + on_gate[i], code) * (linear[i] + on_linear[i])
    else:
        for i in range(len(out)):
            out[i] = rest[i] + _act(gate[i] + on_gate[i], code)


@numba.njit(**_FAST)
@no_type_check
def _without_relay(  # noqa: PLR0913
    columns, pre, code, gated, tokens, start, held, middle, reads, moved, room, x
):  # pragma: no cover - compiled
    """Neurons (less `middle`) of a chunk of entries with the relay removed: for every scramble [neuron entry] into x."""
    k, n, n_directions = len(held), len(tokens), reads.shape[2]
    gate, linear, rest, on_gate, on_linear = room[0], room[1], room[2], room[3], room[4]
    _gather(columns, pre, code, gated, tokens, start, held, middle, gate, linear, rest)
    for j in range(len(x)):
        along = moved[n_directions * j * n : n_directions * (j + 1) * n].reshape(n_directions, n)
        np.dot(reads[0, :k], along, on_gate[: k * n].reshape(k, n))
        if gated:
            np.dot(reads[1, :k], along, on_linear[: k * n].reshape(k, n))
        _changed(code, gated, gate, linear, rest, on_gate, on_linear, x[j, : k * n])


@numba.njit(**_FAST)
@no_type_check
def _held(support):  # pragma: no cover - compiled
    """The neurons of a support, unsigned: a signed index is looked at for being negative each time."""
    n = 0
    while n < len(support) and support[n] >= 0:
        n += 1
    return support[:n].astype(np.uint64)


@numba.njit(parallel=True, **_FAST)
@no_type_check
def _removed_moments(  # noqa: PLR0913
    columns,
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
    means,
    outer,
):  # pragma: no cover - compiled
    n_scrambles, n_moved = len(means), len(means) * reads.shape[3]
    for p in numba.prange(len(support)):
        held = _held(support[p])
        k, middle = len(held), shift[held]
        room, x = np.empty((5, CHUNK * k), np.float32), np.empty((n_scrambles, CHUNK * k), np.float32)
        square = np.empty((k, k), np.float32)
        for q in range(4):
            g = 4 * p + q
            for begin in range(low[g], high[g], CHUNK):
                tokens = token[begin : min(begin + CHUNK, high[g])]
                n, at = len(tokens), n_moved * (first[g] + begin - low[g])
                _without_relay(
                    columns, pre, code, gated, tokens, start, held, middle, reads[p], moved[at : at + n_moved * n], room, x
                )  # fmt: skip
                for j in range(n_scrambles):
                    of_neuron = x[j, : k * n].reshape(k, n)
                    np.dot(of_neuron, of_neuron.T, square)
                    for i in range(k):
                        total = np.float32(0)
                        for e in range(n):
                            total += of_neuron[i, e]
                        means[j, p, q, i] += total
                        for l in range(k):
                            outer[j, p, i, l] += weight[p, q] * square[i, l]


@numba.njit(parallel=True, **_FAST)
@no_type_check
def _removed_values(  # noqa: PLR0913
    columns, pre, code, gated, start, low, high, first, token, support, reads, moved, weights, offset, sums
):  # pragma: no cover - compiled
    n_scrambles, n_moved = len(weights), len(weights) * reads.shape[3]
    for p in numba.prange(len(support)):
        held = _held(support[p])
        k, middle, values = len(held), np.zeros(len(held), np.float32), np.empty(CHUNK, np.float32)
        room, x = np.empty((5, CHUNK * k), np.float32), np.empty((n_scrambles, CHUNK * k), np.float32)
        for q in range(4):
            g = 4 * p + q
            for begin in range(low[g], high[g], CHUNK):
                tokens = token[begin : min(begin + CHUNK, high[g])]
                n, at = len(tokens), n_moved * (first[g] + begin - low[g])
                _without_relay(
                    columns, pre, code, gated, tokens, start, held, middle, reads[p], moved[at : at + n_moved * n], room, x
                )  # fmt: skip
                for j in range(n_scrambles):
                    values[:n] = offset[j, p]
                    for i in range(k):
                        for e in range(n):
                            values[e] += weights[j, p, i] * x[j, i * n + e]
                    total = square = np.float32(0)
                    for e in range(n):
                        total += values[e]
                        square += values[e] * values[e]
                    sums[j, p, q, 0] += total
                    sums[j, p, q, 1] += square


@dataclass(frozen=True)
class TileChange:
    """What the scrambled inputs change along every pair's directions, for the sampled tokens of one tile."""

    low: Int[np.ndarray, " group"]
    """First entry of each group in the tile."""
    high: Int[np.ndarray, " group"]
    """Last-plus-one entry."""
    first: Int[np.ndarray, " groups_and_one"]
    """Where each group's entries begin in `moved`."""
    moved: Float[np.ndarray, " entry_scramble_direction"]
    """Dᵀ(T' − 1)(x − μ): one block [scramble direction entry] for every `CHUNK` entries of a group, in their order."""


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
        moved = np.empty(first[-1] * len(self.signs) * self.directions.shape[2], np.float32)
        with one_blas_thread:
            _moved(rotated, start, low, high, first, sample.token, self.directions, self.signs, moved)
        return TileChange(low, high, first, moved)

    def reads(
        self,
        weight: Float[np.ndarray, "half input"],
        sign: Float[np.ndarray, " input"],
        support: Int[np.ndarray, "pair k"],
        n_halves: int,
    ) -> Float[np.ndarray, "pair side k direction"]:
        """How strongly each support neuron reads along each direction (gate first in a gated layer).

        Args:
            weight: the layer's weights in the frame.
            sign: the null layer's signs; ones for the layer itself.
            support: neurons of each pair; −1 where unused.
            n_halves: 2 in a gated layer, else 1.
        """
        reads = np.empty((len(support), n_halves, support.shape[1], self.directions.shape[2]), np.float32)
        _reads(weight, sign, support, self.directions, n_halves, reads)
        return reads


@dataclass(frozen=True)
class Columns:
    """One tile of one site: neurons and what they are made of, contiguous fp32, each neuron's tokens side by side."""

    neurons: Float[np.ndarray, "neuron token"]
    """Neurons."""
    pre: Float[np.ndarray, "half token"]
    """Their pre-activations, the gate's first."""
    activation: str
    """A key of ACTIVATION_CODES."""

    @property
    def gated(self) -> bool:
        """Whether the layer has a linear half."""
        return len(self.pre) > len(self.neurons)


class RemovedMoments:
    """Balanced moments of the fit half with relays removed, for every scramble."""

    def __init__(
        self,
        support: Int[np.ndarray, "pair k"],
        shift: Float[np.ndarray, " neuron"],
        reads: Float[np.ndarray, "pair side k direction"],
        sample: TokenSample,
        n_scrambles: int,
    ) -> None:
        n_pairs, k = support.shape
        self._support, self._shift, self._reads, self._sample = support, shift, reads, sample
        self._weight = (0.25 / np.maximum(sample.n_sampled, 1)).astype(np.float32)
        self._means = np.zeros((n_scrambles, n_pairs, 4, k))
        self._outer = np.zeros((n_scrambles, n_pairs, k, k))

    def add_tile(self, columns: Columns, start: int, change: TileChange) -> None:
        """Add the sampled tokens of one tile."""
        with one_blas_thread:
            _removed_moments(
                columns.neurons, columns.pre, ACTIVATION_CODES[columns.activation], columns.gated, self._shift, start,
                change.low, change.high, change.first, self._sample.token, self._weight, self._support, self._reads,
                change.moved, self._means, self._outer,
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
        self, readouts: list[Readouts], reads: Float[np.ndarray, "pair side k direction"], sample: TokenSample
    ) -> None:
        self._support = np.ascontiguousarray(readouts[0].neurons)
        self._weights = np.stack([r.weights for r in readouts]).astype(np.float32)
        self._offset = np.stack([r.offset for r in readouts]).astype(np.float32)
        self._reads, self._sample = reads, sample
        self._sums = np.zeros((len(readouts), sample.n_pairs, 4, 2))

    def add_tile(self, columns: Columns, start: int, change: TileChange) -> None:
        """Add the sampled tokens of one tile."""
        with one_blas_thread:
            _removed_values(
                columns.neurons, columns.pre, ACTIVATION_CODES[columns.activation], columns.gated, start, change.low,
                change.high, change.first, self._sample.token, self._support, self._reads, change.moved, self._weights,
                self._offset, self._sums,
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
