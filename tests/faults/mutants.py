"""Structure-aware mutations: of a JSON value, of the text of a JSON or TOML file, of a file of arrays.

Bytes changed at random are refused at the first digest or brace. These keep the form and change what stands in it: a key
goes, doubles or gets another name, a value becomes one of another type, size or depth; and the digests are made right again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from typing import Any

import numpy as np


def nested(depth: int) -> Any:
    """A list in a list in a list …"""
    return [nested(depth - 1)] if depth else 0


VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.0, -0.0, 1e308, 5e-324, float("nan"),
    float("inf"), "", " ", "x", "..", "../../x", "/etc/passwd", "a\0b", "\ud800", "∧ 日本", "x" * 5_000, "1", "true", "NaN",
    "float64", "F64", "part-00000", [], [[]], [None], [0] * 300, ["a", 1], {}, {"": 0}, {"n_bytes": 1}, {"a": {"b": {}}},
    nested(60),
)  # fmt: skip
"""What a value is replaced by. (A lone surrogate and NaN are no JSON, and a writer might write them.)"""
SPLICES = (
    b"", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"{", b"}", b"[", b"]", b'"', b"\\", b"\\u0000", b",", b":", b"=", b"\n", b"#",
    b"'''", b'"""', b"[" * 3_000, b"{" * 3_000, b'{"a":' * 3_000, b"9" * 5_000, b"0x" + b"f" * 5_000, b"1e999", b"-", b"0x",
    b"NaN", b"null", b"1979-05-27T07:32:00Z", b"[science]\n", b"[[class]]\n", b"a.b.c = 1\n",
    b"seed = 0x" + b"f" * 5_000 + b"\n",
    b"inf", b"\xef\xbb\xbf", b"lags = [[[[]]]]\n", b"true", "é".encode(),
)  # fmt: skip


def mutated(value: Any, rng: np.random.Generator) -> Any:
    """A JSON value with one to three places changed; what was given stays as it was."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        value = _changed(value, rng)
    return value


def _changed(value: Any, rng: np.random.Generator) -> Any:
    """The value with one place below it changed: how far down is drawn, too."""
    inner = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    if not inner or rng.random() < 0.12:
        return copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])
    key = inner[int(rng.integers(len(inner)))]
    if rng.random() < 0.6:
        value[key] = _changed(value[key], rng)
        return value
    other = inner[int(rng.integers(len(inner)))]
    match int(rng.integers(5)):
        case 0:
            del value[key]
        case 1:
            value[key], value[other] = value[other], value[key]
        case 2 if isinstance(value, dict):
            value[f"{key}?"] = value.pop(key)
        case 3 if isinstance(value, dict):
            value["unknown"] = copy.deepcopy(value[key])
        case _:
            value = [*value, *value] if isinstance(value, list) else {**value, key: [value[key]]}
    return value


def text_of(value: Any) -> bytes:
    """Its JSON, with whatever a careless writer lets through."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("utf-8", "surrogatepass")


def spliced(data: bytes, rng: np.random.Generator) -> bytes:
    """A text with one to three pieces put in, taken out or doubled."""
    for _ in range(int(rng.integers(1, 4))):
        start, stop = sorted(int(v) for v in rng.integers(0, len(data) + 1, 2))
        stop = min(stop, start + int(rng.integers(0, 40)))
        piece = SPLICES[int(rng.integers(len(SPLICES)))]
        match int(rng.integers(4)):
            case 0:
                data = data[:start] + piece + data[start:]
            case 1:
                data = data[:start] + piece + data[stop:]
            case 2:
                data = data[:stop] + data[start:]
            case _:
                data = data[:start] + bytes([int(rng.integers(256))]) + data[start + 1 :]
    return data


def sealed(value: Any) -> bytes:
    """A record with its right last line, written without probekit."""
    return closed(text_of(value).removesuffix(b"}"))


def closed(body: bytes) -> bytes:
    """A text and the last line that digests it."""
    return body + b',\n"~seal":"' + hashlib.blake2b(body, digest_size=32).hexdigest().encode() + b'"}\n'


def unsealed(data: bytes) -> dict[str, Any]:
    """The record of a sealed file."""
    record = json.loads(data)
    del record["~seal"]
    return record


def rearranged(data: bytes, rng: np.random.Generator) -> bytes:
    """A file of arrays whose header says something else."""
    n_header = struct.unpack("<Q", data[:8])[0]
    header, payload = data[8 : 8 + n_header], data[8 + n_header :]
    header = text_of(mutated(json.loads(header), rng)) if rng.random() < 0.7 else spliced(header, rng)
    told = len(header) if rng.random() < 0.9 else int(rng.integers(0, 2**63))
    if rng.random() < 0.3:
        payload = payload[: int(rng.integers(0, len(payload) + 1))]
    return struct.pack("<Q", told) + header + payload
