"""The bounds against exact integers, 50 digits, brute force, and the table of the theory."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.errors import InputError
from probekit.theory import bounds


def exact_bits(universe: int, selected: int, delta: str) -> float:
    errors = math.floor(Fraction(delta) * selected)
    ball = sum(math.comb(selected, e) * math.comb(universe - selected, e) for e in range(errors + 1))
    return math.log2(math.comb(universe, selected)) - math.log2(ball)


def printed_digits(printed: str) -> int:
    return len(printed.partition("e")[0].replace(".", ""))


def fifty_digits(universe: int, selected: int):
    with mpmath.workdps(50):
        log_of = lambda n: mpmath.loggamma(mpmath.mpf(n) + 1)
        return (log_of(universe) - log_of(selected) - log_of(universe - selected)) / mpmath.log(2)


@pytest.mark.parametrize("universe", [2, 3, 17, 31, 1000, 10**6, 49_995_000, 5 * 10**11, 10**15])
@pytest.mark.parametrize("share", [0.0, 1e-9, 1e-4, 0.03, 0.37, 0.5, 0.8, 1.0])
def test_log2_binomial_agrees_with_fifty_digits(universe: int, share: float) -> None:
    for selected in {int(share * universe), min(universe, int(share * universe) + 1)}:
        with mpmath.workdps(50):
            exact = fifty_digits(universe, selected)
            assert abs(mpmath.mpf(bounds.log2_binomial(universe, selected)) - exact) <= 1e-12 * abs(exact)


def test_log2_binomial_is_exact_for_every_small_case_and_differences_of_log_gamma_are_not() -> None:
    for universe in range(1, 60):
        for selected in range(universe + 1):
            exact = math.log2(math.comb(universe, selected))
            assert bounds.log2_binomial(universe, selected) == pytest.approx(exact, rel=1e-12, abs=1e-14)
    universe, selected = 5 * 10**11, 3
    naive = (
        math.lgamma(universe + 1) - math.lgamma(selected + 1) - math.lgamma(universe - selected + 1)
    ) / math.log(2)
    assert (
        abs(naive / bounds.log2_binomial(universe, selected) - 1) > 1e-8
    )  # the reason for the saddle-point form


@pytest.mark.parametrize(
    ("universe", "selected"), [(5, 5), (17, 3), (10**6, 999_999), (5 * 10**11, 12345), (40, 0)]
)
def test_arrangements_agree_with_fifty_digits(universe: int, selected: int) -> None:
    with mpmath.workdps(50):
        exact = (mpmath.loggamma(universe + 1) - mpmath.loggamma(universe - selected + 1)) / mpmath.log(2)
        got = bounds.log2_arrangements(universe, selected)
        assert abs(got - exact) <= 1e-12 * abs(exact) + mpmath.mpf(10) ** -14


def test_permutation_is_stirling() -> None:
    m = 10_000
    # m log2 m − 1.443 m + O(log m)
    assert float(bounds.permutation_bits(m)) == pytest.approx(m * math.log2(m) - 1.4427 * m, abs=10)
    assert float(bounds.permutation_bits(m, n_outputs=1)) == pytest.approx(math.log2(m))
    assert float(bounds.permutation_bits(m)) == bounds.log2_factorial(m)


@pytest.mark.parametrize("delta", ["0.0", "0.1", "0.25", "0.5", "0.9"])
def test_error_balls_agree_with_exact_integers(delta: str) -> None:
    for universe, selected in itertools.product([1, 2, 9, 40, 300], [0, 1, 7, 20, 33, 150, 290]):
        if selected <= universe:
            got = float(bounds.bits_needed(universe, selected, delta=float(delta)))
            # 1e-9: the difference of two numbers of up to 300 bits, each to 1e-12 of itself
            assert got == pytest.approx(max(0.0, exact_bits(universe, selected, delta)), abs=1e-9)


def test_a_large_error_ball_agrees_with_fifty_digits() -> None:
    universe, selected, errors = 100_000, 37_000, 3_700
    with mpmath.workdps(50):
        ball = mpmath.mpf(0)
        term = mpmath.mpf(1)
        for e in range(errors + 1):
            ball += term
            term *= mpmath.mpf(selected - e) * (universe - selected - e) / mpmath.mpf(e + 1) ** 2
        exact = fifty_digits(universe, selected) - mpmath.log(ball, 2)
    assert float(bounds.bits_needed(universe, selected, delta=0.1)) == pytest.approx(float(exact), rel=1e-11)


def test_the_peak_lies_below_half_when_errors_are_allowed() -> None:
    # M = 1e5, δ = .1: the peak of 57,418.4 bits stands near .37 M, at the end of a tooth; 53,107 bits are
    # left at M/2
    peak = max(range(35_000, 39_000), key=lambda m: float(bounds.bits_needed(100_000, m, delta=0.1)))
    assert peak % 10 == 9
    assert peak == pytest.approx(37_000, abs=500)
    assert float(bounds.bits_needed(100_000, peak, delta=0.1)) == pytest.approx(57_418.4, abs=0.1)
    assert float(bounds.bits_needed(100_000, 50_000, delta=0.1)) == pytest.approx(53_107, abs=0.5)
    assert not bounds.max_selected(n_universe=100_000, n_params=57_418, bits=1, delta=0.1).vacuous
    assert bounds.max_selected(n_universe=100_000, n_params=57_419, bits=1, delta=0.1).vacuous


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("delta", [0.0, 0.03, 0.1, 1 / 3, 0.5, 0.7])
def test_max_selected_is_the_one_before_the_first_that_does_not_fit(delta: float, labelled: bool) -> None:
    for universe in (1, 2, 3, 10, 57, 130):
        needed = [
            float(bounds.bits_needed(universe, m, delta=delta, labelled=labelled))
            for m in range(universe + 1)
        ]
        for budget in (1, 2, 5, 11, 30, 60, 100, 125, 400):
            first = next((m for m, bits in enumerate(needed) if bits > budget), None)
            got = bounds.max_selected(
                n_universe=universe, n_params=budget, bits=1, delta=delta, labelled=labelled
            )
            assert got.vacuous == (first is None), (universe, budget)
            assert float(got) == (universe if first is None else first - 1), (universe, budget)


def test_max_selected_fits_and_one_more_does_not_at_real_sizes() -> None:
    for delta, labelled in itertools.product((0.0, 0.1), (False, True)):
        cap = bounds.max_selected(
            n_concepts=10**6, n_params=2 * 1600 * 6400, bits=2, delta=delta, labelled=labelled
        )
        fits, exceeds = (
            float(bounds.bits_needed(499_999_500_000, m, delta=delta, labelled=labelled))
            for m in (int(cap.value), int(cap.value) + 1)
        )
        assert fits <= 2 * 1600 * 6400 * 2 < exceeds


@pytest.mark.parametrize(
    ("d", "n", "m", "bits", "printed"),
    [
        (64, 64, 10**3, 2, "1.7e3"), (64, 64, 10**4, 1, "450"), (64, 64, 10**4, 2, "957"),
        (64, 64, 10**4, 3.6, "1.8e3"), (64, 64, 10**4, 16, "9.5e3"), (64, 64, 10**5, 1, "323"),
        (64, 64, 10**5, 2, "675"), (64, 64, 10**5, 3.6, "1.3e3"), (64, 64, 10**5, 16, "6.2e3"),
        (64, 64, 10**6, 2, "524"),
        (256, 256, 10**3, 2, "5.9e4"), (256, 256, 10**3, 16, "vac"), (256, 256, 10**4, 1, "9.5e3"),
        (256, 256, 10**4, 2, "2.1e4"), (256, 256, 10**4, 3.6, "4.0e4"), (256, 256, 10**4, 16, "2.3e5"),
        (256, 256, 10**5, 1, "6.2e3"), (256, 256, 10**5, 2, "1.3e4"), (256, 256, 10**5, 3.6, "2.5e4"),
        (256, 256, 10**5, 16, "1.3e5"), (256, 256, 10**6, 2, "9.7e3"),
        (1024, 1024, 10**3, 2, "vac"), (1024, 1024, 10**4, 1, "2.3e5"), (1024, 1024, 10**4, 2, "5.2e5"),
        (1024, 1024, 10**4, 3.6, "1.1e6"), (1024, 1024, 10**4, 16, "8.8e6"), (1024, 1024, 10**5, 1, "1.3e5"),
        (1024, 1024, 10**5, 2, "2.7e5"), (1024, 1024, 10**5, 3.6, "5.1e5"), (1024, 1024, 10**5, 16, "2.7e6"),
        (1024, 1024, 10**6, 2, "1.8e5"),
        (512, 2048, 10**3, 2, "vac"), (512, 2048, 10**4, 2, "5.2e5"), (512, 2048, 10**5, 16, "2.7e6"),
        (768, 3072, 10**3, 2, "vac"), (768, 3072, 10**4, 1, "6.0e5"), (768, 3072, 10**4, 2, "1.4e6"),
        (768, 3072, 10**4, 3.6, "3.2e6"), (768, 3072, 10**4, 16, "vac"), (768, 3072, 10**5, 1, "3.1e5"),
        (768, 3072, 10**5, 2, "6.6e5"), (768, 3072, 10**5, 3.6, "1.3e6"), (768, 3072, 10**5, 16, "6.9e6"),
        (768, 3072, 10**6, 2, "4.4e5"),
        (1600, 6400, 10**4, 1, "4.1e6"), (1600, 6400, 10**4, 2, "1.3e7"), (1600, 6400, 10**4, 3.6, "vac"),
        (1600, 6400, 10**5, 1, "1.6e6"), (1600, 6400, 10**5, 2, "3.4e6"), (1600, 6400, 10**5, 3.6, "6.7e6"),
        (1600, 6400, 10**5, 16, "3.9e7"), (1600, 6400, 10**6, 2, "2.1e6"),
        (2304, 9216, 10**4, 1, "1.4e7"), (2304, 9216, 10**4, 2, "vac"), (2304, 9216, 10**5, 1, "3.6e6"),
        (2304, 9216, 10**5, 2, "7.9e6"), (2304, 9216, 10**5, 3.6, "1.6e7"), (2304, 9216, 10**5, 16, "9.5e7"),
        (2304, 9216, 10**6, 2, "4.7e6"),
        (4096, 14336, 10**4, 1, "vac"), (4096, 14336, 10**5, 1, "1.2e7"), (4096, 14336, 10**5, 2, "2.6e7"),
        (4096, 14336, 10**5, 3.6, "5.3e7"), (4096, 14336, 10**5, 16, "3.6e8"),
        (4096, 14336, 10**6, 2, "1.4e7"),
    ],
)  # fmt: skip
def test_table_of_capacities(d: int, n: int, m: int, bits: float, printed: str) -> None:
    cap = bounds.max_selected(n_concepts=m, n_params=bounds.layer_params(d, n, site="output"), bits=bits)
    assert cap.vacuous == (printed == "vac")
    if printed == "vac":
        assert float(cap) == math.comb(m, 2)
    else:
        n_digits = printed_digits(printed)
        assert float(f"{float(cap):.{n_digits - 1}e}") == float(printed)


@pytest.mark.parametrize(
    ("n", "natural", "binary"),
    [
        (64, "985", "683"), (256, "1.18e4", "8.2e3"), (1024, "1.51e5", "1.05e5"), (2048, "5.5e5", "3.8e5"),
        (3072, "1.18e6", "8.1e5"), (6400, "4.7e6", "3.2e6"), (9216, "9.3e6", "6.4e6"),
    ],
)  # fmt: skip
def test_table_of_references(n: int, natural: str, binary: str) -> None:
    for log, printed in (("e", natural), ("2", binary)):
        n_digits = printed_digits(printed)
        assert float(f"{float(bounds.asymptotic_features(n, log=log)):.{n_digits - 1}e}") == float(printed)


@settings(max_examples=40, deadline=None)
@given(
    universe=st.integers(1, 10**12),
    budget=st.integers(1, 10**9),
    delta=st.sampled_from([0.0, 0.01, 0.1, 0.25]),
    labelled=st.booleans(),
)
def test_the_capacity_fits_and_the_next_does_not(
    universe: int, budget: int, delta: float, labelled: bool
) -> None:
    cap = bounds.max_selected(n_universe=universe, n_params=budget, bits=1, delta=delta, labelled=labelled)
    needed = lambda m: float(bounds.bits_needed(universe, m, delta=delta, labelled=labelled))
    if cap.vacuous:
        assert all(needed(int(share * universe)) <= budget for share in (0.1, 0.3, 0.5, 0.7, 1.0))
    else:
        assert needed(int(cap.value)) <= budget < needed(int(cap.value) + 1)


def test_labelled_closed_form_of_the_theory() -> None:
    # m' ≤ P·b/log2 M: 3.7e5 for GPT-2-small at b = 2, m = 1e4; valid for m' ≪ M, where the exact count is a
    # little higher
    params = bounds.layer_params(768, 3072, site="output")
    exact = float(bounds.max_selected(n_concepts=10**4, n_params=params, bits=2, labelled=True))
    closed = params * 2 / math.log2(math.comb(10**4, 2))
    assert f"{closed:.1e}" == "3.7e+05"
    assert closed <= exact <= 1.01 * closed
    assert exact < float(bounds.max_selected(n_concepts=10**4, n_params=params, bits=2))


def test_error_tolerance_raises_the_capacity_by_15_to_30_percent() -> None:
    for d, m in ((64, 10**4), (256, 10**4), (1024, 10**5)):
        plain, tolerant = (
            float(bounds.max_selected(n_concepts=m, n_params=2 * d * d, bits=2, delta=delta))
            for delta in (0.0, 0.1)
        )
        assert 1.15 < tolerant / plain < 1.30


def test_monotone_in_every_argument() -> None:
    caps = [
        float(bounds.max_selected(n_universe=10**6, n_params=p, bits=2))
        for p in (10, 100, 1_000, 10_000, 100_000)
    ]
    assert caps == sorted(caps)
    assert len(set(caps)) == len(caps)
    by_universe = [
        float(bounds.max_selected(n_universe=u, n_params=1_000, bits=2)) for u in (10**4, 10**6, 10**9)
    ]
    assert by_universe == sorted(by_universe, reverse=True)
    for form in (bounds.asymptotic_features, bounds.min_neurons, bounds.min_params, bounds.sufficient_neurons,
                 bounds.sufficient_params):  # fmt: skip
        values = [float(form(n)) for n in (3, 10, 100, 10**4, 10**6)]
        assert values == sorted(values)


def test_order_of_the_asymptotic_forms() -> None:
    for m in (100, 10**6):
        assert float(bounds.min_neurons(m)) <= float(bounds.sufficient_neurons(m))
        assert float(bounds.min_neurons(m)) ** 2 == pytest.approx(float(bounds.min_params(m)))
        assert float(bounds.sufficient_neurons(m)) ** 2 == pytest.approx(float(bounds.sufficient_params(m)))
        assert float(bounds.min_neurons(m, log="2")) == pytest.approx(math.sqrt(m * math.log2(m)))


def test_smallest_binding_dictionary() -> None:
    # GPT-2-small at the output, b = 2
    params = bounds.layer_params(768, 3072, site="output")
    smallest = int(bounds.min_concepts_to_bind(params, 2).value)
    assert smallest == 4345
    # at the neurons of GPT-2-small, and of a gated 64 × 172 layer
    assert float(bounds.min_concepts_to_bind(bounds.layer_params(768, 3072), 2)) == 3075
    assert float(bounds.min_concepts_to_bind(bounds.layer_params(64, 172, gated=True), 2)) == 298
    assert bounds.max_selected(n_concepts=smallest - 1, n_params=params, bits=2).vacuous
    assert not bounds.max_selected(n_concepts=smallest, n_params=params, bits=2).vacuous


def test_layer_params() -> None:
    assert bounds.layer_params(768, 3072) == 3072 * 769
    assert bounds.layer_params(768, 3072, gated=True) == 2 * 3072 * 768
    assert bounds.layer_params(768, 3072, site="output") == 2 * 3072 * 768
    assert bounds.layer_params(768, 3072, site="output", gated=True) == 3 * 3072 * 768


def test_real_valued_weights_are_weaker_than_sixteen_bits() -> None:
    d, n, universe = 256, 256, math.comb(10**5, 2)
    params = bounds.layer_params(d, n, site="output")
    real = bounds.max_selected_real(
        n_universe=universe, n_params_in=n * (d + 1), n_params=params, n_neurons=n, n_inputs=10**7
    )
    assert not real.vacuous
    bits_per_parameter = bounds.log2_binomial(universe, int(real.value)) / params
    assert 16 < bits_per_parameter < 70  # 40–60 effective bits at realistic sizes
    allowed = lambda m: bounds.real_valued_bits(
        m, n_params_in=n * (d + 1), n_params=params, n_neurons=n, n_inputs=10**7
    )
    assert bounds.log2_binomial(universe, int(real.value)) <= allowed(int(real.value))
    assert bounds.log2_binomial(universe, int(real.value) + 1) > allowed(int(real.value) + 1)


def test_real_valued_bound_against_a_scan() -> None:
    sizes = {"n_params_in": 6, "n_params": 9, "n_neurons": 3, "n_inputs": 12}
    for universe in (30, 200, 400, 2_000):
        excess = [
            bounds.log2_binomial(universe, m) - bounds.real_valued_bits(m, **sizes)
            for m in range(1, universe)
        ]
        first = next((m for m, value in enumerate(excess, start=1) if value > 0), None)
        got = bounds.max_selected_real(n_universe=universe, **sizes)
        assert got.vacuous == (first is None)
        assert float(got) == (universe if first is None else first - 1)
    assert got.vacuous is False


def test_fano() -> None:
    exact = float(bounds.bits_needed(10**6, 100))
    assert float(bounds.fano_bits(10**6, 100, p_error=0.0)) == exact - 1
    assert float(bounds.fano_bits(10**6, 100, p_error=0.5)) == exact / 2 - 1
    assert bounds.fano_bits(10, 0, p_error=0.1).vacuous


def test_representation_bounds() -> None:
    assert float(bounds.jl_pairwise(1000, 0.1)) == pytest.approx(4 * math.log(1000) / 0.01)
    assert float(bounds.jl_pairwise(1000, 0.1, p_failure=0.01)) == pytest.approx(200 * math.log(1e6 / 0.01))
    assert float(bounds.jl_reading(1000, 3, p_failure=0.01)) == pytest.approx(24 * math.log(2e5))
    assert float(bounds.jl_worst_case(1000, 3)) == pytest.approx(144 * math.log(1000))
    assert float(bounds.welch_floor(10**6, 100)) == pytest.approx(0.1, rel=1e-3)  # d^{-1/2} for m ≫ d
    assert bounds.welch_floor(100, 100).vacuous
    assert float(bounds.information_floor(1000, 3, bits=2)) == pytest.approx(
        math.log2(math.comb(1000, 3)) / 2
    )
    # the finite-size form tends to 2k ln m from within a factor as m grows at fixed k
    ratios = [float(bounds.ball_and_box(10**p, 3)) / (6 * p * math.log(10)) for p in (6, 12, 100)]
    assert ratios == sorted(ratios, reverse=True)
    assert 1 < ratios[-1] < 1.5
    assert float(bounds.linear_access_needed(1000, 3)) < float(bounds.linear_access_enough(1000, 3))
    assert float(bounds.alon_floor(1000, 0.1)) < float(bounds.jl_pairwise(1000, 0.1))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: bounds.asymptotic_features(1), "n_neurons: got 1, wanted at least 2"),
        (lambda: bounds.asymptotic_features(10.5), "n_neurons: got 10.5, wanted a whole number"),
        (lambda: bounds.min_neurons(1), "n_features"),
        (lambda: bounds.log2_binomial(5, 6), "n_selected: got 6, wanted between 0 and 5"),
        (lambda: bounds.bits_needed(5, 2, delta=1.0), "delta"),
        (lambda: bounds.bits_needed(5, 2, delta=-0.1), "delta"),
        (lambda: bounds.bits_needed(5, 2, delta=0.123456), "four decimals"),
        (lambda: bounds.max_selected(n_params=10, bits=2), "exactly one"),
        (lambda: bounds.max_selected(n_params=10, bits=2, n_concepts=9, n_universe=9), "exactly one"),
        (lambda: bounds.max_selected(n_params=10, bits=0, n_concepts=9), "bits"),
        (lambda: bounds.max_selected(n_params=0, bits=1, n_concepts=9), "n_params"),
        (lambda: bounds.max_selected(n_params=10, bits=2, n_concepts=1), "n_concepts"),
        (lambda: bounds.layer_params(0, 3), "d_model"),
        (lambda: bounds.fano_bits(9, 3, p_error=1.0), "p_error"),
        (lambda: bounds.permutation_bits(3, n_outputs=4), "n_outputs"),
        (lambda: bounds.jl_pairwise(10, 1.0), "epsilon"),
        (lambda: bounds.jl_worst_case(10, 11), "n_active: got 11"),
        (lambda: bounds.jl_reading(10, 3, p_failure=0.0), "p_failure"),
        (lambda: bounds.welch_floor(1, 3), "n_features"),
        (lambda: bounds.alon_floor(100, 0.01), "epsilon"),
        (lambda: bounds.ball_and_box(6, 3), "n_features: got 6"),
        (lambda: bounds.information_floor(10, 3, bits=-1), "bits"),
        (
            lambda: bounds.real_valued_bits(1, n_params_in=10**6, n_params=10**6, n_neurons=2, n_inputs=3),
            "n_inputs",
        ),
    ],
    ids=itertools.count(),
)
def test_bad_parameters_are_named(call, match: str) -> None:
    with pytest.raises(InputError, match=match):
        call()
