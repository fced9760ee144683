"""Reads documents from local tables and hub datasets, each a re-readable source of strings.

Which column of a table is read: `table_source`. Files may be compressed (.gz, .bz2, .xz, .zst).
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from probekit.errors import InputError
from probekit.fingerprint import of_file
from probekit.text import docs
from probekit.text.table_source import Rows, TableSource, column_source, first_line
from probekit.text.text_files import COMPRESSED, open_bytes, suffix_of
from probekit.text.timeouts import call_with_timeout

JSON_LINES = frozenset({".jsonl", ".ndjson", ".jsonlines"})
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_ROWS_AT_ONCE = 10_000
_BUILDERS = {
    ".json": "json", ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
TABLE_SUFFIXES = JSON_LINES | frozenset(_BUILDERS) | frozenset(_SEPARATORS)
FILE_SUFFIXES = TABLE_SUFFIXES | {".txt", ".text", ".md"}
HUB_TIMEOUT_S = 5.0
_LONGEST_NAME = 255
"""Characters of a name of a file or dataset at most."""
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def names_a_file(path: Path) -> bool:
    """Whether a name can only be meant as that of a file.

    Args:
        path: the name.
    """
    return suffix_of(path) in FILE_SUFFIXES or path.suffix.lower() in COMPRESSED


def table(path: Path, column: str | None) -> TableSource:
    """Source of one text column of a local table, its column checked now and its rows read lazily.

    Args:
        path: JSON lines (.jsonl, .ndjson, .jsonlines), or .json, .csv, .tsv, .parquet, .arrow, .feather; maybe compressed.
        column: the text column; None takes `text` or the only column of strings.
    """
    where, suffix = f"corpus file {path.name!r}", suffix_of(path)
    if suffix in _SEPARATORS:
        return column_source(where, lambda: _separated_rows(path, _SEPARATORS[suffix]), column, as_read=True)
    rows = _jsonl_rows if suffix in JSON_LINES else _builder_rows
    return column_source(where, lambda: rows(path), column)


def _separated_rows(path: Path, separator: str) -> Iterator[dict[str, Any]]:
    """Rows of a table of separated values, each value the text that stands there; an empty one is None.

    How a value is read must not depend on the other rows: 7, 7.0 and 007 stay what they are, and so does NA.
    """
    import pandas as pd

    with open_bytes(path) as file:
        parts = pd.read_csv(
            cast(Any, file), sep=separator, dtype=object, keep_default_na=False, na_values=[""], chunksize=_ROWS_AT_ONCE,
            encoding="utf-8-sig",
        )  # fmt: skip
        with parts:
            for part in parts:
                names = [str(name) for name in part.columns]
                if len(names) == 1 and (other := next((mark for mark in ";\t|" if mark in names[0]), None)):
                    raise InputError(
                        f"corpus file {path.name!r} has one column, {names[0]!r}, and looks separated by {other!r}; wanted "
                        f"{separator!r} between its columns, or rows of JSON (.jsonl)"
                    )
                for values in part.itertuples(index=False, name=None):
                    yield {
                        name: None if _is_missing(value) else value
                        for name, value in zip(names, values, strict=True)
                    }


def _jsonl_rows(path: Path) -> Iterator[dict[str, Any]]:
    with open_bytes(path) as file, io.TextIOWrapper(cast(Any, file), encoding="utf-8-sig") as lines:
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

    suffix = suffix_of(path)
    with TemporaryDirectory(prefix="probekit-") as folder, _uncounted():
        if path.suffix.lower() == ".zst":  # the dataset library needs another package for it
            unpacked = Path(folder) / path.stem
            with open_bytes(path) as packed, unpacked.open("wb") as target:
                shutil.copyfileobj(packed, target)
            path = unpacked
        # a folder of our own: nothing is cached of a local file, and the user's cache may be read-only
        loaded = load_dataset(
            _BUILDERS[suffix],
            data_files=str(path),
            split="train",
            streaming=True,
            cache_dir=folder,
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
        column: None takes `text` or the only column of strings.
        config: configuration name.
        revision: branch, tag or commit.
    """
    where = f"dataset {name!r}"

    def opened() -> Any:
        loaded = _load(name, config, revision)
        if hasattr(loaded, "keys"):
            return _split(where, loaded, split)
        if split is not None:
            raise InputError(
                f"{where} is a saved dataset without splits, but split={split!r} was asked for; leave it out"
            )
        return loaded

    held = opened()
    # a folder is opened again at each reading: what was opened would go on reading files that are there no more
    rows = (lambda: iter(opened())) if Path(name).exists() else (lambda: iter(held))
    return column_source(where, rows, column, _string_columns(held))


def dataset_object(loaded: Any, *, split: str | None, column: str | None) -> TableSource:
    """Source of one text column of a table in memory.

    Args:
        loaded: a Dataset or IterableDataset of any format or a dictionary of them, a pandas DataFrame, a pyarrow Table, a
            dictionary of equally long lists, or a list of dictionaries.
        split: of a dictionary of datasets; None takes `train`, else the first.
        column: None takes `text` or the only column of strings.
    """
    where = f"dataset {object_name(loaded)!r}"
    rows = _rows_in_memory(where, loaded)
    if rows is not None:
        if split is not None:
            raise InputError(f"{where} has no splits, but split={split!r} was asked for; leave it out")
        return column_source(where, rows, column)
    if not hasattr(loaded, "features") and not hasattr(loaded, "keys"):
        raise InputError(
            f"corpus: got a {type(loaded).__name__}, wanted a name, a path, a Corpus, a list of texts, or a table: a "
            "Dataset of the datasets library, a pandas DataFrame or a dictionary of lists"
        )
    if hasattr(loaded, "keys"):
        loaded = _split(where, loaded, split)
    elif split is not None:
        raise InputError(f"{where} is one split already, but split={split!r} was asked for; leave it out")
    if getattr(loaded, "format", None) and loaded.format["type"] == "custom":
        # a transform of the user's own makes other values, not another view of the same
        return column_source(where, lambda: _plain_rows(loaded), column)
    plain = loaded.with_format(None)  # rows as Python values, whatever format the user looks at them in
    return column_source(where, lambda: iter(plain), column, _string_columns(plain))


def _rows_in_memory(where: str, loaded: Any) -> Rows | None:
    """Rows of what is no dataset but is a table all the same; None for anything else."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(loaded, pa.Table):
        _require_each_once(where, loaded.column_names)
        return lambda: (row for batch in loaded.to_batches() for row in batch.to_pylist())
    if isinstance(loaded, pd.DataFrame):
        names = [str(name) for name in loaded.columns]
        _require_each_once(where, names)
        return lambda: (
            {name: None if _is_missing(value) else value for name, value in zip(names, values, strict=True)}
            for values in loaded.itertuples(index=False, name=None)
        )
    if isinstance(loaded, list | tuple):
        odd = next((row for row in loaded if not isinstance(row, Mapping)), None)
        if odd is not None:
            raise InputError(
                f"corpus: got a list that holds a {type(odd).__name__}, wanted a list of texts or one of rows (dictionaries)"
            )
        return lambda: (dict(row) for row in loaded)
    if isinstance(loaded, Mapping) and not any(hasattr(value, "features") for value in loaded.values()):
        columns = {str(name): _listed(where, str(name), values) for name, values in loaded.items()}
        if len({len(values) for values in columns.values()}) > 1:
            sizes = ", ".join(f"{name} {len(values):,}" for name, values in columns.items())
            raise InputError(
                f"{where}: its lists are not equally long ({sizes}); wanted one entry a document in each"
            )
        return lambda: (
            dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
        )
    return None


def _require_each_once(where: str, names: Sequence[str]) -> None:
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise InputError(f"{where} has two columns that are called {twice!r}; rename one of them")


def _plain_rows(loaded: Any) -> Iterator[dict[str, Any]]:
    return (dict(row) for row in loaded)


def _listed(where: str, name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise InputError(
            f"{where}: column {name!r} is a {type(values).__name__}, wanted a list with one entry a document"
        )
    return list(values)


def _is_missing(value: Any) -> bool:
    """None, NaN, or pandas' own mark for a missing value."""
    import pandas as pd

    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _string_columns(loaded: Any) -> list[str] | None:
    """Columns of strings by a dataset's own schema; None where it does not know its columns."""
    features = getattr(loaded, "features", None)
    if not features:
        return None
    return [
        str(name)
        for name, kind in features.items()
        if getattr(kind, "dtype", "") in ("string", "large_string")
    ]


def object_name(loaded: Any) -> str:
    """What a report calls a dataset object: its builder's name if it has one.

    Args:
        loaded: what `dataset_object` takes.
    """
    builder = getattr(getattr(loaded, "info", None), "builder_name", None)
    return builder if isinstance(builder, str) else type(loaded).__name__


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
        if len(name) > _LONGEST_NAME:
            _require_name(name)
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            return datasets.load_from_disk(name)
        if folder.exists():
            # local files are not cached, so that a cache that cannot be written is none of our business
            with TemporaryDirectory(prefix="probekit-") as cache, _uncounted():
                return datasets.load_dataset(name, config, revision=revision, streaming=True, cache_dir=cache)
        _require_name(name)
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
        raise InputError(f"{where} cannot be loaded: {first_line(error)}; {local}") from error


def _require_name(name: str) -> None:
    """Refuse what cannot be the name of a dataset, such as a text."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        shown = name if len(name) <= 60 else f"{name[:60]}…"
        raise InputError(
            f"corpus {shown!r} is no file on this machine and no name of a dataset; texts themselves go in a list: "
            "corpus=[text, …]"
        ) from error


def _knock(name: str) -> None:
    """One short request, because the dataset library tries an unreachable hub for half a minute."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        try:
            call_with_timeout(HUB_TIMEOUT_S, lambda: _ask(f"{constants.ENDPOINT}/api/datasets/{name}"))
        except urllib.error.HTTPError:
            return  # it answered; what is wrong with the name is the dataset library's to say
        except OSError as error:
            raise ConnectionError(str(error)) from error


def _ask(url: str) -> None:
    urllib.request.urlopen(url, timeout=HUB_TIMEOUT_S).close()  # noqa: S310


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
