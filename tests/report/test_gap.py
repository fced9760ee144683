"""The figure of the gap shows the levels, keeps its labels apart and says in words what it draws."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st
from synthetic import run

from probekit.evidence.gap import shape, shapes_of
from probekit.report import gap, gap_table
from probekit.report.page import render_page

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_level_is_named_in_the_figure_once() -> None:
    shapes = [shape(512, 128)]
    drawn = gap.svg(shapes)
    assert drawn is not None
    shown = texts(drawn)
    for level in shapes[0].own.levels:
        assert len([text for text in shown if text.startswith(level.label)]) == 1, level.label
    assert "10⁵" in shown


def test_layers_of_one_size_share_a_panel_and_others_have_their_own() -> None:
    summary, _, _ = run()
    assert [len(one.rows) for one in shapes_of(summary)] == [3]
    summary["layers"][1]["n_neurons"] = 256
    shapes = shapes_of(summary)
    assert [(one.own.n_neurons, len(one.rows)) for one in shapes] == [(512, 2), (256, 1)]
    drawn = gap.svg(shapes)
    assert drawn is not None
    assert len([text for text in texts(drawn) if text.startswith("neurons n")]) == 2


def test_the_width_comes_from_the_weights_where_the_summary_has_none() -> None:
    summary, _, _ = run(("none",))
    summary["model"]["d_model"] = None
    assert shapes_of(summary)[0].own.d_model == 128  # n·129 weights at the neurons
    summary["layers"][0]["capacity"]["n_params"] = None
    assert shapes_of(summary) == []
    assert gap.svg([]) is None


def test_the_report_has_the_panel_with_its_numbers_and_the_difference_of_readouts() -> None:
    summary, layers, pairs = run()
    page = render_page(summary, layers, pairs)
    assert 'id="gap-title"' in page
    assert "built: 2-AND, low influence" in page
    assert "every linear readout with slope 1 bears a root mean square error of" in page
    table = gap_table.table(shapes_of(summary))
    assert [row[0] for row in table.rows][:2] == [
        "represented, a typical input",
        "represented, overlaps below 0.25",
    ]


def test_vacuous_levels_are_told_and_not_drawn() -> None:
    shapes = [shape(3072, 768, n_concepts=100)]
    drawn = gap.svg(shapes)
    assert drawn is not None
    assert not [text for text in texts(drawn) if text.startswith("exact count, 16 bits")]
    assert "exact count, 2 bits a weight vacuous" in gap.described(shapes)
    assert [row[-1] for row in gap_table.table(shapes).rows if row[0].startswith("exact count")] == [
        "vacuous"
    ] * 2


@given(st.lists(st.floats(0, 400), max_size=14))
def test_labels_keep_their_distance_and_their_order(places: list[float]) -> None:
    wanted = sorted(places)
    found = gap._apart(wanted)
    assert len(found) == len(wanted)
    # distances of sums of up to 14 floats below 1e3: rounding of 1e-9 at most
    assert all(b - a >= gap._LABEL_PX - 1e-9 for a, b in itertools.pairwise(found))
    if all(b - a >= gap._LABEL_PX for a, b in itertools.pairwise(wanted)):
        assert found == wanted


def test_large_numbers_are_powers_of_ten() -> None:
    assert gap.features(float("-inf")) == "0"
    assert gap.features(2.0) == "100"
    assert gap.features(71.82) == "10^71.8"
