"""Blocks are kept when they are first read: the same bits, one forward, and nothing of a layer that is done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from probekit.analysis.source import Half, LayerBlock, ReadOnce
from probekit.model.weights import MlpWeights

SIZES = (5, 3, 4)


class Counted:
    """Two layers, three blocks a half; it counts the blocks it is asked for."""

    width_kept = 3

    def __init__(self) -> None:
        self.n_blocks = 0

    def blocks(self, half: Half, layers: list[int], start: int = 0) -> Iterator[LayerBlock]:
        first = 0
        for size in SIZES:
            stop = first + size
            if stop > start:
                self.n_blocks += 1
                token = torch.arange(max(first, start), stop, dtype=torch.float32)[:, None]
                token = token + (100 if half == "confirm" else 0)
                yield {layer: (token + 1_000 * layer, token.expand(-1, 2) - layer) for layer in layers}
            first = stop

    def weights(self, layer: int) -> MlpWeights | None:
        return None

    def has_inputs(self, layer: int) -> bool:
        return True


def rows(blocks: Iterator[LayerBlock], layer: int) -> torch.Tensor:
    pairs = [block[layer] for block in blocks]
    return torch.cat([torch.cat([x, h], dim=1) for x, h in pairs if x is not None])


@pytest.mark.parametrize("start", range(sum(SIZES)))
@pytest.mark.parametrize("n_before", range(len(SIZES) + 1))
def test_it_gives_what_the_source_gives_from_any_token_on(start: int, n_before: int) -> None:
    """Also after a reader that stopped early, as the calibration does."""
    kept = ReadOnce(Counted(), [0, 1])
    for _ in zip(range(n_before), kept.blocks("fit", [1]), strict=False):
        pass
    for layer in (0, 1):
        found = rows(kept.blocks("fit", [layer], start), layer)
        assert torch.equal(found, rows(Counted().blocks("fit", [layer], start), layer))


def test_every_block_is_computed_once() -> None:
    source = Counted()
    kept = ReadOnce(source, [0, 1])
    for half in ("fit", "confirm"):
        for layer in (0, 1, 0):
            assert len(rows(kept.blocks(half, [layer]), layer)) == sum(SIZES)
    assert source.n_blocks == 2 * len(SIZES)
    # the control: without it each reading computes
    for _ in range(3):
        list(source.blocks("fit", [0]))
    assert source.n_blocks == 5 * len(SIZES)


def test_a_layer_that_is_done_is_given_back() -> None:
    kept = ReadOnce(Counted(), [0, 1])
    list(kept.blocks("fit", [0]))
    kept.forget(0)
    assert all(set(block) == {1} for block in kept.blocks("fit", [0, 1]))
    assert set(next(kept.blocks("confirm", [1]))) == {1}, "nor is it read any more"
