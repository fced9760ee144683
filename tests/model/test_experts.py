"""Mixtures of experts: found, proved, read as the model routes, and refused where they are something else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probekit.errors import ConfigError, InputError, ModelError
from probekit.model.experts import ExpertModel, RoutedModel, load_expert_model, prove_experts
from probekit.model.harvest import harvest
from probekit.model.hooked_model import _bridged, _tokenizer_in, load_hooked_model
from probekit.text.tokens import Tokens

sys.path.insert(0, str(Path(__file__).parent))
import architectures

DEEPSEEK = {
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
MORE: dict[str, dict[str, Any]] = {
    "deepseek_v3": DEEPSEEK | {
        "first_k_dense_replace": 1, "q_lora_rank": None, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
        "v_head_dim": 8,
    },
    "glm4_moe": DEEPSEEK | {"head_dim": 8, "first_k_dense_replace": 0},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_layer_start_index": 0, "moe_intermediate_size": 24},
    "minimax": {"num_local_experts": 4, "head_dim": 8},
    "jamba": {"num_experts": 4, "head_dim": 8},
    "flex_olmo": {"num_experts": 4, "num_experts_per_tok": 2},
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2, "head_dim": 8},
    "gpt_oss": {"num_local_experts": 4, "head_dim": 8},
    "llama4_text": {"num_local_experts": 4, "head_dim": 8},
}  # fmt: skip
REFUSED = {
    "gpt_oss": "layer 0: what expert 0 writes does not follow from its weights by any of",  # clamped, interleaved
    "llama4_text": "layer 0: its experts are called with 1 arrays",  # every expert gets every token's share
}
SHARED = ("qwen2_moe", "deepseek_v3", "glm4_moe", "ernie4_5_moe", "hunyuan_v1_moe")
NAMES = (
    "mixtral", "olmoe", "qwen2_moe", "qwen3_moe", "granitemoe", "phimoe", *(name for name in MORE if name not in REFUSED),
)  # fmt: skip
CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # sums in another order in float32, on activations of size 1


def made(name: str, **changed: Any) -> Any:
    """A model with random weights of a size at which activations bend."""
    with torch.random.fork_rng():  # transformers draws the initial weights from the global generator
        import transformers as hf

        options = architectures.CONFIGURATIONS.get(name) or architectures.COMMON | MORE[name]
        options = options | changed
        model = hf.AutoModelForCausalLM.from_config(hf.AutoConfig.for_model(name, **options)).eval()
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def routing(model: ExpertModel) -> RoutedModel:
    assert isinstance(model.plain, RoutedModel)
    return model.plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_every_family_is_proved(name: str, dtype: torch.dtype) -> None:
    model = load_expert_model(made(name).to(dtype))
    assert sorted(model.modules) == (
        [1] if name in ("deepseek_v3", "jamba") else [0, 1]
    )  # the first layer may be dense
    for layer in model.modules:
        activation, notes = prove_experts(model, layer)
        assert activation == "silu"
        assert len(notes) == (name in SHARED)
        assert all("has a shared one, which is not looked at" in note for note in notes)


@pytest.mark.parametrize("name", REFUSED)
def test_other_kinds_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=REFUSED[name]):
        prove_experts(load_expert_model(made(name)), 0)


def test_an_activation_that_the_configuration_names_wrongly_is_found() -> None:
    model = made("mixtral", hidden_act="gelu_new")
    model.config.hidden_act = "relu"
    assert prove_experts(load_expert_model(model), 0)[0] == "gelu_tanh"


class TestTheProofCanFail:
    """Each theorem, broken."""

    @pytest.fixture
    def broken(self) -> ExpertModel:
        return load_expert_model(made("mixtral"))

    def test_an_expert_that_computes_something_else(self, broken: ExpertModel) -> None:
        broken.module(0).act_fn = torch.nn.Tanh()
        with pytest.raises(
            ModelError, match="layer 0: what expert 0 writes does not follow from its weights by any of"
        ):
            prove_experts(broken, 0)
        prove_experts(broken, 1)  # the other layer is untouched

    def test_one_expert_only(self, broken: ExpertModel) -> None:
        module = broken.module(0)
        forward = type(module).forward

        def doubled(inputs: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            return forward(module, inputs, chosen, torch.where(chosen == 1, 2 * weights, weights))

        module.forward = doubled
        with pytest.raises(
            ModelError, match="layer 0, expert 1: what it writes does not follow from its weights: relative"
        ):
            prove_experts(broken, 0)

    def test_weights_that_are_not_the_routers(self, broken: ExpertModel) -> None:
        module = broken.module(0)
        forward = type(module).forward

        def squared(inputs: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            return forward(
                module, inputs, chosen, weights.square()
            )  # weight 1, as a lone expert has, stays 1

        module.forward = squared
        with pytest.raises(
            ModelError, match="layer 0: its experts do not add up to what they write together"
        ):
            prove_experts(broken, 0)

    def test_something_else_that_writes(self, broken: ExpertModel) -> None:
        block: Any = routing(broken).outs[0]
        forward = type(block).forward
        block.forward = lambda states: forward(block, states) + 0.1 * states
        with pytest.raises(
            ModelError, match="layer 0: the MLP writes something else than its experts do together"
        ):
            prove_experts(broken, 0)

    def test_a_router_that_looks_ahead(self, broken: ExpertModel) -> None:
        attention: Any = broken.bridge.model.layers[0].self_attn
        forward = type(attention).forward

        def mean_of_all(hidden_states: torch.Tensor, **given: Any) -> Any:
            out, weights = forward(attention, hidden_states, **given)
            return out + out.mean(1, keepdim=True), weights

        attention.forward = mean_of_all
        with pytest.raises(ModelError, match="layer 0: a later token changes the MLP inputs of earlier ones"):
            prove_experts(broken, 0)


def test_a_model_that_does_not_run() -> None:
    broken = load_expert_model(made("mixtral", hidden_size=30))  # rotary embeddings need an even width
    with pytest.raises(ModelError, match="transformers itself cannot run the model on a few tokens"):
        prove_experts(broken, 0)


def own_reading(model: Any, ids: np.ndarray) -> tuple[torch.Tensor, ...]:
    """What layer 1's router reads and chooses, by nothing of probekit's: one document after the other, without padding."""
    captured: list[torch.Tensor] = []
    gate = model.model.layers[1].mlp.gate
    handle = gate.register_forward_hook(
        lambda _, given, out: captured.extend((given[0].reshape(-1, 16), out[2], out[1]))
    )
    with torch.no_grad():
        model(torch.from_numpy(ids[None].astype(np.int64)))
    handle.remove()
    return tuple(captured)


def test_tokens_and_routes_are_those_of_each_document_alone(ragged_tokens: Tokens) -> None:
    model = made("qwen3_moe", num_experts=5, num_experts_per_tok=2)
    hooked = load_expert_model(model)
    blocks = [
        block.sites[1]
        for block in harvest(hooked, ragged_tokens, np.arange(ragged_tokens.n_docs), [1], batch_docs=3)
    ]
    inputs, routes = (torch.cat([block[part] for block in blocks]) for part in (0, 1))
    alone = [
        [part[counted[:length]] for part in own_reading(model, ids[:length])]
        for ids, length, counted in zip(
            ragged_tokens.ids, ragged_tokens.lengths, ragged_tokens.counted, strict=True
        )
    ]
    torch.testing.assert_close(inputs, torch.cat([part[0] for part in alone]), **CLOSE)
    assert torch.equal(routes[:, :2].long(), torch.cat([part[1] for part in alone]))
    torch.testing.assert_close(routes[:, 2:], torch.cat([part[2] for part in alone]), **CLOSE)
    assert len(routes[:, :2].unique()) == 5  # every expert gets some


def test_a_bridge_a_folder_and_an_object_are_one_model(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = model_folder("mixtral")
    from transformers import AutoModelForCausalLM

    given: Any = AutoModelForCausalLM.from_pretrained(folder)
    bridge = _bridged(
        folder,
        AutoModelForCausalLM.from_pretrained(folder),
        _tokenizer_in(tmp_path, None),
        torch.device("cpu"),
        shown="x",
    )
    ids = torch.arange(8)[None]
    read = [routing(load_expert_model(model)).routed(ids, 1) for model in (folder, given, bridge)]
    for other in read[1:]:
        torch.testing.assert_close(other.inputs, read[0].inputs, **CLOSE)
        assert torch.equal(other.chosen, read[0].chosen)
    assert not any(
        handles
        for module in given.modules()
        for handles in (module._forward_hooks, module._forward_pre_hooks)
    )


def test_dense_layers_between_are_named(ragged_tokens: Tokens) -> None:
    model = load_expert_model(made("qwen3_moe", mlp_only_layers=[0]))
    assert sorted(model.modules) == [1]
    prove_experts(model, 1)
    with pytest.raises(ConfigError, match="layer 0 has a dense MLP; experts have layers 1"):
        prove_experts(model, 0)


def test_what_is_refused(model_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"no layer keeps experts as transformers 5 does .* Use pk\.analyze"):
        load_expert_model(model_folder("llama"))
    with pytest.raises(ModelError, match=r"pk\.experts\(model, corpus, layer=0\) reads its experts"):
        load_hooked_model(model_folder("mixtral"))
    with pytest.raises(ModelError, match="model: got a int, wanted a hub name, a folder"):
        load_expert_model(3)
    with pytest.raises(ConfigError, match="dtype: got bfloat16 with a MixtralForCausalLM"):
        load_expert_model(made("mixtral"), dtype="bfloat16")
    with pytest.raises(ConfigError, match="tokenizer: given with"):
        load_expert_model(model_folder("mixtral"), tokenizer="any")
    model = load_expert_model(made("mixtral"))
    with pytest.raises(InputError, match="got layer 2, but the model has layers 0 to 1"):
        model.expert(2, 0)
    with pytest.raises(ConfigError, match="got expert 2, but layer 0 has experts 0 to 1"):
        model.expert(0, 2)
    with pytest.raises(ModelError, match="the weights of layer 0 are those of its experts"):
        model.mlp(0)
    hooked = made("mixtral")
    hooked.model.layers[0].mlp.register_forward_hook(lambda module, given, out: 2 * out)
    with pytest.raises(ModelError, match="carries hooks"):
        load_expert_model(hooked)
