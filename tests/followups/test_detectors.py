"""probekit finds what is planted in an easy world and no null pair; probes find what is readable and nothing in noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import probekit as pk
from probekit.errors import ConfigError
from probekit.followups.detectors import (
    BUILT_IN,
    by_mean_difference,
    by_probekit,
    by_sparse_probe,
    load_detector,
)
from probekit.theory.worlds import World

EASY = {"n_tokens": 8_000, "n_neurons": 128, "min_support": 70, "n_relayed": 4, "noise": 0.05, "grouped": 0.0}


@pytest.fixture(scope="module")
def world() -> World:
    return next(pk.worlds(load=0.04, seed=1, **EASY))


@pytest.fixture(scope="module")
def pairs(world: World) -> np.ndarray:
    return world.testable()


def test_probekit_finds_the_planted_pairs_and_no_others(world: World, pairs: np.ndarray) -> None:
    found = by_probekit(world.neurons, world.labels, world.doc, world.inputs, pairs, weights=world.weights)
    classes = np.array(world.class_of(pairs))
    assert found[classes == "computed"].mean() >= 0.8
    assert not found[np.isin(classes, ["null", "relayed"])].any()


@pytest.mark.sweep
def test_it_decides_as_analyze_arrays_does(world: World, pairs: np.ndarray) -> None:
    chosen = np.concatenate([world.computed, pairs[:30]])
    chosen = np.unique(chosen, axis=0)
    found = by_probekit(world.neurons, world.labels, world.doc, world.inputs, chosen, weights=world.weights)
    run = pk.analyze_arrays(
        world.neurons, world.labels, world.doc, inputs=world.inputs, weights=world.weights, twins=12, min_support=20,
        pairs=[(f"c{a}", f"c{b}") for a, b in chosen], controls=(), spikes=(), progress=False,
    )  # fmt: skip
    named = run.pairs(0).query("computed")
    assert {frozenset(p) for p in zip(named["a"], named["b"], strict=True)} == {
        frozenset((f"c{a}", f"c{b}")) for a, b in chosen[found]
    }
    assert found.any()


@pytest.mark.parametrize("probe", [by_sparse_probe, by_mean_difference])
def test_probes_find_what_can_be_read_and_nothing_in_noise(probe, world: World, pairs: np.ndarray) -> None:
    p = probe(world.neurons, world.labels, world.doc, world.inputs, pairs)
    assert (p < 0.01).mean() > 0.95
    noise = np.random.default_rng(0).standard_normal((len(world.doc), 40)).astype(np.float32)
    p = probe(noise, world.labels, world.doc, world.inputs, pairs)
    # tokens are independent here, so 5 % are meant; of some 100 pairs a fifth is five standard errors off
    assert (p < 0.05).mean() < 0.2


def test_a_pair_that_never_holds_has_p_1(world: World) -> None:
    labels = world.labels.copy()
    labels[:, 0] = False
    p = by_sparse_probe(world.neurons, labels, world.doc, world.inputs, np.array([[0, 1]]))
    assert p.tolist() == [1.0]


def test_detectors_are_loaded_by_name_file_and_module(tmp_path: Path) -> None:
    assert load_detector("probekit") is by_probekit
    file = tmp_path / "mine.py"
    file.write_text("def yes(neurons, labels, doc, inputs, pairs):\n    return [True] * len(pairs)\n")
    assert load_detector(f"{file}:yes")(None, None, None, None, [1, 2]) == [True, True]
    assert load_detector("probekit.followups.detectors:by_sparse_probe") is BUILT_IN["sparse-probe"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nobody",
            r"detector: got 'nobody', wanted probekit, sparse-probe, mean-difference, module:function or",
        ),
        ("nowhere.py:f", r"there is no file nowhere.py. Check the path"),
        ("no_such_module:f", r"no_such_module could not be imported \(ModuleNotFoundError"),
        ("probekit.version:f", r"probekit.version has no function 'f'; it has no function"),
        ("a b:", r"detector: got 'a b:'"),
    ],
)
def test_a_detector_that_is_not_there_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_detector(name)


def test_a_file_that_fails_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"could not be imported \(ZeroDivisionError: division by zero\)"):
        load_detector(f"{file}:f")
