"""Puts the notebooks, as they were executed, and the pictures of the result pages into the documentation.

A notebook becomes the page notebooks/NAME.md with its code, tables and figures; analyses/results/NAME.svg becomes
images/results/NAME.svg. Nothing is executed here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ANALYSES = Path(__file__).parents[2] / "analyses"
STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
"""Styles that pandas writes into every table."""


def page_of(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook's page, and its figures by file name.

    Args:
        notebook: as it was executed.
    """
    book = nbformat.read(notebook, 4)
    for cell in book.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if (
                "image/svg+xml" in data
            ):  # a chart: its picture, not the specification that a browser would draw
                output["data"] = {"image/svg+xml": data["image/svg+xml"]}
    body, resources = MarkdownExporter().from_notebook_node(book, {"unique_key": notebook.stem})
    assert isinstance(resources, dict)
    figures = {name: bytes(data) for name, data in resources.get("outputs", {}).items()}
    return STYLE.sub("", body), figures


def on_files(files: Files, config: Any) -> Files:
    """Adds what is generated."""
    for notebook in sorted(ANALYSES.glob("[0-9][0-9]_*.ipynb")):
        body, figures = page_of(notebook)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=body))
        for name, data in figures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=data))
    for picture in sorted((ANALYSES / "results").glob("*.svg")):
        files.append(File.generated(config, f"images/results/{picture.name}", content=picture.read_bytes()))
    return files
