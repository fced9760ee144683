"""Token ids of a corpus: rows as a model is shown them, and how texts and given ids become such rows.

Source: the project's document rules. One document a row, cut at `context` (the beginning-of-sequence token
included), exactly one such token first when the model has one, for an encoder its end mark last, right-padded with -1. Four
kinds of position are shown to the model and never counted: the marks at both ends, the `skip_first` positions after the
first one, every special token of the tokenizer wherever it stands, and padding.
Axes: doc (row), pos (column; 0 is the first token the model sees), token (running index over counted
positions).
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int32, UInt64

from probekit.errors import InputError, ShapeError
from probekit.text.encoding import Encoder

PADDING = -1
SKIP_FIRST = 1
"""Positions after the start mark that `analyze` reads and does not count (analyses/results/attention_sinks.md)."""
BATCH_DOCS = 256  # documents handed to the tokenizer at once: enough for its threads, little read in vain

# Half a character, as broken JSON may hold; it is no text to a tokenizer.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

Progress = Callable[[int, int], object]
Row = Int[np.ndarray, " _pos"]


@dataclass(frozen=True, eq=False)
class Tokens:
    """Token ids of a corpus, one document a row."""

    ids: Int32[np.ndarray, "doc pos"]
    """Token ids; padding on the right is -1. The width is that of the longest row."""
    lengths: Int[np.ndarray, " doc"]
    """Tokens of each row, the beginning-of-sequence token included."""
    bos_id: int | None
    """Id of the beginning-of-sequence token in column 0 of every row; None when rows start with text."""
    name: str
    """Name of the corpus they came from."""
    source: Int[np.ndarray, " doc"] | None = None
    """Place in the corpus of each row's document; None where every document of the corpus has its row."""
    skip_first: int = 0
    """Positions after the beginning-of-sequence token (from the first one on where there is none) that are not counted."""
    special: tuple[int, ...] = ()
    """Ids of special tokens, ascending: they are read and never counted."""
    end_id: int | None = None
    """Id of the mark behind the text of every row, as encoders read it ([SEP]); None where rows end with text."""
    texts: UInt64[np.ndarray, " doc"] | None = None
    """Digest of the text of each row; None where the rows were no text, or it is not known any more."""

    def __post_init__(self) -> None:
        """Refuse ids and lengths that contradict each other."""
        inside = np.arange(self.ids.shape[1]) < self.lengths[:, None]
        longest = self.lengths.max(initial=0)
        if inside.shape != self.ids.shape or longest > inside.shape[1] or ((self.ids >= 0) != inside).any():
            raise ShapeError(
                f"tokens of corpus {self.name!r}: wanted ids ≥ 0 within each row's length and {PADDING} after"
            )
        if (
            self.end_id is not None
            and (self.ids[np.arange(len(self.ids)), self.lengths - 1] != self.end_id).any()
        ):
            raise ShapeError(
                f"tokens of corpus {self.name!r}: wanted the end mark {self.end_id} last in each row"
            )

    @property
    def n_docs(self) -> int:
        """Rows."""
        return self.ids.shape[0]

    @property
    def n_tokens(self) -> int:
        """Counted tokens."""
        return int(self.counted.sum())

    @cached_property
    def documents(self) -> Int[np.ndarray, " doc"]:
        """Place in the corpus of each row's document."""
        return np.arange(self.n_docs) if self.source is None else self.source

    @property
    def first_pos(self) -> int:
        """Column of the first position of the text: 1 behind a beginning-of-sequence token, else 0."""
        return 0 if self.bos_id is None else 1

    @cached_property
    def text_stops(self) -> Int[np.ndarray, " doc"]:
        """Column behind the last token of each document's own text."""
        return self.lengths - (self.end_id is not None)

    @cached_property
    def text(self) -> Bool[np.ndarray, "doc pos"]:
        """Where the document's own tokens stand, counted or not: no mark put at an end, no padding."""
        text = self.ids >= 0
        text[:, : self.first_pos] = False
        if self.end_id is not None:
            text[np.arange(self.n_docs), self.text_stops] = False
        return text

    @cached_property
    def counted(self) -> Bool[np.ndarray, "doc pos"]:
        """Where a counted token stands."""
        return self.text & counts(self.ids, self.first_pos, self.skip_first, self.special)

    @cached_property
    def whole(self) -> Tokens:
        """The same rows with every position of the text counted, as concepts read them: labels look back at all of it."""
        if not self.skip_first and not self.special:
            return self
        return replace(self, skip_first=0, special=())

    def special_in_text(self) -> dict[int, int]:
        """How often each special token stands in the documents, the marks put at their ends left aside."""
        found, n_times = np.unique(self.ids[self.text & np.isin(self.ids, self.special)], return_counts=True)
        return dict(zip(found.tolist(), n_times.tolist(), strict=True))

    @cached_property
    def doc_of_token(self) -> Int32[np.ndarray, " token"]:
        """Row of each counted token."""
        return np.nonzero(self.counted)[0].astype(np.int32)

    @cached_property
    def pos_of_token(self) -> Int32[np.ndarray, " token"]:
        """Column of each counted token."""
        return np.nonzero(self.counted)[1].astype(np.int32)

    @cached_property
    def fingerprint(self) -> str:
        """blake2b of the ids inside the rows, their lengths, the marks and what is not counted."""
        digest = hashlib.blake2b(digest_size=16)
        ends = "" if self.end_id is None else f" end={self.end_id}"
        digest.update(f"tokens/1 bos={self.bos_id}{ends} docs={self.n_docs}\n".encode())
        digest.update(self.lengths.astype("<i8").tobytes())
        digest.update(self.ids[self.ids >= 0].astype("<i4").tobytes())
        if (self.counted != self.text).any():
            digest.update(np.packbits(self.counted[self.text]).tobytes())
        return digest.hexdigest()


def counts(
    ids: Int[np.ndarray, "*rows pos"], first_pos: int, skip_first: int, special: tuple[int, ...]
) -> Bool[np.ndarray, "*rows pos"]:
    """Where a position of the text is counted; the one place that knows the rule.

    Args:
        ids: token ids of one row or of several.
        first_pos: column of the first position of the text.
        skip_first: positions from there on that are read only.
        special: ids that are never counted.
    """
    counted = (ids >= 0) & (np.arange(ids.shape[-1]) >= first_pos + skip_first)
    return counted & ~np.isin(ids, special) if special else counted


def encoded_rows(
    texts: Iterator[str],
    tokenizer: Any,
    context: int,
    bos_id: int | None,
    max_tokens: int,
    end_id: int | None = None,
) -> Iterator[Row]:
    """Rows of ids of the texts, tokenized a batch at a time, and of each text no more than its row needs.

    A text that begins with the beginning-of-sequence token itself gets no second one. With an end mark every row ends
    with it, cut or not.
    """
    tail = [] if end_id is None else [end_id]
    readable = (_LONE_SURROGATE.sub("\ufffd", text) for text in texts)
    encoder = Encoder(tokenizer)
    n_docs = min(BATCH_DOCS, max_tokens // context + 1)
    while batch := list(itertools.islice(readable, n_docs)):
        for ids, _ in encoder.first(batch, context):
            head = [] if bos_id is None or ids[:1] == [bos_id] else [bos_id]
            row = [*head, *ids][: context - len(tail)]
            yield np.array([*row, *tail] if row[-1:] != tail else row, dtype=np.int32)


def cut_rows(
    given: Int32[np.ndarray, "doc pos"], context: int, bos_id: int | None
) -> tuple[Iterator[Row], int | None]:
    """Rows of ready-made ids cut at `context`, and `bos_id` if column 0 holds it everywhere, else None."""
    starts_so = bos_id is not None and bool((given[:, 0] == bos_id).all())
    rows = (row[row >= 0][:context] for row in given)
    return rows, bos_id if starts_so else None


def take_rows(
    rows: Iterator[Row],
    max_tokens: int,
    n_counted: Callable[[Row], int],
    progress: Progress | None,
) -> tuple[list[Row], list[int]]:
    """Rows with a counted token, in order, until the next one would exceed `max_tokens`, and their places.

    Args:
        rows: ids of each document.
        max_tokens: most counted tokens.
        n_counted: counted tokens of a row.
        progress: called with (counted tokens so far, max_tokens) now and then.
    """
    taken: list[Row] = []
    source: list[int] = []
    n_tokens = 0
    for place, row in enumerate(rows):
        n_here = n_counted(row)
        if n_here < 1:
            continue
        if taken and n_tokens + n_here > max_tokens:
            break
        taken.append(row)
        source.append(place)
        n_tokens += n_here
        if progress is not None and len(taken) % BATCH_DOCS == 0:
            progress(min(n_tokens, max_tokens), max_tokens)
    if progress is not None:
        progress(max_tokens, max_tokens)
    return taken, source


def as_block(rows: list[Row], source: list[int], bos_id: int | None, name: str) -> Tokens:
    """Rows side by side, padded on the right."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    ids = np.full((len(rows), int(lengths.max())), PADDING, dtype=np.int32)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return Tokens(ids, lengths, bos_id, name, np.array(source))


def require_room(context: int, skip_first: int, bos_id: int | None, end_id: int | None = None) -> None:
    """Refuse a context in which no position could be counted.

    Raises:
        InputError: every position is a mark or skipped, or skip_first is negative.
    """
    if skip_first < 0:
        raise InputError(f"skip_first={skip_first}, wanted 0 or more positions")
    if context <= skip_first + (bos_id is not None) + (end_id is not None):
        skipped = f" behind skip_first={skip_first}" if skip_first else ""
        raise InputError(f"context={context} leaves no room for a counted token{skipped}; raise it")
