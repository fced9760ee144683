"""What TransformerLens' processing of weights does to activations, made up for; compared with its own processing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from probekit.errors import InputError
from probekit.model.dictionaries.processing import processing_of
from probekit.model.hooked_model import HookedModel, load_hooked_model

SITES = ("hook_embed", "blocks.0.hook_resid_mid", "blocks.1.hook_resid_pre", "blocks.1.hook_resid_post",
         "blocks.1.hook_attn_out", "blocks.1.hook_mlp_out", "blocks.1.mlp.hook_post", "blocks.1.mlp.hook_pre",
         "blocks.1.attn.hook_q", "blocks.1.ln2.hook_normalized", "blocks.1.attn.hook_z")  # fmt: skip
STREAM = SITES[:6]
PROCESSED = {"fold_ln": True, "center_writing_weights": True, "center_unembed": True}


def activations(hooked: HookedModel) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    ids = torch.randint(0, 60, (3, 9), generator=torch.Generator().manual_seed(0))

    def keep(activation: torch.Tensor, hook: Any, name: str) -> None:
        found[name] = activation.detach().clone().flatten(0, 1).flatten(1)

    hooks = [
        (site, lambda a, hook, site=site: keep(a, hook, site))
        for site in SITES
        if site in hooked.bridge.hook_dict
    ]
    with torch.no_grad():
        hooked.bridge.run_with_hooks(ids, return_type=None, fwd_hooks=hooks)
    return found


@pytest.mark.parametrize("architecture", ["gpt2", "neox", "llama"])
def test_activations_are_those_of_the_processed_model(
    architecture: str, model_folder: Callable[[str], Path], recwarn: pytest.WarningsRecorder
) -> None:
    hooked = load_hooked_model(model_folder(architecture))
    raw = activations(hooked)
    made = {
        site: processing_of(hooked, site, PROCESSED, "sae").apply(raw[site].reshape(27, -1)) for site in raw
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hooked.bridge.enable_compatibility_mode(
            disable_warnings=True, fold_ln=True, center_writing_weights=True, center_unembed=True,
            fold_value_biases=False, refactor_factored_attn_matrices=False,
        )  # fmt: skip
    processed = activations(hooked)
    n_changed = 0
    for site, wanted in processed.items():
        # activations of size 1 to 10 in float32
        torch.testing.assert_close(made[site], wanted.reshape(27, -1), atol=2e-5, rtol=1e-5, msg=site)
        n_changed += not torch.allclose(raw[site], wanted, atol=1e-2)
    # the six that are written to the residual stream, where LayerNorm follows
    assert n_changed == len([site for site in processed if site in STREAM and architecture != "llama"])


def test_what_cannot_be_made_up_for_is_refused(hooked_model: Callable[[str], HookedModel]) -> None:
    hooked = hooked_model("gpt2")
    stream, heads = "blocks.1.hook_resid_pre", "blocks.1.attn.hook_z"
    for key in ("fold_value_biases", "refactor_factored_attn_matrices"):
        processing_of(hooked, stream, {key: True}, "sae")
        processing_of(hooked, heads, {key: False}, "sae")
        with pytest.raises(
            InputError, match=rf"sae: model_from_pretrained_kwargs has {key}=True, which changes '{heads}'"
        ):
            processing_of(hooked, heads, {key: True}, "sae")
    with pytest.raises(
        InputError, match="has rotate_stream=3, which is unknown and may change the activations"
    ):
        processing_of(hooked, stream, {"rotate_stream": 3}, "sae")
    with pytest.raises(InputError, match=r"what that does to 'blocks\.1\.attn\.hook_in' is not known"):
        processing_of(hooked, "blocks.1.attn.hook_in", {"center_writing_weights": True}, "sae")
    with pytest.raises(InputError, match="normalises its embedding, so that its stream is not centred"):
        processing_of(hooked_model("bloom"), stream, {"center_writing_weights": True}, "sae")
    assert not processing_of(
        hooked, stream, {"center_writing_weights": False, "n_devices": 2, "dtype": "float16"}, "s"
    ).centred
    told = processing_of(hooked, stream, {"checkpoint_value": 3000}, "sae").warnings
    assert told == (
        "sae: was trained on the weights checkpoint_value=3000 of its model; load the same ones.",
    )
