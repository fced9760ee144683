"""Token lists: where the pairs and the concepts of a tile hold, fold by fold.

They follow from the labels alone, so they are built once a tile and serve every layer, every site and every twin.
Axes: token concept pair fold segment entry, where segments are the pairs followed by the concepts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Int, Int32, Int64

from probekit.probes.pairs import LabelColumns


@dataclass(frozen=True)
class TokenLists:
    """The lists of one tile, by document fold."""

    order: Int64[np.ndarray, " token"]
    """The tokens of the tile fold by fold, in their own order within a fold."""
    bounds: Int64[np.ndarray, " folds_and_one"]
    """Where each fold begins in `order`."""
    ptr: Int64[np.ndarray, "fold segments_and_one"]
    """Start of each list in `tokens`."""
    tokens: Int32[np.ndarray, " entry"]
    """The rows of a list, counted from the first row of their fold."""

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.ptr)

    @property
    def n_tokens(self) -> Int64[np.ndarray, " fold"]:
        """Tokens of each fold."""
        return np.diff(self.bounds)

    @property
    def n_held(self) -> Int64[np.ndarray, "fold segment"]:
        """Length of each list."""
        return np.diff(self.ptr, axis=1)

    def of_fold(
        self, fold: int
    ) -> tuple[Int64[np.ndarray, " segments_and_one"], Int32[np.ndarray, " entry"]]:
        """Start of each list of one fold, from 0, and their rows."""
        ptr = self.ptr[fold]
        return ptr - ptr[0], self.tokens[ptr[0] : ptr[-1]]

    def by_fold(self, fold: Int[np.ndarray, " token"], n_folds: int) -> TokenLists:
        """Split single-fold token lists into folds."""
        order = np.argsort(fold, kind="stable")
        bounds = np.searchsorted(fold[order], np.arange(n_folds + 1))
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order)) - bounds[fold[order]]
        n_held = np.zeros((n_folds, self.ptr.shape[1] - 1), np.int64)
        _count_by_fold(self.ptr[0], self.tokens, fold, n_held)
        ends = np.cumsum(n_held).reshape(n_held.shape)
        ptr = np.concatenate([ends[:, :1] - n_held[:, :1], ends], axis=1)
        tokens = np.empty_like(self.tokens)
        _deal(self.ptr[0], self.tokens, fold, place, ptr[:, :-1].copy(), tokens)
        return TokenLists(order, bounds, ptr, tokens)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _count_by_fold(ptr, tokens, fold, n_held):  # pragma: no cover - compiled
    for s in range(len(ptr) - 1):
        for e in range(ptr[s], ptr[s + 1]):
            n_held[fold[tokens[e]], s] += 1


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _deal(ptr, tokens, fold, place, free, dealt):  # pragma: no cover - compiled
    for s in range(len(ptr) - 1):
        for e in range(ptr[s], ptr[s + 1]):
            f = fold[tokens[e]]
            dealt[free[f, s]] = place[tokens[e]]
            free[f, s] += 1


def token_lists(
    labels: LabelColumns,
    pairs: Int[np.ndarray, "pair 2"],
    fold: Int[np.ndarray, " token"] | None = None,
    n_folds: int = 1,
) -> TokenLists:
    """Token lists of one tile.

    Args:
        labels: the labels of the tile.
        pairs: concept indices of each pair.
        fold: fold of each token; None: one fold of all.
        n_folds: number of folds.
    """
    ptr, tokens = segments(labels, pairs)
    order = np.arange(labels.n_tokens)
    whole = TokenLists(order, np.array([0, len(order)]), ptr[None], tokens)
    return whole if fold is None or n_folds == 1 else whole.by_fold(fold, n_folds)


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
def _by_token(indptr, tokens, n_tokens):  # pragma: no cover - compiled
    """Start of each token's concepts, and the concepts, ascending."""
    starts = np.zeros(n_tokens + 1, np.int64)
    for e in range(len(tokens)):
        starts[tokens[e] + 1] += 1
    for t in range(n_tokens):
        starts[t + 1] += starts[t]
    free, concepts = starts[:-1].copy(), np.empty(len(tokens), np.int32)
    for c in range(len(indptr) - 1):
        for e in range(indptr[c], indptr[c + 1]):
            concepts[free[tokens[e]]] = c
            free[tokens[e]] += 1
    return starts, concepts


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _meet(indptr, tokens, starts, concepts, place, n_met, ptr):  # pragma: no cover - compiled
    """Tokens of every pair asked for: each concept's tokens, and at each of them the concepts after it."""
    after = starts[:-1].copy()
    pair, token = np.empty(n_met, np.int32), np.empty(n_met, np.int32)
    n = 0
    for c in range(len(indptr) - 1):
        row = place[c]
        for e in range(indptr[c], indptr[c + 1]):
            t = tokens[e]
            after[t] += 1
            for b in range(after[t], starts[t + 1]):
                p = row[concepts[b]]
                if p >= 0:
                    pair[n], token[n] = p, t
                    ptr[p + 1] += 1
                    n += 1
    for p in range(len(ptr) - 1):
        ptr[p + 1] += ptr[p]
    free, both = ptr[:-1].copy(), np.empty(n, np.int32)
    for e in range(n):
        both[free[pair[e]]] = token[e]
        free[pair[e]] += 1
    return both


def segments(
    labels: LabelColumns, pairs: Int[np.ndarray, "pair 2"]
) -> tuple[Int[np.ndarray, " segments_and_one"], Int[np.ndarray, " entry"]]:
    """Token lists of one tile: the tokens where both concepts of each pair hold, then those of each concept.

    Returns:
        Start of each list (pairs first, then concepts) and the token indices.
    """
    ptr = np.zeros(len(pairs) + 1, np.int64)
    starts, concepts = _by_token(labels.indptr, labels.tokens, labels.n_tokens)
    held = np.diff(starts)
    # concepts met at a token against lists merged pair by pair: both costs are known beforehand
    n_met, n_merged = int((held * (held - 1) // 2).sum()), int(np.diff(labels.indptr)[pairs].sum())
    place, twice = _pair_of(pairs, labels.n_concepts) if n_met < n_merged else (None, True)
    if twice:
        _intersect(labels.indptr, labels.tokens, pairs, ptr, labels.tokens, False)
        np.cumsum(ptr, out=ptr)
        both = np.empty(ptr[-1], np.int32)
        _intersect(labels.indptr, labels.tokens, pairs, ptr, both, True)
    else:
        both = _meet(labels.indptr, labels.tokens, starts, concepts, place, n_met, ptr)
    return np.concatenate([ptr, ptr[-1] + labels.indptr[1:]]), np.concatenate([both, labels.tokens])
