"""What a model in memory is: a digest of everything in the object that decides what it computes.

Parameters and all buffers, those that no file keeps included; the configuration; which class each module is, what hangs on
it (an epsilon, a mode, a vector, a function, a list of modules), and the code of classes of no installed library.
What cannot be seen from here: a library patched while the program runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn

from probekit.errors import ModelError
from probekit.fingerprint import CannotTellError, of_parts, of_tensor
from probekit.model.user_hooks import require_unhooked
from probekit.objects import is_foreign
from probekit.objects import of_object as of_anything

_NO_MATTER = frozenset({
    "model_name", "tokenizer_name", "name_or_path", "_name_or_path", "device", "dtype", "torch_dtype", "seed",
    "transformers_version", "architectures", "use_cache", "trust_remote_code", "init_weights", "initializer_range",
})  # fmt: skip
"""Fields of a configuration that say where a model comes from or how it was begun; its tensors say what became of it."""
_OF_A_CALL = frozenset(
    {"training", "max_seq_len_cached", "context_level", "backward_scale", "warnings_issued"}
)
"""Attributes of a module that a forward sets or that no forward reads."""
_OF_TORCH = frozenset(vars(nn.Module()))
"""What every module has; parameters, buffers and modules are digested by name."""


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
    for name, part in model.named_modules(remove_duplicate=False):
        if type(part).__name__ != "HookPoint":
            told = _whole if is_foreign(type(part)) else _by_class
            yield f"{name} {type(part).__qualname__} {of_anything(_hangs_on(part), told)}"
    kinds = {type(part) for part in model.modules() if is_foreign(type(part))}
    yield from sorted(of_anything(kind, _whole) for kind in kinds)


def _hangs_on(part: nn.Module) -> dict[str, Any]:
    """Attributes of a module that its forward may read."""
    held = {key: value for key, value in vars(part).items() if key not in _OF_A_CALL | _OF_TORCH}
    if is_foreign(type(part)):
        return {key: value for key, value in held.items() if key != "name_or_path"}
    # of a library's own attributes those that are plain to see: the others are how it is put together
    kinds = (bool, int, float, str, list, tuple, dict, set, frozenset, Tensor, np.ndarray)
    return {
        key: value
        for key, value in held.items()
        if not key.startswith("_")
        and key not in _NO_MATTER
        and (isinstance(value, kinds) or callable(value))
        and not isinstance(value, nn.Module)
    }


def _by_class(value: Any, of: Callable[[Any], str]) -> str | None:
    """What a library's module refers to beside its parts is listed where it stands."""
    return type(value).__qualname__ if isinstance(value, nn.Module) else None


def _whole(value: Any, of: Callable[[Any], str]) -> str | None:
    """A module that hangs on another one without being registered there; a configuration."""
    if isinstance(value, nn.Module):
        own = {
            key: held for key, held in vars(value).items() if key in ("_parameters", "_buffers", "_modules")
        }
        return of([type(value), _hangs_on(value), own])
    if hasattr(value, "to_dict") and hasattr(value, "name_or_path"):
        return of(_plain(value))
    return None
