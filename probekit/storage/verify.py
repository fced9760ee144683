"""Compare every byte of a run directory with the digest taken when it was written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from probekit.errors import CorruptError, IncompleteError, StoreError, guarded
from probekit.storage import manifest, store
from probekit.storage.shards import COMMIT, STAGES, Stage

SHOWN = 10
N_THREADS = min(4, os.cpu_count() or 1)
"""Files digested side by side; each is held in memory whole, and parts are of some 64 MiB."""


@dataclass(frozen=True)
class Verified:
    """What was compared and found as it was written."""

    n_files: int
    """Result files and parts."""
    n_bytes: int
    """Their size."""
    stages: list[str]
    """Stages looked at."""


@guarded
def verify(path: str | Path) -> Verified:
    """Check a run directory.

    Returns:
        What was compared. The report and figures are derived and not looked at.

    Raises:
        CorruptError: something is not what was written; the message lists it.
        IncompleteError: everything that is finished is intact, and the run is not finished.
        FormatError: another version of probekit wrote it.
        StoreError: it is no run directory.
        InputError: it is no path.
    """
    folder = manifest.as_folder(path)
    record = manifest.read_record(folder)
    check = _Checks()
    stages = sorted(
        p for p in (folder / STAGES).glob("*") if p.is_dir() and store.TEMPORARY_MARK not in p.name
    )
    identities = {stage.name: check.stage(Stage(stage, "")) for stage in stages}
    unfinished: IncompleteError | None = None
    try:
        results = manifest.read_results(folder, record)
    except IncompleteError as error:
        unfinished = error
    else:
        check.run(
            lambda name=name, digest=digest: len(store.read_bytes(folder / name, digest))
            for name, digest in results.files.items()
        )
        for name, identity in results.stages.items():
            if identities.get(name) != identity:
                check.damage.append(f"{folder / STAGES / name}: not the stage that {COMMIT} names")
    if check.damage:
        more = len(check.damage) - SHOWN
        raise CorruptError(
            f"{folder}: {len(check.damage)} of {check.n_files} files are not what was written:\n  "
            + "\n  ".join(check.damage[:SHOWN])
            + (f"\n  and {more} more" if more > 0 else "")
        )
    if unfinished is not None:
        raise IncompleteError(
            f"{folder}: {check.n_files} finished parts ({check.n_bytes:,} bytes) are intact, and the run is not finished; "
            f"`probekit resume {folder}` finishes it."
        )
    return Verified(check.n_files, check.n_bytes, list(identities))


class _Checks:
    """What was looked at, and what was wrong with it."""

    def __init__(self) -> None:
        self.n_files, self.n_bytes = 0, 0
        self.damage: list[str] = []

    def run(self, looks: Iterable[Callable[[], int]]) -> None:
        """Look at several files side by side (digesting lets other threads run), and report them in their order."""
        with ThreadPoolExecutor(N_THREADS) as pool:
            for n_bytes, damage in pool.map(_looked, looks):
                self.n_files += 1
                self.n_bytes += n_bytes
                self.damage += damage

    def stage(self, stage: Stage) -> str | None:
        self.run(
            lambda part=part: sum(values.nbytes for values in stage.get(part).values())
            for part in stage.parts()
        )
        identity: list[str | None] = [None]

        def commit() -> int:
            identity[0] = stage.committed()
            return 0

        self.run([commit])
        return identity[0]


def _looked(look: Callable[[], int]) -> tuple[int, list[str]]:
    try:
        return look(), []
    except StoreError as error:
        return 0, [str(error)]
