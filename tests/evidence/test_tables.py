"""The table of layers holds every number of a row of the summary under the path to it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from probekit.evidence.tables import json_rows, layer_table


def test_nested_numbers_keep_their_path_and_lists_stay_in_the_summary() -> None:
    row = {
        "layer": 3,
        "twins": {"above": {"mean": 1.5, "sd": 0.5}, "computed": None},
        "capacity": {"n_params": 10, "curve": [1, 2]},
        "total": {"estimate": 7.0},
        "by_k": [{"k": 1}],
    }
    found = layer_table([row])
    assert list(found.columns) == [
        "layer", "twins_above_mean", "twins_above_sd", "capacity_n_params", "total_estimate",
    ]  # fmt: skip
    assert found.to_numpy().tolist() == [[3, 1.5, 0.5, 10, 7.0]]
    bare = layer_table([{"layer": 4, "twins": None, "capacity": {"n_params": 11}, "total": None}])
    assert bare[["layer", "capacity_n_params"]].to_numpy().tolist() == [[4, 11]]
    assert not [name for name in bare.columns if str(name).startswith(("twins_", "total_"))]


def test_rows_for_json_hold_python_numbers_and_none_for_what_is_undefined() -> None:
    table = pd.DataFrame(
        {"n": np.arange(2), "x": [0.5, np.nan], "flag": pd.array([True, None], dtype="boolean")}
    )
    table["tokens"] = [["a"], []]
    rows = json_rows(table)
    assert rows == [
        {"n": 0, "x": 0.5, "flag": True, "tokens": ["a"]},
        {"n": 1, "x": None, "flag": None, "tokens": []},
    ]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
