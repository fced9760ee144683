"""The machinery on layers whose answer is known: nothing found where nothing is, the planted pairs found where they are.

Sizes are small in the fast tests; the slow ones run the sizes at which the theorems were set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import probekit as pk
from probekit.analysis.settings import Settings
from probekit.evidence.contrast import N_BATCHES, Contrast
from probekit.evidence.decide import decide_twins
from probekit.testing.synthetic import (
    Judged,
    Plant,
    auc,
    make_plant,
    make_scene,
    plan,
    random_layer,
    reader_layer,
    run_layer,
    twin_of,
    unit_codes,
)

CRITICAL = 3.0


def z_of(contrast: Contrast) -> np.ndarray:
    """κ over its clustered error; 0 where no readout was possible."""
    return np.where(
        contrast.kappa_se > 0, contrast.kappa / np.where(contrast.kappa_se > 0, contrast.kappa_se, 1.0), 0.0
    )


def assert_no_interaction(contrasts: list[Contrast]) -> None:
    """|κ| > 3 s.e. on at most 0.5 % of the pairs, and no |z| beyond the Bonferroni 1 % point."""
    z = np.concatenate([z_of(contrast) for contrast in contrasts])
    assert (z != 0).mean() > 0.9  # readouts there were
    assert (np.abs(z) > CRITICAL).mean() <= 0.005
    assert np.abs(z).max() <= stats.t.isf(0.005 / len(z), N_BATCHES - 1)


def linear_sites(judged: Judged) -> list[Contrast]:
    measure = judged.measure
    assert measure.input_site is not None
    assert measure.pre is not None
    assert measure.linear is not None
    return [measure.input_site, measure.pre, measure.linear]


def additive(seed: int, *, n_tokens: int, n_concepts: int, n_inputs: int, n_neurons: int) -> Judged:
    """A random ReLU layer on additive inputs."""
    codes = unit_codes(seed, n_inputs, n_concepts)
    scene = make_scene(seed, n_tokens=n_tokens, n_concepts=n_concepts, n_active=4, codes=codes, doc_noise=0.1)
    return run_layer(scene, random_layer(seed, n_neurons, n_inputs), twins=0)


def assert_theorem_of_linear_sites(layers: list[Judged]) -> None:
    for site in zip(*(linear_sites(judged) for judged in layers), strict=True):
        assert_no_interaction(list(site))
    for judged in layers:
        # the same data, the same code, after the ReLU: the control
        assert (z_of(judged.measure.by_k[16]) > CRITICAL).mean() > 0.9


def test_additive_inputs_have_no_interaction_at_linear_sites_and_relu_neurons_do() -> None:
    # four scenes of 496 pairs: a t of 63 degrees is beyond 3 in 0.39 % of the pairs, which one scene cannot tell from 0.5 %
    assert_theorem_of_linear_sites(
        [additive(seed, n_tokens=20_000, n_concepts=32, n_inputs=24, n_neurons=96) for seed in (1, 2, 3, 4)]
    )


@pytest.mark.slow
def test_additive_inputs_have_no_interaction_at_linear_sites_large() -> None:
    assert_theorem_of_linear_sites(
        [additive(seed, n_tokens=60_000, n_concepts=64, n_inputs=48, n_neurons=256) for seed in (5, 6, 7)]
    )


@pytest.mark.slow
def test_inputs_of_a_planted_transformer_hold_no_and_unless_its_tokens_come_back() -> None:
    circuit = pk.circuits.two_and(pairs=32, n_concepts=48, n_neurons=128, seed=0)
    readable: list[float] = []
    for n_vocab in (None, 20_000):
        planted = pk.plant(circuit, n_vocab=n_vocab, seed=0)
        run = pk.analyze(planted.model, planted.corpus, concepts=planted.concepts, twins=0, progress=False)
        readable.append(float(run.pairs(0)["d_prime_input"].median()))
    # a median of 1,128 pairs, each known to 0.1; with 20,000 entries a ridge readout of their background reaches 0.7
    assert abs(readable[0]) < 0.02
    assert readable[1] > 0.3


def loud_layer(seed: int, *, n_tokens: int, n_concepts: int, n_neurons: int, twins: int) -> Judged:
    """A random layer that reads none of the loud directions of its inputs."""
    n_loud = 8
    scene = make_scene(
        seed, n_tokens=n_tokens, n_concepts=n_concepts, n_active=4, codes=unit_codes(seed, n_concepts, n_concepts),
        n_loud=n_loud,
    )  # fmt: skip
    return run_layer(scene, random_layer(seed, n_neurons, n_concepts, n_loud=n_loud), twins=twins, seed=seed)


def test_a_random_layer_that_avoids_loud_directions_computes_nothing() -> None:
    judged = loud_layer(4, n_tokens=16_000, n_concepts=24, n_neurons=96, twins=8)
    assert judged.computed.sum() == 0
    assert judged.above.sum() == 0
    # the trap is real: against isotropic twins the innocent layer stands out on most pairs
    assert (judged.result.row["n_above_isotropic"] or 0) > 0.5 * len(judged.pairs)


def readers(seed: int, *, n_tokens: int, n_concepts: int, n_neurons: int, d_model: int, twins: int) -> Judged:
    """A layer whose every neuron reads one concept."""
    codes = unit_codes(seed, d_model, n_concepts)
    scene = make_scene(seed, n_tokens=n_tokens, n_concepts=n_concepts, n_active=4, codes=codes)
    return run_layer(scene, reader_layer(seed, n_neurons, codes, gain=4.0), twins=twins, seed=seed)


def test_readers_of_single_concepts_stand_above_twins_and_compute_nothing() -> None:
    judged = readers(5, n_tokens=16_000, n_concepts=24, n_neurons=96, d_model=48, twins=8)
    assert judged.computed.sum() == 0
    # the trap is real: reading single concepts well lifts their pairs above the twins
    assert judged.above.mean() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 10))
def test_traps_large(seed: int) -> None:
    loud = loud_layer(seed, n_tokens=40_000, n_concepts=40, n_neurons=256, twins=12)
    assert loud.computed.sum() == 0
    assert (loud.result.row["n_above_isotropic"] or 0) > 0.9 * len(loud.pairs)
    read = readers(seed, n_tokens=40_000, n_concepts=40, n_neurons=256, d_model=40, twins=12)
    assert read.computed.sum() == 0
    assert read.above.mean() > 0.2


def assert_planted_pairs_found(plant: Plant, judged: Judged, *, share: float) -> None:
    """Designated pairs are computed and rank above pairs that no neuron reads together."""
    designated = judged.rows_of(plant.designated)
    disjoint = ~designated & ~judged.rows_of(plant.shared_channel)
    in_designated = {concept for pair in plant.designated for concept in pair}
    kin = np.array([bool(in_designated & set(pair)) for pair in judged.pairs])
    # with 64 pairs on 64 concepts of influence 2 every concept is in designated pairs: the harder half is all of them
    assert (kin & disjoint).sum() >= 0.5 * disjoint.sum()
    assert designated.sum() == len(plant.designated)
    assert judged.computed[designated].mean() >= share
    for score in ("z", "d_prime"):
        values = judged.result.pairs[score].to_numpy()
        assert auc(values[designated], values[disjoint]) >= 0.95
    # and nothing is claimed where no neuron reads both concepts
    assert judged.computed[disjoint].mean() <= 0.01


def test_planted_pairs_are_found_small() -> None:
    # few enough pairs that most of the others share no channel
    plant = make_plant(13, n_pairs=16, n_concepts=24, n_neurons=160, n_tokens=10_000)
    judged = run_layer(plant.scene, plant.weights, twins=8, seed=1)
    assert_planted_pairs_found(plant, judged, share=0.9)
    # the excess over the twins says so, and the neurons show the pattern of AND
    assert (judged.result.row["excess_low"] or 0) > 0.5 * len(plant.designated)
    designated = judged.rows_of(plant.designated)
    assert judged.result.pairs["conjunctive"].to_numpy(bool)[designated].mean() > 0.9
    # negative control: a twin of the layer as the model
    twin = run_layer(
        plant.scene, twin_of(plant.weights, plant.scene, judged.design, 1), twins=8, design=judged.design
    )
    assert twin.computed.sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_pairs_are_found_at_full_size(seed: int) -> None:
    plant = make_plant(seed, n_pairs=64, n_concepts=64, n_neurons=512, n_tokens=100_000)
    judged = run_layer(plant.scene, plant.weights, twins=12, seed=seed)
    assert_planted_pairs_found(plant, judged, share=0.9)


def share_allowed(n_draws: int, q: float = 0.05) -> float:
    """q + 3 standard errors of a share q among n draws."""
    return q + 3 * float(np.sqrt(q * (1 - q) / n_draws))


@pytest.mark.sweep
def test_twins_in_the_layers_place_are_rarely_flagged_small() -> None:
    flags: list[bool] = []
    for seed in (20, 21):
        plant = make_plant(seed, n_pairs=12, n_concepts=24, n_neurons=160, n_tokens=16_000)
        judged = run_layer(plant.scene, plant.weights, twins=12, seed=seed, min_support=30)
        measure = judged.measure
        assert judged.computed[judged.rows_of(plant.designated)].mean() > 0.5  # the layer itself is found
        for decision in decide_twins(measure.twins[16], judged.design.tested):
            assert decision.computed is not None
            assert decision.above_twins is not None
            flags.append(bool(decision.computed.any() or decision.above_twins.any()))
    assert np.mean(flags) <= share_allowed(len(flags))


@pytest.mark.slow
def test_twins_as_models_are_flagged_in_at_most_q_of_the_draws() -> None:
    flags: list[bool] = []
    for seed in range(5):
        plant = make_plant(seed, n_pairs=12, n_concepts=24, n_neurons=160, n_tokens=16_000)
        design = plan(plant.scene, Settings(twins=20, max_pairs=10_000, min_support=30))
        for draw in range(20):
            twin = twin_of(plant.weights, plant.scene, design, draw)
            judged = run_layer(plant.scene, twin, twins=20, seed=1_000 + draw, design=design)
            flags.append(bool(judged.computed.any() or judged.above.any()))
    assert len(flags) >= 100
    assert np.mean(flags) <= share_allowed(len(flags))


def random_in_place(seed: int, n_draws: int, *, twins: int) -> tuple[float, int]:
    """Share of random layers whose excess interval holds 0, and the pairs they were found to compute."""
    plant = make_plant(seed, n_pairs=12, n_concepts=24, n_neurons=160, n_tokens=16_000)
    design = plan(plant.scene, Settings(twins=twins, max_pairs=10_000, min_support=30))
    holds: list[bool] = []
    n_computed = 0
    for draw in range(n_draws):
        layer = random_layer(1_000 * seed + draw, 160, 24)
        row: Any = run_layer(plant.scene, layer, twins=twins, seed=draw, design=design).result.row
        holds.append(row["excess_low"] <= 0 <= row["excess_high"])
        n_computed += row["n_computed"]
    return float(np.mean(holds)), n_computed


@pytest.mark.sweep
def test_random_layers_have_no_excess_small() -> None:
    holds, _ = random_in_place(30, 4, twins=8)
    # 95 % each: fewer than 3 of 4 has probability 1.4 %
    assert holds >= 0.75


@pytest.mark.slow
def test_random_layers_have_no_excess() -> None:
    holds, _ = random_in_place(31, 50, twins=12)
    assert holds >= 0.9
