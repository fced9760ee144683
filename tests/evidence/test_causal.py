"""Changes by quadrant: means and errors that are what they are by definition, and the verdict on both sides."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.evidence.causal import p_against, quadrant_change, quadrant_of


def scene(effect: tuple[float, float, float, float], *, doc_sd: float, n_docs: int = 200, seed: int = 0):
    """40 tokens a document; a change of a fixed size in each quadrant, an offset a document and noise a token."""
    rng = np.random.default_rng(seed)
    doc = np.repeat(np.arange(n_docs), 40)
    quadrant = quadrant_of(rng.random(len(doc)) < 0.4, rng.random(len(doc)) < 0.4)
    change = np.asarray(effect)[quadrant] + rng.standard_normal(len(doc)) * 0.1
    return change + (rng.standard_normal(n_docs) * doc_sd)[doc], quadrant, doc


def test_means_and_interaction() -> None:
    change, quadrant, doc = scene((1.0, 0.2, 0.1, 0.0), doc_sd=0.0)
    found = quadrant_change(change[None], quadrant, doc)
    for q in range(4):
        assert found.mean[0, q] == pytest.approx(change[quadrant == q].mean(), rel=1e-12)
    assert found.interaction[0] == pytest.approx(found.mean[0] @ [1, -1, -1, 1], rel=1e-12)
    assert found.n_tokens.sum() == len(change)


def test_errors_see_the_documents() -> None:
    """Over 300 draws the standard error is the standard deviation of the mean; by token it would be 4 times too small."""
    draws = [
        quadrant_change(c[None], q, d)
        for c, q, d in (scene((0, 0, 0, 0), doc_sd=0.3, n_docs=60, seed=s) for s in range(300))
    ]
    means = np.array([d.mean[0, 3] for d in draws])
    usual = np.mean([d.se[0, 3] for d in draws])
    # the sd of 300 draws is known to 4 %, the mean error to less
    assert usual == pytest.approx(means.std(ddof=1), rel=0.15)
    by_token = np.sqrt(0.1**2 + 0.3**2) / np.sqrt(60 * 40 * 0.36)
    assert by_token < 0.5 * usual


@pytest.mark.parametrize(
    ("effect", "wanted"),
    [
        ((1.0, 0.0, 0.0, 0.0), True),
        ((-1.0, 0.1, 0.0, 0.0), True),
        ((1.0, 0.5, 0.0, 0.0), False),
        ((1.0, 1.0, 1.0, 1.0), False),
        ((0.0, 0.0, 0.0, 0.0), False),
    ],
)
def test_selective(effect: tuple[float, float, float, float], wanted: bool) -> None:
    change, quadrant, doc = scene(effect, doc_sd=0.02)
    assert bool(quadrant_change(change[None], quadrant, doc).selective[0]) is wanted


def test_an_empty_quadrant_is_nan_and_never_selective() -> None:
    change, quadrant, doc = scene((1.0, 0.0, 0.0, 0.0), doc_sd=0.0)
    found = quadrant_change(change[None], np.where(quadrant == 1, 3, quadrant), doc)
    assert np.isnan(found.mean[0, 1])
    assert np.isnan(found.interaction[0])
    assert not found.selective[0]


def test_p_against_counts_both_signs_and_itself() -> None:
    random = np.array([0.1, -3.0, 0.2])
    assert p_against(2.0, random) == pytest.approx(2 / 4)
    assert p_against(-4.0, random) == pytest.approx(1 / 4)
