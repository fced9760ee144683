"""A reader of run directories that knows nothing of probekit: json, hashlib and numpy only.

Written from the description of the format, so that the format is what is described and not what the code happens to do.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}
BLOCK = 2**20


def sealed(path: Path) -> tuple[dict[str, Any], str]:
    """A record whose last line is the blake2b-256 of everything above it."""
    body, last = path.read_bytes().rsplit(b',\n"~seal":"', 1)
    seal = last.removesuffix(b'"}\n').decode()
    assert hashlib.blake2b(body, digest_size=32).hexdigest() == seal, path
    return json.loads(body + b"}"), seal


def checked(path: Path, digest: dict[str, Any]) -> bytes:
    """A file that is what its digest says."""
    data = path.read_bytes()
    assert len(data) == digest["n_bytes"], path
    assert [zlib.crc32(data[i : i + BLOCK]) for i in range(0, len(data), BLOCK)] == digest["crc32"], path
    assert hashlib.blake2b(data, digest_size=32).hexdigest() == digest["blake2b"], path
    return data


def arrays(data: bytes) -> dict[str, np.ndarray]:
    """safetensors: the length of a JSON header, the header, the arrays."""
    n_header = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n_header])
    found: dict[str, np.ndarray] = {}
    for name, entry in header.items():
        first, last = (8 + n_header + offset for offset in entry["data_offsets"])
        found[name] = np.frombuffer(data[first:last], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return found


def read_run(folder: Path) -> tuple[dict[str, Any], dict[int, dict[str, np.ndarray]]]:
    """The summary and the decided parts of each layer."""
    record, _ = sealed(folder / "run.json")
    results, _ = sealed(folder / "COMMIT.json")
    assert results["identity"] == record["identity"]
    held = {name: checked(folder / name, digest) for name, digest in results["files"].items()}
    stage = folder / "stages" / "result"
    commit, identity = sealed(stage / "COMMIT.json")
    assert identity == results["stages"]["result"]
    layers: dict[int, dict[str, np.ndarray]] = {}
    for part in commit["parts"]:
        sidecar, _ = sealed(stage / f"part-{part['part']:05d}.json")
        assert sidecar["inputs"] == commit["inputs"]
        assert sidecar["file"]["blake2b"] == part["blake2b"]
        layers[part["part"]] = arrays(
            checked(stage / f"part-{part['part']:05d}.safetensors", sidecar["file"])
        )
    return json.loads(held["summary.json"]), layers


def benjamini_hochberg(p: np.ndarray, q: float) -> np.ndarray:
    """Which hypotheses are rejected at level q."""
    order = np.argsort(p, kind="stable")
    passes = np.flatnonzero(p[order] <= q * np.arange(1, len(p) + 1) / len(p))
    rejected = np.zeros(len(p), bool)
    rejected[order[: passes[-1] + 1 if len(passes) else 0]] = True
    return rejected
