"""Types reach those who use the installed package: a project outside the clone is checked against it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRATCH = """
import probekit as pk

run = pk.analyze("nano", layers=[0], twins=4)
reveal_type(run)
reveal_type(run.layers)
reveal_type(run.pairs(0))
reveal_type(pk.estimate("nano", twins=4))
reveal_type(pk.Concepts.from_words(["cat"]))
reveal_type(float(pk.bounds.min_neurons(1000)))
pk.analyze("nano", twins="many")
number: int = pk.load("runs/nano")
pk.analyse("nano")
"""
REVEALED = ["Run", "DataFrame", "DataFrame", "Estimate", "Concepts", "float"]
REFUSED = ["reportArgumentType", "reportAssignmentType", "reportAttributeAccessIssue"]


@pytest.mark.slow
def test_a_project_outside_the_clone_sees_the_types(tmp_path: Path):
    """Where this fails with an import that could not be resolved, the package was installed by an older `pyproject.toml`:
    install it again (`pip install -e .`)."""
    (tmp_path / "scratch.py").write_text(SCRATCH)
    (tmp_path / "pyproject.toml").write_text('[tool.basedpyright]\ntypeCheckingMode = "standard"\n')
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson", "scratch.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    found = json.loads(done.stdout)["generalDiagnostics"]
    revealed = [one["message"] for one in found if one["severity"] == "information"]
    assert revealed == [
        f'Type of "{_said(line)}" is "{kind}"' for line, kind in zip(_asked(), REVEALED, strict=True)
    ]
    errors = [one for one in found if one["severity"] == "error"]
    assert [one["rule"] for one in errors] == REFUSED, "what is wrong is refused, and nothing else"
    last = SCRATCH.count("\n") - 1
    assert [one["range"]["start"]["line"] for one in errors] == [last - 2, last - 1, last]


def _asked() -> list[str]:
    return [line for line in SCRATCH.splitlines() if line.startswith("reveal_type(")]


def _said(line: str) -> str:
    return line.removeprefix("reveal_type(").removesuffix(")")
