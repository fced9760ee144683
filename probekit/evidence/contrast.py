"""What a readout does on documents it was not fitted on: κ, d′, ε and their document-clustered errors.

For each pair and readout the confirm half leaves sums of the error e = readout − A∧B and of e², by quadrant and by
document batch. Documents are split into `N_BATCHES` batches by hash; batches are the clusters, so every standard error
below is clustered by document without a sum per document. A token of quadrant q stands for n_natural/n_sampled tokens.
Axes: pair quadrant batch k.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from einops import reduce
from jaxtyping import Bool, Float, Int, UInt8
from scipy import stats

from probekit.evidence.order_statistics import worst_quantile
from probekit.probes.pairs import SIGNS, TokenSample
from probekit.probes.refit import DenseReadouts, Readouts
from probekit.probes.workers import one_blas_thread

N_BATCHES = 64
"""Document batches, the clusters of the standard errors (63 degrees of freedom)."""
N_NEURON_BATCHES = 16
"""Coarser batches for the per-neuron measures, whose bounds are jackknifed."""
EPSILON = 0.25
"""The level below which an error is no longer reached by an additive readout (theory: ε = ¼ is vacuous)."""
REPRESENTED_SHARE = 0.95
PAIRS_AT_ONCE = 64
"""Readouts over all columns that go through one product."""
MIN_DOCS_EXACT = 59
"""Fewest documents with which the exact test can reject: 0.95⁵⁹ < 0.05 < 0.95⁵⁸."""


@numba.njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _add_readout(values, low, high, first, batch, sums, hits):  # pragma: no cover - compiled
    for p in numba.prange(len(hits)):
        for q in range(4):
            truth = np.float32(q == 0)
            for e in range(low[4 * p + q], high[4 * p + q]):
                error = values[e] - truth
                g = batch[e]
                sums[p, g, q, 0] += error
                sums[p, g, q, 1] += error * error
                if first[e] and abs(error) < EPSILON:
                    hits[p, q] += 1


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _sparse_values(  # noqa: PLR0913
    columns, start, low, high, token, support, weights, offset, values
):  # pragma: no cover - compiled
    for p in numba.prange(len(support)):
        for g in range(4 * p, 4 * p + 4):
            values[low[g] : high[g]] = offset[p]
            for i in range(support.shape[1]):
                if support[p, i] < 0:
                    break
                neuron, weight = columns[support[p, i]], np.float32(weights[p, i])
                for e in range(low[g], high[g]):
                    values[e] += weight * neuron[np.uint64(token[e] - start)]


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _dense_values(columns, start, low, high, token, weights, offset, values):  # pragma: no cover - compiled
    for block in numba.prange((len(weights) + PAIRS_AT_ONCE - 1) // PAIRS_AT_ONCE):
        first = block * PAIRS_AT_ONCE
        on_all = np.dot(weights[first : first + PAIRS_AT_ONCE], columns)
        for p in range(first, first + len(on_all)):
            of_pair = on_all[p - first]
            for g in range(4 * p, 4 * p + 4):
                for e in range(low[g], high[g]):
                    values[e] = of_pair[token[e] - start] + offset[p]


@numba.njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _add_neurons(columns, start, low, high, token, batch, support, sums):  # pragma: no cover - compiled
    n_batches, k = sums.shape[1], support.shape[1]
    for p in numba.prange(len(support)):
        part = np.empty(n_batches, np.float32)
        for q in range(4):
            for i in range(k):
                if support[p, i] < 0:
                    break
                neuron = columns[support[p, i]]
                part[:] = 0
                for e in range(low[4 * p + q], high[4 * p + q]):
                    part[batch[e]] += neuron[np.uint64(token[e] - start)]
                for g in range(n_batches):
                    sums[p, g, q, i] += part[g]


@numba.njit(cache=True)
@no_type_check
def _count_batches(ptr, first, batch, counts, n_docs):  # pragma: no cover - compiled
    for p in range(len(counts)):
        for q in range(4):
            for e in range(ptr[4 * p + q], ptr[4 * p + q + 1]):
                counts[p, batch[e], q] += 1
                n_docs[p, q] += first[e]


@dataclass(frozen=True)
class ConfirmPlan:
    """The confirm half's sampled tokens and their document batches, shared by every readout."""

    sample: TokenSample
    """Sampled tokens of each pair."""
    batch: UInt8[np.ndarray, " entry"]
    """Document batch of each entry, 0 … N_BATCHES − 1."""
    counts: Int[np.ndarray, "pair batch quadrant"]
    """Sampled tokens in each batch and quadrant."""
    n_docs: Int[np.ndarray, "pair quadrant"]
    """Documents in each quadrant."""

    @classmethod
    def of(cls, sample: TokenSample, batch: Int[np.ndarray, " token"]) -> ConfirmPlan:
        """Count the sampled tokens by batch.

        Args:
            sample: sampled tokens of each pair.
            batch: document batch of each token.
        """
        of_entry = batch[sample.token].astype(np.uint8)
        counts = np.zeros((sample.n_pairs, N_BATCHES, 4), np.int32)
        n_docs = np.zeros((sample.n_pairs, 4), np.int32)
        _count_batches(sample.ptr, sample.first_of_doc, of_entry, counts, n_docs)
        return cls(sample, of_entry, counts, n_docs)

    def take(self, pairs: Int[np.ndarray, " chosen"]) -> ConfirmPlan:
        """The plan of some of the pairs."""
        kept = self.sample.entries_of(pairs)
        return ConfirmPlan(self.sample.take(pairs), self.batch[kept], self.counts[pairs], self.n_docs[pairs])


@dataclass(frozen=True)
class Contrast:
    """One readout of every pair, measured on the confirm half."""

    kappa: Float[np.ndarray, " pair"]
    """Interaction contrast of the quadrant means."""
    kappa_se: Float[np.ndarray, " pair"]
    """Its document-clustered standard error."""
    d_prime: Float[np.ndarray, " pair"]
    """κ over the pooled within-quadrant standard deviation (natural weights)."""
    d_balanced: Float[np.ndarray, " pair"]
    """κ over the standard deviation averaged equally over the quadrants."""
    d_influence: Float[np.ndarray, "pair batch"]
    """Influence of each document batch on d_prime: its squared sum is the squared standard error."""
    mean: Float[np.ndarray, "pair quadrant"]
    """Readout mean in each quadrant."""
    sd: Float[np.ndarray, "pair quadrant"]
    """Readout standard deviation in each quadrant."""
    eps95: Float[np.ndarray, " pair"] | None
    """Largest over quadrants of the 95 % quantile of |readout − A∧B|; None where values were not kept."""
    p_epsilon: Float[np.ndarray, " pair"]
    """Exact test that some quadrant has P(|error| < ¼) ≤ 0.95; 1 where undecidable."""
    decidable: Bool[np.ndarray, " pair"]
    """Whether every quadrant has documents enough for the exact test."""
    d_relay: Float[np.ndarray, " pair"] | None = None
    """d′ with relays removed along the pair's interaction directions; None where it was not measured."""

    @property
    def p_raw(self) -> Float[np.ndarray, " pair"]:
        """One-sided p-value of κ ≤ 0 by its clustered error alone."""
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(self.kappa_se > 0, self.kappa / self.kappa_se, 0.0)
        return stats.t.sf(z, N_BATCHES - 1)


class ConfirmSums:
    """Streams one readout of every pair over the confirm half."""

    def __init__(self, plan: ConfirmPlan, readouts: Readouts | DenseReadouts, *, keeps_values: bool) -> None:
        n_pairs = len(plan.n_docs)
        self.plan = plan
        # contiguous, or the kernels are compiled once more for slices
        self._support = np.ascontiguousarray(readouts.neurons) if isinstance(readouts, Readouts) else None
        self._weights = np.ascontiguousarray(readouts.weights, np.float32)
        self._offset = readouts.offset.astype(np.float32)
        self._sums = np.zeros((n_pairs, N_BATCHES, 4, 2), np.float32)
        self._hits = np.zeros((n_pairs, 4), np.int32)
        self._keeps_values = keeps_values
        self.values = np.zeros(len(plan.sample.token) if keeps_values else 0, np.float32)

    def add_tile(
        self,
        columns: Float[np.ndarray, "neuron token"],
        start: int,
        low: np.ndarray,
        high: np.ndarray,
        scratch: np.ndarray,
    ) -> None:
        """Add the sampled tokens of one tile.

        Args:
            columns: the activations, each neuron's tokens side by side.
            start: first token of the tile.
            low: first entry of each group in the tile.
            high: last-plus-one entry of each group.
            scratch: one value an entry, overwritten.
        """
        token = self.plan.sample.token
        values = self.values if self._keeps_values else scratch
        if self._support is None:
            with one_blas_thread:
                _dense_values(columns, start, low, high, token, self._weights, self._offset, values)
        else:
            _sparse_values(
                columns, start, low, high, token, self._support, self._weights, self._offset, values
            )
        first = self.plan.sample.first_of_doc
        _add_readout(values, low, high, first, self.plan.batch, self._sums, self._hits)

    def state(self) -> dict[str, np.ndarray]:
        """The sums as they stand between two tiles, to be kept and given to `restore`; not copied."""
        kept = {"values": self.values} if self._keeps_values else {}
        return {"sums": self._sums, "hits": self._hits, **kept}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state kept earlier, bit for bit."""
        for name, held in self.state().items():
            np.copyto(held, state[name], casting="no")

    def finalize(self) -> Contrast:
        """Contrasts, errors and tests of all pairs."""
        return _contrast(self.plan, self._sums.astype(float), self._hits, self._quantiles())

    def _quantiles(self) -> np.ndarray | None:
        if not self._keeps_values:
            return None
        return worst_quantile(self.values, self.plan.sample.ptr, REPRESENTED_SHARE)


def _contrast(plan: ConfirmPlan, sums: np.ndarray, hits: np.ndarray, eps95: np.ndarray | None) -> Contrast:
    counts = plan.counts.astype(float)
    n = np.maximum(counts.sum(1), 1.0)
    first, second = sums[..., 0].sum(1) / n, sums[..., 1].sum(1) / n
    variance = np.maximum(second - first**2, 0.0)
    mean = first + np.array([1.0, 0.0, 0.0, 0.0])
    kappa = mean @ SIGNS
    natural = plan.sample.n_natural / np.maximum(plan.sample.n_natural.sum(1, keepdims=True), 1)
    pooled = np.sqrt((natural * variance).sum(1))
    balanced = np.sqrt(variance.mean(1))
    # influence of a batch on each quadrant's mean and variance, by linearisation of the ratios
    on_mean = (sums[..., 0] - first[:, None] * counts) / n[:, None]
    on_variance = (sums[..., 1] - second[:, None] * counts) / n[:, None] - 2 * first[:, None] * on_mean
    small_sample = np.sqrt(N_BATCHES / (N_BATCHES - 1))
    on_kappa = (on_mean @ SIGNS) * small_sample
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(pooled > 0, 1 / pooled, 0.0)
        d_balanced = np.where(balanced > 0, kappa / balanced, 0.0)
    on_pooled = (natural[:, None] * on_variance).sum(2) * small_sample
    influence = on_kappa * inverse[:, None] - 0.5 * (kappa * inverse**3)[:, None] * on_pooled
    decidable = np.asarray((plan.n_docs >= MIN_DOCS_EXACT).all(1))
    p_quadrant = stats.binom.sf(hits - 1, np.maximum(plan.n_docs, 1), REPRESENTED_SHARE)
    return Contrast(
        kappa=kappa,
        kappa_se=np.sqrt((on_kappa**2).sum(1)),
        d_prime=kappa * inverse,
        d_balanced=d_balanced,
        d_influence=influence,
        mean=mean,
        sd=np.sqrt(variance),
        eps95=eps95,
        p_epsilon=np.where(decidable, p_quadrant.max(1), 1.0),
        decidable=decidable,
    )


def p_not_exceeding(better: Contrast, rivals: list[Contrast]) -> Float[np.ndarray, " pair"]:
    """One-sided p-value that d′ does not exceed the largest of the rivals' d′ (same tokens, clustered by document).

    To exceed the largest is to exceed each: the p-value is the largest of the paired one-sided tests.
    """
    assert rivals, "without a rival there is nothing to exceed"
    p = np.zeros(len(better.kappa))
    for rival in rivals:
        difference = better.d_prime - rival.d_prime
        se = np.sqrt(((better.d_influence - rival.d_influence) ** 2).sum(1))
        z = np.where(se > 0, difference / np.where(se > 0, se, 1.0), np.where(difference > 0, np.inf, 0.0))
        p = np.maximum(p, stats.t.sf(z, N_BATCHES - 1))
    return p


class NeuronSums:
    """Streams the quadrant means of each support neuron, for the measures of how a readout is spread."""

    def __init__(self, plan: ConfirmPlan, support: Int[np.ndarray, "pair k"]) -> None:
        self.plan = plan
        self.support = np.ascontiguousarray(support)
        self._batch = (plan.batch % N_NEURON_BATCHES).astype(plan.batch.dtype)
        self._sums = np.zeros((len(support), N_NEURON_BATCHES, 4, support.shape[1]), np.float32)

    def add_tile(
        self, columns: Float[np.ndarray, "neuron token"], start: int, low: np.ndarray, high: np.ndarray
    ) -> None:
        """Add the sampled tokens of one tile."""
        _add_neurons(columns, start, low, high, self.plan.sample.token, self._batch, self.support, self._sums)

    def state(self) -> dict[str, np.ndarray]:
        """The sums as they stand between two tiles, to be kept and given to `restore`; not copied."""
        return {"sums": self._sums}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state kept earlier, bit for bit."""
        np.copyto(self._sums, state["sums"], casting="no")

    def leave_one_out(self) -> Float[np.ndarray, "batch_and_all pair quadrant k"]:
        """Quadrant means of each neuron: over all batches first, then with each batch left out."""
        counts = reduce(
            self.plan.counts,
            "pair (merged batch) quadrant -> pair batch quadrant",
            "sum",
            batch=N_NEURON_BATCHES,
        ).astype(float)
        sums = self._sums.astype(float)
        all_sums, all_counts = sums.sum(1), counts.sum(1)
        means = [all_sums / np.maximum(all_counts, 1)[:, :, None]]
        for g in range(N_NEURON_BATCHES):
            left = np.maximum(all_counts - counts[:, g], 1)[:, :, None]
            means.append((all_sums - sums[:, g]) / left)
        return np.stack(means)
