"""A circuit set into a real transformer, so that the whole pipeline can be run where the answer is known.

Tokens carry sets of concepts: every vocabulary entry gets a random set, its embedding is the sum of their codes plus
Gaussian background, the attention writes nothing, and the one MLP layer has the circuit's weights. What the pipeline then
sees is a TransformerBridge, a corpus of token ids and a set of concepts, nothing else. Axes: concept input neuron doc pos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from probekit.errors import InputError
from probekit.model.weights import canonical_activation
from probekit.text.concepts.concepts import Concepts
from probekit.text.corpus import Corpus
from probekit.theory.circuits.circuit import Circuit

MIN_DOC = 2


@dataclass(frozen=True)
class Planted:
    """A transformer with a known answer."""

    model: Any
    """The TransformerBridge."""
    corpus: Corpus
    """Its documents."""
    concepts: Concepts
    """The planted concepts, named f0, f1, …"""
    truth: list[tuple[str, str]]
    """The designated pairs by name, sorted."""
    shared_channel: list[tuple[str, str]]
    """Pairs not designated whose concepts are both read by some neuron: accidental channel sharing."""


def plant(
    circuit: Circuit,
    *,
    n_docs: int = 1_600,
    doc_len: int = 64,
    n_vocab: int = 20_000,
    n_active: float | None = None,
    noise: float = 0.15,
    activation: str = "relu",
    seed: int = 0,
) -> Planted:
    """Set a circuit into a one-layer transformer without LayerNorm.

    Args:
        circuit: one computing layer (from `probekit.circuits`).
        n_docs: documents of the corpus.
        doc_len: tokens of each document.
        n_vocab: vocabulary entries, each with its own random set of concepts.
        n_active: mean number of concepts on at a token (Poisson); None takes the circuit's own.
        noise: standard deviation of the Gaussian background on every input coordinate.
        activation: of the MLP layer; the constructions are made for relu.
        seed: of sets, background and documents.

    Raises:
        InputError: a size is out of range, or the circuit is none that one MLP layer can hold.
    """
    if not isinstance(circuit, Circuit):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"plant: got a {type(circuit).__name__}; wanted a one-layer Circuit such as two_and(...).")
    if circuit.linear:
        raise InputError(f"plant: {circuit.name} has no activation; wanted a circuit of a ReLU layer.")
    for name, value, least in (("n_docs", n_docs, 1), ("doc_len", doc_len, MIN_DOC), ("n_vocab", n_vocab, 2)):
        if value < least:
            raise InputError(f"plant: {name}={value}, wanted at least {least}.")
    if not noise >= 0:
        raise InputError(f"plant: noise={noise}, wanted a standard deviation ≥ 0.")
    mean_active = float(circuit.n_active if n_active is None else n_active)
    if not 0 < mean_active <= circuit.n_concepts:
        raise InputError(f"plant: n_active={mean_active}, wanted between 0 and {circuit.n_concepts} concepts.")
    rng = np.random.default_rng([seed, 11])
    held = rng.random((n_vocab, circuit.n_concepts)) < mean_active / circuit.n_concepts
    d_model = max(circuit.d_model, circuit.w_out.shape[0])
    embedding = np.zeros((n_vocab, d_model))
    embedding[:, : circuit.d_model] = held @ circuit.encode.T
    embedding[:, : circuit.d_model] += noise * rng.standard_normal((n_vocab, circuit.d_model))
    model = _bridge(circuit, embedding, doc_len, canonical_activation(activation))
    tokens = rng.integers(0, n_vocab, size=(n_docs, doc_len))
    names = [f"f{c}" for c in range(circuit.n_concepts)]
    return Planted(
        model=model,
        corpus=Corpus.from_tokens(tokens.astype(np.int32), name=f"planted {circuit.name}"),
        concepts=Concepts.from_vocab({name: held[:, c] for c, name in enumerate(names)}, lags=(0,)),
        truth=sorted((names[min(pair)], names[max(pair)]) for pair in circuit.pairs[:, :2].tolist()),
        shared_channel=_shared_channel(circuit, names),
    )


def _bridge(circuit: Circuit, embedding: np.ndarray, doc_len: int, activation: str) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    n_vocab, d_model = embedding.shape
    boot: Any = TransformerBridge  # its constructors are attached when the library is imported
    bridge = boot.boot_native(
        {
            "n_layers": 1, "d_model": d_model, "n_heads": 1, "d_head": d_model, "d_mlp": circuit.n_neurons,
            "n_ctx": doc_len, "d_vocab": n_vocab, "act_fn": {"gelu_tanh": "gelu_new"}.get(activation, activation),
            "normalization_type": None, "seed": 0, "model_name": f"planted-{circuit.name}",
        }
    )  # fmt: skip
    w_in = np.zeros((circuit.n_neurons, d_model))
    w_in[:, : circuit.d_model] = circuit.w_in
    w_out = np.zeros((d_model, circuit.n_neurons))
    w_out[: circuit.w_out.shape[0]] = circuit.w_out
    bridge.cfg.model_name = f"planted-{circuit.name}"  # what reports call it
    block = bridge.blocks[0]
    with torch.no_grad():
        values: dict[Any, np.ndarray | float] = {
            bridge.embed.weight: embedding, bridge.pos_embed.weight: 0.0,
            block.attn.o.weight: 0.0, block.attn.o.bias: 0.0,
            getattr(block.mlp, "in").weight: w_in, getattr(block.mlp, "in").bias: circuit.b_in,
            block.mlp.out.weight: w_out, block.mlp.out.bias: 0.0,
        }  # fmt: skip
        for parameter, value in values.items():
            parameter.copy_(torch.as_tensor(np.asarray(value, np.float32)).expand(parameter.shape))
    bridge.eval()
    return bridge


def _shared_channel(circuit: Circuit, names: list[str]) -> list[tuple[str, str]]:
    if circuit.route is None:
        return []
    reads = (circuit.route != 0).astype(np.int64)
    together = reads.T @ reads
    designated = {tuple(sorted(pair)) for pair in circuit.pairs[:, :2].tolist()}
    return [
        (names[a], names[b])
        for a, b in zip(*np.nonzero(np.triu(together, 1)), strict=True)
        if (a, b) not in designated
    ]
