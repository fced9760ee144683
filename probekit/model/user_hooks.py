"""Refuses a model that computes something else than its weights say: hooks on it, or a forward replaced by hand.

A result with hooks would be one of the model and the hooks together, and would hang on code that nobody can write down.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

from probekit.errors import ModelError

_LIBRARIES = ("torch", "transformers", "transformer_lens", "accelerate", "peft")
"""What these hook onto a model is part of how they compute it."""
_BRIDGE = "transformer_lens.model_bridge"
"""What builds a bridge; anything else at a hook point was put there by its user, the library's own tools included."""
_SHOWN = 3


def require_unhooked(model: nn.Module, name: str) -> None:
    """Refuse a model with hooks of its user's, or with a forward that was replaced.

    Args:
        model: a TransformerBridge or a `transformers` model.
        name: what to call it.

    Raises:
        ModelError: it has some; the message says where, and how to remove them.
    """
    found = list(dict.fromkeys(_hooks(model)))
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ModelError(
            f"{name}: carries hooks that change or watch what it computes, at {', '.join(found[:_SHOWN])}{more}; wanted the "
            "model as its weights are, since a result cannot say what a hook did. Remove them "
            "(bridge.reset_hooks(including_permanent=True), or .remove() of the handle that register_forward_hook gave), or "
            "write the change into the weights."
        )


def _hooks(model: nn.Module) -> Iterator[str]:
    for where, part in model.named_modules():
        place = where or type(part).__name__
        points: list[Any] = list(getattr(part, "fwd_hooks", None) or [])
        for handle in points:
            hook = getattr(handle, "user_hook", None)
            if not _comes_from(hook, (_BRIDGE,)):
                yield f"{getattr(part, 'name', None) or place} ({_called(hook)})"
        for hook in (*part._forward_pre_hooks.values(), *part._forward_hooks.values()):
            if not _comes_from(hook, _LIBRARIES):
                yield f"{place} ({_called(hook)})"
        replaced = vars(part).get("forward")
        if replaced is not None and not _comes_from(replaced, _LIBRARIES):
            yield f"{place}.forward, which was replaced ({_called(replaced)})"
    everywhere = (torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks)
    for hook in (hook for hooks in everywhere for hook in hooks.values()):
        if not _comes_from(hook, _LIBRARIES):
            yield f"every torch module ({_called(hook)})"


def _bare(hook: Any) -> Any:
    while isinstance(hook, functools.partial):
        hook = hook.func
    return getattr(hook, "__func__", hook)


def _comes_from(hook: Any, packages: tuple[str, ...]) -> bool:
    bare = _bare(hook)
    home = str(getattr(bare, "__module__", None) or type(bare).__module__)
    return any(home == package or home.startswith(f"{package}.") for package in packages)


def _called(hook: Any) -> str:
    bare = _bare(hook)
    return str(getattr(bare, "__qualname__", None) or type(bare).__name__)
