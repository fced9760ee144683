"""One MLP layer as arrays: from the MLP input to pre-activations to neurons.

Plain layers compute neurons = act(W_in x + b_in), gated layers neurons = act(W_gate x + b_gate) · (W_in x +
b_in) (Shazeer 2020, GLU variants, arXiv:2002.05202). Weights are held in float32 whatever the model
computes in, so that a twin and the layer it imitates are computed alike.
Axes: token neuron input; `half` is neuron, or neuron twice (gate first) in a gated layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from probekit.errors import ModelError, NonFiniteError, ShapeError

ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray, Tensor)


def _gelu_tanh(pre: Tensor) -> Tensor:
    return functional.gelu(pre, approximate="tanh")


def _relu_squared(pre: Tensor) -> Tensor:
    return functional.relu(pre).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "relu2": _relu_squared,
    "gelu": functional.gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": functional.silu,
}
"""The activations probekit can recompute, by canonical name."""

_CANONICAL = {
    "relu": "relu",
    "relu2": "relu2",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}


def known_activation(name: str) -> str | None:
    """The one name probekit uses for an activation that has several; None for an unknown one."""
    return _CANONICAL.get(name.lower())


def canonical_activation(name: str) -> str:
    """The same, for names that must be known.

    Raises:
        ModelError: the activation is none that probekit can recompute.
    """
    canonical = known_activation(name)
    if canonical is None:
        known = ", ".join(sorted(_CANONICAL))
        raise ModelError(
            f"activation {name!r} is unknown, so the layer's random twins cannot be computed. "
            f"Wanted one of {known}; choose a model that uses one of these."
        )
    return canonical


@dataclass(frozen=True)
class MlpWeights:
    """The weights that act at one layer's neurons, float32, all on one device."""

    w_in: Float[Tensor, "neuron input"]
    """What each neuron reads; in a gated layer the linear half."""
    b_in: Float[Tensor, " neuron"]
    """Its bias, zero where the model has none."""
    w_gate: Float[Tensor, "neuron input"] | None = None
    """What each neuron's gate reads; None in a plain layer."""
    b_gate: Float[Tensor, " neuron"] | None = None
    """The gate's bias, zero where the model has none; None in a plain layer."""
    activation: str = "relu"
    """A key of ACTIVATIONS."""
    bits: int | float = 32
    """Bits a weight has where the model is stored."""

    def __post_init__(self) -> None:
        assert self.activation in ACTIVATIONS
        assert (self.w_gate is None) == (self.b_gate is None)

    @classmethod
    def from_arrays(
        cls,
        w_in: np.ndarray | Tensor,
        b_in: np.ndarray | Tensor | None = None,
        *,
        w_gate: np.ndarray | Tensor | None = None,
        b_gate: np.ndarray | Tensor | None = None,
        activation: str = "relu",
        bits: int | float = 32,
        device: str | torch.device | None = None,
    ) -> MlpWeights:
        """Weights from arrays of any float dtype, checked.

        Args:
            w_in: [neuron input].
            b_in: [neuron]; None for no bias.
            w_gate: [neuron input] of a gated layer, else None.
            b_gate: [neuron]; None for no bias.
            activation: relu, gelu, gelu_new, gelu_pytorch_tanh, silu or swish.
            bits: bits of a stored weight.
            device: where the weights shall lie; None leaves tensors where they are.

        Raises:
            ShapeError: an array has the wrong rank or does not fit `w_in`.
            NonFiniteError: a weight is NaN or infinite.
            ModelError: the activation is unknown.
        """
        w_in_32 = _float32("w_in", w_in, device)
        if w_in_32.ndim != 2:
            raise ShapeError(f"w_in: got shape {tuple(w_in_32.shape)}, wanted [neuron input]; pass a matrix.")
        n_neurons = len(w_in_32)

        def bias(name: str, values: np.ndarray | Tensor | None) -> Tensor:
            if values is None:
                return torch.zeros(n_neurons, device=w_in_32.device)
            return _of_shape(name, _float32(name, values, w_in_32.device), (n_neurons,))

        gate = None if w_gate is None else _float32("w_gate", w_gate, w_in_32.device)
        if gate is None and b_gate is not None:
            raise ShapeError("b_gate: given without w_gate; pass both for a gated layer, or neither.")
        return cls(
            w_in=w_in_32,
            b_in=bias("b_in", b_in),
            w_gate=None if gate is None else _of_shape("w_gate", gate, tuple(w_in_32.shape)),
            b_gate=None if gate is None else bias("b_gate", b_gate),
            activation=canonical_activation(activation),
            bits=bits,
        )

    @property
    def gated(self) -> bool:
        """Whether the layer multiplies an activated gate by a linear half."""
        return self.w_gate is not None

    @property
    def n_neurons(self) -> int:
        """Neurons of the layer."""
        return len(self.w_in)

    @property
    def d_model(self) -> int:
        """Width of the MLP input."""
        return self.w_in.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.w_in.device

    @property
    def n_params(self) -> int:
        """Weights that act at the neurons: n(d + 1), in a gated layer 2n(d + 1)."""
        return self.n_neurons * (self.d_model + 1) * (2 if self.gated else 1)

    @property
    def weight(self) -> Float[Tensor, "half input"]:
        """`w_in`, in a gated layer the gate's rows above it: everything linear before the activation."""
        return self.w_in if self.w_gate is None else torch.cat([self.w_gate, self.w_in])

    @property
    def bias(self) -> Float[Tensor, " half"]:
        """The bias that goes with `weight`."""
        return self.b_in if self.b_gate is None else torch.cat([self.b_gate, self.b_in])

    def pre(self, inputs: ArrayOrTensor) -> ArrayOrTensor:
        """The pre-activation site: [... input] → [... neuron], if gated [... 2·neuron] with the gate first.

        float32; arrays give arrays, tensors give tensors on the weights' device.
        """
        return _like(inputs, self._pre(self._tensor(inputs)))

    def pre_columns(self, inputs: Float[Tensor, "token input"]) -> Float[Tensor, "half token"]:
        """As `pre`, with each pre-activation's tokens side by side in memory."""
        with torch.no_grad():
            return torch.addmm(self.bias[:, None], self.weight, inputs.T)

    def halves(self, inputs: ArrayOrTensor) -> tuple[ArrayOrTensor, ArrayOrTensor]:
        """A gated layer's gate pre-activations and linear half, [... neuron] each.

        Raises:
            ModelError: the layer is plain and has one half only.
        """
        if not self.gated:
            raise ModelError("this layer is not gated and has no linear half; use pre(inputs).")
        pre = self.pre(inputs)
        return pre[..., : self.n_neurons], pre[..., self.n_neurons :]

    def activate(self, pre: ArrayOrTensor, linear: ArrayOrTensor | None = None) -> ArrayOrTensor:
        """Neurons from pre-activations.

        Args:
            pre: what `pre` returns; or, with `linear` given, the gate's pre-activations only.
            linear: the linear half of a gated layer.
        """
        return _like(pre, self._activate(self._tensor(pre), None if linear is None else self._tensor(linear)))

    def neurons(self, inputs: ArrayOrTensor) -> ArrayOrTensor:
        """Neurons from MLP inputs: [... input] → [... neuron], float32."""
        return _like(inputs, self._activate(self._pre(self._tensor(inputs))))

    def to(self, device: str | torch.device) -> MlpWeights:
        """The same weights on another device."""
        return replace(
            self,
            w_in=self.w_in.to(device),
            b_in=self.b_in.to(device),
            w_gate=None if self.w_gate is None else self.w_gate.to(device),
            b_gate=None if self.b_gate is None else self.b_gate.to(device),
        )

    def with_activation(self, activation: str) -> MlpWeights:
        """The same weights under another activation."""
        return replace(self, activation=activation)

    def _pre(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return functional.linear(inputs, self.weight, self.bias)

    def _activate(self, pre: Tensor, linear: Tensor | None = None) -> Tensor:
        act = ACTIVATIONS[self.activation]
        with torch.no_grad():
            if not self.gated:
                assert linear is None, "a plain layer has no linear half"
                return act(pre)
            if linear is None:
                pre, linear = pre[..., : self.n_neurons], pre[..., self.n_neurons :]
            return act(pre) * linear

    def _tensor(self, values: np.ndarray | Tensor) -> Tensor:
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(np.array(values, np.float32))  # a copy: memory may be read-only
        return values.to(self.device, torch.float32)


def _like(given: ArrayOrTensor, result: Tensor) -> ArrayOrTensor:
    return cast(ArrayOrTensor, result if isinstance(given, Tensor) else result.cpu().numpy())


def _float32(name: str, values: np.ndarray | Tensor, device: str | torch.device | None) -> Tensor:
    tensor = values.detach() if isinstance(values, Tensor) else torch.tensor(np.asarray(values, np.float64))
    tensor = tensor.to(device=device, dtype=torch.float32).contiguous()
    n_bad = int((~torch.isfinite(tensor)).sum())
    if n_bad:
        raise NonFiniteError(
            f"{name}: {n_bad:,} of {tensor.numel():,} weights are NaN or infinite in float32; "
            "wanted finite weights. Load the model again, in a wider dtype if this one overflowed."
        )
    return tensor


def _of_shape(name: str, tensor: Tensor, wanted: tuple[int, ...]) -> Tensor:
    if tuple(tensor.shape) != wanted:
        raise ShapeError(
            f"{name}: got shape {tuple(tensor.shape)}, wanted {wanted} to fit w_in; pass matching arrays."
        )
    return tensor
