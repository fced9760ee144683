"""Documents from one column of a table: which column it is, and the rows that hold a text.

The column asked for; else `text`, if any of the rows seen holds a string there; else the only other column of strings, over
all rows seen. A row whose text is null or missing holds no document: it is left out, and how many were is kept.
"""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from probekit.errors import InputError

ROWS_SEEN = 1_000
"""Rows that are looked at to learn which columns hold strings."""
_NO_TEXT = re.compile(
    r"\s*(?:[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|NA|True|False|true|false)\s*"
)
"""A number or a truth value, as a table of separated values writes it."""

Rows = Callable[[], Iterator[dict[str, Any]]]


class TableSource:
    """Documents from one column of a table, and the rows they stand in; both from the first one on at each call.

    Args:
        where: what messages call the table.
        rows: gives its rows.
        column: the text column.
    """

    def __init__(self, where: str, rows: Rows, column: str) -> None:
        self._where, self._rows = where, rows
        self.column = column
        """The column that is read."""
        self.n_left_out = 0
        """Rows without a text that the last reading passed over so far."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows that hold a text, whole."""
        self.n_left_out = 0
        for number, row in enumerate(guarded_rows(self._where, self._rows)):
            text = row.get(self.column)
            if text is None:
                self.n_left_out += 1
                continue
            if not isinstance(text, str):
                raise InputError(
                    f"{self._where}, row {number}: column {self.column!r} holds a {type(text).__name__}, wanted text"
                )
            yield row

    def __call__(self) -> Iterator[str]:
        """The texts."""
        return (row[self.column] for row in self.rows())


def column_source(
    where: str, rows: Rows, column: str | None, strings: list[str] | None = None, *, as_read: bool = False
) -> TableSource:
    """Source of one column, its name settled now so that a wrong one is refused at once.

    Args:
        where: what messages call the table.
        rows: gives its rows.
        column: the one asked for.
        strings: columns of strings, where a schema tells.
        as_read: whether all values are strings, numbers as well, so that one tells a column of texts by what it holds.
    """
    if next(guarded_rows(where, rows), None) is None:
        raise InputError(f"{where} has no rows; wanted one document a row")
    if column is not None:
        return TableSource(where, rows, _named_column(where, rows, column))
    if strings is not None and "text" in strings:
        return TableSource(where, rows, "text")
    return TableSource(where, rows, _text_column(where, rows, as_read=as_read))


def guarded_rows(where: str, rows: Rows) -> Iterator[dict[str, Any]]:
    """The rows, with whatever goes wrong while reading them raised as an InputError."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    damaged = (EOFError, lzma.LZMAError, zlib.error, RecursionError)
    unreadable = (OSError, ValueError, pa.ArrowException, DatasetsError, *damaged)
    try:
        yield from rows()
    except InputError:
        raise
    except unreadable as error:
        raise InputError(f"{where} cannot be read: {first_line(error)}") from error


def _named_column(where: str, rows: Rows, column: str) -> str:
    """The column asked for, which some row must have."""
    names: dict[str, None] = {}
    for row in guarded_rows(where, rows):
        if column in row:
            return column
        names |= dict.fromkeys(row)
    raise InputError(f"{where} has no column {column!r}; it has {', '.join(names)}; name one with column=")


def _text_column(where: str, rows: Rows, *, as_read: bool) -> str:
    """`text`, or the only column of strings, over the rows seen; an empty `text` is followed to its first value."""
    names: dict[str, None] = {}
    strings: dict[str, None] = {}
    for number, row in enumerate(guarded_rows(where, rows), 1):
        names |= dict.fromkeys(row)
        strings |= dict.fromkeys(
            name
            for name, value in row.items()
            if isinstance(value, str) and not (as_read and name != "text" and _NO_TEXT.fullmatch(value))
        )
        if "text" in strings:
            return "text"
        if number >= ROWS_SEEN and ("text" not in names or row.get("text") is not None):
            break
    if len(strings) != 1:
        raise InputError(
            f"{where} has {len(strings)} columns of strings ({', '.join(strings or names)}) and none is called 'text'; "
            "name the one to read with column="
        )
    return next(iter(strings))


def first_line(error: BaseException) -> str:
    """What an error says first, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
