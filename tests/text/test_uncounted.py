"""What is read and not counted: the start mark, the first positions, every special token; one rule for all of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from probekit.errors import DegenerateError, InputError, ShapeError
from probekit.results.text_snapshot import TextSnapshot
from probekit.text.concepts.concepts import Concepts
from probekit.text.corpus import Corpus
from probekit.text.tokens import Tokens

PRICE = "Once upon a time <s>old price<s> there was a cat."
WORDS = [
    "<s>",
    "</s>",
    "<unk>",
    "<sep>",
    "Once",
    "upon",
    "a",
    "time",
    "old",
    "price",
    "there",
    "was",
    "cat",
    ".",
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A word a token; <s>, </s> and <unk> are named, <sep> is only marked special."""
    backend = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(WORDS[:4])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def read(
    tokenizer, texts: list[str], *, bos_id: int | None = 0, skip_first: int = 0, context: int = 64
) -> Tokens:
    return Corpus.from_texts(texts).tokenize(
        tokenizer, context=context, max_tokens=10_000, bos_id=bos_id, skip_first=skip_first
    )


class TestSpecialTokens:
    @pytest.mark.parametrize("bos_id", [0, None])
    def test_a_start_mark_inside_a_document_is_read_and_never_counted(
        self, tokenizer, bos_id: int | None
    ) -> None:
        tokens = read(tokenizer, [PRICE], bos_id=bos_id)
        row = tokens.ids[0, : tokens.lengths[0]]
        n_marks = 2 + (bos_id is not None)
        assert (row == 0).sum() == n_marks  # the model is shown them as what they are
        assert not tokens.counted[tokens.ids == 0].any()
        assert tokens.n_tokens == len(row) - n_marks == 11
        assert tokens.special_in_text() == {0: 2}

    @pytest.mark.parametrize("special", WORDS[:4])
    @pytest.mark.parametrize("text", ["{} a cat", "a {} cat", "a cat {}", "{}{} a {} cat {}", "a{}cat"])
    def test_every_special_token_wherever_it_stands(self, tokenizer, special: str, text: str) -> None:
        """Inside, at a seam, at either end; those marked special without a name, and the one for unknown words, too."""
        for bos_id in (0, None):
            tokens = read(tokenizer, [text.format(special, special, special, special)], bos_id=bos_id)
            assert [WORDS[i] for i in tokens.ids[tokens.counted]] == ["a", "cat"]

    def test_unknown_words_are_not_counted_either(self, tokenizer) -> None:
        tokens = read(tokenizer, ["a zyzzyva cat"])
        assert tokens.special_in_text() == {2: 1}
        assert tokens.n_tokens == 2

    def test_ready_made_ids_go_by_the_same_rule(self, tokenizer) -> None:
        rows = [
            [0, 6, 1, 0, 7],
            [1, 6, 7, -1, -1],
        ]  # documents joined in a row, and one that begins with an end mark
        tokens = Corpus.from_tokens(rows).tokenize(tokenizer, context=5, max_tokens=99, bos_id=0)
        assert tokens.bos_id is None  # not every row begins with it
        assert tokens.ids[tokens.counted].tolist() == [6, 7, 6, 7]
        without = Corpus.from_tokens(rows).tokenize(None, context=5, max_tokens=99, bos_id=0)
        assert without.n_tokens == 8  # control: without a tokenizer no id is known as special

    def test_a_document_that_begins_with_the_start_mark_gets_no_second_one(self, tokenizer) -> None:
        begun, plain = read(tokenizer, ["<s>a cat"]), read(tokenizer, ["a cat"])
        assert begun.ids.tolist() == plain.ids.tolist()
        assert read(tokenizer, ["<s><s>a cat"]).ids.tolist() == [[0, 0, 6, 12]]
        assert read(tokenizer, ["</s>a cat"]).ids.tolist() == [[0, 1, 6, 12]]

    def test_text_beside_special_tokens_is_labelled_as_the_model_reads_it(self, tokenizer) -> None:
        tokens = read(tokenizer, ["a <sep> cat was", "a cat was"])
        concepts = Concepts.from_vocab(
            {"a": np.arange(len(WORDS)) == 6, "sep": np.arange(len(WORDS)) == 3}, lags=(1, 2)
        )
        labels = concepts.label(tokens).dense()
        assert [WORDS[i] for i in tokens.ids[tokens.counted]] == ["a", "cat", "was", "a", "cat", "was"]
        columns = dict(zip(concepts.names, labels.T.tolist(), strict=True))
        assert columns["prev:sep"] == [0, 1, 0, 0, 0, 0]
        assert columns["prev:a"] == [0, 0, 0, 0, 1, 0]
        assert columns["prev2:a"] == [0, 1, 0, 0, 0, 1]

    def test_spans_know_that_no_second_start_mark_was_put(self, tokenizer) -> None:
        text = "<s>a cat was"
        tokens = read(tokenizer, [text])
        held = Concepts.from_spans({"cat": [(0, 5, 8)]}, [text], tokenizer).label(tokens).where("cat")
        assert [WORDS[tokens.ids[tokens.counted][t]] for t in held] == ["cat"]

    def test_what_has_only_special_tokens_has_nothing_to_count(self, tokenizer) -> None:
        with pytest.raises(DegenerateError, match="'texts' has no document with a counted token"):
            read(tokenizer, ["<s> </s>", "<sep>"])


class TestSkipFirst:
    @pytest.mark.parametrize("bos_id", [0, None])
    @pytest.mark.parametrize("skip_first", [0, 1, 3])
    def test_so_many_positions_after_the_start_mark_are_read_only(
        self, tokenizer, bos_id, skip_first: int
    ) -> None:
        texts = ["a time there was a cat", "Once upon a time"]
        all_of_it, tokens = (
            read(tokenizer, texts, bos_id=bos_id),
            read(tokenizer, texts, bos_id=bos_id, skip_first=skip_first),
        )
        assert tokens.ids.tolist() == all_of_it.ids.tolist()  # the model sees the same
        first = bos_id is not None
        assert tokens.pos_of_token.tolist() == [
            *range(first + skip_first, first + 6),
            *range(first + skip_first, first + 4),
        ]

    def test_documents_with_nothing_left_are_dropped_and_the_others_keep_their_place(self, tokenizer) -> None:
        tokens = read(tokenizer, ["a cat", "a time there was a cat", "cat", "Once upon a time"], skip_first=2)
        assert tokens.documents.tolist() == [1, 3]
        assert tokens.n_tokens == 4 + 2

    def test_max_tokens_counts_what_is_counted(self, tokenizer) -> None:
        texts = ["a time there was a cat"] * 10
        of = lambda skip, most: Corpus.from_texts(texts).tokenize(
            tokenizer, context=64, max_tokens=most, bos_id=0, skip_first=skip
        )
        assert [of(0, 12).n_docs, of(3, 12).n_docs, of(5, 12).n_docs] == [2, 4, 10]

    def test_no_room_is_refused(self, tokenizer) -> None:
        with pytest.raises(
            InputError, match="context=4 leaves no room for a counted token behind skip_first=3; raise it"
        ):
            read(tokenizer, ["a cat"], context=4, skip_first=3)
        with pytest.raises(InputError, match="skip_first=-1, wanted 0 or more positions"):
            read(tokenizer, ["a cat"], skip_first=-1)

    def test_the_fingerprint_knows_what_is_counted(self, tokenizer) -> None:
        texts = ["a time there was a cat"]
        prints = [read(tokenizer, texts, skip_first=skip).fingerprint for skip in (0, 1, 2)]
        assert len(set(prints)) == 3
        plain = read(tokenizer, texts)
        assert (
            replace(plain, special=(3,)).fingerprint == plain.fingerprint
        )  # none stands there: the same is counted
        assert replace(plain, special=(6,)).fingerprint != plain.fingerprint

    @pytest.mark.parametrize(
        ("uncounted", "skip_first"), [("cat " * 90, 90), ("<s> " * 400, 0), ("<sep>" * 2_000, 0)]
    )
    def test_a_digest_of_the_corpus_reaches_as_far_as_a_run_reads(
        self, tokenizer, uncounted: str, skip_first: int
    ) -> None:
        """Documents without a counted token do not fill a run, so what stands behind them is read and must be known."""
        of = lambda last: Corpus.from_texts([uncounted] * 50 + [last, last])
        texts = ["a cat " * 60, "a time " * 60]
        read = [
            of(text).tokenize(tokenizer, context=128, max_tokens=20, bos_id=0, skip_first=skip_first)
            for text in texts
        ]
        assert read[0].fingerprint != read[1].fingerprint
        assert of(texts[0]).fingerprint(20, skip_first) != of(texts[1]).fingerprint(20, skip_first)
        # control: behind documents that do fill it nothing is read
        full = lambda last: Corpus.from_texts([text * (2 + skip_first) for text in texts] * 50 + [last])
        assert full("a").fingerprint(20, skip_first) == full("cat").fingerprint(20, skip_first)

    def test_kept_text_shows_the_same_tokens(self, tokenizer, tmp_path) -> None:
        """What a run shows of token t is what was labelled as token t, read back from its folder too."""
        tokens = read(tokenizer, [PRICE, "a time there was a cat ."], skip_first=2)
        spelt = TextSnapshot.of(tokens, tokenizer)
        spelt.write(tmp_path)
        again = TextSnapshot.read(tmp_path, {})
        assert again is not None
        shown = [again.in_context(t)["token"].strip() for t in range(tokens.n_tokens)]
        assert shown == [WORDS[i] for i in tokens.ids[tokens.counted]]
        assert (
            again.in_context(0)["before"] == spelt.in_context(0)["before"] != ""
        )  # what is skipped is still shown


DOCUMENTS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=1, max_size=5)


@given(DOCUMENTS, st.integers(0, 4), st.sets(st.integers(0, 9), max_size=3), st.sampled_from([None, 3]))
def test_labels_are_those_of_the_whole_text_where_it_is_counted(
    rows: list[list[int]], skip: int, special: set[int], bos_id: int | None
) -> None:
    """The theorem: what is not counted changes which labels are kept, and none of them."""
    rows = [([] if bos_id is None else [bos_id]) + row for row in rows]
    ids = np.full((len(rows), max(map(len, rows))), -1, np.int32)
    for row, wanted in zip(ids, rows, strict=True):
        row[: len(wanted)] = wanted
    whole = Tokens(ids, np.array([len(row) for row in rows]), bos_id, "rows")
    tokens = replace(whole, skip_first=skip, special=tuple(sorted(special)))
    concepts = Concepts.from_vocab({"even": np.arange(10) % 2 == 0, "low": np.arange(10) < 3}, lags=(0, 1, 2))
    concepts += Concepts.from_function("same as before", lambda ids: np.diff(ids, axis=1, prepend=-1) == 0)
    kept = tokens.counted[whole.counted]
    found, wanted = concepts.label(tokens), concepts.label(whole)
    assert found.n_tokens == tokens.n_tokens == kept.sum()
    assert (found.dense() == wanted.dense()[kept]).all()
    assert found.doc.tolist() == wanted.doc[kept].tolist()
    assert (tokens.counted <= whole.counted).all()
    assert not np.isin(tokens.ids[tokens.counted], list(special)).any()


class TestEndMark:
    """The mark that an encoder reads behind a text is none of its tokens."""

    def test_concepts_label_a_text_as_they_do_without_it(self, tokenizer) -> None:
        texts = ["Once upon a time", "old <sep> price . there was a cat .", "a cat"]
        bare = read(tokenizer, texts, skip_first=1)
        marked = Corpus.from_texts(texts).tokenize(
            tokenizer, context=64, max_tokens=10_000, bos_id=0, end_id=1, skip_first=1
        )
        assert marked.ids[np.arange(3), marked.lengths - 1].tolist() == [1, 1, 1]
        assert (marked.n_tokens, marked.special_in_text()) == (bare.n_tokens, bare.special_in_text())
        spans = {"price": [(1, 10, 15)], "cat": [(2, 2, 5)]}
        for held in (
            Concepts.defaults(tokenizer, bare),
            Concepts.from_spans(spans, texts, tokenizer),
            Concepts.next_token(tokenizer, bare),
        ):
            here, there = held.label(marked), held.label(bare)
            assert np.array_equal(here.dense(), there.dense())
            assert here.dense().any()

    def test_a_block_whose_rows_end_otherwise_is_refused(self, tokenizer) -> None:
        bare = read(tokenizer, ["Once upon a time"])
        with pytest.raises(ShapeError, match="wanted the end mark 1 last in each row"):
            replace(bare, end_id=1)
