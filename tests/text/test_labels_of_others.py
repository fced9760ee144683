"""Labels that somebody else gives: of another corpus of the same name, of a block of the user's, of a subclass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import probekit as pk
from probekit.errors import InputError, ShapeError
from probekit.text.concepts.blocks import Column
from probekit.text.corpus import as_corpus
from probekit.text.tokens import Tokens

WORDS = "the cat sat on a mat and then it saw that dog".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from probekit.model.folder import NANO_FOLDER, read_tokenizer

    return read_tokenizer(NANO_FOLDER)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 30)) for _ in range(20)]
    return pd.DataFrame({"text": texts, "lang": ["de" if place % 2 else "en" for place in range(20)]})


def read(corpus: Any, tokenizer: Any) -> Tokens:
    return as_corpus(corpus).tokenize(tokenizer, context=40, max_tokens=5_000, bos_id=0)


class TestColumns:
    """Every data frame is called DataFrame, so a corpus is told by its texts and not by its name."""

    @pytest.mark.parametrize("how", ["filtered", "shuffled", "shorter"])
    def test_of_another_table(self, how: str, table: pd.DataFrame, tokenizer: Any) -> None:
        concepts = pk.Concepts.from_column(as_corpus(table), "lang")
        other = {
            "filtered": table[table.lang == "en"],
            "shuffled": table.sample(frac=1, random_state=0),
            "shorter": table.iloc[1:],
        }[how]
        with pytest.raises(
            InputError, match=r"labels the documents of another corpus that is called 'DataFrame': document"
        ):
            concepts.label(read(other, tokenizer))

    def test_of_the_same(self, table: pd.DataFrame, tokenizer: Any) -> None:
        """As long as the documents are the same it does not matter how many of them are read, or in which object."""
        concepts = pk.Concepts.from_column(as_corpus(table), "lang")
        labels = concepts.label(read(table.copy(), tokenizer))
        assert {int(doc) % 2 for doc in labels.doc[labels.where("doc:lang=de")]} == {1}
        assert {int(doc) % 2 for doc in labels.doc[labels.where("doc:lang=en")]} == {0}
        assert len(concepts.label(read(table.iloc[:7], tokenizer)).doc) < labels.n_tokens

    def test_documents_without_a_token_that_counts_are_passed_over(
        self, table: pd.DataFrame, tokenizer: Any
    ) -> None:
        gaps = pd.concat([pd.DataFrame({"text": [""], "lang": ["fr"]}), table], ignore_index=True)
        labels = pk.Concepts.from_column(as_corpus(gaps), "lang", values=["en"]).label(read(gaps, tokenizer))
        assert {int(doc) % 2 for doc in labels.doc[labels.where("doc:lang=en")]} == {0}


class Given:
    """A block of the user's that says what it was given."""

    columns = (Column("x", "user", 0, "x"), Column("y", "user", 0, "y"))

    def __init__(self, found: Any) -> None:
        self.found = found

    def label(self, tokens: Tokens) -> Any:
        return self.found(tokens.n_tokens)


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "a mask": (
        lambda n: [np.arange(n) % 2 == 0] * 2,
        ShapeError,
        r"of bool, wanted the places .*np\.flatnonzero",
    ),
    "unsorted": (
        lambda n: [np.array([5, 3]), np.array([1])],
        InputError,
        "'x'.*each once, in ascending order",
    ),
    "twice": (lambda n: [np.array([1]), np.array([3, 3])], InputError, "'y'.*each once, in ascending order"),
    "negative": (lambda n: [np.array([-1, 3]), np.array([1])], InputError, "gave places from -1 to 3"),
    "beyond": (lambda n: [np.array([n]), np.array([1])], InputError, "wanted each once.*from 0 to"),
    "floats": (lambda n: [np.array([0.5]), np.array([1])], ShapeError, "of float64, wanted the places"),
    "one column": (
        lambda n: [np.array([0])],
        InputError,
        r"gave 1 entries, wanted a list with one array a column \(2\)",
    ),
    "no list": (lambda n: np.zeros((2, 3), int), InputError, "gave a ndarray, wanted a list"),
    "an error": (lambda n: 1 // 0, InputError, "label` raised ZeroDivisionError"),
}


class TestBlocks:
    @pytest.mark.parametrize("what", WRONG)
    @pytest.mark.parametrize("settled", [True, False], ids=["settled", "asked"])
    def test_what_is_no_list_of_places(
        self, what: str, settled: bool, table: pd.DataFrame, tokenizer: Any
    ) -> None:
        found, error, message = WRONG[what]
        tokens, concepts = read(table, tokenizer), pk.Concepts((Given(found),))
        with pytest.raises(error, match=message):
            (concepts.settled(lambda: tokens) if settled else concepts).label(tokens)

    def test_places(self, table: pd.DataFrame, tokenizer: Any) -> None:
        """Of any kind of whole number, and none at all."""
        tokens = read(table, tokenizer)
        concepts = pk.Concepts((Given(lambda n: (np.array([0, n - 1], np.uint64), [])),))
        labels = concepts.settled(lambda: tokens).label(tokens)
        assert labels.where("x").tolist() == [0, tokens.n_tokens - 1]
        assert labels.where("y").tolist() == []


class TestSubclasses:
    def test_labels_of_its_own_are_not_passed_over(self, table: pd.DataFrame, tokenizer: Any) -> None:
        class Mine(pk.Concepts):
            def label(self, tokens: Tokens) -> Any:
                raise AssertionError("nobody asks")

        concepts = Mine(pk.Concepts.from_vocab({"a": np.arange(2_048) % 2 == 0}).blocks)
        with pytest.raises(InputError, match="Mine has a `label` of its own, which nobody would ask"):
            concepts.settled(lambda: read(table, tokenizer))

    def test_a_further_way_to_make_them_is_welcome(self, table: pd.DataFrame, tokenizer: Any) -> None:
        class Mine(pk.Concepts):
            @classmethod
            def even(cls) -> Any:
                return cls(pk.Concepts.from_vocab({"a": np.arange(2_048) % 2 == 0}).blocks)

        tokens = read(table, tokenizer)
        settled = Mine.even().settled(lambda: tokens)
        assert settled.label(tokens).where("a").tolist() == Mine.even().label(tokens).where("a").tolist()


def test_a_function_that_hides_some_of_its_answers(table: pd.DataFrame, tokenizer: Any) -> None:
    hidden = pk.Concepts.from_function("f", lambda ids: np.ma.masked_where(ids > 5, ids % 2 == 0))
    with pytest.raises(InputError, match="concept 'f': got a masked array that hides"):
        hidden.label(read(table, tokenizer))


def test_a_mask_of_the_vocabulary_that_hides_entries() -> None:
    with pytest.raises(
        InputError, match="from_vocab: mask 'a': got a masked array that hides 1 of 3 entries"
    ):
        pk.Concepts.from_vocab(
            {"a": np.ma.masked_array(np.array([True, False, True]), mask=np.array([True, False, False]))}
        )
    held: Any = pk.Concepts.from_vocab({"a": np.ma.masked_array([True, False, True])}).blocks[0]
    assert held.masks.tolist() == [[True, False, True]]
