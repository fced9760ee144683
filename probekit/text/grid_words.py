"""Which words, other pairs and contexts a word grid is made of, by a stated rule and a seed.

*Words*: two-token words of the text, of `MIN_LETTERS` letters or more, seen in `MIN_DOCS` documents or more, neither
token of which is an affix (in `MOST_PARTNERS` different two-token words or more there are too many crosses that might be
words), in an order drawn by the seed. A word joins a set if its two tokens are new to both sets and no cross of it with
the set is attested: neither as two tokens in a row anywhere in the text, nor as a run of letters in it, nor as an entry
of the vocabulary. *Rare words* are seen in `RARE_DOCS` documents. *Pieces* are the first two tokens of longer words,
hardly ever a word by themselves, each taken because it occurs about as often as one of the words: crosses of a prefix and
a suffix, no words, matched in how often the pair is seen. *Phrases* are the most frequent pairs of two whole words.
*Contexts* are the beginnings of documents, cut where the text goes on with a lower-case word. Axes: word.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from probekit.errors import DegenerateError, InputError
from probekit.text.word_pairs import PairCounts, PairText, partners

MIN_LETTERS = 5
"""Letters of a word, at least."""
MIN_PIECE = 2
"""Letters of each of its tokens, at least."""
MIN_DOCS = 4
"""Documents in which a word is seen, at least."""
RARE_DOCS = 2
"""Documents in which a rare word is seen: in one alone stand most misspellings."""
MOST_PARTNERS = 12
"""A token that meets as many others in two-token words is an affix."""
WHOLE_SHARE = 0.05
"""A piece is a whole word in at most this share of its occurrences."""
CROSS_SHARE = 0.02
"""A cross of two phrases occurs at most this often relative to the rarer of the two."""
MIN_WORDS = 12
"""Fewest words of a set, or pairs of an arm: with fewer, single words decide."""
CONTEXT_TOKENS = (6, 12)
"""Fewest and most tokens of a context, without the start mark."""
SETS = ("A", "B")
ARMS = ("rare", "matched", "phrases")

Kind = Literal["word", "rare", "matched", "phrases"]


@dataclass(frozen=True)
class TokenPair:
    """Two tokens in a row."""

    text: str
    """What they spell together."""
    first: int
    """Id of the first token."""
    second: int
    """Id of the second token."""
    pieces: tuple[str, str]
    """What each of them spells."""
    n: int = 0
    """How often they stand in a row in the text."""
    n_docs: int = 0
    """In how many documents they are this kind of pair."""


@dataclass(frozen=True)
class GridWords:
    """What a word grid is made of."""

    groups: dict[str, tuple[TokenPair, ...]]
    """The word sets "A" and "B", of one size, and the arms that could be filled."""
    contexts: tuple[tuple[int, ...], ...]
    """Token ids of each context, without the start mark."""
    context_texts: tuple[str, ...]
    """The same as text."""
    canonical: dict[str, np.ndarray]
    """For each group, bool[first second]: whether the tokenizer writes that cross as these two tokens."""
    notes: tuple[str, ...] = field(default=())
    """What could not be had as asked."""


def choose_grid(
    text: PairText,
    tokenizer: Any,
    *,
    words: Sequence[str] | None,
    contexts: int | Sequence[str],
    n_words: int,
    seed: int,
    longest_context: int,
    arms: bool = True,
) -> GridWords:
    """Choose two word sets, the arms and the contexts.

    Args:
        text: where words, frequencies and contexts come from.
        tokenizer: a `transformers` tokenizer.
        words: words to use instead of those of the text, assigned to the sets in a random order (`seed`); None for the rule.
        contexts: how many to take from the text, or the contexts themselves.
        n_words: size of each set and arm, at most.
        seed: of the order in which candidates are tried.
        longest_context: tokens a context may have.
        arms: whether to fill the arms as well.

    Raises:
        DegenerateError: there are too few words or contexts.
        InputError: a word or context cannot be used.
    """
    rng = np.random.default_rng([seed, 29])
    crosses = _Crosses(text)
    notes: list[str] = []
    candidates = _word_candidates(text, rng) if words is None else _given(words, tokenizer, text, notes)
    if words is not None:
        rng.shuffle(candidates)  # pyright: ignore[reportArgumentType]
    sets, used = _deal(candidates, n_words, crosses)
    size = min(len(chosen) for chosen in sets.values())
    if size < MIN_WORDS:
        raise DegenerateError(
            f"words: only {size} a set could be chosen (two sets; both tokens of every word new, no cross a word), wanted "
            f"at least {MIN_WORDS}. {'Give more words' if words is not None else 'Give a larger corpus, or words='}; a "
            "usable word has exactly two tokens after a space."
        )
    if size < n_words:
        notes.append(f"Each word set has {size} words, not {n_words}: no more fulfil the rule.")
    groups = {name: tuple(chosen[:size]) for name, chosen in sets.items()}
    for name in ARMS if arms else ():
        found = _arm(name, text, groups["A"], size, used, crosses, rng)
        if len(found) < MIN_WORDS:
            notes.append(
                f"Arm {name!r} was left out: {len(found)} pairs fulfil its rule, wanted {MIN_WORDS}."
            )
        else:
            groups[name] = tuple(found)
    chosen_contexts = (
        _contexts(text, contexts, longest_context, groups, np.random.default_rng([seed, 30]))
        if isinstance(contexts, int)
        else _given_contexts(contexts, tokenizer, longest_context)
    )
    canonical = {name: _canonical(pairs, tokenizer) for name, pairs in groups.items()}
    texts = tuple("".join(text.surfaces[i] for i in ids) for ids in chosen_contexts)
    return GridWords(groups, chosen_contexts, texts, canonical, tuple(notes))


# -------------------------------------------------------------------------------- candidates


@dataclass(frozen=True)
class _Crosses:
    """What decides whether two pairs may stand in one grid."""

    text: PairText

    def clash(self, one: TokenPair, other: TokenPair) -> bool:
        """Whether a cross of two words is attested."""
        return any(
            self.text.occurs(a.first, b.second) or (a.pieces[0].strip() + b.pieces[1]) in self.text.strings
            for a, b in ((one, other), (other, one))
        )


def _pair(text: PairText, counts: PairCounts, index: int) -> TokenPair:
    first, second = int(counts.first[index]), int(counts.second[index])
    pieces = (text.surfaces[first], text.surfaces[second])
    return TokenPair("".join(pieces), first, second, pieces, int(counts.n[index]), int(counts.n_docs[index]))


def _plain_words(text: PairText, least: int, most: int) -> list[TokenPair]:
    """Two-token words without affixes, by the documents they are seen in."""
    counts = text.words
    n_of = text.n_openings
    of_first, of_second = partners(counts, len(text.surfaces))
    fits = (of_first < MOST_PARTNERS) & (of_second < MOST_PARTNERS)
    fits &= (counts.n_docs >= least) & (counts.n_docs <= most)
    pairs = [_pair(text, counts, int(index)) for index in np.flatnonzero(fits)]
    return [
        # how often the two tokens stand in a row, in longer words too
        replace(pair, n=n_of[text.code_of(pair.first, pair.second)])
        for pair in pairs
        if len(pair.text.strip()) >= MIN_LETTERS
        and min(len(pair.pieces[0].strip()), len(pair.pieces[1])) >= MIN_PIECE
    ]


def _word_candidates(text: PairText, rng: np.random.Generator) -> list[TokenPair]:
    pairs = _plain_words(text, MIN_DOCS, len(text.ids))
    return [pairs[index] for index in rng.permutation(len(pairs))]


def _given(words: Sequence[Any], tokenizer: Any, text: PairText, notes: list[str]) -> list[TokenPair]:
    """A caller's words as token pairs; those that are not two tokens are named and left out."""
    if isinstance(words, str):
        raise InputError("words: got one string, wanted a list of words such as ['lantern', 'tadpole'].")
    held = list(words)
    for index, word in enumerate(held):
        if not isinstance(word, str) or not word.strip() or len(word.split()) != 1:
            raise InputError(f"words: entry {index} is {word!r}, wanted one word without spaces.")
    held = [word.strip() for word in held]
    pairs: list[TokenPair] = []
    others: list[str] = []
    rows = tokenizer([f" {word}" for word in held], add_special_tokens=False)["input_ids"] if held else []
    for word, ids in zip(held, rows, strict=True):
        if len(ids) != 2:
            others.append(f"{word} ({len(ids)})")
            continue
        first, second = (int(i) for i in ids)
        pieces = (text.surfaces[first], text.surfaces[second])
        n = text.n_openings.get(text.code_of(first, second), 0)
        pairs.append(TokenPair(f" {word}", first, second, pieces, n, 0))
    if others:
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        notes.append(
            f"{len(others)} of {len(held)} words given are not two tokens (number of tokens in brackets): "
            f"{', '.join(others[:8])}{more}."
        )
    return pairs


def _deal(
    candidates: Sequence[TokenPair], n_words: int, crosses: _Crosses
) -> tuple[dict[str, list[TokenPair]], set[int]]:
    """Fill both sets in turn; the tokens used."""
    sets: dict[str, list[TokenPair]] = {name: [] for name in SETS}
    used: set[int] = set()
    for pair in candidates:
        if pair.first in used or pair.second in used or pair.first == pair.second:
            continue
        for name in sorted(SETS, key=lambda name: len(sets[name])):
            if len(sets[name]) < n_words and not any(crosses.clash(pair, other) for other in sets[name]):
                sets[name].append(pair)
                used |= {pair.first, pair.second}
                break
        if all(len(chosen) == n_words for chosen in sets.values()):
            break
    return sets, used


def _arm(
    name: str,
    text: PairText,
    words: Sequence[TokenPair],
    size: int,
    used: set[int],
    crosses: _Crosses,
    rng: np.random.Generator,
) -> list[TokenPair]:
    if name == "rare":
        pairs = _plain_words(text, RARE_DOCS, RARE_DOCS)
        return _take((pairs[i] for i in rng.permutation(len(pairs))), size, used, crosses.clash)
    if name == "matched":
        return _matched(text, words, size, used, crosses)
    return _phrases(text, size, used)


def _take(candidates: Iterator[TokenPair], size: int, used: set[int], clash: Any) -> list[TokenPair]:
    """The first pairs whose tokens are new and that clash with none taken before."""
    taken: list[TokenPair] = []
    tokens = set(used)
    for pair in candidates:
        if len(taken) == size:
            break
        if pair.first in tokens or pair.second in tokens or pair.first == pair.second:
            continue
        if any(clash(pair, other) for other in taken):
            continue
        taken.append(pair)
        tokens |= {pair.first, pair.second}
    return taken


def _matched(
    text: PairText, words: Sequence[TokenPair], size: int, used: set[int], crosses: _Crosses
) -> list[TokenPair]:
    """For one word after the other the piece that occurs most nearly as often."""
    openings, whole = text.openings, text.words
    as_word = dict(zip(text.code(whole.first, whole.second).tolist(), whole.n.tolist(), strict=True))
    codes = text.code(openings.first, openings.second).tolist()
    n_whole = np.array([as_word.get(code, 0) for code in codes])
    fits = np.flatnonzero((n_whole <= WHOLE_SHARE * openings.n) & (openings.n_docs >= MIN_DOCS))
    pool = [_pair(text, openings, int(index)) for index in fits]
    pool = [p for p in pool if min(len(p.pieces[0].strip()), len(p.pieces[1])) >= MIN_PIECE]
    taken: list[TokenPair] = []
    tokens = set(used)
    for word in words:
        if len(taken) == size:
            break
        nearest = sorted(pool, key=lambda p, n=word.n: abs(math.log(p.n / max(n, 1))))
        for pair in nearest:
            if pair.first in tokens or pair.second in tokens or pair.first == pair.second:
                continue
            if not any(crosses.clash(pair, other) for other in taken):
                taken.append(pair)
                tokens |= {pair.first, pair.second}
                break
    return taken


def _phrases(text: PairText, size: int, used: set[int]) -> list[TokenPair]:
    """The most frequent phrases whose crosses are rare beside them."""
    counts = text.phrases
    n_of = dict(zip(text.code(counts.first, counts.second).tolist(), counts.n.tolist(), strict=True))

    def clash(one: TokenPair, other: TokenPair) -> bool:
        most = CROSS_SHARE * min(one.n, other.n)
        return any(
            n_of.get(text.code_of(a.first, b.second), 0) > most for a, b in ((one, other), (other, one))
        )

    order = np.argsort(-counts.n, kind="stable")
    return _take((_pair(text, counts, int(i)) for i in order), size, used, clash)


# -------------------------------------------------------------------------------- contexts


def _contexts(
    text: PairText,
    n_contexts: int,
    longest: int,
    groups: dict[str, tuple[TokenPair, ...]],
    rng: np.random.Generator,
) -> tuple[tuple[int, ...], ...]:
    """Beginnings of documents that end in different words, cut before a lower-case word."""
    least, most = CONTEXT_TOKENS[0], min(CONTEXT_TOKENS[1], longest)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(text.doc)) + 1])
    in_grid = {i for pairs in groups.values() for pair in pairs for i in (pair.first, pair.second)}
    taken: list[tuple[int, ...]] = []
    ends: set[int] = set()
    for start in starts[rng.permutation(len(starts))]:
        row = text.ids[start : start + most + 1]
        stop = np.flatnonzero(row < 0)
        row = row[: stop[0]] if len(stop) else row
        # the last token is a whole word, and the text goes on with another
        for length in range(min(most, len(row) - 1), least - 1, -1):
            last, following = int(row[length - 1]), int(row[length])
            ids = tuple(int(i) for i in row[:length])
            if not (text.begins[last] and text.begins[following]) or last in ends or in_grid & set(ids):
                continue
            # plain prose on one line: a first word, then lower-case words
            if not (text.surfaces[ids[0]].strip().isalpha() and text.plain[list(ids[1:])].all()):
                continue
            taken.append(ids)
            ends.add(last)
            break
        if len(taken) == n_contexts:
            return tuple(taken)
    raise DegenerateError(
        f"contexts: {len(taken)} beginnings of documents can be used, wanted {n_contexts}; give a larger corpus, or the "
        "contexts themselves as a list of strings."
    )


def _given_contexts(contexts: Sequence[Any], tokenizer: Any, longest: int) -> tuple[tuple[int, ...], ...]:
    if isinstance(contexts, str) or not all(isinstance(context, str) for context in contexts):
        raise InputError("contexts: wanted a number, or a list of strings.")
    held = list(contexts)
    if not held or not all(context.strip() for context in held):
        raise InputError(
            "contexts: the list is empty or holds an empty one; give texts that words may follow."
        )
    rows = tokenizer(held, add_special_tokens=False)["input_ids"]
    for context, row in zip(held, rows, strict=True):
        if len(row) > longest:
            raise InputError(
                f"contexts: {context[:40]!r} has {len(row)} tokens, and the model's context leaves {longest}; shorten it."
            )
    return tuple(tuple(int(i) for i in row) for row in rows)


def _canonical(pairs: Sequence[TokenPair], tokenizer: Any) -> np.ndarray:
    crosses = [(a.first, b.second, a.pieces[0] + b.pieces[1]) for a in pairs for b in pairs]
    rows = tokenizer([written for _, _, written in crosses], add_special_tokens=False)["input_ids"]
    same = [list(row) == [first, second] for row, (first, second, _) in zip(rows, crosses, strict=True)]
    return np.array(same).reshape(len(pairs), len(pairs))
