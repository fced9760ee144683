"""Before a run: what it could find at best. The smallest p-value, the fewest pairs that can be named, the detectable d′.

A p-value that is a rank among pooled twin values, (b + 1)/(B + 1), cannot fall below 1/(B + 1), and a procedure that
controls the false discovery rate then names a few pairs together or none. Both are arithmetic; the detectable d′ also
needs the scatter of the twins: that of twins at hand, or else the documented defaults. Axes: twin pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from probekit.errors import InputError
from probekit.evidence.decide import Fdr, adjusted
from probekit.evidence.nulls import MIN_TWINS, compress, leave_one_out, support_strata

USUAL_D = 1.0
"""Median |d′| of twins at k = 16, where none is at hand: SmolLM2's layer 0 and the planted layers show 0.8 to 1."""
USUAL_SPREAD = 1 / 3
"""Standard deviation of one pair's d′ between twins, as a share of it: a third."""


def floor(
    n_pairs: int,
    n_twins: int,
    q: float,
    *,
    strata: Sequence[int] | None = None,
    fdr: Fdr = "bh",
    tail_p: float | None = None,
    d_twins: Float[np.ndarray, "twin pair"] | None = None,
) -> dict[str, Any]:
    """What a run of this size could find at best.

    Args:
        n_pairs: tested pairs.
        n_twins: twins a layer.
        q: level of the false discovery rate.
        strata: pairs in each stratum whose twin values are pooled; None: the strata of `support_strata`. One number for one
            stratum of all pairs.
        fdr: how the false discovery rate is controlled.
        tail_p: the smallest p-value that a model of the twins' tail gives; None: p-values are ranks.
        d_twins: d′ of the twins, where they have run.

    Returns:
        smallest_p: of a single pair; None without twins enough.
        fewest_nameable: pairs at their smallest p that are named together at q while all others stand at p = 1; fewer cannot
            be named. None where even all of them would not be, and without twins.
        detectable_d: d′ at which a usual pair, standing among `fewest_nameable` like it, is named; None where none is.
        assumptions: in words.

    Raises:
        InputError: counts or levels that cannot be.
    """
    sizes = _sizes(n_pairs, strata)
    _check(n_pairs, n_twins, q, sizes, tail_p)
    nothing: dict[str, Any] = {"smallest_p": None, "fewest_nameable": None, "detectable_d": None}
    # one twin is left out when the layer is standardised, and a spread needs two more
    if n_twins < MIN_TWINS - 1:
        return nothing | {
            "assumptions": f"{n_twins} twins: no pair is compared with any, and none can be named."
        }
    smallest = _smallest(sizes, n_twins, tail_p)
    fewest = _fewest(smallest, q, fdr)
    how = (
        f"p-values are ranks among {n_twins} twins in {len(sizes)} strata of {sizes.min():,} to {sizes.max():,} pairs"
        if tail_p is None
        else f"the twins' tail is modelled down to p = {tail_p:.2g}"
    )
    held = nothing | {"smallest_p": float(smallest[0]), "fewest_nameable": fewest}
    if fewest is None:
        return held | {"assumptions": f"{how}; at q = {q:g} not even all {n_pairs:,} pairs could be named."}
    needed = float(smallest[fewest - 1])
    detectable, scatter = _detectable(needed, n_twins, d_twins)
    return held | {
        "detectable_d": detectable,
        "assumptions": f"{how}; {fdr.upper()} at q = {q:g}, the other pairs at p = 1; {scatter}.",
    }


def _sizes(n_pairs: int, strata: Sequence[int] | None) -> np.ndarray:
    if strata is None:
        return np.bincount(support_strata(np.arange(max(n_pairs, 0))))
    return np.asarray(strata, np.int64)


def _smallest(sizes: np.ndarray, n_twins: int, tail_p: float | None) -> Float[np.ndarray, " pair"]:
    """The smallest p-value that each pair can have, in order."""
    if tail_p is not None:
        return np.full(int(sizes.sum()), tail_p)
    return np.sort(np.repeat(1 / (n_twins * sizes + 1.0), sizes))


def _fewest(smallest: Float[np.ndarray, " pair"], q: float, fdr: Fdr) -> int | None:
    """The fewest pairs that are named: the more stand at their smallest p, the more easily any is."""

    def named(n: int) -> bool:
        p = np.ones(len(smallest))
        p[:n] = smallest[:n]
        return bool((adjusted(p, fdr) <= q).any())

    low, high = 0, len(smallest)
    if not named(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if named(middle) else (middle, high)
    return high


def _detectable(p: float, n_twins: int, d_twins: Float[np.ndarray, "twin pair"] | None) -> tuple[float, str]:
    """d′ of a usual pair that reaches a p-value, and how the twins were taken to scatter."""
    if d_twins is None or len(d_twins) < MIN_TWINS:
        centre = float(np.arcsinh(1.0))
        # the derivative of asinh(x) at x = 1
        spread = USUAL_SPREAD / np.sqrt(2)
        z = float(stats.t.isf(p, n_twins - 2)) * np.sqrt(1 + 1 / (n_twins - 1))
        return float(USUAL_D * np.sinh(centre + z * spread)), (
            f"a pair's d′ taken to be {USUAL_D:g} in twins, with a standard deviation of a third of it between them "
            f"(Student's t, {n_twins - 2} degrees of freedom)"
        )
    held, twins = compress(d_twins[0], d_twins)
    null = np.sort(leave_one_out(held, twins).twins.ravel())
    # (b + 1)/(B + 1) ≤ p: b of the B twin values may be as high
    n_above = max(0, int(np.floor(p * (len(null) + 1) + 1e-9)) - 1)
    z = float(null[len(null) - 1 - n_above])
    centre, spread = float(np.median(twins.mean(0))), float(np.median(twins.std(0, ddof=1)))
    scale = float(np.median(np.abs(d_twins)))
    scale = scale if scale > 0 else 1.0
    return float(scale * np.sinh(centre + z * spread)), (
        f"the scatter of this layer's {len(d_twins)} twins, for the pair of median d′ and median spread among them"
    )


def _check(n_pairs: int, n_twins: int, q: float, sizes: np.ndarray, tail_p: float | None) -> None:
    if n_pairs < 1 or n_twins < 0:
        raise InputError(
            f"floor: got {n_pairs} pairs and {n_twins} twins; wanted at least one pair and no negative number of twins."
        )
    if not 0 < q < 1 or (tail_p is not None and not 0 < tail_p <= 1):
        raise InputError(f"floor: got q = {q} and tail_p = {tail_p}; wanted levels between 0 and 1.")
    if (sizes < 1).any() or sizes.sum() != n_pairs:
        raise InputError(
            f"floor: got strata of {sizes.tolist()} pairs; wanted whole numbers that sum to {n_pairs:,}."
        )
