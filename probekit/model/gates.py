"""What the concepts of a planted transformer are: sets that tokens carry, and the gates that its layers compute of them.

A deep circuit's later layers read the outputs of the layers before, so these outputs are concepts too, labelled as they
should be, not as the layers got them. Axes: concept output token vocab.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from probekit.text.concepts.blocks import Column, Where
from probekit.text.concepts.concepts import Concepts
from probekit.text.tokens import Tokens
from probekit.theory.circuits.circuit import Circuit


@dataclass(frozen=True, eq=False)
class GateBlock:
    """Outputs of a circuit's layer as concepts."""

    columns: tuple[Column, ...]
    """One for each output."""
    vocab_labels: Bool[np.ndarray, "vocab concept"]
    """The set that each vocabulary entry carries."""
    lagged: Bool[np.ndarray, " concept"]
    """Concepts that the first layer reads from the previous token."""
    layers: tuple[Circuit, ...]
    """The layers up to the one whose outputs these are."""

    def label(self, tokens: Tokens) -> list[Where]:
        """Sorted counted tokens of each output, from the sets by the gates' truth."""
        ids = tokens.ids[tokens.counted]
        before = np.concatenate([ids[:1], ids[:-1]])
        # the first counted token of a document has none before it
        begins = (tokens.pos_of_token == 0)[:, None]
        values = np.where(self.lagged, self.vocab_labels[before] & ~begins, self.vocab_labels[ids])
        for layer in self.layers:
            values = layer.truth(values)
        return [np.flatnonzero(column).astype(np.int32) for column in values.T]


def token_concepts(
    vocab_labels: Bool[np.ndarray, "vocab concept"], lagged: Bool[np.ndarray, " concept"], *, previous: bool
) -> tuple[Concepts, Int[np.ndarray, " concept"]]:
    """The sets that tokens carry as concepts, and which of them the first layer reads for each of its own."""
    n_concepts = vocab_labels.shape[1]
    sets = {f"f{c}": vocab_labels[:, c] for c in range(n_concepts)}
    place = np.arange(n_concepts) + n_concepts * lagged
    return Concepts.from_vocab(sets, lags=(0, 1) if previous else (0,)), place


def computed_concepts(
    concepts: Concepts,
    place: Int[np.ndarray, " read"],
    layers: tuple[Circuit, ...],
    vocab_labels: Bool[np.ndarray, "vocab concept"],
    lagged: Bool[np.ndarray, " concept"],
) -> tuple[Concepts, Int[np.ndarray, " output"]]:
    """The concepts with the outputs of the last of `layers` beside them, and where each output stands among them.

    A layer whose outputs are its concepts again (error correction, permutation) brings no new ones.
    """
    depth, layer = len(layers) - 1, layers[-1]
    if layer.pairs.shape[1] == 1:
        return concepts, place[layer.pairs[:, 0]]
    kinds = layer.gates or ("and",) * layer.n_outputs
    names = [[concepts.names[place[c]] for c in row] for row in layer.pairs.tolist()]
    columns = tuple(
        Column(f"g{depth}_{k}", "user", 0, f"{kind} of {' and '.join(of)}, which layer {depth} computes")
        for k, (kind, of) in enumerate(zip(kinds, names, strict=True))
    )
    new = Concepts((GateBlock(columns, vocab_labels, lagged, layers),))
    return concepts + new, len(concepts) + np.arange(layer.n_outputs)


def sides(circuit: Circuit) -> Bool[np.ndarray, " concept"]:
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
