"""A planted model's answer is kept as it was given, and precision and recall are what a count by hand says."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from probekit.errors import FormatError, InputError
from probekit.evidence.truth import Truth, score

PLANTED = SimpleNamespace(
    truth_by_layer=[[("a", "b"), ("c", "d"), ("e", "f"), ("x", "y")], []], shared_by_layer=[[("a", "c")], []]
)


def table() -> pd.DataFrame:
    """Three planted pairs tested (one the other way round), one read together, two others."""
    flags = {
        "above_twins": [True, True, False, True, False, False],
        "computed": [True, False, False, False, False, None],
        "superposed": [False, False, False, False, False, None],
    }
    names = {"a": ["a", "d", "e", "a", "b", "b"], "b": ["b", "c", "f", "c", "c", "d"]}
    return pd.DataFrame({**names, **{name: pd.array(held, dtype="boolean") for name, held in flags.items()}})


def test_precision_and_recall_by_hand() -> None:
    found = score(Truth.of(PLANTED), 0, table())
    assert found is not None
    assert (found.n_planted, dict(found.tested)) == (4, {"planted": 3, "read together": 1, "other": 2})
    assert dict(found.found["above_twins"]) == {"planted": 2, "read together": 1, "other": 0}
    assert found.recall("above_twins") == pytest.approx(2 / 3)
    assert found.precision("above_twins") == pytest.approx(2 / 3)
    assert (found.recall("computed"), found.precision("computed")) == (pytest.approx(1 / 3), 1.0)
    # none found: no precision, rather than a perfect or a void one
    assert (found.recall("superposed"), found.precision("superposed")) == (0.0, None)


def test_a_layer_in_which_nothing_was_planted_has_no_score() -> None:
    assert score(Truth.of(PLANTED), 1, table()) is None
    assert score(Truth.of(PLANTED), 7, table()) is None


def test_the_answer_survives_the_record() -> None:
    truth = Truth.of(PLANTED)
    again = Truth.from_record(json.loads(json.dumps(truth.as_record())))
    assert again == truth
    assert Truth.from_record(None) is None
    assert (truth.number(0, "d", "c"), truth.number(0, "a", "c")) == (2, None)


@pytest.mark.parametrize("given", [[("a", "b")], {0: [["a", "b"]]}, Truth({0: (("a", "b"),)}, {})])
def test_every_way_to_give_it(given: Any) -> None:
    assert Truth.of(given).planted == {0: (("a", "b"),)}


@pytest.mark.parametrize("given", ["a", 3, [("a",)], [("a", 1)], {"0": [("a", "b")]}, {0: "ab"}])
def test_what_is_no_answer_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match=r"truth: got .*wanted a planted model"):
        Truth.of(given)


@pytest.mark.parametrize(
    "held",
    [{}, {"planted": {"x": []}, "read_together": {}}, [1], {"planted": {"0": [3]}, "read_together": {}}],
)
def test_a_record_of_something_else_is_refused(held: Any) -> None:
    with pytest.raises(FormatError, match="its truth is no list of pairs by layer"):
        Truth.from_record(held)
