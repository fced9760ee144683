"""Reads concepts from a TOML file.

    defaults = false                       # true: the default concepts as well
    context = ["in:quotes", "seen:token"]  # context concepts by name (true above holds them already)
    next = true                            # identity and classes of the next token
    phrases = ["social security"]          # last token at lag 0, the one before at lag 1, …
    compounds = true                       # the compound words of Gurnee et al. that are two tokens
    lexicon = ["pos", "sentiment"]         # of pos, frequency, sentiment; needs the extra `lexicon`
    columns = ["language"]                 # columns of the corpus's table, each value a label of whole documents
    spans = "marked.jsonl"                 # beside this file: a line {"name", "document", "start", "end"} a span
    plugins = ["mine"]                     # entry points of the group probekit.concepts

    [ngrams]                               # a grid of the most frequent bigrams
    first = 30
    second = 30

    [[tokens]]                             # token identity: one concept for each string and lag
    text = [" the", " a"]                  # surfaces as in the text, each a single token of the model
    lags = [0, 1]                          # default [0]

    [[class]]                              # a set of tokens: one concept for each lag
    name = "colour"
    text = [" red", " blue"]               # surfaces, and / or
    pattern = "^ ?(green|grey)$"           # a regular expression searched in every surface of the vocabulary
    lags = [0, 1]

An unknown key, a string that is no single token and a pattern that no token matches are refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from probekit.errors import ConfigError, InputError
from probekit.text.concepts.blocks import Block, Column, VocabBlock, lag_word, place
from probekit.text.concepts.characters import char_table
from probekit.text.concepts.context import CONTEXTS, ContextBlock, context_columns
from probekit.text.concepts.defaults import DEFAULT_FREQUENT, default_blocks
from probekit.text.concepts.spelled import Spelled, ids_of, places_of
from probekit.text.concepts.tokens import identity_block
from probekit.text.concepts.vocabulary import Vocabulary, read_vocabulary
from probekit.text.tokens import Tokens

P = ParamSpec("P")
R = TypeVar("R")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Lags = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class _TokensEntry(_Strict):
    text: Annotated[list[str], Field(min_length=1)]
    lags: Lags = [0]


class _ClassEntry(_Strict):
    name: Annotated[str, Field(min_length=1)]
    text: list[str] = []
    pattern: str | None = None
    lags: Lags = [0]


class _Grid(_Strict):
    first: Annotated[int, Field(ge=1)] = 30
    second: Annotated[int, Field(ge=1)] = 30


class _SpanLine(_Strict):
    name: Annotated[str, Field(min_length=1)]
    document: int
    start: int
    end: int


class ConceptFile(_Strict):
    """What a file lists."""

    defaults: bool = False
    context: list[str] = []
    next: bool = False
    ngrams: _Grid | None = None
    phrases: list[str] = []
    compounds: bool = False
    lexicon: list[str] = []
    columns: list[str] = []
    spans: str | None = None
    plugins: list[str] = []
    tokens: list[_TokensEntry] = []
    classes: list[_ClassEntry] = Field(default=[], alias="class")


def toml_blocks(path: Path, file: ConceptFile, tokenizer: Any, tokens: Tokens | None) -> tuple[Block, ...]:
    """Blocks of the defaults, tokens, classes and contexts that a file lists.

    Args:
        path: the TOML file.
        file: what it lists.
        tokenizer: a `transformers` tokenizer.
        tokens: the tokens to be labelled; only needed for `defaults = true`.
    """
    vocabulary = read_vocabulary(tokenizer)
    places = places_of(vocabulary)
    blocks: list[Block] = []
    if file.defaults:
        if tokens is None:
            raise ConfigError(
                f"{path.name}: defaults = true needs the corpus; pass the tokens to be labelled"
            )
        blocks += default_blocks(tokenizer, tokens, n_frequent=DEFAULT_FREQUENT)
    for entry in file.tokens:
        ids = [_with_path(path, ids_of, places, text)[0] for text in entry.text]
        blocks.append(identity_block(vocabulary, ids, entry.lags))
    blocks += [_class(path, vocabulary, entry) for entry in file.classes]
    if file.context:
        unknown = [name for name in file.context if name not in CONTEXTS]
        if unknown:
            raise ConfigError(
                f"{path.name}: unknown context concept {unknown[0]!r}; known: {', '.join(CONTEXTS)}"
            )
        blocks.append(ContextBlock(context_columns(iter(file.context)), char_table(vocabulary)))
    return tuple(blocks)


def read_spans(path: Path) -> dict[str, list[tuple[int, int, int]]]:
    """Spans marked by hand, from a file of JSON lines.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be read, or a line is no span.
    """
    spans: dict[str, list[tuple[int, int, int]]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"spans file {str(path)!r} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            span = _SpanLine.model_validate_json(line)
        except ValidationError as error:
            raise InputError(
                f"spans file {path.name!r}, line {number}: {error.errors()[0]['msg']}; wanted "
                '{"name": …, "document": 0, "start": 3, "end": 9}'
            ) from error
        spans.setdefault(span.name, []).append((span.document, span.start, span.end))
    return spans


def parse_toml(path: Path) -> ConceptFile:
    """What a file of concepts lists.

    Args:
        path: the TOML file.

    Raises:
        InputError: it cannot be read.
        ConfigError: it is no TOML, or a key or value is none of those above.
    """
    try:
        return ConceptFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"concepts file {str(path)!r} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"unknown key {where!r}" if first["type"] == "extra_forbidden" else f"{where}: {first['msg']}"
        raise ConfigError(
            f"concepts file {path.name!r}: {what}; wanted defaults, context, [[tokens]] with text and lags, "
            "[[class]] with name, text, pattern and lags, next, ngrams, phrases, compounds, lexicon, columns, spans, plugins"
        ) from error
    except (ValueError, RecursionError) as error:  # no TOML or UTF-8; too many digits; nested too deep
        raise ConfigError(f"concepts file {path.name!r} is not valid TOML: {error}") from error


def _class(path: Path, vocabulary: Vocabulary, entry: _ClassEntry) -> VocabBlock:
    mask = _with_path(
        path, Spelled(entry.name, surfaces=tuple(entry.text), pattern=entry.pattern).mask, vocabulary
    )
    columns = tuple(
        Column(
            f"{lag_word(lag)}:{entry.name}",
            "class",
            lag,
            f"{place(lag)} in the class {entry.name!r}",
        )
        for lag in entry.lags
    )
    return VocabBlock(columns, mask[None], (0,) * len(columns))


def _with_path(path: Path, read: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
    """What is read, or an error that names the file."""
    try:
        return read(*args, **options)
    except InputError as error:
        raise ConfigError(f"concepts file {path.name!r}: {error}") from error
