"""The bound for sets chosen afterwards keeps its promise under dependence, sees planted pairs, and can be silent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from posthoc import (
    N_PAIRS,
    broken_by_parts,
    broken_by_pooling,
    clustered,
    equicorrelated,
    independent,
    promises,
    upper,
)
from scipy import stats

from probekit.errors import InputError, ShapeError
from probekit.evidence.at_least import (
    Calibration,
    at_least,
    calibrate,
    group_bounds,
    joint_levels,
    n_thresholds,
    summary_of,
)

N_DRAWS = 100
MOST_BROKEN = 0.05 + 3 * np.sqrt(0.05 * 0.95 / N_DRAWS)  # three standard errors above the stated 5 %


@pytest.mark.parametrize("draw", [independent, clustered, equicorrelated], ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("n_twins", [20, 40])
def test_no_set_is_promised_too_much(draw, n_twins: int) -> None:
    rng = np.random.default_rng(n_twins)
    null = promises(rng, N_DRAWS, draw=draw, n_twins=n_twins)
    assert null.broken.mean() <= MOST_BROKEN
    mixed = promises(rng, N_DRAWS, draw=draw, n_twins=n_twins, n_true=100, shift=3.0)
    assert mixed.broken.mean() <= MOST_BROKEN
    # the set picked by the smallest p-values, as a reader would
    assert (mixed.low_top > mixed.true_top).mean() <= MOST_BROKEN


@pytest.mark.parametrize("draw", [independent, clustered], ids=lambda draw: draw.__name__)
def test_strong_planted_pairs_are_mostly_counted(draw) -> None:
    got = promises(np.random.default_rng(1), 30, draw=draw, n_true=100, shift=4.0)
    assert np.median(got.low) > 50
    assert np.median(got.low_top) > 50


def test_independent_thresholds_would_break_their_promise() -> None:
    """Positive control of the coverage test: λ = 5 %, right for one threshold, is wrong for all of them at once."""
    rng = np.random.default_rng(2)
    naive = Calibration(0.05, 0.95, 99, N_PAIRS)
    broken = [at_least(upper(clustered(rng, 1)[0]), np.ones(N_PAIRS, bool), naive) > 0 for _ in range(100)]
    assert np.mean(broken) > 0.2


def test_a_pair_null_in_one_of_two_tests_is_null() -> None:
    """Twins judged by their largest p calibrate for pairs null in every test; pairs null in one would break it."""
    assert broken_by_parts(np.random.default_rng(3), N_DRAWS, smallest=True) <= MOST_BROKEN
    assert broken_by_parts(np.random.default_rng(3), N_DRAWS, smallest=False) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("draw", [independent, clustered], ids=lambda draw: draw.__name__)
def test_ranks_among_the_same_twins_will_do(draw) -> None:
    assert broken_by_pooling(np.random.default_rng(4), N_DRAWS, draw=draw) <= MOST_BROKEN


def brute(p: np.ndarray, chosen: np.ndarray, scale: float) -> int:
    """The bound as it is defined: by the Beta law of every order statistic."""
    m = len(p)
    best = 0
    for k in range(1, n_thresholds(m) + 1):
        n_below = sum(bool(stats.beta.cdf(x, k, m + 1 - k) < scale) for x in p[chosen])
        best = max(best, n_below - k + 1)
    return best


@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0.001, 0.5))
def test_fast_bound_is_the_definition(seed: int, n_pairs: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    p, chosen = rng.random(n_pairs) ** 3, rng.random(n_pairs) < 0.6
    calibration = Calibration(scale, 0.95, 20, n_pairs)
    assert at_least(p, chosen, calibration) == brute(p, chosen, scale)
    assert at_least(p, np.flatnonzero(chosen), calibration) == brute(p, chosen, scale)


@given(st.integers(0, 10_000))
def test_bound_grows_with_the_set_and_never_beyond_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random(60) ** 4
    calibration = Calibration(0.1, 0.95, 20, 60)
    small = rng.random(60) < 0.4
    large = small | (rng.random(60) < 0.4)
    low, high = at_least(p, small, calibration), at_least(p, large, calibration)
    assert 0 <= low <= high
    assert low <= small.sum()
    assert high <= large.sum()
    assert high - low <= large.sum() - small.sum()  # a pair more adds one at most
    assert at_least(p, np.zeros(60, bool), calibration) == 0
    assert at_least(p, np.arange(0), calibration) == 0


def test_parts_of_a_set_add_up_to_no_more_than_the_whole() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(200) ** 4
    calibration = Calibration(0.1, 0.95, 20, 200)
    kinds = rng.choice(["a", "b", "c"], 200).tolist()
    bounds = group_bounds(p, kinds, calibration)
    assert set(bounds) == {"a", "b", "c"}
    assert 0 < sum(bounds.values()) <= at_least(p, np.ones(200, bool), calibration)


def test_constant_is_the_stated_order_statistic() -> None:
    """With 19 twins λ is the smallest of the twins' own, and a twin's own p-values are then promised nothing."""
    rng = np.random.default_rng(6)
    twins = [rng.random(100) for _ in range(19)]
    calibration = calibrate(twins)
    own = joint_levels(np.stack(twins))
    assert calibration.scale == own.min()
    assert [at_least(p, np.ones(100, bool), calibration) for p in twins] == [0] * 19
    more = [rng.random(100) for _ in range(39)]
    assert calibrate(more).scale == np.sort(joint_levels(np.stack(more)))[1]  # ⌊0.05 · 40⌋ = 2
    wanted = min(stats.beta.cdf(0.5, k, 101 - k) for k in range(1, 11))
    assert joint_levels(np.full((1, 100), 0.5)) == pytest.approx(wanted)


def test_very_small_constants_have_thresholds() -> None:
    tiny = Calibration(1e-200, 0.95, 20, 1_000).thresholds()
    assert (np.diff(tiny) > 0).all()
    assert tiny[0] == pytest.approx(1e-203, rel=1e-6)  # 1 − (1 − x)^1000 = 1e-200
    # a twin with a p of 0 leaves nothing to be said, whatever the layer shows
    nothing = calibrate([np.zeros(50)] * 20)
    assert at_least(np.zeros(50), np.ones(50, bool), nothing) == 0


def test_too_few_twins_claim_nothing() -> None:
    twins = [np.full(10, 0.5)] * 18
    calibration = calibrate(twins)
    assert calibration.scale is None
    assert calibration.why_not == "18 twins; 19 are needed for 95% confidence"
    with pytest.raises(InputError, match="nothing can be said: 18 twins; 19 are needed"):
        at_least(np.full(10, 0.5), np.ones(10, bool), calibration)
    assert calibrate([], level=0.9).why_not == "0 twins; 9 are needed for 90% confidence"
    assert calibrate([np.full(10, 0.5)] * 9, level=0.9).scale is not None


def test_what_cannot_be_asked() -> None:
    calibration = calibrate([np.full(10, 0.5)] * 20)
    with pytest.raises(ShapeError, match="the p-values of 9 pairs, wanted those of all 10"):
        at_least(np.full(9, 0.5), np.ones(9, bool), calibration)
    with pytest.raises(InputError, match="got a p-value of nan"):
        at_least(np.full(10, np.nan), np.ones(10, bool), calibration)
    with pytest.raises(ShapeError, match=r"twins of \[9, 10\] pairs"):
        calibrate([np.full(10, 0.5), np.full(9, 0.5)])
    with pytest.raises(InputError, match=r"got level 1\.5"):
        calibrate([np.full(10, 0.5)] * 20, level=1.5)


def test_row_of_the_summary() -> None:
    rng = np.random.default_rng(7)
    shift = np.where(np.arange(N_PAIRS) < 100, 5.0, 0.0)
    parts = upper(np.stack([independent(rng, 1)[0] + shift, independent(rng, 1)[0] + shift]))
    twins = [upper(independent(rng, 2)) for _ in range(20)]
    row: Any = summary_of(parts, twins)
    assert list(row) == ["level", "lambda", "n_twins", "n_low", "control", "why_not"]
    calibration = calibrate([held.min(0) for held in twins])
    assert row["lambda"] == calibration.scale
    assert row["n_low"] == at_least(parts.max(0), np.ones(N_PAIRS, bool), calibration)
    assert 50 < row["n_low"] <= 100
    assert (row["level"], row["n_twins"], row["control"], row["why_not"]) == (0.95, 20, 0, "")


def test_row_is_withheld_without_twins_or_where_p_values_are_out_of_order() -> None:
    rng = np.random.default_rng(8)
    few = summary_of(upper(independent(rng, 2)), [upper(independent(rng, 2)) for _ in range(8)])
    assert (few["lambda"], few["n_low"], few["n_twins"]) == (None, None, 8)
    assert few["why_not"] == "8 twins; 19 are needed for 95% confidence"
    twins = [upper(independent(rng, 2)) for _ in range(20)]
    # a tail fitted beyond the twins, in whichever part, leaves the control its power
    twins[0][0, 0] = 1e-12
    below = summary_of(upper(independent(rng, 2) - 2.0), twins)
    assert below["n_low"] is None
    assert (below["control"] or 0) > 0
    assert "where it must say 0" in below["why_not"]
    # p-values at their upper end, as ranks have them, in the layer and in one twin alike
    twins[1][:, 3] = 1.0
    assert (summary_of(upper(independent(rng, 2) - 2.0), twins)["control"] or 0) > 0
