"""`pk.runs` and `probekit runs`: every run directory is listed as what it is, and none ends the list."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import probekit as pk
from probekit import cli
from probekit.cli.listing import _layers
from probekit.cli.terminal import in_bytes
from probekit.errors import InputError
from probekit.storage import store
from probekit.storage.manifest import FORMAT, RECORD_SCHEMA


@pytest.fixture(scope="module")
def shelf(finished: Path, stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one directory of each state, and folders that hold none."""
    top = tmp_path_factory.mktemp("shelf")
    copies = (
        "complete",
        "deep/a/whole",
        "too/deep/to/see",
        ".hidden/run",
        "bit",
        "gone",
        "short",
        "lost",
        "newer",
    )
    for name in copies:
        shutil.copytree(finished, top / name)
    shutil.copytree(stopped, top / "stopped")
    table = top / "gone" / "pairs" / "layer-00.parquet"
    table.unlink()
    summary = top / "bit" / "summary.json"
    summary.write_bytes(summary.read_bytes().replace(b"arrays", b"arroys", 1))
    looks = top / "short" / "pair_details" / "layer-00.parquet"
    looks.write_bytes(looks.read_bytes()[:-1])
    (top / "lost" / "run.json").unlink()
    store.write_sealed(top / "newer" / "run.json", {"schema": RECORD_SCHEMA, "format": FORMAT + 1})
    (top / "other program").mkdir()
    (top / "other program" / "notes.txt").write_text("no run")
    (top / "loop").symlink_to(top)
    return top


def test_each_directory_is_listed_as_what_it_is(shelf: Path, finished: Path) -> None:
    table = pk.runs(shelf)
    found = {Path(row.path).relative_to(shelf).as_posix(): row.state for row in table.itertuples()}
    assert found == {
        "bit": "damaged", "complete": "complete", "deep/a/whole": "complete", "gone": "damaged", "lost": "damaged",
        "newer": "other format", "short": "damaged", "stopped": "unfinished",
    }  # fmt: skip
    notes = {Path(row["path"]).name: row["note"] for row in table.to_dict("records")}
    assert notes["complete"] == ""
    assert "pairs/layer-00.parquet: the file is gone" in notes["gone"]
    assert "summary.json: block 0" in notes["bit"]
    assert "bytes where" in notes["short"]
    assert "no run.json" in notes["lost"]
    assert f"this probekit reads up to {FORMAT}; upgrade probekit" in notes["newer"]
    assert "probekit resume" in notes["stopped"]
    run, row = pk.load(finished), table[table["state"] == "complete"].iloc[0]
    assert row["model"] == run.summary["model"]["name"]
    assert row["layers"] == [0]
    assert row["n_pairs"] == len(run.pairs())
    assert row["n_computed"] == run.layers["n_computed"].sum()
    assert row["n_tokens"] == 2_400
    assert row["n_bytes"] == sum(file.stat().st_size for file in finished.rglob("*") if file.is_file())
    newest = max(file.stat().st_mtime for file in (shelf / "complete").rglob("*") if file.is_file())
    assert row["modified"].timestamp() == pytest.approx(newest, abs=1e-5)  # the table holds microseconds
    unfinished = table[table["state"] == "unfinished"].iloc[0]
    assert (unfinished["model"], unfinished["n_layers_decided"]) == ("arrays", 0)
    assert (
        table.loc[table["state"] == "unfinished", ["n_pairs", "n_tokens", "n_computed"]].isna().all(axis=None)
    )


def test_how_deep_and_where(shelf: Path, tmp_path: Path) -> None:
    assert {Path(path).name for path in pk.runs(shelf, depth=4)["path"]} >= {"see", "whole"}
    assert "whole" not in {Path(path).name for path in pk.runs(shelf, depth=2)["path"]}
    assert list(pk.runs(shelf / "complete", depth=0)["state"]) == ["complete"]
    empty = pk.runs(tmp_path)
    assert len(empty) == 0
    assert list(empty.columns) == list(pk.runs(shelf).columns)
    with pytest.raises(InputError, match="nowhere: no such folder; give one that holds run directories"):
        pk.runs(tmp_path / "nowhere")
    with pytest.raises(InputError, match="depth: got -1, wanted a whole number ≥ 0"):
        pk.runs(tmp_path, depth=-1)


def test_nothing_is_read_but_records_and_summaries(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real: Callable[..., bytes] = store.read_bytes

    def watched(path: Path, *args: object) -> bytes:
        read.append(Path(path).name)
        return real(path, *args)

    monkeypatch.setattr(store, "read_bytes", watched)
    assert len(pk.runs(shelf)) == 8
    assert {*read} == {"run.json", "COMMIT.json", "summary.json"}


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["probekit", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, " ".join(captured.err.split())


def test_the_command(shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = command(capsys, "runs", str(shelf))
    assert (code, err) == (0, "")
    assert "8 runs: 2 complete, 4 damaged, 1 other format, 1 unfinished" in out
    assert "unfinished: 0 of 1 layers" in " ".join(out.split())
    code, out, _ = command(capsys, "runs", str(shelf), "--json", "--depth", "1")
    rows = json.loads(out)
    assert code == 0
    assert [row["state"] for row in rows].count("complete") == 1
    assert rows[0]["modified"].endswith("Z")
    code, out, _ = command(capsys, "runs", str(tmp_path))
    assert code == 0
    assert "No run directory in" in out
    code, _, err = command(capsys, "runs", str(tmp_path / "nowhere"))
    assert code == 2
    assert "error InputError:" in err


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1 kB"), (12_345, "12 kB"), (3_400_000_000, "3.4 GB")],
)
def test_sizes_are_short(n_bytes: int, shown: str) -> None:
    assert in_bytes(n_bytes) == shown


def test_layers_are_written_as_they_are_asked_for() -> None:
    assert _layers([4, 0, 2, 3]) == "0,2-4"
    assert _layers([1]) == "1"
    assert _layers(None) is None
