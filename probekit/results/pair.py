"""One pair, looked at: what its readout does in each quadrant, on which tokens, in every layer, beside its twins.

While a layer is measured the readout's value is at hand at every sampled token of the confirm half; of each pair a
histogram, five quantiles and the highest tokens of each quadrant are kept (`pair_details/layer-LL.parquet`), so that a pair
can be looked at later from the run directory alone. Axes: pair quadrant entry; quadrants in the order 11, 10, 01, 00.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from probekit.errors import InputError, StoreError, near, shown
from probekit.report.pair import QUADRANTS
from probekit.results.text_snapshot import TextSnapshot
from probekit.storage import store
from probekit.storage.digest import Digest
from probekit.storage.manifest import PAIR_DETAILS

N_BINS = 40
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
TOP = 5
"""Tokens kept a quadrant."""


@dataclass(frozen=True)
class PairDetail:
    """One pair in every measured layer; print it, or show it in a notebook."""

    a: str
    """First concept."""
    b: str
    """Second concept."""
    layers: pd.DataFrame
    """One row a layer: the columns of the pair table, and the twins' d′ (mean, low, high)."""
    quadrants: pd.DataFrame
    """One row a layer and quadrant: n_tokens, n_sampled, quantiles and histogram of the readout."""
    neurons: pd.DataFrame
    """One row a layer and neuron of the readout: weight and contribution, largest first."""
    contexts: pd.DataFrame
    """One row a token: the highest of each layer and quadrant, in context."""
    twins: pd.DataFrame
    """One row a layer and twin: d′ of the same pair."""
    meanings: Mapping[str, str] = field(default_factory=dict[str, str])
    """When each of the two concepts holds, by name; empty where the run says nothing of it."""

    def figure(self) -> str:
        """The picture as SVG text: quadrant distributions and twins, a row of panels a layer."""
        from probekit.report.pair import pair_figure

        return pair_figure(self.a, self.b, self.layers, self.quadrants, self.twins)

    def html(self) -> str:
        """The picture and the tables as one HTML text that needs nothing else."""
        from probekit.report.pair import pair_page

        return pair_page(self)

    def save(self, path: str | Path) -> Path:
        """Write the picture (.svg) or the page (.html).

        Raises:
            InputError: the name ends differently.
        """
        path = Path(path)
        if path.suffix not in (".svg", ".html"):
            raise InputError(f"{path}: wanted a name that ends in .svg (the picture) or .html (the page).")
        store.write_text(path, self.figure() if path.suffix == ".svg" else self.html())
        return path

    def _repr_html_(self) -> str:
        return self.html()

    def __repr__(self) -> str:
        return f"PairDetail({self.a!r}, {self.b!r}, {len(self.layers)} layers)"


def read_pair(
    folder: Path,
    pairs: pd.DataFrame,
    a: str,
    b: str,
    digests: Mapping[str, Digest],
    concepts: pd.DataFrame | None = None,
) -> PairDetail:
    """Look at one pair of a finished run.

    Args:
        folder: the run directory.
        pairs: its pair tables, all layers.
        a: a concept, by name or, where that is clear, without quotes and spaces: prev=New for prev=" New".
        b: the other one; the order does not matter.
        digests: of the run's files, by name.
        concepts: one row a concept, with its description.

    Raises:
        InputError: no such concept, or the pair was not tested.
        CorruptError: a file is not what was written.
        StoreError: the run keeps no pair details (an older version wrote it).
    """
    first, second = _resolved(pairs, a, b)
    mine = pairs[(pairs["a"] == first) & (pairs["b"] == second)].reset_index(drop=True)
    text = TextSnapshot.read(folder, digests)
    parts: dict[str, list[dict[str, Any]]] = {"quadrants": [], "neurons": [], "contexts": [], "twins": []}
    summary: list[dict[str, Any]] = []
    for row in mine.to_dict("records"):
        table = read_pair_details(folder, int(row["layer"]), digests)
        look = table[(table["a"] == first) & (table["b"] == second)].iloc[0].to_dict()
        collect(parts, row, look, text)
        d = np.asarray(look["d_prime_twins"], float)
        summary.append(
            {"n_twins": len(d), "twin_mean": d.mean(), "twin_low": d.min(), "twin_high": d.max()}
            if len(d)
            else {"n_twins": 0, "twin_mean": np.nan, "twin_low": np.nan, "twin_high": np.nan}
        )
    return PairDetail(
        a=first,
        b=second,
        layers=pd.concat([mine, pd.DataFrame(summary)], axis=1),
        **{name: pd.DataFrame(rows) for name, rows in parts.items()},
        meanings=_meanings(concepts, (first, second)),
    )


def _meanings(concepts: pd.DataFrame | None, names: tuple[str, str]) -> dict[str, str]:
    if concepts is None or concepts.empty:
        return {}
    told = zip(concepts["name"], concepts["description"], strict=True)
    return {str(name): str(meaning) for name, meaning in told if name in names}


def read_pair_details(folder: Path, layer: int, digests: Mapping[str, Digest]) -> pd.DataFrame:
    """What a run kept of every pair of a layer, one row a pair.

    Raises:
        CorruptError: the file is not what was written.
        StoreError: the run keeps no details of pairs (an older version wrote it).
    """
    file = folder / PAIR_DETAILS / f"layer-{layer:02d}.parquet"
    if not file.exists():
        raise StoreError(
            f"{file}: missing, so single pairs cannot be looked at; the run was written by an older version. "
            "Run it again with --force."
        )
    return store.read_table(file, digests.get(f"{PAIR_DETAILS}/{file.name}"))


def collect(
    parts: dict[str, list[dict[str, Any]]],
    row: Mapping[Any, Any],
    detail: Mapping[Any, Any],
    text: TextSnapshot | None,
) -> None:
    """Add what was kept of a pair in one layer to the rows of quadrants, neurons, contexts and twins.

    Args:
        parts: the rows, by table.
        row: of the pair table.
        detail: of the table of details.
        text: the run's text; None shows tokens as numbers.
    """
    layer = int(row["layer"])
    weights = zip(row["neurons"], row["weights"], detail["contribution"], strict=True)
    parts["neurons"] += [
        {"layer": layer, "neuron": int(n), "weight": float(w), "contribution": float(c)}
        for n, w, c in sorted(weights, key=lambda item: -abs(item[2]))
    ]
    parts["twins"] += [
        {"layer": layer, "twin": r, "d_prime": float(d)} for r, d in enumerate(detail["d_prime_twins"])
    ]
    for quadrant in QUADRANTS:
        counts, quantiles = detail[f"counts{quadrant}"], detail[f"quantiles{quadrant}"]
        parts["quadrants"].append(
            {
                "layer": layer,
                "quadrant": quadrant,
                "n_tokens": int(row[f"n{quadrant}"]),
                "n_sampled": int(np.sum(counts)),
                "mean": float(row[f"mean{quadrant}"]),
                **{f"q{level:.0%}".rstrip("%"): float(v) for level, v in zip(LEVELS, quantiles, strict=True)},
                "low": float(detail["low"]),
                "high": float(detail["high"]),
                "counts": [int(n) for n in counts],
            }
        )
        for token, value in zip(detail[f"tokens{quadrant}"], detail[f"values{quadrant}"], strict=True):
            shown = (
                {"before": "", "token": str(token), "after": ""}
                if text is None
                else text.in_context(int(token))
            )
            parts["contexts"].append({"layer": layer, "quadrant": quadrant, "value": float(value), **shown})


def _resolved(pairs: pd.DataFrame, a: str, b: str) -> tuple[str, str]:
    """The two names as the tables have them, in their order."""
    held = list(zip(pairs["a"], pairs["b"], strict=True))
    names = sorted({name for pair in held for name in pair})
    first, second = (_named(name, names) for name in (a, b))
    known = set(held)
    for pair in ((x, y) for x in first for y in second):
        for ordered in (pair, (pair[1], pair[0])):
            if ordered in known:
                return ordered
    partners = sorted({y for x, y in known if x in first} | {x for x, y in known if y in first})
    raise InputError(
        f"pair ({first[0]!r}, {second[0]!r}): not among the {len(known):,} tested pairs of this run. {first[0]!r} was "
        f"tested with {len(partners)} concepts{': ' + ', '.join(map(repr, partners[:5])) if partners else ''}; "
        "pairs=[(a, b)] tests a pair of your choice."
    )


def _named(asked: str, names: Iterable[str]) -> list[str]:
    """Concepts meant by a name: itself, or those that read so without quotes and white space."""
    held, given = list(names), cast(Any, asked)
    if not isinstance(given, str):
        raise InputError(
            f"concept: got {shown(given)} ({type(given).__name__}), wanted the name of a concept."
        )
    if asked in held:
        return [asked]
    meant = [name for name in held if _bare(name) == _bare(asked)]
    if not meant:
        close = near(asked, held)
        told = f"did you mean {' or '.join(map(repr, close))}?" if close else "none is spelt like it."
        raise InputError(
            f"concept {asked!r}: none of the {len(held)} in tested pairs; {told} run.concepts and `probekit explore RUN` "
            "list all of them; a new run with pairs=[(a, b)] tests a pair of your choice."
        )
    return meant


def _bare(name: str) -> str:
    return "".join(name.replace('"', "").split())
