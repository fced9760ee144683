"""What the run could have found: curve, bound and assumptions are told as they stand in the summary, or left out."""

from __future__ import annotations

from typing import Any

import pytest

from probekit.evidence.audit import by_assumption
from probekit.report import recall
from probekit.report.canvas import to_svg
from probekit.report.sensitivity import assumptions_table, nonnull_notes, table


def step(amplitude: float, above: float, computed: float) -> dict[str, Any]:
    def held(value: float) -> dict[str, Any]:
        return {"recall": value, "low": max(0, value - 0.1), "high": min(1, value + 0.1), "by_support": []}

    return {"amplitude": amplitude, "above_twins": held(above), "computed": held(computed)}


def row(layer: int, *, half: float | None = 0.75, nonnull: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "layer": layer,
        "sensitivity": {
            "n_spiked": 40, "channel": 5, "curve": [step(0.0, 0.1, 0.0), step(0.5, 0.6, 0.25), step(1.0, 1.0, 0.75)],
            "above_twins_at": {"0.5": 0.4, "0.9": 0.88}, "computed_at": {"0.5": half, "0.9": None},
        },
        "nonnull": nonnull,
        "capacity": {"by_assumption": by_assumption(n_params=1_168, n_tested=2_556, n_found=300)},
    }  # fmt: skip


def test_every_step_of_the_curve_is_drawn_and_tabled() -> None:
    rows = [row(0), row(3)]
    records = recall.curve_records(rows)
    assert len(records) == 2 * 3 * 2
    assert {r["layer"] for r in records} == {"Layer 0", "Layer 3"}
    cells = table(rows).rows
    assert len(cells) == 6
    assert cells[1] == (
        "0",
        "0.5",
        "40",
        "60\u202f% (50\u202f%–70\u202f%)",
        "25\u202f% (15\u202f%–35\u202f%)",
    )
    svg = to_svg(recall.chart(rows), "sensitivity", *recall.TITLE, "in words")
    assert "Layer 3" in svg
    assert ">0.5<" in svg  # the ticks are the amplitudes


def test_the_curve_in_words() -> None:
    assert recall.described(row(0)) == "half are called computed at amplitude 0.75"
    assert recall.described(row(0, half=None)) == "half are never reached"
    assert recall.described({"sensitivity": None}) == "not measured"


def test_without_spikes_there_is_no_figure() -> None:
    nothing = [{"layer": 0, "sensitivity": None, "capacity": {}}]
    assert recall.chart(nothing) is None
    assert table(nothing).rows == ()
    assert assumptions_table(nothing) is None
    assert nonnull_notes(nothing) == []


def test_the_bound_is_told_or_why_it_is_not() -> None:
    silent = {"n_low": None, "control": None, "beta": None, "why_not": "8 twins; 19 are needed"}
    found = {"n_low": 12, "control": 0, "beta": 0.2, "why_not": ""}
    notes = nonnull_notes([row(0, nonnull=silent), row(1, nonnull=found), row(2, nonnull=silent)])
    assert notes[0].startswith("Layer 1: at least 12 pairs are beyond the twins")
    assert notes[1].endswith("is claimed in layers 0 and 2: 8 twins; 19 are needed.")
    assert len(notes) == 2


@pytest.mark.parametrize(("column", "told"), [("b = 1, δ = 0", "exceeded"), ("b = 16, δ = 0", "vacuous")])
def test_assumptions_are_told_by_their_verdict(column: str, told: str) -> None:
    shown = assumptions_table([row(0)])
    assert shown is not None
    assert shown.rows[0][list(shown.columns).index(column)].endswith(told)
