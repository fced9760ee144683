"""What a construction is: one ReLU layer with its codes, weights, readoffs, truth and predicted error.

A layer of Adler & Shavit (arXiv 2409.15318) or Hänni et al. (arXiv 2408.05451) computes boolean functions of
concepts: x = encode·f, h = relu(w_in·x + b_in), output k is read as readoff_k·h + bias_k. Axes: input
(coordinates of the residual stream), concept, neuron, output, out (coordinates written), pattern (the on/off
settings of an output's own concepts, all on first: 11, 10, 01, 00 for a pair).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from probekit.errors import InputError, ShapeError

GATES = {
    "and": lambda on: on.all(axis=-1),
    "or": lambda on: on.any(axis=-1),
    "xor": lambda on: on.sum(axis=-1) % 2 == 1,
    "andnot": lambda on: on[..., 0] & ~on[..., 1:].any(axis=-1),
}
"""Gates that are off when all their inputs are off, so that sparse inputs give sparse outputs."""


@dataclass(frozen=True)
class Split:
    """A weight matrix as compress ∘ decompress, W = compress @ decompress."""

    compress: Float[np.ndarray, "row feature"] | None
    """Puts each feature onto the rows of W; None stands for the identity."""
    decompress: Float[np.ndarray, "feature column"]
    """Recovers each feature from the columns of W."""


@dataclass(frozen=True, eq=False)
class Circuit:
    """One computing layer, with everything needed to run it, read it and judge it."""

    name: str
    """The construction."""
    encode: Float[np.ndarray, "input concept"]
    """Code of each concept; the identity for basis-aligned inputs."""
    w_in: Float[np.ndarray, "neuron input"]
    """Input weights, compress ∘ decompress."""
    b_in: Float[np.ndarray, " neuron"]
    """Input biases."""
    w_out: Float[np.ndarray, "out neuron"]
    """Output weights: `code_out` @ `readoff`; the identity for a linear layer."""
    readoff: Float[np.ndarray, "output neuron"]
    """The linear readout of each output."""
    readoff_bias: Float[np.ndarray, " output"]
    """Constant added to each readout."""
    pairs: Int[np.ndarray, "output order"]
    """Concepts of each output; two for a pair, one for a permutation, k for a k-AND."""
    n_active: int
    """Concepts on in the inputs that the prediction (and, where it enters, the readoff) is made for."""
    predicted_mean: Float[np.ndarray, " pattern"]
    """Predicted mean readout in each pattern; NaN where there is no prediction."""
    predicted_sd: Float[np.ndarray, " pattern"]
    """Predicted standard deviation of the readout in each pattern, over pairs and inputs; NaN where none."""
    predicted_input_sd: float = 0.0
    """Predicted standard deviation of the decoding noise in a pre-activation; 0 for basis-aligned inputs."""
    code_out: Float[np.ndarray, "out output"] | None = None
    """Code of each output in what the layer writes; None: output k is written to coordinate k."""
    route: Float[np.ndarray, "neuron concept"] | None = None
    """Weights in concept space, before decoding: w_in = route @ encode.T. None: `w_in` acts on the codes."""
    gates: tuple[str, ...] = ()
    """Kind of each output, a key of `GATES`; empty when all are "and"."""
    linear: bool = False
    """True when the layer has no activation (the linear permutation)."""

    def __post_init__(self) -> None:
        n_inputs, n_concepts = self.encode.shape
        n_neurons, n_outputs = len(self.b_in), len(self.readoff)
        wanted = {
            "w_in": (self.w_in.shape, (n_neurons, n_inputs)),
            "w_out": (self.w_out.shape[1:], (n_neurons,)),
            "readoff": (self.readoff.shape, (n_outputs, n_neurons)),
            "readoff_bias": (self.readoff_bias.shape, (n_outputs,)),
            "pairs": (self.pairs.shape[:1], (n_outputs,)),
            "gates": (len(self.gates), len(self.gates) and n_outputs),
        }
        for field, (got, want) in wanted.items():
            if got != want:
                raise ShapeError(f"circuit {self.name}: {field} has shape {got}, wanted {want}.")
        if n_outputs and not 0 <= self.pairs.min() <= self.pairs.max() < n_concepts:
            raise InputError(f"circuit {self.name}: pairs name concepts outside 0…{n_concepts - 1}.")

    def __repr__(self) -> str:
        """Its sizes."""
        return (
            f"Circuit({self.name!r}, {self.n_concepts} concepts, {self.n_outputs} outputs in {self.n_neurons} neurons, "
            f"d_model {self.d_model}, {self.n_active} concepts active)"
        )

    @property
    def n_concepts(self) -> int:
        """Number of input concepts, m."""
        return self.encode.shape[1]

    @property
    def n_neurons(self) -> int:
        """Number of neurons, n."""
        return len(self.b_in)

    @property
    def n_outputs(self) -> int:
        """Number of computed features, m'."""
        return len(self.pairs)

    @property
    def d_model(self) -> int:
        """Dimensions that the inputs live in."""
        return self.encode.shape[0]

    @cached_property
    def basis_aligned(self) -> bool:
        """Whether each concept has a coordinate of its own."""
        square = self.encode.shape[0] == self.encode.shape[1]
        return square and bool(np.array_equal(self.encode, np.eye(self.n_concepts)))

    @property
    def patterns(self) -> Bool[np.ndarray, "pattern order"]:
        """On/off settings of one output's own concepts, all on first."""
        return patterns(self.pairs.shape[1])

    def neurons(self, concepts: Bool[np.ndarray, "batch concept"]) -> Float[np.ndarray, "batch neuron"]:
        """Neuron outputs."""
        self._check(concepts)
        return self.activate(concepts.astype(np.float64) @ self.encode.T)

    def activate(self, inputs: Float[np.ndarray, "batch input"]) -> Float[np.ndarray, "batch neuron"]:
        """Neuron outputs on encoded inputs, which may carry noise."""
        pre = inputs @ self.w_in.T + self.b_in
        return pre if self.linear else np.maximum(pre, 0.0)

    def read(self, concepts: Bool[np.ndarray, "batch concept"]) -> Float[np.ndarray, "batch output"]:
        """Every output as read off the neurons."""
        return self.neurons(concepts) @ self.readoff.T + self.readoff_bias

    def read_recoded(self, concepts: Bool[np.ndarray, "batch concept"]) -> Float[np.ndarray, "batch output"]:
        """Every output as the next layer decodes it from what this one writes (compress, then decompress)."""
        if self.code_out is None:
            return self.read(concepts)
        return self.neurons(concepts) @ self.w_out.T @ self.code_out + self.readoff_bias

    def truth(self, concepts: Bool[np.ndarray, "batch concept"]) -> Bool[np.ndarray, "batch output"]:
        """Every output as it should be."""
        self._check(concepts)
        on = concepts[:, self.pairs]
        if not self.gates:
            return GATES["and"](on)
        kinds = np.asarray(self.gates)
        values = np.empty(on.shape[:2], dtype=bool)
        for kind in set(self.gates):
            values[:, kinds == kind] = GATES[kind](on[:, kinds == kind])
        return values

    @property
    def predicted_recoded_sd(self) -> Float[np.ndarray, " pattern"]:
        """Predicted standard deviation of the readout after the output code, as the next layer decodes it.

        Every other output leaks in through the overlap of two codes: its mean square readout over d. Outputs
        that share a concept which is on read more than the rest.
        """
        if self.code_out is None or self.linear:
            return self.predicted_sd
        order = self.pairs.shape[1]
        on, off = self.n_active, self.n_concepts - self.n_active
        n_on = self.patterns.sum(axis=1).tolist()
        likely = [math.perm(on, j) * math.perm(off, order - j) / math.perm(on + off, order) for j in n_on]
        squares = np.nan_to_num(self.predicted_mean**2 + self.predicted_sd**2)
        anyone = (self.n_outputs - 1) * float(np.array(likely) @ squares)
        influence = np.bincount(self.pairs.ravel(), minlength=self.n_concepts)
        sharing = (influence[self.pairs] - 1).mean(axis=0)
        one_on = squares[n_on.index(1)] - squares[n_on.index(0)]
        return np.sqrt(
            self.predicted_sd**2 + (anyone + self.patterns @ sharing * one_on) / len(self.code_out)
        )

    def split_in(self) -> Split:
        """`w_in` as compress ∘ decompress; exact on every sum of codes where `w_in` acts on the codes."""
        if self.route is not None:
            return Split(self.route, self.encode.T)
        return Split(self.w_in @ self.encode, np.linalg.pinv(self.encode))

    def split_out(self) -> Split:
        """`w_out` as compress ∘ decompress: outputs read off the neurons, then coded."""
        if self.linear:  # a linear layer's neurons are the code itself
            return Split(None, self.w_out)
        return Split(self.code_out, self.readoff)

    def _check(self, concepts: np.ndarray) -> None:
        if concepts.dtype != np.bool_ or concepts.ndim != 2 or concepts.shape[1] != self.n_concepts:
            raise ShapeError(
                f"circuit {self.name}: concepts have dtype {concepts.dtype} and shape {concepts.shape}, "
                f"wanted bool[batch, {self.n_concepts}]."
            )


@dataclass(frozen=True, eq=False)
class DeepCircuit:
    """Layers of circuits, each decoding what the one before wrote."""

    name: str
    """The construction."""
    layers: tuple[Circuit, ...]
    """The layers in order; the concepts of each are the outputs of the one before."""

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError(f"circuit {self.name}: no layers. Give at least one.")
        for i, (before, after) in enumerate(itertools.pairwise(self.layers)):
            written = before.code_out
            if (
                written is None
                or written.shape != after.encode.shape
                or not np.array_equal(written, after.encode)
            ):
                raise ShapeError(
                    f"circuit {self.name}: layer {i + 1} does not decode the code that layer {i} writes."
                )

    def __repr__(self) -> str:
        """Its layers."""
        outputs = " → ".join(
            str(n) for n in (self.layers[0].n_concepts, *(one.n_outputs for one in self.layers))
        )
        return f"DeepCircuit({self.name!r}, {len(self.layers)} layers, features {outputs})"

    def neurons(self, concepts: Bool[np.ndarray, "batch concept"]) -> list[Float[np.ndarray, "batch neuron"]]:
        """Neuron outputs of every layer; only the first layer sees clean inputs."""
        found = [self.layers[0].neurons(concepts)]
        for before, layer in itertools.pairwise(self.layers):
            assert before.code_out is not None
            written = found[-1] @ before.w_out.T + before.code_out @ before.readoff_bias
            found.append(layer.activate(written))
        return found

    def read(self, concepts: Bool[np.ndarray, "batch concept"]) -> list[Float[np.ndarray, "batch output"]]:
        """Every output of every layer as read off its neurons."""
        states = self.neurons(concepts)
        return [
            h @ layer.readoff.T + layer.readoff_bias for h, layer in zip(states, self.layers, strict=True)
        ]

    def truth(self, concepts: Bool[np.ndarray, "batch concept"]) -> list[Bool[np.ndarray, "batch output"]]:
        """Every output of every layer as it should be."""
        values = [self.layers[0].truth(concepts)]
        for layer in self.layers[1:]:
            values.append(layer.truth(values[-1]))
        return values


def patterns(order: int) -> Bool[np.ndarray, "pattern order"]:
    """All on/off settings of `order` concepts, all on first, all off last."""
    return np.array(list(itertools.product((True, False), repeat=order)), dtype=np.bool_)
