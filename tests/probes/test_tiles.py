"""Whatever blocks arrive, the same tiles leave; segment sums against plain sums."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from probekit.probes.pairs import LabelColumns, all_pairs
from probekit.probes.tiles import TILE, add_segments, retile, segments


def blocks(x: torch.Tensor, n_tokens: int):
    """The rows and their negatives, in blocks."""
    for start in range(0, len(x), n_tokens):
        yield x[start : start + n_tokens], -x[start : start + n_tokens, 0]


@pytest.mark.parametrize("n_block", [1, 7, 64, 100, 250, 1_000, 10_000])
def test_tiles_do_not_depend_on_blocks(n_block: int) -> None:
    x = torch.arange(2_001 * 3, dtype=torch.float32).reshape(-1, 3)
    tiles = list(retile(blocks(x, n_block), 250))
    assert [start for start, _ in tiles] == list(range(0, 2_001, 250))
    assert [len(rows) for _, (rows, _) in tiles] == [250] * 8 + [1]
    assert torch.equal(torch.cat([rows for _, (rows, _) in tiles]), x)
    assert torch.equal(torch.cat([other for _, (_, other) in tiles]), -x[:, 0])


def test_empty_blocks_and_streams() -> None:
    assert list(retile([])) == []
    assert list(retile([(torch.empty(0, 2),)])) == []
    x = torch.ones(5, 2)
    (start, (rows,)), = retile([(x[:2],), (x[:0],), (x[2:],)])  # fmt: skip
    assert start == 0
    assert torch.equal(rows, x)
    assert TILE == 4_096


def test_segments_are_the_tokens_of_pairs_then_concepts() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((300, 5)) < [0.5, 0.3, 0.0, 1.0, 0.1]
    pairs = all_pairs(5)
    ptr, tokens = segments(LabelColumns.from_dense(labels), pairs)
    lists = [tokens[a:b].tolist() for a, b in pairwise(ptr)]
    both = [np.flatnonzero(labels[:, a] & labels[:, b]).tolist() for a, b in pairs]
    assert lists == both + [np.flatnonzero(column).tolist() for column in labels.T]


def test_segment_sums_are_plain_sums_by_fold() -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((1_000, 9)).astype(np.float32)
    fold = rng.integers(0, 3, 1_000)
    labels = rng.random((1_000, 4)) < 0.4
    pairs = all_pairs(4)
    sums = np.ones((3, 10, 9))
    add_segments(rows, fold, *segments(LabelColumns.from_dense(labels), pairs), sums)
    held = np.concatenate([labels[:, pairs[:, 0]] & labels[:, pairs[:, 1]], labels], axis=1)
    for f in range(3):
        expected = 1 + (held & (fold == f)[:, None]).T.astype(float) @ rows.astype(float)
        # at most 400 fp32 additions of numbers of order 1: 400·2⁻²⁴·√400 ≈ 5e-4 at worst, ~1e-5 typically
        np.testing.assert_allclose(sums[f], expected, atol=1e-4)
