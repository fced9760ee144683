"""What a benchmark leaves: a table, the goals it was to reach, and where it was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "torch", "numpy", "scipy", "numba", "scikit-learn", "transformers", "transformer-lens", "abess", "ray"
)  # fmt: skip


@dataclass(frozen=True)
class Goal:
    """One number that was to be reached."""

    what: str
    """In words."""
    wanted: float
    """The bound."""
    found: float
    """What was measured."""
    at_most: bool = False
    """Whether smaller is better."""

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted


@dataclass
class Table:
    """One table of the benchmarks."""

    name: str
    """Of its file."""
    title: str
    """Of its section."""
    conditions: str
    """What was measured, and on which terms."""
    columns: Sequence[str]
    """Headings."""
    rows: list[list[Any]] = field(default_factory=list)
    """Cells."""
    goals: list[Goal] = field(default_factory=list)
    """What was to be reached."""
    rates: dict[str, float] = field(default_factory=dict)
    """Numbers that the planning page reads."""
    figures: list[str] = field(default_factory=list)
    """SVG files beside the table."""

    def record(self, *, quick: bool) -> dict[str, Any]:
        """As it is kept."""
        goals = [
            {
                "what": g.what,
                "wanted": g.wanted,
                "found": float(g.found),
                "at_most": g.at_most,
                "met": bool(g.met),
            }
            for g in self.goals
        ]
        return {
            "schema": "probekit.benchmark/1", "name": self.name, "title": self.title, "conditions": self.conditions,
            "columns": list(self.columns), "rows": self.rows, "goals": goals, "rates": self.rates,
            "figures": self.figures, "quick": quick, "machine": machine(), "versions": versions(),
        }  # fmt: skip


def machine() -> dict[str, Any]:
    """Processor, cores and memory; nothing that names the machine."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {
        "processor": model, "n_cores": os.cpu_count(), "n_threads_used": 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30), "system": platform.system(),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of what was measured."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def digits(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")
