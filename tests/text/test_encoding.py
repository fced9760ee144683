"""Only what will be read is tokenised, and its ids are those of the whole text; special tokens and holes in the ids."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from probekit.text.concepts.concepts import Concepts
from probekit.text.concepts.vocabulary import read_vocabulary
from probekit.text.corpus import Corpus
from probekit.text.encoding import Encoder, allows_cuts, special_ids, vocabulary_size

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
FAMILIES = (
    "byte-level",
    "sentencepiece",
    "wordpiece",
    "llama 3",
    "unigram",
    "pythia",
    "over spaces",
    "far ahead",
)
NOT_CUT = ("over spaces", "far ahead")


def trained(
    texts: list[str], model: Any, trainer: Any, pre: Any, decoder: Any, normalizer: Any = None
) -> Any:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoder
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


def bpe(n_vocab: int) -> trainers.BpeTrainer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trainers.BpeTrainer(
        vocab_size=n_vocab, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )


@pytest.fixture(scope="module")
def encoders(all_tokenizers, generated) -> dict[str, Any]:
    """The three families of the package's tests and five more, two of which may not be cut."""
    texts = generated(60, seed=3)
    lines = [line for text in texts for line in text.split("\n")]
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    regex = lambda pattern: pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), bytewise]
    )
    unigram = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    of_words = trained(lines, models.Unigram(), unigram, pre_tokenizers.Metaspace(), decoders.Metaspace())
    of_words.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        split=False
    )  # pieces of words, found in one go
    pythia = trained(
        texts,
        models.BPE(),
        bpe(400),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
        normalizers.NFC(),
    )
    pythia.add_tokens([AddedToken(" " * n, normalized=True) for n in (2, 4, 8)])
    return {
        **all_tokenizers,
        "llama 3": trained(texts, models.BPE(), bpe(400), regex(LLAMA_3), decoders.ByteLevel()),
        "unigram": of_words,
        "pythia": pythia,
        "over spaces": trained(lines, models.BPE(), bpe(500), bytewise, decoders.ByteLevel()),
        # three words are one piece, so what a piece is depends on words to come
        "far ahead": trained(texts, models.BPE(), bpe(400), regex(r"\w+ \w+ \w+|\s+|\w|[^\s\w]+"), decoders.ByteLevel()),
    }  # fmt: skip


class Watched:
    """A tokenizer that notes how many characters it was given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.n_characters = tokenizer, 0

    def __call__(self, texts: list[str], **options: Any) -> Any:
        self.n_characters += sum(map(len, texts))
        return self.tokenizer(texts, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def whole(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


@pytest.mark.parametrize("family", FAMILIES)
def test_first_ids_are_those_of_the_whole_text(family: str, encoders, generated) -> None:
    tokenizer = encoders[family]
    encoder = Encoder(tokenizer)
    assert encoder.cuts_between_words == (family not in NOT_CUT)
    text = "\n".join(generated(40, seed=11))
    wanted = whole(tokenizer, text)
    for n_ids in (1, 2, 7, 33, 128, len(wanted) - 1, len(wanted), len(wanted) + 5):
        assert encoder.first([text], n_ids)[0].ids == wanted[:n_ids]


PIECES = st.sampled_from(
    ["the", "value", " a", " ", "  ", "\n", "\n\n", "'s", "don't", "I'LL", "x", "é", "e\u0301", "你好", "🙂", "12345", " 7",
     "<s>", "<unk>", "(", ").", " Naïve", "\t", "aaaaaaaaaaaaaaaaaaaaaaaaa", "▁", "Ġ", "\u00a0", "ﬁ", "A B", "\u200d"]
)  # fmt: skip


@given(st.lists(PIECES, min_size=20, max_size=300).map("".join), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_wherever_the_cut_falls(encoders, text: str, n_ids: int) -> None:
    for tokenizer in encoders.values():
        assert Encoder(tokenizer).first([text], n_ids)[0].ids == whole(tokenizer, text)[:n_ids]


@pytest.mark.parametrize("family", NOT_CUT)
def test_a_cut_would_change_what_is_not_cut(family: str, encoders, generated) -> None:
    """The control: for these tokenizers the beginning of a text, cut between words, has other ids than the text."""
    tokenizer = encoders[family]
    encoder = Encoder(tokenizer)
    encoder.cuts_between_words = True
    text = "\n".join(generated(20, seed=11))[:1_000]
    wanted, n_cut = whole(tokenizer, text), 0
    for size in range(40, 400, 6):
        ids = whole(tokenizer, encoder._head(text, size))
        n_cut += ids != wanted[: len(ids)]
    assert n_cut > 3


def test_no_more_is_read_than_a_row_needs(encoders, generated) -> None:
    """Three documents of 400 kB: some thousand characters each are encoded, not all of them."""
    text = "\n".join(generated(200, seed=2))
    long = (text * (1 + 400_000 // len(text)))[:400_000]
    watched = Watched(encoders["llama 3"])
    tokens = Corpus.from_texts([long] * 3).tokenize(watched, context=128, max_tokens=300, bos_id=None)
    assert tokens.ids[0].tolist() == whole(encoders["llama 3"], long[:4_000])[:128]
    assert watched.n_characters <= 3 * 2 * 8 * 128  # eight characters a token, doubled at most once
    over = Watched(encoders["over spaces"])
    Corpus.from_texts([long[:20_000]]).tokenize(over, context=128, max_tokens=300, bos_id=None)
    assert over.n_characters == 20_000  # nothing shorter is known to be enough


def test_no_more_documents_are_read_than_the_tokens_wanted(encoders) -> None:
    watched = Watched(encoders["byte-level"])
    Corpus.from_texts(["the value of a table " * 50] * 1_000).tokenize(
        watched, context=64, max_tokens=300, bos_id=None
    )
    assert watched.n_characters < 12 * 8 * 64


def test_spans_are_found_without_encoding_the_rest(encoders, generated) -> None:
    text = "\n".join(generated(200, seed=2))
    watched = Watched(encoders["byte-level"])
    tokens = Corpus.from_texts([text]).tokenize(watched, context=64, max_tokens=300, bos_id=None)
    watched.n_characters = 0
    held = Concepts.from_spans({"begin": [(0, 0, 9)]}, [text], watched).label(tokens).where("begin")
    assert len(held) > 0
    assert watched.n_characters < len(text) / 4


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({}, True),
        ({"added_tokens": [{"content": "New York"}]}, False),
        ({"added_tokens": [{"content": "    "}]}, True),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}}, False),
        ({"normalizer": {"type": "Replace", "pattern": {"String": "e"}, "content": " "}}, False),
        ({"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "_"}}, False),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}}, True),
        ({"normalizer": {"type": "Precompiled"}}, False),
        ({"pre_tokenizer": {"type": "ByteLevel", "use_regex": False}}, True),
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": ".{1,9}"}, "behavior": "Isolated"}}, False),
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "MergedWithNext"}}, False),
        ({"pre_tokenizer": None}, True),
        ({"pre_tokenizer": None, "model": {"type": "BPE", "vocab": {"a": 0, "a b": 1}}}, False),
        ({"pre_tokenizer": None, "model": {"type": "BPE", "vocab": {"a": 0}, "ignore_merges": True}}, False),
        ({"pre_tokenizer": None, "model": {"type": "BPE", "vocab": {"a": 0}, "end_of_word_suffix": "</w>"}}, False),
        ({"pre_tokenizer": None, "model": {"type": "WordPiece", "vocab": {"a": 0}}}, False),
        ({"pre_tokenizer": {"type": "WhitespaceSplit"}, "model": {"type": "WordPiece", "vocab": {"a": 0}}}, True),
        ({"pre_tokenizer": {"type": "Metaspace", "replacement": "▁"}, "model": {"type": "WordLevel", "vocab": {}}}, True),
        ({"pre_tokenizer": {"type": "Metaspace", "replacement": "_"}}, False),
        (
            {
                "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                "pre_tokenizer": {"type": "WhitespaceSplit"},  # which sees no white space any more
                "model": {"type": "WordPiece", "vocab": {"a": 0}},
            },
            False,
        ),
    ],
)  # fmt: skip
def test_what_may_be_cut_is_read_off_the_description(change: dict[str, Any], allowed: bool) -> None:
    described = {
        "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {"a": 0, "Ġb": 1}},
    }  # fmt: skip
    assert allows_cuts({**described, **change}) == allowed


def test_every_special_token_is_known(encoders) -> None:
    tokenizer = encoders["byte-level"]
    assert special_ids(tokenizer) == (0,)
    assert special_ids(None) == ()
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    backend = Tokenizer.from_str(json.dumps(description))
    backend.add_special_tokens(["<repo>"])  # marked special and named by no attribute
    more = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|endoftext|>")
    assert special_ids(more) == (0, backend.token_to_id("<repo>"))


def test_ids_may_have_holes() -> None:
    """Ids 0 to 9 and 20 to 25: sixteen tokens, the largest id 25."""
    vocab = {"[UNK]": 0, **{f"w{i}": i for i in range(1, 10)}, **{f"v{i}": i for i in range(20, 26)}}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    assert (len(tokenizer), vocabulary_size(tokenizer)) == (16, 26)
    assert len(read_vocabulary(tokenizer)) == 26
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["w1", "w2", "v20", "v25"], 30)) for _ in range(5)]
    tokens = Corpus.from_texts(texts).tokenize(tokenizer, context=32, max_tokens=200, bos_id=None)
    assert tokens.ids.max() == 25
    labels = Concepts.defaults(tokenizer, tokens).label(tokens)
    name = next(name for name in labels.names if name.startswith('cur="') and "v25" in name)
    assert labels.where(name).tolist() == np.flatnonzero(tokens.ids[tokens.counted] == 25).tolist()
