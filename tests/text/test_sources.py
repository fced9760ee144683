"""Concepts from elsewhere: next tokens, phrases, columns of the documents, marked spans, lexicons, plug-ins."""

from __future__ import annotations

import itertools
import json
import re
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from probekit.errors import ConfigError, InputError
from probekit.text.concepts.concepts import Concepts
from probekit.text.concepts.phrases import COMPOUNDS, ngram_blocks, phrase_ids
from probekit.text.concepts.vocabulary import read_vocabulary
from probekit.text.corpus import Corpus
from probekit.text.tokens import Tokens

BOS = 5


def block(*rows: list[int], bos_id: int | None = None) -> Tokens:
    width = max(len(row) for row in rows)
    ids = np.array([row + [-1] * (width - len(row)) for row in rows], np.int32)
    return Tokens(ids, np.array([len(row) for row in rows]), bos_id, "rows")


class TestNext:
    def test_holds_where_the_next_token_of_the_document_is(self) -> None:
        tokens = block([BOS, 1, 2, 1, 1], [BOS, 1, 0], bos_id=BOS)
        masks = {"one": np.array([False, True, False, False, False, False])}
        with pytest.raises(InputError, match="lags"):
            Concepts.from_vocab(masks, lags=(-1,))
        from probekit.text.concepts.blocks import Column, VocabBlock

        held = VocabBlock((Column("next:one", "next", -1, ""),), np.stack([masks["one"]]), (0,)).label(
            tokens
        )[0]
        # counted tokens: 1 2 1 1 | 1 0; the last of a document has no next one, and the next document does not count
        assert held.tolist() == [1, 2]

    def test_next_is_the_current_of_the_token_after(self, tokenizer, generated) -> None:
        corpus = Corpus.from_texts(generated(60, seed=5))
        tokens = corpus.tokenize(tokenizer, context=64, max_tokens=4_000, bos_id=tokenizer.bos_token_id)
        after = Concepts.next_token(tokenizer, tokens, n_frequent=6)
        assert set(after.kinds) == {"next"}
        assert set(after.lags) == {-1}
        now = Concepts.defaults(tokenizer, tokens, n_frequent=6)
        labels, current = after.label(tokens).dense(), now.label(tokens)
        same_doc = tokens.doc_of_token[1:] == tokens.doc_of_token[:-1]
        n_compared = 0
        for index, name in enumerate(after.names):
            twin = name.replace("next", "cur", 1)
            if twin in now.names:
                held = np.zeros(tokens.n_tokens, bool)
                held[current.where(twin)] = True
                assert (labels[:-1, index] == (held[1:] & same_doc)).all()
                assert not labels[-1, index]
                n_compared += 1
        assert n_compared > 20


class TestPhrases:
    def test_the_conjunction_is_the_phrase(self, all_tokenizers) -> None:
        tokenizer = all_tokenizers["byte-level"]
        tokens = Corpus.from_texts(["New York and York New York", "a New table"]).tokenize(
            tokenizer, context=32, max_tokens=100, bos_id=None
        )
        concepts = Concepts.phrases(tokenizer, ["New York"])
        assert concepts.names == ('cur=" York"', 'prev=" New"')
        held = concepts.label(tokens).dense()
        surfaces = [read_vocabulary(tokenizer).surfaces[i] for i in tokens.ids[tokens.counted]]
        both = [i for i in range(1, len(surfaces)) if (surfaces[i - 1], surfaces[i]) == (" New", " York")]
        assert np.flatnonzero(held.all(1)).tolist() == both
        assert len(both) == 1  # the first "New" has no space before it

    def test_longer_phrases_look_further_back(self, all_tokenizers) -> None:
        tokenizer = all_tokenizers["byte-level"]
        assert Concepts.phrases(tokenizer, ["the value returns"]).lags == (0, 1, 2)

    def test_phrases_that_are_none(self, all_tokenizers) -> None:
        tokenizer = all_tokenizers["byte-level"]
        with pytest.raises(InputError, match=r"phrase 'the' is 1 tokens \(.*\), wanted 2 to 4"):
            Concepts.phrases(tokenizer, ["the"])
        with pytest.raises(InputError, match=r"none of the compound words of Gurnee et al\. is two tokens"):
            Concepts.phrases(tokenizer)
        assert len(COMPOUNDS) == 21 == len(set(COMPOUNDS))

    def test_a_grid_holds_the_most_frequent_bigrams(self, all_tokenizers, generated) -> None:
        tokenizer = all_tokenizers["byte-level"]
        vocabulary = read_vocabulary(tokenizer)
        tokens = Corpus.from_texts(generated(100, seed=6)).tokenize(
            tokenizer, context=64, max_tokens=6_000, bos_id=tokenizer.bos_token_id
        )
        n_times: dict[tuple[int, int], int] = {}
        for row, length in zip(tokens.ids.tolist(), tokens.lengths.tolist(), strict=True):
            for pair in itertools.pairwise(row[1:length]):
                n_times[pair] = n_times.get(pair, 0) + 1
        second, first = ngram_blocks(vocabulary, tokens, n_first=5, n_second=5)
        best = sorted(n_times.values(), reverse=True)[4]
        named = {(a, b) for (a, b), n in n_times.items() if n > best}
        of = lambda block: {int(np.flatnonzero(mask)[0]) for mask in block.masks}
        assert {a for a, _ in named} <= of(first)
        assert {b for _, b in named} <= of(second)
        assert (first.columns[0].lag, second.columns[0].lag) == (1, 0)
        with pytest.raises(InputError, match="got 0 × 3 tokens"):
            Concepts.ngrams(tokenizer, tokens, n_first=0, n_second=3)

    def test_what_stands_in_both_sets_is_taken_once(self, all_tokenizers, generated) -> None:
        tokenizer = all_tokenizers["byte-level"]
        tokens = Corpus.from_texts(generated(50, seed=6)).tokenize(
            tokenizer, context=64, max_tokens=3_000, bos_id=None
        )
        both = Concepts.defaults(tokenizer, tokens) + Concepts.ngrams(tokenizer, tokens)
        assert len(set(both.names)) == len(both)
        assert len(both) < len(Concepts.defaults(tokenizer, tokens)) + 60
        assert both.label(tokens).n_concepts == len(both)


ROWS = [
    {"text": "one two three", "language": "en", "year": 1990},
    {"text": "", "language": "fr", "year": 1991},
    {"text": "un deux trois", "language": "fr", "year": 1999},
    {"text": "four five", "language": "en", "year": 2010},
]


class TestColumns:
    @pytest.fixture
    def corpus(self, tmp_path) -> Corpus:
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in ROWS))
        return Corpus.from_file(path)

    def test_every_token_has_its_documents_label(self, corpus: Corpus, tokenizer) -> None:
        tokens = corpus.tokenize(tokenizer, context=32, max_tokens=100, bos_id=tokenizer.bos_token_id)
        assert tokens.n_docs == 3  # the empty document has no row, and the labels are not shifted by it
        assert tokens.documents.tolist() == [0, 2, 3]
        concepts = Concepts.from_column(corpus, "language")
        assert (concepts.names, set(concepts.kinds)) == (("doc:language=en", "doc:language=fr"), {"document"})
        french = concepts.label(tokens).dense()[:, 1]
        assert (french == (tokens.doc_of_token == 1)).all()
        assert french.any()

    def test_many_numbers_become_quarters(self, tmp_path, all_tokenizers) -> None:
        path = tmp_path / "years.jsonl"
        path.write_text("\n".join(json.dumps({"text": f"word {i}", "year": i}) for i in range(100)))
        corpus = Corpus.from_file(path)
        concepts = Concepts.from_column(corpus, "year")
        assert len(concepts) == 4
        tokens = corpus.tokenize(all_tokenizers["byte-level"], context=8, max_tokens=10_000, bos_id=None)
        held = concepts.label(tokens).dense()
        assert (held.sum(1) == 1).all()
        assert [len(set(tokens.doc_of_token[column])) for column in held.T] == [25] * 4

    def test_what_cannot_be_labelled(self, corpus: Corpus, all_tokenizers) -> None:
        with pytest.raises(InputError, match="has no column 'lang'; it has text, language, year"):
            Concepts.from_column(corpus, "lang")
        with pytest.raises(InputError, match="column 'language' never holds 'de'; it holds en, fr"):
            Concepts.from_column(corpus, "language", values=["de"])
        with pytest.raises(InputError, match="has no columns beside its text"):
            Concepts.from_column(Corpus.from_texts(["a"]), "language")
        other = Corpus.from_texts(["a b c"]).tokenize(
            all_tokenizers["byte-level"], context=8, max_tokens=10, bos_id=None
        )
        with pytest.raises(InputError, match="make the concepts from the corpus that is analysed"):
            Concepts.from_column(corpus, "language").label(other)

    def test_dataset_objects_are_corpora(self, all_tokenizers) -> None:
        datasets = pytest.importorskip("datasets")
        from probekit.text.corpus import as_corpus

        held = datasets.Dataset.from_list(ROWS)
        corpus = as_corpus(held)
        assert list(corpus.texts()) == [row["text"] for row in ROWS]
        assert list(as_corpus(held.to_iterable_dataset()).texts()) == list(corpus.texts())
        both = datasets.DatasetDict({"dev": held.select([3]), "train": held})
        assert len(list(Corpus.from_dataset(both).texts())) == 4
        assert list(Corpus.from_dataset(both, split="dev", column="language").texts()) == ["en"]
        assert Concepts.from_column(corpus, "language").names[0] == "doc:language=en"
        with pytest.raises(InputError, match="has no split 'test'; it has dev, train"):
            Corpus.from_dataset(both, split="test")
        with pytest.raises(InputError, match="is one split already"):
            Corpus.from_dataset(held, split="train")
        with pytest.raises(
            InputError, match="got a int, wanted a name, a path, a Corpus, a list of texts, or a table"
        ):
            as_corpus(3)


class TestSpans:
    def test_tokens_that_overlap_a_span(self, tokenizer) -> None:
        """Each token's ink is found in the text by reading on from the last one, not by the tokenizer's offsets."""
        texts = ["New York is a table, Paris is older.", "The table (a list) is in Paris now"]
        spans = {"place": [(0, 0, 8), (0, 21, 26), (1, 25, 30)], "part": [(1, 5, 6)]}
        corpus = Corpus.from_texts(texts)
        tokens = corpus.tokenize(tokenizer, context=64, max_tokens=200, bos_id=tokenizer.bos_token_id)
        labels = Concepts.from_spans(spans, texts, tokenizer).label(tokens)
        surfaces = read_vocabulary(tokenizer).surfaces
        t, wanted = 0, {"place": set(), "part": set()}
        for document, text in enumerate(texts):
            place = 0
            while t < tokens.n_tokens and tokens.doc_of_token[t] == document:
                body = surfaces[tokens.ids[tokens.counted][t]].strip()
                if body:
                    place = text.index(body, place)
                    for name, marks in spans.items():
                        if any(
                            d == document and place < last and place + len(body) > first
                            for d, first, last in marks
                        ):
                            wanted[name].add(t)
                    place += len(body)
                t += 1
        assert wanted["place"]
        assert wanted["part"]
        for name, held in wanted.items():
            assert set(labels.where(name).tolist()) == held
        assert set(labels.kinds) == {"span"}

    def test_spans_that_are_none(self, all_tokenizers) -> None:
        tokenizer = all_tokenizers["byte-level"]
        with pytest.raises(InputError, match=r"'x': \(0, 2, 9\) is no span; document 0 has 3 characters"):
            Concepts.from_spans({"x": [(0, 2, 9)]}, ["abc"], tokenizer)
        with pytest.raises(InputError, match="there are 1 documents"):
            Concepts.from_spans({"x": [(1, 0, 1)]}, ["abc"], tokenizer)
        held = Concepts.from_spans({"x": [(0, 0, 3)]}, ["the table"], tokenizer)
        other = Corpus.from_texts(["a value"]).tokenize(tokenizer, context=8, max_tokens=9, bos_id=None)
        with pytest.raises(InputError, match="is not the text the spans were made for"):
            held.label(other)


class TestLexicon:
    """The three packages are in the `dev` extra; without them the error names the extra."""

    @pytest.fixture(autouse=True)
    def packages(self) -> None:
        for package in ("textblob", "wordfreq", "vaderSentiment"):
            pytest.importorskip(package)

    def test_words_are_labelled_whole(self, tokenizer) -> None:
        text = "The good old table was quickly walking to New York, a terrible zyzzyvaq."
        tokens = Corpus.from_texts([text]).tokenize(tokenizer, context=64, max_tokens=100, bos_id=None)
        labels = Concepts.lexicon(tokenizer).label(tokens)
        surfaces = read_vocabulary(tokenizer).surfaces
        parts = [surfaces[index] for index in tokens.ids[tokens.counted]]
        ends = np.cumsum([len(part) for part in parts])

        def words(name: str) -> list[str]:
            joined = "".join(parts)
            held = set(labels.where(f"word:{name}").tolist())
            inside = list(re.finditer(r"[^\W\d_]+", joined))
            ink = [end - len(part.lstrip()) for end, part in zip(ends, parts, strict=True)]
            inked = [t for t, part in enumerate(parts) if part.strip()]
            covered = [[t for t in inked if ink[t] < m.end() and ends[t] > m.start()] for m in inside]
            assert {t for ts in covered for t in ts} >= held
            whole = [m[0] for m, ts in zip(inside, covered, strict=True) if ts and set(ts) <= held]
            some = [m[0] for m, ts in zip(inside, covered, strict=True) if set(ts) & held]
            assert whole == some  # never half a word
            return whole

        assert words("determiner")[:1] == ["The"]
        assert "good" in words("adjective")
        assert words("adverb") == ["quickly"]
        assert words("proper-noun") == ["New", "York"]
        assert words("positive") == ["good"]
        assert words("negative") == ["terrible"]
        spelt = "zyzzyvaq" in "".join(
            parts
        )  # WordPiece knows no such letters in a row: it has one token for it
        assert words("unknown") == ["zyzzyvaq"] * spelt
        assert "The" in words("very-common")

    def test_every_word_has_one_band(self, all_tokenizers, generated) -> None:
        tokenizer = all_tokenizers["byte-level"]
        tokens = Corpus.from_texts(generated(30, seed=9)).tokenize(
            tokenizer, context=64, max_tokens=2_000, bos_id=None
        )
        held = Concepts.lexicon(tokenizer, ["frequency"]).label(tokens).dense()
        assert held.any(1).mean() > 0.3
        assert held.sum(1).max() == 1

    def test_families(self, all_tokenizers, monkeypatch) -> None:
        tokenizer = all_tokenizers["byte-level"]
        with pytest.raises(InputError, match=r"got \['syntax'\], wanted some of pos, frequency, sentiment"):
            Concepts.lexicon(tokenizer, ["syntax"])


def test_a_missing_package_names_the_extra(all_tokenizers, monkeypatch) -> None:
    from probekit.text.concepts import lexicon

    lexicon._package.cache_clear()
    monkeypatch.setitem(lexicon._PACKAGES, "pos", ("no_such_package", "no-such-package"))
    with pytest.raises(
        InputError, match=r"needs the package no-such-package.*pip install -e '\.\[lexicon\]'"
    ):
        Concepts.lexicon(all_tokenizers["byte-level"], ["pos"])
    lexicon._package.cache_clear()


def plugin(tokenizer, tokens) -> Concepts:
    """What another package would register."""
    return Concepts.from_function("even id", lambda ids: ids % 2 == 0)


def not_concepts(tokenizer, tokens) -> int:
    return 3


class TestPlugins:
    @pytest.fixture(autouse=True)
    def registered(self, monkeypatch) -> None:
        points = [
            EntryPoint(name, value, "probekit.concepts")
            for name, value in (
                ("mine", f"{__name__}:plugin"),
                ("bad", f"{__name__}:not_concepts"),
                ("gone", "nowhere:f"),
            )
        ]
        monkeypatch.setitem(
            __import__("sys").modules, __name__, __import__("sys").modules.get(__name__) or _this()
        )
        monkeypatch.setattr("probekit.text.concepts.plugins.entry_points", lambda group: points)

    def test_an_entry_point_brings_concepts(self) -> None:
        tokens = block([1, 2, 4])
        concepts = Concepts.plugin("mine", None, tokens)
        assert concepts.label(tokens).where("even id").tolist() == [1, 2]

    def test_what_cannot_be_loaded(self) -> None:
        with pytest.raises(
            InputError, match=r"plug-in 'yours': no installed package.*registered: bad, gone, mine"
        ):
            Concepts.plugin("yours", None, block([1]))
        with pytest.raises(InputError, match="plug-in 'bad' returned a int, wanted a Concepts set"):
            Concepts.plugin("bad", None, block([1]))
        with pytest.raises(InputError, match=r"plug-in 'gone' \(nowhere:f\) cannot be loaded"):
            Concepts.plugin("gone", None, block([1]))


def _this():
    import types

    module = types.ModuleType(__name__)
    module.__dict__.update(plugin=plugin, not_concepts=not_concepts)
    return module


class TestFile:
    def test_every_source_by_file(self, tmp_path, all_tokenizers) -> None:
        tokenizer = all_tokenizers["byte-level"]
        (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
        corpus = Corpus.from_file(tmp_path / "rows.jsonl")
        tokens = corpus.tokenize(tokenizer, context=32, max_tokens=100, bos_id=None)
        (tmp_path / "spans.jsonl").write_text('{"name": "number", "document": 0, "start": 0, "end": 3}\n\n')
        (tmp_path / "c.toml").write_text(
            'next = true\nphrases = ["New York"]\ncolumns = ["language"]\nspans = "spans.jsonl"\n[ngrams]\nfirst = 3\n'
        )
        concepts = Concepts.from_toml(tmp_path / "c.toml", tokenizer, tokens, corpus)
        assert set(concepts.kinds) == {"next", "token", "document", "span"}
        assert (
            concepts.label(tokens).where("number").tolist() == [0]
            or len(concepts.label(tokens).where("number")) > 0
        )
        with pytest.raises(ConfigError, match="next, ngrams and plugins need the corpus"):
            Concepts.from_toml(tmp_path / "c.toml", tokenizer)
        with pytest.raises(ConfigError, match="columns and spans need the corpus"):
            Concepts.from_toml(tmp_path / "c.toml", tokenizer, tokens)
        (tmp_path / "spans.jsonl").write_text('{"name": "number", "document": 0}\n')
        with pytest.raises(InputError, match=r"spans file 'spans\.jsonl', line 1: Field required"):
            Concepts.from_toml(tmp_path / "c.toml", tokenizer, tokens, corpus)


def test_phrase_ids_prefer_running_text(all_tokenizers) -> None:
    tokenizer = all_tokenizers["sentencepiece"]
    surfaces = read_vocabulary(tokenizer).surfaces
    assert [surfaces[index] for index in phrase_ids(tokenizer, "the table")] == [" the", " table"]
