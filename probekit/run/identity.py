"""Who a run is: a hash of everything its result depends on, computed before anything heavy is imported."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from probekit.errors import InputError
from probekit.run import store
from probekit.run.study import Settings
from probekit.text.corpus import as_corpus

DISTRIBUTION = "probekit-superposition"
_EDGE = 2**20
_ROOMS = ("theory", "text", "model", "probes", "evidence", "run")
_PACKAGES = ("torch", "transformers", "transformer-lens", "numpy", "scipy", "numba", "tokenizers", "datasets")


@lru_cache
def package_version() -> str:
    """The installed version of probekit."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"


@lru_cache
def _versions() -> dict[str, str]:
    found: dict[str, str] = {"probekit": package_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on; absent packages are left out."""
    return dict(_versions())


@lru_cache
def code() -> str:
    """Digest of the source of every room that a result passes through (report and command line are none)."""
    package = Path(__file__).parents[1]
    files = [file for room in _ROOMS for file in sorted((package / room).rglob("*.py"))]
    return _digest(
        part for file in files for part in (file.relative_to(package).as_posix().encode(), file.read_bytes())
    )


def environment(device: str) -> dict[str, Any]:
    """What results that shall be put together must have in common beyond the run's identity."""
    held: dict[str, Any] = {k: v for k, v in versions().items() if k != "probekit"}
    return {
        **held,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "machine": platform.machine(),
        "device": device,
    }


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _file_parts(path: Path) -> Iterable[bytes]:
    """Name, size and both ends of a file: weights of many gigabytes are told apart without being read."""
    size = path.stat().st_size
    yield f"{path.name} {size}\n".encode()
    with path.open("rb") as file:
        yield file.read(_EDGE)
        if size > _EDGE:
            file.seek(max(_EDGE, size - _EDGE))
            yield file.read(_EDGE)


def of_path(path: Path) -> str:
    """Digest of a file, or of the files of a folder."""
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    return _digest(part for file in files for part in _file_parts(file))


def of_array(values: np.ndarray) -> str:
    """Digest of an array's type, shape and bytes."""
    head = f"{values.dtype} {values.shape}\n".encode()
    return _digest([head, np.ascontiguousarray(values).tobytes()])


def of_model(model: Any, dtype: str | None = None) -> str:
    """What a model is called, and a digest of it where it lies on this machine; a dtype asked for is part of it."""
    return _of_weights(model) + ("" if dtype is None else f" in {dtype}")


def _of_weights(model: Any) -> str:
    if isinstance(model, str | Path):
        path = Path(model)
        if str(model) == "nano":
            path = Path(__file__).parents[1] / "model" / "nano"
        return f"{path.name}@{of_path(path)}" if path.exists() else str(model)
    state = model.state_dict() if hasattr(model, "state_dict") else {}
    parts = (
        f"{name} {tuple(tensor.shape)}\n".encode() + tensor.detach().float().cpu().numpy().tobytes()
        for name, tensor in sorted(state.items())
    )
    return f"{type(model).__name__}@{_digest(parts)}"


def of_corpus(corpus: Any) -> str:
    """What a corpus is called, and a digest of what it would give."""
    if corpus is None or (isinstance(corpus, str) and corpus == "docs"):
        return "docs:heldout"
    if isinstance(corpus, str | Path):
        path = Path(corpus)
        return f"{path.name}@{of_path(path)}" if path.exists() else str(corpus)
    if not hasattr(corpus, "given"):
        corpus = as_corpus(corpus)
    if corpus.given is not None:
        return f"{corpus.name}@{of_array(corpus.given)}"
    if corpus.cache_key is not None:
        return f"{corpus.name}@{corpus.cache_key}"
    if corpus.origin is not None:
        return corpus.origin
    return f"{corpus.name}@{_digest(text.encode('utf-8', 'surrogatepass') for text in corpus.texts())}"


def of_concepts(concepts: Any) -> str:
    """What the concepts are; a set built in Python is told by its names and descriptions."""
    if concepts is None or concepts == "default":
        return "default"
    if isinstance(concepts, str | Path):
        path = Path(concepts)
        return f"{path.name}@{of_path(path)}" if path.exists() else str(concepts)
    if not hasattr(concepts, "descriptions"):
        raise InputError(
            f"concepts: got a {type(concepts).__name__}; wanted None, a Concepts set or a TOML file."
        )
    return _digest(f"{n}\t{d}\n".encode() for n, d in zip(concepts.names, concepts.descriptions, strict=True))


def science(
    model: str, corpus: str, concepts: str, settings: Settings, *, layers: list[int] | None, pairs: Any
) -> dict[str, Any]:
    """The [science] record of run.json and its identity."""
    record: dict[str, Any] = {
        "model": model, "corpus": corpus, "concepts": concepts, "layers": layers,
        "pairs": pairs,
        "settings": {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(settings).items()},
        "probekit": package_version(),
        "code": code(),
    }  # fmt: skip
    return {"science": record, "identity": _digest([store.canonical_json(record).encode()])}


def in_words(
    model: Any,
    corpus: Any,
    concepts: Any,
    settings: Settings,
    *,
    layers: list[int] | None,
    pairs: Any,
    device: str,
    engine: str,
    dtype: str | None = None,
) -> dict[str, Any] | None:
    """The arguments of the call where all of them can be written down, so that it can be repeated; else None."""
    sources = {"model": model, "corpus": corpus, "concepts": concepts}
    if not all(value is None or isinstance(value, str | Path) for value in sources.values()):
        return None
    return {
        **{name: None if value is None else str(value) for name, value in sources.items()},
        **{key: list(v) if isinstance(v, tuple) else v for key, v in asdict(settings).items()},
        "layers": layers, "pairs": pairs, "device": device, "engine": engine, "dtype": dtype,
    }  # fmt: skip


def of_device(device: str) -> str:
    """The kind of device that a word names here."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(device).partition(":")[0]
