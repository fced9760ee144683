"""A small Mixtral with random weights and one AND, planted in one of its experts.

The attention writes nothing, so that a token's MLP input is its embedding behind RMSNorm: concepts with a coordinate each,
a Gaussian background, a constant, and two coordinates by whose signs the router chooses two of the four experts. Concepts
have no part in that. Axes: concept input neuron token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from probekit.text.concepts.concepts import Concepts
from probekit.text.corpus import Corpus

N_CONCEPTS, N_BACKGROUND = 12, 16
CONSTANT = N_CONCEPTS + N_BACKGROUND
D_MODEL = CONSTANT + 4  # the constant, two for the router, one unused
ROUTER = slice(CONSTANT + 1, CONSTANT + 3)
N_EXPERTS, N_NEURONS, N_PLANTED = 4, 48, 8
LEVEL, BACKGROUND, GAIN = 4.0, 0.3, 3.0
PAIR = ("f0", "f1")
"""The planted pair."""


@dataclass(frozen=True)
class PlantedExperts:
    """A mixture of experts with a known answer."""

    model: Any
    """A `transformers` Mixtral of one layer with four experts, two of which each token is sent to."""
    corpus: Corpus
    """Its documents."""
    concepts: Concepts
    """f0, f1, …"""


def planted_experts(
    seed: int, expert: int | None, *, n_docs: int = 300, doc_len: int = 32, n_vocab: int = 8_000
) -> PlantedExperts:
    """Random experts, in one of which eight of 48 neurons compute f0 ∧ f1 on top.

    Args:
        seed: of everything.
        expert: which one; None plants nothing and leaves every other number as it is.
        n_docs: documents.
        doc_len: tokens of each.
        n_vocab: entries of the vocabulary, each with its own concepts, background and experts.
    """
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=n_vocab, hidden_size=D_MODEL, intermediate_size=N_NEURONS, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=N_EXPERTS, num_experts_per_tok=2, hidden_act="relu",
        max_position_embeddings=doc_len,
    )  # fmt: skip
    with torch.random.fork_rng():  # transformers draws the initial weights from the global generator
        model = MixtralForCausalLM(config).eval()
    rng = np.random.default_rng(seed)
    held = rng.random((n_vocab, N_CONCEPTS)) < 0.3
    layer: Any = model.model.layers[0]
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.from_numpy(_embeddings(rng, held)))
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.gate.weight.zero_()
        layer.mlp.gate.weight[:, ROUTER] = 3 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
        gate_up, down = _random_experts(rng)
        planted = _planted(rng)
        if expert is not None:
            gate_up[expert, :N_PLANTED] = planted
        layer.mlp.experts.gate_up_proj.copy_(torch.from_numpy(gate_up))
        layer.mlp.experts.down_proj.copy_(torch.from_numpy(down))
    names = {f"f{concept}": held[:, concept] for concept in range(N_CONCEPTS)}
    ids = rng.integers(0, n_vocab, (n_docs, doc_len))
    return PlantedExperts(model, Corpus.from_tokens(ids), Concepts.from_vocab(names))


def _embeddings(rng: np.random.Generator, held: np.ndarray) -> np.ndarray:
    rows = np.zeros((len(held), D_MODEL))
    rows[:, :N_CONCEPTS] = held
    rows[:, N_CONCEPTS:CONSTANT] = BACKGROUND * rng.standard_normal((len(held), N_BACKGROUND))
    rows[:, CONSTANT] = LEVEL
    signs = rng.choice([-1, 1], (len(held), 2))
    rows[:, ROUTER] = BACKGROUND * signs + 0.05 * rng.standard_normal((len(held), 2))
    return rows


def _random_experts(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    gate_up = rng.standard_normal((N_EXPERTS, 2 * N_NEURONS, D_MODEL))
    gate_up[:, N_NEURONS:] *= 0.3
    gate_up[:, :N_NEURONS, CONSTANT] = -0.3 * rng.random((N_EXPERTS, N_NEURONS))
    gate_up[:, N_NEURONS:, CONSTANT] = (
        0.3  # the linear half hardly varies, so that neurons are nearly relu(gate)
    )
    gate_up[:, :, ROUTER] *= 0.2
    return gate_up, rng.standard_normal((N_EXPERTS, D_MODEL, N_NEURONS))


def _planted(rng: np.random.Generator) -> np.ndarray:
    """Gate rows that open where both concepts hold: 3 (f0 + f1 − 1.5), and a little of everything else."""
    rows = 0.3 * rng.standard_normal((N_PLANTED, D_MODEL))
    rows[:, ROUTER] = 0
    rows[:, CONSTANT] = -1.5 / LEVEL * GAIN
    rows[:, :2] += GAIN
    return rows
