"""Every bound in one place: asymptotic references here, finite counts and representation bounds imported.

The asymptotic forms are those of Adler & Shavit (arXiv 2409.15318): computing m' features needs Ω(√(m' log
m')) neurons and Ω(m' log m') parameters, and O(√m' log m') neurons with O(m' log² m') parameters suffice for
pairwise ANDs. Their constants are not known: with constant 1 they are orders of magnitude, never limits. The
finite counts (`max_selected`) are limits, on the selection of arbitrary features.
"""

from __future__ import annotations

import math
from typing import Literal

from probekit.errors import InputError, guarded
from probekit.theory.bound import Bound
from probekit.theory.capacity import (
    layer_params,
    max_selected,
    max_selected_real,
    min_concepts_to_bind,
    real_valued_bits,
)
from probekit.theory.checks import Number, as_count
from probekit.theory.counting import (
    bits_needed,
    fano_bits,
    log2_arrangements,
    log2_binomial,
    log2_factorial,
    permutation_bits,
)
from probekit.theory.representation import (
    alon_floor,
    ball_and_box,
    information_floor,
    jl_pairwise,
    jl_reading,
    jl_worst_case,
    linear_access_enough,
    linear_access_needed,
    welch_floor,
)

__all__ = [
    "Bound",
    "alon_floor",
    "asymptotic_features",
    "ball_and_box",
    "bits_needed",
    "fano_bits",
    "information_floor",
    "jl_pairwise",
    "jl_reading",
    "jl_worst_case",
    "layer_params",
    "linear_access_enough",
    "linear_access_needed",
    "log2_arrangements",
    "log2_binomial",
    "log2_factorial",
    "max_selected",
    "max_selected_real",
    "min_concepts_to_bind",
    "min_neurons",
    "min_params",
    "permutation_bits",
    "real_valued_bits",
    "sufficient_neurons",
    "sufficient_params",
    "welch_floor",
]

Log = Literal["e", "2"]
"""Base of the logarithm in an asymptotic form: the papers do not fix it."""

_REFERENCE = ("asymptotic reference", "constant 1 assumed", "O(1) bits per parameter")


@guarded
def asymptotic_features(n_neurons: Number, *, log: Log = "e") -> Bound:
    """n²/log n, the order of the most features that n neurons can compute; n × n blocks, n → ∞ only.

    >>> round(float(asymptotic_features(3072)))
    1175229
    """
    n = as_count("n_neurons", n_neurons, at_least=2)
    return Bound(n**2 / _log(n, log), False, (*_REFERENCE, "n × n weight blocks", f"log base {log}"))


@guarded
def min_neurons(n_features: Number, *, log: Log = "e") -> Bound:
    """√(m' log m'), the order of the fewest neurons that can compute m' features; m' → ∞ only.

    >>> round(float(min_neurons(1_000)))
    83
    """
    m = as_count("n_features", n_features, at_least=2)
    return Bound(math.sqrt(m * _log(m, log)), False, (*_REFERENCE, "labelled outputs", f"log base {log}"))


@guarded
def min_params(n_features: Number, *, log: Log = "e") -> Bound:
    """m' log m', the order of the fewest parameters that can compute m' features; m' → ∞ only."""
    m = as_count("n_features", n_features, at_least=2)
    return Bound(m * _log(m, log), False, (*_REFERENCE, "labelled outputs", f"log base {log}"))


@guarded
def sufficient_neurons(n_features: Number, *, log: Log = "e") -> Bound:
    """√m' log m', the order of neurons with which m' pairwise ANDs can be computed; m' → ∞ only."""
    m = as_count("n_features", n_features, at_least=2)
    return Bound(math.sqrt(m) * _log(m, log), False, (*_REFERENCE, "pairwise ANDs", f"log base {log}"))


@guarded
def sufficient_params(n_features: Number, *, log: Log = "e") -> Bound:
    """m' log² m', the order of parameters with which m' pairwise ANDs can be computed; m' → ∞ only."""
    m = as_count("n_features", n_features, at_least=2)
    return Bound(m * _log(m, log) ** 2, False, (*_REFERENCE, "pairwise ANDs", f"log base {log}"))


def _log(value: int, base: str) -> float:
    if base == "e":
        return math.log(value)
    if base == "2":
        return math.log2(value)
    raise InputError(f"log: got {base!r}, wanted 'e' or '2'. Name the base of the logarithm.")
