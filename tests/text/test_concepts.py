"""Sets of concepts: names, sums, labels that stay inside a document, and the errors of each maker."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.errors import InputError, ShapeError
from probekit.text.concepts.characters import char_table
from probekit.text.concepts.classes import CLASSES
from probekit.text.concepts.concepts import Concepts
from probekit.text.concepts.context import ContextBlock, context_columns
from probekit.text.concepts.position import position_block
from probekit.text.concepts.tokens import identity_block
from probekit.text.concepts.vocabulary import Vocabulary
from probekit.text.corpus import Corpus
from probekit.text.tokens import Tokens

# Few and varied, so that short random rows meet every case: line breaks inside tokens, runs, quotes.
SURFACES = (
    "", "a", " the", "\n", "\n\n  ", ".", ". B", ' "', '"', "(", "))", "`", "``", " ", "\t", "x:\n  y", "=",
    ",", "-", ">>>", " C", "1",
)  # fmt: skip
BOS = 0
VOCABULARY = Vocabulary(SURFACES, "plain")
MASK = np.array([index % 3 == 1 for index in range(len(SURFACES))])


def every_kind() -> Concepts:
    blocks = (
        identity_block(VOCABULARY, [2, 3, 5], (0, 1, 2)),
        ContextBlock(context_columns(), char_table(VOCABULARY)),
        position_block(12),
    )
    return Concepts(blocks) + Concepts.from_vocab({"third": MASK}, lags=(0, 1, 4))


def block(rows: list[list[int]], bos_id: int | None, n_pad: int = 0) -> Tokens:
    rows = rows if bos_id is None else [[bos_id, *row] for row in rows]
    ids = np.full((len(rows), max(map(len, rows)) + n_pad), -1, dtype=np.int32)
    for row, wanted in zip(ids, rows, strict=True):
        row[: len(wanted)] = wanted
    return Tokens(ids, np.array([len(row) for row in rows]), bos_id, "rows")


ROWS = st.lists(st.lists(st.integers(0, len(SURFACES) - 1), min_size=1, max_size=12), min_size=1, max_size=7)


@given(ROWS, st.integers(0, 6), st.booleans())
def test_labels_of_a_document_do_not_depend_on_its_neighbours(rows, row, with_bos) -> None:
    concepts, bos_id = every_kind(), BOS if with_bos else None
    tokens = block(rows, bos_id)
    row %= len(rows)
    together = concepts.label(tokens).dense()[tokens.doc_of_token == row]
    alone = concepts.label(block([rows[row]], bos_id)).dense()
    np.testing.assert_array_equal(together, alone)


@given(ROWS, st.integers(1, 5))
def test_padding_is_never_labelled_and_changes_no_label(rows, n_pad) -> None:
    concepts = every_kind()
    plain, padded = concepts.label(block(rows, BOS)), concepts.label(block(rows, BOS, n_pad))
    assert plain.n_tokens == padded.n_tokens == sum(map(len, rows))
    np.testing.assert_array_equal(plain.dense(), padded.dense())


@given(ROWS)
def test_a_beginning_of_sequence_token_changes_no_label(rows) -> None:
    concepts = every_kind()
    without, with_bos = concepts.label(block(rows, None)), concepts.label(block(rows, BOS))
    np.testing.assert_array_equal(without.dense(), with_bos.dense())
    np.testing.assert_array_equal(without.doc, with_bos.doc)
    np.testing.assert_array_equal(without.pos + 1, with_bos.pos)


@given(ROWS, st.integers(1, 11))
def test_a_label_never_depends_on_what_comes_after(rows, cut) -> None:
    """A model reads from the left: no concept may need a token it has not seen."""
    concepts = every_kind()
    whole = concepts.label(block(rows[:1], BOS)).dense()
    part = concepts.label(block([rows[0][:cut]], BOS)).dense()
    np.testing.assert_array_equal(whole[: len(part)], part)


@given(ROWS)
def test_labels_are_sorted_and_within_bounds(rows) -> None:
    concepts = every_kind()
    labels = concepts.label(block(rows, BOS))
    assert labels.indptr[0] == 0
    assert labels.indptr[-1] == len(labels.tokens)
    assert labels.n_concepts == len(concepts) == len(labels.indptr) - 1
    assert labels.n_docs == len(rows)
    for concept in range(labels.n_concepts):
        where = labels.where(concept)
        assert (np.diff(where) > 0).all()
        assert where.size == 0 or (where[0] >= 0 and where[-1] < labels.n_tokens)


def test_lags_look_back_inside_the_document_only() -> None:
    concepts = Concepts.from_vocab({"red": np.array([False, True, False])}, lags=(0, 1, 2))
    assert concepts.names == ("red", "prev:red", "prev2:red")
    assert concepts.lags == (0, 1, 2)
    assert concepts.kinds == ("user",) * 3
    labels = concepts.label(block([[1, 2, 2], [2, 2], [2, 1, 1, 2]], bos_id=1))  # the BOS itself is a red id
    assert [labels.where(name).tolist() for name in concepts.names] == [[0, 6, 7], [1, 7, 8], [2, 8]]


def test_more_documents_than_are_labelled_at_once(tokenizer, generated) -> None:
    texts = generated(1_500, seed=6)
    tokens = Corpus.from_texts(texts).tokenize(tokenizer, context=24, max_tokens=10**6, bos_id=None)
    assert tokens.n_docs > 1_024
    labels = Concepts.defaults(tokenizer, tokens).label(tokens)
    last = block([tokens.ids[-1, : tokens.lengths[-1]].tolist()], None)
    alone = Concepts.defaults(tokenizer, tokens).label(last).dense()
    np.testing.assert_array_equal(labels.dense()[labels.doc == tokens.n_docs - 1], alone)


def test_default_names_kinds_and_descriptions(all_tokenizers, generated) -> None:
    tokenizer = all_tokenizers["byte-level"]
    corpus = Corpus.from_texts(generated(300, seed=7))
    concepts = Concepts.defaults(tokenizer, corpus, context=128)
    names = set(concepts.names)
    assert {
        'cur=" the"',
        'prev=" the"',
        'prev2=" the"',
        'cur="\\n"',
        "cur:digit",
        "prev:capitalised",
    } <= names
    assert {"in:quotes", "at:sentence-start", "pos:0-7", "pos:8-15", "pos:64-127", "seen:bigram"} <= names
    assert "pos:128-255" not in names
    assert 300 <= len(concepts) <= 350
    assert set(concepts.kinds) == {"token", "class", "context"}
    assert {lag for lag, kind in zip(concepts.lags, concepts.kinds, strict=True) if kind == "context"} == {0}
    assert all(concepts.descriptions)
    assert len(Concepts.defaults(tokenizer, corpus, n_frequent=3).names) == len(concepts) - 17 * 3
    # made twice, the same: a run's identity rests on it
    assert Concepts.defaults(tokenizer, corpus).names == concepts.names


def test_a_class_that_no_token_of_the_corpus_belongs_to_is_left_out(all_tokenizers) -> None:
    tokenizer = all_tokenizers["byte-level"]
    concepts = Concepts.defaults(tokenizer, Corpus.from_texts(["the value is in the table. " * 5] * 3))
    assert "cur:determiner" in concepts.names
    assert "cur:digit" not in concepts.names
    assert "cur:backtick" not in concepts.names


def test_every_class_holds_somewhere(all_tokenizers, generated) -> None:
    """The generated text is rich enough for the comparison with the slow implementation to mean something."""
    tokenizer = all_tokenizers["byte-level"]
    tokens = Corpus.from_texts(generated(400, seed=2)).tokenize(
        tokenizer, context=96, max_tokens=10**5, bos_id=None
    )
    concepts = Concepts.defaults(tokenizer, tokens)
    assert {f"cur:{name}" for name in CLASSES} <= set(concepts.names)
    labels = concepts.label(tokens)
    assert [name for name in concepts.names if len(labels.where(name)) == 0] == []


def test_a_function_sees_the_block_and_is_asked_about_counted_tokens_only() -> None:
    concepts = Concepts.from_function("odd", lambda ids: ids % 2 == 1, description="an odd id")
    labels = concepts.label(
        block([[1, 2, 3], [5]], bos_id=7, n_pad=1)
    )  # BOS 7 and padding -1 are odd as well
    assert labels.where("odd").tolist() == [0, 2, 3]
    assert concepts.descriptions == ("an odd id",)
    with pytest.raises(InputError, match="there is no concept 'even' among the 1 labelled ones"):
        labels.where("even")


def test_a_function_cannot_change_the_tokens() -> None:
    def greedy(ids: np.ndarray) -> np.ndarray:
        ids[:] = 0
        return ids == 0

    with pytest.raises(InputError, match=r"concept 'greedy': its function raised ValueError: .*read-only"):
        Concepts.from_function("greedy", greedy).label(block([[1, 2]], None))


def test_sets_add_in_order() -> None:
    a, b = Concepts.from_vocab({"a": MASK}), Concepts.from_vocab({"b": MASK, "c": ~MASK}, kind="class")
    assert (a + b).names == ("a", "b", "c")
    assert (a + b).kinds == ("user", "class", "class")
    labels = (b + a).label(block([[1, 2, 3]], None))
    np.testing.assert_array_equal(labels.where("a"), labels.where("b"))
    np.testing.assert_array_equal(labels.where("c"), [1, 2])


def test_masks_may_be_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    assert Concepts.from_vocab({"a": torch.tensor([True, False])}).names == ("a",)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Concepts(()), InputError, "the set of concepts is empty"),
        (lambda: Concepts.from_vocab({}), InputError, "no mask given"),
        (
            lambda: Concepts.from_vocab({"a": MASK}) + Concepts.from_vocab({"a": MASK}),
            InputError,
            "1 concept names stand twice, first 'a'",
        ),
        (
            lambda: Concepts.from_vocab({"a": MASK}, lags=()),
            InputError,
            r"lags=\(\), wanted one or more numbers ≥ 0",
        ),
        (lambda: Concepts.from_vocab({"a": MASK}, lags=(-1,)), InputError, r"lags=\(-1,\)"),
        (lambda: Concepts.from_vocab({"a": MASK, "b": MASK[1:]}), ShapeError, "masks of different lengths"),
        (
            lambda: Concepts.from_vocab({"a": [0, 1]}),
            ShapeError,
            r"mask 'a' has shape \(2,\) of int64, wanted bool\[vocab\]",
        ),
        (
            lambda: Concepts.from_vocab({"a": MASK[:2]}).label(block([[1, 2]], None)),
            ShapeError,
            "holds token id 2 but the vocabulary masks of 'a' end at 1",
        ),
        (
            lambda: every_kind().label(block([[99]], None)),
            ShapeError,
            "holds token id 99 but the vocabulary masks",
        ),
        (
            lambda: Concepts((ContextBlock(context_columns(), char_table(VOCABULARY)),)).label(
                block([[99]], None)
            ),
            ShapeError,
            "holds token id 99 but the tokenizer ends at 21",
        ),
        (
            lambda: Concepts.from_function("f", lambda ids: ids[:, 1:] > 0).label(block([[1, 2]], None)),
            ShapeError,
            r"concept 'f': its function gave shape \(1, 1\) of bool, wanted bool of shape \(1, 2\)",
        ),
        (
            lambda: Concepts.from_function("f", lambda ids: ids).label(block([[1, 2]], None)),
            ShapeError,
            r"concept 'f': its function gave shape \(1, 2\) of int32, wanted bool",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(make, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        make()
    assert type(caught.value) is error


def test_tokens_of_another_tokenizer_are_refused(all_tokenizers) -> None:
    tokens = block([[1, 5_000]], None)
    with pytest.raises(
        InputError, match="holds token id 5000 but the tokenizer ends at 1499; pass the tokenizer that"
    ):
        Concepts.defaults(all_tokenizers["byte-level"], tokens)


def test_what_is_decided_by_one_token_alone_is_known_of_every_default_concept(
    all_tokenizers, generated
) -> None:
    """`by_token` against the labels themselves: a set of token types holds at all tokens of a type or at none."""
    tokenizer = all_tokenizers["byte-level"]
    tokens = Corpus.from_texts(generated(200, seed=7)).tokenize(
        tokenizer, context=64, max_tokens=20_000, bos_id=None
    )
    concepts = Concepts.defaults(tokenizer, tokens)
    labels = concepts.label(tokens)
    assert labels.by_token == concepts.by_token
    by_kind = dict.fromkeys(concepts.kinds)
    assert list(by_kind) == ["token", "class", "context"]
    assert all(
        flag == (kind != "context") for flag, kind in zip(concepts.by_token, concepts.kinds, strict=True)
    )
    ids = tokens.ids[tokens.counted]
    for index, lag in enumerate(concepts.lags):
        seen = np.flatnonzero(tokens.pos_of_token >= lag)  # the token looked at stands in the document
        types = ids[seen - lag]
        held = np.isin(seen, labels.where(index))
        n_held, n = np.bincount(types[held], minlength=1 + types.max()), np.bincount(types)
        decided = ((n_held == 0) | (n_held == n)).all()
        # a rare context may happen to look decided; a set of token types always does
        assert decided or not concepts.by_token[index], concepts.names[index]
    mixed = [name for name, flag in zip(concepts.names, concepts.by_token, strict=True) if not flag]
    assert {"in:quotes", "at:sentence-start", "seen:token", "pos:0-7"} <= set(mixed)


def test_concepts_of_other_kinds_say_whether_one_token_decides() -> None:
    masks = {"red": np.array([True, False, True])}
    assert Concepts.from_vocab(masks, lags=(0, 1)).by_token == (True, True)
    # a function may look anywhere: nothing is claimed of it
    assert Concepts.from_function("even", lambda ids: ids % 2 == 0).by_token == (False,)
    both = Concepts.from_function("even", lambda ids: ids % 2 == 0) + Concepts.from_vocab(masks)
    assert both.by_token == (False, True)
