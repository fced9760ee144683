"""The decision on each pair: above its twins, beyond what is linear, and specific to the pair.

`p_twin` asks whether the pair's d′ is beyond what random twins of the layer show for that pair; `p_pair` the same after
removing what each concept brings by itself; `p_lin` whether the neurons read the pair better than the pre-activations
and the MLP input do. *Above twins* is Benjamini–Hochberg on max(p_twin, p_lin), *computed* on max(p_twin, p_pair,
p_lin); both run over all tested pairs and nothing is filtered afterwards. A twin put in the layer's place goes through
the same function; its p_lin leaves the twin's own pre-activations out, which can only let more of its pairs pass, so
that the layer's excess over its twins is not flattered. Axes: pair twin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from probekit.evidence.contrast import Contrast, p_not_above
from probekit.evidence.nulls import (
    MIN_TWINS,
    Standardised,
    compress,
    leave_one_out,
    pair_specific,
    pooled_p,
    support_strata,
)

Fdr = Literal["bh", "by", "storey"]
"""Control of the false discovery rate: Benjamini–Hochberg, Benjamini–Yekutieli, Storey."""
STOREY_LEVEL = 0.5
"""p-values above it are taken for null."""


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

    def adjusted(self, p: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
        """Adjusted p-values, to be compared with q."""
        return adjusted(p, self.fdr)


@dataclass(frozen=True)
class Decision:
    """p-values, adjusted values and flags of every tested pair; None where no twin or no linear site was measured."""

    z: Standardised | None
    """Standardised values against the twins."""
    p_twin: Float[np.ndarray, " pair"] | None
    """Beyond the pair's twins."""
    p_pair: Float[np.ndarray, " pair"] | None
    """Beyond the twins after concept effects are removed."""
    p_lin: Float[np.ndarray, " pair"] | None
    """Not above the linear sites."""
    q_above: Float[np.ndarray, " pair"] | None
    """Adjusted max(p_twin, p_lin)."""
    q_computed: Float[np.ndarray, " pair"] | None
    """Adjusted max(p_twin, p_pair, p_lin)."""
    raw: Bool[np.ndarray, " pair"]
    """BH on κ/se alone: what a naive count would report."""
    represented: Bool[np.ndarray, " pair"]
    """ε-represented in the plain sense of Hänni et al., computed or not."""
    beyond_input: Bool[np.ndarray, " pair"] | None
    """BH on p_lin."""
    above_twins: Bool[np.ndarray, " pair"] | None
    """BH on max(p_twin, p_lin)."""
    computed: Bool[np.ndarray, " pair"] | None
    """BH on max(p_twin, p_pair, p_lin)."""


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
    """Standardised values, p_twin and p_pair of one layer's d′ against its twins' d′."""
    z = leave_one_out(*compress(d_layer, d_twins))
    strata = support_strata(tested.n11)
    specific = pair_specific(z, tested.pairs, tested.n_concepts)
    return z, pooled_p(z, strata), pooled_p(specific, strata)


def decide(neurons: Contrast, twins: list[Contrast], linear: list[Contrast], tested: Tested) -> Decision:
    """Decide every pair of one layer (or of a twin in its place).

    Args:
        neurons: the deciding readouts at the neurons.
        twins: the same readouts on each twin; empty when none was run.
        linear: the same pairs at the linear sites (pre-activations, input); where none is known nothing is said about
            computation.
        tested: pairs and level.
    """
    p_lin = p_not_above(neurons, linear) if linear else None
    raw = tested.adjusted(neurons.p_raw) <= tested.q
    represented = tested.adjusted(neurons.p_epsilon) <= tested.q
    beyond = None if p_lin is None else tested.adjusted(p_lin) <= tested.q
    if not twins or p_lin is None:
        return Decision(None, None, None, p_lin, None, None, raw, represented, beyond, None, None)
    z, p_twin, p_pair = twin_p_values(neurons.d_prime, np.stack([t.d_prime for t in twins]), tested)
    q_above = tested.adjusted(np.maximum(p_twin, p_lin))
    q_computed = tested.adjusted(np.maximum(np.maximum(p_twin, p_pair), p_lin))
    return Decision(
        z, p_twin, p_pair, p_lin, q_above, q_computed, raw, represented, beyond, q_above <= tested.q,
        q_computed <= tested.q,
    )  # fmt: skip


def decide_twins(twins: list[Contrast], input_site: Contrast | None, tested: Tested) -> list[Decision]:
    """The decision on each twin in the layer's place, with the other twins as its twins."""
    if len(twins) < MIN_TWINS:
        return []
    linear = [] if input_site is None else [input_site]
    return [decide(twin, twins[:r] + twins[r + 1 :], linear, tested) for r, twin in enumerate(twins)]
