"""A draw of concepts among which no pair can be tested is told, not divided by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import probekit as pk
from probekit.errors import DegenerateError
from probekit.evidence.block_sampling import draw_block


def drawn(pairs: np.ndarray, rng: np.random.Generator) -> bool:
    """Whether a pair was drawn, which then has a chance of its own."""
    try:
        taken, block = draw_block(pairs, 1, rng)
    except DegenerateError:
        return False
    assert len(taken) == 1
    assert 0 < block.inclusion < 1
    return True


def test_no_pair_among_the_concepts_drawn() -> None:
    """Each of 40 concepts has one partner; some draws of a few of them hold a pair, and some do not."""
    pairs = np.arange(40).reshape(20, 2)
    assert {drawn(pairs, np.random.default_rng(seed)) for seed in range(40)} == {True, False}


def test_the_message_reaches_the_caller() -> None:
    # twelve pairs of concepts that hold in other documents than the other pairs, so that no more than these can be tested
    rng = np.random.default_rng(0)
    n_groups, n_docs, length = 12, 720, 10
    docs = np.repeat(np.arange(n_docs), length)
    labels = np.zeros((len(docs), 2 * n_groups), bool)
    for group in range(n_groups):
        here = docs % n_groups == group
        labels[here, 2 * group : 2 * group + 2] = rng.random((here.sum(), 2)) < 0.5
    neurons = rng.standard_normal((len(docs), 8))
    options: dict[str, Any] = {"max_pairs": 1, "min_support": 20, "twins": 0, "spikes": (), "progress": False}
    pairs = np.arange(2 * n_groups).reshape(n_groups, 2)
    refused = next(seed for seed in range(40) if not drawn(pairs, np.random.default_rng([seed, 7])))
    with pytest.raises(
        DegenerateError, match="of 12 testable pairs none lies among the 8 concepts drawn for max_pairs=1"
    ):
        pk.analyze_arrays(neurons, labels, docs, seed=refused, **options)
    run = pk.analyze_arrays(neurons, labels, docs, seed=refused, pairs="uniform", **options)
    assert len(run.pairs()) == 1
