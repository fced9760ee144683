"""The test of the difference between two runs: how often it is wrong, that it finds what was planted, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from differences import Case, draws, mcnemar, two_runs

from probekit.errors import InputError, ShapeError
from probekit.evidence.difference import Measured, _by_concepts, difference

SMALL = Case(n_concepts=20, n_pairs=120, n_twins=8)
"""Quick enough for every run of the tests."""
NOTHING = {
    "null layers": Case(),
    "null layers, strong concepts": Case(of_concept=0.25),
    "null layers, 5 twins": Case(n_twins=5),
    "the same layer twice": Case(common=200),
    "the same layer twice, weak, much text": Case(common=200, strong=0.5, text=0.2),
    "the same layer twice, hubs": Case(common=200, strong=0.5, text=0.2, hubs=True),
}


def test_a_planted_layer_differs_from_a_null_layer_either_way() -> None:
    rng = np.random.default_rng(1)
    one, two, pairs = two_runs(rng, replace(SMALL, only_first=50, strong=2.0))
    found, turned = difference(one, two, pairs), difference(two, one, pairs)
    assert found.p < 0.05
    assert found.low > 0
    assert found.difference == found.n_first - found.n_second == found.n_only_first - found.n_only_second
    assert (turned.difference, turned.p) == (-found.difference, pytest.approx(found.p, rel=1e-9))
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), rel=1e-9)
    assert turned.p_null == found.p_null  # the set of |D_ij| is the same


def test_a_layer_does_not_differ_from_itself() -> None:
    one, _, pairs = two_runs(np.random.default_rng(2), replace(SMALL, common=40))
    found = difference(one, one, pairs)
    assert found.n_first > 10
    assert (found.difference, found.n_only_first, found.p) == (0, 0, 1.0)


def test_the_null_layers_alone_would_call_a_layer_different_from_itself() -> None:
    """Why the rank among the twins does not decide alone, and why pairs must not be taken as independent."""
    found = list(draws(np.random.default_rng(3), Case(n_concepts=20, n_pairs=120, n_twins=8, common=80), 40))
    alone, together = np.mean([d.p_null <= 0.05 for d in found]), np.mean([d.p <= 0.05 for d in found])
    # 40 draws: a true rate of 5 % exceeds 15 % with a probability below 0.4 %
    assert together <= 0.15
    assert alone > 2 * together


def test_pairs_that_share_a_concept_are_dependent() -> None:
    """Against the sum over all pairs of pairs, one by one."""
    rng = np.random.default_rng(4)
    pairs = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [4, 5], [3, 5], [0, 5]])
    e = np.array([1.0, 1.0, 1.0, 0.0, -1.0, 0.0, 1.0])
    away = e - e.mean()
    shared = sum(
        away[i] * away[j] for i in range(7) for j in range(7) if {*pairs[i].tolist()} & {*pairs[j].tolist()}
    )
    assert _by_concepts(e, pairs) == pytest.approx(max(shared * 6 / 5, (away**2).sum() * 7 / 6), rel=1e-12)
    # no concept in common: the variance of independent pairs
    apart = np.arange(14).reshape(7, 2)
    assert _by_concepts(e, apart) == pytest.approx((away**2).sum() * 7 / 6, rel=1e-12)
    order = rng.permutation(7)
    assert _by_concepts(e[order], pairs[order]) == pytest.approx(_by_concepts(e, pairs), rel=1e-12)


def test_twins_of_one_seed_are_not_compared_number_by_number() -> None:
    one, two, pairs = two_runs(np.random.default_rng(6), SMALL)
    ranks = {round(1 / difference(one, two, pairs, same_seed=same).p_null, 9) for same in (False, True)}
    assert len(ranks) == 2  # of 1 + 64 and of 1 + 56 places


def test_what_is_refused() -> None:
    one, two, pairs = two_runs(np.random.default_rng(5), SMALL)

    def less(held: Measured, n_twins: int = 8, n_pairs: int = 120) -> Measured:
        return Measured(held.layer[:n_pairs], held.twins[:n_twins, :n_pairs], held.n11[:n_pairs])

    with pytest.raises(
        InputError, match=r"got 4 twins, wanted 5 or more in both runs.*run again with twins=5, or 20"
    ):
        difference(one, less(two, n_twins=4), pairs)
    with pytest.raises(InputError, match="have 29 tested pairs in common, wanted 30 or more"):
        difference(less(one, n_pairs=29), less(two, n_pairs=29), pairs[:29])
    none = Measured(one.layer[:0], np.zeros((0, 0)), one.n11[:0])
    with pytest.raises(InputError, match="have 0 tested pairs in common"):  # and says nothing of twins
        difference(none, none, pairs[:0])
    with pytest.raises(ShapeError, match=r"got \[119, 120\] pairs, wanted the same pairs"):
        difference(one, less(two, n_pairs=119), pairs)
    with pytest.raises(InputError, match=r"level: got 0\.5, wanted a share between 0 and 1/2"):
        difference(one, two, pairs, level=0.5)


@pytest.mark.sweep
@pytest.mark.parametrize("name", NOTHING)
def test_no_more_than_five_in_a_hundred_are_wrong(name: str) -> None:
    n_draws = 120
    wrong = np.mean([d.p <= 0.05 for d in draws(np.random.default_rng(7), NOTHING[name], n_draws)])
    assert wrong <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_draws)


@pytest.mark.sweep
def test_most_planted_differences_are_found_and_mcnemar_is_not_valid() -> None:
    found = list(draws(np.random.default_rng(8), Case(common=100, only_first=100), 60))
    assert np.mean([d.p <= 0.05 for d in found]) >= 0.6
    same = list(draws(np.random.default_rng(9), Case(common=200), 60))
    assert np.mean([mcnemar(d) <= 0.05 for d in same]) > 0.15
