"""Every null through one interface: what is the p-value of each pair if this null alone decided?

A null is a set of contrasts of the same pairs on the same tokens where, by the null, nothing is computed, and one of four
ways to compare: *draws*, exchangeable with the layer (twins, shuffled channels, untrained models, permuted labels), judged
as the twins are; *specific*, the same after concept effects are removed; *rivals*, that the layer must exceed (its input,
its pre-activations, the labels alone, an early checkpoint), by the paired clustered test; *pairs*, other pairs of the same
layer of like frequency. The rule of `decide` uses several of them together; here each stands alone, so that it is seen what
it catches and what it misses. Axes: pair draw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats
from scipy.spatial import KDTree

from probekit.evidence.contrast import Contrast, p_not_exceeding
from probekit.evidence.decide import Tested, twin_p_values
from probekit.evidence.nulls import MIN_TWINS_LEAVE_ONE_OUT

How = Literal["draws", "specific", "rivals", "pairs"]
N_MATCHED = 60
"""Pairs of like frequency that a pair is compared with."""
MIN_MATCHED = 20
"""Fewer others give no scale worth the name: nothing is claimed."""
QUARTILE_TO_SD = 1.4826
"""Standard deviation of a normal distribution over the distance of its quartiles from the median."""
MIN_DRAWS = MIN_TWINS_LEAVE_ONE_OUT - 1
"""Fewest draws that a layer can be standardised by, one of them left out."""


@dataclass(frozen=True)
class Null:
    """One null of one layer."""

    name: str
    """What tables call it."""
    how: How
    """How the layer is compared with it."""
    contrasts: tuple[Contrast, ...] = ()
    """What the same pairs show where the null holds; none for "pairs"."""

    @property
    def usable(self) -> bool:
        """Whether there are contrasts enough."""
        least = {"draws": MIN_DRAWS, "specific": MIN_DRAWS, "rivals": 1, "pairs": 0}[self.how]
        return len(self.contrasts) >= least


def p_values(
    null: Null, layer: Contrast, tested: Tested, counts: Int[np.ndarray, "pair quadrant"]
) -> Float[np.ndarray, " pair"]:
    """One-sided p-value of every pair against one null.

    Args:
        null: the null, usable.
        layer: the deciding readouts of the layer, or of a stand-in.
        tested: the pairs.
        counts: tokens of each quadrant.
    """
    assert null.usable, null.name
    if null.how == "pairs":
        return p_matched(layer.d_prime, counts)
    if null.how == "rivals":
        return p_not_exceeding(layer, list(null.contrasts))
    draws = np.stack([contrast.d_prime for contrast in null.contrasts])
    _, p_twin, p_pair = twin_p_values(layer.d_prime, draws, tested)
    return p_twin if null.how == "draws" else p_pair


def flagged(
    null: Null, layer: Contrast, tested: Tested, counts: Int[np.ndarray, "pair quadrant"]
) -> Bool[np.ndarray, " pair"]:
    """Pairs that this null alone would call found, at the level of the study."""
    return tested.adjusted(p_values(null, layer, tested, counts)) <= tested.q


def in_place(null: Null, tested: Tested) -> list[Float[np.ndarray, " pair"]]:
    """p-values of each draw in the layer's place against the others: the null's own calibration.

    Empty for rivals and pairs, and where too few draws would be left.
    """
    held = null.contrasts
    if null.how in ("rivals", "pairs") or len(held) < MIN_DRAWS + 1:
        return []
    none = np.zeros((len(tested.pairs), 4), np.int64)
    others = [replace(null, contrasts=held[:r] + held[r + 1 :]) for r in range(len(held))]
    return [p_values(rest, held[r], tested, none) for r, rest in enumerate(others)]


def p_matched(
    d_prime: Float[np.ndarray, " pair"],
    counts: Int[np.ndarray, "pair quadrant"],
    n_matched: int = N_MATCHED,
) -> Float[np.ndarray, " pair"]:
    """How far a pair stands out from the other pairs of its layer that are nearest in frequency.

    Nearest in the logarithms of n11 and of both concepts' own counts. asinh(d′/c) less their median, over the distance of
    their lower quartile from it, is referred to Student's t with `n_matched` − 1 degrees of freedom: a rank among them could
    never pass Benjamini–Hochberg. The tail is thus assumed, not measured. It asks whether a pair is selected among its like;
    a layer that holds all pairs alike, or most of them, shows nothing.

    Args:
        d_prime: of every pair.
        counts: tokens of each quadrant (11, 10, 01, 00).
        n_matched: how many others, at most all.
    """
    n_pairs = len(d_prime)
    n_others = min(n_matched, n_pairs - 1)
    if n_others < MIN_MATCHED:
        return np.ones(n_pairs)
    alone = np.sort(np.stack([counts[:, 0] + counts[:, 1], counts[:, 0] + counts[:, 2]], axis=1), axis=1)
    place = np.log(np.concatenate([counts[:, :1], alone], axis=1) + 1.0)
    # equal frequencies are told apart by a hair, in an order that knows nothing of d′
    place[:, 0] += 1e-9 * np.random.default_rng(0).permutation(n_pairs)
    nearest = np.asarray(KDTree(place).query(place, k=n_others + 1)[1])
    others = nearest[nearest != np.arange(n_pairs)[:, None]].reshape(n_pairs, n_others)
    scale = float(np.median(np.abs(d_prime)))
    values = np.arcsinh(d_prime / (scale if scale > 0 else 1.0))
    middle = np.median(values[others], axis=1)
    spread = middle - np.quantile(values[others], 0.25, axis=1)  # the lower quartile: finds are above
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(spread > 0, (values - middle) / (QUARTILE_TO_SD * spread), 0.0)
    return stats.t.sf(z, n_others - 1)


def nothing_read(like: Contrast) -> Contrast:
    """What the labels alone show: a readout additive in them, whose interaction and error are 0."""
    zero = np.zeros_like(like.d_prime)
    return replace(
        like,
        kappa=zero,
        kappa_se=zero,
        d_prime=zero,
        d_balanced=zero,
        d_influence=np.zeros_like(like.d_influence),
    )
