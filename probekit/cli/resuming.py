"""`probekit resume` and `probekit verify`: what can be done with a run directory that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probekit.errors import StoreError

if TYPE_CHECKING:
    from probekit.results.run import Run

Directory = Annotated[Path, typer.Argument(help="Run directory, as named by --out.")]


def continue_run(folder: Path, progress: Any) -> Run:
    """Do what is left of the run in a directory, as its record says.

    Raises:
        StoreError: it is no run directory, or its run was begun from Python with objects that no file holds.
        StaleError: model, corpus or concepts are not what they were.
    """
    from probekit.analysis.api import analyze
    from probekit.storage.manifest import read_record

    record = read_record(folder)
    arguments: Any = record.get("arguments")
    if not isinstance(arguments, dict):
        raise StoreError(
            f"{folder}: begun from Python with a model, corpus or arrays that no file holds; make the same call again with "
            "this directory as out=, and it goes on from there."
        )
    return analyze(**_known(arguments, folder), out=folder, progress=progress, command=record.get("command"))


def _known(arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Only what `analyze` takes and a record may say: neither where to write nor to replace anything."""
    from probekit.analysis.settings import names

    inputs = {"model", "corpus", "concepts", "layers", "pairs", "device", "engine", "memory", "dtype"}
    unknown = sorted(set(arguments) - inputs - set(names()))
    if unknown or not isinstance(arguments.get("model"), str):
        raise StoreError(
            f"{folder}: run.json holds no call that can be repeated ({', '.join(unknown) or 'no model'})."
        )
    pairs = arguments.get("pairs")
    chosen = None if pairs is None else [p if isinstance(p, str) else tuple(map(str, p)) for p in pairs]
    return {**arguments, "pairs": chosen}


def verified(folder: Path) -> str:
    """One line that says what was compared."""
    from probekit.storage.verify import verify

    found = verify(folder)
    return f"{folder}: {found.n_files} files, {found.n_bytes:,} bytes: every one is what was written; the run is finished."
