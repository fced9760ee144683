"""Figures and tables for a paper: the report's own, at the width of a page and in the formats that a paper takes.

Figures keep the look of the report; as SVG and PDF they get a width in millimetres, a white ground and no reference to
anything outside. Tables are set with booktabs rules; what the page sets small below a number stands in brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probekit.errors import InputError
from probekit.evidence.summary import LayerRow, Summary
from probekit.report import strongest, tables
from probekit.report.charts import figures

PAGE_MM = 170.0
"""Width of the text on an A4 page with usual margins, in millimetres."""
_NATURAL_MM = 25.4 / 96
"""A CSS pixel in millimetres: figures are never blown up beyond the size they were drawn at."""


_POINT_MM = 25.4 / 72


@dataclass(frozen=True)
class Printed:
    """One figure as files."""

    svg: str
    """SVG text of the given width."""
    pdf: bytes
    """The same as PDF."""


def paper_figures(
    summary: Summary,
    layers: pd.DataFrame,
    pairs: Mapping[int, pd.DataFrame],
    *,
    width_mm: float | int = PAGE_MM,
) -> dict[str, Printed]:
    """Every figure of a run at paper size: name → SVG and PDF.

    Args:
        summary: the run's summary.json.
        layers: one row a layer.
        pairs: layer number → its tested pairs.
        width_mm: the widest a figure may be, in millimetres.

    Raises:
        InputError: a width that no page has.
    """
    return {name: printed(svg, width_mm=width_mm) for name, svg in figures(summary, layers, pairs).items()}


def printed(svg: str, *, width_mm: float | int = PAGE_MM) -> Printed:
    """One figure at paper size.

    Raises:
        InputError: a width that no page has.
    """
    import vl_convert

    if not 20 <= width_mm <= 1000:
        raise InputError(
            f"figure width: got {width_mm:g} mm, wanted 20 to 1,000 (170 is the text of an A4 page)."
        )
    head = re.search(r'width="([\d.]+)" height="([\d.]+)"', svg)
    assert head is not None
    width, height = float(head[1]), float(head[2])
    scale = min(width_mm / width, _NATURAL_MM)
    grounded = svg.replace(
        "</desc>", f'</desc><rect width="{width:g}" height="{height:g}" fill="#ffffff"/>', 1
    )

    def sized(unit_mm: float, unit: str) -> str:
        size = f'width="{scale * width / unit_mm:.2f}{unit}" height="{scale * height / unit_mm:.2f}{unit}"'
        return grounded.replace(head[0], size, 1)

    # the converter writes a pixel as a point
    return Printed(sized(1.0, "mm"), vl_convert.svg_to_pdf(sized(_POINT_MM, "")))


def paper_tables(summary: Summary, pairs: Mapping[int, pd.DataFrame]) -> dict[str, str]:
    """The report's tables as LaTeX: name → text of one `table` environment (needs the booktabs package)."""
    rows = summary["layers"]
    named = {
        "ladder": tables.ladder_table(summary),
        "groups": tables.groups_table(rows),
        "effect": tables.effect_table(rows, pairs),
        "tails": tables.tails_table(rows),
        "capacity": tables.capacity_table(rows),
        "spread": tables.spread_table(rows),
    } | {
        f"pairs-layer-{row['layer']:02d}": strongest.strongest_table(row, pairs[row["layer"]])[1]
        for row in rows
        if row["layer"] in pairs
    }
    return {name: latex(table, label=name) for name, table in named.items() if table.rows}


def latex(table: tables.Table, *, label: str) -> str:
    """One table as a LaTeX `table` environment with booktabs rules."""
    n_numbers = len(table.columns) - table.n_text
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{escape(table.caption)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{'l' * table.n_text}{'r' * n_numbers}}}",
        r"\toprule",
        " & ".join(escape(column) for column in table.columns) + r" \\",
        r"\midrule",
        *(" & ".join(escape(_cell(cell)) for cell in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    first, *below = [part for part in text.split("\n") if part]
    return f"{first} ({'; '.join(below)})" if below else first


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\u202f": r"\,", "\u2212": "$-$", "–": "--", "κ": r"$\kappa$",
    "ε": r"$\varepsilon$", "′": r"$'$", "±": r"$\pm$", "≤": r"$\le$", "≥": r"$\ge$", "²": "$^2$", "₂": "$_2$",
    "×": r"$\times$", "∧": r"$\wedge$", "√": r"$\surd$", "’": "'", "…": r"\dots{}", "\n": " ",
}  # fmt: skip


def escape(text: str) -> str:
    """Text as LaTeX sets it; names of tokens may hold anything."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def flat_groups(rows: list[LayerRow]) -> pd.DataFrame:
    """One row a layer and kind of pair."""
    return pd.DataFrame(
        [{"layer": row["layer"], **group} for row in rows for group in row.get("groups") or []]
    )


def flat_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """The pairs with their lists of neurons and weights as text, numbers parted by spaces."""

    def text(values: Iterable[Any]) -> str:
        return " ".join(f"{value:g}" for value in values)

    lists = {name: [text(cell) for cell in table[name].tolist()] for name in ("neurons", "weights")}
    return table.assign(**lists)
