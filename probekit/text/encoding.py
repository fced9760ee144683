"""Texts to ids: the one way a tokenizer is called, which of its ids are special, and no more text than will be read.

Why that is safe: to know the first ids of a long document it is enough to encode its beginning, if that is cut where the
tokenizer must begin a token anyway. Here that is between a letter a–z and a single space with another letter behind it
(`…word| word…`), and only for tokenizers whose description shows, part by part, that nothing reaches across:

- no added token has white space behind a letter, so none spans the cut;
- the normalizer changes characters one by one (or composes Unicode, which never joins a letter with a space), so it does
  to each side alone what it does to both together;
- the pre-tokenizer divides there whatever follows: at white space, or by one of the regular expressions in use, all of
  which end a run of letters at a space and look ahead from white space only. Or it does not divide, and the model is a
  BPE or Unigram with no entry that has a space behind a letter: every token is an entry, so none spans the cut, no merge
  crosses it, and the best path of a Unigram goes through it.

Then the ids of the beginning are the first ids of the whole. With any other tokenizer the whole text is encoded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from probekit.text.tokenizers import description_of

CHARACTERS_A_TOKEN = 8
"""First guess of how much text a row needs; doubled until it is enough."""

_BETWEEN_WORDS = re.compile(r"(?<=[A-Za-z])(?= [A-Za-z])")
_ACROSS = re.compile(r"[A-Za-z](?:\s|▁|Ġ)")
_LETTER = re.compile(r"[A-Za-z]")
_ONE_BY_ONE = frozenset(
    {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer", "Nmt", "Prepend", "Strip"}
)
_AT_WHITE_SPACE = frozenset({"Whitespace", "WhitespaceSplit", "BertPreTokenizer"})
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_CASED, _SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_REGEXES = frozenset(
    {
        # GPT-2
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        # Llama 3 (three digits together), Qwen 2 (one), and Qwen with marks among the letters
        *(
            rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_TAIL}"
            for digits in (r"\p{N}{1,3}", r"\p{N}")
        ),
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_TAIL}",
        # o200k
        (
            rf"[^\r\n\p{{L}}\p{{N}}]?{_CASED}*{_SMALL}+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{_CASED}+{_SMALL}*"
            rf"{_CONTRACTIONS}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_TAIL}"
        ),
    }
)  # fmt: skip
_WINDOW = 256
"""Characters searched at once for the last cut."""


class Encoded(NamedTuple):
    """The first ids of a text."""

    ids: list[int]
    """Token ids."""
    offsets: list[tuple[int, int]]
    """Character each token begins at, and the one after its last; empty where they were not asked for."""


def special_ids(tokenizer: Any) -> tuple[int, ...]:
    """Ids of every special token of a tokenizer, ascending: its named ones and all that are marked special.

    Args:
        tokenizer: a `transformers` tokenizer, or None, which has none.
    """
    if tokenizer is None:
        return ()
    marked = getattr(tokenizer, "added_tokens_decoder", {})
    named = getattr(tokenizer, "all_special_ids", ())
    return tuple(
        sorted({*map(int, named), *(int(index) for index, token in marked.items() if token.special)})
    )


def vocabulary_size(tokenizer: Any) -> int:
    """One more than a tokenizer's largest id; its ids may have holes, so that its length can be less.

    Args:
        tokenizer: a `transformers` tokenizer.
    """
    known = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
    return max(len(tokenizer), 1 + max(known.values(), default=-1))


class Encoder:
    """A tokenizer that reads no more of a text than it must.

    Args:
        tokenizer: a `transformers` tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def first(self, texts: Sequence[str], n_ids: int, *, offsets: bool = False) -> list[Encoded]:
        """The first ids of each text, the same as those of the whole text.

        Args:
            texts: the texts.
            n_ids: ids wanted of each; fewer where the text has fewer.
            offsets: whether to return character offsets; needs a fast tokenizer.
        """
        found = [Encoded([], []) for _ in texts]
        size = CHARACTERS_A_TOKEN * n_ids
        pending = list(range(len(texts)))
        while pending:
            heads = [self._head(texts[index], size) for index in pending]
            again: list[int] = []
            for index, head, encoded in zip(
                pending, heads, self._encode(heads, offsets=offsets), strict=True
            ):
                if len(encoded.ids) < n_ids and len(head) < len(texts[index]):
                    again.append(index)
                else:
                    found[index] = Encoded(encoded.ids[:n_ids], encoded.offsets[:n_ids])
            pending, size = again, 2 * size
        return found

    def _encode(self, texts: list[str], *, offsets: bool) -> list[Encoded]:
        more = {"return_offsets_mapping": True} if offsets else {}
        encoded = self._tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
            **more,
        )
        where = encoded["offset_mapping"] if offsets else [[]] * len(texts)
        return [Encoded(list(ids), list(at)) for ids, at in zip(encoded["input_ids"], where, strict=True)]

    def _head(self, text: str, size: int) -> str:
        """The text up to the last cut between words within `size` characters; all of it where there is none."""
        if len(text) <= size or not self.cuts_between_words:
            return text
        for stop in range(size, 0, -_WINDOW):
            # two characters more than the window: the space and the letter behind a cut
            cuts = [m.start() for m in _BETWEEN_WORDS.finditer(text, max(0, stop - _WINDOW), stop + 2)]
            if cuts:
                return text[: cuts[-1]]
        return text

    @cached_property
    def cuts_between_words(self) -> bool:
        """Whether the beginning of a text, cut between two words, has the first ids of the whole."""
        described = description_of(self._tokenizer)
        return described is not None and allows_cuts(described)


def allows_cuts(described: dict[str, Any]) -> bool:
    """Whether the module's argument holds for a tokenizer.

    Args:
        described: a fast tokenizer's own JSON.
    """
    added = [str(token["content"]) for token in described.get("added_tokens") or ()]
    normalizers = _parts(described.get("normalizer"), "normalizers")
    pieces = _parts(described.get("pre_tokenizer"), "pretokenizers")
    if any(_ACROSS.search(content) for content in added):
        return False
    if not all(_one_by_one(part) for part in normalizers) or not all(_is_known(piece) for piece in pieces):
        return False
    # a step that writes spaces another way hides them from the steps after it
    if any(piece["type"] == "ByteLevel" for piece in pieces[:-1]):
        return False
    spaced = all(part["type"] != "Replace" for part in normalizers)
    for piece in pieces:
        if _divides(piece, spaced=spaced):
            return True
        spaced = spaced and piece["type"] != "Metaspace"
    return _never_spans(described.get("model") or {})


def _parts(described: Any, name: str) -> list[dict[str, Any]]:
    """The steps of a part of a tokenizer's description, sequences flattened."""
    if not described:
        return []
    if described["type"] == "Sequence":
        return [part for one in described[name] for part in _parts(one, name)]
    return [described]


def _one_by_one(normalizer: dict[str, Any]) -> bool:
    """Whether a normalizer does to each side of a cut what it does to both together, and leaves letters letters."""
    if normalizer["type"] != "Replace":
        return normalizer["type"] in _ONE_BY_ONE
    pattern = str(normalizer["pattern"].get("String") or "")
    return (
        len(pattern) == 1 and not _LETTER.match(pattern) and (pattern != " " or normalizer["content"] in " ▁")
    )


def _is_known(piece: dict[str, Any]) -> bool:
    """Whether a pre-tokenizer splits the text before a cut independently of what follows."""
    if piece["type"] == "Split":
        return _by_regex(piece) or len(str(piece["pattern"].get("String") or "")) == 1
    if piece["type"] == "Metaspace":
        return piece.get("replacement") == "▁"
    return piece["type"] in _AT_WHITE_SPACE | {"Digits", "Punctuation", "ByteLevel"}


def _by_regex(piece: dict[str, Any]) -> bool:
    # both ways to say that the matches are the pieces; each of the expressions matches all there is
    kept = (piece["behavior"], bool(piece.get("invert"))) in {("Isolated", False), ("Removed", True)}
    return kept and piece["pattern"].get("Regex") in _REGEXES


def _divides(piece: dict[str, Any], *, spaced: bool) -> bool:
    """Whether a pre-tokenizer ends a piece at the cut.

    Args:
        piece: its description.
        spaced: whether a space is still a space.
    """
    if piece["type"] == "Metaspace":
        return spaced and bool(piece.get("split", True))
    if not spaced:
        return False
    if piece["type"] == "ByteLevel":
        return bool(piece.get("use_regex", True))
    return piece["type"] in _AT_WHITE_SPACE or (piece["type"] == "Split" and _by_regex(piece))


def _never_spans(model: dict[str, Any]) -> bool:
    """Whether no token of a model that reads over white space can stand on both sides of a cut."""
    if model.get("type") == "BPE":
        by_pieces = model.get("end_of_word_suffix") or model.get("ignore_merges") or model.get("dropout")
        return not by_pieces and not any(_ACROSS.search(entry) for entry in model["vocab"])
    return model.get("type") == "Unigram" and not any(_ACROSS.search(entry) for entry, _ in model["vocab"])
