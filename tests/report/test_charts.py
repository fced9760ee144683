"""Figures are accessible, self-contained SVG and show the numbers of the summary."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest
from synthetic import HOSTILE, run

from probekit.errors import ShapeError
from probekit.report.canvas import ACCENT, GRID, INK, MUTED, PAPER, TINT, TWIN
from probekit.report.charts import TITLES, figures
from probekit.report.tables import effect_quantiles

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return figures(*run(capacity="cannot_bind"))


def test_every_figure_is_drawn_with_title_and_description(drawn: dict[str, str]) -> None:
    assert set(drawn) == set(TITLES)
    for name, svg in drawn.items():
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert root.findtext(f"{SVG}title") == TITLES[name][0]
        assert len(root.findtext(f"{SVG}desc") or "") > 40
        assert root.get("aria-labelledby") == f"{name}-title {name}-desc"
        assert TITLES[name][0] in texts(svg)


def test_the_marks_are_silent_and_only_palette_colours_occur(drawn: dict[str, str]) -> None:
    allowed = {ACCENT, GRID, INK, MUTED, PAPER, TINT, TWIN, "none", "transparent"}
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        for element in [child for child in root.iter() if child is not root]:
            assert element.get("role") is None
            assert element.get("aria-label") is None
            assert {element.get("fill", "none"), element.get("stroke", "none")} <= allowed


def test_the_ladder_prints_its_counts_in_layer_order() -> None:
    summary, layers, pairs = run(("none",) * 11 + ("finds",))
    shown = texts(figures(summary, layers, pairs)["ladder"])
    assert [text for text in shown if text.startswith("Layer")] == [f"Layer {number}" for number in range(12)]
    assert "28" in shown
    assert shown.count("1\u202f140") >= 12


def test_a_bound_that_is_vacuous_is_not_drawn(drawn: dict[str, str]) -> None:
    assert "exact bound at 2 bits" in texts(drawn["capacity"])
    assert "exact bound at 2 bits" not in texts(figures(*run(capacity="vacuous"))["capacity"])


def test_figures_without_numbers_are_left_out() -> None:
    summary, layers, pairs = run(("none",))
    summary["layers"][0] |= {
        "groups": None,
        "tails": None,
        "effect": None,
        "effect_levels": None,
        "sensitivity": None,
    }
    bare = {0: pairs[0].drop(columns=["d_prime", "d_prime_input"])}
    assert set(figures(summary, layers, bare)) == {"overview", "ladder", "capacity", "gap"}


def test_effect_quantiles_fall_back_on_the_pairs() -> None:
    summary, _, _ = run(("none",))
    table = pd.DataFrame({"d_prime": [0.0, 1.0, 2.0], "d_prime_input": [0.5, 0.5, 0.5]})
    row = summary["layers"][0] | {"effect": None}
    records = {record["site"]: record for record in effect_quantiles(row, table)}
    assert set(records) == {"Neurons", "MLP input"}
    assert records["Neurons"]["q50"] == 1.0
    assert records["Neurons"]["q25"] == 0.5
    assert records["MLP input"]["q95"] == 0.5


def test_hostile_kinds_are_text_in_the_svg() -> None:
    summary, layers, pairs = run(("none",))
    summary["layers"][0]["groups"][0]["kind"] = HOSTILE
    svg = figures(summary, layers, pairs)["groups"]
    assert HOSTILE in texts(svg)
    assert "<script" not in svg


def test_same_input_same_figures(drawn: dict[str, str]) -> None:
    assert figures(*run(capacity="cannot_bind")) == drawn


def test_no_layer_is_refused() -> None:
    summary, layers, pairs = run(("none",))
    with pytest.raises(ShapeError, match="at least one"):
        figures({**summary, "layers": []}, layers.iloc[:0], pairs)
