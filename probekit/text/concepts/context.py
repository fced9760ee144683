"""Labels a token's context: position, brackets, quotes, lines, sentences, repetition; it only looks back.

Source: context concepts in the manner of sparse-probing work (Gurnee et al. 2023) and the induction
literature, defined on the text up to and including the token, as a model reads it. The text is never built:
each vocabulary id brings a row of numbers (`CharTable`) and the rest is running sums and maxima of them
along each document.
Axes: doc, pos; `C` is the number of characters before a token, an *absolute place* counts characters of a
document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int32

from probekit.errors import ShapeError
from probekit.fingerprint import of_value
from probekit.text.concepts.blocks import Column, Where
from probekit.text.concepts.characters import INDENTS, KINDS, CharTable
from probekit.text.tokens import Tokens

BLOCK_DOCS = 1024  # rows labelled at once: running sums stay in cache, memory stays small
SENTENCE_HEAD, LATE = 4, 16
LINE_HEAD = 4
RECENT, LONG_AGO = 8, 32

Grid = Int32[np.ndarray, "doc pos"]
Flags = Bool[np.ndarray, "doc pos"]


class Reading:
    """Running facts about a block of documents, each computed once and only if asked for."""

    def __init__(self, table: CharTable, ids: Int32[np.ndarray, "doc pos"], counted: Flags) -> None:
        """Look at one block.

        Args:
            table: numbers of each vocabulary id.
            ids: token ids.
            counted: where a counted token stands; the others add no character.
        """
        self.table = table
        self.counted = counted
        self._depths: dict[str, Grid] = {}
        self.ids = np.where(counted, ids, table.n_vocab)  # the row after the last id is empty

    def of(self, column: str) -> Grid:
        """One number of the table at every token."""
        return self.table.columns[column][self.ids]

    @cached_property
    def ends(self) -> Grid:
        """Characters up to and including each token."""
        return _running_sum(self.of("n_chars"))

    @cached_property
    def starts(self) -> Grid:
        """Characters before each token."""
        return self.ends - self.of("n_chars")

    def last(self, column: str) -> Grid:
        """Absolute place of the last character of a kind up to and including each token; -1: none."""
        place = self.of(column)
        return np.maximum.accumulate(np.where(place >= 0, place + self.starts, -1), axis=1)

    def last_before(self, column: str) -> Grid:
        """Absolute place of the last character of a kind in the tokens before; -1 if there is none."""
        return _shifted(self.last(column), -1)

    @cached_property
    def ink(self) -> Grid:
        """Offset of a token's first character that is not white space; -1 if it has none."""
        return self.of("first_ink")

    @cached_property
    def newline_before_ink(self) -> Grid:
        """Absolute place of the last line break before the token's first ink; -1 if there is none."""
        lead = self.of("newline_in_lead")
        return np.maximum(self.last_before("last_newline"), np.where(lead >= 0, lead + self.starts, -1))

    @cached_property
    def last_newline(self) -> Grid:
        """Absolute place of the last line break up to and including the token."""
        return self.last("last_newline")

    @cached_property
    def line_start(self) -> Flags:
        """The token holds the first ink of a line."""
        ink_before = self.last_before("last_ink")
        return (self.ink >= 0) & ((ink_before < 0) | (self.newline_before_ink > ink_before))

    @cached_property
    def line_code(self) -> Grid:
        """Code of the line that the token's first ink stands in; 0 where it has no ink."""
        indent = self.ink + self.starts - self.newline_before_ink - 1
        own = self.of("ink_kind") * 4 + sum((indent >= limit).astype(np.int32) for limit in INDENTS)
        inner = self.of("inner_line_code")
        after = np.where(inner > 0, inner, np.where(self.line_start, own, 0))
        filled = _shifted(_filled(after), 0)
        return np.where(self.ink < 0, 0, np.where(self.line_start, own, filled)).astype(np.int32)

    @cached_property
    def sentence_start(self) -> Flags:
        """The token holds the first solid character of a sentence."""
        solid = self.of("first_solid")
        solid_before = self.last_before("last_solid")
        lead = self.of("space_in_lead")
        space = np.maximum(self.last_before("last_space"), np.where(lead >= 0, lead + self.starts, -1))
        after_stop = (self.last_before("last_stop") == solid_before) & (space > solid_before)
        return (solid >= 0) & ((solid_before < 0) | after_stop)

    @cached_property
    def sentence_place(self) -> Grid:
        """Absolute place of the current sentence's first solid character; -1 before the first."""
        place = np.where(self.sentence_start, self.of("first_solid") + self.starts, -1)
        return np.maximum.accumulate(place, axis=1)

    @cached_property
    def since_sentence_start(self) -> Grid:
        """Tokens since the current sentence's first one; a large number before the first."""
        column = np.arange(self.ids.shape[1], dtype=np.int32)
        far = np.int32(-(1 << 30))
        return column - np.maximum.accumulate(np.where(self.sentence_start, column, far), axis=1)

    def depth(self, kind: str) -> Grid:
        """Open brackets of a kind after the token; a closing one without partner is passed over."""
        if kind not in self._depths:
            self._depths[kind] = self._depth(kind)
        return self._depths[kind]

    def _depth(self, kind: str) -> Grid:
        net = _running_sum(self.of(f"{kind}_net"))
        lowest = np.minimum.accumulate(_shifted(net, 0) + self.of(f"{kind}_low"), axis=1)
        return net - np.minimum(lowest, 0)

    @cached_property
    def in_quotes(self) -> Flags:
        """An odd number of straight double quotes so far, or more curly ones opened than closed."""
        return (_running_sum(self.of("straight_quotes")) % 2 == 1) | (
            _running_sum(self.of("curly_quotes")) > 0
        )

    @cached_property
    def in_backticks(self) -> Flags:
        """An odd number of backtick runs so far."""
        joined = (self.last_before("last_backtick") == self.starts - 1) & (self.starts > 0)
        runs = self.of("backtick_runs") - (joined & (self.of("starts_backtick") > 0))
        return _running_sum(runs) % 2 == 1

    @cached_property
    def mid_word(self) -> Flags:
        """The token goes on with a letter where a letter stood."""
        joined = (self.last_before("last_letter") == self.starts - 1) & (self.starts > 0)
        return joined & (self.of("starts_letter") > 0)

    @cached_property
    def mid_number(self) -> Flags:
        """The token goes on with a digit where a digit stood."""
        joined = (self.last_before("last_digit") == self.starts - 1) & (self.starts > 0)
        return joined & (self.of("starts_digit") > 0)

    @cached_property
    def after_number(self) -> Flags:
        """The last ink before the token is a digit and the token does not start with one."""
        digit = self.last_before("last_digit")
        return (
            (digit >= 0)
            & (digit == self.last_before("last_ink"))
            & (self.of("starts_digit") == 0)
            & (self.ink >= 0)
        )

    @cached_property
    def since_line_start(self) -> Grid:
        """Tokens since the one that holds the first ink of a line; a large number before the first."""
        column = np.arange(self.ids.shape[1], dtype=np.int32)
        far = np.int32(-(1 << 30))
        return column - np.maximum.accumulate(np.where(self.line_start, column, far), axis=1)

    @cached_property
    def first_line(self) -> Flags:
        """No line break since the document's first ink."""
        ink = np.where(self.ink >= 0, self.ink + self.starts, np.iinfo(np.int32).max)
        first = np.minimum.accumulate(ink, axis=1)
        return (self.ends > first) & (self.last_newline < first)

    @cached_property
    def repetition(self) -> Grid:
        """Tokens since the same id stood in the document; 0 if it never did."""
        return _distance_to_same([self.ids], self.counted)

    @cached_property
    def bigram_repetition(self) -> Grid:
        """Tokens since the same id followed the same id in the document; 0 if it never did."""
        second = self.counted & _shifted(self.counted, 0)
        return _distance_to_same([_shifted(self.ids, 0), self.ids], second)

    @cached_property
    def trigram_repetition(self) -> Grid:
        """Tokens since the same three ids stood in a row in the document; 0 if they never did."""
        third = self.counted & _shifted(self.counted, 0) & _shifted(_shifted(self.counted, 0), 0)
        before = _shifted(self.ids, 0)
        return _distance_to_same([_shifted(before, 0), before, self.ids], third)


def _line_is(kind: str) -> Callable[[Reading], Flags]:
    number = KINDS.index(kind) + 1
    return lambda r: r.line_code // 4 == number


CONTEXTS: dict[str, tuple[Callable[[Reading], Flags], str]] = {
    "in:quotes": (lambda r: r.in_quotes, "inside double quotes, the opening one included"),
    "in:parentheses": (lambda r: r.depth("round") > 0, "inside ( ), the opening one included"),
    "in:square-brackets": (lambda r: r.depth("square") > 0, "inside [ ], the opening one included"),
    "in:braces": (lambda r: r.depth("curly") > 0, "inside { }, the opening one included"),
    "in:nested-brackets": (
        lambda r: r.depth("round") + r.depth("square") + r.depth("curly") > 1,
        "inside two or more brackets of any kind",
    ),
    "in:backticks": (
        lambda r: r.in_backticks,
        "inside backticks, single or double, the opening run included",
    ),
    "at:sentence-start": (lambda r: r.sentence_start, "holds the first letter or digit of a sentence"),
    "in:sentence-head": (
        lambda r: r.since_sentence_start < SENTENCE_HEAD,
        f"among the first {SENTENCE_HEAD} tokens of a sentence",
    ),
    "in:late-sentence": (
        lambda r: (r.since_sentence_start >= LATE) & (r.sentence_place >= 0),
        f"{LATE} tokens or more after the start of the sentence",
    ),
    "in:comma-clause": (
        lambda r: (r.sentence_place >= 0) & (r.last("last_comma") > r.sentence_place),
        "a comma has stood in this sentence",
    ),
    "at:line-start": (lambda r: r.line_start, "holds the first character of a line"),
    "in:first-line": (lambda r: r.first_line, "in the first line of the document"),
    "in:line-head": (
        lambda r: r.since_line_start < LINE_HEAD,
        f"among the first {LINE_HEAD} tokens of a line, from its first ink on",
    ),
    "in:indented-line": (lambda r: r.line_code % 4 >= 1, "in a line that starts two or more places in"),
    "in:indent-4": (lambda r: r.line_code % 4 >= 2, "in a line that starts four or more places in"),
    "in:indent-8": (lambda r: r.line_code % 4 == 3, "in a line that starts eight or more places in"),
    "line:capital": (_line_is("capital"), "in a line that starts with a capital"),
    "line:lower": (_line_is("lower"), "in a line that starts with a small letter"),
    "line:list": (_line_is("list"), "in a line that starts with -, *, + or a bullet"),
    "line:prompt": (_line_is("prompt"), "in a line that starts with >"),
    "line:number": (_line_is("number"), "in a line that starts with a digit"),
    "line:hash": (_line_is("hash"), "in a line that starts with #, a heading or a comment"),
    "line:colon": (_line_is("colon"), "in a line that starts with a colon"),
    "line:has-colon": (lambda r: r.last("last_colon") > r.last_newline, "a colon has stood in this line"),
    "line:has-equals": (lambda r: r.last("last_equals") > r.last_newline, "an = has stood in this line"),
    "at:mid-word": (lambda r: r.mid_word, "goes on with a letter right after a letter"),
    "at:mid-number": (lambda r: r.mid_number, "goes on with a digit right after a digit"),
    "after:number": (
        lambda r: r.after_number,
        "follows a digit, white space between them left aside, and starts with none",
    ),
    "seen:token": (lambda r: r.repetition > 0, "the same token has stood in this document"),
    "seen:recently": (
        lambda r: (r.repetition > 0) & (r.repetition <= RECENT),
        f"the same token stood at most {RECENT} places back",
    ),
    "seen:long-ago": (
        lambda r: r.repetition > LONG_AGO,
        f"the same token stood in this document, but not among the last {LONG_AGO}",
    ),
    "seen:bigram": (lambda r: r.bigram_repetition > 0, "the same two tokens have followed each other before"),
    "seen:trigram": (lambda r: r.trigram_repetition > 0, "the same three tokens have stood in a row before"),
    "seen:other-next": (
        lambda r: (_shifted(r.repetition, 0) > 0) & (r.bigram_repetition == 0),
        "the token before has stood in this document, but never followed by this one",
    ),
}


@dataclass(frozen=True, eq=False)
class ContextBlock:
    """Context concepts, all at lag 0."""

    columns: tuple[Column, ...]
    """One concept a column; its name is a key of `CONTEXTS`."""
    table: CharTable
    """Numbers of each vocabulary id."""

    @property
    def fingerprint(self) -> str:
        """Digest of the names and of the vocabulary's numbers; what a name means is in the code."""
        return of_value(self)

    def label(self, tokens: Tokens) -> list[Where]:
        """Sorted counted tokens of each column."""
        largest = int(tokens.ids.max(initial=0))
        if largest >= self.table.n_vocab:
            raise ShapeError(
                f"corpus {tokens.name!r} holds token id {largest} but the tokenizer ends at "
                f"{self.table.n_vocab - 1}; pass the tokenizer that made these tokens"
            )
        found: list[list[Where]] = [[] for _ in self.columns]
        n_before = 0
        for ids, counted in _row_blocks(tokens):
            reading = Reading(self.table, ids, counted)
            for column, parts in zip(self.columns, found, strict=True):
                flags = CONTEXTS[column.name][0](reading)
                parts.append((np.flatnonzero(flags[counted]) + n_before).astype(np.int32))
            n_before += int(counted.sum())
        return [np.concatenate(parts) for parts in found]


def context_columns(names: Iterator[str] | None = None) -> tuple[Column, ...]:
    """Descriptions of context concepts, all of them by default.

    Args:
        names: keys of `CONTEXTS`.
    """
    return tuple(Column(name, "context", 0, CONTEXTS[name][1]) for name in (names or iter(CONTEXTS)))


def _row_blocks(tokens: Tokens) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, tokens.n_docs, BLOCK_DOCS):
        rows = slice(start, start + BLOCK_DOCS)
        yield tokens.ids[rows], tokens.counted[rows]


def _running_sum(grid: Int[np.ndarray, "doc pos"]) -> Grid:
    return np.cumsum(grid, axis=1, dtype=np.int32)


def _shifted(grid: Any, first: int) -> Any:
    """The grid one place to the right, `first` in column 0."""
    shifted = np.empty_like(grid)
    shifted[:, 0] = first
    shifted[:, 1:] = grid[:, :-1]
    return shifted


def _filled(codes: Int[np.ndarray, "doc pos"]) -> Grid:
    """Each zero replaced by the last number before it."""
    column = np.arange(codes.shape[1])
    source = np.maximum.accumulate(np.where(codes > 0, column, 0), axis=1)
    return np.take_along_axis(codes, source, axis=1).astype(np.int32)


def _distance_to_same(keys: list[Grid], valid: Flags) -> Grid:
    """Places back to the last valid cell of the row where every key is the same; 0 where there is none."""
    doc, pos = np.nonzero(valid)
    values = [key[valid] for key in keys]
    order = np.arange(len(doc))
    for value in values:
        for digit in (value & 0xFFFF, value >> 16):  # 16 bits at a time: numpy then sorts by radix
            if digit.any():
                order = order[np.argsort(digit[order].astype(np.uint16), kind="stable")]
    doc, pos = doc[order], pos[order]
    same = doc[1:] == doc[:-1]
    for value in values:
        same &= value[order][1:] == value[order][:-1]
    distance = np.zeros(valid.shape, dtype=np.int32)
    distance[doc[1:], pos[1:]] = np.where(same, pos[1:] - pos[:-1], 0)
    return distance
