"""What the constructions draw at random: codes, channels, lists of pairs, always from a seed of the caller.

Axes: input, concept, output, neuron.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from probekit.errors import InputError
from probekit.theory.checks import Number, as_count

PairsLike = Number | Sequence[Sequence[Number]] | np.ndarray | None
"""A number of random pairs, the pairs themselves, or None for all."""

MAX_PAIRS = 20_000
"""Most pairs that a universal circuit reads unless they are listed: its readoffs are a dense matrix."""


def generator(seed: int) -> np.random.Generator:
    """The one source of randomness of a construction."""
    return np.random.default_rng(as_count("seed", seed, at_least=0))


def sign_codes(rng: np.random.Generator, n_inputs: int, n_codes: int) -> Float[np.ndarray, "input concept"]:
    """Random ±1/√d codes, unit columns."""
    signs = rng.integers(0, 2, size=(n_inputs, n_codes), dtype=np.int8)
    return (2.0 * signs - 1.0) / np.sqrt(n_inputs)


def input_codes(
    rng: np.random.Generator, n_concepts: int, d_model: Number | None
) -> Float[np.ndarray, "input concept"]:
    """The identity for basis-aligned inputs (`d_model` None), else superposed sign codes."""
    if d_model is None:
        return np.eye(n_concepts)
    return sign_codes(rng, as_count("d_model", d_model), n_concepts)


def subsets(rng: np.random.Generator, n_sets: int, size: int, n_items: int) -> Int[np.ndarray, "set member"]:
    """`n_sets` independent random subsets of range(n_items), each of `size` distinct members."""
    chosen = np.empty((n_sets, size), dtype=np.int64)
    for start in range(0, n_sets, 1024):  # blocks bound the memory of the random keys
        stop = min(start + 1024, n_sets)
        keys = rng.random((stop - start, n_items))
        chosen[start:stop] = np.argpartition(keys, size - 1, axis=1)[:, :size]
    return chosen


def listed_pairs(
    pairs: Sequence[Sequence[Number]] | np.ndarray, n_concepts: int
) -> Int[np.ndarray, "output order"]:
    """The caller's own list, checked.

    Raises:
        InputError: not whole numbers, out of range, a concept with itself, or twice the same.
    """
    array = np.asarray(pairs)
    if array.ndim != 2 or not array.size or array.shape[1] < 2 or array.dtype.kind not in "iu":
        raise InputError(
            f"pairs: got dtype {array.dtype} and shape {array.shape}, wanted rows of two or more whole "
            "numbers. Give a list like [(0, 1), (2, 5)]."
        )
    array = array.astype(np.int64)
    if array.min() < 0 or array.max() >= n_concepts:
        raise InputError(f"pairs: concept {array.max()} or {array.min()} is outside 0…{n_concepts - 1}.")
    ordered = np.sort(array, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        row = int(np.argmax((ordered[:, 1:] == ordered[:, :-1]).any(axis=1)))
        raise InputError(f"pairs: row {row} joins a concept with itself ({array[row].tolist()}). Remove it.")
    if len(np.unique(ordered, axis=0)) < len(ordered):
        raise InputError("pairs: the same set of concepts is listed twice. Remove the repetition.")
    return array


def universal_pairs(
    rng: np.random.Generator, pairs: PairsLike, n_concepts: int
) -> Int[np.ndarray, "output order"]:
    """The pairs that a universal circuit reads: all (a sample above `MAX_PAIRS`), a number, or a list."""
    n_universe = n_concepts * (n_concepts - 1) // 2
    if pairs is None:
        return _uniform_pairs(rng, min(n_universe, MAX_PAIRS), n_concepts)
    if isinstance(pairs, Number):
        return _uniform_pairs(rng, as_count("pairs", pairs, at_most=n_universe), n_concepts)
    return listed_pairs(pairs, n_concepts)


def chosen_pairs(
    rng: np.random.Generator, pairs: PairsLike, n_concepts: int, influence: Number
) -> Int[np.ndarray, "output order"]:
    """The pairs that a targeted circuit computes: a number of random ones in bounds of influence, or a list.

    Raises:
        InputError: more pairs than exist, or than the influence leaves room for.
    """
    if pairs is None:
        raise InputError(
            "pairs: got None, wanted a number of pairs or a list of them. Targeted circuits choose theirs."
        )
    if not isinstance(pairs, Number):
        return listed_pairs(pairs, n_concepts)
    n_universe = n_concepts * (n_concepts - 1) // 2
    n_pairs = as_count("pairs", pairs, at_most=n_universe)
    most = min(as_count("influence", influence), n_concepts - 1)
    if 2 * n_pairs > most * n_concepts:
        raise InputError(
            f"pairs: got {n_pairs:,}, but {n_concepts:,} concepts in at most {most} pairs each make room for "
            f"{most * n_concepts // 2:,}. Raise influence or n_concepts."
        )
    if most == n_concepts - 1:
        return _uniform_pairs(rng, n_pairs, n_concepts)
    return _bounded_pairs(rng, n_pairs, n_concepts, most)


def _uniform_pairs(rng: np.random.Generator, n_pairs: int, n_concepts: int) -> Int[np.ndarray, "output 2"]:
    first, second = np.triu_indices(n_concepts, k=1)
    kept = np.arange(len(first))
    if n_pairs < len(first):
        kept = np.sort(rng.choice(len(first), size=n_pairs, replace=False))
    return np.column_stack([first[kept], second[kept]]).astype(np.int64)


def _bounded_pairs(
    rng: np.random.Generator, n_pairs: int, n_concepts: int, influence: int
) -> Int[np.ndarray, "output 2"]:
    """A random simple graph of bounded degree: stubs are matched, clashing ones shuffled with others."""
    stubs = rng.permutation(np.repeat(np.arange(n_concepts, dtype=np.int64), influence))
    for _ in range(1000):
        ends = np.sort(stubs[: 2 * n_pairs].reshape(n_pairs, 2), axis=1)
        codes = ends[:, 0] * n_concepts + ends[:, 1]
        _, first_seen = np.unique(codes, return_index=True)
        clash = np.ones(n_pairs, dtype=bool)
        clash[first_seen] = False
        clash |= ends[:, 0] == ends[:, 1]
        if not clash.any():
            return ends[np.argsort(codes)]
        moved = np.flatnonzero(np.repeat(clash, 2))
        others = rng.choice(len(stubs), size=min(len(stubs), 4 * len(moved)), replace=False)
        places = np.union1d(moved, others)
        stubs[places] = stubs[rng.permutation(places)]
    raise InputError(
        f"pairs: {n_pairs:,} pairs of {n_concepts:,} concepts in at most {influence} pairs each: none found "
        "in 1,000 rounds. Raise influence, or list the pairs."
    )
