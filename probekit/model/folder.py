"""A model's folder before any weight is loaded: where it lies, its tokenizer, and how many bits its weights have there."""

from __future__ import annotations

import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from probekit.errors import ModelError
from probekit.model.hub import fetch, official_name

NANO_FOLDER = Path(__file__).parent / "nano"

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.tiktoken",
)

_STORED_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "I8": 8, "U8": 8}


def find_folder(name: str) -> tuple[Path, str]:
    """Where a model's files are on this machine, and what to call it.

    Args:
        name: "nano", a folder in Hugging Face format, or a hub name, with a revision behind an @.

    Raises:
        ModelError: there is no such folder, no such model on the hub or in its cache, or no config.json in it.
    """
    folder = NANO_FOLDER if name == "nano" else Path(name)
    shown = folder.resolve().name if name != "nano" else name
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ModelError(
                f"{name}: no such folder; wanted one with config.json, the weights and the tokenizer. "
                "Check the path."
            )
        repository, at, revision = name.partition("@")
        repository = official_name(repository)
        shown = repository + at + revision
        folder = fetch(repository, revision or None)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder}: no config.json; wanted a model folder in Hugging Face format. "
            "Write one with model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER)."
        )
    return folder, shown


def bare_folder(name: str) -> tuple[Path, Any]:
    """Where a model's files are and its tokenizer; no weight is read.

    Raises:
        ModelError: the model cannot be found or has no tokenizer.
    """
    folder, _ = find_folder(name)
    return folder, read_tokenizer(folder)


def read_tokenizer(folder: Path) -> Any:
    """The Hugging Face tokenizer of a folder.

    Raises:
        ModelError: the folder has none, it cannot be loaded, or it knows no ordinary token.
    """
    from transformers import AutoTokenizer

    remedy = (
        f'Add one: AutoTokenizer.from_pretrained(NAME).save_pretrained("{folder}"). '
        "For tokens you have already, pass a TransformerBridge, which needs none."
    )
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(
            f"{folder}: no tokenizer, so text cannot become tokens; wanted {_TOKENIZER_FILES[0]} or "
            f"another of {', '.join(_TOKENIZER_FILES[1:])}. {remedy}"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        cause = f"{type(error).__name__}: {first_line(error)}"
        raise ModelError(f"{folder}: the tokenizer could not be loaded ({cause}). {remedy}") from error
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ModelError(f"{folder}: the tokenizer is empty, it knows no ordinary token. {remedy}")
    return tokenizer


def stored_bits(folder: Path) -> int | None:
    """Bits of the dtype that most weights on disk have; None where no safetensors file tells.

    Raises:
        ModelError: a safetensors file is none, or its header is damaged.
    """
    n_weights: Counter[str] = Counter()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            head = file.read(8)
            n_bytes = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 0 < n_bytes <= 100_000_000:  # the format's own limit
                raise ModelError(f"{path}: not a safetensors file; download or save the model again.")
            try:
                header: dict[str, Any] = json.loads(file.read(n_bytes))
                entries = [entry for name, entry in header.items() if name != "__metadata__"]
                for entry in entries:
                    start, stop = entry["data_offsets"]
                    n_weights[entry["dtype"]] += stop - start
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise ModelError(
                    f"{path}: the header is damaged; download or save the model again."
                ) from error
    known = [(count, dtype) for dtype, count in n_weights.items() if dtype in _STORED_BITS]
    return _STORED_BITS[max(known)[1]] if known else None


def first_line(error: BaseException) -> str:
    """What an error of another library says, without what follows."""
    return (str(error).strip().splitlines() or ["no message"])[0]
