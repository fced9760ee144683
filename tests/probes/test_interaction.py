"""The interaction subspace is that of its definition, and holds where an AND was put into the input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probekit.probes.interaction import interaction_directions, n_directions
from probekit.probes.pairs import LabelColumns, TokenSample, sample_tokens, splitmix64

N_TOKENS, WIDTH = 12_000, 48


def sampled(labels: np.ndarray, limit: int = 800) -> TokenSample:
    doc = np.arange(len(labels)) // 50
    token_hash = splitmix64(np.arange(len(labels), dtype=np.uint64))
    pairs = np.array([[0, 1]], np.int32)
    return sample_tokens(LabelColumns.from_dense(labels), pairs, doc, token_hash, limit=limit)


def additive(seed: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random((N_TOKENS, 2)) < 0.3
    codes = rng.standard_normal((2, WIDTH)) / np.sqrt(WIDTH)
    return rng, labels, labels @ codes + 0.15 * rng.standard_normal((N_TOKENS, WIDTH))


def found(inputs: np.ndarray, sample: TokenSample) -> np.ndarray:
    x = torch.from_numpy(inputs).float()
    return interaction_directions(x - x.mean(0), sample, np.random.default_rng(0))[0]


def quadrants(inputs: np.ndarray, sample: TokenSample) -> list[np.ndarray]:
    return [inputs[sample.token[a:b]] for a, b in zip(sample.ptr[:-1], sample.ptr[1:], strict=True)]


def test_directions_are_those_of_the_definition() -> None:
    rng, labels, x = additive(0)
    both = np.all(labels, axis=1)
    x[both] += rng.choice([-1.5, 1.5], both.sum())[:, None] * rng.standard_normal(WIDTH)
    x[both] += 0.5 * rng.standard_normal(WIDTH)
    sample = sampled(labels)
    held = quadrants(x, sample)
    directions = found(x, sample).astype(float)
    np.testing.assert_allclose(directions.T @ directions, np.eye(n_directions(WIDTH)), atol=1e-5)  # fp32
    means = [q.mean(0) for q in held]
    delta = means[0] - means[1] - means[2] + means[3]
    delta /= np.linalg.norm(delta)
    assert abs(directions[:, 0] @ delta) == pytest.approx(1.0, abs=1e-5)
    spread = [np.cov(q.T, bias=True) for q in held]
    m = spread[0] - spread[1] - spread[2] + spread[3]
    apart = np.eye(WIDTH) - np.outer(delta, delta)
    leading = np.linalg.eigh(apart @ m @ apart)[1][:, -1]
    # the leading eigenvalue stands ten times above the bulk: five rounds turn the start into it to 1e-4
    assert abs(directions[:, 1] @ leading) > 0.999


@pytest.mark.parametrize("n_ways", [1, 4])
def test_an_and_along_several_directions_lies_in_the_subspace(n_ways: int) -> None:
    rng, labels, x = additive(1)
    both = np.all(labels, axis=1)
    ways = np.linalg.qr(rng.standard_normal((WIDTH, n_ways)))[0]
    x += 1.5 * both[:, None] * ways[:, rng.integers(0, n_ways, N_TOKENS)].T
    directions = found(x, sampled(labels))
    inside = np.linalg.norm(directions.T @ ways, axis=0)
    # noise of 0.15 beside steps of 1.5 on hundreds of tokens: the subspace is known to some per cent
    assert (inside > 0.95).all()
    mean_alone = np.abs(directions[:, 0] @ ways)
    assert (
        mean_alone.min() > 0.9 if n_ways == 1 else mean_alone.max() < 0.8
    )  # the control: one direction is not enough
    # what adds up is left alone: A's and B's own directions lie in it no more than any direction does
    codes = np.linalg.lstsq(labels.astype(float), x, rcond=None)[0]
    own = np.linalg.norm(directions.T @ (codes / np.linalg.norm(codes, axis=1, keepdims=True)).T, axis=0)
    assert (own < 0.75).all()


def test_tokens_beyond_the_inputs_are_left_out_and_too_few_give_nothing() -> None:
    _, labels, x = additive(2)
    sample = sampled(labels)
    first = found(x[:3_000], sample)
    low, high = sample.between(0, 3_000)
    cut = TokenSample(
        np.concatenate([[0], np.cumsum(high - low)]),
        np.concatenate([sample.token[a:b] for a, b in zip(low, high, strict=True)]),
        np.concatenate([sample.first_of_doc[a:b] for a, b in zip(low, high, strict=True)]),
        sample.n_natural,
    )
    np.testing.assert_array_equal(first, found(x[:3_000], cut))
    assert np.abs(first).sum() > 0
    assert not found(x[:1], sample).any()


def test_few_directions_for_narrow_inputs() -> None:
    assert [n_directions(width) for width in (2, 16, 32, 64, 576, 4_096)] == [1, 2, 4, 8, 8, 8]
