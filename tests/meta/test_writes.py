"""Only `storage/store.py`, over `storage/disk.py`, writes a file, and the exceptions are named: a guard by syntax tree.

A guard by text would be misled by a comment and by a name; this one reads calls. It knows the ways in which Python, numpy,
pandas, torch and safetensors change a disk, and takes a mode that it cannot read for one that writes.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import probekit as pk

PACKAGE = Path(pk.__file__).parent
OWNERS = {"storage/store.py", "storage/disk.py"}
TEMPORARY = {
    ("model/folder.py", "bare_folder", "save_pretrained"): "bare_folder",
    ("model/gguf.py", "folder_of", "symlink_to"): "folder_of",
    ("model/hooked_model.py", "_of_plain", "save_pretrained"): "_of_plain",
    ("model/hooked_model.py", "_tokenizer_in", "save_pretrained"): "_of_plain",
    ("text/readers.py", "_builder_rows", "open"): "_builder_rows",
    ("testing/probe_checks.py", "_memmap", "memmap"): "_memmap",
}
"""File, function and call that write into a temporary folder, and the function that makes it and takes it away again."""

METHODS = {
    "write_text", "write_bytes", "touch", "mkdir", "unlink", "rmdir", "symlink_to", "hardlink_to", "chmod", "tofile",
    "to_parquet", "to_pickle", "to_feather", "to_hdf", "to_excel", "save_pretrained", "save_file", "savefig",
    "extractall",
}  # fmt: skip
TEXT_WITHOUT_PATH = {"to_csv", "to_json", "to_html", "to_latex", "to_markdown"}
"""Methods of a data frame that return text when no path is given and write a file when one is."""
OF_MODULES = {
    "np": {"save", "savez", "savez_compressed", "savetxt"},
    "numpy": {"save", "savez", "savez_compressed", "savetxt"},
    "torch": {"save"},
    "pickle": {"dump"},
    "json": {"dump"},
    "joblib": {"dump"},
    "os": {"remove", "unlink", "rename", "replace", "mkdir", "makedirs", "rmdir", "link", "symlink", "truncate", "write"},
    "shutil": {"copy", "copy2", "copyfile", "copytree", "move", "rmtree"},
}  # fmt: skip
WITH_MODE = {"open", "memmap", "open_memmap", "ZipFile", "TarFile", "fdopen"}
READS = {"r", "rb", "rt", "c"}
MODE = re.compile(r"[rwaxc][bt+]{0,2}")
"""What a mode can look like: a method of our own named `open` takes other words."""


def _reads_only(call: ast.Call, name: str) -> bool:
    """Whether a call that takes a mode is given one that only reads."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    if isinstance(call.func, ast.Attribute) and name == "open":
        module = isinstance(call.func.value, ast.Name) and call.func.value.id in {
            "os",
            "io",
            "gzip",
            "bz2",
            "lzma",
            "tarfile",
        }
        place = 1 if module else 0
    else:
        place = 2 if name in {"memmap", "open_memmap"} else 1
    given += call.args[place : place + 1]
    if not given:
        # numpy opens for reading and writing unless told otherwise, all others for reading
        return name not in {"memmap", "open_memmap"}
    words = [mode.value if isinstance(mode, ast.Constant) else None for mode in given]
    return all(isinstance(word, str) and (word in READS or not MODE.fullmatch(word)) for word in words)


def _is_write(call: ast.Call) -> str | None:
    """The name of what is called, if it can change a disk."""
    of = call.func
    name = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
    owner = ast.unparse(of.value) if isinstance(of, ast.Attribute) else ""
    if owner in {"store", "disk", "store.disk"}:
        return None
    if name in METHODS or name in OF_MODULES.get(owner, ()):
        return name
    if name in TEXT_WITHOUT_PATH and (call.args or any(k.arg == "path_or_buf" for k in call.keywords)):
        return name
    return name if name in WITH_MODE and not _reads_only(call, name) else None


def writes(source: str) -> set[tuple[str, str]]:
    """Function (or "" for the module) and call of everything in the source that can change a disk.

    `store.` and `disk.` are taken for the modules of `storage`, so a file that binds these names otherwise is reported.
    """
    tree = ast.parse(source)
    found: set[tuple[str, str]] = set()

    def walk(node: ast.AST, function: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
            if isinstance(child, ast.Call) and (name := _is_write(child)):
                found.add((function, name))
            if (
                isinstance(child, ast.Name)
                and isinstance(child.ctx, ast.Store)
                and child.id in {"store", "disk"}
            ):
                found.add((function, f"{child.id} is bound anew"))
            walk(child, inner)

    walk(tree, "")
    return found


def test_only_the_store_writes_files():
    found = {
        (str(path.relative_to(PACKAGE)), function, call)
        for path in PACKAGE.rglob("*.py")
        if str(path.relative_to(PACKAGE)) not in OWNERS
        for function, call in writes(path.read_text(encoding="utf-8"))
    }
    assert found - set(TEMPORARY) == set()
    assert set(TEMPORARY) - found == set(), "an exception that nothing needs any more"


def test_what_is_excepted_writes_into_a_temporary_folder():
    for (file, function, _), maker in TEMPORARY.items():
        tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
        bodies = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == maker]
        assert len(bodies) == 1, (file, maker)
        source = ast.unparse(bodies[0])
        assert "with TemporaryDirectory" in source or "with tempfile.TemporaryDirectory" in source, (
            file,
            maker,
        )
        assert maker == function or f"{function}(" in source, (file, function)


@pytest.mark.parametrize(
    "line",
    [
        "path.write_text('x')  # as store.write_text does",
        "path.open('w')",
        "path.open(mode)",
        "open(path, 'r+b')",
        "open(path, mode='ab')",
        "os.open(path, flags)",
        "gzip.open(path, 'wb')",
        "np.memmap(path, dtype)",
        "np.memmap(path, dtype, 'w+')",
        "np.save(path, x)",
        "frame.to_csv(path)",
        "frame.to_csv(path_or_buf=path)",
        "frame.to_parquet(path)",
        "torch.save(x, path)",
        "os.replace(a, b)",
        "shutil.rmtree(folder)",
        "zipfile.ZipFile(path, 'w')",
        "store = Mine(); store.write_text(path, 'x')",
        "safetensors.numpy.save_file(x, path)",
        "model.save_pretrained(folder)",
    ],
)
def test_the_guard_finds_a_planted_write(line: str):
    assert writes(f"def f():\n    {line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "store.write_text(path, 'x')",
        "path.open()",
        "path.open('rb')",
        "open(path)",
        "gzip.open(path, 'rt')",
        "np.memmap(path, dtype, 'r')",
        "frame.to_csv(index=False)",
        "text.replace('a', 'b')",
        "'path.write_text(x)'",
        "safetensors.numpy.save(x)",
        "keep.open('supports', upstream)",
    ],
)
def test_the_guard_lets_reading_and_the_store_pass(line: str):
    assert not writes(f"def f():\n    {line}\n")
