"""R4: whatever is changed in a run directory is found before anything is made of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from probekit.analysis.api import analyze_arrays
from probekit.errors import CorruptError, FormatError, IncompleteError, StaleError, StoreError
from probekit.results.run import load
from probekit.storage import store
from probekit.storage.digest import BLOCK, Digest
from probekit.storage.shards import Stage
from probekit.storage.verify import verify

FINISHED = (
    "run.json", "COMMIT.json", "summary.json", "examples.json", "layers.parquet", "pairs/layer-00.parquet",
    "paths/layer-00.parquet", "stages/result/part-00000.safetensors", "stages/result/part-00000.json",
    "stages/result/COMMIT.json",
)  # fmt: skip


def artefacts(finished: Path, stopped: Path) -> list[Path]:
    """Every kind of file a run writes, derived ones left out."""
    kept = [finished / name for name in FINISHED]
    kept += sorted(stopped.glob("stages/*/*"))
    assert {path.parent.name.partition(".")[2].partition(".at-")[0] for path in kept} >= {
        "calibration", "supports", "readouts", "confirm",
    }  # fmt: skip
    return kept


def mutations(data: bytes, rng: np.random.Generator, n: int) -> list[tuple[str, bytes]]:
    """Flips, truncations, a zeroed page, appended bytes."""
    made: list[tuple[str, bytes]] = []
    bits = rng.integers(0, 8 * len(data), n).tolist() if 0 < n < 8 * len(data) else range(8 * len(data))
    for bit in bits:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        made.append((f"bit {bit} flipped", bytes(changed)))
    ends = {0, 1, len(data) - 1, *rng.integers(0, len(data), n // 4).tolist()}
    made += [(f"cut to {end} bytes", data[:end]) for end in ends]
    page = int(rng.integers(0, max(1, len(data) - 64)))
    zeroed = data[:page] + bytes(min(4_096, len(data) - page)) + data[page + 4_096 :]
    made += [("a byte appended", data + b"\n"), ("doubled", data + data)]
    return made + ([("a page zeroed", zeroed)] if zeroed != data else [])


def assert_found(root: Path, path: Path, n: int) -> int:
    whole, rng = path.read_bytes(), np.random.default_rng(len(path.name))
    n_made = 0
    try:
        for what, changed in mutations(whole, rng, n):
            path.write_bytes(changed)
            with pytest.raises((CorruptError, FormatError)) as caught:
                verify(root)
            assert type(caught.value) in (CorruptError, FormatError), (path, what)
            n_made += 1
    finally:
        path.write_bytes(whole)
    return n_made


@pytest.mark.sweep
def test_every_change_of_every_kind_of_file_is_found(finished: Path, stopped: Path):
    verify(finished)  # the control: untouched it is not refused
    with pytest.raises(IncompleteError, match="are intact"):
        verify(stopped)
    n_made = sum(
        assert_found(finished if finished in path.parents else stopped, path, 24)
        for path in artefacts(finished, stopped)
    )
    assert n_made > 600
    verify(finished)


@pytest.mark.slow
def test_every_bit_of_every_record_and_4096_flips_of_every_payload(finished: Path, stopped: Path):
    for path in artefacts(finished, stopped):
        root = finished if finished in path.parents else stopped
        assert_found(root, path, 0 if path.suffix == ".json" else 4_096)


@pytest.mark.parametrize(
    "name", [n for n in FINISHED if n.endswith((".parquet", "summary.json", "examples.json"))]
)
def test_a_reader_gets_no_number_out_of_a_damaged_file(finished: Path, tmp_path: Path, name: str):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))
    readers = {
        "summary.json": lambda: load(tmp_path / "run"),
        "examples.json": lambda: load(tmp_path / "run").examples(),
        "pairs/layer-00.parquet": lambda: load(tmp_path / "run").pairs(),
        "paths/layer-00.parquet": lambda: load(tmp_path / "run").paths(0),
        "layers.parquet": lambda: verify(tmp_path / "run"),
    }
    with pytest.raises(CorruptError, match=r"block 0 \(bytes from 0 on\) has another crc32"):
        readers[name]()


def test_swapped_duplicated_and_foreign_parts(finished: Path, stopped: Path, tmp_path: Path, given):
    root = tmp_path / "run"
    shutil.copytree(stopped, root)
    supports = next(root.glob("stages/*.supports"))
    readouts = next(root.glob("stages/*.readouts"))

    def again(change) -> None:
        shutil.rmtree(root)
        shutil.copytree(stopped, root)
        change()
        with pytest.raises(CorruptError, match=r"of \d+ files are not what was written"):
            verify(root)

    def swap() -> None:
        for suffix in ("safetensors", "json"):
            a, b = supports / f"part-00000.{suffix}", readouts / f"part-00000.{suffix}"
            held = a.read_bytes()
            a.write_bytes(b.read_bytes())
            b.write_bytes(held)

    def duplicate() -> None:
        for suffix in ("safetensors", "json"):
            shutil.copy(supports / f"part-00000.{suffix}", supports / f"part-00001.{suffix}")

    def payload_of_another_stage() -> None:
        shutil.copy(readouts / "part-00000.safetensors", supports / "part-00000.safetensors")

    for change in (swap, duplicate, payload_of_another_stage):
        again(change)


def test_a_whole_stage_of_another_run_is_refused(stopped: Path, tmp_path: Path, given, monkeypatch):
    """Its digests are right; what it was computed from is not."""
    import math

    from probekit.analysis import passes
    from probekit.storage import checkpoint

    monkeypatch.setattr(passes, "TILE", 512)
    monkeypatch.setattr(checkpoint, "SHARE", math.inf)

    def stop(step: str, done: int, total: int) -> None:
        if step == "refit":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze_arrays(**{**given, "seed": 1, "progress": stop}, out=tmp_path / "run")
    ours = next((tmp_path / "run").glob("stages/*.supports"))
    theirs = next(stopped.glob("stages/*.supports"))
    shutil.rmtree(ours)
    shutil.copytree(theirs, ours)
    with pytest.raises(StaleError, match="computed from other inputs"):
        analyze_arrays(**{**given, "seed": 1}, out=tmp_path / "run")


def test_a_link_is_no_part(finished: Path, tmp_path: Path):
    """A file that is a link could show anything on this machine as a result."""
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "summary.json"
    path.unlink()
    path.symlink_to(finished / "summary.json")
    with pytest.raises(CorruptError, match="a link, and probekit writes none"):
        load(tmp_path / "run")


def test_a_missing_part_is_found(finished: Path, tmp_path: Path):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "stages/result/part-00000.safetensors").unlink()
    with pytest.raises(CorruptError, match="the file is gone"):
        verify(tmp_path / "run")


def test_damage_is_placed_in_its_block():
    data = bytes(3 * BLOCK)
    digest = Digest.of(data)
    digest.check(data, Path("f"))
    changed = bytearray(data)
    changed[2 * BLOCK + 5] = 1
    with pytest.raises(CorruptError, match=r"block 2 \(bytes from 2,097,152 on\)"):
        digest.check(bytes(changed), Path("f"))


def test_a_part_without_its_sidecar_is_debris(tmp_path: Path):
    stage = Stage(tmp_path / "s", "inputs")
    stage.put(0, {"a": np.arange(3)}, n_tokens=3)
    (tmp_path / "s" / "part-00000.json").unlink()
    assert not stage.has(0)
    assert stage.parts() == []
    stage.put(0, {"a": np.arange(4)}, n_tokens=4)
    assert stage.get(0)["a"].tolist() == [0, 1, 2, 3]


def test_an_open_stage_is_not_a_stage(tmp_path: Path):
    stage = Stage(tmp_path / "s", "inputs")
    stage.put(0, {"a": np.array([1.0, np.nan, np.inf])}, n_tokens=3)
    with pytest.raises(IncompleteError, match="was not finished"):
        stage.require_committed()
    with pytest.raises(StaleError, match="other inputs"):  # before COMMIT the part alone must say so
        Stage(tmp_path / "s", "others").get(0)
    identity = stage.commit()
    assert stage.require_committed() == identity
    census = stage.sidecar(0)["arrays"]["a"]
    assert (census["n_nan"], census["n_inf"], census["shape"]) == (1, 1, [3])
    with pytest.raises(StaleError, match="other inputs"):
        Stage(tmp_path / "s", "others").committed()


def test_one_byte_more_than_was_written_is_another_file(tmp_path: Path):
    seal = store.write_sealed(tmp_path / "r.json", {"schema": "s", "format": 1, "x": [1, 2]})
    assert store.read_sealed_as(tmp_path / "r.json", "s", 1) == (
        {"schema": "s", "format": 1, "x": [1, 2]},
        seal,
    )
    (tmp_path / "r.json").write_bytes((tmp_path / "r.json").read_bytes().replace(b"\n", b" \n", 1))
    with pytest.raises(CorruptError, match="last line does not digest the rest"):
        store.read_sealed(tmp_path / "r.json", "s", 1)
    with pytest.raises(StoreError, match="could not be read"):
        store.read_sealed(tmp_path / "nothing.json", "s", 1)
