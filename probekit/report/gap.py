"""The gap between representing and computing, drawn: features against the width of a layer, on log axes.

Form before colour: dashed lines are what can be represented, full lines what weights can select, dotted ones what a
linear template carries, grey lines with points what the papers' constructions compute; the run's counts are
in the accent. Curves that leave the picture are named at the edge where they leave.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from probekit.evidence.gap import Gap, Shape
from probekit.report import words
from probekit.report.canvas import ACCENT, GRID, INK, MUTED, TWIN, to_svg

TITLE = (
    "Representing, reading, computing: how many features",
    "dashed: represented, readable · full: selected · dotted: linear readouts · grey: built · blue: computed, tested (tick)",
)
"""Title and key to the signs of the figure."""

CAPTION = (
    "Codes of d dimensions hold exponentially many features, neurons compute at most of the order of n²/ln n that are "
    "freely chosen (constant 1 assumed): that is the gap. A linear readout carries the cross-talk of all other features "
    "along, a threshold takes it off, hence d^1.5 against n² (of that template, not a limit of every layer). A random "
    "layer lets a probe read more ANDs than any bound allows to be selected: reading is not computing. Blue: the pairs "
    "computed in each layer with the interval of the excess over its twins; no more than the tested pairs could have "
    "been found."
)
"""How to read the figure."""

_WIDTH, _HEIGHT = 430, 380
_FLOOR = 0.5
_STYLE: dict[str, tuple[str, list[float]]] = {
    "represented": (INK, [7, 4]),
    "readable": (MUTED, [7, 4]),
    "computable": (INK, []),
    "linear": (INK, [1.5, 3]),
    "constructed": (TWIN, []),
}
_POWERS = [f"10{''.join('⁰¹²³⁴⁵⁶⁷⁸⁹'[int(digit)] for digit in str(power))}" for power in range(40)]
"""Labels of the vertical axis."""
_LABEL_PX = 14.0
"""Least distance of two labels, in pixels."""


def chart(shapes: Sequence[Shape]) -> Any:
    """The curves of every size with what was observed in its layers; None where there is no size."""
    import altair as alt

    if not shapes:
        return None
    panels = [_panel(one) for one in shapes]
    return panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=30)


def svg(shapes: Sequence[Shape], *, name: str = "gap") -> str | None:
    """The figure as SVG text; None where there is no size."""
    drawn = chart(shapes)
    return None if drawn is None else to_svg(drawn, name, *TITLE, f"{TITLE[1]}. {described(shapes)}")


def notes(shapes: Sequence[Shape]) -> list[str]:
    """Where linear and threshold readouts differ at the layers' own size, in words and numbers."""
    return [notes_of(one.own) for one in shapes]


def notes_of(levels: Gap) -> str:
    """The same for one size."""
    found = levels.readouts
    return (
        f"At n²/ln n = {words.count(found.n_features)} features in {words.count(levels.d_model)} dimensions with "
        f"{words.count(levels.n_active)} on, every linear readout with slope 1 bears a root mean square error of "
        f"{words.real(found.linear_rms, 3)} at least, in every read and again in every layer; a threshold at ½ errs "
        f"with a chance of at most {words.probability(found.threshold_error)} a read, "
        f"{_expected(found.expected_wrong)} wrong answers an input. That is how d^1.5 (linear readouts carried from "
        "layer to layer) and n²/ln n (thresholds) go together (arXiv 2605.01192)."
    )


def features(log10: float) -> str:
    """A number of features as text, given its logarithm."""
    if log10 == -math.inf:
        return "0"
    return words.count(10.0**log10) if log10 < 9 else f"10^{words.real(log10, 1)}"


def described(shapes: Sequence[Shape]) -> str:
    """The figure in words, for readers who do not see it."""
    return " ".join(
        f"At {words.count(one.own.n_neurons)} neurons and {words.count(one.own.d_model)} dimensions: "
        + ", ".join(
            f"{level.label} {'vacuous' if level.vacuous else features(level.log10)}"
            for level in one.own.levels
        )
        + "".join(f"; layer {row['layer']} {words.count(row['n_computed'])} computed" for row in one.rows)
        + "."
        for one in shapes
    )


# -------------------------------------------------------------------------------- one panel


def _panel(one: Shape) -> Any:
    import altair as alt

    low, high = math.log2(one.curves[0].n_neurons), math.log2(one.curves[-1].n_neurons)
    top = _top(one)
    x = alt.X(
        "n:Q",
        scale=alt.Scale(type="log", base=2, domain=[2.0**low, 2.0**high], nice=False),
        axis=alt.Axis(
            title=f"neurons n (log scale; d = n · {words.count(one.own.d_model)}/{words.count(one.own.n_neurons)})",
            values=[2.0**power for power in range(math.ceil(low), math.floor(high) + 1)],
            format="d",
            grid=False,
        ),
    )
    scale = alt.Scale(type="log", domain=[_FLOOR, 10.0**top], nice=False)
    axis = alt.Axis(
        title="features (log scale)",
        values=[10.0**power for power in range(top + 1)],
        labelExpr=f"{_POWERS}[round(log(datum.value) / LN10)]",
        grid=True,
        gridColor=GRID,
    )
    y = lambda field: alt.Y(f"{field}:Q", scale=scale, axis=axis)
    lines = list[Any]()
    ends: list[tuple[str, float, float, str]] = []
    for key, points in _curves(one, top).items():
        level = one.own[key]
        color, dash = _STYLE[level.group]
        frame = pd.DataFrame([(2.0**n, 10.0**log) for n, log in points], columns=["n", "y"])
        lines.append(
            alt.Chart(frame).mark_line(color=color, strokeWidth=1.6, strokeDash=dash).encode(x=x, y=y("y"))
        )
        ends.append((level.label, *points[-1], color))
    own = alt.Chart(pd.DataFrame({"n": [float(one.own.n_neurons)]})).mark_rule(
        color=ACCENT, strokeWidth=1, strokeDash=[2, 2]
    )
    return alt.layer(
        *lines, own.encode(x=x), *_seen(one, x, y, top), *_labels(ends, top, x, high)
    ).properties(width=_WIDTH, height=_HEIGHT)


def _top(one: Shape) -> int:
    """Where the picture ends above: two decades over what weights can select at the widest."""
    wide = [
        level.log10
        for level in one.curves[-1].levels
        if level.group in ("computable", "constructed", "linear")
    ]
    return math.ceil(max(wide)) + 2


def _curves(one: Shape, top: int) -> dict[str, list[tuple[float, float]]]:
    """Level → its points (log2 n, log10 of the features) in the picture, without vacuous ones and those of nothing."""
    found: dict[str, list[tuple[float, float]]] = {}
    for size in one.curves:
        for level in size.levels:
            if level.group != "observed" and not level.vacuous and level.log10 > math.log10(_FLOOR):
                found.setdefault(level.key, []).append((math.log2(size.n_neurons), level.log10))
    return {key: _below(points, top) for key, points in found.items() if len(points) > 1}


def _below(points: Sequence[tuple[float, float]], top: int) -> list[tuple[float, float]]:
    """A curve up to where it leaves the picture above (cut here: clip paths of SVG are numbered through a process)."""
    kept = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        if y1 > top:
            kept.append((x0 + (top - y0) / (y1 - y0) * (x1 - x0), float(top)))
            break
        kept.append((x1, y1))
    return kept


def _labels(ends: Iterable[tuple[str, float, float, str]], top: int, x: Any, high: float) -> Iterable[Any]:
    """Names of the curves: beside the right edge, kept apart; those that leave above, over it in rows."""
    import altair as alt

    above = sorted((end for end in ends if end[2] >= top), key=lambda end: end[1])
    for row, (label, log_n, _, color) in enumerate(above):
        frame = pd.DataFrame({"n": [2.0**log_n], "label": [label]})
        height = -6 - _LABEL_PX * (len(above) - 1 - row)
        mark = alt.Chart(frame).mark_text(align="left", color=color, fontSize=11, baseline="bottom", dx=4)
        yield mark.encode(x=x, y=alt.value(height), text="label:N")
        stem = alt.Chart(frame).mark_rule(color=color, strokeWidth=0.7)
        yield stem.encode(x=x, y=alt.value(height), y2=alt.value(0))
    beside = sorted((end for end in ends if end[2] < top), key=lambda end: -end[2])
    span = top - math.log10(_FLOOR)
    wanted = [(top - end[2]) / span * _HEIGHT for end in beside]
    for (label, log_n, _, color), at in zip(beside, _apart(wanted), strict=True):
        inside = log_n < high - 0.01
        frame = pd.DataFrame({"n": [2.0**high], "label": [f"{label}{', vacuous beyond' if inside else ''}"]})
        mark = alt.Chart(frame).mark_text(align="left", color=color, fontSize=11, dx=6)
        yield mark.encode(x=x, y=alt.value(at), text="label:N")


def _apart(wanted: Sequence[float]) -> list[float]:
    """The nearest places at least a label's height apart, in the same order: pooled like blocks that push each other."""
    blocks: list[list[float]] = []  # sum of (wanted − own offset), count
    for place in wanted:
        blocks.append([place, 1.0])
        while len(blocks) > 1 and _start(blocks[-2]) + _LABEL_PX * blocks[-2][1] > _start(blocks[-1]):
            later, earlier = blocks.pop(), blocks.pop()
            total = earlier[0] + later[0] - later[1] * earlier[1] * _LABEL_PX
            blocks.append([total, earlier[1] + later[1]])
    return [_start(block) + _LABEL_PX * i for block in blocks for i in range(int(block[1]))]


def _start(block: Sequence[float]) -> float:
    return block[0] / block[1]


def _seen(one: Shape, x: Any, y: Callable[[str], Any], top: int) -> Iterable[Any]:
    """What the layers of this size showed: computed pairs with the interval of the excess, and the tested pairs."""
    import altair as alt

    if not one.rows:
        return
    step = 2.0 ** min(0.16, 2.0 / len(one.rows))
    records = [
        {
            # layers side by side about their common width
            "n": one.own.n_neurons * step ** (i - (len(one.rows) - 1) / 2),
            "y": _inside(row["n_computed"], top),
            "low": _inside(row["excess_low"], top),
            "high": _inside(row["excess_high"], top),
            "tested": _inside(row["n_tested"], top),
        }
        for i, row in enumerate(one.rows)
    ]
    frame = pd.DataFrame(records).astype(float)
    held = frame.dropna(subset=["low", "high"])
    base = alt.Chart(frame)
    yield base.mark_tick(color=ACCENT, thickness=1.5, size=9).encode(x=x, y=y("tested"))
    yield (
        alt.Chart(held)
        .mark_rule(color=ACCENT, strokeWidth=4, opacity=0.45)
        .encode(x=x, y=y("low"), y2="high:Q")
    )
    yield base.mark_point(filled=True, size=45, color=ACCENT, opacity=1).encode(x=x, y=y("y"))


def _inside(value: words.Number, top: int) -> float:
    return math.nan if value is None else min(max(float(value), _FLOOR), 10.0**top)


def _expected(count: float) -> str:
    return words.real(count, 1) if count >= 0.1 else words.probability(count)
