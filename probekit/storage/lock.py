"""One writer a run directory: a lock of the operating system, which falls when its holder dies.

The file LOCK says who holds it, for the message; what counts is the kernel's lock on it. A killed holder therefore
needs no clean-up, and a live one is never mistaken for a dead one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Generator
from pathlib import Path

from probekit.errors import LockedError, StoreError
from probekit.storage import store

LOCK = "LOCK"


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Hold a run directory; the folder must exist.

    Raises:
        LockedError: another process holds it; the message names it.
        StoreError: the file system offers no locks.
    """
    path = folder / LOCK
    descriptor = _acquire(path)
    try:
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n"
        store.write_all(descriptor, holder.encode())
        yield
    finally:
        # the name goes before the lock: whoever opens LOCK now makes a new one
        with contextlib.suppress(FileNotFoundError):
            store.disk.unlink(path)
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        descriptor = store.disk.create(path, emptied=False)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(descriptor, path):
                os.ftruncate(descriptor, 0)
                return descriptor
        except OSError as error:
            holder = _holder(path)
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise LockedError(
                    f"{path.parent}: {holder} works on this run. Wait until it has finished, or choose another --out."
                ) from error
            raise StoreError(
                f"{path}: this file system offers no locks ({error.strerror}), so two runs could mix here. "
                "Choose an --out on a local disk."
            ) from error
        os.close(descriptor)  # the holder released it and removed the name between our two calls: once more


def _is(descriptor: int, path: Path) -> bool:
    """Whether the name still belongs to the file that is open."""
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return f"process {held['pid']} on {held['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
