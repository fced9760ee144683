"""Models as researchers name them: short names, revisions, dtypes, objects in memory; one BOS policy for all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.errors import ConfigError, ModelError
from probekit.model.hooked_model import HookedModel, load_hooked_model, load_reader
from probekit.model.hub import official_name
from probekit.text.corpus import Corpus


@pytest.mark.parametrize(
    ("short", "official"),
    [
        ("gpt2-small", "gpt2"),
        ("gpt2", "gpt2"),
        ("GPT2-small", "gpt2"),
        ("pythia-70m", "EleutherAI/pythia-70m"),
        ("pythia-70m-deduped", "EleutherAI/pythia-70m-deduped"),
        ("EleutherAI/pythia-19m", "EleutherAI/pythia-70m"),  # its name before EleutherAI counted anew
        ("gemma-2-2b", "google/gemma-2-2b"),
        ("qwen2-0.5b", "Qwen/Qwen2-0.5B"),
        ("phi-2", "microsoft/phi-2"),
        ("Llama-2-7b", "meta-llama/Llama-2-7b-hf"),
        ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B"),
        ("me/mine", "me/mine"),
    ],
)
def test_short_names(short: str, official: str) -> None:
    assert official_name(short) == official


class TestRevision:
    @pytest.fixture
    def cached(
        self, model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two revisions of a model in the hub's cache, told apart by one weight."""
        from safetensors.torch import load_file, save_file

        for number, (branch, value) in enumerate({"main": 0.0, "step3000": 1.0}.items()):
            commit = str(number) * 40
            snapshot = tmp_path / "models--me--tiny" / "snapshots" / commit
            shutil.copytree(model_folder("gpt2"), snapshot)
            weights = load_file(snapshot / "model.safetensors")
            weights["transformer.h.0.mlp.c_fc.bias"][0] = value
            save_file(weights, snapshot / "model.safetensors", metadata={"format": "pt"})
            refs = tmp_path / "models--me--tiny" / "refs"
            refs.mkdir(exist_ok=True)
            (refs / branch).write_text(commit)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    @pytest.mark.usefixtures("cached")
    def test_a_checkpoint_is_named_behind_an_at(self) -> None:
        now, then = load_hooked_model("me/tiny"), load_hooked_model("me/tiny@step3000")
        assert (now.name, then.name) == ("me/tiny", "me/tiny@step3000")
        assert (float(now.mlp(0).b_in[0]), float(then.mlp(0).b_in[0])) == (0.0, 1.0)
        assert load_reader("me/tiny@step3000").name == "me/tiny@step3000"

    @pytest.mark.usefixtures("cached")
    def test_one_that_is_not_there(self) -> None:
        with pytest.raises(ModelError, match="'me/tiny@step9' is neither a folder nor in the local cache"):
            load_hooked_model("me/tiny@step9")

    @pytest.mark.usefixtures("cached")
    def test_revisions_are_other_runs(self) -> None:
        from probekit.analysis.run_fingerprint import of_model

        assert of_model("me/tiny") != of_model("me/tiny@step3000")
        assert of_model("me/tiny") == of_model("me/tiny")


class TestDtype:
    def test_by_word(self, model_folder: Callable[[str], Path]) -> None:
        assert load_hooked_model(model_folder("gpt2"), dtype="bfloat16").dtype == torch.bfloat16
        with pytest.raises(ConfigError, match="dtype: got 'int8', wanted one of float32, bfloat16, float16"):
            load_hooked_model(model_folder("gpt2"), dtype="int8")


class TestObject:
    def plain(self, folder: Path) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(folder)

    @pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
    def test_is_the_folder_it_came_from(
        self, name: str, model_folder: Callable[[str], Path], hooked_model: Callable[[str], HookedModel]
    ) -> None:
        from transformers import AutoTokenizer

        folder = model_folder(name)
        hooked = load_hooked_model(self.plain(folder), tokenizer=AutoTokenizer.from_pretrained(folder))
        other = hooked_model(name)
        assert (hooked.name, hooked.bos_id, hooked.n_layers) == (name, other.bos_id, other.n_layers)
        for layer in range(hooked.n_layers):
            assert torch.equal(hooked.mlp(layer).w_in, other.mlp(layer).w_in)

    def test_asks_no_hub(self, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
        """A model in memory that remembers a hub name must not be looked up there (the bridge would)."""
        model = self.plain(model_folder("gpt2"))
        model.name_or_path = model.config._name_or_path = "someone/something"
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("socket.getaddrinfo", lambda *a, **k: pytest.fail("asked the network"))
        hooked = load_hooked_model(model)
        assert (hooked.name, hooked.tokenizer, hooked.bos_id) == ("someone/something", None, None)

    @pytest.mark.slow
    def test_is_analysed(self, model_folder: Callable[[str], Path]) -> None:
        rng = np.random.default_rng(0)
        tokens = rng.integers(0, 60, size=(200, 16))
        masks = {f"m{i}": rng.random(64) < 0.4 for i in range(3)}
        options: dict[str, Any] = {
            "concepts": pk.Concepts.from_vocab(masks), "twins": 4, "context": 16, "min_support": 20, "progress": False,
        }  # fmt: skip
        by_object = pk.analyze(self.plain(model_folder("gpt2")), pk.Corpus.from_tokens(tokens), **options)
        by_folder = pk.analyze(str(model_folder("gpt2")), pk.Corpus.from_tokens(tokens), **options)
        assert by_object.pairs().equals(by_folder.pairs())

    @pytest.mark.slow
    def test_every_null_of_a_gated_model(self, model_folder: Callable[[str], Path]) -> None:
        """A random Llama stands beyond permuted labels and not beyond its twins, nor its own untrained likes."""
        rng = np.random.default_rng(0)
        masks = {f"m{i}": rng.random(64) < 0.4 for i in range(8)}
        table = pk.against_nulls(
            str(model_folder("llama")), pk.Corpus.from_tokens(rng.integers(0, 60, size=(400, 16))),
            concepts=pk.Concepts.from_vocab(masks), context=16, min_support=20, twins=6, permutations=3, untrained=4,
            progress=False,
        ).table.set_index("null")  # fmt: skip
        assert {"isotropic twins", "shuffle twins", "linearised layer", "MLP input"} <= set(table.index)
        share = (table["n_found"] / table["n_tested"]).groupby(level="null")
        assert share.min()["permutation within strata"] > 0.5
        assert share.max()["PC-sign twins"] <= 0.1
        assert share.max()["untrained models"] <= 0.1

    def test_options_that_do_not_go_together(
        self, model_folder: Callable[[str], Path], hooked_model: Callable[[str], HookedModel]
    ) -> None:
        with pytest.raises(ConfigError, match=r"tokenizer: given with '.*', which brings its own"):
            load_hooked_model(str(model_folder("gpt2")), tokenizer=object())
        with pytest.raises(ConfigError, match="tokenizer: given with a TransformerBridge"):
            load_hooked_model(hooked_model("gpt2").bridge, tokenizer=object())
        with pytest.raises(ConfigError, match=r"dtype: got torch\.float16 with a GPT2LMHeadModel"):
            load_hooked_model(self.plain(model_folder("gpt2")), dtype="float16")


def test_one_policy_for_every_architecture(
    dense: str, hooked_model: Callable[[str], HookedModel], model_folder: Callable[[str], Path]
) -> None:
    """The same rows whatever the architecture's defaults say: BOS first, right-padded, one tokenization path."""
    hooked, corpus = hooked_model(dense), Corpus.from_texts(["w1 w2 w3", "w4 w5", "w6 " * 40])
    # of GPT-2's folder: the Qwen2 class splits such a file's words its own way
    tokenizer = load_reader(model_folder("gpt2")).tokenizer
    tokens = corpus.tokenize(tokenizer, context=8, max_tokens=100, bos_id=hooked.bos_id)
    assert tokens.ids.tolist() == [
        [63, 1, 2, 3, -1, -1, -1, -1],
        [63, 4, 5, -1, -1, -1, -1, -1],
        [63, *[6] * 7],
    ]
    # the architectures' own defaults differ, which is why they are not asked
    assert hooked.bos_id == 63
