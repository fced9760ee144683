"""Concepts listed in a TOML file: what it may hold, and what it says about mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.errors import ConfigError, InputError
from probekit.text.concepts.concepts import Concepts
from probekit.text.corpus import Corpus

GOOD = """
context = ["in:quotes", "seen:token"]

[[tokens]]
text = [" the", " a"]
lags = [0, 1]

[[class]]
name = "colour"
text = [" is"]
pattern = "^ (was|can)$"
lags = [0, 2]
"""


@pytest.fixture
def bpe(all_tokenizers):
    return all_tokenizers["byte-level"]


@pytest.fixture
def read(tmp_path, bpe):
    def read_text(text: str, tokens=None) -> Concepts:
        path = tmp_path / "concepts.toml"
        path.write_text(text)
        return Concepts.from_toml(path, bpe, tokens)

    return read_text


def test_a_file_of_every_part(read, bpe) -> None:
    concepts = read(GOOD)
    assert concepts.names == (
        'cur=" the"', 'cur=" a"', 'prev=" the"', 'prev=" a"', "cur:colour", "prev2:colour",
        "in:quotes", "seen:token",
    )  # fmt: skip
    assert concepts.kinds == ("token",) * 4 + ("class",) * 2 + ("context",) * 2
    tokens = Corpus.from_texts(['x is "the was the is']).tokenize(bpe, context=32, max_tokens=99, bos_id=None)
    read_as = bpe.convert_ids_to_tokens(tokens.ids[0])
    where = concepts.label(tokens).where("cur:colour")
    assert [read_as[t] for t in where] == ["Ġis", "Ġwas", "Ġis"]
    np.testing.assert_array_equal(
        concepts.label(tokens).where("prev2:colour"), where[where + 2 < tokens.n_tokens] + 2
    )


def test_defaults_may_be_asked_for(read, bpe, generated) -> None:
    tokens = Corpus.from_texts(generated(50, seed=8)).tokenize(bpe, context=64, max_tokens=9_999, bos_id=None)
    concepts = read("defaults = true\n[[class]]\nname = 'mine'\ntext = [' the']\n", tokens)
    assert concepts.names == (*Concepts.defaults(bpe, tokens).names, "cur:mine")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("colour = 3", ConfigError, "'concepts.toml': unknown key 'colour'; wanted defaults, context"),
        ("[[class]]\nname = 'a'\nlag = [0]", ConfigError, r"unknown key 'class\.0\.lag'"),
        ("[[class]]\npattern = 'a'", ConfigError, r"class\.0\.name: Field required"),
        ("[[tokens]]\ntext = []", ConfigError, r"tokens\.0\.text: List should have at least 1 item"),
        (
            "[[tokens]]\ntext = [' the']\nlags = [-1]",
            ConfigError,
            r"tokens\.0\.lags\.0: Input should be greater",
        ),
        (
            "[[tokens]]\ntext = [' the']\nlags = [0.5]",
            ConfigError,
            r"tokens\.0\.lags\.0: Input should be a valid int",
        ),
        ("[[tokens]]\ntext = ['qqqqq']", ConfigError, '"qqqqq" is not a single token of this tokenizer'),
        ("[[tokens]]\ntext = ['']", ConfigError, '"" is not a single token of this tokenizer'),
        ("[[class]]\nname = 'a'\npattern = '('", ConfigError, "class 'a': bad pattern"),
        ("[[class]]\nname = 'a'\npattern = 'qqqqq'", ConfigError, "class 'a' holds no token"),
        ("context = ['in:space']", ConfigError, "unknown context concept 'in:space'; known: in:quotes, "),
        ("defaults = true", ConfigError, "defaults = true needs the corpus"),
        ("= 3", ConfigError, "is not valid TOML"),
        ("", InputError, "the set of concepts is empty"),
    ],
)
def test_mistakes_in_a_file_are_named(read, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        read(text)
    assert type(caught.value) is error


def test_a_missing_file_is_named(tmp_path, bpe) -> None:
    with pytest.raises(InputError, match=r"concepts file '.*none\.toml' cannot be read: No such file"):
        Concepts.from_toml(tmp_path / "none.toml", bpe)
