"""Sums over the tokens of every pair and concept, by document fold, in main memory.

Axes: token neuron fold segment strip column, where segments are the pairs followed by the concepts.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64

from probekit.probes.lists import TokenLists
from probekit.probes.strips import WIDTH, add_lists, aligned, strips_of
from probekit.probes.tiles import TILE

MEAN_LENGTH_TO_WAIT = 8
"""Mean length below which the lists of a tile wait for those of the next: the sums are then visited once for both."""
MIN_SUMS_TO_TILE = 4
"""How many times the sums must be larger than a tile for one to be held."""


def bytes_waiting(n_folds: int, n_segments: int, n_neurons: int) -> int:
    """Bytes of a tile that may wait."""
    return 4 * TILE * n_neurons if _may_wait(n_folds, n_segments) else 0


def _may_wait(n_folds: int, n_segments: int) -> bool:
    return 8 * n_folds * n_segments >= MIN_SUMS_TO_TILE * 4 * TILE


class ListSums:
    """Σ row over each token list, tile after tile; the sums are fp64, those of one tile fp32.

    Args:
        n_folds: folds kept apart.
        n_segments: lists.
        n_neurons: columns of the rows.
    """

    def __init__(self, n_folds: int, n_segments: int, n_neurons: int) -> None:
        self._n_neurons = n_neurons
        self._strips = aligned((n_folds, *strips_of(n_segments, n_neurons)), np.float64)
        self._waiting: list[tuple[np.ndarray, TokenLists]] = []

    def add(self, rows: Float32[np.ndarray, "token neuron"], lists: TokenLists) -> None:
        """Add one tile, its rows in the order of the lists; they may wait for the next one and must not change."""
        self._waiting.append((rows, lists))
        n_folds, n_segments = lists.n_held.shape
        short = lists.tokens.size < MEAN_LENGTH_TO_WAIT * n_folds * n_segments
        if len(self._waiting) == 2 or not (short and _may_wait(n_folds, n_segments)):
            self._flush()

    def _flush(self) -> None:
        tiles, self._waiting = self._waiting, []
        for fold, sums in enumerate(self._strips if tiles else ()):
            ends = [lists.bounds[fold : fold + 2] for _, lists in tiles]
            rows = [rows[low:high] for (rows, _), (low, high) in zip(tiles, ends, strict=True)]
            add_lists(rows, [lists.of_fold(fold) for _, lists in tiles], sums)

    @property
    def strips(self) -> Float64[np.ndarray, "fold strip segment column"]:
        """The sums of all tiles added, not copied."""
        self._flush()
        return self._strips

    @property
    def n_bytes(self) -> int:
        """Bytes of `strips`."""
        return self._strips.nbytes

    def over(self, folds: Bool[np.ndarray, " fold"]) -> Float64[np.ndarray, "segment neuron"]:
        """The sums over the chosen folds, added in order."""
        first, *rest = np.flatnonzero(folds)
        strips = self.strips
        sums = np.empty((strips.shape[2], self._n_neurons))
        for strip in range(strips.shape[1]):
            columns = slice(WIDTH * strip, WIDTH * (strip + 1))
            part = sums[:, columns]
            part[:] = strips[first, strip, :, : part.shape[1]]
            for fold in rest:
                part += strips[fold, strip, :, : part.shape[1]]
        return sums

    def put(self, fold: int, sums: Float64[np.ndarray, "segment neuron"]) -> None:
        """Set the sums of a fold."""
        for strip, own in enumerate(self.strips[fold]):
            part = sums[:, WIDTH * strip : WIDTH * (strip + 1)]
            own[:, : part.shape[1]] = part
