"""Checkpoints that are not what they look like: refused by name, or read as what they are."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from probekit.errors import ModelError
from probekit.model.hooked_model import _from_files, load_hooked_model, load_reader

META = {"format": "pt"}


@pytest.fixture
def llama(model_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the Llama folder, to be changed."""
    return Path(shutil.copytree(model_folder("llama"), tmp_path / "llama"))


def change(folder: Path, changed: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file({k: v.contiguous() for k, v in changed(load_file(path)).items()}, path, metadata=META)


def set_config(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def quantised(weights: dict[str, torch.Tensor], scale: str, block: bool = False) -> dict[str, torch.Tensor]:
    """Every projection as float8 and its scale beside it."""
    found: dict[str, torch.Tensor] = {}
    for name, values in weights.items():
        if name.endswith("proj.weight"):
            factor = values.abs().max() / 448
            found[name] = (values / factor).to(torch.float8_e4m3fn)
            found[name.removesuffix("weight") + scale] = factor.reshape(1, 1) if block else factor
        else:
            found[name] = values
    return found


class TestMoreThanTheModel:
    def test_scales_that_nobody_applies(self, llama: Path) -> None:
        """The layout of ModelOpt: the matrices alone are some thousand times too large."""
        change(llama, lambda w: quantised(w, "weight_scale"))
        with pytest.raises(
            ModelError,
            match=r"hold 14 tensors .*no place for \(first: .*_scale\): a quantisation that was not",
        ):
            load_hooked_model(llama)

    @pytest.mark.parametrize(
        "name",
        [
            "model.layers.0.mlp.gate_proj.weight_scale_inv", "model.layers.1.mlp.up_proj.qweight",
            "model.layers.0.mlp.up_proj.lora_A.weight", "model.layers.1.self_attn.sinks", "layers.0.mlp.router.weight",
            "lm_head.input_scale", "base_model.model.lm_head.lora_B.weight",
        ],
    )  # fmt: skip
    def test_any_tensor_of_a_block_and_any_scale(self, name: str, llama: Path) -> None:
        change(llama, lambda w: w | {name: torch.ones(2)})
        with pytest.raises(ModelError, match=f"hold 1 tensors .*first: {name}"):
            load_hooked_model(llama)

    @pytest.mark.parametrize(
        "name",
        [
            "model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.2.mlp.up_proj.weight", "mtp.0.weight",
            "vision_tower.encoder.layers.0.mlp.fc1.weight",
        ],
    )  # fmt: skip
    def test_what_belongs_elsewhere_may_be_there(self, name: str, llama: Path) -> None:
        """Old constants, a block for further tokens, the other half of a model: the control."""
        before = load_hooked_model(llama).mlp(0).w_in
        change(llama, lambda w: w | {name: torch.ones(2)})
        assert torch.equal(load_hooked_model(llama).mlp(0).w_in, before)

    def test_masks_of_old_gpt2_files(self, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
        folder = Path(shutil.copytree(model_folder("gpt2"), tmp_path / "gpt2"))
        change(folder, lambda w: w | {"transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32)})
        assert load_hooked_model(folder).n_layers == 2

    def test_integers(self, llama: Path) -> None:
        change(
            llama,
            lambda w: {k: v.to(torch.int8) if k.endswith("up_proj.weight") else v for k, v in w.items()},
        )
        with pytest.raises(ModelError, match=r"2 weights are stored as integers \(first: .*up_proj"):
            load_hooked_model(llama)


class TestQuantised:
    @pytest.mark.parametrize(
        "method", ["gptq", "awq", "bitsandbytes", "compressed-tensors", "modelopt", "torchao"]
    )
    def test_a_method_that_is_not_undone(self, method: str, llama: Path) -> None:
        set_config(llama, quantization_config={"quant_method": method, "bits": 4})
        with pytest.raises(
            ModelError, match=rf"its weights are quantised \({method}\), which is not undone here"
        ):
            load_hooked_model(llama)

    def test_one_that_is_told_in_a_file_beside(self, llama: Path) -> None:
        (llama / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}')
        with pytest.raises(ModelError, match=r"quantised \(FP8\)"):
            load_hooked_model(llama)

    def test_fp8_becomes_numbers_on_a_cpu(self, llama: Path) -> None:
        plain = load_hooked_model(llama).mlp(1)
        change(llama, lambda w: quantised(w, "weight_scale_inv", block=True))
        set_config(
            llama,
            quantization_config={
                "quant_method": "fp8",
                "weight_block_size": [128, 128],
                "activation_scheme": "dynamic",
            },
        )
        hooked = load_hooked_model(llama)
        assert (hooked.dtype, hooked.bits) == (torch.float32, 8)
        # eight bits keep three of the mantissa; and transformers unpacks into bfloat16, which keeps those
        torch.testing.assert_close(hooked.mlp(1).w_in, plain.w_in, rtol=2**-4, atol=2e-3)
        assert not torch.equal(hooked.mlp(1).w_in, plain.w_in)

    def test_fp8_without_its_scales(self, llama: Path) -> None:
        change(
            llama, lambda w: {k: v for k, v in quantised(w, "weight_scale_inv").items() if "scale" not in k}
        )
        set_config(llama, quantization_config={"quant_method": "fp8"})
        with pytest.raises(ModelError, match="14 weights are stored as scaled numbers"):
            load_hooked_model(llama)

    @pytest.mark.parametrize(
        "error", [RuntimeError("two\nlines"), TypeError("x"), AssertionError("y"), Exception("z")]
    )
    def test_whatever_a_library_raises(
        self, error: Exception, llama: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr("probekit.model.hooked_model._from_files", fail)
        with pytest.raises(
            ModelError, match=rf"could not be loaded \({type(error).__name__}: {str(error)[:1]}"
        ):
            load_hooked_model(llama)


class TestAdapters:
    def test_beside_a_whole_model(self, llama: Path) -> None:
        (llama / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "x"}')
        with pytest.raises(
            ModelError, match=r"adapter_config\.json lies beside the model, so it is two models"
        ):
            load_hooked_model(llama)

    def test_alone(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text("{}")
        with pytest.raises(ModelError, match=r"an adapter without its model; .*merge_and_unload"):
            load_hooked_model(tmp_path)

    def test_in_a_model_in_memory(self, llama: Path) -> None:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(llama)
        model._hf_peft_config_loaded = True
        with pytest.raises(ModelError, match="an adapter is loaded into the model; merge it first"):
            load_hooked_model(model)


class TestPrefixes:
    @pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
    @pytest.mark.parametrize("name", ["llama", "gpt2"])
    def test_are_stripped_and_said(
        self, prefix: str, name: str, model_folder: Callable[[str], Path], tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(model_folder(name), tmp_path / name))
        before = load_hooked_model(folder)
        change(folder, lambda w: {f"{prefix}{k}": v for k, v in w.items()})
        after = load_hooked_model(folder)
        for layer in range(2):
            assert torch.equal(before.mlp(layer).weight, after.mlp(layer).weight)
        assert prefix in after.notes[0]
        assert before.notes == ()

    def test_a_weight_that_is_missing_besides(self, llama: Path) -> None:
        change(llama, lambda w: {f"module.{k}": v for k, v in w.items() if "layers.1.mlp.up" not in k})
        with pytest.raises(
            ModelError, match=r"1 weights are missing .*first: model\.layers\.1\.mlp\.up_proj"
        ):
            load_hooked_model(llama)


class TestFilesForFolders:
    @pytest.mark.parametrize(
        ("file", "match"),
        [
            ("model.safetensors", "weights alone; wanted a folder .*pass its folder"),
            ("ckpt.pt", "a pickled checkpoint, which says nothing about the architecture"),
            ("config.json", "a configuration alone; wanted a folder"),
            ("notes.txt", "a file that no model can be read from"),
        ],
    )
    def test_are_named_for_what_they_are(self, file: str, match: str, llama: Path) -> None:
        if not (llama / file).exists():
            (llama / file).write_text("x")
        with pytest.raises(ModelError, match=match):
            load_hooked_model(llama / file)

    @pytest.mark.parametrize("file", ["ckpt.pt", "model.safetensors", "tiny.gguf", "models/tiny.gguf"])
    def test_that_are_not_there(self, file: str) -> None:
        with pytest.raises(ModelError, match=f"{file}: no such file"):
            load_hooked_model(file)


class TestCustomCode:
    def test_is_never_run_nor_asked_about(self, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
        (llama / "own.py").write_text("raise SystemExit('was run')\n")
        set_config(
            llama, model_type="my_own", architectures=["Own"],
            auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Own"},
        )  # fmt: skip
        for load in (load_hooked_model, load_reader):
            with pytest.raises(ModelError, match=r"comes with code of its own .*never run here"):
                load(llama)

    def test_of_an_architecture_that_transformers_knows_is_not_needed(self, llama: Path) -> None:
        (llama / "own.py").write_text("raise SystemExit('was run')\n")
        set_config(llama, auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Own"})
        assert load_hooked_model(llama).n_layers == 2


def test_two_threads_load_two_models(model_folder: Callable[[str], Path]) -> None:
    """The libraries switch things for the whole process; what a thread leaves switched spoils every later load."""
    names = ["gpt2", "llama"] * 3
    folders = [model_folder(name) for name in names]
    wanted = {
        name: load_hooked_model(folder).mlp(0).w_in
        for name, folder in zip(names[:2], folders[:2], strict=True)
    }
    found: dict[int, Any] = {}
    within, most = [0], [0]

    def watched(load: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            within[0] += 1
            most[0] = max(most[0], within[0])
            try:
                return load(*args, **options)
            finally:
                within[0] -= 1

        return call

    def load(i: int) -> None:
        try:
            found[i] = load_hooked_model(folders[i])
        except Exception as error:  # noqa: BLE001 - told below
            found[i] = error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probekit.model.hooked_model._from_files", watched(_from_files))
        threads = [threading.Thread(target=load, args=(i,)) for i in range(len(names))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == [1]
    for i, name in enumerate(names):
        assert not isinstance(found[i], Exception), found[i]
        assert torch.equal(found[i].mlp(0).w_in, wanted[name])
    assert torch.equal(load_hooked_model(folders[0]).mlp(0).w_in, wanted["gpt2"])  # and a later load as well
