"""What a value is, as a digest of its whole content: arrays, files, settings, and what is built of them.

Two values have the same digest only if they are the same: types, names and lengths are digested with the content, so that
no two of them run together. Large content is cut into leaves that are digested side by side, and what is kept is a digest
of their digests: XXH3-128 for the leaves, which costs less than reading them, and blake2b above. That tells contents apart
which differ by an edit, a new training or a fault (they meet once in 2¹²⁸); it is no defence against somebody who builds
two files to collide.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_128_digest

from probekit.errors import OutOfMemoryError, lacks_memory

LEAF = 8 * 2**20
"""Bytes of one leaf. Part of what a digest is: another size gives other digests."""
N_THREADS = min(8, os.cpu_count() or 1)
"""Leaves digested side by side."""
_SIZE = 16

Progress = Callable[[int], object]
"""Called with the number of bytes that were digested since the last call."""


class CannotTellError(TypeError):
    """A value whose content cannot be read, such as a function."""


def of_bytes(data: bytes | memoryview) -> str:
    """Digest of some bytes.

    Args:
        data: the bytes; a memoryview must be contiguous.
    """
    view = memoryview(data).cast("B") if memoryview(data).nbytes else memoryview(b"")
    return _tree(len(view), lambda start: view[start : start + LEAF])


def of_file(path: Path, progress: Progress | None = None) -> str:
    """Digest of a file's whole content, which is the digest of its bytes.

    Args:
        path: the file.
        progress: called with the number of bytes that are done.

    Raises:
        OSError: it cannot be read, or it shrank meanwhile.
    """
    with Path(path).open("rb") as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size

        def leaf(start: int) -> bytes:
            wanted = min(LEAF, size - start)
            data = os.pread(descriptor, wanted, start)
            while len(data) < wanted:  # a read may be cut short by a signal
                more = os.pread(descriptor, wanted - len(data), start + len(data))
                if not more:
                    raise OSError(f"{path} ends before byte {start + wanted:,}: it was cut while it was read")
                data += more
            return data

        return _tree(size, leaf, progress)


def of_array(values: np.ndarray) -> str:
    """Digest of an array's type, shape and content.

    Args:
        values: of numbers; an array of Python objects has no content of its own.
    """
    if values.dtype.hasobject:
        raise CannotTellError(f"an array of {values.dtype}")
    held = np.ascontiguousarray(values)
    return of_parts([f"{held.dtype.str} {values.shape}", of_bytes(_raw(held))])


def of_tensor(tensor: Any) -> str:
    """Digest of a torch tensor's type, shape and content, wherever it lies.

    Args:
        tensor: dense.

    Raises:
        CannotTellError: it has no content that can be read, such as one on the meta device.
        OutOfMemoryError: there is no memory for a copy that can be read.
    """
    try:
        import torch

        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
        if lacks_memory(error):
            n_bytes = tensor.numel() * tensor.element_size()
            raise OutOfMemoryError(
                f"no memory left ({error}): the digest of a tensor of {tensor.dtype} {tuple(tensor.shape)} needs some "
                f"{n_bytes:,} bytes; use a smaller model, fewer tokens, or a larger machine."
            ) from error
        raise CannotTellError(f"a tensor of {tensor.dtype} on {tensor.device} ({error})") from error
    return of_parts([f"{tensor.dtype} {tuple(tensor.shape)}", of_bytes(_raw(data))])


def of_parts(parts: Iterable[str]) -> str:
    """Digest of a list of words, in order.

    Args:
        parts: the words; where one ends and the next begins counts.
    """
    digest = _new()
    for part in parts:
        _add(digest, part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def of_value(value: Any) -> str:
    """Digest of what a value holds, through dataclasses, lists, mappings, arrays and tensors.

    Args:
        value: built of these and of numbers, words, paths and None.

    Raises:
        CannotTellError: something in it is none of these, such as a function.
    """
    return of_parts(_words(value))


def _words(value: Any) -> Iterator[str]:  # noqa: C901
    """The content of a value, unambiguous: each part says what it is and how long."""
    match value:
        case None | bool() | int() | str():
            yield f"{type(value).__name__}:{value}"
        case float():
            yield f"float:{struct.pack('<d', value).hex()}"
        case bytes():
            yield f"bytes:{value.hex()}"
        case np.generic():
            yield f"scalar:{value.dtype.str}:{value.tobytes().hex()}"
        case np.ndarray():
            yield f"array:{of_array(value)}"
        case Path():
            yield f"path:{value}"
        case re.Pattern():
            yield f"pattern:{value.flags}:{value.pattern!r}"
        case Mapping():
            yield f"mapping:{len(value)}"
            yield from sorted(of_parts([of_value(key), of_value(held)]) for key, held in value.items())
        case Set():
            yield f"set:{len(value)}"
            yield from sorted(of_value(held) for held in value)
        case list() | tuple():
            yield f"{type(value).__name__}:{len(value)}"
            for held in value:
                yield from _words(held)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            yield f"dataclass:{type(value).__qualname__}:{len(fields)}"
            for field in fields:
                yield field.name
                yield from _words(getattr(value, field.name))
        case _ if hasattr(value, "detach") and hasattr(value, "untyped_storage"):
            yield f"tensor:{of_tensor(value)}"
        case _:
            raise CannotTellError(f"a {type(value).__name__}")


def _raw(values: Any) -> memoryview:
    """The bytes of a contiguous array, without a copy."""
    return memoryview(values.reshape(-1).view(np.uint8))


def _new() -> Any:
    return hashlib.blake2b(digest_size=_SIZE)


def _add(digest: Any, data: bytes) -> None:
    digest.update(len(data).to_bytes(8, "little"))
    digest.update(data)


def _tree(n_bytes: int, leaf: Callable[[int], bytes | memoryview], progress: Progress | None = None) -> str:
    """Digest over the digests of the leaves, and over the length."""

    def one(start: int) -> bytes:
        return xxh3_128_digest(leaf(start))

    root = _new()
    root.update(n_bytes.to_bytes(8, "little"))
    starts = range(0, n_bytes, LEAF)
    for start, found in zip(starts, _side_by_side(one, starts), strict=True):
        root.update(found)
        if progress is not None:
            progress(min(LEAF, n_bytes - start))
    return root.hexdigest()


def _side_by_side(one: Callable[[int], bytes], starts: range) -> Iterator[bytes]:
    if len(starts) <= 1 or N_THREADS == 1:
        yield from map(one, starts)
        return
    pool = ThreadPoolExecutor(N_THREADS, thread_name_prefix="probekit-digest")
    try:
        yield from pool.map(one, starts)
    finally:  # an interrupt does not wait for leaves that nobody wants any more
        pool.shutdown(wait=True, cancel_futures=True)
