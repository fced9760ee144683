"""The decision on each pair: above its null layers, with and without what is only relayed, and specific to the pair.

`p_twin` asks whether the pair's d′ is beyond what random null layers (twins) show for that pair; `p_relay` the same with
relays removed from the layer and from every twin alike (`probekit.probes.removal`); `p_pair` the same as `p_relay` after
taking out what the pair's two concepts bring to all of their other pairs. Benjamini–Hochberg runs over all tested pairs:

* *above plain twins*: on p_twin. What stands above them may be computed here or only relayed over a threshold;
* *above twins*: on p_relay. What stands above them is not merely relayed along the pair's interaction directions;
* *relayed*: above plain twins and not above twins;
* *computed*: on max(p_relay, p_pair).

A twin put in the layer's place goes through the same function. Linear readouts at matched budgets (as many
pre-activations as neurons; the whole input against all neurons) are shown beside and decide nothing: 16 neurons that must
beat a ridge on hundreds of input coordinates find nothing on a real model, and a threshold makes neurons beat every linear
site with what they only relay. Axes: pair twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from probekit.evidence.contrast import Contrast, p_not_exceeding
from probekit.evidence.mixed import PairGraph
from probekit.evidence.nulls import (
    MIN_TWINS_LEAVE_ONE_OUT,
    Standardised,
    compress,
    leave_one_out,
    pair_specific,
    pooled_p,
)

Fdr = Literal["bh", "by", "storey"]
"""Control of the false discovery rate: Benjamini–Hochberg, Benjamini–Yekutieli, Storey."""
STOREY_LEVEL = 0.5
"""p-values above it are treated as null."""


@dataclass(frozen=True)
class Tested:
    """The tested pairs of a run: what every layer's decision shares."""

    pairs: Int[np.ndarray, "pair 2"]
    """Concept indices."""
    n_concepts: int
    """Number of concepts in the dictionary."""
    n11: Int[np.ndarray, " pair"]
    """Tokens in quadrant 11 of the confirm half."""
    q: float
    """Level of the false discovery rate."""
    fdr: Fdr = "bh"
    """How it is controlled."""

    @cached_property
    def graph(self) -> PairGraph:
        """The pairs as a graph over concepts."""
        return PairGraph(self.pairs, self.n_concepts)

    def adjusted(self, p: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
        """Adjusted p-values, to be compared with q."""
        return adjusted(p, self.fdr)


@dataclass(frozen=True)
class Decision:
    """p-values, adjusted values and flags of every tested pair; None where what they need was not measured."""

    z: Standardised | None
    """Standardised values against the twins, relays removed where that was measured."""
    p_twin: Float[np.ndarray, " pair"] | None
    """Beyond the pair's plain twins."""
    p_relay: Float[np.ndarray, " pair"] | None
    """Beyond its twins with relays removed on both sides."""
    p_pair: Float[np.ndarray, " pair"] | None
    """Beyond what its concepts' other pairs predict, relays removed."""
    p_decision: Float[np.ndarray, " pair"] | None
    """The larger of p_relay and p_pair: what *computed* is decided on."""
    p_vs_linear: Float[np.ndarray, " pair"] | None
    """Not above a linear readout of the same budget; decides nothing."""
    q_above: Float[np.ndarray, " pair"] | None
    """Adjusted p_relay."""
    q_computed: Float[np.ndarray, " pair"] | None
    """Adjusted p_decision."""
    raw: Bool[np.ndarray, " pair"]
    """BH on κ/se alone: what a naive count would report."""
    represented: Bool[np.ndarray, " pair"]
    """ε-represented in the plain sense of Hänni et al., computed or not."""
    beyond_linear: Bool[np.ndarray, " pair"] | None
    """BH on p_vs_linear."""
    above_plain: Bool[np.ndarray, " pair"] | None
    """BH on p_twin."""
    above_twins: Bool[np.ndarray, " pair"] | None
    """BH on p_relay."""
    computed: Bool[np.ndarray, " pair"] | None
    """BH on p_decision."""

    @property
    def relayed(self) -> Bool[np.ndarray, " pair"] | None:
        """Above plain twins, and not once relays are removed."""
        if self.above_plain is None or self.above_twins is None:
            return None
        return self.above_plain & ~self.above_twins


def adjusted(p: Float[np.ndarray, " pair"], method: Fdr = "bh") -> Float[np.ndarray, " pair"]:
    """Adjusted p-values: Benjamini–Hochberg (1995), Benjamini–Yekutieli (2001) or Storey's q-values (2002).

    Benjamini–Yekutieli holds under any dependence, at the cost of a factor Σ 1/i. Storey's divides by the share of
    nulls estimated from the p-values above ½; that share is not calibrated for dependent p-values.

    Args:
        p: p-values.
        method: "bh", "by" or "storey".
    """
    if not len(p):
        return p
    if method != "storey":
        return stats.false_discovery_control(p, method=method)
    # one more than counted: the estimate is then not below its expectation (Storey, Taylor & Siegmund 2004)
    null_share = min(1.0, ((p > STOREY_LEVEL).sum() + 1) / (len(p) * (1 - STOREY_LEVEL)))
    return null_share * stats.false_discovery_control(p, method="bh")


def twin_p_values(
    d_layer: Float[np.ndarray, " pair"], d_twins: Float[np.ndarray, "twin pair"], tested: Tested
) -> tuple[Standardised, Float[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
    """Standardised values, p against the twins and pair-specific p of one layer's d′, of whichever kind."""
    z = leave_one_out(*compress(d_layer, d_twins))
    specific = pair_specific(z, tested.graph)
    return z, pooled_p(z, tested.n11), pooled_p(specific, tested.n11)


def decide(
    neurons: Contrast, twins: list[Contrast], matched: Sequence[tuple[Contrast, Contrast]], tested: Tested
) -> Decision:
    """Decide every pair of one layer (or of a twin in its place).

    Args:
        neurons: the deciding readouts at the neurons.
        twins: the same readouts on each twin; empty when none was run.
        matched: (readouts at the neurons, linear readouts of the same budget); shown, deciding nothing.
        tested: pairs and level.
    """
    raw = tested.adjusted(neurons.p_raw) <= tested.q
    represented = tested.adjusted(neurons.p_epsilon) <= tested.q
    p_vs_linear = (
        np.max([p_not_exceeding(ours, [rival]) for ours, rival in matched], axis=0) if matched else None
    )
    beyond = None if p_vs_linear is None else tested.adjusted(p_vs_linear) <= tested.q
    z = p_twin = p_relay = p_pair = p_decision = None
    if twins:
        z = leave_one_out(*compress(neurons.d_prime, np.stack([twin.d_prime for twin in twins])))
        p_twin = pooled_p(z, tested.n11)
    without = [twin.d_relay for twin in twins if twin.d_relay is not None]
    if neurons.d_relay is not None and twins and len(without) == len(twins):
        z, p_relay, p_pair = twin_p_values(neurons.d_relay, np.stack(without), tested)
        p_decision = np.maximum(p_relay, p_pair)

    def adjusted_or_none(p: np.ndarray | None) -> np.ndarray | None:
        return None if p is None else tested.adjusted(p)

    def at_level(p: np.ndarray | None) -> np.ndarray | None:
        return None if p is None else p <= tested.q

    q_plain, q_above, q_computed = (adjusted_or_none(p) for p in (p_twin, p_relay, p_decision))
    return Decision(
        z=z, p_twin=p_twin, p_relay=p_relay, p_pair=p_pair, p_decision=p_decision, p_vs_linear=p_vs_linear, q_above=q_above,
        q_computed=q_computed, raw=raw, represented=represented, beyond_linear=beyond, above_plain=at_level(q_plain),
        above_twins=at_level(q_above), computed=at_level(q_computed),
    )  # fmt: skip


def decide_twins(twins: list[Contrast], tested: Tested) -> list[Decision]:
    """The decision on each twin in the layer's place, with the other twins as its twins."""
    if len(twins) < MIN_TWINS_LEAVE_ONE_OUT:
        return []
    return [decide(twin, twins[:r] + twins[r + 1 :], [], tested) for r, twin in enumerate(twins)]
