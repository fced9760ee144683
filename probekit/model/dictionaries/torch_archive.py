"""The arrays of an archive that PyTorch saved, read without unpickling.

An archive is a zip of `data.pkl`, which names the arrays, and one stored file of numbers for each. The instructions of
`data.pkl` are walked through as a list (`pickletools.genops`), of which only those are known that a state dict consists of;
the classes it names are compared as text, never looked up, so nothing in the file is imported or called.
Format: PyTorch, "Serialization semantics" and torch/serialization.py; pickle protocol 2.
"""

from __future__ import annotations

import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probekit.errors import InputError

_MOST_PICKLE = 1_000_000  # bytes; that of a dictionary has about a thousand
_DTYPES: dict[str, tuple[torch.dtype, int]] = {
    "FloatStorage": (torch.float32, 4), "DoubleStorage": (torch.float64, 8), "HalfStorage": (torch.float16, 2),
    "BFloat16Storage": (torch.bfloat16, 2), "LongStorage": (torch.int64, 8), "IntStorage": (torch.int32, 4),
    "ShortStorage": (torch.int16, 2), "CharStorage": (torch.int8, 1), "ByteStorage": (torch.uint8, 1),
    "BoolStorage": (torch.bool, 1),
}  # fmt: skip
_REBUILD = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")
_ORDERED = "collections OrderedDict"
_KNOWN = {_ORDERED, *_REBUILD, *(f"torch {storage}" for storage in _DTYPES)}


@dataclass(frozen=True)
class _Name:
    """A class or function as the pickle spells it."""

    spelled: str


@dataclass(frozen=True)
class _Storage:
    """One stored file of numbers."""

    key: str
    dtype: torch.dtype
    itemsize: int
    count: int


@dataclass(frozen=True)
class _Array:
    """A view of a storage; offset, sizes and strides in elements."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Mark:
    """Where a list of arguments begins on the stack."""


def read_archive(path: Path) -> dict[str, Tensor]:
    """The arrays of a saved state dict.

    Args:
        path: a state dict as PyTorch 1.6 or newer saves it.

    Raises:
        InputError: it is no such file, it is damaged, or its pickle holds anything but arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            listing = [name for name in entries if name.endswith("/data.pkl")]
            if len(listing) != 1:
                raise ValueError(f"{len(listing)} files data.pkl in the zip")
            folder = listing[0].removesuffix("data.pkl")
            order = entries.get(f"{folder}byteorder")
            if order is not None and _stored(archive, order, 16) != b"little":
                raise ValueError("its numbers are in big-endian order")
            state = _walk(_stored(archive, entries[listing[0]], _MOST_PICKLE))
            arrays = {name: value for name, value in state.items() if isinstance(value, _Array)}
            n_bytes = sum(array.storage.count * array.storage.itemsize for array in arrays.values())
            if n_bytes > 4 * path.stat().st_size:  # arrays may share numbers, but not that often
                raise ValueError(f"its arrays would have {n_bytes:,} bytes")
            if not arrays or len(arrays) < len(state):
                other = next((name for name in state if name not in arrays), None)
                raise ValueError("it holds no arrays" if other is None else f"{other!r} is no array")
            return {
                str(name): _read(archive, entries, f"{folder}data/", array) for name, array in arrays.items()
            }
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile,
            NotImplementedError, RuntimeError, OverflowError, RecursionError) as error:  # fmt: skip
        raise InputError(
            f"{path}: no archive of arrays ({type(error).__name__}: {str(error)[:200]}); nothing of it was run. Save the "
            "state dict alone again with PyTorch 1.6 or newer, or convert it to SAELens' format where you trust it."
        ) from error


def _stored(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    """The bytes of one entry; PyTorch compresses none, and what is compressed may grow without bound."""
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{entry.filename} is compressed")
    if entry.file_size > most:
        raise ValueError(f"{entry.filename} has {entry.file_size:,} bytes, wanted at most {most:,}")
    return archive.read(entry)


def _read(
    archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], folder: str, array: _Array
) -> Tensor:
    storage = array.storage
    n_bytes = storage.count * storage.itemsize
    data = _stored(archive, entries[folder + storage.key], n_bytes)
    if len(data) != n_bytes:
        raise ValueError(f"data/{storage.key} has {len(data):,} bytes, wanted {n_bytes:,}")
    n_elements = int(np.prod([int(n) for n in array.size], dtype=object)) if array.size else 1
    last = array.offset + sum((n - 1) * step for n, step in zip(array.size, array.stride, strict=True))
    if min((array.offset, *array.size, *array.stride), default=0) < 0 or n_elements > storage.count:
        raise ValueError(f"an array of shape {array.size} in {storage.count:,} numbers")
    if n_elements == 0:
        return torch.zeros(array.size, dtype=storage.dtype)
    if last >= storage.count:
        raise ValueError(f"an array of shape {array.size} and stride {array.stride} ends beyond its numbers")
    flat = torch.frombuffer(bytearray(data), dtype=storage.dtype)
    return flat.as_strided(array.size, array.stride, array.offset).clone()


def _walk(pickled: bytes) -> dict[Any, Any]:
    """What the instructions of a state dict's pickle put together, with arrays still unread."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "STOP":
            if len(stack) != 1 or not isinstance(stack[0], dict):
                raise ValueError("its pickle is no dictionary of arrays")
            return stack[0]
        _step(opcode.name, argument, stack, memo)
    raise ValueError("its pickle does not end")


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """One instruction that puts something on the stack; all others change what lies there."""
    if name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"):
        stack.append(argument)
    elif name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "EMPTY_DICT":
        stack.append({})
    elif name == "MARK":
        stack.append(_Mark())
    elif name == "GLOBAL":
        if argument not in _KNOWN:
            raise ValueError(f"its pickle names {argument.replace(' ', '.')}, which no array needs")
        stack.append(_Name(argument))
    elif name != "PROTO":
        _combine(name, stack)


def _combine(name: str, stack: list[Any]) -> None:
    """One instruction that makes something of what lies on the stack."""
    if name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
        stack.append(tuple(_upto_mark(stack) if name == "TUPLE" else _last(stack, int(name[-1]))))
    elif name == "BINPERSID":
        stack.append(_storage(stack.pop()))
    elif name == "REDUCE":
        arguments = stack.pop()
        stack.append(_made(stack.pop(), arguments))
    elif name in ("SETITEM", "SETITEMS"):
        given = _last(stack, 2) if name == "SETITEM" else _upto_mark(stack)
        if not isinstance(stack[-1], dict) or len(given) % 2:
            raise ValueError("its pickle sets items of what is no dictionary")
        stack[-1].update(zip(given[::2], given[1::2], strict=True))
    elif name == "BUILD":  # a module's versions, kept beside the arrays
        stack.pop()
        if not isinstance(stack[-1], dict):
            raise ValueError("its pickle sets the state of what is no dictionary")
    else:
        raise ValueError(f"its pickle has the instruction {name}, which no array needs")


_CONSTANTS: dict[str, Any] = {"EMPTY_TUPLE": (), "NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def _last(stack: list[Any], n: int) -> list[Any]:
    taken = stack[-n:]
    if len(taken) < n or any(isinstance(value, _Mark) for value in taken):
        raise ValueError("its pickle takes what is not there")
    del stack[-n:]
    return taken


def _upto_mark(stack: list[Any]) -> list[Any]:
    place = next((i for i in range(len(stack) - 1, -1, -1) if isinstance(stack[i], _Mark)), None)
    if place is None:
        raise ValueError("its pickle takes what is not there")
    taken = stack[place + 1 :]
    del stack[place:]
    return taken


def _storage(pid: Any) -> _Storage:
    word, kind, key, _, count = pid
    if word != "storage" or not isinstance(kind, _Name) or not isinstance(key, str) or not _natural(count):
        raise ValueError("its pickle refers to something that is no storage")
    dtype, itemsize = _DTYPES[kind.spelled.removeprefix("torch ")]
    return _Storage(key, dtype, itemsize, count)


def _made(what: Any, arguments: Any) -> Any:
    spelled = what.spelled if isinstance(what, _Name) else ""
    if spelled == _ORDERED and arguments == ():
        return {}
    if spelled == _REBUILD[1] and isinstance(arguments[0], _Array):
        return arguments[0]
    if spelled != _REBUILD[0]:
        raise ValueError("its pickle calls what is no array")
    storage, offset, size, stride = arguments[:4]
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride) or not all(map(_natural, numbers)):
        raise ValueError("its pickle describes no array")
    return _Array(storage, offset, tuple(size), tuple(stride))


def _natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
