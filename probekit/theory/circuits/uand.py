"""Universal AND: layers from which the AND of *every* pair of concepts can be read linearly.

Sparse (Hänni, Mendel, Vaintrob & Chan, arXiv 2408.05451): W ~ Bernoulli(p), bias −1, the pair is read on the
neurons connected to both. Dense: W ~ {+1, −r}, the pair is read with the signs of its two weights; with r = 1 a
random-sign layer, with r = 2 the best simple one. Gaussian: any random layer, read with the products of the
two weights (by Stein's lemma); it is the null of every detector and a construction at once. One fixed
function of the input, whatever the pairs: a universal AND costs the weights no bits. Axes: neuron, concept,
output, pattern.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binom

from probekit.errors import InputError, guarded
from probekit.theory.checks import Number, as_count, as_positive, as_probability
from probekit.theory.circuits.circuit import Circuit, patterns
from probekit.theory.circuits.draw import PairsLike, generator, input_codes, sign_codes, universal_pairs
from probekit.theory.circuits.predict import Channel, channel_prediction, inverse_of_binomial


@guarded
def sparse_uand(
    *,
    n_concepts: Number,
    n_neurons: Number,
    n_active: Number,
    d_model: Number | None = None,
    pairs: PairsLike = None,
    density: Number | None = None,
    seed: int,
) -> Circuit:
    """Sparse universal AND: h = relu(W·f − 1), W ~ Bernoulli(p), read on the neurons that see the whole pair.

    The published p = (ln m)²/√n exceeds ½ below n ≈ 3,000 at m = 200; the default 2(s·n)^{-1/3} balances
    the bias s'p against the sd √(s'(1−p)/(pn)). The readoff is centred by a constant. Superposed inputs add
    pre-activation noise √(p·m·s/d) and stop working beyond m ≈ n/2 at n = 2048: use `gaussian_uand` there.
    `pairs` with k columns give k-way ANDs.

    Args:
        n_concepts: m.
        n_neurons: n.
        n_active: s, concepts on in one input.
        d_model: None for basis-aligned inputs, else the dimensions of superposed ±1/√d codes.
        pairs: which pairs get a readoff: all (20,000 at most), a number, or a list.
        density: p.
        seed: of weights, codes and pairs.

    Raises:
        InputError: a parameter out of range.
    """
    concepts, neurons, active = _sizes(n_concepts, n_neurons, n_active)
    p = (
        min(0.5, 2.0 * (active * neurons) ** (-1 / 3))
        if density is None
        else as_probability("density", density)
    )
    rng = generator(seed)
    chosen = universal_pairs(rng, pairs, concepts)
    order = chosen.shape[1]
    seen = rng.random((neurons, concepts)) < p
    reads = np.logical_and.reduce([seen[:, concept] for concept in chosen.T]).T
    readoff = (
        reads / np.maximum(reads.sum(axis=1), 1)[:, None]
    )  # no common neuron: the pair reads 0 and is missed
    encode = input_codes(rng, concepts, d_model)
    width = None if d_model is None else encode.shape[0]
    prediction = Channel(order, active, concepts, p, inverse_of_binomial(neurons, p**order), width)
    means, sds = channel_prediction(prediction)
    centre = float(np.nanmean(means - patterns(order).all(axis=1)))
    weights = seen.astype(np.float64)
    return _circuit(
        "sparse_uand", rng, encode, weights, width, 1.0 - order, readoff, chosen, active, means - centre, sds,
        readoff_bias=np.full(len(chosen), -centre), input_sd=prediction.input_sd,
    )  # fmt: skip


@guarded
def dense_uand(
    *,
    n_concepts: Number,
    n_neurons: Number,
    n_active: Number,
    d_model: Number | None = None,
    pairs: PairsLike = None,
    negative: Number = 2.0,
    bias: Number = 0.0,
    seed: int,
) -> Circuit:
    """Dense universal AND: h = relu(W·f + b) with W ~ {+1, −r} with probability ½, read by sign(w_a·w_b)/(n·c).

    Unbiased, with sd √(K/n) (K − 1 in pattern 11): K = 8 for r = 2 and s = 3, 24 for r = 1, πs² for large s.
    Superposed inputs are decoded in the same matrix, W·Eᵀ, with noise √(2.5·m·s/d) at r = 2: no prediction is
    given, it fails.

    Args:
        n_concepts: m.
        n_neurons: n.
        n_active: s, concepts on in one input; the scale of the readoff depends on it.
        d_model: None for basis-aligned inputs, else the dimensions of superposed ±1/√d codes.
        pairs: which pairs get a readoff: all (20,000 at most), a number, or a list.
        negative: r, size of the negative weights.
        bias: b, the same for every neuron.
        seed: of weights, codes and pairs.

    Raises:
        InputError: a parameter out of range.
    """
    concepts, neurons, active = _sizes(n_concepts, n_neurons, n_active, at_least=2)
    r = as_positive("negative", negative)
    rng = generator(seed)
    chosen = _two(universal_pairs(rng, pairs, concepts))
    signs = np.where(rng.random((neurons, concepts)) < 0.5, 1.0, -1.0)
    weights = np.where(signs > 0, 1.0, -r)
    scale, second = two_valued_moments(active, r, float(bias))
    if not scale > 0:
        raise InputError(
            f"bias, negative: got {bias} and {negative}, at which no AND is computed. Use 0 and 2."
        )
    readoff = (signs[:, chosen[:, 0]] * signs[:, chosen[:, 1]]).T / (neurons * scale)
    encode = input_codes(rng, concepts, d_model)
    width = None if d_model is None else encode.shape[0]
    means = np.array([1.0, 0.0, 0.0, 0.0])
    sds = np.sqrt((second / scale**2 - means) / neurons)
    input_sd = 0.0
    if width is not None:
        input_sd = math.sqrt((1 + r**2) / 2 * concepts * active / width)
        means, sds = np.full(4, np.nan), np.full(4, np.nan)
    return _circuit(
        "dense_uand",
        rng,
        encode,
        weights,
        width,
        float(bias),
        readoff,
        chosen,
        active,
        means,
        sds,
        input_sd=input_sd,
    )


@guarded
def gaussian_uand(
    *,
    n_concepts: Number,
    n_neurons: Number,
    n_active: Number,
    d_model: Number | None = None,
    pairs: PairsLike = None,
    seed: int,
) -> Circuit:
    """A random Gaussian layer with zero bias, read by w_a·w_b·√(2πs)/n: unbiased for every pair, whatever m.

    sd √((πs(s+4)−1)/n) in pattern 11, √(πs(s+2)/n) in 10 and 01, s√(π/n) in 00. On superposed inputs the
    weights act on the codes themselves, w_a = w·φ_a, and the reads blur the product by noise of order √(s/d),
    included to first order in 1/d; the constant that the overlap ⟨φ_a, φ_b⟩ adds is subtracted by the bias of
    the readoff.

    Args:
        n_concepts: m.
        n_neurons: n.
        n_active: s, concepts on in one input; the scale of the readoff depends on it.
        d_model: None for basis-aligned inputs, else the dimensions of superposed ±1/√d codes.
        pairs: which pairs get a readoff: all (20,000 at most), a number, or a list.
        seed: of weights, codes and pairs.

    Raises:
        InputError: a parameter out of range.
    """
    concepts, neurons, active = _sizes(n_concepts, n_neurons, n_active, at_least=2)
    rng = generator(seed)
    chosen = _two(universal_pairs(rng, pairs, concepts))
    encode = input_codes(rng, concepts, d_model)
    width = None if d_model is None else encode.shape[0]
    weights = rng.standard_normal((neurons, encode.shape[0]))
    a, b = chosen.T
    seen = weights if width is None else weights @ encode
    readoff = (seen[:, a] * seen[:, b]).T * (math.sqrt(2 * math.pi * active) / neurons)
    s = active
    variances = np.array([math.pi * s * (s + 4) - 1, *[math.pi * s * (s + 2)] * 2, math.pi * s**2]) / neurons
    overlap = np.zeros(len(chosen))
    if width is not None:
        overlap = np.einsum("ip,ip->p", encode[:, a], encode[:, b])
        own = (2 - 1 / s) ** 2 + 2 * (s - 2) * (1 - 1 / s) ** 2 + math.comb(s - 2, 2) / s**2
        variances = variances + np.array([own, s, s, s**2 / width]) / width
    return _circuit(
        "gaussian_uand", rng, encode, weights, width, 0.0, readoff, chosen, active,
        np.array([1.0, 0.0, 0.0, 0.0]), np.sqrt(variances), readoff_bias=-s * overlap, acts_on_codes=True,
    )  # fmt: skip


def _circuit(  # noqa: PLR0913
    name: str,
    rng: np.random.Generator,
    encode: Float[np.ndarray, "input concept"],
    weights: Float[np.ndarray, "neuron feature"],
    width: int | None,
    bias: float,
    readoff: Float[np.ndarray, "output neuron"],
    chosen: Int[np.ndarray, "output order"],
    active: int,
    means: Float[np.ndarray, " pattern"],
    sds: Float[np.ndarray, " pattern"],
    *,
    readoff_bias: Float[np.ndarray, " output"] | None = None,
    input_sd: float = 0.0,
    acts_on_codes: bool = False,
) -> Circuit:
    code_out = None if width is None else sign_codes(rng, width, len(chosen))
    decoded = width is not None and not acts_on_codes
    return Circuit(
        name=name,
        encode=encode,
        w_in=weights @ encode.T if decoded else weights,
        b_in=np.full(len(weights), bias),
        w_out=readoff if code_out is None else code_out @ readoff,
        readoff=readoff,
        readoff_bias=np.zeros(len(chosen)) if readoff_bias is None else readoff_bias,
        pairs=chosen,
        n_active=active,
        predicted_mean=means,
        predicted_sd=sds,
        predicted_input_sd=input_sd,
        code_out=code_out,
        route=None if acts_on_codes and width is not None else weights,
    )


def two_valued_moments(n_active: int, negative: float, bias: float) -> tuple[float, float]:
    """c = E[sign(w_a)·sign(w_b)·relu(pre)] in pattern 11, and E[relu(pre)²] (the same in every pattern)."""

    def moment(n_random: int, level: float, power: int) -> float:
        plus = np.arange(n_random + 1)
        pre = plus - negative * (n_random - plus) + level
        return float(binom.pmf(plus, n_random, 0.5) @ np.maximum(pre, 0.0) ** power)

    rest = n_active - 2
    both, mixed, none = (moment(rest, level + bias, 1) for level in (2.0, 1.0 - negative, -2.0 * negative))
    return (both - 2 * mixed + none) / 4, moment(n_active, bias, 2)


def _sizes(
    n_concepts: Number, n_neurons: Number, n_active: Number, *, at_least: int = 1
) -> tuple[int, int, int]:
    concepts = as_count("n_concepts", n_concepts, at_least=2)
    neurons = as_count("n_neurons", n_neurons)
    return concepts, neurons, as_count("n_active", n_active, at_least=at_least, at_most=concepts)


def _two(pairs: Int[np.ndarray, "output order"]) -> Int[np.ndarray, "output 2"]:
    if pairs.shape[1] != 2:
        raise InputError(f"pairs: rows of {pairs.shape[1]} concepts; this construction reads pairs only.")
    return pairs
