"""Token ids of a corpus: rows as a model is shown them, and how texts and given ids become such rows.

Source: the project's document rules. One document a row, cut at `context` (the beginning-of-sequence token
included), that token first when the model has one, right-padded with -1; neither it nor padding is ever
counted.
Axes: doc (row), pos (column; 0 is the first token the model sees), token (running index over counted
positions).
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int32

from probekit.errors import ShapeError

PADDING = -1
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

    def __post_init__(self) -> None:
        """Refuse ids and lengths that contradict each other."""
        inside = np.arange(self.ids.shape[1]) < self.lengths[:, None]
        longest = self.lengths.max(initial=0)
        if inside.shape != self.ids.shape or longest > inside.shape[1] or ((self.ids >= 0) != inside).any():
            raise ShapeError(
                f"tokens of corpus {self.name!r}: wanted ids ≥ 0 within each row's length and {PADDING} after"
            )

    @property
    def n_docs(self) -> int:
        """Rows."""
        return self.ids.shape[0]

    @property
    def n_tokens(self) -> int:
        """Counted tokens: without beginning-of-sequence tokens and padding."""
        return int(self.lengths.sum()) - (self.n_docs if self.bos_id is not None else 0)

    @cached_property
    def documents(self) -> Int[np.ndarray, " doc"]:
        """Place in the corpus of each row's document."""
        return np.arange(self.n_docs) if self.source is None else self.source

    @cached_property
    def counted(self) -> Bool[np.ndarray, "doc pos"]:
        """Where a counted token stands."""
        counted = self.ids >= 0
        if self.bos_id is not None:
            counted[:, 0] = False
        return counted

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
        """blake2b of the ids inside the rows, their lengths and the beginning-of-sequence id."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"tokens/1 bos={self.bos_id} docs={self.n_docs}\n".encode())
        digest.update(self.lengths.astype("<i8").tobytes())
        digest.update(self.ids[self.ids >= 0].astype("<i4").tobytes())
        return digest.hexdigest()


def encoded_rows(texts: Iterator[str], tokenizer: Any, context: int, bos_id: int | None) -> Iterator[Row]:
    """Rows of ids of the texts, tokenized a batch at a time."""
    head = [] if bos_id is None else [bos_id]
    readable = (_LONE_SURROGATE.sub("\ufffd", text) for text in texts)
    while batch := list(itertools.islice(readable, BATCH_DOCS)):
        encoded = tokenizer(
            batch,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        for ids in encoded["input_ids"]:
            yield np.array(head + ids[: context - len(head)], dtype=np.int32)


def cut_rows(
    given: Int32[np.ndarray, "doc pos"], context: int, bos_id: int | None
) -> tuple[Iterator[Row], int | None]:
    """Rows of ready-made ids cut at `context`, and `bos_id` if column 0 holds it everywhere, else None."""
    starts_so = bos_id is not None and bool((given[:, 0] == bos_id).all())
    rows = (row[row >= 0][:context] for row in given)
    return rows, bos_id if starts_so else None


def take_rows(
    rows: Iterator[Row], max_tokens: int, bos_id: int | None, progress: Progress | None
) -> tuple[list[Row], list[int]]:
    """Rows with a counted token, in order, until the next one would exceed `max_tokens`, and their places."""
    n_uncounted = 0 if bos_id is None else 1
    taken: list[Row] = []
    source: list[int] = []
    n_tokens = 0
    for place, row in enumerate(rows):
        n_counted = len(row) - n_uncounted
        if n_counted < 1:
            continue
        if taken and n_tokens + n_counted > max_tokens:
            break
        taken.append(row)
        source.append(place)
        n_tokens += n_counted
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
