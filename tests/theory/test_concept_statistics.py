"""Labels have the statistics that were asked for, and the same draw without the request does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probekit.theory.concept_statistics import CORRELATED, EXCLUSIVE, FREE, HIERARCHICAL, Statistics

N_TOKENS, DOC_LEN = 20_000, 40
DOC = np.arange(N_TOKENS) // DOC_LEN
ASKED = {"zipf": 0.5, "top_rate": 0.25, "grouped": 0.75, "group_size": 4, "correlation": 0.6, "burst": 0.2}


def statistics(n_concepts: int = 48, **changed: float) -> Statistics:
    return Statistics.of(np.random.default_rng(0), n_concepts, **{**ASKED, **changed})


def draw(asked: Statistics, seed: int = 1) -> np.ndarray:
    return asked.draw(np.random.default_rng(seed), DOC)


def phi(labels: np.ndarray, asked: Statistics, kind: int) -> np.ndarray:
    """Correlations of the labels within the groups of a kind."""
    return np.concatenate(
        [
            np.corrcoef(labels[:, asked.by_rate(int(g))].T)[np.triu_indices(4, 1)]
            for g in np.unique(asked.group[asked.kind == kind])
        ]
    )


@pytest.mark.parametrize("zipf", [0.5, 1.0])
def test_rates_fall_with_the_exponent_asked_for(zipf: float) -> None:
    asked = statistics(400, zipf=zipf, burst=0.0)
    held = np.sort(draw(asked).mean(0))[::-1][:50]
    slope = np.polyfit(np.log(1 + np.arange(50)), np.log(held), 1)[0]
    # the rarest of the fifty has 100 tokens at least, a tenth of error; over fifty ranks the slope is good to 0.03
    assert slope == pytest.approx(-zipf, abs=0.1)


def test_every_rate_is_kept_whatever_hangs_together() -> None:
    asked = statistics(burst=0.0)
    error = np.sqrt(asked.rate * (1 - asked.rate) / N_TOKENS)
    # of 48 standard normals none is beyond 4.5 but once in 3,000 draws
    assert (np.abs(draw(asked).mean(0) - asked.rate) < 4.5 * error).all()


def test_of_an_exclusive_group_one_at_most_holds() -> None:
    asked = statistics()
    labels = draw(asked)
    freed = draw(replace(asked, kind=np.full(48, FREE), group=np.arange(48)))
    groups = np.unique(asked.group[asked.kind == EXCLUSIVE])
    assert len(groups) == 3
    for group in groups:
        assert labels[:, asked.group == group].sum(1).max() == 1
        assert freed[:, asked.group == group].sum(1).max() > 1
    assert (phi(labels, asked, EXCLUSIVE) < 0).all()


def test_a_child_implies_its_parent() -> None:
    asked = statistics()
    labels, parent = draw(asked), asked.parents()
    children = np.flatnonzero(parent >= 0)
    assert len(children) == 9  # three trees of four
    assert (asked.kind[children] == HIERARCHICAL).all()
    assert (labels[:, children] <= labels[:, parent[children]]).all()
    assert (labels[:, children] < labels[:, parent[children]]).any(0).all(), "and not the other way round"


def test_correlation_has_the_sign_and_the_size_asked_for() -> None:
    none, some, more = (
        phi(draw(asked), asked, CORRELATED) for asked in (statistics(correlation=c) for c in (0.0, 0.4, 0.8))
    )
    # a correlation of 20,000 labels has an error of 0.007, √2 more with bursts
    assert (some > 0.03).all()
    assert np.abs(none).max() < 0.04
    assert more.mean() > some.mean() + 0.1


def test_concepts_burst_within_documents() -> None:
    def spread(burst: float) -> float:
        """Variance of a document's counts over the binomial one."""
        asked = statistics(burst=burst)
        counts = draw(asked).reshape(-1, DOC_LEN, 48).sum(1)
        return float((counts.var(0) / (DOC_LEN * asked.rate * (1 - asked.rate))).mean())

    # 500 documents give a variance to 6 %, the mean over 48 concepts to 1 %
    assert spread(0.0) == pytest.approx(1.0, abs=0.05)
    assert spread(0.2) > 1.5
