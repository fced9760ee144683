"""Corpora become token blocks by one set of rules, and what cannot be used is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.errors import DegenerateError, InputError, ShapeError
from probekit.text.corpus import Corpus, as_corpus
from probekit.text.tokens import Tokens


class Letters:
    """One id a character, counted from `a`; notes what it was asked to do."""

    def __init__(self) -> None:
        self.n_texts = 0

    def __call__(
        self, texts: list[str], *, add_special_tokens: bool, **_: object
    ) -> dict[str, list[list[int]]]:
        assert not add_special_tokens
        self.n_texts += len(texts)
        return {"input_ids": [[ord(letter) - 97 for letter in text] for text in texts]}


def tokens_of(
    texts: list[str], *, context: int = 6, max_tokens: int = 1_000, bos_id: int | None = 99
) -> Tokens:
    return Corpus.from_texts(texts).tokenize(Letters(), context=context, max_tokens=max_tokens, bos_id=bos_id)


def test_one_document_a_row_cut_padded_and_bos_first() -> None:
    tokens = tokens_of(["abc", "abcdefgh", "", "b"], context=5)
    assert tokens.ids.tolist() == [[99, 0, 1, 2, -1], [99, 0, 1, 2, 3], [99, 1, -1, -1, -1]]
    assert tokens.lengths.tolist() == [4, 5, 2]
    assert (tokens.n_docs, tokens.n_tokens, tokens.name) == (3, 8, "texts")
    assert tokens.counted.tolist() == [[0, 1, 1, 1, 0], [0, 1, 1, 1, 1], [0, 1, 0, 0, 0]]
    assert tokens.doc_of_token.tolist() == [0, 0, 0, 1, 1, 1, 1, 2]
    assert tokens.pos_of_token.tolist() == [1, 2, 3, 1, 2, 3, 4, 1]


def test_without_a_bos_every_position_counts() -> None:
    tokens = tokens_of(["abc", "b"], bos_id=None)
    assert tokens.ids.tolist() == [[0, 1, 2], [1, -1, -1]]
    assert tokens.n_tokens == 4
    assert tokens.pos_of_token.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("max_tokens", "n_docs"), [(1, 1), (3, 1), (5, 1), (6, 2), (8, 2), (9, 3), (1_000, 3)]
)
def test_documents_are_taken_until_the_next_would_exceed_max_tokens(max_tokens: int, n_docs: int) -> None:
    assert tokens_of(["abc", "abc", "abc"], max_tokens=max_tokens).n_docs == n_docs


def test_texts_are_read_and_tokenized_lazily() -> None:
    read: list[int] = []

    def source():
        for index in range(10_000):
            read.append(index)
            yield "abc"

    tokenizer = Letters()
    corpus = Corpus("long", source)
    corpus.tokenize(tokenizer, context=8, max_tokens=30, bos_id=None)
    assert len(read) == tokenizer.n_texts < 1_000
    assert next(corpus.texts()) == "abc"


def test_half_a_character_is_replaced(all_tokenizers) -> None:
    tokenizer = all_tokenizers["byte-level"]
    broken, mended = (
        Corpus.from_texts([text]).tokenize(tokenizer, context=32, max_tokens=99, bos_id=None)
        for text in ("a \ud83d b", "a \ufffd b")
    )
    assert broken.fingerprint == mended.fingerprint


def test_progress_ends_at_the_goal() -> None:
    seen: list[tuple[int, int]] = []
    Corpus.from_texts(["abc"] * 600).tokenize(
        Letters(),
        context=8,
        max_tokens=10_000,
        bos_id=None,
        progress=lambda done, goal: seen.append((done, goal)),
    )
    assert seen == [(768, 10_000), (1_536, 10_000), (10_000, 10_000)]


def test_given_tokens_are_used_as_they_are() -> None:
    given_ids = np.array([[7, 1, 2, 3], [7, 4, -5, -1]])
    with_bos = Corpus.from_tokens(given_ids).tokenize(None, context=3, max_tokens=99, bos_id=7)
    assert with_bos.ids.tolist() == [[7, 1, 2], [7, 4, -1]]
    assert (with_bos.bos_id, with_bos.n_tokens) == (7, 3)
    without = Corpus.from_tokens(given_ids).tokenize(None, context=4, max_tokens=99, bos_id=8)
    assert (without.bos_id, without.n_tokens) == (None, 6)
    assert without.ids.tolist() == [[7, 1, 2, 3], [7, 4, -1, -1]]


def test_given_tokens_may_be_a_torch_tensor() -> None:
    torch = pytest.importorskip("torch")
    block = Corpus.from_tokens(torch.tensor([[1, 2], [3, -1]])).tokenize(
        None, context=9, max_tokens=9, bos_id=None
    )
    assert block.ids.tolist() == [[1, 2], [3, -1]]


def test_rows_without_a_counted_token_are_dropped() -> None:
    rows = np.array([[7, -1], [7, 3], [7, -1]])
    assert Corpus.from_tokens(rows).tokenize(None, context=2, max_tokens=9, bos_id=7).ids.tolist() == [[7, 3]]


ROWS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=7), min_size=1, max_size=6)


def block(rows: list[list[int]], n_pad: int = 0, bos_id: int | None = None) -> Tokens:
    ids = np.full((len(rows), max(map(len, rows)) + n_pad), -1, dtype=np.int32)
    for row, wanted in zip(ids, rows, strict=True):
        row[: len(wanted)] = wanted
    return Tokens(ids, np.array([len(row) for row in rows]), bos_id, "rows")


@given(ROWS, st.integers(0, 5))
def test_the_fingerprint_ignores_padding_and_nothing_else(rows: list[list[int]], n_pad: int) -> None:
    tokens = block(rows)
    assert block(rows, n_pad).fingerprint == tokens.fingerprint
    assert block([*rows, [1]]).fingerprint != tokens.fingerprint
    changed = [[(rows[0][0] + 1) % 10, *rows[0][1:]], *rows[1:]]
    assert block(changed).fingerprint != tokens.fingerprint
    with_bos = [[3, *row] for row in rows]
    assert block(with_bos, bos_id=3).fingerprint != block(with_bos).fingerprint


@given(ROWS)
def test_counted_tokens_come_in_document_order(rows: list[list[int]]) -> None:
    tokens = block([[8, *row] for row in rows], n_pad=1, bos_id=8)
    assert tokens.ids[tokens.doc_of_token, tokens.pos_of_token].tolist() == [i for row in rows for i in row]
    assert tokens.n_tokens == sum(map(len, rows)) == len(tokens.doc_of_token)
    assert (tokens.ids[tokens.counted] >= 0).all()
    assert not tokens.counted[:, 0].any()


def test_where_documents_are_cut_does_not_depend_on_the_neighbours(tokenizer, generated) -> None:
    texts = generated(60, seed=5)
    together = Corpus.from_texts(texts).tokenize(tokenizer, context=40, max_tokens=10**6, bos_id=None)
    for row, text in enumerate(texts[:20]):
        alone = Corpus.from_texts([text]).tokenize(tokenizer, context=40, max_tokens=10**6, bos_id=None)
        assert alone.ids[0].tolist() == together.ids[row, : together.lengths[row]].tolist()


def test_the_docs_corpus_is_the_same_each_time_and_split_in_two() -> None:
    corpus = Corpus.docs()
    first, again, train = corpus.texts(), corpus.texts(), Corpus.docs("train").texts()
    texts = [next(first) for _ in range(30)]
    assert texts == [next(again) for _ in range(30)]
    assert not set(texts) & {next(train) for _ in range(30)}
    assert len(corpus.cache_key or "") == 32
    assert corpus.cache_key != Corpus.docs("train").cache_key
    assert (corpus.name, Corpus.from_texts(["x"]).cache_key) == ("docs:heldout", None)


def test_cached_texts_take_the_place_of_slow_ones() -> None:
    cached = Corpus.docs().with_texts(["abc", "de"])
    assert list(cached.texts()) == list(cached.texts()) == ["abc", "de"]
    assert cached.cache_key == Corpus.docs().cache_key
    assert list(cached.with_texts(lambda: iter("xy")).texts()) == ["x", "y"]


def test_as_corpus_knows_what_is_meant(tmp_path) -> None:
    stories = tmp_path / "stories.txt"
    stories.write_text("<|endoftext|>".join(f"story {i}" for i in range(25)))
    corpus = Corpus.from_texts(["x"])
    assert as_corpus(corpus) is corpus
    assert as_corpus(None).name == as_corpus("docs").name == "docs:heldout"
    assert as_corpus(str(stories)).name == as_corpus(stories).name == "stories.txt"
    for missing in ("nowhere.jsonl", tmp_path / "nothing"):
        with pytest.raises(
            InputError, match="does not exist; pass the path of a text, jsonl or parquet file"
        ):
            as_corpus(missing)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Corpus.from_texts([]), DegenerateError, "the list is empty"),
        (lambda: Corpus.from_texts("one string"), InputError, "got one string, wanted a list of documents"),
        (lambda: Corpus.from_texts(["a", 3]), InputError, "document 1 is a int, wanted a str"),
        (lambda: tokens_of(["", ""]), DegenerateError, "'texts' has no document with a counted token"),
        (lambda: tokens_of(["a"], context=1), InputError, "context=1 leaves no room for a counted token"),
        (lambda: tokens_of(["a"], max_tokens=0), InputError, "max_tokens=0, wanted at least 1"),
        (
            lambda: Corpus.from_texts(["a"]).tokenize(None, context=4, max_tokens=4, bos_id=None),
            InputError,
            "holds text but the model has no tokenizer",
        ),
        (
            lambda: Corpus.from_tokens([1, 2]),
            ShapeError,
            r"got shape \(2,\) of int64, wanted an integer array",
        ),
        (
            lambda: Corpus.from_tokens(np.ones((2, 2))),
            ShapeError,
            r"of float64, wanted an integer array \[doc, pos\]",
        ),
        (lambda: Corpus.from_tokens(np.ones((0, 2), int)), DegenerateError, "the array is empty"),
        (lambda: Corpus.from_tokens([[1, -1, 2]]), InputError, "row 0 has padding before a token"),
        (
            lambda: Corpus.from_tokens([[2**40]]),
            InputError,
            "largest id 1099511627776, wanted at most 2147483647",
        ),
        (lambda: Corpus.from_tokens([[1]]).texts(), InputError, "was made from tokens and has no texts"),
        (lambda: Corpus.docs("dev"), InputError, "split 'dev' is unknown, wanted 'train' or 'heldout'"),
        (
            lambda: Tokens(np.zeros((1, 3), np.int32), np.array([2]), None, "x"),
            ShapeError,
            "wanted ids ≥ 0 within each row's length and -1 after",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(make, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        make()
    assert type(caught.value) is error
