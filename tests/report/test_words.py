"""Numbers as the report spells them, and what it says of pairs that were left out."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import layer_row, run

from probekit.report import words


def test_a_sample_of_the_testable_pairs_is_named() -> None:
    summary = run(("none",))[0]
    assert words.sampled(summary) == ""
    summary["concepts"]["n_testable"] = 2280
    assert "50.0\u202f% inclusion probability" in words.sampled(summary)
    # drawn in a block of concepts; where all concepts were, the sample is a uniform one and is called so
    summary["concepts"] |= {"choice": ["blocks"], "block": None}
    assert "a uniform sample of" in words.sampled(summary)
    summary["concepts"]["block"] = {
        "n_concepts": 400,
        "n_drawn": 200,
        "n_inside": 5000,
        "n_kept": 2000,
        "inclusion": 0.1,
    }
    assert "200 of their 400 concepts were drawn at random" in words.sampled(summary)
    assert "(10.0\u202f% inclusion probability)" in words.sampled(summary)


def test_numbers_as_text() -> None:
    assert words.count(1234567) == "1\u202f234\u202f567"
    assert words.count(np.int64(-3)) == "\u22123"
    assert words.real(-0.001) == "0.00"
    assert words.real(-1.5) == "\u22121.50"
    assert [words.mean(value) for value in (1.24, 130.4, 3.0)] == ["1.2", "130", "3"]
    assert words.percent(0.0123) == "1.2\u202f%"
    assert [words.probability(value) for value in (0.0004, 0.0, 0.02)] == ["4e\u221204", "0.000", "0.020"]
    assert words.span(0, 3) == "0 to 3"
    assert words.plural(1, "pair") == "1 pair"


@pytest.mark.parametrize("value", [None, float("nan"), np.float32("inf")])
def test_what_was_not_measured_is_a_dash(value: float | None) -> None:
    shown = {
        words.count(value),
        words.real(value),
        words.mean(value),
        words.percent(value),
        words.span(value, 1),
    }
    assert shown == {words.NONE}


def test_every_rung_is_a_key_of_the_layer_rows() -> None:
    assert {key for key, _, _ in words.RUNGS} <= set(layer_row(0, "none", "vacuous"))


def test_numbers_of_a_statement_are_spelled_as_in_the_report() -> None:
    assert words.spaced("1,140 of 12,345,678 pairs, 3 of 4, 100 tested") == (
        "1\u202f140 of 12\u202f345\u202f678 pairs, 3 of 4, 100 tested"
    )
