"""The recipes in use, written as their authors describe them, each with its library's own solver.

All return the neurons used and their weights; none is given less than it asks for (Fortran order where the solver wants
it, unit columns for matching pursuit, fp32 where that is faster).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, orthogonal_mp_gram

Fit = tuple[np.ndarray, np.ndarray]
"""Neurons used, and their weights."""


def mean_difference(x: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
    """The k neurons of the largest difference of class means."""
    return np.argsort(-np.abs(x[y].mean(0) - x[~y].mean(0)))[:k]


def mean_difference_logistic(x: np.ndarray, y: np.ndarray, k: int) -> Fit:
    """SAEBench, and the core of sae-probes: top-k by mean difference, then scikit-learn's logistic regression."""
    support = mean_difference(x, y, k)
    fit = LogisticRegression(max_iter=1_000).fit(x[:, support], y)
    return support, fit.coef_[0]


def gurnee_saga(x: np.ndarray, y: np.ndarray, k: int) -> Fit:
    """Gurnee et al. (arXiv 2305.01610), fast heuristic: mean difference, then saga with balanced classes."""
    support = mean_difference(x, y, k)
    fit = LogisticRegression(solver="saga", class_weight="balanced", max_iter=500).fit(x[:, support], y)
    return support, fit.coef_[0]


def l1_liblinear(x: np.ndarray, y: np.ndarray, k: int) -> Fit:
    """L1-penalised logistic regression (one C), its k largest weights, refitted."""
    first = LogisticRegression(solver="liblinear", l1_ratio=1, C=0.01).fit(x, y).coef_[0]
    support = np.argsort(-np.abs(first))[:k]
    return support, LogisticRegression(max_iter=1_000).fit(x[:, support], y).coef_[0]


def transformer_lens(x: np.ndarray, y: np.ndarray, k: int) -> Fit:
    """`transformer_lens.tools.analysis.fit_sparse_probe` with its defaults (it keeps 30 % of the tokens for "
    "itself)."""
    from transformer_lens.tools.analysis.sparse_probing import fit_sparse_probe

    found = fit_sparse_probe(torch.from_numpy(x), torch.from_numpy(y), k=k)
    return found.selected_features.numpy(), found.coefficients.numpy()


def abess_logistic(x: np.ndarray, y: np.ndarray, k: int) -> Fit:
    """Best-subset selection by splicing (Zhu et al. 2020), support size k."""
    from abess import LogisticRegression as Abess

    coefficients = np.asarray(Abess(support_size=k).fit(x, y).coef_).ravel()
    support = np.flatnonzero(coefficients)
    return support, coefficients[support]


SINGLE: dict[str, tuple[Callable[[np.ndarray, np.ndarray, int], Fit], int]] = {
    "mean difference → LogisticRegression (SAEBench)": (mean_difference_logistic, 12),
    "mean difference → saga, balanced (Gurnee)": (gurnee_saga, 2),
    "L1 liblinear → top k → LogisticRegression": (l1_liblinear, 2),
    "TransformerLens fit_sparse_probe": (transformer_lens, 3),
    "abess LogisticRegression(support_size=k)": (abess_logistic, 1),
}
"""Methods that fit one probe at a time, and on how many targets each is run: as many as half a minute allows."""


def scaled(gram: np.ndarray, cross: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gram and cross-moments of columns of unit norm, and the norms: what matching pursuit expects."""
    norm = np.sqrt(np.maximum(np.diag(gram), 1e-12))
    return gram / np.outer(norm, norm), cross / norm, norm


def pursuit_loop(gram: np.ndarray, cross: np.ndarray, k: int) -> np.ndarray:
    """scikit-learn's matching pursuit, one call a target; [neuron target]."""
    return np.stack([orthogonal_mp_gram(gram, c, n_nonzero_coefs=k) for c in cross], axis=1)


def pursuit_at_once(gram: np.ndarray, cross: np.ndarray, k: int) -> np.ndarray:
    """One call for all targets; `gram` should be in Fortran order, else every target pays for a copy into it."""
    return orthogonal_mp_gram(gram, np.ascontiguousarray(cross.T), n_nonzero_coefs=k)
