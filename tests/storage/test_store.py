"""The one writer of files: a name is absent or complete."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from probekit.errors import CorruptError, DiskFullError, StoreError
from probekit.storage import store


def test_writes_and_leaves_no_debris(tmp_path: Path):
    store.write_bytes(tmp_path / "a" / "b.bin", b"x" * 100_000)
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"x" * 100_000
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.bin"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, bytes(data)[:7]))
    store.write_bytes(tmp_path / "f", bytes(range(100)))
    assert (tmp_path / "f").read_bytes() == bytes(range(100))


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store.write_bytes(tmp_path / "f", b"old")

    def full(fd: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskFullError, match="no space left for 3 bytes"):
        store.write_bytes(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_place_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="could not be written"):
        store.write_bytes(tmp_path / "file" / "below", b"x")


def test_json_has_one_spelling_and_no_nan(tmp_path: Path):
    assert store.canonical_json({"b": 1, "a": 2}) == store.canonical_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.canonical_json({"a": float("nan")})


def test_broken_json_and_parquet(tmp_path: Path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(CorruptError, match="not a JSON file"):
        store.read_json(tmp_path / "a.json")
    (tmp_path / "a.parquet").write_bytes(b"PAR1nothing")
    with pytest.raises(CorruptError, match="not a parquet table"):
        store.read_table(tmp_path / "a.parquet")


def test_the_same_table_gives_the_same_bytes(tmp_path: Path):
    table = pd.DataFrame(
        {"a": [1, 2], "b": [[0.5], [1.5, 2.5]], "c": pd.array([True, None], dtype="boolean")}
    )
    store.write_table(tmp_path / "one", table)
    store.write_table(tmp_path / "two", table.copy())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    back = store.read_table(tmp_path / "one")
    assert back["b"].iloc[1].tolist() == [1.5, 2.5]
    assert pd.isna(back["c"].iloc[1])


def test_sweep_removes_only_debris(tmp_path: Path):
    (tmp_path / "a.tmp-123").write_bytes(b"half")
    (tmp_path / "a").write_bytes(b"whole")
    store.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
