"""A compression curve as a chart and as a page: what a layer still computes, beside the bits its weights take.

Names come from a model or a text and may hold anything: the template escapes every string. Same input, same bytes.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from probekit.report import words
from probekit.report.canvas import ACCENT, INK, MUTED, PAPER, TWIN, to_svg
from probekit.report.environment import environment
from probekit.report.page import Figure
from probekit.report.tables import Table

TITLE = "What the layer still computes"
KEY = "pairs and loss by bits of the weights · filled: above null layers · open: computed · grey dashes: whole layer"
CAPTION = (
    "Each point is one step: the weights at the layer’s neurons pruned (circles), rounded (squares) or stored in a format "
    "of GGUF files (triangles), and the whole analysis run again. Left: pairs above the null layers of the compressed "
    "layer, and those that are pair-specific as well. Right: how much worse the model predicts the next token."
)
SHAPES = {"whole": "diamond", "pruned": "circle", "rounded": "square", "format": "triangle-up"}


@runtime_checkable
class Shown(Protocol):
    """What a page shows of a curve."""

    @property
    def steps(self) -> pd.DataFrame:
        """One row a step, the whole layer first."""
        ...

    @property
    def summary(self) -> dict[str, Any]:
        """Model, layer, text, sizes."""
        ...


def answer(curve: Shown) -> tuple[str, str, str]:
    """The answer in three sentences: what was asked, what was found, what it does not say."""
    steps, summary = curve.steps, curve.summary
    whole, others = steps.iloc[0], steps.iloc[1:]
    asked = (
        f"How far the {words.count(summary['n_params'])} weights at the neurons of layer {summary['layer']} of "
        f"{summary['model']} can be compressed before the pairs that stand out from its null layers are gone."
    )
    if not whole["n_above_twins"]:
        found = (
            f"Nothing can be lost: none of the {words.count(whole['n_tested'])} pairs stands above the null layers of the "
            "whole layer."
        )
    else:
        half = others[2 * others["still_above"] >= whole["n_above_twins"]]
        least = None if half.empty else half.loc[half["bits_described"].idxmin()]
        survive = (
            "no step left half of them"
            if least is None
            else f"“{least['step']}”, {words.count(round(least['bits_described']))} bits, is the smallest that left half of "
            f"them ({words.count(least['still_above'])})"
        )
        found = (
            f"Of {words.count(whole['n_above_twins'])} pairs above null layers in the whole layer "
            f"({words.count(whole['n_computed'])} computed, {words.count(round(whole['bits_described']))} bits), {survive}."
        )
    return asked, found, (
        "Each step is held against null layers of the compressed layer itself, so a pair may also be gone because these "
        "reach higher; the constants of the bounds are assumed to be 1."
    )  # fmt: skip


def compression_chart(curve: Shown) -> Any:
    """Pairs and the change of the loss against the bits that the weights take, on a logarithmic axis."""
    import altair as alt

    columns = [
        "step", "kind", "bits_described", "n_above_twins", "n_computed", "loss_change", "loss_change_se",
    ]  # fmt: skip
    frame = curve.steps[columns].copy()
    frame["low"], frame["high"] = (frame["loss_change"] + sign * frame["loss_change_se"] for sign in (-1, 1))
    whole = frame.iloc[0]
    x = alt.X("bits_described:Q", scale=alt.Scale(type="log", nice=False, padding=14), title="bits of the weights",
              axis=alt.Axis(tickCount=6, format="~s"))  # fmt: skip
    shape = alt.Shape(
        "kind:N", scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())), title=None,
        legend=alt.Legend(orient="bottom", symbolStrokeColor=INK, symbolFillColor=PAPER),
    )  # fmt: skip
    base = alt.Chart(frame)
    label: dict[str, Any] = {"align": "left", "dx": 7, "dy": -6, "fontSize": 10, "color": MUTED}
    left = alt.layer(
        base.mark_rule(color=TWIN, strokeDash=[4, 3]).encode(y=alt.datum(int(whole["n_above_twins"]))),
        base.mark_point(filled=True, size=70, color=ACCENT, opacity=1).encode(
            x=x, y=alt.Y("n_above_twins:Q", title="pairs"), shape=shape
        ),
        base.mark_point(filled=True, fill=PAPER, stroke=ACCENT, strokeWidth=1.6, size=60, opacity=1).encode(
            x=x, y="n_computed:Q", shape=shape
        ),
        base.mark_text(**label).encode(x=x, y="n_above_twins:Q", text="step:N"),
    ).properties(width=330, height=240)
    if frame["loss_change"].isna().all():
        return left
    right = alt.layer(
        base.mark_rule(color=TWIN, strokeDash=[4, 3]).encode(y=alt.datum(0)),
        base.mark_rule(color=ACCENT, strokeWidth=1.5).encode(
            x=x, y=alt.Y("low:Q", title="loss, change in nats"), y2="high:Q"
        ),
        base.mark_point(filled=True, size=70, color=ACCENT, opacity=1).encode(
            x=x, y="loss_change:Q", shape=shape
        ),
    ).properties(width=330, height=240)
    return alt.hconcat(left, right, spacing=40)


def steps_table(curve: Shown) -> Table:
    """Every step as text."""
    return Table(
        "Every step; below the loss its change and standard error. “Still” counts those of the whole layer that are left.",
        (
            "Step", "Weights", "Bits each", "Bits in all", "Loss", "Above null layers", "Still above", "Computed",
            "Still computed", "Rank correlation of d′", "m′ ln m′", "Bits recovered",
        ),
        tuple(
            (
                str(row["step"]), words.count(row["n_weights"]), words.real(row["bits"], 1),
                words.count(round(row["bits_described"])),
                words.NONE if pd.isna(row["loss"]) else f"{words.real(row['loss'], 3)}\n"
                f"{words.real(row['loss_change'], 3)} ± {words.real(row['loss_change_se'], 3)}",
                words.count(row["n_above_twins"]), words.count(row["still_above"]), words.count(row["n_computed"]),
                words.count(row["still_computed"]), words.real(row["d_prime_correlation"]),
                words.count(round(row["params_needed"])),
                words.NONE if pd.isna(row["bits_recovered"]) else words.count(round(row["bits_recovered"])),
            )
            for row in curve.steps.to_dict("records")
        ),
    )  # fmt: skip


def render_compression(curve: Shown) -> str:
    """The page as one HTML text."""
    summary = curve.summary
    svg = to_svg(compression_chart(curve), "compression", TITLE, KEY, f"{KEY}. {answer(curve)[1]}")
    return (
        environment()
        .get_template("compression.html")
        .render(
            title=f"Compression of layer {summary['layer']} of {summary['model']}",
            subtitle=_subtitle(summary),
            answer=list(zip(("Asked", "Found", "The limit"), answer(curve), strict=True)),
            figure=Figure(TITLE, svg, CAPTION, steps_table(curve)),
            summary=summary,
        )
    )


def summary_html(curve: Shown) -> str:
    """What a notebook shows: the answer, the figure, the steps."""
    found = answer(curve)[1]
    svg = to_svg(compression_chart(curve), "compression", TITLE, KEY, f"{KEY}. {found}")
    return f"<p>{html.escape(found)}</p>{svg}{curve.steps.to_html(index=False, float_format=lambda value: f'{value:.3g}')}"


def _subtitle(summary: Mapping[str, Any]) -> str:
    return (
        f"text: {summary['corpus']}, {words.count(summary['n_tokens'])} tokens · "
        f"{words.plural(summary['n_twins'], 'null layer')} a step"
        + (
            f" · loss over {words.count(summary['loss_tokens'])} predictions"
            if summary["loss_tokens"]
            else ""
        )
    )
