"""`probekit benchmark`: a detector from a file, its table and JSON, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run

SMALL = ("--worlds", "1", "--correlation", "0.5", "--load", "0.05", "--n-tokens", "8000")


def test_a_detector_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\ndef yes(neurons, labels, doc, inputs, pairs):\n    return np.ones(len(pairs), bool)\n"
    )
    code, out, _ = run(capsys, "benchmark", f"{file}:yes", *SMALL)
    assert code == 0
    assert "false discovery rate" in out
    assert "1.000" in out
    code, out, _ = run(capsys, "benchmark", f"{file}:yes", *SMALL, "--json")
    read = json.loads(out)
    assert code == 0
    assert read["settings"][0]["power"] == 1.0
    assert read["settings"][0]["fdr_se"] is None, "of one world there is no error"
    assert 0.5 < read["settings"][0]["fdr"] < 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere.py:f",), "ConfigError: detector: got 'nowhere.py:f', but there is no file nowhere.py."),
        (
            ("probekit", "--load", "x"),
            "ConfigError: --load: got 'x', wanted numbers with commas between them.",
        ),
        (("probekit", "--correlation", ""), "InputError: correlations: got [], wanted a list of numbers."),
    ],
)
def test_one_clear_error(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = run(capsys, "benchmark", *words)
    assert code == 2
    assert message in said
