"""A layer as the arrays that the decoder reads: both halves of a gated one, whatever the caller holds it in.

Axes: neuron, input, out, concept, batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import erf, expit

from probekit.errors import InputError, NonFiniteError, ShapeError

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda pre: np.maximum(pre, 0.0),
    "relu2": lambda pre: np.maximum(pre, 0.0) ** 2,
    "gelu": lambda pre: pre * 0.5 * (1.0 + erf(pre / np.sqrt(2.0))),
    # the polynomial that GPT-2 and its kin use for gelu
    "gelu_tanh": lambda pre: 0.5 * pre * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (pre + 0.044715 * pre**3))),
    "silu": lambda pre: pre * expit(pre),
}
"""Activations by name."""

_FIELDS = ("w_in", "b_in", "w_gate", "b_gate", "w_out", "activation")


@dataclass(frozen=True, eq=False)
class LayerArrays:
    """The weights of one MLP layer: act(W x + b), or act(W_gate x + b_gate) · (W x + b)."""

    w_in: Float[np.ndarray, "neuron input"]
    """What each neuron reads; the linear half of a gated layer."""
    b_in: Float[np.ndarray, " neuron"]
    """Its bias."""
    w_gate: Float[np.ndarray, "neuron input"] | None = None
    """What each gate reads; None in a plain layer."""
    b_gate: Float[np.ndarray, " neuron"] | None = None
    """The gate's bias."""
    w_out: Float[np.ndarray, "out neuron"] | None = None
    """What each neuron writes, where it is known."""
    activation: str = "relu"
    """A key of `ACTIVATIONS`."""

    @property
    def n_neurons(self) -> int:
        """Neurons of the layer."""
        return len(self.b_in)

    @property
    def sides(self) -> tuple[tuple[str, Int[np.ndarray, " _"]], ...]:
        """Neurons by what they write, by name: those that raise and those that lower a single output; else all, unnamed."""
        if self.w_out is None or len(self.w_out) > 1:
            return (("", np.arange(self.n_neurons)),)
        sides = ((" raising", self.w_out[0] > 0), (" lowering", self.w_out[0] < 0))
        return tuple((name, np.flatnonzero(mine)) for name, mine in sides if mine.any())

    @property
    def n_inputs(self) -> int:
        """Dimensions that the layer reads."""
        return self.w_in.shape[1]

    @property
    def first(self) -> Float[np.ndarray, "neuron input"]:
        """The rows that an activation follows: the gate's in a gated layer."""
        return self.w_in if self.w_gate is None else self.w_gate

    @property
    def first_bias(self) -> Float[np.ndarray, " neuron"]:
        """Their bias."""
        return self.b_in if self.b_gate is None else self.b_gate

    def neurons(self, inputs: Float[np.ndarray, "batch input"]) -> Float[np.ndarray, "batch neuron"]:
        """Neuron outputs."""
        on = ACTIVATIONS[self.activation](inputs @ self.first.T + self.first_bias)
        return on if self.w_gate is None else on * (inputs @ self.w_in.T + self.b_in)


def as_layer(weights: Any) -> LayerArrays:
    """The arrays of a layer.

    Args:
        weights: (w_in, b_in), a mapping, or any object with `w_in` and `b_in`, and `w_gate`, `b_gate`, `w_out`,
            `activation` where they apply: a circuit, a layer of a model. Arrays and tensors alike.

    Raises:
        InputError: nothing of the kind, or an unknown activation.
        ShapeError: arrays that do not fit together.
        NonFiniteError: a weight is NaN or infinite.
    """
    held = _fields(weights)
    if held.get("w_in") is None:
        raise InputError(
            f"weights: got {type(weights).__name__} without w_in; wanted (w_in, b_in) or an object with these."
        )
    w_in = matrix("w_in", held["w_in"])
    n_neurons, n_inputs = w_in.shape
    w_gate = None if held.get("w_gate") is None else matrix("w_gate", held["w_gate"], (n_neurons, n_inputs))
    w_out = None if held.get("w_out") is None else matrix("w_out", held["w_out"])
    if w_out is not None and w_out.shape[1] != n_neurons:
        raise ShapeError(
            f"w_out: got shape {w_out.shape}, wanted [out, {n_neurons}] to fit w_in; transpose it."
        )
    activation = str(held.get("activation") or "relu")
    if activation not in ACTIVATIONS:
        raise InputError(f"activation: got {activation!r}, wanted one of {', '.join(ACTIVATIONS)}.")
    return LayerArrays(
        w_in=w_in,
        b_in=_bias("b_in", held.get("b_in"), n_neurons),
        w_gate=w_gate,
        b_gate=None if w_gate is None else _bias("b_gate", held.get("b_gate"), n_neurons),
        w_out=w_out,
        activation=activation,
    )


def matrix(name: str, values: Any, shape: tuple[int, int] | None = None) -> Float[np.ndarray, "row column"]:
    """A finite float64 matrix from an array or tensor.

    Raises:
        ShapeError: no matrix, or of another shape than wanted.
        NonFiniteError: an entry is NaN or infinite.
    """
    plain = values.detach().cpu() if hasattr(values, "detach") else values
    array = np.asarray(plain, dtype=np.float64)
    if array.ndim != 2 or not array.size or (shape is not None and array.shape != shape):
        wanted = "a matrix" if shape is None else f"shape {shape}"
        raise ShapeError(f"{name}: got shape {array.shape}, wanted {wanted}; pass matching arrays.")
    n_bad = int((~np.isfinite(array)).sum())
    if n_bad:
        raise NonFiniteError(
            f"{name}: {n_bad:,} of {array.size:,} entries are NaN or infinite; wanted finite ones."
        )
    return array


def as_concepts(concepts: Any, n_concepts: int) -> Bool[np.ndarray, "batch concept"]:
    """Which concepts are on in each input of a batch.

    Raises:
        ShapeError: no matrix of truth values with a column a concept.
    """
    array = np.asarray(concepts)
    if array.dtype != np.bool_ or array.ndim != 2 or array.shape[1] != n_concepts:
        raise ShapeError(
            f"concepts: got dtype {array.dtype} and shape {array.shape}, wanted bool[batch, {n_concepts}]."
        )
    return array


def _fields(weights: Any) -> dict[str, Any]:
    if isinstance(weights, Mapping):
        unknown = [str(key) for key in weights if key not in _FIELDS]
        if unknown:
            raise InputError(
                f"weights: got unknown keys {', '.join(unknown)}; wanted some of {', '.join(_FIELDS)}."
            )
        return {str(key): value for key, value in weights.items()}
    if isinstance(weights, Sequence) and not isinstance(weights, str):
        if len(weights) not in (1, 2):
            raise InputError(
                f"weights: got {len(weights)} arrays, wanted (w_in, b_in). Name more in a mapping."
            )
        return dict(zip(_FIELDS, weights, strict=False))
    return {name: getattr(weights, name, None) for name in _FIELDS}


def _bias(name: str, values: Any, n_neurons: int) -> Float[np.ndarray, " neuron"]:
    if values is None:
        return np.zeros(n_neurons)
    plain = values.detach().cpu() if hasattr(values, "detach") else values
    row = np.asarray(plain, dtype=np.float64)
    if row.shape != (n_neurons,):
        raise ShapeError(
            f"{name}: got shape {row.shape}, wanted ({n_neurons},) to fit w_in; pass matching arrays."
        )
    return matrix(name, row[None])[0]
