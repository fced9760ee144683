"""d′ at pairs, descriptions and p-values of claims: by hand, and each by a claim whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.evidence.claims import (
    Passes,
    Quadrants,
    d_of_sample,
    describe,
    document_error,
    interval,
    like,
    matched_p,
    unmatched_p,
)
from probekit.probes.pairs import LabelColumns, all_pairs

N = 4_000


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(0).random((N, 5)) < 0.3


@pytest.fixture(scope="module")
def quadrants(labels: np.ndarray) -> Quadrants:
    return Quadrants(LabelColumns.from_dense(labels), all_pairs(5))


def by_hand(values: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    parts = [values[mask] for mask in (a & b, a & ~b, ~a & b, ~a & ~b)]
    pooled = sum(len(part) * part.var() for part in parts) / len(values)
    return (parts[0].mean() - parts[1].mean() - parts[2].mean() + parts[3].mean()) / np.sqrt(pooled)


def test_d_prime_of_every_claim_at_every_pair(labels: np.ndarray, quadrants: Quadrants) -> None:
    values = np.random.default_rng(1).standard_normal((N, 3)) * [1, 7, 0] + [1e4, 0, 3]
    d, error = quadrants.d_prime(values)
    for p, (a, b) in enumerate(quadrants.pairs.tolist()):
        for c in (0, 1):
            assert d[p, c] == pytest.approx(by_hand(values[:, c], labels[:, a], labels[:, b]), abs=1e-7)
    assert (d[:, 2] == 0).all(), "a claim that never varies says nothing"
    # independent noise: d′ over its error is standard normal; ten pairs of five concepts, two claims
    assert 0.4 < np.std(d[:, :2] / error[:, :2]) < 1.6


def test_a_claim_is_described_by_its_pair(labels: np.ndarray, quadrants: Quadrants) -> None:
    rng = np.random.default_rng(2)
    both = labels[:, 1] & labels[:, 3]
    noise = rng.standard_normal(N)
    additive = labels @ np.array([1.0, -2, 3, 1, 1])
    values = np.stack([noise + additive + 2 * both, noise - 2 * both, noise + additive], axis=1)
    about = describe(quadrants, values)
    assert quadrants.pairs[about.pair[:2]].tolist() == [[1, 3], [1, 3]]
    assert about.sign[:2].tolist() == [1.0, -1.0]
    d = quadrants.d_prime(values)[0]
    assert abs(d[about.pair[2], 2]) < 0.2, "what adds A and B interacts nowhere"
    assert np.array_equal(np.flatnonzero(quadrants.of(int(about.pair[0])) == 0), np.flatnonzero(both))


def test_a_sample_stands_for_its_quadrants(labels: np.ndarray, quadrants: Quadrants) -> None:
    values = np.random.default_rng(3).standard_normal(N) + 2 * (labels[:, 0] & labels[:, 1])
    whole = quadrants.of(0)
    assert d_of_sample(values, whole, quadrants.n_tokens[0]) == pytest.approx(
        quadrants.d_prime(values[:, None])[0][0, 0]
    )
    few = np.concatenate([np.flatnonzero(whole == q)[:100] for q in range(4)])
    # 100 tokens a quadrant: a standard error of 0.2
    assert d_of_sample(values[few], whole[few], quadrants.n_tokens[0]) == pytest.approx(2, abs=0.8)
    assert d_of_sample(values[whole > 0], whole[whole > 0], quadrants.n_tokens[0]) == 0


def test_errors_know_documents(labels: np.ndarray, quadrants: Quadrants) -> None:
    rng = np.random.default_rng(4)
    doc = np.arange(N) // 50
    whole = quadrants.of(0)
    # an interaction that differs from document to document: independent tokens would claim a twentieth of the error
    values = rng.standard_normal(N) * 0.1 + (1 + rng.standard_normal(N // 50))[doc] * (whole == 0)
    d, error = quadrants.d_prime(values[:, None])
    assert document_error(values, whole, doc, float(d[0, 0])) > 1.5 * error[0, 0]


def test_p_values_are_uniform_without_and_small_with_a_difference() -> None:
    rng = np.random.default_rng(5)
    nulls = rng.standard_normal((20, 200)) * np.linspace(0.5, 3, 200) + np.linspace(-1, 1, 200)
    own = rng.standard_normal(200) * np.linspace(0.5, 3, 200) + np.linspace(-1, 1, 200)
    p = matched_p(own, nulls)
    # 200 uniform p-values: 10 ± 3 below 0.05
    assert (p <= 0.05).sum() <= 20
    assert 0.4 < p.mean() < 0.6
    assert (matched_p(own + 40, nulls) < 0.01).all()
    p = unmatched_p(own, list(nulls))
    assert 0.3 < p.mean() < 0.7
    assert (unmatched_p(own + 50, list(nulls)) == 1 / 4_001).all()
    assert (matched_p(np.zeros(3), np.zeros((4, 3))) == 1).all()


def test_intervals_hold_the_difference() -> None:
    rng = np.random.default_rng(6)
    d, nulls = 2 + 0.3 * rng.standard_normal(500), 0.5 * rng.standard_normal((20, 500))
    excess, low, high = interval(d, np.full(500, 0.3), nulls)
    assert ((low <= 2) & (high >= 2)).mean() >= 0.92  # 95 %, three standard errors below
    assert (excess == d - nulls.mean(0)).all()


def test_rectified_like_a_claim() -> None:
    values = np.random.default_rng(7).standard_normal((1_000, 2))
    assert (like(values, 0.9) == 0).mean(0) == pytest.approx([0.9, 0.9], abs=0.002)
    assert like(values, 0.0) is values


def test_verdicts() -> None:
    yes, no = np.array([True] * 4), np.array([False, True, True, True])
    assert Passes(yes, yes, yes, yes).verdicts == ["made here"] * 4
    assert Passes(no, yes, yes, yes).verdicts[0] == "not above its null layers"
    assert Passes(yes, yes, no, yes).verdicts[0] == "not above its null layers"
    assert Passes(yes, no, yes, yes).verdicts[0] == Passes(yes, yes, yes, no).verdicts[0] == "relayed"
