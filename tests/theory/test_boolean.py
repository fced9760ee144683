"""Boolean circuits of some depth on superposed codes."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.errors import InputError, ShapeError
from probekit.theory.circuits.boolean import boolean_circuit, random_gates
from probekit.theory.circuits.circuit import DeepCircuit
from probekit.theory.circuits.two_and import two_and
from probekit.theory.measure import measure, measure_deep

GATES = [
    [("and", 0, 1), ("or", 1, 2), ("xor", 2, 3), ("andnot", 3, 4), ("and", 4, 5)],
    [("or", 0, 4), ("and", 1, 2), ("xor", 2, 3), ("andnot", 1, 0)],
    [("and", 0, 1), ("or", 2, 3)],
]


def straight(concepts: np.ndarray) -> np.ndarray:
    """The same gates in plain boolean algebra."""
    f = concepts.T
    a, b, c, d, e = f[0] & f[1], f[1] | f[2], f[2] ^ f[3], f[3] & ~f[4], f[4] & f[5]
    p, q, r, s = a | e, b & c, c ^ d, b & ~a
    return np.stack([p & q, r | s], axis=1)


def test_truth_is_plain_boolean_algebra_and_a_roomy_network_computes_it() -> None:
    circuit = boolean_circuit(gates=GATES, n_concepts=8, n_neurons=800, d_model=1024, seed=0)
    concepts = np.random.default_rng(0).random((300, 8)) < 0.4
    wanted = straight(concepts)
    assert np.array_equal(circuit.truth(concepts)[-1], wanted)
    assert np.mean((circuit.read(concepts)[-1] > 0.5) != wanted) < 0.02
    assert 0.05 < wanted.mean() < 0.95  # both answers occur


def test_errors_grow_with_depth_and_with_load() -> None:
    def rms(n_gates: int) -> list[float]:
        gates = random_gates(n_concepts=64, widths=[n_gates, n_gates], kinds=("and", "or"), seed=0)
        circuit = boolean_circuit(gates=gates, n_concepts=64, n_neurons=512, d_model=512, seed=1)
        return [layer.rms for layer in measure_deep(circuit, n_inputs=200, seed=2)]

    light, heavy = rms(24), rms(400)
    assert light[-1] < heavy[-1]
    assert heavy[0] < heavy[1]
    assert light[-1] < 0.15


def test_correction_between_layers_is_built_and_does_not_help_at_this_size() -> None:
    gates = random_gates(n_concepts=64, widths=[64, 64], seed=0)
    plain, corrected = (
        boolean_circuit(gates=gates, n_concepts=64, n_neurons=512, d_model=256, correct=correct, seed=1)
        for correct in (False, True)
    )
    assert [layer.name for layer in corrected.layers] == ["boolean/0", "boolean/1-correction", "boolean/1"]
    concepts = np.random.default_rng(0).random((50, 64)) < 0.05
    truths = [circuit.truth(concepts) for circuit in (plain, corrected)]
    assert np.array_equal(truths[0][-1], truths[1][-1])
    assert np.array_equal(truths[1][0], truths[1][1])
    last = [measure_deep(circuit, n_inputs=200, seed=2)[-1].rms for circuit in (plain, corrected)]
    assert last[0] < last[1]


def test_one_layer_is_measured_like_any_circuit() -> None:
    gates = [[("xor", 2 * i, 2 * i + 1) for i in range(20)]]
    layer = boolean_circuit(gates=gates, n_concepts=60, n_neurons=512, d_model=512, seed=0).layers[0]
    measured = measure(layer, n_inputs=500, seed=1)
    assert measured.contrast == pytest.approx(-2.0, abs=0.25)
    assert measured.worst_error < 0.01


def test_layers_must_fit() -> None:
    one, other = (two_and(pairs=20, n_concepts=30, n_neurons=64, d_model=32, seed=s) for s in (0, 1))
    with pytest.raises(ShapeError, match="layer 1 does not decode"):
        DeepCircuit("wrong", (one, other))
    with pytest.raises(InputError, match="no layers"):
        DeepCircuit("empty", ())


BAD = {
    "no layer": ({"gates": []}, "gates: got no layer"),
    "empty layer": ({"gates": [[]]}, "layer 0 is empty"),
    "unknown": ({"gates": [[("nor", 0, 1)]]}, r"unknown kinds \['nor'\]"),
    "outside": ({"gates": [[("and", 0, 1)], [("and", 0, 1)]]}, "layer 1 reads 1"),
    "same input": ({"gates": [[("and", 1, 1)]]}, "same input twice"),
    "too few neurons": ({"n_neurons": 8}, "wanted at least channel = 5"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_parameters_are_named(what: str) -> None:
    change, match = BAD[what]
    with pytest.raises(InputError, match=match):
        boolean_circuit(
            **({"gates": GATES, "n_concepts": 8, "n_neurons": 256, "d_model": 64, "seed": 0} | change)
        )


def test_random_gates_name_what_is_wrong() -> None:
    with pytest.raises(InputError, match=r"kinds: got \['nor'\]"):
        random_gates(n_concepts=4, widths=[3], kinds=("nor",), seed=0)
    with pytest.raises(InputError, match="leaves no two inputs"):
        random_gates(n_concepts=4, widths=[1, 3], seed=0)
