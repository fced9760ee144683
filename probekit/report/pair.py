"""One pair as a picture and as a page: its readout in the four quadrants and its twins, a row of panels a layer.

Text of tokens may hold anything: the template escapes every string. Same input, same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from probekit.report import words
from probekit.report.canvas import ACCENT, INK, MUTED, TWIN, to_svg
from probekit.report.page import environment
from probekit.report.strongest import verdict
from probekit.report.tables import Table

QUADRANTS = {"11": "A and B", "10": "A without B", "01": "B without A", "00": "neither"}
N_NEURONS = 8
"""Neurons listed a layer."""
_KEY = (
    "left: share of tokens by readout (1 = A∧B, 0 = not; dashes) in each quadrant · right: d′ of the layer (blue) and of "
    "its random twins (grey)"
)


@runtime_checkable
class Look(Protocol):
    """What a page shows of one pair."""

    @property
    def a(self) -> str:
        """First concept."""
        ...

    @property
    def b(self) -> str:
        """Second concept."""
        ...

    @property
    def layers(self) -> pd.DataFrame:
        """One row a layer."""
        ...

    @property
    def quadrants(self) -> pd.DataFrame:
        """One row a layer and quadrant."""
        ...

    @property
    def neurons(self) -> pd.DataFrame:
        """One row a layer and neuron."""
        ...

    @property
    def contexts(self) -> pd.DataFrame:
        """One row a token."""
        ...

    @property
    def twins(self) -> pd.DataFrame:
        """One row a layer and twin."""
        ...


def pair_figure(a: str, b: str, layers: pd.DataFrame, quadrants: pd.DataFrame, twins: pd.DataFrame) -> str:
    """The picture as SVG text.

    Args:
        a: first concept.
        b: second concept.
        layers: one row a layer.
        quadrants: one row a layer and quadrant, with its histogram.
        twins: one row a layer and twin.
    """
    import altair as alt

    low, high = _range(quadrants)
    rows = [
        alt.hconcat(
            _distributions(
                quadrants[quadrants["layer"] == layer["layer"]], f"Layer {layer['layer']}", low, high
            ),
            _twins(layer, twins),
            spacing=30,
        )
        for layer in layers.to_dict("records")
    ]
    chart = alt.vconcat(*rows, spacing=22)
    said = "; ".join(
        f"layer {row['layer']}: d′ {words.real(row['d_prime'])}, twins {words.real(row['twin_mean'])}, "
        + ", ".join(f"mean in {q} {words.real(row[f'mean{q}'])}" for q in QUADRANTS)
        for row in layers.to_dict("records")
    )
    return to_svg(chart, "pair", f"{a}  ∧  {b}", _KEY, f"Readout of {a} and {b} by quadrant. {said}.")


def _range(quadrants: pd.DataFrame) -> tuple[float, float]:
    """Where nearly all tokens of every quadrant lie, 0 and 1 included."""
    drawn = quadrants[quadrants["n_sampled"] > 0]
    low, high = float(drawn["q5"].min()), float(drawn["q95"].max())
    reach = 0.35 * max(high - low, 1e-6)
    return min(low - reach, -0.25), max(high + reach, 1.25)


def _distributions(rows: pd.DataFrame, title: str, low: float, high: float) -> Any:
    """One ridge a quadrant, drawn from its histogram; the tallest bin of each reaches the same height."""
    import altair as alt

    records: list[dict[str, Any]] = []
    labels: dict[int, str] = {}
    for base_line, row in zip((3, 2, 1, 0), rows.to_dict("records"), strict=True):
        labels[base_line] = f"{QUADRANTS[row['quadrant']]}  ({words.count(row['n_tokens'])})"
        edges = np.linspace(row["low"], row["high"], len(row["counts"]) + 1)
        height = 0.85 * np.asarray(row["counts"], float) / max(*row["counts"], 1)
        # a step at each edge, closed at both ends, within the drawn range
        points = [(edges[0], 0.0), *zip(edges[:-1], height, strict=True), (edges[-1], 0.0)]
        records += [
            {
                "value": float(np.clip(x, low, high)),
                "top": base_line + float(y),
                "base": base_line,
                "own": row["quadrant"],
            }
            for x, y in points
        ]
    spelt = (
        " : ".join(f"datum.value == {line} ? {json.dumps(label)}" for line, label in labels.items()) + " : ''"
    )
    x = alt.X(
        "value:Q",
        title=None,
        scale=alt.Scale(domain=[low, high], nice=False),
        axis=alt.Axis(tickCount=6, format="~g"),
    )
    y = alt.Y(
        "top:Q",
        title=None,
        scale=alt.Scale(domain=[0, 4], nice=False),
        axis=alt.Axis(values=list(labels), labelExpr=spelt, labelBaseline="bottom"),
    )
    color = alt.Color(
        "own:N", scale=alt.Scale(domain=list(QUADRANTS), range=[ACCENT, TWIN, TWIN, TWIN]), legend=None
    )
    base = alt.Chart(pd.DataFrame(records))
    return alt.layer(
        base.mark_area(interpolate="step-after", opacity=0.6).encode(x=x, y=y, y2="base:Q", color=color),
        base.mark_rule(color=MUTED, strokeDash=[2, 3]).encode(x=alt.datum(0)),
        base.mark_rule(color=MUTED, strokeDash=[2, 3]).encode(x=alt.datum(1)),
    ).properties(width=360, height=150, title=alt.TitleParams(title, anchor="start", fontSize=13, color=INK))


def _twins(layer: Mapping[Any, Any], twins: pd.DataFrame) -> Any:
    import altair as alt

    theirs = twins[twins["layer"] == layer["layer"]] if len(twins) else twins
    records = [{"d": float(d), "own": "twin"} for d in (theirs["d_prime"] if len(theirs) else [])]
    frame = pd.DataFrame([*records, {"d": float(layer["d_prime"]), "own": "layer"}])
    color = alt.Color("own:N", scale=alt.Scale(domain=["layer", "twin"], range=[ACCENT, TWIN]), legend=None)
    x = alt.X(
        "d:Q", title="d′", axis=alt.Axis(tickCount=5, format="~g"), scale=alt.Scale(zero=True, nice=True)
    )
    title = alt.TitleParams(_verdict_line(layer), anchor="start", fontSize=11, color=MUTED)
    points = alt.Chart(frame).mark_point(filled=True, size=80, opacity=0.75).encode(x=x, color=color)
    return points.properties(width=200, height=60, title=title)


def _verdict_line(layer: Mapping[Any, Any]) -> str:
    return "verdict: " + verdict(layer).replace("\n", ", ")


def layer_table(layers: pd.DataFrame) -> Table:
    """All layers: the readout beside its rivals and what was decided."""
    return Table(
        "The pair in every measured layer.",
        (
            "Layer",
            "Verdict",
            "κ",
            "d′",
            "Twins’ d′",
            "Input d′",
            "Pre-act. d′",
            "ε95",
            "d′ without relay\n(twins’)",
            "p twin",
            "p relay",
            "p pair",
            "q",
        ),
        tuple(
            (
                str(row["layer"]),
                verdict(row),
                f"{words.real(row['kappa'])}\n± {words.real(row['kappa_se'])}",
                words.real(row["d_prime"]),
                f"{words.real(row['twin_mean'])}\n{words.real(row['twin_low'])} – {words.real(row['twin_high'])}",
                words.real(row["d_prime_input"]),
                words.real(row["d_prime_pre"]),
                words.real(row["eps95"]),
                f"{words.real(row['d_prime_relay'])}\n({words.real(row['d_prime_relay_twins'])})",
                *(words.probability(row[p]) for p in ("p_twin", "p_relay", "p_pair", "q")),
            )
            for row in layers.to_dict("records")
        ),
        n_text=2,
    )


def quadrant_table(quadrants: pd.DataFrame) -> Table:
    """Each quadrant's readout in numbers."""
    levels = [name for name in quadrants.columns if name.startswith("q") and name[1:].isdigit()]
    return Table(
        "The readout in each quadrant on documents it was not fitted on (quantiles of the sampled tokens).",
        ("Layer", "Quadrant", "Tokens", "Sampled", "Mean", *(f"{name[1:]} %" for name in levels)),
        tuple(
            (
                str(row["layer"]),
                QUADRANTS[row["quadrant"]],
                words.count(row["n_tokens"]),
                words.count(row["n_sampled"]),
                words.real(row["mean"]),
                *(words.real(row[name]) for name in levels),
            )
            for row in quadrants.to_dict("records")
        ),
        n_text=2,
    )


def neuron_table(neurons: pd.DataFrame) -> Table:
    """The readout's neurons, the largest contributions of each layer."""
    rows: list[tuple[str, ...]] = []
    for layer, part in neurons.groupby("layer", sort=True):
        total = float(part["contribution"].abs().sum()) or 1.0
        rows += [
            (
                str(layer),
                str(row["neuron"]),
                words.real(row["weight"]),
                words.percent(row["contribution"] / total, 0),
            )
            for row in part.head(N_NEURONS).to_dict("records")
        ]
    return Table(
        f"Neurons of the readout, at most {N_NEURONS} a layer, by their share of the contrast.",
        ("Layer", "Neuron", "Weight", "Share"),
        tuple(rows),
        n_text=2,
    )


def context_table(contexts: pd.DataFrame) -> Table:
    """The highest-reading tokens of each quadrant, in context."""
    return Table(
        "Tokens on which the readout is highest, in brackets, in each quadrant.",
        ("Layer", "Quadrant", "In context", "Readout"),
        tuple(
            (
                str(row["layer"]),
                QUADRANTS[row["quadrant"]],
                words.visible(f"{row['before']}⟦{row['token']}⟧{row['after']}"),
                words.real(row["value"]),
            )
            for row in contexts.to_dict("records")
        ),
        n_text=3,
    )


def tables_of(look: Look) -> list[Table]:
    """Every table of a pair, in the order in which they are read."""
    made = [layer_table(look.layers), quadrant_table(look.quadrants), neuron_table(look.neurons)]
    return [*made, context_table(look.contexts)] if len(look.contexts) else made


def pair_page(look: Look) -> str:
    """Picture and tables as one HTML text.

    Args:
        look: the pair.
    """
    figure = pair_figure(look.a, look.b, look.layers, look.quadrants, look.twins)
    return environment().get_template("pair.html").render(
        title=f"{look.a} ∧ {look.b}", subtitle="", answer=(), a=look.a, b=look.b, figure=figure, key=_KEY,
        tables=tables_of(look),
    )  # fmt: skip
