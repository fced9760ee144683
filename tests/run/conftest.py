"""A small planted model and a run on it, shared by the tests of this room."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import probekit as pk
from probekit.theory.circuits import two_and

sys.path.insert(0, str(Path(__file__).parent))  # layers.py


@pytest.fixture(scope="session")
def planted():
    """A transformer with 12 planted ANDs in 96 neurons."""
    circuit = two_and(pairs=12, n_concepts=24, n_neurons=96, n_active=2, seed=3)
    return pk.plant(circuit, n_docs=400, doc_len=40, n_vocab=4_000, noise=0.1, seed=1)


OPTIONS = {"twins": 6, "max_pairs": 270, "min_support": 25, "progress": False}


@pytest.fixture(scope="session")
def planted_run(planted, tmp_path_factory: pytest.TempPathFactory):
    """One finished run on it."""
    out = tmp_path_factory.mktemp("runs") / "planted"
    return pk.analyze(planted.model, planted.corpus, concepts=planted.concepts, out=out, **OPTIONS)


@pytest.fixture(scope="session")
def arrays():
    """neurons, labels, docs, inputs, weights of a random ReLU layer on independent concepts."""
    rng = np.random.default_rng(5)
    n_tokens, n_concepts, n_neurons = 8_000, 8, 32
    labels = rng.random((n_tokens, n_concepts)) < 0.25
    inputs = labels + 0.3 * rng.standard_normal((n_tokens, n_concepts))
    w_in = rng.standard_normal((n_neurons, n_concepts))
    b_in = 0.1 * rng.standard_normal(n_neurons)
    neurons = np.maximum(inputs @ w_in.T + b_in, 0)
    docs = np.repeat(np.arange(200), 40)
    return neurons, labels, docs, inputs, (w_in, b_in)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
