"""R17, R6: a museum of hostile files. Their digests are right, since whoever makes such a file can make its digest, too.

Each is put in the place of a real artefact; each must be refused with an error of ours, and no code of it may run.
"""

# ruff: noqa: E501 - tables are read along their rows

from __future__ import annotations

import io
import json
import pickle  # noqa: TID251 - to make what must be refused
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from probekit.analysis.api import analyze_arrays
from probekit.cli.resuming import continue_run
from probekit.errors import CorruptError, FormatError, StaleError, StoreError
from probekit.results.run import load
from probekit.storage import manifest, store
from probekit.storage.digest import Digest
from probekit.storage.shards import Stage
from probekit.storage.verify import verify


class Exploit:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def pickled(mark: Path) -> bytes:
    return pickle.dumps(Exploit(mark))


def torch_file(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weights": Exploit(mark)}, buffer)  # noqa: TID251
    return buffer.getvalue()


def object_npy(mark: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Exploit(mark)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def zip_bomb(mark: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("data.pkl", bytes(50_000_000))
    return buffer.getvalue()


def header_only(header: bytes, n_told: int | None = None) -> Callable[[Path], bytes]:
    return lambda mark: struct.pack("<Q", len(header) if n_told is None else n_told) + header


def pickled_extension_type(mark: Path) -> bytes:
    """The way in of CVE-2023-47248: a parquet column whose type is a pickle."""
    field = pa.field("a", pa.int64(), metadata={
        b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickled(mark),
    })  # fmt: skip
    buffer = io.BytesIO()
    pq.write_table(pa.table([pa.array([1, 2])], schema=pa.schema([field])), buffer)
    return buffer.getvalue()


PAYLOADS: dict[str, Callable[[Path], bytes]] = {
    "a pickle": pickled,
    "a torch checkpoint": torch_file,
    "an array of pickled objects": object_npy,
    "a zip bomb": zip_bomb,
    "an empty file": lambda mark: b"",
    "a header longer than the file": header_only(b"{}", 2**62),
    "a header of 4 GB": header_only(b"{}", 2**32),
    "a header that is no JSON": header_only(b"{not json}"),
    "arrays that overlap": header_only(
        json.dumps({"a": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}, "b": {"dtype": "F64", "shape": [2], "data_offsets": [8, 24]}}).encode()
        + bytes(24)
    ),
    "an array of 2**62 numbers": header_only(json.dumps({"a": {"dtype": "F64", "shape": [2**62], "data_offsets": [0, 8]}}).encode() + bytes(8)),
    "an array of negative length": header_only(json.dumps({"a": {"dtype": "F64", "shape": [-1], "data_offsets": [0, 8]}}).encode() + bytes(8)),
    "a web page": lambda mark: b"<html><script>alert(1)</script></html>",
}  # fmt: skip

JSONS: dict[str, bytes] = {
    "nested a million deep": b"[" * 1_000_000,
    "a number of a million digits": b'{"format": ' + b"9" * 1_000_000 + b"}",
    "not a number": b'{"schema": "probekit.run/1", "format": NaN}',
    "infinite": b'{"schema": "probekit.run/1", "format": Infinity}',
    "half a character": b'{"schema": "\xed\xa0\x80"}',
    "two byte orders": "{}".encode("utf-16"),
    "a list": b"[1, 2, 3]",
    "a pickle": pickle.dumps({"format": 2}),
    "true for a format": b'{"schema": "probekit.run/1", "format": true}',
    "nothing": b"",
    "null": b"null",
    "a format below all": b'{"schema": "probekit.run/1", "format": -1}',
}


@pytest.fixture
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever unpickles anything fails."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("something was unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def forge(root: Path, name: str, data: bytes) -> None:
    """Put bytes at a place of a run and make every digest right."""
    (root / name).write_bytes(data)
    record = manifest.store.read_sealed(root / "COMMIT.json", manifest.RESULTS_SCHEMA, manifest.FORMAT)
    if name in record["files"]:
        record["files"][name] = Digest.of(data).as_dict()
    else:
        sidecar = (root / name).with_suffix(".json")
        told = store.read_sealed(sidecar, "probekit.part/1", 1)
        store.write_sealed(sidecar, {**told, "file": Digest.of(data).as_dict()})
        stage = Stage(sidecar.parent, "")
        commit = store.read_sealed(sidecar.parent / "COMMIT.json", "probekit.commit/1", 1)
        commit["parts"] = [{"part": p, "blake2b": stage.sidecar(p)["file"]["blake2b"]} for p in stage.parts()]
        record["stages"][stage.name] = store.write_sealed(sidecar.parent / "COMMIT.json", commit)
    store.write_sealed(root / "COMMIT.json", record)


@pytest.mark.parametrize("name", PAYLOADS)
def test_hostile_arrays_are_refused_and_never_run(name: str, copy: Path, tmp_path: Path, no_pickle: None):
    forge(copy, "stages/result/part-00000.safetensors", PAYLOADS[name](tmp_path / "mark"))
    with pytest.raises(CorruptError, match=r"holds no arrays|not those its sidecar names"):
        verify(copy)
    with pytest.raises((FormatError, CorruptError), match=r"holds no arrays|not those its sidecar names"):
        Stage(copy / "stages" / "result", "").get(0)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", PAYLOADS)
def test_hostile_tables_are_refused_and_never_run(name: str, copy: Path, tmp_path: Path, no_pickle: None):
    forge(copy, "pairs/layer-00.parquet", PAYLOADS[name](tmp_path / "mark"))
    with pytest.raises(FormatError, match="not a parquet table"):
        load(copy).pairs()
    assert not (tmp_path / "mark").exists()


def test_a_pickled_column_type_is_not_unpickled(copy: Path, tmp_path: Path, no_pickle: None):
    forge(copy, "pairs/layer-00.parquet", pickled_extension_type(tmp_path / "mark"))
    with pytest.raises(FormatError, match="misses columns"):
        load(copy).pairs()
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", JSONS)
@pytest.mark.parametrize(
    "where", ["run.json", "COMMIT.json", "summary.json", "stages/result/part-00000.json"]
)
def test_hostile_records_are_refused(name: str, where: str, copy: Path):
    if where == "summary.json":
        forge(copy, where, JSONS[name])
    else:
        (copy / where).write_bytes(JSONS[name])
    with pytest.raises((FormatError, CorruptError)):
        verify(copy) if "stages" in where else load(copy)


@pytest.mark.parametrize(
    "name", ["../../outside.parquet", "/etc/hostname", "pairs/../../outside", "a\0b", "..", ""]
)
def test_no_name_in_a_file_leads_out_of_the_run(name: str, copy: Path):
    (copy.parent / "outside.parquet").write_bytes(b"not ours")
    record = store.read_sealed(copy / "COMMIT.json", manifest.RESULTS_SCHEMA, manifest.FORMAT)
    record["files"][name] = Digest.of(b"not ours").as_dict()
    store.write_sealed(copy / "COMMIT.json", record)
    with pytest.raises(FormatError, match="which is no file of a run"):
        load(copy)


def test_a_layer_in_the_summary_is_a_number(copy: Path):
    summary = json.loads((copy / "summary.json").read_text())
    summary["layers"][0]["layer"] = "../../../etc/passwd"
    forge(copy, "summary.json", json.dumps(summary).encode())
    with pytest.raises(FormatError, match="its layers are no rows"):
        load(copy)


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": "nano", "out": "/tmp/elsewhere"}, {"model": "nano", "force": True}, {"model": ["rm"]}, {"corpus": "docs"},
        {"model": "nano", "trust_remote_code": True}, "nano", None,
    ],
)  # fmt: skip
def test_resume_takes_from_the_record_only_what_a_record_may_say(arguments: object, tmp_path: Path):
    store.write_sealed(tmp_path / "run.json", {
        "schema": manifest.RECORD_SCHEMA, "format": manifest.FORMAT, "science": {}, "identity": "x", "arguments": arguments,
    })  # fmt: skip
    with pytest.raises(StoreError, match=r"no call that can be repeated|begun from Python"):
        continue_run(tmp_path, False)
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_forged_stage_does_not_enter_a_run(
    stopped: Path, given: dict[str, Any], tmp_path: Path, undrawn: None
):
    """A stage with right digests, computed from something else: its inputs give it away."""
    root = tmp_path / "run"
    shutil.copytree(stopped, root)
    folder = next(root.glob("stages/*.supports"))
    forged = Stage(folder, "other inputs")
    arrays = Stage(folder, "").get(0)
    shutil.rmtree(folder)
    forged.put(0, {name: np.zeros_like(values) for name, values in arrays.items()}, n_tokens=1)
    forged.commit()
    with pytest.raises(StaleError, match="computed from other inputs"):
        analyze_arrays(**given, out=root)


def test_reading_a_run_unpickles_nothing(finished: Path, no_pickle: None):
    run = load(finished)
    assert len(run.pairs()) == run.summary["layers"][0]["n_tested"]
    assert len(run.paths()) > len(run.pairs())
    assert len(run.layers) == 1
    assert verify(finished).n_files > 5
