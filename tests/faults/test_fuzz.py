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

from probekit.analysis.settings import Settings, read_config
from probekit.errors import ConfigError, FormatError, InputError
from probekit.results.run import load
from probekit.storage import store
from probekit.storage.shards import Stage
from probekit.text.concepts.files import parse_toml

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


@pytest.mark.sweep
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


class TestWhatFuzzingFound:
    """Each of these once came out as a foreign error."""

    @pytest.mark.parametrize(
        "text",
        [b"a = " + b"[" * 3_000, b"a = " + b"9" * 5_000, b"a = 0x" + b"f" * 5_000 + b"\n", b"a = '\xff'"],
    )
    def test_toml_too_deep_or_with_too_many_digits(self, text: bytes, tmp_path: Path):
        (tmp_path / "f.toml").write_bytes(text)
        with pytest.raises(ConfigError, match=r"not a TOML file|know max_tokens"):
            read_config(tmp_path / "f.toml")
        with pytest.raises(ConfigError, match=r"is not valid TOML|unknown key 'a'"):
            parse_toml(tmp_path / "f.toml")

    @pytest.mark.parametrize("name", ["seed", "max_pairs", "twins", "context"])
    def test_a_number_that_python_will_not_spell(self, name: str):
        for value in (10**5_000, -(10**5_000)):
            with pytest.raises(InputError, match=rf"{name}: got a number of 16,610 bits"):
                Settings(**{name: value})

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("file", None, "holds no digest"), ("file", [], "holds no digest"),
            ("file", {"n_bytes": 3, "crc32": [1, 2], "blake2b": "x"}, "holds no digest"),
            ("file", {"n_bytes": -1, "crc32": [], "blake2b": "x"}, "holds no digest"),
            ("arrays", None, "names no arrays"), ("arrays", {"a": 3}, "names no arrays"),
            ("arrays", {"a": {"dtype": "float64", "shape": 3}}, "names no arrays"),
        ],
    )  # fmt: skip
    def test_a_sidecar_that_says_something_else(self, key: str, value: object, message: str, tmp_path: Path):
        stage = Stage(tmp_path / "s", "inputs")
        stage.put(0, {"a": np.arange(3)}, n_tokens=3)
        record = store.read_sealed(tmp_path / "s" / "part-00000.json", "probekit.part/1", 1)
        store.write_sealed(tmp_path / "s" / "part-00000.json", {**record, key: value})
        for look in (lambda: stage.get(0), stage.commit):
            with pytest.raises(FormatError, match=message):
                look()

    @pytest.mark.parametrize(
        "change",
        [
            {"layers": []},
            {"layers": [3]},
            {"model": None},
            {"model": {"name": 3}},
            {"concepts": {}},
            {"layers": {}},
        ],
    )
    def test_a_summary_without_its_parts(self, change: dict[str, Any], finished: Path, tmp_path: Path):
        with pytest.raises(
            FormatError, match="its layers are no rows, or its model or concepts are not named"
        ):
            load(with_summary(finished, tmp_path, change))

    def test_a_summary_with_rows_of_another_kind(self, finished: Path, tmp_path: Path):
        run = load(with_summary(finished, tmp_path, {"layers": [{"layer": 0}]}))
        with pytest.raises(FormatError, match=r"its layers are no rows \(KeyError"):
            _ = run.layers


def with_summary(finished: Path, folder: Path, change: dict[str, Any]) -> Path:
    """The run with another summary, whose digest is right."""
    fuzz = Fuzz(finished, folder, 0)
    data = text_of({**json.loads(fuzz.old("summary.json")), **change})
    fuzz.put("summary.json", data)
    fuzz.list_again("summary.json", data)
    return fuzz.run
