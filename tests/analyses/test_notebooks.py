"""Every notebook runs from top to bottom on small settings, offline, and says which runs it reads."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "analyses").glob("[0-9][0-9]_*.ipynb"))
QUICK = {"01", "02"}
"""Synthetic and planted layers only; the others run a language model several times."""


def source(path: Path) -> str:
    return "\n".join(
        "".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    )


def test_all_six_are_there():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_was_committed_executed_without_an_error_and_names_its_runs(path: Path):
    cells = [
        cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"
    ]
    assert all(cell["execution_count"] for cell in cells)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert 'record["identity"]' in source(path).replace("'", '"'), (
        "a notebook names the run that its figures show"
    )
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_place_of_the_machine_it_ran_on_is_kept(path: Path):
    text = path.read_text(encoding="utf-8")
    for trace in ("/tmp/", "/home/", "/root/", "/work/", "site-packages"):
        assert trace not in text.replace("/tmp/draft", ""), trace


def strangers(code: str) -> list[str]:
    """Names that the code takes from probekit and that are not there."""
    missing = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "probekit":
            module = importlib.import_module(str(node.module))
            for name in node.names:
                inside = hasattr(module, "__path__") and find_spec(f"{node.module}.{name.name}")
                if not hasattr(module, name.name) and not inside:
                    missing.append(f"{node.module}.{name.name}")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pk":
            missing += [] if hasattr(importlib.import_module("probekit"), node.attr) else [f"pk.{node.attr}"]
    return missing


def test_every_name_taken_from_the_package_is_there():
    # Notebooks run in a slower target; a name that moved should turn the fast one red.
    assert strangers("from probekit.model.hooked_model import NANO_FOLDER\npk.plant(); pk.plants()") == [
        "probekit.model.hooked_model.NANO_FOLDER",
        "pk.plants",
    ]
    scripts = sorted((ROOT / "analyses").rglob("*.py")) + sorted((ROOT / "benchmarks").rglob("*.py"))
    assert len(scripts) > 20
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        assert strangers(code) == [], path.name
    for path in scripts:
        assert strangers(path.read_text(encoding="utf-8")) == [], path.name


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PROBEKIT_QUICK", "1")
    monkeypatch.setenv("PROBEKIT_RUNS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("PROBEKIT_MODELS", raising=False)
    book = nbformat.read(path, 4)
    committed = [shows(cell) for cell in book.cells if cell.cell_type == "code"]
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    where = {"metadata": {"path": str(ROOT)}}
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3", resources=where).execute()
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(map(shows, cells))
    if path.name[:2] in QUICK:  # the others leave out what needs models that are not there
        assert [shows(cell) for cell in cells] == committed


def shows(cell: Any) -> bool:
    """Whether a cell shows a table, figure or value."""
    return any(output.output_type in ("display_data", "execute_result") for output in cell.outputs)


def test_a_broken_notebook_would_be_seen():
    """The control: execution stops at the first error."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        nbclient.NotebookClient(book, timeout=600, kernel_name="python3").execute()


def test_the_template_renders_without_its_code(tmp_path: Path):
    """Where the docs extra is installed."""
    pytest.importorskip("nbconvert")
    script = ROOT / "analyses" / "render.py"
    copy = tmp_path / "report.ipynb"
    shutil.copy(NOTEBOOKS[-1], copy)
    done = subprocess.run(
        [sys.executable, str(script), str(copy)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    page = copy.with_suffix(".html").read_text(encoding="utf-8")
    assert "We asked of 150 pairs" in page
    assert "import pandas" not in page
    printed = copy.with_suffix(".pdf")
    assert printed.exists() or "no Chromium or Chrome found" in done.stdout
    assert not printed.exists() or printed.read_bytes().startswith(b"%PDF")
