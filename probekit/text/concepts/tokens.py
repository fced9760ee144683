"""Labels single tokens: identity, and the orthographic, lexical and morphological classes of the string.

Source: the token-identity and token-class concepts of sparse-probing work (Gurnee et al. 2023), decided
from the surface string of each vocabulary id, once. A token's *body* is its surface without the white space
around it.
Axes: mask (a set of ids), vocab (ids).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from probekit.errors import InputError
from probekit.text.concepts.blocks import Column, Kind, VocabBlock, lag_word, place
from probekit.text.concepts.vocabulary import Vocabulary, quoted
from probekit.text.corpus import Tokens

Test = Callable[[str], bool]

DETERMINERS = frozenset({
    "a", "an", "the", "this", "that", "these", "those", "each", "every", "some", "any", "no",
})  # fmt: skip
PREPOSITIONS = frozenset({
    "of", "in", "to", "for", "with", "on", "at", "by", "from", "as", "into", "about", "over",
    "after", "before", "between", "through", "under", "up", "down", "out", "off",
})  # fmt: skip
PRONOUNS = frozenset({
    "i", "you", "he", "she", "it", "we", "they", "me", "him", "her", "us", "them", "his", "its",
    "their", "my", "your", "our", "who", "which", "what",
})  # fmt: skip
AUXILIARIES = frozenset({
    "is", "are", "was", "were", "be", "been", "being", "am", "has", "have", "had", "do", "does",
    "did", "will", "would", "can", "could", "may", "might", "must", "shall", "should",
})  # fmt: skip
CONJUNCTIONS = frozenset({
    "and", "or", "but", "if", "when", "while", "because", "so", "than", "then", "not", "also",
    "else", "unless", "though",
})  # fmt: skip

_STARTS_WORD = re.compile(r"\s|[A-Z]")


def _is_word(surface: str) -> bool:
    return surface.strip().isalpha()


def _word_of(words: frozenset[str]) -> Test:
    """A whole word: `in` inside `string` has neither a space before it nor a capital."""
    return lambda surface: surface.strip().lower() in words and _STARTS_WORD.match(surface) is not None


def _ends_in(suffix: str) -> Test:
    return lambda surface: _is_word(surface) and surface.strip().lower().endswith(suffix)


def _holds(letters: str) -> Test:
    return lambda surface: any(letter in letters for letter in surface)


def _capitalised(surface: str) -> bool:
    body = surface.strip()
    return body[:1].isupper() and (len(body) == 1 or not body.isupper())


def _all_caps(surface: str) -> bool:
    body = surface.strip()
    return len(body) > 1 and body.isalpha() and body.isupper()


def _digit(surface: str) -> bool:
    return surface.strip().isdigit()


def _punctuation(surface: str) -> bool:
    body = surface.strip()
    return bool(body) and all(
        letter.isprintable() and not letter.isalnum() and letter != " " for letter in body
    )


def _indentation(surface: str) -> bool:
    return surface.isspace() and len(surface.rpartition("\n")[2]) > 1


CLASSES: dict[str, tuple[Test, str]] = {
    "word-start": (lambda s: s[:1] == " " and s[1:2].isalpha(), "starts with a space and a letter"),
    "word-piece": (lambda s: s[:1].isalpha(), "starts with a letter, without a space before it"),
    "capitalised": (_capitalised, "starts with a capital and is not all capitals"),
    "all-caps": (_all_caps, "two letters or more, all capitals"),
    "lower-word": (
        lambda s: _is_word(s) and s.islower() and len(s.strip()) > 3,
        "four or more small letters",
    ),
    "single-letter": (lambda s: _is_word(s) and len(s.strip()) == 1, "one letter"),
    "digit": (_digit, "digits only"),
    "punctuation": (_punctuation, "neither letters nor digits"),
    "newline": (lambda s: "\n" in s, "holds a line break"),
    "whitespace": (str.isspace, "white space only"),
    "indentation": (_indentation, "white space that ends in two or more spaces or tabs"),
    "sentence-end": (lambda s: s.strip()[-1:] in {".", "!", "?"}, "ends in a full stop, ! or ?"),
    "open-bracket": (_holds("([{"), "holds an opening bracket"),
    "close-bracket": (_holds(")]}"), "holds a closing bracket"),
    "quote": (_holds("\"'“”‘’"), "holds a quotation mark or apostrophe"),
    "backtick": (_holds("`"), "holds a backtick"),
    "underscore": (_holds("_"), "holds an underscore"),
    "operator": (_holds("=+*/<>"), "holds one of = + * / < >"),
    "determiner": (_word_of(DETERMINERS), "a determiner such as the, a, this"),
    "preposition": (_word_of(PREPOSITIONS), "a preposition such as of, in, with"),
    "pronoun": (_word_of(PRONOUNS), "a pronoun such as it, she, which"),
    "auxiliary": (_word_of(AUXILIARIES), "an auxiliary verb such as is, was, can"),
    "conjunction": (_word_of(CONJUNCTIONS), "a conjunction or connective such as and, or, if"),
    "ends-ing": (_ends_in("ing"), "letters that end in -ing"),
    "ends-ed": (_ends_in("ed"), "letters that end in -ed"),
    "ends-s": (_ends_in("s"), "letters that end in -s"),
    "ends-ly": (_ends_in("ly"), "letters that end in -ly"),
    "ends-er": (_ends_in("er"), "letters that end in -er"),
    "ends-tion": (lambda s: _ends_in("tion")(s) or _ends_in("ation")(s), "letters that end in -tion"),
}


def class_block(
    vocabulary: Vocabulary, tokens: Tokens, lags: Sequence[int], *, kind: Kind = "class"
) -> VocabBlock | None:
    """Every token class that occurs in the corpus, at each lag; None if none does.

    Args:
        vocabulary: the surfaces.
        tokens: the token block.
        lags: places back.
        kind: what the concepts are reported as.
    """
    found = {
        name: np.array([surface != "" and test(surface) for surface in vocabulary.surfaces], dtype=np.bool_)
        for name, (test, _) in CLASSES.items()
    }
    used = np.unique(_known_ids(tokens, vocabulary))
    held = {name: mask for name, mask in found.items() if mask[used].any()}
    if not held:
        return None
    columns = tuple(
        Column(f"{lag_word(lag)}:{name}", kind, lag, f"{place(lag)} {CLASSES[name][1]}")
        for lag in lags
        for name in held
    )
    return VocabBlock(columns, np.stack(list(held.values())), tuple(range(len(held))) * len(lags))


def identity_block(
    vocabulary: Vocabulary, ids: Sequence[int], lags: Sequence[int], *, kind: Kind = "token"
) -> VocabBlock:
    """Token identity of some ids at each lag.

    Args:
        vocabulary: the surfaces.
        ids: the tokens, each a concept at each lag.
        lags: places back.
        kind: what the concepts are reported as.
    """
    masks = np.zeros((len(ids), len(vocabulary)), dtype=np.bool_)
    masks[np.arange(len(ids)), list(ids)] = True
    names = _identity_names(vocabulary, ids)
    columns = tuple(
        Column(
            f"{lag_word(lag)}={name}",
            kind,
            lag,
            f"{place(lag)} {name}",
        )
        for lag in lags
        for name in names
    )
    return VocabBlock(columns, masks, tuple(range(len(ids))) * len(lags))


def frequent_ids(tokens: Tokens, vocabulary: Vocabulary, n_frequent: int) -> Int[np.ndarray, " id"]:
    """The most frequent ids among counted tokens, special tokens left out, most frequent first.

    Args:
        tokens: the token block.
        vocabulary: the surfaces.
        n_frequent: how many at most.
    """
    n_times = np.bincount(_known_ids(tokens, vocabulary), minlength=len(vocabulary))
    n_times[[surface == "" for surface in vocabulary.surfaces]] = 0
    order = np.argsort(-n_times, kind="stable")[:n_frequent]
    return order[n_times[order] > 0]


def _known_ids(tokens: Tokens, vocabulary: Vocabulary) -> Int[np.ndarray, " token"]:
    """Counted ids, refused if one is beyond the vocabulary."""
    counted = tokens.ids[tokens.counted]
    if counted.max(initial=0) >= len(vocabulary):
        raise InputError(
            f"corpus {tokens.name!r} holds token id {counted.max()} but the tokenizer ends at "
            f"{len(vocabulary) - 1}; pass the tokenizer that made these tokens"
        )
    return counted


def _identity_names(vocabulary: Vocabulary, ids: Sequence[int]) -> list[str]:
    """Quoted surfaces; two ids of one surface are told apart by their number."""
    surfaces = [vocabulary.surfaces[index] for index in ids]
    return [
        quoted(surface) if surfaces.count(surface) == 1 else f"{quoted(surface)}#{index}"
        for surface, index in zip(surfaces, ids, strict=True)
    ]
