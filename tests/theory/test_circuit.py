"""What a circuit refuses, and that it runs as a layer of a network would."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.errors import InputError, ShapeError
from probekit.theory import circuits
from probekit.theory.circuits.circuit import GATES, patterns


def small(seed: int = 0, d_model: int | None = 24):
    return circuits.two_and(pairs=12, n_concepts=20, n_neurons=32, d_model=d_model, seed=seed)


def test_reads_are_the_layer_written_out() -> None:
    circuit = small()
    concepts = np.random.default_rng(0).random((50, 20)) < 0.15
    x = concepts @ circuit.encode.T
    h = np.maximum(x @ circuit.w_in.T + circuit.b_in, 0)
    np.testing.assert_allclose(circuit.neurons(concepts), h)
    np.testing.assert_allclose(circuit.read(concepts), h @ circuit.readoff.T + circuit.readoff_bias)
    assert circuit.code_out is not None
    np.testing.assert_allclose(circuit.read_recoded(concepts), (h @ circuit.w_out.T) @ circuit.code_out)
    assert (circuit.n_concepts, circuit.n_neurons, circuit.n_outputs, circuit.d_model) == (20, 32, 12, 24)
    assert not circuit.basis_aligned
    assert small(d_model=None).basis_aligned


@given(order=st.integers(1, 4))
def test_patterns_are_all_settings_all_on_first(order: int) -> None:
    rows = patterns(order)
    assert len(np.unique(rows, axis=0)) == 2**order
    assert rows[0].all()
    assert not rows[-1].any()


def test_every_gate_is_off_when_its_inputs_are() -> None:
    on = np.array([[True, True], [True, False], [False, True], [False, False]])
    table = {kind: gate(on).tolist() for kind, gate in GATES.items()}
    assert table == {
        "and": [True, False, False, False],
        "or": [True, True, True, False],
        "xor": [False, True, True, False],
        "andnot": [False, True, False, False],
    }


def test_a_circuit_is_frozen_and_refuses_what_does_not_fit() -> None:
    circuit = small()
    with pytest.raises(FrozenInstanceError):
        circuit.name = "other"  # type: ignore[misc]
    for field in ("readoff_bias", "w_in", "w_out", "readoff"):
        broken = replace(circuit)
        object.__setattr__(broken, field, np.zeros((3, 3)))  # past the shape checks of the test-suite itself
        with pytest.raises(ShapeError, match="shape"):
            broken.__post_init__()
    with pytest.raises(InputError, match="outside 0…19"):
        replace(circuit, pairs=circuit.pairs + 10)


@pytest.mark.parametrize(
    "concepts", [np.zeros((2, 19), dtype=bool), np.zeros((0, 21), dtype=bool)], ids=["few", "many"]
)
def test_concepts_of_the_wrong_length_are_named(concepts: np.ndarray) -> None:
    with pytest.raises(ShapeError, match=r"wanted bool\[batch, 20\]"):
        small().neurons(concepts)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), n_pairs=st.integers(1, 20), channel=st.integers(1, 8))
def test_each_pair_is_read_on_neurons_that_see_both_its_concepts(
    seed: int, n_pairs: int, channel: int
) -> None:
    circuit = circuits.two_and(pairs=n_pairs, n_concepts=20, n_neurons=40, channel=channel, seed=seed)
    assert circuit.route is not None
    for row, pair in zip(circuit.readoff, circuit.pairs, strict=True):
        used = np.flatnonzero(row)
        assert len(used) == channel
        assert (circuit.route[np.ix_(used, pair)] == 1).all()
    np.testing.assert_allclose(circuit.readoff.sum(axis=1), 1.0)
