"""The answers that "how to read a report" quotes are what a report writes today of the numbers kept in analyses/results/."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from probekit.report import answer

ROOT = Path(__file__).parents[2]
KEPT: dict[str, Any] = json.loads(
    (ROOT / "analyses" / "results" / "answers.json").read_text(encoding="utf-8")
)
EXAMPLES = {"demo", "nothing", "relay", "smollm2"}


def spoken(text: str) -> str:
    """Without line breaks, marks of quotation and the width of spaces."""
    return re.sub(r"\s+", " ", re.sub(r"^> ?", "", text, flags=re.MULTILINE))


PAGE = spoken((ROOT / "docs" / "reading-a-report.md").read_text(encoding="utf-8"))


def test_all_examples_are_kept() -> None:
    assert set(KEPT) == EXAMPLES


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_page_quotes_what_a_report_writes(name: str) -> None:
    summary = KEPT[name]
    assert spoken(answer.headline(summary, q=summary["q"])) in PAGE
    for sentence in answer.answer(summary):
        assert spoken(sentence) in PAGE


def test_another_number_would_be_seen() -> None:
    summary = json.loads(json.dumps(KEPT["demo"]))
    for row in summary["layers"]:
        row["n_tested"] += 1
    assert spoken(answer.headline(summary, q=summary["q"])) not in PAGE
