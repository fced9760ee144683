"""The number of threads a run was begun with: sums of a matrix product may be grouped by it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from probekit.run.directory import RECORD, read_record


@contextlib.contextmanager
def as_begun(folder: Path) -> Generator[None, None, None]:
    """Compute with as many threads as the run in `folder` was begun with, if it was begun."""
    here = torch.get_num_threads()
    begun = read_record(folder).get("threads", here) if (folder / RECORD).exists() else here
    if begun == here or not isinstance(begun, int) or begun < 1:
        yield
        return
    torch.set_num_threads(begun)
    try:
        with threadpool_limits(begun):
            yield
    finally:
        torch.set_num_threads(here)
