"""Chosen pairwise ANDs by output and input channels: the construction of Adler & Shavit (arXiv 2409.15318).

Low influence (a concept takes part in few pairs): every pair has a channel of c random neurons that read both
its concepts, h = relu(A·f − 1), and is read as the mean over them. High influence: every concept has a
channel of its own, a pair is read where the two meet. Mixed: the channel of a pair lies inside that of its
heavy concept. General: pairs are split by the influence of their concepts (threshold m'^¼) and get disjoint
blocks of neurons. Superposed inputs are decoded in the same matrix: w_in = A·Eᵀ. The scheme is theirs;
channel sizes for small n were found by simulation (c = 5; log2 m' only asymptotically). Axes: neuron,
concept, output.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from probekit.errors import InputError, guarded
from probekit.theory.checks import Number, as_count, as_probability
from probekit.theory.circuits.circuit import Circuit
from probekit.theory.circuits.draw import PairsLike, chosen_pairs, generator, input_codes, sign_codes, subsets
from probekit.theory.circuits.predict import Channel, channel_prediction, foreign_density

Case = Literal["low", "high", "mixed", "general"]
"""Which channels carry the pairs."""

Members = Bool[np.ndarray, "neuron concept"]
Reads = Bool[np.ndarray, "output neuron"]


@guarded
def two_and(  # noqa: PLR0913
    *,
    pairs: PairsLike,
    n_concepts: Number,
    n_neurons: Number,
    d_model: Number | None = None,
    channel: Number = 5,
    influence: Number = 2,
    case: Case = "low",
    density: Number | None = None,
    n_active: Number = 3,
    seed: int,
) -> Circuit:
    """A layer that computes the chosen pairs.

    Superposed inputs work from n = d ≈ 512 on (s = 3); smaller layers need basis-aligned inputs or tolerate
    some per cent of errors.

    Args:
        pairs: how many random pairs, or a list of pairs (rows of k concepts make k-ANDs, in the low case).
        n_concepts: m.
        n_neurons: n.
        d_model: None for basis-aligned inputs, else the dimensions of superposed ±1/√d codes.
        channel: c, neurons of one output channel (low and mixed).
        influence: most pairs that a concept may take part in, when pairs are drawn.
        case: low, high, mixed, or general.
        density: share of the neurons in the channel of a concept (high: √(12/n) by default; mixed: ¼).
        n_active: s, concepts on in the inputs that the prediction is made for.
        seed: of pairs, channels and codes.

    Raises:
        InputError: a parameter out of range.
    """
    concepts = as_count("n_concepts", n_concepts, at_least=2)
    neurons = as_count("n_neurons", n_neurons)
    active = as_count("n_active", n_active, at_most=concepts)
    size = as_count("channel", channel, at_most=neurons)
    rng = generator(seed)
    chosen = chosen_pairs(rng, pairs, concepts, influence)
    if chosen.shape[1] != 2 and case != "low":
        raise InputError(f"pairs: rows of {chosen.shape[1]} concepts need case='low', got case={case!r}.")
    share = None if density is None else as_probability("density", density)
    route, reads = _channels(rng, chosen, concepts, neurons, size, share, case)
    readoff = (
        reads / np.maximum(reads.sum(axis=1), 1)[:, None]
    )  # an empty meeting of two channels reads 0: a missed pair
    encode = input_codes(rng, concepts, d_model)
    width = None if d_model is None else encode.shape[0]
    code_out = None if width is None else sign_codes(rng, width, len(chosen))
    means, sds = _prediction(route, reads, chosen, active, width, case)
    weights = route.astype(np.float64)
    return Circuit(
        name=f"two_and/{case}",
        encode=encode,
        w_in=weights if width is None else weights @ encode.T,
        b_in=np.full(neurons, 1.0 - chosen.shape[1]),
        w_out=readoff if code_out is None else code_out @ readoff,
        readoff=readoff,
        readoff_bias=np.zeros(len(chosen)),
        pairs=chosen,
        n_active=active,
        predicted_mean=means,
        predicted_sd=sds,
        # over all neurons, whether or not an output is read there: √(2m'cs/(nd)) in the low case
        predicted_input_sd=0.0 if width is None else float(np.sqrt(route.sum() / neurons * active / width)),
        code_out=code_out,
        route=weights,
    )


@guarded
def targeted_and(
    *,
    pairs: PairsLike,
    n_concepts: Number,
    n_neurons: Number,
    d_model: Number,
    channel: Number = 5,
    influence: Number = 2,
    n_active: Number = 3,
    seed: int,
) -> Circuit:
    """The targeted superpositional AND of Hänni et al. (arXiv 2408.05451): only the wanted pairs' neurons.

    Input weights restricted to the pairs of a sparse graph, on superposed inputs. At finite size it is the
    low-influence case of `two_and`, whose arguments it takes; the papers differ in how they count its error.
    """
    built = two_and(
        pairs=pairs, n_concepts=n_concepts, n_neurons=n_neurons, d_model=d_model, channel=channel,
        influence=influence, case="low", n_active=n_active, seed=seed,
    )  # fmt: skip
    return replace(built, name="targeted_and")


def influences(pairs: Int[np.ndarray, "output order"], n_concepts: int) -> Int[np.ndarray, " concept"]:
    """How many of the pairs each concept takes part in."""
    return np.bincount(pairs.ravel(), minlength=n_concepts)


def _channels(
    rng: np.random.Generator,
    pairs: Int[np.ndarray, "output order"],
    n_concepts: int,
    n_neurons: int,
    size: int,
    density: float | None,
    case: Case,
) -> tuple[Members, Reads]:
    """Which neurons read which concepts, and on which neurons each pair is read."""
    if case == "low":
        return _output_channels(rng, pairs, n_concepts, n_neurons, size)
    if case == "high":
        return _input_channels(rng, pairs, n_concepts, n_neurons, density or meeting_density(n_neurons))
    if case == "mixed":
        return _nested_channels(rng, pairs, n_concepts, n_neurons, size, density or 0.25)
    return _three_channels(rng, pairs, n_concepts, n_neurons, size, density)


def meeting_density(n_neurons: int) -> float:
    """√(12/n): two channels meet on twelve neurons in the mean, enough for thousands of pairs."""
    return float(np.sqrt(min(12.0, n_neurons / 4) / n_neurons))


def _output_channels(
    rng: np.random.Generator,
    pairs: Int[np.ndarray, "output order"],
    n_concepts: int,
    n_neurons: int,
    size: int,
) -> tuple[Members, Reads]:
    members = subsets(rng, len(pairs), size, n_neurons)
    route = np.zeros((n_neurons, n_concepts), dtype=np.bool_)
    for concept in pairs.T:
        route[members, concept[:, None]] = True
    reads = np.zeros((len(pairs), n_neurons), dtype=np.bool_)
    np.put_along_axis(reads, members, True, axis=1)
    return route, reads


def _input_channels(
    rng: np.random.Generator,
    pairs: Int[np.ndarray, "output 2"],
    n_concepts: int,
    n_neurons: int,
    density: float,
) -> tuple[Members, Reads]:
    route = np.zeros((n_neurons, n_concepts), dtype=np.bool_)
    used = np.unique(pairs)
    route[:, used] = rng.random((n_neurons, len(used))) < density
    return route, (route[:, pairs[:, 0]] & route[:, pairs[:, 1]]).T


def _nested_channels(
    rng: np.random.Generator,
    pairs: Int[np.ndarray, "output 2"],
    n_concepts: int,
    n_neurons: int,
    size: int,
    density: float,
) -> tuple[Members, Reads]:
    counts = influences(pairs, n_concepts)
    heavier_first = counts[pairs[:, 0]] >= counts[pairs[:, 1]]
    heavy = np.where(heavier_first, pairs[:, 0], pairs[:, 1])
    light = np.where(heavier_first, pairs[:, 1], pairs[:, 0])
    room = max(size, round(density * n_neurons))
    route = np.zeros((n_neurons, n_concepts), dtype=np.bool_)
    reads = np.zeros((len(pairs), n_neurons), dtype=np.bool_)
    for concept in np.unique(heavy):
        mine = np.flatnonzero(heavy == concept)
        block = rng.choice(n_neurons, size=room, replace=False)
        members = block[subsets(rng, len(mine), size, room)]
        route[block, concept] = True
        route[members, light[mine][:, None]] = True
        reads[mine[:, None], members] = True
    return route, reads


def _three_channels(
    rng: np.random.Generator,
    pairs: Int[np.ndarray, "output 2"],
    n_concepts: int,
    n_neurons: int,
    size: int,
    density: float | None,
) -> tuple[Members, Reads]:
    heavy = influences(pairs, n_concepts) > len(pairs) ** 0.25
    n_heavy = heavy[pairs].sum(axis=1)
    cases: tuple[Case, ...] = ("low", "mixed", "high")
    groups: list[tuple[Case, Int[np.ndarray, " row"]]] = [
        (kind, rows) for n, kind in enumerate(cases) if len(rows := np.flatnonzero(n_heavy == n))
    ]
    # each block computes m'_block pairs and needs of the order of √m'_block neurons
    shares = np.sqrt([len(rows) for _, rows in groups])
    ends = np.round(np.cumsum(shares) / shares.sum() * n_neurons).astype(int).tolist()
    route = np.zeros((n_neurons, n_concepts), dtype=np.bool_)
    reads = np.zeros((len(pairs), n_neurons), dtype=np.bool_)
    start = 0
    for (kind, rows), end in zip(groups, ends, strict=True):
        if end - start < size:
            raise InputError(
                f"n_neurons: got {n_neurons}, which leaves {end - start} for {len(rows)} {kind} pairs; "
                f"wanted at least channel = {size} in each block. Raise n_neurons."
            )
        block = slice(start, end)
        route[block], reads[rows, block] = _channels(
            rng, pairs[rows], n_concepts, end - start, size, density, kind
        )
        start = end
    return route, reads


def _prediction(
    route: Members,
    reads: Reads,
    pairs: Int[np.ndarray, "output order"],
    n_active: int,
    d_model: int | None,
    case: Case,
) -> tuple[Float[np.ndarray, " pattern"], Float[np.ndarray, " pattern"]]:
    """Mean and sd in each pattern; the general case is the mixture of its blocks."""
    n_concepts = route.shape[1]
    block = np.zeros(len(pairs), dtype=np.int64)
    if case == "general":
        block = (influences(pairs, n_concepts) > len(pairs) ** 0.25)[pairs].sum(axis=1)
    shares, firsts, seconds = list[float](), list[np.ndarray](), list[np.ndarray]()
    for kind in np.unique(block):
        rows = block == kind
        foreign, foreign_variance = foreign_density(route, reads[rows], pairs[rows])
        sizes = reads[rows].sum(axis=1)
        channel = Channel(
            order=pairs.shape[1],
            n_active=n_active,
            n_concepts=n_concepts,
            density=foreign,
            density_variance=foreign_variance,
            inverse_size=float(np.mean(1.0 / np.maximum(sizes, 1))),
            d_model=d_model,
        )
        means, sds = channel_prediction(channel)
        shares.append(float(rows.mean()))
        firsts.append(means)
        seconds.append(means**2 + sds**2)
    mean = np.average(firsts, axis=0, weights=shares)
    return mean, np.sqrt(np.maximum(np.average(seconds, axis=0, weights=shares) - mean**2, 0.0))
