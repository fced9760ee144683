"""Where text comes from: files, folders, datasets, lists, ready-made tokens; `tokenize` makes one block of ids of it.

There is one tokenization path, `tokenizer(texts, add_special_tokens=False)`, for every architecture.
Axes: doc pos.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Int32

from probekit.errors import (
    DegenerateError,
    InputError,
    ProbekitError,
    ShapeError,
    guarded,
    require_order,
    require_unmasked,
    shown,
)
from probekit.fingerprint import of_array, of_parts
from probekit.text import readers, text_files
from probekit.text.docs import docstrings
from probekit.text.encoding import special_ids
from probekit.text.tokens import (
    PADDING,
    Progress,
    Tokens,
    as_block,
    counts,
    cut_rows,
    encoded_rows,
    require_room,
    take_rows,
)

_LETTERS = re.compile(r"(?<!\S)[^\W\d_]+(?!\S)")
SURE_WORDS, SURE_CHARACTERS = 64, 4_096
"""A document with so many spaces or characters holds a token that is counted, whatever the tokenizer."""

TextSource = Callable[[], Iterable[str]]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts, or tokens, that a model can be shown: made by one of the `from_…` functions or `docs`."""

    name: str
    """What a report calls it."""
    source: TextSource | None = field(default=None, repr=False)
    """Gives the texts from the first one on, each time it is called; None for a corpus of tokens."""
    given: Int32[np.ndarray, "doc pos"] | None = field(default=None, repr=False)
    """Ready-made token ids, negative is padding; None for a corpus of texts."""
    cache_key: str | None = None
    """Names the exact texts when they are slow to read and worth caching; None otherwise."""
    origin: str | None = None
    """Where a dataset comes from (name, split, column, revision), or how a table is read."""
    files: tuple[Path, ...] = ()
    """Files and folders that the texts are read from anew at each call; empty where they are held in memory."""
    digested: list[int] | None = field(default=None, repr=False)
    """Digests of the documents as `fingerprint` read them; None where nobody will ask whether they are still the same."""

    @classmethod
    @guarded
    def from_texts(cls, texts: Sequence[Any], *, name: str = "texts") -> Corpus:
        """One document a string, in the order given.

        >>> Corpus.from_texts(["The first document.", "The second."], name="two").name
        'two'

        Args:
            texts: the documents, each a str.
            name: what a report calls the corpus.
        """
        if isinstance(texts, str):
            raise InputError(
                "from_texts: got one string, wanted a list of documents; pass [text] or use from_file"
            )
        require_order(texts, "from_texts")
        documents = list(texts)
        for index, text in enumerate(documents):
            if not isinstance(text, str):
                raise InputError(f"from_texts: document {index} is a {type(text).__name__}, wanted a str")
        if not documents:
            raise DegenerateError("from_texts: the list is empty, wanted at least one document")
        return cls(name=name, source=lambda: documents)

    @classmethod
    @guarded
    def from_tokens(cls, tokens: Any, *, name: str = "tokens") -> Corpus:
        """Ready-made token ids, used as they are.

        Nothing is added: where column 0 holds the model's beginning-of-sequence id in every row it is that
        token and is not counted; otherwise no such token is put in front and every position counts.

        Args:
            tokens: int[doc pos], numpy or torch; a negative number is padding, allowed on the right only.
            name: what a report calls the corpus.
        """
        require_unmasked(tokens, "from_tokens")
        try:
            array = np.asarray(tokens.detach().cpu().numpy() if hasattr(tokens, "detach") else tokens)
        except ValueError as error:
            raise ShapeError(
                f"from_tokens: {error}; wanted rows of one length, padded on the right with -1"
            ) from error
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
            raise ShapeError(
                f"from_tokens: got shape {array.shape} of {array.dtype}, wanted an integer array [doc, pos]"
            )
        if array.size == 0:
            raise DegenerateError(f"from_tokens: the array is empty (shape {array.shape})")
        if array.max() > np.iinfo(np.int32).max:
            raise InputError(
                f"from_tokens: largest id {array.max()}, wanted at most {np.iinfo(np.int32).max}"
            )
        ids = np.where(array < 0, PADDING, array).astype(np.int32)
        gaps = (ids[:, :-1] < 0) & (ids[:, 1:] >= 0)
        if gaps.any():
            row = int(np.nonzero(gaps)[0][0])
            raise InputError(
                f"from_tokens: row {row} has padding before a token; padding may stand on the right only"
            )
        return cls(name=name, given=ids)

    @classmethod
    @guarded
    def from_file(cls, path: str | Path, doc_sep: str | None = None, *, column: str | None = None) -> Corpus:
        """A local text file, or a table of texts (.jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow), maybe compressed.

        A text file is split at `doc_sep`; without one at `<|endoftext|>` if it is there, else at blank
        lines, else at newlines, the pieces of the last two merged to at least 1,000 characters. A table has
        one document a row.

        Args:
            path: the file.
            doc_sep: string between documents of a text file, every piece a document of its own.
            column: text column of a table; by default `text`, or the only column of strings in the rows seen.
        """
        path = Path(path)
        if not path.exists():
            raise InputError(
                f"corpus file {str(path)!r} does not exist; pass the path of a text, jsonl or parquet file"
            )
        if path.is_dir():
            raise InputError(
                f"corpus {str(path)!r} is a folder, wanted a file; use Corpus.from_dataset for a folder"
            )
        if text_files.suffix_of(path) in readers.TABLE_SUFFIXES:
            if doc_sep is not None:
                raise InputError(
                    f"corpus {path.name!r} is a table with one document a row; doc_sep= is for text files"
                )
            source = readers.table(path, column)
            return cls(name=path.name, source=source, origin=f"column={source.column}", files=(path,))
        if column is not None:
            wanted = ", ".join(sorted(readers.TABLE_SUFFIXES))
            raise InputError(
                f"column={column!r} given for {path.name!r}; columns exist in {wanted} files only"
            )
        documents = text_files.text_file(path, doc_sep)
        return cls(name=path.name, source=lambda: documents)

    @classmethod
    @guarded
    def from_dataset(
        cls,
        name: Any,
        *,
        split: str | None = None,
        column: str | None = None,
        config: str | None = None,
        revision: str | None = None,
    ) -> Corpus:
        """A dataset of the Hugging Face hub, streamed, a local folder of data files, or a `datasets` object.

        One document a row.

        Args:
            name: hub name, path of a folder, or a table in memory: a Dataset, IterableDataset or DatasetDict of the
                `datasets` library, a pandas DataFrame, a pyarrow Table, a dictionary of lists or a list of dictionaries.
            split: split to read; by default `train` if there is one, else the first.
            column: text column; by default `text`, or the only column of strings in the rows seen.
            config: configuration of the dataset, where it has several.
            revision: branch, tag or commit.
        """
        if not isinstance(name, str | Path):
            return cls(
                name=readers.object_name(name),
                source=readers.dataset_object(name, split=split, column=column),
            )
        name = str(name)
        source = readers.dataset(name, split=split, column=column, config=config, revision=revision)
        origin = f"split={split} column={source.column} config={config} revision={revision}"
        if Path(name).is_dir():
            return cls(name=Path(name).name, source=source, origin=origin, files=(Path(name),))
        return cls(name=name, source=source, origin=f"{name} {origin}")

    @classmethod
    @guarded
    def docs(cls, split: str = "heldout") -> Corpus:
        """The offline default: docstrings of the installed core dependencies and the standard library.

        Args:
            split: `heldout` (default; a tenth of the modules) or `train`, which the bundled model has seen.
        """
        if split not in ("train", "heldout"):
            raise InputError(f"docs corpus: split {split!r} is unknown, wanted 'train' or 'heldout'")
        return cls(
            name=f"docs:{split}",
            source=lambda: docstrings(split),
            cache_key=readers.docs_key(split),
        )

    def texts(self) -> Iterator[str]:
        """The documents as strings, from the first one on, read lazily."""
        if self.source is None:
            raise InputError(f"corpus {self.name!r} was made from tokens and has no texts")
        return self._read(self.source)

    def _read(self, source: TextSource) -> Iterator[str]:
        """The texts of somebody's function, with what can go wrong in it raised as an InputError."""
        try:
            given: Iterable[Any] = source()
            for index, text in enumerate(given):
                if not isinstance(text, str):
                    raise InputError(
                        f"corpus {self.name!r}: document {index} is a {type(text).__name__}, wanted a str"
                    )
                yield text
        except (ProbekitError, OSError, MemoryError):
            raise
        except Exception as error:
            raise InputError(
                f"corpus {self.name!r}: what gives its texts raised {type(error).__name__}: {error}"
            ) from error

    def rereadable(self) -> Corpus:
        """The same corpus for one run, which refuses to go on where its texts are read again and are others."""
        return replace(self, digested=[])

    def rows(self) -> Iterator[dict[str, Any]]:
        """For each document, in the order of `texts`, the row of the table it came from.

        Raises:
            InputError: the corpus was not read from a table.
        """
        rows = getattr(self.source, "rows", None)
        if rows is None:
            raise InputError(
                f"corpus {self.name!r} has no columns beside its text; read it from a table (.jsonl, .csv, .parquet, "
                ".arrow) or a dataset"
            )
        return rows()

    @property
    def column(self) -> str | None:
        """The column of the table that its texts stand in; None where they come from no table."""
        return getattr(self.source, "column", None)

    @property
    def n_left_out(self) -> int:
        """Rows of the table without a text that the last reading passed over."""
        return int(getattr(self.source, "n_left_out", 0))

    @guarded
    def with_texts(self, texts: TextSource | Sequence[str]) -> Corpus:
        """The same corpus reading its texts from somewhere else, such as a cache.

        Args:
            texts: a list of documents, or a function that gives them from the first one on at each call.
        """
        return Corpus(
            self.name,
            texts if callable(texts) else lambda: texts,
            cache_key=self.cache_key,
        )

    def fingerprint(self, max_tokens: int, skip_first: int = 0) -> str:
        """Digest of what a run of so many tokens can read of it: the given ids, or the texts in order.

        Args:
            max_tokens: counted tokens that are read at most; a document that surely holds one counts as one.
            skip_first: positions of each document that are read and not counted.
        """
        if self.given is not None:
            return of_array(self.given)
        parts: list[int] = []
        told = of_parts(_noted(_readable(self.texts(), max_tokens, skip_first), parts))
        if self.digested is not None:
            self.digested[:] = parts
        return told

    def _again(self, read: list[int]) -> Iterator[str]:
        """The texts, their digests noted in `read`, and compared with those that `fingerprint` saw.

        Raises:
            InputError: they are others.
        """
        before = self.digested or []
        for text in _noted(self.texts(), read):
            if len(read) <= len(before) and read[-1] != before[len(read) - 1]:
                raise InputError(
                    f"corpus {self.name!r}: gave another text for document {len(read) - 1} when it was read again; wanted "
                    "the same texts at each reading. Draw with a fixed seed, or pass the texts themselves "
                    "(Corpus.from_texts)."
                )
            yield text
        if len(read) < len(before):
            raise InputError(
                f"corpus {self.name!r}: gave {len(before)} documents first, and {len(read)} when it was read again; wanted "
                "a function that gives all texts from the first one on at each call."
            )

    @guarded
    def tokenize(
        self,
        tokenizer: Any,
        *,
        context: int,
        max_tokens: int,
        bos_id: int | None,
        end_id: int | None = None,
        skip_first: int = 0,
        progress: Progress | None = None,
    ) -> Tokens:
        """Token block of the first documents, up to `max_tokens` counted tokens and at least one document.

        Special tokens of the tokenizer that stand in a document, as text or as ready-made ids, are shown to the model as
        what they are and are never counted. To have their letters read as text instead, set transformers' own
        `tokenizer.split_special_tokens = True`.

        Args:
            tokenizer: a `transformers` tokenizer; None for a corpus of tokens.
            context: longest row, the beginning-of-sequence token included.
            max_tokens: most counted tokens; the document that would exceed it and all after it are left out.
            bos_id: the model's beginning-of-sequence id, or None if it has none.
            end_id: the mark that an encoder reads behind a text, or None; ready-made ids get none.
            skip_first: positions after the beginning-of-sequence token that are read and not counted.
            progress: called with (counted tokens so far, max_tokens) now and then.
        """
        require_room(context, skip_first, bos_id, end_id)
        texts: list[int] = []
        if max_tokens < 1:
            raise InputError(f"max_tokens={max_tokens}, wanted at least 1")
        if self.given is not None:
            (rows, bos_id), end_id = cut_rows(self.given, context, bos_id), None
        else:
            if tokenizer is None:
                raise InputError(
                    f"corpus {self.name!r} holds text but the model has no tokenizer; "
                    "pass a model with one, or Corpus.from_tokens"
                )
            rows = encoded_rows(self._again(texts), tokenizer, context, bos_id, max_tokens, end_id)
        special, first_pos = special_ids(tokenizer), 0 if bos_id is None else 1

        def n_counted(row: np.ndarray) -> int:
            return int(counts(row[first_pos:], 0, skip_first, special).sum())

        taken, source = take_rows(rows, max_tokens, n_counted, progress)
        if self.digested and source and source[-1] >= len(self.digested):
            raise InputError(
                f"corpus {self.name!r}: gave document {source[-1]}, but only {len(self.digested):,} documents were there "
                "when it was first read (of a stream of very short ones no more are looked at); wanted the same texts at "
                "each reading, and documents of some words."
            )
        if not taken:
            raise DegenerateError(
                f"corpus {self.name!r} has no document with a counted token; pass text that has some"
            )
        return replace(
            as_block(taken, source, bos_id, self.name),
            skip_first=skip_first,
            special=special,
            end_id=end_id,
            texts=np.array(texts, np.uint64)[source] if texts else None,
        )


def digest_of_text(text: str) -> int:
    """A digest of one document's text, of 64 bits."""
    return int(xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")))


def _noted(texts: Iterable[str], read: list[int]) -> Iterator[str]:
    """The texts, the digest of each appended to `read`."""
    for text in texts:
        read.append(digest_of_text(text))
        yield text


def _readable(texts: Iterator[str], max_tokens: int, skip_first: int) -> Iterator[str]:
    """The texts up to the last one that can be read, so that a stream without end has a digest."""
    n_sure, sure = 0, 1 + skip_first
    for n_read, text in enumerate(texts, 1):
        yield text
        if (
            n_read >= SURE_WORDS * sure * max_tokens
        ):  # shorter documents tell nothing, but a stream of them has no end
            return
        # words of letters alone: special tokens, which are never counted, are written with other signs as well
        plain = text.count("<") + text.count("[") < len(text) // 64
        n_words = sum(1 for _ in itertools.islice(_LETTERS.finditer(text), SURE_WORDS * sure))
        n_sure += (plain and len(text) >= SURE_CHARACTERS * sure) or n_words == SURE_WORDS * sure
        if n_sure > max_tokens:
            return


def as_corpus(value: Any) -> Corpus:
    """The corpus that a user means.

    None or "docs", a file, a folder, a hub name, a list of texts, a table in memory, or a `Corpus` itself.

    Args:
        value: what the user gave.

    Raises:
        InputError: it is empty, or cannot be read.
    """
    if isinstance(value, Corpus):
        return value
    if value is None or (isinstance(value, str) and value == "docs"):
        return Corpus.docs()
    if isinstance(value, str | Path):
        return _named(value)
    if isinstance(value, Mapping | list | tuple) and not value:
        raise InputError(f"corpus: got an empty {type(value).__name__}, wanted at least one document.")
    if not isinstance(value, list | tuple) or not isinstance(value[0], str):
        return Corpus.from_dataset(value)
    return Corpus.from_texts(value)


def _named(value: str | Path) -> Corpus:
    path = Path(value)
    try:
        is_file = path.is_file()
    except OSError:  # a text is too long for a name
        is_file = False
    if is_file or path.is_absolute() or (readers.names_a_file(path) and not path.is_dir()):
        return Corpus.from_dataset(str(value)) if path.is_dir() else Corpus.from_file(path)
    return Corpus.from_dataset(str(value))


def check_name(corpus: str | Path) -> str | Path:
    """The same path or name, refused where it can be neither, before a hub is asked for it.

    Raises:
        InputError: a text in the place of a corpus, or a folder that is not there.
    """
    word = str(corpus)
    path = None if "\0" in word or "\n" in word or len(word) > _LONGEST else Path(word)
    if path is not None and word.strip() and (path.suffix or path.is_absolute() or path.exists()):
        return corpus
    if not _HUB_NAME.fullmatch(word):
        raise InputError(
            f"corpus: got {shown(word)}, which is no file or folder here and no name on the hub. Pass a path, a name "
            "such as 'owner/dataset', or the texts themselves: Corpus.from_texts([text, …])."
        )
    return corpus


_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_LONGEST = 1_024
"""No path is longer; file systems refuse to look for longer names."""
