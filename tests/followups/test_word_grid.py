"""`word_grid` finds a layer that really computes "these two are a word", and nothing where none does."""

from __future__ import annotations

import copy
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import probekit as pk
from probekit import cli
from probekit.errors import ConfigError, InputError, ModelError
from probekit.followups import word_grid as module
from probekit.model.grid import Grid, read_grid
from probekit.model.hooked_model import load_hooked_model
from probekit.text.corpus import Corpus

HEADS = [a + b for a, b in itertools.product("bdfglmnprst", "aeiou")][:28]
TAILS = [a + b + c for (a, c), b in itertools.product(zip("kvwxzh", "ntlmrn", strict=True), "aeiou")][:28]
WORDS = [f"{head}{tail}" for head, tail in zip(HEADS, TAILS, strict=True)]
FILLING = [
    "the",
    "of",
    "in",
    "value",
    "list",
    "holds",
    "when",
    "each",
    "small",
    "large",
    "that",
    "gives",
    "names",
    "every",
    "first",
    "last",
]
N_WORDS = 14
LAYER = 1


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    entries = ["[UNK]", *FILLING, ".", *HEADS, *(f"##{tail}" for tail in TAILS)]
    model = models.WordPiece({entry: i for i, entry in enumerate(entries)}, unk_token="[UNK]")
    held = Tokenizer(model)
    held.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=held, unk_token="[UNK]")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    rng = np.random.default_rng(0)
    rows = [[*rng.choice(FILLING, 9), WORDS[i % 28], "the", "."] for i in range(28 * 6)]
    return Corpus.from_texts([" ".join(row) for row in rows])


def untrained(seed: int, n_layers: int = 2) -> Any:
    """Random weights, and attention that looks at every token alike, so that it brings the prefix along."""
    config = GPT2Config(
        vocab_size=80,
        n_positions=32,
        n_embd=128,
        n_layer=n_layers,
        n_head=4,
        n_inner=160,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng():
        model: Any = GPT2LMHeadModel(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
            elif name.endswith("bias"):
                parameter.zero_()
        for block in model.transformer.h:
            block.attn.c_attn.weight[:, : 2 * config.n_embd] = 0
    return model.eval()


def plant(model: Any, tokenizer: Any) -> None:
    """A neuron a word in layer 1: it adds a linear reading of the prefix to one of the suffix and fires only for both.

    All of them write along one direction of the residual stream, as a model would that has a use for "a word ends here".
    """
    first = [tokenizer.convert_tokens_to_ids(head) for head in HEADS]
    second = [tokenizer.convert_tokens_to_ids(f"##{tail}") for tail in TAILS]
    contexts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("the", "each")]
    hooked = load_hooked_model(
        copy.deepcopy(model), tokenizer=tokenizer
    )  # a bridge takes the modules of a model over
    inputs = read_grid(hooked, Grid(contexts, first, second), [LAYER])[LAYER].inputs.double()
    x = inputs.reshape(-1, hooked.d_model)
    mean = x.mean(0)
    n = len(first)
    indicators = torch.zeros(2, n, n, 2 * n, dtype=torch.float64)
    for i in range(n):
        indicators[:, i, :, i] = 1.0
        indicators[:, :, i, n + i] = 1.0
    gram = (x - mean).T @ (x - mean) + 1e-3 * torch.eye(hooked.d_model, dtype=torch.float64)
    target = indicators.reshape(-1, 2 * n)
    probes = torch.linalg.solve(gram, (x - mean).T @ (target - target.mean(0)))
    reads = probes[:, :n] + probes[:, n:]
    scores = ((x - mean) @ reads).reshape(2, n, n, n)
    words = torch.stack([scores[:, i, i, i] for i in range(n)], 1)
    generator = torch.Generator().manual_seed(5)
    writes = torch.randn(hooked.d_model, generator=generator)
    mlp = model.transformer.h[LAYER].mlp
    with torch.no_grad():
        for i in range(n):
            others = scores[..., i].clone()
            others[:, i, i] = -10
            threshold = float((words[:, i].mean() + others.flatten().quantile(0.95)) / 2)
            mlp.c_fc.weight[:, i] = (20 * reads[:, i]).float()
            mlp.c_fc.bias[i] = float(20 * (-threshold - mean @ reads[:, i]))
            mlp.c_proj.weight[i] = writes / 4


def grid_of(model: Any, tokenizer: Any, corpus: Corpus, **options: Any) -> pk.WordGrid:
    settings: dict[str, Any] = {
        "contexts": ["the", "each", "small"], "n_words": N_WORDS, "twins": 5, "permutations": 399, "relay": 4,
        "progress": False,
        "tokenizer": tokenizer, "corpus": corpus,
    }  # fmt: skip
    return pk.word_grid(model, **(settings | options))


@pytest.fixture(scope="module")
def planted(tokenizer: Any, corpus: Corpus) -> pk.WordGrid:
    model = untrained(0)
    plant(model, tokenizer)
    return grid_of(model, tokenizer, corpus)


def test_a_layer_that_computes_words_is_found_and_the_one_before_is_not(planted: pk.WordGrid):
    rows: Any = planted.layers.set_index("layer")
    assert rows["adds"].tolist() == [False, True]
    assert rows.loc[LAYER, "p_given"] == 1 / 400
    assert rows.loc[LAYER, "margin_plain"] > 2
    assert rows.loc[LAYER, "margin_relay"] > 2
    assert rows.loc[LAYER, "d_after"] > rows.loc[LAYER, "d_before"] + 1
    assert rows.loc[LAYER, "d_after"] > rows.loc[LAYER, "d_after_twins"] + 1
    assert rows.loc[0, "p_input"] > 0.01, "no layer before has brought it"
    assert "Layer 1 adds to it" in repr(planted)


def test_a_pairing_without_words_is_not_found_in_the_same_layer(planted: pk.WordGrid):
    p = planted.pseudo[(planted.pseudo["layer"] == LAYER) & (planted.pseudo["site"] == "given")]["p"]
    assert len(p) == 2 * module.N_PSEUDO
    # draws share the cells: twice the level, and 3 s.e. of as many draws beside
    assert (p <= 0.05).mean() <= 0.1 + 3 * np.sqrt(0.05 * 0.95 / len(p))


def test_untrained_models_add_nothing(tokenizer: Any, corpus: Corpus):
    """Each model is one draw: of 3 models × 2 layers none is called, and p-values of single sets are spread."""
    p: list[float] = []
    for seed in range(1, 4):
        found = grid_of(untrained(seed), tokenizer, corpus, contexts=2, arms=False, twins=3)
        assert not found.layers["adds"].any(), seed
        p += found.sites[found.sites["site"] == "given"]["p"].tolist()
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(p))
    assert max(p) > 0.5


def test_a_linear_layer_adds_nothing(planted: pk.WordGrid, tokenizer: Any, corpus: Corpus):
    """The planted words lie in the input of a third layer that only passes it on: known there, not added there."""
    model, deeper = untrained(0), untrained(0, n_layers=3)
    plant(model, tokenizer)
    last = deeper.transformer.h[2].state_dict()
    deeper.load_state_dict(model.state_dict(), strict=False)
    deeper.transformer.h[2].load_state_dict(last)
    with torch.no_grad():
        # far to the right of its bend a GELU is a line
        deeper.transformer.h[2].mlp.c_fc.bias.fill_(60.0)
    found = grid_of(deeper, tokenizer, corpus, layers=[2], arms=False)
    row = found.layers.iloc[0]
    assert row["p_input"] == row["p_output"] == 1 / 400
    assert row["p_given"] > 0.01
    assert not row["adds"]


def test_tables_fit_together(planted: pk.WordGrid):
    sites, twins, words = planted.sites, planted.twins, planted.words
    assert len(sites) == 2 * 6 * 2
    assert len(twins) == 2 * 4 * 2 * 2 * 5
    assert set(words["group"]) >= {"A", "B"}
    assert {w.strip() for w in words[words["group"].isin(["A", "B"])]["text"]} == set(WORDS)
    assert len(planted.contexts) == 3
    given = sites[(sites["layer"] == LAYER) & (sites["site"] == "given")]
    row: Any = planted.layers.set_index("layer").loc[LAYER]
    assert row["z_given"] == pytest.approx(given["z"].mean())
    assert row["p_given"] == given["p"].max()
    assert row["p_layer"] == max(row["p_given"], row["p_plain"], row["p_relay"])
    assert row["p_holm"] == pytest.approx(2 * row["p_layer"])  # the smaller of two


def test_layers_read_apart_are_layers_read_together(
    tokenizer: Any, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
):
    whole = grid_of(untrained(2), tokenizer, corpus, arms=False)
    monkeypatch.setattr(module, "GROUP_BYTES", 1)  # one layer a forward
    apart = grid_of(untrained(2), tokenizer, corpus, arms=False)
    assert np.allclose(whole.sites["z"], apart.sites["z"], rtol=1e-3, atol=1e-3)
    assert whole.sites["p"].tolist() == apart.sites["p"].tolist()


def test_without_twins_nothing_is_decided(tokenizer: Any, corpus: Corpus, tmp_path: Path):
    seen: list[tuple[str, int, int]] = []
    found = grid_of(
        untrained(3), tokenizer, corpus, twins=0, arms=False, progress=lambda *told: seen.append(told)
    )
    assert found.twins.empty
    assert found.arms.empty
    assert found.layers["adds"].isna().all()
    assert "Without twins nothing is said about computation" in repr(found)
    page = re.sub(r"<[^>]+>", "", found.report(tmp_path / "bare.html").read_text())  # terms carry a tip
    assert "Without twins" in page
    assert [what for what, _ in itertools.groupby(seen, key=lambda told: told[0])] == [
        "reading text", "reading the model", "measuring layers"
    ]  # fmt: skip
    assert all(done <= total for _, done, total in seen)
    assert seen[-1] == ("measuring layers", 2, 2)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"n_words": 3}, ConfigError, "n_words: got 3, wanted 12 or more"),
        ({"twins": 2}, ConfigError, "twins: got 2, wanted 0, or 3 or more"),
        ({"twins": -1}, ConfigError, "twins: got -1, wanted 0 or more"),
        ({"permutations": 5}, ConfigError, "permutations: got 5, wanted 19 or more"),
        ({"contexts": 0}, ConfigError, "contexts: got 0, wanted 1 or more"),
        ({"relay": 900}, ConfigError, r"relay: got 900 directions, wanted 2 \(one a word set\) to 128"),
        ({"layers": []}, InputError, "layers: the list is empty"),
        ({"layers": [5]}, InputError, "got layer 5, but the model has layers 0 to 1"),
        ({"tokenizer": None}, InputError, "has no tokenizer, and words are chosen by how it splits them"),
    ],
)
def test_what_cannot_be_used_is_refused(
    tokenizer: Any, corpus: Corpus, options: dict[str, Any], kind: type[Exception], message: str
):
    with pytest.raises(kind, match=message):
        grid_of(untrained(3), options.pop("tokenizer", tokenizer), corpus, **options)


def test_no_model_is_refused():
    with pytest.raises(ModelError, match="model: got a int"):
        pk.word_grid(3, corpus=Corpus.from_texts(["a b c"]), progress=False)


def test_the_page_and_the_notebook_view(planted: pk.WordGrid, tmp_path: Path):
    path = planted.report(tmp_path / "words.html")
    text = path.read_text()
    assert "Layer 1 adds to it" in text
    assert "<svg" in planted._repr_html_()
    assert planted.plot().to_dict()["facet"]["field"] == "panel"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
                     tokenizer: Any, corpus: Corpus):  # fmt: skip
    folder, page = tmp_path / "model", tmp_path / "page.html"
    model = untrained(4)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    text = tmp_path / "text.jsonl"
    text.write_text("\n".join(json.dumps({"text": one}) for one in corpus.texts()))
    words = tmp_path / "words.txt"
    words.write_text("\n".join(WORDS) + "\nvalue\n")
    command = ["grid", str(folder), "--corpus", str(text), "--words", str(words), "--n-words", "14", "--contexts", "2",
               "--twins", "3", "--permutations", "99", "--layers", "0", "--no-arms", "--offline", "--quiet"]  # fmt: skip

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["probekit", *arguments])
        try:
            cli.main()
        except SystemExit as stopped:
            return int(stopped.code or 0)
        return 0

    assert run(*command, "--out", str(page), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["layer"] for row in told["layers"]] == [0]
    assert "value (1)" in told["summary"]["notes"][0]
    assert page.read_text().count("<figure>") == 2
    assert run(*command[:-1]) == 0
    assert "No layer adds to it what its twins do not add as well" in " ".join(
        capsys.readouterr().out.split()
    )
    assert run("grid", str(folder), "--words", str(tmp_path / "none.txt")) == 2
    assert "none.txt' cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_nano_reads_its_own_words(tmp_path: Path):
    """The bundled model end to end: its input knows words it has seen, and the controls are quiet."""
    found = pk.word_grid(
        "nano", n_words=24, contexts=3, twins=4, seed=5, progress=False, max_tokens=1_000_000
    )
    assert (found.layers["p_input"] <= 0.01).all()
    assert (found.pseudo["p"] <= 0.05).mean() <= 0.1
    assert found.report(tmp_path / "nano.html").stat().st_size > 20_000
