"""GGUF files: what is analysed is the model in the file, or the file is refused by the name of what cannot be built."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.errors import ConfigError, ModelError
from probekit.model import gguf as ours
from probekit.model.gguf_config import ARCHITECTURES
from probekit.model.gguf_model import read_model
from probekit.model.gguf_tokenizer import read_tokenizer
from probekit.model.hooked_model import load_hooked_model, load_reader
from probekit.model.sites import NEURON_SITE, capture

pytest.importorskip("gguf")
sys.path.insert(0, str(Path(__file__).parent))
import gguf_files as files

CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # two kernels of attention in float32, on activations of size 1
FAST = ("llama", "gemma3", "gpt2", "phi3")
DOWN = ("c_proj", "dense_4h_to_h", "down_proj")
IDS = torch.from_numpy(np.random.default_rng(0).integers(0, files.N_VOCAB, (3, 24)))


def neurons_of(model: Any) -> list[torch.Tensor]:
    """Neurons of every layer, by the plain model's own names."""
    found: list[torch.Tensor] = []
    handles = [
        module.register_forward_pre_hook(lambda _, given: found.append(given[0].reshape(*IDS.shape, -1)))
        for name, module in model.named_modules()
        if ".mlp." in name and name.rsplit(".", 1)[-1] in DOWN
    ]
    with torch.no_grad():
        model(IDS, use_cache=False)
    for handle in handles:
        handle.remove()
    return found


def require_same(path: Path, model: Any) -> None:
    hooked = load_hooked_model(path)
    read = capture(hooked.bridge, IDS)
    wanted = neurons_of(model)
    assert hooked.n_layers == len(wanted)
    for layer, there in enumerate(wanted):
        torch.testing.assert_close(read[NEURON_SITE.format(layer)], there, **CLOSE)


def test_every_architecture_has_a_file() -> None:
    assert sorted(files.CONFIGS) == sorted(ARCHITECTURES)


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in sorted(files.CONFIGS)]
)
def test_an_architecture(name: str, tmp_path: Path) -> None:
    model = files.build(name)
    require_same(files.write(tmp_path / "model.gguf", name, model), model)


PLAIN_ROPE = {"rope_type": "default", "rope_theta": 1e4}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16, "rope_theta": 1e4,
}  # fmt: skip
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "linear": (
        "llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    ),
    "linear, as old files say it": (
        "llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}, {"rope.scale_linear": 4.0},
    ),
    "none, whatever the factor": (
        "llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
        {"rope.scaling.type": "none", "rope.scaling.factor": 4.0},
    ),
    "yarn": (
        "qwen2",
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "rope_theta": 1e4}},
        {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 8},
    ),
    "llama3": ("llama", {"rope_parameters": LLAMA3}, {}),
    "bias": ("llama", {"attention_bias": True, "mlp_bias": True}, {}),
    "tied": ("llama", {"tie_word_embeddings": True}, {}),
    "a name that holds mistral": ("llama", {}, {}),
    "the 27B gemma2": ("gemma2", {"num_hidden_layers": 46, "query_pre_attn_scalar": 8, "head_dim": 4}, {}),
}  # fmt: skip


@pytest.mark.parametrize(
    "variant", [v if v != "the 27B gemma2" else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS]
)
def test_what_transformers_leaves_out(variant: str, tmp_path: Path) -> None:
    """Each changes the neurons; from_pretrained(gguf_file=) loses every scaling, the rest are neighbours."""
    name, config, keys = VARIANTS[variant]
    model = files.build(name, **config)
    more: dict[str, np.ndarray] = {}
    if variant == "llama3":
        plain = files.build("llama", rope_parameters={"rope_type": "default", "rope_theta": 1e4})
        more["rope_freqs.weight"] = (
            plain.model.rotary_emb.inv_freq / model.model.rotary_emb.inv_freq
        ).numpy()
        assert more["rope_freqs.weight"].max() > 2
    general = {"general.name": "mistral"} if "mistral" in variant else {}
    require_same(
        files.write(tmp_path / "model.gguf", name, model, keys=keys, more=more, general=general), model
    )


def test_the_control_of_the_above(tmp_path: Path) -> None:
    """The comparison sees a scaling that is there on one side only."""
    model = files.build("llama", rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    path = files.write(
        tmp_path / "model.gguf",
        "llama",
        model,
        keys={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    )
    with pytest.raises(AssertionError, match="not close"):
        require_same(path, model)


def test_phi3_with_two_sets_of_factors(tmp_path: Path) -> None:
    short, long = np.linspace(1, 2, 4), np.linspace(3, 9, 4)
    model = files.build(
        "phi3", max_position_embeddings=32, original_max_position_embeddings=8,
        rope_parameters={
            "rope_type": "longrope", "short_factor": short.tolist(), "long_factor": long.tolist(), "rope_theta": 1e4,
            "partial_rotary_factor": 0.5, "original_max_position_embeddings": 8, "attention_factor": 1.25, "factor": 4.0,
        },
    )  # fmt: skip
    path = files.write(
        tmp_path / "model.gguf", "phi3", model,
        keys={"rope.scaling.original_context_length": 8, "rope.scaling.attn_factor": 1.25},
        more={"rope_factors_long.weight": long, "rope_factors_short.weight": short},
    )  # fmt: skip
    require_same(path, model)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound file whose neurons read matrices of two types."""
    path = tmp_path_factory.mktemp("llama") / "tiny.Q4.gguf"
    return files.write(
        path,
        "llama",
        files.build("llama"),
        kinds={"blk.0.ffn_up": "Q4_1", "blk.0.ffn_gate": "Q8_0", "ffn_": "Q4_1"},
    )


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "a key nobody builds": (r"llama\.attention\.scale = 0\.5", {"keys": {"attention.scale": 0.5}}),
    "experts": (r"llama\.expert_count is 4", {"keys": {"expert_count": 4}}),
    "half a head turned": (r"rope\.dimension_count is 4: wanted the 8", {"keys": {"rope.dimension_count": 4}}),
    "an unknown scaling": (r"rope\.scaling\.type is 'su': wanted none", {"keys": {"rope.scaling.type": "su"}}),
    "a window": (r"attention\.sliding_window = 8", {"keys": {"attention.sliding_window": 8}}),
    "heads that differ": ("head_count_kv is .*differs between layers", {"keys": {"attention.head_count_kv": [2, 1]}}),
    "no epsilon": (r"does not state 'llama\.attention\.layer_norm_rms", {"without": ("attention.layer_norm_rms_epsilon",)}),
    "a tensor left over": ("holds 1 tensors .*blk.0.attn_sinks", {"more": {"blk.0.attn_sinks.weight": np.ones(4)}}),
    "a tensor missing": ("holds nothing for 1 weights", {"leave_out": ("blk.1.ffn_up.weight",)}),
    "one of several files": ("one of 2 files", {"general": {"split.count": 2}}),
    "an adapter": ("holds a 'adapter', wanted a model", {"general": {"general.type": "adapter"}}),
    "a vocabulary of another size": (r"llama\.vocab_size is 60: wanted 64", {"keys": {"vocab_size": 60}}),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str, tmp_path: Path) -> None:
    match, options = REFUSED[case]
    path = files.write(tmp_path / "model.gguf", "llama", files.build("llama"), **options)
    with pytest.raises(ModelError, match=match) as caught:
        load_hooked_model(path)
    assert str(path) in str(caught.value)


def test_architectures_that_are_not_read(tmp_path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "qwen3moe")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        ModelError, match=r"architecture 'qwen3moe' cannot be read .*wanted one of bloom, falcon"
    ):
        load_hooked_model(tmp_path / "model.gguf")


class TestBits:
    def test_of_every_type(self) -> None:
        table = ours.bits_of_types()
        assert {k: table[k] for k in ("F32", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K", "IQ2_XXS")} == {
            "F32": 32, "BF16": 16, "Q4_0": 4.5, "Q4_1": 5, "Q8_0": 8.5, "Q4_K": 4.5, "Q6_K": 6.5625, "IQ2_XXS": 2.0625,
        }  # fmt: skip

    def test_each_layer_has_those_of_its_own_matrices(self, llama: Path) -> None:
        hooked = load_hooked_model(llama)
        assert [hooked.mlp(layer).bits for layer in range(2)] == [(5 + 8.5) / 2, 5]
        assert hooked.stored == "GGUF, Q4_1, Q8_0"
        assert "5 to 6.75 bits a weight" in hooked.notes[0]
        assert "start mark '<s>' (add_bos_token: false)" in hooked.notes[0]

    def test_of_an_object(self, llama: Path) -> None:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(llama.parent, gguf_file=llama.name)
        hooked = load_hooked_model(model)
        assert [hooked.bits_at(layer) for layer in range(2)] == [6.75, 5]
        assert hasattr(model.config, "quantization_config")  # the model given stays as it was
        shutil.copy(llama, moved := llama.with_suffix(".moved"))
        model.config.quantization_config.gguf_file = "elsewhere.gguf"
        with pytest.raises(ModelError, match=r"was loaded from elsewhere\.gguf, which is no longer at"):
            load_hooked_model(model)
        moved.unlink()

    @pytest.mark.parametrize(
        ("name", "config"),
        [
            ("gpt2", {"n_inner": None, "n_positions": 1024}),
            ("phi3", {"sliding_window": None, "rope_parameters": PLAIN_ROPE}),
            ("qwen2", {}),
        ],
    )
    def test_of_objects_that_are_the_model_in_the_file(
        self, name: str, config: dict[str, Any], tmp_path: Path
    ) -> None:
        """Entries that say the same in two ways are no difference."""
        from transformers import AutoModelForCausalLM

        marks = files.tokenizer_keys() | {"padding_token_id": files.BOS}
        path = files.write(tmp_path / "model.gguf", name, files.build(name, **config), tokenizer=marks)
        model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf")
        assert load_hooked_model(model).layer_bits == (32, 32)
        assert load_hooked_model(path).layer_bits == (32, 32)

    def test_an_object_that_is_not_the_model_in_the_file(self, tmp_path: Path) -> None:
        from transformers import AutoModelForCausalLM

        name, config, keys = VARIANTS["linear"]
        path = files.write(tmp_path / "model.gguf", name, files.build(name, **config), keys=keys)
        model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf")
        with pytest.raises(
            ModelError, match=r"not the one that the file describes: rope_parameters is .*'linear'"
        ):
            load_hooked_model(model)
        assert load_hooked_model(path).n_layers == 2


class TestFound:
    def test_by_file_by_folder_and_by_content(self, llama: Path, tmp_path: Path) -> None:
        shutil.copy(llama, tmp_path / "one.gguf")
        shutil.copy(llama, blob := tmp_path / "sha256-0123")
        assert (
            load_reader(tmp_path).bos_id == load_reader(llama).bos_id == load_reader(blob).bos_id == files.BOS
        )
        assert load_reader(llama).context == files.CONTEXT
        (tmp_path / "config.json").write_text("{}")  # as repositories of such files have it
        assert load_reader(tmp_path).name == tmp_path.name

    def test_several(self, llama: Path, tmp_path: Path) -> None:
        for name in ("a.gguf", "b.gguf"):
            shutil.copy(llama, tmp_path / name)
        with pytest.raises(ModelError, match=r"holds 2 GGUF files \(a\.gguf, b\.gguf\), wanted one"):
            load_hooked_model(tmp_path)

    def test_damaged(self, llama: Path, tmp_path: Path) -> None:
        (tmp_path / "a.gguf").write_bytes(llama.read_bytes()[:3000])
        with pytest.raises(ModelError, match="the file is damaged or incomplete"):
            load_hooked_model(tmp_path / "a.gguf")
        (tmp_path / "b.gguf").write_text("no such thing")
        with pytest.raises(ModelError, match="no GGUF file, whatever its name says"):
            load_hooked_model(tmp_path / "b.gguf")

    def test_without_the_package(self, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "gguf", None)
        with pytest.raises(ConfigError, match="needs the package gguf"):
            load_hooked_model(llama)

    def test_what_lies_beside_is_not_looked_at(self, llama: Path, tmp_path: Path) -> None:
        shutil.copy(llama, tmp_path / "one.gguf")
        for name in ("tokenizer_config.json", "tokenizer.json", "generation_config.json"):
            (tmp_path / name).write_text("{")
        assert load_hooked_model(tmp_path / "one.gguf").n_vocab == files.N_VOCAB

    def test_untrained_models_of_its_architecture(self, llama: Path) -> None:
        from probekit.model.twins import random_model

        hooked = random_model(llama, seed=0)
        assert (hooked.n_layers, hooked.d_mlp, hooked.gated) == (2, 64, True)
        assert not torch.equal(hooked.mlp(0).w_in, load_hooked_model(llama).mlp(0).w_in)


class TestTokenizer:
    def read(self, tmp_path: Path, **changes: Any) -> Any:
        path = files.write(
            tmp_path / "model.gguf", "llama", files.build("llama"), tokenizer=files.tokenizer_keys() | changes
        )
        return read_tokenizer(ours.GgufFile(path))

    def pieces(self, tokenizer: Any, text: str) -> list[str]:
        return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])

    def test_digits_for_themselves(self, tmp_path: Path) -> None:
        """The rule of SmolLM, StarCoder and Command R; transformers splits by GPT-2's, which is the control."""
        from transformers import PreTrainedTokenizerFast

        tokenizer = self.read(tmp_path, pre="smollm")
        assert self.pieces(tokenizer, "a  12") == ["a", "ĠĠ", "1", "2"]
        assert self.pieces(tokenizer, "a ½") == ["a", "Ġ", "Â", "½"]
        theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path, gguf_file="model.gguf")
        assert theirs.tokenize("a  12") == ["a", "Ġ", "Ġ", "12"]

    def test_whole_words_before_merges(self, tmp_path: Path) -> None:
        tokens = files.tokenizer_keys()["tokens"]
        tokens[tokens.index("<unused0>")] = "abc"  # no merge makes it
        assert self.pieces(self.read(tmp_path, pre="llama-bpe", tokens=tokens), "abc") == ["abc"]
        (tmp_path / "model.gguf").unlink()
        assert self.pieces(self.read(tmp_path, pre="gpt-2", tokens=tokens), "abc") == ["a", "b", "c"]

    def test_marks_are_the_files(self, tmp_path: Path) -> None:
        tokenizer = self.read(tmp_path)
        assert (tokenizer.bos_token, tokenizer.bos_token_id, len(tokenizer)) == (
            "<s>",
            files.BOS,
            files.N_VOCAB,
        )
        assert tokenizer("a<s>", add_special_tokens=False)["input_ids"] == [0, files.BOS]
        changed = files.tokenizer_keys()
        del changed["bos_token_id"]
        path = files.write(tmp_path / "none.gguf", "llama", files.build("llama"), tokenizer=changed)
        assert load_reader(path).bos_id is None

    def test_no_space_put_first(self, tmp_path: Path) -> None:
        tokens = ["<unk>", "<s>", "▁", *"abcdefghijklmnopqrstuvwxyz", "▁a", "▁b", "ab"]
        tokens += [f"<unused{i}>" for i in range(files.N_VOCAB - len(tokens))]
        spm = {
            "model": "llama", "pre": "default", "tokens": tokens, "scores": [-float(i) for i in range(len(tokens))],
            "token_type": [2, 3, *([1] * (len(tokens) - 2))], "bos_token_id": 1, "unknown_token_id": 0,
        }  # fmt: skip
        found = {}
        for prefix in (True, False):
            path = files.write(
                tmp_path / f"{prefix}.gguf",
                "llama",
                files.build("llama"),
                tokenizer=spm | {"add_space_prefix": prefix},
            )
            found[prefix] = self.pieces(read_tokenizer(ours.GgufFile(path)), "a c")
        assert found == {True: ["▁a", "▁", "c"], False: ["a", "▁", "c"]}

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"pre": "viking"}, r"by the rule 'viking' \(tokenizer\.ggml\.pre\), which is not known"),
            ({"remove_extra_whitespaces": True}, r"states tokenizer\.ggml\.remove_extra_whitespaces"),
            ({"tokens": []}, "no tokenizer, so text cannot become tokens"),
            ({"model": "bert"}, "its tokenizer \\('bert'\\) cannot be built"),
        ],
    )
    def test_refused(self, changes: dict[str, Any], match: str, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=match):
            self.read(tmp_path, **changes)


@pytest.fixture(scope="module")
def options() -> dict[str, Any]:
    """A study of a few pairs."""
    rng = np.random.default_rng(0)
    masks = {f"m{i}": rng.random(files.N_VOCAB) < 0.4 for i in range(3)}
    return {
        "concepts": pk.Concepts.from_vocab(masks, lags=(0, 1)), "twins": 4, "context": 16, "max_pairs": 12,
        "min_support": 20, "progress": False, "corpus": pk.Corpus.from_tokens(rng.integers(0, files.N_VOCAB - 2, (300, 16))),
    }  # fmt: skip


@pytest.mark.sweep
def test_the_same_tables_as_in_hugging_face_format(
    llama: Path, tmp_path: Path, options: dict[str, Any], model_folder: Callable[[str], Path]
) -> None:
    file = ours.GgufFile(llama)
    read_model(file, None).save_pretrained(tmp_path / "saved")
    read_tokenizer(file).save_pretrained(tmp_path / "saved")
    by_file, by_folder = (pk.analyze(str(path), **options) for path in (llama, tmp_path / "saved"))
    assert by_file.pairs().equals(by_folder.pairs())
    stored = [
        [row["capacity"]["bits_stored"] for row in run.summary["layers"]] for run in (by_file, by_folder)
    ]
    assert stored == [[6.75, 5.0], [32.0, 32.0]]
    assert any("GGUF file" in note for note in by_file.summary["notes"])
    assert by_file.summary["model"].get("stored") == "GGUF, Q4_1, Q8_0"
    page = by_file.report(tmp_path / "file.html").read_text()
    assert "weights from GGUF, Q4_1, Q8_0" in page
    assert "in the file the exact bound says: layer 0: 6.75 bits, excludes nothing; layer 1: 5 bits" in page
    assert "in the file the exact bound" not in by_folder.report(tmp_path / "folder.html").read_text()
