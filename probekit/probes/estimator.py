"""k-sparse probe of one boolean target, with the scikit-learn interface.

The same two steps as for pairs, for a single label: forward selection by the largest drop in residual sum of squares of
the 0/1 target (from the Gram matrix, or from the rows where there are fewer tokens than neurons), then a refit in which
both classes weigh the same (logistic regression on the selected neurons), so that rare positives are not crushed.
Axes: token neuron chosen target.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from probekit.errors import DegenerateError, InputError
from probekit.probes.select import CONSTANT, forward_rows, forward_targets


class SparseProbe(ClassifierMixin, BaseEstimator):
    """Binary classifier that reads at most k features.

    Args:
        k: int, the number of features it may use, clipped to the number there are.

    Attributes:
        neurons_: Int[chosen], the features used in order of selection.
        coef_: Float[target neuron], weights on the features themselves, 0 on those not used; there is one target.
        intercept_: Float[target].
        classes_: the two labels, sorted.
        n_features_in_: features seen in `fit`.
    """

    neurons_: Int[np.ndarray, " chosen"]
    coef_: Float[np.ndarray, "target neuron"]
    intercept_: Float[np.ndarray, " target"]
    classes_: np.ndarray
    n_features_in_: int

    def __init__(self, k: Any = 16) -> None:
        self.k = k  # as given: scikit-learn wants parameters checked in `fit`

    def __sklearn_tags__(self) -> Tags:
        """Two classes only."""
        tags = super().__sklearn_tags__()
        assert tags.classifier_tags is not None
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: Any, y: Any) -> SparseProbe:
        """Select the features and refit on them.

        Args:
            X: Float[token neuron].
            y: one of two labels for each token.

        Raises:
            InputError: k is not a whole number ≥ 1, or more than two classes.
            DegenerateError: only one class.
        """
        if isinstance(self.k, bool) or not isinstance(self.k, Integral) or self.k < 1:
            raise InputError(f"SparseProbe: got k={self.k!r}; wanted a whole number of at least 1.")
        checked: Any = validate_data(self, X, y, dtype=np.float64)
        rows, target = checked[0], column_or_1d(checked[1], warn=True)
        check_classification_targets(target)
        kind = type_of_target(target, input_name="y", raise_unknown=True)
        if kind != "binary":
            raise InputError(
                f"SparseProbe: Only binary classification is supported. The type of the target is {kind}."
            )
        self.classes_, truth = np.unique(target, return_inverse=True)
        if len(self.classes_) < 2:
            raise DegenerateError(
                f"SparseProbe: y has one class only, {self.classes_[0]!r}; wanted two, so give tokens of both."
            )
        # units of one standard deviation: neither the selection nor the penalty of the refit depends on scale
        mean = rows.mean(0)
        units = rows - mean
        sd = np.sqrt(np.einsum("tn,tn->n", units, units) / len(units))
        moves = sd > CONSTANT * np.abs(mean)
        units *= np.where(
            moves, 1 / np.where(moves, sd, 1.0), 0.0
        )  # in place: of wide rows there is one copy
        centred, k = truth - truth.mean(), int(self.k)
        if rows.shape[1] > len(rows):
            self.neurons_ = forward_rows(units, centred, k)
        else:
            path = forward_targets(units.T @ units, (centred @ units)[None], k)[0]
            self.neurons_ = path[path >= 0]
        self.coef_, self.intercept_ = np.zeros((1, rows.shape[1])), np.zeros(1)
        if len(self.neurons_):
            chosen = self.neurons_
            refit = LogisticRegression(class_weight="balanced", max_iter=1_000).fit(units[:, chosen], truth)
            self.coef_[0, chosen] = refit.coef_[0] / sd[chosen]
            self.intercept_ = refit.intercept_ - self.coef_ @ mean
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, " token"]:
        """Log-odds of the second class, both classes weighing the same."""
        check_is_fitted(self)
        rows: Any = validate_data(self, X, dtype=np.float64, reset=False)
        return rows[:, self.neurons_] @ self.coef_[0, self.neurons_] + self.intercept_[0]

    def predict(self, X: Any) -> np.ndarray:
        """The likelier class of each token."""
        second = self.decision_function(X) > 0
        return self.classes_[second.astype(int)]

    def predict_proba(self, X: Any) -> Float[np.ndarray, "token 2"]:
        """Probability of each class, in the order of `classes_`."""
        second = expit(self.decision_function(X))
        return np.stack([1 - second, second], axis=1)
