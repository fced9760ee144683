"""Word-level concepts from packages that carry their data: part of speech, frequency and sentiment of English words.

Optional: `pip install -e '.[lexicon]'` in a clone. A word is a run of
letters, apostrophes inside included; each of its tokens is labelled. Unlike the other concepts these look ahead: a word is
known when it ends, and a part of speech depends on its neighbours on both sides. Sources: textblob's pattern tagger (Penn
tags; it guesses, above all on code), wordfreq's Zipf scale, the VADER lexicon.
Axes: word, token (counted tokens in document order).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from probekit.errors import InputError
from probekit.fingerprint import of_file, of_parts, of_value
from probekit.text.concepts.blocks import Column, Where
from probekit.text.concepts.vocabulary import Vocabulary
from probekit.text.tokens import Tokens

FAMILIES = ("pos", "frequency", "sentiment")

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?;:]|\n\s*\n")
_PENN: dict[str, tuple[str, str]] = {
    "noun": (r"NNS?$", "a common noun"),
    "plural-noun": (r"NNS$", "a plural noun"),
    "proper-noun": (r"NNPS?$", "a proper noun"),
    "verb": (r"VB[DGNPZ]?$", "a verb, auxiliaries included"),
    "past-verb": (r"VB[DN]$", "a past tense or past participle"),
    "gerund": (r"VBG$", "a verb in -ing"),
    "third-person": (r"VBZ$", "a verb in the third person singular"),
    "modal": (r"MD$", "a modal verb"),
    "adjective": (r"JJ[RS]?$", "an adjective"),
    "adverb": (r"RB[RS]?$|WRB$", "an adverb"),
    "comparative": (r"(?:JJ|RB)[RS]$", "a comparative or superlative"),
    "pronoun": (r"PRP\$?$|WP\$?$", "a pronoun"),
    "determiner": (r"DT$|WDT$|PDT$", "a determiner"),
    "preposition": (r"IN$|TO$", "a preposition, to or a subordinating conjunction"),
    "conjunction": (r"CC$", "a coordinating conjunction"),
}
# Zipf: log10 of occurrences a billion words
_BANDS = {
    "unknown": (-1.0, 0.5, "a word of no frequency list"),
    "rare": (0.5, 3.0, "a rare word (below one in a million)"),
    "middling": (3.0, 4.5, "a word of middling frequency"),
    "common": (4.5, 6.0, "a common word"),
    "very-common": (6.0, 99.0, "one of the few hundred most frequent words"),
}
_MOODS: dict[str, tuple[Callable[[float], bool], str]] = {
    "positive": (lambda value: value >= 1.0, "a word of positive sentiment"),
    "negative": (lambda value: value <= -1.0, "a word of negative sentiment"),
}


@dataclass(frozen=True, eq=False)
class LexiconBlock:
    """Concepts of the word that a token belongs to."""

    columns: tuple[Column, ...]
    """One concept a column."""
    surfaces: tuple[str, ...]
    """What each id adds to the text."""
    families: tuple[str, ...]
    """What is looked up, in the order of the columns."""

    @property
    def fingerprint(self) -> str:
        """Digest of the surfaces, and of the packages that know the words."""
        return of_parts([of_value(self), of_lexicons(self.families)])

    def label(self, tokens: Tokens) -> list[Where]:
        """Counted tokens whose first ink is part of a word for which a concept holds."""
        found: list[list[np.ndarray]] = [[] for _ in self.columns]
        n_before = 0
        first_column = 0 if tokens.bos_id is None else 1
        for row, stop in zip(tokens.ids, tokens.text_stops.tolist(), strict=True):
            ids = row[first_column:stop].tolist()
            parts = [self.surfaces[index] for index in ids]
            text = "".join(parts)
            words = [(match.start(), match.end(), match[0]) for match in _WORD.finditer(text)]
            if words:
                word_of = _word_of_token(parts, words)
                flags = np.concatenate([_FLAGS[family](text, words) for family in self.families], axis=1)
                inside = np.flatnonzero(word_of >= 0)
                for column, places in enumerate(found):
                    places.append(inside[flags[word_of[inside], column]] + n_before)
            n_before += len(ids)
        return [np.concatenate(places or [np.empty(0)]).astype(np.int32) for places in found]


def lexicon_block(vocabulary: Vocabulary, families: Sequence[str] = FAMILIES) -> LexiconBlock:
    """Part of speech, frequency and sentiment of words.

    Args:
        vocabulary: the surfaces.
        families: any of pos, frequency, sentiment.

    Raises:
        InputError: a family is unknown, or its package is not installed.
    """
    unknown = [family for family in families if family not in FAMILIES]
    if unknown or not families:
        raise InputError(f"lexicon: got {list(families)}, wanted some of {', '.join(FAMILIES)}")
    for family in families:
        _package(family)
    columns = {
        "pos": [(f"word:{name}", meaning) for name, (_, meaning) in _PENN.items()],
        "frequency": [(f"word:{name}", meaning) for name, (_, _, meaning) in _BANDS.items()],
        "sentiment": [(f"word:{name}", meaning) for name, (_, meaning) in _MOODS.items()],
    }
    made = tuple(
        Column(name, "lexicon", 0, f"the token is part of {meaning}")
        for family in families
        for name, meaning in columns[family]
    )
    return LexiconBlock(made, vocabulary.surfaces, tuple(families))


def _word_of_token(parts: list[str], words: list[tuple[int, int, str]]) -> np.ndarray:
    """Index of the word that each token's first ink lies in; −1 for none."""
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    lead = np.array([len(part) - len(part.lstrip()) if part.strip() else -1 for part in parts])
    ink = starts + lead
    low, high = np.array([w[0] for w in words]), np.array([w[1] for w in words])
    index = np.searchsorted(low, ink, side="right") - 1
    inside = (lead >= 0) & (index >= 0) & (ink < high[np.maximum(index, 0)])
    return np.where(inside, index, -1)


_PACKAGES = {
    "pos": ("textblob.en", "textblob"),
    "frequency": ("wordfreq", "wordfreq"),
    "sentiment": ("vaderSentiment.vaderSentiment", "vaderSentiment"),
}


def of_lexicons(families: Iterable[str]) -> str:
    """Digest of every file of the packages that the families are looked up in: their data decides the labels.

    Args:
        families: any of pos, frequency, sentiment.
    """
    parts: list[str] = []
    for family in families:
        root = Path(str(_package(family).__file__)).parent
        files = (file for file in root.rglob("*") if file.is_file() and file.suffix != ".pyc")
        parts += [family, *(f"{file.relative_to(root).as_posix()} {of_file(file)}" for file in sorted(files))]
    return of_parts(parts)


@cache
def _package(family: str) -> Any:
    module, distribution = _PACKAGES[family]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"lexicon: {family!r} needs the package {distribution}, which is not installed; install the extra with "
            "pip install -e '.[lexicon]', or leave this family out"
        ) from error


def _pos_flags(text: str, words: list[tuple[int, int, str]]) -> np.ndarray:
    tags = [tag for sentence in _sentences(text, words) for tag in _tags(tuple(sentence))]
    return np.array([[pattern.match(tag) is not None for pattern in _PATTERNS] for tag in tags])


_PATTERNS = [re.compile(pattern) for pattern, _ in _PENN.values()]


def _sentences(text: str, words: list[tuple[int, int, str]]) -> Iterable[list[str]]:
    """Words of each stretch between end marks."""
    sentence: list[str] = []
    last = 0
    for low, high, word in words:
        if sentence and _SENTENCE_END.search(text[last:low]):
            yield sentence
            sentence = []
        sentence.append(word)
        last = high
    yield sentence


def _tags(sentence: tuple[str, ...]) -> list[str]:
    tagged = _package("pos").tag(" ".join(sentence), tokenize=False)
    if len(tagged) == len(sentence):
        return [tag for _, tag in tagged]
    return [_package("pos").tag(word, tokenize=False)[0][1] for word in sentence]


def _frequency_flags(text: str, words: list[tuple[int, int, str]]) -> np.ndarray:
    zipf = np.array([_zipf(word.lower()) for _, _, word in words])
    return np.stack([(zipf >= low) & (zipf < high) for low, high, _ in _BANDS.values()], axis=1)


@cache
def _zipf(word: str) -> float:
    return float(_package("frequency").zipf_frequency(word.replace("’", "'"), "en"))


def _sentiment_flags(text: str, words: list[tuple[int, int, str]]) -> np.ndarray:
    lexicon = _moods()
    values = [float(lexicon.get(word.lower(), 0.0)) for _, _, word in words]
    return np.array([[test(value) for test, _ in _MOODS.values()] for value in values])


@cache
def _moods() -> dict[str, float]:
    return dict(_package("sentiment").SentimentIntensityAnalyzer().lexicon)


_FLAGS = {"pos": _pos_flags, "frequency": _frequency_flags, "sentiment": _sentiment_flags}
