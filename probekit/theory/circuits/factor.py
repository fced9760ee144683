"""A weight matrix as compute ∘ decompress: which few concepts of a dictionary each neuron reads.

Adler & Shavit (arXiv 2409.15318) build layers whose input weights are W = A·Φᵀ: Φᵀ decompresses the superposed input into
concepts, and the sparse A computes on them. `factor` asks how far a given matrix has that form. Every row of W is written
with few of the codes by orthogonal matching pursuit (Mallat & Zhang 1993, scikit-learn's), in the metric of the inputs'
covariance, so that what is explained is a share of a neuron's pre-activation. A random row is explained in part as well,
so that everything stands beside PC-sign twins of the layer: the same rows with random signs along the principal axes of
that covariance, which keeps every pre-activation's variance and forgets which concepts are read. Where axes have equal
variance, as those of basis-aligned inputs, any are principal, and the rows are turned at random among them.
Axes: neuron, input, concept, step, twin.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import orthogonal_mp_gram

from probekit.errors import DegenerateError, ShapeError, guarded
from probekit.theory.channels.codes import CodeFrame
from probekit.theory.channels.layer import matrix
from probekit.theory.checks import Number, as_count, as_probability

EQUAL = 1 + 1e-6
"""Principal variances within this factor are equal."""
_NO_READ = 1e-20
"""Rows with less than this share of the largest row's variance read nothing."""


@dataclass(frozen=True, eq=False, repr=False)
class Factored:
    """A matrix as a sparse computation on decompressed concepts, and what is left over."""

    compute: Float[np.ndarray, "neuron concept"]
    """A: what each neuron does with each concept; 0 for all but a few."""
    decompress: Float[np.ndarray, "concept input"]
    """Φᵀ: how each concept is read off the input. W is A @ Φᵀ and a rest."""
    explained: Float[np.ndarray, " neuron"]
    """Share of the variance of each neuron's pre-activation that its row of A explains."""
    path: Float[np.ndarray, "neuron step"]
    """Share explained by the first 1, 2, … concepts chosen."""
    twin_path: Float[np.ndarray, "twin step"]
    """The same of the layer's twins, mean over neurons."""
    gain_needed: Float[np.ndarray, " step"]
    """Share of what is left that a further concept has to explain, by step."""
    reads: Bool[np.ndarray, " neuron"]
    """Neurons whose weights have any variance on these inputs; the others are left out of all means."""

    def __repr__(self) -> str:
        return (
            f"Factored({self.compute.shape[0]} neurons, {self.compute.shape[1]} concepts: {self.per_neuron:.1f} concepts a "
            f"neuron explain {1 - self.left_over:.0%}, p {self.p:.3g})"
        )

    @property
    def per_neuron(self) -> float:
        """Concepts that a neuron reads, in the mean."""
        return float((self.compute[self.reads] != 0).sum(axis=1).mean())

    @property
    def left_over(self) -> float:
        """Share of the pre-activations' variance that the sparse computation leaves, mean over neurons."""
        return float(1 - self.explained[self.reads].mean())

    @cached_property
    def statistic(self) -> float:
        """Mean over steps and neurons of the share explained: the area under the path."""
        return float(self.path[self.reads].mean())

    @cached_property
    def p(self) -> float:
        """Share of twins, itself counted, whose area is as large; NaN without twins."""
        if not len(self.twin_path):
            return float("nan")
        return float((1 + (self.twin_path.mean(axis=1) >= self.statistic).sum()) / (1 + len(self.twin_path)))

    def pair_scores(self) -> Float[np.ndarray, "concept concept"]:
        """How much two concepts are read by the same neurons with one sign: Σ of the smaller reading, rows of norm 1.

        The diagonal is 0. A circuit that computes chosen pairs on channels of their own has its pairs on top.
        """
        size = np.linalg.norm(self.compute, axis=1, keepdims=True)
        unit = self.compute / np.maximum(size, np.finfo(float).tiny)
        n_concepts = unit.shape[1]
        scores = np.zeros((n_concepts, n_concepts))
        for part in (np.maximum(unit, 0.0), np.maximum(-unit, 0.0)):
            for concept in range(n_concepts):
                scores[concept] += np.minimum(part, part[:, [concept]]).sum(axis=0)
        np.fill_diagonal(scores, 0.0)
        return scores


@guarded
def factor(
    weight: Any,
    codes: Any,
    *,
    most: Number = 8,
    covariance: Any = None,
    q: Number = 0.05,
    twins: Number = 20,
    seed: Number = 0,
) -> Factored:
    """Write a layer's input weights as a sparse computation on concepts of a dictionary.

    A neuron's concepts are chosen one by one, and kept up to the last that explains more of what is left than all but a
    share q/`most` of the twins' rows reach at the same step: a row that reads no concept keeps one with a chance of about q.

    Args:
        weight: W [neuron input], array or tensor.
        codes: Φ [input concept], what each concept adds to the input: a construction's codes, `pk.channels`' directions.
        most: concepts that a neuron may read at most.
        covariance: of the layer's inputs [input input]; by default the second moments of the codes, as if each concept
            were on by itself and alike often.
        q: see above.
        twins: layers drawn to compare with; at least 1/q − 1 give p-values below q. 0 leaves them out and keeps `most`.
        seed: of the twins.

    Returns:
        The factors, what they explain of each neuron, and the same of the twins.

    Raises:
        InputError: an argument out of range.
        ShapeError: the matrices do not fit together.
        NonFiniteError: an entry is NaN or infinite.
        DegenerateError: no weight, or no code, has any variance.
    """
    rows, directions = matrix("weight", weight), matrix("codes", codes)
    if rows.shape[1] != len(directions):
        raise ShapeError(
            f"codes: got {directions.shape}, wanted [{rows.shape[1]}, concept] to fit weight {rows.shape}; transpose one."
        )
    n_inputs, n_concepts = directions.shape
    given = None if covariance is None else matrix("covariance", covariance, (n_inputs, n_inputs))
    n_steps = min(as_count("most", most), n_concepts, n_inputs)
    level, n_twins = as_probability("q", q), as_count("twins", twins, at_least=0)
    rng = np.random.default_rng(as_count("seed", seed, at_least=0))

    frame = CodeFrame.of(directions, given, ratio=EQUAL)
    root = _root(frame, directions @ directions.T / n_concepts if given is None else given)
    seen, atoms = rows @ root, root.T @ directions
    scale, length = np.linalg.norm(seen, axis=1), np.linalg.norm(atoms, axis=0)
    reads = scale**2 > _NO_READ * scale.max() ** 2
    if not scale.max() > 0 or not length.max() > 0:
        raise DegenerateError(
            "weight: nothing of it is read along the codes. Give weights and codes with variance."
        )
    unit = atoms / np.maximum(length, np.finfo(float).tiny)
    gram = unit.T @ unit
    coefficients, path = _pursue(gram, _units(seen, scale) @ unit, n_steps)
    found = [
        _pursue(gram, _units(seen, scale) @ _turned(frame, rng) @ unit, n_steps)[1] for _ in range(n_twins)
    ]
    needed = _gain_needed([one[reads] for one in found], n_steps, level)
    kept = _kept(path, needed)
    chosen = np.take_along_axis(coefficients, np.maximum(kept - 1, 0)[:, None, None], axis=1)[:, 0]
    chosen = np.where((kept > 0)[:, None] & reads[:, None], chosen, 0.0)
    ends = np.concatenate([np.zeros((len(path), 1)), path], axis=1)
    return Factored(
        compute=chosen * scale[:, None] / np.where(length > 0, length, np.inf),
        decompress=directions.T,
        explained=np.where(reads, np.take_along_axis(ends, kept[:, None], axis=1)[:, 0], 0.0),
        path=path,
        twin_path=np.array([one[reads].mean(axis=0) for one in found]).reshape(n_twins, n_steps),
        gain_needed=needed,
        reads=reads,
    )


def _root(frame: CodeFrame, covariance: Float[np.ndarray, "input input"]) -> Float[np.ndarray, "input axis"]:
    """Axes times the inputs' standard deviation along each: rows times it have the variance of pre-activations."""
    variance = np.einsum("ia,ij,ja->a", frame.axes, covariance, frame.axes)
    return frame.axes * np.sqrt(np.maximum(variance, 0.0))


def _units(
    seen: Float[np.ndarray, "neuron axis"], scale: Float[np.ndarray, " neuron"]
) -> Float[np.ndarray, "neuron axis"]:
    return seen / np.maximum(scale, np.finfo(float).tiny)[:, None]


def _turned(frame: CodeFrame, rng: np.random.Generator) -> Float[np.ndarray, "axis axis"]:
    """Random signs of the axes; a rotation among those of equal variance."""
    turn = np.zeros((len(frame.band), len(frame.band)))
    for band in range(frame.n_bands):
        mine = np.flatnonzero(frame.band == band)
        turn[np.ix_(mine, mine)] = np.linalg.qr(rng.standard_normal((len(mine), len(mine))))[0] * rng.choice(
            (-1.0, 1.0), len(mine)
        )
    return turn


def _pursue(
    gram: Float[np.ndarray, "concept concept"], reads: Float[np.ndarray, "neuron concept"], n_steps: int
) -> tuple[Float[np.ndarray, "neuron step concept"], Float[np.ndarray, "neuron step"]]:
    """Coefficients and share explained after every step, rows and codes of length 1; one that ends early stays there."""
    n_neurons, n_concepts = reads.shape
    coefficients = np.zeros((n_neurons, n_steps, n_concepts))
    with warnings.catch_warnings():
        # a row that is explained in full, or a dictionary used up, ends the pursuit: no fault
        warnings.simplefilter("ignore", RuntimeWarning)
        for neuron in np.flatnonzero(np.abs(reads).max(axis=1) > 1e-7):
            found = orthogonal_mp_gram(gram, reads[neuron], n_nonzero_coefs=n_steps, return_path=True)
            steps = np.asarray(found).reshape(n_concepts, -1).T
            coefficients[neuron, : len(steps)] = steps
            coefficients[neuron, len(steps) :] = steps[-1]
    # for a projection, c·Gc = c·r: the share of a row of length 1 that is explained
    path = np.clip(np.einsum("nsc,nc->ns", coefficients, reads), 0.0, 1.0)
    return coefficients, np.maximum.accumulate(path, axis=1)


def _gains(path: Float[np.ndarray, "neuron step"]) -> Float[np.ndarray, "neuron step"]:
    """Share of what is left that each step explains; 0 where nothing is left."""
    before = np.concatenate([np.zeros((len(path), 1)), path[:, :-1]], axis=1)
    left = 1 - before
    return np.where(left > 1e-9, (path - before) / np.maximum(left, 1e-9), 0.0)


def _gain_needed(
    twins: list[Float[np.ndarray, "neuron step"]], n_steps: int, q: float
) -> Float[np.ndarray, " step"]:
    if not twins:
        return np.zeros(n_steps)
    return np.quantile(_gains(np.concatenate(twins)), 1 - q / n_steps, axis=0)


def _kept(
    path: Float[np.ndarray, "neuron step"], needed: Float[np.ndarray, " step"]
) -> Int[np.ndarray, " neuron"]:
    """Steps up to the last that explains enough."""
    gains = _gains(path)
    enough = (gains > needed) & (gains > 1e-9)
    return np.where(enough.any(axis=1), enough.shape[1] - enough[:, ::-1].argmax(axis=1), 0)
