"""The report's tables as text: numbers behind the figures, concepts, what was excluded, records.

Every cell is a string ready to be set, escaped by the page; what follows a line break is set small below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from probekit.evidence.summary import LayerRow, RungKey, Summary
from probekit.report import words

EFFECT_SITES: tuple[tuple[str, str], ...] = (
    ("neurons", "Neurons"),
    ("twins", "Null layers’ neurons"),
    ("isotropic", "Isotropic twins"),
    ("shuffle", "Channel-shuffle twins"),
    ("linear", "Linearised layer"),
    ("pre", "Pre-activations"),
    ("input", "MLP input"),
)
"""Where d′ was measured: key under `effect`, label."""


@dataclass(frozen=True)
class Table:
    """A table as text, ready to be set."""

    caption: str
    """What the table holds, in a sentence."""
    columns: tuple[str, ...]
    """Column headings; the first column heads its row."""
    rows: tuple[tuple[str, ...], ...]
    """Cells as text."""
    n_text: int = 1
    """How many leading columns hold words; the rest are numbers, set right."""


def ladder_table(summary: Summary) -> Table:
    """Every rung of every layer, with its twins' mean and range below."""
    rows: list[LayerRow] = summary["layers"]
    n_twins = sorted({row["n_twins"] or 0 for row in rows})
    return Table(
        f"Pairs on each rung by layer; below each count the mean and the range of its twins "
        f"({words.listed([words.count(n) for n in n_twins])} a layer).",
        ("Layer", *(label for _, label, _ in words.RUNGS), "Excess over twins"),
        tuple(
            (
                str(row["layer"]),
                *(_beside(row, key) for key, _, _ in words.RUNGS),
                f"{words.mean(row['n_excess'])}\n\n{words.span(row['excess_low'], row['excess_high'])}",
            )
            for row in rows
        ),
    )


def _beside(row: LayerRow, key: RungKey) -> str:
    twins = (row["twins"] or {}).get(key)
    if not twins:
        return words.count(row[key])
    return f"{words.count(row[key])}\n{words.mean(twins['mean'])}\n{words.span(twins['low'], twins['high'])}"


def floor_table(rows: Sequence[LayerRow]) -> Table | None:
    """What could have been named in each layer; None where it was not reckoned."""
    held = [(row["layer"], row["floor"]) for row in rows if row.get("floor")]
    if not held:
        return None
    return Table(
        "What could have been named at best. Smallest p: of a single pair, 0 where a tail is fitted beyond the null layers; "
        "fewest: pairs that are named together at their smallest p, fewer cannot be; detectable d′: from which a usual pair "
        "is named then.",
        ("Layer", "Rests on", "Smallest p", "Fewest nameable", "Detectable d′"),
        tuple(
            (
                str(layer),
                str(floor["assumptions"]),
                words.probability(floor["smallest_p"]),
                words.count(floor["fewest_nameable"]),
                words.real(floor["detectable_d"]),
            )
            for layer, floor in held
        ),
        n_text=2,
    )


def groups_table(rows: Sequence[LayerRow]) -> Table:
    """Each kind of pair of each layer against its twins, and how far its pairs get."""
    rungs = [rung for rung in words.RUNGS if rung[0] != "n_tested"]
    return Table(
        "Mean standardised z of each kind of pair, the 95 % interval of one more twin (of 20 kinds one is outside by "
        "chance), and its pairs on each rung.",
        (
            "Layer",
            "Kind of pair",
            "Pairs",
            "Mean z",
            "Twins, low",
            "Twins, high",
            *(label for _, label, _ in rungs),
        ),
        tuple(
            (
                str(row["layer"]),
                str(group["kind"]),
                words.count(group["n_tested"]),
                words.real(group["mean_z"]),
                words.real(group["twin_low"]),
                words.real(group["twin_high"]),
                *(words.count(group.get(key)) for key, _, _ in rungs),
            )
            for row in rows
            for group in row["groups"] or []
        ),
        n_text=2,
    )


def effect_table(rows: Sequence[LayerRow], pairs: Mapping[int, pd.DataFrame]) -> Table:
    """The drawn quantiles of d′."""
    return Table(
        "Quantiles of d′ over the tested pairs.",
        ("Layer", "Site", "5 %", "25 %", "Median", "75 %", "95 %"),
        tuple(
            (
                str(row["layer"]),
                record["site"],
                *(words.real(record[q]) for q in ("q05", "q25", "q50", "q75", "q95")),
            )
            for row in rows
            for record in effect_quantiles(row, pairs.get(row["layer"]))
        ),
        n_text=2,
    )


def effect_quantiles(row: LayerRow, table: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The five drawn quantiles of d′ at each site; where the summary has none, from the pairs."""
    effect = row.get("effect") or {}
    levels = row.get("effect_levels") or []
    marks = (0.05, 0.25, 0.5, 0.75, 0.95)
    columns = {"neurons": "d_prime", "input": "d_prime_input"}
    records: list[dict[str, Any]] = []
    for site, label in EFFECT_SITES:
        if found := effect.get(site):
            values = np.interp(marks, levels, found)
        elif table is not None and columns.get(site) in table and table[columns[site]].notna().any():
            values = np.quantile(table[columns[site]].dropna().to_numpy(float), marks)
        else:
            continue
        own = "layer" if site == "neurons" else "control"
        named = {f"q{round(100 * mark):02d}": float(value) for mark, value in zip(marks, values, strict=True)}
        records.append({"layer": f"Layer {row['layer']}", "site": label, "own": own, **named})
    return records


def tails_table(rows: Sequence[LayerRow]) -> Table:
    """Both tails of the pair-specific p-value."""
    return Table(
        "Share of tested pairs in both tails of the pair-specific p-value, layer and twins’ mean.",
        ("Layer", "t", "p ≤ t", "twins", "p ≥ 1 − t", "twins"),
        tuple(
            (
                str(row["layer"]),
                f"{tail['t']:g}",
                *(words.percent(tail[key], 2) for key in ("low", "twin_low_mean", "high", "twin_high_mean")),
            )
            for row in rows
            for tail in row.get("tails") or []
        ),
    )


def capacity_table(rows: Sequence[LayerRow]) -> Table:
    """Counts beside the references."""
    return Table(
        "Counts and capacity references by layer.",
        (
            "Layer", "Neurons n", "Tested", "Computed", "Excess over twins", "n²/log₂ n", "n²/ln n",
            "Exact bound", "Bits a parameter (assumed)", "Parameters", "Can it bind?",
        ),
        tuple(
            (
                str(row["layer"]),
                words.count(row["n_neurons"]),
                words.count(row["n_tested"]),
                words.count(row["n_computed"]),
                f"{words.mean(row['n_excess'])} ({words.span(row['excess_low'], row['excess_high'])})",
                words.count(row["capacity"]["n2_over_log2_n"]),
                words.count(row["capacity"]["n2_over_ln_n"]),
                "vacuous" if row["capacity"]["vacuous"] else words.count(row["capacity"]["max_selected"]),
                words.mean(row["capacity"]["bits_per_param"]),
                words.count(row["capacity"]["n_params"]),
                "no" if row["capacity"]["cannot_bind"] else "yes",
            )
            for row in rows
        ),
    )  # fmt: skip


def capacity_notes(rows: Sequence[LayerRow]) -> list[str]:
    """In which layers the bound is vacuous or cannot bind, in words."""
    vacuous = [str(row["layer"]) for row in rows if row["capacity"]["vacuous"]]
    unbound = [
        str(row["layer"]) for row in rows if row["capacity"]["cannot_bind"] and not row["capacity"]["vacuous"]
    ]
    bits = words.mean(rows[0]["capacity"]["bits_per_param"])
    notes: list[str] = _stored_notes(rows)
    if vacuous:
        notes.append(
            f"Vacuous in {_layers(vacuous)}: at {bits} bits a parameter (assumed) the weights could single "
            "out any subset of the tested pairs, so the exact bound excludes nothing."
        )
    if unbound:
        notes.append(
            f"Cannot bind in {_layers(unbound)}: fewer pairs were tested than n²/ln n, so no count possible "
            "in this run could have exceeded the reference."
        )
    return notes


def _stored_notes(rows: Sequence[LayerRow]) -> list[str]:
    """What the bound says at the bits of the file, where its weights are stored in other than 16 or 32 bits."""
    told: list[str] = []
    for row in rows:
        held = row["capacity"]
        bits, most = held.get("bits_stored"), held.get("max_selected_stored")
        if bits not in (None, 16, 32):
            allows = "excludes nothing" if most is None else f"allows {words.count(most)} pairs"
            told.append(f"layer {row['layer']}: {bits:.4g} bits, {allows}")
    return [f"At the bits a weight has in the file the exact bound says: {'; '.join(told)}."] if told else []


def _layers(numbers: Sequence[str]) -> str:
    return f"layer {numbers[0]}" if len(numbers) == 1 else f"layers {words.listed(numbers)}"


def other_k_table(rows: Sequence[LayerRow], paths: Mapping[int, pd.DataFrame] | None) -> Table | None:
    """Decisions at every number of neurons: from the layer rows where they hold them, else from the paths."""
    told = [(row["layer"], entry) for row in rows for entry in row.get("by_k") or []]
    if told:
        return Table(
            "Pairs above plain twins, and more than their concepts' other pairs predict, by number of neurons k, on the "
            "pooled and on the balanced d′. Relays are not removed here, so nothing is called computed.",
            ("Layer", "k", "d′", "Above plain twins", "Pair-specific", "p ≤ 0.01", "p ≥ 0.99"),
            tuple(
                (
                    str(layer),
                    str(entry["k"]),
                    str(entry["form"]),
                    words.count(entry["n_above_plain"]),
                    words.count(entry["n_specific_plain"]),
                    words.percent(entry["share_low_p"], 2),
                    words.percent(entry["share_high_p"], 2),
                )
                for layer, entry in told
            ),
            n_text=3,
        )
    return _paths_table(paths)


def _paths_table(paths: Mapping[int, pd.DataFrame] | None) -> Table | None:
    wanted = {
        "d_prime": "Median d′", "d_balanced": "Median balanced d′", "represented": "ε-represented",
        "above_plain": "Above plain twins",
    }  # fmt: skip
    held = {layer: table for layer, table in (paths or {}).items() if len(table) and "k" in table}
    shown = [column for column in wanted if any(column in table for table in held.values())]
    rows = [
        (
            str(layer),
            words.count(float(str(k))),
            words.count(len(part)),
            *(_path_cell(part, column) for column in shown),
        )
        for layer, table in sorted(held.items())
        for k, part in table.groupby("k", sort=True)
    ]
    columns = ("Layer", "k", "Pairs", *(wanted[column] for column in shown))
    return (
        Table("The same readouts with other numbers of neurons k; they decide nothing.", columns, tuple(rows))
        if rows
        else None
    )


def _path_cell(part: pd.DataFrame, column: str) -> str:
    if column not in part or part[column].isna().all():
        return words.NONE
    return words.real(part[column].median()) if column.startswith("d_") else words.count(part[column].sum())


_SPREAD = {
    "n_distributed": "Distributed",
    "n_superposed": "In superposition",
    "n_dedicated": "Dedicated",
    "n_conjunctive": "Conjunctive",
    "n_distinct": "Distinct",
    "effective_rank": "Effective rank of readouts",
    "features_per_neuron": "Pairs a main neuron",
    "coherence": "Coherence of readouts",
    "n_above_isotropic": "Above isotropic twins",
    "n_above_shuffled": "Above channel-shuffle twins",
    "n_undecidable": "ε undecidable",
}


def spread_table(rows: Sequence[LayerRow]) -> Table:
    """How the computed pairs share neurons, for those measures that the run has taken."""
    shown = {key: label for key, label in _SPREAD.items() if any(row.get(key) is not None for row in rows)}
    return Table(
        "How the computed pairs are spread over neurons; isotropic and channel-shuffle twins decide nothing; ε is "
        "undecidable where a quadrant has too few documents.",
        ("Layer", *shown.values()),
        tuple((str(row["layer"]), *(words.mean(row.get(key)) for key in shown)) for row in rows),
    )


def concepts_table(concepts: pd.DataFrame) -> Table:
    """Every concept with its meaning, how often it holds, and tokens in context."""
    return Table(
        "The concepts of this run: when each holds, on how many counted tokens and documents, and where (in brackets).",
        ("Concept", "Kind", "Holds where", "Examples", "Tokens", "Documents"),
        tuple(
            (
                str(row["name"]),
                str(row["kind"]),
                str(row["description"]),
                "\n".join(["", *(words.visible(str(text)) for text in row["examples"])]),
                words.count(row["n_tokens"]),
                words.count(row["n_docs"]),
            )
            for row in concepts.to_dict("records")
        ),
        n_text=4,
    )


def untestable_table(summary: Summary) -> Table | None:
    """Untestable pairs by reason; nothing where the run kept no reasons."""
    reasons = summary["concepts"].get("untestable")
    if not reasons:
        return None
    meaning = {
        "rare": "chance alone would let both hold at too few tokens",
        "exclusive": "common enough each, yet hardly ever together",
        "nested": "one hardly ever without the other, or one nearly always",
        "few documents": "enough tokens, but from too few documents",
    }
    n_pairs = summary["concepts"]["n_pairs"]
    return Table(
        "Pairs that could not be tested, by reason.",
        ("Reason", "Meaning", "Pairs", "Share of all pairs"),
        tuple(
            (name, meaning.get(name, ""), words.count(n), words.percent(n / n_pairs))
            for name, n in reasons.items()
        ),
        n_text=2,
    )


def records(provenance: Mapping[str, Any]) -> list[Table]:
    """What the run says of itself, as tables."""
    named = (("settings", "Settings"), ("fingerprints", "Fingerprints"), ("versions", "Versions"))
    return [
        Table(
            caption,
            ("Name", "Value"),
            tuple((str(name), str(value)) for name, value in sorted(entries.items())),
            n_text=2,
        )
        for key, caption in named
        if (entries := provenance.get(key))
    ]
