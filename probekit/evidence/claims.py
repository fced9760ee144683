"""A claimed feature against null layers: what it is about, how strongly, and whether null layers show as much.

A claim is a number at every token that a layer is said to compute: a direction, a latent. What makes it an AND of two
things the layer reads is its interaction in a pair of concepts A, B, as for a readout: κ = μ11 − μ10 − μ01 + μ00 over the
pooled standard deviation within the quadrants, d′. Its *description* is the pair at which |d′| is surest to be large on
the fit half (|d′| less two standard errors); d′ is then taken at that pair on the confirm half. A null layer's claim is
described anew, so the search is paid for; so is a random direction of the same layer. Axes: token claim pair null
quadrant (11, 10, 01, 00).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from probekit.evidence.causal import LEVEL, quadrant_change
from probekit.evidence.nulls import compress, leave_one_out, pooled_p
from probekit.probes.pairs import SIGNS, LabelColumns, natural_counts

Verdict = Literal["made here", "relayed", "not above its null layers"]
VERDICTS: tuple[Verdict, ...] = ("made here", "relayed", "not above its null layers")
SURE = 2.0
"""Standard errors taken off |d′| before descriptions are compared: a pair of few tokens must not win by its noise."""


class Quadrants:
    """The four quadrants of every pair over one half of the tokens.

    Args:
        labels: of the half.
        pairs: concept indices.
    """

    def __init__(self, labels: LabelColumns, pairs: Int[np.ndarray, "pair 2"]) -> None:
        self.pairs = pairs
        self.n_tokens = natural_counts(labels, pairs)
        self._held: Any = labels.matrix().astype(np.float64)
        columns = self._held.tocsc()
        self._both = columns[:, pairs[:, 0]].multiply(columns[:, pairs[:, 1]]).T.tocsr()

    def of(self, pair: int) -> Int[np.ndarray, " token"]:
        """Quadrant of each token at one pair: 0 is 11, 1 is 10, 2 is 01, 3 is 00."""
        a, b = (np.asarray(self._held[:, int(c)].todense()).ravel() > 0 for c in self.pairs[pair])
        return np.where(a, np.where(b, 0, 1), np.where(b, 2, 3))

    def d_prime(
        self, values: Float[np.ndarray, "token claim"]
    ) -> tuple[Float[np.ndarray, "pair claim"], Float[np.ndarray, "pair claim"]]:
        """d′ of every claim at every pair, and the standard error of independent tokens; 0 where a claim never varies."""
        spread = values.std(0)
        scaled = (values - values.mean(0)) / np.where(spread > 0, spread, 1.0)
        mean, square = (self._means(power) for power in (scaled, scaled**2))
        variance = np.maximum(square - mean**2, 0.0)
        share = self.n_tokens / self.n_tokens.sum(1, keepdims=True)
        pooled = np.sqrt((share[:, :, None] * variance).sum(1))
        alive = (pooled > 0) & (spread > 0)
        unit = np.where(alive, pooled, 1.0)
        error = np.sqrt((variance / np.maximum(self.n_tokens, 1)[:, :, None]).sum(1))
        kappa = (SIGNS[None, :, None] * mean).sum(1)
        return np.where(alive, kappa / unit, 0.0), np.where(alive, error / unit, 0.0)

    def _means(self, values: np.ndarray) -> np.ndarray:
        """Mean of every claim in every quadrant of every pair [pair quadrant claim]."""
        both, alone = self._both @ values, self._held.T @ values
        a, b = (alone[self.pairs[:, side]] for side in (0, 1))
        sums = np.stack([both, a - both, b - both, values.sum(0) - a - b + both], axis=1)
        return sums / np.maximum(self.n_tokens, 1)[:, :, None]


@dataclass(frozen=True)
class Description:
    """The pair each claim is about, by the fit half alone."""

    pair: Int[np.ndarray, " claim"]
    """Which of the pairs."""
    sign: Float[np.ndarray, " claim"]
    """1 where the claim is larger with A∧B than A and B explain, −1 where it is smaller."""


def describe(quadrants: Quadrants, values: Float[np.ndarray, "token claim"]) -> Description:
    """The pair at which each claim's interaction is surest to be large.

    Args:
        quadrants: of the fit half.
        values: the claims there.
    """
    d, error = quadrants.d_prime(values)
    best = (np.abs(d) - SURE * error).argmax(0)
    return Description(best, np.where(d[best, np.arange(d.shape[1])] < 0, -1.0, 1.0))


def d_of_sample(
    values: Float[np.ndarray, " entry"],
    quadrant: Int[np.ndarray, " entry"],
    n_natural: Int[np.ndarray, " quadrant"],
) -> float:
    """d′ from some tokens of each quadrant, which stand for all of it; 0 where nothing varies or a quadrant is empty."""
    counts = np.bincount(quadrant, minlength=4)
    if not counts.all():
        return 0.0
    mean = np.bincount(quadrant, weights=values, minlength=4) / counts
    variance = np.bincount(quadrant, weights=(values - mean[quadrant]) ** 2, minlength=4) / counts
    pooled = float(np.sqrt((n_natural * variance).sum() / n_natural.sum()))
    return float(mean @ SIGNS) / pooled if pooled > 0 else 0.0


def document_error(
    values: Float[np.ndarray, " token"],
    quadrant: Int[np.ndarray, " token"],
    doc: Int[np.ndarray, " token"],
    d: float,
) -> float:
    """Standard error of a claim's d′, clustered by document; the pooled deviation is taken as known."""
    change = quadrant_change(values[None], quadrant, doc)
    kappa, error = float(change.interaction[0]), float(change.interaction_se[0])
    return abs(d) * error / abs(kappa) if kappa and np.isfinite(error) else 0.0


def matched_p(
    layer: Float[np.ndarray, " claim"], nulls: Float[np.ndarray, "null claim"]
) -> Float[np.ndarray, " claim"]:
    """One-sided p of each claim against the same claim in null layers, pooled over claims as pairs are.

    Args:
        layer: d′ of each claim.
        nulls: d′ of the same claims in at least four null layers.
    """
    if not nulls.any() and not layer.any():
        return np.ones(len(layer))
    return pooled_p(leave_one_out(*compress(layer, nulls)), np.ones(len(layer), np.int64))


def unmatched_p(
    layer: Float[np.ndarray, " claim"], nulls: Sequence[Float[np.ndarray, " other"]]
) -> Float[np.ndarray, " claim"]:
    """(b + 1)/(B + 1) against all claims of all null layers, where none of them corresponds to any other.

    Args:
        layer: d′ of each claim.
        nulls: d′ of the claims that the same recipe made in each null layer.
    """
    pooled = np.sort(np.concatenate(nulls))
    return (1 + len(pooled) - np.searchsorted(pooled, layer, side="left")) / (1 + len(pooled))


def interval(
    d: Float[np.ndarray, " claim"], error: Float[np.ndarray, " claim"], nulls: Float[np.ndarray, "null claim"]
) -> tuple[Float[np.ndarray, " claim"], Float[np.ndarray, " claim"], Float[np.ndarray, " claim"]]:
    """Excess over the mean of the null layers with the ends of its 95 % interval.

    Args:
        d: of each claim.
        error: its standard error.
        nulls: of each claim in the null layers.
    """
    excess = d - nulls.mean(0)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, max(len(nulls) - 1, 1)))
    half = reach * np.sqrt(error**2 + nulls.var(0, ddof=1) / len(nulls))
    return excess, excess - half, excess + half


def like(values: Float[np.ndarray, "token other"], zeros: float) -> Float[np.ndarray, "token other"]:
    """Columns cut off below, so that each is 0 at a share of the tokens, as a rectified claim is.

    Args:
        values: random projections.
        zeros: share of the tokens at which the claim is exactly 0.
    """
    if zeros <= 0:
        return values
    return np.maximum(values - np.quantile(values, zeros, axis=0), 0.0)


@dataclass(frozen=True)
class Passes:
    """Which claims pass each test, after Benjamini–Hochberg over the claims."""

    plain: Bool[np.ndarray, " claim"]
    """Above the same claim in plain null layers."""
    removed: Bool[np.ndarray, " claim"]
    """Above it with relays removed from both."""
    pair_plain: Bool[np.ndarray, " claim"]
    """Its pair is read better from the layer than from plain null layers."""
    pair_removed: Bool[np.ndarray, " claim"]
    """Its pair is, with relays removed from both."""

    @property
    def verdicts(self) -> list[Verdict]:
        """Made here: all four. Relayed: above plain null layers, and not once relays are removed."""
        above = self.plain & self.pair_plain
        made = above & self.removed & self.pair_removed
        return [
            "made here" if m else "relayed" if a else "not above its null layers"
            for m, a in zip(made.tolist(), above.tolist(), strict=True)
        ]
