"""Worlds whose answer is known: concepts with the statistics of language, superposed inputs, a layer of planted ANDs.

Inputs are x = Σ codes of the concepts that hold + directions of the ANDs that lie there already + a Gaussian background,
with random unit codes in fewer dimensions than there are concepts if so asked. The layer is relu(W_in x + b): a block of
neurons computes chosen ANDs (the 2-AND of Adler & Shavit, arXiv 2409.15318, of low influence), a block reads ANDs of the
input over a threshold and passes them on, half of the rest read single concepts, the others are random. A universal layer
(Hänni et al., arXiv 2408.05451) computes a little of every AND instead. The statistics are those of
`probekit.theory.concept_statistics`; synthetic data of this kind for autoencoders: SynthSAEBench (arXiv 2602.14687).

Every pair has a class:

* computed: planted in the layer;
* kin of computed: some computing neuron reads both concepts too, by at least half a code, or a concept of a computed pair
  hangs together with one of them, so that it carries a part of the interaction. Neither found nor missed;
* relayed: an interaction of the two lies in the input, because their AND was put there or because both belong to one group
  (what else of the group holds depends on both). Nothing of it is computed;
* kin of relayed: the same for a pair whose AND was put into the input;
* null: everything else.

Axes: token neuron concept pair input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from probekit.errors import InputError, guarded
from probekit.theory.checks import Number, as_count, as_fraction, as_positive, as_probability
from probekit.theory.circuits.two_and import two_and
from probekit.theory.circuits.uand import sparse_uand
from probekit.theory.concept_statistics import KINDS, Statistics

PairClass = Literal["computed", "kin of computed", "relayed", "kin of relayed", "null"]
CLASSES: tuple[PairClass, ...] = ("computed", "kin of computed", "relayed", "kin of relayed", "null")
"""A pair has the first of these that fits."""
NOT_COMPUTED: tuple[PairClass, ...] = ("relayed", "kin of relayed", "null")
"""Classes of which a find is false."""
CHANNEL = 5
"""Neurons of a computed pair, and of an AND that is passed on."""
GAIN, THRESHOLD = 2.0, 0.5
"""Of neurons that pass an AND on, or read one concept."""
READS = 0.5
"""Reading of a concept, in codes, from which a computing neuron counts as reading it."""
DOC_NOISE = 0.05
"""Standard deviation of a document's offset of every coordinate."""
MIN_DOCS = 60
"""Documents at which both concepts of a testable pair hold together."""
MOST_CANDIDATES = 5_000
"""Pairs whose documents are counted, drawn at random where more have the tokens."""

PairRows = Int[np.ndarray, "pair 2"]
Computed = Int[np.ndarray, "computed_pair 2"]
Relayed = Int[np.ndarray, "relayed_pair 2"]
ReadTogether = Int[np.ndarray, "read_pair 2"]


@dataclass(frozen=True, eq=False)
class World:
    """One world: the arrays that `analyze_arrays` takes, and what is true of every pair."""

    neurons: Float[np.ndarray, "token neuron"]
    """Outputs of the layer, fp32."""
    labels: Bool[np.ndarray, "token concept"]
    """Which concepts hold."""
    doc: Int[np.ndarray, " token"]
    """Document of each token, non-decreasing."""
    inputs: Float[np.ndarray, "token input"]
    """What the layer reads, fp32."""
    weights: tuple[Float[np.ndarray, "neuron input"], Float[np.ndarray, " neuron"]]
    """(w_in, b_in); neurons = relu(inputs · w_inᵀ + b_in)."""
    codes: Float[np.ndarray, "input concept"]
    """Unit code of each concept."""
    statistics: Statistics
    """What was asked of the labels: rates, kinds, groups."""
    computed: Computed
    """Pairs that the layer was made to compute, low concept first; of a universal layer none is listed: it computes all."""
    relayed: Relayed
    """Pairs whose AND was put into the input."""
    read_together: ReadTogether
    """Pairs that some computing neuron reads without having been made for them."""
    universal: bool
    """Whether the layer computes a little of every AND."""
    min_support: int
    """Tokens that every quadrant of a planted pair holds."""

    def __repr__(self) -> str:
        tokens, concepts = self.labels.shape
        made = "every AND" if self.universal else f"{len(self.computed)} ANDs computed"
        return (
            f"World({concepts:,} concepts, {tokens:,} tokens, {self.neurons.shape[1]:,} neurons on {len(self.codes):,} "
            f"inputs: {made}, {len(self.relayed)} relayed)"
        )

    @property
    def names(self) -> list[str]:
        """Names of the concepts, those that `analyze_arrays` gives by default."""
        return [f"c{concept}" for concept in range(self.labels.shape[1])]

    @property
    def kinds(self) -> list[str]:
        """Of each concept: free, correlated, hierarchical or exclusive."""
        return [KINDS[kind] for kind in self.statistics.kind]

    @property
    def truth(self) -> list[tuple[str, str]]:
        """The computed pairs by name, as `Run.report(truth=…)` takes them."""
        return [(f"c{a}", f"c{b}") for a, b in self.computed]

    def class_of(self, pairs: PairRows) -> list[PairClass]:
        """Class of every pair.

        Args:
            pairs: concepts of each, in any order.

        Raises:
            InputError: a concept that the world does not have, or one with itself.
        """
        n_concepts = self.labels.shape[1]
        low, high = np.sort(pairs, axis=1).T
        if len(pairs) and (low.min() < 0 or high.max() >= n_concepts or (low == high).any()):
            raise InputError(f"pairs: wanted two different concepts of 0 … {n_concepts - 1} in each row.")
        found = np.full(len(pairs), CLASSES.index("null"))
        group, hangs = self.statistics.group, self.statistics.hangs_together()
        within = (group[low] == group[high]) & hangs[low]
        fits = {
            "kin of relayed": self._kin(low, high, self.relayed),
            "relayed": within | _among(low, high, self.relayed, n_concepts),
            "kin of computed": self._kin(low, high, self.computed)
            | _among(low, high, self.read_together, n_concepts),
            "computed": _among(low, high, self.computed, n_concepts) | self.universal,
        }
        for name, mask in fits.items():  # the first class of CLASSES comes last and stays
            found[mask] = CLASSES.index(name)
        return [CLASSES[i] for i in found]

    def testable(self, min_support: int | None = None) -> PairRows:
        """Pairs with enough tokens in each quadrant, and both concepts together in enough documents.

        At most 5,000, drawn at random where there are more; the draw is the same every time.

        Args:
            min_support: tokens of every quadrant; None takes the one with which pairs were planted.
        """
        wanted = self.min_support if min_support is None else as_count("min_support", min_support)
        return _testable(np.random.default_rng([len(self.doc), 147]), self.labels, self.doc, wanted)

    def _kin(self, low: np.ndarray, high: np.ndarray, pairs: PairRows) -> Bool[np.ndarray, " row"]:
        """Pairs between the groups of the concepts of given pairs."""
        group = self.statistics.group
        # a concept that hangs together with no other is a group of its own
        single = np.where(self.statistics.hangs_together(), group, group.max() + 1 + np.arange(len(group)))
        n_groups = int(single.max()) + 1
        one, other = np.sort(single[np.stack([low, high])], axis=0)
        return _among(one, other, np.sort(single[pairs], axis=1), n_groups)


@guarded
def worlds(  # noqa: PLR0913
    n_worlds: Number = 1,
    *,
    n_concepts: Number = 48,
    n_neurons: Number = 192,
    d_model: Number = 64,
    n_tokens: Number = 12_000,
    doc_len: Number = 40,
    zipf: Number = 0.5,
    top_rate: Number = 0.25,
    grouped: Number = 0.75,
    group_size: Number = 4,
    correlation: Number = 0.5,
    burst: Number = 0.2,
    load: Number = 0.05,
    n_relayed: Number = 8,
    universal: bool = False,
    noise: Number = 0.1,
    min_support: Number = 80,
    seed: int = 0,
) -> Iterator[World]:
    """Synthetic worlds whose answer is known, one after the other.

        world = next(pk.worlds(correlation=0.6, load=0.1))
        run = pk.analyze_arrays(world.neurons, world.labels, world.doc, inputs=world.inputs, weights=world.weights)

    Thousands of concepts are possible; few of their pairs then have the tokens to be tested, as in language.

    Args:
        n_worlds: how many; world i of a seed is the same however many are asked for.
        n_concepts: concepts.
        n_neurons: neurons: one half computes, up to a quarter passes ANDs on.
        d_model: dimensions of the input; codes are superposed, whether or not there are more concepts.
        n_tokens: tokens.
        doc_len: tokens of a document.
        zipf: exponent z of the rates top_rate · rank^−z. Words have about 1; then more tokens are needed.
        top_rate: rate of the most frequent concept, at most 1 / group_size.
        grouped: share of the concepts in groups: correlated, hierarchical and exclusive ones in turn.
        group_size: concepts of a group.
        correlation: of the Gaussians behind the labels within a correlated group.
        burst: share of the Gaussians' variance that belongs to the document.
        load: ANDs computed for each neuron of the layer; 0 for a layer that computes nothing.
        n_relayed: ANDs put into the input; as many are passed on as a quarter of the neurons can, five to each.
        universal: a layer that computes a little of every AND in place of chosen ones; `load` is not looked at.
        noise: standard deviation of the background of each coordinate.
        min_support: tokens that every quadrant of a planted pair holds.
        seed: of everything.

    Raises:
        InputError: a parameter is out of range, or fewer pairs have the tokens than are to be planted.
    """
    size = as_count("group_size", group_size, at_least=3)
    top = as_probability("top_rate", top_rate)
    if top * size > 1:
        raise InputError(
            f"top_rate: got {top}, wanted at most 1 / group_size = {1 / size:g}. Lower top_rate."
        )
    asked = _Asked(
        n_concepts=as_count("n_concepts", n_concepts, at_least=4),
        n_neurons=as_count("n_neurons", n_neurons, at_least=4 * CHANNEL),
        d_model=as_count("d_model", d_model, at_least=2),
        n_tokens=as_count("n_tokens", n_tokens, at_least=100),
        doc_len=as_count("doc_len", doc_len),
        zipf=as_fraction("zipf", zipf, below=10.0),
        top_rate=top,
        grouped=as_fraction("grouped", grouped, below=1.0 + 1e-9),
        group_size=size,
        correlation=as_fraction("correlation", correlation),
        burst=as_fraction("burst", burst),
        n_computed=round(as_fraction("load", load, below=100.0) * as_count("n_neurons", n_neurons)),
        n_relayed=as_count("n_relayed", n_relayed, at_least=0),
        universal=bool(universal),
        noise=as_positive("noise", noise),
        min_support=as_count("min_support", min_support),
    )
    first = as_count("seed", seed, at_least=0)
    return (asked.draw(first, number) for number in range(as_count("n_worlds", n_worlds)))


@dataclass(frozen=True)
class _Asked:
    """Arguments of `worlds`, checked."""

    n_concepts: int
    n_neurons: int
    d_model: int
    n_tokens: int
    doc_len: int
    zipf: float
    top_rate: float
    grouped: float
    group_size: int
    correlation: float
    burst: float
    n_computed: int
    n_relayed: int
    universal: bool
    noise: float
    min_support: int

    def draw(self, seed: int, number: int) -> World:
        """World `number` of a seed."""
        rng = np.random.default_rng([seed, number, 146])
        statistics = Statistics.of(
            rng, self.n_concepts, zipf=self.zipf, top_rate=self.top_rate, grouped=self.grouped,
            group_size=self.group_size, correlation=self.correlation, burst=self.burst,
        )  # fmt: skip
        doc = np.arange(self.n_tokens) // self.doc_len
        labels = statistics.draw(rng, doc)
        computed, relayed = self._planted(rng, statistics, labels, doc)
        codes, along = _unit(rng, self.d_model, self.n_concepts), _unit(rng, self.d_model, len(relayed))
        both = labels[:, relayed[:, 0]] & labels[:, relayed[:, 1]]
        inputs = sparse.csr_matrix(labels, dtype=np.float64) @ codes.T + both @ along.T
        inputs += self.noise * rng.standard_normal(inputs.shape)
        inputs += DOC_NOISE * rng.standard_normal((doc[-1] + 1, self.d_model))[doc]
        w_in, b_in, together = self._layer(rng, computed, codes, along)
        inputs, w_in, b_in = (array.astype(np.float32) for array in (inputs, w_in, b_in))
        neurons = np.maximum(inputs @ w_in.T + b_in, 0)
        return World(
            neurons, labels, doc, inputs, (w_in, b_in), codes, statistics, computed, relayed, together, self.universal,
            self.min_support,
        )  # fmt: skip

    def _planted(
        self, rng: np.random.Generator, statistics: Statistics, labels: np.ndarray, doc: np.ndarray
    ) -> tuple[Computed, Relayed]:
        """Pairs to compute and pairs to put into the input, each concept in as few of them as can be."""
        pairs = _testable(rng, labels, doc, self.min_support)
        group, hangs = statistics.group, statistics.hangs_together()
        a, b = pairs.T
        pairs = rng.permutation(pairs[~((group[a] == group[b]) & hangs[a])])
        n_computed = 0 if self.universal else self.n_computed
        wanted = n_computed + self.n_relayed
        if len(pairs) < wanted:
            raise InputError(
                f"load, n_relayed: {wanted} ANDs are to be planted, and {len(pairs)} pairs have {self.min_support} "
                "tokens in each quadrant. Lower load, n_relayed, min_support or zipf, or raise n_tokens."
            )
        chosen = rng.permutation(_spread_out(pairs, wanted, self.n_concepts))
        return chosen[:n_computed], chosen[n_computed:]

    def _layer(
        self, rng: np.random.Generator, computed: Computed, codes: np.ndarray, along: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, ReadTogether]:
        """Weights, biases, and the pairs read together by accident."""
        order = rng.permutation(self.n_neurons)
        half, quarter = self.n_neurons // 2, self.n_neurons // 4
        passing = np.repeat(np.arange(along.shape[1]), CHANNEL)[: quarter // CHANNEL * CHANNEL]
        w_in = rng.standard_normal((self.n_neurons, self.d_model)) / np.sqrt(self.d_model)
        b_in = np.zeros(self.n_neurons)
        at = order[half : half + len(passing)]
        w_in[at], b_in[at] = GAIN * along[:, passing].T, -GAIN * THRESHOLD
        rest = order[half + len(passing) :]
        readers = rest[: len(rest) // 2]
        w_in[readers] += GAIN * codes[:, rng.integers(0, self.n_concepts, len(readers))].T
        b_in[readers] = -rng.uniform(0, GAIN, len(readers))
        if not (len(computed) or self.universal):
            return w_in, b_in, np.empty((0, 2), np.int64)
        seed = int(rng.integers(2**31))
        if self.universal:
            circuit = sparse_uand(
                n_concepts=self.n_concepts, n_neurons=half, n_active=3, pairs=[(0, 1)], seed=seed
            )
        else:
            circuit = two_and(
                pairs=computed, n_concepts=self.n_concepts, n_neurons=half, channel=CHANNEL, seed=seed
            )
        used = circuit.w_in.any(axis=1)  # the others stay random
        at = order[:half][used]
        w_in[at], b_in[at] = circuit.w_in[used] @ codes.T, circuit.b_in[used]
        together = (
            np.empty((0, 2), np.int64) if self.universal else _read_together(w_in[at] @ codes, computed)
        )
        return w_in, b_in, together


def _unit(rng: np.random.Generator, n_inputs: int, n: int) -> Float[np.ndarray, "input concept"]:
    codes = rng.standard_normal((n_inputs, n))
    return codes / np.linalg.norm(codes, axis=0)


def _among(low: np.ndarray, high: np.ndarray, pairs: PairRows, n: int) -> Bool[np.ndarray, " row"]:
    """Which (low, high) are rows of `pairs`."""
    return np.isin(low.astype(np.int64) * n + high, pairs[:, 0].astype(np.int64) * n + pairs[:, 1])


def _testable(rng: np.random.Generator, labels: np.ndarray, doc: np.ndarray, min_support: int) -> PairRows:
    """Pairs with enough tokens in each quadrant and enough documents with both, in order."""
    held = sparse.csc_matrix(labels, dtype=np.int32)
    together = sparse.triu(held.T @ held, k=1).tocoo()
    a, b, n11 = together.row, together.col, together.data
    n = labels.sum(axis=0)
    fewest = np.minimum.reduce([n11, n[a] - n11, n[b] - n11, len(labels) - n[a] - n[b] + n11])
    places = np.flatnonzero(fewest >= min_support)
    if len(places) > MOST_CANDIDATES:
        places = rng.choice(places, MOST_CANDIDATES, replace=False)
    pairs = np.stack([a[places], b[places]], axis=1).astype(np.int64)
    n_docs = np.array([len(np.unique(doc[labels[:, i] & labels[:, j]])) for i, j in pairs], np.int64)
    pairs = pairs[n_docs >= min(MIN_DOCS, (int(doc[-1]) + 1) // 2)]
    return pairs[np.lexsort(pairs.T[::-1])]


def _spread_out(pairs: PairRows, wanted: int, n_concepts: int) -> Int[np.ndarray, "chosen 2"]:
    """The first pairs of which no concept is in more than one, then in more than two, …"""
    taken, left, chosen = np.zeros(n_concepts, int), list(map(tuple, pairs.tolist())), list[tuple[int, int]]()
    most = 1
    while len(chosen) < wanted:
        later: list[tuple[int, int]] = []
        for a, b in left:
            if len(chosen) < wanted and max(taken[a], taken[b]) < most:
                chosen.append((a, b))
                taken[[a, b]] += 1
            else:
                later.append((a, b))
        left, most = later, most + 1
    return np.array(chosen, np.int64).reshape(-1, 2)


def _read_together(reading: Float[np.ndarray, "neuron concept"], computed: Computed) -> ReadTogether:
    """Pairs, computed ones left out, that some neuron reads by at least half a code each."""
    n_concepts = reading.shape[1]
    found: set[int] = set()
    for row in reading:
        read = np.flatnonzero(row >= READS)
        found |= {int(a) * n_concepts + int(b) for i, a in enumerate(read) for b in read[i + 1 :]}
    keys = np.array(sorted(found - {int(a) * n_concepts + int(b) for a, b in computed}), np.int64)
    return np.stack([keys // n_concepts, keys % n_concepts], axis=1)
