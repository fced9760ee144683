"""Whatever blocks arrive, the same tiles leave; segment sums against plain sums."""

from __future__ import annotations

import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch

from probekit.probes.pairs import LabelColumns, all_pairs
from probekit.probes.tiles import (
    STRIP,
    TILE,
    add_gram,
    add_segments,
    column_sums,
    mirrored,
    retile,
    segments,
)


def blocks(x: torch.Tensor, n_tokens: int):
    """The rows and their negatives, in blocks."""
    for start in range(0, len(x), n_tokens):
        yield x[start : start + n_tokens], -x[start : start + n_tokens, 0]


@pytest.mark.parametrize("n_block", [1, 7, 64, 100, 250, 1_000, 10_000])
def test_tiles_do_not_depend_on_blocks(n_block: int) -> None:
    x = torch.arange(2_001 * 3, dtype=torch.float32).reshape(-1, 3)
    # a tile may lie where the one before lay
    tiles = [(start, tuple(part.clone() for part in tile)) for start, tile in retile(blocks(x, n_block), 250)]
    assert [start for start, _ in tiles] == list(range(0, 2_001, 250))
    assert [len(rows) for _, (rows, _) in tiles] == [250] * 8 + [1]
    assert torch.equal(torch.cat([rows for _, (rows, _) in tiles]), x)
    assert torch.equal(torch.cat([other for _, (_, other) in tiles]), -x[:, 0])


@pytest.mark.parametrize("n_block", [30, 70])
def test_a_block_is_let_go_before_the_next_is_asked_for(n_block: int) -> None:
    seen: list[weakref.ref[torch.Tensor]] = []

    def counted():
        for _ in range(10):
            assert all(block() is None for block in seen)
            block = torch.zeros(n_block, 2)
            seen.append(weakref.ref(block))
            yield (block,)
            del block

    assert sum(len(rows) for _, (rows,) in retile(counted(), 100)) == 10 * n_block


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


@pytest.mark.parametrize("share", [0.05, 0.6])
def test_both_ways_to_intersect_give_the_same_lists(share: float) -> None:
    """Token by token where few concepts hold, pair by pair where many do or a pair is asked for twice."""
    rng = np.random.default_rng(2)
    labels = LabelColumns.from_dense(rng.random((500, 12)) < share)
    pairs = all_pairs(12)[:, ::-1][rng.permutation(66)[:40]].astype(np.int32)
    held = labels.dense() > 0
    for asked in (pairs, pairs[:3], np.concatenate([pairs, pairs[:1, ::-1]])):
        ptr, tokens = segments(labels, asked)
        for p, (a, b) in enumerate(asked.tolist()):
            assert tokens[ptr[p] : ptr[p + 1]].tolist() == np.flatnonzero(held[:, a] & held[:, b]).tolist()
        assert ptr[len(asked)] == sum((held[:, a] & held[:, b]).sum() for a, b in asked.tolist())


@pytest.mark.parametrize("n_neurons", [3, STRIP, 2 * STRIP + 7])
def test_the_upper_triangle_is_the_gram_matrix(n_neurons: int) -> None:
    rows = torch.from_numpy(np.random.default_rng(3).standard_normal((200, n_neurons)).astype(np.float32))
    gram = np.zeros((n_neurons, n_neurons))
    add_gram(rows[:150], torch.from_numpy(gram))
    add_gram(rows[150:], torch.from_numpy(gram))
    exact = rows.double().numpy()
    # fp32 products of 150 terms of size 1
    np.testing.assert_allclose(mirrored(gram), exact.T @ exact, atol=1e-4)
    assert (gram == gram.T).all() or n_neurons <= STRIP
    np.testing.assert_allclose(column_sums(rows).numpy(), exact.sum(0), atol=1e-5)
