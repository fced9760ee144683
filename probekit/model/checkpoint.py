"""What a folder's files may hold and what a loaded checkpoint must be, so that nothing else is analysed in its place.

`transformers` leaves out tensors that its model has no place for, and says so in a warning at most. A scale that is left
out leaves weights of the wrong size; an adapter that is left out leaves another model.
Axes: none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from probekit.errors import ModelError

_DEQUANTISED = ("fp8",)
"""Quantisations that `transformers` turns back into numbers on every device."""
_LEFT_OF_QUANTISATION = re.compile(
    r"(_scale|_scale_inv|_scale_2|\.scales|scale_weight|qweight|qzeros|g_idx|absmax|quant_map|quant_state|\.SCB|zero_point|"
    r"weight_packed|weight_format|input_scale|_blocks|_scales)(\.|$)|\.?(lora_[A-Z]|lora_magnitude|base_layer)"
)
"""What quantised and adapted weights have beside them."""
_MASKS = re.compile(r"(attn|attention)\.(bias|masked_bias)$|rotary_emb\.inv_freq$|\.attn\.embed_positions$")
"""Constants that older versions of `transformers` saved: masks and frequencies that are computed anew."""
WRAPPERS = ("_orig_mod.", "module.")
"""What torch.compile and data-parallel training put before every name."""


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file as a dictionary; empty where there is none.

    Raises:
        ModelError: it is there and no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(
            f"{path}: cannot be read as JSON ({error}); download or save the model again."
        ) from error
    if not isinstance(held, dict):
        raise ModelError(f"{path}: got a {type(held).__name__}, wanted a JSON object; save the model again.")
    return held


def require_plain_folder(folder: Path) -> None:
    """Refuse a folder whose files say that the model is more than its weights.

    Raises:
        ModelError: an adapter lies beside the model, or its weights are quantised in a way that is not undone here.
    """
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder}: adapter_config.json lies beside the model, so it is two models: with the adapter and without. Merge "
            "it (peft: model.merge_and_unload().save_pretrained(FOLDER)), or take adapter_config.json away to analyse the "
            "model without it."
        )
    method = quantisation(folder)
    if method is not None and method not in _DEQUANTISED:
        raise ModelError(
            f"{folder}: its weights are quantised ({method}), which is not undone here; wanted float16, bfloat16 or float32 "
            "weights. Load the model with its own library, dequantise it (model.dequantize() where there is one) and save "
            "that, or use the checkpoint it was made from."
        )


def quantisation(folder: Path) -> str | None:
    """The method by which a folder says its weights are quantised; None for plain weights."""
    config = read_json(folder / "config.json")
    inner = config.get("text_config")
    held = config.get("quantization_config") or config.get("compression_config")
    held = held or (inner.get("quantization_config") if isinstance(inner, dict) else None)
    if held:
        return str(held.get("quant_method", "unnamed")) if isinstance(held, dict) else str(held)
    beside = read_json(folder / "hf_quant_config.json")
    if beside:
        return str((beside.get("quantization") or {}).get("quant_algo", "hf_quant_config.json"))
    return None


def require_complete(folder: Path, missing: Iterable[str]) -> None:
    """Refuse a checkpoint that lacks weights.

    Raises:
        ModelError: some are missing.
    """
    lacking = sorted(missing)
    if lacking:
        raise ModelError(
            f"{folder}: {len(lacking)} weights are missing from the files (first: {lacking[0]}) and would be "
            "random; wanted a complete checkpoint. Download or save the model again."
        )


def require_nothing_left(folder: Path, model: nn.Module, unexpected: Iterable[str]) -> None:
    """Refuse a checkpoint that holds more of the model's own blocks than the model has places for.

    What belongs to other parts (the image half of a model that reads both, a block for predicting further tokens) may be
    left over.

    Raises:
        ModelError: a tensor inside a block, or one that belongs to a quantisation or an adapter, was left out.
    """
    blocks = _block_prefixes(model)
    left = [
        key for key in sorted(unexpected)
        if not _MASKS.search(key) and (_LEFT_OF_QUANTISATION.search(key) or key.startswith(blocks))
    ]  # fmt: skip
    if left:
        raise ModelError(
            f"{folder}: the files hold {len(left)} tensors that a {type(model).__name__} has no place for "
            f"(first: {left[0]}): a "
            "quantisation that was not undone, an adapter, or another architecture. What would be analysed is "
            "not the model in "
            "the files; wanted plain weights of this architecture. Dequantise or merge the model and save it again."
        )


def _block_prefixes(model: nn.Module) -> tuple[str, ...]:
    """How names inside the model's blocks begin, with and without the name of the inner model."""
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and name]
    own = [f"{name}.{i}." for name in lists if "." in name for i in range(len(model.get_submodule(name)))]  # pyright: ignore[reportArgumentType]
    inner = f"{getattr(model, 'base_model_prefix', '')}."
    return tuple({*own, *(name.removeprefix(inner) for name in own)})


def require_float_files(folder: Path, dtypes: Mapping[str, str]) -> None:
    """Refuse weights that are stored as integers, or scaled into 8 bits, where nothing says how they become numbers.

    Args:
        folder: the model's.
        dtypes: safetensors dtype of each stored tensor, by name.

    Raises:
        ModelError: there are some.
    """
    method = quantisation(folder)
    whole = [
        n
        for n, dtype in dtypes.items()
        if dtype in ("I8", "U8", "I4", "U4", "F4", "I32") and n.endswith("weight")
    ]
    narrow = [n for n, dtype in dtypes.items() if dtype.startswith("F8") and method is not None]
    if whole or (narrow and not any("scale" in name for name in dtypes)):
        first = (whole or narrow)[0]
        raise ModelError(
            f"{folder}: {len(whole or narrow)} weights are stored as "
            f"{'integers' if whole else 'scaled numbers'} (first: {first}) and "
            "nothing says how they become numbers; wanted float weights. Dequantise the model and save it again."
        )


def wrapper_of(keys: Sequence[str]) -> str:
    """What a wrapper put before every name of a checkpoint; empty where none did."""
    found = ""
    while keys:
        wrapper = next((w for w in WRAPPERS if all(key.startswith(found + w) for key in keys)), None)
        if wrapper is None:
            break
        found += wrapper
    return found


def as_plain(model: Any, name: str, advice: str) -> Any:
    """A model whose weights were turned back into numbers, without what still calls it quantised; changed in place.

    Args:
        model: a `transformers` model.
        name: what the user called it.
        advice: what to do if its weights are packed still.

    Raises:
        ModelError: a weight is no float of at least 16 bits.
    """
    packed = [n for n, p in model.named_parameters() if not p.dtype.is_floating_point or p.dtype.itemsize < 2]
    if packed:
        dtype = str(model.get_parameter(packed[0]).dtype).removeprefix("torch.")
        raise ModelError(
            f"{name}: {len(packed)} weights are held quantised (first: {packed[0]}, {dtype}); wanted float16, "
            "bfloat16 or float32. "
            f"{advice}"
        )
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "quantization_config"):
            del config.quantization_config
    for attribute in ("hf_quantizer", "quantization_method"):
        if hasattr(model, attribute):
            delattr(model, attribute)
    if hasattr(model, "is_quantized"):
        model.is_quantized = False
    return model
