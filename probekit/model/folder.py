"""A model's folder before any weight is loaded: where it lies, its tokenizer, and how many bits its weights have there."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from probekit.errors import ModelError
from probekit.model.checkpoint import require_plain_folder
from probekit.model.gguf import is_gguf
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
        name: "nano", a folder in Hugging Face format, a GGUF file or a folder that holds one, or a hub name, with a
            revision behind an @.

    Returns:
        The folder, or the GGUF file; and the name to show.

    Raises:
        ModelError: there is no such folder, no such model on the hub or in its cache, or no model in it that can be read.
    """
    folder = NANO_FOLDER if name == "nano" else Path(name)
    shown = folder.resolve().name if name != "nano" else name
    if folder.is_file():
        return _file(folder), shown
    if not folder.is_dir():
        if name.endswith(_WEIGHT_FILES):
            raise ModelError(f"{name}: no such file. Check the path.")
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ModelError(
                f"{name}: no such folder; wanted one with config.json, the weights and the tokenizer, or a GGUF file. "
                "Check the path."
            )
        repository, at, revision = name.partition("@")
        repository = official_name(repository)
        shown = repository + at + revision
        folder = fetch(repository, revision or None)
    inside = _gguf_inside(folder)
    if inside is not None:
        return inside, shown
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise ModelError(
            f"{folder}: {'an adapter without its model' if adapter else 'no config.json'}; wanted a model folder in Hugging "
            f"Face format. {_MERGE if adapter else _SAVE}"
        )
    require_plain_folder(folder)
    return folder, shown


_SAVE = "Write one with model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER)."
_MERGE = "Merge it into its model (peft: model.merge_and_unload().save_pretrained(FOLDER))."
_LINE = 300
"""Characters that are shown of what another library says: some list everything they know."""
_WEIGHT_FILES = (".gguf", ".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz", ".h5", ".onnx")


def _file(path: Path) -> Path:
    """A GGUF file; any other file is named for what it is.

    Raises:
        ModelError: it is none.
    """
    if is_gguf(path):
        return path
    what = {
        ".safetensors": "weights alone",
        ".gguf": "no GGUF file, whatever its name says",
        ".json": "a configuration alone",
    }
    pickled = dict.fromkeys(
        (".pt", ".pth", ".bin", ".ckpt"), "a pickled checkpoint, which says nothing about the architecture"
    )
    found = (what | pickled).get(path.suffix, "a file that no model can be read from")
    where = f"pass its folder, {str(path.parent)!r}" if (path.parent / "config.json").is_file() else _SAVE
    raise ModelError(
        f"{path}: {found}; wanted a folder with config.json, weights and tokenizer, or a GGUF file: {where}"
    )


def _gguf_inside(folder: Path) -> Path | None:
    """The GGUF file of a folder that holds no model in Hugging Face format.

    Raises:
        ModelError: it holds several.
    """
    files = sorted(folder.glob("*.gguf"))
    if not files or any(any(folder.glob(f"*{end}")) for end in (".safetensors", ".bin")):
        return None
    if len(files) > 1:
        raise ModelError(
            f"{folder}: holds {len(files)} GGUF files "
            f"({', '.join(file.name for file in files[:4])}{', …' if len(files) > 4 else ''}), "
            "wanted one. Pass the path of the one you mean."
        )
    return files[0]


@contextmanager
def bare_folder(name: str) -> Generator[tuple[Path, Any]]:
    """A folder with a model's configuration, and its tokenizer; no weight is read.

    Raises:
        ModelError: the model cannot be found or has no tokenizer.
    """
    folder, _ = find_folder(name)
    if folder.is_dir():
        yield folder, read_tokenizer(folder)
        return
    from probekit.model import gguf, gguf_config, gguf_tokenizer

    file = gguf.GgufFile(folder)
    with TemporaryDirectory(prefix="probekit-") as made:
        gguf_config.read_config(file).save_pretrained(made)
        tokenizer = gguf_tokenizer.read_tokenizer(file)
        tokenizer.save_pretrained(made)
        yield Path(made), read_tokenizer(Path(made))


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
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ModelError(CUSTOM_CODE.format(folder)) from error
        cause = f"{type(error).__name__}: {first_line(error)}"
        raise ModelError(f"{folder}: the tokenizer could not be loaded ({cause}). {remedy}") from error
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ModelError(f"{folder}: the tokenizer is empty, it knows no ordinary token. {remedy}")
    return tokenizer


CUSTOM_CODE = (
    "{}: the model comes with code of its own (auto_map in its configuration), and code that comes with a "
    "model is never run "
    "here. Wanted an architecture that transformers itself knows; or load the model yourself and pass the object."
)


def stored_tensors(folder: Path) -> dict[str, tuple[str, int]]:
    """Dtype and bytes of every tensor in a folder's safetensors files, by name; nothing but the headers is read.

    Raises:
        ModelError: a safetensors file is none, or its header is damaged.
    """
    found: dict[str, tuple[str, int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            head = file.read(8)
            n_bytes = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 0 < n_bytes <= 100_000_000:  # the format's own limit
                raise ModelError(f"{path}: not a safetensors file; download or save the model again.")
            try:
                header: dict[str, Any] = json.loads(file.read(n_bytes))
                for name, entry in header.items():
                    if name != "__metadata__":
                        start, stop = entry["data_offsets"]
                        found[name] = (str(entry["dtype"]), stop - start)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise ModelError(
                    f"{path}: the header is damaged; download or save the model again."
                ) from error
    return found


def stored_bits(folder: Path) -> int | None:
    """Bits of the dtype that most weights on disk have; None where no safetensors file tells.

    Raises:
        ModelError: a safetensors file is none, or its header is damaged.
    """
    n_weights: Counter[int] = Counter()
    for dtype, n_bytes in stored_tensors(folder).values():
        if dtype in _STORED_BITS:
            n_weights[_STORED_BITS[dtype]] += 8 * n_bytes // _STORED_BITS[dtype]
    return max(n_weights, key=lambda bits: n_weights[bits]) if n_weights else None


def first_line(error: BaseException) -> str:
    """What an error of another library says, without what follows."""
    line = (str(error).strip().splitlines() or ["no message"])[0]
    return line if len(line) <= _LINE else f"{line[:_LINE]} …"


def model_files(folder: Path) -> list[Path]:
    """The files of a model's folder that can change a number: those that lie in it, and the parts that an index names.

    Subfolders hold other checkpoints or other formats, and are not read.
    """
    files = [path for path in folder.iterdir() if path.is_file()]
    for index in [path for path in files if path.name.endswith(".index.json")]:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            named: Any = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {})
            files += [folder / part for part in {str(part) for part in named.values()} if os.sep in part]
    return sorted({path for path in files if path.is_file()})
