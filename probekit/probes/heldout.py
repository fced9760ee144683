"""Error of k-sparse readouts on documents they have not seen, from fold moments alone.

Fold f's documents are left out by adding up the sums of the others; supports, weights and means come from what is left,
the squared error on fold f from fold f's own sums (Engstrøm, arXiv 2401.13185, without leaking the left-out fold's mean
into the fit). Nothing is read twice, and the error is that of a direct refit up to the rounding of fp32 products.
Axes: pair k column fold, where columns are 1, (A, B,) and the neurons of a support.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from probekit.errors import InputError
from probekit.probes.moments import FrozenMoments, Moments
from probekit.probes.select import forward_select, least_squares_weights

JITTER = 1e-8
"""Relative ridge of the normal equations, as in `least_squares_weights`."""


@dataclass(frozen=True)
class HeldOut:
    """Squared errors of A∧B summed over the left-out folds."""

    error: Float[np.ndarray, " pair"]
    """Σ (A∧B − readout)²."""
    baseline: Float[np.ndarray, " pair"]
    """The same without any neuron: the mean, or the best a + b·A + c·B of the other folds."""
    n_tokens: int
    """Tokens, each left out once."""

    @property
    def r2(self) -> Float[np.ndarray, " pair"]:
        """Share of the baseline's error that the neurons remove; below 0 where they harm, 0 where none is left."""
        left = self.baseline > 0
        return np.where(left, 1 - self.error / np.where(left, self.baseline, 1.0), 0.0)


def held_out(moments: Moments, *, k: int = 16, additive: bool = True) -> HeldOut:
    """Select, fit and judge every pair's readout as many times as there are folds.

    Args:
        moments: with at least two document folds; folds without tokens are passed over.
        k: neurons a readout may use.
        additive: whether 1, A and B are fitted beside the neurons (what counts is then what goes beyond any additive
            function of A and B), or 1 only.

    Raises:
        InputError: fewer than two folds hold tokens.
    """
    filled = np.flatnonzero(moments.n_tokens_of_folds > 0)
    if len(filled) < 2:
        raise InputError(
            f"held_out: {len(filled)} of {moments.n_folds} folds hold tokens; wanted at least two, so give "
            "Moments(n_folds=5) and tokens of more documents."
        )
    error, baseline = np.zeros(len(moments.pairs)), np.zeros(len(moments.pairs))
    for fold in filled:
        out = np.arange(moments.n_folds) == fold
        train, test = moments.finalize(~out), moments.finalize(out)
        support = forward_select(train, k, additive=additive)
        whole, none = _squared_errors(train, test, support, additive=additive)
        error += whole
        baseline += none
    return HeldOut(error, baseline, int(moments.n_tokens_of_folds.sum()))


def _squared_errors(
    train: FrozenMoments, test: FrozenMoments, support: Int[np.ndarray, "pair k"], *, additive: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Σ squared error on `test` of the least-squares fits on `train`: with the neurons, and without."""
    labels = _Labels.of(train, additive), _Labels.of(test, additive)
    weights = least_squares_weights(train, support, additive=additive)
    columns, used = np.maximum(support, 0), support >= 0
    cross = _label_cross(train, columns, labels[0], np.zeros(columns.shape))
    # what 1, A and B have left to do once the neurons have their weights
    base = labels[0].solve(labels[0].target - np.einsum("plk,pk->pl", cross, weights))
    alone = labels[0].solve(labels[0].target)
    drift = np.where(used, (test.mean - train.mean)[columns], 0.0)
    gram = (
        test.gram[columns[:, :, None], columns[:, None, :]]
        + test.n_tokens * drift[:, :, None] * drift[:, None, :]
    )
    cross = _label_cross(test, columns, labels[1], drift)
    target = np.take_along_axis(test.pair_sums, columns, 1) + test.n_pair[:, None] * drift
    n_both = test.n_pair.astype(float)
    none = n_both - 2 * (alone * labels[1].target).sum(1) + labels[1].quadratic(alone)
    whole = n_both - 2 * (base * labels[1].target).sum(1) + labels[1].quadratic(base)
    whole += np.einsum("pk,pkl,pl->p", weights, gram, weights)
    whole += 2 * np.einsum("pl,plk,pk->p", base, cross, weights) - 2 * (weights * target).sum(1)
    return whole, none


@dataclass(frozen=True)
class _Labels:
    """The label columns 1 (, A, B): Σ products, and with A∧B."""

    gram: np.ndarray
    target: np.ndarray

    @classmethod
    def of(cls, moments: FrozenMoments, additive: bool) -> _Labels:
        n_ab = moments.n_pair.astype(float)
        n = np.full(len(n_ab), float(moments.n_tokens))
        if not additive:
            return cls(n[:, None, None], n_ab[:, None])
        n_a, n_b = (moments.n_concept[moments.pairs[:, side]].astype(float) for side in (0, 1))
        rows = [[n, n_a, n_b], [n_a, n_a, n_ab], [n_b, n_ab, n_b]]
        gram = np.stack([np.stack(row, axis=-1) for row in rows], axis=1)
        return cls(gram, np.stack([n_ab, n_ab, n_ab], axis=-1))

    def solve(self, right: np.ndarray) -> np.ndarray:
        # a concept that never or always holds in a fold makes the system singular: the least-norm solution
        return np.einsum("pij,pj->pi", np.linalg.pinv(self.gram, hermitian=True), right)

    def quadratic(self, coefficients: np.ndarray) -> np.ndarray:
        return np.einsum("pi,pij,pj->p", coefficients, self.gram, coefficients)


def _label_cross(
    moments: FrozenMoments, columns: np.ndarray, labels: _Labels, drift: np.ndarray
) -> np.ndarray:
    """Σ label column × (neuron − the training mean), [pair, column, k]."""
    n = moments.n_tokens * drift
    if labels.gram.shape[1] == 1:
        return n[:, None]
    sums = [n]
    for side in (0, 1):
        concept = moments.pairs[:, side]
        sums.append(
            moments.concept_sums[concept[:, None], columns] + moments.n_concept[concept][:, None] * drift
        )
    return np.stack(sums, axis=1)
