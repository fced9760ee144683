"""The only writer of files: a name on disk is either absent or complete.

A file is written to `NAME.tmp-PID` in its own folder, flushed to the device, renamed over its name, and the folder is
flushed too. A reader never sees half a file, and a killed writer leaves debris that no reader looks at.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

from probekit.errors import CorruptError, DiskFullError, StoreError

TEMPORARY_MARK = ".tmp-"


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path`, all of it or nothing.

    Raises:
        DiskFullError: the device, quota or file-size limit is exhausted; what stood at `path` is unchanged.
        StoreError: any other refusal of the file system.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}{TEMPORARY_MARK}{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            view = memoryview(data)
            while view:  # os.write may write less than it was given
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # the folder itself may be what is wrong
            temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(
                f"{path}: no space left for {len(data):,} bytes ({error.strerror}). "
                "Nothing was changed; free some space or choose another --out."
            ) from error
        raise StoreError(
            f"{path}: could not be written ({error.strerror}). Choose a folder you may write to."
        ) from error


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Put UTF-8 text at `path`, all of it or nothing."""
    write_bytes(path, text.encode("utf-8"))


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no NaN, one trailing newline."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Put a JSON value at `path` in its canonical spelling."""
    write_text(path, canonical_json(value))


def read_json(path: Path) -> Any:
    """Read one JSON file.

    Raises:
        CorruptError: the file is not JSON.
        StoreError: the file cannot be read.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptError(f"{path}: not a JSON file ({error}). Re-create the run with --force.") from error
    except OSError as error:
        raise StoreError(f"{path}: could not be read ({error.strerror}). Is this a run directory?") from error


def sweep(folder: Path) -> None:
    """Remove what killed writers left behind."""
    for debris in Path(folder).rglob(f"*{TEMPORARY_MARK}*"):
        if debris.is_file():
            debris.unlink()


def write_table(path: Path, table: Any) -> None:
    """Put a pandas table at `path` as parquet, the same bytes for the same table."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(arrow, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def read_table(path: Path) -> Any:
    """Read a parquet table.

    Raises:
        CorruptError: the file is not parquet.
        StoreError: the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pandas()
    except pa.ArrowInvalid as error:
        raise CorruptError(
            f"{path}: not a parquet table ({error}). Re-create the run with --force."
        ) from error
    except OSError as error:
        raise StoreError(f"{path}: could not be read ({error.strerror or error}).") from error


def remove_tree(path: Path) -> None:
    """Remove what a run wrote into its directory."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)
