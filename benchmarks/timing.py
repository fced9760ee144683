"""Times of several ways to do the same, taken in turns so that a busy machine is busy for all of them.

Processor seconds of one thread are compared: on a machine shared with others elapsed time measures the others too.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timed:
    """Runs of one way."""

    seconds: list[float]
    """Processor seconds of each run."""
    n_items: int
    """Probes, tokens or pairs that one run does."""

    @property
    def each(self) -> float:
        """Median processor seconds an item."""
        return float(np.median(self.seconds)) / self.n_items

    @property
    def spread(self) -> float:
        """Largest over smallest run."""
        return max(self.seconds) / min(self.seconds)


def in_turns(
    ways: Mapping[str, tuple[Callable[[], object], int]], *, n_rounds: int, warm: bool = True
) -> dict[str, Timed]:
    """Run every way once a round, round after round.

    Args:
        ways: for each name what to run and how many items one run does.
        n_rounds: rounds that count.
        warm: whether a round that does not count goes first (compilers, caches).
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(n_rounds + warm):
        for name, (run, _) in ways.items():
            gc.collect()
            start = time.process_time()
            run()
            if round_ >= warm:
                seconds[name].append(time.process_time() - start)
    return {name: Timed(seconds[name], n_items) for name, (_, n_items) in ways.items()}
