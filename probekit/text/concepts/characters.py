"""Turns each vocabulary id into a row of numbers: its characters, and where each kind of them stands.

Source: the character classes that the context concepts speak of. Offsets count characters inside a token,
-1 means that there is none. *Ink* is anything but white space; *solid* is ink that is neither quote,
bracket nor backtick.
Axes: vocab (ids; one empty row is added after the last for places that hold no counted token).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from probekit.text.concepts.vocabulary import Vocabulary

STOPS = ".!?。！？"
WRAPPERS = "\"'“”‘’()[]{}`"
LIST_MARKS = "-*+•"
PROMPT = ">"
BRACKETS = {"round": "()", "square": "[]", "curly": "{}"}

_BACKTICK_RUN = re.compile("`+")


@dataclass(frozen=True, eq=False)
class CharTable:
    """Numbers of every vocabulary id, by name."""

    columns: dict[str, Int32[np.ndarray, " vocab"]]
    """One array a number; the last entry is that of an empty string."""

    @property
    def n_vocab(self) -> int:
        """Ids, the added empty one left out."""
        return len(self.columns["n_chars"]) - 1


def char_table(vocabulary: Vocabulary) -> CharTable:
    """The numbers of a vocabulary.

    Args:
        vocabulary: the surfaces.
    """
    rows = [_numbers(surface) for surface in (*vocabulary.surfaces, "")]
    return CharTable({name: np.array([row[name] for row in rows], dtype=np.int32) for name in rows[0]})


KINDS = ("capital", "lower", "list", "prompt", "number", "hash", "colon", "other")
"""What a line is by its first ink, numbered from 1."""
INDENTS = (2, 4, 8)
"""Places in from which a line is one, two and three levels deep."""


def ink_kind(letter: str) -> int:
    """What a line that starts with this character is: its place in KINDS, from 1.

    Args:
        letter: the first ink of the line.
    """
    if letter.isupper():
        return 1
    if letter.islower():
        return 2
    if letter in LIST_MARKS:
        return 3
    if letter.isdigit():
        return 5
    return {PROMPT: 4, "#": 6, ":": 7}.get(letter, len(KINDS))


def line_code(letter: str, indent: int) -> int:
    """Kind of a line's first ink times four, plus how many of INDENTS it is indented by.

    Args:
        letter: the first ink of the line.
        indent: characters of the line before it.
    """
    return ink_kind(letter) * 4 + sum(indent >= limit for limit in INDENTS)


def _numbers(surface: str) -> dict[str, int]:
    ink = [place for place, letter in enumerate(surface) if not letter.isspace()]
    solid = [place for place in ink if surface[place] not in WRAPPERS]
    first_ink, first_solid = (ink[0] if ink else -1), (solid[0] if solid else -1)
    lead = surface[:first_ink] if ink else surface
    numbers = {
        "n_chars": len(surface),
        "first_ink": first_ink,
        "last_ink": ink[-1] if ink else -1,
        "first_solid": first_solid,
        "last_solid": solid[-1] if solid else -1,
        "newline_in_lead": lead.rfind("\n"),
        "last_newline": surface.rfind("\n"),
        "space_in_lead": _last(surface[:first_solid] if solid else surface, str.isspace),
        "last_space": _last(surface, str.isspace),
        "last_stop": _last(surface, STOPS.__contains__),
        "last_comma": surface.rfind(","),
        "last_colon": surface.rfind(":"),
        "last_equals": surface.rfind("="),
        "last_backtick": surface.rfind("`"),
        "last_letter": _last(surface, str.isalpha),
        "last_digit": _last(surface, str.isdigit),
        "starts_digit": int(surface[:1].isdigit()),
        "starts_letter": int(surface[:1].isalpha()),
        "starts_backtick": int(surface[:1] == "`"),
        "backtick_runs": len(_BACKTICK_RUN.findall(surface)),
        "straight_quotes": surface.count('"'),
        "curly_quotes": surface.count("“") - surface.count("”"),
        "ink_kind": ink_kind(surface[first_ink]) if ink else 0,
        "inner_line_code": _inner_line_code(surface, first_ink),
    }
    for kind, (opening, closing) in BRACKETS.items():
        numbers[f"{kind}_net"], numbers[f"{kind}_low"] = _balance(surface, opening, closing)
    return numbers


def _last(surface: str, test: Callable[[str], bool]) -> int:
    return max((place for place, letter in enumerate(surface) if test(letter)), default=-1)


def _inner_line_code(surface: str, first_ink: int) -> int:
    """Code of a line that starts after the token's first ink and has ink in the token; 0 if there is none."""
    newline = surface.rfind("\n")
    if first_ink < 0 or newline < first_ink:
        return 0
    line = surface[newline + 1 :]
    body = line.lstrip()
    return line_code(body[0], len(line) - len(body)) if body else 0


def _balance(surface: str, opening: str, closing: str) -> tuple[int, int]:
    """Brackets opened less closed, and the lowest that difference gets inside the token."""
    net = lowest = 0
    for letter in surface:
        net += (letter == opening) - (letter == closing)
        lowest = min(lowest, net)
    return net, lowest
