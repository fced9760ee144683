"""The command line: what it prints, how it fails, and that it starts quickly."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import run

HEAVY = ("torch", "transformers", "transformer_lens", "datasets", "altair", "sklearn", "numba", "pandas")


def test_help_imports_nothing_heavy():
    """--help must answer at once: torch alone takes seconds to import."""
    script = (
        "import sys; sys.argv = ['probekit', '--help']\n"
        "from probekit import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        f"sys.exit(','.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "analyze" in done.stdout
    assert "capacity" in done.stdout


def test_importing_probekit_imports_nothing_heavy():
    script = f"import sys, probekit; sys.exit(','.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_capacity_of_gpt2_small(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(
        capsys, "capacity", "--d-model", "768", "--d-mlp", "3072", "--concepts", "10000", "--json"
    )
    values = json.loads(out)
    assert code == 0
    assert values["n_params"] == 3072 * 769
    assert values["n2_over_ln_n"] == pytest.approx(3072**2 / np.log(3072))
    assert values["max_selected"]["2"] < values["max_selected"]["3.6"]


def test_capacity_says_vacuous(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, "capacity", "--d-model", "768", "--d-mlp", "3072", "--concepts", "100")
    assert code == 0
    assert "vacuous" in out
    assert "constant 1" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("analyze", "no-such-organisation/no-such-model"), 5, "ModelError"),
        (("analyze", "nano", "--layers", "2-x"), 2, "ConfigError: --layers: got '2-x'"),
        (("analyze", "nano", "--layers", "9"), 2, "got layer 9, but the model has layers 0 to 3"),
        (("analyze", "nano", "--twins", "2"), 2, "twins: got 2; wanted 0"),
        (("analyze", "nano", "--corpus", "nowhere.txt"), 2, "nowhere.txt"),
        (("analyze", "nano", "--config", "nowhere.toml"), 2, "nowhere.toml: could not be read"),
        (("report", "."), 3, "StoreError"),
        (("capacity", "--d-model", "0", "--d-mlp", "3", "--concepts", "4"), 2, "InputError"),
    ],
)
def test_errors_are_one_message_and_a_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words, code, message
):
    monkeypatch.chdir(tmp_path)
    got, _, err = run(capsys, *words)
    assert got == code
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_config_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text("[science]\ntwinns = 8\n")
    code, _, err = run(capsys, "analyze", "nano", "--config", "c.toml")
    assert code == 2
    assert "ConfigError" in err
    assert "science.twinns: extra inputs are not permitted" in err
    assert "max_tokens" in err


def test_analyze_and_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One layer of the bundled model on a small text, from the command line to the report."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    words = [
        "the",
        "array",
        "Returns",
        "of",
        "shape",
        "a",
        "list",
        "(int)",
        "value",
        "and",
        "The",
        "None,",
        "x\n",
        "if",
    ]
    text = "\n\n".join(" ".join(rng.choice(words, 220)) + "." for _ in range(150))
    (tmp_path / "text.txt").write_text(text)
    options = ("--layers", "1", "--twins", "4", "--max-pairs", "60", "--min-support", "20")
    code, out, err = run(capsys, "analyze", "nano", "--corpus", "text.txt", "--out", "r", *options, "--json")
    assert code == 0, err
    assert json.loads(out)["layers"][0]["layer"] == 1
    (tmp_path / "r" / "report.html").unlink()
    code, _, _ = run(capsys, "report", "r")
    assert code == 0
    assert "text.txt" in (tmp_path / "r" / "report.html").read_text()
    code, out, err = run(capsys, "report", "r", "--export", "paper", "--json", "--quiet")
    assert (code, err) == (0, "")
    assert json.loads(out)["layers"][0]["n_tested"] == 60
    made = {path.name for path in (tmp_path / "paper").iterdir()}
    assert {"ladder.svg", "ladder.pdf", "ladder.tex", "layers.csv", "pairs-layer-01.csv"} <= made
    assert len((tmp_path / "paper" / "pairs-layer-01.csv").read_text().splitlines()) == 61
    shutil.copytree(tmp_path / "r", tmp_path / "again")
    code, _, err = run(capsys, "report", "r", "again", "--out", "both.html")
    assert code == 0, err
    assert "2 runs side by side" in (tmp_path / "both.html").read_text()
    code, _, err = run(capsys, "report", "r", "again")
    assert code == 2
    assert "several runs need --out" in err


class TestRuns:
    """`resume` and `verify`."""

    def test_what_is_no_run(self, capsys: pytest.CaptureFixture[str], tmp_path: Path):
        for command in ("resume", "verify"):
            code, _, err = run(capsys, command, str(tmp_path))
            assert code == 3
            assert "no run.json" in err
            assert "Traceback" not in err

    def test_a_golden_run_is_verified(self, capsys: pytest.CaptureFixture[str]):
        golden = Path(__file__).parent / "golden"
        code, _, err = run(capsys, "verify", str(golden / "v4"))
        assert code == 0
        assert "every one is what was written" in err

    def test_a_run_on_arrays_cannot_be_resumed_from_its_directory(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ):
        code, _, err = run(capsys, "resume", str(Path(__file__).parent / "golden" / "v4"))
        assert code == 3
        assert "make the same call again" in err
