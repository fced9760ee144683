"""Kill, fill or cut the power at any write boundary: what is resumed is the uninterrupted run, byte for byte.

The sweeps run in processes of their own (tests/faults/sweep.py), forked from one that never loads the model library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.sweep

MIN_BOUNDARIES = 340
"""The job has this many write boundaries at least. A fall means that a write, flush or rename has been taken out."""


def swept(*words: str, hash_seed: str = "0") -> dict[str, Any]:
    """The counts of one sweep."""
    script = Path(__file__).parent / "sweep.py"
    done = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["loaded"] == [], "a fork of a process with the model library is not what is promised"
    assert told["n_boundaries"] >= MIN_BOUNDARIES
    return told


@pytest.mark.parametrize("half", ["0", "1"])
def test_killed_at_every_boundary(half: str):
    """R1, R3: SIGKILL before every call and within every write; a reader looks, then the run is resumed."""
    told = swept("kill", half, "2", hash_seed=half)
    assert told["wrong"] == []
    assert told["killed"] == (told["n_boundaries"] + 1 - int(half)) // 2
    # the reader met each of the three answers, so each of them was tested
    for answer in ("saw a whole run", "was told it is unfinished", "was told it is no run"):
        assert told[f"reader {answer}"] > 0


def test_a_full_disk_at_every_fourth_boundary():
    """R7: a clear error, nothing that was finished is lost, and with space again the run ends as it would have."""
    told = swept("full", "0", "4")
    assert told["wrong"] == []
    assert told["DiskFullError"] > 50
    assert told["StoreError"] > 15  # EIO is no full disk


def test_power_lost_after_every_call():
    """R2: whatever of the unsynced names and bytes reached the device, the resumed run is right or refused, never wrong."""
    told = swept("power", "0", "60", "4")
    assert told["wrong"] == []
    assert told["crash states"] >= 1_500
    assert told["resumed"] >= 20
    assert told.get("refused", 0) == 0  # after fsync there is nothing to refuse


def test_no_memory_at_tensor_operations():
    """R8: one layer at a time is the floor: an error that names the bytes, and then the same result."""
    told = swept("memory", "0", "80")
    assert told["wrong"] == []
    assert told["tensor operations"] > 1_000
    assert told["OutOfMemoryError"] > 20


def test_a_killed_replacement():
    """Die while --force replaces a finished run: a reader sees the old, the new or neither."""
    assert swept("replace", "0", "24")["wrong"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("full", "0", "1"), ("twice", "500"), ("replace", "0", "1"), ("power", "0", "4"), ("memory", "0", "5")],
)
def test_everything(words: tuple[str, ...]):
    """The same at every boundary, and 500 pairs of kills."""
    assert swept(*words)["wrong"] == []
