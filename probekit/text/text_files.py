"""Documents of a text file, which may be compressed (.gz, .bz2, .xz, .zst).

Text is split at `<|endoftext|>` if it is there, else at blank lines, else at newlines; pieces of the last two are merged, as
they stand in the file, to at least 1,000 characters.
"""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from probekit.errors import InputError

END_OF_TEXT = "<|endoftext|>"
MIN_DOCUMENT_CHARACTERS = 1_000
MIN_DOCUMENTS = 20  # a quadrant needs tokens from this many documents, so fewer can support no pair at all
COMPRESSED = frozenset({".gz", ".bz2", ".xz", ".zst"})
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")


def suffix_of(path: Path) -> str:
    """The suffix that tells what a file holds, in small letters, without that of a compression.

    Args:
        path: the file.
    """
    stem = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return stem.suffix.lower()


def open_bytes(path: Path) -> io.BufferedIOBase:
    """A file's bytes, unpacked where its suffix says that they are packed.

    Args:
        path: the file.
    """
    packed = path.suffix.lower()
    if packed == ".zst":
        import pyarrow as pa  # Python's own library reads zstd from 3.14 on

        return io.BufferedReader(cast(io.RawIOBase, pa.input_stream(str(path), compression="zstd")))
    opened: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return opened.get(packed, open)(path, "rb")


def text_file(path: Path, doc_sep: str | None) -> list[str]:
    """Documents of one text file.

    Args:
        path: the file, UTF-8, maybe compressed.
        doc_sep: string between documents; None applies the document rules.
    """
    try:
        with open_bytes(path) as file:
            text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"corpus file {path.name!r} is not UTF-8 text (byte {error.start}: {error.reason}); convert it"
        ) from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"corpus file {path.name!r} cannot be read: {why}") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if doc_sep == "":
        raise InputError("doc_sep= is empty; wanted the string that stands between documents")
    if doc_sep is None and _is_json_lines(text):
        raise InputError(
            f"corpus file {path.name!r} holds JSON, one object a line, not running text; name it .jsonl to have it read as "
            "a table, or say what stands between its documents with doc_sep="
        )
    documents, rule = split_documents(text, doc_sep)
    if len(documents) < MIN_DOCUMENTS:
        raise InputError(
            f"corpus file {path.name!r} has {len(documents)} documents when split at {rule}, wanted at least "
            f"{MIN_DOCUMENTS}; say what stands between its documents with doc_sep=, or pass a longer file"
        )
    return documents


def _is_json_lines(text: str) -> bool:
    """Whether the first two lines with ink are objects of JSON."""
    lines = itertools.islice((line for line in io.StringIO(text) if line.strip()), 2)
    found: list[object] = []
    for line in lines:
        if not line.lstrip().startswith("{"):
            return False
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            return False
    return len(found) == 2 and all(isinstance(value, dict) for value in found)


def split_documents(text: str, doc_sep: str | None = None) -> tuple[list[str], str]:
    """Documents of a text by the document rules, and the name of the rule that applied.

    Args:
        text: the whole text.
        doc_sep: string between documents; None tries `<|endoftext|>`, blank lines and newlines in this order.
    """
    if doc_sep is not None:
        return _pieces(text, doc_sep), f"doc_sep={doc_sep!r}"
    if END_OF_TEXT in text:
        return _pieces(text, END_OF_TEXT), END_OF_TEXT
    text = text.strip("\n")
    if _BLANK_LINE.search(text):
        return _merged(text, (match.end() for match in _BLANK_LINE.finditer(text))), "blank lines"
    return _merged(text, (match.end() for match in re.finditer("\n", text))), "newlines"


def _pieces(text: str, separator: str) -> list[str]:
    """Every piece between separators that holds more than white space."""
    return [piece.strip() for piece in text.split(separator) if not piece.isspace() and piece]


def _merged(text: str, cuts: Iterable[int]) -> list[str]:
    """Runs of pieces of at least 1,000 characters; a shorter rest joins the last one."""
    documents: list[str] = []
    start = 0
    for cut in cuts:
        if len(text[start:cut].strip()) >= MIN_DOCUMENT_CHARACTERS:
            documents.append(text[start:cut])
            start = cut
    rest = text[start:]
    if documents and len(rest.strip()) < MIN_DOCUMENT_CHARACTERS:
        documents[-1] += rest
    else:
        documents.append(rest)
    return [document.strip("\n") for document in documents if document.strip()]
