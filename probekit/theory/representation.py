"""How many dimensions features need to be *represented*: random codes, floors, reading pairs off a code.

Standard facts about random ±1/√d codes (Johnson & Lindenstrauss, Welch, Alon); linear accessibility is
attributed to Garg, Kleinberg and Peng (arXiv 2602.11246), the threshold reading of conjunctions to "Ball and
Box". All of them are about representation: a code of d ≈ 2k ln m dimensions lets one threshold unit read
every AND with nothing computed.
"""

from __future__ import annotations

import math

from scipy.stats import norm

from probekit.errors import InputError, guarded
from probekit.theory.bound import Bound
from probekit.theory.checks import Number, as_count, as_positive, as_probability
from probekit.theory.counting import log2_binomial


@guarded
def jl_pairwise(n_features: Number, epsilon: Number, *, p_failure: Number | None = None) -> Bound:
    """Dimensions at which all pairwise overlaps of m random sign codes stay below ε.

    d ≥ 4 ln m/ε² for such codes to exist; (2/ε²) ln(m²/η) for a random draw to do so with probability 1 − η.
    Sufficient, not necessary; valid for 0 < ε < 1.
    """
    features = as_count("n_features", n_features, at_least=2)
    slack = as_probability("epsilon", epsilon)
    if p_failure is None:
        return Bound(4.0 * math.log(features) / slack**2, False, ("±1/√d codes", "positive probability"))
    failure = as_probability("p_failure", p_failure)
    value = 2.0 / slack**2 * (2.0 * math.log(features) - math.log(failure))
    return Bound(value, False, ("±1/√d codes", f"a random draw fails with probability {failure:g} at most"))


@guarded
def jl_reading(n_features: Number, n_active: Number, *, p_failure: Number) -> Bound:
    """Dimensions at which one s-sparse input is read right at threshold ½ for all m features.

    d ≥ 8s ln(2m/η). Valid for one given input and a random code; the noise of a read has variance s/d.
    """
    features, active = _sparse(n_features, n_active)
    failure = as_probability("p_failure", p_failure)
    value = 8.0 * active * math.log(2.0 * features / failure)
    return Bound(
        value, False, ("±1/√d codes", "one given input", f"fails with probability {failure:g} at most")
    )


@guarded
def jl_worst_case(n_features: Number, n_active: Number) -> Bound:
    """Dimensions at which *every* s-sparse input is read right at threshold ½.

    A coherence sμ < ½ is enough, so d ≥ 16 s² ln m.
    """
    features, active = _sparse(n_features, n_active)
    return Bound(16.0 * active**2 * math.log(features), False, ("±1/√d codes", "all s-sparse inputs"))


@guarded
def welch_floor(n_features: Number, d_model: Number) -> Bound:
    """Smallest possible largest overlap of m unit vectors in d dimensions: √((m−d)/(d(m−1))), 0 for m ≤ d."""
    features = as_count("n_features", n_features, at_least=2)
    width = as_count("d_model", d_model)
    value = math.sqrt(max(0, features - width) / (width * (features - 1)))
    return Bound(value, features <= width, ("unit vectors",))


@guarded
def alon_floor(n_features: Number, epsilon: Number) -> Bound:
    """Dimensions that overlaps below ε need (Alon's rank bound): ln m/(ε² ln(1/ε)), constant 1 assumed.

    Valid for 1/√m ≤ ε < ½ up to an unspecified constant.
    """
    features = as_count("n_features", n_features, at_least=2)
    slack = as_probability("epsilon", epsilon)
    if not 1 / math.sqrt(features) <= slack < 0.5:
        raise InputError(
            f"epsilon: got {slack:g}, wanted 1/√m = {1 / math.sqrt(features):.3g} or more, below ½."
        )
    return Bound(math.log(features) / (slack**2 * -math.log(slack)), False, ("constant 1 assumed",))


@guarded
def information_floor(n_features: Number, n_active: Number, *, bits: Number) -> Bound:
    """Dimensions of b bits each that can hold which s of m features are on, by any code: log2 C(m, s)/b."""
    features, active = _sparse(n_features, n_active)
    per_coordinate = as_positive("bits", bits)
    return Bound(
        log2_binomial(features, active) / per_coordinate, False, (f"{per_coordinate:g} bits per coordinate",)
    )


@guarded
def linear_access_enough(n_features: Number, n_active: Number) -> Bound:
    """Dimensions enough to read all s-sparse features linearly, worst case: s² log m, constant 1 assumed."""
    features, active = _sparse(n_features, n_active)
    return Bound(active**2 * math.log(features), False, ("constant 1 assumed", "fixed ε", "linear readouts"))


@guarded
def linear_access_needed(n_features: Number, n_active: Number) -> Bound:
    """Dimensions needed to read all s-sparse features linearly: (s²/log s)·log(m/s), constant 1, s ≥ 2."""
    features, active = _sparse(n_features, n_active, at_least=2)
    value = active**2 / math.log(active) * math.log(features / active)
    return Bound(value, value == 0.0, ("constant 1 assumed", "fixed ε", "linear readouts"))


@guarded
def ball_and_box(n_features: Number, n_active: Number) -> Bound:
    """Dimensions at which threshold units read all pairwise conjunctions straight off a passive code.

    d ≈ k(3λ₁ + λ₀)², λ₁ = Φ̄⁻¹(1/k), λ₀ = Φ̄⁻¹(1/(m−k)), at the best bias. A finite-size Gaussian
    approximation, valid for 2 ≤ k ≪ m; its limits are 2k ln m for log k = o(log m) and 32k ln m for log m ~
    log k.
    """
    features, active = _sparse(n_features, n_active, at_least=2)
    if features <= 2 * active:
        raise InputError(
            f"n_features: got {features}, wanted more than 2·n_active = {2 * active}. Use a sparser input."
        )
    on, off = float(norm.isf(1.0 / active)), float(norm.isf(1.0 / (features - active)))
    return Bound(
        active * (3.0 * on + off) ** 2, False, ("Gaussian read noise", "best bias", "vanishing error")
    )


def _sparse(n_features: Number, n_active: Number, *, at_least: int = 1) -> tuple[int, int]:
    features = as_count("n_features", n_features, at_least=2)
    active = as_count("n_active", n_active, at_least=at_least)
    if active > features:
        raise InputError(f"n_active: got {active}, wanted at most n_features = {features}. Lower n_active.")
    return features, active
