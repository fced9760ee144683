"""A run's layers on the way from what can be represented to what was found: `theory.gap` at their sizes.

The levels are drawn against the width of the layer, at the layer's own ratio of neurons to dimensions, so that
their slopes can be seen. Axes: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from probekit.evidence.summary import LayerRow, Summary
from probekit.theory.gap import Gap, gap

__all__ = ["Gap", "Shape", "shape", "shapes_of"]

OCTAVES = 4
"""How far the curves go to either side of the layer's own width."""
STEPS = 2
"""Points an octave."""


@dataclass(frozen=True)
class Shape:
    """The layers of one size, with the levels at that size and at others of the same ratio."""

    own: Gap
    """The levels at the layers' own size."""
    curves: tuple[Gap, ...]
    """The levels from narrow to wide, at the same ratio of neurons to dimensions."""
    rows: tuple[LayerRow, ...]
    """The rows of these layers in the summary."""


def shapes_of(summary: Summary) -> list[Shape]:
    """The sizes that a run's layers have, in the order of the layers.

    Args:
        summary: summary.json of the run. Layers whose inputs were not given have no width and are left out.
    """
    gated = bool(summary["model"].get("gated"))
    sizes: dict[tuple[int, int], list[LayerRow]] = {}
    for row in summary["layers"]:
        width = _width(summary, row)
        # below 8 neurons n²/ln n and the rest say nothing
        if width and row["n_neurons"] >= 8:
            sizes.setdefault((int(row["n_neurons"]), width), []).append(row)
    return [shape(n, width, gated=gated, rows=rows) for (n, width), rows in sizes.items()]


def shape(
    n_neurons: int,
    d_model: int,
    *,
    gated: bool = False,
    rows: Sequence[LayerRow] = (),
    **options: Any,
) -> Shape:
    """The levels of one size and of others of its ratio.

    Args:
        n_neurons: n.
        d_model: d.
        gated: whether the layer is gated.
        rows: rows of a summary, with observed counts.
        options: what else `theory.gap.gap` takes.
    """
    scales = [2.0 ** (step / STEPS) for step in range(-OCTAVES * STEPS, OCTAVES * STEPS + 1)]
    sizes = [(round(n_neurons * scale), max(1, round(d_model * scale))) for scale in scales]
    curves = tuple(gap(n, width, gated=gated, **options) for n, width in sizes if n >= 8)
    return Shape(gap(n_neurons, d_model, gated=gated, **options), curves, tuple(rows))


def _width(summary: Summary, row: LayerRow) -> int:
    """Dimensions of the layer's input: as the summary says, else from the weights that act at the neurons."""
    told = summary["model"].get("d_model")
    if told:
        return int(told)
    params = (row.get("capacity") or {}).get("n_params") or 0
    halves = 2 if summary["model"].get("gated") else 1
    return max(0, round(params / row["n_neurons"] / halves) - 1)
