"""Gate of `make coverage`: each science room has at least 95 % of its branches taken by its own tests."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LEAST = 0.95
ROOMS = ("evidence", "probes", "theory")


def shares(report: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Branches taken and branches, of each room.

    Args:
        report: of `coverage json`.
    """
    taken, there = Counter[str](), Counter[str]()
    for file, held in report["files"].items():
        room = Path(file).parts[Path(file).parts.index("probekit") + 1]
        taken[room] += held["summary"]["covered_branches"]
        there[room] += held["summary"]["num_branches"]
    return {room: (taken[room], there[room]) for room in ROOMS}


def main(report: Path) -> int:
    """Print every room's share; 1 where one is below the limit or has no branch at all."""
    found = shares(json.loads(report.read_text(encoding="utf-8")))
    for room, (taken, there) in found.items():
        sys.stdout.write(f"{room}: {taken} of {there} branches, {taken / max(there, 1):.1%}\n")
    return int(any(taken < LEAST * there or not there for taken, there in found.values()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
