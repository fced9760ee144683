"""The model without hook points: where it is used, that it is the same model, and that it is refused where it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probekit.errors import NonFiniteError
from probekit.model.harvest import harvest
from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.model.plain import Unbridged
from probekit.text.tokens import Tokens

ALL = np.arange(7)
PLAIN = {"gpt2", "neox", "llama", "qwen2", "phi"}
"""Of the architectures tested here those whose bridge keeps every part of the MLP and whose own attention is fused."""
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def test_which_architectures_are_read_plainly(dense: str, hooked_model: Callable[[str], HookedModel]) -> None:
    assert (hooked_model(dense).plain is not None) == (dense in PLAIN)


@pytest.mark.parametrize("name", sorted(PLAIN))
@pytest.mark.parametrize("layers", [[0], [1], [0, 1]])
def test_both_ways_of_reading_agree(
    name: str, layers: list[int], hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
) -> None:
    hooked = hooked_model(name)
    ours = list(harvest(hooked, ragged_tokens, ALL, layers, batch_docs=3))
    bridged = list(harvest(replace(hooked, plain=None), ragged_tokens, ALL, layers, batch_docs=3))
    for a, b in zip(ours, bridged, strict=True):
        assert np.array_equal(a.tokens, b.tokens)
        for layer in layers:
            for x, y in zip(a.sites[layer], b.sites[layer], strict=True):
                torch.testing.assert_close(x, y, **CLOSE)


def test_nothing_after_the_last_layer_runs_and_no_hook_stays(
    model_folder: Callable[[str], Path], ragged_tokens: Tokens
) -> None:
    hooked = load_hooked_model(model_folder("gpt2"))
    plain = hooked.plain
    assert plain is not None
    ran = {"first": 0, "second": 0}
    for name, module in zip(ran, plain.outs, strict=True):
        module.register_forward_hook(lambda *_, name=name: ran.update({name: ran[name] + 1}))
    list(harvest(hooked, ragged_tokens, ALL, [0]))
    assert ran == {"first": 0, "second": 0}
    list(harvest(hooked, ragged_tokens, ALL, [0, 1], batch_docs=7))
    assert ran == {"first": 1, "second": 0}
    next(harvest(hooked, ragged_tokens, ALL, [0], batch_docs=1))
    assert not any(module._forward_pre_hooks for module in (*plain.inputs, *plain.outs))


def test_every_parameter_is_shared(model_folder: Callable[[str], Path], ragged_tokens: Tokens) -> None:
    """Pruning a layer in place, as the compression curve does, changes what is read."""
    hooked = load_hooked_model(model_folder("llama"))
    assert hooked.plain is not None
    held = {parameter.data_ptr() for parameter in hooked.bridge.original_model.parameters()}
    assert {parameter.data_ptr() for parameter in hooked.plain.model.parameters()} <= held
    with torch.no_grad():
        for half in (hooked.bridge.blocks[1].mlp.gate, getattr(hooked.bridge.blocks[1].mlp, "in")):
            half.weight.zero_()
    (block,) = harvest(hooked, ragged_tokens, ALL, [0, 1], batch_docs=7)
    assert not block.sites[1][1].any()
    assert block.sites[0][1].any()


def test_a_model_that_computes_something_else_is_not_used(model_folder: Callable[[str], Path]) -> None:
    """The proof by numbers, and its positive control."""
    from transformers import AutoModelForCausalLM

    hooked = load_hooked_model(model_folder("gpt2"))
    other: Any = AutoModelForCausalLM.from_pretrained(model_folder("gpt2"))
    own = Unbridged.of(other)
    modules = dict(hooked.bridge.original_model.named_modules())
    names = {id(part.original_component): name.replace("._original_component", "") for name, part in modules.items()
             if hasattr(part, "original_component")}  # fmt: skip
    assert Unbridged(own.copied, names).proved(hooked.bridge, hooked.n_vocab, hooked.context) is not None
    with torch.no_grad():
        other.transformer.h[0].attn.c_proj.weight *= 1.001
    assert Unbridged(own.copied, names).proved(hooked.bridge, hooked.n_vocab, hooked.context) is None


def test_a_module_of_the_bridges_own_making_is_not_taken_for_the_models(
    model_folder: Callable[[str], Path],
) -> None:
    """Phi-3 holds gate and input in one matrix, which the bridge splits: what is changed in a half stays unseen."""
    assert load_hooked_model(model_folder("phi3")).plain is None


def test_a_model_in_memory_and_a_model_with_eager_attention(model_folder: Callable[[str], Path]) -> None:
    from transformers import AutoModelForCausalLM

    fused = AutoModelForCausalLM.from_pretrained(model_folder("gpt2"))
    assert load_hooked_model(fused).plain is not None
    eager = AutoModelForCausalLM.from_pretrained(model_folder("gpt2"), attn_implementation="eager")
    assert load_hooked_model(eager).plain is None


def test_numbers_that_are_none_are_told_of(
    model_folder: Callable[[str], Path], ragged_tokens: Tokens
) -> None:
    hooked = load_hooked_model(model_folder("gpt2"))
    assert hooked.plain is not None
    spoil = torch.zeros(7, 20, 1)
    spoil[4, 9] = float("nan")
    hooked.plain.inputs[1].register_forward_pre_hook(lambda module, given: (given[0] + spoil,))
    with pytest.raises(NonFiniteError, match=r"gpt2: layer 1: .* MLP inputs .*document 4, position 9;"):
        list(harvest(hooked, ragged_tokens, ALL, [0, 1], batch_docs=7))
