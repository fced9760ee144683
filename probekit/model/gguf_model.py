"""The `transformers` model that a GGUF file describes, built as the file says and with all that it holds.

`transformers` reads the tensors. It takes the configuration from a few keys only and leaves the rest at its own defaults,
so the configuration is built from every key (`gguf_config`), and a tensor that has no place in the model is refused by name.
Axes: none.
"""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from probekit.errors import ModelError
from probekit.model.checkpoint import as_plain
from probekit.model.gguf import GgufFile, folder_of, package
from probekit.model.gguf_config import USED_IN_CONFIG, differences, read_config

UNPACK = "Load it with quantization_config=GgufConfig(dequantize=True), or pass the path of the file."
"""What to do about a model whose blocks were left packed."""


def read_model(file: GgufFile, dtype: Any) -> Any:
    """The `transformers` model that a file describes, dequantised, with its weights.

    Args:
        file: the file.
        dtype: a torch dtype; None for float32.

    Raises:
        ModelError: the architecture or something else that the file states cannot be built, or a tensor is missing,
            left over or stored in a type that cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = read_config(file)
    # what it converts it counts on a progress bar that cannot be switched off
    with folder_of(file.path) as (folder, name), redirect_stderr(StringIO()):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=name, config=config, dtype=dtype or torch.float32, output_loading_info=True,
            local_files_only=True, trust_remote_code=False,
        )  # fmt: skip
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{file.path}: holds nothing for {len(missing)} weights of a {type(model).__name__} (first: "
            f"{missing[0]}), which "
            "would be random. Choose a complete file, or the model in Hugging Face format."
        )
    _require_all_used(file, model)
    return as_plain(model, str(file.path), UNPACK)


def _require_all_used(file: GgufFile, model: Any) -> None:
    """Refuse a file that holds more than went into the model: what is left over would be left out of what is computed."""
    gguf = package()
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[file.architecture], model.config.num_hidden_layers)
    known: set[str] = set()
    for module in (model, *(child for _, child in model.named_children())):
        for parameter in module.state_dict():
            stem, _, last = parameter.rpartition(".")
            known.add(f"{names.get_name(stem)}.{last}")
    over = sorted(set(file.tensors) - known - USED_IN_CONFIG)
    if over:
        raise ModelError(
            f"{file.path}: holds {len(over)} tensors that a {type(model).__name__} has no place for (first: {over[0]}), so "
            "what would be analysed is not the model in the file. Use the model in Hugging Face format."
        )


def file_of(model: Any) -> GgufFile | None:
    """The file that a `transformers` model in memory was loaded from; None for a model that came from none.

    Raises:
        ModelError: it came from one that cannot be found any more, or is not what the file says.
    """
    held = getattr(getattr(model, "config", None), "quantization_config", None)
    method = getattr(held, "quant_method", None) or (
        held.get("quant_method") if isinstance(held, dict) else None
    )
    if held is None or str(getattr(method, "value", method)) != "gguf":
        return None
    name = str(held.get("gguf_file") if isinstance(held, dict) else held.gguf_file)
    at = Path(str(model.name_or_path)) / name
    path = at if at.is_file() else Path(name)
    if not path.is_file():
        raise ModelError(
            f"{type(model).__name__}: was loaded from {name}, which is no longer at {at}, so nobody can say "
            "how many bits its "
            "weights had there and whether all that the file states was built. Pass the path of the file."
        )
    file = GgufFile(path)
    other = differences(file, model.config)
    if other:
        raise ModelError(
            f"{path}: the model in memory is not the one that the file describes: {'; '.join(other)}. transformers "
            f"leaves such entries out; pass the path {str(path)!r} and it is built as the file says."
        )
    return file
