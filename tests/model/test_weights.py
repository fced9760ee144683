"""A layer's weights as arrays: against the formulas written out, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from probekit.errors import ModelError, NonFiniteError, ShapeError
from probekit.model.weights import ACTIVATIONS, MlpWeights, canonical_activation

N_NEURONS, D_MODEL = 7, 5

# float32 rounds a sum of five products and a bias to some 1e-6 of its size.
RTOL, ATOL = 1e-5, 1e-6

REFERENCE = {
    "relu": lambda pre: np.maximum(pre, 0),
    "relu2": lambda pre: np.maximum(pre, 0) ** 2,
    "gelu": lambda pre: pre * special.ndtr(pre),
    "gelu_tanh": lambda pre: 0.5 * pre * (1 + np.tanh(np.sqrt(2 / np.pi) * (pre + 0.044715 * pre**3))),
    "silu": lambda pre: pre * special.expit(pre),
}


def drawn(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


W_IN, B_IN = drawn(N_NEURONS, D_MODEL, seed=1), drawn(N_NEURONS, seed=2)
W_GATE, B_GATE = drawn(N_NEURONS, D_MODEL, seed=3), drawn(N_NEURONS, seed=4)
INPUTS = drawn(11, D_MODEL, seed=5)


def test_every_activation_has_a_reference():
    assert set(REFERENCE) == set(ACTIVATIONS)


@pytest.mark.parametrize("activation", sorted(REFERENCE))
def test_plain_neurons_follow_the_formula(activation: str):
    weights = MlpWeights.from_arrays(W_IN, B_IN, activation=activation)
    pre = INPUTS @ W_IN.T + B_IN
    np.testing.assert_allclose(weights.pre(INPUTS), pre, rtol=RTOL, atol=ATOL)
    np.testing.assert_allclose(weights.neurons(INPUTS), REFERENCE[activation](pre), rtol=RTOL, atol=ATOL)
    np.testing.assert_allclose(weights.activate(pre), REFERENCE[activation](pre), rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("activation", sorted(REFERENCE))
def test_gated_neurons_follow_the_formula(activation: str):
    weights = MlpWeights.from_arrays(W_IN, B_IN, w_gate=W_GATE, b_gate=B_GATE, activation=activation)
    gate, linear = INPUTS @ W_GATE.T + B_GATE, INPUTS @ W_IN.T + B_IN
    neurons = REFERENCE[activation](gate) * linear
    np.testing.assert_allclose(weights.neurons(INPUTS), neurons, rtol=RTOL, atol=ATOL)
    np.testing.assert_allclose(weights.pre(INPUTS), np.hstack([gate, linear]), rtol=RTOL, atol=ATOL)
    np.testing.assert_allclose(weights.activate(np.hstack([gate, linear])), neurons, rtol=RTOL, atol=ATOL)
    np.testing.assert_allclose(weights.activate(gate, linear), neurons, rtol=RTOL, atol=ATOL)
    for half, wanted in zip(weights.halves(INPUTS), (gate, linear), strict=True):
        np.testing.assert_allclose(half, wanted, rtol=RTOL, atol=ATOL)


def test_the_activations_can_be_told_apart():
    """Positive control of the two tests above: another activation is no rounding error away."""
    outcomes = [
        MlpWeights.from_arrays(W_IN, B_IN, activation=name).neurons(INPUTS) for name in sorted(REFERENCE)
    ]
    for first in range(len(outcomes)):
        for second in range(first):
            assert np.abs(outcomes[first] - outcomes[second]).max() > 1e-4


def test_tensors_and_arrays_of_any_float_type_agree():
    weights = MlpWeights.from_arrays(W_IN, B_IN)
    from_tensors = MlpWeights.from_arrays(torch.tensor(W_IN), torch.tensor(B_IN))
    for name in ("w_in", "b_in"):
        assert torch.equal(getattr(weights, name), getattr(from_tensors, name))
    neurons = weights.neurons(torch.tensor(INPUTS, dtype=torch.float64))
    assert neurons.dtype == torch.float32
    np.testing.assert_array_equal(neurons.numpy(), weights.neurons(INPUTS))
    assert weights.neurons(INPUTS).dtype == np.float32


def test_leading_axes_are_kept():
    weights = MlpWeights.from_arrays(W_IN, B_IN)
    assert weights.neurons(INPUTS[0]).shape == (N_NEURONS,)
    assert weights.neurons(drawn(2, 3, D_MODEL, seed=6)).shape == (2, 3, N_NEURONS)


def test_read_only_arrays_are_taken_and_left_alone():
    inputs, w_in, b_in = INPUTS.astype(np.float32), W_IN.copy(), B_IN.copy()
    wanted = MlpWeights.from_arrays(w_in, b_in).neurons(inputs.copy())
    for array in (inputs, w_in, b_in):
        array.setflags(write=False)
    np.testing.assert_array_equal(MlpWeights.from_arrays(w_in, b_in).neurons(inputs), wanted)
    for array, before in ((inputs, INPUTS.astype(np.float32)), (w_in, W_IN), (b_in, B_IN)):
        assert array.tobytes() == before.tobytes()


def test_results_are_ordinary_tensors():
    neurons = MlpWeights.from_arrays(W_IN, B_IN).neurons(torch.tensor(INPUTS))
    assert not neurons.is_inference()
    assert not neurons.requires_grad
    neurons += 1  # may be changed in place


def test_parameters_that_act_at_the_neurons():
    assert MlpWeights.from_arrays(W_IN, B_IN).n_params == N_NEURONS * (D_MODEL + 1)
    assert MlpWeights.from_arrays(W_IN, B_IN, w_gate=W_GATE).n_params == 2 * N_NEURONS * (D_MODEL + 1)


def test_missing_biases_are_zero():
    weights = MlpWeights.from_arrays(W_IN, w_gate=W_GATE)
    assert weights.b_gate is not None
    assert not weights.b_in.any()
    assert not weights.b_gate.any()
    assert weights.gated
    assert weights.bias.shape == (2 * N_NEURONS,)
    assert weights.weight.shape == (2 * N_NEURONS, D_MODEL)


def test_to_and_with_activation_keep_the_rest():
    weights = MlpWeights.from_arrays(W_IN, B_IN, w_gate=W_GATE, b_gate=B_GATE, bits=16)
    moved = weights.to("cpu").with_activation("silu")
    assert (moved.bits, moved.activation, moved.gated) == (16, "silu", True)
    assert torch.equal(moved.weight, weights.weight)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("gelu", "gelu"),
        ("gelu_new", "gelu_tanh"),
        ("gelu_pytorch_tanh", "gelu_tanh"),
        ("relu", "relu"),
        ("ReLU", "relu"),
        ("silu", "silu"),
        ("swish", "silu"),
    ],
)
def test_names_of_activations(name: str, canonical: str):
    assert canonical_activation(name) == canonical


def test_unknown_activation():
    with pytest.raises(ModelError, match=r"activation 'solu_ln' is unknown.*Wanted one of gelu"):
        MlpWeights.from_arrays(W_IN, B_IN, activation="solu_ln")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"w_in": B_IN}, r"w_in: got shape \(7,\), wanted \[neuron input\]"),
        ({"w_in": W_IN, "b_in": B_IN[1:]}, r"b_in: got shape \(6,\), wanted \(7,\)"),
        ({"w_in": W_IN, "w_gate": W_GATE.T}, r"w_gate: got shape \(5, 7\), wanted \(7, 5\)"),
        ({"w_in": W_IN, "w_gate": W_GATE, "b_gate": B_GATE[1:]}, r"b_gate: got shape \(6,\), wanted \(7,\)"),
        ({"w_in": W_IN, "b_gate": B_GATE}, "b_gate: given without w_gate"),
    ],
)
def test_arrays_that_do_not_fit(arrays: dict[str, np.ndarray], message: str):
    with pytest.raises(ShapeError, match=message):
        MlpWeights.from_arrays(**arrays)


def test_weights_that_are_no_numbers():
    broken = W_IN.copy()
    broken[2, 3] = np.inf
    with pytest.raises(NonFiniteError, match="w_in: 1 of 35 weights are NaN or infinite"):
        MlpWeights.from_arrays(broken, B_IN)


def test_a_plain_layer_has_no_halves():
    with pytest.raises(ModelError, match="not gated"):
        MlpWeights.from_arrays(W_IN, B_IN).halves(INPUTS)
