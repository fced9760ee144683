"""The report: one HTML file that needs nothing else, from a run's frozen results.

Text of tokens and concepts comes from a corpus and may hold anything: the template escapes every string, and
only the SVG of `probekit.report.charts` is set as it is. Same input, same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probekit.evidence.gap import shapes_of
from probekit.evidence.summary import LayerRow, Summary
from probekit.evidence.truth import Truth
from probekit.report import (
    answer,
    gap,
    gap_table,
    known_answer,
    overview,
    recall,
    sensitivity,
    showcase,
    strongest,
    tables,
    words,
)
from probekit.report.charts import TITLES, figures, overview_svg
from probekit.report.environment import environment
from probekit.report.methods import limits, methods
from probekit.report.pair import PairDetailLike


@dataclass(frozen=True)
class Companion:
    """Another run shown beside this one."""

    title: str
    """What it is called."""
    summary: Summary
    """Its summary.json."""
    layers: pd.DataFrame
    """One row a layer."""
    pairs: Mapping[int, pd.DataFrame]
    """Layer number → its tested pairs."""
    truth: Truth | None = None
    """The known answer of a planted model."""


MOST_PRINTED = 6
"""With more layers the panels of every layer are not printed: the first picture holds them all."""


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
    summary: Summary,
    layers: pd.DataFrame,
    pairs: Mapping[int, pd.DataFrame],
    *,
    paths: Mapping[int, pd.DataFrame] | None = None,
    examples: Sequence[Mapping[str, Any]] | None = None,
    provenance: Mapping[str, Any] | None = None,
    companions: Sequence[Companion] = (),
    drawn: Mapping[str, str] | None = None,
    concepts: pd.DataFrame | None = None,
    detail: PairDetailLike | None = None,
    truth: Truth | None = None,
) -> str:
    """The whole report as one HTML text.

    Args:
        summary: summary.json of the run.
        layers: one row a layer; must name the same layers as the summary.
        pairs: layer number → its tested pairs at the deciding k.
        paths: layer number → the same readouts at the other k.
        examples: the strongest pairs with their neurons and tokens in context.
        provenance: `command`, `settings`, `versions`, `fingerprints` of the run.
        companions: other runs (a planted circuit) which show what a find looks like; the first one with finds is the top
            row of the first picture.
        drawn: the run's own figures where they have been drawn already.
        concepts: one row a concept: name, kind, description, n_tokens, n_docs, examples.
        detail: the pair of the first screen (`showcase.chosen`) in its quadrants and beside its null layers.
        truth: the known answer of a planted model.
    """
    rows: list[LayerRow] = summary["layers"]
    provenance = provenance or {}
    drawn = figures(summary, layers, pairs) if drawn is None else drawn
    shapes = shapes_of(summary)
    settings: Mapping[str, Any] = provenance.get("settings") or {}
    positive = _positive(companions)
    example = showcase.chosen(summary, pairs, examples or [])
    page = {
        "summary": summary,
        "name": summary["model"]["name"],
        "title": f"AND-like features in {summary['model']['name']}",
        "headline": answer.headline(summary, q=settings.get("q")),
        "subtitle": _subtitle(summary),
        "overview": _overview(rows, positive),
        "glance": _glance(rows, truth, pairs, companions),
        "showcase": None if example is None else _showcase(example, summary, pairs, detail, concepts, truth),
        "answer": list(zip(("Asked", "Found", "The limit"), answer.answer(summary), strict=True)),
        "truth": known_answer.table(scored) if (scored := known_answer.scores(truth, pairs)) else None,
        "floor_gist": "how large an AND had to be",
        "few_layers": len(rows) <= MOST_PRINTED,
        "floors": tables.floor_table(rows),
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
        "gap": _figure(drawn, "gap", gap.CAPTION, gap_table.table(shapes)),
        "gap_notes": gap.notes(shapes),
        "other_k": tables.other_k_table(rows, paths),
        "spread": tables.spread_table(rows),
        "nothing_found": all(row["n_computed"] == 0 and row["n_above_twins"] == 0 for row in rows),
        "strongest": [
            strongest.strongest_table(row, pairs[row["layer"]], truth)
            for row in _best_first(rows)
            if row["layer"] in pairs
        ],
        "searchable": strongest.searchable_table(pairs, truth),
        "n_pair_rows": words.count(sum(len(table) for table in pairs.values())),
        "examples": [_example(example, pairs, truth) for example in examples or []],
        "excluded": words.excluded(summary),
        "sampled": words.sampled(summary),
        "untestable": tables.untestable_table(summary),
        "methods": methods(summary, settings),
        "limits": limits(summary),
        "command": provenance.get("command"),
        "records": tables.records(provenance),
        "companions": [_companion(companion) for companion in companions],
        "concepts": None if concepts is None or concepts.empty else tables.concepts_table(concepts),
    }
    return environment().get_template("report.html").render(page)


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


def _example(
    example: Mapping[str, Any], pairs: Mapping[int, pd.DataFrame], truth: Truth | None
) -> dict[str, Any]:
    facts = _row_of(example, pairs)
    return {
        **example,
        "neurons": showcase.neurons(example),
        "quadrants": showcase.quadrants(example, alone=truth is not None),
        "facts": _facts(facts) if facts else [],
        "called": known_answer.called(truth, int(example["layer"]), str(example["a"]), str(example["b"])),
    }


def _row_of(example: Mapping[str, Any], pairs: Mapping[int, pd.DataFrame]) -> dict[Any, Any] | None:
    table = pairs.get(example["layer"])
    match = None if table is None else table[(table["a"] == example["a"]) & (table["b"] == example["b"])]
    return None if match is None or match.empty else match.iloc[0].to_dict()


def _facts(pair: Mapping[Any, Any]) -> list[tuple[str, str]]:
    return [
        ("κ", f"{words.real(pair['kappa'])} ± {words.real(pair['kappa_se'])}"),
        ("d′", words.real(pair["d_prime"])),
        ("q", words.probability(pair["q"])),
        ("Rung", strongest.verdict(pair)),
        ("Looks like", str(pair["shape"] or words.NONE)),
        ("Effective neurons", words.real(pair["participation"], 1)),
    ]


# -------------------------------------------------------------------------------- the whole page


def _subtitle(summary: Summary) -> str:
    model, corpus = summary["model"], summary["corpus"]
    part = "" if len(summary["layers"]) == model["n_layers"] else f"{len(summary['layers'])} of "
    kind = f"{model['activation']}, gated" if model["gated"] else model["activation"]
    stored = f" · weights from {held}" if (held := model.get("stored")) else ""
    return (
        f"{part}{words.plural(model['n_layers'], 'MLP layer')}, "
        f"{words.count(model['d_mlp'])} neurons each ({kind}){stored} · text: {corpus.get('name', 'not named')}, "
        f"{words.plural(corpus['n_docs'], 'document')}"
    )


def _figure(drawn: Mapping[str, str], name: str, caption: str, table: tables.Table) -> Figure | None:
    return Figure(TITLES[name][0], drawn[name], caption, table) if name in drawn else None


# -------------------------------------------------------------------------------- the first screen


def _overview(rows: Sequence[LayerRow], positive: tuple[str, LayerRow] | None) -> Figure | None:
    drawn = overview_svg(rows, positive, titled=False)
    if drawn is None:
        return None
    return Figure(overview.TITLE[0], drawn, overview.CAPTION, tables.Table("", (), ()))


def _positive(companions: Sequence[Companion]) -> tuple[str, LayerRow] | None:
    """The first companion with finds, as the top row of the first picture."""
    for companion in companions:
        if answer.finds(companion.summary["layers"]):
            return "Planted, known" if companion.truth else "Beside it", overview.best_row(companion.summary)
    return None


def _glance(
    rows: Sequence[LayerRow],
    truth: Truth | None,
    pairs: Mapping[int, pd.DataFrame],
    companions: Sequence[Companion],
) -> list[tuple[str, str]]:
    """What belongs beside the picture: what could have been found, and known answers."""
    told = [("What could have been found", answer.floor_line(rows))]
    told += [("Known answer", known_answer.sentence(one)) for one in known_answer.scores(truth, pairs)]
    for companion in companions:
        for one in known_answer.scores(companion.truth, companion.pairs)[:1]:
            told.append(("Known positive", f"{_planted(companion.title)}. {known_answer.sentence(one)}"))
    return told


def _planted(title: str) -> str:
    return f"A circuit planted in a transformer ({title}), analysed by the same code"


def _showcase(
    example: Mapping[str, Any],
    summary: Summary,
    pairs: Mapping[int, pd.DataFrame],
    detail: PairDetailLike | None,
    concepts: pd.DataFrame | None,
    truth: Truth | None,
) -> dict[str, Any] | None:
    pair = _row_of(example, pairs)
    row = next(row for row in summary["layers"] if row["layer"] == example["layer"])
    if pair is None:
        return None
    return showcase.showcase(
        example, pair, n_twins=row["n_twins"] or 0, detail=detail, concepts=concepts, truth=truth
    )


def _best_first(rows: Sequence[LayerRow]) -> list[LayerRow]:
    """The layer that the headline names before the others."""
    first = [one.row for one in answer.foremost(rows)[:1]]
    return [*first, *(row for row in rows if not first or row is not first[0])]


def _companion(other: Companion) -> dict[str, Any]:
    title, summary, pairs, truth = other.title, other.summary, other.pairs, other.truth
    drawn = figures(summary, other.layers, pairs)["ladder"].replace("ladder-", f"ladder-{_slug(title)}-")
    scored = known_answer.scores(truth, pairs)
    called = f"a planted circuit ({title})" if truth else title
    return {
        "title": f"What a find looks like: {called}"
        if answer.finds(summary["layers"])
        else f"Beside it: {called}",
        "gist": "a model whose answer is known" if truth else "another run by the same code",
        "found": answer.answer(summary)[1],
        "truth": known_answer.table(scored) if scored else None,
        "ladder": Figure(title, drawn, _LADDER, tables.ladder_table(summary)),
        "strongest": [
            strongest.strongest_table(row, pairs[row["layer"]], truth)
            for row in _best_first(summary["layers"])
            if row["layer"] in pairs
        ][:1],
    }


def _slug(text: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text.lower())
