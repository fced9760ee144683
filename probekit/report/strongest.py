"""The tables of single pairs: the strongest of a layer, the searchable ones of all layers, and what is said of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from probekit.evidence.tables import ranked
from probekit.report import words
from probekit.report.tables import Table

N_STRONGEST = 12
"""Pairs a layer shown as the strongest."""
N_SEARCHABLE = 1_000
"""Pairs in the searchable table, over all layers; the whole tables are the run's parquet files."""


_PAIR_COLUMNS = (
    "A",
    "B",
    "Class",
    "Shape",
    "κ ± s.e.",
    "d′",
    "d′ without relay",
    "Twins’",
    "q",
    "q twins",
    "Effective neurons",
)


def _pair_cells(pair: Mapping[Any, Any]) -> tuple[str, ...]:
    return (
        str(pair["a"]),
        str(pair["b"]),
        verdict(pair),
        str(pair["shape"] or words.NONE),
        f"{words.real(pair['kappa'])} ± {words.real(pair['kappa_se'])}",
        words.real(pair["d_prime"]),
        words.real(pair["d_prime_relay"]),
        words.real(pair["d_prime_relay_twins"]),
        words.probability(pair["q"]),
        words.probability(pair["q_above"]),
        words.real(pair["participation"], 1),
    )


def verdict(pair: Mapping[Any, Any]) -> str:
    """The strongest statement that holds of a pair; a flag that could not be decided counts for nothing."""
    if _holds(pair["computed"]):
        spread = "few neurons"
        if _holds(pair["superposed"]):
            spread = "in superposition"
        elif _holds(pair["distributed"]):
            spread = "distributed"
        return f"computed, {spread}"
    if _holds(pair["above_twins"]):
        return "above twins"
    if _holds(pair["relayed"]):
        return "relayed"
    return "ε-represented" if _holds(pair["represented"]) else "none"


def _holds(flag: object) -> bool:
    """Whether a nullable flag is set; unknown is not."""
    return flag is not None and flag is not pd.NA and bool(flag)


def strongest_table(row: words.Row, table: pd.DataFrame) -> tuple[str, Table]:
    """A layer's first pairs under a heading that says whether they are finds."""
    if row["n_computed"] is None:
        kind = "which of these pairs is computed was not decided"
    elif row["n_computed"]:
        kind = f"{words.plural(row['n_computed'], 'pair')} computed"
    else:
        kind = "no pair is computed; these came nearest and are not finds"
    head = ranked(table).head(N_STRONGEST)
    return (
        f"Layer {row['layer']}: {kind}",
        Table(
            f"The first {len(head)} of {words.count(len(table))} tested pairs of layer {row['layer']}.",
            _PAIR_COLUMNS,
            tuple(_pair_cells(pair) for pair in head.to_dict("records")),
            n_text=4,
        ),
    )


def searchable_table(pairs: Mapping[int, pd.DataFrame]) -> Table:
    """The first pairs over all layers."""
    heads = [ranked(table).head(N_SEARCHABLE) for _, table in sorted(pairs.items())]
    best = ranked(pd.concat(heads, ignore_index=True)).head(N_SEARCHABLE) if heads else pd.DataFrame()
    return Table(
        f"The first {len(best)} pairs over all layers, by p.",
        ("Layer", *_PAIR_COLUMNS),
        tuple((str(pair["layer"]), *_pair_cells(pair)) for pair in best.to_dict("records")),
        n_text=5,
    )
