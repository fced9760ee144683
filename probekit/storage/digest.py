"""What the bytes of a file were when they were written, and the refusal of any others."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from probekit.errors import CorruptError, FormatError

BLOCK = 2**20
"""Bytes under one crc32, so that a message can say where a file is damaged."""


@dataclass(frozen=True)
class Digest:
    """What the bytes of a file were when they were written."""

    n_bytes: int
    """Length."""
    crc32: list[int]
    """crc32 of each block of BLOCK bytes."""
    blake2b: str
    """blake2b-256 of the whole, in hexadecimal."""

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The digest of some bytes."""
        return cls(len(data), _checksums(data), blake2b(data))

    @classmethod
    def from_dict(cls, value: Any, where: Path) -> Digest:
        """A digest read from JSON.

        Raises:
            FormatError: it is none.
        """
        match value:
            case {"n_bytes": int(n), "crc32": list(sums), "blake2b": str(whole)} if _fits(n, sums):
                return cls(n, sums, whole)
            case _:
                raise FormatError(
                    f"{where}: holds no digest where one was wanted; re-create the run with --force."
                )

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def check(self, data: bytes, path: Path) -> None:
        """Refuse other bytes.

        Raises:
            CorruptError: they are not the bytes that were written.
        """
        self.require_length(len(data), path)
        for block, (found, wanted) in enumerate(zip(_checksums(data), self.crc32, strict=True)):
            if found != wanted:
                raise corrupt(path, f"block {block} (bytes from {block * BLOCK:,} on) has another crc32")
        if blake2b(data) != self.blake2b:
            raise corrupt(path, "the bytes have another blake2b-256")

    def require_length(self, n_bytes: int, path: Path) -> None:
        """Refuse another length.

        Raises:
            CorruptError: there are more or fewer bytes than were written.
        """
        if n_bytes != self.n_bytes:
            raise corrupt(path, f"{n_bytes:,} bytes where {self.n_bytes:,} were written")


def _fits(n_bytes: int, sums: list[Any]) -> bool:
    """Whether there is a whole number for each block."""
    n_blocks = -(-n_bytes // BLOCK)
    return n_bytes >= 0 and len(sums) == n_blocks and all(isinstance(one, int) for one in sums)


def blake2b(data: bytes | memoryview) -> str:
    """blake2b-256 in hexadecimal."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _checksums(data: bytes) -> list[int]:
    view = memoryview(data)
    return [zlib.crc32(view[start : start + BLOCK]) for start in range(0, len(data), BLOCK)]


def corrupt(path: Path, what: str) -> CorruptError:
    """The error of a file that is not what was written."""
    return CorruptError(
        f"{path}: {what}, so it is not what probekit wrote. `probekit verify` lists all damage; copy the file back, remove "
        "its stage folder to have that computed again, or start the run afresh with --force."
    )
