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


def test_classes_are_nested_and_p_values_are_the_largest() -> None:
    twins = twin_contrasts(12)
    found = np.zeros(len(PAIRS), bool)
    found[::17] = True
    layer = made_up(twin_contrasts(1, seed=5)[0].d_prime + 6 * found, se=0.1)
    decision = decide(layer, twins, [silent()], TESTED)
    assert decision.p_twin is not None
    assert decision.p_pair is not None
    assert decision.p_lin is not None
    assert decision.computed is not None
    assert decision.above_twins is not None
    worst = np.maximum(decision.p_twin, decision.p_lin)
    np.testing.assert_array_equal(decision.above_twins, adjusted(worst) <= 0.05)
    np.testing.assert_array_equal(decision.computed, adjusted(np.maximum(worst, decision.p_pair)) <= 0.05)
    assert not (decision.computed & ~decision.above_twins).any()
    assert decision.computed[found].mean() > 0.9
    assert decision.computed[~found].mean() < 0.02


def test_what_a_linear_site_reads_as_well_is_never_computed() -> None:
    twins = twin_contrasts(12)
    layer = made_up(twins[0].d_prime + 6.0 * (np.arange(len(PAIRS)) % 17 == 0), se=0.1)
    as_good = decide(layer, twins, [silent(), layer], TESTED)
    assert as_good.computed is not None
    assert as_good.beyond_input is not None
    assert not as_good.computed.any()
    assert not as_good.beyond_input.any()
    assert decide(layer, twins, [silent()], TESTED).computed.any()  # pyright: ignore[reportOptionalMemberAccess]


def test_without_twins_or_linear_sites_nothing_is_said() -> None:
    layer = made_up(np.full(len(PAIRS), 5.0), se=0.1)
    alone = decide(layer, [], [silent()], TESTED)
    assert alone.computed is None
    assert alone.above_twins is None
    assert alone.z is None
    assert alone.beyond_input is not None
    assert alone.beyond_input.all()
    blind = decide(layer, [], [], TESTED)
    assert blind.p_lin is None
    assert blind.beyond_input is None
    assert blind.raw.all()
    assert decide(layer, twin_contrasts(6), [], TESTED).computed is None


def test_epsilon_decisions_use_their_own_test() -> None:
    p_epsilon = np.ones(len(PAIRS))
    p_epsilon[:10] = 1e-6
    layer = made_up(np.zeros(len(PAIRS)), p_epsilon=p_epsilon)
    np.testing.assert_array_equal(
        np.flatnonzero(decide(layer, [], [silent()], TESTED).represented), np.arange(10)
    )


def test_a_twin_in_the_layers_place_is_judged_by_the_others() -> None:
    twins = twin_contrasts(8)
    assert decide_twins(twins[:3], silent(), TESTED) == []
    decisions = decide_twins(twins, silent(), TESTED)
    assert len(decisions) == 8
    by_hand = decide(twins[2], twins[:2] + twins[3:], [silent()], TESTED)
    np.testing.assert_array_equal(decisions[2].p_twin, by_hand.p_twin)
    np.testing.assert_array_equal(decisions[2].q_computed, by_hand.q_computed)
    # a rival less can only let more pass
    stricter = decide(twins[2], twins[:2] + twins[3:], [silent(), twins[5]], TESTED)
    assert by_hand.p_lin is not None
    assert stricter.p_lin is not None
    assert (by_hand.p_lin <= stricter.p_lin).all()


def test_layers_that_are_one_more_twin_are_rarely_flagged() -> None:
    n_draws, flagged, found = 60, 0, 0
    for draw in range(n_draws):
        contrasts = twin_contrasts(13, seed=100 + draw)
        decision = decide(contrasts[0], contrasts[1:], [silent()], TESTED)
        assert decision.computed is not None
        flagged += bool(decision.computed.any())
        lifted = made_up(contrasts[0].d_prime + 4.0 * (np.arange(len(PAIRS)) % 40 == 0), se=0.1)
        spiked = decide(lifted, contrasts[1:], [silent()], TESTED)
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
    counts = {
        fdr: int(np.sum(decide(strong, twins, [silent()], replace(TESTED, fdr=fdr)).above_twins))
        for fdr in ("bh", "by", "storey")
    }
    assert counts["by"] <= counts["bh"] <= counts["storey"]
    assert counts["bh"] >= 10
