"""Headline and answer are true of the numbers: finds, bounds, relays, nothing found, a void bound."""

from __future__ import annotations

import re
from typing import Any

import pytest
from synthetic import run

from probekit.report import answer

KINDS = [
    ("none",),
    ("none", "none"),
    ("finds",),
    ("none", "finds", "doubtful"),
    ("doubtful",),
    ("relayed",),
    ("relayed", "none"),
]


def sentences(*kinds: str, capacity: str = "vacuous") -> tuple[str, str, str]:
    return answer.answer(run(kinds, capacity)[0])


def with_bound(*bounds: int | None) -> dict[str, Any]:
    """Runs of one find a layer, with the lower limit of the pairs above their null layers."""
    summary = run(("finds",) * len(bounds))[0]
    for row, bound in zip(summary["layers"], bounds, strict=True):
        row["n_at_least_above"] = bound
    return summary


@pytest.mark.parametrize("capacity", ["vacuous", "cannot_bind", "binds"])
@pytest.mark.parametrize("kinds", KINDS)
def test_the_answer_is_three_sentences(kinds: tuple[str, ...], capacity: str) -> None:
    for sentence in answer.answer(run(kinds, capacity)[0]):
        assert sentence.endswith(".")
        assert len(re.findall(r"\.(?=\s+[A-Z])", sentence)) == 0, sentence
        assert "None" not in sentence
        assert not re.search(r"\bnan\b", sentence)


@pytest.mark.parametrize("kinds", KINDS)
def test_a_headline_has_a_number_and_the_model(kinds: tuple[str, ...]) -> None:
    told = answer.headline(run(kinds)[0], q=0.05)
    assert told.startswith("nano")
    assert told.endswith(".")
    assert re.search(r"\d", told)
    assert len(told.split()) < 60  # it is read at a glance


def test_a_bound_is_the_headline_where_there_is_one() -> None:
    assert answer.headline(with_bound(333), q=0.05) == (
        "nano, layer 0: at least 333 of 1\u202f140 tested pairs stand above what its null layers show (95\u202f%); "
        "which ones is known for 133 at 5\u202f% false discoveries, 28 of them pair-specific. A null layer in its place: "
        "0.5 pairs."
    )
    # the layer with the largest bound is the one named, and the bound is told in the answer
    summary = with_bound(20, 333, None)
    assert answer.headline(summary).startswith("nano, layer 1: at least 333 of")
    assert "3 of 3 layers show some" in answer.headline(summary)
    found = answer.answer(summary)[1]
    assert "Layer 1: for at least 333 of 1\u202f140 tested pairs the AND can be read better" in found
    assert "for this layer by itself" in found
    assert "layer 0 (20) and layer 2 (133) show some as well" in found


def test_without_a_bound_the_named_pairs_are_the_headline() -> None:
    assert answer.headline(run(("finds",))[0], q=0.05) == (
        "nano, layer 0: 133 of 1\u202f140 tested pairs stand above all null layers at 5\u202f% false discoveries, 28 "
        "of them "
        "pair-specific. A null layer in its place: 0.5 pairs."
    )


def test_a_bound_of_zero_does_not_hide_named_pairs_nor_make_any() -> None:
    assert "133 of" in answer.headline(with_bound(0))
    summary = run(("none",))[0]
    summary["layers"][0]["n_at_least_above"] = 0
    assert answer.headline(summary).startswith("nano: 0 of 1\u202f140 pairs")


def test_nothing_found_comes_with_what_would_have_been_found() -> None:
    assert answer.headline(run(("none", "none"))[0]) == (
        "nano: 0 of 1\u202f140 pairs in each of 2 layers stand above the null layers (a null layer in their place: "
        "0.1 at most); "
        "an AND of ≥ 0.8 sd would have been found half the time in the least sensitive layer."
    )
    asked, found, _ = sentences("none", "none")
    assert "We asked of 1\u202f140 pairs of concepts in each layer" in asked
    assert "20 null layers: random twins of it" in asked
    assert found.startswith("Nothing was found: in 2\u202f280 tests over all layers")
    assert "does not prove that these layers combine nothing" in found


def test_a_find_names_layer_count_and_what_null_layers_get() -> None:
    found = sentences("none", "finds", "doubtful")[1]
    assert found.startswith("Layer 1: for 133 of 1\u202f140 tested pairs the AND can be read better")
    assert (
        "after what its input already holds of it is taken out of the layer and of the null layers" in found
    )
    assert "(a null layer in its place gets 0.5 pairs on average, 0 to 2)" in found
    assert "28 are also pair-specific" in found
    summary = run(("finds",))[0]
    summary["layers"][0]["twins"]["n_above_twins"] = {"mean": 0.0, "low": 0, "high": 0}
    assert "(a null layer in its place gets 0 pairs)" in answer.answer(summary)[1]
    assert "21 of them on neurons that serve other such pairs too" in found
    assert "what layer 2 (3) passes is no more than null layers may get" in found
    assert "nothing was found in the other layer" in found


def test_pairs_that_null_layers_get_as_well_are_not_called_a_find() -> None:
    headline, found = answer.headline(run(("none", "doubtful"))[0]), sentences("none", "doubtful")[1]
    assert (
        "layer 1: 3 of 1\u202f140 pairs stand above its null layers, no more than a null layer in its place may get (0 to 6)"
        in headline
    )
    assert found.startswith(
        "Nothing was found beyond what chance may give: in layer 1, 3 pairs of 1\u202f140 stood out"
    )
    assert "gets 1.5 pairs on average and up to 6" in found


def test_a_relay_is_called_a_relay() -> None:
    headline, found = answer.headline(run(("relayed", "none"))[0]), sentences("relayed", "none")[1]
    assert (
        "0 of 1\u202f140 pairs in each of 2 layers are shown to be more than relays (passed on from the input); "
        "310 in layer 0 stand above" in headline
    )
    assert found.startswith(
        "Layer 0 is not shown to do more than pass on what it is given: for 310 of 1\u202f140"
    )
    assert "what the layer’s input already holds of it" in found
    assert "nothing was found in the other layer" in found
    # relays that null layers have as many of are nothing
    summary = run(("relayed",))[0]
    summary["layers"][0]["twins"]["n_relayed"]["high"] = 310
    assert answer.answer(summary)[1].startswith("Nothing was found")


def test_without_twins_nothing_is_called_a_find() -> None:
    summary = run(("finds",))[0]
    summary["layers"][0] |= {
        "n_twins": 0,
        "n_above_twins": None,
        "n_computed": None,
        "n_superposed": None,
        "twins": None,
    }
    asked, found, limit = answer.answer(summary)
    assert "no null layer (a random twin of the layer) was measured" in asked
    assert "not decided" in found
    assert "28" not in limit
    assert "none decided" in answer.headline(summary)


def test_a_vacuous_bound_is_called_vacuous() -> None:
    limit = sentences("none", capacity="vacuous")[2]
    assert "cannot put that to the test" in limit
    assert "it is vacuous" in limit
    assert "42\u202f022 for 512 neurons (n²/ln n, constant 1 assumed) is more than were tested" in limit
    assert "constant 1 assumed" in limit


def test_too_few_tested_pairs_cannot_bind() -> None:
    limit = sentences("finds", capacity="cannot_bind")[2]
    assert (
        "with only 1\u202f140 tested pairs no count could have exceeded 42\u202f022 for 512 neurons" in limit
    )
    assert "vacuous" not in limit


def test_a_bound_that_can_bind_is_set_against_the_count() -> None:
    limit = sentences("finds", capacity="binds")[2]
    assert "n²/ln n = 985 with constant 1 assumed" in limit
    assert "the exact bound allows 410 at 2 bits a weight (assumed)" in limit
    assert "lies below, which leaves the limit untested" in limit


def test_a_count_above_the_references_refutes_no_theorem() -> None:
    summary = run(("finds",), "binds")[0]
    summary["layers"][0]["n_computed"] = 990
    limit = answer.answer(summary)[2]
    assert "exceeds n²/ln n and the exact bound" in limit
    assert "never a refuted theorem" in limit


def test_some_layers_are_not_called_the_layers() -> None:
    summary = run(("none", "none"))[0]
    summary["model"]["n_layers"] = 12
    assert "2 of the 12 MLP layers" in answer.answer(summary)[0]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (
            (1.5, 2.25),
            "found once they were as large as 2.2 standard deviations of a neuron (in layer 1, the least sensitive)",
        ),
        ((None, 2.25), "this zero says little in 1 of the 2 layers, because"),
        ((None, None), "this zero says little, because of known ANDs added for comparison not even half"),
    ],
)
def test_a_zero_comes_with_its_worth(sizes: tuple[float | None, ...], said: str) -> None:
    summary = run(("none", "none"))[0]
    for row, size in zip(summary["layers"], sizes, strict=True):
        curve = [{"amplitude": amplitude} for amplitude in (0.0, 4.0)]
        row["sensitivity"] = {"above_twins_at": {"0.5": size, "0.9": None}, "curve": curve}
    found = answer.answer(summary)[1]
    assert said in found
    assert len(re.findall(r"\.(?=\s+[A-Z])", found)) == 0
    blind = [size for size in sizes if size is None]
    assert ("this zero says little" in answer.headline(summary)) == bool(blind)
    assert ("a zero there says little" in answer.floor_line(summary["layers"])) == bool(blind)


def test_a_zero_without_a_curve_says_nothing_of_it() -> None:
    summary = run(("none",))[0]
    summary["layers"][0]["sensitivity"] = None
    assert "added for comparison" not in answer.answer(summary)[1]
    assert "was not measured" in answer.floor_line(summary["layers"])


def test_the_floor_names_the_worst_layer_and_the_least_that_can_be_named() -> None:
    summary = run(("none", "none"))[0]
    summary["layers"][1]["sensitivity"]["above_twins_at"] = {"0.5": 2.3, "0.9": None}
    summary["layers"][1]["floor"]["detectable_d"] = 5.0
    assert answer.floor_line(summary["layers"]) == (
        "Half of the known ANDs added for comparison were found once they were as large as 2.3 standard deviations of a "
        "neuron in the least sensitive layer (1), 0.8 in the most sensitive. "
        "The least that can be named is one pair alone, with a d′ of 3.4 to 5.0, by layer."
    )
