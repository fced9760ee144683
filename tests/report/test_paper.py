"""Figures at the size asked for, in both formats, and tables that LaTeX can set."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from synthetic import HOSTILE, run

from probekit.errors import InputError
from probekit.report.charts import TITLES
from probekit.report.paper import escape, flat_groups, flat_pairs, latex, paper_figures, paper_tables
from probekit.report.tables import Table

POINT_MM = 25.4 / 72


def width_of(pdf: bytes) -> float:
    """Millimetres, from the page's media box."""
    box = re.search(rb"/MediaBox\s*\[\s*0\s+0\s+([\d.]+)\s+([\d.]+)\s*\]", pdf)
    assert box is not None
    return float(box[1]) * POINT_MM


@pytest.mark.parametrize("width_mm", [170.0, 84.0])
def test_both_formats_have_the_width_asked_for(width_mm: float) -> None:
    drawn = paper_figures(*run(("finds", "none")), width_mm=width_mm)
    assert set(drawn) == set(TITLES)
    for figure in drawn.values():
        root = ElementTree.fromstring(figure.svg)
        wide = float((root.get("width") or "").removesuffix("mm"))
        assert wide <= width_mm
        assert width_of(figure.pdf) == pytest.approx(wide, abs=1.0)  # the converter rounds to whole points
    assert (
        max(float((ElementTree.fromstring(f.svg).get("width") or "0mm")[:-2]) for f in drawn.values())
        == width_mm
    )


def test_a_figure_stands_alone_on_white() -> None:
    for figure in paper_figures(*run(("none",))).values():
        assert 'fill="#ffffff"' in figure.svg
        assert not re.search(r'(?:href|src)="(?!#)', figure.svg)
        assert figure.pdf.startswith(b"%PDF")


@pytest.mark.parametrize("width_mm", [0.0, 5_000.0])
def test_a_width_that_no_page_has_is_refused(width_mm: float) -> None:
    with pytest.raises(InputError, match="wanted 20 to 1,000"):
        paper_figures(*run(("none",)), width_mm=width_mm)


def test_every_table_is_one_balanced_environment() -> None:
    summary, _, pairs = run(("none", "finds"))
    found = paper_tables(summary, pairs)
    assert {"ladder", "capacity", "groups", "pairs-layer-00", "pairs-layer-01"} <= set(found)
    for text in found.values():
        columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
        assert columns is not None
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert rows
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns[1]) - 1
        assert text.isascii() or not set("κε′±≤≥²₂×∧\u202f\u2212") & set(text)


def test_latex_characters_are_escaped() -> None:
    assert escape("50 % of a_b & {c} #1 ~^\\") == (
        r"50 \% of a\_b \& \{c\} \#1 \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    text = latex(Table("a & b", ("x", "y"), ((HOSTILE, "1\n2\n3"),)), label="t")
    assert "1 (2; 3)" in text
    assert r"\caption{a \& b}" in text


def test_flat_frames_hold_numbers() -> None:
    summary, _, pairs = run(("finds",))
    groups = flat_groups(summary["layers"])
    assert len(groups) == 4
    assert set(groups["layer"]) == {0}
    flat = flat_pairs(pairs[0])
    assert [float(x) for x in flat["weights"][0].split()] == pytest.approx(pairs[0]["weights"][0], rel=1e-5)
    assert [int(x) for x in flat["neurons"][0].split()] == pairs[0]["neurons"][0]
