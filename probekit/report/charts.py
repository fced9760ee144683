"""The figures of a run: frozen results in, SVG text out.

Forms before colours: a filled dot is the layer, a grey bar is its twins (range) with a tick at their mean. One accent colour, one grey; both
are plain hex values that the page maps to its own palette for dark screens. Every SVG carries a title and a description.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from probekit.report import words

INK, MUTED, GRID, TWIN, ACCENT, PAPER = "#1b1f24", "#5a6472", "#e2e5ea", "#8793a1", "#1f5fbf", "#fffffe"
"""The palette of the SVG text; the page restyles these very values on dark screens."""

EFFECT_SITES: tuple[tuple[str, str], ...] = (
    ("neurons", "Neurons"),
    ("twins", "Twins’ neurons"),
    ("pre", "Pre-activations"),
    ("input", "MLP input"),
)
"""Where d′ was measured: key under `effect`, label."""

TITLES: dict[str, tuple[str, str]] = {
    "ladder": (
        "The ladder of evidence, layer beside twins",
        "dot: pairs of the layer · grey bar and tick: its random twins, range and mean",
    ),
    "groups": (
        "Kinds of pair: mean standardised effect",
        "dot: mean z of the group in the layer · grey bar: what its twins give in its place",
    ),
    "effect": (
        "Effect sizes d′ over all tested pairs",
        "thick bar: middle half of the pairs · thin line: 5 % to 95 % · tick: median",
    ),
    "tails": (
        "Both tails of the pair-specific p-values",
        "filled: share with p ≤ t · open: share with p ≥ 1 − t · grey tick: twins’ mean · thin line: t itself",
    ),
    "capacity": (
        "Counts against the capacity references",
        "constant 1 assumed in n²/ln n and n²/log₂ n · blue line: excess over twins with its interval",
    ),
}
"""Title and key to the signs of each figure."""


def figures(
    summary: Mapping[str, Any], layers: pd.DataFrame, pairs: Mapping[int, pd.DataFrame]
) -> dict[str, str]:
    """Every figure of a run for which there are numbers: name → SVG text.

    Args:
        summary: the run's summary.json.
        layers: one row a layer, the same layers as in the summary.
        pairs: layer number → its tested pairs.
    """
    del layers  # the summary holds the nested values the figures need; the page checks that both agree
    rows = summary["layers"]
    drawn = {
        "ladder": _ladder(rows),
        "groups": _groups(rows),
        "effect": _effect(rows, pairs),
        "tails": _tails(rows),
        "capacity": _capacity(rows),
    }
    return {
        name: _svg(chart, name, _description(name, rows))
        for name, chart in drawn.items()
        if chart is not None
    }


# ------------------------------------------------------------------------------------------------- figures


def _ladder(rows: Sequence[words.Row]) -> Any:
    import altair as alt

    frame = pd.DataFrame([_rung(row, *rung[:2]) for row in rows for rung in words.RUNGS])
    top = float(max(row["n_tested"] for row in rows))
    ticks = [0.0, *[10.0**power for power in range(int(np.log10(max(top, 1))) + 1)]]
    x = alt.X(
        "value:Q",
        scale=alt.Scale(type="symlog", constant=1, domain=[0, top], nice=False),
        axis=alt.Axis(values=ticks, labelExpr=_THIN, title=None),
    )
    y = alt.Y("rung:N", sort=[label for _, label, _ in words.RUNGS], title=None)
    columns = _columns(rows)
    width = {1: 440, 2: 200, 3: 110}[columns]
    base = alt.Chart()
    layered = alt.layer(
        base.mark_bar(height=9, color=TWIN, opacity=0.45)
        .encode(x=x.copy(), x2="twin_high:Q", y=y)
        .transform_calculate(value="datum.twin_low"),
        base.mark_tick(thickness=2, size=15, color=TWIN, opacity=1).encode(x="twin_mean:Q", y=y),
        base.mark_point(filled=True, size=75, color=ACCENT, opacity=1).encode(x=x, y=y),
        base.mark_text(align="right", fontWeight=600, color=INK, fontSize=12).encode(
            x=alt.value(width + 42), y=y, text="label:N"
        ),
        base.mark_text(align="left", color=MUTED, fontSize=11).encode(
            x=alt.value(width + 50), y=y, text="twin_label:N"
        ),
        data=frame,
    ).properties(width=width, height=26 * len(words.RUNGS))
    return _faceted(layered, columns, gap=34)


def _groups(rows: Sequence[words.Row]) -> Any:
    import altair as alt

    records = [
        {
            "layer": f"Layer {row['layer']}",
            "kind": group["kind"],
            "mean_z": group["mean_z"],
            "twin_low": group["twin_low"],
            "twin_high": group["twin_high"],
            "label": f"{words.count(group['n_tested'])} pairs",
        }
        for row in rows
        for group in row["groups"] or []
    ]
    if not records:
        return None
    frame = pd.DataFrame(records)
    columns = _columns(rows)
    width = {1: 460, 2: 220, 3: 130}[columns]
    y = alt.Y("kind:N", sort=None, title=None)
    base = alt.Chart()
    layered = alt.layer(
        base.mark_rule(color=MUTED, strokeWidth=1).encode(x=alt.datum(0)),
        base.mark_bar(height=9, color=TWIN, opacity=0.45).encode(
            x=alt.X("twin_low:Q", title="mean z"), x2="twin_high:Q", y=y
        ),
        base.mark_point(filled=True, size=75, color=ACCENT, opacity=1).encode(x="mean_z:Q", y=y),
        base.mark_text(align="left", color=MUTED, fontSize=11).encode(
            x=alt.value(width + 8), y=y, text="label:N"
        ),
        data=frame,
    ).properties(width=width, height=26 * frame["kind"].nunique())
    return _faceted(layered, columns, gap=28)


def _effect(rows: Sequence[words.Row], pairs: Mapping[int, pd.DataFrame]) -> Any:
    import altair as alt

    records = [record for row in rows for record in effect_quantiles(row, pairs.get(row["layer"]))]
    if not records:
        return None
    frame = pd.DataFrame(records)
    columns = _columns(rows)
    width = {1: 480, 2: 250, 3: 160}[columns]
    y = alt.Y("site:N", sort=None, title=None)
    color = alt.Color(
        "own:N", scale=alt.Scale(domain=["layer", "control"], range=[ACCENT, TWIN]), legend=None
    )
    base = alt.Chart()
    layered = alt.layer(
        base.mark_rule(strokeWidth=1.5).encode(x=alt.X("q05:Q", title="d′"), x2="q95:Q", y=y, color=color),
        base.mark_bar(height=9, opacity=0.55).encode(x="q25:Q", x2="q75:Q", y=y, color=color),
        base.mark_tick(thickness=2, size=16, color=INK, opacity=1).encode(x="q50:Q", y=y),
        data=frame,
    ).properties(width=width, height=26 * frame["site"].nunique())
    return _faceted(layered, columns, gap=28)


def _tails(rows: Sequence[words.Row]) -> Any:
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
    columns = _columns(rows)
    y = alt.Y("row:N", sort=None, title=None)
    x = alt.X(
        "t:Q",
        scale=alt.Scale(type="sqrt", nice=False, domainMin=0),
        axis=alt.Axis(
            format="~%",
            title="share of tested pairs (square-root scale)",
            values=[0, *sorted(frame["t"].unique())],
        ),
    )
    base = alt.Chart()
    fill = alt.Fill("side:N", scale=alt.Scale(domain=["low", "high"], range=[ACCENT, PAPER]), legend=None)
    layered = alt.layer(
        base.mark_tick(thickness=1, size=20, color=INK, opacity=1).encode(x=x, y=y),
        base.mark_tick(thickness=4, size=14, color=TWIN, opacity=1).encode(x="twin:Q", y=y),
        base.mark_point(size=60, stroke=ACCENT, strokeWidth=1.8, opacity=1).encode(
            x="share:Q", y=y, fill=fill
        ),
        data=frame,
    ).properties(width={1: 500, 2: 270, 3: 170}[columns], height=22 * frame["row"].nunique())
    return _faceted(layered, columns, gap=28)


def _capacity(rows: Sequence[words.Row]) -> Any:
    import altair as alt

    floor = 0.5
    kinds = {
        "computed": ("circle", ACCENT),
        "tested": ("square", MUTED),
        "n²/log₂ n": ("triangle-left", MUTED),
        "n²/ln n": ("triangle-right", MUTED),
        "exact bound, 2 bits": ("diamond", INK),
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
            labelExpr=f"datum.value < 1 ? '0' : {_THIN}",
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
    ).properties(width=620, height=max(60, 30 * len(rows)))


# ---------------------------------------------------------------------------------------------- shared parts


def effect_quantiles(row: words.Row, table: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The five drawn quantiles of d′ at each site of a layer; neurons and input from the pairs where the summary has none."""
    effect: Mapping[str, Any] = row.get("effect") or {}
    levels: Sequence[float] = row.get("effect_levels") or []
    marks = (0.05, 0.25, 0.5, 0.75, 0.95)
    columns = {"neurons": "d_prime", "input": "d_prime_input"}
    records: list[dict[str, Any]] = []
    for site, label in EFFECT_SITES:
        if effect.get(site):
            values = np.interp(marks, levels, effect[site])
        elif table is not None and columns.get(site) in table and table[columns[site]].notna().any():
            values = np.quantile(table[columns[site]].dropna().to_numpy(float), marks)
        else:
            continue
        own = "layer" if site == "neurons" else "control"
        named = {f"q{round(100 * mark):02d}": float(value) for mark, value in zip(marks, values, strict=True)}
        records.append({"layer": f"Layer {row['layer']}", "site": label, "own": own, **named})
    return records


def _rung(row: words.Row, key: str, label: str) -> dict[str, Any]:
    twins = (row["twins"] or {}).get(key) or {}
    low, high = twins.get("low"), twins.get("high")
    return {
        "layer": f"Layer {row['layer']}",
        "rung": label,
        "value": row[key],
        "twin_mean": twins.get("mean"),
        "twin_low": low,
        "twin_high": high,
        "label": words.count(row[key]),
        "twin_label": f"{words.mean(twins['mean'])} ({words.count(low)}–{words.count(high)})"
        if twins
        else "",
    }


def _columns(rows: Sequence[words.Row]) -> int:
    return 1 if len(rows) == 1 else 2 if len(rows) <= 4 else 3


def _faceted(layered: Any, columns: int, *, gap: int) -> Any:
    import altair as alt

    header = alt.Header(
        title=None, labelAnchor="start", labelFontSize=13, labelFontWeight=600, labelColor=INK, labelPadding=6
    )
    facet = alt.Facet("layer:N", sort=None, title=None, header=header)
    return layered.facet(facet=facet, columns=columns, spacing={"row": 26, "column": gap})


_THIN = "replace(format(datum.value, ','), regexp(',', 'g'), '\u202f')"
"""A Vega expression: whole numbers with narrow no-break spaces between thousands."""

_CONFIG: dict[str, Any] = {
    "background": None,
    "font": "Helvetica, Arial, DejaVu Sans, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domain": False,
        "ticks": False,
        "gridColor": GRID,
        "labelColor": MUTED,
        "labelFontSize": 12,
        "labelPadding": 8,
        "labelLimit": 220,
        "titleColor": MUTED,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "axisY": {"labelColor": INK, "grid": False},
    "legend": {"labelColor": INK, "labelFontSize": 12},
    "title": {
        "color": INK,
        "subtitleColor": MUTED,
        "fontSize": 15,
        "subtitleFontSize": 12,
        "subtitlePadding": 5,
    },
}


def _svg(chart: Any, name: str, description: str) -> str:
    """Draw a chart; the root is one image with a title and a description, its marks are silent."""
    import altair as alt
    import vl_convert

    title, key = TITLES[name]
    spec: dict[str, Any] = chart.to_dict()
    spec["title"] = {"text": title, "subtitle": key, "anchor": "start", "offset": 18, "frame": "group"}
    spec["config"] = _CONFIG
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    svg = vl_convert.vegalite_to_svg(spec, vl_version=version)
    svg = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", svg)
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\1{name}-", svg)
    head = f'<title id="{name}-title">{html.escape(title)}</title><desc id="{name}-desc">{html.escape(description)}</desc>'
    return re.sub(
        r"<svg ([^>]*)>",
        lambda found: f'<svg {found[1]} role="img" aria-labelledby="{name}-title {name}-desc">{head}',
        svg,
        count=1,
    )


def _description(name: str, rows: Sequence[words.Row]) -> str:
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
            f"p ≤ {tail['t']:g}: {words.percent(tail['low'])}, p ≥ {1 - tail['t']:g}: {words.percent(tail['high'])}"
            for tail in row.get("tails") or []
        ),
        "capacity": lambda row: (
            f"{words.count(row['n_computed'])} computed, {words.count(row['n_tested'])} tested, n²/ln n "
            f"{words.count(row['capacity']['n2_over_ln_n'])}"
        ),
    }[name]
    return f"{TITLES[name][1]}. " + "; ".join(f"layer {row['layer']}: {about(row)}" for row in rows) + "."
