"""What is measured, the same for every layer: pairs, halves, sampled tokens, twins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int

from probekit.analysis.source import Half
from probekit.evidence.contrast import ConfirmPlan
from probekit.evidence.spikein import spiked_pairs
from probekit.probes.pairs import LabelColumns, TokenSample

KS = (1, 4, 16, 64)
"""Sizes of the sparse readouts."""
DECIDING_K = 16
"""The size that decides, fixed beforehand."""


@dataclass(frozen=True)
class HalfPlan:
    """One half of the documents: its labels, documents and sampled tokens."""

    half: Half
    """Which half."""
    labels: LabelColumns
    """Labels of its tokens."""
    doc_key: np.ndarray
    """Hash of each token's document, uint64 [token]."""
    sample: TokenSample
    """Sampled tokens of each pair."""
    relay_sample: TokenSample | None = None
    """Fewer of them, on which relays are removed; None where no null layer is measured."""

    def of_pairs(self, chosen: Int[np.ndarray, " chosen"]) -> HalfPlan:
        """The same half for some of the pairs."""
        relay = None if self.relay_sample is None else self.relay_sample.take(chosen)
        return replace(self, sample=self.sample.take(chosen), relay_sample=relay)


@dataclass(frozen=True)
class PassPlan:
    """What the passes measure; `StudyDesign` holds it beside what the decision and the report need."""

    pairs: Int[np.ndarray, "pair 2"]
    """Tested pairs."""
    fit: HalfPlan
    """The half the readouts are fitted on."""
    confirm: HalfPlan
    """The half they are judged on."""
    confirm_plan: ConfirmPlan
    """Batches of the confirm half."""
    n_twins: int
    """PC-sign twins."""
    seed: int
    """Seed of the twins."""
    twin_ks: tuple[int, ...] = (DECIDING_K,)
    """Sizes at which twins are confirmed; 0 stands for all neurons."""
    controls: tuple[str, ...] = ("isotropic",)
    """Further twins that decide nothing: "isotropic", "shuffle"."""
    spikes: tuple[float, ...] = ()
    """Amplitudes at which known ANDs are added; empty: none."""

    @cached_property
    def spiked_at(self) -> Int[np.ndarray, " spike"]:
        """Places of the spiked pairs, the same in every layer."""
        return spiked_pairs(len(self.pairs), np.random.default_rng([self.seed, 9]))

    @cached_property
    def spiked(self) -> PassPlan:
        """The plan of the spiked pairs alone."""
        at = self.spiked_at
        return replace(
            self,
            pairs=self.pairs[at],
            fit=self.fit.of_pairs(at),
            confirm=self.confirm.of_pairs(at),
            confirm_plan=self.confirm_plan.take(at),
            spikes=(),
        )
