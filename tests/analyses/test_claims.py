"""The table of the papers' claims holds what the results say today, for every claim, and would be seen to differ."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "analyses"))
import claims  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def today() -> str:
    return "\n".join(claims.page()).rstrip() + "\n"


def test_the_page_says_what_the_results_say(today: str) -> None:
    assert claims.OUT.read_text(encoding="utf-8") == today


def test_another_number_in_a_result_changes_the_page(today: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = claims.held("rates")
    other = {
        **kept,
        "chosen": [
            {**row, "widths": [[2 * n for n in one] for one in row["widths"]]} for row in kept["chosen"]
        ],
    }
    other["chosen"][0]["widths"][0] = [50, 50, 51]
    monkeypatch.setattr(claims, "held", lambda name: other if name == "rates" else kept)
    assert claims.upper_bounds().cells()[2] not in today
    monkeypatch.undo()
    assert claims.upper_bounds().cells()[2] in today


def test_every_row_names_a_script_that_is_there_and_its_paper() -> None:
    rows = [make() for make in claims.CLAIMS]
    for row in rows:
        assert all(row.cells())
        for name in row.scripts:
            assert (ROOT / name if "/" in name else ROOT / "analyses" / name).exists(), name
    for paper in (claims.AS, claims.HMVC, claims.AAS):
        assert sum(paper in row.source for row in rows) >= 3


def test_tables_of_a_page_are_read_by_their_headings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made.md").write_text(
        "## One\n\n| a | b |\n|---|---|\n| x | 1,024 ± 2 |\n\n## Two\n\n| c |\n| --- |\n| y |\n"
    )
    monkeypatch.setattr(claims, "RESULTS", tmp_path)
    found = claims.rows("made")
    assert found == ({"section": "One", "a": "x", "b": "1,024 ± 2"}, {"section": "Two", "c": "y"})
    assert claims.number(found[0]["b"]) == 1024
    assert claims.chosen("made", a="x") == [found[0]]
    with pytest.raises(AssertionError, match="has no row with"):
        claims.chosen("made", a="z")
