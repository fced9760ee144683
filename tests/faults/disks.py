"""Disks that die, fail or remember: what stands behind `probekit.storage.store.on` in the fault tests.

Every call of a primitive is a boundary; a write is two of them, before its first byte and after half of its bytes. The
loop is always k = 0, 1, 2 … until the job ends without a fault, so boundaries are discovered, not listed.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from probekit.storage.disk import RealDisk


class CountingDisk(RealDisk):
    """Counts boundaries; `at(k, operation)` is asked at each, and may not come back."""

    def __init__(self) -> None:
        self.n_boundaries = 0
        self.names: list[str] = []

    def at(self, boundary: int, operation: str) -> None:
        """What happens at a boundary: nothing."""

    def _pass(self, operation: str) -> None:
        boundary = self.n_boundaries
        self.n_boundaries += 1
        self.names.append(operation)
        self.at(boundary, operation)

    def make_folder(self, path: Path) -> None:
        self._pass("make_folder")
        super().make_folder(path)

    def create(self, path: Path, *, emptied: bool = True) -> int:
        self._pass("create")
        return super().create(path, emptied=emptied)

    def write(self, descriptor: int, data: memoryview) -> int:
        self._pass("write")
        n_written = super().write(descriptor, data[: len(data) // 2])
        self._pass("half written")
        return n_written + super().write(descriptor, data[len(data) // 2 :])

    def sync(self, descriptor: int) -> None:
        self._pass("sync")
        super().sync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        self._pass("replace")
        super().replace(source, target)

    def sync_folder(self, path: Path) -> None:
        self._pass("sync_folder")
        super().sync_folder(path)

    def unlink(self, path: Path) -> None:
        self._pass("unlink")
        super().unlink(path)

    def remove_folder(self, path: Path) -> None:
        self._pass("remove_folder")
        super().remove_folder(path)


class KillingDisk(CountingDisk):
    """The process gets a real SIGKILL at one boundary."""

    def __init__(self, kill_at: int) -> None:
        super().__init__()
        self.kill_at = kill_at

    def at(self, boundary: int, operation: str) -> None:
        if boundary == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


class FullDisk(CountingDisk):
    """From one boundary on nothing more can be made or written, as on a full or broken device; removing works."""

    GROWING = ("make_folder", "create", "write", "half written", "sync")

    def __init__(self, full_from: int, error: int) -> None:
        super().__init__()
        self.full_from, self.error = full_from, error
        self.has_failed = False

    def at(self, boundary: int, operation: str) -> None:
        if boundary >= self.full_from and operation in self.GROWING:
            self.has_failed = True
            raise OSError(self.error, os.strerror(self.error))


ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO)


# ------------------------------------------------------------------------------------ power loss


@dataclass(frozen=True)
class Operation:
    """One call that changed the disk."""

    kind: str
    path: str
    target: str = ""
    data: bytes = b""
    inode: int = -1


@dataclass
class RecordingDisk(RealDisk):
    """Writes every call down, so that a loss of power after any of them can be played."""

    root: Path
    log: list[Operation] = field(default_factory=list)
    _open: dict[int, int] = field(default_factory=dict)
    _n_inodes: int = 0

    def _name(self, path: Path) -> str:
        return "." if path == self.root else path.relative_to(self.root).as_posix()

    def _inside(self, path: Path) -> bool:
        return path == self.root or self.root in path.parents

    def _note(self, kind: str, path: Path, **more: object) -> None:
        if self._inside(path):
            self.log.append(Operation(kind, self._name(path), **more))  # pyright: ignore[reportArgumentType]

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self._note("make_folder", path)

    def create(self, path: Path, *, emptied: bool = True) -> int:
        descriptor = super().create(path, emptied=emptied)
        self._open[descriptor] = self._n_inodes
        self._note("create", path, inode=self._n_inodes)
        self._n_inodes += 1
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        n_written = super().write(descriptor, data)
        self.log.append(Operation("write", "", data=bytes(data[:n_written]), inode=self._open[descriptor]))
        return n_written

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self.log.append(Operation("sync", "", inode=self._open[descriptor]))

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        self._note("replace", source, target=self._name(target))

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        self._note("sync_folder", path)

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._note("unlink", path)

    def remove_folder(self, path: Path) -> None:
        super().remove_folder(path)
        self._note("remove_folder", path)


class CrashedDisk:
    """What a device may hold after the power went: names and contents, some of them never flushed.

    A name becomes durable when its folder is synced, bytes when their file is. Of what was not synced any subset may have
    reached the device; bytes may be cut short or zero. (A model: real file systems are kinder.)
    """

    def __init__(self) -> None:
        self.names: dict[str, int | None] = {}
        """Durable names: the inode of a file, None for a folder."""
        self.pending: list[Operation] = []
        """Changes of names that were not flushed, in order."""
        self.data: dict[int, bytes] = {}
        self.synced: dict[int, int] = {}

    def play(self, operation: Operation) -> None:
        """Take in one more call."""
        match operation.kind:
            case "write":
                self.data[operation.inode] = self.data.get(operation.inode, b"") + operation.data
            case "sync":
                self.synced[operation.inode] = len(self.data.get(operation.inode, b""))
            case "sync_folder":
                flushed = [op for op in self.pending if _folder(op.path) == operation.path]
                for op in flushed:
                    _apply(self.names, op)
                self.pending = [op for op in self.pending if op not in flushed]
            case _:
                if operation.kind == "create":
                    self.data.setdefault(operation.inode, b"")
                self.pending.append(operation)

    def state(self, reached: Iterable[int], tail: str) -> dict[str, bytes | None]:
        """Path → bytes (None: a folder), if just these pending changes reached the device.

        Args:
            reached: indices into `pending`.
            tail: what became of bytes that were not synced: "lost", "torn" (half of them) or "zero".
        """
        names = dict(self.names)
        for index in sorted(reached):
            _apply(names, self.pending[index])
        return {path: None if inode is None else self._bytes(inode, tail) for path, inode in names.items()}

    def _bytes(self, inode: int, tail: str) -> bytes:
        whole, n_synced = self.data[inode], self.synced.get(inode, 0)
        loose = len(whole) - n_synced
        match tail:
            case "lost":
                return whole[:n_synced]
            case "torn":
                return whole[: n_synced + loose // 2]
            case _:
                return whole[:n_synced] + bytes(loose)


def _folder(path: str) -> str:
    head, _, _ = path.rpartition("/")
    return head or "."


def _apply(names: dict[str, int | None], op: Operation) -> None:
    match op.kind:
        case "make_folder":
            names.setdefault(op.path, None)
        case "create":
            names[op.path] = op.inode
        case "replace":
            below = [n for n in names if n == op.path or n.startswith(f"{op.path}/")]
            for name in below:
                names[op.target + name.removeprefix(op.path)] = names.pop(name)
        case "unlink" | "remove_folder":
            names.pop(op.path, None)
        case _:
            raise AssertionError(op.kind)
