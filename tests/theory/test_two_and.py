"""Chosen ANDs: they are computed, at the error the theory gives, in all four cases of influence."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from probekit.errors import InputError
from probekit.theory.circuits.draw import chosen_pairs, generator
from probekit.theory.circuits.two_and import influences, two_and
from probekit.theory.measure import input_noise_sd, measure

CASES = {
    "low": {"pairs": 128, "n_concepts": 128, "influence": 2},
    "high": {"pairs": 276, "n_concepts": 24, "influence": 23},
    "mixed": {"pairs": [(h, 8 + 16 * h + i) for h in range(8) for i in range(16)], "n_concepts": 136},
    "general": {
        "pairs": [*[(h, 8 + 8 * h + i) for h in range(8) for i in range(8)],
                  *itertools.combinations(range(8), 2),
                  *[(80 + 2 * i, 81 + 2 * i) for i in range(20)]],
        "n_concepts": 136,
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_basis_aligned_circuits_compute_their_pairs_and_a_shuffled_layer_does_not(case: str) -> None:
    n_neurons = {"general": 768}.get(case, 256)
    circuit = two_and(**CASES[case], n_neurons=n_neurons, case=case, seed=3)
    measured = measure(circuit, n_inputs=1_000, seed=4)
    assert measured.worst_error <= 0.02
    assert measured.contrast > 0.4  # channels of high influence let much of A and B through
    rng = np.random.default_rng(5)
    circuit.w_in[:] = circuit.w_in[
        :, rng.permutation(circuit.n_concepts)
    ]  # negative control: same weights, wrong concepts
    assert measure(circuit, n_inputs=1_000, seed=4).worst_error > 0.3


def test_high_influence_pairs_need_input_channels() -> None:
    # all pairs of 24 concepts: output channels collide (every neuron reads every concept), input channels do
    # not
    low = two_and(**CASES["high"], n_neurons=256, case="low", seed=0)
    high = two_and(**CASES["high"], n_neurons=256, case="high", seed=0)
    assert measure(high, seed=1).worst_error < 0.05 < measure(low, seed=1).worst_error


def test_general_case_gives_disjoint_blocks() -> None:
    circuit = two_and(**CASES["general"], n_neurons=512, case="general", seed=0)
    heavy = influences(circuit.pairs, 136) > len(circuit.pairs) ** 0.25
    n_heavy = heavy[circuit.pairs].sum(axis=1)
    used = [circuit.readoff[n_heavy == n].any(axis=0) for n in (0, 1, 2)]
    assert all(block.any() for block in used)
    assert not (used[0] & used[1]).any()
    assert not (used[1] & used[2]).any()


def test_predicted_error_is_the_measured_one_pattern_by_pattern() -> None:
    for d_model in (None, 256):
        reads, predicted = [], []
        for seed in range(5):
            circuit = two_and(pairs=256, n_concepts=256, n_neurons=256, d_model=d_model, seed=seed)
            measured = measure(circuit, n_inputs=2_000, seed=seed)
            reads.append(measured.sd)
            predicted.append(circuit.predicted_sd)
            assert np.abs(measured.mean - circuit.predicted_mean).max() < 0.05
        ratio = np.mean(reads, axis=0) / np.mean(predicted, axis=0)
        # 10 %: five seeds of 2,000 inputs leave 2 % of sampling; in pattern 00 a rare double hit makes the sd
        # itself noisy
        assert np.abs(ratio[:3] - 1).max() < 0.10
        assert ratio[3] == pytest.approx(1.0, abs=0.15)


def test_decoding_noise_of_superposed_inputs() -> None:
    circuit = two_and(pairs=512, n_concepts=512, n_neurons=256, d_model=256, seed=0)
    # √(2m'cs/(nd)); 5 %: neurons read different numbers of concepts
    assert circuit.predicted_input_sd == pytest.approx(np.sqrt(2 * 512 * 5 * 3 / 256**2), rel=0.05)
    assert input_noise_sd(circuit, n_inputs=300, seed=1) == pytest.approx(
        circuit.predicted_input_sd, rel=0.05
    )
    assert two_and(pairs=10, n_concepts=20, n_neurons=64, seed=0).predicted_input_sd == 0.0


def test_split_is_compress_after_decompress() -> None:
    circuit = two_and(pairs=40, n_concepts=60, n_neurons=64, d_model=48, seed=0)
    inward, outward = circuit.split_in(), circuit.split_out()
    assert inward.compress is not None
    np.testing.assert_allclose(inward.compress @ inward.decompress, circuit.w_in, atol=1e-12)
    assert set(np.unique(inward.compress)) == {0.0, 1.0}
    assert outward.compress is not None
    np.testing.assert_allclose(outward.compress @ outward.decompress, circuit.w_out, atol=1e-12)
    np.testing.assert_allclose((circuit.encode**2).sum(axis=0), 1.0)


def test_three_concepts_at_a_time() -> None:
    triples = [(3 * i, 3 * i + 1, 3 * i + 2) for i in range(20)]
    circuit = two_and(pairs=triples, n_concepts=70, n_neurons=256, n_active=4, seed=0)
    measured = measure(circuit, seed=1)
    assert measured.worst_error < 0.02
    assert len(measured.mean) == 8
    assert measured.mean[0] == pytest.approx(1.0, abs=0.1)


def test_same_seed_same_circuit() -> None:
    one, same, other = (two_and(pairs=30, n_concepts=40, n_neurons=64, d_model=32, seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.w_out, same.w_out)
    assert not np.array_equal(one.w_out, other.w_out)


@pytest.mark.parametrize(
    ("n_pairs", "n_concepts", "influence"), [(50, 50, 2), (7, 40, 1), (20, 40, 1), (90, 30, 6), (10, 5, 4)]
)
def test_drawn_pairs_are_distinct_and_bounded(n_pairs: int, n_concepts: int, influence: int) -> None:
    pairs = chosen_pairs(generator(0), n_pairs, n_concepts, influence)
    assert len(np.unique(pairs, axis=0)) == n_pairs
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert influences(pairs, n_concepts).max() <= influence


def test_truth_and_reads_agree_on_a_quiet_circuit() -> None:
    circuit = two_and(pairs=[(0, 1), (2, 3)], n_concepts=6, n_neurons=64, seed=0)
    concepts = np.zeros((3, 6), dtype=bool)
    concepts[0, :2], concepts[1, 1:3], concepts[2, 2:4] = True, True, True
    assert circuit.truth(concepts).tolist() == [[True, False], [False, False], [False, True]]
    assert np.array_equal(circuit.read(concepts) > 0.5, circuit.truth(concepts))
    assert np.array_equal(circuit.read_recoded(concepts), circuit.read(concepts))


BAD = {
    "one concept": ({"n_concepts": 1}, "n_concepts: got 1, wanted at least 2"),
    "too many pairs": ({"pairs": 800}, "pairs: got 800, wanted between 1 and 780"),
    "more than the influence leaves": ({"pairs": 41}, "make room for 40"),
    "no pairs": ({"pairs": None}, "pairs: got None"),
    "odd size": ({"n_neurons": 10.5}, "n_neurons: got 10.5"),
    "float pairs": ({"pairs": [(0.0, 1.0)]}, "pairs: got dtype float64"),
    "itself": ({"pairs": [(0, 1), (3, 3)]}, r"row 1 joins a concept with itself \(\[3, 3\]\)"),
    "twice": ({"pairs": [(0, 1), (1, 0)]}, "listed twice"),
    "outside": ({"pairs": [(0, 40)]}, "outside 0…39"),
    "too many active": ({"n_active": 41}, "n_active: got 41, wanted between 1 and 40"),
    "channel": ({"channel": 65}, "channel: got 65"),
    "density": ({"case": "high", "density": 1.5}, "density: got 1.5"),
    "triples in a high case": ({"pairs": [(0, 1, 2)], "case": "high"}, "need case='low'"),
    "small blocks": (
        {"pairs": [(0, i) for i in range(1, 9)] + [(9, 10)], "case": "general", "n_neurons": 10},
        "n_neurons: got 10",
    ),
    "seed": ({"seed": -1}, "seed: got -1"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_parameters_are_named(what: str) -> None:
    change, match = BAD[what]
    with pytest.raises(InputError, match=match):
        two_and(**({"pairs": 30, "n_concepts": 40, "n_neurons": 64, "seed": 0} | change))
