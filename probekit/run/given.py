"""Arrays that a caller brings along, checked before anything is computed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probekit.errors import (
    ConfigError,
    DegenerateError,
    InputError,
    NonFiniteError,
    ProbekitError,
    ShapeError,
)
from probekit.model.weights import ACTIVATIONS, MlpWeights, known_activation
from probekit.probes.moments import require_finite
from probekit.run.identity import of_array


@dataclass(frozen=True)
class GivenArrays:
    """Activations, labels and documents that fit together."""

    neurons: Tensor
    """Neuron outputs, fp32 [token neuron]."""
    labels: np.ndarray
    """Labels, bool [token concept]."""
    doc: np.ndarray
    """Document of each token, renumbered from 0."""
    pos: np.ndarray
    """Position of each token in its document."""
    inputs: Tensor | None
    """MLP inputs, fp32 [token input]."""
    weights: MlpWeights | None
    """The layer's weights."""
    names: list[str]
    """Names of the concepts."""
    n_dropped: int = 0
    """Tokens left out because an activation was NaN or infinite."""
    types: np.ndarray | None = None
    """Type of each token, where types are held out."""

    @classmethod
    def check(
        cls,
        neurons: Any,
        labels: Any,
        docs: Any,
        inputs: Any,
        weights: tuple[Any, ...] | None,
        activation: str,
        names: Sequence[str] | None,
        nonfinite: str = "refuse",
        types: Any = None,
    ) -> GivenArrays:
        """Refuse what does not fit.

        Args:
            neurons: see `analyze_arrays`, as all others.
            labels: see there.
            docs: see there.
            inputs: see there.
            weights: see there.
            activation: see there.
            names: see there.
            nonfinite: "refuse", or "drop_tokens" to leave out tokens with an activation that is NaN or infinite.
            types: see there.

        Raises:
            ShapeError: a rank or an axis is wrong.
            NonFiniteError: a value is NaN or infinite.
            DegenerateError: no token, or fewer than two concepts.
            InputError: labels are not boolean, documents not in order, names not one a concept.
        """
        if nonfinite not in ("refuse", "drop_tokens"):
            raise ConfigError(f"nonfinite: got {nonfinite!r}, wanted 'refuse' or 'drop_tokens'.")
        drops = nonfinite == "drop_tokens"
        rows = _floats(neurons, "neurons", 2, finite=not drops)
        truth = _whole(labels, "labels")
        if truth.ndim != 2 or len(truth) != len(rows):
            raise ShapeError(f"labels: got shape {truth.shape}, wanted [token={len(rows):,}, concept].")
        if truth.dtype != bool and not np.isin(truth, (0, 1)).all():
            raise InputError(f"labels: got values other than 0 and 1 (dtype {truth.dtype}); wanted booleans.")
        if len(rows) == 0 or truth.shape[1] < 2:
            raise DegenerateError(
                f"labels: {truth.shape[1]} concepts on {len(rows)} tokens; wanted at least two concepts."
            )
        document = _whole(docs, "docs")
        if document.shape != (len(rows),):
            raise ShapeError(f"docs: got shape {document.shape}, wanted [token={len(rows):,}].")
        if (
            document.dtype.kind not in "iu"
            or (document.astype(np.float64) > 2**62).any()
            or (np.diff(document.astype(np.int64)) < 0).any()
        ):
            raise InputError("docs: wanted whole numbers that never fall; sort the tokens by document.")
        kind = None if types is None else _whole(types, "types")
        if kind is not None and (kind.shape != (len(rows),) or kind.dtype.kind not in "iu"):
            raise ShapeError(
                f"types: got shape {kind.shape} of {kind.dtype}, wanted whole numbers [token={len(rows):,}]."
            )
        starts = np.concatenate([[True], document[1:] != document[:-1]])
        doc = np.cumsum(starts) - 1
        pos = np.arange(len(doc)) - np.flatnonzero(starts)[doc]
        x = None if inputs is None else _floats(inputs, "inputs", 2, finite=not drops)
        if x is not None and len(x) != len(rows):
            raise ShapeError(f"inputs: got {len(x):,} tokens, wanted {len(rows):,} as in neurons.")
        mlp = _weights(weights, activation, rows, x)
        held = [f"c{i}" for i in range(truth.shape[1])] if names is None else _names(names)
        if len(held) != truth.shape[1] or len(set(held)) != len(held):
            raise InputError(
                f"names: got {len(held)} ({len(set(held))} different), wanted {truth.shape[1]} different ones."
            )
        if drops:
            kept = (
                torch.isfinite(rows).all(1)
                if x is None
                else torch.isfinite(rows).all(1) & torch.isfinite(x).all(1)
            )
            if not bool(kept.any()):
                raise NonFiniteError(
                    "neurons: every token has an activation that is NaN or infinite; none is left."
                )
            chosen = kept.numpy()
            rows, truth, pos = rows[kept], truth[chosen], pos[chosen]
            doc = np.unique(doc[chosen], return_inverse=True)[1]
            x = None if x is None else x[kept]
            kind = None if kind is None else kind[chosen]
            return cls(rows, truth.astype(bool), doc, pos, x, mlp, held, int((~kept).sum()), kind)
        return cls(rows, truth.astype(bool), doc, pos, x, mlp, held, types=kind)

    def digest(self) -> str:
        """Identity of everything given."""
        parts = [self.neurons.numpy(), self.labels, self.doc]
        parts += [] if self.inputs is None else [self.inputs.numpy()]
        parts += [] if self.types is None else [self.types]
        parts += [] if self.weights is None else [self.weights.weight.numpy(), self.weights.bias.numpy()]
        words = [of_array(part) for part in parts] + [*self.names, str(self.n_dropped)]
        words += [] if self.weights is None else [self.weights.activation]
        return of_array(np.frombuffer("\n".join(words).encode(), np.uint8))


def _tensor(values: Any, name: str) -> Tensor:
    try:
        with (
            warnings.catch_warnings()
        ):  # read-only memory is welcome: nothing here writes into what was given
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.as_tensor(values).detach().cpu()
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        told = str(error).partition("\n")[0]
        raise InputError(
            f"{name}: got a {type(values).__name__} that is no array of numbers ({told})."
        ) from error


def _whole(values: Any, name: str) -> np.ndarray:
    tensor = _tensor(values, name)
    if tensor.is_complex():
        raise InputError(f"{name}: got complex numbers.")
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _names(names: Any) -> list[str]:
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise InputError(f"names: got a {type(names).__name__}, wanted one name a concept.")
    held = [str(name) for name in names]
    for name in held:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"names: {name!r} holds half a character and cannot be written down.") from error
    return held


def _floats(values: Any, name: str, rank: int, *, finite: bool = True) -> Tensor:
    tensor = _tensor(values, name)
    if tensor.is_complex():
        raise InputError(f"{name}: got complex numbers, wanted real ones.")
    tensor = tensor.to(torch.float32)
    if tensor.ndim != rank:
        raise ShapeError(f"{name}: got shape {tuple(tensor.shape)}, wanted rank {rank} [token, column].")
    if finite:
        require_finite(tensor, name)
    return tensor.contiguous()


def _weights(weights: Any, activation: str, rows: Tensor, inputs: Tensor | None) -> MlpWeights | None:
    if weights is None:
        return None
    if known_activation(str(activation)) is None:
        raise ConfigError(
            f"activation: got {activation!r}, wanted one of {', '.join(sorted(ACTIVATIONS))} or another spelling of these."
        )
    if not isinstance(weights, tuple | list):
        raise InputError(f"weights: got a {type(weights).__name__}, wanted (w_in, b_in).")
    if len(weights) not in (2, 4):
        raise InputError(
            f"weights: got {len(weights)} arrays, wanted (w_in, b_in) or (w_in, b_in, w_gate, b_gate)."
        )
    gate = {} if len(weights) == 2 else {"w_gate": weights[2], "b_gate": weights[3]}
    try:
        mlp = MlpWeights.from_arrays(weights[0], weights[1], activation=activation, device="cpu", **gate)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        if isinstance(error, ProbekitError | torch.OutOfMemoryError):
            raise
        raise InputError(f"weights: an array of numbers was wanted ({error}).") from error
    if mlp.n_neurons != rows.shape[1]:
        raise ShapeError(f"weights: w_in has {mlp.n_neurons} neurons, neurons has {rows.shape[1]} columns.")
    if inputs is not None and mlp.d_model != inputs.shape[1]:
        raise ShapeError(f"weights: w_in reads {mlp.d_model} inputs, inputs has {inputs.shape[1]} columns.")
    return mlp
