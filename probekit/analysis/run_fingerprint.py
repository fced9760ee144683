"""The run fingerprint: a hash of everything the result depends on, taken before an old result is trusted.

Files count with every byte, objects with all they hold, concepts with what decides their labels, functions with the labels
they give. Settings, layers, pairs, dtype and the code of the rooms count as well. Versions of other libraries and the kind
of device do not: they are kept beside (`environment`) and must be the same where a run is continued.
"""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from probekit.analysis.settings import Settings
from probekit.errors import InputError
from probekit.fingerprint import of_bytes, of_parts
from probekit.model.folder import model_files
from probekit.storage import store
from probekit.storage.contents import Contents
from probekit.text.concepts.concepts import Concepts
from probekit.text.concepts.files import parse_toml
from probekit.text.concepts.lexicon import of_lexicons
from probekit.text.corpus import as_corpus
from probekit.text.revisions import commit_of
from probekit.version import VERSION

_ROOMS = ("theory", "text", "model", "probes", "evidence", "storage", "results", "analysis", "followups")
_MODULES = ("arguments.py", "fingerprint.py", "objects.py")
_PACKAGES = ("torch", "transformers", "transformer-lens", "numpy", "scipy", "numba", "tokenizers", "datasets")


@lru_cache
def _versions() -> dict[str, str]:
    found: dict[str, str] = {"probekit": VERSION}
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
    """Digest of the source of every room that a result passes through (report and command line are none).

    It is taken when this module is imported: files that are edited later are not the code that runs.
    """
    package = Path(__file__).parents[1]
    files = [file for room in _ROOMS for file in sorted((package / room).rglob("*.py"))]
    files += [package / name for name in _MODULES]
    return of_parts(
        part for file in files for part in (file.relative_to(package).as_posix(), of_bytes(file.read_bytes()))
    )


code()


def environment(device: str) -> dict[str, Any]:
    """What results that shall be put together must have in common beyond the run's identity."""
    held: dict[str, Any] = {k: v for k, v in versions().items() if k != "probekit"}
    return {
        **held,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "machine": platform.machine(),
        "device": device,
    }


def of_model(model: Any, contents: Contents | None = None) -> str:
    """What a model is called, and a digest of all its files, or of the object.

    Args:
        model: as in `analyze`. A hub name stands for the files in the local cache; they are fetched if they are not there.
        contents: reads the files.

    Raises:
        ModelError: it cannot be found, or carries hooks.
    """
    if not isinstance(model, str | Path):
        return f"{type(model).__name__}@{_of_object(model)}"
    contents = contents or Contents()
    path = Path(model)
    shown = path.resolve().name if path.exists() else str(model)
    if str(model) == "nano" or not path.exists():
        from probekit.model.folder import find_folder

        path = find_folder(str(model))[0]
    if path.is_dir():
        return f"{shown}@{contents.of_folder(path, model_files)}"
    return f"{shown}@{contents.of_file(path)}"


def _of_object(model: Any) -> str:
    from torch import nn

    from probekit.model.state import of_object

    # what is no module is refused when it is loaded
    return of_object(model) if isinstance(model, nn.Module) else of_parts([type(model).__qualname__])


def of_corpus(corpus: Any, max_tokens: int, contents: Contents | None = None, *, skip_first: int = 0) -> str:
    """What a corpus is called, and a digest of all that a run can read of it.

    Args:
        corpus: as in `analyze`; the offline corpus as the `Corpus` that was read.
        max_tokens: counted tokens that are read at most.
        contents: reads the files.
        skip_first: positions of each document that are read and not counted.
    """
    contents = contents or Contents()
    if isinstance(corpus, str | Path) and str(corpus) != "docs" and Path(corpus).exists():
        return f"{Path(corpus).name}@{contents.of_path(Path(corpus))}"
    if isinstance(corpus, str) and corpus != "docs" and (commit := commit_of(corpus, None)):
        return f"{corpus}@{commit}"  # before it is opened: a finished run reads none of it
    held = as_corpus(corpus)
    if held.files:
        parts = [contents.of_path(path) for path in held.files]
        return f"{held.name}@{of_parts([*parts, str(held.origin)])}"
    return f"{held.name}@{held.fingerprint(max_tokens, skip_first)}"


def of_concepts(concepts: Any, contents: Contents | None = None) -> str:
    """What decides every label.

    Args:
        concepts: as in `analyze`; a set whose labels only functions know must be settled.
        contents: reads the files.

    Raises:
        InputError: it is none of these.
    """
    if concepts is None or (isinstance(concepts, str) and concepts == "default"):
        return "default"
    if isinstance(concepts, str | Path):
        return _of_concept_file(Path(concepts), contents or Contents())
    if not isinstance(concepts, Concepts):
        raise InputError(
            f"concepts: got a {type(concepts).__name__}; wanted None, a Concepts set or a TOML file."
        )
    told = concepts.fingerprint
    if told is None:
        raise ValueError("concepts that are known by their labels must be settled first")
    return told


def _of_concept_file(path: Path, contents: Contents) -> str:
    """The file, and what it names: spans beside it, and the packages that know words."""
    parsed = parse_toml(path)
    parts = [contents.of_file(path)]
    if parsed.spans is not None:
        parts.append(contents.of_path(path.parent / parsed.spans))
    if parsed.lexicon:
        parts.append(of_lexicons(parsed.lexicon))
    return f"{path.name}@{of_parts(parts)}"


def of_dtype(model: Any, dtype: Any, device: str) -> str | None:
    """What the model computes in, in a word; None for an object, whose tensors say it.

    Args:
        model: as in `analyze`.
        dtype: as in `analyze`; None stands for float32 on a CPU.
        device: the kind of device.
    """
    if not isinstance(model, str | Path):
        return None
    if dtype is not None:
        return str(dtype).removeprefix("torch.")
    return "float32" if str(model) == "nano" or device == "cpu" else "as stored"


def science(
    model: str,
    corpus: str,
    concepts: str,
    settings: Settings,
    *,
    layers: list[int] | None,
    pairs: Any,
    dtype: str | None = None,
    tokenizer: str | None = None,
) -> dict[str, Any]:
    """The [science] record of run.json and its identity.

    Args:
        model: what `of_model` says.
        corpus: what `of_corpus` says.
        concepts: what `of_concepts` says.
        settings: all of them.
        layers: layers to measure; None for all.
        pairs: how pairs are chosen, as `PairSampling.record` says it.
        dtype: what `of_dtype` says.
        tokenizer: what `of_tokenizer` says, where it does not belong to the model's files.
    """
    record: dict[str, Any] = {
        "model": model, "corpus": corpus, "concepts": concepts, "layers": layers,
        "pairs": pairs, "dtype": dtype, "tokenizer": tokenizer,
        "settings": settings.record(),
        "probekit": VERSION,
        "code": code(),
    }  # fmt: skip
    return {"science": record, "identity": of_parts([store.canonical_json(record)])}


def in_words(  # noqa: PLR0913
    model: Any,
    corpus: Any,
    concepts: Any,
    settings: Settings,
    *,
    layers: list[int] | None,
    pairs: Any,
    device: str,
    engine: str,
    memory: str | int | float = "auto",
    dtype: str | None = None,
) -> dict[str, Any] | None:
    """The arguments of the call where all of them can be written down, so that it can be repeated; else None."""
    sources = {"model": model, "corpus": corpus, "concepts": concepts}
    if not all(value is None or isinstance(value, str | Path) for value in sources.values()):
        return None
    return {
        **{name: None if value is None else str(value) for name, value in sources.items()},
        **settings.record(),
        "layers": layers, "pairs": pairs, "device": device, "engine": engine, "memory": memory,
        "dtype": dtype,
    }  # fmt: skip


def of_device(device: str) -> str:
    """The kind of device that a word names here."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(device).partition(":")[0]
