"""Simulated pairs of runs for the test of their difference: the same layer twice, null layers, planted ones.

Shared by tests/evidence/test_difference.py and analyses/difference.py. d′ of an item (layer or twin) on a pair is the sum of
what the text gives every item of a run alike, effects of the item's own on each concept (pairs depend on one another), and
noise; a layer that computes adds the effect of each of its pairs. Axes: item twin pair concept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from probekit.evidence.difference import Difference, Measured, difference

NULL_SCATTER = 0.2
"""Sd of a null layer's d′ on one pair, about what the pair shows in all null layers."""


@dataclass(frozen=True)
class Case:
    """How two runs are made."""

    n_concepts: int = 40
    n_pairs: int = 400
    n_twins: int = 10
    common: int = 0
    """Pairs that both layers compute, equally strongly."""
    only_first: int = 0
    """Pairs that the first layer alone computes."""
    strong: float = 1.0
    """Mean of their exponential effects on d′; a null layer scatters by NULL_SCATTER."""
    of_concept: float = 0.1
    """Sd of an item's own effect on a concept."""
    text: float = 0.1
    """Sd of what a text does to a layer's d′, on a pair and on a concept, beside what it does to every item."""
    hubs: bool = False
    """Whether half of all pairs share one of four concepts."""


def _pairs(rng: np.random.Generator, case: Case) -> Int[np.ndarray, "pair 2"]:
    every = np.array(list(itertools.combinations(range(case.n_concepts), 2)))
    weight = np.where(every[:, 0] < 4, 8.0, 1.0) if case.hubs else np.ones(len(every))
    return every[rng.choice(len(every), case.n_pairs, replace=False, p=weight / weight.sum())]


def _run(
    rng: np.random.Generator,
    case: Case,
    pairs: Int[np.ndarray, "pair 2"],
    base: Float[np.ndarray, " pair"],
    effect: Float[np.ndarray, " pair"],
) -> Measured:
    """One run: a layer of these effects and its twins, on a text of its own."""

    def of_concepts(sd: float, n_items: int) -> np.ndarray:
        return sd * rng.standard_normal((n_items, case.n_concepts))[:, pairs].sum(2)

    seen = base * np.exp(0.1 * rng.standard_normal(case.n_pairs))  # text and support, for every item alike
    noise = NULL_SCATTER * rng.standard_normal((1 + case.n_twins, case.n_pairs))
    d = seen + of_concepts(case.of_concept, 1 + case.n_twins) + noise
    computes = effect > 0
    d[0] += effect + computes * (of_concepts(case.text, 1)[0] + case.text * rng.standard_normal(case.n_pairs))
    return Measured(d[0], d[1:], np.full(case.n_pairs, 100))


def two_runs(rng: np.random.Generator, case: Case) -> tuple[Measured, Measured, Int[np.ndarray, "pair 2"]]:
    """Two runs of one case, and their pairs."""
    pairs = _pairs(rng, case)
    base = np.exp(0.5 * rng.standard_normal(case.n_pairs))
    effect = rng.exponential(case.strong, case.n_pairs)
    order = rng.permutation(case.n_pairs)
    second = np.where(np.isin(np.arange(case.n_pairs), order[: case.common]), effect, 0.0)
    first = np.where(np.isin(np.arange(case.n_pairs), order[: case.common + case.only_first]), effect, 0.0)
    return _run(rng, case, pairs, base, first), _run(rng, case, pairs, base, second), pairs


def draws(rng: np.random.Generator, case: Case, n_draws: int) -> Iterator[Difference]:
    """The test on many pairs of runs."""
    for _ in range(n_draws):
        yield difference(*two_runs(rng, case))


def mcnemar(found: Difference) -> float:
    """Its exact p-value, as if pairs were independent."""
    n = found.n_only_first + found.n_only_second
    return float(stats.binomtest(found.n_only_first, n).pvalue) if n else 1.0
