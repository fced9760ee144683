"""What leaves a run for a paper or a spreadsheet: figures and tables as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from probekit.report.paper import PAGE_MM, flat_groups, flat_pairs, paper_figures, paper_tables
from probekit.results.finished import Finished
from probekit.storage import store


def export_run(run: Finished, folder: str | Path, *, width_mm: float | int = PAGE_MM) -> list[Path]:
    """Write a run's figures (SVG, PDF) and tables (CSV, LaTeX) into a folder.

    Args:
        run: the finished run.
        folder: made where it is not there; files of the same names are replaced.
        width_mm: the widest a figure may be, in millimetres.

    Returns:
        The paths written.

    Raises:
        InputError: a width that no page has.
        StoreError: the folder cannot be written to.
    """
    folder = Path(folder)
    pairs = {row["layer"]: run.pairs(row["layer"]) for row in run.summary["layers"]}
    files: dict[str, bytes] = {}
    for name, figure in paper_figures(run.summary, run.layers, pairs, width_mm=width_mm).items():
        files |= {f"{name}.svg": figure.svg.encode(), f"{name}.pdf": figure.pdf}
    files |= {f"{name}.tex": text.encode() for name, text in paper_tables(run.summary, pairs).items()}
    files |= {f"{name}.csv": _csv(table) for name, table in _frames(run, pairs).items() if len(table)}
    for name, data in files.items():
        store.write_bytes(folder / name, data)
    return [folder / name for name in files]


def _frames(run: Finished, pairs: Mapping[int, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    named = {f"pairs-layer-{layer:02d}": flat_pairs(table) for layer, table in pairs.items()}
    return {"layers": run.layers, "groups": flat_groups(run.summary["layers"]), **named}


def _csv(table: pd.DataFrame) -> bytes:
    text = table.to_csv(index=False)  # text only; store.write_bytes is what writes it
    assert text is not None
    return text.encode()
