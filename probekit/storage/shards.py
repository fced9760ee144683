"""Stages of a run on disk: numbered parts, each with its digest beside it, and a COMMIT record written last.

    stages/NAME/part-00012.safetensors     arrays, immutable once named
    stages/NAME/part-00012.json            their shapes, a census of NaN and infinity, crc32 per MiB, blake2b-256
    stages/NAME/COMMIT.json                all parts and their digests; its own digest is the stage's identity

A part counts when its sidecar is there, a stage when its COMMIT is; both are believed only after their digests have
been compared. A stage says which inputs it was computed from, and is refused to anyone who comes with others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from probekit.errors import FormatError, IncompleteError, StaleError
from probekit.storage import store
from probekit.storage.digest import Digest, corrupt

STAGES = "stages"
COMMIT = "COMMIT.json"
PART_SCHEMA, COMMIT_SCHEMA = "probekit.part/1", "probekit.commit/1"
FORMAT = 1
_SIDECAR = re.compile(r"part-(\d{5})\.json")

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Stage:
    """One stage of a run."""

    folder: Path
    """Where it lies."""
    inputs: str
    """Digest of everything it is computed from."""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.folder.name

    def _path(self, part: int, suffix: str) -> Path:
        return self.folder / f"part-{part:05d}.{suffix}"

    def put(self, part: int, arrays: Arrays, *, n_tokens: int) -> None:
        """Keep one part: first the arrays, then the sidecar that makes them count.

        Args:
            part: its number.
            arrays: what to keep, by name.
            n_tokens: tokens that went into it.
        """
        held = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
        data = safetensors.numpy.save(held)
        store.write_bytes(self._path(part, "safetensors"), data)
        record = {
            "schema": PART_SCHEMA, "format": FORMAT, "stage": self.name, "part": part, "inputs": self.inputs,
            "n_tokens": n_tokens, "arrays": {name: _census(values) for name, values in held.items()},
            "file": Digest.of(data).as_dict(),
        }  # fmt: skip
        store.write_sealed(self._path(part, "json"), record)

    def has(self, part: int) -> bool:
        """Whether a part counts."""
        return self._path(part, "json").exists()

    def parts(self) -> list[int]:
        """Numbers of the parts that count."""
        if not self.folder.is_dir():
            return []
        found = (_SIDECAR.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match.group(1)) for match in found if match)

    def sidecar(self, part: int) -> dict[str, Any]:
        """What is recorded of a part, checked.

        Raises:
            CorruptError: it is damaged or belongs elsewhere.
            StaleError: it was computed from other inputs.
            FormatError: it says nothing of its file or arrays.
        """
        path = self._path(part, "json")
        record = store.read_sealed(path, PART_SCHEMA, FORMAT)
        if record.get("stage") != self.name or record.get("part") != part:
            raise corrupt(path, f"belongs to part {record.get('part')} of stage {record.get('stage')}")
        if self.inputs and record.get("inputs") != self.inputs:
            raise _stale(path)
        Digest.from_dict(record.get("file"), path)
        match record.get("arrays"):
            case dict(arrays) if all(_is_census(census) for census in arrays.values()):
                return record
            case _:
                raise FormatError(f"{path}: names no arrays; start the run afresh with --force.")

    def get(self, part: int) -> dict[str, np.ndarray]:
        """The arrays of a part, after their digest was compared.

        Raises:
            CorruptError: they are not what was written.
            StaleError: they were computed from other inputs.
            FormatError: they are what was written, and no arrays.
        """
        record = self.sidecar(part)
        path = self._path(part, "safetensors")
        data = store.read_bytes(path, Digest.from_dict(record.get("file"), self._path(part, "json")))
        try:
            arrays = safetensors.numpy.load(data)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"{path}: holds no arrays ({error}). Start the run afresh with --force."
            ) from error
        shapes = {name: [str(values.dtype), *values.shape] for name, values in arrays.items()}
        told = record["arrays"]
        if shapes != {name: [census["dtype"], *census["shape"]] for name, census in told.items()}:
            raise corrupt(path, "its arrays are not those its sidecar names")
        return arrays

    def commit(self) -> str:
        """Close the stage; returns its identity."""
        parts = [{"part": part, "blake2b": self.sidecar(part)["file"]["blake2b"]} for part in self.parts()]
        record = {
            "schema": COMMIT_SCHEMA, "format": FORMAT, "stage": self.name, "inputs": self.inputs, "parts": parts
        }  # fmt: skip
        return store.write_sealed(self.folder / COMMIT, record)

    def committed(self) -> str | None:
        """The stage's identity, None while it is open.

        Raises:
            CorruptError: the record is damaged, or names parts that are not there.
            StaleError: the stage was computed from other inputs.
        """
        path = self.folder / COMMIT
        if not path.exists():
            return None
        record, identity = store.read_sealed_as(path, COMMIT_SCHEMA, FORMAT)
        if record.get("stage") != self.name:
            raise corrupt(path, f"belongs to stage {record.get('stage')}")
        if self.inputs and record.get("inputs") != self.inputs:
            raise _stale(path)
        told: Any = record.get("parts")
        held = [{"part": part, "blake2b": self.sidecar(part)["file"]["blake2b"]} for part in self.parts()]
        if told != held:
            raise corrupt(path, "its list of parts is not what lies beside it")
        return identity

    def require_committed(self) -> str:
        """The stage's identity.

        Raises:
            IncompleteError: it is open.
        """
        identity = self.committed()
        if identity is None:
            raise IncompleteError(
                f"{self.folder}: this stage was not finished; `probekit resume` finishes it."
            )
        return identity

    def remove(self) -> None:
        """Remove the stage."""
        store.remove_tree(self.folder)


def _census(values: np.ndarray) -> dict[str, Any]:
    census: dict[str, Any] = {"dtype": str(values.dtype), "shape": list(values.shape)}
    if values.dtype.kind == "f":
        census["n_nan"] = int(np.isnan(values).sum())
        census["n_inf"] = int(np.isinf(values).sum())
    return census


def _is_census(census: Any) -> bool:
    return (
        isinstance(census, dict)
        and isinstance(census.get("dtype"), str)
        and isinstance(census.get("shape"), list)
    )


def _stale(path: Path) -> StaleError:
    return StaleError(
        f"{path}: computed from other inputs than the ones given now (model, corpus, concepts or library versions changed "
        "since). Restore them to continue, or start the run afresh with --force."
    )


def digest_of_inputs(parts: Iterable[str]) -> str:
    """One digest for several."""
    return store.blake2b("\n".join(parts).encode())
