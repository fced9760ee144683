"""What all figures share: the palette, the look, panels by layer, from a chart to accessible SVG.

The palette is plain hex values in the SVG, so that a saved file stands alone; the page restyles these very
values on dark screens.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from probekit.evidence.summary import LayerRow

INK, MUTED, GRID, TWIN, ACCENT, PAPER = "#1b1f24", "#5a6472", "#e2e5ea", "#8793a1", "#1f5fbf", "#fffffe"
TINT = "#cfdff5"
"""The palette of the SVG text; the page restyles these very values on dark screens."""

THIN = "replace(format(datum.value, ','), regexp(',', 'g'), '\u202f')"
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
        "labelFlush": False,
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


def columns_of(rows: Sequence[LayerRow]) -> int:
    """How many panels stand side by side."""
    return 1 if len(rows) == 1 else 2 if len(rows) <= 4 else 3


def faceted(layered: Any, rows: Sequence[LayerRow], *, gap: int) -> Any:
    """One panel a layer, each with its own horizontal axis on the common scale."""
    import altair as alt

    header = alt.Header(
        title=None, labelAnchor="start", labelFontSize=13, labelFontWeight=600, labelColor=INK, labelPadding=6
    )
    facet = alt.Facet("layer:N", sort=[f"Layer {row['layer']}" for row in rows], title=None, header=header)
    panels = layered.facet(facet=facet, columns=columns_of(rows), spacing={"row": 18, "column": gap})
    return panels.resolve_axis(x="independent")


_SHAPES = {
    "bar": "M-1.6,-0.45L1.6,-0.45L1.6,0.45L-1.6,0.45Z",
    "tick": "M-0.16,-0.9L0.16,-0.9L0.16,0.9L-0.16,0.9Z",
    "line": "M-1.6,-0.12L1.6,-0.12L1.6,0.12L-1.6,0.12Z",
}


def keyed(chart: Any, key: Sequence[tuple[str, str, str]], *, columns: int = 4) -> Any:
    """A chart with a legend above it, one entry for each sign it uses.

    Args:
        chart: the chart; no mark of it encodes shape, fill or stroke, whose scales the legend takes.
        key: for each sign its meaning, its form ("circle", "open", "square", "bar", "tick") and its colour.
        columns: entries side by side.
    """
    import altair as alt

    names = [name for name, _, _ in key]
    legend = alt.Legend(
        orient="top", title=None, columns=columns, symbolOpacity=1, symbolSize=70, symbolStrokeWidth=1.6, offset=10,
        rowPadding=3, columnPadding=14, labelLimit=330,
    )  # fmt: skip
    shapes = [_SHAPES.get(form, "circle" if form == "open" else form) for _, form, _ in key]
    fills = [PAPER if form == "open" else color for _, form, color in key]
    strokes = [color if form in ("open", "circle", "square") else "transparent" for _, form, color in key]
    scale = lambda values: alt.Scale(domain=names, range=values)
    signs = (
        alt.Chart(pd.DataFrame({"sign": names}))
        .mark_point(opacity=0, size=1)
        .encode(
            shape=alt.Shape("sign:N", scale=scale(shapes), legend=legend),
            fill=alt.Fill("sign:N", scale=scale(fills), legend=legend),
            stroke=alt.Stroke("sign:N", scale=scale(strokes), legend=legend),
            x=alt.value(0), y=alt.value(0),
        )
    )  # fmt: skip
    both = chart.copy()
    both.layer = [*chart.layer, signs]
    return both


def to_svg(chart: Any, name: str, title: str, key: str, description: str, *, titled: bool = True) -> str:
    """Draw a chart; the root is one image with a title and a description, its marks are silent.

    Args:
        chart: what is drawn.
        name: what its ids begin with.
        title: what it is called.
        key: how its signs are read.
        description: the same in words.
        titled: whether title and key are drawn; screen readers get them in any case.
    """
    import altair as alt
    import vl_convert

    spec: dict[str, Any] = chart.to_dict()
    if titled:
        spec["title"] = {"text": title, "subtitle": key, "anchor": "start", "offset": 18, "frame": "group"}
    spec["config"] = _CONFIG
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    svg = vl_convert.vegalite_to_svg(spec, vl_version=version)
    svg = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", svg)
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\1{name}-", svg)
    head = f'<title id="{name}-title">{html.escape(title)}</title>'
    head += f'<desc id="{name}-desc">{html.escape(description)}</desc>'
    return re.sub(
        r"<svg ([^>]*)>",
        lambda found: f'<svg {found[1]} role="img" aria-labelledby="{name}-title {name}-desc">{head}',
        svg,
        count=1,
    )
