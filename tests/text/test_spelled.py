"""Concepts told by their spelling: words, patterns and functions of the string, looked up once the model is known."""

# ruff: noqa: E501 - tables are read along their rows

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

import probekit as pk
from probekit.analysis.design import LabelledTokens, plan
from probekit.analysis.inputs import refused_note
from probekit.analysis.settings import Settings
from probekit.arguments import as_concepts
from probekit.errors import InputError, ShapeError
from probekit.evidence.pair_sampling import PairSampling
from probekit.probes.pairs import LabelColumns, splitmix64
from probekit.text.concepts.concepts import Concepts
from probekit.text.concepts.vocabulary import read_vocabulary
from probekit.text.corpus import Corpus, as_corpus

TEXT = 'the table is a table "the tables" the'


@pytest.fixture(params=["byte-level", "sentencepiece", "wordpiece"])
def tokenizer(request: pytest.FixtureRequest, all_tokenizers: dict[str, Any]):
    return all_tokenizers[request.param]


def held(concepts: Concepts, tokenizer: Any, name: str, text: str = TEXT) -> list[str]:
    """What stands where a concept holds."""
    tokens = Corpus.from_texts([text]).tokenize(tokenizer, context=64, max_tokens=99, bos_id=None)
    surfaces = read_vocabulary(tokenizer).surfaces
    where = concepts.for_tokenizer(tokenizer).label(tokens).where(name)
    return [surfaces[tokens.ids[0, t]] for t in where]


def read(tokenizer: Any, text: str = TEXT) -> list[str]:
    """Every token as it stands in the text."""
    return held(Concepts.from_function("all", lambda ids: ids >= 0), tokenizer, "all", text)


class TestWords:
    def test_a_word_is_meant_with_and_without_its_space(self, tokenizer: Any):
        words = Concepts.from_words(["the", "table"])
        assert words.names == ("the", "table")
        assert words.kinds == ("token", "token")
        the = [text for text in read(tokenizer) if text in ("the", " the")]
        assert held(words, tokenizer, "the") == the
        assert len(the) >= 2
        assert {text.strip() for text in held(words, tokenizer, "table")} == {"table"}

    def test_a_word_that_begins_with_a_space_is_meant_exactly(self, all_tokenizers: dict[str, Any]):
        bpe = all_tokenizers["byte-level"]
        # the first and the quoted one stand without a space
        assert held(Concepts.from_words([" the"]), bpe, " the") == [" the"]
        assert held(Concepts.from_words(["the"]), bpe, "the") == ["the", "the", " the"]

    def test_a_file_that_lists_the_same_strings_holds_the_same(
        self, tmp_path: Any, all_tokenizers: dict[str, Any]
    ):
        """The TOML form and the words in Python are one rule."""
        bpe = all_tokenizers["byte-level"]
        path = tmp_path / "c.toml"
        path.write_text('[[class]]\nname = "it"\ntext = [" the", "the"]\npattern = "bles?$"\nlags = [0, 1]\n')
        tokens = Corpus.from_texts([TEXT]).tokenize(bpe, context=64, max_tokens=99, bos_id=None)
        file = Concepts.from_toml(path, bpe).label(tokens).dense()
        mine = Concepts.from_words({"it": ["the"]}, lags=(0, 1)) + Concepts.from_regex(
            {"ble": "bles?$"}, [0, 1]
        )
        both = mine.for_tokenizer(bpe).label(tokens).dense()
        assert np.array_equal(file, both[:, :2] | both[:, 2:])
        assert file.any(0).all()

    def test_names_lags_ids_and_one_number(self, tokenizer: Any):
        surfaces = read_vocabulary(tokenizer).surfaces
        index = surfaces.index(" is")
        concepts = Concepts.from_words({"verb": index, "article": ["the", "a"]}, lags=1)
        assert concepts.names == ("prev:verb", "prev:article")
        assert concepts.lags == (1, 1)
        assert concepts.by_token == (True, True)
        assert held(concepts, tokenizer, "prev:verb") == [" a"]

    def test_what_is_no_single_token_is_told_with_what_to_do(self, tokenizer: Any):
        with pytest.raises(
            InputError, match=r'"Mississippi" is not a single token of this tokenizer.*Concepts.phrases takes'
        ):
            Concepts.from_words(["Mississippi"]).for_tokenizer(tokenizer)
        with pytest.raises(InputError, match=r'there are .*" tables"'):
            Concepts.from_words(["tablesx", "tables"]).for_tokenizer(tokenizer)
        with pytest.raises(InputError, match="token id 99999, wanted 0 … "):
            Concepts.from_words({"far": 99_999}).for_tokenizer(tokenizer)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ([], "from_words: got nothing"), ({}, "from_words: got nothing"), (None, "from_words: got None"), ({"a": []}, "got nothing, wanted words"),
            ([""], "got '', wanted words"), ([1.5], "got 1.5, wanted words"), ({"a": [True]}, "got True, wanted words"), (b"x", "wanted a list of words"),
            (["a", "a"], "1 concept names stand twice, first 'a'"),
        ],
    )  # fmt: skip
    def test_what_is_no_word_is_refused(self, words: Any, message: str):
        with pytest.raises(InputError, match=message):
            Concepts.from_words(words)

    def test_without_a_tokenizer_nobody_knows_the_ids(self, all_tokenizers: dict[str, Any]):
        tokens = Corpus.from_tokens([[1, 2]]).tokenize(None, context=4, max_tokens=9, bos_id=None)
        with pytest.raises(
            InputError, match=r"'cat' is given by its spelling.*for_tokenizer\(tokenizer\) first"
        ):
            Concepts.from_words(["cat"]).label(tokens)
        with pytest.raises(InputError, match="this model has no tokenizer"):
            Concepts.from_words(["cat"]).for_tokenizer(None)


class TestRegex:
    def test_it_is_searched_in_every_string(self, tokenizer: Any):
        concepts = Concepts.from_regex({"plural": r"[a-z]s$", "THE": re.compile("^ ?THE$", re.IGNORECASE)})
        assert concepts.kinds == ("class", "class")
        assert {text.strip() for text in held(concepts, tokenizer, "plural")} == {"is", "tables"}
        assert held(concepts, tokenizer, "THE") == [
            text for text in read(tokenizer) if text in ("the", " the")
        ]

    @pytest.mark.parametrize(
        ("patterns", "message"),
        [
            ({"a": "("}, r"concept 'a': bad pattern '\('"), ({"a": ""}, "wanted a regular expression"), ({"a": 5}, "got 5, wanted a regular expression"),
            ({"a": re.compile(b"x")}, "wanted a regular expression"), ({}, "from_regex: got nothing"), ("x", "patterns: got 'x'"),
        ],
    )  # fmt: skip
    def test_what_is_no_pattern_is_refused_at_once(self, patterns: Any, message: str):
        with pytest.raises(InputError, match=message):
            Concepts.from_regex(patterns)

    def test_a_pattern_that_nothing_fits_is_refused(self, tokenizer: Any):
        with pytest.raises(InputError, match="class 'a' holds no token"):
            Concepts.from_regex({"a": "qqqq"}).for_tokenizer(tokenizer)


class TestFunctions:
    def test_of_the_string_of_a_token(self, tokenizer: Any):
        concepts = Concepts.from_function(
            {"long": lambda text: len(text.strip()) > 3, "s": lambda text: re.search("s$", text)},
            over="strings",
            lags=[0, 1],
        )
        assert concepts.names == ("long", "s", "prev:long", "prev:s")
        assert held(concepts, tokenizer, "long") == [
            text for text in read(tokenizer) if len(text.strip()) > 3
        ]
        assert held(concepts, tokenizer, "s") == [text for text in read(tokenizer) if text.endswith("s")]

    def test_several_of_the_ids_are_each_of_them(self, tokenizer: Any):
        def third(ids: np.ndarray) -> np.ndarray:
            return ids % 3 == 0

        def first(ids: np.ndarray) -> np.ndarray:
            return np.broadcast_to(np.arange(ids.shape[1]) == 0, ids.shape)

        tokens = Corpus.from_texts([TEXT]).tokenize(tokenizer, context=64, max_tokens=99, bos_id=None)
        both = Concepts.from_function({"third": third, "first": first}).label(tokens).dense()
        alone = Concepts.from_function("third", third) + Concepts.from_function("first", first)
        assert np.array_equal(both, alone.label(tokens).dense())
        assert both.any(0).all()

    def test_what_goes_wrong_in_one_is_told_as_the_users(self, tokenizer: Any):
        with pytest.raises(InputError, match=r"concept 'a': its function raised ZeroDivisionError for \""):
            Concepts.from_function({"a": lambda text: 1 / 0}, over="strings").for_tokenizer(tokenizer)
        with pytest.raises(
            InputError, match=r"concept 'a': its function gave 3 \(int\) for \".*wanted True or"
        ):
            Concepts.from_function({"a": lambda text: 3}, over="strings").for_tokenizer(tokenizer)

    @pytest.mark.parametrize(
        ("args", "options"),
        [
            (("a",), {}), (({},), {}), (({"a": len}, len), {}), (({"a": 3},), {}), (("a", len), {"over": "words"}),
            (("a", len), {"lags": (1,)}), (("a", len), {"over": "strings", "lags": ()}), (("a", len), {"over": "strings", "lags": "x"}),
        ],
    )  # fmt: skip
    def test_what_is_no_function_is_refused(self, args: Any, options: Any):
        with pytest.raises(InputError, match=r"from_function: got|lags|over: got"):
            Concepts.from_function(*args, **options)


class TestAsTyped:
    """Plain lists, dictionaries and tables where one would type them."""

    def test_concepts(self):
        assert as_concepts(["cat", "dog"]).names == ("cat", "dog")
        mask = np.arange(6) % 2 == 0
        made = as_concepts(
            {"pet": ["cat", "dog"], "one": 5, "ing": re.compile("ing$"), "even": mask, "odd": ~mask, "f": len}
        )
        assert made.names == ("pet", "one", "ing", "even", "odd", "f")
        assert made.kinds == ("class", "class", "class", "user", "user", "user")
        table = pd.DataFrame({"even": mask, "odd": ~mask})
        assert as_concepts(table).fingerprint == Concepts.from_vocab({"even": mask, "odd": ~mask}).fingerprint
        with pytest.raises(ShapeError, match="mask 'a' has shape"):
            as_concepts({"a": 1.5})

    def test_pairs(self):
        table = pd.DataFrame({"layer": [0, 1, 0], "a": ["x", "x", "y"], "b": ["y", "y", "z"]})
        assert PairSampling.of(table).named == (("x", "y"), ("y", "z"))
        assert PairSampling.of(np.array([["x", "y"], ["y", "z"]])).named == (("x", "y"), ("y", "z"))
        with pytest.raises(InputError, match="pairs: got a table with columns a, c, wanted a and b"):
            PairSampling.of(pd.DataFrame({"a": ["x"], "c": ["y"]}))

    def test_one_number_or_word_is_a_list_of_one(self):
        from probekit.analysis.settings import as_items

        assert (as_items(16, "twin_ks"), as_items(2.0, "spikes"), as_items("shuffle", "controls")) == (
            (16,), (2.0,), ("shuffle",),
        )  # fmt: skip

    def test_they_are_listed_as_the_model_reads_them(self):
        table = pk.list_concepts("nano", ["a list of values", "the list"] * 9, concepts=["list", "values"])
        assert table["name"].tolist() == ["list", "values"]
        assert table["n_tokens"].tolist() == [18, 9]


def test_a_set_is_short_in_print():
    many = Concepts.from_vocab({f"c{i}": np.arange(50_000) == i for i in range(300)})
    assert repr(many) == "Concepts(300: 300 user; 'c0', 'c1', 'c2', …)"
    assert repr(Concepts.from_words(["cat"])) == "Concepts(1: 1 token; 'cat')"


class TestWhyNoPair:
    """Two values of one column make no testable pair, and the error or the note says so."""

    def test_alone_they_are_refused_with_the_reason(self):
        rows = [{"text": f"some values of the list {i}", "lang": ("en", "fr")[i % 2]} for i in range(400)]
        corpus = as_corpus(pd.DataFrame(rows))
        with pytest.raises(
            InputError,
            match=r"'doc:lang=\w\w' ∧ 'doc:lang=\w\w': 0 tokens with .*two values of one never meet",
        ):
            pk.analyze("nano", corpus, concepts=Concepts.from_column(corpus, "lang"), twins=0, progress=False)

    def test_of_pairs_asked_for_those_left_out_are_told(self):
        """Two values of one column, and a concept that is everywhere; the third pair is tested."""
        rng = np.random.default_rng(0)
        n_docs, doc_len = 400, 20
        doc, pos = np.repeat(np.arange(n_docs), doc_len), np.tile(np.arange(doc_len), n_docs)
        labels = np.stack(
            [doc % 2 == 0, doc % 2 == 1, rng.random(len(doc)) < 0.4, np.ones(len(doc), bool)], axis=1
        )
        names = ("doc:lang=en", "doc:lang=fr", "word", "all")
        tokens = LabelledTokens(
            LabelColumns.from_dense(labels), doc, pos, splitmix64(np.arange(n_docs, dtype=np.uint64)), names,
            ("document", "document", "token", "token"),
        )  # fmt: skip
        design = plan(tokens, Settings(), PairSampling.of([names[:2], names[1:3], names[2:]]))
        assert design.pairs.tolist() == [[1, 2]]
        same, always = design.refused
        assert same.startswith("'doc:lang=en' ∧ 'doc:lang=fr': 0 tokens with ")
        assert same.endswith("pair each with concepts of the text, such as the defaults)")
        assert always.startswith("'word' ∧ 'all': 0 tokens with ")
        assert refused_note(design) == [f"2 of the pairs asked for cannot be tested: {same}; {always}."]
