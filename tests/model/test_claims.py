"""Claims are read off a null layer as off the layer, and a residual stream holds the one in the other's place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from dictionary_formula import saved

from probekit.errors import InputError, NonFiniteError, ShapeError
from probekit.model.claims import (
    ClaimedByRecipe,
    ClaimedLatents,
    Works,
    claimed_directions,
    place_of_site,
)
from probekit.model.dictionaries import read_dictionary
from probekit.model.dictionaries.processing import processing_of
from probekit.model.grid import output_constant, output_weights
from probekit.model.hooked_model import HookedModel
from probekit.model.sites import capture, proof_tokens
from probekit.model.weights import MlpWeights

RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.standard_normal((30, 6))).float()
WORKS = Works(
    MlpWeights.from_arrays(RNG.standard_normal((9, 6)), np.zeros(9)),
    torch.from_numpy(RNG.standard_normal((9, 4))).float(),
    torch.full((4,), 3.0),
)


def test_a_null_layer_takes_the_layers_place_in_the_residual_stream() -> None:
    before = torch.from_numpy(RNG.standard_normal((30, 4))).float()
    null = WORKS.on(-X, before)
    assert null.outputs is not None
    assert null.after is not None
    assert torch.equal(null.after, before + null.outputs)
    assert WORKS.writes is not None
    wanted = torch.relu(-X @ WORKS.weights.w_in.T) @ WORKS.writes + 3
    torch.testing.assert_close(null.outputs, wanted, atol=1e-5, rtol=1e-5)  # float32 sums of 9 terms
    assert WORKS.on(X).after is None
    with pytest.raises(InputError, match="claims at 'output': the layer's output weights are not known"):
        Works(WORKS.weights).on(X).at("output")


def test_a_models_layer_at_work_is_the_models(hooked_model: Callable[[str], HookedModel]) -> None:
    hooked = hooked_model("gpt2")
    sites = capture(hooked.bridge, proof_tokens(hooked.n_vocab, 8))
    works = Works(hooked.mlp(1), output_weights(hooked, 1), output_constant(hooked, 1))
    outputs = works.on(sites["blocks.1.mlp.hook_in"].reshape(-1, hooked.d_model)).outputs
    assert outputs is not None
    wanted = sites["blocks.1.mlp.hook_out"].reshape(-1, hooked.d_model)
    torch.testing.assert_close(outputs, wanted, atol=1e-4, rtol=1e-4)  # another order of float32 sums


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
def test_one_latent_is_that_of_the_whole_dictionary(
    architecture: str, tmp_path: Path, hooked_model: Callable[[str], HookedModel]
) -> None:
    site = "blocks.1.mlp.hook_in"
    dictionary = read_dictionary(saved(tmp_path / "sae", architecture, hook_name=site))
    inputs = torch.from_numpy(RNG.standard_normal((50, dictionary.n_inputs))).float()
    weights = MlpWeights.from_arrays(RNG.standard_normal((9, dictionary.n_inputs)), np.zeros(9))
    processing = processing_of(hooked_model("gpt2"), site, {}, "sae")
    claims = ClaimedLatents(("x", "y"), place_of_site(site, 1), dictionary, processing, (7, 3))
    layer = Works(weights).on(inputs)
    whole = claims.values(layer)
    torch.testing.assert_close(whole, dictionary.encode(inputs)[:, [7, 3]])
    for claim in (0, 1):
        one = claims.take(claim)
        assert one.names == claims.names[claim : claim + 1]
        torch.testing.assert_close(one.values(layer), whole[:, claim : claim + 1], atol=1e-5, rtol=1e-5)


def test_places_of_hooks() -> None:
    named = {
        "blocks.2.mlp.hook_in": "input", "blocks.2.mlp.out.hook_in": "neuron", "blocks.2.mlp.hook_post": "neuron",
        "blocks.2.hook_mlp_out": "output", "blocks.2.hook_resid_post": "after", "blocks.3.hook_resid_pre": "after",
    }  # fmt: skip
    assert {site: place_of_site(site, 2) for site in named} == named
    for site in ("blocks.2.hook_resid_pre", "blocks.3.mlp.hook_in", "blocks.2.attn.hook_z", "hook_embed"):
        with pytest.raises(InputError, match="which is no place of layer 2's MLP"):
            place_of_site(site, 2)


def test_directions_go_by_their_width() -> None:
    options = {"place": None, "names": None}
    assert claimed_directions(np.ones(9), n_neurons=9, d_output=4, **options).place == "neuron"
    claims = claimed_directions([[0, 1, 0, 0]], n_neurons=9, d_output=4, **options)
    assert claims.place == "output"
    outputs = WORKS.on(X).outputs
    assert outputs is not None
    assert torch.equal(claims.values(WORKS.on(X)), outputs[:, 1:2])
    with pytest.raises(ShapeError, match="name the space where both are one"):
        claimed_directions(np.ones(4), n_neurons=4, d_output=4, **options)
    with pytest.raises(NonFiniteError, match="all zeros"):
        claimed_directions(np.zeros(4), n_neurons=9, d_output=4, **options)


def test_recipes() -> None:
    layer = WORKS.on(X)
    found = ClaimedByRecipe.fitted(lambda rows: rows[:2], "neuron", layer)
    assert found.names == ("found 0", "found 1")
    torch.testing.assert_close(found.take(1).values(layer), layer.neurons @ layer.neurons[1:2].T)
    with pytest.raises(ShapeError, match=r"returned shape \(1,\) for one token"):
        ClaimedByRecipe.fitted(lambda rows: lambda held: held[:, 0], "neuron", layer)
    broken = ClaimedByRecipe.fitted(
        lambda rows: lambda held: held / 0 if len(held) > 1 else held, "output", layer
    )
    with pytest.raises(NonFiniteError, match="recipe: its function returned NaN"), np.errstate(all="ignore"):
        broken.values(layer)
