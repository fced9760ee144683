"""The tables of single pairs: the strongest of a layer, the searchable ones of all layers, and what is said of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from probekit.evidence.summary import LayerRow
from probekit.evidence.tables import ranked
from probekit.evidence.truth import Truth
from probekit.report import known_answer, words
from probekit.report.tables import Table

N_STRONGEST = 12
"""Pairs a layer shown as the strongest."""
N_SEARCHABLE = 1_000
"""Pairs in the searchable table, over all layers; the whole tables are the run's parquet files."""


_PAIR_COLUMNS = (
    "A",
    "B",
    "Rung",
    "Looks like",
    "κ ± s.e.",
    "d′",
    "d′ without relay",
    "Null layers’",
    "q above",
    "q",
    "Effective neurons",
)


def _columns(truth: Truth | None) -> tuple[str, ...]:
    return _PAIR_COLUMNS if truth is None else (*_PAIR_COLUMNS[:2], "Known answer", *_PAIR_COLUMNS[2:])


def _cells(pair: Mapping[Any, Any], truth: Truth | None) -> tuple[str, ...]:
    cells = _pair_cells(pair)
    if truth is None:
        return cells
    called = known_answer.called(truth, int(pair["layer"]), str(pair["a"]), str(pair["b"]))
    return *cells[:2], called or words.NONE, *cells[2:]


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
        words.probability(pair["q_above"]),
        words.probability(pair["q"]),
        words.real(pair["participation"], 1),
    )


def verdict(pair: Mapping[Any, Any]) -> str:
    """The strongest statement that holds of a pair; a flag that could not be decided counts for nothing."""
    if holds(pair["computed"]):
        spread = "few neurons"
        if holds(pair["superposed"]):
            spread = "in superposition"
        elif holds(pair["distributed"]):
            spread = "distributed"
        return f"computed, {spread}"
    if holds(pair["above_twins"]):
        return "above twins"
    if holds(pair["relayed"]):
        return "relayed"
    return "ε-represented" if holds(pair["represented"]) else "no find"


def holds(flag: object) -> bool:
    """Whether a nullable flag is set; unknown is not."""
    return flag is not None and flag is not pd.NA and bool(flag)


def strongest_table(row: LayerRow, table: pd.DataFrame, truth: Truth | None = None) -> tuple[str, Table]:
    """A layer's first pairs under a heading that says whether they are finds; with a known answer, what each of them is."""
    if row["n_computed"] is None:
        kind = "which of these pairs is computed was not decided"
    elif row["n_computed"] or row["n_above_twins"]:
        kind = (
            f"{words.plural(row['n_above_twins'] or 0, 'pair')} above the null layers, {words.count(row['n_computed'])} of "
            "them pair-specific (computed)"
        )
    else:
        kind = "no pair stands out; these came nearest and are not finds"
    head = ranked(table).head(N_STRONGEST)
    return (
        f"Layer {row['layer']}: {kind}",
        Table(
            f"The first {len(head)} of {words.count(len(table))} tested pairs of layer {row['layer']}.",
            _columns(truth),
            tuple(_cells(pair, truth) for pair in head.to_dict("records")),
            n_text=4 + (truth is not None),
        ),
    )


def searchable_table(pairs: Mapping[int, pd.DataFrame], truth: Truth | None = None) -> Table:
    """The first pairs over all layers."""
    heads = [ranked(table).head(N_SEARCHABLE) for _, table in sorted(pairs.items())]
    best = ranked(pd.concat(heads, ignore_index=True)).head(N_SEARCHABLE) if heads else pd.DataFrame()
    return Table(
        f"The first {len(best)} pairs over all layers, by the p-value that decides.",
        ("Layer", *_columns(truth)),
        tuple((str(pair["layer"]), *_cells(pair, truth)) for pair in best.to_dict("records")),
        n_text=5 + (truth is not None),
    )
