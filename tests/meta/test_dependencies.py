"""What is imported is declared, and the other way round."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import probekit

PACKAGE = Path(probekit.__file__).parent
PROJECT = PACKAGE.parent / "pyproject.toml"
OTHERS = {"einops": "comes with the layer's axes", "llvmlite": "is pinned beside numba, which imports it"}
"""Declared and not imported, with the reason."""


def imported() -> set[str]:
    """Top-level names that probekit imports from elsewhere."""
    names: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"probekit"}


@pytest.fixture(scope="module")
def project() -> dict[str, set[str]]:
    """Declared distributions: those always needed, and those of the extras as well."""
    table = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    named = {
        "core": table["dependencies"],
        "all": [
            *table["dependencies"],
            *(one for extra in table["optional-dependencies"].values() for one in extra),
        ],
    }
    return {key: {canonicalize_name(Requirement(one).name) for one in ones} for key, ones in named.items()}


def test_every_import_is_declared(project: dict[str, set[str]]) -> None:
    homes = packages_distributions()
    unknown = {
        name
        for name in imported()
        if not {canonicalize_name(home) for home in homes.get(name, [name])} & project["all"]
    }
    assert not unknown
    assert {"threadpoolctl", "huggingface-hub", "transformers"} <= project["core"]


def test_every_declared_package_is_imported(project: dict[str, set[str]]) -> None:
    homes = packages_distributions()
    used = {canonicalize_name(home) for name in imported() for home in homes.get(name, [name])}
    assert project["core"] - used <= set(OTHERS)
