"""R16: run directories of the format are opened by the current code, and by a reader that is not ours."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from probekit.errors import FormatError, InputError
from probekit.results.run import load
from probekit.storage import manifest, store
from probekit.storage.verify import verify

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import reader  # noqa: E402

RUN = HERE / f"v{manifest.FORMAT}"


def test_the_format_is_opened(tmp_path: Path):
    run = load(RUN)
    told = json.loads((RUN / "summary.json").read_text())
    assert run.summary == told
    row, pairs = told["layers"][0], run.pairs(0)
    assert len(pairs) == row["n_tested"] == 45
    assert int(pairs["computed"].sum()) == row["n_computed"]
    assert run.layers.loc[0, "n_computed"] == row["n_computed"]
    assert set(run.paths(0)["k"]) == {1, 4, 48, 64}
    top = run.top(0, n=5)
    assert list(top["q"]) == sorted(pairs["q"])[:5]
    assert len(run.top(n=1)) == 1
    with pytest.raises(InputError, match="n: got 0, wanted a whole number"):
        run.top(0, n=0)
    copy = tmp_path / "run"
    shutil.copytree(RUN, copy)
    page = load(copy).report()
    assert "arrays" in page.read_text()


def test_an_earlier_format_is_refused_and_says_what_to_do(tmp_path: Path):
    shutil.copytree(RUN, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    record, _ = reader.sealed(path)
    store.write_sealed(path, {**record, "format": manifest.FORMAT - 1})
    for look in (load, verify):
        with pytest.raises(
            FormatError, match="written in format 3 by an earlier probekit, whose results mean something else"
        ):
            look(tmp_path / "run")


def test_a_reader_that_is_not_ours_agrees():
    summary, layers = reader.read_run(RUN)
    run = load(RUN)
    for row in summary["layers"]:
        held, table = layers[row["layer"]], run.pairs(row["layer"])
        for name in ("kappa", "d_prime", "p_twin", "p_relay", "p_pair", "p_vs_linear", "q"):
            assert np.array_equal(held[name], table[name].to_numpy(), equal_nan=True), name
        # the decision taken again from the p-values alone
        p = np.maximum(held["p_relay"], held["p_pair"])
        again = reader.benjamini_hochberg(p, q=run.record["science"]["settings"]["q"])
        assert np.array_equal(again, held["computed"])
        assert again.sum() == row["n_computed"] > 0
        assert held["twin_d_prime"].shape == (row["n_twins"], row["n_tested"])
        assert json.loads(held["row"].tobytes()) == row
        used = held["neurons"][0] >= 0
        assert held["neurons"][0][used].tolist() == table["neurons"].iloc[0].tolist()


def test_the_other_reader_can_fail(tmp_path: Path):
    shutil.copytree(RUN, tmp_path / "run")
    path = tmp_path / "run" / "pairs" / "layer-00.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(AssertionError):
        reader.read_run(tmp_path / "run")


@pytest.mark.parametrize(
    "where", ["run.json", "COMMIT.json", "stages/result/COMMIT.json", "stages/result/part-00000.json"]
)
def test_a_format_of_tomorrow_is_refused_politely(where: str, tmp_path: Path):
    shutil.copytree(RUN, tmp_path / "run")
    path = tmp_path / "run" / where
    record, _ = reader.sealed(path)
    store.write_sealed(path, {**record, "format": 99})
    look = verify if "stages" in where else load
    with pytest.raises(
        (FormatError, manifest.store.CorruptError), match="written in format 99, this probekit reads up to"
    ):
        look(tmp_path / "run")
