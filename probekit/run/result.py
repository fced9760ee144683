"""A finished run: its summary, its tables and its report, from memory or from its directory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from probekit.errors import FormatError, IncompleteError, InputError, StoreError
from probekit.report.paper import PAGE_MM
from probekit.run import store
from probekit.run.export import export_run
from probekit.run.publish import publish

FORMAT = 1
RECORD, SUMMARY = "run.json", "summary.json"


class Run:
    """The result of `analyze`, read from its directory.

    Args:
        path: the run directory.
        temporary: the temporary directory that holds it, if nobody asked for a place; it goes with this object.
    """

    def __init__(self, path: Path, temporary: TemporaryDirectory[str] | None = None) -> None:
        self.path = Path(path)
        self._temporary = temporary
        self.record: dict[str, Any] = read_record(self.path)
        if not (self.path / SUMMARY).exists():
            raise IncompleteError(
                f"{self.path}: the run was started and not finished; run the same command again to finish it."
            )
        self.summary: dict[str, Any] = store.read_json(self.path / SUMMARY)

    @property
    def layers(self) -> pd.DataFrame:
        """One row a layer: every number of summary.json's `layers`, nested ones with their path as a prefix."""
        flat: list[dict[str, Any]] = []
        for row in self.summary["layers"]:
            kept = {k: v for k, v in row.items() if not isinstance(v, list | dict)}
            for key, value in (row["twins"] or {}).items():
                kept |= {f"twins_{key}_{part}": v for part, v in (value or {}).items()}
            kept |= {f"capacity_{key}": v for key, v in row["capacity"].items()}
            flat.append(kept)
        return pd.DataFrame(flat)

    def pairs(self, layer: int | None = None) -> pd.DataFrame:
        """One row a tested pair at the deciding k, of one layer or of all.

        Raises:
            InputError: the run has no such layer.
        """
        return self._tables("pairs", layer)

    def paths(self, layer: int | None = None) -> pd.DataFrame:
        """One row a pair and other k, of one layer or of all.

        Raises:
            InputError: the run has no such layer.
        """
        return self._tables("paths", layer)

    def _tables(self, kind: str, layer: int | None) -> pd.DataFrame:
        held = [row["layer"] for row in self.summary["layers"]]
        if layer is not None and layer not in held:
            raise InputError(f"layer {layer}: this run measured layers {', '.join(map(str, held))}.")
        chosen = held if layer is None else [layer]
        tables = [store.read_table(self.path / kind / f"layer-{index:02d}.parquet") for index in chosen]
        return pd.concat(tables, ignore_index=True)

    def report(self, path: str | Path | None = None, *, companions: tuple[Run, ...] = ()) -> Path:
        """Write the HTML report.

        Args:
            path: where to put it; None: report.html in the run directory.
            companions: other runs whose ladder is shown beside this one.

        Returns:
            The path written.
        """
        return publish(self, None if path is None else Path(path), companions)

    def export(self, folder: str | Path, *, width_mm: float | int = PAGE_MM) -> list[Path]:
        """Write figures for a paper (SVG, PDF) and tables (CSV, LaTeX) into a folder.

        Args:
            folder: made where it is not there; files of the same names are replaced.
            width_mm: the widest a figure may be, in millimetres.

        Returns:
            The paths written.

        Raises:
            InputError: a width that no page has.
            StoreError: the folder cannot be written to.
        """
        return export_run(self, folder, width_mm=width_mm)

    def __repr__(self) -> str:
        name, n = self.summary["model"]["name"], len(self.summary["layers"])
        return f"Run({name!r}, {n} layers, {self.summary['concepts']['n_tested']} pairs, {str(self.path)!r})"


def read_record(path: Path) -> dict[str, Any]:
    """run.json of a run directory.

    Raises:
        StoreError: there is none.
        FormatError: a newer probekit wrote it.
    """
    file = Path(path) / RECORD
    if not file.exists():
        raise StoreError(
            f"{path}: no {RECORD}, so this is not a run directory; give the folder named by --out."
        )
    record = store.read_json(file)
    written = record.get("format") if isinstance(record, dict) else None
    if not isinstance(written, int):
        raise FormatError(f"{file}: not a run record; give the folder named by --out.")
    if written > FORMAT:
        raise FormatError(
            f"{file}: written in format {written}, this probekit reads up to {FORMAT}; upgrade probekit "
            f"(it was written by {record.get('versions', {}).get('probekit', 'a newer version')})."
        )
    return record


def load(path: str | Path) -> Run:
    """Load a finished run.

    Raises:
        StoreError: the folder is no run directory.
        IncompleteError: the run was not finished.
        FormatError: a newer probekit wrote it.
    """
    return Run(Path(path))
