"""The asymptotic forms of the papers: orders of magnitude with an unknown constant, never limits.

Adler & Shavit (arXiv 2409.15318): computing m' features needs Ω(√(m' log m')) neurons and Ω(m' log m')
parameters, and O(√m' log m') neurons with O(m' log² m') parameters suffice for pairwise ANDs.
"""

from __future__ import annotations

import math
from typing import Literal

from probekit.errors import InputError, guarded
from probekit.theory.bound import Bound
from probekit.theory.checks import Number, as_count

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
