"""Generated documents and three tokenizers trained on them: byte BPE, SentencePiece with bytes, WordPiece."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

N_VOCAB = 1_500
WORDS = re.findall(
    r"\S+",
    """the a of to and in is was it she he with for that this which value values walking walked quickly nation
    table tables number function returns list string param New York Paris NASA HTTP I you They Her runner
    older café naïve x y z i n data model if not be can will would may because array axis shape dtype None""",
)
RARE = re.findall(
    r"\S+",
    """many all no not never without this those his what where must should was have had do did but nor because unless under
    between zero two hundred March Monday km bytes years def class return self camelCase getValue parameters description
    smallest largest movement kindness quality quantity famous various active available possible general useful careless
    normalize realize distance reference unhappy undone return rewrite discover describe include import connect compare
    prefix provide don't it's they're 1984 2001 42 7 15% $5 €9 5 10 km -- — / ; ! ? : - # 3""",
)
SHARES = (1 / np.arange(3, len(WORDS) + 3)) / (
    1 / np.arange(3, len(WORDS) + 3)
).sum()  # as in text: few are most
FAR = ("你好世界", "🙂", "Ω≈", "naïveté")


def sentence(rng: np.random.Generator) -> str:
    """Some words with quotes, brackets, backticks, numbers and an end mark, not always closed."""
    words = [str(word) for word in rng.choice(WORDS, rng.integers(3, 12), p=SHARES)]
    words[0] = words[0].capitalize() if rng.random() < 0.7 else words[0]
    for wrap in (
        '"{}"',
        "({})",
        "[{}]",
        "{{{}}}",
        "`{}`",
        "``{}``",
        "“{}”",
        "'{}'",
        "({}",
        "{})",
        '"{}',
        "`{}",
        "(({})",
    ):
        if rng.random() < 0.09:
            first = int(rng.integers(len(words)))
            last = min(len(words) - 1, first + int(rng.integers(3)))
            words[first] = wrap.partition("{}")[0].replace("{{", "{") + words[first]
            words[last] = words[last] + wrap.partition("{}")[2].replace("}}", "}")
    for extra in (
        str(rng.integers(1000)),
        "3.14",
        "x_1",
        "a-b",
        "k=2",
        "key:",
        "and,",
        "e.g.",
        str(rng.choice(FAR)),
    ):
        if rng.random() < 0.12:
            words.insert(int(rng.integers(len(words) + 1)), extra)
    for _ in range(2):
        if rng.random() < 0.5:
            words.insert(int(rng.integers(len(words) + 1)), str(rng.choice(RARE)))
    end = (".", "!", "?", ":", ",", '."', ".)", "")
    return " ".join(words) + str(rng.choice(end, p=[0.5, 0.08, 0.08, 0.1, 0.08, 0.05, 0.05, 0.06]))


HEADS = (
    "",
    "",
    "",
    "    ",
    "  ",
    " ",
    "\t",
    "- ",
    "* ",
    ">>> ",
    "  - ",
    "1. ",
    "# ",
    ":param x: ",
    "        ",
    "      12 ",
)


def document(rng: np.random.Generator) -> str:
    """A few lines: prose, indented code, list items, prompts, blank lines."""
    lines: list[str] = []
    for _ in range(int(rng.integers(1, 9))):
        head = str(rng.choice(HEADS))
        body = " ".join(sentence(rng) for _ in range(int(rng.integers(1, 3))))
        lines.append(head + body)
        if rng.random() < 0.2:
            lines.append("" if rng.random() < 0.5 else "   ")
    return "\n".join(lines) + ("\n" if rng.random() < 0.3 else "")


def documents(n_docs: int, seed: int) -> list[str]:
    """Generated documents."""
    rng = np.random.default_rng(seed)
    return [document(rng) for _ in range(n_docs)]


def byte_bpe(texts: list[str]) -> PreTrainedTokenizerFast:
    """GPT-2's family."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_VOCAB,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )


def sentencepiece(texts: list[str]) -> PreTrainedTokenizerFast:
    """Llama's family: spaces written ▁, what the alphabet lacks (line breaks, far letters) as bytes."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=N_VOCAB - 259, show_progress=False, limit_alphabet=90)
    learner.train_from_iterator([text.replace("\n", " ") for text in texts], trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    for piece in sorted(learned["vocab"], key=lambda piece: learned["vocab"][piece]):
        vocab.setdefault(piece, len(vocab))
    merges: Any = [tuple(merge) for merge in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def wordpiece(texts: list[str]) -> PreTrainedTokenizerFast:
    """BERT's family: words cut at white space and punctuation, ## where a word goes on."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=N_VOCAB, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]"
    )


FAMILIES = {"byte-level": byte_bpe, "sentencepiece": sentencepiece, "wordpiece": wordpiece}


@pytest.fixture(scope="session")
def generated():
    """`documents`, for tests that want texts of their own."""
    return documents


@pytest.fixture(scope="session")
def all_tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    """One tokenizer of each family."""
    texts = documents(400, seed=1)
    return {name: build(texts) for name, build in FAMILIES.items()}


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    """Each family in turn."""
    return request.param


@pytest.fixture
def tokenizer(family: str, all_tokenizers: dict[str, PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    """The tokenizer of the family in turn."""
    return all_tokenizers[family]
