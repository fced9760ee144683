"""Decodes every vocabulary id to its surface string, once: the text it adds to a document.

Source: the three families in use. Byte-level BPE writes bytes as printable letters (GPT-2's table),
SentencePiece writes a space as `▁` and bytes it lacks as `<0x0A>`, WordPiece marks what continues a word
with `##`. Bytes that are no whole character stay as lone surrogates, so that surfaces joined in order
always give back the text; a special token adds nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from probekit.errors import InputError
from probekit.text.encoding import special_ids, vocabulary_size
from probekit.text.tokenizers import description_of

Family = Literal["byte-level", "sentencepiece", "wordpiece", "plain"]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"


@dataclass(frozen=True)
class Vocabulary:
    """Surface string of every id."""

    surfaces: tuple[str, ...]
    """What each id adds to the text; empty for special tokens and unused ids."""
    family: Family
    """How the tokenizer writes its tokens."""

    def __len__(self) -> int:
        """Ids, unused ones included."""
        return len(self.surfaces)


def read_vocabulary(tokenizer: Any) -> Vocabulary:
    """Surfaces of a tokenizer's whole vocabulary.

    Args:
        tokenizer: a `transformers` tokenizer, fast or slow.

    Raises:
        InputError: it is none, or its vocabulary is empty.
    """
    if not hasattr(tokenizer, "convert_ids_to_tokens"):
        raise InputError(
            f"tokenizer: got {type(tokenizer).__name__}, wanted a tokenizer of transformers "
            "(AutoTokenizer.from_pretrained of the model's folder)."
        )
    n_vocab = vocabulary_size(tokenizer)
    if n_vocab == 0:
        raise InputError(
            "the tokenizer has an empty vocabulary, so its folder holds no tokenizer files; "
            "pass a folder with tokenizer.json, or concepts of your own"
        )
    tokens: list[str | None] = list(tokenizer.convert_ids_to_tokens(list(range(n_vocab))))
    added = set(tokenizer.get_added_vocab())
    special = set(special_ids(tokenizer))
    description = _description(tokenizer)
    family = _family(description, tokens)
    model = description.get("model") or {}
    prefix = str(model.get("continuing_subword_prefix") or "##")
    suffix = str(model.get("end_of_word_suffix") or "</w>")

    def surface(index: int, token: str | None) -> str:
        if token is None or index in special:
            return ""
        if family == "sentencepiece":
            byte = _BYTE.fullmatch(token)
            return _text(bytes([int(byte[1], 16)])) if byte else token.replace(_SPACE, " ")
        if token in added:
            return token
        if family == "byte-level":
            return _from_byte_letters(token)
        if family == "wordpiece":
            return token.removeprefix(prefix) if token.startswith(prefix) else f" {token}"
        return f"{token.removesuffix(suffix)} " if token.endswith(suffix) else token

    return Vocabulary(tuple(surface(index, token) for index, token in enumerate(tokens)), family)


def quoted(surface: str) -> str:
    """A surface between double quotes with what cannot be printed escaped; safe in any file.

    Args:
        surface: what a token adds to the text.
    """
    letters: list[str] = []
    for letter in surface:
        if "\udc80" <= letter <= "\udcff":
            letters.append(f"\\x{ord(letter) - 0xDC00:02x}")
        else:
            letters.append(
                letter if letter.isprintable() and letter not in '"\\' else json.dumps(letter)[1:-1]
            )
    return f'"{"".join(letters)}"'


def _description(tokenizer: Any) -> dict[str, Any]:
    """The fast tokenizer's own JSON; empty for a slow one."""
    return description_of(tokenizer) or {}


def _family(description: dict[str, Any], tokens: list[str | None]) -> Family:
    """Decided by the decoder and pre-tokenizer when there are any, else by the marks in the vocabulary."""
    types = _types([description.get("pre_tokenizer"), description.get("decoder")])
    if "ByteLevel" in types:
        return "byte-level"
    if types & {"Metaspace", "ByteFallback"}:
        return "sentencepiece"
    if "WordPiece" in types or (description.get("model") or {}).get("type") == "WordPiece":
        return "wordpiece"
    known = [token for token in tokens if token]
    marks: dict[Family, int] = {
        "byte-level": sum(token[0] == "Ġ" for token in known),
        "sentencepiece": sum(token[0] == _SPACE for token in known),
        "wordpiece": sum(token.startswith("##") and len(token) > 2 for token in known),
    }
    best = max(marks, key=lambda family: marks[family])
    return best if marks[best] else "plain"


def _types(parts: Any) -> set[str]:
    """Every `type` named anywhere in a nested description."""
    if isinstance(parts, list):
        return set[str]().union(*(_types(part) for part in parts))
    if isinstance(parts, dict):
        own = {parts["type"]} if isinstance(parts.get("type"), str) else set[str]()
        return own.union(*(_types(part) for part in parts.values() if isinstance(part, (dict, list))))
    return set()


def _byte_letters() -> dict[str, int]:
    """GPT-2's table: printable Latin-1 bytes stand for themselves, the others for letters from U+0100 on."""
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in itself]
    return {chr(byte): byte for byte in itself} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTE_OF_LETTER = _byte_letters()


def _from_byte_letters(token: str) -> str:
    if any(letter not in _BYTE_OF_LETTER for letter in token):
        return token  # written as it is, such as a token added after training
    return _text(bytes(_BYTE_OF_LETTER[letter] for letter in token))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
