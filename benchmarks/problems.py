"""Problems whose answer is known: U-AND layers and dense random layers on independent concepts.

U-AND (Hänni et al., arXiv 2408.05451, §4): a neuron reads each concept with probability √(12/n) and fires where at least
two of those it reads hold; some twelve neurons carry each pair. The dense layer reads a Gaussian code of the concepts by
Gaussian weights: every neuron knows a little of every pair.
Axes: token neuron concept pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probekit.probes.lists import segments
from probekit.probes.pairs import LabelColumns, all_pairs

DOC_LEN = 50


@dataclass(frozen=True)
class Problem:
    """Activations of one draw of tokens, split in two."""

    name: str
    x: np.ndarray
    """fp32 [token neuron], to fit on."""
    labels: np.ndarray
    """bool [token concept]."""
    docs: np.ndarray
    """int [token]."""
    x_test: np.ndarray
    """The same of tokens to judge on."""
    labels_test: np.ndarray
    pairs: np.ndarray
    """int [pair 2], all of them."""
    reads: np.ndarray | None
    """bool [neuron concept] where a neuron reads concepts; None in the dense layer."""

    def truth(self, pair: int, *, test: bool = False) -> np.ndarray:
        """Where both concepts of a pair hold."""
        a, b = (self.labels_test if test else self.labels)[:, self.pairs[pair]].T
        return a & b

    def lists(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of some pairs, as the logistic refit wants them."""
        ptr, tokens = segments(LabelColumns.from_dense(self.labels), self.pairs[pairs])
        return ptr[: len(pairs) + 1], tokens

    def carriers(self, pair: int) -> np.ndarray:
        """Neurons that read both concepts of a pair."""
        assert self.reads is not None
        return np.flatnonzero(self.reads[:, self.pairs[pair]].all(1))


def u_and(
    n_neurons: int, *, n_concepts: int = 64, n_active: float = 6, n_tokens: int = 20_000, seed: int = 0
) -> Problem:
    """A layer of ANDs of few concepts each."""
    rng = np.random.default_rng([seed, 1])
    reads = rng.random((n_neurons, n_concepts)) < np.sqrt(12 / n_neurons)
    return _drawn("U-AND", rng, reads.T.astype(np.float32), -1.0, n_active, n_tokens, reads)


def dense(
    n_neurons: int, *, n_concepts: int = 64, n_active: float = 6, n_tokens: int = 20_000, seed: int = 0
) -> Problem:
    """A random layer on superposed inputs, half as many as there are neurons."""
    rng = np.random.default_rng([seed, 2])
    code = rng.standard_normal((n_concepts, n_neurons // 2)) / np.sqrt(n_neurons // 2)
    weights = rng.standard_normal((n_neurons // 2, n_neurons))
    return _drawn("dense", rng, (code @ weights).astype(np.float32), 0.0, n_active, n_tokens, None)


def _drawn(
    name: str, rng, weights: np.ndarray, bias: float, n_active: float, n_tokens: int, reads
) -> Problem:
    n_concepts = len(weights)
    halves = []
    for _ in range(2):
        labels = rng.random((n_tokens, n_concepts)) < n_active / n_concepts
        noise = 0.1 * rng.standard_normal((n_tokens, weights.shape[1]), dtype=np.float32)
        halves += [np.maximum(labels.astype(np.float32) @ weights + bias + noise, 0), labels]
    x, labels, x_test, labels_test = halves
    return Problem(
        name, x, labels, np.arange(n_tokens) // DOC_LEN, x_test, labels_test, all_pairs(n_concepts), reads
    )
