"""What runs write is what the schema of summary.json says: every key, and the type of every value."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

import probekit as pk
from probekit.evidence.census import RUNGS
from probekit.evidence.summary import RungKey, Summary


def breaches(value: Any, kind: Any, where: str = "") -> Iterator[str]:
    """Where a value of JSON is not of a type, a line each."""
    origin, parts = get_origin(kind), get_args(kind)
    if is_typeddict(kind):
        yield from _of_keys(value, kind, where)
    elif origin in (Union, types.UnionType):
        told = [next(breaches(value, part, where), None) for part in parts]
        if None not in told:
            yield f"{where}: {value!r} is none of {parts}: {told}"
    elif origin is Literal:
        if value not in parts:
            yield f"{where}: {value!r} is none of {parts}"
    elif origin in (list, dict) and isinstance(value, origin):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from breaches(item, parts[-1], f"{where}/{key}")
    elif kind is not Any:
        # a whole number is a real one as well; a flag is no number
        wanted = (int, float) if kind is float else origin or kind
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
            yield f"{where}: {value!r} is no {kind}"


def _of_keys(value: Any, kind: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is no {kind.__name__}"
        return
    hints = get_type_hints(kind)
    yield from (f"{where}/{key}: missing" for key in kind.__required_keys__ - set(value))
    yield from (f"{where}/{key}: unknown" for key in set(value) - set(hints))
    for key in set(value) & set(hints):
        yield from breaches(value[key], hints[key], f"{where}/{key}")


def test_a_run_of_a_model_with_twins(planted_run: pk.Run):
    assert list(breaches(planted_run.summary, Summary)) == []
    row = planted_run.summary["layers"][0]
    assert row["twins"]
    assert row["sensitivity"]
    assert row["groups"][0]["mean_z"] is not None


def test_a_run_of_arrays_without_twins(arrays: Any):
    neurons, labels, docs, *_ = arrays
    run = pk.analyze_arrays(neurons, labels, docs, min_support=10, progress=False)
    assert list(breaches(run.summary, Summary)) == []
    assert run.summary["layers"][0]["twins"] is None


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("layers", 0, "n_computed"), "12", "n_computed: '12' is none of"),
        (("layers", 0, "capacity", "vacuous"), 1, "vacuous: 1 is no"),
        (("layers", 0, "groups", 0, "n_above"), 3, "n_above: unknown"),
        (("model", "name"), None, "name: None is no"),
    ],
)
def test_a_breach_is_seen(planted_run: pk.Run, path: tuple[Any, ...], value: Any, said: str):
    summary: Any = copy.deepcopy(planted_run.summary)
    held = summary
    for key in path[:-1]:
        held = held[key]
    held[path[-1]] = value
    (found,) = breaches(summary, Summary)
    assert said in found


def test_a_missing_key_is_seen(planted_run: pk.Run):
    summary: Any = copy.deepcopy(planted_run.summary)
    del summary["layers"][0]["floor"]
    assert list(breaches(summary, Summary)) == ["/layers/0/floor: missing"]


def test_rungs_that_are_drawn_are_rungs_that_are_counted():
    assert set(get_args(RungKey)) - {"n_tested"} <= {f"n_{rung}" for rung in RUNGS}
