"""Labels that come with the documents: a column of their table, or spans of characters marked by hand.

Source: the dataset features of Gurnee et al. 2023 (language, source, subject) and hand-labelled data. A column holds at
every counted token of a document; a span holds at the tokens whose ink overlaps it by a character or more.
Axes: doc (rows of the token block), token (counted tokens in document order).
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt64

from probekit.errors import InputError
from probekit.fingerprint import of_value
from probekit.text.concepts.blocks import Column, Where
from probekit.text.corpus import Corpus, digest_of_text
from probekit.text.encoding import Encoder
from probekit.text.tokenizers import of_tokenizer
from probekit.text.tokens import Tokens

MOST_VALUES = 20
BANDS = 4
MOST_DOCUMENTS = 200_000
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?inf")
"""A number as a table writes it; one with noughts before it is a code, and so are True and False."""
Span = tuple[int, int, int]
"""(document, first character, character after the last)."""


@dataclass(frozen=True, eq=False)
class DocumentBlock:
    """Concepts that hold in whole documents."""

    columns: tuple[Column, ...]
    """One concept a column."""
    doc_labels: Bool[np.ndarray, "concept document"]
    """Whether each concept holds in each document of the corpus."""
    corpus: str
    """The corpus whose documents these are."""
    texts: UInt64[np.ndarray, " document"] | None
    """Digest of the text of each document; None where its table does not tell which column that is."""

    @property
    def fingerprint(self) -> str:
        """Digest of the labels of every document."""
        return of_value(self)

    def label(self, tokens: Tokens) -> list[Where]:
        """Every counted token of the documents in which each concept holds."""
        if tokens.name != self.corpus or tokens.documents.max(initial=-1) >= self.doc_labels.shape[1]:
            raise InputError(
                f"concept {self.columns[0].name!r} labels the {self.doc_labels.shape[1]:,} documents of corpus "
                f"{self.corpus!r}, but the tokens are of {tokens.name!r} with "
                f"{tokens.documents.max(initial=-1) + 1:,}; make the concepts from the corpus that is analysed"
            )
        if self.texts is not None and tokens.texts is not None:
            self._require_same(self.texts[tokens.documents] == tokens.texts, tokens)
        of_row = self.doc_labels[:, tokens.documents]
        return [np.flatnonzero(row[tokens.doc_of_token]).astype(np.int32) for row in of_row]

    def _require_same(self, same: Bool[np.ndarray, " row"], tokens: Tokens) -> None:
        if not same.all():
            place = int(tokens.documents[np.argmin(same)])
            raise InputError(
                f"concept {self.columns[0].name!r} labels the documents of another corpus that is called {self.corpus!r}: "
                f"document {place} has another text there; make the concepts from the corpus that is analysed"
            )


def column_block(
    corpus: Corpus, name: str, *, values: Sequence[Any] | None = None, most: int = MOST_VALUES
) -> DocumentBlock:
    """One concept a value of a column; of numbers with many values one a quarter of the documents.

    Args:
        corpus: read from a table.
        name: of the column.
        values: values that become concepts; None takes the most frequent ones.
        most: values at most, when none are given.

    Raises:
        InputError: the corpus has no such column, or it never changes.
    """
    rows = list(itertools.islice(corpus.rows(), MOST_DOCUMENTS))
    if not any(name in row for row in rows):
        names = dict.fromkeys(key for row in rows for key in row)
        raise InputError(
            f"corpus {corpus.name!r} has no column {name!r}; it has {', '.join(names) or 'no rows'}"
        )
    found = [_value(row.get(name)) for row in rows]
    texts = None
    if (read := corpus.column) is not None:
        texts = np.array([digest_of_text(str(row[read])) for row in rows], np.uint64)
    numbers = _numbers(found)
    if values is None and numbers is not None and len(np.unique(numbers[~np.isnan(numbers)])) > most:
        return _bands(corpus, name, numbers, texts)
    counts = Counter(value for value in found if value is not None)
    chosen = (
        [str(_value(value)) for value in values]
        if values is not None
        else [v for v, _ in counts.most_common(most)]
    )
    unknown = [value for value in chosen if value not in counts]
    if unknown:
        raise InputError(
            f"corpus {corpus.name!r}: column {name!r} never holds {unknown[0]!r}; it holds {_some(counts)}"
        )
    if values is None and len(counts) < 2:
        raise InputError(
            f"corpus {corpus.name!r}: column {name!r} holds one value only ({_some(counts)}), so it tells nothing"
        )
    columns = tuple(
        Column(f"doc:{name}={value}", "document", 0, f"in a document whose {name} is {value}")
        for value in chosen
    )
    as_text = np.array(["" if value is None else value for value in found], dtype=object)
    missing = np.array([value is None for value in found])
    held = np.stack([(as_text == value) & ~missing for value in chosen])
    return DocumentBlock(columns, held, corpus.name, texts)


def _value(value: Any) -> str | None:
    """A value as a label; None where there is none. A whole number is one, however its table holds it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _numbers(found: list[str | None]) -> Float[np.ndarray, " document"] | None:
    """The values where all there are are numbers, NaN where there is none; None for anything else. 007 is a code."""
    if any(value is not None and not _NUMBER.fullmatch(value) for value in found):
        return None
    return np.array([math.nan if value is None else float(value) for value in found])


def _bands(
    corpus: Corpus,
    name: str,
    numbers: Float[np.ndarray, " document"],
    texts: UInt64[np.ndarray, " document"] | None,
) -> DocumentBlock:
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        raise InputError(f"corpus {corpus.name!r}: column {name!r} holds no finite number")
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, BANDS + 1)[1:-1]))
    band = np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="right"))
    words = [f"<{edges[0]:g}", *(f"{a:g}–{b:g}" for a, b in itertools.pairwise(edges)), f"≥{edges[-1]:g}"]
    columns = tuple(
        Column(f"doc:{name} {word}", "document", 0, f"in a document whose {name} is {word}") for word in words
    )
    return DocumentBlock(
        columns, np.stack([band == index for index in range(len(words))]), corpus.name, texts
    )


def _some(counts: Mapping[str, int]) -> str:
    shown = list(counts)[:5]
    return ", ".join(shown) + (", …" if len(counts) > len(shown) else "")


@dataclass(frozen=True, eq=False)
class SpanBlock:
    """Concepts that hold on marked characters."""

    columns: tuple[Column, ...]
    """One concept a column."""
    spans: tuple[dict[int, tuple[tuple[int, int], ...]], ...]
    """For each concept: document → its spans."""
    texts: tuple[str, ...]
    """The documents."""
    tokenizer: Any
    """The fast tokenizer that made the tokens."""

    def label(self, tokens: Tokens) -> list[Where]:
        """Counted tokens whose ink overlaps a span."""
        start = np.concatenate([[0], np.cumsum(tokens.counted.sum(1))])
        rows = {int(document): row for row, document in enumerate(tokens.documents)}
        found: list[list[np.ndarray]] = [[] for _ in self.columns]
        encoder = Encoder(self.tokenizer)
        marked = sorted({document for spans in self.spans for document in spans})
        for document in (d for d in marked if d in rows):
            row = rows[document]
            inked = self._ink(encoder, tokens, row, document)
            for parts, spans in zip(found, self.spans, strict=True):
                for first, last in spans.get(document, ()):
                    overlaps = (inked[:, 0] < last) & (inked[:, 1] > first)
                    parts.append(np.flatnonzero(overlaps) + start[row])
        return [np.unique(np.concatenate(parts) if parts else []).astype(np.int32) for parts in found]

    @property
    def fingerprint(self) -> str:
        """Digest of the spans, of the texts they mark, and of the tokenizer that says where its tokens stand."""
        marked = sorted({document for spans in self.spans for document in spans})
        texts = {document: self.texts[document] for document in marked}
        return of_value((self.columns, self.spans, texts, of_tokenizer(self.tokenizer)))

    def _ink(self, encoder: Encoder, tokens: Tokens, row: int, document: int) -> np.ndarray:
        """First character and the one after the last of each counted token of a row, without white space around."""
        text = self.texts[document]
        ids = tokens.ids[row, tokens.first_pos : int(tokens.text_stops[row])]
        found, offsets = encoder.first([text], len(ids) + 1, offsets=True)[0]
        # a text that begins with the start mark got no second one
        begun = tokens.first_pos if found[:1] == [tokens.bos_id] else 0
        found, offsets = found[begun:], offsets[begun:]
        if found[: len(ids)] != ids.tolist():
            raise InputError(
                f"spans: document {document} of corpus {tokens.name!r} is not the text the spans were made for, or its "
                "tokens are another tokenizer's; give the texts and the tokenizer that are analysed"
            )
        inked = np.empty((len(ids), 2), np.int64)
        for index, (low, high) in enumerate(offsets[: len(ids)]):
            body = text[low:high]
            inked[index] = (low + len(body) - len(body.lstrip()), high - len(body) + len(body.rstrip()))
        return inked


def span_block(spans: Mapping[str, Iterable[Span]], texts: Sequence[str], tokenizer: Any) -> SpanBlock:
    """One concept a name, from spans of characters.

    Args:
        spans: name → (document, first character, character after the last), documents counted from 0.
        texts: the documents, as the corpus has them.
        tokenizer: a fast `transformers` tokenizer, which knows where its tokens stand.

    Raises:
        InputError: no span, one outside its document, or a tokenizer without offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            "spans: the tokenizer cannot say where its tokens stand; wanted a fast one (tokenizer.json)"
        )
    if not spans:
        raise InputError("spans: none given; wanted name → list of (document, start, end)")
    columns = tuple(Column(name, "span", 0, f"marked by hand as {name!r}") for name in spans)
    held: list[dict[int, tuple[tuple[int, int], ...]]] = []
    for name, marks in spans.items():
        of_document: dict[int, list[tuple[int, int]]] = {}
        for document, first, last in marks:
            if not 0 <= document < len(texts) or not 0 <= first < last <= len(texts[document]):
                size = len(texts[document]) if 0 <= document < len(texts) else None
                where = (
                    f"there are {len(texts)} documents"
                    if size is None
                    else f"document {document} has {size} characters"
                )
                raise InputError(f"spans: {name!r}: ({document}, {first}, {last}) is no span; {where}")
            of_document.setdefault(int(document), []).append((int(first), int(last)))
        held.append({document: tuple(marks) for document, marks in of_document.items()})
    return SpanBlock(columns, tuple(held), tuple(texts), tokenizer)
