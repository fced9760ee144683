"""Logistic refit on a sample against scikit-learn on everything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from probekit.errors import InputError, ShapeError
from probekit.probes.logistic import OVERSAMPLE, logistic_refit

N, WIDTH, K, TARGETS = 20_000, 40, 6, 8


@pytest.fixture(scope="module")
def problem():
    """Rare targets (1 to 5 % positive) that follow a logistic model on their support; columns of different scales."""
    rng = np.random.default_rng(3)
    scale, shift = np.exp(rng.normal(0, 1, WIDTH)), rng.normal(0, 3, WIDTH)
    x = (rng.standard_normal((N, WIDTH)) * scale + shift).astype(np.float32)
    support = np.stack([rng.permutation(WIDTH)[:K] for _ in range(TARGETS)]).astype(np.int32)
    weights = rng.normal(0, 1.5, support.shape)
    score = np.stack([(x[:, s] - shift[s]) / scale[s] @ w for s, w in zip(support, weights, strict=True)])
    held = rng.random(score.shape) < expit(score - 6)
    target, token = np.nonzero(held)
    ptr = np.searchsorted(target, np.arange(TARGETS + 1))
    return x, held, (ptr, token.astype(np.int32)), support


def reference(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Coefficients and intercept at ridge 1, each in units of one standard deviation of its column."""
    fit = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000, solver="newton-cholesky").fit(x, y, weights)
    return np.append(fit.coef_[0], fit.intercept_[0])


@pytest.mark.sweep
def test_on_all_tokens_it_is_logistic_regression(problem) -> None:
    x, held, lists, support = problem
    weights, intercept, n_kept = logistic_refit(
        np.ascontiguousarray(x.T), lists, support, rng=np.random.default_rng(0), oversample=np.inf
    )
    assert (n_kept == N).all()
    for t in range(TARGETS):
        expected = reference(x[:, support[t]].astype(float), held[t])
        # Newton to 1e-6 here, gradient to 1e-10 there
        np.testing.assert_allclose(np.append(weights[t], intercept[t]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("oversample", "share"), [pytest.param(5.0, 0.4, marks=pytest.mark.sweep), (OVERSAMPLE, 0.5)]
)
def test_a_sample_estimates_the_same_coefficients(problem, oversample: float, share: float) -> None:
    """Within the standard error of the full fit, from some of the tokens; plain thinning does worse."""
    x, held, lists, support = problem
    weights, intercept, n_kept = logistic_refit(
        np.ascontiguousarray(x.T), lists, support, rng=np.random.default_rng(0), oversample=oversample
    )
    assert n_kept.max() < share * N
    ours, thinned = [], []
    rng = np.random.default_rng(1)
    for t in range(TARGETS):
        columns = x[:, support[t]].astype(float)
        full = reference(columns, held[t])
        design = np.column_stack([columns, np.ones(N)])
        p = expit(design @ full)
        covariance = np.linalg.inv((design * (p * (1 - p))[:, None]).T @ design)
        error = np.sqrt(np.diag(covariance))
        ours.append((np.append(weights[t], intercept[t]) - full) / error)
        kept = rng.permutation(N)[: n_kept[t]]
        thinned.append((reference(columns[kept], held[t, kept]) - full) / error)
    # Fithian & Hastie: the sample multiplies the variance by 1 + 1/c at most, so it adds 1/√c standard errors;
    # twice that for the weights and 56 coefficients
    assert np.sqrt(np.mean(np.square(ours))) < 2 / np.sqrt(oversample)
    assert np.sqrt(np.mean(np.square(thinned))) > 2 * np.sqrt(np.mean(np.square(ours)))


def test_unused_places_constant_columns_and_targets_that_never_vary(problem) -> None:
    x, _, (ptr, tokens), support = problem
    columns = np.ascontiguousarray(x.T)
    columns[support[0, 1]] = 3.0
    support = support.copy()
    support[0, 3] = -1
    both = np.concatenate([ptr, [ptr[-1], ptr[-1] + N]])
    all_of_them = np.concatenate([tokens, np.arange(N, dtype=np.int32)])
    more = np.concatenate([support, support[:2]])
    weights, intercept, n_kept = logistic_refit(
        columns, (both, all_of_them), more, rng=np.random.default_rng(0)
    )
    assert (weights[0, [1, 3]] == 0).all()
    assert (np.abs(weights[0, [0, 2, 4, 5]]) > 0).all()
    assert (n_kept[-2:] == 0).all()
    assert (weights[-2:] == 0).all()
    assert (intercept[-2:] == 0).all()
    assert np.isfinite(weights).all()


def test_a_separable_target_ends(problem) -> None:
    x, _, _, support = problem
    neuron = support[0, 0]
    held = x[:, neuron] > np.quantile(x[:, neuron], 0.97)
    lists = np.array([0, held.sum()]), np.flatnonzero(held).astype(np.int32)
    weights, intercept, _ = logistic_refit(
        np.ascontiguousarray(x.T), lists, support[:1], rng=np.random.default_rng(0)
    )
    score = x[:, support[0]] @ weights[0] + intercept[0]
    assert np.isfinite(score).all()
    assert ((score > 0) == held).mean() > 0.995


def test_threads_do_not_change_it(problem) -> None:
    import numba

    x, _, lists, support = problem
    columns = np.ascontiguousarray(x.T)
    before = numba.get_num_threads()
    try:
        found = []
        for n_threads in (1, before):
            numba.set_num_threads(n_threads)
            found.append(logistic_refit(columns, lists, support, rng=np.random.default_rng(5)))
    finally:
        numba.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        assert one.tobytes() == two.tobytes()


SCRIPT = """
import hashlib
import numpy as np
from probekit.probes.logistic import logistic_refit
rng = np.random.default_rng(0)
columns = rng.standard_normal((24, 4_000)).astype(np.float32)
held = [np.flatnonzero(columns[i] + columns[i + 1] > 2).astype(np.int32) for i in range(6)]
ptr = np.concatenate([[0], np.cumsum([len(one) for one in held])])
support = rng.permuted(np.tile(np.arange(24), (6, 1)), axis=1)[:, :9].astype(np.int32)
found = logistic_refit(columns, (ptr, np.concatenate(held)), support, rng=np.random.default_rng(1))
print(hashlib.sha256(b"".join(one.tobytes() for one in found)).hexdigest())
"""


@pytest.mark.sweep
def test_kernels_just_compiled_and_kept_ones_give_the_same_bits(tmp_path: Path) -> None:
    """As in tests/faults/test_grid.py, for the kernels that a run does not use."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    said = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert list(tmp_path.rglob("*.nbc")), "they were compiled here"
    assert len(said[0]) > 60
    assert said[0] == said[1]


def test_refusals(problem) -> None:
    x, _, lists, support = problem
    columns = np.ascontiguousarray(x.T)
    with pytest.raises(ShapeError, match="8 lists of positives and 7 supports"):
        logistic_refit(columns, lists, support[1:], rng=np.random.default_rng(0))
    with pytest.raises(InputError, match=r"ridge=0\.0"):
        logistic_refit(columns, lists, support, rng=np.random.default_rng(0), ridge=0.0)
