"""The ladder counts what it says, the excess interval covers, and the sentences follow the counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from readings import made_up

from probekit.evidence.census import (
    RUNGS,
    TAILS,
    effect_quantiles,
    excess_interval,
    group_table,
    rung_counts,
    statement,
    tail_table,
    twin_ladder,
)
from probekit.evidence.decide import Decision, decide
from probekit.evidence.decide import Tested as StudiedPairs
from probekit.evidence.nulls import Standardised
from probekit.evidence.spread import Classes, Spread


def decision(flags: dict[str, np.ndarray | None]) -> Decision:
    n = 6
    p = np.ones(n)
    names = ("raw", "represented", "beyond_linear", "above_plain", "above_twins", "computed")
    held: dict[str, Any] = dict.fromkeys(names, np.zeros(n, bool))
    return Decision(None, p, p, p, p, p, p, p, **(held | flags))


def spread_of(distributed: np.ndarray) -> Spread:
    n = len(distributed)
    return Spread(np.zeros((n, 1)), np.zeros(n), distributed, ["none"] * n, np.zeros(n, bool))


def test_rungs_are_counts_and_unknown_rungs_are_none() -> None:
    mask = np.arange(6)
    full = decision({"raw": mask < 5, "represented": mask < 1, "beyond_linear": mask < 4, "above_plain": mask < 6,
                     "above_twins": mask < 3, "computed": mask < 2})  # fmt: skip
    classes = Classes(mask < 1, mask < 0, 2, 1.5, 1.0)
    counts = rung_counts(full, spread_of(mask >= 1), classes)
    # distributed counts only computed pairs: of pairs 0, 1 only pair 1
    # relayed: above plain twins (0 to 5) and not above twins (0 to 2)
    assert list(counts.values()) == [5, 1, 4, 6, 3, 3, 2, 1, 1]
    assert tuple(counts) == RUNGS
    unknown = ("beyond_linear", "above_plain", "above_twins", "computed")
    bare = rung_counts(decision(dict.fromkeys(unknown)), None, None)
    assert bare["significant_raw"] == 0
    assert [bare[r] for r in RUNGS[2:]] == [None] * 7


def test_twin_ladder_gives_mean_and_range() -> None:
    rows: list[dict[str, int | None]] = [
        dict.fromkeys(RUNGS, 0) | {"computed": c, "superposed": None} for c in (1, 4, 1)
    ]
    ladder = twin_ladder(rows)
    assert ladder["n_computed"] == {"mean": 2.0, "low": 1.0, "high": 4.0}
    assert ladder["n_represented"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert ladder["n_superposed"] is None


@pytest.mark.parametrize("twins", [[0] * 8, [0] * 20, [0, 1] * 10, [3, 5, 4, 9], [40, 50, 45, 47, 60]])
def test_excess_interval_is_centred_and_moves_with_the_count(twins: list[int]) -> None:
    before = -np.inf
    for n_computed in (0, 1, 5, 100):
        excess, low, high = excess_interval(n_computed, twins)
        assert excess == pytest.approx(n_computed - np.mean(twins))
        assert low < excess < high
        assert high - excess == pytest.approx(excess - low)
        assert low > before
        before = low


def test_one_find_against_empty_twins_is_no_excess_and_two_are() -> None:
    # one of R + 1 = 21 layers has the one find with probability 1/21 > 2.5 %; two on the same one: 1/21² < 2.5 %
    assert excess_interval(1, [0] * 20)[1] <= 0
    assert excess_interval(2, [0] * 20)[1] > 0


@pytest.mark.parametrize("n_twins", [8, 20])
def test_excess_interval_covers_where_the_layer_is_one_more_twin(n_twins: int) -> None:
    rng = np.random.default_rng(n_twins)
    n_draws = 400
    for rate in (0.05, 0.3, 3.0):
        counts = rng.poisson(rate, (n_draws, n_twins + 1))
        holds = [
            low <= 0 <= high for _, low, high in (excess_interval(int(c[0]), c[1:].tolist()) for c in counts)
        ]
        # nominal 95 %, 3 s.e. of 400 draws
        assert np.mean(holds) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / n_draws)
    high = [
        excess_interval(int(c[0]) + 20, c[1:].tolist())[1] > 0 for c in rng.poisson(1.0, (100, n_twins + 1))
    ]
    assert np.mean(high) > 0.95  # positive control: an excess of 20 is seen


def test_tails_count_both_ends_beside_the_twins() -> None:
    p = np.array([0.001, 0.02, 0.5, 0.97, 0.999, 1.0])
    rows = {row["t"]: row for row in tail_table(p, [np.full(6, 0.5), p])}
    assert set(rows) == set(TAILS)
    assert rows[0.01]["low"] == pytest.approx(1 / 6)
    assert rows[0.01]["high"] == pytest.approx(2 / 6)
    assert rows[0.05]["low"] == pytest.approx(2 / 6)
    assert rows[0.05]["high"] == pytest.approx(3 / 6)
    assert rows[0.05]["twin_low_mean"] == pytest.approx(1 / 6)
    assert rows[0.05]["twin_high_mean"] == pytest.approx(1.5 / 6)


def test_a_group_shows_what_single_pairs_cannot() -> None:
    rng = np.random.default_rng(1)
    n_pairs = 400
    group = ["shifted" if i < 200 else "plain" for i in range(n_pairs)]
    shift = np.where(np.arange(n_pairs) < 200, 0.5, 0.0)
    z = Standardised(rng.standard_normal(n_pairs) + shift, rng.standard_normal((12, n_pairs)))
    rows = {row["kind"]: row for row in group_table(z, group)}
    assert [row["n_tested"] for row in rows.values()] == [200, 200]
    # half a standard unit: invisible in one pair, 7 standard errors in 200
    assert rows["shifted"]["mean_z"] > rows["shifted"]["twin_high"]
    assert rows["plain"]["twin_low"] <= rows["plain"]["mean_z"] <= rows["plain"]["twin_high"]
    assert rows["plain"]["mean_z"] == pytest.approx(z.layer[200:].mean())


def test_group_interval_covers_a_layer_that_is_one_more_twin() -> None:
    rng = np.random.default_rng(2)
    n_draws, inside = 400, 0
    for _ in range(n_draws):
        common = 0.3 * rng.standard_normal((9, 1))  # what a twin brings to all of its pairs
        values = rng.standard_normal((9, 30)) + common
        row = group_table(Standardised(values[0], values[1:]), ["all"] * 30)[0]
        inside += row["twin_low"] <= row["mean_z"] <= row["twin_high"]
    assert inside / n_draws >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / n_draws)


def test_effect_quantiles() -> None:
    assert effect_quantiles(np.arange(101.0)) == [5.0, 25.0, 50.0, 75.0, 95.0]
    assert effect_quantiles(np.array([])) == []


def row_of(**changed: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "layer": 3, "n_neurons": 512, "n_tested": 1_000, "n_twins": 20, "n_significant_raw": 1_000, "n_above_twins": 40,
        "n_above_plain": 52, "n_relayed": 17,
        "n_computed": 30, "n_excess": 29.5, "excess_low": 28.0, "excess_high": 31.0, "n_superposed": 25, "n_distinct": 30,
        "effective_rank": 22.0,
        "twins": {"n_significant_raw": {"mean": 999.0}, "n_computed": {"mean": 0.5, "low": 0.0, "high": 2.0}},
        "capacity": {"cannot_bind": True, "n2_over_ln_n": 42_021.0, "bits_needed": 200.0, "bits_held": 65_000.0,
                     "n_params": 32_000},
    }  # fmt: skip
    return row | changed


def test_statement_says_what_the_counts_allow() -> None:
    found = statement(row_of())
    assert "Layer 3" in found
    assert "30 are computed pair-specifically" in found
    assert "52 stand above plain twins; of these 17 no longer do" in found
    assert "exceed their effective rank 22.0" in found
    assert "constant 1 assumed" in found
    assert "exceed their effective rank" not in statement(row_of(n_distinct=20))
    assert "together" not in found
    bounded = statement(row_of(n_at_least_above=40, n_above_twins=30))
    assert "30 stand above their twins without it by themselves, at least 40 do so together" in bounded
    # a bound below the pairs that are named says nothing new
    assert "together" not in statement(row_of(n_at_least_above=20, n_above_twins=30))
    none = statement(
        row_of(n_computed=0, n_excess=-0.5, excess_low=-2.0, excess_high=1.0, n_superposed=0, n_distinct=0)
    )
    assert "No pair-specific computation was found" in none
    bare = statement(row_of(n_computed=None))
    assert "no twin was run" in bare
    assert "computed pair-specifically" not in bare
    binds = statement(row_of(capacity={**row_of()["capacity"], "cannot_bind": False}))
    assert "200 bits" in binds
    assert "assumed" in binds
    for text in (found, none, bare, binds):
        assert "%" not in text.replace("95 % interval", "")  # no utilisation without its words


def test_decision_without_linear_sites_leaves_its_rung_empty() -> None:
    tested = StudiedPairs(np.array([[0, 1], [0, 2], [1, 2]]), 3, np.full(3, 100), 0.05)
    counts = rung_counts(decide(made_up(np.full(3, 9.0), se=0.1), [], [], tested), None, None)
    assert counts["beyond_linear"] is None
    assert counts["significant_raw"] == 3
