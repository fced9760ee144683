"""Simulated layers and twins for the bound on sets chosen afterwards: is any set of pairs ever promised too much?

Shared by tests/evidence/test_at_least.py and analyses/at_least_coverage.py. A false promise about any set at all is a false
promise about the set of all true nulls, so one look at that set tests all 2^n of them. Axes: item pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from probekit.evidence.at_least import at_least, calibrate

N_PAIRS = 400
N_CLUSTERS = 20
SHARED = 0.3
"""Share of the variance that pairs of a cluster, or all pairs, have in common."""

Draw = Callable[[np.random.Generator, int], np.ndarray]


def independent(rng: np.random.Generator, n_items: int) -> Float[np.ndarray, "item pair"]:
    """Standard normal values, each pair by itself."""
    return rng.standard_normal((n_items, N_PAIRS))


def clustered(rng: np.random.Generator, n_items: int) -> Float[np.ndarray, "item pair"]:
    """Pairs of a cluster share a factor, as pairs of one concept do."""
    common = rng.standard_normal((n_items, N_CLUSTERS)).repeat(N_PAIRS // N_CLUSTERS, axis=1)
    return np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * independent(rng, n_items)


def equicorrelated(rng: np.random.Generator, n_items: int) -> Float[np.ndarray, "item pair"]:
    """All pairs of an item share a factor."""
    common = rng.standard_normal((n_items, 1))
    return np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * independent(rng, n_items)


def upper(z: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """One-sided p-values of standard normal values."""
    return special.ndtr(-z)


@dataclass(frozen=True)
class Promises:
    """What the bound said over many simulated layers."""

    broken: Bool[np.ndarray, " draw"]
    """Whether any set of pairs was promised more non-null pairs than it holds."""
    low: Float[np.ndarray, " draw"]
    """The bound for all pairs."""
    low_top: Float[np.ndarray, " draw"]
    """The bound for the n pairs of smallest p, n the true number."""
    true_top: Float[np.ndarray, " draw"]
    """How many of those are non-null."""

    @property
    def held(self) -> float:
        """Share of layers in which every set holds what it was promised."""
        return 1 - float(self.broken.mean())


def promises(
    rng: np.random.Generator,
    n_draws: int,
    *,
    draw: Draw = independent,
    n_twins: int = 20,
    n_true: int = 0,
    shift: float = 0.0,
) -> Promises:
    """Layers with some shifted pairs beside twins with none."""
    true = np.zeros(N_PAIRS, bool)
    true[np.random.default_rng(0).permutation(N_PAIRS)[:n_true]] = True
    rows: list[tuple[bool, float, float, float]] = []
    for _ in range(n_draws):
        p = upper(draw(rng, 1)[0] + shift * true)
        calibration = calibrate(list(upper(draw(rng, n_twins))))
        top = np.argsort(p)[:n_true]
        rows.append(
            (
                at_least(p, ~true, calibration) > 0,
                at_least(p, np.ones(N_PAIRS, bool), calibration),
                at_least(p, top, calibration),
                float(true[top].sum()),
            )
        )
    broken, low, low_top, true_top = np.array(rows, float).T
    return Promises(broken.astype(bool), low, low_top, true_top)


def broken_by_parts(rng: np.random.Generator, n_draws: int, *, smallest: bool, n_twins: int = 20) -> float:
    """Share of layers with a broken promise where every pair is far from null in one test and null in the other.

    Args:
        rng: of the draws.
        n_draws: layers.
        smallest: calibrate on the smaller of the twins' two p-values; False: on the larger, as the layer is judged.
        n_twins: twins.
    """
    broken = 0
    for _ in range(n_draws):
        first, second = independent(rng, n_twins + 1), independent(rng, n_twins + 1)
        parts = np.stack([upper(first), upper(0.6 * first + 0.8 * second)])
        twins = parts[:, 1:].min(0) if smallest else parts[:, 1:].max(0)
        layer = parts[1, 0]  # the first test is passed by all pairs: the second one's p decides, and is null
        broken += at_least(layer, np.ones(N_PAIRS, bool), calibrate(list(twins))) > 0
    return broken / n_draws


def pooled_ranks(values: Float[np.ndarray, "item pair"]) -> Float[np.ndarray, " pair"]:
    """(b + 1)/(B + 1) of the first item among the pooled others, each pair standardised by its own others."""
    n_items = len(values)
    z = np.empty_like(values)
    for item in range(n_items):
        # as many others for every item: the layer and one twin are left out in turn
        others = np.delete(values, [0, item] if item else [0, 1], axis=0)
        z[item] = (values[item] - others.mean(0)) / others.std(0, ddof=1)
    null = np.sort(z[1:].ravel())
    return (len(null) - np.searchsorted(null, z[0]) + 1) / (len(null) + 1)


def broken_by_pooling(rng: np.random.Generator, n_draws: int, *, draw: Draw, n_twins: int = 20) -> float:
    """Share of null layers with a broken promise where p-values are ranks among twins that also calibrate the bound."""
    broken = 0
    for _ in range(n_draws):
        values = draw(rng, n_twins + 1)
        twins = [
            pooled_ranks(np.concatenate([values[r : r + 1], np.delete(values[1:], r - 1, axis=0)]))
            for r in range(1, n_twins + 1)
        ]
        broken += at_least(pooled_ranks(values), np.ones(N_PAIRS, bool), calibrate(twins)) > 0
    return broken / n_draws
