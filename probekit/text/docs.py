"""The offline corpus: docstrings of installed core dependencies and the standard library.

Nothing of it is copied into the repository; what is read depends on the installed versions, which is why
every run records a fingerprint of the tokens it saw. Modules are put in the order of a hash of (package,
path) and split into `train` (nine tenths) and `heldout` (one tenth) by the same hash before any file is
parsed, so that a model trained on one never saw a module of the other, and a docstring that stands in both
counts where it comes first.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

Split = Literal["train", "heldout"]

# Core dependencies only (and what torch itself needs): an extra must not change the corpus.
PACKAGES = (
    "altair", "click", "datasets", "einops", "huggingface_hub", "jinja2", "networkx", "numba", "numpy",
    "pandas", "pyarrow", "pydantic", "rich", "scipy", "sklearn", "sympy", "torch", "tqdm", "transformer_lens",
    "transformers", "typer",
)  # fmt: skip
STANDARD_LIBRARY = "stdlib"
HELDOUT_SHARE = 0.1
MIN_CHARACTERS = 40
SKIPPED_FOLDERS = frozenset(
    {"tests", "test", "site-packages", "dist-packages", "idlelib", "lib2to3", "__pycache__"}
)


def module_order(package: str, path: str) -> float:
    """Place of a module in the corpus, in [0, 1): a hash of its package and its path inside it."""
    digest = hashlib.blake2b(f"{package}/{path}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def split_of(order: float) -> Split:
    """The split a module belongs to, by its place alone."""
    return "heldout" if order >= 1.0 - HELDOUT_SHARE else "train"


def _package_root(package: str) -> Path | None:
    if package == STANDARD_LIBRARY:
        return Path(sysconfig.get_paths()["stdlib"])
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


@cache
def _placed_modules() -> tuple[tuple[float, Path], ...]:
    """Every module file and its place, in corpus order; the packages are walked once a process."""
    placed: list[tuple[float, Path]] = []
    for package in (*PACKAGES, STANDARD_LIBRARY):
        root = _package_root(package)
        if root is None:
            continue
        for path in root.rglob("*.py"):
            relative = path.relative_to(root)
            if SKIPPED_FOLDERS.isdisjoint(relative.parts):
                placed.append((module_order(package, relative.as_posix()), path))
    return tuple(sorted(placed))


def modules(split: Split) -> list[Path]:
    """Module files of one split, in corpus order."""
    return [path for order, path in _placed_modules() if split_of(order) == split]


def _docstrings(path: Path) -> Iterator[str]:
    """Docstrings of one module in source order; a file that does not parse has none."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node, clean=True)
            if text and len(text) >= MIN_CHARACTERS:
                yield text


def docstrings(split: Split) -> Iterator[str]:
    """Docstrings of one split, lazily, in corpus order, each text once."""
    seen: set[bytes] = set()
    for path in modules(split):
        for text in _docstrings(path):
            digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if digest not in seen:
                seen.add(digest)
                yield text
