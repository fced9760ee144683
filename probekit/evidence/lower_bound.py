"""How many pairs at least are beyond their twins, without naming them: Meinshausen & Rice (2006).

With n p-values of which n₀ are null, F(t) − t cannot exceed its bounding function by chance alone: with δ(t) = √(t(1 − t))
and a constant β such that sup_t (F₀(t) − t)/δ(t) ≤ β in 95 % of null draws,
    share non-null ≥ sup_t (F(t) − t − β·δ(t))/(1 − t).
The p-values of one layer are dependent in a way no table knows (pairs share concepts and tokens), so β is not taken from
the theory of independent p-values but from the layer's own twins, each put in the layer's place. The same bound on
1 − p is the negative control: where it is above 0 the p-values are no p-values and the bound is withheld.
Axes: twin pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

MIN_TWINS_FOR_BOUND = 19
"""Fewest twins with which a 95 % constant can be read off: ⌈0.95·(R + 1)⌉ ≤ R."""
LEVEL = 0.95
T_RANGE = (0.002, 0.5)
"""Levels at which the bound is taken: below, a single pair decides; above, hardly a non-null pair is left."""
N_LEVELS = 250


@dataclass(frozen=True)
class NonNull:
    """The bound and its control."""

    n_low: int | None
    """At least so many pairs are non-null; None where it is not claimed."""
    control: int | None
    """The same bound on 1 − p: 0 where the p-values are in order."""
    beta: float | None
    """The constant calibrated on the twins."""
    why_not: str
    """Why nothing is claimed; empty where it is."""


def _levels() -> Float[np.ndarray, " level"]:
    return np.geomspace(*T_RANGE, N_LEVELS)


def _shares(
    p: Float[np.ndarray, " pair"], levels: Float[np.ndarray, " level"]
) -> Float[np.ndarray, " level"]:
    return np.searchsorted(np.sort(p), levels, side="right") / len(p)


def departure(p: Float[np.ndarray, " pair"]) -> float:
    """sup_t (F(t) − t)/√(t(1 − t)) over the levels: how far p-values crowd towards 0."""
    t = _levels()
    return float(((_shares(p, t) - t) / np.sqrt(t * (1 - t))).max())


def share_low(p: Float[np.ndarray, " pair"], beta: float) -> float:
    """Lower limit of the share of non-null p-values for a constant β."""
    t = _levels()
    bound = (_shares(p, t) - t - beta * np.sqrt(t * (1 - t))) / (1 - t)
    return max(0.0, float(bound.max()))


def calibrated(departures: Sequence[float]) -> float:
    """The ⌈0.95·(R + 1)⌉-th smallest of the twins' departures, never below 0."""
    place = int(np.ceil(LEVEL * (len(departures) + 1)))
    return max(0.0, float(np.sort(np.asarray(departures, float))[place - 1]))


def non_null(p: Float[np.ndarray, " pair"], twins: Sequence[Float[np.ndarray, " pair"]]) -> NonNull:
    """At least how many pairs are non-null, calibrated on the twins' p-values.

    Args:
        p: the layer's p-values.
        twins: the p-values of each twin in the layer's place.
    """
    if len(twins) < MIN_TWINS_FOR_BOUND:
        return NonNull(
            None, None, None, f"{len(twins)} twins; {MIN_TWINS_FOR_BOUND} are needed for a 95 % constant"
        )
    beta = calibrated([departure(twin) for twin in twins])
    beta_control = calibrated([departure(1 - twin) for twin in twins])
    n_low = int(np.floor(share_low(p, beta) * len(p)))
    control = int(np.floor(share_low(1 - p, beta_control) * len(p)))
    if control:
        return NonNull(None, control, beta, f"the same bound on 1 − p says {control}, where it must say 0")
    return NonNull(n_low, control, beta, "")
