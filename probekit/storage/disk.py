"""What the store asks of the operating system: the seam at which tests make a disk fail.

Every change of a disk is one call of one of these primitives. The real one costs nothing; a test puts another in its
place (`probekit.storage.store.on`) that kills the process, fails or tears the k-th call, or writes the calls down.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Disk(Protocol):
    """The primitives. Each raises OSError as the operating system does."""

    def make_folder(self, path: Path) -> None:
        """Make one folder whose parent exists; no error if it is there."""
        ...

    def create(self, path: Path, *, emptied: bool = True) -> int:
        """Open a file for writing, made if it is not there, emptied if asked for; returns its descriptor."""
        ...

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of `data`; returns how many bytes."""
        ...

    def sync(self, descriptor: int) -> None:
        """Return when what was written has reached the device."""
        ...

    def replace(self, source: Path, target: Path) -> None:
        """Give a file or folder another name, at once for everybody who looks."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Return when the names in a folder have reached the device."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        ...

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        ...


class RealDisk:
    """The operating system's."""

    def make_folder(self, path: Path) -> None:
        """See `Disk`."""
        path.mkdir(exist_ok=True)

    def create(self, path: Path, *, emptied: bool = True) -> int:
        """See `Disk`."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if emptied else 0)
        return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o644)

    def write(self, descriptor: int, data: memoryview) -> int:
        """See `Disk`."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """See `Disk`."""
        os.fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """See `Disk`."""
        source.replace(target)

    def sync_folder(self, path: Path) -> None:
        """See `Disk`."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unlink(self, path: Path) -> None:
        """See `Disk`."""
        path.unlink()

    def remove_folder(self, path: Path) -> None:
        """See `Disk`."""
        path.rmdir()
