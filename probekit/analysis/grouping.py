"""How many layers share a forward of the text, by the memory they may take.

The sums of one layer have to be held while it is measured. What is left of the budget holds activations: a group of layers
is forwarded once, both halves of the text, and its layers are measured one after another from what was kept. Where not
even one layer's activations fit, nothing is kept, as many layers as their sums allow go through the passes together, and
the text is forwarded for every pass. The numbers are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probekit.analysis.design import StudyDesign
from probekit.analysis.inputs import AnalysisInputs
from probekit.analysis.passes import CALIBRATION_TOKENS
from probekit.analysis.sites import N_CONTROL, N_FOLDS
from probekit.probes.sums import bytes_waiting


@dataclass(frozen=True)
class Grouping:
    """Layers that share forwards of the text."""

    n_layers: int
    """Layers of a group."""
    keeps: bool
    """Whether their activations are kept and they are measured one by one; else all sums are held at once."""
    n_bytes: int
    """What a group takes, besides the model and what it is computing."""

    def halved(self) -> Grouping | None:
        """The next smaller one, where memory ran out; None: there is none."""
        if self.n_layers > 1:
            return Grouping((self.n_layers + 1) // 2, self.keeps, self.n_bytes)
        return Grouping(1, False, self.n_bytes) if self.keeps else None


def grouping(design: StudyDesign, inputs: AnalysisInputs, n_bytes: float) -> Grouping:
    """The groups that fit and forward least.

    Args:
        design: what is measured.
        inputs: of what.
        n_bytes: the budget.
    """
    return fitted(
        inputs.layers, halves_of(design), layer_bytes(design, inputs), kept_bytes(design, inputs), n_bytes
    )


def fitted(
    layers: Sequence[int], n_tokens: tuple[int, int], sums: int, kept: int | None, n_bytes: float
) -> Grouping:
    """The same from sizes.

    Args:
        layers: the layers measured.
        n_tokens: of the fit half and of the confirm half.
        sums: bytes of one layer's sums.
        kept: bytes of one layer's activations; None where they are not kept.
        n_bytes: the budget.
    """
    together = min(len(layers), max(1, int(n_bytes // sums)))
    streamed = Grouping(together, False, together * sums)
    fitting = 0 if kept is None else min(len(layers), int((n_bytes - sums) // kept))
    if kept is None or fitting < 1:
        return streamed
    keeping = Grouping(fitting, True, sums + fitting * kept)
    return min(keeping, streamed, key=lambda groups: n_forwarded(layers, n_tokens, groups))


def halves_of(design: StudyDesign) -> tuple[int, int]:
    """Tokens of the fit half and of the confirm half."""
    return design.fit.labels.n_tokens, design.confirm.labels.n_tokens


def n_forwarded(layers: Sequence[int], n_tokens: tuple[int, int], groups: Grouping) -> int:
    """Tokens times blocks that a run forwards: a group goes through the model up to its last layer.

    Args:
        layers: the layers measured.
        n_tokens: of the fit half and of the confirm half.
        groups: how they are grouped.
    """
    size = groups.n_layers
    depth = sum(max(layers[i : i + size]) + 1 for i in range(0, len(layers), size))
    return n_read(n_tokens, groups) * depth


def n_read(n_tokens: tuple[int, int], groups: Grouping) -> int:
    """Tokens that one group reads: all of them once, or for its calibration, twice to fit and once to confirm.

    Args:
        n_tokens: of the fit half and of the confirm half.
        groups: how layers are grouped.
    """
    n_fit, n_confirm = n_tokens
    return n_fit + n_confirm + (0 if groups.keeps else min(n_fit, CALIBRATION_TOKENS) + n_fit)


def kept_bytes(design: StudyDesign, inputs: AnalysisInputs) -> int | None:
    """Bytes of one layer's activations over both halves; None where keeping them would spare no forward.

    Args:
        design: what is measured.
        inputs: of what.
    """
    width = inputs.source.width_kept
    if width is None:
        return None
    return 4 * width * sum(halves_of(design))


def layer_bytes(design: StudyDesign, inputs: AnalysisInputs) -> int:
    """Memory that the sums of one layer take.

    Args:
        design: what is measured.
        inputs: of what.
    """
    n_pairs = len(design.pairs)
    weights = inputs.source.weights(inputs.layers[0])
    n_controls = len(design.settings.controls) * min(N_CONTROL, design.settings.twins)
    n_sites = 4 + design.settings.twins + n_controls
    # of neurons and inputs every fold is kept apart; the two halves of a gated layer's pre-activations make it twice as wide
    # (their sums are made at the end of pass A, when those of the null layers are still held; those of spikes after them)
    n_squares = 2 * N_FOLDS + (5 if weights is not None and weights.gated else 1) + n_controls
    n_squares += design.settings.twins * (N_FOLDS if 0 in design.settings.twin_ks else 1)
    n_concepts, n_neurons = design.tested.n_concepts, inputs.n_neurons
    moments = 8 * n_neurons * (n_neurons + n_pairs + n_concepts)
    n_dealt = 2 + (design.settings.twins if 0 in design.settings.twin_ks else 0)
    waiting = n_dealt * bytes_waiting(N_FOLDS, n_pairs + n_concepts, n_neurons)
    waiting += (n_sites - n_dealt) * bytes_waiting(1, n_pairs + n_concepts, n_neurons)
    confirm = n_pairs * (64 * 4 * 2 * 4 + 16 * 4 * 16 * 4 + 16 * 16 * 8)
    own = 4 * len(design.confirm.sample.token) * 5 + n_pairs * 64 * 64 * 8
    return n_squares * moments + n_sites * confirm + own + waiting
