"""The capacity audit: what a count can and cannot say about the limit of Adler & Shavit (arXiv 2409.15318).

The finite statement is log2 C(M, m′) ≤ P·b: naming m′ of the M tested pairs takes that many bits, the P weights that
act at the site hold b bits each. What is bounded is the description length of the selected set given the inputs, the
dictionary and the rule, never the number of ANDs some probe can read. The asymptotic references n²/ln n and n²/log2 n
are printed with the words "constant 1 assumed".
"""

from __future__ import annotations

from probekit.evidence.summary import Capacity, Verdict
from probekit.theory import bounds

ASSUMED_BITS = 2.0
SENSITIVITY_BITS = (1.0, 2.0, 3.6, 16.0)
"""Bits a weight may hold: one, the 2 assumed here, the 3.6 of memorisation (arXiv 2505.24832), bf16 storage."""
SENSITIVITY_DELTAS = (0.0, 0.05, 0.2)
"""Shares of the selected set that may be missed or replaced."""


def by_assumption(*, n_params: int, n_tested: int, n_found: int) -> list[Verdict]:
    """The finite bound under each b of `SENSITIVITY_BITS` and δ of `SENSITIVITY_DELTAS`.

    Args:
        n_params: P.
        n_tested: M.
        n_found: m′, the lower limit of the excess.
    """
    rows: list[Verdict] = []
    for bits in SENSITIVITY_BITS:
        for delta in SENSITIVITY_DELTAS:
            most = bounds.max_selected(n_universe=n_tested, n_params=n_params, bits=bits, delta=delta)
            needed = float(bounds.bits_needed(n_tested, n_found, delta=delta)) if n_found else 0.0
            holds = needed <= n_params * bits
            rows.append(
                {
                    "bits": bits, "delta": delta, "max_selected": None if most.vacuous else float(most),
                    "bits_needed": needed, "bits_held": n_params * bits,
                    "verdict": "vacuous" if most.vacuous else "holds" if holds else "exceeded",
                }
            )  # fmt: skip
    return rows


def audit(*, n_neurons: int, n_params: int, bits_stored: float, n_tested: int, excess_low: float) -> Capacity:
    """Check one layer's excess against the finite bit bound and print the references beside it.

    Args:
        n_neurons: width of the layer.
        n_params: weights and biases that act at the neurons.
        bits_stored: bits of one stored weight.
        n_tested: tested pairs, the universe M.
        excess_low: lower limit of the excess over the twins, m′.
    """
    reference = bounds.asymptotic_features(n_neurons)
    assumed = bounds.max_selected(n_universe=n_tested, n_params=n_params, bits=ASSUMED_BITS)
    stored = bounds.max_selected(n_universe=n_tested, n_params=n_params, bits=bits_stored)
    m = int(max(0, min(excess_low, n_tested)))
    return Capacity(
        n2_over_ln_n=float(reference),
        n2_over_log2_n=float(bounds.asymptotic_features(n_neurons, log="2")),
        max_selected=None if assumed.vacuous else float(assumed),
        max_selected_stored=None if stored.vacuous else float(stored),
        bits_per_param=ASSUMED_BITS,
        bits_stored=bits_stored,
        n_params=n_params,
        universe=n_tested,
        vacuous=assumed.vacuous,
        cannot_bind=assumed.vacuous or n_tested < float(reference),
        bits_needed=float(bounds.bits_needed(n_tested, m)) if m else 0.0,
        bits_held=n_params * ASSUMED_BITS,
        min_neurons=float(bounds.min_neurons(m)) if m > 1 else 0.0,
        min_params=float(bounds.min_params(m)) if m > 1 else 0.0,
        by_assumption=by_assumption(n_params=n_params, n_tested=n_tested, n_found=m),
    )
