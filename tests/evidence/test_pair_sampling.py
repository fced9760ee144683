"""How tested pairs are chosen: recorded, unbiased, and never by what a layer does."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.errors import InputError
from probekit.evidence.pair_sampling import RULES, PairSampling, shares

KINDS = (
    ["token × token, lag 1"] * 900
    + ["class × token, same position"] * 90
    + ["context × context, same position"] * 10
)


PAIRS = np.array(list(itertools.combinations(range(46), 2)))[:1000]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (None, PairSampling()),
        ("blocks", PairSampling()),
        ("uniform", PairSampling("uniform")),
        ("stratified", PairSampling("stratified")),
        ("token x context", PairSampling(kinds=("context × token",))),
        (["support", "token × token, lag 1"], PairSampling("support", ("token × token, lag 1",))),
        ([("a", "b"), ["c", "d"]], PairSampling(named=(("a", "b"), ("c", "d")))),
    ],
)
def test_what_a_user_means(asked, wanted) -> None:
    assert PairSampling.of(asked) == wanted
    assert (wanted.record() is None) == (wanted == PairSampling())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("best", "'best' is no rule .* and no kind of pair"),
        (["uniform", "support"], "got the rules uniform, support; wanted one"),
        (["uniform", ("a", "b")], "rules and single pairs in one list"),
        ([("a", "b", "c")], "wanted pairs of concept names"),
    ],
)
def test_what_cannot_be_meant(asked, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PairSampling.of(asked)


def test_kinds_are_looked_at_with_or_without_their_lag() -> None:
    assert PairSampling(kinds=("token × token",)).within(KINDS).sum() == 900
    assert PairSampling(kinds=("token × token, lag 1", "context × context")).within(KINDS).sum() == 910
    with pytest.raises(
        InputError, match="no testable pair is 'class × class'; there are class × token, same"
    ):
        PairSampling(kinds=("class × class",)).within(KINDS)


def test_few_pairs_are_all_taken_by_every_rule() -> None:
    for rule in RULES:
        drawn = PairSampling(rule).draw(KINDS, np.ones(1000, int), PAIRS, 1000, rng())
        assert (drawn.index == np.arange(1000)).all()
        assert (drawn.inclusion == 1).all()
        assert drawn.block is None


def test_strata_get_equal_shares_and_small_ones_are_whole() -> None:
    drawn = PairSampling("stratified").draw(KINDS, np.ones(1000, int), PAIRS, 120, rng())
    index, p = drawn.index, drawn.inclusion
    assert len(index) == 120 == len(set(index.tolist()))
    taken = [KINDS[i] for i in index]
    assert [taken.count(kind) for kind in sorted(set(KINDS))] == [55, 10, 55]
    assert (p[[i for i, kind in enumerate(taken) if kind.startswith("context")]] == 1).all()
    # Horvitz–Thompson: 1/p summed over a stratum's sample is its size
    assert sum(1 / p[i] for i, kind in enumerate(taken) if kind.startswith("token")) == pytest.approx(900)


def test_recorded_probabilities_are_those_of_the_draw() -> None:
    """Over 2,000 draws each pair comes up as often as its recorded probability says, to five standard errors."""
    kinds = ["a × b"] * 12 + ["b × b"] * 4
    n_draws, n_times, p = 2_000, np.zeros(16), np.empty(0)
    for seed in range(n_draws):
        drawn = PairSampling("stratified").draw(
            kinds, np.ones(16, int), PAIRS[:16], 6, np.random.default_rng(seed)
        )
        n_times[drawn.index] += 1
        p = drawn.inclusion
    probability = np.array([3 / 12] * 12 + [3 / 4] * 4)
    assert set(np.round(p, 6)) == {0.25, 0.75}
    assert (
        abs(n_times / n_draws - probability) < 5 * np.sqrt(probability * (1 - probability) / n_draws)
    ).all()


def test_support_takes_the_fullest() -> None:
    emptiest = np.random.default_rng(1).permutation(1000)
    drawn = PairSampling("support").draw(KINDS, emptiest, PAIRS, 100, rng())
    assert emptiest[drawn.index].min() == 900
    assert (drawn.inclusion == 1).all()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 200))
def test_shares_are_as_equal_as_the_strata_allow(sizes: list[int], n_most: int) -> None:
    quota = shares(np.array(sizes), n_most)
    assert quota.sum() == min(n_most, sum(sizes))
    assert (quota <= sizes).all()
    open_ = quota[quota < sizes]
    if len(open_):  # whoever is not exhausted has at most one less than anybody
        assert quota.max() - open_.min() <= 1


def test_one_number_in_an_array_is_no_choice() -> None:
    with pytest.raises(InputError, match="pairs: got a ndarray, wanted a rule, kinds of pair or a list"):
        PairSampling.of(np.array(3))


def test_a_table_of_pairs_is_read_by_its_columns_and_a_sampling_is_taken_as_it_is():
    named = PairSampling.of(pd.DataFrame({"q": [0.1, 0.2, 0.3], "b": ["y", "z", "y"], "a": ["x", "x", "x"]}))
    assert named.named == (("x", "y"), ("x", "z")), "each pair once, in the order of the table"
    assert PairSampling.of(named) is named
    with pytest.raises(InputError, match="pairs: got a table with columns left, right, wanted a and b"):
        PairSampling.of(pd.DataFrame({"left": ["x"], "right": ["y"]}))
