"""Held-out errors from fold moments against refits on the tokens themselves."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.errors import InputError
from probekit.probes.heldout import held_out
from probekit.probes.moments import Moments, fold_of
from probekit.probes.select import forward_select

K, FOLDS = 6, 5


def direct(
    planted, pair: int, support: np.ndarray, fold: np.ndarray, *, additive: bool
) -> tuple[float, float]:
    """Least squares on the tokens of the other folds, judged on those of one; supports as given for each fold."""
    a, b = planted.labels[:, planted.pairs[pair]].T
    y = (a & b).astype(float)
    base = np.column_stack([np.ones(len(y)), a, b][: 3 if additive else 1]).astype(float)
    error = baseline = 0.0
    for f in range(FOLDS):
        out = fold == f
        for columns, total in ((np.column_stack([base, planted.x[:, support[f]]]), "error"), (base, "base")):
            fitted = columns @ np.linalg.lstsq(columns[~out], y[~out])[0]
            left = ((y - fitted)[out] ** 2).sum()
            error, baseline = (error + left, baseline) if total == "error" else (error, baseline + left)
    return error, baseline


@pytest.mark.parametrize("additive", [True, False])
def test_the_error_is_that_of_direct_refits(planted, additive: bool) -> None:
    moments = planted.moments(n_folds=FOLDS)
    found = held_out(moments, k=K, additive=additive)
    fold = fold_of(planted.docs, FOLDS)
    supports = [
        forward_select(moments.finalize(np.arange(FOLDS) != f), K, additive=additive) for f in range(FOLDS)
    ]
    assert found.n_tokens == len(planted.x)
    for pair in range(len(planted.pairs)):
        error, baseline = direct(
            planted, pair, np.stack([s[pair] for s in supports]), fold, additive=additive
        )
        # fp32 products of a tile against fp64 least squares
        assert abs(found.r2[pair] - (1 - error / baseline)) < 1e-5
    # positive control: the two planted pairs are read far better than the rest
    assert found.r2[:2].min() > 3 * found.r2[2:].max() if additive else found.r2[:2].min() > 0.4


def test_nothing_to_find_removes_no_error(planted) -> None:
    """On shuffled rows the neurons know nothing: held-out error is no smaller than without them."""
    order = np.random.default_rng(0).permutation(len(planted.x))
    moments = Moments(24, 6, n_folds=FOLDS)
    moments.update(planted.x[order], planted.labels, planted.docs)
    r2 = held_out(moments, k=K).r2
    assert r2.max() < 0.002
    assert r2.mean() < 0


def test_folds_without_tokens_are_passed_over(planted) -> None:
    few = planted.docs // 30  # five documents
    moments = Moments(24, 6, n_folds=FOLDS)
    moments.update(planted.x, planted.labels, few)
    filled = len(np.unique(fold_of(few, FOLDS)))
    assert 2 <= filled < FOLDS
    assert np.isfinite(held_out(moments, k=K).r2).all()
    one = Moments(24, 6)
    one.update(planted.x, planted.labels, planted.docs)
    with pytest.raises(InputError, match="1 of 1 folds hold tokens; wanted at least two"):
        held_out(one)


def test_a_concept_that_a_fold_does_not_have(planted) -> None:
    labels = planted.labels.copy()
    labels[fold_of(planted.docs, FOLDS) == 2, 3] = False
    labels[:, 5] = True
    moments = Moments(24, 6, n_folds=FOLDS)
    moments.update(planted.x, labels, planted.docs)
    found = held_out(moments, k=K)
    assert np.isfinite(found.error).all()
    assert found.r2[planted.pairs.tolist().index([0, 5])] == pytest.approx(0, abs=1e-9)
