"""Order statistics in compiled code. The compiler's own sort and median take seconds to compile, these a fraction of one."""

from __future__ import annotations

from typing import no_type_check

import numba


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def kth_smallest(values, k):  # pragma: no cover - compiled
    """The value that sorting would put at place k; reorders the array so that none before it is larger (Hoare 1961)."""
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


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def median(values):  # pragma: no cover - compiled
    """The median, as NumPy's; reorders the array, which must not be empty."""
    half = len(values) // 2
    middle = kth_smallest(values, half)
    if len(values) % 2:
        return middle
    below = values[0]
    for i in range(1, half):
        below = max(below, values[i])
    return (below + middle) / 2
