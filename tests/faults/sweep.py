"""Kill, fill and cut the power at every write boundary, resume, compare: prints one JSON object of counts.

python tests/faults/sweep.py kill 0 2      boundaries 0, 2, 4, … of the whole job
python tests/faults/sweep.py replace 0 4   the same while --force replaces a finished run
python tests/faults/sweep.py twice 12      that many random pairs of kills, the second during the resume
python tests/faults/sweep.py full 0 4      no space from boundary k on, then space again
python tests/faults/sweep.py memory 0 4    no memory at tensor operation k
python tests/faults/sweep.py power 0 9 2   crash states after every call: every 9th different one resumed, every 2nd read
"""

from __future__ import annotations

import os

# before anything starts threads: what is forked must have one
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NUMBA_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import itertools
import json
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import torch
from disks import ERRORS, CountingDisk, CrashedDisk, FullDisk, KillingDisk, RecordingDisk
from job import draw_once, files, keep_after_every_tile, run_job
from torch.utils._python_dispatch import TorchDispatchMode

from probekit.errors import (
    CorruptError,
    DiskFullError,
    IncompleteError,
    OutOfMemoryError,
    ProbekitError,
    StoreError,
)
from probekit.results.run import load
from probekit.storage import store
from probekit.storage.verify import verify

WHAT_TO_DO = r"needs some [\d,]+ bytes|Every layer is measured and kept"
"""What a lack of memory says while layers are measured, and once they are."""


class Starving(TorchDispatchMode):
    """Counts tensor operations and has no memory for one of them."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k, self.n_operations = k, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n_operations += 1
        if self.n_operations - 1 == self.k:
            raise torch.OutOfMemoryError("planted: tried to allocate more than there is")
        return func(*args, **(kwargs or {}))


SHARED_MEMORY = Path("/dev/shm")


def in_child(work: Callable[[], object]) -> int:
    """Run in a fork; returns how it ended, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Sweep:
    """A clean run, and what becomes of disturbed ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        keep_after_every_tile()
        draw_once()
        run_job(folder / "clean")
        self.clean = files(folder / "clean")
        counting = CountingDisk()
        with store.on(counting):
            run_job(folder / "counted")
        if files(folder / "counted") != self.clean:
            raise SystemExit("the job is not repeatable: nothing can be compared")
        self.n_boundaries = counting.n_boundaries
        self.wrong: list[str] = []
        self.seen: dict[str, int] = {}

    def count(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1

    def check(self, out: Path, what: str) -> None:
        """The directory is the clean one, to the byte and with nothing beside."""
        found = files(out)
        if found != self.clean:
            odd = sorted(n for n in {*found, *self.clean} if found.get(n) != self.clean.get(n))
            self.wrong.append(f"{what}: differs in {odd[:4]}")
        shutil.rmtree(out, ignore_errors=True)

    def read(self, out: Path, what: str, old: dict[str, str] | None = None) -> None:
        """A reader at this moment sees the old run, the new one or an IncompleteError, and never a part."""
        try:
            run = load(out)
            for look in (run.pairs, run.paths, run.examples):
                look()
            now = {name: digest for name, digest in files(out).items() if name in run._results.files}
            wanted = [
                {n: d for n, d in w.items() if n in run._results.files} for w in (self.clean, old or {})
            ]
            self.count("reader saw a whole run")
            if now not in wanted:
                self.wrong.append(f"{what}: a reader saw a run that is neither the old nor the new one")
        except IncompleteError:
            self.count("reader was told it is unfinished")
        except StoreError as error:
            # before run.json is named there is nothing that could be called a run
            if (out / "run.json").exists():
                self.wrong.append(f"{what}: a reader got {type(error).__name__}: {error}")
            self.count("reader was told it is no run")

    def resume(self, out: Path, what: str) -> None:
        try:
            run_job(out)
        except ProbekitError as error:
            self.wrong.append(f"{what}: not resumed, {type(error).__name__}: {error}")
        self.check(out, what)

    # ------------------------------------------------------------------------------ the sweeps

    def kill(self, offset: int, every: int) -> None:
        for k in range(offset, self.n_boundaries, every):
            out = self.folder / f"kill-{k}"
            ended = in_child(lambda out=out, k=k: _on(KillingDisk(k), lambda: run_job(out)))
            if ended != -signal.SIGKILL:
                self.wrong.append(f"kill at {k}: ended with {ended}")
            self.read(out, f"kill at {k}")
            self.resume(out, f"kill at {k}")
            self.count("killed")

    def replace(self, offset: int, every: int) -> None:
        other = self.folder / "other"
        run_job(other, seed=1)
        old = files(other)
        counting = CountingDisk()
        shutil.copytree(other, self.folder / "counted-force")
        with store.on(counting):
            run_job(self.folder / "counted-force", force=True)
        for k in range(offset, counting.n_boundaries, every):
            out = self.folder / f"replace-{k}"
            shutil.copytree(other, out)
            in_child(lambda out=out, k=k: _on(KillingDisk(k), lambda: run_job(out, force=True)))
            self.read(out, f"replace killed at {k}", old)
            run_job(out, force=True)
            self.check(out, f"replace killed at {k}")
            self.count("killed")

    def twice(self, n: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        for first, second in rng.integers(0, self.n_boundaries, (n, 2)).tolist():
            out = self.folder / f"twice-{first}-{second}"
            for k in (first, second):
                in_child(lambda out=out, k=k: _on(KillingDisk(k), lambda: run_job(out)))
            self.resume(out, f"kills at {first} and {second}")
            self.count("killed twice")

    def full(self, offset: int, every: int) -> None:
        for k in range(offset, self.n_boundaries, every):
            out, error = self.folder / f"full-{k}", ERRORS[k // every % len(ERRORS)]
            disk = FullDisk(k, error)
            wanted = StoreError if os.strerror(error) == os.strerror(5) else DiskFullError
            try:
                with store.on(disk):
                    run_job(out)
                if disk.has_failed:
                    self.wrong.append(f"full from {k}: finished although writing failed")
                self.count("nothing left to write")
            except (DiskFullError, StoreError) as raised:
                self.count(type(raised).__name__)
                if type(raised) is not wanted:
                    self.wrong.append(f"full from {k}: {type(raised).__name__} for {os.strerror(error)}")
                try:
                    verify(out)
                except IncompleteError:
                    pass
                except StoreError as damage:
                    if (out / "run.json").exists():
                        self.wrong.append(f"full from {k}: finished parts are damaged: {damage}")
            self.resume(out, f"full from {k}")

    def memory(self, offset: int, every: int) -> None:
        """No memory at the k-th tensor operation, for every k until the job gets through."""
        counting = Starving(-1)
        with counting:
            run_job(self.folder / "thirsty")
        self.seen["tensor operations"] = counting.n_operations
        for k in range(offset, counting.n_operations, every):
            out = self.folder / f"memory-{k}"
            try:
                with Starving(k):
                    run_job(out)
                self.wrong.append(f"no memory at operation {k}: finished")
            except OutOfMemoryError as error:
                self.count("OutOfMemoryError")
                if (out / "stages").exists() and not re.search(WHAT_TO_DO, str(error)):
                    self.wrong.append(f"no memory at operation {k}: does not say what to do: {error}")
            self.resume(out, f"no memory at operation {k}")

    def power(self, offset: int, every: int, look: int = 1) -> None:
        out = self.folder / "recorded"
        recording = RecordingDisk(out)
        with store.on(recording):
            run_job(out)
        crashed, known = CrashedDisk(), set[str]()
        n_states = n_resumed = 0
        for done, operation in enumerate(recording.log):
            crashed.play(operation)
            indices = range(len(crashed.pending))
            if len(indices) <= 4:
                subsets = [c for r in range(len(indices) + 1) for c in itertools.combinations(indices, r)]
            else:  # too many to try all: none, all, all but one, and the first ones in order
                subsets = [(), tuple(indices), *(tuple(j for j in indices if j != i) for i in indices[:4])]
                subsets += [tuple(indices[:n]) for n in (1, 2, len(indices) // 2)]
            for reached, tail in itertools.product(dict.fromkeys(subsets), ("lost", "torn", "zero")):
                state = crashed.state(reached, tail)
                n_states += 1
                what = f"power lost after call {done}, {len(reached)} of {len(crashed.pending)} names, bytes {tail}"
                signature = json.dumps(
                    {p: None if d is None else store.blake2b(d) for p, d in state.items()}, sort_keys=True
                )
                if signature in known:
                    continue
                known.add(signature)
                resumes = (len(known) - 1) % every == offset
                if not resumes and len(known) % look:
                    continue
                n_resumed += resumes
                self._crashed_state(state, what, resumes=resumes)
        self.seen |= {"crash states": n_states, "different ones": len(known), "resumed": n_resumed}

    def _crashed_state(self, state: dict[str, bytes | None], what: str, *, resumes: bool) -> None:
        out = self.folder / "crashed"
        for path, data in sorted(state.items()):
            if data is None:
                (out / path).mkdir(parents=True, exist_ok=True)
            else:
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                (out / path).write_bytes(data)
        self.read(out, what)
        try:
            verify(out)
        except IncompleteError:
            pass
        except CorruptError:  # what a resume would believe is not what was written: it must refuse
            self.count("refused")
        except StoreError as error:
            if (out / "run.json").exists():
                self.wrong.append(f"{what}: {type(error).__name__}: {error}")
        if not resumes:
            shutil.rmtree(out, ignore_errors=True)
            return
        try:
            run_job(out)
        except (CorruptError, IncompleteError):
            shutil.rmtree(out)
            return
        self.check(out, what)


def _on(disk: Any, work: Callable[[], object]) -> None:
    with store.on(disk):
        work()


def main() -> None:
    what, numbers = sys.argv[1], [int(word) for word in sys.argv[2:]]
    place = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        sweep = Sweep(Path(folder))
        getattr(sweep, what)(*numbers)
        heavy = [name for name in ("transformer_lens", "transformers") if name in sys.modules]
        told = {"n_boundaries": sweep.n_boundaries, **sweep.seen, "wrong": sweep.wrong, "loaded": heavy}
        told["digest"] = store.blake2b(json.dumps(sweep.clean, sort_keys=True).encode())
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
