"""The public surface, and that the checks of this suite can fail."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import TypeCheckError

import probekit as pk
from probekit.probes.pairs import LabelColumns, all_pairs, count_quadrants
from probekit.probes.select import forward_rows

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


def test_types_are_checked():
    """beartype is on over the whole package: a wrong type is refused."""
    with pytest.raises(TypeCheckError, match=r"n_concepts"):
        all_pairs("three")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("doc", "labels"),
    [(np.zeros((3, 2), np.int64), np.ones((3, 2), bool)), (np.zeros(3), np.ones((3, 2), bool))],
    ids=["rank", "dtype"],
)
def test_shapes_and_dtypes_are_checked(doc: np.ndarray, labels: np.ndarray):
    """jaxtyping is on as well: a second axis, or floats where whole numbers belong, never reach the arithmetic."""
    columns = LabelColumns.from_dense(labels)
    count_quadrants(columns, np.zeros(3, np.int64))  # what is wanted is taken
    with pytest.raises(TypeCheckError, match="parameter 'doc'"):
        count_quadrants(columns, doc)


def test_axes_of_one_name_must_agree():
    """Two arrays whose shapes name the same axis are refused when the axis has two lengths."""
    rows, target = np.eye(3), np.ones(3)
    assert forward_rows(rows, target, 1).tolist() == [0]
    with pytest.raises(TypeCheckError, match="target"):
        forward_rows(rows, np.ones(4), 1)


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
    labels = LabelColumns.from_dense(np.ones((10, 2), bool))
    assert count_quadrants(labels, np.zeros(10, np.int64)).n_tokens.dtype == np.int64
