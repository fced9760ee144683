"""Moments against numpy in fp64, whatever the blocks; the shift; folds; Frisch–Waugh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from probekit.errors import DegenerateError, InputError, NonFiniteError, ShapeError
from probekit.probes.moments import FrozenMoments, Moments, affine_image, fold_of
from probekit.probes.tiles import TILE

ARRAYS = ("mean", "gram", "concept_sums", "pair_sums", "n_concept", "n_pair")


def oracle(planted, kept: np.ndarray | None = None) -> FrozenMoments:
    """The same from centred fp64 data."""
    kept = np.ones(len(planted.x), bool) if kept is None else kept
    x, labels = planted.x[kept].astype(float), planted.labels[kept]
    mean = x.mean(0)
    both = labels[:, planted.pairs[:, 0]] & labels[:, planted.pairs[:, 1]]
    centred = x - mean
    return FrozenMoments(
        len(x), mean, centred.T @ centred, labels.T.astype(float) @ centred, both.T.astype(float) @ centred,
        labels.sum(0), both.sum(0), planted.pairs,
    )  # fmt: skip


def assert_close(got: FrozenMoments, wanted: FrozenMoments) -> None:
    assert got.n_tokens == wanted.n_tokens
    np.testing.assert_array_equal(got.n_concept, wanted.n_concept)
    np.testing.assert_array_equal(got.n_pair, wanted.n_pair)
    # fp32 products over tiles of 4,096 shifted rows: relative error at most 4,096·2⁻²⁴ = 2.4e-4 of Σ|x||x|, and
    # √4,096·2⁻²⁴ = 4e-6 where rounding is random; five times that
    scale = np.sqrt(np.diag(wanted.gram))
    np.testing.assert_allclose(got.gram, wanted.gram, rtol=0, atol=2e-5 * scale.max() ** 2)
    root = scale.max() * np.sqrt(wanted.n_tokens)
    np.testing.assert_allclose(got.mean, wanted.mean, atol=1e-6 * (1 + np.abs(wanted.mean).max()))
    np.testing.assert_allclose(got.concept_sums, wanted.concept_sums, rtol=0, atol=2e-5 * root)
    np.testing.assert_allclose(got.pair_sums, wanted.pair_sums, rtol=0, atol=2e-5 * root)


def test_moments_are_those_of_centred_data(planted) -> None:
    assert_close(planted.moments().finalize(), oracle(planted))


def test_moments_of_an_affine_image_are_those_that_its_rows_give(planted) -> None:
    rng = np.random.default_rng(4)
    weight = torch.from_numpy(rng.standard_normal((9, planted.x.shape[1]))).float()
    bias = torch.from_numpy(rng.standard_normal(9)).float()
    image = planted.x.astype(float) @ weight.double().numpy().T + bias.double().numpy()
    wanted = oracle(replace(planted, x=image))
    exact = affine_image(oracle(planted), weight, bias)
    for name in ARRAYS:
        # fp64 throughout
        values = getattr(wanted, name)
        np.testing.assert_allclose(getattr(exact, name), values, rtol=0, atol=1e-10 * np.abs(values).max())
    assert_close(affine_image(planted.moments().finalize(), weight, bias), wanted)
    # the control: the bias is in the mean and nowhere else
    without = affine_image(oracle(planted), weight, torch.zeros(9))
    np.testing.assert_allclose(exact.mean - without.mean, bias, rtol=1e-6)
    np.testing.assert_array_equal(exact.gram, without.gram)


@pytest.mark.parametrize("n_folds", [1, 3])
def test_bit_identical_for_any_blocks(planted, n_folds: int) -> None:
    n_tokens = len(planted.x)
    assert n_tokens > TILE  # otherwise there would be one tile whatever the blocks
    reference = planted.moments(n_folds).finalize()
    for n_block in (1, 7, 64, 1_000):
        moments = Moments(planted.x.shape[1], planted.labels.shape[1], pairs=planted.pairs, n_folds=n_folds)
        for start in range(0, n_tokens, n_block):
            rows = slice(start, start + n_block)
            moments.update(planted.x[rows], planted.labels[rows], planted.docs[rows])
        got = moments.finalize()
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(got, name), getattr(reference, name), err_msg=name)
    # positive control: other tiles would not have given the same bits
    moments = Moments(planted.x.shape[1], planted.labels.shape[1], pairs=planted.pairs)
    moments.update(planted.x[:3_000], planted.labels[:3_000], planted.docs[:3_000])
    moments.finalize()
    moments.update(planted.x[3_000:], planted.labels[3_000:], planted.docs[3_000:])
    assert not np.array_equal(moments.finalize().gram, reference.gram)


def test_a_caller_may_use_its_buffers_again(planted) -> None:
    moments = Moments(planted.x.shape[1], planted.labels.shape[1], pairs=planted.pairs)
    x, labels, docs = np.empty_like(planted.x[:100]), np.empty_like(planted.labels[:100]), np.empty(100, int)
    for start in range(0, len(planted.x), 100):
        rows = slice(start, start + 100)
        x[:], labels[:], docs[:] = planted.x[rows], planted.labels[rows], planted.docs[rows]
        moments.update(torch.from_numpy(x), labels, docs)
    np.testing.assert_array_equal(moments.finalize().gram, planted.moments().finalize().gram)


def test_torch_and_numpy_alike(planted) -> None:
    moments = Moments(planted.x.shape[1], planted.labels.shape[1], pairs=torch.from_numpy(planted.pairs))
    moments.update(*(torch.from_numpy(part) for part in (planted.x, planted.labels, planted.docs)))
    for name in ARRAYS:
        np.testing.assert_array_equal(
            getattr(moments.finalize(), name), getattr(planted.moments().finalize(), name)
        )
    integers = Moments(planted.x.shape[1], planted.labels.shape[1])
    integers.update(planted.x.astype(np.float64), planted.labels.astype(np.int8), planted.docs)
    np.testing.assert_array_equal(integers.finalize().pair_sums, planted.moments().finalize().pair_sums)


def test_the_shift_keeps_the_digits_that_a_large_mean_would_cost() -> None:
    rng = np.random.default_rng(0)
    deviation = rng.standard_normal((20_000, 4))
    x = (1_000 + deviation).astype(np.float32)
    labels = rng.random((20_000, 2)) < 0.4
    moments = Moments(4, 2)
    moments.update(x, labels, np.arange(20_000) // 50)
    exact = x.astype(float) - x.astype(float).mean(0)
    # √4,096·2⁻²⁴ = 4e-6 of the variance 1 where rounding is random; five times that
    error = np.abs(moments.finalize().gram - exact.T @ exact).max() / 20_000
    assert error < 2e-5
    # positive control: the same tiles without a shift, summed in fp64 and centred afterwards
    raw = np.zeros((4, 4))
    for start in range(0, 20_000, TILE):
        part = torch.from_numpy(x[start : start + TILE])
        raw += (part.T @ part).numpy()
    mean = x.astype(float).mean(0)
    unshifted = np.abs(raw - 20_000 * np.outer(mean, mean) - exact.T @ exact).max() / 20_000
    assert unshifted > 100 * error


def test_folds_sum_to_the_whole_and_stand_alone(planted) -> None:
    moments = planted.moments(n_folds=3)
    assert_close(moments.finalize(), oracle(planted))
    fold = fold_of(planted.docs, 3)
    parts = [moments.finalize(np.arange(3) == f) for f in range(3)]
    for f, part in enumerate(parts):
        assert_close(part, oracle(planted, fold == f))
        assert_close(moments.finalize(np.arange(3) != f), oracle(planted, fold != f))
    whole = moments.finalize()
    assert sum(part.n_tokens for part in parts) == whole.n_tokens
    np.testing.assert_array_equal(sum(part.n_pair for part in parts), whole.n_pair)
    # documents, not tokens, are dealt to folds, and every fold gets some
    assert all(len(np.unique(fold[planted.docs == d])) == 1 for d in np.unique(planted.docs))
    assert np.bincount(fold, minlength=3).min() > 0


def test_partialled_is_least_squares_with_explicit_columns(planted) -> None:
    """Frisch–Waugh: residuals on 1, A and B have these cross-moments and these variances."""
    moments = oracle(planted)
    a_unit, b_unit, b_on_a, y_on_a, y_on_b = moments.partialled()
    x = planted.x.astype(float)
    for p, (a, b) in enumerate(planted.pairs):
        columns = np.column_stack([np.ones(len(x)), planted.labels[:, a], planted.labels[:, b]]).astype(float)
        y = (planted.labels[:, a] & planted.labels[:, b]).astype(float)
        both = np.column_stack([x, y])
        residual = both - columns @ np.linalg.lstsq(columns, both)[0]
        v1 = moments.concept_sums[a] * a_unit[p]
        v2 = (moments.concept_sums[b] - b_on_a[p] * moments.concept_sums[a]) * b_unit[p]
        cross = moments.pair_sums[p] - y_on_a[p] * v1 - y_on_b[p] * v2
        # fp64 throughout: 6,000 tokens, condition ~10
        np.testing.assert_allclose(cross, residual[:, :-1].T @ residual[:, -1], atol=1e-8)
        gram = moments.gram - np.outer(v1, v1) - np.outer(v2, v2)
        np.testing.assert_allclose(gram, residual[:, :-1].T @ residual[:, :-1], atol=1e-7)


def test_nothing_to_take_out_is_left(planted) -> None:
    """A concept on no token, on all of them, or equal to the other one makes no NaN."""
    labels = planted.labels.copy()
    labels[:, 1], labels[:, 2], labels[:, 3] = False, True, labels[:, 0]
    moments = Moments(planted.x.shape[1], 6)
    moments.update(planted.x, labels, planted.docs)
    frozen = moments.finalize()
    coefficients = np.stack(frozen.partialled())
    assert np.isfinite(coefficients).all()
    held = {
        tuple(pair): bool(ok)
        for pair, ok in zip(frozen.pairs.tolist(), frozen.has_interaction(), strict=True)
    }
    assert not held[0, 1]
    assert not held[0, 2]
    assert not held[0, 3]
    assert held[0, 4]
    of = {tuple(pair): coefficients[:, p] for p, pair in enumerate(frozen.pairs.tolist())}
    assert of[1, 4][0] == 0  # nothing of A
    assert of[0, 3][1] == 0  # nothing of B beyond A
    assert of[0, 4].all()  # positive control


def test_refusals(planted) -> None:
    with pytest.raises(InputError, match="at least one neuron, two concepts and one fold"):
        Moments(3, 1)
    with pytest.raises(ShapeError, match=r"got shape \(3,\) of int64; wanted whole numbers \[pair, 2\]"):
        Moments(3, 4, pairs=np.arange(3))
    for wrong in ((0, 4), (-1, 2), (1, 1)):
        with pytest.raises(InputError, match="wanted two different concepts from 0 to 3"):
            Moments(3, 4, pairs=[wrong])
    moments = Moments(3, 2)
    with pytest.raises(DegenerateError, match="no token has been seen"):
        moments.finalize()
    with pytest.raises(DegenerateError, match="no token has been seen"):
        _ = moments.shift
    x, labels, docs = np.ones((5, 3)), np.ones((5, 2), bool), np.zeros(5, int)
    for bad in ((x[:, :2], labels, docs), (x, labels[:4], docs), (x, labels, docs[:4]), (x[0], labels, docs)):
        with pytest.raises(
            ShapeError, match=r"Moments.update: got shapes .*; wanted activations \[token, 3\]"
        ):
            moments.update(*bad)
    with pytest.raises(InputError, match="labels other than 0 and 1"):
        moments.update(x, -np.ones((5, 2), int), docs)
    with pytest.raises(InputError, match="docs of dtype float64"):
        moments.update(x, labels, docs.astype(float))
    x[2, 1], x[4, 0] = np.nan, np.inf
    with pytest.raises(NonFiniteError, match=r"activations: 2 of 15 values .*first at token 2, column 1"):
        moments.update(x, labels, docs)
    with pytest.raises(DegenerateError, match="no token has been seen"):
        moments.finalize()  # what was refused left nothing behind
