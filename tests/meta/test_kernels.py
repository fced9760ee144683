"""A compiled kernel is kept on disk and compiled anew when its own file changes: so nothing of another file may be in it."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest

import probekit as pk

PACKAGE = Path(pk.__file__).parent


def modules_with_kernels() -> list[str]:
    """Modules that compile something."""
    files = [
        path for path in sorted(PACKAGE.rglob("*.py")) if "numba.njit" in path.read_text(encoding="utf-8")
    ]
    return [".".join(("probekit", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in files]


def foreign_names(module: Any) -> dict[str, set[str]]:
    """By kernel the names of its module that its code uses and that were imported from elsewhere in probekit."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("probekit")
        for alias in node.names
    }
    kernels = {name: f.py_func for name, f in vars(module).items() if hasattr(f, "py_func")}
    own = {name: f for name, f in kernels.items() if f.__module__ == module.__name__}
    return {name: imported & set(f.__code__.co_names) for name, f in own.items()}


@pytest.mark.parametrize("name", modules_with_kernels())
def test_a_kernel_uses_nothing_of_another_file(name: str):
    found = foreign_names(importlib.import_module(name))
    assert found, "no kernel was found where one is compiled"
    assert not any(found.values()), found


def test_the_check_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "foreign_kernel.py").write_text(
        "import numba\nfrom probekit.probes.tiles import TILE\n@numba.njit\ndef f(x):\n    return x + TILE\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert foreign_names(importlib.import_module("foreign_kernel")) == {"f": {"TILE"}}
