"""Whatever blocks arrive, the same tiles leave; Gram matrices and column sums against plain ones."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from probekit.probes.tiles import STRIP, TILE, add_gram, column_sums, mirrored, retile


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


@pytest.mark.parametrize("n_neurons", [3, STRIP, 2 * STRIP + 7])
def test_the_upper_triangle_is_the_gram_matrix(n_neurons: int) -> None:
    rows = torch.from_numpy(np.random.default_rng(3).standard_normal((200, n_neurons)).astype(np.float32))
    gram = np.zeros((n_neurons, n_neurons))
    add_gram(rows[:150], torch.from_numpy(gram))
    add_gram(rows[150:], torch.from_numpy(gram))
    exact = rows.double().numpy()
    # fp32 products of 150 terms of size 1
    np.testing.assert_allclose(mirrored(gram), exact.T @ exact, atol=1e-4)
    # what is mirrored is equal to the last bit; inside a strip on the diagonal a product may round its two halves apart
    apart = np.abs(np.arange(n_neurons)[:, None] // STRIP - np.arange(n_neurons) // STRIP) > 0
    assert (gram == gram.T)[apart].all()
    np.testing.assert_allclose(column_sums(rows).numpy(), exact.sum(0), atol=1e-5)
