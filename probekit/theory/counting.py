"""Bits needed to name a set of computed features: log2 of binomials, of error balls, of orderings.

Every computed target function needs its own setting of the P·b bits of the weights (Adler & Shavit, arXiv
2409.15318), so P·b ≥ log2 of the number of targets. Here those numbers are counted exactly for finite sizes.

The binomial is taken in saddle-point form, ln C(M, m) = M·H(m/M) + ½ ln(M / 2πm(M−m)) + δ(M) − δ(m) − δ(M−m)
with the Stirling errors δ(n) = ln n! − (n+½) ln n + n − ½ ln 2π. Its terms are all of the size of the result;
differences of log-gammas lose up to 6e-5 of it at M = 5e11.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from probekit.errors import InputError, guarded
from probekit.theory.bound import Bound
from probekit.theory.checks import Number, as_count, as_fraction

LN2 = math.log(2.0)
_NEGLIGIBLE = 1e-18  # relative to the largest term: sums keep full fp64 precision


@guarded
def log2_binomial(n_universe: Number, n_selected: Number) -> float:
    """log2 C(M, m): bits to name which m of M items were selected, to 1e-12 of its value."""
    universe = as_count("n_universe", n_universe, at_least=0)
    selected = as_count("n_selected", n_selected, at_least=0, at_most=universe)
    return _log2_binomial(universe, selected)


@guarded
def log2_factorial(n_items: Number) -> float:
    """log2 n!: bits to name an ordering."""
    return math.lgamma(as_count("n_items", n_items, at_least=0) + 1) / LN2


@guarded
def log2_arrangements(n_universe: Number, n_selected: Number) -> float:
    """log2 M!/(M−m)!: bits to name which of M items stands at each of m addresses."""
    universe = as_count("n_universe", n_universe, at_least=0)
    selected = as_count("n_selected", n_selected, at_least=0, at_most=universe)
    return _log2_arrangements(universe, selected)


@guarded
def bits_needed(
    n_universe: Number, n_selected: Number, *, delta: Number = 0.0, labelled: bool = False
) -> Bound:
    """Bits the weights must hold to compute an arbitrarily chosen set of `n_selected` out of `n_universe`.

    Unlabelled: B_δ = log2 C(M, m') − log2 Σ_{e ≤ δm'} C(m', e) C(M−m', e). Labelled (each output at a
    prescribed address): log2 M!/(M−m')!, less the number of answers within δm' wrong addresses, bounded from
    above by C(m', E)·(M−m'+E)!/(M−m')! with E = ⌊δm'⌋, so the labelled count with δ > 0 is a lower bound on
    the bits.

    Valid for every M ≥ m' ≥ 0. It counts choices among *arbitrary* sets: a regular set ("all pairs") needs
    hardly any bits, whatever its size.

    Args:
        n_universe: M, the number of candidate features.
        n_selected: m', the number computed.
        delta: share of the m' that may be missed or replaced.
        labelled: whether outputs carry prescribed addresses; features found by probes do not.

    Raises:
        InputError: a count or share out of range.
    """
    universe = as_count("n_universe", n_universe, at_least=0)
    selected = as_count("n_selected", n_selected, at_least=0, at_most=universe)
    share = error_share(delta)
    bits = selection_bits(universe, selected, math.floor(share * selected), labelled=labelled)
    return Bound(bits, vacuous=bits == 0.0, assumptions=selection_assumptions(share, labelled))


@guarded
def fano_bits(
    n_universe: Number, n_selected: Number, *, p_error: Number, delta: Number = 0.0, labelled: bool = False
) -> Bound:
    """Bits needed when the whole answer may be wrong with probability `p_error`.

    Fano: (1 − p_e)·B_δ − 1, at least 0. Valid for a target drawn uniformly; the probability is over targets
    and over whatever else is random.
    """
    p = as_fraction("p_error", p_error)
    exact = bits_needed(n_universe, n_selected, delta=delta, labelled=labelled)
    bits = max(0.0, (1.0 - p) * exact.value - 1.0)
    return Bound(
        bits, bits == 0.0, (*exact.assumptions, f"the answer is wrong with probability at most {p:g}")
    )


@guarded
def permutation_bits(n_features: Number, *, n_outputs: Number | None = None) -> Bound:
    """Bits to name a Neural Permutation: log2 m!, or log2 m!/(m−m')! when only m' inputs are passed on.

    Valid for every m ≥ m' ≥ 1. A linear map meets it within a logarithm.
    """
    features = as_count("n_features", n_features)
    outputs = features if n_outputs is None else as_count("n_outputs", n_outputs, at_most=features)
    return Bound(
        _log2_arrangements(features, outputs), False, ("the order is arbitrary", "every output is right")
    )


def error_share(delta: Number) -> Fraction:
    """δ as the fraction meant: 0.1 is 1/10, so that ⌊δm'⌋ has no rounding of its own.

    Raises:
        InputError: δ outside [0, 1), or no fraction with a denominator of at most 10,000.
    """
    share = Fraction(repr(as_fraction("delta", delta))).limit_denominator(10_000)
    if abs(float(share) - float(delta)) > 1e-12:
        raise InputError(
            f"delta: got {delta!r}, wanted at most four decimals, or k/n with n ≤ 10,000. Round it."
        )
    return share


def selection_assumptions(share: Fraction, labelled: bool) -> tuple[str, ...]:
    """The words that go with a count of selections."""
    return (
        "the selected set is an arbitrary one of its size",
        "encodings, dictionary, data and decoder are fixed beforehand",
        f"error tolerance δ = {float(share):g}",
        "labelled outputs" if labelled else "unlabelled outputs",
    )


def selection_bits(universe: int, selected: int, errors: int, *, labelled: bool) -> float:
    """`bits_needed` on checked integers, with the number of tolerated errors given."""
    if labelled:
        ball = _log2_binomial(selected, errors)
        return max(0.0, _log2_arrangements(universe, selected - errors) - ball)
    return max(0.0, _log2_binomial(universe, selected) - _log2_ball(universe, selected, errors))


def _log2_binomial(universe: int, selected: int) -> float:
    selected = min(selected, universe - selected)
    if selected == 0:
        return 0.0
    rest = universe - selected
    entropy = selected * math.log(universe / selected) - rest * math.log1p(-selected / universe)
    prefactor = 0.5 * math.log(universe / (2.0 * math.pi * selected) / rest)
    errors = _stirling_error(universe) - _stirling_error(selected) - _stirling_error(rest)
    return (entropy + prefactor + errors) / LN2


def _log2_arrangements(universe: int, selected: int) -> float:
    if selected == universe:
        return math.lgamma(universe + 1) / LN2
    rest = universe - selected
    leading = selected * math.log(universe)
    correction = -rest * math.log1p(-selected / universe) - selected - 0.5 * math.log1p(-selected / universe)
    return (leading + correction + _stirling_error(universe) - _stirling_error(rest)) / LN2


def _stirling_error(n: int) -> float:
    """ln n! − (n+½) ln n + n − ½ ln 2π for n ≥ 1."""
    if n < 16:
        return math.log(math.factorial(n)) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2.0 * math.pi)
    square = 1.0 / (float(n) * float(n))
    # the first term left out is 691/360360·n⁻¹¹, below 2e-16 for n ≥ 16
    series = 1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))
    return series / n


def _log2_ball(universe: int, selected: int, errors: int) -> float:
    """log2 Σ_{e ≤ errors} C(m', e) C(M−m', e), summed outwards from its largest term."""
    others = universe - selected
    last = min(errors, others, selected)
    if last == 0:
        return 0.0
    mode = (selected * others - 1) // (universe + 2) + 1  # terms grow up to here
    top = min(last, mode)
    total = 1.0 + _tail(selected, others, top, 0) + _tail(selected, others, top, last)
    return _log2_binomial(selected, top) + _log2_binomial(others, top) + math.log2(total)


def _tail(selected: int, others: int, top: int, end: int) -> float:
    """Sum of the ball's terms from `top` (left out) to `end`, in units of the term at `top`."""
    step = -1 if end < top else 1
    total, term, e, length = 0.0, 1.0, top, 32
    while e != end and term > _NEGLIGIBLE:
        stop = max(end, e - length) if step < 0 else min(end, e + length)
        here = np.arange(e, stop, step, dtype=np.float64)
        if step < 0:
            ratios = here**2 / ((selected - here + 1) * (others - here + 1))
        else:
            ratios = (selected - here) * (others - here) / (here + 1) ** 2
        terms = term * np.cumprod(ratios)
        total += float(terms.sum())
        term, e, length = float(terms[-1]), stop, min(2 * length, 65_536)  # most balls need a few terms only
    return total
