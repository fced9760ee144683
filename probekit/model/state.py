"""What a model in memory is: a digest of everything in the object that decides what it computes.

Parameters and all buffers, those that no file keeps included; the configuration; which class each module is and the numbers
it was built with (an epsilon, a scale); the source of classes that come from none of the known libraries. What cannot be
seen from here: a library patched while the program runs.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from probekit.errors import ModelError
from probekit.fingerprint import CannotTellError, of_parts, of_tensor
from probekit.model.hooks import require_unhooked

_LIBRARIES = ("torch", "transformers", "transformer_lens", "accelerate", "peft", "probekit")
_NO_MATTER = frozenset({
    "model_name", "tokenizer_name", "name_or_path", "_name_or_path", "device", "dtype", "torch_dtype", "seed",
    "transformers_version", "architectures", "use_cache", "trust_remote_code", "init_weights", "initializer_range",
})  # fmt: skip
"""Fields of a configuration that say where a model comes from or how it was begun; its tensors say what became of it."""
_OF_A_CALL = frozenset({"training", "max_seq_len_cached", "context_level", "backward_scale"})
"""Numbers of a module that a forward sets or that no forward reads."""


def of_object(model: nn.Module) -> str:
    """Digest of a `transformers` model or a TransformerBridge.

    Args:
        model: the object.

    Raises:
        ModelError: a weight has no content that can be read, or the model carries hooks of its user's.
    """
    require_unhooked(model, type(model).__name__)
    return of_parts((*_configurations(model), *_modules(model), *_tensors(model)))


def _tensors(model: nn.Module) -> Iterator[str]:
    """Every parameter and buffer by name; one that stands under several names is digested once."""
    known: dict[tuple[Any, ...], str] = {}
    held: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    held |= dict(model.named_buffers(remove_duplicate=False))
    for name, tensor in held.items():
        place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.device)
        try:
            digest = known.get(place) if tensor.data_ptr() else None
            known[place] = digest or of_tensor(tensor)
        except CannotTellError as error:
            raise ModelError(
                f"{type(model).__name__}: {name} cannot be read ({error}); wanted weights in memory, float16, bfloat16 or "
                "float32. Load the model without quantisation or offloading."
            ) from error
        yield f"{name} {known[place]}"


def _configurations(model: Any) -> Iterator[str]:
    for owner in (model, getattr(model, "original_model", None)):
        for name in ("config", "cfg"):
            held = getattr(owner, name, None)
            if held is not None:
                yield f"{name} {json.dumps(_plain(held), sort_keys=True, default=str)}"


def _plain(config: Any) -> dict[str, Any]:
    told = config.to_dict() if hasattr(config, "to_dict") else vars(config)
    kinds = (bool, int, float, str, list, tuple, dict, type(None))
    return {
        str(key): value
        for key, value in dict(told).items()
        if str(key) not in _NO_MATTER and isinstance(value, kinds)
    }


def _modules(model: nn.Module) -> Iterator[str]:
    foreign: dict[str, str] = {}
    for name, part in model.named_modules(remove_duplicate=False):
        kind = type(part)
        if kind.__name__ == "HookPoint":
            continue
        numbers = {
            key: value
            for key, value in vars(part).items()
            if isinstance(value, bool | int | float) and not key.startswith("_") and key not in _OF_A_CALL
        }
        yield f"{name} {kind.__qualname__} {json.dumps(numbers, sort_keys=True)}"
        if kind.__module__.partition(".")[0] not in _LIBRARIES:
            foreign.setdefault(f"{kind.__module__}.{kind.__qualname__}", _source(kind))
    yield from (f"{name} {source}" for name, source in sorted(foreign.items()))


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # typed into an interpreter
        return ""
