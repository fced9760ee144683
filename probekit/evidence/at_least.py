"""At least V of these pairs: a lower bound of the non-null pairs in any set, however and whenever the set was chosen.

Joint-error-rate control (Blanchard, Neuvial & Roquain 2020, "Post hoc confidence bounds on false positives using
reference families", Ann. Statist. 48): if with confidence 95 %, for all k at once, fewer than k null p-values lie below
t_k, then a set S holds at least max_k (|{i ∈ S: p_i < t_k}| − k + 1) non-null pairs, for all sets S at once. So a set may
be chosen after looking, by any rule, and any number of sets may be asked about.

The thresholds are their balanced ones, t_k = the λ-quantile of Beta(k, m + 1 − k), the law of the k-th smallest of m
independent p-values, for k up to a tenth of m; `analyses/results/at_least_coverage.md` compares the linear (Simes) ones
t_k = λk/m, which hold as well and see about half as much. λ is not taken from independence: it is the ⌊0.05·(R + 1)⌋-th
smallest of λ_r = min_k F_k(p_(k)) over the R twins, each put in the layer's place. A layer that computes nothing is one more
draw, so its own λ lies below with probability at most 5 %, under any dependence between pairs.

Where a pair must pass several tests, the largest of its p-values decides and a pair is null where *any* of its tests is. A
pair that is null in one test may be far from null in the others, so its p-value is smaller than a twin's largest; the
twins are therefore represented by the *smallest* of their p-values. Axes: part pair twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from probekit.errors import InputError, ShapeError
from probekit.evidence.summary import AtLeast

LEVEL = 0.95
MIN_TWINS_FOR_BOUND = 19
"""Fewest twins with which 95 % can be calibrated: ⌊0.05·(R + 1)⌋ ≥ 1."""
SHARE = 0.1
"""Thresholds reach up to k = this share of the tested pairs: further ones cost power where few pairs are non-null."""
FEWEST_THRESHOLDS = 10
_HALVINGS = 64  # of a bracket from 1 to the smallest positive number, on the logarithm: to the last digits

Chosen = Bool[np.ndarray, " pair"] | Int[np.ndarray, " chosen"]
"""Which pairs: a flag for each tested one, or their places."""


@dataclass(frozen=True)
class Calibration:
    """λ, read off the twins in the layer's place."""

    scale: float | None
    """λ: the level of each single threshold; None where nothing is claimed."""
    level: float
    """Confidence, for all sets at once."""
    n_twins: int
    """Twins it was read off."""
    n_pairs: int
    """Tested pairs."""
    why_not: str = ""
    """Why nothing is claimed; empty where it is."""

    def thresholds(self) -> Float[np.ndarray, " k"]:
        """The largest p-values that lie below t_k, for k = 1, 2, …

        Raises:
            InputError: nothing is claimed.
        """
        if self.scale is None:
            raise InputError(f"at_least: nothing can be said: {self.why_not}.")
        return _below(self.scale, self.n_pairs)


def n_thresholds(n_pairs: int) -> int:
    """How many thresholds t_k there are among so many tested pairs."""
    return min(n_pairs, max(FEWEST_THRESHOLDS, int(np.ceil(SHARE * n_pairs))))


def joint_levels(p: Float[np.ndarray, "item pair"]) -> Float[np.ndarray, " item"]:
    """min over k of F_k(p_(k)), F_k the law of the k-th smallest of independent p-values: how low they lie jointly."""
    n_pairs = p.shape[1]
    k = np.arange(1, n_thresholds(n_pairs) + 1)
    return special.betainc(k, n_pairs + 1 - k, np.sort(p, axis=1)[:, : len(k)]).min(axis=1)


def calibrate(twin_p: Sequence[Float[np.ndarray, " pair"]], level: float = LEVEL) -> Calibration:
    """λ from the p-values of each twin in the layer's place.

    Args:
        twin_p: p-values of each twin; where several tests decide, the smallest of each pair's p-values.
        level: confidence.

    Raises:
        InputError: no level between 0 and 1, or p-values outside [0, 1].
        ShapeError: twins of different numbers of pairs.
    """
    if not 0 < level < 1:
        raise InputError(f"calibrate: got level {level}, wanted one between 0 and 1, such as 0.95.")
    if len({len(p) for p in twin_p}) > 1:
        raise ShapeError(
            f"calibrate: got twins of {sorted({len(p) for p in twin_p})} pairs; wanted the same pairs of each twin."
        )
    n_twins, n_pairs = len(twin_p), len(twin_p[0]) if len(twin_p) else 0
    for p in twin_p:
        _check(p, "calibrate")
    # a rank computed in floating point: 0.05·(19 + 1) must not fall below 1
    place = int(np.floor((1 - level) * (n_twins + 1) + 1e-9))
    if place < 1:
        needed = int(np.ceil(1 / (1 - level) - 1e-9)) - 1
        return Calibration(
            None, level, n_twins, n_pairs, f"{n_twins} twins; {needed} are needed for {level:.0%} confidence"
        )
    if n_pairs == 0:
        return Calibration(None, level, n_twins, 0, "no pair was tested")
    return Calibration(float(np.sort(joint_levels(np.stack(twin_p)))[place - 1]), level, n_twins, n_pairs)


def at_least(p: Float[np.ndarray, " pair"], chosen: Chosen, calibration: Calibration) -> int:
    """At least so many of the chosen pairs are non-null; simultaneous over all sets. O(n log n).

    Args:
        p: p-values of all tested pairs, the largest of each pair's tests.
        chosen: the set, as flags or places; a place that stands twice counts once.
        calibration: of the same tested pairs.

    Raises:
        InputError: nothing is claimed (too few twins), or p-values outside [0, 1].
        ShapeError: other pairs than were calibrated.
    """
    _same_pairs(p, calibration)
    thresholds = calibration.thresholds()
    inside = p[chosen] if chosen.dtype == np.bool_ else p[np.unique(chosen)]
    below = np.searchsorted(np.sort(inside), thresholds, side="right")
    # fewer than k nulls lie below t_k: at most k − 1
    return max(0, int((below - np.arange(len(thresholds))).max(initial=0)))


def group_bounds(
    p: Float[np.ndarray, " pair"], kinds: Sequence[str], calibration: Calibration
) -> dict[str, int]:
    """The bound for each kind of pair, all at once.

    Args:
        p: p-values of all tested pairs.
        kinds: the kind of each.
        calibration: of the same pairs.
    """
    labels = np.asarray(kinds)
    return {name: at_least(p, labels == name, calibration) for name in sorted(set(kinds))}


def summary_of(
    parts: Float[np.ndarray, "part pair"],
    twin_parts: Sequence[Float[np.ndarray, "part pair"]],
    level: float = LEVEL,
) -> AtLeast:
    """The key `at_least` of a layer's row in summary.json.

    The negative control is the same bound on the upside-down p-values, 1 − p: where it is above 0, more pairs than chance
    lies *below* the twins, the p-values are in no order, and the bound is withheld.

    Args:
        parts: p-values of the layer, one row a test that a pair must pass; a pair's largest decides.
        twin_parts: the same of each twin in the layer's place; none: no twin ran.
        level: confidence.

    Returns:
        level, lambda (null where nothing is claimed), n_twins, n_low (of all tested pairs, null where withheld), control
        (the bound on 1 − p, null where none could be made), why_not (words; empty where the bound is claimed).
    """
    decisive, null = parts.max(0), [held.min(0) for held in twin_parts]
    calibration = calibrate(null, level)
    held: AtLeast = {
        "level": level, "lambda": None, "n_twins": len(null), "n_low": None, "control": None,
        "why_not": calibration.why_not,
    }  # fmt: skip
    if calibration.scale is None:
        return held
    everything = np.ones(len(decisive), bool)
    # a rank (b + 1)/(B + 1) turned over is one again: of 1, the smallest, not 0
    floor = 1 / (len(null) * len(decisive) + 1)
    control = at_least(
        np.clip(1 + floor - parts.min(0), 0, 1),
        everything,
        calibrate([np.clip(1 + floor - other.max(0), 0, 1) for other in twin_parts], level),
    )
    if control:
        return {
            **held,
            "control": control,
            "why_not": f"the same bound on 1 − p says {control}, where it must say 0",
        }
    return {
        **held, "lambda": calibration.scale, "n_low": at_least(decisive, everything, calibration), "control": 0,
    }  # fmt: skip


@cache
def _below(scale: float, n_pairs: int) -> Float[np.ndarray, " k"]:
    """The largest x with F_k(x) < scale, by bisection: scipy's inverse fails where the scale is very small."""
    k = np.arange(1, n_thresholds(n_pairs) + 1)
    low, high = np.full(len(k), np.log(np.finfo(float).tiny)), np.zeros(len(k))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        inside = special.betainc(k, n_pairs + 1 - k, np.exp(middle)) < scale
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    # a threshold no number lies below stays at the bracket's end, and no p-value but 0 is that small
    found = np.exp(low)
    return np.where(special.betainc(k, n_pairs + 1 - k, found) < scale, found, -1.0)


def _same_pairs(p: Float[np.ndarray, " pair"], calibration: Calibration) -> None:
    _check(p, "at_least")
    if calibration.scale is not None and len(p) != calibration.n_pairs:
        raise ShapeError(
            f"at_least: got the p-values of {len(p):,} pairs, wanted those of all {calibration.n_pairs:,} tested ones; "
            "choose the set by `chosen`."
        )


def _check(p: Float[np.ndarray, " pair"], where: str) -> None:
    if len(p) and not ((p >= 0) & (p <= 1)).all():
        worst = p[~((p >= 0) & (p <= 1))][0]
        raise InputError(f"{where}: got a p-value of {worst}; wanted numbers from 0 to 1.")
