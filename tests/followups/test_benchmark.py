"""The benchmark gives the rates of detectors whose rates are known: one says yes to all, one knows, one guesses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import probekit as pk
from probekit.errors import InputError, ShapeError
from probekit.followups.benchmark import COLUMNS, given_pairs
from probekit.theory.worlds import CLASSES, NOT_COMPUTED

SMALL: dict[str, Any] = {"n_tokens": 6_000, "n_neurons": 64, "n_relayed": 4, "min_support": 60}
GRID: dict[str, Any] = {"correlations": [0.0, 0.6], "loads": [0.05, 0.1], "n_worlds": 2}


def yes(neurons, labels, doc, inputs, pairs):
    return np.ones(len(pairs), bool)


def no(neurons, labels, doc, inputs, pairs):
    return np.ones(len(pairs))


def test_always_yes_has_the_false_discovery_rate_of_the_pairs() -> None:
    found = pk.benchmark(yes, **GRID, **SMALL)
    assert len(found.table) == 4
    assert len(found.worlds) == 8
    for _, row in found.table.iterrows():
        shares = []
        for world in pk.worlds(2, correlation=row["correlation"], load=row["load"], **SMALL):
            classes = np.array(world.class_of(given_pairs(world, 120)))
            false = np.isin(classes, NOT_COMPUTED).sum()
            shares.append(false / (false + (classes == "computed").sum()))
        assert row["fdr"] == pytest.approx(np.mean(shares))
        assert row["fdr_se"] == pytest.approx(np.std(shares, ddof=1) / np.sqrt(2))
        assert row["power"] == 1.0
        assert row["found_null"] == 1.0
    assert found.table["fdr"].min() > 0.3


def test_who_knows_is_never_wrong_and_who_is_silent_finds_nothing() -> None:
    held = {
        float(w.neurons.sum()): w
        for rho in GRID["correlations"]
        for load in GRID["loads"]
        for w in pk.worlds(2, correlation=rho, load=load, **SMALL)
    }

    def knows(neurons, labels, doc, inputs, pairs):
        return np.array(held[float(neurons.sum())].class_of(pairs)) == "computed"

    table = pk.benchmark(knows, **GRID, **SMALL).table
    assert table["fdr"].tolist() == [0.0] * 4
    assert table["power"].tolist() == [1.0] * 4
    table = pk.benchmark(no, **GRID, **SMALL).table
    assert table["fdr"].tolist() == table["power"].tolist() == [0.0] * 4


def test_p_values_go_through_benjamini_hochberg() -> None:
    def guesses(neurons, labels, doc, inputs, pairs, seed):
        return np.random.default_rng(seed).uniform(0.001, 1, len(pairs))

    found = pk.benchmark(guesses, correlations=[0.5], loads=[0.05], n_worlds=3, **SMALL).worlds
    # some 80 p-values of at least 0.001 each: none can be adjusted to 0.05
    assert found["n_false"].sum() == found["n_true"].sum() == 0


def test_a_detector_gets_what_it_names() -> None:
    seen: list[Any] = []

    def named(neurons, labels, doc, inputs, pairs, *, weights, q, seed):
        seen.append((weights[0].shape, q, seed))
        return np.zeros(len(pairs), bool)

    pk.benchmark(named, correlations=[0.0], loads=[0.05], n_worlds=1, q=0.1, seed=4, **SMALL)
    assert seen == [((64, 64), 0.1, 4)]


def test_a_layer_that_computes_nothing_has_no_power_to_speak_of() -> None:
    row = pk.benchmark(yes, correlations=[0.0], loads=[0], n_worlds=2, **SMALL).table.iloc[0]
    assert row["fdr"] == 1.0
    assert np.isnan(row["power"])


def test_every_column_has_a_meaning() -> None:
    found = pk.benchmark(no, correlations=[0.0], loads=[0.05], n_worlds=1, **SMALL)
    assert list(found.table.columns) == list(found.describe()["column"]) == list(COLUMNS)
    assert repr(found) == (
        "Benchmark(no: 1 worlds at 1 settings, false discovery rate up to 0.000 at q = 0.05)"
    )
    assert "<table" in found._repr_html_()
    assert {f"found_{name.replace(' ', '_')}" for name in CLASSES} <= set(COLUMNS)


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (
            lambda n: np.ones(n + 1, bool),
            ShapeError,
            r"detector: it returned an array of shape \(\d+,\), wanted",
        ),
        (lambda n: np.full(n, np.nan), InputError, r"wanted p-values or booleans. Return 1.0 for a pair"),
        (lambda n: np.full(n, 2.0), InputError, r"values beyond \[0, 1\]"),
        (lambda n: np.ones(n, int), InputError, r"detector: it returned int64"),
        (lambda n: 1 / 0, InputError, r"detector: it raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_answer_is_refused(returned, error: type[Exception], message: str) -> None:
    def wrong(neurons, labels, doc, inputs, pairs):
        return returned(len(pairs))

    with pytest.raises(error, match=message):
        pk.benchmark(wrong, correlations=[0.0], loads=[0.05], n_worlds=1, **SMALL)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"detector": 3}, r"detector: got 3 \(int\), wanted "),
        ({"correlations": 0.5}, r"correlations: got 0.5.*, wanted "),
        ({"loads": []}, r"loads: got \[\], wanted a list of numbers"),
        ({"correlations": [1.5]}, r"correlations: got 1.5, wanted a number in \[0, 1\)"),
        ({"n_words": 3}, r"n_words: no argument that is passed on to the worlds"),
        ({"load": 0.1}, r"load: no argument that is passed on to the worlds"),
        ({"q": 0}, r"q: got 0, wanted a number strictly between 0 and 1"),
    ],
)
def test_wrong_arguments_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pk.benchmark(**{"detector": yes, "n_worlds": 1, **given})
