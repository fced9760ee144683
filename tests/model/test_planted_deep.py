"""Every layer of a deep circuit stands in a layer of the transformer; one without activation takes twice its neurons."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import probekit as pk
from probekit.model.harvest import harvest
from probekit.model.hooked_model import load_hooked_model
from probekit.model.planted import Planted, plant
from probekit.model.planting import NORM_DRIFT, SMOOTH_GAIN
from probekit.theory.circuits import DeepCircuit, boolean_circuit, permutation, random_gates

SIZES: dict[str, Any] = {"n_docs": 24, "doc_len": 12, "n_vocab": 150}
SETTINGS = list(itertools.product(("token", "previous"), ("relu", "gelu"), (False, True)))
IDS = [f"{spread}-{act}-{'ln' if norm else 'plain'}" for spread, act, norm in SETTINGS]


def deep(*, correct: bool = False) -> DeepCircuit:
    """Two layers of gates of all kinds."""
    gates = random_gates(n_concepts=8, widths=(8, 4), seed=1)
    return boolean_circuit(gates=gates, n_concepts=8, n_neurons=80, d_model=128, correct=correct, seed=0)


def labels_of(planted: Planted, tokens: Any) -> np.ndarray:
    labels = planted.concepts.label(tokens)
    held = np.zeros((labels.n_tokens, len(labels.names)), bool)
    for c in range(len(labels.names)):
        held[labels.tokens[labels.indptr[c] : labels.indptr[c + 1]], c] = True
    return held


@pytest.mark.parametrize(("spread", "activation", "layer_norm"), SETTINGS, ids=IDS)
@pytest.mark.parametrize("correct", [False, True])
def test_every_layer_is_the_circuits(spread: Any, activation: str, layer_norm: bool, correct: bool) -> None:
    circuit = deep(correct=correct)
    planted = plant(
        circuit, noise=0.0, spread=spread, activation=activation, layer_norm=layer_norm, seed=1, **SIZES
    )
    hooked = load_hooked_model(planted.model)
    tokens = planted.corpus.tokenize(None, context=hooked.context, max_tokens=10_000, bos_id=hooked.bos_id)
    held = labels_of(planted, tokens)
    names = list(planted.concepts.names)
    # the concepts as the first layer reads them; one that no gate reads may stand on either token
    read = {name.removeprefix("prev:"): name for pair in planted.truth for name in pair}
    first = held[:, [names.index(read.get(f"f{c}", f"f{c}")) for c in range(8)]]
    layers = list(range(len(circuit.layers)))
    blocks = list(harvest(hooked, tokens, np.arange(tokens.n_docs), layers))
    gain = 1.0 if activation == "relu" else SMOOTH_GAIN
    for layer, wanted in zip(layers, circuit.neurons(first), strict=True):
        neurons = np.concatenate([block.sites[layer][1].numpy() for block in blocks])
        # relu: fp32 sums, and with LayerNorm a norm that is known to NORM_DRIFT; gelu: 0.022 a neuron, and decoded
        # sums of those by the later layers
        tolerance = (2 * NORM_DRIFT * np.abs(wanted).max() + 1e-3) if activation == "relu" else 0.25
        n_neurons = circuit.layers[layer].n_neurons
        np.testing.assert_allclose(neurons[:, :n_neurons] / gain, wanted, atol=tolerance)
        assert not neurons[:, n_neurons:].any()
        assert np.abs(wanted - np.roll(wanted, 1, axis=0)).max() > 0.9  # control: other tokens, other neurons
    # outputs are labelled as they should be: layer 0's outputs are the concepts of the next layer of gates
    truth = circuit.truth(first)
    np.testing.assert_array_equal(held[:, [names.index(f"g0_{k}") for k in range(8)]], truth[0])
    assert not any(name.startswith(f"g{layers[-1]}_") for name in names)


def test_designated_pairs_of_every_layer_are_named() -> None:
    circuit = deep(correct=True)
    planted = plant(circuit, **SIZES)
    assert [len(pairs) for pairs in planted.truth_by_layer] == [8, 0, 4]
    gates = circuit.layers[2].pairs.tolist()
    assert planted.truth_by_layer[2] == sorted({(f"g0_{min(g)}", f"g0_{max(g)}") for g in gates})
    assert planted.truth == planted.truth_by_layer[0]
    shared = {tuple(sorted(pair)) for pair in planted.shared_by_layer[2]}
    assert not shared & set(planted.truth_by_layer[2])
    kinds = circuit.layers[0].gates
    assert planted.concepts.descriptions[8].startswith(f"{kinds[0]} of f")


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_a_layer_without_activation_takes_twice_its_neurons(activation: str) -> None:
    circuit = permutation(n_concepts=8, d_model=64, seed=0)
    planted = plant(circuit, noise=0.0, activation=activation, **SIZES)
    hooked = load_hooked_model(planted.model)
    tokens = planted.corpus.tokenize(None, context=hooked.context, max_tokens=10_000, bos_id=hooked.bos_id)
    held = labels_of(planted, tokens)
    neurons = np.concatenate([b.sites[0][1].numpy() for b in harvest(hooked, tokens, np.arange(24), [0])])
    n = circuit.n_neurons
    gain = 1.0 if activation == "relu" else SMOOTH_GAIN
    assert neurons.shape[1] == 2 * n
    # z·Φ(z) + z·Φ(−z) = z for gelu, z·σ(z) + z·σ(−z) = z for silu: exact but for fp32
    np.testing.assert_allclose((neurons[:, :n] - neurons[:, n:]) / gain, circuit.neurons(held), atol=1e-4)
    assert planted.truth == []


@pytest.mark.slow
def test_gates_of_both_layers_are_computed() -> None:
    # ANDs of ORs: the second layer's inputs are on often enough to be tested
    first = [("or", c, c + 1) for c in range(0, 24, 2)]
    second = [("and", g, g + 1) for g in range(0, 12, 2)]
    circuit = boolean_circuit(
        gates=[first, second], n_concepts=24, n_neurons=128, d_model=512, n_active=4, seed=0
    )
    planted = plant(circuit, n_docs=300, doc_len=40, noise=0.02, seed=0)
    names = [f"g0_{g}" for g in range(12)]
    # row and column effects need each concept in many pairs
    asked = [*itertools.combinations(names, 2), *itertools.combinations([f"f{c}" for c in range(24)], 2)]
    run = pk.analyze(
        planted.model, planted.corpus, concepts=planted.concepts, pairs=asked, twins=8, spikes=(), min_support=25,
        progress=False,
    )  # fmt: skip
    for layer, other in ((0, 1), (1, 0)):
        table = run.pairs(layer)
        named = list(zip(table["a"], table["b"], strict=True))
        mine = np.array([pair in set(planted.truth_by_layer[layer]) for pair in named])
        theirs = np.array([pair in set(planted.truth_by_layer[other]) for pair in named])
        assert mine.sum() == (12, 6)[layer]
        # 12 and 6 pairs: all but one or two
        assert table["above_twins"][mine].mean() >= 0.8
        assert table["computed"][mine].mean() >= 0.6
        # control: no neuron of this layer reads the pairs of the other one, whose inputs it does not even see
        assert table["computed"][theirs].mean() <= 0.2
