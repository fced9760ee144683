"""Every bound in one place: asymptotic references, finite counts, representation, and the gap between them.

The constants of the asymptotic forms are not known: with constant 1 they are orders of magnitude, never limits.
The finite counts (`max_selected`) are limits, on the selection of arbitrary features. `gap` sets all of them
beside each other for one layer.
"""

from __future__ import annotations

from probekit.theory.asymptotic import (
    Log,
    asymptotic_features,
    min_neurons,
    min_params,
    sufficient_neurons,
    sufficient_params,
)
from probekit.theory.bound import Bound
from probekit.theory.capacity import (
    layer_params,
    max_selected,
    max_selected_real,
    min_concepts_to_bind,
    real_valued_bits,
)
from probekit.theory.counting import (
    bits_needed,
    fano_bits,
    log2_arrangements,
    log2_binomial,
    log2_factorial,
    permutation_bits,
)
from probekit.theory.gap import Gap, Level, Readouts, gap, readouts
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
    "Gap",
    "Level",
    "Log",
    "Readouts",
    "alon_floor",
    "asymptotic_features",
    "ball_and_box",
    "bits_needed",
    "fano_bits",
    "gap",
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
    "readouts",
    "real_valued_bits",
    "sufficient_neurons",
    "sufficient_params",
    "welch_floor",
]


def __dir__() -> list[str]:
    """The bounds, and not what they are made of."""
    return list(__all__)
