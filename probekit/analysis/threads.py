"""The number of threads a run was begun with: sums of a matrix product may be grouped by it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from probekit.probes.workers import start_workers
from probekit.storage.manifest import RECORD, read_record


def threads_of(folder: Path) -> int:
    """The number of threads that the run in a folder was begun with; this process's own where none was begun."""
    here = torch.get_num_threads()
    begun = read_record(folder).get("threads", here) if (folder / RECORD).exists() else here
    return begun if isinstance(begun, int) and not isinstance(begun, bool) and begun >= 1 else here


@contextlib.contextmanager
def computing_with(n_threads: int) -> Generator[None, None, None]:
    """Compute with a number of threads, in torch and in the linear algebra of NumPy; afterwards all is as it was.

    Args:
        n_threads: how many.
    """
    start_workers()  # before the number is set: their start would change it
    here = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with threadpool_limits(n_threads):
            yield
    finally:
        torch.set_num_threads(here)
