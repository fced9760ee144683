"""Order statistics in compiled code, and what is made of them.

The compiler's own sort and quantile take seconds to compile, these a fraction of one. All of it stands in one file:
a kernel that is kept compiled does not see that another file has changed.
"""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def kth_smallest(values, k):  # pragma: no cover - compiled
    """The value that sorting would put at place k (Hoare 1961, algorithm 65).

    Args:
        values: [value] of any float type, no NaN; reordered so that none before place k is larger.
        k: place, from 0.
    """
    low, high = 0, len(values) - 1
    while low < high:
        pivot, i, j = values[k], low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if j < k:
            low = i
        if k < i:
            high = j
    return values[k]


@numba.njit(parallel=True, cache=True)
@no_type_check
def worst_quantile(values, ptr, share):  # pragma: no cover - compiled
    """For each pair the largest, over its quadrants, of the quantile of |value − A∧B|.

    Args:
        values: float32 [entry], a readout's values, group after group (quadrants 11, 10, 01, 00 of each pair).
        ptr: int [group + 1], where each group starts.
        share: of the entries below the quantile.

    Returns:
        float64 [pair]; 0 where a pair has no entries.
    """
    worst = np.zeros((len(ptr) - 1) // 4)
    for p in numba.prange(len(worst)):
        for q in range(4):
            start, n = ptr[4 * p + q], ptr[4 * p + q + 1] - ptr[4 * p + q]
            truth = np.float32(q == 0)
            error = np.empty(n, np.float32)
            for e in range(n):
                error[e] = abs(values[start + e] - truth)
            if n:  # interpolated as np.quantile does, which takes ten seconds to compile
                place = share * (n - 1)
                rank = int(place)
                below = above = kth_smallest(error, rank)
                if rank + 1 < n:
                    above = error[rank + 1]
                    for e in range(rank + 2, n):
                        above = min(above, error[e])
                worst[p] = max(worst[p], below + (place - rank) * (above - below))
    return worst
