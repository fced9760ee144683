"""The word grid: do activations tell which suffix belongs to which prefix?

G prefixes and G suffixes, of which the i-th of each make a word, are read in all G × G combinations. Double centring
takes away whatever is a sum of a prefix's and a suffix's part; what is left of cell (i, j) is the interaction r_ij. The
direction in which words differ from crosses is learned on *one* word set, whitened feature by feature, and scores the
cells of *another*: S_ij = r_ij · w. The null hypothesis says that nothing in the activations marks the true pairing, so
that every pairing of suffixes to prefixes is as likely to score as high: an exact permutation test (Fisher 1935). The sum
over a random pairing of a double-centred S has mean 0 and variance Σ S²/(G − 1) (Hoeffding 1951), by which the statistic
is standardised. Both sets in turn give nearly one quantity, the whitened product of their mean interactions: two word sets
are no two tests.

A pairing may show for other reasons than that a layer computes it: it may come with the input, and a nonlinear layer mixes
whatever two correlated parts it is given. So the same statistic is taken on random twins of the layer, plain ones and ones
that read the input's own word directions as the layer does, and on what the layer's output holds beyond the best linear
prediction from its input, fitted without a look at which cells are words.
Axes: prefix suffix feature permutation word twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int
from scipy import linalg, stats

from probekit.errors import DegenerateError, InputError

SITES: dict[str, str] = {
    "input": "MLP input",
    "neurons": "neurons",
    "output": "MLP output",
    "given": "MLP output given the input",
    "before": "residual stream before the MLP",
    "after": "residual stream after the MLP",
}
"""Where the statistic is taken: key, label."""
TWIN_SITES = ("neurons", "output", "given", "after")
"""Sites that a twin of the layer changes."""
DECIDING = "given"
"""The site that decides: what the layer adds to its input's own knowledge of the word."""
AS_ROWS = "prefix suffix feature -> (prefix suffix) feature"
RIDGE = 1e-3
"""Ridge of the linear prediction, relative to the mean variance of the predictors."""
LEAST_VARIANCE = 1e-10
"""Variance of a feature, relative to the mean over features, below which it is rounding and weighs nothing."""
CELLS_PER_INPUT = 2
"""Cells for each coordinate of the input, below which a linear prediction fits nearly all there is."""
MIN_GRID_TWINS = 3
"""Fewest twins by whose spread a layer can be standardised."""
LEVEL = 0.05
"""Family-wise error over the layers of one model."""

Cells = Float[np.ndarray, "prefix suffix feature"]
Scores = Float[np.ndarray, "prefix suffix"]


@dataclass(frozen=True)
class GridTest:
    """How far the true pairing stands out from random ones."""

    effect: float
    """Mean score of the words minus mean score of the crosses."""
    z: float
    """The sum over words in standard deviations of that sum over random pairings."""
    p: float
    """Share of pairings, the true one included, that score as high."""
    d_prime: float
    """The effect in standard deviations of the crosses' scores."""
    auc: float
    """Probability that a word scores higher than a cross."""


def double_centred(values: Cells) -> Cells:
    """The interaction of prefix and suffix: row and column means taken away."""
    rows = values.mean(1, keepdims=True)
    return values - rows - values.mean(0, keepdims=True) + rows.mean(0, keepdims=True)


def word_direction(
    residuals: Cells, pairing: Int[np.ndarray, " word"] | None = None
) -> Float[np.ndarray, " feature"]:
    """The whitened mean interaction of the words: their mean over the variance of all cells, feature by feature.

    Args:
        residuals: from `double_centred`.
        pairing: which suffix is paired with each prefix; None for the words, i with i.
    """
    flat = rearrange(residuals, AS_ROWS)
    variance = np.square(flat).mean(0, dtype=np.float64)
    paired = np.arange(len(residuals)) if pairing is None else pairing
    mean = residuals[np.arange(len(residuals)), paired].mean(0, dtype=np.float64)
    heard = variance > LEAST_VARIANCE * variance.mean()
    # a feature counts by its signal over its noise; of unit weight in all, so that scores of layers are of one size
    return np.divide(mean, variance, out=np.zeros_like(mean), where=heard) / len(mean) ** 0.5


def word_scores(residuals: Cells, direction: Float[np.ndarray, " feature"]) -> Scores:
    """Each cell's projection on a direction."""
    return residuals.astype(np.float64) @ direction


def draw_pairings(
    n_words: int, n_draws: int, rng: np.random.Generator
) -> Int[np.ndarray, "permutation word"]:
    """Random pairings of suffixes to prefixes, uniform over all."""
    return np.stack([rng.permutation(n_words) for _ in range(n_draws)])


def derangement(n_words: int, rng: np.random.Generator) -> Int[np.ndarray, " word"]:
    """A random pairing that holds no word: a pseudo-diagonal."""
    while True:
        drawn = rng.permutation(n_words)
        if (drawn != np.arange(n_words)).all():
            return drawn


def grid_test(
    scores: Scores,
    pairings: Int[np.ndarray, "permutation word"],
    pairing: Int[np.ndarray, " word"] | None = None,
) -> GridTest:
    """Test the true pairing, or another one, against random ones.

    Args:
        scores: of all cells.
        pairings: from `draw_pairings`.
        pairing: the pairing to test; None for the words, i with i.

    Raises:
        DegenerateError: fewer than two words.
    """
    n = len(scores)
    if n < 2:
        raise DegenerateError(
            f"word grid: got {n} words, wanted two or more, so that they can be paired differently."
        )
    rows = np.arange(n)
    paired = rows if pairing is None else pairing
    of_words = scores[rows, paired]
    is_word = np.zeros_like(scores, dtype=bool)
    is_word[rows, paired] = True
    of_crosses = scores[~is_word]
    total, drawn = of_words.sum(), scores[rows, pairings].sum(1)
    # counted with a margin of rounding: a draw that is the true pairing must count as reaching it
    slack = 1e-9 * np.abs(scores).sum()
    p = (1 + np.count_nonzero(drawn >= total - slack)) / (1 + len(drawn))
    centred = double_centred(scores[:, :, None])[:, :, 0]
    spread = np.sqrt((centred**2).sum() / (n - 1))
    expected = scores.mean() * n
    deviation = of_crosses.std()
    effect = of_words.mean() - of_crosses.mean()
    ranks = stats.rankdata(np.concatenate([of_words, of_crosses]))[:n].sum()
    auc = (ranks - n * (n + 1) / 2) / (n * len(of_crosses))
    return GridTest(
        effect=float(effect),
        z=float((total - expected) / spread) if spread > 0 else 0.0,
        p=float(p),
        d_prime=float(effect / deviation) if deviation > 0 else 0.0,
        auc=float(auc),
    )


def p_larger(
    one: Float[np.ndarray, " word"], other: Float[np.ndarray, " word"], n_draws: int, rng: np.random.Generator
) -> float:
    """Permutation p-value of the one mean being larger than the other."""
    pooled = np.concatenate([one, other])
    found = one.mean() - other.mean()
    order = np.argsort(rng.random((n_draws, len(pooled))), axis=1)
    drawn = pooled[order]
    differences = drawn[:, : len(one)].mean(1) - drawn[:, len(one) :].mean(1)
    return float((1 + np.count_nonzero(differences >= found)) / (1 + n_draws))


@dataclass(frozen=True)
class LinearPart:
    """The best linear prediction of a site's interactions from the input's, over the cells of one grid.

    It is fitted on every cell alike, words or not, so under the null hypothesis what it leaves is as exchangeable as before.
    Each grid has its own fit: words are the cells of most weight in it, and one fit for two sets would leave remainders that
    cancel over both, so that a direction learned on one set would score the other's words below zero.
    """

    inputs: Cells
    """The input's interactions."""
    factor: tuple[np.ndarray, bool]
    """Cholesky factor of their ridged second moments."""

    @classmethod
    def of(cls, inputs: Cells) -> LinearPart:
        """Prepare the prediction; a ridge of `RIDGE` of the predictors' mean square settles directions without variance."""
        flat = rearrange(inputs, AS_ROWS)
        gram = (flat.T @ flat).astype(np.float64)
        # a constant where nothing varies at all
        gram += np.eye(len(gram)) * (RIDGE * np.trace(gram) / len(gram) or 1.0)
        return cls(inputs, linalg.cho_factor(gram))

    def rest(self, outputs: Cells) -> Cells:
        """The part of a site that the prediction does not explain."""
        flat = rearrange(self.inputs, AS_ROWS)
        cross = (flat.T @ rearrange(outputs, AS_ROWS)).astype(np.float64)
        weights = linalg.cho_solve(self.factor, cross).astype(outputs.dtype)
        return outputs - self.inputs @ weights


def interaction_directions(
    residuals: Sequence[Cells], n_directions: int
) -> Float[np.ndarray, "feature direction"]:
    """Orthonormal directions in which words differ from crosses: a relay-matched twin reads along them as the layer does.

    First the words' mean interaction in each set, then the leading eigenvectors of how much more the words scatter than the
    crosses do, for an AND that lies along other directions in other words.

    Args:
        residuals: interactions of the layer's input in each word set.
        n_directions: how many in all, at least one for each set.

    Raises:
        InputError: fewer directions than sets, or more than features.
    """
    n_features = residuals[0].shape[2]
    if not len(residuals) <= n_directions <= n_features:
        raise InputError(
            f"relay: got {n_directions} directions, wanted {len(residuals)} (one a word set) to {n_features}."
        )
    means: list[np.ndarray] = []
    second = np.zeros((n_features, n_features))
    for cells in residuals:
        n = len(cells)
        words = cells[np.arange(n), np.arange(n)].astype(np.float64)
        flat = rearrange(cells, AS_ROWS)
        means.append(words.mean(0))
        of_words = words.T @ words
        second += of_words / n - (flat.T @ flat - of_words) / (n * n - n)
    known = linalg.orth(np.stack(means, 1))
    left = np.eye(n_features) - known @ known.T
    _, vectors = linalg.eigh(left @ second @ left)
    n_more = n_directions - known.shape[1]
    basis = np.concatenate([known, vectors[:, ::-1][:, :n_more]], axis=1)
    return np.linalg.qr(basis)[0]


@dataclass(frozen=True)
class BesideTwins:
    """One layer's standardised value beside its twins'."""

    mean: float
    """Mean over the twins."""
    highest: float
    """The highest twin."""
    margin: float
    """The layer's value minus the highest twin's."""
    p: float
    """One-sided p-value of the layer's value as one more draw of the twins (Student, R − 1 degrees of freedom)."""


def beside_twins(value: float, twins: Float[np.ndarray, " twin"]) -> BesideTwins | None:
    """Compare a layer with its twins; None with fewer than `MIN_GRID_TWINS`.

    Args:
        value: the layer's z, mean over word sets.
        twins: the twins' z, mean over the same word sets.
    """
    if len(twins) < MIN_GRID_TWINS:
        return None
    n, mean, spread = len(twins), float(twins.mean()), float(twins.std(ddof=1))
    if spread > 0:
        p = float(stats.t.sf((value - mean) / (spread * np.sqrt(1 + 1 / n)), n - 1))
    else:
        p = 0.0 if value > mean else 1.0
    return BesideTwins(mean, float(twins.max()), value - float(twins.max()), p)


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted for the number of tests, controlling the family-wise error (Holm 1979)."""
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    adjusted = np.maximum.accumulate((len(values) - np.arange(len(values))) * values[order])
    found = np.empty_like(values)
    found[order] = np.minimum(adjusted, 1.0)
    return found.tolist()
