"""The report: one HTML file that needs nothing else, from a run's frozen results.

Text of tokens and concepts comes from a corpus and may hold anything: the template escapes every string, and only the SVG of
`probekit.report.charts` is set as it is. Same input, same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probekit.errors import ShapeError
from probekit.report import words
from probekit.report.charts import EFFECT_SITES, effect_quantiles, figures
from probekit.report.methods import limits, methods

N_STRONGEST = 12
"""Pairs a layer shown as the strongest."""
N_SEARCHABLE = 300
"""Pairs in the searchable table, over all layers; the whole tables are the run's parquet files."""

Companion = tuple[str, Mapping[str, Any], pd.DataFrame, Mapping[int, pd.DataFrame]]
"""Another run shown beside this one: title, summary, layers, pairs."""


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


@dataclass(frozen=True)
class Figure:
    """A chart with the numbers behind it."""

    svg: str
    """The chart."""
    caption: str
    """How to read it."""
    table: Table
    """The numbers drawn."""


def render_page(
    summary: Mapping[str, Any],
    layers: pd.DataFrame,
    pairs: Mapping[int, pd.DataFrame],
    *,
    paths: Mapping[int, pd.DataFrame] | None = None,
    examples: Sequence[Mapping[str, Any]] | None = None,
    provenance: Mapping[str, Any] | None = None,
    companions: Sequence[Companion] = (),
) -> str:
    """The whole report as one HTML text.

    Args:
        summary: summary.json of the run.
        layers: one row a layer; must name the same layers as the summary.
        pairs: layer number → its tested pairs at the deciding k.
        paths: layer number → the same readouts at the other k.
        examples: the strongest pairs with their neurons and tokens in context.
        provenance: `command`, `settings`, `versions`, `fingerprints` of the run.
        companions: other runs (a planted circuit) whose ladder shows what a find looks like.
    """
    _same_layers(summary, layers)
    rows: list[words.Row] = summary["layers"]
    provenance = provenance or {}
    drawn = figures(summary, layers, pairs)
    page = {
        "summary": summary,
        "title": f"AND-like features in {summary['model']['name']}",
        "answer": list(zip(("Asked", "Found", "The limit"), words.answer(summary), strict=True)),
        "statements": [(row["layer"], row["statement"]) for row in rows if row["statement"]],
        "ladder": Figure(drawn["ladder"], _LADDER, _ladder_table(summary)),
        "rungs": words.RUNGS,
        "groups": _figure(drawn, "groups", _GROUPS, _groups_table(rows)),
        "effect": _figure(drawn, "effect", _EFFECT, _effect_table(rows, pairs)),
        "tails": _figure(drawn, "tails", _TAILS, _tails_table(rows)),
        "capacity": Figure(drawn["capacity"], _CAPACITY, _capacity_table(rows)),
        "capacity_notes": _capacity_notes(rows),
        "other_k": _paths_table(paths),
        "any_found": any(row["n_computed"] for row in rows),
        "strongest": [_strongest_table(row, pairs[row["layer"]]) for row in rows if row["layer"] in pairs],
        "searchable": _searchable_table(pairs),
        "n_pair_rows": words.count(sum(len(table) for table in pairs.values())),
        "examples": [_example(example, pairs) for example in examples or []],
        "excluded": words.excluded(summary),
        "sampled": words.sampled(summary),
        "untestable": _untestable_table(summary),
        "methods": methods(summary, provenance.get("settings") or {}),
        "limits": limits(summary),
        "command": provenance.get("command"),
        "records": _records(provenance),
        "companions": [_companion(*companion) for companion in companions],
    }
    return _template().render(page)


# -------------------------------------------------------------------------------------------------- captions

_LADDER = (
    "Each rung keeps what the rung above and a further test let through, except ε-represented, which is a separate question. "
    "What the twins reach as well is no achievement of training: only the distance between dot and grey bar is."
)
_GROUPS = (
    "Pairs of one kind taken together, as single pairs can be too weak to be told from their twins. A dot inside its grey bar "
    "is what an unscrambled layer of the same statistics would show."
)
_EFFECT = (
    "d′ is the interaction contrast of the readout in units of its noise on unseen documents. An untrained layer has large d′ as "
    "well; the twins show how large."
)
_TAILS = (
    "Were nothing specific to single pairs going on, both tails would hold a share t. A surplus at the low end counts only as far "
    "as the high end does not show the same."
)
_CAPACITY = (
    "n²/ln n and n²/log₂ n are orders of magnitude with an unknown constant (1 assumed), not limits for this number; the exact "
    "bound counts the bits of the weights that act at the neurons, and is left out where it is vacuous."
)


# ---------------------------------------------------------------------------------------------------- tables


def _figure(drawn: Mapping[str, str], name: str, caption: str, table: Table) -> Figure | None:
    return Figure(drawn[name], caption, table) if name in drawn else None


def _ladder_table(summary: Mapping[str, Any]) -> Table:
    rows: list[words.Row] = summary["layers"]
    return Table(
        "Pairs on each rung, by layer; below each count its twins’ mean and range.",
        ("Layer", "Twins", *(label for _, label, _ in words.RUNGS), "Excess over twins"),
        tuple(
            (
                str(row["layer"]),
                words.count(row["n_twins"]),
                *(_beside(row, key) for key, _, _ in words.RUNGS),
                f"{words.mean(row['n_excess'])}\n{words.span(row['excess_low'], row['excess_high'])}",
            )
            for row in rows
        ),
    )


def _beside(row: words.Row, key: str) -> str:
    twins = (row["twins"] or {}).get(key)
    if not twins:
        return words.count(row[key])
    return f"{words.count(row[key])}\n{words.mean(twins['mean'])} ({words.span(twins['low'], twins['high'])})"


def _groups_table(rows: Sequence[words.Row]) -> Table:
    return Table(
        "Mean standardised z of each kind of pair, and the interval of its twins.",
        ("Layer", "Kind of pair", "Pairs", "Mean z", "Twins, low", "Twins, high"),
        tuple(
            (
                str(row["layer"]),
                str(group["kind"]),
                words.count(group["n_tested"]),
                words.real(group["mean_z"]),
                words.real(group["twin_low"]),
                words.real(group["twin_high"]),
            )
            for row in rows
            for group in row["groups"] or []
        ),
        n_text=2,
    )


def _effect_table(rows: Sequence[words.Row], pairs: Mapping[int, pd.DataFrame]) -> Table:
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


def _tails_table(rows: Sequence[words.Row]) -> Table:
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


def _capacity_table(rows: Sequence[words.Row]) -> Table:
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


def _capacity_notes(rows: Sequence[words.Row]) -> list[str]:
    vacuous = [str(row["layer"]) for row in rows if row["capacity"]["vacuous"]]
    unbound = [
        str(row["layer"]) for row in rows if row["capacity"]["cannot_bind"] and not row["capacity"]["vacuous"]
    ]
    bits = words.mean(rows[0]["capacity"]["bits_per_param"])
    notes: list[str] = []
    if vacuous:
        notes.append(
            f"Vacuous in {_layers(vacuous)}: at {bits} bits a parameter (assumed) the weights could single out any subset of the "
            f"tested pairs, so the exact bound excludes nothing."
        )
    if unbound:
        notes.append(
            f"Cannot bind in {_layers(unbound)}: fewer pairs were tested than n²/ln n, so no count possible in this run could "
            f"have exceeded the reference."
        )
    return notes


def _layers(numbers: Sequence[str]) -> str:
    return f"layer {numbers[0]}" if len(numbers) == 1 else f"layers {words.listed(numbers)}"


def _paths_table(paths: Mapping[int, pd.DataFrame] | None) -> Table | None:
    """Decisions at the other numbers of neurons, for those columns the run has filled."""
    wanted = {
        "d_prime": "Median d′",
        "d_prime_balanced": "Median balanced d′",
        "above_twins": "Above twins",
        "computed": "Computed",
    }
    tables = {layer: table for layer, table in (paths or {}).items() if len(table) and "k" in table}
    shown = [column for column in wanted if any(column in table for table in tables.values())]
    if not shown:
        return None
    rows: list[tuple[str, ...]] = []
    for layer, table in sorted(tables.items()):
        for k, part in table.groupby("k", sort=True):
            cells = (_path_cell(part, column) for column in shown)
            rows.append((str(layer), words.count(float(str(k))), words.count(len(part)), *cells))
    return Table(
        "The same readouts with other numbers of neurons k; they decide nothing.",
        ("Layer", "k", "Pairs", *(wanted[column] for column in shown)),
        tuple(rows),
    )


def _path_cell(part: pd.DataFrame, column: str) -> str:
    if column not in part or part[column].isna().all():
        return words.NONE
    return (
        words.real(part[column].median()) if column.startswith("d_prime") else words.count(part[column].sum())
    )


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Finds first, then by q, then by effect; ties in the order of names."""
    return table.sort_values(
        ["computed", "q", "q_above", "d_prime", "a", "b"],
        ascending=[False, True, True, False, True, True],
        kind="stable",
    )


_PAIR_COLUMNS = (
    "A",
    "B",
    "κ ± s.e.",
    "d′",
    "d′ input",
    "q",
    "q above twins",
    "Shape",
    "Neurons, effective",
    "Class",
)


def _pair_cells(pair: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(pair["a"]),
        str(pair["b"]),
        f"{words.real(pair['kappa'])} ± {words.real(pair['kappa_se'])}",
        words.real(pair["d_prime"]),
        words.real(pair["d_prime_input"]),
        words.probability(pair["q"]),
        words.probability(pair["q_above"]),
        str(pair["shape"] or words.NONE),
        words.real(pair["participation"], 1),
        _class(pair),
    )


def _class(pair: Mapping[str, Any]) -> str:
    """The strongest statement that holds of a pair."""
    if pair["computed"]:
        spread = (
            "in superposition"
            if pair["superposed"]
            else "distributed"
            if pair["distributed"]
            else "few neurons"
        )
        return f"computed, {spread}"
    if pair["above_twins"]:
        return "above twins"
    return "ε-represented" if pair["represented"] else "not shown"


def _strongest_table(row: words.Row, table: pd.DataFrame) -> tuple[str, Table]:
    found = int(row["n_computed"] or 0)
    kind = (
        f"{words.plural(found, 'pair')} computed"
        if found
        else "no pair is computed; these came nearest and are not finds"
    )
    head = _ranked(table).head(N_STRONGEST)
    return (
        f"Layer {row['layer']}: {kind}",
        Table(
            f"The first {len(head)} of {words.count(len(table))} tested pairs of layer {row['layer']}.",
            _PAIR_COLUMNS,
            tuple(_pair_cells(pair) for pair in head.to_dict("records")),
            n_text=2,
        ),
    )


def _searchable_table(pairs: Mapping[int, pd.DataFrame]) -> Table:
    heads = [_ranked(table).head(N_SEARCHABLE) for _, table in sorted(pairs.items())]
    best = _ranked(pd.concat(heads, ignore_index=True)).head(N_SEARCHABLE) if heads else pd.DataFrame()
    return Table(
        f"The first {len(best)} pairs over all layers, by q.",
        ("Layer", *_PAIR_COLUMNS),
        tuple((str(pair["layer"]), *_pair_cells(pair)) for pair in best.to_dict("records")),
        n_text=3,
    )


def _untestable_table(summary: Mapping[str, Any]) -> Table | None:
    reasons = summary["concepts"].get("untestable")
    if not reasons:
        return None
    meaning = {
        "rare": "both together in too few tokens or documents",
        "nested": "one almost never holds without the other",
        "exclusive": "they never, or almost never, hold together",
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


# --------------------------------------------------------------------------------------------- pairs in context

_QUADRANTS = (("11", "A and B"), ("10", "A without B"), ("01", "B without A"), ("00", "neither"))


def _example(example: Mapping[str, Any], pairs: Mapping[int, pd.DataFrame]) -> dict[str, Any]:
    table = pairs.get(example["layer"])
    match = None if table is None else table[(table["a"] == example["a"]) & (table["b"] == example["b"])]
    facts = None if match is None or match.empty else match.iloc[0].to_dict()
    total = sum(abs(value) for value in example["contributions"]) or 1.0
    largest = max((abs(value) for value in example["contributions"]), default=0.0) or 1.0
    neurons = [
        {
            "neuron": str(neuron),
            "weight": words.real(weight),
            "share": words.percent(value / total, 0),
            "width": f"{100 * abs(value) / largest:.1f}",
            "negative": value < 0,
        }
        for neuron, weight, value in zip(
            example["neurons"], example["weights"], example["contributions"], strict=True
        )
    ]
    quadrants = [
        {"name": name, "key": key, "contexts": [_context(item) for item in example["quadrants"].get(key, [])]}
        for key, name in _QUADRANTS
    ]
    return {**example, "neurons": neurons, "quadrants": quadrants, "facts": _facts(facts) if facts else []}


def _context(item: Mapping[str, Any]) -> dict[str, str]:
    return {
        "before": str(item["before"]),
        "token": _visible(str(item["token"])),
        "after": str(item["after"]),
        "value": words.real(item["value"]),
    }


def _visible(token: str) -> str:
    """The token with its line breaks and tabs made visible."""
    return token.replace("\n", "↵").replace("\t", "⇥") or "∅"


def _facts(pair: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("κ", f"{words.real(pair['kappa'])} ± {words.real(pair['kappa_se'])}"),
        ("d′", words.real(pair["d_prime"])),
        ("q", words.probability(pair["q"])),
        ("shape", str(pair["shape"] or words.NONE)),
        ("effective neurons", words.real(pair["participation"], 1)),
        ("class", _class(pair)),
    ]


# ------------------------------------------------------------------------------------------------ the whole page


def _records(provenance: Mapping[str, Any]) -> list[Table]:
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


def _companion(
    title: str, summary: Mapping[str, Any], layers: pd.DataFrame, pairs: Mapping[int, pd.DataFrame]
) -> dict[str, Any]:
    _same_layers(summary, layers)
    drawn = figures(summary, layers, pairs)["ladder"].replace("ladder-", f"ladder-{_slug(title)}-")
    return {
        "title": title,
        "found": words.answer(summary)[1],
        "ladder": Figure(drawn, _LADDER, _ladder_table(summary)),
        "strongest": [
            _strongest_table(row, pairs[row["layer"]]) for row in summary["layers"] if row["layer"] in pairs
        ][:1],
    }


def _slug(text: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text.lower())


def _same_layers(summary: Mapping[str, Any], layers: pd.DataFrame) -> None:
    told, tabled = [row["layer"] for row in summary["layers"]], [int(number) for number in layers["layer"]]
    if not told or told != tabled:
        raise ShapeError(
            f"report: the summary has layers {told}, the layers table has {tabled}; a report needs the same layers in both, at "
            f"least one. Load both from one run directory."
        )


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("probekit.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")
