"""The comparison of two builds says nothing of equal runs, and names every bit that differs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from probekit.storage import manifest

sys.path.insert(0, str(Path(__file__).parent))
from bit_identity import differences

RUN = Path(__file__).parent / f"v{manifest.FORMAT}"


def test_equal_runs_have_no_difference_and_code_is_no_result(tmp_path: Path):
    other = tmp_path / "run"
    shutil.copytree(RUN, other)
    record = json.loads((other / "run.json").read_text())
    record["science"]["code"] = record["identity"] = "0" * 32
    (other / "run.json").write_text(json.dumps(record))
    table = pd.read_parquet(other / "pairs" / "layer-00.parquet").rename(columns={"d_prime": "another name"})
    table.to_parquet(other / "pairs" / "layer-00.parquet")
    assert list(differences(RUN, other)) == []


def test_one_bit_of_a_table_an_array_a_record_or_a_text_is_named(tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    shutil.copytree(RUN, one)
    (one / "report.html").write_text("identity 00112233445566778899aabbccddeeff, d′ 2.0")
    shutil.copytree(one, other)
    (other / "report.html").write_text("identity ffeeddccbbaa99887766554433221100, d′ 2.1")
    table = pd.read_parquet(other / "pairs" / "layer-00.parquet")
    column = next(name for name in table.columns if table[name].dtype == float)
    values = table[column].to_numpy(copy=True)
    values[3] = np.nextafter(values[3], np.inf)
    table[column] = values
    table.to_parquet(other / "pairs" / "layer-00.parquet")
    part = other / "stages" / "result" / "part-00000.safetensors"
    arrays = {name: values.copy() for name, values in load_file(part).items()}
    name = next(name for name, held in arrays.items() if held.dtype.kind == "f" and held.size)
    arrays[name].reshape(-1)[0] = np.nextafter(arrays[name].reshape(-1)[0], arrays[name].dtype.type(np.inf))
    save_file(arrays, part)
    summary = json.loads((other / "summary.json").read_text())
    summary["layers"][0]["n_tested"] += 1
    (other / "summary.json").write_text(json.dumps(summary))
    (other / "layers.parquet").unlink()
    found = list(differences(one, other))
    assert len(found) == 5, found
    for what in (
        "layers.parquet: made by one build only",
        f"column {column}",
        f"array {name}",
        "layers/0/n_tested: 45 and 46",
        "other text",
    ):
        assert any(what in line for line in found), what
