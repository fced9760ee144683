"""R6: mutants of every kind of record and file, with their digests made right: an error of ours, soon, in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz import MEBIBYTES, RECORDS, SECONDS, Fuzz
from mutants import VALUES, mutated, text_of


def fuzzed(run: Path, n_cases: int, seed: int) -> dict[str, Any]:
    """The counts of one process (without the suite's own type checks)."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "fuzz.py"), str(run), str(n_cases), str(seed)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout)


def assert_only_ours(told: dict[str, Any], least: int) -> None:
    assert told["wrong"] == []
    assert told["slowest"] < SECONDS
    assert told["mebibytes"] < MEBIBYTES
    refused, read = told["counts"], sum(n for what, n in told["counts"].items() if what.endswith(": read"))
    # the control: some mutants are harmless and read, and every kind of file has been refused for what stands in it
    assert read > 0
    for kind in ("FormatError", "CorruptError", "ConfigError", "InputError"):
        assert sum(n for what, n in refused.items() if what.endswith(kind)) > least
    for target in (
        *(f"record {name}" for name in RECORDS),
        "summary",
        "arrays",
        "table",
        "config",
        "concepts",
    ):
        assert any(what.startswith(target) and not what.endswith("read") for what in refused), target


def test_four_hundred_mutants(finished: Path):
    assert_only_ours(fuzzed(finished, 400, 0), 5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_a_hundred_thousand_mutants(finished: Path, seed: int):
    assert_only_ours(fuzzed(finished, 25_000, seed), 500)


def test_a_foreign_error_would_be_seen(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The control of the tests above: a reader that lets a KeyError out."""
    fuzz = Fuzz(finished, tmp_path, 0)
    monkeypatch.setattr(fuzz, "read", lambda: {}["no such key"])
    fuzz.case(0)
    assert fuzz.counts == {"record run.json: foreign": 1}
    assert fuzz.wrong == ["case 0, record run.json: KeyError: 'no such key'"]
    # and what was changed is as it was, for the next case
    assert (fuzz.run / "run.json").read_bytes() == (finished / "run.json").read_bytes()


def test_a_mutant_is_another_value_and_the_original_stays():
    value = {"a": [1, {"b": 2}], "c": "x", "d": {"e": [3, 4]}}
    before, rng = text_of(value), np.random.default_rng(0)
    made = {text_of(mutated(value, rng)) for _ in range(200)}
    assert text_of(value) == before
    assert len(made - {before}) > 120
    assert len(text_of(list(VALUES))) > 5_000
