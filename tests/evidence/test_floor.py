"""What a run could find at best is what the procedures name when fed the most extreme values there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.errors import InputError
from probekit.evidence.floor import USUAL_D, floor
from probekit.evidence.nulls import Standardised, compress, leave_one_out, pooled_p


def named(p: np.ndarray, q: float, fdr: str) -> int:
    """Pairs named by the step-up rule as it is written in the papers."""
    m = len(p)
    by = sum(1 / i for i in range(1, m + 1)) if fdr == "by" else 1.0
    ordered = np.sort(p)
    passed = [k for k in range(1, m + 1) if ordered[k - 1] <= k * q / (m * by)]
    return max(passed, default=0)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(3, 25),
    st.sampled_from([0.0103, 0.0507, 0.1013, 0.2511]),
    st.sampled_from(["bh", "by"]),
)
def test_fewest_nameable_is_brute_force_on_the_most_extreme_values(
    sizes, n_twins: int, q: float, fdr
) -> None:
    """n pairs above every twin value, the others below: ranks by `pooled_p`, named by the textbook's rule.

    The levels are crooked so that no p-value equals its threshold, where rounding would decide.
    """
    strata = np.repeat(np.arange(len(sizes)), sizes)
    # the largest strata have the smallest p: their pairs first
    order = np.argsort(-np.repeat(sizes, sizes), kind="stable")
    twins = np.random.default_rng(0).standard_normal((n_twins, len(strata)))
    fewest, smallest = None, None
    for n in range(1, len(strata) + 1):
        layer = np.full(len(strata), -99.0)
        layer[order[:n]] = 99.0
        p = np.ones(len(strata))
        for stratum in set(strata.tolist()):
            inside = strata == stratum
            alike = np.ones(inside.sum(), int)
            p[inside] = pooled_p(Standardised(layer[inside], twins[:, inside]), alike, tail=False)
        smallest = p.min() if smallest is None else smallest
        if named(p, q, fdr):
            fewest = n
            break
    got = floor(len(strata), n_twins, q, strata=sizes, fdr=fdr, tail=False)
    assert got["smallest_p"] == pytest.approx(smallest, rel=1e-12)
    assert got["fewest_nameable"] == fewest
    assert (got["detectable_d"] is None) == (fewest is None)


def test_numbers_that_are_known() -> None:
    """Four strata and no tail: 2,000 pairs and 20 twins name 4 or none, and 300 pairs in one with 8 twins 3 or none."""
    strata = floor(2_000, 20, 0.05, strata=[500] * 4, tail=False)
    assert strata["fewest_nameable"] == 4
    assert strata["smallest_p"] == 1 / 10_001
    assert "4 strata of 500 to 500 pairs" in strata["assumptions"]
    assert floor(300, 8, 0.05, tail=False)["fewest_nameable"] == 3
    assert floor(2_000, 20, 0.05, tail=False)["fewest_nameable"] == 1
    assert floor(2_000, 8, 0.05, tail=False)["fewest_nameable"] == 3


def test_a_fitted_tail_has_no_floor_where_it_is_fitted() -> None:
    """What `pooled_p` gives a pair far beyond all twins: below its rank with many twin values, its rank with few."""
    for n_pairs, n_twins in ((300, 8), (40, 8)):
        twins = np.random.default_rng(1).standard_normal((n_twins, n_pairs))
        far = pooled_p(Standardised(np.full(n_pairs, 1e6), twins), np.ones(n_pairs, int)).min()
        got = floor(n_pairs, n_twins, 0.05)
        rank = 1 / (n_twins * n_pairs + 1)
        assert (far < rank) == (got["smallest_p"] == 0) == ("a tail fitted" in got["assumptions"])
    assert floor(300, 8, 0.05)["fewest_nameable"] == 1
    assert floor(40, 8, 0.05)["smallest_p"] == rank


def test_storey_can_name_where_half_of_the_pairs_stand_out() -> None:
    """Benjamini–Hochberg fails where p ≥ q even for all pairs; Storey's divides by the share of nulls."""
    assert floor(10, 3, 0.03, fdr="bh")["fewest_nameable"] is None
    assert floor(10, 3, 0.03, fdr="storey")["fewest_nameable"] is not None


@pytest.mark.parametrize("tail", [True, False])
def test_a_pair_at_the_detectable_d_is_just_named(tail: bool) -> None:
    """Put into a layer of no other finds, usual pairs reach the p they need at the detectable d′, and not much below."""
    rng = np.random.default_rng(0)
    n_pairs, n_twins = 400, 20
    d_twins = np.sinh(np.arcsinh(1.0) + 0.24 * rng.standard_normal((n_twins, n_pairs)))
    got: Any = floor(n_pairs, n_twins, 0.05, d_twins=d_twins, tail=tail)
    assert "this layer's 20 twins" in got["assumptions"]
    assert got["fewest_nameable"] == 1
    twins = np.arcsinh(d_twins / np.median(np.abs(d_twins)))
    mean, spread = twins.mean(0), twins.std(0, ddof=1)
    usual = int(np.argmin(abs(mean - np.median(mean)) + abs(spread - np.median(spread))))

    def is_named(d_prime: float) -> bool:
        layer = np.full(n_pairs, np.median(d_twins))
        layer[usual] = d_prime
        p = pooled_p(leave_one_out(*compress(layer, d_twins)), np.ones(n_pairs, int), tail)
        return bool(p[usual] <= 0.05 / n_pairs)

    # no pair is usual in mean and spread at once: a tenth above, a fifth below
    assert is_named(1.1 * got["detectable_d"])
    assert not is_named(0.8 * got["detectable_d"])
    # the defaults know only how many twins there are: heavier tails than those of twins that all scatter alike
    usual_d: Any = floor(n_pairs, n_twins, 0.05, tail=tail)["detectable_d"]
    assert got["detectable_d"] < usual_d < 1.6 * got["detectable_d"]


def test_more_twins_detect_less() -> None:
    d: Any = [floor(2_000, n, 0.05)["detectable_d"] for n in (8, 20, 40)]
    assert d[0] > d[1] > d[2] > 2 * USUAL_D


def test_without_twins_nothing_can_be_found() -> None:
    for n_twins in (0, 2):
        got = floor(100, n_twins, 0.05)
        assert (got["smallest_p"], got["fewest_nameable"], got["detectable_d"]) == (None, None, None)
        assert got["assumptions"].startswith(f"{n_twins} twins: no pair")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 20, 0.05), {}), "got 0 pairs and 20 twins"),
        (((10, 20, 1.5), {}), r"got q = 1\.5, wanted a false"),
        (
            ((10, 20, 0.05), {"strata": [4, 4]}),
            r"got strata of \[4, 4\] pairs; wanted whole numbers that sum to 10",
        ),
    ],
)
def test_what_has_no_floor(arguments, message: str) -> None:
    positional, keywords = arguments
    with pytest.raises(InputError, match=message):
        floor(*positional, **keywords)
