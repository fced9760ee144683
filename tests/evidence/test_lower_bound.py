"""The bound on the number of non-null pairs holds under dependence, finds planted ones, and knows when it is silent."""

from __future__ import annotations

import numpy as np
import pytest
from censuses import N_PAIRS, N_TWINS, dependent_p

from probekit.evidence.lower_bound import MIN_TWINS_FOR_BOUND, calibrated, departure, non_null, share_low


def test_null_layers_exceed_the_bound_no_more_often_than_stated() -> None:
    rng = np.random.default_rng(0)
    claimed = [
        bool(non_null(p[0], list(p[1:])).n_low) for p in (dependent_p(rng, N_TWINS + 1) for _ in range(300))
    ]
    # exact by exchangeability: the layer is the largest of 21 with chance 1/21; three standard errors of 300
    assert np.mean(claimed) <= 1 / 21 + 3 * np.sqrt(0.05 * 0.95 / 300)
    # the constant for independent p-values would not have held: dependence makes departures larger
    independent = calibrated([departure(rng.random(N_PAIRS)) for _ in range(99)])
    assert np.mean([share_low(dependent_p(rng, 1)[0], independent) > 0 for _ in range(200)]) > 0.15


def test_planted_pairs_are_counted_from_below() -> None:
    rng = np.random.default_rng(1)
    shift = np.where(np.arange(N_PAIRS) % 5 == 0, 3.0, 0.0)  # 200 of 1,000
    counts: list[int] = []
    for _ in range(60):
        twins = dependent_p(rng, N_TWINS)
        found = non_null(dependent_p(rng, 1, shift)[0], list(twins))
        assert found.control == 0 or found.n_low is None
        counts.append(found.n_low or 0)
    assert np.mean(np.array(counts) > 200) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    assert np.median(counts) > 60  # and it sees a good part of them


def test_p_values_out_of_order_are_withheld() -> None:
    rng = np.random.default_rng(2)
    found = non_null(dependent_p(rng, 1, -1.5)[0], list(dependent_p(rng, N_TWINS)))
    assert found.n_low is None
    assert found.control is not None
    assert found.control > 0
    assert "where it must say 0" in found.why_not


def test_too_few_twins_claim_nothing() -> None:
    rng = np.random.default_rng(3)
    found = non_null(dependent_p(rng, 1, 3.0)[0], list(dependent_p(rng, MIN_TWINS_FOR_BOUND - 1)))
    assert found.n_low is None
    assert found.why_not == "18 twins; 19 are needed for a 95 % constant"


def test_constant_is_the_stated_order_statistic() -> None:
    assert calibrated([float(i) for i in range(1, 20)]) == 19  # ⌈0.95 · 20⌉
    assert calibrated([float(i) for i in range(1, 100)]) == 95
    assert calibrated([-1.0] * 19) == 0.0
    assert departure(np.full(10, 0.002)) == pytest.approx((1 - 0.002) / np.sqrt(0.002 * 0.998))
