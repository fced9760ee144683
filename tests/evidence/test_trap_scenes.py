"""The trap scenes are what they say: where an interaction lies, what is planted, what is in superposition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from measured import design_for, measured

# isort: split
from trap_scenes import N_PAIRS, RECIPES, PairSet, Trap, draw

from probekit.evidence.spread import classify
from probekit.model.weights import MlpWeights
from probekit.testing.synthetic import Scene, twin_of
from probekit.theory.circuits.net import net_and

ADDITIVE = ("random layer", "single-concept readers", "exclusive concepts", "background 0.45")
"""Scenes whose inputs have no interaction."""
IN_INPUT = ("relay", "relay of a noisy AND", "relay along four directions", "hierarchical concepts")
"""Scenes in which some do, within the classes that say so."""


def interaction(scene: Scene, pairs: PairSet) -> float:
    """Largest |t| of x̄₁₁ − x̄₁₀ − x̄₀₁ + x̄₀₀ over the pairs, each along the direction learned on the other half."""
    x = scene.inputs.numpy().astype(float)
    half = scene.doc % 2 == 0
    most = 0.0
    for a, b in pairs:
        cells = [
            (scene.labels[:, a] == i) & (scene.labels[:, b] == j) for i, j in ((1, 1), (1, 0), (0, 1), (0, 0))
        ]
        if min(int((cell & part).sum()) for cell in cells for part in (half, ~half)) < 30:
            continue

        def contrast(
            values: np.ndarray, part: np.ndarray, cells: list[np.ndarray] = cells
        ) -> tuple[np.ndarray, np.ndarray]:
            signs = (1, -1, -1, 1)
            mean = sum(s * values[cell & part].mean(0) for s, cell in zip(signs, cells, strict=True))
            square = sum(values[cell & part].var(0) / (cell & part).sum() for cell in cells)
            return np.asarray(mean), np.asarray(square)

        along, _ = contrast(x, half)
        value, square = contrast(x @ (along / np.linalg.norm(along)), ~half)
        most = max(most, abs(float(value)) / float(np.sqrt(square)))
    return most


def some(pairs: PairSet, n: int = 12) -> PairSet:
    return set(sorted(pairs)[:n])


def every_pair(trap: Trap) -> PairSet:
    n = trap.scene.labels.shape[1]
    return {(a, b) for a in range(n) for b in range(a + 1, n)}


@pytest.mark.parametrize("name", ADDITIVE)
def test_inputs_are_additive_where_nothing_lies_in_them(name: str) -> None:
    trap = draw(name, RECIPES[name].variants[-1], "relu", 3)
    # twelve pairs, each a t of some hundred tokens: 5 is passed by chance in one of a hundred thousand
    assert interaction(trap.scene, some(every_pair(trap))) < 5
    assert not trap.relayed


@pytest.mark.parametrize("name", IN_INPUT)
def test_relayed_pairs_lie_in_the_input_and_planted_ones_do_not(name: str) -> None:
    trap = draw(name, "planted", "relu", 3)
    assert interaction(trap.scene, some(trap.relayed)) > 6
    assert len(trap.planted) == N_PAIRS
    assert not trap.planted & (trap.relayed | trap.shared)
    if name != "hierarchical concepts":  # there a third concept may depend on both of a pair
        assert interaction(trap.scene, trap.planted) < 5
        assert not trap.shared & trap.relayed


@pytest.mark.parametrize("form", ["relu", "gelu", "silu gated"])
def test_a_planted_layer_is_the_innocent_one_with_some_neurons_replaced(form: str) -> None:
    bare, planted = draw("relay", "innocent", form, 4), draw("relay", "planted", form, 4)  # pyright: ignore[reportArgumentType]
    assert torch.equal(bare.scene.inputs, planted.scene.inputs)
    assert np.array_equal(bare.scene.labels, planted.scene.labels)
    assert not bare.planted
    n = bare.weights.n_neurons
    same = (bare.weights.weight == planted.weights.weight).all(1).reshape(-1, n).all(0)
    # twelve channels of five neurons
    assert int((~same).sum()) == 60
    # what is planted fires on A and B together: some neuron's mean in 11 is beyond those of the other quadrants together
    h, labels = planted.weights.neurons(planted.scene.inputs).numpy(), planted.scene.labels
    for a, b in planted.planted:
        cells = [(labels[:, a] == i) & (labels[:, b] == j) for i, j in ((1, 1), (1, 0), (0, 1), (0, 0))]
        means = [h[cell].mean(0) for cell in cells]
        kappa = means[0] - means[1] - means[2] + means[3]
        spread = np.sqrt(np.mean([h[cell].var(0) for cell in cells], axis=0))
        assert np.sort(kappa[~same.numpy()] / spread[~same.numpy()])[-5] > 1


@pytest.mark.parametrize("form", ["relu", "silu gated"])
def test_a_twin_in_place_keeps_what_the_preactivations_covary(form: str) -> None:
    trap = draw("random layer", "planted", form, 5)  # pyright: ignore[reportArgumentType]
    design = design_for(trap.scene, twins=0)
    twin = twin_of(trap.weights, trap.scene, design, 5)
    fit = trap.scene.inputs[torch.from_numpy(design.rows["fit"])]
    before, after = trap.weights.pre(fit).double(), twin.pre(fit).double()
    # sums of some hundred float32 products
    assert torch.allclose(before.mean(0), after.mean(0), atol=1e-4)
    assert torch.allclose(torch.cov(before.T), torch.cov(after.T), atol=1e-3)
    assert (before - after).abs().mean() > 0.1


@pytest.mark.slow
def test_every_scene_can_be_drawn() -> None:
    for number, (name, recipe) in enumerate(RECIPES.items()):
        trap = draw(name, recipe.variants[-1], "silu gated" if number % 2 else "gelu", 6)
        assert torch.isfinite(trap.weights.neurons(trap.scene.inputs)).all()
        assert len(trap.planted) == (N_PAIRS if recipe.variants[-1] == "planted" else 0)


def spread_and_shared(directions: int, seed: int) -> tuple[Any, np.ndarray]:
    """Classes of the planted pairs of a net, were all of them computed, and which tested pairs are planted."""
    circuit = net_and(directions=directions, seed=seed)
    rng = np.random.default_rng([seed, 133])
    labels = rng.random((20_000, circuit.n_concepts)) < 0.04
    for pair in circuit.pairs:
        labels[:, pair] |= (rng.random(len(labels)) < 0.05)[:, None]
    inputs = labels + 0.07 * rng.standard_normal(labels.shape)
    scene = Scene(labels, np.arange(len(labels)) // 64, torch.from_numpy(inputs).float())
    design = design_for(scene, twins=0)
    measure = measured(scene, MlpWeights.from_arrays(circuit.w_in, circuit.b_in), design)
    truth = {(int(a), int(b)) for a, b in circuit.pairs}
    planted = np.array([(int(a), int(b)) in truth for a, b in design.tested.pairs])
    assert planted.sum() == circuit.n_outputs
    classes = classify(
        planted, measure.spread, measure.readouts, design.tested.pairs, design.duplicate_of, measure.n_neurons
    )  # fmt: skip
    return classes, planted


def test_a_net_is_in_superposition_and_disjoint_lines_are_not() -> None:
    classes, planted = spread_and_shared(4, seed=1)
    assert planted.sum() == 28
    # 24 to 28 in the seeds tried: the best neuron of a line comes near half of its d′
    assert classes.superposed.sum() >= 0.8 * planted.sum()
    assert not classes.superposed[~planted].any()
    # the control: every line has its neurons for itself
    classes, planted = spread_and_shared(1, seed=1)
    assert not classes.superposed.any()
    assert classes.dedicated[planted].all()
