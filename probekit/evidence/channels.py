"""Channels decoded from the weights beside what activations showed: rank correlation and overlap, against twins.

The activations give each pair an excess, d′ less that of its relay-matched twins; the weights give its channel score. Both
know the same concepts, so scores of twins of the codes (equal norms, covariance and weights) tell what agreement geometry
gives by itself. Axes: pair, twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from probekit.errors import DegenerateError, ShapeError

LEAST_PAIRS = 10
"""Fewer pairs than these make no correlation worth a number."""


@dataclass(frozen=True)
class Agreement:
    """How well channel scores and measured excess agree, and how well twins' scores do."""

    n_pairs: int
    """Pairs with both numbers."""
    correlation: float
    """Spearman's rank correlation of score and excess."""
    twin_correlation: tuple[float, float, float]
    """Lowest, mean and highest of the twins' scores."""
    p_correlation: float
    """(1 + twins that agree as well)/(1 + twins)."""
    top: int
    """Size of the two lists compared: the largest scores and the largest excesses."""
    overlap: int
    """Pairs on both lists."""
    twin_overlap: tuple[float, float, float]
    """Lowest, mean and highest of the twins'."""
    p_overlap: float
    """(1 + twins with as many)/(1 + twins)."""


def agreement(
    scores: Float[np.ndarray, " pair"],
    twin_scores: Float[np.ndarray, "twin pair"],
    excess: Float[np.ndarray, " pair"],
    *,
    top: int | None = None,
) -> Agreement:
    """Compare channel scores with the excess that activations showed.

    Args:
        scores: channel score of each pair.
        twin_scores: the same of twins of the codes.
        excess: d′ less that of its twins; pairs where it is NaN are left out.
        top: length of the lists compared; a tenth of the pairs by default.

    Raises:
        ShapeError: arrays that do not fit together.
        DegenerateError: too few pairs.
    """
    if scores.shape != excess.shape or twin_scores.shape[1:] != scores.shape:
        raise ShapeError(
            f"agreement: got scores {scores.shape}, twins {twin_scores.shape}, excess {excess.shape}; wanted one number "
            "a pair."
        )
    held = np.isfinite(excess)
    n_pairs = int(held.sum())
    if n_pairs < LEAST_PAIRS:
        raise DegenerateError(
            f"agreement: got {n_pairs} pairs with both numbers, wanted {LEAST_PAIRS} or more."
        )
    size = max(1, n_pairs // 10) if top is None else min(top, n_pairs)
    own, twins, wanted = scores[held], twin_scores[:, held], excess[held]
    best = _largest(wanted, size)
    correlation, overlap = _spearman(own, wanted), _shared(own, best, size)
    others = np.array([_spearman(row, wanted) for row in twins])
    shared = np.array([_shared(row, best, size) for row in twins])
    return Agreement(
        n_pairs, correlation, _span(others), float((1 + (others >= correlation).sum()) / (1 + len(others))), size,
        overlap, _span(shared), float((1 + (shared >= overlap).sum()) / (1 + len(shared))),
    )  # fmt: skip


def measured_pairs(
    table: pd.DataFrame, names: tuple[str, ...]
) -> tuple[Int[np.ndarray, "pair 2"], Float[np.ndarray, " pair"]]:
    """Pairs of a run's table by concept index, with d′ less that of their twins, relays removed where that was measured.

    Args:
        table: the tested pairs of one layer.
        names: concepts in the order of the directions; pairs of others are left out.
    """
    index = {name: i for i, name in enumerate(names)}
    known = table[table["a"].isin(index) & table["b"].isin(index)]
    pairs = np.column_stack([known[side].map(index).to_numpy(np.int64) for side in ("a", "b")]).reshape(-1, 2)
    matched = {"d_prime_relay", "d_prime_relay_twins"} <= set(known) and known["d_prime_relay"].notna().any()
    own, twins = ("d_prime_relay", "d_prime_relay_twins") if matched else ("d_prime", "d_prime_twins")
    return pairs, (known[own] - known[twins]).to_numpy(np.float64)


def _spearman(left: Float[np.ndarray, " pair"], right: Float[np.ndarray, " pair"]) -> float:
    """Rank correlation with ties at mid ranks; 0 where all are tied (a layer without any channel)."""
    a, b = rankdata(left), rankdata(right)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def _largest(values: Float[np.ndarray, " pair"], size: int) -> Bool[np.ndarray, " pair"]:
    chosen = np.zeros(len(values), dtype=np.bool_)
    chosen[np.argsort(-values, kind="stable")[:size]] = True
    return chosen


def _shared(scores: Float[np.ndarray, " pair"], best: Bool[np.ndarray, " pair"], size: int) -> int:
    """Pairs of the largest scores among the best; pairs without any score are on no list."""
    return int((_largest(scores, size) & (scores > 0) & best).sum())


def _span(values: np.ndarray) -> tuple[float, float, float]:
    return float(values.min()), float(values.mean()), float(values.max())
