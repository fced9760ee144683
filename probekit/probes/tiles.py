"""Re-blocking: whatever blocks arrive, the arithmetic sees the same tiles.

Floating-point sums depend on how the terms are grouped. A stream of activations is therefore cut into tiles
of `TILE` consecutive tokens before anything is added up, so that a result is the same bit for bit whether the
tokens came one document or ten thousand at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Float64, Int

from probekit.probes.pairs import LabelColumns

TILE = 4_096


def retile(
    blocks: Iterable[tuple[torch.Tensor, ...]], n_tokens: int = TILE
) -> Iterator[tuple[int, tuple[torch.Tensor, ...]]]:
    """Cut a stream of equally long tensors into tiles of `n_tokens` rows (the last may be shorter).

    A tile lies in memory that the next one may overwrite: take from it what you need before you ask for more. So a
    block smaller than a tile is let go as soon as its rows are copied; of a larger one the tiles are views.

    Yields:
        The index of the tile's first token, and one tensor [token, …] for each tensor of the blocks.
    """
    tile: tuple[torch.Tensor, ...] = ()
    n_held = start = 0
    for block in blocks:
        first, n_rows = 0, len(block[0])
        while first < n_rows:
            stop = min(n_rows, first + n_tokens - n_held)
            if stop - first == n_tokens:
                yield start, tuple(column[first:stop] for column in block)
                start += n_tokens
            else:
                tile = tile or tuple(column.new_empty((n_tokens, *column.shape[1:])) for column in block)
                n_held += _copy(block, first, stop, tile, n_held)
            if n_held == n_tokens:
                yield start, tile
                start, n_held = start + n_tokens, 0
            first = stop
        del block  # not kept while the next one is made
    if n_held:
        yield start, tuple(whole[:n_held] for whole in tile)


def _copy(
    block: tuple[torch.Tensor, ...], first: int, stop: int, tile: tuple[torch.Tensor, ...], at: int
) -> int:
    for whole, column in zip(tile, block, strict=True):
        whole[at : at + stop - first] = column[first:stop]
    return stop - first


@numba.njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _intersect(indptr, tokens, pairs, ptr, out, writes):  # pragma: no cover - compiled
    for p in numba.prange(len(pairs)):
        a, a_end = indptr[pairs[p, 0]], indptr[pairs[p, 0] + 1]
        b, b_end = indptr[pairs[p, 1]], indptr[pairs[p, 1] + 1]
        n = 0
        while a < a_end and b < b_end:
            if tokens[a] == tokens[b]:
                if writes:
                    out[ptr[p] + n] = tokens[a]
                n += 1
                a += 1
                b += 1
            elif tokens[a] < tokens[b]:
                a += 1
            else:
                b += 1
        if not writes:
            ptr[p + 1] = n


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _pair_of(pairs, n_concepts):  # pragma: no cover - compiled
    """Number of each pair in both orders, −1 where not asked for; and whether one was asked for twice."""
    place = np.full((n_concepts, n_concepts), -1, np.int32)
    twice = False
    for p in range(len(pairs)):
        a, b = pairs[p, 0], pairs[p, 1]
        twice |= place[a, b] >= 0
        place[a, b] = p
        place[b, a] = p
    return place, twice


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _token_major(indptr, concepts, place, ptr, out, writes):  # pragma: no cover - compiled
    for t in range(len(indptr) - 1):
        for a in range(indptr[t], indptr[t + 1]):
            row = place[concepts[a]]
            for b in range(a + 1, indptr[t + 1]):
                p = row[concepts[b]]
                if p >= 0:
                    if writes:
                        out[ptr[p]] = t
                        ptr[p] += 1
                    else:
                        ptr[p + 1] += 1


def segments(
    labels: LabelColumns, pairs: Int[np.ndarray, "pair 2"]
) -> tuple[Int[np.ndarray, " segments_and_one"], Int[np.ndarray, " entry"]]:
    """Token lists of one tile: the tokens where both concepts of each pair hold, then those of each concept.

    Returns:
        Start of each list (pairs first, then concepts) and the token indices.
    """
    ptr = np.zeros(len(pairs) + 1, np.int64)
    lengths = np.diff(labels.indptr)
    matrix = labels.matrix()
    held = np.diff(matrix.indptr).astype(np.int64)
    # concepts met token by token against lists merged pair by pair: both costs are known beforehand
    n_met, n_merged = int((held * (held - 1) // 2).sum()), int(lengths[pairs].sum())
    place, twice = _pair_of(pairs, labels.n_concepts) if n_met < n_merged else (None, True)
    if twice:
        _intersect(labels.indptr, labels.tokens, pairs, ptr, labels.tokens, False)
        np.cumsum(ptr, out=ptr)
        both = np.empty(ptr[-1], np.int32)
        _intersect(labels.indptr, labels.tokens, pairs, ptr, both, True)
    else:
        _token_major(matrix.indptr, matrix.indices, place, ptr, labels.tokens, False)
        np.cumsum(ptr, out=ptr)
        both = np.empty(ptr[-1], np.int32)
        _token_major(matrix.indptr, matrix.indices, place, ptr[:-1].copy(), both, True)
    return np.concatenate([ptr, ptr[-1] + labels.indptr[1:]]), np.concatenate([both, labels.tokens])


STRIP = 256
"""Columns of one strip of a Gram matrix: wide enough for the speed of a large product, narrow enough to leave out
nearly half of it."""


def add_gram(rows: torch.Tensor, gram: Float64[torch.Tensor, "neuron neuron"]) -> None:
    """Add Σ x xᵀ of one tile to the upper triangle; below it only the strips on the diagonal are touched.

    fp32 products of a tile, fp64 sums on the same device: see `mirrored` for the whole matrix.
    """
    for first in range(0, len(gram), STRIP):
        strip = slice(first, first + STRIP)
        gram[strip, first:].add_(rows[:, strip].T @ rows[:, first:])


def mirrored(gram: Float[np.ndarray, "neuron neuron"]) -> Float[np.ndarray, "neuron neuron"]:
    """The symmetric matrix whose upper triangle this is; in place."""
    for first in range(STRIP, len(gram), STRIP):
        gram[first:, first - STRIP : first] = gram[first - STRIP : first, first:].T
    return gram


def column_sums(rows: torch.Tensor) -> Float64[torch.Tensor, " neuron"]:
    """Σ x of one tile: fp32 over 64 rows, fp64 above."""
    n_whole = len(rows) // 64 * 64
    sums = rows[:n_whole].view(-1, 64, rows.shape[1]).sum(1).sum(0, dtype=torch.float64)
    return sums + rows[n_whole:].sum(0, dtype=torch.float64)


@numba.njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"}, inline="always")
@no_type_check
def _add_list(rows, held, e, last, part, sums, f, s, low, high):  # pragma: no cover - compiled
    """Add the fp32 sum of the rows held[e:last], at least one, to sums[f, s], in columns low to high."""
    n = last - e
    # four rows at a time: one load and store of the sum for four additions; what is left over comes first
    first = n % 4 if n % 4 else 4
    t0, t1, t2, t3 = (
        held[e],
        held[min(e + 1, last - 1)],
        held[min(e + 2, last - 1)],
        held[min(e + 3, last - 1)],
    )
    if n == 1:
        for i in range(low, high):
            sums[f, s, i] += rows[t0, i]
    elif n == 2:
        for i in range(low, high):
            sums[f, s, i] += rows[t0, i] + rows[t1, i]
    elif n == 3:
        for i in range(low, high):
            sums[f, s, i] += rows[t0, i] + rows[t1, i] + rows[t2, i]
    elif n == 4:
        for i in range(low, high):
            sums[f, s, i] += (rows[t0, i] + rows[t1, i]) + (rows[t2, i] + rows[t3, i])
    else:
        if first == 1:
            for i in range(low, high):
                part[i] = rows[t0, i]
        elif first == 2:
            for i in range(low, high):
                part[i] = rows[t0, i] + rows[t1, i]
        elif first == 3:
            for i in range(low, high):
                part[i] = rows[t0, i] + rows[t1, i] + rows[t2, i]
        else:
            for i in range(low, high):
                part[i] = (rows[t0, i] + rows[t1, i]) + (rows[t2, i] + rows[t3, i])
        for entry in range(e + first, last, 4):
            t0, t1, t2, t3 = held[entry], held[entry + 1], held[entry + 2], held[entry + 3]
            for i in range(low, high):
                part[i] += (rows[t0, i] + rows[t1, i]) + (rows[t2, i] + rows[t3, i])
        for i in range(low, high):
            sums[f, s, i] += part[i]


COLUMNS = 1_024
"""Columns of a tile that pair sums are taken over at a time: as many as stay in the cache that the cores share."""


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
@no_type_check
def add_segments(rows, fold, ptr, tokens, sums):  # pragma: no cover - compiled
    """Add the rows of each list to its sum: fp32 within the tile, fp64 across tiles.

    Args:
        rows: fp32 [token, neuron] of one tile.
        fold: int [token].
        ptr: list starts [segment + 1].
        tokens: tile-local token indices [entry].
        sums: fp64 [fold, segment, neuron], added to.
    """
    n_folds, n_neurons = sums.shape[0], rows.shape[1]
    for first in range(0, n_neurons, COLUMNS):
        # unsigned: a signed index is looked at for being negative each time
        low, high = np.uint64(first), np.uint64(min(first + COLUMNS, n_neurons))
        for s in numba.prange(len(ptr) - 1):
            if ptr[s + 1] == ptr[s]:
                continue
            part = np.empty(n_neurons, np.float32)
            own, e, last = tokens, ptr[s], ptr[s + 1]
            if n_folds > 1:
                own = np.empty(last - e, tokens.dtype)
            for f in range(n_folds):
                if n_folds > 1:
                    e, last = 0, 0
                    for entry in range(ptr[s], ptr[s + 1]):
                        if fold[tokens[entry]] == f:
                            own[last] = tokens[entry]
                            last += 1
                if last > e:
                    _add_list(rows, own, e, last, part, sums, f, s, low, high)
