"""The sentences of a report are true of its numbers, also when nothing was found or the bound is void."""

from __future__ import annotations

import re

import numpy as np
import pytest
from synthetic import layer_row, run

from probekit.report import words


def sentences(*kinds: str, capacity: str = "vacuous") -> tuple[str, str, str]:
    return words.answer(run(kinds, capacity)[0])


@pytest.mark.parametrize("capacity", ["vacuous", "cannot_bind", "binds"])
@pytest.mark.parametrize(
    "kinds", [("none",), ("none", "none"), ("finds",), ("none", "finds", "doubtful"), ("doubtful",)]
)
def test_the_answer_is_three_sentences(kinds: tuple[str, ...], capacity: str) -> None:
    for sentence in words.answer(run(kinds, capacity)[0]):
        assert sentence.endswith(".")
        assert len(re.findall(r"\.(?=\s+[A-Z])", sentence)) == 0, sentence
        assert "utilis" not in sentence.lower()
        assert "None" not in sentence
        assert not re.search(r"\bnan\b", sentence)


def test_nothing_found_is_said_plainly() -> None:
    asked, found, _ = sentences("none", "none")
    assert "1\u202f140 such pairs in each" in asked
    assert "20 random twins" in asked
    assert found.startswith("Nothing was found: in 2\u202f280 tests over all layers")
    assert "does not prove that nothing is computed" in found


def test_a_find_names_layer_count_excess_and_what_the_others_gave() -> None:
    found = sentences("none", "finds", "doubtful")[1]
    assert found.startswith("Layer 1 reads 28 of 1\u202f140 tested pairs better than its twins do")
    assert "26.8 more than a twin put in its place gets on average (95 % interval 25 to 28)" in found
    assert "21 of the 28 are spread over neurons" in found
    assert "the passes in layer 2 (3) are no more than twins may give" in found
    assert "nothing was found in the other layer" in found


def test_passes_whose_excess_may_be_chance_are_not_called_a_find() -> None:
    found = sentences("none", "doubtful")[1]
    assert found.startswith(
        "Nothing was found beyond what chance may give: layer 1 has 3 pairs of 1\u202f140"
    )
    assert "\u22123 to 3, holds zero" in found


def test_an_excess_without_an_interval_is_not_called_a_find() -> None:
    summary = run(("finds",))[0]
    summary["layers"][0] |= {"excess_low": None, "excess_high": None}
    assert "too few twins were drawn" in words.answer(summary)[1]


def test_without_twins_nothing_is_called_computed() -> None:
    summary = run(("finds",))[0]
    summary["layers"][0] |= {"n_twins": 0, "n_computed": None, "n_superposed": None}
    asked, found, limit = words.answer(summary)
    assert "no random twin of the layer was measured" in asked
    assert "not decided" in found
    assert "28" not in limit


def test_a_vacuous_bound_is_called_vacuous() -> None:
    limit = sentences("none", capacity="vacuous")[2]
    assert "cannot put that to the test" in limit
    assert "it is vacuous" in limit
    assert "no count possible here could have exceeded it" in limit
    assert "constant 1 assumed" in limit


def test_too_few_tested_pairs_cannot_bind() -> None:
    limit = sentences("finds", capacity="cannot_bind")[2]
    assert "fewer than n²/ln n = 42\u202f022 (constant 1 assumed)" in limit
    assert "vacuous" not in limit


def test_a_bound_that_can_bind_is_set_against_the_count() -> None:
    limit = sentences("finds", capacity="binds")[2]
    assert "n²/ln n = 985 with constant 1 assumed" in limit
    assert "the exact bound allows 410 at 2 bits a weight (assumed)" in limit
    assert "lies below, which leaves the limit untested" in limit


def test_a_count_above_the_references_refutes_no_theorem() -> None:
    summary = run(("finds",), "binds")[0]
    summary["layers"][0]["n_computed"] = 990
    limit = words.answer(summary)[2]
    assert "exceeds n²/ln n and the exact bound" in limit
    assert "never a refuted theorem" in limit


def test_some_layers_are_not_called_the_layers() -> None:
    summary = run(("none", "none"))[0]
    summary["model"]["n_layers"] = 12
    assert "2 of the 12 MLP layers" in words.answer(summary)[0]


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


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((1.5, 2.25), "half were found from a size of 2.2 standard deviations"),
        ((None, 2.25), "this zero says little in 1 of the 2 layers, because"),
        ((None, None), "this zero says little, because of known ANDs added for comparison not even half"),
    ],
)
def test_a_zero_comes_with_what_could_have_been_found(sizes: tuple[float | None, ...], said: str) -> None:
    summary = run(("none", "none"))[0]
    for row, size in zip(summary["layers"], sizes, strict=True):
        curve = [{"amplitude": amplitude} for amplitude in (0.0, 4.0)]
        row["sensitivity"] = {"computed_at": {"0.5": size, "0.9": None}, "curve": curve}
    found = words.answer(summary)[1]
    assert said in found
    assert found.endswith(".")
    assert len(re.findall(r"\.(?=\s+[A-Z])", found)) == 0


def test_a_zero_without_a_curve_says_nothing_of_it() -> None:
    summary = run(("none",))[0]
    summary["layers"][0]["sensitivity"] = None
    assert "added for comparison" not in words.answer(summary)[1]
