"""The explorer of a finished run: gathered from its directory, written as a folder, or answered for pair by pair."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from probekit.errors import InputError, StaleError, StoreError, shown
from probekit.evidence.tables import ranked
from probekit.report.explorer import MARK, SCHEMA, Explored, detail, explorer_files
from probekit.results.finished import Finished
from probekit.results.pair import collect, read_pair_details
from probekit.results.text_snapshot import TextSnapshot
from probekit.storage import store
from probekit.storage.digest import Digest
from probekit.storage.manifest import read_results

N_CONTEXTS = 200
"""Pairs of each layer, the strongest, whose tokens are put into a folder unless somebody asks for others."""


class Details:
    """What a run kept of its pairs: histograms, null layers, tokens in context. Any thread may ask.

    Args:
        run: the finished run.

    Raises:
        StoreError: the run keeps no details of pairs (an older version wrote it).
        CorruptError: a file is not what was written.
    """

    def __init__(self, run: Finished) -> None:
        digests: Mapping[str, Digest] = read_results(run.path, run.record).files
        layers = [int(row["layer"]) for row in run.summary["layers"]]
        self.pairs: pd.DataFrame = run.pairs().reset_index(drop=True)
        table = pd.concat(
            [read_pair_details(run.path, layer, digests) for layer in layers], ignore_index=True
        )
        if not (table[["a", "b"]] == self.pairs[["a", "b"]]).all(axis=None):
            raise StoreError(
                f"{run.path}: pair_details/ and pairs/ hold other pairs; run the analysis again with --force."
            )
        self.table: pd.DataFrame = table
        self._text = TextSnapshot.read(run.path, digests)
        self._lock = threading.Lock()

    def of(self, row: int) -> dict[str, Any]:
        """One pair, by its row of `pairs`.

        Raises:
            IndexError: there is no such row.
        """
        with self._lock:
            kept: dict[Any, Any] = self.table.iloc[row].to_dict()
            parts: dict[str, list[dict[str, Any]]] = {
                "quadrants": [],
                "neurons": [],
                "contexts": [],
                "twins": [],
            }
            collect(parts, self.pairs.iloc[row].to_dict(), kept, self._text)
        return detail([float(d) for d in kept["d_prime_twins"]], parts["quadrants"], parts["contexts"])


def files_of(run: Finished, details: Details, contexts: int | None = N_CONTEXTS) -> dict[str, bytes]:
    """The explorer's files, name → bytes.

    Args:
        run: the finished run.
        details: of the run.
        contexts: how many pairs of each layer have their tokens in a file, the strongest; None: all.

    Raises:
        InputError: `contexts` is no such number.
    """
    if contexts is not None and (isinstance(contexts, bool) or contexts < 0):
        raise InputError(
            f"contexts: got {shown(contexts)}, wanted a whole number ≥ 0, or None for all pairs."
        )
    return explorer_files(
        Explored(
            summary=run.summary,
            identity=str(run.record["identity"]),
            pairs=details.pairs,
            contributions=_lists(details.table["contribution"]),
            twins=_lists(details.table["d_prime_twins"]),
            concepts=run.concepts,
            details={row: details.of(row) for row in _strongest(details.pairs, contexts)},
        )
    )


def _lists(values: pd.Series) -> list[list[float]]:
    return [[float(value) for value in row] for row in values]


def _strongest(pairs: pd.DataFrame, contexts: int | None) -> Sequence[int]:
    """Rows of each layer's first pairs."""
    return sorted(
        int(row) for _, part in pairs.groupby("layer") for row in ranked(part).index.to_numpy()[:contexts]
    )


def write_explorer(run: Finished, folder: Path, contexts: int | None, *, force: bool = False) -> Path:
    """Write the explorer's folder, all of it or nothing.

    Args:
        run: the finished run.
        folder: where to; an explorer of the same run that stands there is replaced.
        contexts: how many pairs of each layer have their tokens in a file; None: all.
        force: replace the explorer of another run as well.

    Returns:
        The page to open, index.html.

    Raises:
        InputError: `contexts` is no such number.
        StaleError: the folder holds something else, or another run's explorer.
        StoreError: it cannot be written.
    """
    folder = Path(folder).resolve()  # behind a link stands somebody's folder, which keeps its name
    require_replaceable(folder, str(run.record["identity"]), force=force)
    files = files_of(run, Details(run), contexts)
    store.require_room(folder, sum(map(len, files.values())), "the explorer")
    store.write_folder(folder, files)
    return folder / "index.html"


def require_replaceable(folder: Path, identity: str, *, force: bool) -> None:
    """Refuse a place that holds anything but an explorer, so that nobody's files are ever removed.

    Args:
        folder: where the explorer is to go.
        identity: of the run it shows.
        force: whether the explorer of another run may be replaced.

    Raises:
        StaleError: it holds something else.
        StoreError: it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: a file, wanted a folder for the explorer; choose another --out.")
    held = (
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        if folder.exists()
        else set[str]()
    )
    if not held:
        return
    record = store.read_json(folder / MARK) if MARK in held else None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise StaleError(
            f"{folder}: holds files that are no explorer ({_some(held)}); choose an empty folder for --out."
        )
    files = record.get("files")
    foreign = held - set(files if isinstance(files, list) else [])
    if foreign:
        raise StaleError(
            f"{folder}: an explorer, and files that do not belong to it ({_some(foreign)}), which would be removed; move "
            "them away, or choose another --out."
        )
    if record.get("identity") != identity and not force:
        raise StaleError(
            f"{folder}: holds the explorer of another run. Choose another --out, or --force to replace it."
        )


def _some(names: set[str]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (", …" if len(names) > len(first) else "")
