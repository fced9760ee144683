"""R10: one job under every condition that must not matter; prints the digests of its files as JSON.

python tests/faults/grid.py 1 7 64 1000 0     these numbers of rows a block (0: all at once), each run from start to end and
                                              once more stopped in its last pass and continued

Folders are listed in an order that the environment's LISTING seeds (none: as they are). Threads of the kernels and the hash
seed come from the environment, too.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from job import GIVEN, files, keep_after_every_tile, run_job

from probekit.analysis.api import analyze_arrays
from probekit.analysis.source import ArraySource, Half, LayerBlock
from probekit.results import publish
from probekit.storage.shards import Stage

SHARED_MEMORY = Path("/dev/shm")


def in_blocks(n_rows: int) -> Callable[..., Iterator[LayerBlock]]:
    """`ArraySource.blocks` that delivers so many rows at a time."""
    whole = ArraySource.blocks

    def blocks(self: ArraySource, half: Half, layers: list[int], start: int = 0) -> Iterator[LayerBlock]:
        for block in whole(self, half, layers, start):
            n_tokens = len(next(iter(block.values()))[1])
            for at in range(0, n_tokens, n_rows or n_tokens):
                stop = at + (n_rows or n_tokens)
                yield {
                    layer: (None if inputs is None else inputs[at:stop], neurons[at:stop])
                    for layer, (inputs, neurons) in block.items()
                }

    return blocks


def shuffled(rng: np.random.Generator, listing: Callable[..., Any]) -> Callable[..., Any]:
    """A listing of a folder in an order of its own."""

    def listed(*args: Any, **options: Any) -> Any:
        found = list(listing(*args, **options))
        return iter([found[i] for i in rng.permutation(len(found))])

    return listed


def shuffle_listings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name in ("iterdir", "glob", "rglob"):
        setattr(Path, name, shuffled(rng, getattr(Path, name)))


def undrawn() -> None:
    """No report: it is most of a tiny run, and made of the results alone."""
    publish.figures = lambda *args: {"ladder": "<svg/>"}
    publish.render_page = lambda *args, **options: "<html/>"


def stopped_and_continued(out: Path) -> None:
    """Stopped behind the first tile of the last pass, then continued."""

    def stop(step: str, done: int, total: int) -> None:
        if step == "confirm":
            raise KeyboardInterrupt

    options = {"twins": 4, "max_pairs": 12, "min_support": 20, "seed": 0, "out": out}
    try:
        analyze_arrays(**GIVEN, **options, progress=stop)
    except KeyboardInterrupt:
        assert Stage(next(out.glob("stages/*.supports")), "").committed()
        run_job(out)
    else:
        raise AssertionError("it was not stopped")


def digests(rows: list[int], folder: Path) -> dict[str, dict[str, str]]:
    """Digest of every file, by the condition it was made under."""
    found: dict[str, dict[str, str]] = {}
    whole = ArraySource.blocks
    for n_rows in rows:
        ArraySource.blocks = in_blocks(n_rows)
        for what, do in (("whole", run_job), ("continued", stopped_and_continued)):
            out = folder / f"{what}-{n_rows}"
            do(out)
            found[out.name] = files(out)
        ArraySource.blocks = whole
    return found


def main() -> None:
    if "LISTING" in os.environ:
        shuffle_listings(int(os.environ["LISTING"]))
    keep_after_every_tile()
    undrawn()
    place = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        found = digests([int(word) for word in sys.argv[1:]], Path(folder))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
