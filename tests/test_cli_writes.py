"""`probekit writes`: what it prints is what `pk.writes` says of the pair, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run

import probekit as pk
from probekit.errors import InputError, StoreError

PAIR = ("cur:word-start", "prev:full-stop")
SMALL = {"max_tokens": 20_000, "min_support": 20, "twins": 4}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    pk.analyze("nano", layers=[1], pairs=[PAIR], out=folder, progress=False, **SMALL)
    return folder


def test_a_run_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, said = run(capsys, "writes", "nano", *PAIR, "--run", str(tmp_path / "nowhere"))
    assert code == StoreError.exit_code
    assert "nowhere" in said
    assert out == ""


@pytest.mark.slow
def test_it_says_what_pk_writes_says(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    wanted = pk.writes(
        finished, "nano", pairs=[PAIR], layers=1, top=3, n_random=16, max_tokens=2_000
    ).table.iloc[0]
    options = (
        "--layer",
        "1",
        "--run",
        str(finished),
        "--top",
        "3",
        "--n-random",
        "16",
        "--max-tokens",
        "2000",
        "--quiet",
    )
    code, out, _ = run(capsys, "writes", "nano", *PAIR, *options, "--json")
    assert code == 0
    held = json.loads(out)
    (row,) = held["pairs"]
    assert {row["a"], row["b"]} == set(PAIR)
    assert row["promoted"] == wanted["promoted"]
    assert len(row["promoted"]) == 3
    assert row["patch_size"] == pytest.approx(
        wanted["patch_size"], rel=1e-12
    )  # the same sums in the same order
    assert set(held["columns"]) == set(row)
    code, out, _ = run(capsys, "writes", "nano", *PAIR, *options)
    assert code == 0
    assert "layer 1: " in out
    assert "Tokens whose logits the readout raises most" in " ".join(out.split())


@pytest.mark.slow
def test_a_pair_that_the_run_did_not_test_is_refused(
    capsys: pytest.CaptureFixture[str], finished: Path
) -> None:
    code, out, said = run(
        capsys, "writes", "nano", "cur:word-start", "nothing", "--layer", "1", "--run", str(finished)
    )
    assert code == InputError.exit_code
    assert "not among the tested pairs" in said
    assert out == ""


@pytest.mark.slow
def test_without_a_run_it_makes_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    options = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    code, out, _ = run(capsys, "writes", "nano", *PAIR, "--layer", "1", "--json", "--quiet", *options)
    assert code == 0
    assert json.loads(out)["pairs"][0]["n_patched"] > 0
