"""Re-blocking: whatever blocks arrive, the arithmetic sees the same tiles.

Floating-point sums depend on how the terms are grouped. A stream of activations is therefore cut into tiles
of `TILE` consecutive tokens before anything is added up, so that a result is the same bit for bit whether the
tokens came one document or ten thousand at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Float64

TILE = 4_096


def retile(
    blocks: Iterable[tuple[torch.Tensor, ...]], n_tokens: int = TILE
) -> Iterator[tuple[int, tuple[torch.Tensor, ...]]]:
    """Cut a stream of equally long tensors into tiles of `n_tokens` rows (the last may be shorter).

    A tile lies in memory that the next one may overwrite: take from it what you need before you ask for more. So a
    block smaller than a tile is released as soon as its rows are copied; of a larger one the tiles are views.

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
