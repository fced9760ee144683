"""The figures of a run: frozen results in, SVG text out.

Forms before colours: a filled dot is the layer, a grey bar is its twins (range) with a tick at their mean;
one accent, one grey. Every SVG carries a title and a description in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from probekit.errors import ShapeError
from probekit.evidence.gap import shapes_of
from probekit.evidence.summary import LayerRow, RungKey, Summary
from probekit.report import gap, overview, recall, words
from probekit.report.canvas import ACCENT, INK, MUTED, PAPER, THIN, TWIN, columns_of, faceted, keyed, to_svg
from probekit.report.tables import EFFECT_SITES, effect_quantiles

TITLES: dict[str, tuple[str, str]] = {
    "overview": overview.TITLE,
    "ladder": (
        "The ladder of evidence, layer beside its null layers",
        "numbers: pairs in the layer, and in its null layers on average (their range)",
    ),
    "groups": (
        "Kinds of pair: mean standardised effect",
        "of 20 kinds one lies outside its grey bar by chance",
    ),
    "effect": (
        "Effect sizes d′ over all tested pairs",
        "the layer in blue, everything it is compared with in grey",
    ),
    "tails": (
        "Both tails of the pair-specific p-values",
        "if no single pair stood out, both shares would lie at t",
    ),
    "sensitivity": recall.TITLE,
    "capacity": (
        "Counts against the capacity references",
        "constant 1 assumed in n²/ln n and n²/log₂ n · blue line: pair-specific pairs over null layers, 95 % interval",
    ),
    "gap": gap.TITLE,
}
"""Title and key to the signs of each figure."""


def figures(summary: Summary, layers: pd.DataFrame, pairs: Mapping[int, pd.DataFrame]) -> dict[str, str]:
    """Every figure of a run for which there are numbers: name → SVG text.

    Args:
        summary: the run's summary.json.
        layers: one row a layer, the same layers as in the summary.
        pairs: layer number → its tested pairs.
    """
    same_layers(summary, layers)
    rows = summary["layers"]
    first = overview_svg(rows)
    drawn = {
        "ladder": _ladder(rows),
        "groups": _groups(rows),
        "effect": _effect(rows, pairs),
        "tails": _tails(rows),
        "sensitivity": recall.chart(rows),
        "capacity": _capacity(rows),
    }
    told = {
        name: to_svg(chart, name, *TITLES[name], _description(name, rows))
        for name, chart in drawn.items()
        if chart is not None
    }
    between = gap.svg(shapes_of(summary))
    return {
        **({} if first is None else {"overview": first}),
        **told,
        **({} if between is None else {"gap": between}),
    }


def overview_svg(
    rows: Sequence[LayerRow], positive: tuple[str, LayerRow] | None = None, *, titled: bool = True
) -> str | None:
    """The first picture: what each layer shows beyond its null layers; None where there were none.

    Args:
        rows: the layers of the summary.
        positive: name and layer of a planted run, drawn on top.
        titled: whether its title is drawn.
    """
    chart = overview.chart(rows, positive)
    if chart is None:
        return None
    return to_svg(
        chart,
        "overview",
        *TITLES["overview"],
        f"{TITLES['overview'][1]}. {overview.described(rows, positive)}.",
        titled=titled,
    )


# -------------------------------------------------------------------------------- figures


def _ladder(rows: Sequence[LayerRow]) -> Any:
    import altair as alt

    frame = pd.DataFrame(
        [_rung(row, *rung[:2], brief=columns_of(rows) == 3) for row in rows for rung in words.RUNGS]
    )
    top = float(max(row["n_tested"] for row in rows))
    ticks = [0.0, *[10.0**power for power in range(int(np.log10(max(top, 1))) + 1)]]
    x = alt.X(
        "value:Q",
        scale=alt.Scale(type="symlog", constant=1, domain=[0, top], nice=False),
        axis=alt.Axis(values=ticks, labelExpr=THIN, title="pairs (logarithmic, from 0)"),
    )
    y = alt.Y("rung:N", sort=[label for _, label, _ in words.RUNGS], title=None)
    columns = columns_of(rows)
    width = {1: 440, 2: 235, 3: 150}[columns]
    base = alt.Chart()
    layered = alt.layer(
        base.mark_bar(height=9, color=TWIN, opacity=0.45)
        .encode(x=x.copy(), x2="twin_high:Q", y=y)
        .transform_calculate(value="datum.twin_low"),
        base.mark_tick(thickness=2, size=15, color=TWIN, opacity=1).encode(x="twin_mean:Q", y=y),
        base.mark_point(filled=True, size=75, color=ACCENT, opacity=1).encode(x=x, y=y),
        base.mark_text(align="right", fontWeight=600, color=INK, fontSize=12).encode(
            x=alt.value(width + 48), y=y, text="label:N"
        ),
        base.mark_text(align="left", color=MUTED, fontSize=11).encode(
            x=alt.value(width + 56), y=y, text="twin_label:N"
        ),
        data=frame,
    ).properties(width=width, height=26 * len(words.RUNGS))
    key = (("layer", "circle", ACCENT), ("null layers, range", "bar", TWIN), ("their mean", "tick", TWIN))
    return faceted(keyed(layered, key), rows, gap=34)


def _groups(rows: Sequence[LayerRow]) -> Any:
    import altair as alt

    records = [
        {
            "layer": f"Layer {row['layer']}",
            "kind": group["kind"],
            "mean_z": group["mean_z"],
            "twin_low": group["twin_low"],
            "twin_high": group["twin_high"],
            "label": words.plural(group["n_tested"], "pair"),
        }
        for row in rows
        for group in row["groups"] or []
        if group["mean_z"] is not None
    ]
    if not records:
        return None
    frame = pd.DataFrame(records)
    columns = columns_of(rows)
    width = {1: 460, 2: 260, 3: 150}[columns]
    y = alt.Y("kind:N", sort=None, title=None)
    base = alt.Chart()
    layered = alt.layer(
        base.mark_rule(color=TWIN, strokeWidth=1).encode(x=alt.datum(0)),
        base.mark_bar(height=9, color=TWIN, opacity=0.45).encode(
            x=alt.X(
                "twin_low:Q", title="mean z of the kind’s pairs", axis=alt.Axis(format="~g", tickCount=5)
            ),
            x2="twin_high:Q",
            y=y,
        ),
        base.mark_point(filled=True, size=75, color=ACCENT, opacity=1).encode(x="mean_z:Q", y=y),
        base.mark_text(align="left", color=MUTED, fontSize=11).encode(
            x=alt.value(width + 8), y=y, text="label:N"
        ),
        data=frame,
    ).properties(width=width, height=26 * frame["kind"].nunique())
    key = (("layer", "circle", ACCENT), ("95 % interval of one more null layer", "bar", TWIN))
    return faceted(keyed(layered, key), rows, gap=28)


def _effect(rows: Sequence[LayerRow], pairs: Mapping[int, pd.DataFrame]) -> Any:
    import altair as alt

    records = [record for row in rows for record in effect_quantiles(row, pairs.get(row["layer"]))]
    if not records:
        return None
    frame = pd.DataFrame(records)
    columns = columns_of(rows)
    width = {1: 500, 2: 330, 3: 210}[columns]
    y = alt.Y("site:N", sort=None, title=None)
    color = alt.Color(
        "own:N", scale=alt.Scale(domain=["layer", "control"], range=[ACCENT, TWIN]), legend=None
    )
    base = alt.Chart()
    layered = alt.layer(
        base.mark_rule(strokeWidth=1.5).encode(
            x=alt.X("q05:Q", title="d′ on unseen documents"), x2="q95:Q", y=y, color=color
        ),
        base.mark_bar(height=9, opacity=0.55).encode(x="q25:Q", x2="q75:Q", y=y, color=color),
        base.mark_tick(thickness=2, size=16, color=INK, opacity=1).encode(x="q50:Q", y=y),
        data=frame,
    ).properties(width=width, height=26 * frame["site"].nunique())
    key = (
        ("middle half of the pairs", "bar", ACCENT),
        ("5 % to 95 %", "line", ACCENT),
        ("median", "tick", INK),
        ("the same of what it is compared with", "bar", TWIN),
    )
    return faceted(keyed(layered, key), rows, gap=28)


def _tails(rows: Sequence[LayerRow]) -> Any:
    import altair as alt

    records: list[dict[str, Any]] = []
    for row in rows:
        for tail in row.get("tails") or []:
            shared = {"layer": f"Layer {row['layer']}", "t": tail["t"]}
            records.append(
                {
                    **shared,
                    "row": f"p ≤ {tail['t']:g}",
                    "share": tail["low"],
                    "twin": tail["twin_low_mean"],
                    "side": "low",
                }
            )
            records.append(
                {
                    **shared,
                    "row": f"p ≥ {1 - tail['t']:g}",
                    "share": tail["high"],
                    "twin": tail["twin_high_mean"],
                    "side": "high",
                }
            )
    if not records:
        return None
    frame = pd.DataFrame(records)
    columns = columns_of(rows)
    y = alt.Y("row:N", sort=None, title=None)
    axis = alt.Axis(
        values=[0, *sorted(frame["t"].unique())],
        labelExpr="datum.value == 0 ? '' : format(datum.value, '.1~%')",
        labelOverlap=False,
        title="share of the tested pairs (square-root scale)",
    )
    x = alt.X("t:Q", scale=alt.Scale(type="sqrt", nice=False, domainMin=0), axis=axis)
    base = alt.Chart()
    layered = alt.layer(
        base.mark_tick(thickness=1, size=20, color=INK, opacity=1).encode(x=x, y=y),
        base.mark_tick(thickness=4, size=14, color=TWIN, opacity=1).encode(x="twin:Q", y=y),
        *(
            base.mark_point(size=60, stroke=ACCENT, fill=fill, strokeWidth=1.8, opacity=1)
            .transform_filter(f"datum.side == '{side}'")
            .encode(x="share:Q", y=y)
            for side, fill in (("low", ACCENT), ("high", PAPER))
        ),
        data=frame,
    ).properties(width={1: 500, 2: 340, 3: 220}[columns], height=22 * frame["row"].nunique())
    key = (
        ("p ≤ t", "circle", ACCENT),
        ("p ≥ 1 − t", "open", ACCENT),
        ("null layers’ mean", "tick", TWIN),
        ("t", "tick", INK),
    )
    return faceted(keyed(layered, key), rows, gap=28)


def _capacity(rows: Sequence[LayerRow]) -> Any:
    import altair as alt

    floor = 0.5
    kinds = {
        "computed": ("circle", ACCENT),
        "tested": ("square", MUTED),
        "n²/log₂ n": ("triangle-left", MUTED),
        "n²/ln n": ("triangle-right", MUTED),
        f"exact bound at {words.mean(rows[0]['capacity']['bits_per_param'])} bits": ("diamond", INK),
    }
    points: list[dict[str, Any]] = []
    spans: list[dict[str, Any]] = []
    for row in rows:
        capacity = row["capacity"]
        bound = None if capacity["vacuous"] else capacity["max_selected"]
        values = (
            row["n_computed"],
            row["n_tested"],
            capacity["n2_over_log2_n"],
            capacity["n2_over_ln_n"],
            bound,
        )
        name = f"Layer {row['layer']}"
        points += [
            {"layer": name, "what": what, "x": max(float(value), floor)}
            for what, value in zip(kinds, values, strict=True)
            if value is not None
        ]
        if row["excess_low"] is not None and row["excess_high"] is not None:
            spans.append(
                {"layer": name, "x": max(row["excess_low"], floor), "x2": max(row["excess_high"], floor)}
            )
    top = 10 ** np.ceil(np.log10(max(point["x"] for point in points)))
    shown = [what for what in kinds if any(point["what"] == what for point in points)]
    order = [f"Layer {row['layer']}" for row in rows]
    y = alt.Y("layer:N", sort=order, title=None)
    x = alt.X(
        "x:Q",
        scale=alt.Scale(type="log", domain=[floor, float(top)], nice=False),
        axis=alt.Axis(
            values=[floor, *[10.0**power for power in range(int(np.log10(top)) + 1)]],
            labelExpr=f"datum.value < 1 ? '0' : {THIN}",
            title="pairs (log scale; 0 drawn at the left edge)",
        ),
    )
    legend = alt.Legend(orient="top", title=None, columns=5, symbolStrokeWidth=0, symbolSize=90)
    shape = alt.Shape(
        "what:N", scale=alt.Scale(domain=shown, range=[kinds[what][0] for what in shown]), legend=legend
    )
    color = alt.Color(
        "what:N", scale=alt.Scale(domain=shown, range=[kinds[what][1] for what in shown]), legend=legend
    )
    lines = alt.Chart(pd.DataFrame(spans, columns=["layer", "x", "x2"])).mark_rule(
        strokeWidth=5, color=ACCENT, opacity=0.45
    )
    marks = alt.Chart(pd.DataFrame(points)).mark_point(filled=True, size=85, opacity=1)
    return alt.layer(
        lines.encode(x=x, x2="x2:Q", y=y), marks.encode(x=x, y=y, shape=shape, color=color)
    ).properties(width=700, height=max(60, 30 * len(rows)))


# -------------------------------------------------------------------------------- shared parts


def same_layers(summary: Summary, layers: pd.DataFrame) -> None:
    """Refuse a summary and a table that speak of different layers."""
    told, tabled = [row["layer"] for row in summary["layers"]], [int(number) for number in layers["layer"]]
    if not told or told != tabled:
        raise ShapeError(
            f"report: the summary has layers {told}, the layers table has {tabled}; a report needs the same "
            "layers in both, at least one. Load both from one run directory."
        )


def _rung(row: LayerRow, key: RungKey, label: str, *, brief: bool) -> dict[str, Any]:
    twins = (row["twins"] or {}).get(key) or {}
    low, high = twins.get("low"), twins.get("high")
    told = words.mean(twins.get("mean")) + ("" if brief else f" ({words.count(low)}–{words.count(high)})")
    return {
        "layer": f"Layer {row['layer']}",
        "rung": label,
        "value": row[key],
        "twin_mean": twins.get("mean"),
        "twin_low": low,
        "twin_high": high,
        "label": words.count(row[key]),
        "twin_label": told if twins else "",
    }


def _description(name: str, rows: Sequence[LayerRow]) -> str:
    """What the figure shows, in words, for readers who do not see it."""
    about = {
        "ladder": lambda row: (
            f"{words.count(row['n_computed'])} of {words.count(row['n_tested'])} pairs computed"
        ),
        "groups": lambda row: ", ".join(
            f"{group['kind']} mean z {words.real(group['mean_z'])}" for group in row["groups"] or []
        ),
        "effect": lambda row: (
            "quantiles of d′ at "
            + ", ".join(label for site, label in EFFECT_SITES if (row.get("effect") or {}).get(site))
        ),
        "tails": lambda row: ", ".join(
            f"p ≤ {tail['t']:g}: {words.percent(tail['low'])}, p ≥ {1 - tail['t']:g}: "
            f"{words.percent(tail['high'])}"
            for tail in row.get("tails") or []
        ),
        "sensitivity": recall.described,
        "capacity": lambda row: (
            f"{words.count(row['n_computed'])} computed, {words.count(row['n_tested'])} tested, n²/ln n "
            f"{words.count(row['capacity']['n2_over_ln_n'])}"
        ),
    }[name]
    return f"{TITLES[name][1]}. " + "; ".join(f"layer {row['layer']}: {about(row)}" for row in rows) + "."
