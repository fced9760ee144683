"""The run directories below a folder, one row each: what they hold and what state they are in.

What makes a run finished, damaged or of another format is decided where it always is (`storage.manifest`, `Run`); here it is
only caught and listed. Records and summaries are compared with their digests, of every other result file only its size is
looked at: `verify` reads them all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from probekit.errors import (
    FormatError,
    IncompleteError,
    InputError,
    as_ours,
    guarded,
)
from probekit.results.run import Run
from probekit.storage import manifest
from probekit.storage.shards import COMMIT, STAGES, Stage

DEPTH = 3
"""Levels of folders that are searched below the one given."""
RunState = Literal["complete", "unfinished", "damaged", "other format"]
COLUMNS: dict[str, str] = {
    "path": "the run directory",
    "state": "complete, unfinished, damaged, or other format",
    "model": "name of the model, as far as the record can be read",
    "layers": "numbers of the layers; of an unfinished run those asked for, null where it asked for all",
    "n_layers_decided": "layers whose results stand",
    "n_pairs": "tested pairs of a layer: the most of any",
    "n_tokens": "counted tokens of the text",
    "n_computed": "computed pairs, over all layers; null without twins",
    "n_bytes": "size of all its files",
    "modified": "when any of its files was last written, UTC",
    "note": "what is wrong with it, or how to finish it; empty for a complete run",
}
"""Columns of the table: name → meaning."""


@guarded
def runs(folder: str | Path = ".", *, depth: int = DEPTH) -> pd.DataFrame:
    """List the run directories in a folder: finished, unfinished and damaged ones.

    Only records, summaries and the sizes of files are looked at (`probekit verify` reads every byte), and a directory that
    cannot be used is a row like any other. Links to folders and hidden folders are not entered, nor is a run directory
    searched for others.

    Args:
        folder: where to look; it may be a run directory itself.
        depth: levels of folders searched below it; 0 looks at the folder alone.

    Returns:
        One row a run directory, in the order of their paths: path, state ("complete", "unfinished", "damaged", "other
        format"), model, layers, n_layers_decided, n_pairs, n_tokens, n_computed, n_bytes, modified, note. What is not known
        is null.

    Raises:
        InputError: there is no such folder, or the depth is below 0.
    """
    top = manifest.as_folder(folder)
    if isinstance(depth, bool) or depth < 0:
        raise InputError(f"depth: got {depth!r}, wanted a whole number ≥ 0, such as {DEPTH}.")
    if not top.is_dir():
        raise InputError(
            f"{top}: no such folder; give one that holds run directories. One is made by "
            "`probekit analyze MODEL --out runs/NAME`."
        )
    rows = [_row(path) for path in _candidates(top, depth)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    whole = ("n_layers_decided", "n_pairs", "n_tokens", "n_computed", "n_bytes")
    return table.astype({**dict.fromkeys(whole, "Int64"), "modified": "datetime64[us, UTC]"})


def _candidates(top: Path, depth: int) -> Iterator[Path]:
    """Folders with a record, or with finished results that have lost theirs."""
    for here, below, names in os.walk(
        top
    ):  # links are not followed, folders that cannot be read are passed over
        if manifest.RECORD in names or {COMMIT, manifest.SUMMARY} <= {*names}:
            yield Path(here)
            below.clear()
        elif len(Path(here).relative_to(top).parts) >= depth:
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith("."))


def _row(path: Path) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"path": str(path), "note": ""} | _on_disk(path)
    try:
        record = manifest.read_record(path)
        row |= _of_record(path, record)
        row |= _of_summary(Run(path))
        manifest.require_sizes(path, manifest.read_results(path, record))
    except Exception as error:  # noqa: BLE001 - one bad directory must not end the list
        state, note = _state_of(error)
        return row | {"state": state, "note": note}
    return row | {"state": "complete"}


def _state_of(error: Exception) -> tuple[RunState, str]:
    ours = as_ours(error)
    match ours:
        case IncompleteError():
            return "unfinished", str(ours)
        case FormatError():
            return "other format", str(ours)
        case _:
            return "damaged", str(ours)


def _of_record(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a run before it is finished."""
    science = record["science"]
    layers, model = science.get("layers"), science.get("model")
    decided = Stage(path / STAGES / manifest.RESULT, "").parts()
    return {
        "model": str(model).rpartition("@")[0] or model,
        "layers": [int(layer) for layer in layers] if isinstance(layers, list) else None,
        "n_layers_decided": len(decided),
    }


def _of_summary(run: Run) -> dict[str, Any]:
    rows, summary = run.summary["layers"], run.summary
    computed = [row.get("n_computed") for row in rows]
    known = [int(n) for n in computed if n is not None]
    return {
        "model": summary["model"]["name"],
        "layers": [int(row["layer"]) for row in rows],
        "n_layers_decided": len(rows),
        "n_pairs": max(int(row["n_tested"]) for row in rows),
        "n_tokens": summary["corpus"]["n_tokens_fit"] + summary["corpus"]["n_tokens_confirm"],
        "n_computed": sum(known) if known else None,
    }


def _on_disk(path: Path) -> dict[str, Any]:
    """Size, and time of the last write; a file that somebody removes meanwhile does not count."""
    n_bytes, newest = 0, 0.0
    for here, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                stamp = (Path(here) / name).stat(follow_symlinks=False)
                n_bytes, newest = n_bytes + stamp.st_size, max(newest, stamp.st_mtime)
    return {"n_bytes": n_bytes, "modified": datetime.fromtimestamp(newest, UTC)}
