"""Activations with planted ANDs, small enough for brute force."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from probekit.probes import pairs as pairing
from probekit.probes.moments import Moments


@dataclass(frozen=True)
class Planted:
    """Activations, labels and documents of one stream."""

    x: np.ndarray
    labels: np.ndarray
    docs: np.ndarray
    pairs: np.ndarray
    carriers: dict[int, list[int]]

    def moments(self, n_folds: int = 1) -> Moments:
        held = Moments(self.x.shape[1], self.labels.shape[1], pairs=self.pairs, n_folds=n_folds)
        held.update(self.x, self.labels, self.docs)
        return held

    def quadrant(self, pair: int) -> np.ndarray:
        """Quadrant of every token for one pair."""
        a, b = self.labels[:, self.pairs[pair]].T
        return np.where(a, np.where(b, 0, 1), np.where(b, 2, 3))


def plant(
    *, n_tokens: int = 6_000, n_neurons: int = 24, n_concepts: int = 6, mixing: float = 0.5, seed: int = 0
) -> Planted:
    """Neurons that read concepts and noise; four of them carry the AND of each of the first two pairs."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n_tokens, n_concepts)) < rng.uniform(0.2, 0.5, n_concepts)
    pairs = pairing.all_pairs(n_concepts)
    shared = mixing * rng.standard_normal((n_neurons, n_neurons)) / np.sqrt(n_neurons)
    x = rng.standard_normal((n_tokens, n_neurons)) @ (np.eye(n_neurons) + shared)
    x += labels @ rng.normal(0, 0.5, (n_concepts, n_neurons))
    carriers: dict[int, list[int]] = {}
    for pair in range(2):
        carriers[pair] = [4 * pair + i for i in range(4)]
        both = labels[:, pairs[pair, 0]] & labels[:, pairs[pair, 1]]
        x[:, carriers[pair]] += np.multiply.outer(both, [2.0, -1.8, 1.6, 1.4])
    x += rng.uniform(-1, 1, n_neurons)
    docs = np.arange(n_tokens) // 40
    return Planted(x.astype(np.float32), labels, docs, pairs, carriers)


@pytest.fixture(scope="session")
def planted() -> Planted:
    return plant()


@pytest.fixture(scope="session")
def unmixed() -> Planted:
    """Independent noise: with correlated noise a neuron may be chosen for the noise it cancels."""
    return plant(mixing=0.0)
