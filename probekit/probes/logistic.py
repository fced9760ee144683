"""Logistic refit of many k-sparse readouts, each on the few tokens that say something about it.

Least squares finds the direction and weighs rare positives badly; a logistic fit on the same support corrects that. Fitted
on all tokens its cost is many passes over n_tokens × k a target. Local case-control sampling (Fithian & Hastie, Annals
of Statistics 42, 2014, §3) keeps a token with a probability that grows with the error |y − p̃| of a pilot, so that nearly
all clear negatives are left out. Kept tokens are weighed by the inverse of that probability (Horvitz–Thompson): then
the fit estimates the same coefficients as one on all tokens, also where the logistic model does not hold.
Axes: token neuron target k entry.
"""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float, Int

from probekit.errors import InputError, ShapeError

PILOT = 1_000
"""Negatives, shared by all targets, and positives at most that the pilot is fitted on."""
OVERSAMPLE = 50.0
"""A token is kept with this many times the pilot's error, at most 1: one that the pilot gives 2 % or more is always
kept. At 5 the sample was smaller and lost 0.008 of F1 on a dense layer (`benchmarks/README.md`, one probe)."""
FLOOR = 0.01
"""The least probability: bounds the weight of a token on which the pilot is wrong."""
MAX_STEP = 4.0
"""Largest change of a coefficient (in standard deviations of its neuron) in one Newton step: separable targets."""
MAX_STEPS = 30
TOLERANCE = 1e-4
"""Newton ends when no coefficient moves by more: quadratic convergence, so what is left is far below."""
ROUGHLY = 0.05
"""The same for the pilot: it only says which tokens to keep, and their weights make up for its error."""


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _solve(matrix, vector, n):  # pragma: no cover - compiled
    """Cholesky of the leading n × n block, in place; `vector` becomes the solution."""
    for j in range(n):
        for i in range(j, n):
            total = matrix[i, j]
            for s in range(j):
                total -= matrix[i, s] * matrix[j, s]
            matrix[i, j] = np.sqrt(max(total, 1e-12)) if i == j else total / matrix[j, j]
    for i in range(n):
        for s in range(i):
            vector[i] -= matrix[i, s] * vector[s]
        vector[i] /= matrix[i, i]
    for i in range(n - 1, -1, -1):
        for s in range(i + 1, n):
            vector[i] -= matrix[s, i] * vector[s]
        vector[i] /= matrix[i, i]


@numba.njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _newton(x, y, weight, penalty, coefficients, n_rows, tolerance):  # pragma: no cover - compiled  # noqa: C901
    """Newton's method on Σ weight·log-loss + ½ Σ penalty·w²; x is [column row], `coefficients` start and end."""
    n = len(coefficients)
    hessian, step = np.empty((n, n)), np.empty(n)
    score, curve = np.empty(n_rows), np.empty(n_rows)
    held, before = np.empty(n_rows), np.empty(n)
    last = np.inf
    for _ in range(MAX_STEPS):
        score[:] = 0.0
        for i in range(n):
            for r in range(n_rows):
                score[r] += coefficients[i] * x[i, r]
        loss = 0.0
        for r in range(n_rows):
            small = np.exp(-abs(score[r]))
            p = 1.0 / (1.0 + small)
            curve[r] = weight[r] * small * p * p
            loss += weight[r] * (max(score[r], 0.0) - y[r] * score[r] + np.log1p(small))
            p = p if score[r] > 0.0 else 1.0 - p
            score[r] = weight[r] * (y[r] - p)
        for i in range(n):
            loss += 0.5 * penalty[i] * coefficients[i] ** 2
        if loss > last * (1.0 + 1e-12):
            # too far: half the way back
            for i in range(n):
                coefficients[i] = 0.5 * (coefficients[i] + before[i])
            continue
        last = loss
        before[:] = coefficients
        for i in range(n):
            pull = 0.0
            for r in range(n_rows):
                pull += score[r] * x[i, r]
                held[r] = curve[r] * x[i, r]
            step[i] = pull - penalty[i] * coefficients[i]
            for j in range(i + 1):
                total = 0.0
                for r in range(n_rows):
                    total += held[r] * x[j, r]
                hessian[i, j] = total
            hessian[i, i] += penalty[i] + 1e-9
        _solve(hessian, step, n)
        largest = 0.0
        for i in range(n):
            largest = max(largest, abs(step[i]))
        shrink = min(1.0, MAX_STEP / max(largest, 1e-300))
        for i in range(n):
            coefficients[i] += shrink * step[i]
        if largest < tolerance:
            break


@numba.njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _usable(support, sd, ridge, used, penalty):  # pragma: no cover - compiled
    """Neurons of a support that vary, into `used`, and the penalty of each beside the intercept's 0; returns how many."""
    n_used = 0
    for i in range(len(support)):
        if support[i] >= 0 and sd[support[i]] > 0.0:
            used[n_used] = support[i]
            n_used += 1
            penalty[n_used] = ridge / sd[support[i]] ** 2
    return n_used


@numba.njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _pilot_rows(positives, pool, truth, taken, weight):  # pragma: no cover - compiled
    """Rows of the pilot: positives (thinned evenly) and the shared negatives, weighed back to their numbers.

    Returns how many there are, and how many of them are positives.
    """
    n_tokens, n_positive, n_rows = len(truth), len(positives), 0
    stride = -(-n_positive // PILOT)
    for e in range(0, n_positive, stride):
        taken[n_rows] = positives[e]
        n_rows += 1
    n_first = n_rows
    for t in pool:
        if not truth[t] and n_rows < n_tokens:
            taken[n_rows] = t
            n_rows += 1
    for r in range(n_rows):
        first = r < n_first
        weight[r] = n_positive / n_first if first else (n_tokens - n_positive) / (n_rows - n_first)
    return n_rows, n_first


@numba.njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _scores(columns, mean, sd, used, beta, n_used):  # pragma: no cover - compiled
    """The pilot's log-odds of every token, float32 [token]."""
    n_tokens = columns.shape[1]
    score = np.full(n_tokens, np.float32(beta[0]))
    for i in range(n_used):
        c, slope = used[i], np.float32(beta[i + 1] / sd[used[i]])
        shift = np.float32(mean[c])
        for t in range(n_tokens):
            score[t] += slope * (columns[c, t] - shift)
    return score


@numba.njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _sampled_rows(
    score, truth, uniform, threshold, oversample, floor, taken, weight
):  # pragma: no cover - compiled
    """Tokens kept with a probability that grows with the pilot's error, weighed by its inverse; returns how many."""
    n_rows = 0
    for t in range(len(score)):
        if truth[t]:
            wrong = 1.0 / (1.0 + np.exp(score[t]))
            chance = min(1.0, max(floor, oversample * wrong))
            if uniform[t] < chance:
                taken[n_rows] = t
                weight[n_rows] = 1.0 / chance
                n_rows += 1
        # for a negative, uniform < oversample·σ(score) is score > threshold: no exponential a token
        elif score[t] > threshold[t] or uniform[t] < floor:
            taken[n_rows] = t
            wrong = 1.0 / (1.0 + np.exp(-score[t]))
            weight[n_rows] = 1.0 / min(1.0, max(floor, oversample * wrong))
            n_rows += 1
    return n_rows


@numba.njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _store(support, mean, sd, used, beta, coefficients):  # pragma: no cover - compiled
    """Coefficients in the units of the neurons, at the places of the support; the intercept last."""
    k, place = len(support), 0
    coefficients[k] = beta[0]
    for i in range(k):
        if support[i] >= 0 and sd[support[i]] > 0.0:
            w = beta[place + 1] / sd[used[place]]
            coefficients[i] = w
            coefficients[k] -= w * mean[used[place]]
            place += 1


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _refit(  # noqa: PLR0913
    columns, mean, sd, ptr, tokens, support, pool, uniform, threshold, ridge, oversample, floor, coefficients, n_kept
):  # fmt: skip  # pragma: no cover - compiled
    n_tokens, k = columns.shape[1], support.shape[1]
    for p in numba.prange(len(support)):
        positives = tokens[ptr[p] : ptr[p + 1]]
        n_positive = len(positives)
        used, penalty = np.empty(k, np.int64), np.zeros(k + 1)
        n_used = _usable(support[p], sd, ridge, used, penalty)
        if n_positive == 0 or n_positive == n_tokens:
            continue
        truth = np.zeros(n_tokens, np.bool_)
        for t in positives:
            truth[t] = True
        n = n_used + 1
        beta = np.zeros(n)
        beta[0] = np.log(n_positive / (n_tokens - n_positive))
        taken, weight = np.empty(n_tokens, np.int64), np.empty(n_tokens)
        if oversample == np.inf:
            for t in range(n_tokens):
                taken[t] = t
                weight[t] = 1.0
            n_rows = n_tokens
        else:
            n_rows, n_first = _pilot_rows(positives, pool, truth, taken, weight)
            if n_rows > n_first:
                _fit_rows(columns, mean, sd, truth, taken, weight, used, penalty, beta, n_rows, n, ROUGHLY)
            score = _scores(columns, mean, sd, used, beta, n_used)
            n_rows = _sampled_rows(score, truth, uniform, threshold, oversample, floor, taken, weight)
        n_kept[p] = n_rows
        _fit_rows(columns, mean, sd, truth, taken, weight, used, penalty, beta, n_rows, n, TOLERANCE)
        _store(support[p], mean, sd, used, beta, coefficients[p])


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _fit_rows(  # noqa: PLR0913
    columns, mean, sd, truth, taken, weight, used, penalty, beta, n_rows, n, tolerance
):  # pragma: no cover - compiled
    x, y = np.empty((n, n_rows)), np.empty(n_rows)
    for r in range(n_rows):
        x[0, r] = 1.0
        y[r] = 1.0 if truth[taken[r]] else 0.0
    for i in range(n - 1):
        c = used[i]
        for r in range(n_rows):
            x[i + 1, r] = (columns[c, taken[r]] - mean[c]) / sd[c]
    _newton(x, y, weight, penalty[:n], beta, n_rows, tolerance)


def logistic_refit(
    columns: Float[np.ndarray, "neuron token"],
    positives: tuple[Int[np.ndarray, " target_and_one"], Int[np.ndarray, " entry"]],
    support: Int[np.ndarray, "target k"],
    *,
    rng: np.random.Generator,
    ridge: float = 1.0,
    oversample: float = OVERSAMPLE,
    floor: float = FLOOR,
) -> tuple[Float[np.ndarray, "target k"], Float[np.ndarray, " target"], Int[np.ndarray, " target"]]:
    """Logistic regression of many targets, each on its own support.

    Minimises Σ log-loss + ½·ridge·‖w‖² with a free intercept; scikit-learn's `LogisticRegression(C=1/ridge)` minimises
    the same.

    Args:
        columns: fp32 activations, neuron-major.
        positives: start of each target's list, and the ascending tokens at which it holds
            (`probekit.probes.lists.segments` gives both).
        support: neurons of each target, −1 where unused.
        rng: draws the shared negatives of the pilot and decides which tokens are kept.
        ridge: strength of the penalty.
        oversample: expected tokens kept for a unit of the pilot's error; infinity keeps all and needs no pilot.
        floor: least probability with which a token is kept.

    Returns:
        Weights [target k] (0 where unused), intercepts [target] and the number of tokens each final fit used (0 where
        a target holds nowhere or everywhere: then all its coefficients are 0).

    Raises:
        InputError: ridge ≤ 0, floor outside (0, 1], or oversample < 1.
        ShapeError: the lists and supports are not equally many.
    """
    ptr, tokens = positives
    if len(ptr) != len(support) + 1:
        raise ShapeError(
            f"logistic_refit: got {len(ptr) - 1} lists of positives and {len(support)} supports; wanted one list for "
            "each target."
        )
    if not (ridge > 0 and 0 < floor <= 1 and oversample >= 1):
        raise InputError(
            f"logistic_refit: got ridge={ridge}, floor={floor}, oversample={oversample}; wanted ridge > 0, 0 < floor ≤ 1 "
            "and oversample ≥ 1."
        )
    n_tokens = columns.shape[1]
    pool = np.sort(rng.choice(n_tokens, min(PILOT, n_tokens), replace=False))
    # one uniform number a token, shared by the targets: which tokens are kept depends on the target by its pilot alone
    uniform = rng.random(n_tokens)
    share = uniform / oversample
    with np.errstate(divide="ignore"):
        threshold = np.log(share / (1 - share)).astype(np.float32)
    used = np.unique(support[support >= 0])
    mean, sd = np.zeros(len(columns)), np.zeros(len(columns))
    mean[used], sd[used] = (part.astype(float) for part in _moments(columns, used))
    coefficients = np.zeros((len(support), support.shape[1] + 1))
    n_kept = np.zeros(len(support), np.int64)
    _refit(
        columns, mean, sd, ptr, tokens, support, pool, uniform, threshold, float(ridge), float(oversample), float(floor),
        coefficients, n_kept,
    )  # fmt: skip
    return coefficients[:, :-1], coefficients[:, -1], n_kept


def _moments(columns: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, sd = np.empty(len(used)), np.empty(len(used))
    for place, neuron in enumerate(used):
        column = columns[neuron].astype(float)
        mean[place], sd[place] = column.mean(), column.std()
    return mean, sd
