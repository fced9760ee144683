"""The one writer of files: a name is absent or complete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from probekit.errors import CorruptError, DiskFullError, StoreError
from probekit.storage import store
from probekit.storage.disk import RealDisk


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


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


OLD, NEW = {"a": b"old", "gone/b": b"old"}, {"a": b"new", "c/d": b"new", "c/e": b""}


def test_a_folder_is_written_as_a_whole(tmp_path: Path):
    store.write_folder(tmp_path / "deep" / "out", OLD)
    store.write_folder(tmp_path / "deep" / "out", NEW)
    assert _files(tmp_path) == {f"deep/out/{name}": data for name, data in NEW.items()}
    assert not (tmp_path / "deep" / "out" / "gone").exists()


class _Stops(RealDisk):
    """Raises at one call and all later ones: a full disk, or the end of the process."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.left = at
        self.error = error

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in ("left", "error"):
            return super().__getattribute__(name)
        if self.left == 0:
            raise self.error
        self.left -= 1
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "killed"]
)
def test_a_folder_is_never_half_of_one(tmp_path: Path, error: BaseException):
    """Stopped at every call that changes the disk: the former folder, none, or the new one."""
    seen: list[str] = []
    for at in range(200):
        folder = tmp_path / str(at) / "out"
        store.write_folder(folder, OLD)
        wanted = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else (StoreError, DiskFullError)
        try:
            with store.on(_Stops(at, error)):
                store.write_folder(folder, NEW)
        except wanted:
            held = _files(folder) if folder.exists() else {}
            assert held in (OLD, {}, NEW)
            seen.append("old" if held == OLD else "new" if held == NEW else "none")
        else:
            assert _files(folder) == NEW  # not stopped any more: every call before has been
            break
    else:
        pytest.fail("never ran to its end")
    assert set(seen) == {"old", "none", "new"}
    assert seen == sorted(seen, key=["old", "none", "new"].index)


def test_a_full_disk_leaves_the_old_folder_and_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store.write_folder(tmp_path / "out", OLD)

    def full(fd: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskFullError, match="no space left for 3 bytes"):
        store.write_folder(tmp_path / "out", NEW)
    assert _files(tmp_path) == {f"out/{name}": data for name, data in OLD.items()}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


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
