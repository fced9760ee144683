"""The first picture: how many pairs each layer shows beyond its null layers, a known positive in the top row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from probekit.evidence.summary import LayerRow, Summary
from probekit.report import words
from probekit.report.answer import Shown, finds, shown
from probekit.report.canvas import ACCENT, INK, MUTED, PAPER, TINT, TWIN, keyed

TITLE = (
    "Pairs beyond the null layers, layer by layer",
    "share of the tested pairs (square-root scale); relays removed from the layer and from its null layers",
)
CAPTION = (
    "What counts is the distance between the dot and the grey bar. Numbers: pairs named of pairs tested; in brackets "
    "what a "
    "null layer in its place gets on average."
)
_WIDTH = 236


def chart(rows: Sequence[LayerRow], positive: tuple[str, LayerRow] | None = None) -> Any:
    """One row a layer; None where no layer was set against null layers.

    Args:
        rows: the layers of the summary.
        positive: name and layer of a planted run, drawn on top.
    """
    import altair as alt

    named = [(f"Layer {row['layer']}", shown(row)) for row in rows]
    if positive is not None:
        named = [(positive[0], shown(positive[1])), *named]
    records = [_record(name, one) for name, one in named if one.n_above is not None and one.null]
    if not records:
        return None
    frame = pd.DataFrame(records)
    top = max(1.0, float(frame[["above", "least", "null_high"]].max().max()))
    axis = alt.Axis(
        values=[value for value in (0, 1, 5, 10, 25, 50, 100) if value <= top],
        labelExpr="datum.value + '\u202f%'", title="share of the tested pairs (square-root scale)", labelOverlap=True,
    )  # fmt: skip
    x = alt.X("above:Q", scale=alt.Scale(type="sqrt", domain=[0, top], nice=False), axis=axis)
    y = alt.Y("row:N", sort=[record["row"] for record in records], title=None, axis=alt.Axis(labelLimit=110))
    base = alt.Chart(frame)
    marks = [
        base.mark_bar(height=15, color=TINT, opacity=1).encode(x=alt.X("zero:Q"), x2="least:Q", y=y),
        base.mark_bar(height=8, color=TWIN, opacity=0.45).encode(
            x=alt.X("null_low:Q"), x2="null_high:Q", y=y
        ),
        base.mark_tick(thickness=2, size=14, color=TWIN, opacity=1).encode(x="null_mean:Q", y=y),
        base.mark_point(filled=True, size=75, color=ACCENT, opacity=1).encode(x=x, y=y),
        base.mark_point(size=42, fill=PAPER, stroke=ACCENT, strokeWidth=1.8, opacity=1).encode(
            x="specific:Q", y=y
        ),
        base.mark_text(align="left", color=INK, fontSize=12).encode(
            x=alt.value(_WIDTH + 10), y=y, text="label:N"
        ),
    ]
    key = [("named", "circle", ACCENT), ("pair-specific", "open", ACCENT), ("null layers", "bar", TWIN)]
    if frame["least"].notna().any():
        key.append(("at least (95 %)", "bar", TINT))
    if positive is not None:
        rule = alt.Chart(frame.head(1)).mark_rule(color=MUTED, strokeWidth=0.7, strokeDash=[2, 3])
        marks.append(rule.encode(y=alt.value(27), x=alt.value(-4), x2=alt.value(_WIDTH + 4)))
    return keyed(alt.layer(*marks), key, columns=3).properties(width=_WIDTH, height=27 * len(records))


def _record(name: str, one: Shown) -> dict[str, Any]:
    scale = 100 / one.n_tested
    least, specific = one.n_at_least, one.n_specific
    return {
        "row": name,
        "zero": 0.0,
        "above": scale * (one.n_above or 0),
        "specific": None if specific is None else scale * specific,
        "least": None if least is None else scale * least,
        "null_low": scale * one.beside["low"],
        "null_mean": scale * one.beside["mean"],
        "null_high": scale * one.beside["high"],
        "label": f"{words.count(one.n_above)} of {words.count(one.n_tested)} ({words.mean(one.beside['mean'])})",
    }


def described(rows: Sequence[LayerRow], positive: tuple[str, LayerRow] | None) -> str:
    """The picture in words."""
    named = [(f"layer {row['layer']}", row) for row in rows]
    every = named if positive is None else [positive, *named]
    told = ((name, shown(row)) for name, row in every)
    return "; ".join(
        f"{name}: {words.count(one.n_above)} of {words.count(one.n_tested)} pairs above the null layers, which get "
        f"{words.mean(one.null and one.null['mean'])} on average"
        for name, one in told
    )


def best_row(summary: Summary) -> LayerRow:
    """The layer of a known positive that shows most."""
    rows: list[LayerRow] = summary["layers"]
    found = finds(rows)
    return found[0].row if found else rows[0]
