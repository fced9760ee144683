"""Contrasts for tests: streamed through the real sums from small arrays, or made up from chosen values."""

from __future__ import annotations

import numpy as np

from probekit.evidence.contrast import N_BATCHES, ConfirmPlan, ConfirmSums, Contrast, NeuronSums
from probekit.probes.pairs import LabelColumns, sample_tokens, splitmix64
from probekit.probes.refit import DenseReadouts, Readouts


def plan_of(labels: np.ndarray, doc: np.ndarray, pairs: np.ndarray, *, limit: int = 2_000) -> ConfirmPlan:
    """A confirm plan over all tokens given."""
    columns = LabelColumns.from_dense(labels)
    doc_hash = splitmix64(doc.astype(np.uint64))
    token_hash = splitmix64(doc_hash ^ np.arange(len(doc), dtype=np.uint64))
    sample = sample_tokens(columns, pairs.astype(np.int32), doc, token_hash, limit=limit)
    return ConfirmPlan.of(sample, (doc_hash % np.uint64(N_BATCHES)).astype(np.int64))


def stream(
    plan: ConfirmPlan, rows: np.ndarray, readouts: Readouts | DenseReadouts, *, tile: int = 4_096
) -> tuple[Contrast, ConfirmSums]:
    """One readout of every pair through the tiles."""
    sums = ConfirmSums(plan, readouts, keeps_values=True)
    scratch = np.empty(len(plan.sample.token), np.float32)
    for start in range(0, len(rows), tile):
        part = np.ascontiguousarray(rows[start : start + tile].T, np.float32)
        low, high = plan.sample.between(start, start + part.shape[1])
        sums.add_tile(part, start, low, high, scratch)
    return sums.finalize(), sums


def stream_neurons(
    plan: ConfirmPlan, rows: np.ndarray, support: np.ndarray, *, tile: int = 4_096
) -> NeuronSums:
    """The quadrant sums of each support neuron."""
    sums = NeuronSums(plan, support)
    for start in range(0, len(rows), tile):
        part = np.ascontiguousarray(rows[start : start + tile].T, np.float32)
        low, high = plan.sample.between(start, start + part.shape[1])
        sums.add_tile(part, start, low, high)
    return sums


def single(neurons: np.ndarray) -> Readouts:
    """Readouts that are one neuron each, weight 1, offset 0."""
    n = len(neurons)
    return Readouts(neurons.astype(np.int32)[:, None], np.ones((n, 1)), np.zeros(n))


def made_up(
    d_prime: np.ndarray,
    *,
    se: float = 1.0,
    p_epsilon: np.ndarray | None = None,
    d_relay: np.ndarray | None = None,
    relays: bool = True,
) -> Contrast:
    """A contrast of unit noise with the given d′, each with standard error `se` of its own.

    With relays removed d′ is `d_relay`, the same as without where none is given; `relays=False`: it was not measured.
    """
    d = np.asarray(d_prime, float)
    influence = np.zeros((len(d), N_BATCHES))
    influence[:, 0] = se
    nothing = np.zeros((len(d), 4))
    return Contrast(
        kappa=d, kappa_se=np.full(len(d), se), d_prime=d, d_balanced=d, d_influence=influence, mean=nothing,
        sd=np.ones((len(d), 4)), eps95=None, p_epsilon=np.ones(len(d)) if p_epsilon is None else p_epsilon,
        decidable=np.ones(len(d), bool), d_relay=(d if d_relay is None else d_relay) if relays else None,
    )  # fmt: skip
