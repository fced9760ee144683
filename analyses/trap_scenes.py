"""Layers in which nothing, or nothing but what was planted, is computed: the scenes of traps.py.

A scene holds labels, documents and inputs; a layer is put together from neurons of known purpose: random ones, readers of
single concepts, relays that pass on an AND which lies in the input already, and planted 2-ANDs (Adler & Shavit, arXiv
2409.15318). Inputs have 80 coordinates: orthonormal codes of 24 concepts, directions of ANDs, and a background in all of
them, in a random rotation. Every scene comes with planted neurons and without, on the same inputs. Axes: token concept
input neuron.

Plain layers are ReLU or GELU; neurons with a purpose have their pre-activations multiplied by `SHARP` before a smooth
activation. In gated layers (SiLU) every other such neuron has its threshold in the gate, with a linear half that is constant
but for a small random part; of the rest a planted one multiplies (the gate reads A, the linear half B), a relay or reader
reads the same direction with both halves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from measured import design_for

# isort: split
from probekit.model.weights import MlpWeights
from probekit.testing.synthetic import DOC_LEN, Scene, twin_of

Form = Literal["relu", "gelu", "silu gated"]
PairSet = set[tuple[int, int]]

N_NEURONS, N_CONCEPTS, N_PAIRS, N_TOKENS, D = 192, 24, 12, 12_000, 80
N_ACTIVE = 3.0
"""Concepts that hold at a token, in the mean."""
N_RELAYING, CHANNEL, N_SHARED = 60, 5, 4
"""Neurons that may relay (five a pair), neurons of a planted pair's channel, neurons that serve a second pair as well."""
N_PLANTED = N_PAIRS * CHANNEL
NOISE, DOC_NOISE = 0.15, 0.05
"""Standard deviations of the background of a coordinate at a token, and of a document's offset."""
SHARP = 4.0
"""gelu(4z)/4 and silu(4z)/4 are within 0.04 and 0.07 of relu(z)."""
LATENT = 0.77
"""Correlation of two Gaussians whose excesses over the normal quantile of 7/8 correlate by ½."""
LOOSE = 0.3
"""Norm of the random part of a linear half that is otherwise constant."""


# ------------------------------------------------------------------------------------------- what holds


def independent(rng: np.random.Generator) -> np.ndarray:
    """Independent concepts."""
    return rng.random((N_TOKENS, N_CONCEPTS)) < N_ACTIVE / N_CONCEPTS


def correlated(rng: np.random.Generator) -> np.ndarray:
    """Eight blocks of three concepts: Gaussians over a threshold, so that labels correlate by ½ within a block."""
    block = np.repeat(rng.standard_normal((N_TOKENS, N_CONCEPTS // 3)), 3, axis=1)
    latent = np.sqrt(LATENT) * block + np.sqrt(1 - LATENT) * rng.standard_normal((N_TOKENS, N_CONCEPTS))
    return latent > 1.15  # the normal quantile of 7/8: every concept holds at an eighth of the tokens


def hierarchical(rng: np.random.Generator) -> np.ndarray:
    """Four families of one superset and four members that imply it, and four free concepts."""
    labels = rng.random((N_TOKENS, N_CONCEPTS)) < N_ACTIVE / N_CONCEPTS
    for superset in range(0, 20, 5):
        labels[:, superset] |= labels[:, superset + 1 : superset + 5].any(1)
    return labels


def exclusive(rng: np.random.Generator) -> np.ndarray:
    """Six groups of four of which one at most holds."""
    which = rng.integers(0, 8, (N_TOKENS, 6))
    return (which[:, :, None] == np.arange(4)).reshape(N_TOKENS, N_CONCEPTS)


def same_group(size: int, first: int = 0, last: int = N_CONCEPTS) -> PairSet:
    """Pairs within consecutive groups of concepts."""
    return {(a, b) for a in range(first, last) for b in range(a + 1, last) if a // size == b // size}


# ----------------------------------------------------------------------------------------------- inputs


@dataclass(frozen=True)
class World:
    """Everything in front of the layer."""

    seed: int
    """Of this draw."""
    labels: np.ndarray
    """bool [token concept]."""
    codes: np.ndarray
    """[input concept]."""
    spare: np.ndarray
    """Orthonormal directions beside the codes, [input direction]."""
    inputs: np.ndarray
    """[token input]."""
    in_input: np.ndarray = field(default_factory=lambda: np.empty((0, 2), int))
    """Pairs whose AND lies in the input."""
    along: np.ndarray = field(default_factory=lambda: np.empty((0, 0, D)))
    """Along which directions, [pair direction input]."""

    def rng(self, what: int) -> np.random.Generator:
        """A generator for one purpose."""
        return np.random.default_rng([self.seed, 131, what])

    @property
    def doc(self) -> np.ndarray:
        """Document of each token."""
        return np.arange(len(self.labels)) // DOC_LEN

    @property
    def scene(self) -> Scene:
        """As the machinery takes it."""
        return Scene(self.labels, self.doc, torch.from_numpy(self.inputs).float())


def world(
    seed: int,
    labels: Callable[[np.random.Generator], np.ndarray] = independent,
    *,
    noise: float = NOISE,
    student: float | None = None,
    superposed: bool = False,
) -> World:
    """Additive inputs: Σ codes of the concepts that hold, a background, an offset of the document.

    Args:
        seed: of everything.
        labels: draws what holds.
        noise: standard deviation of the background.
        student: degrees of freedom of the background's tails; None for a Gaussian one.
        superposed: random unit codes in place of orthonormal ones.
    """
    rng = np.random.default_rng([seed, 130])
    held = labels(rng)
    turn = np.linalg.qr(rng.standard_normal((D, D)))[0]
    codes = turn[:, :N_CONCEPTS]
    if superposed:
        codes = rng.standard_normal((D, N_CONCEPTS))
        codes /= np.linalg.norm(codes, axis=0)
    background = rng.standard_normal((N_TOKENS, D))
    if student is not None:
        background = rng.standard_t(student, (N_TOKENS, D)) / np.sqrt(student / (student - 2))
    inputs = held @ codes.T + noise * background
    inputs += DOC_NOISE * rng.standard_normal((N_TOKENS // DOC_LEN, D))[np.arange(N_TOKENS) // DOC_LEN]
    return World(seed, held, codes, turn[:, N_CONCEPTS:], inputs)


def with_ands(
    before: World, *, directions: int = 1, fires: float = 1.0, by_chance: float = 0.0, reads: float = 1.0
) -> World:
    """The ANDs of twelve pairs put into the input, as attention or an earlier layer may have done.

    Args:
        before: additive inputs.
        directions: of an AND; each token is of a random type, and its type says along which it lies.
        fires: share of the tokens with A∧B at which it is there.
        by_chance: share of all other tokens at which it is there too.
        reads: its size.
    """
    rng = before.rng(1)
    pairs = matching(before, 0)
    a, b = pairs.T
    both = before.labels[:, a] & before.labels[:, b]
    chance = rng.random(both.shape)
    there = np.where(both, chance < fires, chance < by_chance)
    along = before.spare[:, : len(pairs) * directions].T.reshape(len(pairs), directions, D)
    kind = rng.integers(0, directions, N_TOKENS)
    inputs = before.inputs.copy()
    for t in range(directions):
        inputs += reads * (there & (kind == t)[:, None]) @ along[:, t]
    return replace(before, inputs=inputs, in_input=pairs, along=along)


def matching(before: World, shift: int) -> np.ndarray:
    """Twelve pairs in which each concept takes part once; another `shift` gives other pairs of the same concepts."""
    order = np.random.default_rng([before.seed, 132]).permutation(N_CONCEPTS)
    half = N_CONCEPTS // 2
    pairs = np.stack([order[:half], np.roll(order[half:], shift)], axis=1)
    return np.sort(pairs, axis=1)


def loud(before: World, n: int = 8, sd: float = 5.0) -> World:
    """Further coordinates that carry nothing but loud noise, and that no layer here reads."""
    noise = sd * before.rng(2).standard_normal((N_TOKENS, n))
    return replace(before, inputs=np.concatenate([before.inputs, noise], axis=1))


def normed(before: World, *, centred: bool) -> World:
    """Through LayerNorm (centred) or RMSNorm, with one gain that restores the root mean square norm."""
    x = before.inputs - before.inputs.mean(1, keepdims=True) * centred
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return replace(before, inputs=x / norm * np.sqrt((norm**2).mean()))


def scaled(before: World, sd: float = 0.5) -> World:
    """Every token's input times a log-normal factor."""
    factor = np.exp(sd * before.rng(3).standard_normal((N_TOKENS, 1)))
    return replace(before, inputs=before.inputs * factor)


def with_sinks(before: World, *, firsts: float = 0.5, inside: float = 0.002, times: float = 100.0) -> World:
    """Attention sinks: the first token of some documents, and a few others, lie far out along one fixed direction."""
    rng = before.rng(4)
    first = np.arange(N_TOKENS) % DOC_LEN == 0
    sink = np.where(first, rng.random(N_TOKENS) < firsts, rng.random(N_TOKENS) < inside)
    norm = np.linalg.norm(before.inputs, axis=1).mean()
    return replace(before, inputs=before.inputs + times * norm * sink[:, None] * before.spare[:, -1])


# ----------------------------------------------------------------------------------------------- layers


@dataclass(frozen=True)
class Purposes:
    """Neurons before they take a form: what each reads, over which threshold."""

    rows: np.ndarray
    """What is read, [neuron input]."""
    bias: np.ndarray
    """[neuron]."""
    second: np.ndarray
    """What the linear half of a gated neuron that multiplies reads, [neuron input]."""
    gate: np.ndarray
    """What its gate reads, [neuron input]."""
    gate_bias: np.ndarray
    """[neuron]."""
    sharp: np.ndarray
    """Neurons with a purpose, bool [neuron]; the others are random."""

    @classmethod
    def random(cls, rng: np.random.Generator, n_neurons: int) -> Purposes:
        """Gaussian rows of norm about 1, no bias; in a gated layer both halves."""
        rows, second = rng.standard_normal((2, n_neurons, D)) / np.sqrt(D)
        nothing = np.zeros(n_neurons)
        return cls(rows, nothing, second, rows, nothing, np.zeros(n_neurons, bool))

    def put(self, at: np.ndarray, rows: np.ndarray, bias: np.ndarray | float) -> Purposes:
        """Neurons that read one direction over a threshold, with both halves where they multiply."""
        return self.put_product(at, rows, bias, rows, bias, rows)

    def put_product(
        self,
        at: np.ndarray,
        rows: np.ndarray,
        bias: np.ndarray | float,
        gate: np.ndarray,
        gate_bias: np.ndarray | float,
        second: np.ndarray,
    ) -> Purposes:
        """Neurons of which those that multiply read with gate and linear half what is given for them."""
        changed = {name: getattr(self, name).copy() for name in self.__dataclass_fields__}
        given = {
            "rows": rows, "bias": bias, "gate": gate, "gate_bias": gate_bias, "second": second, "sharp": True,
        }  # fmt: skip
        for name, value in given.items():
            changed[name][at] = value
        return Purposes(**changed)

    def weights(self, form: Form, rng: np.random.Generator, d_inputs: int) -> MlpWeights:
        """The layer in one form; inputs beyond the first D are not read."""
        sharp = np.where(self.sharp, SHARP, 1.0)[:, None]

        def wide(rows: np.ndarray) -> np.ndarray:
            return np.pad(rows, ((0, 0), (0, d_inputs - D)))

        if form != "silu gated":
            size = 1.0 if form == "relu" else sharp
            bias = self.bias if form == "relu" else sharp[:, 0] * self.bias
            return MlpWeights.from_arrays(wide(size * self.rows), bias, activation=form)
        multiplies = np.arange(len(self.bias)) % 2 == 1
        constant = self.sharp & ~multiplies
        loose = LOOSE * rng.standard_normal(self.rows.shape) / np.sqrt(D)
        gate = np.where(constant[:, None], self.rows, self.gate)
        gate_bias = np.where(constant, self.bias, self.gate_bias)
        linear = np.where(constant[:, None], loose, self.second)
        return MlpWeights.from_arrays(
            wide(linear), constant.astype(float), w_gate=wide(sharp * gate), b_gate=sharp[:, 0] * gate_bias,
            activation="silu",
        )  # fmt: skip


def places(before: World) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neurons that may relay, that may be planted, and the rest."""
    order = before.rng(5).permutation(N_NEURONS)
    return order[:N_RELAYING], order[N_RELAYING : N_RELAYING + N_PLANTED], order[N_RELAYING + N_PLANTED :]


def random_neurons(before: World) -> Purposes:
    """A random layer."""
    return Purposes.random(before.rng(6), N_NEURONS)


def readers(before: World, gain: float = 4.0, share: float = 1.0) -> Purposes:
    """A share of the neurons reads one concept each strongly, over a random threshold and on a random background."""
    rng, layer = before.rng(7), random_neurons(before)
    at = np.flatnonzero(rng.random(N_NEURONS) < share)
    rows = gain * before.codes[:, rng.integers(0, N_CONCEPTS, len(at))].T + layer.rows[at]
    bias = rng.uniform(-gain, 0.0, len(at))
    read = layer.put(at, rows, bias)
    # they are sharp by their gain already
    return replace(read, sharp=np.zeros(N_NEURONS, bool))


def innocents(before: World) -> Purposes:
    """A third of the neurons reads single concepts, the others are random."""
    return readers(before, gain=2.0, share=1 / 3)


def relays(before: World, *, gain: float = 2.0, threshold: float = 0.5, a_direction: int = 5) -> Purposes:
    """Neurons that read the ANDs in the input over a threshold, `a_direction` for each direction, in a random layer."""
    layer = random_neurons(before)
    read = np.repeat(before.along.reshape(-1, D), a_direction, axis=0)
    at = np.concatenate(places(before)[::2])[: len(read)]
    return layer.put(at, gain * read, -gain * threshold)


def planted(before: World, layer: Purposes, pairs: np.ndarray) -> tuple[Purposes, PairSet]:
    """2-ANDs of low influence put into a layer; also the pairs that are read together by accident.

    Each pair has a channel of its own, and a few neurons serve a second pair as well.
    """
    at = places(before)[1]
    reads = channels(before, pairs)
    first = np.zeros_like(reads)
    first[:, np.unique(pairs[:, 0])] = reads[:, np.unique(pairs[:, 0])]
    codes = before.codes.T
    layer = layer.put_product(at, reads @ codes, -1.0, first @ codes, -0.5, (reads & ~first) @ codes)
    together = np.triu(reads.T.astype(int) @ reads.astype(int), 1)
    shared = {(int(a), int(b)) for a, b in zip(*np.nonzero(together), strict=True)}
    return layer, shared - pair_set(pairs)


def channels(before: World, pairs: np.ndarray) -> np.ndarray:
    """Which planted neurons read which concepts, bool [neuron concept]."""
    rng = before.rng(10)
    reads = np.zeros((N_PLANTED, N_CONCEPTS), bool)
    own = np.repeat(np.arange(len(pairs)), CHANNEL)
    reads[np.arange(N_PLANTED)[:, None], pairs[own]] = True
    in_input = pair_set(before.in_input)
    for neuron in rng.choice(N_PLANTED, size=N_SHARED, replace=False):
        others = [
            pair
            for pair in pairs.tolist()
            if not {(min(a, b), max(a, b)) for a in pair for b in np.flatnonzero(reads[neuron])} & in_input
        ]
        reads[neuron, rng.choice(np.array(others))] = True
    return reads


def pair_set(pairs: np.ndarray) -> PairSet:
    """Rows as a set of (low, high)."""
    return {(min(a, b), max(a, b)) for a, b in pairs.tolist()}


# ----------------------------------------------------------------------------------------------- scenes


@dataclass(frozen=True)
class Recipe:
    """A scene and the layer on it, before anything is planted."""

    world: Callable[[int], World]
    """Draws what is in front of the layer."""
    layer: Callable[[World], Purposes]
    """Draws the layer."""
    in_input: PairSet | None = None
    """Pairs whose interaction lies in the input by the way the concepts hang together."""
    kin: PairSet = field(default_factory=set)
    """Concepts that are not independent: where A and C are planted, what hangs together with A interacts with C as well."""
    variants: tuple[str, ...] = ("innocent", "planted")
    """What is drawn of it."""


@dataclass(frozen=True)
class Trap:
    """One draw."""

    scene: Scene
    """What the layer sees."""
    weights: MlpWeights
    """The layer."""
    planted: PairSet
    """Pairs that are computed by design."""
    relayed: PairSet
    """Pairs whose interaction lies in the input, whether or not it is read; nothing of them is computed here."""
    shared: PairSet
    """Pairs that some planted neuron reads together by accident, and pairs of kin of the concepts of a planted pair."""

    def class_of(self, pairs: np.ndarray) -> np.ndarray:
        """Name of the class of every pair."""
        return np.array([self._class((int(a), int(b))) for a, b in pairs])

    def _class(self, pair: tuple[int, int]) -> str:
        if pair in self.planted:
            return "planted"
        if pair in self.shared:
            return "shared channel"
        return "relayed" if pair in self.relayed else "null"


def _plain(seed: int) -> World:
    return world(seed)


RECIPES: dict[str, Recipe] = {
    "random layer": Recipe(_plain, random_neurons),
    "avoids loud directions": Recipe(lambda s: loud(world(s)), random_neurons),
    "single-concept readers": Recipe(_plain, readers),
    "relay": Recipe(lambda s: with_ands(world(s)), relays),
    "relay, high threshold": Recipe(
        lambda s: with_ands(world(s)), lambda w: relays(w, gain=4.0, threshold=0.9)
    ),
    "relay of a noisy AND": Recipe(lambda s: with_ands(world(s), fires=0.6, by_chance=0.02), relays),
    "relay along four directions": Recipe(
        lambda s: with_ands(world(s), directions=4), lambda w: relays(w, a_direction=2)
    ),
    "AND in the input, random layer": Recipe(lambda s: with_ands(world(s)), random_neurons),
    "correlated concepts": Recipe(lambda s: world(s, correlated), innocents, kin=same_group(3)),
    "hierarchical concepts": Recipe(
        lambda s: world(s, hierarchical), innocents, same_group(5, last=20),
        {(a, b) for a, b in same_group(5, last=20) if a % 5 == 0},
    ),
    "exclusive concepts": Recipe(lambda s: world(s, exclusive), innocents, kin=same_group(4)),
    "behind RMSNorm": Recipe(lambda s: normed(world(s), centred=False), innocents),
    "behind LayerNorm": Recipe(lambda s: normed(world(s), centred=True), innocents),
    "heavy tails (Student t, 3)": Recipe(lambda s: world(s, student=3.0), innocents),
    "heavy tails (log-normal scale)": Recipe(lambda s: scaled(world(s)), innocents),
    "attention sinks": Recipe(lambda s: with_sinks(world(s)), innocents),
    "background 0.45": Recipe(lambda s: world(s, noise=0.45), random_neurons, variants=("planted",)),
    "background 0.8": Recipe(lambda s: world(s, noise=0.8), random_neurons, variants=("planted",)),
    "superposed codes": Recipe(lambda s: world(s, superposed=True, noise=0.1), random_neurons, variants=("planted",)),
    "a planted layer's twin in its place": Recipe(_plain, random_neurons, variants=("twin",)),
}  # fmt: skip
"""Scenes by name. Where ANDs lie in the input, the planted pairs are others of the same concepts: such a layer relays some
pairs and computes others."""


def draw(name: str, variant: str, form: Form, seed: int) -> Trap:
    """One draw of a scene.

    Args:
        name: a key of `RECIPES`.
        variant: "innocent", "planted", or "twin": a covariance-preserving twin of the planted layer in its place.
        form: of the layer.
        seed: of the draw; variants and forms of one seed share the inputs.
    """
    recipe = RECIPES[name]
    before = recipe.world(seed)
    layer = recipe.layer(before)
    designated, shared = set[tuple[int, int]](), set[tuple[int, int]]()
    relayed = pair_set(before.in_input) | (recipe.in_input or set())
    if variant != "innocent":
        pairs = free_pairs(before, relayed)
        layer, shared = planted(before, layer, pairs)
        designated = pair_set(pairs)
        shared = (shared | related(designated, recipe.kin)) - designated
    weights = layer.weights(form, before.rng(8), before.inputs.shape[1])
    scene = before.scene
    if variant == "twin":
        weights = twin_of(weights, scene, design_for(scene, twins=0), seed)
        designated, shared = set(), set()
    return Trap(scene, weights, designated, relayed, shared)


def related(pairs: PairSet, kin: PairSet) -> PairSet:
    """Pairs one or both of whose concepts are kin of those of a given pair."""
    of = {c: {c} for pair in pairs for c in pair}
    for a, b in kin:
        for one, other in ((a, b), (b, a)):
            if one in of:
                of[one].add(other)
    return {(min(c, d), max(c, d)) for a, b in pairs for c in of[a] for d in of[b] if c != d}


def free_pairs(before: World, relayed: PairSet) -> np.ndarray:
    """Twelve pairs to be planted: none lies in the input, none excludes or implies, each concept once where it can be."""
    overlap = before.labels.T.astype(int) @ before.labels.astype(int)
    size = overlap.diagonal()
    # what neither excludes nor implies has tokens in all four quadrants
    filled = (overlap > 0) & (overlap < size[:, None]) & (overlap < size[None, :])
    for shift in range(1, N_CONCEPTS // 2):
        pairs = matching(before, shift)
        if not pair_set(pairs) & relayed and filled[pairs[:, 0], pairs[:, 1]].all():
            return pairs
    return _greedy(before, relayed, filled)


def _greedy(before: World, relayed: PairSet, filled: np.ndarray) -> np.ndarray:
    """Pairs in random order, each concept once or twice, where no matching is free."""
    rng = before.rng(9)
    every = np.stack(np.triu_indices(N_CONCEPTS, 1), axis=1)
    taken, chosen = np.zeros(N_CONCEPTS, int), list[tuple[int, int]]()
    for influence in (1, 2):
        for a, b in rng.permutation(every).tolist():
            free = max(taken[a], taken[b]) < influence and filled[a, b] and (a, b) not in relayed
            if len(chosen) < N_PAIRS and free and (a, b) not in chosen:
                chosen.append((a, b))
                taken[[a, b]] += 1
    return np.array(chosen)
