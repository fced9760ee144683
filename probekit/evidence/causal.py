"""What an intervention does in each quadrant of a pair: does only A∧B move, and more than under random directions?

A change (of the loss, or a divergence) is averaged over the tokens of each quadrant, with standard errors clustered by
document; its interaction is μ11 − μ10 − μ01 + μ00, as for a readout. *Selective*: quadrant 11 moves, and each other
quadrant by less than a quarter of that, both by their bounds. The p-value compares the interaction with those of random
directions treated alike, two-sided. Axes: item token doc quadrant (11, 10, 01, 00).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int
from scipy import stats

from probekit.probes.pairs import SIGNS

BY_DOC = "(doc quadrant) -> doc quadrant"
QUIET = 0.25
"""A quadrant is quiet when it moves by less than this share of quadrant 11: the level at which ε is vacuous too."""
LEVEL = 0.95
MIN_DOCS = 2


@dataclass(frozen=True)
class QuadrantChange:
    """Mean change in each quadrant, one row an intervention."""

    mean: Float[np.ndarray, "item quadrant"]
    """Mean over the tokens; NaN in an empty quadrant."""
    se: Float[np.ndarray, "item quadrant"]
    """Standard error, clustered by document."""
    interaction: Float[np.ndarray, " item"]
    """μ11 − μ10 − μ01 + μ00."""
    interaction_se: Float[np.ndarray, " item"]
    """Its standard error, clustered by document."""
    n_tokens: Int[np.ndarray, " quadrant"]
    """Tokens in each quadrant."""
    n_docs: int
    """Documents with a token."""

    @property
    def reach(self) -> float:
        """Half width of a two-sided 95 % interval in standard errors."""
        return float(stats.t.ppf((1 + LEVEL) / 2, max(self.n_docs - 1, 1)))

    @property
    def selective(self) -> Bool[np.ndarray, " item"]:
        """Whether only quadrant 11 moves, by the bounds."""
        moved = np.abs(self.mean[:, 0]) - self.reach * self.se[:, 0]
        others = np.abs(self.mean[:, 1:]) + self.reach * self.se[:, 1:]
        return (moved > 0) & (others < QUIET * moved[:, None]).all(1)


def quadrant_of(
    holds_a: Bool[np.ndarray, " token"], holds_b: Bool[np.ndarray, " token"]
) -> Int[np.ndarray, " token"]:
    """Quadrant of each token: 0 is 11, 1 is 10, 2 is 01, 3 is 00."""
    return np.where(holds_a, np.where(holds_b, 0, 1), np.where(holds_b, 2, 3))


def quadrant_change(
    change: Float[np.ndarray, "item token"],
    quadrant: Int[np.ndarray, " token"],
    doc: Int[np.ndarray, " token"],
) -> QuadrantChange:
    """Mean change by quadrant, clustered by document.

    Args:
        change: what each intervention changed at each token.
        quadrant: of each token.
        doc: document of each token.
    """
    _, place = np.unique(doc, return_inverse=True)
    n_docs = int(place.max(initial=-1)) + 1
    cell = place * 4 + quadrant
    counts = rearrange(np.bincount(cell, minlength=4 * n_docs), BY_DOC, quadrant=4)
    sums = np.stack(
        [
            rearrange(np.bincount(cell, weights=row, minlength=4 * n_docs), BY_DOC, quadrant=4)
            for row in change.astype(float)
        ]
    )
    n = counts.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(n > 0, sums.sum(1) / n, np.nan)
        influence = np.where(n > 0, (sums - mean[:, None] * counts) / n, np.nan)
    small_sample = np.sqrt(n_docs / max(n_docs - 1, 1))
    return QuadrantChange(
        mean=mean,
        se=np.sqrt((influence**2).sum(1)) * small_sample,
        interaction=mean @ SIGNS,
        interaction_se=np.sqrt(((influence @ SIGNS) ** 2).sum(1)) * small_sample,
        n_tokens=n,
        n_docs=n_docs,
    )


def p_against(value: float, random: Float[np.ndarray, " draw"]) -> float:
    """(b + 1)/(B + 1): b of the B random directions have as large an interaction in magnitude."""
    return float((1 + (np.abs(random) >= abs(value)).sum()) / (1 + len(random)))
