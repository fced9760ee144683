"""A world is what it says: its layer, what lies in its input, the class of every pair, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import probekit as pk
from probekit.errors import InputError
from probekit.theory.worlds import CLASSES, World

SMALL = {"n_tokens": 8_000, "n_neurons": 128, "min_support": 50, "n_relayed": 5}


@pytest.fixture(scope="module")
def world() -> World:
    return next(pk.worlds(load=0.05, correlation=0.6, seed=3, **SMALL))


def contrast(values: np.ndarray, world: World, pair: np.ndarray) -> np.ndarray:
    """μ11 − μ10 − μ01 + μ00 of every column."""
    a, b = world.labels[:, pair[0]], world.labels[:, pair[1]]
    mean11, mean10, mean01, mean00 = (values[at].mean(0) for at in (a & b, a & ~b, ~a & b, ~a & ~b))
    return mean11 - mean10 - mean01 + mean00


def test_the_arrays_fit_together(world: World) -> None:
    w_in, b_in = world.weights
    np.testing.assert_allclose(world.neurons, np.maximum(world.inputs @ w_in.T + b_in, 0), atol=1e-5)
    assert world.labels.shape == (8_000, 48)
    assert (np.diff(world.doc) >= 0).all()
    assert np.linalg.norm(world.codes, axis=0) == pytest.approx(np.ones(48))
    assert repr(world) == (
        "World(48 concepts, 8,000 tokens, 128 neurons on 64 inputs: 6 ANDs computed, 5 relayed)"
    )


def test_relayed_ands_lie_in_the_input_and_computed_ones_do_not(world: World) -> None:
    def size(pairs: np.ndarray) -> np.ndarray:
        return np.array([np.linalg.norm(contrast(world.inputs, world, pair)) for pair in pairs])

    # the direction of an AND has length 1; of others there is chance, some √64 · 0.3 · √(4 / 50) and less
    assert np.median(size(world.relayed)) > 0.8
    assert np.median(size(world.computed)) < 0.6


def test_a_computed_pair_has_a_channel_of_its_own(world: World) -> None:
    for pair in world.computed:
        assert (contrast(world.neurons, world, pair) > 0.4).sum() >= 3


def test_planted_pairs_can_be_tested(world: World) -> None:
    held = set(map(tuple, world.testable().tolist()))
    assert {tuple(p) for p in world.computed.tolist()} | {tuple(p) for p in world.relayed.tolist()} <= held
    for a, b in held:
        n11 = (world.labels[:, a] & world.labels[:, b]).sum()
        alone = world.labels[:, [a, b]].sum(0) - n11
        assert min(n11, *alone) >= 50
    assert len(world.testable(20)) > len(held)


def test_every_pair_has_its_class(world: World) -> None:
    assert set(world.class_of(world.computed)) == {"computed"}
    assert set(world.class_of(world.computed[:, ::-1])) == {"computed"}, "in any order"
    assert set(world.class_of(world.relayed)) <= {"relayed", "kin of computed"}
    assert set(world.class_of(world.read_together)) == {"kin of computed"}
    statistics = world.statistics
    for kind, group in ((k, g) for k in (1, 2, 3) for g in np.unique(statistics.group[statistics.kind == k])):
        a, b = np.flatnonzero(statistics.group == group)[:2]
        assert world.class_of(np.array([[a, b]]))[0] in ("relayed", "kin of computed"), kind
    every = world.class_of(np.stack(np.triu_indices(48, 1), axis=1))
    assert set(every) == set(CLASSES)


def test_what_hangs_together_with_a_computed_pair_is_its_kin(world: World) -> None:
    group, hangs = world.statistics.group, world.statistics.hangs_together()
    for a, b in world.computed:
        relatives = np.flatnonzero((group == group[a]) & hangs)
        for other in set(relatives.tolist()) - {a, b}:
            assert world.class_of(np.array([[other, b]]))[0] in ("computed", "kin of computed")


def test_without_correlation_a_correlated_group_is_no_kin() -> None:
    free = next(
        pk.worlds(load=0.0, correlation=0.0, n_relayed=0, **{k: SMALL[k] for k in ("n_tokens", "n_neurons")})
    )
    correlated = np.flatnonzero(free.statistics.kind == 1)[:2]
    assert free.class_of(correlated[None]) == ["null"]
    assert len(free.computed) == len(free.relayed) == 0


def test_a_universal_layer_computes_every_pair() -> None:
    world = next(pk.worlds(universal=True, **SMALL))
    pairs = world.testable()
    assert set(world.class_of(pairs)) == {"computed"}
    planted_sizes = np.sort(np.abs([contrast(world.neurons, world, pair) for pair in pairs]).max(1))
    none = next(pk.worlds(load=0.0, **SMALL))
    sizes = np.sort(np.abs([contrast(none.neurons, none, pair) for pair in none.testable()]).max(1))
    assert np.median(planted_sizes) > 1.5 * np.median(sizes)


def test_a_seed_gives_one_world_and_numbers_give_others() -> None:
    first, again = (list(pk.worlds(n, load=0.02, seed=5, **SMALL)) for n in (1, 2))
    assert np.array_equal(first[0].neurons, again[0].neurons)
    assert not np.array_equal(again[0].labels, again[1].labels)


def test_thousands_of_concepts() -> None:
    world = next(pk.worlds(n_concepts=2_000, d_model=256, zipf=1.0, load=0.01, **SMALL | {"n_relayed": 2}))
    assert world.labels.shape[1] == 2_000
    assert len(world.computed) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"top_rate": 0.5}, r"top_rate: got 0.5, wanted at most 1 / group_size = 0.25"),
        ({"load": 3.0}, r"load, n_relayed: 389 ANDs are to be planted, and \d+ pairs have 50 tokens"),
        ({"correlation": 1.0}, r"correlation: got 1.0, wanted a number in \[0, 1\)"),
        ({"n_neurons": 10}, r"n_neurons: got 10, wanted at least 20"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        next(pk.worlds(**{**SMALL, **given}))


def test_pairs_that_the_world_does_not_have_are_refused(world: World) -> None:
    for pairs in ([[0, 48]], [[-1, 3]], [[2, 2]]):
        with pytest.raises(InputError, match=r"pairs: wanted two different concepts of 0 … 47 in each row"):
            world.class_of(np.array(pairs))
