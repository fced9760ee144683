"""The report: one HTML file that needs nothing else, from a run's frozen results.

Text of tokens and concepts comes from a corpus and may hold anything: the template escapes every string, and
only the SVG of `probekit.report.charts` is set as it is. Same input, same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probekit.report import recall, sensitivity, strongest, tables, words
from probekit.report.charts import TITLES, figures
from probekit.report.methods import limits, methods

Companion = tuple[str, Mapping[str, Any], pd.DataFrame, Mapping[int, pd.DataFrame]]
"""Another run shown beside this one: title, summary, layers, pairs."""


@dataclass(frozen=True)
class Figure:
    """A chart with the numbers behind it."""

    title: str
    """What the chart shows, in a few words."""
    svg: str
    """The chart."""
    caption: str
    """How to read it."""
    table: tables.Table
    """The numbers drawn."""


def render_page(  # noqa: PLR0913
    summary: Mapping[str, Any],
    layers: pd.DataFrame,
    pairs: Mapping[int, pd.DataFrame],
    *,
    paths: Mapping[int, pd.DataFrame] | None = None,
    examples: Sequence[Mapping[str, Any]] | None = None,
    provenance: Mapping[str, Any] | None = None,
    companions: Sequence[Companion] = (),
    drawn: Mapping[str, str] | None = None,
    concepts: pd.DataFrame | None = None,
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
        drawn: the run's own figures where they have been drawn already.
        concepts: one row a concept: name, kind, description, n_tokens, n_docs, examples.
    """
    rows: list[words.Row] = summary["layers"]
    provenance = provenance or {}
    drawn = figures(summary, layers, pairs) if drawn is None else drawn
    page = {
        "summary": summary,
        "title": f"AND-like features in {summary['model']['name']}",
        "subtitle": _subtitle(summary),
        "answer": list(zip(("Asked", "Found", "The limit"), words.answer(summary), strict=True)),
        "statements": [(row["layer"], words.spaced(row["statement"])) for row in rows if row["statement"]],
        "ladder": Figure(TITLES["ladder"][0], drawn["ladder"], _LADDER, tables.ladder_table(summary)),
        "rungs": words.RUNGS,
        "groups": _figure(drawn, "groups", _GROUPS, tables.groups_table(rows)),
        "effect": _figure(drawn, "effect", _EFFECT, tables.effect_table(rows, pairs)),
        "tails": _figure(drawn, "tails", _TAILS, tables.tails_table(rows)),
        "sensitivity": _figure(drawn, "sensitivity", recall.CAPTION, sensitivity.table(rows)),
        "nonnull_notes": sensitivity.nonnull_notes(rows),
        "assumptions": sensitivity.assumptions_table(rows),
        "capacity": Figure(TITLES["capacity"][0], drawn["capacity"], _CAPACITY, tables.capacity_table(rows)),
        "capacity_notes": tables.capacity_notes(rows),
        "other_k": tables.other_k_table(rows, paths),
        "spread": tables.spread_table(rows),
        "nothing_found": all(row["n_computed"] == 0 for row in rows),
        "strongest": [
            strongest.strongest_table(row, pairs[row["layer"]]) for row in rows if row["layer"] in pairs
        ],
        "searchable": strongest.searchable_table(pairs),
        "n_pair_rows": words.count(sum(len(table) for table in pairs.values())),
        "examples": [_example(example, pairs) for example in examples or []],
        "excluded": words.excluded(summary),
        "sampled": words.sampled(summary),
        "untestable": tables.untestable_table(summary),
        "methods": methods(summary, provenance.get("settings") or {}),
        "limits": limits(summary),
        "command": provenance.get("command"),
        "records": tables.records(provenance),
        "companions": [_companion(*companion) for companion in companions],
        "concepts": None if concepts is None or concepts.empty else tables.concepts_table(concepts),
    }
    return _template().render(page)


# -------------------------------------------------------------------------------- captions

_LADDER = (
    "The first rungs are questions of their own, which random layers pass as well. A pair above plain twins is either "
    "relayed (only until what the input already holds of it is taken out) or above twins without that; computed pairs "
    "are among the latter. What the twins reach is no achievement of training: what counts is the distance between "
    "dot and grey bar."
)
_GROUPS = (
    "Pairs of one kind taken together, as single pairs can be too weak to be told from their twins. A dot "
    "inside its grey bar is no more than a scrambled layer of the same statistics shows. Pairs of the same token are "
    "sets of token types, linear in the embedding: a layer that stands out on them need not have met two things."
)
_EFFECT = (
    "d′ is the interaction contrast of the readout in units of its noise on unseen documents. An untrained "
    "layer has large d′ as well; the twins show how large."
)
_TAILS = (
    "Were nothing specific to single pairs going on, both tails would hold a share t. A surplus at the low "
    "end counts only as far as the high end does not show the same."
)
_CAPACITY = (
    "n²/ln n and n²/log₂ n are orders of magnitude with an unknown constant (1 assumed), not limits for "
    "this number; the exact bound counts the bits of the weights that act at the neurons, and is left out "
    "where it is vacuous."
)


# -------------------------------------------------------------------------------- pairs in context

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
        "before": words.visible(str(item["before"])),
        "token": words.visible(str(item["token"])) or "∅",
        "after": words.visible(str(item["after"])),
        "value": words.real(item["value"]),
    }


def _facts(pair: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("κ", f"{words.real(pair['kappa'])} ± {words.real(pair['kappa_se'])}"),
        ("d′", words.real(pair["d_prime"])),
        ("q", words.probability(pair["q"])),
        ("shape", str(pair["shape"] or words.NONE)),
        ("effective neurons", words.real(pair["participation"], 1)),
        ("class", strongest.verdict(pair).replace("\n", ", ")),
    ]


# -------------------------------------------------------------------------------- the whole page


def _subtitle(summary: Mapping[str, Any]) -> str:
    model, corpus = summary["model"], summary["corpus"]
    part = "" if len(summary["layers"]) == model["n_layers"] else f"{len(summary['layers'])} of "
    kind = f"{model['activation']}, gated" if model["gated"] else model["activation"]
    stored = f" · weights from {model['stored']}" if model.get("stored") else ""
    return (
        f"{part}{words.plural(model['n_layers'], 'MLP layer')}, "
        f"{words.count(model['d_mlp'])} neurons each ({kind}){stored} · text: {corpus.get('name', 'not named')}, "
        f"{words.plural(corpus['n_docs'], 'document')}"
    )


def _figure(drawn: Mapping[str, str], name: str, caption: str, table: tables.Table) -> Figure | None:
    return Figure(TITLES[name][0], drawn[name], caption, table) if name in drawn else None


def _companion(
    title: str, summary: Mapping[str, Any], layers: pd.DataFrame, pairs: Mapping[int, pd.DataFrame]
) -> dict[str, Any]:
    drawn = figures(summary, layers, pairs)["ladder"].replace("ladder-", f"ladder-{_slug(title)}-")
    return {
        "title": f"What a find looks like: {title}"
        if words.finds(summary["layers"])
        else f"Beside it: {title}",
        "found": words.answer(summary)[1],
        "ladder": Figure(title, drawn, _LADDER, tables.ladder_table(summary)),
        "strongest": [
            strongest.strongest_table(row, pairs[row["layer"]])
            for row in summary["layers"]
            if row["layer"] in pairs
        ][:1],
    }


def _slug(text: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text.lower())


def _template() -> Any:
    return environment().get_template("report.html")


def environment() -> Any:
    """The templates of this room; every string is escaped, a missing name is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("probekit.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
