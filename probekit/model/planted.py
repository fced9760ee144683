"""A circuit set into a real transformer, so that the whole pipeline can be run where the answer is known.

Tokens carry sets of concepts: every vocabulary entry gets a random set, its embedding is the sum of their codes plus
Gaussian background, and the MLP layers have the circuit's weights, each reading what the one before wrote. Either all
concepts are read from the current token (the attention writes nothing), or some from the previous one, whose code a head
moves to coordinates of its own. What the pipeline then sees is a TransformerBridge, a corpus of token ids and a set of
concepts, nothing else.
Axes: concept input neuron doc pos.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int

from probekit.errors import InputError, guarded
from probekit.model.gates import computed_concepts, sides, token_concepts
from probekit.model.planting import Layout, plant_bridge
from probekit.model.weights import canonical_activation
from probekit.text.concepts.concepts import Concepts
from probekit.text.corpus import Corpus
from probekit.theory.circuits.circuit import Circuit, DeepCircuit

MIN_DOC = 2
MIN_VOCAB = 2
_BLOCK = 4_096  # tokens run through the circuit at a time

Spread = Literal["token", "previous"]
"""Where the concepts of a pair stand: all on the current token, or some on the previous one."""
NamedPair = tuple[str, str]


@dataclass(frozen=True)
class Planted:
    """A transformer with a known answer."""

    model: Any
    """The TransformerBridge."""
    corpus: Corpus
    """Its documents."""
    concepts: Concepts
    """The planted concepts, named f0, f1, … (with spread "previous" also prev:f0, prev:f1, …) and, for a deep circuit, the
    outputs of every layer but the last: g0_4 is output 4 of layer 0."""
    truth_by_layer: list[list[NamedPair]]
    """For each layer the pairs that its outputs are gates of, by name as the layer reads them, sorted; empty where outputs
    are no pairs."""
    shared_by_layer: list[list[NamedPair]]
    """For each layer the pairs not designated whose concepts are both read by some neuron: accidental channel sharing."""

    def __repr__(self) -> str:
        """Its layers, concepts and what is planted in them."""
        planted = ", ".join(str(len(pairs)) for pairs in self.truth_by_layer)
        layers = "1 layer" if len(self.truth_by_layer) == 1 else f"{len(self.truth_by_layer)} layers"
        return f"Planted({layers}, {len(self.concepts)} concepts, planted pairs: {planted}, corpus {self.corpus.name!r})"

    @property
    def truth(self) -> list[NamedPair]:
        """The designated pairs of the first layer (prev:f2 where f2 is read from the previous token)."""
        return self.truth_by_layer[0]

    @property
    def shared_channel(self) -> list[NamedPair]:
        """The first layer's pairs that share a neuron by accident."""
        return self.shared_by_layer[0]


@guarded
def plant(  # noqa: PLR0913
    circuit: Circuit | DeepCircuit,
    *,
    n_docs: int = 1_600,
    doc_len: int = 64,
    n_vocab: int | None = None,
    n_active: float | None = None,
    noise: float = 0.15,
    activation: str = "relu",
    spread: Spread = "token",
    layer_norm: bool = False,
    together: float = 0.0,
    seed: int = 0,
) -> Planted:
    """Set a circuit into a transformer, a layer of the circuit in each layer of the model.

    With spread "previous" every concept of the circuit is given a side, so that as many designated pairs as possible have
    one concept on each (all of them unless the pairs form odd cycles): the concepts of one side are read from the current
    token, the others from the previous one. The layer still computes the circuit, of concepts that stand on two tokens.
    Documents then begin with a token that holds no concept and has no background, as no token comes before it.

    A smooth activation (gelu, silu) runs on pre-activations 8 times as large, where it is within 0.022 (silu: 0.035) of the
    ReLU the constructions are made for; neurons are then 8 times the circuit's. A layer without activation (the linear
    permutation) gets two neurons for each of its own, act(z) and act(−z), whose difference is z for each of these
    activations. With LayerNorm, spare coordinates make every token's norm the same (up to one part in 10,000 in a deep
    circuit, whose layers add to it), and the MLP input is what it is without.

    Args:
        circuit: from `probekit.circuits`, of one layer or deep.
        n_docs: documents of the corpus.
        doc_len: tokens of each document.
        n_vocab: vocabulary entries, each with its own random set of concepts; None gives every token of the corpus an entry
            of its own. Entries that come back in other documents bring their background with them: readouts of that
            background are then confirmed, and the additive input seems to hold every AND.
        n_active: mean number of concepts on at a token (Poisson); None takes the circuit's own.
        noise: standard deviation of the Gaussian background on every input of the circuit.
        activation: of the MLP layers.
        spread: "token" or "previous".
        layer_norm: put LayerNorm before attention and MLP.
        together: probability with which the two concepts of a designated pair hold at a token together, besides what they do
            each by itself: pairs of real text are no accidents either. With spread "token" only.
        seed: of sets, background and documents.

    Raises:
        InputError: a size or choice is out of range, or the circuit is none.
    """
    layers = _layers(circuit)
    first = layers[0]
    n_entries = max(n_docs * doc_len, MIN_VOCAB) if n_vocab is None else n_vocab
    _check_sizes(n_docs, doc_len, n_entries, noise, spread)
    _check_together(together, first, spread)
    mean_active = float(first.n_active if n_active is None else n_active)
    if not 0 < mean_active <= first.n_concepts:
        raise InputError(f"plant: n_active={mean_active}, wanted between 0 and {first.n_concepts} concepts.")
    previous = spread == "previous"
    rng = np.random.default_rng([seed, 11])
    vocab_labels = rng.random((n_entries, first.n_concepts)) < mean_active / first.n_concepts
    if together:
        vocab_labels = _with_events(vocab_labels, first.pairs, together, np.random.default_rng([seed, 13]))
    lagged = sides(first) if previous else np.zeros(first.n_concepts, np.bool_)
    parts = [_part(first, lagged == lag) for lag in range(1 + previous)]
    inputs = np.concatenate([vocab_labels @ code.T for code, _ in parts], axis=1)
    # a circuit's input that has a coordinate for each side gets its background in two halves
    n_shares = np.concatenate([sum(np.isin(rows, other) for _, other in parts) for _, rows in parts])
    inputs += noise / np.sqrt(n_shares) * rng.standard_normal(inputs.shape)
    if n_vocab is None:
        tokens = rearrange(np.arange(n_docs * doc_len), "(doc pos) -> doc pos", pos=doc_len)
    else:
        tokens = rng.integers(0, n_entries, size=(n_docs, doc_len))
    if previous:
        vocab_labels, inputs = (
            np.concatenate([array, np.zeros_like(array[:1])]) for array in (vocab_labels, inputs)
        )
        tokens[:, 0] = n_entries
    reads = [first.w_in[:, rows] for _, rows in parts]
    if previous:  # the first part from the current token, the second from the previous one
        reads = [reads[0], np.zeros_like(reads[1]), np.zeros_like(reads[0]), reads[1]]
    w_in = np.concatenate(reads, axis=1)
    layout = Layout(
        inputs.shape[1], tuple(len(c.w_out) for c in layers), previous=previous, layer_norm=layer_norm
    )
    name = circuit.name
    model = plant_bridge(
        layers, layout, inputs, w_in, doc_len, canonical_activation(activation), name=name,
        written_square=_written_square(layers, w_in, inputs, tokens, previous=previous) if layer_norm else 0.0,
    )  # fmt: skip
    concepts, place = token_concepts(vocab_labels, lagged, previous=previous)
    truth, shared = [], []
    for depth, layer in enumerate(layers):
        designated = _named(layer.pairs, concepts, place) if layer.pairs.shape[1] > 1 else set[NamedPair]()
        truth.append(sorted(designated))
        shared.append(sorted(_named(_read_together(layer), concepts, place) - designated))
        if depth < len(layers) - 1:
            concepts, place = computed_concepts(concepts, place, layers[: depth + 1], vocab_labels, lagged)
    return Planted(
        model=model,
        corpus=Corpus.from_tokens(tokens.astype(np.int32), name=f"planted {name}"),
        concepts=concepts,
        truth_by_layer=truth,
        shared_by_layer=shared,
    )


def _layers(circuit: Circuit | DeepCircuit) -> tuple[Circuit, ...]:
    if isinstance(circuit, DeepCircuit):
        return tuple(_activated(layer) for layer in circuit.layers)
    if not isinstance(circuit, Circuit):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"plant: got a {type(circuit).__name__}; wanted a circuit from probekit.circuits such as two_and(...)."
        )
    return (_activated(circuit),)


def _activated(circuit: Circuit) -> Circuit:
    """A layer without activation as one with: z = relu(z) − relu(−z), and the same for gelu and silu."""
    if not circuit.linear:
        return circuit
    route = None if circuit.route is None else np.concatenate([circuit.route, -circuit.route])
    return replace(
        circuit,
        w_in=np.concatenate([circuit.w_in, -circuit.w_in]),
        b_in=np.concatenate([circuit.b_in, -circuit.b_in]),
        w_out=np.concatenate([circuit.w_out, -circuit.w_out], axis=1),
        readoff=np.concatenate([circuit.readoff, -circuit.readoff], axis=1),
        route=route,
        linear=False,
    )


def _written_square(
    layers: tuple[Circuit, ...],
    w_in: Float[np.ndarray, "neuron coordinate"],
    inputs: Float[np.ndarray, "vocab input"],
    tokens: Int[np.ndarray, "doc pos"],
    *,
    previous: bool,
) -> float:
    """Largest square norm of all that the layers before the last one write at a token of the corpus, mirrored."""
    ids, largest = tokens.ravel(), 0.0
    # the token before; a document's first token holds nothing and looks at itself
    before = np.concatenate([tokens[:, :1], tokens[:, :-1]], axis=1).ravel()
    if len(layers) == 1:
        return largest
    for start in range(0, len(ids), _BLOCK):
        rows = inputs[ids[start : start + _BLOCK]]
        if previous:
            rows = np.concatenate([rows, inputs[before[start : start + _BLOCK]]], axis=1)
        square = np.zeros(len(rows))
        neurons = np.maximum(rows @ w_in.T + layers[0].b_in, 0.0)
        for layer, after in itertools.pairwise(layers):
            assert layer.code_out is not None
            written = neurons @ layer.w_out.T + layer.code_out @ layer.readoff_bias
            square += 2 * (written**2).sum(axis=1)
            neurons = after.activate(written)
        largest = max(largest, float(square.max()))
    return largest


def _check_sizes(n_docs: int, doc_len: int, n_vocab: int, noise: float, spread: str) -> None:
    for name, value, least in (
        ("n_docs", n_docs, 1),
        ("doc_len", doc_len, MIN_DOC),
        ("n_vocab", n_vocab, MIN_VOCAB),
    ):
        if value < least:
            raise InputError(f"plant: {name}={value}, wanted at least {least}.")
    if not noise >= 0:
        raise InputError(f"plant: noise={noise}, wanted a standard deviation ≥ 0.")
    if spread not in get_args(Spread):
        raise InputError(f"plant: spread={spread!r}, wanted 'token' or 'previous'.")


def _check_together(together: float, circuit: Circuit, spread: str) -> None:
    if not 0 <= together <= 1:
        raise InputError(f"plant: together={together}, wanted a probability.")
    if together and (spread != "token" or circuit.pairs.shape[1] != 2):
        raise InputError(
            f"plant: together={together} with spread={spread!r} and {circuit.pairs.shape[1]} concepts an output; wanted "
            "spread='token' and a circuit of pairs, whose two concepts can hold at one token."
        )


def _with_events(
    vocab_labels: Bool[np.ndarray, "vocab concept"],
    pairs: Int[np.ndarray, "output 2"],
    together: float,
    rng: np.random.Generator,
) -> Bool[np.ndarray, "vocab concept"]:
    """The sets with further tokens at which both concepts of a pair hold."""
    event = rng.random((len(vocab_labels), len(pairs))) < together
    both = vocab_labels.copy()
    for pair, there in zip(pairs, event.T, strict=True):
        both[:, pair] |= there[:, None]
    return both


def _part(
    circuit: Circuit, own_concepts: Bool[np.ndarray, " concept"]
) -> tuple[Float[np.ndarray, "coordinate concept"], Int[np.ndarray, " coordinate"]]:
    """The codes of some concepts, and which of the circuit's inputs they take up."""
    code = np.where(own_concepts, circuit.encode, 0.0)
    rows = np.arange(circuit.d_model) if own_concepts.all() else np.flatnonzero(code.any(axis=1))
    return code[rows], rows


def _named(
    pairs: Int[np.ndarray, "pair order"], concepts: Concepts, place: Int[np.ndarray, " concept"]
) -> set[tuple[str, str]]:
    """Pairs by the names of the concepts as they are read, in the order in which the concepts stand."""
    placed = np.sort(place[pairs[:, :2]], axis=1)
    return {(concepts.names[a], concepts.names[b]) for a, b in placed.tolist()}


def _read_together(circuit: Circuit) -> Int[np.ndarray, "pair 2"]:
    """All pairs of concepts that some neuron reads."""
    if circuit.route is None:
        return np.zeros((0, 2), np.int64)
    reads = (circuit.route != 0).astype(np.int64)
    return np.argwhere(np.triu(reads.T @ reads, 1))
