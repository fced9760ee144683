"""Sets of token types given by how they are spelt: strings, words, patterns, functions of the string, or plain ids.

They become sets of ids once a vocabulary is known, that of the model that is analysed. Axes: vocab (ids).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Bool

from probekit.errors import InputError, near, shown
from probekit.text.concepts.blocks import Column, Kind, VocabBlock, Where, lag_word, place
from probekit.text.concepts.vocabulary import Vocabulary, quoted, read_vocabulary
from probekit.text.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Spelled:
    """One set of token types: all that fit any of what is given."""

    name: str
    """What the set is called."""
    surfaces: tuple[str, ...] = ()
    """Strings exactly as in the text, each a single token."""
    words: tuple[str, ...] = ()
    """Words, each a single token with or without a space before it; one that begins with white space is meant exactly."""
    pattern: str | None = None
    """A regular expression that is searched in every string of the vocabulary."""
    flags: int = 0
    """Flags of the expression, as `re` has them."""
    function: Callable[[str], Any] | None = None
    """Says of each string of the vocabulary whether it belongs."""
    ids: tuple[int, ...] = ()
    """Token ids."""

    def mask(self, vocabulary: Vocabulary) -> Bool[np.ndarray, " vocab"]:
        """The ids that belong to the set.

        Args:
            vocabulary: the surfaces of the model's tokenizer.

        Raises:
            InputError: a string that is no single token, a bad pattern, an id beyond the vocabulary, or nothing fits.
        """
        held = np.zeros(len(vocabulary), np.bool_)
        places = places_of(vocabulary) if self.surfaces or self.words else {}
        for text in self.surfaces:
            held[ids_of(places, text)] = True
        for word in self.words:
            held[self._word(places, word)] = True
        if self.pattern is not None:
            held |= self._matching(vocabulary)
        if self.function is not None:
            held |= [surface != "" and self._says(surface) for surface in vocabulary.surfaces]
        beyond = [index for index in self.ids if not 0 <= index < len(held)]
        if beyond:
            raise InputError(f"concept {self.name!r}: token id {beyond[0]}, wanted 0 … {len(held) - 1}")
        held[list(self.ids)] = True
        if not held.any():
            raise InputError(f"class {self.name!r} holds no token; give text or a pattern")
        return held

    def _word(self, places: dict[str, list[int]], word: str) -> list[int]:
        spelt = [word] if word[:1].isspace() else [f" {word}", word]
        found = [index for text in spelt if text for index in places.get(text, [])]
        if not found:
            close = near(word, (surface for surface in places if surface.strip()), 3)
            told = f" (there are {', '.join(map(quoted, close))})" if close else ""
            raise InputError(
                f"concept {self.name!r}: {quoted(word)} is not a single token of this tokenizer, neither with a space "
                f"before it nor without{told}; Concepts.phrases takes what is several tokens"
            )
        return found

    def _matching(self, vocabulary: Vocabulary) -> Bool[np.ndarray, " vocab"]:
        try:
            pattern = re.compile(self.pattern or "", self.flags)
        except re.error as error:
            raise InputError(f"class {self.name!r}: bad pattern: {error}") from error
        found = [surface != "" and pattern.search(surface) is not None for surface in vocabulary.surfaces]
        return np.array(found, np.bool_)

    def _says(self, surface: str) -> bool:
        assert self.function is not None
        try:
            got = self.function(surface)
        except Exception as error:
            raise InputError(
                f"concept {self.name!r}: its function raised {type(error).__name__} for {quoted(surface)}: {error}. It is "
                "given the string of each token of the vocabulary, its space included, and returns True or False."
            ) from error
        if not isinstance(got, bool | np.bool_ | re.Match | None):
            raise InputError(
                f"concept {self.name!r}: its function gave {shown(got)} ({type(got).__name__}) for {quoted(surface)}, "
                "wanted True or False"
            )
        return bool(got)


def places_of(vocabulary: Vocabulary) -> dict[str, list[int]]:
    """The ids of each string of a vocabulary.

    Args:
        vocabulary: the surfaces.
    """
    ids: dict[str, list[int]] = {}
    for index, surface in enumerate(vocabulary.surfaces):
        if surface:
            ids.setdefault(surface, []).append(index)
    return ids


def ids_of(places: dict[str, list[int]], text: str) -> list[int]:
    """The ids of one string exactly as in the text.

    Args:
        places: what `places_of` gives.
        text: the string.

    Raises:
        InputError: it is no single token.
    """
    if text not in places:
        raise InputError(
            f"{quoted(text)} is not a single token of this tokenizer; a word in running text usually starts with a space"
        )
    return places[text]


@dataclass(frozen=True, eq=False)
class SpelledBlock:
    """Concepts that hold where the token `lag` places back is in a set given by its spelling."""

    columns: tuple[Column, ...]
    """One concept a column."""
    sets: tuple[Spelled, ...]
    """The sets."""
    set_of_column: tuple[int, ...]
    """The set that each column looks up, at its own lag."""

    @classmethod
    def of(cls, sets: Sequence[Spelled], lags: Sequence[int], kind: Kind) -> SpelledBlock:
        """Every set at every lag: named as the set at lag 0, `prev:name`, `prev2:name` at lags 1 and 2.

        Args:
            sets: the sets.
            lags: places back.
            kind: what the concepts are reported as.
        """
        columns = set_columns([one.name for one in sets], lags, kind)
        return cls(columns, tuple(sets), tuple(range(len(sets))) * len(lags))

    def read_by(self, tokenizer: Any) -> VocabBlock:
        """The same concepts as sets of ids.

        Args:
            tokenizer: a `transformers` tokenizer.
        """
        vocabulary = read_vocabulary(tokenizer)
        return VocabBlock(
            self.columns, np.stack([one.mask(vocabulary) for one in self.sets]), self.set_of_column
        )

    def label(self, tokens: Tokens) -> list[Where]:
        """Refused: strings say nothing about ids.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"concept {self.columns[0].name!r} is given by its spelling, and without a tokenizer nobody knows its ids; "
            "analyze takes the model's own, elsewhere call concepts.for_tokenizer(tokenizer) first"
        )


def spelled_words(name: str, given: Any) -> Spelled:
    """A set of words and token ids, as a user types them.

    Args:
        name: of the set.
        given: one of them, or several.

    Raises:
        InputError: something among them is neither.
    """
    items: list[Any] = (
        [given] if isinstance(given, str | Integral) or not isinstance(given, Iterable) else list(given)
    )
    wrong = [
        one
        for one in items
        if isinstance(one, bool) or not isinstance(one, str | Integral) or not _fits(one) or one == ""
    ]
    if wrong or not items:
        raise InputError(
            f"concept {name!r}: got {shown(wrong[0]) if wrong else 'nothing'}, wanted words (strings) or token ids"
        )
    words = tuple(one for one in items if isinstance(one, str))
    return Spelled(name, words=words, ids=tuple(int(one) for one in items if not isinstance(one, str)))


def _fits(value: Any) -> bool:
    """Whether a number is one that ids and lags can be; others have more digits than Python prints."""
    return isinstance(value, str) or abs(int(value)) < 2**31


def spelled_pattern(name: str, pattern: Any) -> Spelled:
    """A set by a regular expression, checked at once.

    Args:
        name: of the set.
        pattern: text, or compiled.

    Raises:
        InputError: it is no regular expression of text.
    """
    flags = pattern.flags if isinstance(pattern, re.Pattern) else 0
    text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    if not isinstance(text, str) or not text:
        raise InputError(f"concept {name!r}: got {shown(pattern)}, wanted a regular expression")
    try:
        re.compile(text, flags)
    except re.error as error:
        raise InputError(f"concept {name!r}: bad pattern {text!r}: {error}") from error
    return Spelled(name, pattern=text, flags=flags)


def some_of(sets: list[Spelled], maker: str) -> list[Spelled]:
    """The sets, refused where there is none.

    Args:
        sets: made by a maker.
        maker: its name.

    Raises:
        InputError: there is none.
    """
    if not sets:
        raise InputError(f"{maker}: got nothing, wanted at least one")
    return sets


def as_lags(lags: Any) -> tuple[int, ...]:
    """One lag or several, as a user types them.

    Args:
        lags: places back.

    Raises:
        InputError: they are no whole numbers.
    """
    held: list[Any] = [lags] if isinstance(lags, Integral) or not isinstance(lags, Iterable) else list(lags)
    if any(isinstance(lag, bool) or not isinstance(lag, Integral) or not _fits(lag) for lag in held):
        raise InputError(f"lags: got {shown(lags)}, wanted one or more numbers ≥ 0 (places back)")
    return tuple(int(lag) for lag in held)


def set_columns(names: Sequence[str], lags: Sequence[int], kind: Kind) -> tuple[Column, ...]:
    """Columns of sets looked up at lags, all sets of a lag together.

    Args:
        names: of the sets.
        lags: places back.
        kind: what the concepts are reported as.

    Raises:
        InputError: no lag, or one that is no number ≥ 0.
    """
    if not len(lags) or any(isinstance(lag, bool) or lag < 0 for lag in lags):
        raise InputError(f"lags={tuple(lags)}, wanted one or more numbers ≥ 0 (places back)")
    return tuple(
        Column(
            name if lag == 0 else f"{lag_word(lag)}:{name}", kind, lag, f"{place(lag)} in the set {name!r}"
        )
        for lag in lags
        for name in names
    )
