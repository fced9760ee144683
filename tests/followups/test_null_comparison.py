"""Permuted labels keep every count and break what they shall; untrained models are untrained; one table holds all nulls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.analysis.passes import measure_layers
from probekit.analysis.settings import Settings
from probekit.analysis.source import ArraySource
from probekit.errors import InputError
from probekit.followups.null_comparison import nulls_of, permuted, readings, rows_of
from probekit.model.twins import random_model
from probekit.probes.pairs import LabelColumns
from probekit.testing.synthetic import make_plant, plan, random_layer

SIZE = {"n_pairs": 6, "n_concepts": 12, "n_neurons": 48, "n_tokens": 6_000}


@pytest.fixture(scope="module")
def design() -> Any:
    plant = make_plant(5, **SIZE)
    settings = Settings(
        twins=5, max_pairs=10_000, min_support=20, controls=("isotropic", "shuffle"), spikes=()
    )
    return plant, plan(plant.scene, settings)


def columns(labels: LabelColumns, concept: int) -> np.ndarray:
    return labels.tokens[labels.indptr[concept] : labels.indptr[concept + 1]]


def test_permuted_labels_keep_every_quadrant_and_the_first_concept(design: Any) -> None:
    _, whole = design
    other = permuted(whole, np.random.default_rng(0))
    m = whole.fit.labels.n_concepts
    moved = 0
    for half, new in ((whole.fit, other.fit), (whole.confirm, other.confirm)):
        assert np.array_equal(new.sample.n_natural, half.sample.n_natural)
        assert np.array_equal(new.sample.n_sampled, half.sample.n_sampled)
        for p, (a, b) in enumerate(whole.pairs.tolist()):
            assert tuple(other.pairs[p]) == (a, m + p)
            assert np.array_equal(columns(new.labels, a), columns(half.labels, a))
            fresh = columns(new.labels, m + p)
            assert (np.diff(fresh) > 0).all()
            moved += len(np.setdiff1d(fresh, columns(half.labels, b)))
    assert moved > 0
    assert other.settings.twins == 0
    again = permuted(whole, np.random.default_rng(0))
    assert np.array_equal(again.fit.labels.tokens, other.fit.labels.tokens)


def test_what_a_permutation_says_and_does_not(design: Any) -> None:
    """A random layer holds no pair that is designed, and is far beyond permuted labels, but not beyond its twins."""
    plant, whole = design
    weights = random_layer(3, 48, 12)
    source = ArraySource(weights.neurons(plant.scene.inputs), plant.scene.inputs, weights, whole.rows)
    measure = next(measure_layers(source, [0], whole))
    rng = np.random.default_rng(1)
    shuffled = [readings(source, [0], permuted(whole, rng))[0] for _ in range(5)]
    # permuted labels are those of no function of the input: their interaction is noise
    assert np.median([np.abs(held.d_prime).mean() for held in shuffled]) < 0.15
    assert np.median(measure.by_k[16].d_prime) > 1.0
    nulls = nulls_of(measure, permutations=shuffled)
    rows = {row["null"]: row for row in rows_of(measure, whole, nulls)}
    assert rows["permutation within strata"]["n_found"] > 0.9 * len(whole.tested.pairs)
    assert rows["labels alone"]["n_found"] > 0.9 * len(whole.tested.pairs)
    assert rows["PC-sign twins"]["n_found"] == 0
    assert {
        "MLP input",
        "pre-activations",
        "pairs of like frequency",
        "isotropic twins",
        "shuffle twins",
    } <= set(rows)
    assert "untrained models" not in rows
    assert 0 <= rows["permutation within strata"]["own_low"] < 0.1


def test_an_untrained_model_has_the_architecture_and_no_training() -> None:
    before = torch.random.get_rng_state()
    one, other = random_model("nano", seed=3), random_model("nano", seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(one.mlp(2).weight, other.mlp(2).weight)
    # GPT-2's initialisation: sd 0.02 everywhere, biases 0; 65,536 weights tell their sd to 0.3 %
    assert float(one.mlp(2).w_in.std()) == pytest.approx(0.02, rel=0.02)
    assert not one.mlp(2).b_in.any()
    assert (one.bos_id, one.activation) == (0, "gelu_tanh")


def test_an_object_cannot_be_untrained(planted: Any) -> None:
    with pytest.raises(InputError, match="an untrained model is made from a name or folder"):
        random_model(planted.model, seed=0)


def test_options_out_of_range() -> None:
    with pytest.raises(InputError, match="permutations: got 2, wanted 0, or at least 3"):
        pk.against_nulls("nano", permutations=2)
    with pytest.raises(InputError, match="untrained: got 1, wanted 0, or at least 3"):
        pk.against_nulls("nano", untrained=1)


@pytest.mark.slow
def test_the_seed_decides() -> None:
    one, same = random_model("nano", seed=3), random_model("nano", seed=3)
    assert torch.equal(one.mlp(2).weight, same.mlp(2).weight)


@pytest.mark.slow
def test_every_null_of_a_model_in_one_table() -> None:
    table = pk.against_nulls(
        "nano", layers=[1], max_tokens=12_000, max_pairs=20, twins=4, permutations=3, untrained=3, min_support=25,
        checkpoints=["nano"], progress=False,
    ).table.set_index("null")  # fmt: skip
    assert (table["n_tested"] == 20).all()
    # a checkpoint that is the model itself: no pair exceeds it, and the paired difference is exactly 0
    assert table.loc["checkpoint nano", "n_found"] == 0
    assert {"untrained models", "permutation within strata", "linearised layer"} <= set(table.index)
