"""Docstrings are complete, and the examples in them are true."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import probekit

PACKAGE = Path(probekit.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
WITH_EXAMPLES = [path for path in MODULES if ">>> " in path.read_text(encoding="utf-8")]


def undocumented(tree: ast.AST, name: str) -> list[str]:
    """Public definitions without a docstring."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    missing: list[str] = []
    for node in getattr(tree, "body", []):
        if isinstance(node, kinds) and not node.name.startswith("_"):
            missing += [] if ast.get_docstring(node) else [f"{name}.{node.name}"]
            if isinstance(node, ast.ClassDef):
                missing += undocumented(node, f"{name}.{node.name}")
    return missing


def test_every_module_and_public_definition_has_a_docstring():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
    assert [str(path) for path, tree in trees.items() if not ast.get_docstring(tree)] == []
    assert [name for path, tree in trees.items() for name in undocumented(tree, path.stem)] == []


def test_the_check_can_fail():
    assert undocumented(ast.parse("def f(): ...\nclass A:\n    'x'\n    def g(self): ..."), "m") == [
        "m.f",
        "m.A.g",
    ]


SECTION = re.compile(r"^( *)(Args|Attributes|Raises):$")
ENTRY = re.compile(r"^\*{0,2}[\w.]+(, \*{0,2}\w+)*( \([^)]*\))?: ")


def broken_entries(text: str) -> list[str]:
    """Lines of a docstring's sections that begin no entry and continue none: renderers take them for entries."""
    broken: list[str] = []
    indent: int | None = None
    for line in inspect.cleandoc(text).splitlines():
        section = SECTION.match(line)
        if section:
            indent = len(section[1]) + 4
        elif indent is not None and line.strip():
            depth = len(line) - len(line.lstrip())
            if depth < indent:
                indent = None
            elif depth == indent and not ENTRY.match(line.strip()):
                broken.append(line.strip())
    return broken


def test_every_line_of_a_section_is_an_entry_or_continues_one():
    """`make docs` is strict about it; this is quicker."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
    found = [
        f"{path.relative_to(PACKAGE)}: {line}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, kinds)
        for line in broken_entries(ast.get_docstring(node) or "")
    ]
    assert not found
    assert broken_entries("F.\n\nArgs:\n    a: of the inputs that it is made\n    for.\n    b: x\n") == [
        "for."
    ]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_true(path: Path):
    module = import_module(".".join(("probekit", *path.relative_to(PACKAGE).with_suffix("").parts)))
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_there_are_examples():
    assert len(WITH_EXAMPLES) >= 4
