"""How a readout is spread over neurons: distributed, in superposition, dedicated; and what pattern its neurons show.

Contributions are c_i = w_i·κ_i with κ_i the neuron's own interaction contrast on the confirm half. Participation is
(Σ|c|)²/Σc². A pair is distributed when participation ≥ 4 and its best neuron (chosen on the fit half) stays below half
of the readout's d′, both by their lower 95 % bound (jackknife over document batches). Axes: pair k quadrant batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from probekit.evidence.contrast import N_BATCHES, N_NEURON_BATCHES, Contrast, NeuronSums
from probekit.probes.pairs import SIGNS
from probekit.probes.refit import Readouts

MIN_PARTICIPATION = 4.0
MAIN_SHARE = 0.5
"""Main neurons are the fewest that carry this share of Σ|c|."""

# Quadrant patterns (11, 10, 01, 00) with κ > 0, and the additive ones; compared by cosine after centring.
PATTERNS = {
    "AND": (1, 0, 0, 0), "NOR": (0, 0, 0, 1), "XNOR": (1, 0, 0, 1), "not(A and not B)": (0, -1, 0, 0),
    "not(B and not A)": (0, 0, -1, 0), "A": (1, 1, 0, 0), "B": (1, 0, 1, 0), "A+B": (2, 1, 1, 0),
    "not A": (0, 0, 1, 1), "not B": (0, 1, 0, 1), "not A + not B": (0, 1, 1, 2),
}  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """How each pair's k-sparse readout is spread over its neurons."""

    contribution: Float[np.ndarray, "pair k"]
    """c_i = w_i·κ_i."""
    participation: Float[np.ndarray, " pair"]
    """(Σ|c|)²/Σc², 0 where there is no readout."""
    distributed: Bool[np.ndarray, " pair"]
    """Participation ≥ 4 and best neuron below half of d′, both by lower bound."""
    shape: list[str]
    """Pattern of the readout's own neurons."""
    conjunctive: Bool[np.ndarray, " pair"]
    """Pattern mean in 11 above the other three by lower bound."""


def _participation(c: np.ndarray) -> np.ndarray:
    square = (c**2).sum(-1)
    return np.where(square > 0, np.abs(c).sum(-1) ** 2 / np.where(square > 0, square, 1.0), 0.0)


def _jackknife_se(replicates: np.ndarray) -> np.ndarray:
    n = len(replicates)
    return np.sqrt((n - 1) / n * ((replicates - replicates.mean(0)) ** 2).sum(0))


def measure_spread(
    readouts: Readouts,
    neuron_sums: NeuronSums,
    deviations: Float[np.ndarray, "pair k"],
    contrast: Contrast,
    best: Contrast,
) -> Spread:
    """Participation, shape and the distributed flag of every pair.

    Args:
        readouts: the k-sparse readouts.
        neuron_sums: quadrant sums of their neurons on the confirm half.
        deviations: balanced standard deviation of each neuron on the fit half.
        contrast: the readouts on the confirm half.
        best: the best single neurons on the confirm half.
    """
    means = neuron_sums.leave_one_out()
    kappa = np.einsum("q,gpqk->gpk", SIGNS, means)
    contribution = readouts.weights * kappa
    participation = _participation(contribution)
    one_sided = stats.t.ppf(0.95, N_NEURON_BATCHES - 1)
    low = participation[0] - one_sided * _jackknife_se(participation[1:])
    twice = contrast.d_prime - 2 * best.d_prime
    twice_se = np.sqrt(((contrast.d_influence - 2 * best.d_influence) ** 2).sum(1))
    best_is_small = twice - stats.t.ppf(0.95, N_BATCHES - 1) * twice_se > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = np.where(deviations > 0, 1 / deviations, 0.0)
    pattern = np.einsum("pk,gpqk->gpq", np.abs(contribution[0]) * np.sign(kappa[0]) * unit, means)
    margin = pattern[:, :, :1] - pattern[:, :, 1:]
    margin_low = margin[0] - one_sided * _jackknife_se(margin[1:])
    return Spread(
        contribution=contribution[0],
        participation=participation[0],
        distributed=(low >= MIN_PARTICIPATION) & best_is_small & (contrast.d_prime > 0),
        shape=_name_patterns(pattern[0]),
        conjunctive=(margin_low > 0).all(1),
    )


def _name_patterns(pattern: np.ndarray) -> list[str]:
    names = list(PATTERNS)
    templates = np.array([PATTERNS[name] for name in names], float)
    templates -= templates.mean(1, keepdims=True)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    centred = pattern - pattern.mean(1, keepdims=True)
    closest = (centred @ templates.T).argmax(1)
    silent = np.abs(centred).max(1) == 0
    return ["none" if quiet else names[index] for quiet, index in zip(silent, closest, strict=True)]


@dataclass(frozen=True)
class Classes:
    """What the computed pairs of a layer share."""

    superposed: Bool[np.ndarray, " pair"]
    """Distributed, and half of its weight on neurons that also carry another unrelated computed pair."""
    dedicated: Bool[np.ndarray, " pair"]
    """Its main neurons carry no other computed pair."""
    n_distinct: int
    """Computed pairs after merging duplicates."""
    effective_rank: float
    """exp(entropy) of the normalised singular values of the computed readouts (Roy & Vetterli 2007)."""
    features_per_neuron: float
    """Mean number of computed pairs that a main neuron carries."""


def main_neurons(contribution: Float[np.ndarray, " k"]) -> Bool[np.ndarray, " k"]:
    """The fewest neurons that carry half of Σ|c|."""
    size = np.abs(contribution)
    order = np.argsort(-size, kind="stable")
    before = np.cumsum(size[order]) - size[order]
    chosen = np.zeros(len(size), bool)
    chosen[order[(before < MAIN_SHARE * size.sum()) & (size[order] > 0)]] = True
    return chosen


def classify(
    computed: Bool[np.ndarray, " pair"],
    spread: Spread,
    readouts: Readouts,
    pairs: Int[np.ndarray, "pair 2"],
    duplicate_of: Int[np.ndarray, " concept"],
    n_neurons: int,
) -> Classes:
    """Sort the computed pairs into superposed, dedicated and the rest.

    Args:
        computed: the decision.
        spread: measures of every pair.
        readouts: the k-sparse readouts.
        pairs: concept indices of each pair.
        duplicate_of: representative of each concept; concepts whose labels correlate above 0.95 share one.
        n_neurons: width of the layer.
    """
    superposed = np.zeros(len(computed), bool)
    dedicated = np.zeros(len(computed), bool)
    found = np.flatnonzero(computed)
    carried = np.zeros((len(found), n_neurons), bool)
    for row, p in enumerate(found):
        carried[row, readouts.neurons[p, main_neurons(spread.contribution[p])]] = True
    merged = np.sort(duplicate_of[pairs[found]], axis=1)
    for row, p in enumerate(found):
        distinct = np.asarray((merged != merged[row]).any(1))
        unrelated = distinct & ~np.isin(merged, merged[row]).any(1)
        used = readouts.neurons[p] >= 0
        shared = np.asarray(carried[unrelated].any(0))[readouts.neurons[p][used]]
        size = np.abs(spread.contribution[p][used])
        superposed[p] = bool(
            spread.distributed[p] and size.sum() > 0 and size[shared].sum() >= 0.5 * size.sum()
        )
        own = carried[row]
        dedicated[p] = not carried[distinct][:, own].any()
    matrix = np.zeros((len(found), n_neurons))
    for row, p in enumerate(found):
        used = readouts.neurons[p] >= 0
        matrix[row, readouts.neurons[p][used]] = readouts.weights[p][used]
    load = carried.sum(0)
    return Classes(
        superposed,
        dedicated,
        len(np.unique(merged, axis=0)) if len(found) else 0,
        effective_rank(matrix),
        float(load[load > 0].mean()) if load.any() else 0.0,
    )


def effective_rank(matrix: Float[np.ndarray, "pair neuron"]) -> float:
    """exp of the entropy of the singular values of the row-normalised matrix; 0 for no row."""
    norm = np.linalg.norm(matrix, axis=1, keepdims=True)
    rows = matrix[norm[:, 0] > 0] / norm[norm[:, 0] > 0]
    if not len(rows):
        return 0.0
    values = np.linalg.svd(rows, compute_uv=False)
    share = values[values > 0] / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def channel_overlap(
    reads: Float[np.ndarray, "concept neuron"], pairs: Int[np.ndarray, "pair 2"]
) -> Float[np.ndarray, " pair"]:
    """How much the channels of two concepts overlap, by the weights alone, as a robust z over the tested pairs.

    A concept's channel is what its presence adds to each pre-activation, where that is positive (theory of feature
    channels, arXiv 2409.15318); columns are standardised and multiplied. The null spread is neither 1 nor normal, so
    the score is centred on the median and divided by the MAD of all tested pairs. It needs no activation, sees no circuit of
    random signs, and is inflated where two concepts have similar directions.

    Args:
        reads: what each concept adds to each pre-activation.
        pairs: concept indices.
    """
    channels = np.maximum(reads, 0.0)
    channels = channels - channels.mean(1, keepdims=True)
    norm = np.linalg.norm(channels, axis=1, keepdims=True)
    channels = np.where(norm > 0, channels / np.where(norm > 0, norm, 1.0), 0.0)
    overlap = np.einsum("pn,pn->p", channels[pairs[:, 0]], channels[pairs[:, 1]])
    centred = overlap - np.median(overlap)
    scale = stats.norm.ppf(0.75) ** -1 * np.median(np.abs(centred))
    return centred / scale if scale > 0 else np.zeros(len(pairs))


def coherence(readouts: Readouts, chosen: Bool[np.ndarray, " pair"], n_neurons: int) -> float:
    """Mean |cosine| between the readouts of the chosen pairs; 0 for fewer than two.

    Args:
        readouts: the readouts.
        chosen: which of them.
        n_neurons: width of the layer.
    """
    rows = np.flatnonzero(chosen)
    if len(rows) < 2:
        return 0.0
    dense = np.zeros((len(rows), n_neurons))
    for i, row in enumerate(rows):
        used = readouts.neurons[row] >= 0
        dense[i, readouts.neurons[row][used]] = readouts.weights[row][used]
    norm = np.linalg.norm(dense, axis=1, keepdims=True)
    dense = dense / np.where(norm > 0, norm, 1.0)
    cosine = np.abs(dense @ dense.T)[np.triu_indices(len(rows), 1)]
    return float(cosine.mean())
