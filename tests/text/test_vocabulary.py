"""Surfaces of a vocabulary: joined in order they give back the text, whatever the family of the tokenizer."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from probekit.errors import InputError
from probekit.text.concepts.vocabulary import quoted, read_vocabulary


def joined(surfaces: tuple[str, ...], ids: list[int]) -> str:
    """Bytes of several tokens may make one character, so the join goes through bytes."""
    text = "".join(surfaces[index] for index in ids)
    return text.encode("utf-8", "surrogateescape").decode()


@pytest.mark.parametrize("name", ["byte-level", "sentencepiece"])
def test_surfaces_of_a_text_join_to_the_text(all_tokenizers, generated, name) -> None:
    tokenizer = all_tokenizers[name]
    vocabulary = read_vocabulary(tokenizer)
    assert vocabulary.family == name
    prefix = " " if name == "sentencepiece" else ""  # SentencePiece puts a space before the text
    texts = [*generated(200, seed=4), "你好 🙂 Ж漢\n\tx  = `é`\r\n", "  two spaces"]
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert [joined(vocabulary.surfaces, ids) for ids in encoded] == [prefix + text for text in texts]
    # positive control: some of these tokens are bytes that are no whole character
    assert any(
        "\udc80" <= letter <= "\udcff" for ids in encoded for i in ids for letter in vocabulary.surfaces[i]
    )


def test_surfaces_of_wordpiece_start_words_with_a_space(all_tokenizers) -> None:
    tokenizer = all_tokenizers["wordpiece"]
    vocabulary = read_vocabulary(tokenizer)
    assert vocabulary.family == "wordpiece"
    text = "The function returns walkingly (values), tables."
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert (
        "".join(vocabulary.surfaces[i] for i in ids)
        == " The function returns walkingly ( values ) , tables ."
    )
    assert any(tokenizer.convert_ids_to_tokens(i).startswith("##") for i in ids)


def test_special_tokens_add_nothing(all_tokenizers) -> None:
    for tokenizer in all_tokenizers.values():
        surfaces = read_vocabulary(tokenizer).surfaces
        assert len(surfaces) == len(tokenizer)
        assert {surfaces[i] for i in tokenizer.all_special_ids} == {""}


class SlowTokenizer:
    """No fast backend: the family shows in the vocabulary only."""

    all_special_ids: ClassVar[list[int]] = [0]

    def __init__(self, tokens: list[str | None]) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        return [self.tokens[i] for i in ids]

    def get_added_vocab(self) -> dict[str, int]:
        return {"<tool>": 1}


@pytest.mark.parametrize(
    ("tokens", "family", "surfaces"),
    [
        (
            ["<s>", "<tool>", "Ġthe", "Ċ", "Ã", "cafÃ©"],
            "byte-level",
            ["", "<tool>", " the", "\n", "\udcc3", "café"],
        ),
        (
            ["<s>", "<tool>", "▁the", "<0x0A>", "<0xC3>", "x"],
            "sentencepiece",
            ["", "<tool>", " the", "\n", "\udcc3", "x"],
        ),
        (["[PAD]", "<tool>", "the", "##ly", None, "##"], "wordpiece", ["", "<tool>", " the", "ly", "", ""]),
        (["<pad>", "<tool>", "the</w>", "th", "e</w>"], "plain", ["", "<tool>", "the ", "th", "e "]),
    ],
)
def test_the_family_is_known_by_its_marks(tokens: list[Any], family: str, surfaces: list[str]) -> None:
    vocabulary = read_vocabulary(SlowTokenizer(tokens))
    assert (vocabulary.family, list(vocabulary.surfaces)) == (family, surfaces)


def test_an_empty_tokenizer_is_refused() -> None:
    with pytest.raises(InputError, match="empty vocabulary, so its folder holds no tokenizer files"):
        read_vocabulary(SlowTokenizer([]))


def test_quoted_surfaces_can_be_written_to_any_file() -> None:
    assert quoted(' the"\n\\') == r'" the\"\n\\"'
    assert quoted("\udcc3") == r'"\xc3"'
    assert quoted("é ") == '"é "'
    quoted("".join(map(chr, [*range(0x300), *range(0xDC80, 0xDD00)]))).encode()
