"""The numbers behind the figure of the gap, as text."""

from __future__ import annotations

from collections.abc import Sequence

from probekit.evidence.gap import Shape
from probekit.report import words
from probekit.report.gap import features
from probekit.report.tables import Table


def table(shapes: Sequence[Shape]) -> Table:
    """Every level at the layers' own size."""
    return Table(
        "Features by level at the layers’ own size; a power of ten where the count is beyond print.",
        ("Level", "Neurons n", "Width d", "Kind of number", "Rests on", "Source", "Features"),
        tuple(
            (
                level.label,
                words.count(one.own.n_neurons),
                words.count(one.own.d_model),
                level.kind,
                level.assumptions,
                level.source,
                "vacuous" if level.vacuous else features(level.log10),
            )
            for one in shapes
            for level in one.own.levels
        ),
        n_text=6,
    )
