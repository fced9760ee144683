"""Reads documents from text files, tables of texts and hub datasets, each a re-readable source of strings.

Source: the project's document rules. Text files split at `<|endoftext|>` if it is there, else at blank
lines, else at newlines; pieces of the last two are merged, as they stand in the file, to at least 1,000
characters.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from probekit.errors import InputError
from probekit.fingerprint import of_file
from probekit.text import docs
from probekit.text.patience import within

END_OF_TEXT = "<|endoftext|>"
MIN_DOCUMENT_CHARACTERS = 1_000
MIN_DOCUMENTS = 20  # a quadrant needs tokens from this many documents, so fewer can support no pair at all
TABLE_SUFFIXES = frozenset({".jsonl", ".json", ".csv", ".parquet", ".arrow"})
FILE_SUFFIXES = TABLE_SUFFIXES | {".txt", ".text", ".md"}
HUB_TIMEOUT_S = 5.0
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def text_file(path: Path, doc_sep: str | None) -> list[str]:
    """Documents of one text file.

    Args:
        path: the file, UTF-8.
        doc_sep: string between documents; None applies the document rules.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"corpus file {path.name!r} is not UTF-8 text (byte {error.start}: {error.reason}); convert it"
        ) from error
    except OSError as error:
        raise InputError(f"corpus file {path.name!r} cannot be read: {error.strerror or error}") from error
    if doc_sep == "":
        raise InputError("doc_sep= is empty; wanted the string that stands between documents")
    documents, rule = split_documents(text, doc_sep)
    if len(documents) < MIN_DOCUMENTS:
        raise InputError(
            f"corpus file {path.name!r} has {len(documents)} documents when split at {rule}, wanted at least "
            f"{MIN_DOCUMENTS}; say what stands between its documents with doc_sep=, or pass a longer file"
        )
    return documents


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


def table(path: Path, column: str | None) -> TableSource:
    """Source of one text column of a local table, its column checked now and its rows read lazily.

    Args:
        path: .jsonl, .json, .csv, .parquet or .arrow file.
        column: the text column; None picks `text` or the only column of strings.
    """
    rows = _jsonl_rows if path.suffix.lower() == ".jsonl" else _builder_rows
    return _column_source(f"corpus file {path.name!r}", lambda: rows(path), column)


def _jsonl_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise InputError(
                        f"corpus file {path.name!r}, line {number}: got a {type(row).__name__}, not an object"
                    )
                yield row


def _builder_rows(path: Path) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset

    with _uncounted():
        loaded = load_dataset(
            _BUILDERS[path.suffix.lower()], data_files=str(path), split="train", streaming=True
        )
    yield from loaded


@contextmanager
def _uncounted() -> Generator[None]:
    """No call home: the dataset library counts loads on a server, even of local files."""
    from datasets import config

    before = config.HF_UPDATE_DOWNLOAD_COUNTS
    config.HF_UPDATE_DOWNLOAD_COUNTS = False
    try:
        yield
    finally:
        config.HF_UPDATE_DOWNLOAD_COUNTS = before


def dataset(
    name: str, *, split: str | None, column: str | None, config: str | None, revision: str | None
) -> TableSource:
    """Source of one text column of a hub dataset or of a folder of data files.

    Args:
        name: hub name or folder.
        split: None picks `train`, else the first.
        column: None picks `text` or the only column of strings.
        config: configuration name.
        revision: branch, tag or commit.
    """
    where = f"dataset {name!r}"
    loaded = _load(name, config, revision)
    if hasattr(loaded, "keys"):
        loaded = _split(where, loaded, split)
    elif split is not None:
        raise InputError(
            f"{where} is a saved dataset without splits, but split={split!r} was asked for; leave it out"
        )
    return _column_source(where, lambda: iter(loaded), column)


def dataset_object(loaded: Any, *, split: str | None, column: str | None) -> TableSource:
    """Source of one text column of a Dataset, IterableDataset or a dictionary of them.

    Args:
        loaded: the object.
        split: of a dictionary; None picks `train`, else the first.
        column: None picks `text` or the only column of strings.
    """
    if not hasattr(loaded, "features") and not hasattr(loaded, "keys"):
        raise InputError(
            f"corpus: got a {type(loaded).__name__}, wanted a name, a path, a Corpus or a Dataset of the datasets library"
        )
    where = f"dataset {object_name(loaded)!r}"
    if hasattr(loaded, "keys"):
        loaded = _split(where, loaded, split)
    elif split is not None:
        raise InputError(f"{where} is one split already, but split={split!r} was asked for; leave it out")
    return _column_source(where, lambda: iter(loaded), column)


def object_name(loaded: Any) -> str:
    """What a report calls a dataset object: its builder's name if it has one.

    Args:
        loaded: a Dataset, IterableDataset or a dictionary of them.
    """
    info = getattr(loaded, "info", None)
    return str(getattr(info, "builder_name", None) or type(loaded).__name__)


def _split(where: str, loaded: Any, split: str | None) -> Any:
    splits = [str(key) for key in loaded]
    chosen = split or ("train" if "train" in splits else splits[0])
    if chosen not in splits:
        raise InputError(f"{where} has no split {chosen!r}; it has {', '.join(splits)}")
    return loaded[chosen]


def _load(name: str, config: str | None, revision: str | None) -> Any:
    """The dataset, streamed from the hub or memory-mapped from a folder."""
    import datasets
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    where = f"dataset {name!r}"
    local = "pass a local file (Corpus.from_file), a local folder, or corpus='docs', which needs no network"
    folder = Path(name)
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            return datasets.load_from_disk(name)
        if not folder.exists():
            _knock(name)
        with _uncounted():
            return datasets.load_dataset(name, config, revision=revision, streaming=True)
    except (DatasetNotFoundError, DataFilesNotFoundError, RepositoryNotFoundError) as error:
        raise InputError(
            f"{where} was not found on this machine or on the hub; check the name, or {local}"
        ) from error
    except (ConnectionError, OfflineModeIsEnabled, HfHubHTTPError, TimeoutError) as error:
        raise InputError(f"{where} is not on this machine and the hub cannot be reached; {local}") from error
    except (ValueError, HFValidationError, OSError, RuntimeError) as error:
        raise InputError(f"{where} cannot be loaded: {_first_line(error)}; {local}") from error


def _knock(name: str) -> None:
    """One short request, because the dataset library tries an unreachable hub for half a minute."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        try:
            within(HUB_TIMEOUT_S, lambda: _ask(f"{constants.ENDPOINT}/api/datasets/{name}"))
        except urllib.error.HTTPError:
            return  # it answered; what is wrong with the name is the dataset library's to say
        except OSError as error:
            raise ConnectionError(str(error)) from error


def _ask(url: str) -> None:
    urllib.request.urlopen(url, timeout=HUB_TIMEOUT_S).close()  # noqa: S310


class TableSource:
    """Documents from one column of a table, and the rows they stand in; both from the first one on at each call."""

    def __init__(self, where: str, rows: Callable[[], Iterator[dict[str, Any]]], column: str) -> None:
        self._where, self._rows, self._column = where, rows, column

    @property
    def column(self) -> str:
        """The column that is read."""
        return self._column

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows that hold a text, whole."""
        for number, row in enumerate(_guarded(self._where, self._rows)):
            text = row.get(self._column)
            if text is None:
                continue
            if not isinstance(text, str):
                raise InputError(
                    f"{self._where}, row {number}: column {self._column!r} holds a {type(text).__name__}, wanted text"
                )
            yield row

    def __call__(self) -> Iterator[str]:
        """The texts."""
        return (row[self._column] for row in self.rows())


def _column_source(
    where: str, rows: Callable[[], Iterator[dict[str, Any]]], column: str | None
) -> TableSource:
    """Source of one column, its name settled on the first row so that a wrong one is refused at once."""
    first = next(_guarded(where, rows), None)
    if first is None:
        raise InputError(f"{where} has no rows; wanted one document a row")
    return TableSource(where, rows, _text_column(where, first, column))


def _guarded(where: str, rows: Callable[[], Iterator[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The rows, with what can go wrong while reading them told as an InputError."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    unreadable = (OSError, ValueError, pa.ArrowException, DatasetsError)
    try:
        yield from rows()
    except InputError:
        raise
    except unreadable as error:
        raise InputError(f"{where} cannot be read: {_first_line(error)}") from error


def _text_column(where: str, row: dict[str, Any], column: str | None) -> str:
    """Name of the text column."""
    if column is not None:
        if column not in row:
            raise InputError(
                f"{where} has no column {column!r}; it has {', '.join(row)}; name one with column="
            )
        return column
    if isinstance(row.get("text"), str):
        return "text"
    strings = [name for name, value in row.items() if isinstance(value, str)]
    if len(strings) != 1:
        raise InputError(
            f"{where} has {len(strings)} columns of strings ({', '.join(row)}) and none is called 'text'; "
            "name the one to read with column="
        )
    return strings[0]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def docs_key(split: docs.Split) -> str:
    """Names the exact texts of a split of the docs corpus: installed versions, Python, the code that reads them.

    Args:
        split: `train` or `heldout`.
    """
    rules = of_file(Path(docs.__file__))
    facts = [f"docs/2 {split}", platform.python_version(), str(docs.MIN_CHARACTERS), rules]
    for package in docs.PACKAGES:
        try:
            facts.append(f"{package} {metadata.version(_DISTRIBUTIONS.get(package, package))}")
        except metadata.PackageNotFoundError:
            facts.append(f"{package} absent")
    return hashlib.blake2b("\n".join(facts).encode(), digest_size=16).hexdigest()
