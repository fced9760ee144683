"""The decision: Benjamini–Hochberg as the oracle has it, and what may be said without twins or linear sites."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from readings import made_up
from statsmodels.stats.multitest import multipletests

from probekit.evidence.contrast import Contrast
from probekit.evidence.decide import Tested as StudiedPairs
from probekit.evidence.decide import adjusted, decide, decide_twins

PAIRS = np.array(list(itertools.combinations(range(24), 2)))
TESTED = StudiedPairs(PAIRS, 24, np.full(len(PAIRS), 100), 0.05)


def twin_contrasts(n_twins: int, seed: int = 0) -> list[Contrast]:
    rng = np.random.default_rng(seed)
    level = np.random.default_rng(99).exponential(1.0, len(PAIRS))  # of the pairs, the same for all twins
    return [made_up(level + 0.3 * rng.standard_normal(len(PAIRS)), se=0.1) for _ in range(n_twins)]


def silent() -> Contrast:
    return made_up(np.full(len(PAIRS), -1.0), se=0.1)


@pytest.mark.parametrize("n", [1, 2, 7, 500])
def test_adjusted_values_are_those_of_statsmodels(n: int) -> None:
    rng = np.random.default_rng(n)
    for p in (rng.random(n), np.round(rng.random(n), 1).clip(0.1), np.full(n, 0.03), rng.random(n) ** 4):
        reject, expected, *_ = multipletests(p, alpha=0.05, method="fdr_bh")
        np.testing.assert_allclose(adjusted(p), np.asarray(expected), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(adjusted(p) <= 0.05, np.asarray(reject))
    assert len(adjusted(np.array([]))) == 0


def test_rungs_are_those_of_their_p_values_and_computed_lies_within_above() -> None:
    twins = twin_contrasts(12)
    found, relayed = np.zeros(len(PAIRS), bool), np.zeros(len(PAIRS), bool)
    found[::17], relayed[5::17] = True, True
    base = twin_contrasts(1, seed=5)[0].d_prime
    layer = made_up(base + 6 * found + 6 * relayed, se=0.1, d_relay=base + 6 * found)
    decision = decide(layer, twins, [], TESTED)
    assert decision.p_twin is not None
    assert decision.p_relay is not None
    assert decision.p_pair is not None
    assert decision.above_plain is not None
    assert decision.above_twins is not None
    assert decision.relayed is not None
    assert decision.computed is not None
    np.testing.assert_array_equal(decision.above_plain, adjusted(decision.p_twin) <= 0.05)
    np.testing.assert_array_equal(decision.above_twins, adjusted(decision.p_relay) <= 0.05)
    worst = np.maximum(decision.p_relay, decision.p_pair)
    np.testing.assert_array_equal(decision.p_decision, worst)
    np.testing.assert_array_equal(decision.computed, adjusted(worst) <= 0.05)
    np.testing.assert_array_equal(decision.relayed, decision.above_plain & ~decision.above_twins)
    assert not (decision.computed & ~decision.above_twins).any()
    # what the layer reads only while the input's own interaction is left in is relayed; what it reads without is computed
    assert decision.relayed[relayed].mean() > 0.9
    assert not decision.computed[relayed].any()
    assert decision.computed[found].mean() > 0.9
    assert decision.computed[~found].mean() < 0.02


def test_linear_sites_at_matched_budgets_are_shown_and_decide_nothing() -> None:
    twins = twin_contrasts(12)
    layer = made_up(twins[0].d_prime + 6.0 * (np.arange(len(PAIRS)) % 17 == 0), se=0.1)
    as_good = decide(layer, twins, [(layer, silent()), (layer, layer)], TESTED)
    better = decide(layer, twins, [(layer, silent()), (layer, silent())], TESTED)
    assert as_good.beyond_linear is not None
    assert better.beyond_linear is not None
    assert not as_good.beyond_linear.any()  # one rival that reads as well is enough
    assert better.beyond_linear.any()
    assert as_good.computed is not None
    assert as_good.computed.any()
    np.testing.assert_array_equal(as_good.computed, better.computed)


def test_without_twins_or_relays_nothing_is_said_of_computation() -> None:
    layer = made_up(np.full(len(PAIRS), 5.0), se=0.1)
    alone = decide(layer, [], [(layer, silent())], TESTED)
    assert alone.computed is alone.above_twins is alone.above_plain is alone.relayed is alone.z is None
    assert alone.beyond_linear is not None
    assert alone.beyond_linear.all()
    blind = decide(layer, [], [], TESTED)
    assert blind.p_vs_linear is None
    assert blind.beyond_linear is None
    assert blind.raw.all()
    # twins whose relays were not removed: plain twins are answered, the rest is not
    plain = [made_up(twin.d_prime, relays=False) for twin in twin_contrasts(6)]
    half = decide(layer, plain, [], TESTED)
    assert half.above_plain is not None
    assert half.computed is half.above_twins is half.relayed is None


def test_epsilon_decisions_use_their_own_test() -> None:
    p_epsilon = np.ones(len(PAIRS))
    p_epsilon[:10] = 1e-6
    layer = made_up(np.zeros(len(PAIRS)), p_epsilon=p_epsilon)
    np.testing.assert_array_equal(np.flatnonzero(decide(layer, [], [], TESTED).represented), np.arange(10))


def test_a_twin_in_the_layers_place_is_judged_by_the_others() -> None:
    twins = twin_contrasts(8)
    assert decide_twins(twins[:3], TESTED) == []
    decisions = decide_twins(twins, TESTED)
    assert len(decisions) == 8
    by_hand = decide(twins[2], twins[:2] + twins[3:], [], TESTED)
    np.testing.assert_array_equal(decisions[2].p_twin, by_hand.p_twin)
    np.testing.assert_array_equal(decisions[2].q_computed, by_hand.q_computed)


def test_layers_that_are_one_more_twin_are_rarely_flagged() -> None:
    n_draws, flagged, found = 60, 0, 0
    for draw in range(n_draws):
        contrasts = twin_contrasts(13, seed=100 + draw)
        decision = decide(contrasts[0], contrasts[1:], [], TESTED)
        assert decision.computed is not None
        flagged += bool(decision.computed.any())
        lifted = made_up(contrasts[0].d_prime + 4.0 * (np.arange(len(PAIRS)) % 40 == 0), se=0.1)
        spiked = decide(lifted, contrasts[1:], [], TESTED)
        assert spiked.computed is not None
        found += bool(spiked.computed.any())
    # any flag at all under the null: at most q, 3 s.e. of a share of 5 % among 60 draws
    assert flagged / n_draws <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_draws)
    assert found / n_draws > 0.9


@pytest.mark.parametrize("n", [1, 7, 500])
def test_yekutieli_is_that_of_statsmodels_and_storey_lies_below_hochberg(n: int) -> None:
    rng = np.random.default_rng(n)
    for p in (rng.random(n), rng.random(n) ** 4):
        _, expected, *_ = multipletests(p, alpha=0.05, method="fdr_by")
        np.testing.assert_allclose(adjusted(p, "by"), np.asarray(expected), rtol=0, atol=1e-12)
        assert (adjusted(p, "storey") <= adjusted(p)).all()
    assert (
        adjusted(np.full(n, 0.9), "storey") == adjusted(np.full(n, 0.9))
    ).all()  # no share below 1 to be had


def test_storey_takes_the_share_of_nulls_into_account() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(6_000), rng.random(4_000) ** 12])
    # six tenths are null: 3,000 of 10,000 above ½, known to half a per cent, plus those few others
    ratio = adjusted(p, "storey") / adjusted(p)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)
    assert 0.58 < ratio[0] < 0.68


def test_the_chosen_control_decides() -> None:
    twins = twin_contrasts(8)
    strong = made_up(np.where(np.arange(len(PAIRS)) < 12, 8.0, 1.0), se=0.1)
    counts: dict[str, int] = {}
    for fdr in ("bh", "by", "storey"):
        above = decide(strong, twins, [], replace(TESTED, fdr=fdr)).above_twins
        assert above is not None
        counts[fdr] = int(above.sum())
    assert counts["by"] <= counts["bh"] <= counts["storey"]
    assert counts["bh"] >= 10
