"""Batched forward selection: a nested path of k-sparse supports for every pair, from moments alone.

For each pair the target is A∧B with 1, A and B partialled out of target and neurons (Frisch–Waugh): a neuron
is chosen for what it adds beyond any additive function of A and B. Forward regression by pivoted Cholesky: at
each step the neuron with the largest drop in residual sum of squares, r²/d, joins; the support of size k is
the first k of the path. The cost, n·k² + O(n·k) a pair, does not depend on the number of tokens.
Axes: pair neuron k.
"""

from __future__ import annotations

from functools import partial
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int

from probekit.errors import InputError, guarded
from probekit.probes.device import paths_on
from probekit.probes.moments import FrozenMoments, Moments, Pairs, as_pairs
from probekit.probes.workers import start_workers

COLLINEAR = 1e-5
"""A neuron whose variance is explained to all but this share by those already chosen carries fp32 rounding."""
CONSTANT = 1e-6
"""A neuron whose sd is below this share of its mean is constant: what is left is the rounding of fp32 rows."""
ROUNDING = 1e-12
"""Share of the target's sum of squares that a neuron must add to be more than the rounding of fp64."""


LANES = 64
"""Neurons taken through one step together: their columns stay in the nearest cache."""


# no "reassoc": with it the compiler orders sums differently when it compiles and in the code that it caches
@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
@no_type_check
def _forward(  # noqa: C901, PLR0915
    gram, concept_sums, pair_sums, pairs, coefficients, k, support, gain
):  # pragma: no cover - compiled
    # Every inner loop names few arrays and no running best: the compiler makes vector code of it only then.
    n_neurons = pair_sums.shape[1]
    width = len(gram)  # a multiple of LANES; the rows and columns past the neurons are empty
    n_blocks = width // LANES
    diagonal = np.empty(width, np.float32)
    for i in range(width):
        diagonal[i] = gram[i, i]
    sums = np.zeros((len(concept_sums), width), np.float32)
    sums[:, :n_neurons] = concept_sums
    for p in numba.prange(len(pairs)):
        chosen = np.empty((n_blocks, k + 2, LANES), np.float32)
        rest = np.zeros(width, np.float32)
        variance = np.empty(width, np.float32)
        floor = np.float32(COLLINEAR) * diagonal
        score = np.empty(width, np.float32)
        order = score.view(np.int32)  # no score is negative: as integers they stand in the same order
        weights = np.empty(k + 2, np.float32)
        line = np.empty(LANES, np.float32)
        a, b = pairs[p, 0], pairs[p, 1]
        a_unit, b_unit, b_on_a = coefficients[0, p], coefficients[1, p], coefficients[2, p]
        y_on_a, y_on_b = coefficients[3, p], coefficients[4, p]
        for i in range(n_neurons):
            rest[i] = pair_sums[p, i]
        for block in range(n_blocks):
            first = block * LANES
            for j in range(LANES):
                i = first + j
                v1 = sums[a, i] * a_unit
                v2 = (sums[b, i] - b_on_a * sums[a, i]) * b_unit
                chosen[block, 0, j], chosen[block, 1, j] = v1, v2
                rest[i] = rest[i] - y_on_a * v1 - y_on_b * v2
                variance[i] = diagonal[i] - v1 * v1 - v2 * v2
        for step in range(k):
            for i in range(width):
                r, d = rest[i], variance[i]
                score[i] = r * r / d if d > floor[i] else np.float32(0.0)
            top = np.int32(0)
            for i in range(width):
                top = order[i] if order[i] > top else top
            if top == 0:
                break
            best = np.int32(width)
            for i in range(width):
                place = np.int32(i) if order[i] == top else np.int32(width)
                best = place if place < best else best
            support[p, step] = best
            gain[p, step] = score[best]
            if step + 1 == k:
                break
            root = np.float32(1.0) / np.sqrt(variance[best])
            pull = rest[best] * root
            variance[best] = np.float32(0.0)
            floor[best] = np.float32(np.inf)
            n_held = step + 2
            for s in range(n_held):
                weights[s] = chosen[best // LANES, s, best % LANES]
            for block in range(n_blocks):
                first = block * LANES
                w0, w1 = weights[0], weights[1]
                for j in range(LANES):
                    line[j] = gram[best, first + j] - w0 * chosen[block, 0, j] - w1 * chosen[block, 1, j]
                for s in range(2, n_held - 3, 4):
                    w0, w1, w2, w3 = weights[s], weights[s + 1], weights[s + 2], weights[s + 3]
                    for j in range(LANES):
                        line[j] -= (
                            w0 * chosen[block, s, j]
                            + w1 * chosen[block, s + 1, j]
                            + w2 * chosen[block, s + 2, j]
                            + w3 * chosen[block, s + 3, j]
                        )
                s = 2 + (n_held - 2) // 4 * 4
                if n_held - s >= 2:
                    w0, w1 = weights[s], weights[s + 1]
                    for j in range(LANES):
                        line[j] -= w0 * chosen[block, s, j] + w1 * chosen[block, s + 1, j]
                    s += 2
                if n_held > s:
                    w0 = weights[s]
                    for j in range(LANES):
                        line[j] -= w0 * chosen[block, s, j]
                for j in range(LANES):
                    column = line[j] * root
                    chosen[block, n_held, j] = column
                    rest[first + j] -= pull * column
                    variance[first + j] -= column * column


def forward_select(
    moments: FrozenMoments, k: int, *, additive: bool = True, device: torch.device | None = None
) -> Int[np.ndarray, "pair k"]:
    """Supports in order of selection; −1 where no neuron is left that adds anything.

    A pair with an empty quadrant has no support: there A∧B is a sum of functions of A and of B.

    Args:
        moments: frozen moments with the pairs to select for.
        k: length of the path, clipped to the number of neurons.
        additive: whether A and B are partialled out; else only the mean is, and the target is A∧B as it stands.
        device: where to compute; None or a processor takes the compiled kernel, an accelerator torch.
    """
    coefficients = np.stack(_coefficients(moments, additive))
    gram = moments.gram.copy()
    constant = gram.diagonal() <= moments.n_tokens * (CONSTANT * moments.mean) ** 2
    gram[constant, constant] = 0.0
    paths = _paths if device is None or device.type == "cpu" else partial(paths_on, device)
    k = min(k, len(gram))
    support = paths(gram, moments.concept_sums, moments.pair_sums, moments.pairs, coefficients, k)
    support[~moments.has_interaction()] = -1
    return support


def _coefficients(moments: FrozenMoments, additive: bool) -> tuple[np.ndarray, ...]:
    partialled = moments.partialled()
    return partialled if additive else tuple(np.zeros_like(part) for part in partialled)


def forward_targets(
    gram: Float[np.ndarray, "neuron neuron"], cross: Float[np.ndarray, "target neuron"], k: int
) -> Int[np.ndarray, "target k"]:
    """The same paths for targets of any kind, with nothing but the mean taken out.

    Args:
        gram: Σ (x − mean)(x − mean)ᵀ.
        cross: Σ (x − mean)·y of each target.
        k: length of the path, clipped to the number of neurons.

    Returns:
        Neurons in order of selection, −1 where no other adds anything.
    """
    n_targets, n_neurons = cross.shape
    nothing = np.zeros((1, n_neurons))
    no_pairs = np.zeros((n_targets, 2), np.int32)
    return _paths(gram, nothing, cross, no_pairs, np.zeros((5, n_targets)), k)


def forward_rows(
    rows: Float[np.ndarray, "token neuron"], target: Float[np.ndarray, " token"], k: int
) -> Int[np.ndarray, " chosen"]:
    """The path of one target from the activations themselves, where their Gram matrix would be larger than they are.

    The same regression as `forward_targets`: each step takes one product of all neurons with what the neuron just chosen
    adds to those before it, in place of its row of the Gram matrix. Memory is that of `rows` and a few numbers a neuron.

    Args:
        rows: activations, each neuron with its mean taken out.
        target: the same of the target.
        k: length of the path at most.

    Returns:
        Neurons in order of selection; fewer than k where no other adds anything.
    """
    variance = np.einsum("tn,tn->n", rows, rows)
    floor, rest, whole = COLLINEAR * variance, target @ rows, float(target @ target)
    taken, chosen = np.empty((0, len(target))), list[int]()
    for _ in range(min(k, rows.shape[1])):
        usable = variance > floor
        score = np.where(usable, rest**2 / np.where(usable, variance, 1.0), 0.0)
        # compared in fp32, as there: neurons that are equal but for rounding stand in the order of their columns
        best = int(np.argmax(score.astype(np.float32)))
        if score[best] <= ROUNDING * whole:
            break
        chosen.append(best)
        axis = rows[:, best].copy()
        for _ in range(2):  # once leaves rounding of the size of what was taken out, twice does not (Kahan)
            axis -= (taken @ axis) @ taken
        axis /= np.sqrt(axis @ axis)
        taken = np.concatenate([taken, axis[None]])
        shared = axis @ rows
        variance -= shared**2
        rest -= (axis @ target) * shared
        floor[best] = np.inf
    return np.array(chosen, np.int64)


def _paths(
    gram: np.ndarray,
    concept_sums: np.ndarray,
    pair_sums: np.ndarray,
    pairs: np.ndarray,
    coefficients: np.ndarray,
    k: int,
) -> np.ndarray:
    start_workers()
    n_neurons = len(gram)
    k = min(k, n_neurons)
    support = np.full((len(pairs), k), -1, np.int32)
    gain = np.zeros((len(pairs), k), np.float32)
    width = -(-n_neurons // LANES) * LANES
    square = np.zeros((width, width), np.float32)
    square[:n_neurons, :n_neurons] = gram
    _forward(square, concept_sums, pair_sums, pairs, coefficients.astype(np.float32), k, support, gain)
    return support


JITTER = 1e-8
"""Ridge on each neuron's variance: far below the fp32 rounding of the products that went into the moments."""


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
@no_type_check
def _solved(
    gram, concept_sums, pair_sums, pairs, coefficients, support, weights
):  # pragma: no cover - compiled
    k = support.shape[1]
    for p in numba.prange(len(pairs)):
        column = np.zeros(k, np.int64)
        v1, v2, y, low = np.zeros(k), np.zeros(k), np.zeros(k), np.zeros((k, k))
        a, b = pairs[p, 0], pairs[p, 1]
        n_held = 0
        while n_held < k and support[p, n_held] >= 0:
            column[n_held] = support[p, n_held]
            n_held += 1
        for i in range(n_held):
            s_a, s_b = concept_sums[a, column[i]], concept_sums[b, column[i]]
            v1[i] = s_a * coefficients[0, p]
            v2[i] = (s_b - coefficients[2, p] * s_a) * coefficients[1, p]
            y[i] = pair_sums[p, column[i]] - coefficients[3, p] * v1[i] - coefficients[4, p] * v2[i]
        # Cholesky, row by row, with the forward half of the solution beside it
        for i in range(n_held):
            for j in range(i + 1):
                total = gram[column[i], column[j]] - v1[i] * v1[j] - v2[i] * v2[j]
                least = JITTER * total
                if i == j:
                    total += least
                for s in range(j):
                    total -= low[i, s] * low[j, s]
                low[i, j] = np.sqrt(max(total, least)) if i == j else total / low[j, j]
            for s in range(i):
                y[i] -= low[i, s] * y[s]
            y[i] = y[i] / low[i, i] if low[i, i] > 0 else 0.0
        for i in range(n_held - 1, -1, -1):
            for s in range(i + 1, n_held):
                y[i] -= low[s, i] * y[s]
            y[i] = y[i] / low[i, i] if low[i, i] > 0 else 0.0
            weights[p, i] = y[i]


def least_squares_weights(
    moments: FrozenMoments, support: Int[np.ndarray, "pair k"], *, additive: bool = True
) -> Float[np.ndarray, "pair k"]:
    """Least-squares weights of A∧B on each support, with 1 (and A and B) partialled out; 0 at unused places.

    Args:
        moments: frozen moments of the pairs.
        support: neurons of each pair; behind the first −1 none is used.
        additive: whether A and B are partialled out.
    """
    start_workers()
    weights = np.zeros(support.shape)
    _solved(
        moments.gram, moments.concept_sums, moments.pair_sums, moments.pairs,
        np.stack(_coefficients(moments, additive)), support, weights,
    )  # fmt: skip
    return weights


@guarded
def select_readouts(
    moments: Moments | FrozenMoments, pairs: Pairs | None = None, *, k: int = 16
) -> tuple[Int[np.ndarray, "pair k"], Float[np.ndarray, "pair k"]]:
    """k-sparse readouts of A∧B for many pairs at once, from one pass of moments.

    Args:
        moments: moments whose pairs include the ones asked for.
        pairs: pairs of concept indices; None takes all that the moments hold.
        k: neurons a readout may use.

    Returns:
        neurons Int[pair k] in order of selection (−1: unused) and weights Float[pair k] of the least-squares
        AND readout with 1, A and B partialled out (0 where unused). k is clipped to the number of neurons.

    Raises:
        InputError: k < 1, or a pair the moments do not hold.
        ShapeError: pairs are not [pair, 2].
    """
    if k < 1:
        raise InputError(f"select_readouts: k={k}; wanted at least 1.")
    frozen = moments.finalize() if isinstance(moments, Moments) else moments
    if pairs is not None:
        frozen = take_pairs(frozen, as_pairs(pairs))
    support = forward_select(frozen, k)
    return support, least_squares_weights(frozen, support)


def take_pairs(moments: FrozenMoments, pairs: Int[np.ndarray, "pair 2"]) -> FrozenMoments:
    """The same moments for some of their pairs, in the order asked for.

    Raises:
        InputError: a pair the moments do not hold.
    """
    place = {tuple(sorted(pair)): row for row, pair in enumerate(moments.pairs.tolist())}
    rows: list[int] = []
    for a, b in pairs.tolist():
        row = place.get((min(a, b), max(a, b)))
        if row is None:
            raise InputError(
                f"pairs: got ({a}, {b}), wanted some of the {len(place):,} pairs these moments hold; name it "
                "in Moments(pairs=...)."
            )
        rows.append(row)
    return FrozenMoments(
        moments.n_tokens, moments.mean, moments.gram, moments.concept_sums, moments.pair_sums[rows],
        moments.n_concept, moments.n_pair[rows], moments.pairs[rows],
    )  # fmt: skip
