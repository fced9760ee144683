"""Pairs drawn so that the concepts that appear have many: those among as many concepts as that allows.

What a pair shows beyond its concepts is known from the other pairs of these concepts. A uniform sample of the pairs of many
concepts leaves a few pairs each. Here some of the concepts are drawn at random and the tested pairs lie among them.
Axes: pair concept.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from probekit.errors import DegenerateError
from probekit.evidence.blocks import Block

PARTNERS = 20
"""Pairs that a concept is to have on average. One in 200 then has fewer than 10, which is enough to know its own part by."""


def block_size(pairs: Int[np.ndarray, "pair 2"], n_most: int) -> tuple[int, int]:
    """Concepts of the testable pairs, and how many of them are drawn.

    As many as leave each concept `PARTNERS` tested pairs on average; but no fewer than have enough testable pairs among
    them to be expected to fill the number wanted.

    Args:
        pairs: concepts of every testable pair.
        n_most: pairs that are to be tested.
    """
    n_concepts = len(np.unique(pairs))
    sizes = np.arange(2, n_concepts + 1)
    inside = len(pairs) * sizes * (sizes - 1) / (n_concepts * (n_concepts - 1))
    fills = int(sizes[np.searchsorted(inside, min(n_most, len(pairs)) * (1 - 1e-12))])
    return n_concepts, min(n_concepts, max(fills, 2 * n_most // PARTNERS))


def draw_block(
    pairs: Int[np.ndarray, "pair 2"], n_most: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " chosen"], Block]:
    """Draw concepts, then at most `n_most` of the testable pairs among them.

    Args:
        pairs: concepts of every testable pair.
        n_most: pairs at most.
        rng: of the draw.

    Returns:
        Places of the pairs taken, in order, and how they were drawn; where all concepts are, this is a uniform sample.

    Raises:
        DegenerateError: no testable pair lies among the concepts drawn.
    """
    n_concepts, n_drawn = block_size(pairs, n_most)
    if n_drawn == n_concepts:
        kept = np.sort(rng.choice(len(pairs), min(n_most, len(pairs)), replace=False))
        return kept, Block(n_concepts, n_concepts, len(pairs), len(kept))
    _, at = np.unique(pairs, return_inverse=True)
    drawn = np.zeros(n_concepts, bool)
    drawn[rng.choice(n_concepts, n_drawn, replace=False)] = True
    inside = np.flatnonzero(drawn[at.reshape(pairs.shape)].all(axis=1))
    if not len(inside):
        raise DegenerateError(
            f"pairs: of {len(pairs):,} testable pairs none lies among the {n_drawn} concepts drawn for max_pairs={n_most}. "
            'Raise max_pairs, or draw from all pairs alike with pairs="uniform".'
        )
    kept = inside if len(inside) <= n_most else np.sort(rng.choice(inside, n_most, replace=False))
    return kept, Block(n_concepts, n_drawn, len(inside), len(kept))
