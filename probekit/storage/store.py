"""The only writer of files: a name on disk is either absent or complete.

A file is written to `NAME.tmp-PID` in its own folder, flushed to the device, renamed over its name, and the folder is
flushed too. A reader never sees half a file, and a killed writer leaves debris that no reader looks at. What is read
back is compared with the digest that was taken when it was written, before anything is made of it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from probekit.errors import CorruptError, DiskFullError, FormatError, StoreError
from probekit.storage.digest import Digest, blake2b, corrupt
from probekit.storage.disk import Disk, RealDisk

TEMPORARY_MARK = ".tmp-"
ROOM = 1.2
"""Free space asked for, as a multiple of what is about to be written."""
SEAL = "~seal"
"""The key of a sealed record's own digest, alone on its last line."""

disk: Disk = RealDisk()
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def on(other: Disk) -> Generator[Disk, None, None]:
    """Write through another disk for a while: the seam of the tests."""
    global disk  # noqa: PLW0603 - one process has one disk
    before, disk = disk, other
    try:
        yield other
    finally:
        disk = before


# ------------------------------------------------------------------------------------ writing


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path`, all of it or nothing.

    Raises:
        DiskFullError: the device, quota or file-size limit is exhausted; what stood at `path` is unchanged.
        StoreError: any other refusal of the file system.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}{TEMPORARY_MARK}{os.getpid()}")
    try:
        make_folders(path.parent)
        descriptor = disk.create(temporary)
        try:
            write_all(descriptor, data)
            disk.sync(descriptor)
        finally:
            os.close(descriptor)
        disk.replace(temporary, path)
        disk.sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # the folder itself may be what is wrong
            if temporary.exists():
                disk.unlink(temporary)
        if error.errno in _FULL:
            raise DiskFullError(
                f"{path}: no space left for {len(data):,} bytes ({error.strerror}). "
                "What was finished before is kept; free some space and run the same command again."
            ) from error
        raise StoreError(
            f"{path}: could not be written ({error.strerror}). Choose a folder you may write to."
        ) from error


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder of files at `folder`, all of it or nothing; a folder that stands there is replaced.

    The files are written beside it, and the finished folder takes its name. A process killed between the removal of the
    former folder and that leaves neither, never half of one.

    Args:
        folder: where to.
        files: their bytes by name, with / between folders.

    Raises:
        DiskFullError: the device, quota or file-size limit is exhausted; what stood there is unchanged.
        StoreError: any other refusal of the file system.
    """
    made = folder.with_name(f"{folder.name}{TEMPORARY_MARK}{os.getpid()}-new")
    try:
        if made.exists():
            _empty(made)
        for name, data in files.items():
            write_bytes(made / name, data)
        remove_tree(folder)
        disk.replace(made, folder)
        disk.sync_folder(folder.parent)
    except OSError as error:
        raise StoreError(
            f"{folder}: could not be written ({error.strerror}). Choose a folder you may write to."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            if made.exists():
                _empty(made)


def write_all(descriptor: int, data: bytes) -> None:
    """Write to a descriptor until nothing is left: the system may write less than it was given."""
    view = memoryview(data)
    while view:
        n_written = disk.write(descriptor, view)
        if n_written <= 0:
            raise OSError(errno.EIO, "nothing was written")
        view = view[n_written:]


def make_folders(folder: Path) -> list[Path]:
    """Make a folder and what lies above it, flushed; returns those that were not there."""
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        disk.make_folder(path)
        disk.sync_folder(path.parent)
    return missing


def write_text(path: Path, text: str) -> None:
    """Put UTF-8 text at `path`, all of it or nothing."""
    write_bytes(path, text.encode("utf-8"))


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no NaN, one trailing newline."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Put a JSON value at `path` in its canonical spelling."""
    write_text(path, canonical_json(value))


def write_sealed(path: Path, record: dict[str, Any]) -> str:
    """Put a record at `path`; its last line is the digest of all that stands above. Returns that digest."""
    text = json.dumps(record, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    body = text.removesuffix("}").encode()
    seal = blake2b(body)
    write_bytes(path, body + _last_line(seal))
    return seal


def _last_line(seal: str) -> bytes:
    return f',\n"{SEAL}":"{seal}"}}\n'.encode()


def table_bytes(table: Any) -> bytes:
    """A pandas table as parquet, the same bytes for the same table."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(arrow, buffer, compression="zstd")
    return buffer.getvalue()


def write_table(path: Path, table: Any) -> None:
    """Put a pandas table at `path` as parquet."""
    write_bytes(path, table_bytes(table))


# ------------------------------------------------------------------------------------ reading


def read_bytes(path: Path, digest: Digest | None = None) -> bytes:
    """The bytes of a file, compared with its digest where one is given.

    Raises:
        CorruptError: they are others than were written.
        StoreError: the file cannot be read.
    """
    try:
        if Path(path).is_symlink():
            raise corrupt(Path(path), "a link, and probekit writes none")
        data = Path(path).read_bytes()
    except OSError as error:
        if digest is not None and isinstance(error, FileNotFoundError):
            raise corrupt(Path(path), "the file is gone") from error
        raise StoreError(f"{path}: could not be read ({error.strerror}). Is this a run directory?") from error
    if digest is not None:
        digest.check(data, Path(path))
    return data


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def parse_json(data: bytes, path: Path) -> Any:
    """The value of a JSON text.

    Raises:
        CorruptError: it is none.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path}: not a JSON file ({error}). Re-create the run with --force.") from error


def read_json(path: Path, digest: Digest | None = None) -> Any:
    """Read one JSON file.

    Raises:
        CorruptError: the file is not JSON, or not what was written.
        StoreError: the file cannot be read.
    """
    return parse_json(read_bytes(path, digest), path)


def read_sealed_as(path: Path, schema: str, version: int) -> tuple[dict[str, Any], str]:
    """Read a sealed record and its digest: `schema` must be its "schema", and its "format" must be `version`.

    Raises:
        FormatError: another schema, or another format.
        CorruptError: a bit differs from what was written.
        StoreError: the file cannot be read.
    """
    data = read_bytes(path)
    record = parse_json(data, path)
    if not isinstance(record, dict) or record.get("schema") != schema:
        raise FormatError(f"{path}: wanted a record of {schema}; give the folder named by --out.")
    written = record.get("format")
    if not isinstance(written, int) or isinstance(written, bool) or written < 1:
        raise FormatError(f"{path}: names no format; give the folder named by --out.")
    if written < version:
        raise FormatError(
            f"{path}: written in format {written} by an earlier probekit, whose results mean something else; this one reads "
            f"{version}. Run the analysis again (--force replaces what is there)."
        )
    if written > version:
        raise FormatError(
            f"{path}: written in format {written}, this probekit reads up to {version}; upgrade probekit to read it."
        )
    seal = str(record.pop(SEAL, ""))
    body = data.removesuffix(_last_line(seal))
    if len(body) == len(data) or blake2b(body) != seal:
        raise corrupt(Path(path), "its last line does not digest the rest")
    return record, seal


def read_sealed(path: Path, schema: str, version: int) -> dict[str, Any]:
    """The record alone; see `read_sealed_as`."""
    return read_sealed_as(path, schema, version)[0]


def read_table(path: Path, digest: Digest | None = None) -> Any:
    """Read a parquet table.

    Raises:
        CorruptError: the file is not what was written, or without a digest not parquet.
        FormatError: it is what was written, and no parquet.
        StoreError: the file cannot be read.
    """
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    data = read_bytes(path, digest)
    try:
        return pq.read_table(io.BytesIO(data)).to_pandas()
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        kind = CorruptError if digest is None else FormatError
        raise kind(f"{path}: not a parquet table ({error}). Re-create the run with --force.") from error


# ------------------------------------------------------------------------------------ removing, room


def sweep(folder: Path) -> None:
    """Remove what killed writers left behind."""
    for debris in sorted(Path(folder).rglob(f"*{TEMPORARY_MARK}*"), reverse=True):
        if debris.is_dir() and not debris.is_symlink():
            _empty(debris)
        elif debris.exists() or debris.is_symlink():
            disk.unlink(debris)


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    if path.exists() or path.is_symlink():
        disk.unlink(path)
        disk.sync_folder(path.parent)


def remove_tree(path: Path) -> None:
    """Remove a folder at once: it loses its name first, so that nobody reads what is half removed."""
    path = Path(path)
    if not path.exists():
        return
    doomed = path.with_name(f"{path.name}{TEMPORARY_MARK}{os.getpid()}")
    if doomed.exists():
        _empty(doomed)
    disk.replace(path, doomed)
    disk.sync_folder(path.parent)
    _empty(doomed)


def _empty(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            _empty(path)
        else:
            disk.unlink(path)
    disk.remove_folder(folder)


def free_bytes(folder: Path) -> int:
    """Free space of the device under a folder."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_room(folder: Path, n_bytes: int, what: str) -> None:
    """Refuse to begin what will not fit.

    Raises:
        DiskFullError: less than ROOM × n_bytes are free.
    """
    wanted, free = int(ROOM * n_bytes), free_bytes(Path(folder))
    if free < wanted:
        raise DiskFullError(
            f"{folder}: {what} needs {wanted:,} bytes and {free:,} are free. Nothing was changed; free some space or "
            "choose another --out, then run the same command again."
        )
