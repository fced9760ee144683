"""A circuit set into a real transformer, so that the whole pipeline can be run where the answer is known.

Tokens carry sets of concepts: every vocabulary entry gets a random set, its embedding is the sum of their codes plus
Gaussian background, and the one MLP layer has the circuit's weights. Either all concepts are read from the current token
(the attention writes nothing), or some from the previous one, whose code a head moves to coordinates of its own. What the
pipeline then sees is a TransformerBridge, a corpus of token ids and a set of concepts, nothing else.
Axes: concept input neuron doc pos.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from probekit.errors import InputError
from probekit.model.planting import Layout, plant_bridge
from probekit.model.weights import canonical_activation
from probekit.text.concepts.concepts import Concepts
from probekit.text.corpus import Corpus
from probekit.theory.circuits.circuit import Circuit, DeepCircuit

MIN_DOC = 2
MIN_VOCAB = 2

Spread = Literal["token", "previous"]
"""Where the concepts of a pair stand: all on the current token, or some on the previous one."""


@dataclass(frozen=True)
class Planted:
    """A transformer with a known answer."""

    model: Any
    """The TransformerBridge."""
    corpus: Corpus
    """Its documents."""
    concepts: Concepts
    """The planted concepts, named f0, f1, …; with spread "previous" also prev:f0, prev:f1, …"""
    truth: list[tuple[str, str]]
    """The designated pairs by name as the layer reads them (prev:f2 where f2 is read from the previous token), sorted;
    empty where outputs are no pairs."""
    shared_channel: list[tuple[str, str]]
    """Pairs not designated whose concepts are both read by some neuron: accidental channel sharing."""


def plant(
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
    seed: int = 0,
) -> Planted:
    """Set a circuit into a one-layer transformer.

    With spread "previous" every concept of the circuit is given a side, so that as many designated pairs as possible have
    one concept on each (all of them unless the pairs form odd cycles): the concepts of one side are read from the current
    token, the others from the previous one. The layer still computes the circuit, of concepts that stand on two tokens.
    Documents then begin with a token that holds no concept and has no background, as no token comes before it.

    A smooth activation (gelu, silu) runs on pre-activations 8 times as large, where it is within 0.022 (silu: 0.035) of the
    ReLU the constructions are made for; neurons are then 8 times the circuit's. With LayerNorm, spare coordinates make
    every token's norm the same, and the MLP input is what it is without.

    Args:
        circuit: one computing layer (from `probekit.circuits`); a deep one is refused.
        n_docs: documents of the corpus.
        doc_len: tokens of each document.
        n_vocab: vocabulary entries, each with its own random set of concepts; None gives every token of the corpus an entry
            of its own. Entries that come back in other documents bring their background with them: readouts of that
            background are then confirmed, and the additive input seems to hold every AND.
        n_active: mean number of concepts on at a token (Poisson); None takes the circuit's own.
        noise: standard deviation of the Gaussian background on every input of the circuit.
        activation: of the MLP layer.
        spread: "token" or "previous".
        layer_norm: put LayerNorm before attention and MLP.
        seed: of sets, background and documents.

    Raises:
        InputError: a size or choice is out of range, or the circuit is none that one MLP layer can hold.
    """
    circuit = _computing_layer(circuit)
    n_entries = max(n_docs * doc_len, MIN_VOCAB) if n_vocab is None else n_vocab
    _check_sizes(n_docs, doc_len, n_entries, noise, spread)
    mean_active = float(circuit.n_active if n_active is None else n_active)
    if not 0 < mean_active <= circuit.n_concepts:
        raise InputError(
            f"plant: n_active={mean_active}, wanted between 0 and {circuit.n_concepts} concepts."
        )
    previous = spread == "previous"
    rng = np.random.default_rng([seed, 11])
    held = rng.random((n_entries, circuit.n_concepts)) < mean_active / circuit.n_concepts
    n_lagged = _sides(circuit) if previous else np.zeros(circuit.n_concepts, np.bool_)
    parts = [_part(circuit, n_lagged == lag) for lag in range(1 + previous)]
    inputs = np.concatenate([held @ code.T for code, _ in parts], axis=1)
    # a circuit's input that has a coordinate for each side gets its background in two halves
    n_shares = np.concatenate([sum(np.isin(rows, other) for _, other in parts) for _, rows in parts])
    inputs += noise / np.sqrt(n_shares) * rng.standard_normal(inputs.shape)
    if n_vocab is None:
        tokens = np.arange(n_docs * doc_len).reshape(n_docs, doc_len)
    else:
        tokens = rng.integers(0, n_entries, size=(n_docs, doc_len))
    if previous:
        held, inputs = (np.concatenate([array, np.zeros_like(array[:1])]) for array in (held, inputs))
        tokens[:, 0] = n_entries
    layout = Layout(inputs.shape[1], circuit.w_out.shape[0], previous=previous, layer_norm=layer_norm)
    reads = [circuit.w_in[:, rows] for _, rows in parts]
    if previous:  # the first part from the current token, the second from the previous one
        reads = [reads[0], np.zeros_like(reads[1]), np.zeros_like(reads[0]), reads[1]]
    model = plant_bridge(
        circuit, layout, inputs, np.concatenate(reads, axis=1), doc_len, canonical_activation(activation)
    )
    sets = {f"f{c}": held[:, c] for c in range(circuit.n_concepts)}
    concepts = Concepts.from_vocab(sets, lags=(0, 1) if previous else (0,))
    place = np.arange(circuit.n_concepts) + circuit.n_concepts * n_lagged
    designated = (
        _named(circuit.pairs, concepts, place) if circuit.pairs.shape[1] > 1 else set[tuple[str, str]]()
    )
    return Planted(
        model=model,
        corpus=Corpus.from_tokens(tokens.astype(np.int32), name=f"planted {circuit.name}"),
        concepts=concepts,
        truth=sorted(designated),
        shared_channel=sorted(_named(_read_together(circuit), concepts, place) - designated),
    )


def _computing_layer(circuit: Circuit | DeepCircuit) -> Circuit:
    if isinstance(circuit, DeepCircuit):
        raise InputError(
            f"plant: {circuit.name} has {len(circuit.layers)} layers, of which only the first computes concepts of "
            "tokens; later ones compute outputs of the layers before, with what these got wrong. Plant "
            "circuit.layers[0], or measure the whole with probekit.theory.measure.measure_deep."
        )
    if not isinstance(circuit, Circuit):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"plant: got a {type(circuit).__name__}; wanted a one-layer Circuit such as two_and(...)."
        )
    if circuit.linear:
        raise InputError(f"plant: {circuit.name} has no activation; wanted a circuit of a ReLU layer.")
    return circuit


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


def _part(
    circuit: Circuit, mine: Bool[np.ndarray, " concept"]
) -> tuple[Float[np.ndarray, "coordinate concept"], Int[np.ndarray, " coordinate"]]:
    """The codes of some concepts, and which of the circuit's inputs they take up."""
    code = np.where(mine, circuit.encode, 0.0)
    rows = np.arange(circuit.d_model) if mine.all() else np.flatnonzero(code.any(axis=1))
    return code[rows], rows


def _sides(circuit: Circuit) -> Bool[np.ndarray, " concept"]:
    """Which concepts are read from the previous token, such that most pairs have one concept on each side."""
    m = circuit.n_concepts
    linked = np.zeros((m, m), np.int64)
    for a, b in itertools.combinations(range(circuit.pairs.shape[1]), 2):
        np.add.at(linked, (circuit.pairs[:, a], circuit.pairs[:, b]), 1)
    linked += linked.T
    # breadth first, in turn: exact wherever the pairs allow it
    side = np.full(m, -1)
    for root in circuit.pairs[:, 0].tolist() + list(range(m)):
        if side[root] >= 0:
            continue
        side[root], queue = 1, deque([root])
        while queue:
            here = queue.popleft()
            for neighbour in np.flatnonzero(linked[here]).tolist():
                if side[neighbour] < 0:
                    side[neighbour] = 1 - side[here]
                    queue.append(neighbour)
    # elsewhere: move single concepts while that spreads more pairs; every move spreads at least one more
    while (gain := linked @ (2 * side - 1) * (2 * side - 1)).max(initial=0) > 0:
        worst = int(gain.argmax())
        side[worst] = 1 - side[worst]
    return side.astype(np.bool_)


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
