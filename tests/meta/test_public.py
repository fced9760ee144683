"""The public surface, and that the checks of this suite can fail."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import probekit as pk
from probekit.probes.pairs import all_pairs

PACKAGE = Path(pk.__file__).parent


def test_every_public_name_loads():
    for name in pk.__all__:
        assert getattr(pk, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nobody'"):
        _ = pk.nobody  # pyright: ignore[reportAttributeAccessIssue]


def test_the_static_and_the_lazy_names_agree():
    """What a type checker sees is what `__getattr__` gives."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    static = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert static == set(pk.__all__)


def test_shapes_are_checked():
    """jaxtyping and beartype are on over the whole package: a wrong type is refused."""
    with pytest.raises(Exception, match=r"n_concepts"):
        all_pairs("three")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_store_writes_files(path: Path):
    """No room but storage/store opens a file for writing."""
    if path == PACKAGE / "storage" / "store.py":
        return
    # a packed table is unpacked into a temporary folder that goes with the reading
    source = path.read_text().replace('unpacked.open("wb")', "")
    for forbidden in (
        "write_text(",
        "write_bytes(",
        ".to_parquet(",
        ".to_csv(",
        ".tofile(",
        "np.save",
        "torch.save",
    ):
        held = [line for line in source.splitlines() if forbidden in line and "store." not in line]
        assert not held, held
    assert not re.search(r"""open\([^)]*["'][rb]*[wax+]""", source)


def test_the_lists_of_dtypes_are_words():
    """Axes are words, never letters: `Float[..., "n d"]` is refused."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
                if node.value.id not in {"Float", "Int", "Bool", "Int32", "Int64", "UInt64"}:
                    continue
                axes = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) else None
                if isinstance(axes, ast.Constant) and isinstance(axes.value, str):
                    letters = [a for a in axes.value.split() if len(a) == 1 and a.isalpha() and a != "k"]
                    assert not letters, (path.name, axes.value)


def test_numbers_are_not_floats_in_counts():
    """Counts are integers, exact beyond 2²⁴."""
    from probekit.probes.pairs import LabelColumns, count_quadrants

    labels = LabelColumns.from_dense(np.ones((10, 2), bool))
    assert count_quadrants(labels, np.zeros(10, np.int64)).n_tokens.dtype == np.int64
