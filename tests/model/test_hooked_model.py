"""Loading: every architecture's sites are proved, and each thing that goes wrong is said in one sentence."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from probekit.errors import ConfigError, InputError, ModelError
from probekit.model import hub
from probekit.model.folder import NANO_FOLDER
from probekit.model.hooked_model import HookedModel, load_hooked_model

ACTIVATION = {"neox": "gelu", "llama": "silu", "qwen2": "silu", "phi3": "silu", "opt": "relu"}
GATED = {"llama", "qwen2", "gemma2", "phi3"}
BOS = 63


@pytest.fixture
def folder(model_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the GPT-2 folder, to be damaged."""
    return Path(shutil.copytree(model_folder("gpt2"), tmp_path / "damaged"))


@pytest.fixture
def fresh_bridge(model_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    """A bridge nobody else uses."""
    return lambda name: load_hooked_model(model_folder(name)).bridge


def test_every_dense_architecture_loads(dense: str, hooked_model: Callable[[str], HookedModel]):
    hooked = hooked_model(dense)
    assert (hooked.name, hooked.n_layers, hooked.d_model, hooked.n_vocab) == (dense, 2, 16, 64)
    assert hooked.d_mlp == (
        64 if dense in ("gpt2", "gptj", "bloom") else 48
    )  # OPT's own configuration says 64
    assert hooked.context == (2048 if dense == "bloom" else 32)  # BLOOM has no position table
    assert hooked.activation == ACTIVATION.get(dense, "gelu_tanh")
    assert hooked.gated == (dense in GATED)
    assert (hooked.bos_id, hooked.bits, hooked.dtype) == (BOS, 32, torch.float32)
    assert not hooked.bridge.training
    assert not any(parameter.requires_grad for parameter in hooked.bridge.original_model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom"])
def test_sixteen_bit_models_load(name: str, dtype: torch.dtype, model_folder: Callable[[str], Path]):
    hooked = load_hooked_model(model_folder(name), dtype=dtype)
    assert (hooked.dtype, hooked.bits) == (dtype, 32)  # the file stores 32
    assert hooked.mlp(0).w_in.dtype == torch.float32
    # BLOOM's configuration names none, and bfloat16 rounds more coarsely than the two forms of GELU differ.
    either = {"gelu", "gelu_tanh"} if name == "bloom" else {"gelu_tanh"}
    assert hooked.activation in ({"silu"} if name == "llama" else either)


def test_weights_are_those_of_the_file(
    hooked_model: Callable[[str], HookedModel], model_folder: Callable[[str], Path]
):
    """[neuron input] both from Conv1D, which stores [input neuron], and from Linear."""
    stored = load_file(model_folder("gpt2") / "model.safetensors")
    weights = hooked_model("gpt2").mlp(1)
    assert torch.equal(weights.w_in, stored["transformer.h.1.mlp.c_fc.weight"].T)
    assert torch.equal(weights.b_in, stored["transformer.h.1.mlp.c_fc.bias"])
    stored = load_file(model_folder("llama") / "model.safetensors")
    weights = hooked_model("llama").mlp(1)
    assert weights.w_gate is not None
    assert torch.equal(weights.w_in, stored["model.layers.1.mlp.up_proj.weight"])
    assert torch.equal(weights.w_gate, stored["model.layers.1.mlp.gate_proj.weight"])


def test_nano():
    hooked = load_hooked_model("nano")
    configuration = json.loads((NANO_FOLDER / "config.json").read_text())
    assert (hooked.name, hooked.n_layers, hooked.d_model) == (
        "nano",
        configuration["n_layer"],
        configuration["n_embd"],
    )
    assert (hooked.bits, hooked.dtype, hooked.bos_id) == (16, torch.float32, 0)
    assert hooked.tokenizer is not None
    assert len(hooked.tokenizer) == hooked.n_vocab


def test_loading_leaves_the_global_generator_alone(model_folder: Callable[[str], Path]):
    before = torch.get_rng_state()
    load_hooked_model(model_folder("gpt2"))
    assert torch.equal(before, torch.get_rng_state())


class TestTokenizer:
    def test_a_folder_without_one(self, folder: Path):
        (folder / "tokenizer.json").unlink()
        with pytest.raises(
            ModelError, match=r"no tokenizer, so text.*wanted tokenizer\.json.*Add one: AutoTokenizer"
        ):
            load_hooked_model(folder)

    def test_an_empty_one(self, folder: Path):
        """What transformers silently makes up for a GPT-2 folder without vocabulary."""
        for path in folder.glob("tokenizer*"):
            path.unlink()
        (folder / "vocab.json").write_text('{"<|endoftext|>": 0}')
        (folder / "merges.txt").write_text("")
        with pytest.raises(ModelError, match="the tokenizer is empty"):
            load_hooked_model(folder)

    def test_a_broken_one(self, folder: Path):
        (folder / "tokenizer.json").write_text("{}")
        with pytest.raises(ModelError, match="the tokenizer could not be loaded"):
            load_hooked_model(folder)

    def test_the_bridge_changes_a_copy_only(self, folder: Path):
        """The bridge gives a tokenizer without special tokens some that the model does not know."""
        configuration = json.loads((folder / "tokenizer_config.json").read_text())
        for key in ("bos_token", "eos_token", "pad_token"):
            configuration.pop(key, None)
        (folder / "tokenizer_config.json").write_text(json.dumps(configuration))
        hooked = load_hooked_model(folder)
        assert hooked.tokenizer is not None
        assert hooked.tokenizer.eos_token is None
        assert len(hooked.tokenizer) == 64
        assert hooked.bos_id is None
        assert hooked.bridge.tokenizer.bos_token is not None  # the trap is real
        assert load_hooked_model(hooked.bridge).bos_id is None

    def test_token_strings(self, hooked_model: Callable[[str], HookedModel]):
        assert hooked_model("gpt2").token_string(5) == "w5"
        assert hooked_model("gpt2").token_string(64) is None


class TestRefused:
    def test_mixture_of_experts(self, model_folder: Callable[[str], Path]):
        with pytest.raises(ModelError, match=r"layer 0 is a mixture of experts \(2 of 2 layers"):
            load_hooked_model(model_folder("mixtral"))

    def test_activation(self, model_folder: Callable[[str], Path]):
        with pytest.raises(ModelError, match="by the layer's weights and 'quick_gelu', nor by any of gelu"):
            load_hooked_model(model_folder("llama-quick-gelu"))

    def test_no_mlp(self):
        from transformer_lens.model_bridge.sources.native import boot

        bridge = boot(
            {
                "n_layers": 1,
                "d_model": 8,
                "n_heads": 2,
                "d_head": 4,
                "n_ctx": 8,
                "d_vocab": 9,
                "attn_only": True,
                "seed": 0,
            }
        )
        with pytest.raises(ModelError, match=r"layer 0 has no site `blocks\.0\.mlp\.hook_in`"):
            load_hooked_model(bridge)

    def test_compatibility_mode(self, fresh_bridge: Callable[[str], Any]):
        bridge = fresh_bridge("gpt2")
        bridge.enable_compatibility_mode()
        with pytest.raises(ModelError, match=r"compatibility mode.*wanted raw weights"):
            load_hooked_model(bridge)

    def test_missing_weights(self, folder: Path):
        """transformers would draw them at random without a word."""
        stored = load_file(folder / "model.safetensors")
        del stored["transformer.h.1.mlp.c_fc.weight"]
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"1 weights are missing.*transformer\.h\.1\.mlp\.c_fc\.weight"):
            load_hooked_model(folder)

    def test_truncated_weights(self, folder: Path):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ModelError, match="could not be loaded"):
            load_hooked_model(folder)
        path.write_bytes(b"\xff" * 100)
        with pytest.raises(ModelError, match="not a safetensors file"):
            load_hooked_model(folder)

    @pytest.mark.parametrize(
        "header", [b"{", b"[]", b'{"w": 1}', b'{"w": {"dtype": "F32"}}', b'{"w": {"data_offsets": [0]}}']
    )
    def test_a_header_that_says_nothing(self, folder: Path, header: bytes):
        """Well-formed JSON or not, one message."""
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(ModelError, match="the header is damaged; download or save the model again"):
            load_hooked_model(folder)

    def test_no_configuration(self, folder: Path):
        (folder / "config.json").unlink()
        with pytest.raises(ModelError, match=r"no config\.json"):
            load_hooked_model(folder)

    def test_no_such_folder(self):
        with pytest.raises(ModelError, match=r"\./nowhere: no such folder"):
            load_hooked_model("./nowhere")

    def test_something_else(self):
        with pytest.raises(
            ModelError,
            match="got a dict, wanted a hub name, a folder, a GGUF file, a transformers model or a TransformerBridge",
        ):
            load_hooked_model({})

    @pytest.mark.parametrize("layer", [-1, 2])
    def test_layer_out_of_range(self, layer: int, hooked_model: Callable[[str], HookedModel]):
        with pytest.raises(InputError, match=f"got layer {layer}, but the model has layers 0 to 1"):
            hooked_model("gpt2").mlp(layer)

    def test_device(self, folder: Path, hooked_model: Callable[[str], HookedModel]):
        with pytest.raises(ConfigError, match="got 'tpu', wanted auto, cpu or cuda"):
            load_hooked_model(folder, device="tpu")
        with pytest.raises(ConfigError, match="used in the dtype it has"):
            load_hooked_model(hooked_model("gpt2").bridge, dtype=torch.float16)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
    def test_absent_device(self, folder: Path):
        with pytest.raises(ConfigError, match="torch sees no CUDA device"):
            load_hooked_model(folder, device="cuda")


class TestHub:
    """No test reaches the network."""

    @pytest.fixture
    def online(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def answer(self, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]) -> None:
        monkeypatch.setattr(
            "huggingface_hub.HfApi.model_info", lambda self, name, revision, timeout: answer()
        )

    @pytest.mark.parametrize(
        ("name", "shown"), [("gpt2", "gpt2"), ("gpt2-small", "gpt2"), ("no/such", "no/such")]
    )
    def test_offline(self, name: str, shown: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(ModelError, match=f"'{shown}' is neither.*HF_HUB_OFFLINE is set.*pass the folder"):
            load_hooked_model(name)

    @pytest.mark.usefixtures("online")
    def test_a_hub_that_never_answers(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(hub, "HUB_TIMEOUT_SECONDS", 0.2)
        self.answer(monkeypatch, lambda: time.sleep(5))
        start = time.monotonic()
        with pytest.raises(ModelError, match=r"hub cannot be reached \(TimeoutError\).*pass the folder"):
            load_hooked_model("no/such")
        assert time.monotonic() - start < 2
        assert hub.HUB_TIMEOUT_SECONDS < 10

    @pytest.mark.usefixtures("online")
    def test_a_network_that_refuses(self, monkeypatch: pytest.MonkeyPatch):
        """The hub client itself, sent to a port of this machine where nobody listens."""
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelError, match=r"hub cannot be reached \(ConnectError\).*pass the folder"):
            load_hooked_model("no/such")

    def test_no_hub_name(self):
        with pytest.raises(ModelError, match="'a b c' is neither a folder nor a hub name"):
            load_hooked_model("a b c")

    def test_a_cached_model_needs_no_network(
        self, model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        snapshot = tmp_path / "models--me--tiny" / "snapshots" / ("0" * 40)
        shutil.copytree(model_folder("gpt2"), snapshot)
        (tmp_path / "models--me--tiny" / "refs").mkdir()
        (tmp_path / "models--me--tiny" / "refs" / "main").write_text("0" * 40)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        assert load_hooked_model("me/tiny").name == "me/tiny"


class FirstForty(torch.nn.Module):
    def forward(self, pre: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(pre[..., :40], approximate="tanh")


def louder(result: torch.Tensor) -> torch.Tensor:
    return 1.01 * result


def ahead(result: torch.Tensor) -> torch.Tensor:
    return result + 0.1 * result.mean(dim=1, keepdim=True)


class Changed(torch.nn.Module):
    """A module whose result is changed; a hook would be refused before anything is proved."""

    def __init__(self, whole: torch.nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.whole, self.change, self.weight = whole, change, whole.weight

    def forward(self, *args: Any, **named: Any) -> torch.Tensor:
        return self.change(self.whole(*args, **named))


class TestProof:
    """What a site claims is tested by behaviour: each lie is caught, and the same model without it loads."""

    def test_a_bridge_may_come_in_training_mode_without_tokenizer(self, fresh_bridge: Callable[[str], Any]):
        bridge = fresh_bridge("gpt2")
        bridge.train()
        bridge.tokenizer = None
        hooked = load_hooked_model(bridge)
        assert hooked.bridge is bridge
        assert not bridge.training
        assert (hooked.tokenizer, hooked.bos_id, hooked.bits) == (None, None, 32)

    def test_a_native_bridge(self):
        from transformer_lens.model_bridge.sources.native import boot

        bridge = boot(
            {
                "n_layers": 2,
                "d_model": 8,
                "n_heads": 2,
                "d_head": 4,
                "n_ctx": 8,
                "d_vocab": 9,
                "act_fn": "relu",
                "seed": 0,
            }
        )
        hooked = load_hooked_model(bridge)
        assert (hooked.n_layers, hooked.activation, hooked.tokenizer) == (2, "relu", None)

    def test_neurons_that_do_not_follow_from_the_inputs(self, fresh_bridge: Callable[[str], Any]):
        bridge = fresh_bridge("gpt2")
        bridge.blocks[0].mlp.original_component.act = torch.nn.Tanh()
        with pytest.raises(ModelError, match="layer 0: the neurons do not follow from the MLP input"):
            load_hooked_model(bridge)

    def test_a_later_layer_is_proved_too(self, fresh_bridge: Callable[[str], Any]):
        bridge = fresh_bridge("gpt2")
        bridge.blocks[1].mlp.original_component.act = torch.nn.Tanh()
        with pytest.raises(
            ModelError, match="layer 1: the neurons do not follow from the MLP input by W_in and gelu_tanh"
        ):
            load_hooked_model(bridge)

    def test_outputs_that_do_not_follow_from_the_neurons(self, fresh_bridge: Callable[[str], Any]):
        bridge = fresh_bridge("llama")
        bridge.blocks[1].mlp.out.set_original_component(
            Changed(bridge.blocks[1].mlp.out.original_component, louder)
        )
        with pytest.raises(
            ModelError, match="layer 1: the MLP output does not follow from the neurons by W_out"
        ):
            load_hooked_model(bridge)

    def test_a_model_that_looks_ahead(self, fresh_bridge: Callable[[str], Any]):
        bridge = fresh_bridge("neox")
        bridge.embed.set_original_component(Changed(bridge.embed.original_component, ahead))
        with pytest.raises(ModelError, match="layer 0: a later token changes the neurons of earlier ones"):
            load_hooked_model(bridge)

    def test_a_site_that_is_not_the_neurons(self, fresh_bridge: Callable[[str], Any]):
        bridge = fresh_bridge("gpt2")
        out = bridge.blocks[0].mlp.out.original_component
        out.weight = torch.nn.Parameter(out.weight[:40])
        bridge.blocks[0].mlp.original_component.act = FirstForty()
        with pytest.raises(ModelError, match="is 40 wide, but W_out has 40 rows and W_in 64"):
            load_hooked_model(bridge)


def test_the_proof_leaves_no_hooks(hooked_model: Callable[[str], HookedModel]):
    hooks = hooked_model("gpt2").bridge.hook_dict.values()
    assert not any(hook.fwd_hooks for hook in hooks)


def test_neurons_recomputed_from_numpy(hooked_model: Callable[[str], HookedModel], dense: str):
    """The weights of a hooked model serve arrays of another origin."""
    inputs = np.random.default_rng(0).normal(size=(3, 16))
    neurons = hooked_model(dense).mlp(0).neurons(inputs)
    assert neurons.shape == (3, hooked_model(dense).d_mlp)
