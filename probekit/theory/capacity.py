"""How many features a layer's weights can select: the counting bound turned around, exact for finite sizes.

Adler & Shavit (arXiv 2409.15318) state O(n²/log n) features for n neurons; the finite form is the largest m'
with log2 C(M, m') ≤ P·b. The bound limits *selection*, never the number of pairs that an outside probe can
read: universal families ("all pairs") cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Literal

from scipy.special import lambertw

from probekit.errors import InputError, guarded
from probekit.theory.bound import Bound
from probekit.theory.checks import Number, as_count, as_positive
from probekit.theory.counting import LN2, error_share, log2_binomial, selection_assumptions, selection_bits


@guarded
def layer_params(
    d_model: Number, n_neurons: Number, *, site: Literal["neurons", "output"] = "neurons", gated: bool = False
) -> int:
    """Parameters of an MLP layer that act at a reading site.

    At the neurons (after the activation) only the input side acts: n(d+1) weights and biases, 2nd for a gated
    layer (which has no biases as a rule). At the output of the layer: 2nd, gated 3nd.

    >>> layer_params(768, 3072)
    2362368
    """
    width = as_count("d_model", d_model)
    neurons = as_count("n_neurons", n_neurons)
    if site == "neurons":
        return 2 * neurons * width if gated else neurons * (width + 1)
    if site == "output":
        return (3 if gated else 2) * neurons * width
    raise InputError(f"site: got {site!r}, wanted 'neurons' or 'output'. Choose where the probe reads.")


@guarded
def max_selected(
    *,
    n_params: Number,
    bits: Number,
    n_concepts: Number | None = None,
    n_universe: Number | None = None,
    delta: Number = 0.0,
    labelled: bool = False,
) -> Bound:
    """Most features that P parameters of b bits can select arbitrarily: (smallest m' with B_δ > P·b) − 1.

    Valid at every finite size for arbitrary (incompressible) selections. Vacuous, with the whole universe as
    its value, exactly when the maximum of B_δ over m' does not exceed P·b. For δ > 0 the count B_δ is not
    monotone (each further tolerated error lowers it by a few bits, and its peak lies below M/2); the search
    follows its upper envelope.

    Args:
        n_params: P, the parameters that act at the reading site (`layer_params`).
        bits: b, bits per parameter; 16 is the storage of bf16 and needs no assumption, 2 is empirical.
        n_concepts: m; the universe is then all m(m−1)/2 pairs. Give this or `n_universe`.
        n_universe: M itself.
        delta: share of the selected set that may be missed or replaced.
        labelled: whether outputs carry prescribed addresses.

    Raises:
        InputError: a parameter out of range, or both or neither of `n_concepts` and `n_universe`.
    """
    universe = _universe(n_concepts, n_universe)
    per_parameter = as_positive("bits", bits)
    budget = as_count("n_params", n_params) * per_parameter
    share = error_share(delta)
    assumptions = (f"{per_parameter:g} bits per parameter", *selection_assumptions(share, labelled))
    first = _smallest_above(budget, universe, share, labelled)
    if first is None:
        return Bound(float(universe), True, assumptions)
    return Bound(float(first - 1), False, assumptions)


@guarded
def min_concepts_to_bind(n_params: Number, bits: Number) -> Bound:
    """Smallest dictionary (m concepts, m(m−1)/2 pairs) at which the counting bound limits anything.

    Exact for δ = 0 and unlabelled pairs: the smallest m with log2 C(M, ⌊M/2⌋) > P·b, near √(2Pb).
    """
    per_parameter = as_positive("bits", bits)
    budget = as_count("n_params", n_params) * per_parameter

    def peak(n_concepts: int) -> float:
        pairs = n_concepts * (n_concepts - 1) // 2
        return log2_binomial(pairs, pairs // 2)

    high = 2 + math.isqrt(math.ceil(2 * budget)) * 2
    while peak(high) <= budget:
        high *= 2
    first = _first_above(peak, budget, 1, high, high // 2)
    return Bound(float(first), False, (f"{per_parameter:g} bits per parameter", "unlabelled pairs", "δ = 0"))


@guarded
def real_valued_bits(
    n_selected: Number, *, n_params_in: Number, n_params: Number, n_neurons: Number, n_inputs: Number
) -> float:
    """log2 of the number of output tables that one ReLU layer with *real* weights can produce.

    Warren's sign-pattern count: P_in·log2(8e·n·N/P_in) + P·log2(16e·m'·N/P) for N tested inputs, m'
    thresholded outputs, P_in parameters before the neurons and P in all. Valid where n·N ≥ P_in and m'·N ≥ P.
    """
    inputs = as_count("n_inputs", n_inputs)
    before = as_count("n_params_in", n_params_in)
    total = as_count("n_params", n_params, at_least=before)
    neurons = as_count("n_neurons", n_neurons)
    selected = as_count("n_selected", n_selected)
    if neurons * inputs < before or selected * inputs < total:
        raise InputError(
            f"n_inputs: got {inputs:,}, too few to count patterns with P_in = {before:,}, P = {total:,}; "
            f"wanted at least {max(-(-before // neurons), -(-total // selected)):,}."
        )
    return before * math.log2(8 * math.e * neurons * inputs / before) + total * math.log2(
        16 * math.e * selected * inputs / total
    )


@guarded
def max_selected_real(
    *,
    n_universe: Number,
    n_params_in: Number,
    n_params: Number,
    n_neurons: Number,
    n_inputs: Number,
) -> Bound:
    """Most features that real-valued weights of unlimited precision can select (`real_valued_bits`).

    Warren's count gives m' = O(P) with no assumption on precision, at some 40–60 effective bits a parameter:
    weaker than b = 16. The logarithm in n²/log n is bought by the assumption of O(1) bits. Valid where
    `real_valued_bits` is.
    """
    universe = as_count("n_universe", n_universe)
    smallest = -(-as_count("n_params", n_params) // as_count("n_inputs", n_inputs))

    def excess(n_selected: int) -> float:
        allowed = real_valued_bits(
            n_selected, n_params_in=n_params_in, n_params=n_params, n_neurons=n_neurons, n_inputs=n_inputs
        )
        return log2_binomial(universe, n_selected) - allowed

    assumptions = ("real weights of any precision", "thresholded outputs", f"{int(n_inputs):,} tested inputs")
    # the slope of the excess has the sign of m'·log2((M−m')/m') − P/ln 2, whose first term rises to one peak
    # and falls: the excess falls, rises to a top beyond that peak, and falls again
    steepest = _peak(lambda m: m * math.log2((universe - m) / m), 1, max(1, universe // 2))
    start = max(smallest, 1)
    if start > universe // 2:
        return Bound(float(universe), True, assumptions)
    if excess(start) > 0:
        return Bound(float(start - 1), False, assumptions)
    top = _peak(excess, max(start, steepest), universe // 2)
    if excess(top) <= 0:
        return Bound(float(universe), True, assumptions)
    first = _first_above(excess, 0.0, start, top, start)
    return Bound(float(first - 1), False, assumptions)


def _universe(n_concepts: Number | None, n_universe: Number | None) -> int:
    if n_concepts is not None and n_universe is None:
        concepts = as_count("n_concepts", n_concepts, at_least=2)
        return concepts * (concepts - 1) // 2
    if n_universe is not None and n_concepts is None:
        return as_count("n_universe", n_universe)
    raise InputError(
        f"n_concepts, n_universe: got {n_concepts} and {n_universe}, wanted exactly one of the two. "
        "Give the number of concepts, or the number of candidate pairs itself."
    )


def _smallest_above(budget: float, universe: int, share: Fraction, labelled: bool) -> int | None:
    """Smallest m' with B_δ(m') > budget, or None if there is none.

    Between two jumps of ⌊δm'⌋ (a tooth) the count rises to one top. With δ = p/q every p-th tooth has the
    same phase, and over teeth of one phase the tops rise to one peak and fall after it.
    """
    # unlabelled: C(M, m') is symmetric and the ball only grows with m', so the peak is not above M/2
    limit = universe if labelled else universe // 2
    start = _lambert_start(budget, universe, float(share))

    def count(selected: int) -> float:
        return selection_bits(universe, selected, math.floor(share * selected), labelled=labelled)

    if share == 0:
        top = _peak(count, 0, limit)
        return _first_above(count, budget, 0, top, start) if count(top) > budget else None

    def top_of(tooth: int) -> int:
        return _peak(count, math.ceil(tooth / share), min(limit, math.ceil((tooth + 1) / share) - 1))

    last, stride, firsts = math.floor(share * limit), share.numerator, list[int]()
    for phase in range(min(stride, last + 1)):
        top = lambda step, phase=phase: count(top_of(phase + step * stride))
        best = _peak(top, 0, (last - phase) // stride)
        if top(best) > budget:
            around = (math.floor(share * start) - phase) // stride
            firsts.append(phase + stride * _first_above(top, budget, -1, best, around))
    if not firsts:
        return None
    tooth = min(firsts)
    return _first_above(count, budget, math.ceil(tooth / share) - 1, top_of(tooth), start)


def _lambert_start(budget: float, universe: int, delta: float) -> int:
    """Root of (1−δ)·m'·log2(eM/m') = P·b, or M/2 where there is none."""
    x = budget * LN2 / ((1.0 - delta) * math.e * universe)
    if x >= 1 / math.e:
        return universe // 2
    return max(1, int(math.e * universe * math.exp(float(lambertw(-x, k=-1).real))))


def _peak(value: Callable[[int], float], low: int, high: int) -> int:
    """Place of the maximum of a function that rises, then falls."""
    while low < high:
        middle = (low + high) // 2
        if value(middle + 1) > value(middle):
            low = middle + 1
        else:
            high = middle
    return low


def _first_above(value: Callable[[int], float], level: float, low: int, high: int, start: int) -> int:
    """Smallest x in (low, high] with value(x) > level, for a rising function with value(high) > level."""
    here, step = min(max(start, low + 1), high), 1
    if value(here) > level:
        high = here
        while high - step > low and value(high - step) > level:
            high, step = high - step, 2 * step
        low = max(low, high - step)
    else:
        low = here
        while low + step < high and value(low + step) <= level:
            low, step = low + step, 2 * step
        high = min(high, low + step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if value(middle) > level else (middle, high)
    return high
