"""Do two layers differ in how many of the same pairs stand above their null layers? A test paired by pair.

Each layer is judged by its own twins: of a pair it is asked whether its standardised d′ lies beyond the upper `level`
quantile of the pooled leave-one-out values of that layer's twins. With e_p = (1, 0, −1), beyond in the first layer less
beyond in the second, the difference is D = Σ e_p. Exceeding is used rather than the size of the effect because it saturates:
the size of a strong effect depends on how widely few twins happen to scatter, and differs between two sets of twins by far
more than their means do.

**The test** is a two-sided t test of D = 0: the layers may both compute much, and equally much. Its variance has three
parts: pairs that share a concept are dependent (the dyadic cluster-robust variance of Fafchamps & Gubert 2007 and Aronow,
Samii & Assenova 2015, not below that of independent pairs), and either set of twins is a sample (jackknife that leaves out
one twin at a time, thresholds and all). Degrees of freedom by Satterthwaite. Assumed: concepts are drawn from more like
them; pairs without a common concept, and the two sets of twins, are independent.

**Beside it** stands the rank of |D| among |D_ij|, twin i in the first layer's place and twin j in the second's (i ≠ j where
the runs share a seed, since twins of one number are then alike): p = (1 + #{|D_ij| ≥ |D|})/(1 + number of them). It tests
something else, that *neither layer computes anything*: for then each is exchangeable with its twins. Two layers that compute
equally much differ by more than null layers do, so it does not decide.

What is *not* assumed: independent pairs. McNemar's test assumes it, and is printed beside in `analyses/difference.py` to
show what that costs. Axes: twin pair concept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from probekit.errors import InputError, ShapeError
from probekit.evidence.nulls import MIN_TWINS_LEAVE_ONE_OUT, compress, leave_one_out, support_scale

LEVEL = 0.01
"""Share of the null layers' values that lie beyond."""
FEWEST_PAIRS = 30
"""Fewest common pairs: with fewer, no error of a share can be estimated from pairs that share concepts."""


@dataclass(frozen=True)
class Measured:
    """d′ of the same pairs in one layer and in its twins."""

    layer: Float[np.ndarray, " pair"]
    """The layer."""
    twins: Float[np.ndarray, "twin pair"]
    """Its null layers."""
    n11: Int[np.ndarray, " pair"]
    """Tokens of quadrant 11."""


@dataclass(frozen=True)
class Difference:
    """Pairs beyond the null layers in one layer and not in another."""

    n_pairs: int
    """Common pairs."""
    n_first: int
    """Beyond the level in the first layer."""
    n_second: int
    """Beyond it in the second."""
    n_only_first: int
    """In the first alone."""
    n_only_second: int
    """In the second alone."""
    difference: int
    """n_first − n_second."""
    low: float
    """Lower end of the 95 % interval of the difference, by its own error."""
    high: float
    """Upper end."""
    p: float
    """Of no difference, by its own error."""
    p_null: float
    """Of neither layer computing anything, by the rank among differences of null layers."""


def difference(
    first: Measured,
    second: Measured,
    pairs: Int[np.ndarray, "pair 2"],
    *,
    level: float = LEVEL,
    same_seed: bool = False,
) -> Difference:
    """Test whether two layers have the same number of pairs beyond their null layers.

    Args:
        first: one layer.
        second: the other, on the same pairs in the same order.
        pairs: concepts of each pair, as numbers.
        level: share of the null layers' values that lie beyond; 0 < level < 1/2.
        same_seed: the two sets of twins may be alike number by number.

    Raises:
        InputError: too few twins or pairs, or no such level.
        ShapeError: not the same pairs.
    """
    _check(first, second, pairs, level)
    one, two = (_beyond(held, level) for held in (first, second))
    e = one[0].astype(float) - two[0].astype(float)
    parts = [(_by_concepts(e, pairs), len(np.unique(pairs)) - 1)]
    parts += [(_by_twins(held, level), len(held.twins) - 1) for held in (first, second)]
    variance = sum(part for part, _ in parts)
    total = float(e.sum())
    if variance > 0:
        df = variance**2 / sum(part**2 / max(df, 1) for part, df in parts)
        error = float(np.sqrt(variance))
        p, reach = 2 * float(stats.t.sf(abs(total) / error, df)), float(stats.t.ppf(0.975, df)) * error
    else:  # the same pairs in both, whichever twin is left out
        p, reach = 1.0, 0.0
    null = one[1].sum(1)[:, None] - two[1].sum(1)[None, :].astype(float)
    drawn = null[~np.eye(*null.shape, dtype=bool)] if same_seed else null.ravel()
    p_null = (1 + int((np.abs(drawn) >= abs(total)).sum())) / (1 + len(drawn))
    return Difference(
        len(e), int(one[0].sum()), int(two[0].sum()), int((e > 0).sum()), int((e < 0).sum()), int(total),
        total - reach, total + reach, p, p_null,
    )  # fmt: skip


def _beyond(held: Measured, level: float) -> tuple[Bool[np.ndarray, " pair"], Bool[np.ndarray, "twin pair"]]:
    """Which pairs lie beyond the pooled twins' quantile: in the layer, and in every twin in its place."""
    z = leave_one_out(*compress(held.layer, held.twins))
    scale = support_scale(z.twins, held.n11)
    layer, twins = z.layer / scale, z.twins / scale
    threshold = np.quantile(twins, 1 - level)
    return layer > threshold, twins > threshold


def _by_twins(held: Measured, level: float) -> float:
    """Jackknife variance of the count over twins."""
    n_twins = len(held.twins)
    counts = [
        _beyond(Measured(held.layer, np.delete(held.twins, i, axis=0), held.n11), level)[0].sum()
        for i in range(n_twins)
    ]
    return float((n_twins - 1) * np.var(counts))


def _by_concepts(e: Float[np.ndarray, " pair"], pairs: Int[np.ndarray, "pair 2"]) -> float:
    """Dyadic cluster-robust variance of Σ e, not below that of independent pairs."""
    away = e - e.mean()
    n = len(e)
    _, place = np.unique(pairs, return_inverse=True)
    ends = place.reshape(pairs.shape)
    n_concepts = int(ends.max()) + 1
    sums = np.bincount(ends[:, 0], away, n_concepts) + np.bincount(ends[:, 1], away, n_concepts)
    alone = float((away**2).sum()) * n / (n - 1)
    # a pair's own square stands in the sums of both its concepts
    shared = (float((sums**2).sum()) - float((away**2).sum())) * n_concepts / max(n_concepts - 1, 1)
    return max(shared, alone)


def _check(first: Measured, second: Measured, pairs: np.ndarray, level: float) -> None:
    n_pairs = (
        {len(held.layer) for held in (first, second)}
        | {held.twins.shape[1] for held in (first, second)}
        | {len(pairs)}
    )
    if len(n_pairs) > 1:
        raise ShapeError(
            f"difference: got {sorted(n_pairs)} pairs, wanted the same pairs of both layers and all twins."
        )
    if not 0 < level < 0.5:
        raise InputError(f"level: got {level}, wanted a share between 0 and 1/2, such as {LEVEL}.")
    if len(pairs) < FEWEST_PAIRS:
        raise InputError(
            f"difference: the runs have {len(pairs)} tested pairs in common, wanted {FEWEST_PAIRS} or more; test the same "
            "pairs in both (the same concepts, text, seed and max_pairs, or pairs=)."
        )
    n_twins = min(len(held.twins) for held in (first, second))
    if n_twins < MIN_TWINS_LEAVE_ONE_OUT + 1:  # one is left out by the jackknife, one by standardising
        raise InputError(
            f"difference: got {n_twins} twins, wanted {MIN_TWINS_LEAVE_ONE_OUT + 1} or more in both runs, for one is left "
            f"out at a time; run again with twins={MIN_TWINS_LEAVE_ONE_OUT + 1}, or 20 as is usual."
        )
