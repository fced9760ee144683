"""The English of docstrings, comments, messages and documentation, and names in code: those of `wording.toml` stay away."""

from __future__ import annotations

import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

import probekit as pk

ROOT = Path(pk.__file__).parents[1]
WORDS = tomllib.loads((ROOT / "tests" / "meta" / "wording.toml").read_text(encoding="utf-8"))
PHRASES, NAMES = WORDS["phrase"], WORDS["name"]
PROSE = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)


def of_python(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every comment and string; what an f-string computes is code and left out."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in PROSE:
            yield token.start[0], re.sub(r"\{[^{}]*\}", "{}", token.string)


def of_markdown(source: str) -> Iterator[tuple[int, str]]:
    """The text without code; paragraphs are joined, since a phrase may break over lines."""
    text = re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), source, flags=re.M | re.S)
    line = 1
    for paragraph in re.split(r"(\n\s*\n)", text):
        yield line, re.sub(r"`[^`]*`", "`x`", paragraph)
        line += paragraph.count("\n")


def hits(parts: Iterator[tuple[int, str]]) -> list[str]:
    """Line, phrase found and what to write instead."""
    return [
        f"{line}: {' '.join(found[0].split())!r} → {phrase['write']}"
        for line, text in parts
        for phrase in PHRASES
        for found in re.finditer(phrase["pattern"], " ".join(text.split()), re.I)
    ]


def identifiers(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every identifier, and of every string that is one: columns are named so."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string
        elif token.type == tokenize.STRING and token.string[1:-1].isidentifier():
            yield token.start[0], token.string[1:-1]


def old_names(parts: Iterator[tuple[int, str]]) -> list[str]:
    """Line, name found and what to write instead."""
    return [
        f"{line}: {text!r} → {name['write']}"
        for line, text in parts
        for name in NAMES
        if re.fullmatch(name["pattern"], text)
    ]


def test_the_package_keeps_to_the_word_list():
    found = [
        f"{path.relative_to(ROOT)}:{hit}"
        for path in sorted((ROOT / "probekit").rglob("*.py"))
        for hit in hits(of_python(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_the_documentation_keeps_to_the_word_list():
    found = [
        f"{path.relative_to(ROOT)}:{hit}"
        for path in DOCUMENTS
        for hit in hits(of_markdown(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase["write"])
def test_every_phrase_is_found_where_it_stands(phrase: dict[str, str]):
    assert re.search(phrase["pattern"], phrase["like"], re.I)
    broken = phrase["like"].replace(" ", "\n    ")
    assert hits(of_python(f'"""{broken}"""\n')), "over a line break as well"
    assert hits(of_markdown(phrase["like"]))


def test_names_in_code_are_left_alone():
    assert hits(of_python("told = keepings(dealt)\nprint(f'{told} bytes')\n")) == []
    assert hits(of_markdown("```python\ntold = 1\n```\nCall `told()`.\n")) == []


def test_names_that_were_given_up_stay_away():
    found = [
        f"{path.relative_to(ROOT)}:{hit}"
        for folder in ("probekit", "tests", "analyses", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for hit in old_names(
            chain([(0, path.stem.removeprefix("test_"))], identifiers(path.read_text(encoding="utf-8")))
        )
    ]
    assert found == []


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name["like"])
def test_every_name_is_found_where_it_stands(name: dict[str, str]):
    old = name["like"]
    for source in (f"x = {old}(1)\n", f"x.{old} = 1\n", f"table['{old}']\n"):
        assert old_names(identifiers(source)), source
    # the control: a longer name is another one, and prose is no business of this list
    assert old_names(identifiers(f"x = my_{old}_of(1)  # {old}\n'said of {old}'\n")) == []
