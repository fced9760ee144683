"""Pairs drawn in a block of concepts: chances are those recorded, totals unbiased and covered, concepts have many pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from graphs import FINDS, finds, graph

from probekit.evidence.block_sampling import PARTNERS, block_size, draw_block
from probekit.evidence.blocks import Block, in_block
from probekit.evidence.census import in_all
from probekit.evidence.pair_sampling import PairSampling

# a triangle with a tail, and a pair apart
SMALL = np.array([[0, 1], [0, 2], [1, 2], [2, 3], [3, 4], [5, 6]])


def every_draw(n_drawn: int, n_most: int) -> list[tuple[float, np.ndarray, Block]]:
    """All outcomes of a draw of concepts and then of pairs, each with its chance."""
    sets = list(itertools.combinations(range(7), n_drawn))
    outcomes: list[tuple[float, np.ndarray, Block]] = []
    for chosen in sets:
        inside = np.flatnonzero(np.isin(SMALL, chosen).all(1))
        kept = list(itertools.combinations(inside, min(n_most, len(inside))))
        outcomes += [
            (1 / len(sets) / len(kept), np.array(k, int), Block(7, n_drawn, len(inside), len(k)))
            for k in kept
        ]
    return outcomes


@pytest.mark.parametrize(("n_drawn", "n_most"), [(4, 2), (4, 9), (5, 2), (6, 3), (3, 1)])
def test_totals_and_their_variance_are_unbiased_by_enumeration(n_drawn: int, n_most: int) -> None:
    """Over every draw there is, weights of 1/inclusion give the truth, and the variance formula their variance."""
    values = np.array([1.0, 0.0, 2.0, 1.0, 0.5, 3.0])
    outcomes = [(chance, kept, block) for chance, kept, block in every_draw(n_drawn, n_most) if len(kept)]
    totals = [values[kept].sum() / block.inclusion for _, kept, block in outcomes]
    chances = [chance for chance, _, _ in outcomes]
    assert np.dot(chances, totals) == pytest.approx(values.sum(), rel=1e-12)
    # the variance: unbiased wherever any two pairs may be kept together
    if n_drawn >= 4 and n_most >= 2:
        empty = 1 - sum(chances)
        variance = np.dot(chances, (np.array(totals) - values.sum()) ** 2) + empty * values.sum() ** 2
        guesses = [block.variance(values[kept], SMALL[kept]) for _, kept, block in outcomes]
        assert np.dot(chances, guesses) == pytest.approx(variance, rel=1e-9)


def test_every_pair_is_drawn_with_the_same_chance() -> None:
    """Over 4,000 draws each pair's weight, 1/inclusion where it was taken, is 1 on average, to five standard errors."""
    rng = np.random.default_rng(0)
    pairs = graph(rng, 24, 0.5, spread=1.0)
    weight = np.zeros(len(pairs))
    square = np.zeros(len(pairs))
    n_draws = 4_000
    for _ in range(n_draws):
        kept, block = draw_block(pairs, 30, rng)
        weight[kept] += 1 / block.inclusion
        square[kept] += 1 / block.inclusion**2
        assert len(kept) <= 30
    error = np.sqrt((square / n_draws - (weight / n_draws) ** 2) / n_draws)
    assert (abs(weight / n_draws - 1) < 5 * error).all()


@pytest.mark.parametrize("how", FINDS)
@pytest.mark.parametrize(("n_concepts", "n_most"), [(170, 1_000), (400, 2_000)])
def test_totals_are_covered(how: str, n_concepts: int, n_most: int) -> None:
    rng = np.random.default_rng([n_concepts, FINDS.index(how)])
    pairs = graph(rng, n_concepts, 0.3)
    covered, values, naive = [], [], []
    n_draws = 80
    for _ in range(n_draws):
        found = finds(rng, pairs, how)
        kept, block = draw_block(pairs, n_most, rng)
        inclusion = np.full(len(kept), block.inclusion)
        got = in_all(found[kept], inclusion, len(pairs), pairs[kept], block)
        assert got["method"] == "pairs among randomly drawn concepts"
        covered.append(got["low"] <= found.sum() <= got["high"])
        values.append(got["value"] - found.sum())
        plain = in_all(found[kept], np.full(len(kept), len(kept) / len(pairs)), len(pairs))
        naive.append(plain["low"] <= found.sum() <= plain["high"])
    # 93 % is what the other intervals are held to; three standard errors of 80
    assert np.mean(covered) >= 0.93 - 3 * np.sqrt(0.07 * 0.93 / n_draws)
    assert abs(np.mean(values)) < 5 * np.std(values) / np.sqrt(n_draws)
    if how == "stars":  # positive control: taken for a uniform sample the interval is far too short
        assert np.mean(naive) < 0.8


def test_each_concept_has_ten_pairs_where_the_graph_allows() -> None:
    rng = np.random.default_rng(1)
    pairs = np.array(list(itertools.combinations(range(600), 2)))
    uniform = np.bincount(pairs[rng.choice(len(pairs), 2_000, replace=False)].ravel())
    kept, block = draw_block(pairs, 2_000, rng)
    partners = np.bincount(pairs[kept].ravel())
    partners = partners[partners > 0]
    assert block == Block(600, 200, 200 * 199 // 2, 2_000)
    assert partners.mean() == PARTNERS
    assert (partners >= 10).mean() > 0.98
    assert (uniform[uniform > 0] >= 10).mean() < 0.2
    # a graph too sparse for that: as many as its densest use of concepts gives, still more than uniformly
    sparse = graph(rng, 300, 0.08)
    kept, block = draw_block(sparse, 300, rng)
    evenly = sparse[rng.choice(len(sparse), 300, replace=False)]
    assert len(np.unique(sparse[kept])) < 0.5 * len(np.unique(evenly))


def test_few_concepts_are_all_drawn_and_the_sample_is_uniform() -> None:
    """As many pairs as leave each concept 20: nothing changes against the uniform rule, pair by pair."""
    pairs = np.array(list(itertools.combinations(range(60), 2)))
    assert block_size(pairs, 1_000) == (60, 60)
    kinds, ones = ["a × b"] * len(pairs), np.ones(len(pairs), int)
    one = PairSampling("blocks").draw(kinds, ones, pairs, 1_000, np.random.default_rng(3))
    other = PairSampling("uniform").draw(kinds, ones, pairs, 1_000, np.random.default_rng(3))
    assert one.block is None
    assert (one.index == other.index).all()
    assert (one.inclusion == other.inclusion).all()
    fewer = PairSampling("blocks").draw(kinds, ones, pairs, 100, np.random.default_rng(3))
    assert fewer.block is not None
    assert (fewer.inclusion == fewer.block.inclusion).all()


def test_totals_ask_how_pairs_were_drawn() -> None:
    found = np.arange(50) < 5
    assert in_all(found, np.full(50, 0.25), 400) == {
        "method": "a design that was not given: limits are all that is possible", "value": 20, "low": 5, "high": 355,
    }  # fmt: skip
    assert in_all(found, np.full(50, 50 / 400), 400)["method"] == "hypergeometric"
    # the fullest pairs were chosen: of the others nothing is known
    assert in_all(found, np.ones(50), 400) == {
        "method": "pairs that were chosen, not drawn", "value": 5, "low": 5, "high": 355,
    }  # fmt: skip


def test_where_none_or_all_are_found() -> None:
    pairs = np.array(list(itertools.combinations(range(40), 2)))[:200]
    block = Block(100, 40, 780, 200)
    none = in_block(np.zeros(200, bool), pairs, block, 3_000)
    assert (none.value, none.low) == (0, 0)
    n_apart = len(np.unique(pairs)) // 2
    assert none.high == pytest.approx(3_000 * (1 - 0.025 ** (1 / n_apart)))
    every = in_block(np.ones(200, bool), pairs, block, 3_000)
    assert (every.value, every.high) == (3_000, 3_000)
    assert 200 <= every.low < 3_000
