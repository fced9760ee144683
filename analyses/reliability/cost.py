"""What being killable costs: the time a nano run spends in the store, of its whole time.

    python analyses/reliability/cost.py

Runs `analyze("nano", …)` with its directory kept, and adds up the time spent in every call that only the promises need:
keeping parts and running sums, digests, flushes, lock, verification on reading, fingerprints. Differences of two whole runs
would drown in the noise of a shared machine; time within one run does not. Then the speed of `probekit verify` over a stage of four
parts of 64 MiB. Result: analyses/results/reliability_cost.md.
"""

# ruff: noqa: E501 - the command that made a table stands on one line

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from probekit.analysis import api, inputs, runner
from probekit.errors import IncompleteError
from probekit.storage import checkpoint, lock, manifest, shards, store
from probekit.storage.verify import N_THREADS, verify

RESULT = Path(__file__).parents[1] / "results" / "reliability_cost.md"


class Clock:
    """Time inside wrapped calls, nested ones counted once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._depth = 0

    def wrap(self, place: Any, name: str, what: str) -> None:
        """Time a function or method."""
        inner: Callable[..., Any] = getattr(place, name)

        def timed(*args: Any, **options: Any) -> Any:
            if self._depth:
                return inner(*args, **options)
            self._depth += 1
            begun = time.perf_counter()
            try:
                return inner(*args, **options)
            finally:
                self._depth -= 1
                self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - begun
                self.calls[what] = self.calls.get(what, 0) + 1

        setattr(place, name, timed)


def verify_rate(folder: Path, n_parts: int = 4) -> float:
    """Bytes a second of `verify` over parts of the usual size, read from the page cache."""
    record = {"schema": manifest.RECORD_SCHEMA, "format": manifest.FORMAT, "science": {}, "identity": "x"}
    store.write_sealed(folder / manifest.RECORD, record)
    stage = shards.Stage(folder / shards.STAGES / "sums", "inputs")
    values = np.random.default_rng(0).standard_normal(checkpoint.PART_BYTES // 8)
    for part in range(n_parts):
        stage.put(part, {"sums": values}, n_tokens=1)
    stage.commit()
    begun = time.perf_counter()
    try:
        verify(folder)
    except IncompleteError:  # a stage is no finished run; its parts have been compared
        return n_parts * values.nbytes / (time.perf_counter() - begun)
    raise AssertionError("verify took a stage for a run")


def main() -> None:
    """One run, timed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-tokens", type=int, default=60_000)
    parser.add_argument("--max-pairs", type=int, default=400)
    parser.add_argument("--twins", type=int, default=8)
    options = vars(parser.parse_args())
    clock = Clock()
    clock.wrap(checkpoint.Pass, "save", "results of passes")
    clock.wrap(checkpoint.Pass, "close", "COMMIT records, removal of kept sums")
    clock.wrap(checkpoint.Pass, "maybe_save", "running sums")
    clock.wrap(checkpoint.Pass, "load", "looking for finished parts")
    clock.wrap(checkpoint.Pass, "resume", "looking for kept sums")
    clock.wrap(checkpoint.CheckpointStore, "clear", "removal of working stages")
    clock.wrap(runner, "keep_layer", "decided layers as parts")
    clock.wrap(inputs.AnalysisInputs, "fingerprint", "fingerprint of tokens, labels, weights")
    clock.wrap(runner.directory, "commit", "digests of the results")
    clock.wrap(store, "write_bytes", "all other writing")
    clock.wrap(store, "read_bytes", "reading back, digests compared")
    clock.wrap(lock, "_acquire", "lock")
    with tempfile.TemporaryDirectory() as name:
        for trial in ("warm", "timed"):  # the first compiles and fills the cache of texts
            clock.seconds, clock.calls = {}, {}
            begun = time.perf_counter()
            api.analyze("nano", out=Path(name) / trial, progress=False, **options)
            whole = time.perf_counter() - begun
        kept = sum(p.stat().st_size for p in (Path(name) / "timed").rglob("*") if p.is_file())
        shutil.rmtree(Path(name) / "timed" / shards.STAGES)
        without = sum(p.stat().st_size for p in (Path(name) / "timed").rglob("*") if p.is_file())
        rate = verify_rate(Path(name) / "parts")
    total = sum(clock.seconds.values())
    rows = "\n".join(
        f"| {what} | {clock.calls[what]} | {seconds:.3f} | {seconds / whole:.2%} |"
        for what, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1])
    )
    words = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in options.items())
    text = f"""# What being killable costs

`python analyses/reliability/cost.py {words}`: `analyze("nano", {", ".join(f"{k}={v}" for k, v in options.items())})`, all four layers, on
a two-core machine shared with other work. The run took {whole:.1f} s; {total:.2f} s of them, **{total / whole:.2%}**, went into calls
that only the promises need (and into writing the results and the report, which any run needs). The stage that stays in
the finished directory takes {kept - without:,} of its {kept:,} bytes.

| | calls | seconds | share |
|---|---|---|---|
{rows}

Running sums are kept only when that takes at most {checkpoint.SHARE:.0%} of the time since they were last kept (`checkpoint.SHARE`), so
the share stays bounded on larger models; a run as short as this one keeps them rarely or never.

`probekit verify` compares {rate / 1e9:.2f} GB/s here, crc32 and blake2b-256 of every byte, {N_THREADS} files side by side.
"""
    store.write_text(RESULT, text)
    print(text)


if __name__ == "__main__":
    main()
