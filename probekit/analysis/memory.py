"""How much memory a run may take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from probekit.errors import InputError

SHARE_OF_FREE = 0.5
"""Of the memory that is free, what a run takes unless it is told: others use the machine as well."""
UNKNOWN_FREE = 2.0e9
"""The budget in bytes where the system does not say what is free."""
_UNITS = {"": 1.0, "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2.0**10, "MIB": 2.0**20, "GIB": 2.0**30}

Memory = str | int | float
"""`auto`, bytes, or words such as `8GB`."""


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that a process could still take: what the kernel has, and what the container is allowed; None where unknown.

    Args:
        root: of the file system that holds /proc and /sys.
    """
    known: list[int] = []
    try:
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                known.append(1024 * int(line.split()[1]))
    except (OSError, ValueError):
        pass
    try:
        group = root / "sys/fs/cgroup"
        most, used = (int((group / f"memory.{part}").read_text()) for part in ("max", "current"))
        known.append(max(most - used, 0))
    except (OSError, ValueError):  # no such group, or no limit ("max")
        pass
    return min(known, default=None)


def as_bytes(memory: Any) -> float:
    """The budget in bytes.

    Args:
        memory: `auto` (half of what is free), a number of bytes, or a number with a unit.

    Raises:
        InputError: it is none of these, or not above 0.
    """
    wanted = f"memory: got {memory!r}, wanted 'auto', a number of bytes, or a size such as '8GB'."
    if memory == "auto":
        free = free_memory()
        return UNKNOWN_FREE if free is None else SHARE_OF_FREE * free
    if isinstance(memory, bool) or not isinstance(memory, str | int | float):
        raise InputError(wanted)
    found = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*", str(memory))
    unit = None if found is None else _UNITS.get(found[2].upper())
    try:
        n_bytes = float(found[1]) * unit if found is not None and unit is not None else -1.0
    except ValueError:  # 1.2.3
        n_bytes = -1.0
    if not 0 < n_bytes < float("inf"):
        raise InputError(wanted)
    return n_bytes
