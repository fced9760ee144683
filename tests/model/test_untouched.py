"""A model that the caller holds stays as it is, to the bit and the name, whatever becomes of the analysis."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.errors import InputError, ModelError
from probekit.model.harvest import harvest
from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.text.tokens import Tokens

sys.path.insert(0, str(Path(__file__).parent))
import architectures

IDS = torch.arange(24).reshape(2, 12)
CORPUS = pk.Corpus.from_tokens(np.random.default_rng(0).integers(0, 60, (60, 16)))


def held(model: Any) -> dict[str, Any]:
    """Everything of a model that a caller can see."""
    with torch.no_grad():
        model_output = model(IDS).logits if not model.training else None
    return {
        "names": list(model.state_dict()),
        "modules": [(name, id(module)) for name, module in model.named_modules()],
        "parameters": [(name, id(p), p.requires_grad, p.device, p.dtype) for name, p in model.named_parameters()],
        "bits": {name: tensor.detach().clone() for name, tensor in model.state_dict().items()},
        "buffers": {name: tensor.clone() for name, tensor in model.named_buffers()},
        "hooks": [
            (name, list(module._forward_hooks), list(module._forward_pre_hooks), list(module._backward_hooks))
            for name, module in model.named_modules()
        ],
        "modes": [(name, module.training) for name, module in model.named_modules()],
        "config": model.config.to_dict() | {"attention": model.config._attn_implementation},
        "output": model_output,
    }  # fmt: skip


def require_untouched(model: Any, before: dict[str, Any], tmp_path: Path) -> None:
    after = held(model)
    for name in ("names", "modules", "parameters", "hooks", "modes", "config"):
        assert after[name] == before[name], name
    for name in ("bits", "buffers"):
        assert after[name].keys() == before[name].keys()
        assert all(torch.equal(after[name][key], before[name][key]) for key in after[name])
    if before["output"] is not None:
        assert torch.equal(after["output"], before["output"])
    model.save_pretrained(tmp_path / "saved")
    again = type(model).from_pretrained(tmp_path / "saved")
    assert all(torch.equal(tensor, before["bits"][name]) for name, tensor in again.state_dict().items())


def build(name: str) -> Any:
    with torch.random.fork_rng():
        return architectures.builder(name)()


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama", "gemma2", "phi3", "bloom", "opt"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_loading_touches_nothing(name: str, mode: str, tmp_path: Path) -> None:
    model = build(name).train(mode == "train")
    next(model.parameters()).requires_grad_(False)
    before = held(model)
    hooked = load_hooked_model(model, device="cpu")
    require_untouched(model, before, tmp_path)
    assert {p.data_ptr() for p in hooked.bridge.original_model.parameters()} >= {
        model.get_submodule(name_of(model)).weight.data_ptr()
    }  # shared, not copied
    assert not hooked.bridge.training
    assert not any(p.requires_grad for p in hooked.bridge.original_model.parameters())


def name_of(model: Any) -> str:
    """The embedding's name."""
    embedding = model.get_input_embeddings()
    return next(name for name, module in model.named_modules() if module is embedding)


def test_an_analysis_touches_nothing(tmp_path: Path) -> None:
    model = build("llama").train()
    before = held(model)
    masks = {f"m{i}": np.random.default_rng(i).random(64) < 0.4 for i in range(3)}
    pk.analyze(
        model, CORPUS, concepts=pk.Concepts.from_vocab(masks), twins=4, context=16, max_pairs=3, min_support=5, spikes=(),
        progress=False,
    )  # fmt: skip
    require_untouched(model, before, tmp_path)


def test_nor_does_one_that_ends_in_an_error(tmp_path: Path) -> None:
    model = build("gpt2")
    before = held(model)
    with pytest.raises(InputError, match="got layer 7"):
        pk.analyze(model, CORPUS, layers=[7], progress=False)
    experts = build("mixtral")
    with pytest.raises(ModelError, match="mixture of experts"):
        load_hooked_model(experts)
    require_untouched(model, before, tmp_path)
    assert all(not hasattr(module, "original_component") for module in experts.modules())


def test_what_the_caller_does_afterwards(ragged_tokens: Tokens) -> None:
    """The weights are shared, so training goes on in what is read; modules are not, so hooks are the caller's alone."""
    model, n_called = build("gpt2"), []
    hooked = load_hooked_model(model)
    handle = model.transformer.h[0].mlp.register_forward_hook(lambda *_: n_called.append(1))
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight.zero_()
        model.transformer.h[1].mlp.c_fc.bias.zero_()
    (block,) = harvest(hooked, ragged_tokens, np.arange(7), [1], batch_docs=7)
    assert not block.sites[1][1].any()
    assert n_called == []
    model.eval()(IDS)
    assert n_called == [1]
    handle.remove()


def test_one_that_cannot_be_copied(tmp_path: Path) -> None:
    import threading

    model = build("gpt2")
    model.lock = threading.Lock()
    with pytest.raises(ModelError, match=r"cannot be copied .*and the model you gave is never changed"):
        load_hooked_model(model)


def test_a_model_in_memory_that_was_made_from_a_configuration_alone() -> None:
    model = build("falcon")
    assert model.config.architectures is None
    assert load_hooked_model(model).n_layers == 2
    assert model.config.architectures is None


class TestTheBridgeIsTheModel:
    """What TransformerLens runs has to give what transformers gives."""

    @pytest.mark.parametrize("epsilon", [1e-5, 1e-2])
    def test_an_epsilon_it_does_not_know_by_name(
        self, epsilon: float, hooked_model: Callable[[str], HookedModel]
    ) -> None:
        """Starcoder2 calls it norm_epsilon; the bridge takes 1e-5 whatever it is."""
        import transformers as hf

        with torch.random.fork_rng():
            model = hf.Starcoder2ForCausalLM(
                hf.Starcoder2Config(**architectures.COMMON, norm_epsilon=epsilon)
            ).eval()
        hooked = load_hooked_model(model)
        with torch.no_grad():
            torch.testing.assert_close(hooked.bridge(IDS), model(IDS).logits, rtol=1e-5, atol=1e-5)

    def test_one_that_is_not_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import transformers as hf

        monkeypatch.setattr("probekit.model.hooked_model.norms_as_the_model", lambda bridge: None)
        with torch.random.fork_rng():
            model = hf.Starcoder2ForCausalLM(hf.Starcoder2Config(**architectures.COMMON, norm_epsilon=1e-2))
        with pytest.raises(ModelError, match="gives other logits than as transformers does"):
            load_hooked_model(model)
