"""Sums over token lists, in strips of 64 columns.

What limits such sums is memory, not arithmetic: a pair holds on a few tokens of a tile, so every few rows read cost an fp64
sum read and written (`python -m benchmarks pair_sums` times both). Hence three things.

* Tile and sums are cut into strips of `WIDTH` columns, each in one piece: a tile's strip (1 MB) stays in a core's own
  cache while every list walks over it, and the sums of a strip are read and written in one stream.
* A list is summed in registers. `_add_list` is written in vectors, because a compiler that cannot know that rows and
  sums never overlap goes through memory.
* Two tiles can be added in one visit of the sums.

The order of additions is fixed: fp32 within a list, row after row, fp64 across tiles, tile after tile. So the bits depend
neither on the number of threads nor on the tiles a visit.
Axes: token neuron segment strip column, where segment = a list of tokens and column = neuron within its strip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

WIDTH = 64
"""Columns of a strip: 4,096 rows of 64 fp32 columns are 1 MB, which a core's own cache holds."""
LANES = 16
"""fp32 numbers of one vector; where the machine's are shorter the compiler takes several."""
AHEAD = 6
"""Segments between the sum that is added to and the one that is asked for from memory."""
ROWS_AHEAD = 16
"""The same for rows, where a strip is copied out of a tile."""


def aligned(shape: tuple[int, ...], dtype: type[np.floating]) -> np.ndarray:
    """Zeros at an address where no vector lies across two cache lines."""
    n_items, spare = int(np.prod(shape)), 64 // np.dtype(dtype).itemsize
    held = np.zeros(n_items + spare, dtype)
    start = -held.ctypes.data % 64 // held.itemsize
    return held[start : start + n_items].reshape(shape)


def strips_of(n_segments: int, n_neurons: int) -> tuple[int, int, int]:
    """Shape of the sums of one fold: strip, segment, column; the last strip may be wider than what is left."""
    return -(-n_neurons // WIDTH), n_segments, WIDTH


def add_lists(
    rows: Sequence[Float32[np.ndarray, "_ neuron"]],
    lists: Sequence[tuple[Int64[np.ndarray, " segments_and_one"], Int32[np.ndarray, " _"]]],
    sums: Float64[np.ndarray, "strip segment column"],
) -> None:
    """Add the rows of each list to its sum.

    Args:
        rows: for each tile, one or two, [token neuron].
        lists: for each tile the start of each list and the rows in it [entry].
        sums: added to; `aligned`.
    """
    early, late = rows if len(rows) == 2 else (rows[0], rows[0][:0])
    n_before = np.cumsum([0] + [len(tokens) for _, tokens in lists])
    ptr = np.stack([starts + before for (starts, _), before in zip(lists, n_before[:-1], strict=True)])
    tokens = lists[0][1]
    if len(lists) == 2:
        tokens = np.concatenate([tokens, lists[1][1] + np.int32(len(early))])
    scratch = aligned((numba.get_num_threads(), len(early) + len(late), WIDTH), np.float32)
    _add_lists(early, late, ptr, tokens, sums, scratch)


@intrinsic
@no_type_check
def _ask_for(typing_context, array, index):
    """Ask memory for `WIDTH` elements of a contiguous array; past its end that does no harm."""
    signature = types.void(array, types.intp)

    @no_type_check
    def generate(context, builder, _, arguments):  # pragma: no cover - run by numba, once
        byte, number = ir.IntType(8), ir.IntType(32)
        held = context.make_array(array)(context, builder, arguments[0])
        first = builder.bitcast(builder.gep(held.data, [arguments[1]]), byte.as_pointer())
        hint = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte.as_pointer()], hint)
        for line in range(0, WIDTH * array.dtype.bitwidth // 8, 64):
            at = builder.gep(first, [ir.IntType(64)(line)])
            # to be read, needed soon and again, data
            builder.call(prefetch, [at, number(0), number(3), number(1)])

    return signature, generate


@intrinsic
@no_type_check
def _add_list(typing_context, strip, tokens, first, last, sums, segment):
    """Add the fp32 sum of the rows tokens[first:last], at least one, to the sums of a segment; all arrays contiguous."""
    signature = types.void(strip, tokens, types.intp, types.intp, sums, types.intp)

    @no_type_check
    def generate(context, builder, _, arguments):  # pragma: no cover - run by numba, once
        rows, entries, begin, end, totals, place = arguments
        rows, entries, totals = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in ((strip, rows), (tokens, entries), (sums, totals))
        )
        narrow, wide = (ir.VectorType(kind, LANES) for kind in (ir.FloatType(), ir.DoubleType()))
        word, vectors = begin.type, range(WIDTH // LANES)

        @no_type_check
        def vector(array, line, v, kind):
            """Where vector v of a line of `WIDTH` numbers lies."""
            first = builder.add(builder.mul(line, word(WIDTH)), word(LANES * v))
            return builder.bitcast(builder.gep(array, [first]), kind.as_pointer())

        @no_type_check
        def row(entry):
            token = builder.sext(builder.load(builder.gep(entries, [entry])), word)
            return [builder.load(vector(rows, token, v, narrow), align=4) for v in vectors]

        parts = [cgutils.alloca_once(builder, narrow) for _ in vectors]
        for part, value in zip(parts, row(begin), strict=True):
            builder.store(value, part)
        with cgutils.for_range_slice(builder, builder.add(begin, word(1)), end, word(1)) as (entry, _):
            for part, value in zip(parts, row(entry), strict=True):
                builder.store(builder.fadd(builder.load(part), value), part)
        for v, part in zip(vectors, parts, strict=True):
            at = vector(totals, place, v, wide)
            total = builder.fadd(builder.load(at, align=8), builder.fpext(builder.load(part), wide))
            builder.store(total, at, align=8)

    return signature, generate


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _copy_strip(rows, low, strip, start):  # pragma: no cover - compiled
    n_columns = rows.shape[1] - low
    for t in range(len(rows)):
        source, place = rows[t], strip[start + t]
        _ask_for(rows, (t + ROWS_AHEAD) * rows.shape[1] + low)
        if n_columns >= WIDTH:
            for i in range(WIDTH):  # a number known beforehand: four vectors
                place[i] = source[low + i]
        else:
            for i in range(n_columns):
                place[i] = source[low + i]
            place[n_columns:] = 0.0


@numba.njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _add_lists(early, late, ptr, tokens, sums, scratch):  # pragma: no cover - compiled
    n_strips, n_segments, _ = sums.shape
    n_workers = len(scratch)
    n_chunks = -(-n_workers // n_strips)
    for worker in numba.prange(n_workers):
        for job in range(worker, n_strips * n_chunks, n_workers):
            strip, chunk = job // n_chunks, job % n_chunks
            together, own = scratch[worker], sums[strip]
            _copy_strip(early, strip * WIDTH, together, 0)
            _copy_strip(late, strip * WIDTH, together, len(early))
            for s in range(n_segments * chunk // n_chunks, n_segments * (chunk + 1) // n_chunks):
                _ask_for(own, (s + AHEAD) * WIDTH)
                for tile in range(len(ptr)):
                    if ptr[tile, s + 1] > ptr[tile, s]:
                        _add_list(together, tokens, ptr[tile, s], ptr[tile, s + 1], own, s)
