"""One thread per worker (two workers share two cores), no network, no colour; and the run that several rooms look at."""

from __future__ import annotations

import os

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for command_line.py
torch.set_num_threads(1)

# probekit is imported by the fixtures, not here: this file is read before the types of the package begin to be checked
PLANTED_OPTIONS = {"twins": 6, "max_pairs": 270, "min_support": 25, "progress": False}


@pytest.fixture(scope="session")
def planted():
    """A transformer with 12 planted ANDs in 96 neurons."""
    import probekit as pk

    circuit = pk.circuits.two_and(pairs=12, n_concepts=24, n_neurons=96, n_active=2, seed=3)
    return pk.plant(circuit, n_docs=400, doc_len=40, n_vocab=4_000, noise=0.1, seed=1)


@pytest.fixture(scope="session")
def planted_run(planted, tmp_path_factory: pytest.TempPathFactory):
    """One finished run on it."""
    import probekit as pk

    out = tmp_path_factory.mktemp("runs") / "planted"
    return pk.analyze(planted.model, planted.corpus, concepts=planted.concepts, out=out, **PLANTED_OPTIONS)


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
