"""How many of all testable pairs would be found, when those among some randomly drawn concepts were tested.

Pairs that share a concept then come in or stay out together, so that neither the hypergeometric interval holds nor one for
pairs drawn by themselves. The design is two-phase sampling from a graph: the subgraph on `n_drawn` of the `n_concepts`
concepts (Frank 1977; Kolaczyk 2009, §5.3), then `n_kept` of its pairs with equal chances. Every pair has the same
inclusion probability, exactly: that of both its concepts, times the share of the block's pairs that were kept (the π* of
Särndal, Swensson & Wretman 1992, §9.3: weights by it are unbiased). Axes: pair concept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from probekit.evidence.estimate import LEVEL, Estimate


@dataclass(frozen=True)
class Block:
    """How the tested pairs were drawn."""

    n_concepts: int
    """Concepts of any testable pair."""
    n_drawn: int
    """Concepts drawn among them, each set of so many with the same chance."""
    n_inside: int
    """Testable pairs among the drawn ones."""
    n_kept: int
    """Pairs kept of these, each set of so many with the same chance."""

    @property
    def uniform(self) -> bool:
        """Whether all concepts were drawn: a uniform sample of the testable pairs."""
        return self.n_drawn == self.n_concepts

    @property
    def inclusion(self) -> float:
        """Probability with which each testable pair was taken."""
        return self._joint(2) * self.n_kept / self.n_inside

    def _joint(self, n_concepts: int) -> float:
        """Chance that so many given concepts are all drawn."""
        steps = np.arange(n_concepts)
        return float(np.prod((self.n_drawn - steps) / (self.n_concepts - steps)))

    def variance(self, values: Float[np.ndarray, " pair"], pairs: Int[np.ndarray, "pair 2"]) -> float:
        """Estimated variance of Σ value/inclusion (Särndal et al. 1992, result 9.3.1).

        Args:
            values: of the tested pairs.
            pairs: their concepts.
        """
        _, at = np.unique(pairs, return_inverse=True)
        ends = at.reshape(pairs.shape)
        sums = np.bincount(ends.ravel(), np.repeat(values, 2))
        squares = float((values**2).sum())
        sharing = (
            float((sums**2).sum()) - 2 * squares
        )  # Σ over ordered pairs of pairs with one concept in common
        disjoint = float(values.sum()) ** 2 - squares - sharing
        drawn, kept = self._joint(2), self.n_kept / self.n_inside
        both_kept = kept * (self.n_kept - 1) / max(self.n_inside - 1, 1)

        def term(joint: float, joint_kept: float) -> float:
            if joint <= 0 or joint_kept <= 0:  # no such pairs of pairs can have been drawn
                return 0.0
            first = (joint - drawn**2) / (joint * joint_kept * drawn**2)
            return first + (joint_kept - kept**2) / (joint_kept * drawn**2 * kept**2)

        return (
            term(drawn, kept) * squares
            + term(self._joint(3), both_kept) * sharing
            + term(self._joint(4), both_kept) * disjoint
        )


def in_block(
    found: Bool[np.ndarray, " pair"],
    pairs: Int[np.ndarray, "pair 2"],
    block: Block,
    n_testable: int,
    *,
    level: float = LEVEL,
) -> Estimate:
    """How many of all testable pairs would be found.

    The share found times the number of testable pairs, which is known (a ratio estimate: how many pairs the drawn concepts
    happen to have does not matter). The interval is that of Korn & Graubard (1998): Clopper–Pearson with as many pairs
    as a simple random sample of the same precision would need. Where none or all are found no spread is seen; then only
    pairs that share no concept are counted on.

    Args:
        found: whether each tested pair was found.
        pairs: its concepts.
        block: how they were drawn.
        n_testable: testable pairs there are.
        level: of the two-sided interval.
    """
    n_found, n_tested = int(found.sum()), len(found)
    share, tail = n_found / n_tested, (1 - level) / 2
    n_apart = max(1, len(np.unique(pairs)) // 2)
    if n_found in (0, n_tested):
        effective = float(n_apart)
    else:
        # the linearised ratio: what a pair adds to the total beyond its share
        variance = block.variance(found - share, pairs) / n_testable**2
        simple = share * (1 - share) * (1 / n_tested - 1 / n_testable)
        # an estimate of the variance may fall short, even below 0; a block is never better than a simple sample
        effective = share * (1 - share) / max(variance, simple)
        lost = stats.t.ppf(1 - tail, n_tested - 1) / stats.t.ppf(1 - tail, max(2 * n_apart - 1, 1))
        effective *= float(lost) ** 2
    hits = share * effective
    low = float(stats.beta.ppf(tail, hits, effective - hits + 1)) if n_found else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, effective - hits)) if n_found < n_tested else 1.0
    value = share * n_testable
    untested = n_testable - n_tested
    return Estimate(
        value, max(low * n_testable, float(n_found)), min(high * n_testable, float(n_found + untested))
    )
