"""Labels with the statistics of language: Zipf rates, groups that hang together, concepts that burst within documents.

A concept holds where a standard Gaussian exceeds the quantile of its rate (a Gaussian copula), so that every rate is exact
in expectation whatever hangs together. A share `burst` of each Gaussian's variance is one draw a document: what a document
is about holds at many of its tokens (burstiness, Church & Gale 1995). Rates follow rate(k) = top · k^−z. Four kinds of
concept:

* free: independent of all others;
* correlated: the Gaussians of a group correlate by `correlation`;
* hierarchical: a group is a binary tree; a concept holds only where its parent does (the animal where the dog is);
* exclusive: of a group one at most holds (a token has one part of speech).

Axes: token concept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

KINDS = ("free", "correlated", "hierarchical", "exclusive")
"""What can hold of a concept and its group; `Statistics.kind` holds places in this tuple."""
FREE, CORRELATED, HIERARCHICAL, EXCLUSIVE = range(4)


@dataclass(frozen=True)
class Statistics:
    """What is asked of the labels, concept by concept."""

    rate: Float[np.ndarray, " concept"]
    """Share of the tokens at which it holds."""
    kind: Int[np.ndarray, " concept"]
    """Place in `KINDS`."""
    group: Int[np.ndarray, " concept"]
    """Number of its group; each free concept is a group of its own."""
    correlation: float
    """Of the Gaussians within a correlated group."""
    burst: float
    """Share of every Gaussian's variance that is one draw a document."""

    @classmethod
    def of(
        cls,
        rng: np.random.Generator,
        n_concepts: int,
        *,
        zipf: float,
        top_rate: float,
        grouped: float,
        group_size: int,
        correlation: float,
        burst: float,
    ) -> Statistics:
        """Ranks are given to concepts at random; groups are correlated, hierarchical and exclusive in turn.

        Args:
            rng: of ranks.
            n_concepts: concepts.
            zipf: exponent z of the rates.
            top_rate: rate of the most frequent concept, at most 1 / group_size (so that any group can exclude).
            grouped: share of the concepts that are in groups.
            group_size: concepts of a group.
            correlation: within a correlated group.
            burst: share of the variance that belongs to documents.
        """
        rate = top_rate * (1.0 + rng.permutation(n_concepts)) ** -zipf
        n_groups = int(grouped * n_concepts) // group_size
        group = np.arange(n_concepts)
        kind = np.full(n_concepts, FREE)
        n_in_groups = n_groups * group_size
        group[:n_in_groups] = np.repeat(np.arange(n_groups), group_size)
        group[n_in_groups:] = n_groups + np.arange(n_concepts - n_in_groups)
        kind[:n_in_groups] = 1 + group[:n_in_groups] % 3
        return cls(rate, kind, group, correlation, burst)

    def parents(self) -> Int[np.ndarray, " concept"]:
        """Parent of each hierarchical concept, −1 for all others and for the root of a tree (its most frequent one)."""
        parent = np.full(len(self.rate), -1)
        for group in np.unique(self.group[self.kind == HIERARCHICAL]).tolist():
            members = self.by_rate(group)
            parent[members[1:]] = members[(np.arange(1, len(members)) - 1) // 2]
        return parent

    def by_rate(self, group: int) -> Int[np.ndarray, " member"]:
        """Concepts of a group, the most frequent one first."""
        members = np.flatnonzero(self.group == group)
        return members[np.argsort(-self.rate[members], kind="stable")]

    def hangs_together(self) -> Bool[np.ndarray, " concept"]:
        """Concepts whose labels depend on others of their group."""
        return (self.kind > FREE) & ((self.kind != CORRELATED) | (self.correlation > 0))

    def draw(
        self, rng: np.random.Generator, doc: Int[np.ndarray, " token"]
    ) -> Bool[np.ndarray, "token concept"]:
        """Labels, group by group.

        Args:
            rng: of the labels.
            doc: document of each token, numbered from 0.
        """
        labels = np.zeros((len(doc), len(self.rate)), np.bool_)
        parent = self.parents()
        for kind in range(len(KINDS)):
            for group in np.unique(self.group[self.kind == kind]).tolist():
                members = self.by_rate(group)
                rate = self.rate[members]
                if kind == EXCLUSIVE:
                    place = stats.norm.cdf(self._gaussians(rng, doc, 1))
                    ends = np.cumsum(rate)
                    labels[:, members] = (place < ends) & (place >= ends - rate)
                    continue
                z = self._gaussians(rng, doc, len(members))
                if kind == CORRELATED:
                    common = self._gaussians(rng, doc, 1)
                    z = np.sqrt(self.correlation) * common + np.sqrt(1 - self.correlation) * z
                over = parent[members]
                given = np.where(over >= 0, rate / self.rate[over], rate)
                held = z > stats.norm.isf(given).astype(np.float32)
                for i, concept in enumerate(members):
                    labels[:, concept] = held[:, i] & (labels[:, over[i]] if over[i] >= 0 else True)
        return labels

    def _gaussians(
        self, rng: np.random.Generator, doc: Int[np.ndarray, " token"], n: int
    ) -> Float[np.ndarray, "token member"]:
        of_doc = rng.standard_normal((int(doc[-1]) + 1, n), dtype=np.float32)[doc]
        own = rng.standard_normal((len(doc), n), dtype=np.float32)
        return np.sqrt(np.float32(self.burst)) * of_doc + np.sqrt(np.float32(1 - self.burst)) * own
