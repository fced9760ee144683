"""Words, arms and contexts of a word grid keep their rule, and what cannot keep it is said."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from probekit.errors import DegenerateError, InputError
from probekit.text import grid_words
from probekit.text.corpus import Corpus
from probekit.text.grid_words import ARMS, SETS, GridWords, choose_grid
from probekit.text.word_pairs import PairText, partners, read_pairs

HEADS = [a + b for a, b in itertools.product("bdfglmnprst", "aeiou")]
TAILS = [a + b + c for (a, c), b in itertools.product(zip("kvwxzhjcq", "ntlmrnsbd", strict=True), "aeiou")]
WORDS = [f"{head}{tail}" for head, tail in zip(HEADS, TAILS, strict=False)]
"""Forty-five words of two tokens, none of which shares a token with another."""
LONGER = [f"{head}{tail}zu" for head, tail in zip(HEADS[-20:], reversed(TAILS[-20:]), strict=True)]
"""Twenty words of three tokens, the first two of which are never a word."""
FILLING = [
    "the",
    "of",
    "in",
    "value",
    "list",
    "holds",
    "when",
    "each",
    "small",
    "large",
    "of",
    "that",
    "gives",
    "names",
    "every",
    "first",
    "last",
    "next",
    "other",
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    entries = ["[UNK]", *sorted(set(FILLING)), ".", "##zu", *HEADS, *(f"##{tail}" for tail in TAILS)]
    model = models.WordPiece({entry: i for i, entry in enumerate(entries)}, unk_token="[UNK]")
    held = Tokenizer(model)
    held.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=held, unk_token="[UNK]")


@pytest.fixture(scope="module")
def text(tokenizer: Any) -> PairText:
    rng = np.random.default_rng(0)
    documents = []
    for index in range(260):
        middle = [
            *rng.choice(FILLING, 9),
            WORDS[index % 38],
            *rng.choice(FILLING, 2),
            rng.choice(LONGER),
            "the",
        ]
        documents.append(" ".join(middle) + " .")
    # the last seven words stand in two documents each
    for word in WORDS[38:]:
        documents += [f"{' '.join(rng.choice(FILLING, 8))} {word} ."] * 2
    return read_pairs(Corpus.from_texts(documents), tokenizer, max_tokens=10**6)


@pytest.fixture(scope="module")
def choose(text: PairText, tokenizer: Any) -> Callable[..., GridWords]:
    def make(**options: Any) -> GridWords:
        settings: dict[str, Any] = {
            "words": None,
            "contexts": 3,
            "n_words": 14,
            "seed": 0,
            "longest_context": 30,
        }
        return choose_grid(text, tokenizer, **(settings | options))

    return make


def test_pairs_are_counted_as_the_text_holds_them(text: PairText):
    """Against counting by hand on the strings."""
    joined = "".join(text.surfaces[i] if i >= 0 else "|" for i in text.ids)
    counts = text.words
    for index in range(0, len(counts.n), 5):
        word = text.surfaces[counts.first[index]] + text.surfaces[counts.second[index]]
        wanted = joined.count(f"{word} ") + joined.count(f"{word}|") + joined.count(f"{word}.")
        assert int(counts.n[index]) == wanted
        docs = sum(f"{word} " in doc or f"{word}." in doc or doc.endswith(word) for doc in joined.split("|"))
        assert int(counts.n_docs[index]) == docs
    first_two = text.surfaces[int(text.openings.first[0])]
    assert text.openings.n.sum() > counts.n.sum(), "longer words open with two tokens as well"
    assert first_two.startswith(" ")
    assert not text.occurs(0, 0)
    assert text.occurs(int(counts.first[0]), int(counts.second[0]))


def test_partners_count_the_different_ones(text: PairText):
    of_first, of_second = partners(text.words, len(text.surfaces))
    assert set(of_first) == {1}
    assert set(of_second) == {1}
    assert partners(text.phrases, len(text.surfaces))[0].max() > 10


def test_sets_keep_the_rule(choose: Callable[..., GridWords], text: PairText):
    grid = choose()
    assert set(grid.groups) == {*SETS, *(arm for arm in ARMS if arm in grid.groups)}
    words = [pair.text.strip() for name in SETS for pair in grid.groups[name]]
    assert len(words) == 28
    assert set(words) <= set(WORDS[:38]), "each is seen in four documents or more"
    tokens = [i for pairs in grid.groups.values() for pair in pairs for i in (pair.first, pair.second)]
    assert len(set(tokens)) == len(tokens), "no token twice, over all groups"
    for name in SETS:
        for one, other in itertools.permutations(grid.groups[name], 2):
            assert not text.occurs(one.first, other.second)
            assert one.pieces[0].strip() + other.pieces[1] not in text.strings
        assert grid.canonical[name].all(), "this tokenizer writes every cross as its two tokens"
        assert all(pair.n >= pair.n_docs >= 4 for pair in grid.groups[name])


def test_a_cross_that_is_a_word_keeps_two_words_apart(tokenizer: Any):
    """Positive control of the rule: the same words, but one cross stands in the text."""
    base = [f"the value of the list that {word} ." for word in WORDS[:26] for _ in range(5)]
    crossing = f"{HEADS[0]}{TAILS[1]}"
    apart = []
    for documents in (base, [*base, f"the small {crossing} ."]):
        held = read_pairs(Corpus.from_texts(documents), tokenizer, max_tokens=10**6)
        together = False
        for seed in range(6):
            grid = choose_grid(
                held,
                tokenizer,
                words=None,
                contexts=["the value of"],
                n_words=13,
                seed=seed,
                longest_context=9,
                arms=False,
            )
            sets = [{pair.text.strip() for pair in grid.groups[name]} for name in SETS]
            together |= any({WORDS[0], WORDS[1]} <= chosen for chosen in sets)
        apart.append(not together)
    assert apart == [False, True]


def test_the_same_seed_gives_the_same_and_another_does_not(choose: Callable[..., GridWords]):
    first, again, other = choose(seed=3), choose(seed=3), choose(seed=4)
    assert first.groups == again.groups
    assert first.contexts == again.contexts
    assert first.groups["A"] != other.groups["A"]


def test_arms_are_what_they_say(
    choose: Callable[..., GridWords], text: PairText, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(grid_words, "MIN_WORDS", 5)
    grid = choose(n_words=13, seed=1)
    assert {pair.text.strip() for pair in grid.groups["rare"]} <= set(WORDS[38:])
    assert all(pair.n_docs == 2 for pair in grid.groups["rare"])
    whole = set(WORDS)
    for pair in grid.groups["matched"]:
        assert pair.text.strip() not in whole
        assert any(longer.startswith(pair.text.strip()) for longer in LONGER)
    counts = np.array([pair.n for pair in grid.groups["matched"]])
    of_words = np.array([pair.n for pair in grid.groups["A"]])
    assert 1 / 3 < np.median(counts) / np.median(of_words) < 3
    assert not {"matched", "rare", "phrases"} & set(choose(arms=False).groups)


def test_an_arm_that_cannot_be_filled_is_left_out_with_a_note(choose: Callable[..., GridWords]):
    grid = choose()
    assert "rare" not in grid.groups
    assert any(
        "Arm 'rare' was left out: " in note and "fulfil its rule, wanted 12." in note for note in grid.notes
    )


def test_contexts_are_beginnings_that_a_word_may_follow(choose: Callable[..., GridWords], text: PairText):
    grid = choose(contexts=5)
    in_grid = {i for pairs in grid.groups.values() for pair in pairs for i in (pair.first, pair.second)}
    assert len({ids[-1] for ids in grid.contexts}) == 5
    documents = {
        tuple(part)
        for part in np.split(text.ids, np.flatnonzero(text.ids < 0) + 1)
        for part in [part.tolist()]
    }
    for ids, written in zip(grid.contexts, grid.context_texts, strict=True):
        assert 6 <= len(ids) <= 12
        assert not set(ids) & in_grid
        assert any(document[: len(ids)] == ids for document in documents)
        assert written.strip().replace(" ", "").isalpha()
    given = choose(contexts=["the value of", "each list in the"])
    assert given.context_texts == (" the value of", " each list in the")


def test_given_words_are_used_and_others_are_named(choose: Callable[..., GridWords]):
    grid = choose(words=[*WORDS[:26], "value", LONGER[0], WORDS[0]], n_words=13)
    chosen = {pair.text.strip() for name in SETS for pair in grid.groups[name]}
    assert chosen == set(WORDS[:26])
    assert any(f"value (1), {LONGER[0]} (3)" in note for note in grid.notes)
    smaller = choose(words=WORDS[:24], n_words=40)
    assert len(smaller.groups["A"]) == 12
    assert "Each word set has 12 words, not 40: no more fulfil the rule." in smaller.notes


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"words": WORDS[:20]},
            DegenerateError,
            r"words: only 10 a set could be chosen .* wanted at least 12",
        ),
        ({"words": "lantern"}, InputError, "words: got one string, wanted a list"),
        (
            {"words": ["two words"]},
            InputError,
            "words: entry 0 is 'two words', wanted one word without spaces",
        ),
        ({"contexts": "the value"}, InputError, "contexts: wanted a number, or a list of strings"),
        ({"contexts": []}, InputError, "contexts: the list is empty"),
        (
            {"contexts": ["the " * 40]},
            InputError,
            "has 40 tokens, and the model's context leaves 30; shorten it",
        ),
        (
            {"contexts": 500},
            DegenerateError,
            r"contexts: \d+ beginnings of documents can be used, wanted 500",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(
    choose: Callable[..., GridWords], options: dict[str, Any], kind: type[Exception], message: str
):
    with pytest.raises(kind, match=message):
        choose(**options)


def test_a_text_without_words_is_refused(tokenizer: Any):
    with pytest.raises(DegenerateError, match="has no text"):
        read_pairs(Corpus.from_texts([""]), tokenizer, max_tokens=10)
    short = read_pairs(Corpus.from_texts(["the value of the list ."]), tokenizer, max_tokens=10)
    with pytest.raises(DegenerateError, match=r"words: only 0 a set .* Give a larger corpus, or words="):
        choose_grid(short, tokenizer, words=None, contexts=1, n_words=12, seed=0, longest_context=9)
