"""Several runs side by side in one HTML file: models, checkpoints or corpora, each against its own twins.

Counts of two runs may be set beside each other only as far as text, concepts and settings are the same; what differs is
therefore the first thing the page says. Each run is judged by its own twins; whether two runs differ is tested pair by pair
(`probekit.evidence.difference`), every run against the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probekit.errors import InputError
from probekit.evidence.summary import LayerRow, RungKey, Summary
from probekit.report import answer, tables, words
from probekit.report.canvas import ACCENT, INK, MUTED, PAPER, THIN, TWIN, keyed, to_svg
from probekit.report.difference import Difference, difference_in_words, difference_table
from probekit.report.environment import environment
from probekit.report.page import Figure

RUNGS: tuple[RungKey, ...] = (
    "n_significant_raw",
    "n_above_plain",
    "n_relayed",
    "n_above_twins",
    "n_computed",
)
"""The rungs drawn; the table holds all of them."""
TAIL = 0.01
"""The level at which the two tails of the p-values are compared."""

TITLES: dict[str, tuple[str, str]] = {
    "rungs": (
        "Share of the tested pairs on five rungs",
        "square-root scale · numbers: pairs in the layer",
    ),
    "effect": (
        "Typical effect d′, layer beside its null layers",
        "over the tested pairs, on unseen documents",
    ),
    "tails": (
        "Both tails of the pair-specific p-values at 1 %",
        "if no single pair stood out, both shares would lie at 1 %",
    ),
}
"""Title and key to the signs of each figure."""

_CAPTIONS = {
    "rungs": (
        "Shares, so that runs with different numbers of tested pairs can be set side by side. A raw share near 100 % says "
        "nothing, as twins reach it too; only dots to the right of their grey bar do."
    ),
    "effect": (
        "An effect that grows from run to run while its twins’ grows as much belongs to the inputs, not to the learned "
        "directions of the layer."
    ),
    "tails": "A surplus of the filled over the open dot that the twins do not show is an excess of single pairs.",
}


@dataclass(frozen=True)
class Compared:
    """One run of a comparison."""

    title: str
    """What it is called on the page; unique."""
    summary: Summary
    """Its summary.json."""
    science: Mapping[str, Any]
    """What its result depends on: model, corpus, concepts and settings, as recorded in run.json."""


def render_comparison(
    runs: Sequence[Compared], tested: Mapping[str, Sequence[Difference]] | None = None
) -> str:
    """The comparison as one HTML text.

    Args:
        runs: two or more, in the order in which they are to be read.
        tested: title of a run → rows of its test against the first run; None: nothing was tested.

    Raises:
        InputError: fewer than two runs, or two of one title.
    """
    titles = [run.title for run in runs]
    if len(runs) < 2 or len(set(titles)) < len(titles):
        raise InputError(
            f"comparison: got runs titled {', '.join(map(repr, titles)) or 'nothing'}; wanted two or more, each with a "
            "title of its own. Give names."
        )
    drawn = comparison_figures(runs)
    differing = differences(runs)
    page = {
        "title": f"{words.plural(len(runs), 'run')} side by side",
        "subtitle": " · ".join(titles),
        "answer": list(
            zip(("Compared", "Found", "May be compared"), _answer(runs, differing, bool(tested)), strict=True)
        ),
        "found": [(run.title, answer.answer(run.summary)[1]) for run in runs],
        "figures": [
            (name, Figure(TITLES[name][0], svg, _CAPTIONS[name], _TABLES[name](runs)))
            for name, svg in drawn.items()
        ],
        "tested": [
            (difference_in_words(runs[0].title, title, rows), difference_table(runs[0].title, title, rows))
            for title, rows in (tested or {}).items()
        ],
        "differences": _differences_table(runs, differing) if differing else None,
        "capacity": _capacity_table(runs),
        "fingerprints": _fingerprints(runs),
    }
    return environment().get_template("compare.html").render(page)


def comparison_figures(runs: Sequence[Compared]) -> dict[str, str]:
    """Every figure of a comparison for which there are numbers: name → SVG text."""
    drawn = {"rungs": _rungs(runs), "effect": _effect(runs), "tails": _tails(runs)}
    return {
        name: to_svg(chart, f"compare-{name}", *TITLES[name], f"{TITLES[name][1]}. {_in_words(runs)}")
        for name, chart in drawn.items()
        if chart is not None
    }


# -------------------------------------------------------------------------------- what differs


def differences(runs: Sequence[Compared]) -> dict[str, list[str]]:
    """What is not the same in all runs: name → value in each run."""
    told = [_summary_of(run) for run in runs]
    names = list(dict.fromkeys(name for record in told for name in record))
    values = {name: [str(record.get(name, words.NONE)) for record in told] for name in names}
    return {name: _apart(found) for name, found in values.items() if len(set(found)) > 1}


def _apart(values: Sequence[str]) -> list[str]:
    """Values with their digests cut short, as long as they can still be told apart."""
    short = [_DIGEST.sub(lambda found: f"{found[0][:8]}…", value) for value in values]
    return short if len(set(short)) == len(set(values)) else list(values)


_DIGEST = re.compile(r"\b[0-9a-f]{16,}\b")


def _summary_of(run: Compared) -> dict[str, Any]:
    summary, science = run.summary, run.science
    settings: Mapping[str, Any] = science.get("settings") or {}
    return {
        "model": science.get("model", summary["model"]["name"]),
        "layers": words.listed([str(row["layer"]) for row in summary["layers"]]),
        "neurons a layer": words.count(summary["model"]["d_mlp"]),
        "text": summary["corpus"].get("name", words.NONE),
        "tokens of the text": summary["corpus"].get("fingerprint", words.NONE),
        "concepts": f"{science.get('concepts', words.NONE)} ({words.count(summary['concepts']['n'])})",
        "pairs asked for": science.get("pairs") or "all",
        "pairs tested": words.count(max(row["n_tested"] for row in summary["layers"])),
        **{f"setting {key}": value for key, value in sorted(settings.items())},
    }


def _answer(runs: Sequence[Compared], differing: Mapping[str, Any], tested: bool) -> tuple[str, str, str]:
    n_twins = sorted({row["n_twins"] or 0 for run in runs for row in run.summary["layers"]})
    compared = (
        f"{words.plural(len(runs), 'run')} of the same measurement: {words.listed([run.title for run in runs])}, "
        f"every layer against its own {words.listed([words.count(n) for n in n_twins])} null layers (random twins)."
    )
    found = [
        f"{run.title} ({words.listed([f'layer {one.layer}' for one in sorted(shown, key=lambda one: one.layer)])})"
        for run in runs
        if (shown := answer.finds(run.summary["layers"]))
    ]
    if not found:
        told = "In none of them does a layer show more pairs than its null layers may, so nothing here is a find."
    else:
        rest = len(runs) - len(found)
        others = "other" if rest == 1 else f"{words.count(rest)} others"
        none = "" if rest == 0 else f"; in the {others} nothing stood out"
        told = f"Pairs beyond what null layers may give stand in {words.listed(found)}{none}."
    own = [name for name in differing if name not in ("model", "layers", "neurons a layer")]
    if not own:
        fair = (
            "Text, concepts and settings are the same in all runs, so their counts may be set side by side; "
            + ("whether they differ is tested below." if tested else "no test between runs was made.")
        )
    else:
        fair = (
            f"The runs differ in {words.listed(own)} as well, so a difference between their counts need not come from "
            "the models; each run is still judged fairly by its own twins."
        )
    return compared, told, fair


# -------------------------------------------------------------------------------- figures


def _layer_name(run: Compared, row: LayerRow) -> str:
    return run.title if len(run.summary["layers"]) == 1 else f"{run.title} · layer {row['layer']}"


def _order(runs: Sequence[Compared]) -> list[str]:
    return [_layer_name(run, row) for run in runs for row in run.summary["layers"]]


def _height(runs: Sequence[Compared]) -> int:
    return max(60, 22 * len(_order(runs)))


def _rungs(runs: Sequence[Compared]) -> Any:
    import altair as alt

    labels = {key: label for key, label, _ in words.RUNGS}
    records: list[dict[str, Any]] = []
    for run in runs:
        for row in run.summary["layers"]:
            for key in RUNGS:
                if (count := row[key]) is None or not row["n_tested"]:
                    continue
                twins = (row["twins"] or {}).get(key)
                scale = 100 / row["n_tested"]
                records.append(
                    {"run": _layer_name(run, row), "rung": labels[key], "share": scale * count, "label": words.count(count),
                     "twin_low": twins and scale * twins["low"], "twin_mean": twins and scale * twins["mean"],
                     "twin_high": twins and scale * twins["high"]}
                )  # fmt: skip
    if not records:
        return None
    frame = pd.DataFrame(records)
    y = alt.Y("run:N", sort=_order(runs), title=None)
    axis = alt.Axis(
        values=[0, 25, 100],
        labelOverlap=False,
        labelExpr="datum.value + '\u202f%'",
        title="share of the pairs",
    )
    x = alt.X("share:Q", scale=alt.Scale(type="sqrt", domain=[0, 100], nice=False), axis=axis)
    base = alt.Chart()
    layered = alt.layer(
        base.mark_bar(height=9, color=TWIN, opacity=0.45)
        .encode(x=x.copy(), x2="twin_high:Q", y=y)
        .transform_calculate(share="datum.twin_low"),
        base.mark_tick(thickness=2, size=15, color=TWIN, opacity=1).encode(x="twin_mean:Q", y=y),
        base.mark_point(filled=True, size=75, color=ACCENT, opacity=1).encode(x=x, y=y),
        base.mark_text(align="left", color=INK, fontSize=11).encode(x=alt.value(126), y=y, text="label:N"),
        data=frame,
    ).properties(width=118, height=_height(runs))
    shown = [labels[key] for key in RUNGS if labels[key] in set(frame["rung"])]
    key = (("layer", "circle", ACCENT), ("null layers, range", "bar", TWIN), ("their mean", "tick", TWIN))
    return _panels(keyed(layered, key), "rung", shown, gap=52)


def _effect(runs: Sequence[Compared]) -> Any:
    import altair as alt
    import numpy as np

    records: list[dict[str, Any]] = []
    for run in runs:
        for row in run.summary["layers"]:
            effect, levels = row.get("effect") or {}, row.get("effect_levels") or []
            if not (neurons := effect.get("neurons")):
                continue
            own = np.interp((0.05, 0.5, 0.95), levels, neurons)
            twins = effect.get("twins")
            median = float(np.interp(0.5, levels, twins)) if twins else None
            records.append(
                {
                    "run": _layer_name(run, row),
                    "low": own[0],
                    "median": own[1],
                    "high": own[2],
                    "twins": median,
                }
            )
    if not records:
        return None
    y = alt.Y("run:N", sort=_order(runs), title=None)
    base = alt.Chart()
    layered = alt.layer(
        base.mark_rule(color=ACCENT, strokeWidth=1.5).encode(
            x=alt.X("low:Q", title="d′ on unseen documents"), x2="high:Q", y=y
        ),
        base.mark_tick(thickness=4, size=15, color=TWIN, opacity=1).encode(x="twins:Q", y=y),
        base.mark_point(filled=True, size=75, color=ACCENT, opacity=1).encode(x="median:Q", y=y),
        data=pd.DataFrame(records),
    ).properties(width=620, height=_height(runs))
    key = (
        ("layer, median", "circle", ACCENT),
        ("5 % to 95 %", "line", ACCENT),
        ("null layers, median", "tick", TWIN),
    )
    return keyed(layered, key)


def _tails(runs: Sequence[Compared]) -> Any:
    import altair as alt

    records: list[dict[str, Any]] = []
    for run in runs:
        for row in run.summary["layers"]:
            for tail in row.get("tails") or []:
                if tail["t"] != TAIL:
                    continue
                sides = {
                    "low": (tail["low"], tail["twin_low_mean"]),
                    "high": (tail["high"], tail["twin_high_mean"]),
                }
                for side, (share, twin) in sides.items():
                    records.append(
                        {"run": _layer_name(run, row), "side": side, "share": 100 * share, "twin": 100 * twin}
                    )
    if not records:
        return None
    y = alt.Y("run:N", sort=_order(runs), title=None)
    axis = alt.Axis(labelExpr=f"{THIN} + '\u202f%'", tickCount=5, title="share of the tested pairs")
    base = alt.Chart()
    x = alt.X("share:Q", axis=axis, scale=alt.Scale(domainMin=0))
    layered = alt.layer(
        base.mark_rule(color=MUTED, strokeWidth=1).encode(x=alt.datum(100 * TAIL)),
        base.mark_tick(thickness=3, size=13, color=TWIN, opacity=1).encode(x="twin:Q", y=y),
        *(
            base.mark_point(size=60, stroke=ACCENT, fill=fill, strokeWidth=1.8, opacity=1)
            .transform_filter(f"datum.side == '{side}'")
            .encode(x=x, y=y)
            for side, fill in (("low", ACCENT), ("high", PAPER))
        ),
        data=pd.DataFrame(records),
    ).properties(width=620, height=_height(runs))
    key = (("p ≤ 0.01", "circle", ACCENT), ("p ≥ 0.99", "open", ACCENT), ("null layers’ mean", "tick", TWIN))
    return keyed(layered, key)


def _panels(layered: Any, field: str, shown: Sequence[str], *, gap: int) -> Any:
    import altair as alt

    header = alt.Header(
        title=None, labelAnchor="start", labelFontSize=13, labelFontWeight=600, labelColor=INK, labelPadding=6
    )
    facet = alt.Facet(f"{field}:N", sort=list(shown), title=None, header=header)
    return layered.facet(facet=facet, columns=len(shown), spacing={"row": 18, "column": gap})


def _in_words(runs: Sequence[Compared]) -> str:
    parts = [
        f"{_layer_name(run, row)}: {words.count(row['n_computed'])} of {words.count(row['n_tested'])} pairs computed"
        for run in runs
        for row in run.summary["layers"]
    ]
    return "; ".join(parts) + "."


# -------------------------------------------------------------------------------- tables


def _rungs_table(runs: Sequence[Compared]) -> tables.Table:
    return tables.Table(
        "Pairs on each rung; below each count the mean and the range of the twins.",
        ("Run", "Layer", *(label for _, label, _ in words.RUNGS), "Excess over twins"),
        tuple((run.title, *cells) for run in runs for cells in tables.ladder_table(run.summary).rows),
        n_text=2,
    )


def _effect_table(runs: Sequence[Compared]) -> tables.Table:
    rows = [
        (run.title, *cells) for run in runs for cells in tables.effect_table(run.summary["layers"], {}).rows
    ]
    columns = ("Run", "Layer", "Site", "5 %", "25 %", "Median", "75 %", "95 %")
    return tables.Table("Quantiles of d′ over the tested pairs.", columns, tuple(rows), n_text=3)


def _tails_table(runs: Sequence[Compared]) -> tables.Table:
    rows = [(run.title, *cells) for run in runs for cells in tables.tails_table(run.summary["layers"]).rows]
    columns = ("Run", "Layer", "t", "p ≤ t", "twins", "p ≥ 1 − t", "twins")
    caption = "Share of tested pairs in both tails of the pair-specific p-value, layer and twins’ mean."
    return tables.Table(caption, columns, tuple(rows), n_text=2)


_TABLES = {"rungs": _rungs_table, "effect": _effect_table, "tails": _tails_table}


def _capacity_table(runs: Sequence[Compared]) -> tables.Table:
    found = [(run.title, tables.capacity_table(run.summary["layers"])) for run in runs]
    return tables.Table(
        "Counts and capacity references.",
        ("Run", *found[0][1].columns),
        tuple((title, *cells) for title, table in found for cells in table.rows),
        n_text=2,
    )


def _differences_table(runs: Sequence[Compared], differing: Mapping[str, Sequence[str]]) -> tables.Table:
    return tables.Table(
        "What is not the same in all runs.",
        ("What", *(run.title for run in runs)),
        tuple((name, *values) for name, values in differing.items()),
        n_text=1 + len(runs),
    )


def _fingerprints(runs: Sequence[Compared]) -> tables.Table:
    return tables.Table(
        "Where the numbers come from.",
        ("Run", "Model", "Tokens", "Concepts"),
        tuple(
            (
                run.title,
                str(run.science.get("model", words.NONE)),
                str(run.summary["corpus"].get("fingerprint", words.NONE)),
                str(run.science.get("concepts", words.NONE)),
            )
            for run in runs
        ),
        n_text=4,
    )
