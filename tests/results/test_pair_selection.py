"""A set of pairs may be named in many ways, each means what it says, and `Run.at_least` bounds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import probekit as pk
from probekit.errors import InputError, ShapeError
from probekit.evidence.at_least import at_least, calibrate
from probekit.results.pair_selection import bound_of, chosen

N = 60
TWINS = [np.random.default_rng(r).random(N) for r in range(20)]
CALIBRATION = calibrate(TWINS)


@pytest.fixture
def table() -> pd.DataFrame:
    p = np.random.default_rng(99).random(N)
    p[:20] = 1e-6 * np.arange(1, 21)
    return pd.DataFrame(
        {
            "layer": 3,
            "a": [f"a{i}" for i in range(N)],
            "b": [f"b{i}" for i in range(N)],
            "kind": ["token × token, lag 1"] * 30 + ["class × token, same token"] * 30,
            "p_relay": p / 2,
            "p_decision": p,
            "computed": pd.array([True] * 10 + [False] * 40 + [pd.NA] * 10, dtype="boolean"),
        }
    )


def row(**changed: object) -> dict:
    held = {
        "level": 0.95,
        "lambda": CALIBRATION.scale,
        "n_twins": 20,
        "n_low": 1,
        "control": 0,
        "why_not": "",
    }
    return {"layer": 3, "at_least": held | changed}


def test_every_way_to_name_the_same_pairs(table: pd.DataFrame) -> None:
    first = np.arange(N) < 10
    names = [(f"a{i}", f"b{i}") for i in range(10)]
    elsewhere = table.assign(layer=4)
    ways = {
        "rows": table.iloc[:10],
        "rows of two layers": pd.concat([table.iloc[:10], elsewhere.iloc[5:]]),
        "rows without a layer": table.iloc[:10][["a", "b"]],
        "mask": first,
        "list of flags": first.tolist(),
        "series": pd.Series(first),
        "nullable series": table["computed"],
        "nullable array": table["computed"].array,
        "series of all layers": pd.Series(np.concatenate([~first, first, ~first[:7]])),
        "names": names,
        "names the other way round, one twice": [(b, a) for a, b in names] + [["a0", "b0"]],
    }
    for way, pairs in ways.items():
        assert (chosen(table, pairs, N, 2 * N + 7) == first).all(), way
        wanted = at_least(table["p_decision"].to_numpy(), first, CALIBRATION)
        assert bound_of(row(), table, pairs, N, 2 * N + 7) == wanted > 5, way


def test_kinds_all_and_nothing(table: pd.DataFrame) -> None:
    assert chosen(table, None).all()
    assert (chosen(table, "token x token") == (np.arange(N) < 30)).all()
    assert (chosen(table, "class × token, same token") == (np.arange(N) >= 30)).all()
    assert chosen(table, ["token × token", "class × token"]).all()
    for nothing in ([], table.iloc[:0], np.zeros(N, bool)):
        assert bound_of(row(), table, nothing, 0, N) == 0


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ("context × token", InputError, "no testable pair is 'context × token'; there are class × token, same token"),
        ("uniform", InputError, "got 'uniform'; wanted a kind of pair, such as 'token × token, lag 1'"),
        ([("a0", "b1")], InputError, r"\('a0', 'b1'\) is none of the 60 tested pairs"),
        (np.ones(7, bool), ShapeError, "a mask of 7 entries, wanted one for each of the layer's 60 tested pairs, or for"),
        (np.arange(N), InputError, "got a mask of int64, wanted one of booleans"),
        (pd.DataFrame({"a": ["a0"]}), InputError, "the rows given have no column b"),
        (3, InputError, "pairs: got a int, wanted a rule, kinds of pair or a list"),
    ],
)  # fmt: skip
def test_what_names_no_set(table: pd.DataFrame, pairs, error, message: str) -> None:
    with pytest.raises(error, match=message):
        bound_of(row(), table, pairs, 0, 2 * N)


def test_what_cannot_be_said(table: pd.DataFrame) -> None:
    few = row(**{"lambda": None, "why_not": "8 twins; 19 are needed for 95% confidence"})
    with pytest.raises(InputError, match="nothing can be said: 8 twins; 19 are needed"):
        bound_of(few, table, None, 0, N)
    with pytest.raises(InputError, match="layer 3 holds no calibration; an older version"):
        bound_of({"layer": 3}, table, None, 0, N)


def test_a_run_is_asked(planted_run) -> None:
    """Through `Run`: the row's λ and the table's p give what the pure function gives."""
    own = pk.load(planted_run.path)  # changed below; the other tests keep theirs
    row: Any = own.summary["layers"][0]
    layer = row["layer"]
    pairs = own.pairs(layer)
    row.pop("at_least", None)
    with pytest.raises(InputError, match="holds no calibration"):
        own.at_least(layer)
    with pytest.raises(InputError, match="layer 99: this run measured layers"):
        own.at_least(99)
    twins = [np.random.default_rng(r).random(len(pairs)) for r in range(40)]
    calibration = calibrate(twins)
    row["at_least"] = {
        "level": 0.95, "lambda": calibration.scale, "n_twins": 40, "n_low": None,
    }  # fmt: skip
    everything = np.ones(len(pairs), bool)
    assert own.at_least(layer) == at_least(pairs["p_decision"].to_numpy(float), everything, calibration)
    computed = pairs[pairs["computed"]]
    assert 0 < own.at_least(layer, computed) <= len(computed)
    assert own.at_least(layer, pairs["computed"]) == own.at_least(layer, computed)
    # the other rung has a calibration and a column of its own
    with pytest.raises(
        InputError, match=r"rung: got 'above' \(str\), wanted Literal\['computed', 'above_twins'\]"
    ):
        own.at_least(layer, rung="above")
    row["at_least_above"] = row["at_least"]
    assert own.at_least(layer, rung="above_twins") == at_least(
        pairs["p_relay"].to_numpy(float), everything, calibration
    )
