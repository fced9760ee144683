"""The recall curve of the spiked pairs: how large an AND the run would have found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from probekit.evidence.summary import LayerRow
from probekit.report import words
from probekit.report.canvas import ACCENT, INK, MUTED, columns_of, faceted

RUNGS = (("above_twins", "above null layers"), ("computed", "pair-specific (computed)"))
TITLE = (
    "How large an AND would have been found",
    "share of the known ANDs found again, with its exact 95 % interval",
)
CAPTION = (
    "Known ANDs were added to the layer’s own activations, on a few random neurons each, and went through the same "
    "analysis. At amplitude 0 nothing is added. A layer in which the curve stays low may hold ANDs that this run could not "
    "see; amplitudes are in standard deviations of the neuron."
)


def curve_records(rows: Sequence[LayerRow]) -> list[dict[str, Any]]:
    """One record a layer, rung and amplitude."""
    return [
        {
            "layer": f"Layer {row['layer']}", "rung": label, "amplitude": step["amplitude"],
            **{key: step[rung][key] for key in ("recall", "low", "high")},
        }
        for row in rows if (found := row.get("sensitivity"))
        for step in found["curve"]
        for rung, label in RUNGS
    ]  # fmt: skip


def chart(rows: Sequence[LayerRow]) -> Any:
    """The recall curve of every layer; None where none was measured."""
    import altair as alt

    records = curve_records(rows)
    if not records:
        return None
    frame = pd.DataFrame(records)
    top = float(frame["amplitude"].max())
    axis = alt.Axis(
        values=sorted(frame["amplitude"].unique()),
        title="size of the AND (neuron’s sd, square-root scale)",
        labelExpr="format(datum.value, '~g')",
        labelOverlap=False,
    )
    x = alt.X("amplitude:Q", scale=alt.Scale(type="sqrt", domain=[0, top], nice=False), axis=axis)
    y = alt.Y(
        "recall:Q",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%", values=[0, 0.5, 1], title="share found"),
    )
    labels = [label for _, label in RUNGS]
    legend = alt.Legend(orient="top", title=None, symbolSize=70, labelLimit=330)
    color = alt.Color("rung:N", scale=alt.Scale(domain=labels, range=[MUTED, ACCENT]), legend=legend)
    shape = alt.Shape("rung:N", scale=alt.Scale(domain=labels, range=["square", "circle"]), legend=legend)
    base = alt.Chart()
    layered = alt.layer(
        base.mark_rule(color=INK, strokeWidth=0.5).encode(y=alt.datum(0.5)),
        base.mark_rule(strokeWidth=1.4).encode(x=x, y="low:Q", y2="high:Q", color=color),
        base.mark_line(strokeWidth=1.6).encode(x=x, y=y, color=color),
        base.mark_point(filled=True, size=55, opacity=1).encode(x=x, y=y, color=color, shape=shape),
        data=frame,
    ).properties(width={1: 500, 2: 320, 3: 200}[columns_of(rows)], height=150)
    return faceted(layered, rows, gap=34)


def described(row: LayerRow) -> str:
    """The curve of one layer in words."""
    if not (found := row.get("sensitivity")):
        return "not measured"
    at = found["computed_at"]["0.5"]
    return (
        "half are never reached" if at is None else f"half are called computed at amplitude {words.real(at)}"
    )
