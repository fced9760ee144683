"""Every name that a script takes from the package is there: a move must not break what no test runs."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for folder in ("analyses", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def taken(source: str) -> Iterator[tuple[str, str]]:
    """(module, name) of every `from probekit… import name`, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "probekit":
            yield from ((str(node.module), alias.name) for alias in node.names)


def missing(module: str, name: str) -> bool:
    """Whether the package has no such module, or the module no such name."""
    try:
        held = importlib.import_module(module)
    except ModuleNotFoundError:
        return True
    if hasattr(held, name):
        return False
    try:  # a module of a package
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return True
    return False


def test_scripts_take_what_the_package_has() -> None:
    assert len(SCRIPTS) > 40
    found = {
        f"{path.relative_to(ROOT)}: from {module} import {name}"
        for path in SCRIPTS
        for module, name in taken(path.read_text(encoding="utf-8"))
        if missing(module, name)
    }
    assert not found


def test_a_name_that_has_moved_would_be_seen() -> None:
    gone = list(
        taken(
            "def f():\n    from probekit.analysis.inputs import cached\n    from probekit.analysis import api"
        )
    )
    assert [missing(*one) for one in gone] == [True, False]
