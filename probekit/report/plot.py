"""The figures of a report as Altair charts, to be looked at in a notebook, changed and saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import pandas as pd

from probekit.errors import InputError, near, shown
from probekit.evidence.gap import shapes_of
from probekit.evidence.summary import Summary
from probekit.report import charts, gap, recall
from probekit.report.canvas import _CONFIG, PAPER

Name = Literal["ladder", "effects", "groups", "capacity", "recall", "gap"]
NAMES: dict[str, str] = {
    "ladder": "ladder", "effects": "effect", "groups": "groups", "capacity": "capacity", "recall": "sensitivity",
    "gap": "gap",
}  # fmt: skip
"""What a figure is asked for by: what the report calls it."""
_WHY_NOT = {
    "groups": "no kind of pair was held against twins; a run with twins=4 or more has them",
    "effects": "no effect was kept",
    "gap": "the width of no layer's inputs is known; a run of a model, or one with inputs=, has it",
    "recall": "no known ANDs were added; a run with twins and spikes=(…) has them",
}


def run_chart(name: Any, summary: Summary, pairs: Mapping[int, pd.DataFrame]) -> Any:
    """One figure of a run.

    Args:
        name: ladder, effects, groups, capacity, recall or gap.
        summary: the run's summary.json.
        pairs: layer number → its tested pairs; only effects looks at them.

    Returns:
        The chart, `altair.TopLevelMixin`.

    Raises:
        InputError: there is no such figure, or the run has no numbers for it.
    """
    if not isinstance(name, str) or name not in NAMES:
        close = near(name, NAMES, 1) if isinstance(name, str) else []
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InputError(f"plot: got {shown(name)}, wanted one of {', '.join(NAMES)}.{hint}")
    chart = _drawn(name, summary, pairs)
    if chart is None:
        raise InputError(f"plot: {name!r} has nothing to show: {_WHY_NOT[name]}.")
    title, key = charts.TITLES[NAMES[name]]
    told = {"text": title, "subtitle": key, "anchor": "start", "offset": 18, "frame": "group"}
    # a page of its own colour, for notebooks on dark screens
    return chart.properties(title=told).configure(**{**_CONFIG, "background": PAPER})


def _drawn(name: str, summary: Summary, pairs: Mapping[int, pd.DataFrame]) -> Any:
    rows = summary["layers"]
    draw: dict[str, Callable[[], Any]] = {
        "ladder": lambda: charts._ladder(rows),
        "effects": lambda: charts._effect(rows, pairs),
        "groups": lambda: charts._groups(rows),
        "capacity": lambda: charts._capacity(rows),
        "recall": lambda: recall.chart(rows),
        "gap": lambda: gap.chart(shapes_of(summary)),
    }
    return draw[name]()
