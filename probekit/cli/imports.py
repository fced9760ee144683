"""Tries imports, in a process of its own: an import that crashes, hangs or prints must not take `probekit doctor` with it.

Started by `probekit.cli.doctor` with the modules as JSON on its standard input; answers with one JSON line before and after
each import.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

MARK = "probekit-import: "
"""Begins a line that is an answer, and not what an import prints."""


def try_imports() -> None:
    """Import what standard input names, one after the other, and report on each; then the device and the caches."""
    asked: dict[str, Any] = json.load(sys.stdin)
    sys.path[:] = asked["path"]

    def answer(**values: Any) -> None:
        # a line of its own, whatever an import has printed before it
        print("\n" + MARK + json.dumps(values), flush=True)  # noqa: T201 - this process talks to another

    for module in asked["modules"]:
        answer(begin=module)
        answer(module=module, **_tried(module))
    for fact, find in FACTS.items():
        answer(begin=fact)
        try:
            answer(fact=fact, value=find())
        except Exception as error:  # noqa: BLE001 - a fact that cannot be had is left out, whatever the reason
            answer(fact=fact, error=f"{type(error).__name__}: {error}")


def _tried(module: str) -> dict[str, Any]:
    try:
        import_module(module)
    except Exception as error:  # noqa: BLE001 - any exception at all is an import that failed
        return {
            "error": type(error).__name__, "message": str(error), "missing": getattr(error, "name", None),
            "file": _file_of(module),
        }  # fmt: skip
    return {"file": _file_of(module)}


def _file_of(module: str) -> str | None:
    """Where the top-level module lies, without importing it."""
    top = module.partition(".")[0]
    try:
        spec = find_spec(top)
    except (ImportError, ValueError, AttributeError):  # what stands in sys.modules may be half a module
        return getattr(sys.modules.get(top), "__file__", None)
    return None if spec is None else spec.origin


def _device() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "torch_threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "cuda_built": torch.version.cuda,
        "mps": bool(torch.backends.mps.is_available()),
    }


def _numba() -> dict[str, Any]:
    import numba

    from probekit.probes.strips import _copy_strip

    kernel: Any = _copy_strip
    return {"threads": numba.get_num_threads(), "cache": str(kernel.stats.cache_path)}


def _hub() -> dict[str, Any]:
    from huggingface_hub import constants

    return {"cache": str(constants.HF_HUB_CACHE), "offline": bool(constants.HF_HUB_OFFLINE)}


FACTS = {"device": _device, "numba": _numba, "hub": _hub}
"""What else only a library can answer."""
