"""A random layer's directions and latents get nothing, planted ones pass, relayed ones are called so, and say why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import probekit as pk
from probekit.analysis.layer_summary import summarise_layer
from probekit.analysis.passes import measure_layers
from probekit.analysis.settings import Settings
from probekit.analysis.source import ArraySource
from probekit.errors import ConfigError, InputError, NonFiniteError, ShapeError
from probekit.evidence.tables import json_rows
from probekit.followups.audit import COLUMNS, rows_of_claims
from probekit.followups.null_claims import Audited, RecipeClaim, read_inputs
from probekit.model.claims import ClaimedDirections, Works
from probekit.model.weights import MlpWeights
from probekit.report.claims import answer, render_audit
from probekit.testing.synthetic import Plant, Scene, make_plant, make_scene, plan, random_layer

N_NULLS, Q = 12, 0.05
OPTIONS = {"twins": 20, "max_pairs": 270, "min_support": 25, "progress": False}


def audited(scene: Scene, weights: MlpWeights) -> tuple[Audited, Any]:
    """A scene's layer with the analysis' decision on its pairs."""
    design = plan(scene, Settings(twins=N_NULLS, max_pairs=120, min_support=25, spikes=(), controls=()))
    source = ArraySource(weights.neurons(scene.inputs), scene.inputs, weights, design.rows)
    measure = next(measure_layers(source, [0], design))
    names = [f"f{c}" for c in range(scene.labels.shape[1])]
    kinds = ["all"] * len(design.tested.pairs)
    table = summarise_layer(measure, design, names=names, kinds=kinds, n_params=1, bits_stored=32.0).pairs
    return Audited(Works(weights), read_inputs(source, 0), design), table


def directions(rows: np.ndarray) -> ClaimedDirections:
    return ClaimedDirections(
        tuple(f"d{i}" for i in range(len(rows))), "neuron", torch.from_numpy(rows).float()
    )


@pytest.fixture(scope="module")
def random_scene() -> tuple[Audited, Any]:
    return audited(
        make_scene(5, n_tokens=4_000, n_concepts=11, n_active=2.5), random_layer(5, n_neurons=64, n_inputs=11)
    )


@pytest.fixture(scope="module")
def plant() -> Plant:
    return make_plant(3, n_pairs=8, n_concepts=12, n_neurons=96, n_tokens=4_000, n_active=2)


@pytest.fixture(scope="module")
def planted_scene(plant: Plant) -> tuple[Audited, Any]:
    return audited(plant.scene, plant.weights)


def test_a_random_layers_directions_get_nothing(random_scene: tuple[Audited, Any]) -> None:
    n = 60
    rows = np.random.default_rng(1).standard_normal((n, 64))
    found = rows_of_claims(random_scene[0], directions(rows), random_scene[1], N_NULLS, Q)
    bound = Q + 3 * np.sqrt(Q * (1 - Q) / n)
    assert (found["verdict"] != "not above its null layers").mean() <= bound
    # each question alone: p-values are valid one by one, and under half of the directions are below the median
    for name in ("p_plain", "p_removed", "p_random"):
        assert (found[name] <= Q).mean() <= bound, name
        assert 0.2 < found[name].median() < 0.8, name


def test_what_is_planted_is_made_here(plant: Plant, planted_scene: tuple[Audited, Any]) -> None:
    readoff = np.asarray(plant.circuit.readoff, float)
    found = rows_of_claims(planted_scene[0], directions(readoff), planted_scene[1], N_NULLS, Q)
    named = [(row.a, row.b) for row in found.itertuples()]
    assert named == [(f"f{a}", f"f{b}") for a, b in np.sort(plant.circuit.pairs).tolist()], (
        "described rightly"
    )
    assert (found["verdict"] == "made here").all()
    assert (found["excess_low"] > 0).all()
    assert (found["input_share"] < 0.9).all()


@pytest.mark.sweep
def test_random_directions_are_told_from_what_is_planted_among_many_neurons(plant: Plant) -> None:
    """One planted pair's channel among random neurons: along random directions there is little of it."""
    rng = np.random.default_rng(3)
    width = plant.scene.inputs.shape[1]
    noise = random_layer(4, n_neurons=200, n_inputs=width)
    w_in = torch.cat([noise.w_in, plant.weights.w_in])
    layer, table = audited(plant.scene, MlpWeights(w_in, torch.cat([noise.b_in, plant.weights.b_in])))
    readoff = np.pad(np.asarray(plant.circuit.readoff, float), ((0, 0), (200, 0)))
    rows = np.concatenate([readoff, rng.standard_normal((24, len(w_in)))])
    found = rows_of_claims(layer, directions(rows), table, N_NULLS, Q)
    own, random = found.iloc[: len(readoff)], found.iloc[len(readoff) :]
    assert (own["verdict"] == "made here").all()
    assert own["above_random"].all()
    assert random["above_random"].mean() <= Q + 3 * np.sqrt(Q * (1 - Q) / len(random))


def test_what_is_only_passed_on_is_relayed() -> None:
    """The AND of two concepts lies in the input along a direction of its own, and neurons read it over a threshold."""
    scene = make_scene(7, n_tokens=4_000, n_concepts=14, n_active=3)
    rng = np.random.default_rng(7)
    spare = 0.15 * rng.standard_normal((4_000, 2))
    pairs = ((0, 1), (2, 3))
    for k, (a, b) in enumerate(pairs):
        spare[:, k] += scene.labels[:, a] & scene.labels[:, b]
    inputs = torch.cat([scene.inputs, torch.from_numpy(spare).float()], dim=1)
    w_in = rng.standard_normal((64, 16)) / 4
    bias = np.zeros(64)
    for k in range(2):
        w_in[5 * k : 5 * k + 5] = 2 * np.eye(16)[14 + k]
        bias[5 * k : 5 * k + 5] = -1.0
    layer, table = audited(replace(scene, inputs=inputs), MlpWeights.from_arrays(w_in, bias))
    rows = np.stack([np.repeat([1.0, 0.0], [5, 59]), np.roll(np.repeat([1.0, 0.0], [5, 59]), 5)])
    found = rows_of_claims(layer, directions(rows), table, N_NULLS, Q)
    assert list(found["verdict"]) == ["relayed", "relayed"]
    assert [(row.a, row.b) for row in found.itertuples()] == [("f0", "f1"), ("f2", "f3")]
    assert (found["d_prime_removed"] < 0.3 * found["d_prime"]).all()
    assert not found["pair_above_removed"].any()


@pytest.mark.sweep
def test_random_layers_directions_get_nothing_many_times() -> None:
    """Twelve random layers of forty directions each: nothing passes more often than q, with its three standard errors."""
    passed: list[float] = []
    for seed in range(12):
        scene = make_scene(50 + seed, n_tokens=4_000, n_concepts=11, n_active=2.5)
        layer, table = audited(scene, random_layer(50 + seed, n_neurons=64, n_inputs=11))
        rows = np.random.default_rng(seed).standard_normal((40, 64))
        found = rows_of_claims(layer, directions(rows), table, N_NULLS, Q)
        passed.append(float((found["verdict"] == "made here").mean()))
    assert np.mean(passed) <= Q + 3 * np.sqrt(Q * (1 - Q) / (12 * 40))


def rectified(activations: np.ndarray) -> Any:
    """Principal directions of the activations, rectified at their 80 % quantile: a dictionary trained on the spot."""
    mean = activations.mean(0)
    rows = np.linalg.svd(activations - mean, full_matrices=False)[2][:12]
    threshold = np.quantile((activations - mean) @ rows.T, 0.8, axis=0)
    return lambda held: np.maximum((held - mean) @ rows.T - threshold, 0)


def test_a_recipe_is_run_on_every_null_layer(
    random_scene: tuple[Audited, Any], planted_scene: tuple[Audited, Any], plant: Plant
) -> None:
    recipe = RecipeClaim(rectified, "neuron")
    nothing = rows_of_claims(random_scene[0], recipe, random_scene[1], N_NULLS, Q)
    assert len(nothing) == 12
    assert (nothing["verdict"] == "not above its null layers").all()
    readoff = np.asarray(plant.circuit.readoff, np.float32)
    something = rows_of_claims(
        planted_scene[0], RecipeClaim(lambda _: readoff, "neuron"), planted_scene[1], N_NULLS, Q
    )
    assert something["above_plain"].all()


def saved_dictionary(folder: Path, readoff: np.ndarray, site: str) -> Path:
    """The read-offs as latents of an autoencoder in SAELens' format, each firing above a half."""
    folder.mkdir()
    n, width = readoff.shape
    save_file(
        {"W_enc": np.ascontiguousarray(readoff.T, np.float32), "b_enc": np.full(n, -0.5, np.float32),
         "W_dec": np.ascontiguousarray(readoff, np.float32), "b_dec": np.zeros(width, np.float32)},
        folder / "sae_weights.safetensors",
    )  # fmt: skip
    config = {"architecture": "standard", "d_in": width, "d_sae": n, "hook_name": site}
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def test_latents_of_a_dictionary(planted: Any, tmp_path: Path) -> None:
    circuit = pk.circuits.two_and(pairs=12, n_concepts=24, n_neurons=96, n_active=2, seed=3)
    folder = saved_dictionary(tmp_path / "sae", np.asarray(circuit.readoff), "blocks.0.mlp.out.hook_in")
    # five claims in six null layers: p can be 1/31
    options = {"layer": 0, "concepts": planted.concepts, **OPTIONS, "twins": 6, "pairs": planted.truth}
    chosen = [2, 0, 7, 8, 9]
    found = pk.audit(folder, planted.model, planted.corpus, latents=chosen, **options)
    assert list(found.table["claim"]) == [f"latent {i}" for i in chosen]
    assert list(found.table["verdict"]) == ["made here"] * 5
    named = [tuple(sorted(f"f{c}" for c in circuit.pairs[i])) for i in chosen]
    assert [tuple(sorted((r.a, r.b))) for r in found.table.itertuples()] == named
    with pytest.raises(InputError, match="latents: none named of sae"):
        pk.audit(folder, planted.model, planted.corpus, **options)
    with pytest.raises(InputError, match="sae: latent 12 does not exist; there are 12, counted from 0"):
        pk.audit(folder, planted.model, planted.corpus, latents=[12], **options)
    wrong = saved_dictionary(tmp_path / "other", np.asarray(circuit.readoff), "blocks.0.hook_resid_pre")
    with pytest.raises(InputError, match=r"'blocks.0.hook_resid_pre', which is no place of layer 0's MLP"):
        pk.audit(wrong, planted.model, planted.corpus, latents=[0], **options)


def test_pairs_of_a_model(planted: Any, tmp_path: Path) -> None:
    names = planted.truth[:3]
    found = pk.audit(names, planted.model, planted.corpus, layer=0, concepts=planted.concepts, **OPTIONS)
    assert found.counts["made here"] == 3
    assert found.table["p_random"].isna().all()
    assert list(found.table.columns) == list(COLUMNS) == list(found.describe()["column"])
    assert repr(found).startswith("Audit(planted-two_and/low, layer 0: 3 made here, 0 relayed")
    assert json_rows(found.table)[0]["input_share"] is None
    page = found.report(tmp_path / "page.html").read_text()
    assert page == render_audit(found), "same input, same bytes"
    assert "src=" not in page
    assert "Made here: 3" in answer(found)[1]
    assert found._repr_html_().startswith("<p>")
    json.dumps(json_rows(found.table))


@pytest.mark.parametrize(
    ("claim", "options", "error", "message"),
    [
        (np.ones(7), {}, ShapeError, r"claim: directions of shape \(1, 7\), wanted \(claim, 96\) for neurons"),
        (np.ones(96), {"space": "input"}, InputError, "a direction of a layer's input is there before the layer acts"),
        (np.ones(96), {"space": "logits"}, InputError, "space: got 'logits', wanted 'neuron' or 'output'"),
        (np.zeros(96), {}, NonFiniteError, "claim: a direction is all zeros"),
        (np.ones((2, 96)), {"names": ["one"]}, InputError, "names: got 1 for 2 directions"),
        (np.ones(96), {"twins": 3}, ConfigError, "twins: got 3, wanted at least 4 null layers"),
        (("a", "b"), {}, InputError, "'a'"),
        (7, {}, InputError, "claim: got int, wanted a pair"),
        ("/nowhere", {}, InputError, "/nowhere: no dictionary could be read"),
        (np.ones(96), {"layer": 9}, InputError, "got layer 9"),
        (lambda _: 1 / 0, {}, InputError, "recipe: it raised ZeroDivisionError: division by zero"),
        (lambda rows: rows[:2, :5], {}, ShapeError, r"recipe: returned an array of shape \(2, 5\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_claimed_is_refused(
    planted: Any, claim: Any, options: dict[str, Any], error: Any, message: str
) -> None:
    options = {"layer": 0, "concepts": planted.concepts, **OPTIONS, "twins": 4, "max_pairs": 30, **options}
    with pytest.raises(error, match=message):
        pk.audit(claim, planted.model, planted.corpus, **options)
