"""Each null by itself: calibrated where it holds, and seeing what it is there to see."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from readings import made_up

from probekit.evidence.contrast import p_not_exceeding
from probekit.evidence.decide import Tested as StudiedPairs
from probekit.evidence.decide import twin_p_values
from probekit.evidence.null_comparison import Null, flagged, in_place, nothing_read, p_matched, p_values

PAIRS = np.array(list(itertools.combinations(range(30), 2)))
TESTED = StudiedPairs(PAIRS, 30, np.full(len(PAIRS), 100), 0.05)
LEVEL = np.random.default_rng(9).exponential(1.0, len(PAIRS))


def drawn(seed: int, n: int = 1):
    rng = np.random.default_rng([seed, 1])
    return [made_up(LEVEL + 0.3 * rng.standard_normal(len(PAIRS)), se=0.1) for _ in range(n)]


def frequencies(seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 2])
    n11 = rng.integers(60, 2_000, len(PAIRS))
    return np.stack(
        [n11, rng.integers(60, 5_000, len(PAIRS)), rng.integers(60, 5_000, len(PAIRS)), 50_000 + 0 * n11], 1
    )


def test_each_way_is_the_test_it_names() -> None:
    (layer,), draws, counts = drawn(0), tuple(drawn(1, 6)), frequencies(0)
    _, p_twin, p_pair = twin_p_values(layer.d_prime, np.stack([d.d_prime for d in draws]), TESTED)
    assert np.array_equal(p_values(Null("a", "draws", draws), layer, TESTED, counts), p_twin)
    assert np.array_equal(p_values(Null("b", "specific", draws), layer, TESTED, counts), p_pair)
    rivals = p_values(Null("c", "rivals", draws[:2]), layer, TESTED, counts)
    assert np.array_equal(rivals, p_not_exceeding(layer, list(draws[:2])))
    matched = p_values(Null("d", "pairs"), layer, TESTED, counts)
    assert np.array_equal(matched, p_matched(layer.d_prime, counts))


def test_too_few_draws_are_not_usable() -> None:
    draws = tuple(drawn(1, 3))
    assert [Null("a", "draws", draws[:n]).usable for n in range(4)] == [False, False, False, True]
    assert [Null("a", "rivals", draws[:n]).usable for n in range(2)] == [False, True]
    assert Null("a", "pairs").usable


def test_draws_in_each_others_place_are_calibrated() -> None:
    """P(p ≤ t) near t over 15 sets of draws; and a layer beyond them is found."""
    shares = []
    for seed in range(15):
        null = Null("a", "draws", tuple(drawn(seed, 8)))
        p = in_place(null, TESTED)
        assert len(p) == 8
        shares.append([[(q <= t).mean() for t in (0.01, 0.1)] for q in p])
    low, tenth = np.mean(shares, axis=(0, 1))
    # over 52,200 p-values; draws of one set share their nulls, hence the slack
    assert low == pytest.approx(0.01, rel=0.2)
    assert tenth == pytest.approx(0.1, rel=0.1)
    lifted = made_up(LEVEL + 3.0 * (np.arange(len(PAIRS)) % 29 == 0), se=0.1)
    found = flagged(Null("a", "draws", tuple(drawn(3, 8))), lifted, TESTED, frequencies(0))
    assert found[::29].all()
    assert found.sum() <= 1.2 * found[::29].sum()


def test_rivals_and_pairs_have_no_draws_to_put_in_place() -> None:
    draws = tuple(drawn(1, 6))
    assert in_place(Null("a", "rivals", draws), TESTED) == []
    assert in_place(Null("a", "pairs"), TESTED) == []
    assert in_place(Null("a", "draws", draws[:3]), TESTED) == []


class TestMatched:
    def test_it_takes_out_what_frequency_brings(self) -> None:
        """d′ that follows from the frequency alone: nobody stands out, though the frequent pairs are far above the rest."""
        counts = frequencies(4)
        rng = np.random.default_rng(4)
        by_frequency = np.log(counts[:, 0] / 60) * 2
        d = np.sinh(by_frequency / 3) + 0.02 * rng.standard_normal(len(PAIRS))
        assert TESTED.adjusted(p_matched(d, counts)).min() > 0.01
        # the same values dealt out anew: no frequency to explain them, and a pair lifted beyond its like is found
        lifted = d.copy()
        lifted[:5] = np.sinh((by_frequency[:5] + 30) / 3)
        assert (TESTED.adjusted(p_matched(lifted, counts))[:5] <= 0.05).all()

    def test_it_is_calibrated_for_values_of_one_shape(self) -> None:
        p = np.concatenate(
            [
                p_matched(2 + 0.5 * np.random.default_rng([s, 3]).standard_normal(len(PAIRS)), frequencies(s))
                for s in range(60)
            ]
        )
        # the scale comes from 30 values below the median: known to 15 %, which widens the tail a little
        assert (p <= 0.1).mean() == pytest.approx(0.1, rel=0.15)
        assert (p <= 0.01).mean() <= 0.02

    def test_no_pair_and_few_pairs_claim_nothing(self) -> None:
        assert p_matched(np.array([5.0]), frequencies(0)[:1]).tolist() == [1.0]
        assert (p_matched(np.arange(20.0), frequencies(0)[:20]) == 1.0).all()

    def test_equal_values_do_not_fail(self) -> None:
        p = p_matched(np.full(len(PAIRS), 2.0), frequencies(0))
        assert np.array_equal(p, np.full(len(PAIRS), 0.5))


def test_the_labels_alone_read_nothing() -> None:
    (layer,) = drawn(0)
    nothing = nothing_read(layer)
    assert not nothing.d_prime.any()
    assert not nothing.d_influence.any()
    # to exceed it is to have a d′ above 0 by its own error
    p = p_values(Null("labels", "rivals", (nothing,)), layer, TESTED, frequencies(0))
    assert ((p < 0.05) == (layer.d_prime / 0.1 > 1.6694)).all()  # Student's t, 63 degrees of freedom
