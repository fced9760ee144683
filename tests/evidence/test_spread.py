"""Participation, main neurons, effective rank and classes on cases small enough for arithmetic by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from readings import made_up, plan_of, stream, stream_neurons

from probekit.evidence.spread import (
    PATTERNS,
    Classes,
    Spread,
    _name_patterns,
    _participation,
    channel_overlap,
    classify,
    coherence,
    effective_rank,
    main_neurons,
    measure_spread,
)
from probekit.probes.refit import BalancedMoments, Readouts
from probekit.theory.circuits import two_and


def test_participation_by_hand() -> None:
    cases = {
        (1.0, 1.0, 1.0, 1.0): 4.0,  # (4)²/4
        (2.0, 1.0, 1.0): 16 / 6,  # (4)²/(4 + 1 + 1)
        (3.0, 0.0, 0.0): 1.0,
        (1.0, -1.0): 2.0,  # sizes, not signs
        (0.0, 0.0): 0.0,
    }
    for contribution, expected in cases.items():
        assert _participation(np.array(contribution)) == pytest.approx(expected)


def test_main_neurons_are_the_fewest_that_carry_half() -> None:
    cases = {
        (4.0, 3.0, 2.0, 1.0): [True, True, False, False],  # 4 of 10 is too little, 4 + 3 is enough
        (5.0, 5.0): [True, False],  # exactly half
        (1.0, 1.0, 1.0): [True, True, False],
        (-6.0, 1.0, 1.0): [True, False, False],
        (0.0, 0.0): [False, False],
        (0.0, 2.0): [False, True],
    }
    for contribution, expected in cases.items():
        assert main_neurons(np.array(contribution)).tolist() == expected


def test_effective_rank_by_hand() -> None:
    assert effective_rank(np.eye(5)) == pytest.approx(5.0)
    assert effective_rank(np.tile([1.0, 2.0, 0.0], (4, 1))) == pytest.approx(1.0)
    assert effective_rank(np.zeros((0, 3))) == 0.0
    assert effective_rank(np.zeros((2, 3))) == 0.0
    # scale of a row does not count
    assert effective_rank(np.diag([1.0, 100.0])) == pytest.approx(2.0)
    # rows at 60°: singular values √(1 ± ½), shares p = 0.634 and 0.366, entropy 0.657, exp 1.929
    rows = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
    p = np.sqrt([1.5, 0.5]) / np.sqrt([1.5, 0.5]).sum()
    assert effective_rank(rows) == pytest.approx(float(np.exp(-(p * np.log(p)).sum())))
    assert effective_rank(rows) == pytest.approx(1.929, abs=1e-3)


def test_every_pattern_is_named_as_itself_whatever_its_level_and_size() -> None:
    patterns = np.array(list(PATTERNS.values()), float)
    assert _name_patterns(3.0 * patterns - 7.0) == list(PATTERNS)
    assert _name_patterns(np.full((1, 4), 2.0)) == ["none"]


GATES = {
    "AND": lambda a, b: a & b,
    "OR": lambda a, b: a | b,
    "NOR": lambda a, b: ~(a | b),
    "NAND": lambda a, b: ~(a & b),
    "XNOR": lambda a, b: a == b,
    "XOR": lambda a, b: a != b,
    "A and not B": lambda a, b: a & ~b,
    "B and not A": lambda a, b: ~a & b,
}
"""What a neuron fires for. Turned so that κ > 0: OR (κ = −1) is −NOR, NAND is −AND, XOR −XNOR; additive terms aside."""
NAMED = {
    "AND": "AND", "NAND": "AND", "NOR": "NOR", "OR": "NOR", "XNOR": "XNOR", "XOR": "XNOR",
    "A and not B": "not(A and not B)", "B and not A": "not(B and not A)",
}  # fmt: skip


def planted_spread(
    gate: str, n_neurons: int, *, noise: float = 0.3, seed: int = 0
) -> tuple[Spread, Readouts]:
    """`n_neurons` noisy copies of one gate, read with equal weight; a best neuron chosen as the machinery does."""
    rng = np.random.default_rng(seed)
    doc = np.repeat(np.arange(200), 20)
    labels = rng.random((len(doc), 2)) < 0.5
    fires = GATES[gate](labels[:, 0], labels[:, 1]).astype(float)
    rows = (fires[:, None] + noise * rng.standard_normal((len(doc), n_neurons))).astype(np.float32)
    plan = plan_of(labels, doc, np.array([[0, 1]]))
    support = np.arange(n_neurons, dtype=np.int32)[None]
    import torch

    balanced = BalancedMoments(support, torch.zeros(n_neurons), plan.sample)
    low, high = plan.sample.between(0, len(rows))
    balanced.add_tile(np.ascontiguousarray(rows.T), 0, low, high)
    readouts = balanced.fit(n_neurons)
    contrast, _ = stream(plan, rows, readouts)
    best, _ = stream(plan, rows, balanced.best_neuron(n_neurons))
    sums = stream_neurons(plan, rows, support)
    return measure_spread(readouts, sums, balanced.deviations(), contrast, best), readouts


@pytest.mark.parametrize("gate", GATES)
def test_shapes_of_planted_neurons_are_named(gate: str) -> None:
    spread, _ = planted_spread(gate, 6)
    assert spread.shape == [NAMED[gate]]
    # only AND (and its complement) puts 11 above the other three
    assert spread.conjunctive[0] == (NAMED[gate] == "AND")
    # six neurons alike: nearly equal shares (the refit weighs them by their noise), never above six
    assert 4.5 < spread.participation[0] <= 6.0 + 1e-9


@pytest.mark.parametrize(("n_neurons", "distributed"), [(1, False), (3, False), (9, True), (16, True)])
def test_distributed_takes_many_neurons(n_neurons: int, distributed: bool) -> None:
    # best of n equal neurons has d′ = 1/√n of the readout's: below half from n = 5 on; participation ≥ 4 by lower bound
    spread, _ = planted_spread("AND", n_neurons, noise=1.0)
    assert spread.distributed[0] == distributed


def test_one_strong_neuron_among_weak_ones_is_not_distributed() -> None:
    rng = np.random.default_rng(3)
    doc = np.repeat(np.arange(200), 20)
    labels = rng.random((len(doc), 2)) < 0.5
    both = labels[:, 0] & labels[:, 1]
    strength = np.array([4.0] + [0.5] * 11)
    rows = (both[:, None] * strength + rng.standard_normal((len(doc), 12))).astype(np.float32)
    plan = plan_of(labels, doc, np.array([[0, 1]]))
    support = np.arange(12, dtype=np.int32)[None]
    weights = (strength / (strength**2).sum())[None]
    readouts = Readouts(support, weights, np.zeros(1))
    contrast, _ = stream(plan, rows, readouts)
    best, _ = stream(plan, rows, Readouts(support[:, :1], np.full((1, 1), 0.25), np.zeros(1)))
    spread = measure_spread(readouts, stream_neurons(plan, rows, support), np.ones((1, 12)), contrast, best)
    # contributions 16 and eleven of 0.25 over 18.75: participation (18.75)²/(256 + 11/16) = 1.37
    assert spread.participation[0] == pytest.approx(1.37, abs=0.1)
    assert not spread.distributed[0]


def test_a_readout_without_interaction_is_never_distributed() -> None:
    spread, readouts = planted_spread("AND", 9, noise=1.0)
    assert spread.distributed[0]
    doc = np.repeat(np.arange(100), 10)
    labels = np.random.default_rng(4).random((1_000, 2)) < 0.5
    plan = plan_of(labels, doc, np.array([[0, 1]]))
    rows = np.zeros((1_000, 9), np.float32)
    silent = measure_spread(
        readouts,
        stream_neurons(plan, rows, readouts.neurons),
        np.ones((1, 9)),
        made_up(np.zeros(1)),
        made_up(np.zeros(1)),
    )
    assert not silent.distributed[0]
    assert silent.participation[0] == 0.0
    assert silent.shape == ["none"]


def classes(
    supports: list[list[int]],
    pairs: list[tuple[int, int]],
    *,
    computed: list[bool] | None = None,
    duplicate_of: list[int] | None = None,
    distributed: bool = True,
) -> Classes:
    n, k = len(supports), max(map(len, supports))
    neurons = np.full((n, k), -1, np.int32)
    weights = np.zeros((n, k))
    for row, used in enumerate(supports):
        neurons[row, : len(used)] = used
        weights[row, : len(used)] = 1.0
    spread = Spread(weights.copy(), np.zeros(n), np.full(n, distributed), ["AND"] * n, np.ones(n, bool))
    n_concepts = 1 + max(max(pair) for pair in pairs)
    return classify(
        np.array([True] * n if computed is None else computed), spread, Readouts(neurons, weights, np.zeros(n)),
        np.array(pairs), np.arange(n_concepts) if duplicate_of is None else np.array(duplicate_of), 16,
    )  # fmt: skip


def test_unrelated_pairs_on_the_same_neurons_are_in_superposition() -> None:
    # four equal contributions: main neurons are the first two; pair 0 has 2 and 3 on the main neurons of pair 1
    found = classes([[0, 1, 2, 3], [2, 3, 4, 5], [6, 7, 8, 9]], [(0, 1), (2, 3), (4, 5)])
    assert found.superposed.tolist() == [True, False, False]
    assert found.dedicated.tolist() == [True, True, True]
    assert found.n_distinct == 3
    # six main neurons of one pair each
    assert found.features_per_neuron == 1.0


def test_sharing_with_a_pair_of_a_common_concept_is_no_superposition() -> None:
    related = classes([[0, 1], [0, 1]], [(0, 1), (0, 2)])
    assert related.superposed.tolist() == [False, False]
    assert related.dedicated.tolist() == [False, False]
    assert related.features_per_neuron == 2.0
    assert related.effective_rank == pytest.approx(1.0)
    unrelated = classes([[0, 1], [0, 1]], [(0, 1), (2, 3)])
    assert unrelated.superposed.tolist() == [True, True]


def test_pairs_that_are_not_computed_or_not_distributed_share_nothing() -> None:
    assert classes([[0, 1], [0, 1]], [(0, 1), (2, 3)], computed=[True, False]).superposed.tolist() == [
        False,
        False,
    ]
    assert classes([[0, 1], [0, 1]], [(0, 1), (2, 3)], distributed=False).superposed.tolist() == [
        False,
        False,
    ]
    none = classes([[0, 1]], [(0, 1)], computed=[False])
    assert (none.n_distinct, none.effective_rank, none.features_per_neuron) == (0, 0.0, 0.0)


def test_duplicates_count_once_and_are_no_company() -> None:
    # concepts 2 and 3 are duplicates of 0 and 1: pairs (0,1) and (2,3) are the same pair
    same = classes([[0, 1], [0, 1]], [(0, 1), (2, 3)], duplicate_of=[0, 1, 0, 1])
    assert same.n_distinct == 1
    assert same.superposed.tolist() == [False, False]
    assert same.dedicated.tolist() == [True, True]


def test_channels_of_designated_pairs_overlap_and_shuffled_ones_do_not() -> None:
    circuit = two_and(pairs=40, n_concepts=48, n_neurons=256, seed=0)
    assert circuit.route is not None
    reads = circuit.route.T
    designated = {(min(a, b), max(a, b)) for a, b in circuit.pairs.tolist()}
    pairs = np.array(list(itertools.combinations(range(48), 2)))
    mine = np.array([(int(a), int(b)) in designated for a, b in pairs])
    noise = 0.05 * np.random.default_rng(0).standard_normal(reads.shape)
    z = channel_overlap(reads + noise, pairs)
    # five neurons of ten are shared; pairs that share none are at most five robust units apart from each other
    assert z[mine].min() > np.quantile(z[~mine], 0.9)
    assert z[mine].mean() > 5
    shuffled = np.stack([np.random.default_rng(c).permutation(row) for c, row in enumerate(reads + noise)])
    assert abs(np.median(channel_overlap(shuffled, pairs)[mine])) < 1.5
    np.testing.assert_array_equal(channel_overlap(np.zeros((48, 4)), pairs), 0.0)
    # a unit of the weights does not matter
    np.testing.assert_allclose(channel_overlap(7 * (reads + noise), pairs), z, rtol=1e-9)


def test_coherence_by_hand() -> None:
    neurons = np.array([[0, 1], [1, 2], [3, -1]])
    readouts = Readouts(neurons, np.array([[1.0, 1.0], [1.0, -1.0], [2.0, 9.0]]), np.zeros(3))
    # cosines ½, 0 and 0
    assert coherence(readouts, np.array([True, True, True]), 4) == pytest.approx(1 / 6)
    assert coherence(readouts, np.array([True, True, False]), 4) == pytest.approx(0.5)
    assert coherence(readouts, np.array([True, False, False]), 4) == 0.0
