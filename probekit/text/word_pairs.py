"""What a text holds of two-token words, of pieces of longer words and of phrases, counted by token pairs.

A token *begins* a word if its surface is a space and lower-case letters, it *continues* one if it is lower-case letters
alone. A two-token word is a beginning, a continuation, and then something that does not go on with the word; a *piece* is
the same two tokens of a word that goes on; a *phrase* is two beginnings in a row, the second a whole word. Pairs are
counted as the tokenizer splits the text, so every one of them is how that string is written. Axes: pair vocab token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64

from probekit.errors import DegenerateError
from probekit.text.concepts.vocabulary import read_vocabulary
from probekit.text.corpus import Corpus
from probekit.text.tokens import Progress

_BATCH = 512
"""Documents tokenized at a time."""
_BEGINS = re.compile(r" [a-z]{2,}")
_CONTINUES = re.compile(r"[a-z]+")
_PLAIN = re.compile(r" ?[a-z]+")
_LETTERS = re.compile(r"[A-Za-z]+")
_JOINING = "_-'’"
"""What goes on with a word beside letters and digits."""


@dataclass(frozen=True)
class PairCounts:
    """Token pairs of one kind."""

    first: Int64[np.ndarray, " pair"]
    """Ids of the first tokens."""
    second: Int64[np.ndarray, " pair"]
    """Ids of the second tokens."""
    n: Int64[np.ndarray, " pair"]
    """How often the pair occurs."""
    n_docs: Int64[np.ndarray, " pair"]
    """In how many documents."""


@dataclass(frozen=True)
class PairText:
    """A text as tokens, with what its pairs are."""

    ids: Int32[np.ndarray, " token"]
    """Token ids, documents one after the other, −1 behind each and twice at the end."""
    doc: Int32[np.ndarray, " token"]
    """Document of each token."""
    surfaces: tuple[str, ...]
    """What each vocabulary entry adds to the text."""
    strings: frozenset[str]
    """Every run of letters in the text, and every vocabulary entry that is letters, in lower case."""

    @cached_property
    def begins(self) -> Bool[np.ndarray, " vocab"]:
        """Whether an entry begins a lower-case word; one more for the separator, which does not."""
        return self._which(lambda surface: _BEGINS.fullmatch(surface) is not None)

    @cached_property
    def continues(self) -> Bool[np.ndarray, " vocab"]:
        """Whether an entry is lower-case letters that continue a word."""
        return self._which(lambda surface: _CONTINUES.fullmatch(surface) is not None)

    @cached_property
    def plain(self) -> Bool[np.ndarray, " vocab"]:
        """Whether an entry is lower-case letters, with or without a space before."""
        return self._which(lambda surface: _PLAIN.fullmatch(surface) is not None)

    @cached_property
    def joins(self) -> Bool[np.ndarray, " vocab"]:
        """Whether an entry goes on with the word before it, whatever it is made of."""
        return self._which(lambda surface: surface[:1].isalnum() or surface[:1] in tuple(_JOINING))

    def _which(self, holds: Any) -> Bool[np.ndarray, " vocab"]:
        # the separator −1 picks the last entry
        return np.array([*(holds(surface) for surface in self.surfaces), False])

    @cached_property
    def words(self) -> PairCounts:
        """Two-token words."""
        return self._counted(self._opens & ~self.joins[self.ids[2:]])

    @cached_property
    def openings(self) -> PairCounts:
        """First two tokens of words of two or more tokens."""
        return self._counted(self._opens)

    @cached_property
    def phrases(self) -> PairCounts:
        """Two whole words in a row, one token each."""
        both = self.begins[self.ids[:-2]] & self.begins[self.ids[1:-1]]
        return self._counted(both & ~self.joins[self.ids[2:]])

    @cached_property
    def attested(self) -> Int64[np.ndarray, " pair"]:
        """Every two tokens that stand in a row anywhere in the text, as sorted codes of `code`."""
        return np.unique(self.code(self.ids[:-1].astype(np.int64), self.ids[1:].astype(np.int64)))

    @cached_property
    def n_openings(self) -> dict[int, int]:
        """How often each opening occurs, by `code_of`."""
        found = self.openings
        return dict(zip(self.code(found.first, found.second).tolist(), found.n.tolist(), strict=True))

    def occurs(self, first: int, second: int) -> bool:
        """Whether two tokens stand in a row anywhere in the text."""
        wanted = self.code_of(first, second)
        place = int(np.searchsorted(self.attested, wanted))
        return place < len(self.attested) and int(self.attested[place]) == wanted

    def code(
        self, first: Int64[np.ndarray, " pair"], second: Int64[np.ndarray, " pair"]
    ) -> Int64[np.ndarray, " pair"]:
        """One number a pair; −1 where either is a separator."""
        return np.where((first >= 0) & (second >= 0), first * len(self.surfaces) + second, -1)

    def code_of(self, first: int, second: int) -> int:
        """The code of one pair."""
        return first * len(self.surfaces) + second

    @cached_property
    def _opens(self) -> Bool[np.ndarray, " token"]:
        return self.begins[self.ids[:-2]] & self.continues[self.ids[1:-1]]

    def _counted(self, where: Bool[np.ndarray, " token"]) -> PairCounts:
        places = np.flatnonzero(where)
        code = self.code(self.ids[places].astype(np.int64), self.ids[places + 1].astype(np.int64))
        found, which, n = np.unique(code, return_inverse=True, return_counts=True)
        n_docs_all = int(self.doc[-1]) + 1
        in_docs = np.unique(which.astype(np.int64) * n_docs_all + self.doc[places]) // n_docs_all
        n_docs = np.bincount(in_docs, minlength=len(found)).astype(np.int64)
        n_vocab = len(self.surfaces)
        return PairCounts(found // n_vocab, found % n_vocab, n.astype(np.int64), n_docs)


def read_pairs(
    corpus: Corpus, tokenizer: Any, *, max_tokens: int, progress: Progress | None = None
) -> PairText:
    """Tokenize the first documents of a corpus, up to `max_tokens` tokens and at least one document.

    Args:
        corpus: of texts.
        tokenizer: a `transformers` tokenizer.
        max_tokens: where to stop reading.
        progress: called with (tokens so far, max_tokens) now and then.

    Raises:
        DegenerateError: the corpus has no text.
        InputError: the corpus is one of tokens, or the tokenizer none.
    """
    vocabulary = read_vocabulary(tokenizer)
    parts: list[np.ndarray] = []
    docs: list[np.ndarray] = []
    strings = {
        surface.strip().lower() for surface in vocabulary.surfaces if _LETTERS.fullmatch(surface.strip())
    }
    n_tokens = n_docs = 0
    for texts in _batches(corpus.texts()):
        for row in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            parts.append(np.array([*row, -1], np.int32))
            docs.append(np.full(len(row) + 1, n_docs, np.int32))
            n_docs, n_tokens = n_docs + 1, n_tokens + len(row)
        for text in texts:
            strings.update(run.lower() for run in _LETTERS.findall(text))
        if progress is not None:
            progress(min(n_tokens, max_tokens), max_tokens)
        if n_tokens >= max_tokens:
            break
    if not n_tokens:
        raise DegenerateError(f"corpus {corpus.name!r} has no text; pass one that has some.")
    parts.append(np.array([-1], np.int32))
    docs.append(np.full(1, n_docs - 1, np.int32))
    return PairText(np.concatenate(parts), np.concatenate(docs), vocabulary.surfaces, frozenset(strings))


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def partners(pairs: PairCounts, n_vocab: int) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    """For each pair with how many different second tokens its first one occurs, and the other way round."""
    of_first = np.bincount(pairs.first, minlength=n_vocab)
    of_second = np.bincount(pairs.second, minlength=n_vocab)
    return of_first[pairs.first], of_second[pairs.second]
