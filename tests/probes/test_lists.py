"""Token lists against plain intersections; their sums against plain sums, the same bits whichever way they are taken."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from probekit.probes import sums as of_lists
from probekit.probes.lists import TokenLists, segments, token_lists
from probekit.probes.moments import Moments
from probekit.probes.pairs import LabelColumns, all_pairs
from probekit.probes.strips import WIDTH, aligned
from probekit.probes.sums import ListSums, bytes_waiting
from probekit.probes.tiles import TILE


def test_segments_are_the_tokens_of_pairs_then_concepts() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((300, 5)) < [0.5, 0.3, 0.0, 1.0, 0.1]
    pairs = all_pairs(5)
    ptr, tokens = segments(LabelColumns.from_dense(labels), pairs)
    lists = [tokens[a:b].tolist() for a, b in pairwise(ptr)]
    both = [np.flatnonzero(labels[:, a] & labels[:, b]).tolist() for a, b in pairs]
    assert lists == both + [np.flatnonzero(column).tolist() for column in labels.T]


@pytest.mark.parametrize("share", [0.05, 0.6])
def test_both_ways_to_intersect_give_the_same_lists(share: float) -> None:
    """At each token where few concepts hold, pair by pair where many do or a pair is asked for twice."""
    rng = np.random.default_rng(2)
    labels = LabelColumns.from_dense(rng.random((500, 12)) < share)
    pairs = all_pairs(12)[:, ::-1][rng.permutation(66)[:40]].astype(np.int32)
    held = labels.dense() > 0
    for asked in (pairs, pairs[:3], np.concatenate([pairs, pairs[:1, ::-1]])):
        ptr, tokens = segments(labels, asked)
        for p, (a, b) in enumerate(asked.tolist()):
            assert tokens[ptr[p] : ptr[p + 1]].tolist() == np.flatnonzero(held[:, a] & held[:, b]).tolist()
        assert ptr[len(asked)] == sum((held[:, a] & held[:, b]).sum() for a, b in asked.tolist())


def drawn(
    n_tokens: int, n_concepts: int, share: float, n_folds: int, seed: int
) -> tuple[np.ndarray, TokenLists]:
    """Labels [token, pairs and concepts] and their lists, folds at random."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n_tokens, n_concepts)) < share
    pairs = all_pairs(n_concepts)
    fold = rng.integers(0, n_folds, n_tokens)
    lists = token_lists(LabelColumns.from_dense(labels), pairs, fold, n_folds)
    return np.concatenate([labels[:, pairs[:, 0]] & labels[:, pairs[:, 1]], labels], axis=1), lists


@pytest.mark.parametrize("n_folds", [1, 3])
def test_lists_of_a_fold_are_the_tokens_of_the_fold(n_folds: int) -> None:
    held, lists = drawn(400, 6, 0.3, n_folds, seed=3)
    fold = np.random.default_rng(3)
    fold.random((400, 6))
    fold = fold.integers(0, n_folds, 400)
    assert sorted(lists.order) == list(range(400))
    assert lists.n_folds == n_folds
    for f in range(n_folds):
        own = lists.order[lists.bounds[f] : lists.bounds[f + 1]]
        assert own.tolist() == np.flatnonzero(fold == f).tolist()
        ptr, rows = lists.of_fold(f)
        found = [own[rows[a:b]].tolist() for a, b in pairwise(ptr)]
        assert found == [np.flatnonzero(column & (fold == f)).tolist() for column in held.T]
        assert lists.n_held[f].tolist() == [len(tokens) for tokens in found]
    assert lists.n_tokens.tolist() == np.bincount(fold, minlength=n_folds).tolist()


@pytest.mark.parametrize("n_neurons", [9, WIDTH, 2 * WIDTH + 5])
@pytest.mark.parametrize("n_folds", [1, 3])
def test_sums_of_lists_are_plain_sums(n_neurons: int, n_folds: int) -> None:
    rng = np.random.default_rng(1)
    sums = ListSums(n_folds, 15, n_neurons)
    expected = np.zeros((n_folds, 15, n_neurons))
    for tile in range(3):
        rows = rng.standard_normal((1_000, n_neurons)).astype(np.float32)
        held, lists = drawn(1_000, 5, 0.4, n_folds, seed=tile)
        sums.add(rows[lists.order], lists)
        for f in range(n_folds):
            own = lists.order[lists.bounds[f] : lists.bounds[f + 1]]
            expected[f] += held[own].T.astype(float) @ rows[own].astype(float)
    for f, chosen in enumerate(np.eye(n_folds, dtype=bool)):
        # at most 400 fp32 additions of numbers of order 1 a tile: 400·2⁻²⁴·√400 ≈ 5e-4 at worst, ~1e-5 typically
        np.testing.assert_allclose(sums.over(chosen), expected[f], atol=1e-4)
    np.testing.assert_allclose(sums.over(np.ones(n_folds, bool)), expected.sum(0), atol=2e-4)
    again = ListSums(n_folds, 15, n_neurons)
    for f, chosen in enumerate(np.eye(n_folds, dtype=bool)):
        again.put(f, sums.over(chosen))
    assert again.strips.tobytes() == sums.strips.tobytes()


def streamed(n_tiles: int, *, asked: bool = False) -> ListSums:
    """Tiles of short lists, by two folds; the sums may be asked for after each."""
    rng = np.random.default_rng(2)
    sums = ListSums(2, 15, WIDTH + 8)
    for tile in range(n_tiles):
        _, lists = drawn(60, 5, 0.2, 2, seed=tile)
        sums.add(rng.standard_normal((60, WIDTH + 8)).astype(np.float32), lists)
        if asked:
            assert np.isfinite(sums.strips).all()
    return sums


@pytest.mark.parametrize("n_tiles", [1, 2, 5])
def test_a_tile_that_waits_for_the_next_changes_no_bit(n_tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = streamed(n_tiles)
    monkeypatch.setattr(of_lists, "MIN_SUMS_TO_TILE", 0)
    waiting, broken_off = streamed(n_tiles), streamed(n_tiles, asked=True)
    assert len(waiting._waiting) == n_tiles % 2
    assert at_once.strips.tobytes() == waiting.strips.tobytes() == broken_off.strips.tobytes()
    assert np.abs(at_once.strips).max() > 1


@pytest.mark.parametrize("n_folds", [1, 2])
def test_what_waits_is_a_copy_of_the_tile(n_folds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a tile is filled again; sums that kept the tile itself would be those of the next one."""
    monkeypatch.setattr(of_lists, "MIN_SUMS_TO_TILE", 0)
    rng = np.random.default_rng(6)
    tiles = [torch.from_numpy(rng.standard_normal((60, 9)).astype(np.float32)) for _ in range(2)]
    lists = [drawn(60, 5, 0.2, n_folds, seed=tile)[1] for tile in range(2)]
    kept, reused = Moments(9, 5, n_folds=n_folds), Moments(9, 5, n_folds=n_folds)
    naive, memory = ListSums(n_folds, 15, 9), torch.empty(60, 9)
    for rows, own in zip(tiles, lists, strict=True):
        kept.add_tile(rows, own)
        memory.copy_(rows)
        reused.add_tile(memory, own)
        naive.add(memory.numpy(), own)
    assert reused._sums.strips.tobytes() == kept._sums.strips.tobytes()
    # the control: without the copy the first tile's lists are summed over the second tile's rows
    apart = ListSums(n_folds, 15, 9)
    for rows, own in zip(tiles, lists, strict=True):
        apart.add(rows.numpy(), own)
    assert naive.strips.tobytes() != apart.strips.tobytes()


def test_long_lists_and_small_sums_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bytes_waiting(1, 15, 100) == 0
    assert bytes_waiting(1, 10_000, 100) == 4 * TILE * 100
    rows = np.ones((60, 3), np.float32)
    for share, n_waiting in ((0.2, 1), (0.9, 0)):
        sums = ListSums(1, 15, 3)
        with monkeypatch.context() as small:
            small.setattr(of_lists, "MIN_SUMS_TO_TILE", 0)
            sums.add(rows, drawn(60, 5, share, 1, seed=0)[1])
        assert len(sums._waiting) == n_waiting


@pytest.mark.parametrize("n_neurons", [WIDTH, 5 * WIDTH - 1])
def test_threads_change_no_bit(n_neurons: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than strips, and fewer."""
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((500, n_neurons)).astype(np.float32)
    _, lists = drawn(500, 12, 0.2, 1, seed=5)
    found = []
    for n_threads in (1, 2, 3, 16):
        monkeypatch.setattr("probekit.probes.strips.numba.get_num_threads", lambda n=n_threads: n)
        sums = ListSums(1, 78, n_neurons)
        sums.add(rows, lists)
        found.append(sums.strips.tobytes())
    assert len(set(found)) == 1
    assert any(found[0])


def test_sums_lie_on_whole_cache_lines() -> None:
    for dtype in (np.float32, np.float64):
        for shape in ((3,), (2, 5, WIDTH)):
            held = aligned(shape, dtype)
            assert held.ctypes.data % 64 == 0
            assert held.shape == shape
            assert held.dtype == dtype
            assert held.flags.c_contiguous
            assert not held.any()
