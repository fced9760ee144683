"""A run directory: what belongs into it, whose it is, and when it is finished.

run.json                who the run is, written first and never changed
stages/…                what is finished of it (shards.py); working stages go when the results stand
pairs/ paths/ pair_details/ layers.parquet examples.json summary.json      the results
tokens.parquet surfaces.parquet concepts.parquet             the text they are about, where there is one
COMMIT.json             digests of all of these, written last: the run is finished when it is there
report.html figures/    derived from the results; may be deleted and are rebuilt byte by byte
LOCK                    while somebody works on it
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from probekit.errors import FormatError, IncompleteError, InputError, StaleError, StoreError, shown
from probekit.storage import store
from probekit.storage.digest import Digest, corrupt
from probekit.storage.lock import LOCK
from probekit.storage.shards import COMMIT, STAGES

FORMAT = 4
"""3: tables of the rule with relays removed. Earlier ones, never released, are refused: their columns mean other things."""
RECORD, SUMMARY, LAYERS = "run.json", "summary.json", "layers.parquet"
TOKENS, SURFACES, CONCEPTS = "tokens.parquet", "surfaces.parquet", "concepts.parquet"
PAIR_DETAILS = "pair_details"
TABLES = ("pairs", "paths", PAIR_DETAILS)
"""Folders with a table a layer."""
REPORT, EXAMPLES, FIGURES = "report.html", "examples.json", "figures"
RECORD_SCHEMA, RESULTS_SCHEMA = "probekit.run/1", "probekit.results/1"
RESULT = "result"
"""The stage that holds a part a layer, decided: what the tables are published from."""
_OWN_FILES = (COMMIT, SUMMARY, LAYERS, TOKENS, SURFACES, CONCEPTS, REPORT, EXAMPLES)
_OWN_FOLDERS = (*TABLES, FIGURES, STAGES)
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")

State = Literal["new", "unfinished", "finished", "other"]


def as_folder(path: Any) -> Path:
    """The path of a run directory, however it was given.

    Raises:
        InputError: it is no path.
    """
    if not isinstance(path, str | Path) or "\0" in str(path) or not str(path).strip():
        raise InputError(f"path: got {path!r}, wanted the path of a run directory.")
    return Path(path)


def read_record(path: Path) -> dict[str, Any]:
    """run.json of a run directory.

    Raises:
        StoreError: there is none.
        FormatError: a newer probekit wrote it, or it is no run record.
        CorruptError: it is damaged.
    """
    file = Path(path) / RECORD
    if not file.exists():
        raise StoreError(
            f"{path}: no {RECORD}, so this is not a run directory; give the folder named by --out."
        )
    record = store.read_sealed(file, RECORD_SCHEMA, FORMAT)
    if not isinstance(record.get("science"), dict) or not isinstance(record.get("identity"), str):
        raise FormatError(f"{file}: not a run record; give the folder named by --out.")
    return record


@dataclass(frozen=True)
class Results:
    """What COMMIT.json says of the finished results."""

    files: dict[str, Digest]
    """Digest of each result file by its name in the run directory."""
    stages: dict[str, str]
    """Identity of each stage kept."""


def read_results(path: Path, record: dict[str, Any]) -> Results:
    """COMMIT.json of a run directory.

    Raises:
        IncompleteError: the run was not finished.
        CorruptError: the record is damaged, or belongs to another run.
    """
    file = path / COMMIT
    if not file.exists():
        raise _unfinished(path)
    held = store.read_sealed(file, RESULTS_SCHEMA, FORMAT)
    if held.get("identity") != record["identity"]:
        raise corrupt(file, "belongs to another run")
    files, stages = held.get("files"), held.get("stages")
    if not isinstance(files, dict) or not isinstance(stages, dict) or SUMMARY not in files:
        raise FormatError(f"{file}: lists no results; start the run afresh with --force.")
    for name in (*files, *stages):
        require_name(name, file)
    return Results(
        {name: Digest.from_dict(value, file) for name, value in files.items()},
        {name: str(value) for name, value in stages.items()},
    )


def require_sizes(path: Path, results: Results) -> None:
    """Refuse results of which a file is gone or has another length: what can be seen without reading them.

    Raises:
        CorruptError: there is one; it names the first.
    """
    for name, digest in results.files.items():
        file = path / name
        if not file.is_file():
            raise corrupt(file, "the file is gone")
        digest.require_length(file.stat().st_size, file)


def require_name(name: str, where: Path) -> None:
    """Refuse a name that could lead out of the run directory.

    Raises:
        FormatError: it could.
    """
    if not _SAFE_NAME.fullmatch(name):
        raise FormatError(
            f"{where}: names {name!r}, which is no file of a run; start the run afresh with --force."
        )


def _unfinished(path: Path) -> IncompleteError:
    return IncompleteError(
        f"{path}: the run was started and not finished; `probekit resume {path}` (or the same command again) finishes it."
    )


def commit(folder: Path, identity: str, stages: dict[str, str]) -> None:
    """Write COMMIT.json: from now on the run is finished."""
    names = [SUMMARY, LAYERS, EXAMPLES, RECORD]
    names += [name for name in (TOKENS, SURFACES, CONCEPTS) if (folder / name).exists()]
    names += [f"{kind}/{file.name}" for kind in TABLES for file in (folder / kind).iterdir()]
    files = {name: Digest.of(store.read_bytes(folder / name)).as_dict() for name in sorted(names)}
    record = {
        "schema": RESULTS_SCHEMA, "format": FORMAT, "identity": identity, "files": files, "stages": stages
    }  # fmt: skip
    store.write_sealed(folder / COMMIT, record)


def state_of(folder: Path, record: dict[str, Any]) -> State:
    """What a directory holds, for somebody who comes with this record.

    Raises:
        StaleError: files that are no run.
        CorruptError: its record is damaged.
        FormatError: a newer probekit wrote it.
    """
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
    foreign = {name for name in names if name != LOCK and store.TEMPORARY_MARK not in name}
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: a file, wanted a folder for --out.")
    if not foreign:
        return "new"
    if RECORD not in foreign:
        raise StaleError(f"{folder}: holds files that are no run; choose an empty folder for --out.")
    held = read_record(folder)
    if held["identity"] != record["identity"]:
        return "other"
    return "finished" if (folder / COMMIT).exists() else "unfinished"


def is_tidy(folder: Path) -> bool:
    """Whether nothing is left to do in the directory of a finished run: no debris, and the report is there."""
    names = {path.name for path in folder.rglob("*")}
    return REPORT in names and LOCK not in names and not any(store.TEMPORARY_MARK in name for name in names)


def require_same(folder: Path, record: dict[str, Any]) -> None:
    """Refuse a directory that holds another run.

    Raises:
        StaleError: always, naming what differs.
    """
    ours, theirs = record["science"], read_record(folder).get("science", {})
    changed = sorted(key for key in ours if ours[key] != theirs.get(key))
    told = "; ".join(_difference(key, theirs.get(key), ours[key]) for key in changed)
    raise StaleError(
        f"{folder}: holds another run (it differs in {told or 'its record'}). Keep both by giving this one another out "
        "(--out); force=True (--force) computes this one in its place, and what is there, results and report, is deleted."
    )


def _difference(key: str, theirs: Any, ours: Any) -> str:
    """What of a record differs, with both values where they are short."""
    if key == "code":
        return "code: probekit itself was changed since"
    if isinstance(theirs, dict) and isinstance(ours, dict):
        names = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
        return f"{key}: {', '.join(_both(name, theirs.get(name), ours.get(name)) for name in names)}"
    return _both(key, theirs, ours)


def _both(name: str, theirs: Any, ours: Any) -> str:
    held, asked = (_told(name, value) for value in (theirs, ours))
    if held == asked:  # what stands behind the @, a digest, tells a reader nothing
        return f"{name}: {held}, with other contents"
    return f"{name}: {held} there, {asked} asked for"


def _told(name: str, value: Any) -> str:
    if name == "layers" and value is None:
        return "all"
    if not isinstance(value, str):
        return shown(value)
    # objects are held as a bare digest
    return value.partition("@")[0] if "@" in value or len(value) < 32 else f"{value[:8]}…"


def require_same_environment(folder: Path, environment: dict[str, Any]) -> None:
    """Refuse to continue a run where its numbers would come out differently.

    Raises:
        StaleError: versions or device differ from those it was begun with.
    """
    begun = read_record(folder).get("environment", {})
    changed = [key for key in sorted({*begun, *environment}) if begun.get(key) != environment.get(key)]
    if changed:
        told = ", ".join(f"{key} {begun.get(key)}, now {environment.get(key)}" for key in changed)
        raise StaleError(
            f"{folder}: this unfinished run was begun with {told}; its parts would not fit together. Continue it there, "
            "or start it afresh with --force."
        )


def empty(folder: Path) -> None:
    """Remove what a run wrote into its directory: the mark that it is finished first, last the record whose it is.

    Without the record what is left would be somebody else's files, which nobody may replace.
    """
    for name in _OWN_FILES:
        store.remove(folder / name)
    for name in _OWN_FOLDERS:
        store.remove_tree(folder / name)
    store.sweep(folder)
    store.remove(folder / RECORD)
