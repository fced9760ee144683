"""Arrays that a caller provides, checked before anything is computed."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probekit.errors import (
    ConfigError,
    DegenerateError,
    InputError,
    NonFiniteError,
    ProbekitError,
    ShapeError,
    require_order,
    require_unmasked,
)
from probekit.fingerprint import of_value
from probekit.model.proof import EXACT, prove_arrays
from probekit.model.weights import ACTIVATIONS, MlpWeights, known_activation
from probekit.probes.moments import require_finite


@dataclass(frozen=True)
class ActivationData:
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
    error: float | None = None
    """Relative error with which the neurons follow from inputs and weights, where both were given."""

    @classmethod
    def check(  # noqa: PLR0913
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
    ) -> ActivationData:
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
        _require_one_order(neurons=neurons, labels=labels, docs=docs, inputs=inputs, types=types)
        rows = _floats(neurons, "neurons", 2, finite=not drops)
        truth = _labels(labels, len(rows))
        doc, pos = _documents(docs, len(rows))
        kind = _types(types, len(rows))
        x = _inputs(inputs, len(rows), finite=not drops)
        mlp = _weights(weights, activation, rows, x)
        given = cls(rows, truth, doc, pos, x, mlp, _names(names, labels, truth.shape[1]), types=kind)
        if drops:
            given = given.finite()
        if mlp is None or given.inputs is None:
            return given
        return replace(given, error=prove_arrays(mlp, given.inputs, given.neurons))

    def finite(self) -> ActivationData:
        """Without the tokens of which an activation is NaN or infinite; documents are renumbered.

        Raises:
            NonFiniteError: no token is left.
        """
        kept = torch.isfinite(self.neurons).all(1)
        if self.inputs is not None:
            kept &= torch.isfinite(self.inputs).all(1)
        if not bool(kept.any()):
            raise NonFiniteError(
                "neurons: every token has an activation that is NaN or infinite; none is left."
            )
        chosen = kept.numpy()
        return replace(
            self,
            neurons=self.neurons[kept],
            labels=self.labels[chosen],
            doc=np.unique(self.doc[chosen], return_inverse=True)[1],
            pos=self.pos[chosen],
            inputs=None if self.inputs is None else self.inputs[kept],
            types=None if self.types is None else self.types[chosen],
            n_dropped=int((~kept).sum()),
        )

    def notes(self) -> list[str]:
        """What a reader must know of these arrays before any number."""
        notes: list[str] = []
        if self.n_dropped:
            notes.append(
                f"{self.n_dropped:,} of {len(self.doc) + self.n_dropped:,} tokens were left out because an "
                f"activation was "
                "NaN or infinite (nonfinite='drop_tokens')."
            )
        if self.error is not None and self.error > EXACT:
            notes.append(
                f"The neurons follow from inputs and weights to {self.error:.2g} of their size, as 16-bit "
                f"arithmetic gives "
                "(float32 would give some 1e-7); the twins are computed in float32."
            )
        return notes

    def digest(self) -> str:
        """Identity of everything given, the places of tokens that were left out included."""
        # the proof's error was not given by the caller, and its last bits depend on the number of threads
        return of_value(replace(self, error=None))


def _require_one_order(**given: Any) -> None:
    """Refuse data frames whose rows bear the same names in another order: rows are paired by their places.

    Raises:
        InputError: two of them are in different orders.
    """
    indices = {
        name: values.index for name, values in given.items() if isinstance(values, pd.DataFrame | pd.Series)
    }
    for (name, index), (other, wanted) in itertools.pairwise(indices.items()):
        if index.equals(wanted) or len(index) != len(wanted):
            continue
        if index.is_unique and index.isin(wanted).all():
            raise InputError(
                f"{other}: the rows of its data frame are those of {name} in another order, and rows are paired by their "
                f"places; pass {other}.loc[{name}.index], with every array in document order."
            )


def _labels(labels: Any, n_tokens: int) -> np.ndarray:
    truth = _whole(labels, "labels")
    if truth.ndim != 2 or len(truth) != n_tokens:
        raise ShapeError(f"labels: got shape {truth.shape}, wanted [token={n_tokens:,}, concept].")
    if truth.dtype != bool and not np.isin(truth, (0, 1)).all():
        raise InputError(f"labels: got values other than 0 and 1 (dtype {truth.dtype}); wanted booleans.")
    if n_tokens == 0 or truth.shape[1] < 2:
        raise DegenerateError(
            f"labels: {truth.shape[1]} concepts on {n_tokens} tokens; wanted at least two concepts."
        )
    return truth.astype(bool)


def _types(types: Any, n_tokens: int) -> np.ndarray | None:
    if types is None:
        return None
    kind = _whole(types, "types")
    if kind.shape != (n_tokens,) or kind.dtype.kind not in "iu":
        raise ShapeError(
            f"types: got shape {kind.shape} of {kind.dtype}, wanted whole numbers [token={n_tokens:,}]."
        )
    return kind


def _inputs(inputs: Any, n_tokens: int, *, finite: bool) -> Tensor | None:
    if inputs is None:
        return None
    x = _floats(inputs, "inputs", 2, finite=finite)
    if len(x) != n_tokens:
        raise ShapeError(f"inputs: got {len(x):,} tokens, wanted {n_tokens:,} as in neurons.")
    return x


def _documents(docs: Any, n_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Documents renumbered from 0, and positions within them."""
    document = _whole(docs, "docs")
    if document.shape != (n_tokens,):
        raise ShapeError(f"docs: got shape {document.shape}, wanted [token={n_tokens:,}].")
    if (
        document.dtype.kind not in "iu"
        or (document.astype(np.float64) > 2**62).any()
        or (np.diff(document.astype(np.int64)) < 0).any()
    ):
        raise InputError("docs: wanted whole numbers that never fall; sort the tokens by document.")
    starts = np.concatenate([[True], document[1:] != document[:-1]])
    doc = np.cumsum(starts) - 1
    return doc, np.arange(len(doc)) - np.flatnonzero(starts)[doc]


def _plain(values: Any, name: str) -> Any:
    """What holds numbers in a way of its own as an array: data frames, sparse matrices, arrays that torch does not take.

    Raises:
        InputError: it holds something else.
    """
    require_unmasked(values, name)
    if isinstance(values, Tensor):
        return values if values.layout == torch.strided else values.to_dense()
    if hasattr(values, "toarray"):  # SciPy's sparse matrices
        values = values.toarray()
    elif hasattr(values, "to_numpy"):  # data frames and their columns
        values = values.to_numpy()
    elif hasattr(values, "__array__"):
        values = np.asarray(values)
    if not isinstance(values, np.ndarray):
        return values
    if values.dtype == object:  # a data frame whose columns are of several types
        if any(isinstance(value, str | bytes) for value in values.flat):
            raise InputError(f"{name}: got text among the values, wanted an array of numbers.")
        values = values.astype(np.float64)
    elif values.dtype.name == "bfloat16" or values.dtype.name == "longdouble" or values.dtype.itemsize > 8:
        wide = values.dtype.kind
        values = values if wide == "c" or wide in "US" else values.astype(np.float64)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return np.ascontiguousarray(values) if any(stride < 0 for stride in values.strides) else values


def _tensor(values: Any, name: str) -> Tensor:
    try:
        with (
            warnings.catch_warnings()
        ):  # read-only memory is welcome: nothing here writes into what was given
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.as_tensor(_plain(values, name)).detach().cpu()
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        if isinstance(error, ProbekitError):
            raise
        told = str(error).partition("\n")[0]
        raise InputError(
            f"{name}: got a {type(values).__name__} that is no array of numbers ({told})."
        ) from error


def _whole(values: Any, name: str) -> np.ndarray:
    tensor = _tensor(values, name)
    if tensor.is_complex():
        raise InputError(f"{name}: got complex numbers.")
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _names(names: Any, labels: Any, n_concepts: int) -> list[str]:
    """One name a concept: those given, or the columns of a data frame, or c0, c1, …"""
    if names is None:
        names = list(getattr(labels, "columns", [f"c{i}" for i in range(n_concepts)]))
    require_order(names, "names")
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise InputError(f"names: got a {type(names).__name__}, wanted one name a concept.")
    held = [str(name) for name in names]
    for name in held:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"names: {name!r} holds half a character and cannot be written down.") from error
    if len(held) != n_concepts or len(set(held)) != len(held):
        raise InputError(
            f"names: got {len(held)} ({len(set(held))} different), wanted {n_concepts} different ones."
        )
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
            f"activation: got {activation!r}, wanted one of {', '.join(sorted(ACTIVATIONS))} or another "
            f"spelling of these."
        )
    if not isinstance(weights, tuple | list):
        raise InputError(f"weights: got a {type(weights).__name__}, wanted (w_in, b_in).")
    if len(weights) not in (2, 4):
        raise InputError(
            f"weights: got {len(weights)} arrays, wanted (w_in, b_in) or (w_in, b_in, w_gate, b_gate)."
        )
    _require_upright(weights, rows.shape[1])
    held = [None if array is None else _tensor(array, "weights") for array in weights]
    if held[0] is None:
        raise InputError("weights: got None for w_in, wanted a matrix [neuron, input].")
    if any(array is not None and array.is_complex() for array in held):
        raise InputError("weights: got complex numbers, wanted real ones.")
    gate = {} if len(held) == 2 else {"w_gate": held[2], "b_gate": held[3]}
    bits = min(8 * held[0].element_size(), 32) if held[0].is_floating_point() else 32
    mlp = MlpWeights.from_arrays(held[0], held[1], activation=activation, bits=bits, device="cpu", **gate)
    if mlp.n_neurons != rows.shape[1]:
        raise ShapeError(f"weights: w_in has {mlp.n_neurons} neurons, neurons has {rows.shape[1]} columns.")
    if inputs is not None and mlp.d_model != inputs.shape[1]:
        raise ShapeError(f"weights: w_in reads {mlp.d_model} inputs, inputs has {inputs.shape[1]} columns.")
    return mlp


def _require_upright(weights: Sequence[Any], n_neurons: int) -> None:
    """Refuse matrices that stand [input, neuron], as Conv1D and TransformerLens keep them."""
    for name, matrix in zip(("w_in", "b_in", "w_gate"), weights, strict=False):
        shape = tuple(getattr(matrix, "shape", ()))
        if len(shape) == 2 and shape[0] != n_neurons and shape[1] == n_neurons:
            raise ShapeError(
                f"weights: {name} is {shape[0]:,} × {shape[1]:,} and neurons has {n_neurons:,} columns, so "
                f"it looks transposed; "
                f"wanted [neuron, input]: pass {name}.T."
            )
