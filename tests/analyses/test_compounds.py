"""The compound study's statistic: found where a layer combines two tokens, not found between pairs that it does not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probekit as pk
from probekit.theory.circuits import two_and

sys.path.insert(0, str(Path(__file__).parents[2] / "analyses"))
import compounds  # pyright: ignore[reportMissingImports]


@pytest.fixture(scope="module")
def planted_run() -> tuple[Any, pk.Run]:
    """Eight ANDs of a set on the previous and a set on the current token."""
    circuit = two_and(pairs=8, n_concepts=16, n_neurons=96, n_active=3, seed=2)
    planted = pk.plant(circuit, n_docs=200, doc_len=40, noise=0.1, spread="previous", seed=1)
    run = pk.analyze(
        planted.model, planted.corpus, concepts=planted.concepts, twins=6, min_support=20, max_pairs=500, spikes=(),
        controls=(), progress=False,
    )  # fmt: skip
    return planted, run


@pytest.mark.slow
def test_what_a_layer_combines_is_found_and_what_it_does_not_is_not(planted_run: tuple[Any, pk.Run]) -> None:
    planted, run = planted_run
    tested = list(zip(run.pairs(0)["a"], run.pairs(0)["b"], strict=True))
    designated = [pair for pair in planted.truth if pair in tested]
    shared = set(planted.shared_channel)
    lagged = [
        pair
        for pair in tested
        if pair not in planted.truth
        and pair not in shared
        and pair[0].startswith("prev") != pair[1].startswith("prev")
    ]
    assert len(designated) >= 6
    couples = list(zip(designated, lagged, strict=False))
    found = compounds.difference(run, 0, couples, 1)
    assert found.n == len(couples)
    assert found.value > found.high
    assert found.d_prime[0] > 2 * found.d_prime[1]
    assert found.above[0] > found.above[1]
    n = len(couples)
    neither = compounds.difference(
        run, 0, list(zip(lagged[n : 2 * n], lagged[2 * n : 3 * n], strict=True)), 1
    )
    assert neither.low < neither.value < neither.high


def test_kinds_of_bigram() -> None:
    assert compounds.continues(" doc", "string")
    assert not compounds.continues(" doc", " string")
    assert not compounds.continues("doc", "string")
    assert not compounds.continues(" doc", "String")
    assert compounds.joined("doc", "string")
    assert not compounds.joined("doc", "-")


def test_matches_are_near_and_used_once() -> None:
    rng = np.random.default_rng(0)
    counts = rng.uniform(5, 12, (200, 3))
    kind = np.array(["word"] * 40 + ["inside"] * 20 + [""] * 140)
    bigrams = compounds.Bigrams(rng.integers(0, 500, (200, 2)), counts, kind)
    mine, theirs = compounds.matched(bigrams, "word")
    assert len(mine) == len(theirs) > 0
    assert len(set(theirs.tolist())) == len(theirs)
    assert (kind[mine] == "word").all()
    assert (kind[theirs] == "").all()
    apart = np.sqrt(((counts[mine] - counts[theirs]) ** 2).mean(1))
    assert (apart <= compounds.CALIPER).all()
    assert len(compounds.matched(bigrams, "phrase")[0]) == 0
