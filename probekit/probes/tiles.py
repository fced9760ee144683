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
from jaxtyping import Int

from probekit.probes.pairs import LabelColumns

TILE = 4_096


def retile(
    blocks: Iterable[tuple[torch.Tensor, ...]], n_tokens: int = TILE
) -> Iterator[tuple[int, tuple[torch.Tensor, ...]]]:
    """Cut a stream of equally long tensors into tiles of `n_tokens` rows (the last may be shorter).

    Yields:
        The index of the tile's first token, and one tensor [token, …] for each tensor of the blocks.
    """
    held: list[tuple[torch.Tensor, ...]] = []
    n_held = 0
    start = 0
    for block in blocks:
        held.append(block)
        n_held += len(block[0])
        while n_held >= n_tokens:
            columns = _joined(held)
            yield start, tuple(column[:n_tokens] for column in columns)
            start += n_tokens
            n_held -= n_tokens
            held = [tuple(column[n_tokens:] for column in columns)] if n_held else []
    if n_held:
        yield start, _joined(held)


def _joined(blocks: list[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    if len(blocks) == 1:
        return blocks[0]
    return tuple(torch.cat(parts) for parts in zip(*blocks, strict=True))


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


def segments(
    labels: LabelColumns, pairs: Int[np.ndarray, "pair 2"]
) -> tuple[Int[np.ndarray, " segments_and_one"], Int[np.ndarray, " entry"]]:
    """Token lists of one tile: the tokens where both concepts of each pair hold, then those of each concept.

    Returns:
        Start of each list (pairs first, then concepts) and the token indices.
    """
    ptr = np.zeros(len(pairs) + 1, np.int64)
    _intersect(labels.indptr, labels.tokens, pairs, ptr, labels.tokens, False)
    np.cumsum(ptr, out=ptr)
    both = np.empty(ptr[-1], np.int32)
    _intersect(labels.indptr, labels.tokens, pairs, ptr, both, True)
    return np.concatenate([ptr, ptr[-1] + labels.indptr[1:]]), np.concatenate([both, labels.tokens])


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
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
    n_neurons = rows.shape[1]
    n_folds = sums.shape[0]
    for s in numba.prange(len(ptr) - 1):
        if ptr[s + 1] == ptr[s]:
            continue
        part = np.zeros((n_folds, n_neurons), np.float32)
        for e in range(ptr[s], ptr[s + 1]):
            t = tokens[e]
            f = fold[t]
            for i in range(n_neurons):
                part[f, i] += rows[t, i]
        for f in range(n_folds):
            for i in range(n_neurons):
                sums[f, s, i] += part[f, i]
