"""What lies in files, as a digest of every byte, and whether that changed while a run was reading them.

A large file is read once: its digest is kept in the cache folder with device, inode, size and the times of its last write
and last change of state, and taken from there while all of these are the same. The time of the last change of state
(ctime) cannot be set, so an edit in place is seen even where the time of the last write was put back. What could still
pass: a clock set back by an administrator, a file system without such times, a write through a memory map that the
system has not stamped yet, and a disk written to past its file system. Files below REMEMBERED_FROM are read every time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from probekit.errors import InputError, ProbekitError
from probekit.fingerprint import of_file, of_parts
from probekit.storage import store
from probekit.storage.cache import cache_folder

HASHING = "hashing files"
"""Name of the step in progress reports; the only one that is counted in bytes."""
REMEMBERED_FROM = 2**28
"""Bytes from which a digest is kept: smaller files are read faster than it is worth trusting a time."""
TOLD_FROM = 2**28
"""Bytes to read from which progress is reported."""
SETTLED_NS = 2_000_000_000
"""A file younger than this may change again within the resolution of its times, so its digest is not kept."""
_SCHEMA = "probekit.digest/1"
Listing = Callable[[Path], list[Path]]
"""A folder → those of its files that count."""


@dataclass(frozen=True)
class Stamp:
    """What changes with a file's content, by all that the file system tells."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file, links followed."""
        held = path.stat()
        return cls(held.st_dev, held.st_ino, held.st_size, held.st_mtime_ns, held.st_ctime_ns)

    @property
    def settled(self) -> bool:
        """Whether the last change is long enough ago for the next one to have another time."""
        return time.time_ns() - max(self.mtime_ns, self.ctime_ns) > SETTLED_NS


class Contents:
    """Digests of files, and the stamps they had: made for one run, and asked again when the run has read them.

    Args:
        report: called with (HASHING, bytes read, bytes in all), where there are many; None tells nobody.
    """

    def __init__(self, report: Callable[[str, int, int], None] | None = None) -> None:
        self._report = report
        self._seen: dict[Path, tuple[Stamp, str]] = {}
        self._listed: list[tuple[Path, Listing, list[Path]]] = []

    def of_file(self, path: Path) -> str:
        """Digest of one file.

        Raises:
            InputError: it cannot be read, or changes while it is.
        """
        return self._of([path])[0]

    def of_folder(self, folder: Path, listing: Listing | None = None) -> str:
        """Digest of the names and contents of a folder's files.

        Args:
            folder: the folder.
            listing: says which of its files count; None takes all below it that are not hidden.

        Raises:
            InputError: one cannot be read, or changes while it is.
        """
        listing = listing or _below
        chosen = sorted(listing(folder))
        self._listed.append((folder, listing, chosen))
        names = [path.relative_to(folder).as_posix() for path in chosen]
        return of_parts(part for pair in zip(names, self._of(chosen), strict=True) for part in pair)

    def of_path(self, path: Path) -> str:
        """Digest of a file, or of all that lies below a folder.

        Raises:
            InputError: as above.
        """
        return self.of_folder(path) if path.is_dir() else self.of_file(path)

    def require_unchanged(self, *, in_memory: bool = False) -> None:
        """Refuse to call a result that of files which hold something else by now.

        Args:
            in_memory: everything has been read, by this process: a file that was removed or replaced since keeps what it
                held for who has it open, and only a write into it can still reach the numbers.

        Raises:
            InputError: a file that was digested has other content.
        """
        for folder, listing, chosen in [] if in_memory else self._listed:
            came = sorted({*_listed_again(folder, listing)} - {*chosen})
            if came:
                raise InputError(
                    f"{came[0]}: came into its folder while the run was reading it, so nobody can say whether it belongs to "
                    "what the numbers are of; nothing of them is kept. Run it again when the folder is finished."
                )
        for path, (stamp, digest) in self._seen.items():
            try:
                now = Stamp.of(path)
                replaced = (now.device, now.inode) != (stamp.device, stamp.inode)
                if now == stamp or (replaced and in_memory) or of_file(path) == digest:
                    continue
            except OSError:
                if in_memory:
                    continue
            raise InputError(
                f"{path}: changed while the run was reading it, so nobody can say which content the numbers belong to; "
                "nothing of them is kept. Run it again when the file is finished."
            )

    def _of(self, paths: list[Path]) -> list[str]:
        try:
            stamps = [Stamp.of(path) for path in paths]
            known = [self._known(path, stamp) for path, stamp in zip(paths, stamps, strict=True)]
            total = sum(stamp.size for stamp, digest in zip(stamps, known, strict=True) if digest is None)
            done = 0

            def told(n_bytes: int) -> None:
                nonlocal done
                done += n_bytes
                if total >= TOLD_FROM and self._report is not None:
                    self._report(HASHING, done, total)

            found: list[str] = []
            for path, stamp, held in zip(paths, stamps, known, strict=True):
                digest = of_file(path, told) if held is None else held
                if Stamp.of(path) != stamp:
                    raise InputError(f"{path}: changed while it was read; run it again when it is finished.")
                if held is None:
                    _remember(path, stamp, digest)
                self._seen[path] = (stamp, digest)
                found.append(digest)
        except OSError as error:
            where = getattr(error, "filename", None) or "a file"
            raise InputError(f"{where} cannot be read ({error.strerror or error}).") from error
        return found

    def _known(self, path: Path, stamp: Stamp) -> str | None:
        seen = self._seen.get(path)
        if seen is not None and seen[0] == stamp:
            return seen[1]
        return _recalled(path, stamp)


def _listed_again(folder: Path, listing: Listing) -> list[Path]:
    try:
        return listing(folder)
    except OSError:  # it is gone; what was in it is asked for by name
        return []


def _below(folder: Path) -> list[Path]:
    """Files below a folder; what is hidden (.git, .cache) is no content."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return [
        path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _note_of(path: Path) -> Path:
    name = of_parts([str(path.resolve())])
    return cache_folder() / "digests" / f"{name}.json"


def _recalled(path: Path, stamp: Stamp) -> str | None:
    """The digest kept of a file with this stamp; None where there is none to trust."""
    if stamp.size < REMEMBERED_FROM:
        return None
    try:
        note = store.read_sealed(_note_of(path), _SCHEMA, 1)
    except (ProbekitError, OSError):
        return None
    digest = note.get("digest")
    return digest if note.get("stamp") == asdict(stamp) and isinstance(digest, str) else None


def _remember(path: Path, stamp: Stamp, digest: str) -> None:
    """Keep a digest; a cache that cannot be written to is no error."""
    if stamp.size < REMEMBERED_FROM or not stamp.settled:
        return
    note = {"schema": _SCHEMA, "format": 1, "path": str(path), "stamp": asdict(stamp), "digest": digest}
    with contextlib.suppress(ProbekitError, OSError):
        store.write_sealed(_note_of(path), note)
