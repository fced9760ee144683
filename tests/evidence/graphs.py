"""Testable pairs as graphs of concepts, and finds scattered over them or clustered on some concepts. Axes: pair concept."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Bool, Int

FINDS = ("scattered", "few", "propensities", "stars")


def graph(
    rng: np.random.Generator, n_concepts: int, density: float, spread: float = 0.5
) -> Int[np.ndarray, "pair 2"]:
    """Pairs of which those of some concepts are testable far more often."""
    pairs = np.array(list(itertools.combinations(range(n_concepts), 2)))
    chance = np.exp(spread * rng.standard_normal(n_concepts))[pairs].prod(1)
    return pairs[rng.random(len(pairs)) < np.minimum(1, density * chance / chance.mean())]


def finds(rng: np.random.Generator, pairs: Int[np.ndarray, "pair 2"], how: str) -> Bool[np.ndarray, " pair"]:
    """Which pairs would be found: a few per cent or per mille of all, more of some concepts, or half of three concepts'."""
    n_concepts = int(pairs.max()) + 1
    if how == "propensities":
        return rng.random(len(pairs)) < 1 / (
            1 + np.exp(4.2 - (1.2 * rng.standard_normal(n_concepts))[pairs].sum(1))
        )
    if how == "stars":
        centres = rng.choice(n_concepts, 3, replace=False)
        return np.isin(pairs, centres).any(1) & (rng.random(len(pairs)) < 0.5)
    return rng.random(len(pairs)) < {"scattered": 0.02, "few": 0.002}[how]
