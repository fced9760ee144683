"""Before a run: what it could find at best. The smallest p-value, the fewest pairs that can be named, the detectable d′.

A p-value that is a rank among pooled twin values, (b + 1)/(B + 1), cannot fall below 1/(B + 1), and a procedure that
controls the false discovery rate then names a few pairs together or none. A tail fitted beyond the twins takes that floor
away: one pair can be named, if it stands out far enough. How far that is, the detectable d′, needs the scatter of the
twins: that of twins at hand, or else the documented defaults. Axes: twin pair.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from probekit.errors import InputError
from probekit.evidence.decide import Fdr, adjusted
from probekit.evidence.nulls import (
    MIN_TAIL,
    MIN_TWINS_LEAVE_ONE_OUT,
    TAIL_SHARE,
    Standardised,
    compress,
    leave_one_out,
    pooled_p,
)
from probekit.evidence.summary import Floor

USUAL_D = 1.0
"""Median |d′| of twins at k = 16, where none is at hand: SmolLM2's layer 0 and the planted layers show 0.8 to 1."""
USUAL_SPREAD = 1 / 3
"""Standard deviation of one pair's d′ between twins, as a share of it: a third."""
MOST_Z = 1e4
"""Standardised values are looked at up to here; what needs more is not detectable."""
_ROUNDS = 6  # each narrows the value down by the number of pairs


def floor(
    n_pairs: int,
    n_twins: int,
    q: float,
    *,
    fdr: Fdr = "bh",
    tail: bool = True,
    strata: Sequence[int] | None = None,
    d_twins: Float[np.ndarray, "twin pair"] | None = None,
) -> Floor:
    """What a run of this size could find at best.

    Args:
        n_pairs: tested pairs.
        n_twins: twins a layer.
        q: level of the false discovery rate.
        fdr: how the false discovery rate is controlled.
        tail: whether a tail is fitted beyond the twins, as `pooled_p` does where their values are many enough.
        strata: pairs in each stratum whose twin values are pooled; None: one stratum of all pairs.
        d_twins: d′ of the twins, where they have run.

    Returns:
        smallest_p: of a single pair; 0 where a tail is fitted, None without twins enough.
        fewest_nameable: pairs at their smallest p that are named together at q while all others stand at p = 1; fewer cannot
            be named. None where even all of them would not be, and without twins.
        detectable_d: d′ at which a usual pair, standing among `fewest_nameable` like it, is named; None where none is.
        assumptions: in words.

    Raises:
        InputError: counts or levels that cannot be.
    """
    sizes = np.asarray([n_pairs] if strata is None else strata, np.int64)
    _check(n_pairs, n_twins, q, sizes)
    nothing: Floor = {"smallest_p": None, "fewest_nameable": None, "detectable_d": None, "assumptions": ""}
    # one twin is left out when the layer is standardised, and a spread needs two more
    if n_twins < MIN_TWINS_LEAVE_ONE_OUT - 1:
        return {
            **nothing,
            "assumptions": f"{n_twins} twins: no pair is compared with any, and none can be named.",
        }
    fitted = tail & (TAIL_SHARE * n_twins * sizes >= MIN_TAIL)
    smallest = np.sort(np.repeat(np.where(fitted, 0.0, 1 / (n_twins * sizes + 1.0)), sizes))
    fewest = _fewest(smallest, q, fdr)
    pool = (
        "one stratum"
        if len(sizes) == 1
        else f"{len(sizes)} strata of {sizes.min():,} to {sizes.max():,} pairs"
    )
    how = f"p-values are ranks among {n_twins} twins in {pool}" + (
        ", with a tail fitted beyond them" if fitted.any() else ""
    )
    held: Floor = {**nothing, "smallest_p": float(smallest[0]), "fewest_nameable": fewest}
    if fewest is None:
        return {**held, "assumptions": f"{how}; at q = {q:g} not even all {n_pairs:,} pairs could be named."}
    needed = _needed(smallest, fewest, q, fdr)
    if d_twins is None or len(d_twins) < MIN_TWINS_LEAVE_ONE_OUT:
        detectable, scatter = _by_default(needed, n_twins)
    else:
        detectable, scatter = _by_twins(needed, d_twins, tail)
    return {
        **held,
        "detectable_d": detectable,
        "assumptions": f"{how}; {fdr.upper()} at q = {q:g}, the other pairs at p = 1; {scatter}.",
    }


def _fewest(smallest: Float[np.ndarray, " pair"], q: float, fdr: Fdr) -> int | None:
    """The fewest pairs that are named: the more stand at their smallest p, the more easily any is."""
    if not _named(smallest, q, fdr):
        return None
    low, high = 0, len(smallest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _named(smallest[:middle], q, fdr, len(smallest)) else (middle, high)
    return high


def _named(p: Float[np.ndarray, " some"], q: float, fdr: Fdr, n_pairs: int = 0) -> bool:
    """Whether any of some p-values is named, all others being 1."""
    full = np.concatenate([p, np.ones(max(n_pairs - len(p), 0))])
    return bool((adjusted(full, fdr) <= q).any())


def _needed(smallest: Float[np.ndarray, " pair"], fewest: int, q: float, fdr: Fdr) -> float:
    """The largest p at which so many pairs alike are named."""
    low, high = np.log(max(float(smallest[fewest - 1]), np.finfo(float).tiny)), 0.0
    for _ in range(60):
        middle = (low + high) / 2
        inside = _named(np.full(fewest, np.exp(middle)), q, fdr, len(smallest))
        low, high = (middle, high) if inside else (low, middle)
    return float(np.exp(low))


def _by_default(p: float, n_twins: int) -> tuple[float, str]:
    """d′ of a usual pair that reaches a p-value, if twins scatter as they usually do."""
    # the derivative of asinh(x) at x = 1 is 1/√2
    reach = float(stats.t.isf(p, n_twins - 2)) * np.sqrt(1 + 1 / (n_twins - 1)) * USUAL_SPREAD / np.sqrt(2)
    return float(USUAL_D * np.sinh(np.arcsinh(1.0) + reach)), (
        f"a pair's d′ taken to be {USUAL_D:g} in twins, with a standard deviation of a third of it between them "
        f"(Student's t, {n_twins - 2} degrees of freedom)"
    )


def _by_twins(p: float, d_twins: Float[np.ndarray, "twin pair"], tail: bool) -> tuple[float | None, str]:
    """The same by the twins at hand: the smallest standardised value that reaches the p-value, as a d′."""
    _, twins = compress(d_twins[0], d_twins)
    null = leave_one_out(twins[0], twins).twins
    # the number of pairs is kept: as many values are tried at a time
    low, high = 0.0, MOST_Z
    even = np.ones(null.shape[1], np.int64)
    said = (
        f"the scatter of this layer's {len(d_twins)} twins, for a pair of their median d′ and median spread"
    )
    for _ in range(_ROUNDS):
        tried = np.linspace(low, high, null.shape[1] + 1)[1:]
        reached = pooled_p(Standardised(tried, null), even, tail) <= p * (1 + 1e-9)
        if not reached.any():
            return None, said
        at = int(np.argmax(reached))
        low, high = (low if at == 0 else float(tried[at - 1])), float(tried[at])
    centre, spread = float(np.median(twins.mean(0))), float(np.median(twins.std(0, ddof=1)))
    scale = float(np.median(np.abs(d_twins)))
    return float((scale if scale > 0 else 1.0) * np.sinh(centre + high * spread)), said


def _check(n_pairs: int, n_twins: int, q: float, sizes: np.ndarray) -> None:
    if n_pairs < 1 or n_twins < 0:
        raise InputError(
            f"floor: got {n_pairs} pairs and {n_twins} twins; wanted at least one pair and no negative number of twins."
        )
    if not 0 < q < 1:
        raise InputError(f"floor: got q = {q}, wanted a false discovery rate between 0 and 1, such as 0.05.")
    if (sizes < 1).any() or sizes.sum() != n_pairs:
        raise InputError(
            f"floor: got strata of {sizes.tolist()} pairs; wanted whole numbers that sum to {n_pairs:,}."
        )
