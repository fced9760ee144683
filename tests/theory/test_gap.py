"""The levels of the gap: values against 50 digits, limits, order in n and d, constructions that keep their promise."""

from __future__ import annotations

import itertools
import math
from typing import Any

import mpmath
import numpy as np
import pytest

import probekit as pk
from probekit.errors import InputError
from probekit.theory import bounds
from probekit.theory.circuits import dense_uand, permutation, two_and
from probekit.theory.circuits.predict import Channel
from probekit.theory.gap import permutation_features, two_and_low_features, worst_error
from probekit.theory.measure import measure, sample_reads

SIZES = [(64, 16), (512, 128), (512, 512), (3072, 768), (14_336, 4096), (100_000, 30_000)]
CLOSED = (
    "jl_reading",
    "jl_pairwise",
    "jl_worst_case",
    "orthogonal",
    "n2_over_ln_n",
    "linear_template",
    "random_layer",
)


def fifty_digits(n: int, d: int, s: int, epsilon: str, failure: str) -> dict[str, Any]:
    """log10 of every level with a closed form, written out from the theorems."""
    mp = mpmath.mpf
    eps, eta = mp(epsilon), mp(failure)
    # the two-valued layer {+1, −2}: c = E[sign sign relu | 11], second moment of relu over s random signs
    pre = lambda k: [sum(signs) for signs in itertools.product((1, -2), repeat=k)]
    mean = lambda values: mpmath.fsum(values) / len(values)
    relu = lambda level: [mp(max(level + one, 0)) for one in pre(s - 2)]
    c = (mean(relu(2)) - 2 * mean(relu(-1)) + mean(relu(-4))) / 4
    second = mean([mp(max(one, 0)) ** 2 for one in pre(s)])
    spread, bound = second / c**2, s / c + 1
    ln = {
        "jl_reading": mpmath.log(eta / 2) + mp(d) / (8 * s),
        "jl_pairwise": mp(d) * eps**2 / 4,
        "jl_worst_case": mp(d) / (16 * s**2),
        "orthogonal": mpmath.log(d),
        "n2_over_ln_n": 2 * mpmath.log(n) - mpmath.log(mpmath.log(n)),
        "linear_template": mpmath.log(d) * 3 / 2,
        # Bernstein at t = ½: n t²/2 / (variance + bound·t/3)
        "random_layer": mpmath.log(eta) + mp(n) / 8 / (spread + bound / 6),
    }
    return {key: value / mpmath.log(10) for key, value in ln.items()}


@pytest.mark.parametrize(("n", "d"), SIZES)
@pytest.mark.parametrize("s", [2, 3, 8])
def test_closed_levels_agree_with_fifty_digits(n: int, d: int, s: int) -> None:
    got = bounds.gap(n, d, n_active=s, epsilon=0.1, p_failure=0.05)
    with mpmath.workdps(50):
        for key, exact in fifty_digits(n, d, s, "0.1", "0.05").items():
            # a logarithm of 1e3 at most, to 1e-12 of itself; sums of two terms may cancel to 1e-12 of the larger
            assert abs(mpmath.mpf(got[key].log10) - exact) <= 1e-12 * max(1, abs(exact)), key


@pytest.mark.parametrize(("n", "d"), SIZES)
def test_the_represented_levels_are_the_bounds_turned_around(n: int, d: int) -> None:
    """jl_* say the dimensions of m features, the levels the features of d dimensions: one relation read both ways."""
    got = bounds.gap(n, d, epsilon=0.3, p_failure=0.02)
    forms = {
        "jl_reading": lambda m: bounds.jl_reading(m, 3, p_failure=0.02),
        "jl_pairwise": lambda m: bounds.jl_pairwise(m, 0.3),
        "jl_worst_case": lambda m: bounds.jl_worst_case(m, 3),
    }
    checked = 0
    for key, dimensions in forms.items():
        if 1e4 < got[key].features < 1e300:
            # m is rounded to a whole number: at 1e4 that moves ln m by 5e-5 at most, of a dimension's 9.2
            assert float(dimensions(round(got[key].features))) == pytest.approx(d, rel=1e-5)
            checked += 1
    assert checked or d < 400


@pytest.mark.parametrize(
    ("n", "d", "b"), [(64, 16, 2.0), (512, 512, 16.0), (3072, 768, 2.0), (14_336, 4096, 2.0)]
)
@pytest.mark.parametrize("gated", [False, True])
def test_the_exact_count_is_the_last_that_fits_by_fifty_digits(n: int, d: int, b: float, gated: bool) -> None:
    level = bounds.gap(n, d, bits=(b,), n_concepts=100_000, gated=gated)[f"selectable_{b:g}_bits"]
    held = round(level.features)
    budget = (2 * n * d if gated else n * (d + 1)) * b
    pairs = 100_000 * 99_999 // 2
    with mpmath.workdps(50):
        log2_choose = lambda m: (
            (
                mpmath.loggamma(mpmath.mpf(pairs) + 1)
                - mpmath.loggamma(mpmath.mpf(m) + 1)
                - mpmath.loggamma(mpmath.mpf(pairs - m) + 1)
            )
            / mpmath.log(2)
        )
        assert log2_choose(held) <= budget < log2_choose(held + 1)
    assert not level.vacuous


def test_every_level_grows_with_neurons_and_with_dimensions() -> None:
    widths = [(n, d) for n in (64, 256, 512, 1024, 4096) for d in (64, 256, 512, 1024, 4096)]
    found = {size: bounds.gap(*size) for size in widths}
    for (n0, d0), (n1, d1) in itertools.product(widths, widths):
        if n0 <= n1 and d0 <= d1:
            for level in found[n0, d0].levels:
                assert level.log10 <= found[n1, d1][level.key].log10, (level.key, (n0, d0), (n1, d1))
    # and it does grow: no level stands still over the whole grid
    assert all(level.log10 < found[4096, 4096][level.key].log10 for level in found[64, 64].levels)


def test_representing_is_exponentially_cheaper_than_computing() -> None:
    """ln m over d tends to its theorem's constant, while every computable level is polynomial in the size."""
    small, large = bounds.gap(20_000, 20_000), bounds.gap(40_000, 40_000)
    for key, rate in (("jl_reading", 1 / 24), ("jl_pairwise", 1 / 64), ("jl_worst_case", 1 / 144)):
        slope = (large[key].log10 - small[key].log10) * math.log(10) / 20_000
        assert slope == pytest.approx(rate, rel=1e-12)  # exact but for rounding
    for key, least, most in (
        ("n2_over_ln_n", 1.8, 2.0), ("linear_template", 1.5, 1.5), ("permutation", 1.9, 2.1), ("two_and_low", 1.9, 2.1),
    ):  # fmt: skip
        exponent = (large[key].log10 - small[key].log10) / math.log10(2)
        assert least - 1e-9 <= exponent <= most + 1e-9, key
    assert large["jl_reading"].features == math.inf
    assert large["jl_reading"].log10 == pytest.approx(math.log10(0.005) + 40_000 / 24 * math.log10(math.e))


@pytest.mark.parametrize(("n_features", "d"), [(768**2, 768), (1000, 64), (10**9, 512), (50, 50)])
def test_linear_and_threshold_readouts_by_fifty_digits(n_features: int, d: int) -> None:
    got = bounds.readouts(n_features, d, n_active=3)
    with mpmath.workdps(50):
        total, width = mpmath.mpf(n_features), mpmath.mpf(d)
        share = 3 / total
        linear = mpmath.sqrt(share * (1 - share) * (total - width) / width)
        overlap = mpmath.sqrt((total - width) / (width * (total - 1)))
        wrong = mpmath.exp(-width / 24)
        for value, exact in (
            (got.linear_rms, linear), (got.linear_overlap, overlap), (got.threshold_error, wrong),
            (got.expected_wrong, total * wrong),
        ):  # fmt: skip
            assert abs(value - exact) <= 1e-12 * max(exact, mpmath.mpf(1e-30))


def test_no_linear_readout_beats_the_floor_and_tight_frames_meet_it() -> None:
    rng = np.random.default_rng(0)
    d, total, s = 24, 96, 3
    floor = bounds.readouts(total, d, n_active=s).linear_rms
    share = s / total

    def rms(code: np.ndarray, readout: np.ndarray) -> float:
        reads = readout @ code
        reads = reads / np.diag(reads)[:, None]
        off = (reads**2).sum(1) - 1.0
        return float(np.sqrt(share * (1 - share) * off.mean()))

    code = rng.standard_normal((d, total))
    code /= np.linalg.norm(code, axis=0)
    for readout in (code.T, np.linalg.pinv(code), code.T @ np.linalg.inv(code @ code.T + np.eye(d))):
        assert rms(code, readout) >= floor
    # four orthonormal bases are a unit-norm tight frame; equality but for rounding
    bases = np.hstack([np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(4)])
    assert rms(bases, bases.T) == pytest.approx(floor, rel=1e-10)


def test_the_threshold_bound_holds_and_is_not_empty() -> None:
    rng = np.random.default_rng(1)
    d, s, n_draws = 48, 3, 20_000
    signs = rng.choice((-1.0, 1.0), size=(n_draws, s, d))
    own = rng.choice((-1.0, 1.0), size=(n_draws, d))
    noise = np.einsum("nsd,nd->n", signs, own) / d
    share = float((noise >= 0.5).mean())
    bound = bounds.readouts(1000, d, n_active=s).threshold_error
    # exp(−2) = .135 bounds a normal tail of Φ̄(2) = .023; three standard errors of 20,000 draws are .003
    assert 0.015 < share < bound


def test_the_built_levels_are_the_last_that_are_predicted_to_work_and_do_work() -> None:
    n, d, s, error = 512, 512, 3, 0.01
    most = two_and_low_features(n, d, s, 5, error)
    channel = lambda m: Channel(2, s, m, 1 - (1 - 5 / n) ** 2, 1 / 5, d)
    assert worst_error(channel(most)) <= error < worst_error(channel(most + 1))
    built = two_and(pairs=most, n_concepts=most, n_neurons=n, d_model=d, seed=0)
    far = two_and(pairs=4 * most, n_concepts=4 * most, n_neurons=n, d_model=d, seed=0)
    # readouts are not normal: within a factor of two of the 1 % it is made for, four times as many far beyond it
    assert measure(built, n_inputs=2_000, seed=1).worst_error < 0.02
    assert measure(far, n_inputs=2_000, seed=1).worst_error > 0.04
    moved = permutation_features(d, s, error)
    assert (
        measure(permutation(n_concepts=moved, d_model=d, seed=0), n_inputs=2_000, seed=1).worst_error < 0.02
    )
    # theory's closed form at 1 %: (0.046 − 2s/d)·d²/s, which takes both sds alike
    assert moved == pytest.approx((0.046 - 2 * s / d) * d**2 / s, rel=0.12)


def test_a_random_layer_reads_as_many_pairs_as_the_theorem_says() -> None:
    """At n = 600 one input is read wrong anywhere among the level's pairs with chance 1 % at most."""
    level = bounds.gap(600, 64)["random_layer"]
    n_pairs = int(level.features)
    assert 10 < n_pairs < 1000
    wrong = 0
    for seed in range(40):
        circuit = dense_uand(n_concepts=60, n_neurons=600, n_active=3, pairs=n_pairs, seed=seed)
        reads, truth = sample_reads(circuit, n_inputs=n_pairs, seed=seed)
        wrong += int(((reads > 0.5) != truth).any())
    # four patterns a draw, 40 draws: 1.6 expected at the most if the theorem were tight; it is far from that
    assert wrong <= 4


def test_the_table_and_the_observed_count() -> None:
    found = pk.bounds.gap(512, 128, observed=28, interval=(11, 40), bits=(1, 2, 16))
    frame = found.frame().set_index("key")
    assert frame.loc["observed", "features"] == pytest.approx(28)
    assert (frame.loc["observed", "low"], frame.loc["observed", "high"]) == (11, 40)
    assert {"selectable_1_bits", "selectable_2_bits", "selectable_16_bits"} <= set(frame.index)
    assert found["observed"].log10 < found["n2_over_ln_n"].log10
    assert pk.bounds.gap(512, 128, observed=0)["observed"].features == 0
    assert bool(pk.bounds.gap(3072, 768, n_concepts=100)["selectable_2_bits"].vacuous)
    assert "observed" not in pk.bounds.gap(512, 128).frame()["key"].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_neurons": 4, "d_model": 4}, r"n_neurons: got 4, wanted at least 8"),
        ({"n_neurons": 64, "d_model": 0}, r"d_model: got 0"),
        ({"n_neurons": 64, "d_model": 8, "n_active": 1}, r"n_active: got 1"),
        ({"n_neurons": 64, "d_model": 8, "bits": ()}, r"bits: got none"),
        ({"n_neurons": 64, "d_model": 8, "observed": -1}, r"observed, interval: got -1"),
        ({"n_neurons": 64, "d_model": 8, "observed": 5, "interval": (7, 6)}, r"low ≤ high"),
        ({"n_neurons": 64, "d_model": 8, "epsilon": 1.5}, r"epsilon: got 1.5"),
    ],
)
def test_bad_sizes_are_refused_by_name(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bounds.gap(**arguments)


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(InputError, match=r"level: got 'nobody', wanted one of jl_reading"):
        _ = bounds.gap(64, 8)["nobody"]
    with pytest.raises(InputError, match=r"n_features: got 2, wanted at least n_active = 3"):
        bounds.readouts(2, 8, n_active=3)
