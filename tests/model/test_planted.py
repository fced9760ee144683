"""A planted transformer carries its circuit unchanged, and refuses what it cannot carry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probekit.errors import InputError
from probekit.model.harvest import harvest
from probekit.model.hooked_model import load_hooked_model
from probekit.model.planted import Planted, plant
from probekit.theory.circuits.two_and import two_and

N_CONCEPTS, N_NEURONS = 16, 40
SIZES: dict[str, Any] = {"n_docs": 30, "doc_len": 10, "n_vocab": 200}


@pytest.fixture(scope="module", params=[None, 24])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Planted]:
    """A 2-AND circuit, with basis-aligned and with superposed inputs, and the transformer that holds it."""
    circuit = two_and(pairs=10, n_concepts=N_CONCEPTS, n_neurons=N_NEURONS, d_model=request.param, seed=0)
    return circuit, plant(circuit, noise=0.0, seed=1, **SIZES)


def test_neurons_of_the_transformer_are_those_of_the_circuit(pair: tuple[Any, Planted]) -> None:
    circuit, planted = pair
    hooked = load_hooked_model(planted.model)
    tokens = planted.corpus.tokenize(None, context=10, max_tokens=10_000, bos_id=hooked.bos_id)
    labels = planted.concepts.label(tokens)
    held = np.zeros((labels.n_tokens, N_CONCEPTS), bool)
    for concept in range(N_CONCEPTS):
        held[labels.tokens[labels.indptr[concept] : labels.indptr[concept + 1]], concept] = True
    assert 0.5 < held.mean() * N_CONCEPTS / circuit.n_active < 1.5
    blocks = list(harvest(hooked, tokens, np.arange(tokens.n_docs), [0]))
    inputs = np.concatenate([block.sites[0][0].numpy() for block in blocks])
    neurons = np.concatenate([block.sites[0][1].numpy() for block in blocks])
    # no background: the input is the sum of codes and the neurons are the circuit's, up to fp32
    np.testing.assert_allclose(inputs[:, : circuit.d_model], held @ circuit.encode.T, atol=1e-5)
    np.testing.assert_allclose(neurons, circuit.neurons(held), atol=1e-4)


def test_truth_and_shared_channels(pair: tuple[Any, Planted]) -> None:
    circuit, planted = pair
    truth = {tuple(sorted((f"f{a}", f"f{b}"))) for a, b in circuit.pairs.tolist()}
    assert {tuple(sorted(p)) for p in planted.truth} == truth
    assert planted.truth == sorted(planted.truth)
    shared = {tuple(sorted(p)) for p in planted.shared_channel}
    assert not shared & truth
    reads = circuit.route != 0
    for a in range(N_CONCEPTS):
        for b in range(a + 1, N_CONCEPTS):
            name = tuple(sorted((f"f{a}", f"f{b}")))
            assert (name in shared) == (bool((reads[:, a] & reads[:, b]).any()) and name not in truth)


def test_background_has_the_spread_asked_for_and_seeds_repeat() -> None:
    circuit = two_and(pairs=10, n_concepts=N_CONCEPTS, n_neurons=N_NEURONS, seed=0)
    noisy, again = plant(circuit, noise=0.15, seed=1, **SIZES), plant(circuit, noise=0.15, seed=1, **SIZES)
    clean = plant(circuit, noise=0.0, seed=1, **SIZES)
    weight = noisy.model.embed.weight.detach().numpy()
    background = (weight - clean.model.embed.weight.detach().numpy())[:, :N_CONCEPTS]
    # 3,200 values: the sd is known to 1.3 %, four of them
    assert background.std() == pytest.approx(0.15, rel=0.05)
    np.testing.assert_array_equal(weight, again.model.embed.weight.detach().numpy())
    assert (
        np.abs(weight - plant(circuit, noise=0.15, seed=2, **SIZES).model.embed.weight.detach().numpy()).max()
        > 0.1
    )


def test_by_default_no_token_comes_back() -> None:
    # an entry that comes back in the other half brings its background along, and readouts of it are confirmed
    circuit = two_and(pairs=10, n_concepts=N_CONCEPTS, n_neurons=N_NEURONS, seed=0)
    planted = plant(circuit, n_docs=30, doc_len=10, seed=1)
    tokens = planted.corpus.tokenize(None, context=10, max_tokens=10_000, bos_id=None)
    assert tokens.n_tokens == 300 == len(np.unique(tokens.ids))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_docs": 0}, "n_docs=0"), ({"doc_len": 1}, "doc_len=1"), ({"n_vocab": 1}, "n_vocab=1"),
        ({"noise": -0.1}, "noise=-0.1"), ({"noise": float("nan")}, "noise=nan"), ({"n_active": 0.0}, "n_active=0.0"),
        ({"n_active": 17.0}, "n_active=17.0"), ({"together": 1.5}, "together=1.5"),
        ({"together": 0.1, "spread": "previous"}, "together=0.1 with spread='previous'"),
    ],
)  # fmt: skip
def test_sizes_out_of_range_are_refused(changed: dict[str, Any], message: str) -> None:
    circuit = two_and(pairs=10, n_concepts=N_CONCEPTS, n_neurons=N_NEURONS, seed=0)
    with pytest.raises(InputError, match=message):
        plant(circuit, **(SIZES | changed))


def test_concepts_of_a_planted_pair_hold_together_as_often_as_asked_and_others_by_chance() -> None:
    circuit = two_and(pairs=10, n_concepts=N_CONCEPTS, n_neurons=N_NEURONS, influence=2, seed=0)
    planted = plant(circuit, n_docs=400, doc_len=10, n_active=0.8, together=0.2, noise=0.0, seed=1)
    tokens = planted.corpus.tokenize(None, context=10, max_tokens=10_000, bos_id=None)
    labels = planted.concepts.label(tokens)
    held = np.zeros((labels.n_tokens, N_CONCEPTS), bool)
    for concept in range(N_CONCEPTS):
        held[labels.tokens[labels.indptr[concept] : labels.indptr[concept + 1]], concept] = True
    truth = {tuple(sorted(pair)) for pair in circuit.pairs.tolist()}
    single = held.mean(0)
    for a in range(N_CONCEPTS):
        for b in range(a + 1, N_CONCEPTS):
            both = (held[:, a] & held[:, b]).mean()
            # 4,000 tokens: a share of 0.2 is known to 0.006, four of them
            if (a, b) in truth:
                assert both > 0.2 - 0.025
            elif not any({a, b} & set(pair) for pair in truth):
                assert abs(both - single[a] * single[b]) < 0.025
    # without it, pairs are accidents
    plain = plant(circuit, n_docs=400, doc_len=10, n_active=0.8, noise=0.0, seed=1)
    rows = plain.concepts.label(plain.corpus.tokenize(None, context=10, max_tokens=10_000, bos_id=None))
    assert len(rows.tokens) < 0.5 * len(labels.tokens)
