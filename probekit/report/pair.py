"""One pair as a picture and as a page: its readout in the four quadrants and its twins, a row of panels a layer.

Text of tokens may hold anything: the template escapes every string. Same input, same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from probekit.evidence.tables import ranked
from probekit.report import words
from probekit.report.canvas import ACCENT, INK, MUTED, TWIN, to_svg
from probekit.report.environment import environment
from probekit.report.in_words import context, describe, neurons_of, sentence
from probekit.report.strongest import verdict
from probekit.report.tables import Table

QUADRANTS = {"11": "A and B", "10": "A without B", "01": "B without A", "00": "neither"}
N_NEURONS = 8
"""Neurons listed a layer."""
WIDTH = 300
"""Width of a panel, in pixels: one fits on a telephone."""
_RIDGE = 0.64
"""Height of the tallest bin, where a quadrant has 1: its name stands above."""
KEY = "above: how the readout lies in each quadrant · below: d′ of the layer (blue) and of its null layers (grey)"
"""Key to the signs."""


@runtime_checkable
class PairDetailLike(Protocol):
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
    def meanings(self) -> Mapping[str, str]:
        """When each of the two concepts holds, by name, where that is known."""
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


def pair_figure(
    a: str,
    b: str,
    layers: pd.DataFrame,
    quadrants: pd.DataFrame,
    twins: pd.DataFrame,
    *,
    name: str = "pair",
    titled: bool = True,
) -> str:
    """The picture as SVG text: for each layer the readout in the four quadrants, and below it d′ beside its null layers.

    Args:
        a: first concept.
        b: second concept.
        layers: one row a layer.
        quadrants: one row a layer and quadrant, with its histogram.
        twins: one row a layer and twin.
        name: what the ids of the picture begin with.
        titled: whether the picture says whose it is.
    """
    import altair as alt

    panels = _panels(layers, quadrants, twins, titled=titled or len(layers) > 1)
    chart = (
        panels[0] if len(panels) == 1 else alt.concat(*panels, columns=2, spacing={"row": 34, "column": 40})
    )
    title = f"{a}  ∧  {b}" if titled else f"{a} and {b}"
    said = _described(a, b, layers.to_dict("records"))
    return to_svg(chart, name, title, KEY if titled else "", said, titled=titled)


def _panel_svgs(detail: PairDetailLike) -> list[str]:
    """A picture a layer, on common scales, so that a narrow page can put them below each other."""
    panels = _panels(detail.layers, detail.quadrants, detail.twins, titled=len(detail.layers) > 1)
    return [
        to_svg(
            panel, f"pair-{row['layer']}", f"{detail.a} and {detail.b}, layer {row['layer']}", "",
            _described(detail.a, detail.b, [row]), titled=False,
        )
        for panel, row in zip(panels, detail.layers.to_dict("records"), strict=True)
    ]  # fmt: skip


def _panels(layers: pd.DataFrame, quadrants: pd.DataFrame, twins: pd.DataFrame, *, titled: bool) -> list[Any]:
    """For each layer the readout in the four quadrants, and below it d′ beside its null layers."""
    import altair as alt

    low, high = _range(quadrants)
    reach = _reach(layers, twins)
    return [
        alt.vconcat(
            _distributions(
                quadrants[quadrants["layer"] == layer["layer"]],
                f"Layer {layer['layer']}: {verdict(layer)}" if titled else "",
                low,
                high,
            ),
            _twins(layer, twins, reach),
            spacing=14,
        )
        for layer in layers.to_dict("records")
    ]


def _described(a: str, b: str, rows: Sequence[Mapping[Any, Any]]) -> str:
    said = "; ".join(
        f"layer {row['layer']}: d′ {words.real(row['d_prime'])}, null layers {words.real(row['twin_mean'])}, "
        + ", ".join(f"mean in {q} {words.real(row[f'mean{q}'])}" for q in QUADRANTS)
        for row in rows
    )
    return f"Readout of {a} and {b} by quadrant. {said}."


def _reach(layers: pd.DataFrame, twins: pd.DataFrame) -> tuple[float, float]:
    """The common scale of d′, zero included."""
    held = [*layers["d_prime"].astype(float), *(twins["d_prime"].astype(float) if len(twins) else [])]
    return min(0.0, *held), max(0.0, *held)


def _range(quadrants: pd.DataFrame) -> tuple[float, float]:
    """Where nearly all tokens of every quadrant lie, 0 and 1 included."""
    drawn = quadrants[quadrants["n_sampled"] > 0]
    low, high = float(drawn["q5"].min()), float(drawn["q95"].max())
    reach = 0.35 * max(high - low, 1e-6)
    return min(low - reach, -0.25), max(high + reach, 1.25)


def _distributions(rows: pd.DataFrame, title: str, low: float, high: float) -> Any:
    """One ridge a quadrant, drawn from its histogram and named on it; the tallest bin of each reaches the same height."""
    import altair as alt

    records: list[dict[str, Any]] = []
    for base_line, row in zip((3, 2, 1, 0), rows.to_dict("records"), strict=True):
        edges = np.linspace(row["low"], row["high"], len(row["counts"]) + 1)
        height = _RIDGE * np.asarray(row["counts"], float) / max(*row["counts"], 1)
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
    x = alt.X(
        "value:Q",
        title="readout (0: not A∧B, 1: A∧B)",
        scale=alt.Scale(domain=[low, high], nice=False),
        axis=alt.Axis(tickCount=6, format="~g"),
    )
    y = alt.Y(
        "top:Q",
        title="share of tokens",
        scale=alt.Scale(domain=[0, 4.1], nice=False),
        axis=alt.Axis(values=[]),
    )
    color = alt.Color(
        "own:N", scale=alt.Scale(domain=list(QUADRANTS), range=[ACCENT, TWIN, TWIN, TWIN]), legend=None
    )
    base = alt.Chart(pd.DataFrame(records))
    return (
        alt.layer(
            base.mark_area(interpolate="step-after", opacity=0.6).encode(x=x, y=y, y2="base:Q", color=color),
            *_lines_and_names(rows),
        )
        .resolve_scale(color="independent")
        .properties(
            width=WIDTH,
            height=192,
            title=alt.TitleParams(title, anchor="start", fontSize=13, color=INK, dx=-14),
        )
    )


def _lines_and_names(rows: pd.DataFrame) -> tuple[Any, Any]:
    """0 and 1 as a line through each ridge, and the names of the quadrants above them."""
    import altair as alt

    lines = [{"at": at, "low": row, "high": row + _RIDGE} for row in range(4) for at in (0, 1)]
    names = [
        {
            "label": f"{QUADRANTS[row['quadrant']]}: {words.plural(row['n_tokens'], 'token')}",
            "at": base_line + 0.81,
            "own": row["quadrant"],
        }
        for base_line, row in zip((3, 2, 1, 0), rows.to_dict("records"), strict=True)
    ]
    ink = alt.Color(
        "own:N", scale=alt.Scale(domain=list(QUADRANTS), range=[ACCENT, MUTED, MUTED, MUTED]), legend=None
    )
    return (
        alt.Chart(pd.DataFrame(lines))
        .mark_rule(color=MUTED, strokeDash=[2, 3])
        .encode(x="at:Q", y="low:Q", y2="high:Q"),
        alt.Chart(pd.DataFrame(names))
        .mark_text(align="right", fontSize=11, baseline="middle")
        .encode(x=alt.value(WIDTH), y=alt.Y("at:Q"), text="label:N", color=ink),
    )


def _twins(layer: Mapping[Any, Any], twins: pd.DataFrame, reach: tuple[float, float]) -> Any:
    """d′ of the layer beside that of every null layer, on one line each."""
    import altair as alt

    theirs = twins[twins["layer"] == layer["layer"]] if len(twins) else twins
    records = [{"d": float(d), "own": "null layers"} for d in (theirs["d_prime"] if len(theirs) else [])]
    frame = pd.DataFrame([{"d": float(layer["d_prime"]), "own": "this layer"}, *records])
    own = ["this layer", "null layers"] if records else ["this layer"]
    color = alt.Color("own:N", scale=alt.Scale(domain=own, range=[ACCENT, TWIN][: len(own)]), legend=None)
    x = alt.X(
        "d:Q", title="d′ (contrast in units of its noise)", axis=alt.Axis(tickCount=5, format="~g"),
        scale=alt.Scale(domain=list(reach), nice=True),
    )  # fmt: skip
    # the lines are named inside the panel, on the side where no point lies
    names = pd.DataFrame({"own": own})
    left = float(layer["d_prime"]) > 0.4 * reach[1]
    at, align = (alt.value(2), "left") if left else (alt.value(WIDTH), "right")
    y = alt.Y("own:N", sort=own, title=None, axis=None)
    points = alt.Chart(frame).mark_point(filled=True, size=70, opacity=0.75).encode(x=x, y=y, color=color)
    said = (
        alt.Chart(names)
        .mark_text(align=align, color=MUTED, fontSize=11, dy=-10)
        .encode(x=at, y=y, text="own:N")
    )
    return alt.layer(points, said).properties(width=WIDTH, height=34 * len(own))


def layer_table(layers: pd.DataFrame) -> Table:
    """All layers: the readout beside its rivals and what was decided."""
    return Table(
        "The pair in every measured layer.",
        (
            "Layer",
            "Verdict",
            "κ",
            "d′",
            "Null layers’ d′",
            "Input d′",
            "Pre-act. d′",
            "ε95",
            "d′ without relay",
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


def pair_page(detail: PairDetailLike) -> str:
    """What is to be made of the pair, the picture and the tables as one HTML text.

    Args:
        detail: the pair.
    """
    layers = detail.layers.to_dict("records")
    sentences = _sentences(detail.layers)
    one = len(layers) == 1
    page = {
        "title": f"{detail.a} ∧ {detail.b}",
        "subtitle": "",
        "answer": (),
        "a": describe(detail.a, detail.meanings),
        "b": describe(detail.b, detail.meanings),
        "sentences": sentences,
        "figures": _panel_svgs(detail),
        "key": KEY,
        "table": _without_layer(layer_table(detail.layers)) if one else layer_table(detail.layers),
        "quadrant_table": _without_layer(quadrant_table(detail.quadrants))
        if one
        else quadrant_table(detail.quadrants),
        "spoken": [
            {
                "layer": row["layer"],
                "neurons": neurons_of(*_parts(detail.neurons, int(row["layer"])))[:N_NEURONS],
                "quadrants": _quadrants(detail.contexts, int(row["layer"])),
            }
            for row in layers
        ],
    }
    return environment().get_template("pair.html").render(page)


def _sentences(layers: pd.DataFrame) -> list[str]:
    """The layer in which the pair stands out most in a sentence, the others by what they show."""
    order = ranked(layers).to_dict("records")
    best, others = order[0], sorted(order[1:], key=lambda row: row["layer"])
    low, high = (best["twin_low"], best["twin_high"]) if best["n_twins"] else (None, None)
    sentences = [sentence(best, n_twins=int(best["n_twins"]), low=low, high=high)]
    if others:
        by_verdict: dict[str, list[str]] = {}
        for row in others:
            by_verdict.setdefault(verdict(row), []).append(str(row["layer"]))
        parts = [
            f"{name} in {'layer' if len(held) == 1 else 'layers'} {words.listed(held)}"
            for name, held in by_verdict.items()
        ]
        sentences.append(f"Elsewhere: {'; '.join(parts)}.")
    return sentences


def _without_layer(table: Table) -> Table:
    """A table of one layer without the column that says so in every row."""
    return Table(table.caption, table.columns[1:], tuple(row[1:] for row in table.rows), table.n_text - 1)


def _parts(neurons: pd.DataFrame, layer: int) -> tuple[list[Any], list[Any], list[Any]]:
    part = neurons[neurons["layer"] == layer]
    return part["neuron"].tolist(), part["weight"].tolist(), part["contribution"].tolist()


def _quadrants(contexts: pd.DataFrame, layer: int) -> list[dict[str, Any]]:
    here = contexts[contexts["layer"] == layer] if len(contexts) else contexts
    return [
        {
            "name": name,
            "key": key,
            "contexts": [context(item) for item in here[here["quadrant"] == key].to_dict("records")]
            if len(here)
            else [],
        }
        for key, name in QUADRANTS.items()
    ]
