"""Whether another commit computes the same bits: python tests/golden/bit_identity.py COMMIT

Runs nano, the planted circuit of the demo and `analyze_arrays`, all on small settings, once with this checkout and once with
a worktree of COMMIT, each in a process of its own, and compares every file of the run directories: columns of tables by
their values whatever they are called, arrays by their bytes, reports and figures as text. What follows from the source code
alone (its digest, the identities and seals made of it, versions) is left out. For changes that are to change no number.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
OF_CODE = {
    "code",
    "identity",
    "probekit",
    "versions",
    "~seal",
    "blake2b",
    "crc32",
    "inputs",
    "stages",
    "commit",
}
"""Keys of records that follow from the source code, and digests of files that hold such a key."""
_HASH = re.compile(r"\b[0-9a-f]{32,64}\b")


def make(out: Path) -> None:
    """The three runs, with the probekit that is imported.

    Args:
        out: a folder for each goes here.
    """
    import torch

    import probekit as pk
    from probekit.theory.circuits import net_and

    torch.set_num_threads(1)
    sys.stdout.write(f"  {Path(pk.__file__).parents[1]}\n")
    pk.analyze(
        "nano", "docs", max_tokens=12_000, max_pairs=60, twins=5, min_support=20, controls=("isotropic", "shuffle"),
        twin_ks=(16, "all"), out=out / "nano", progress=False,
    )  # fmt: skip
    planted = pk.plant(net_and(seed=0), n_docs=80, n_active=2.2, noise=0.07, together=0.05, seed=0)
    pk.analyze(
        planted.model, planted.corpus, concepts=planted.concepts, max_pairs=200, twins=5, min_support=20,
        heldout_types=False, out=out / "planted", truth=planted, progress=False,
    )  # fmt: skip
    rng = np.random.default_rng(5)
    labels = rng.random((4_000, 9)) < 0.35
    inputs = labels + 0.2 * rng.standard_normal((4_000, 9))
    w_in, b_in = rng.standard_normal((40, 9)), 0.1 * rng.standard_normal(40)
    pk.analyze_arrays(
        np.maximum(inputs @ w_in.T + b_in, 0), labels, np.arange(4_000) // 20, inputs=inputs, weights=(w_in, b_in),
        types=rng.integers(0, 200, 4_000), twins=6, q=0.7, min_support=10, out=out / "arrays", progress=False,
    )  # fmt: skip


def differences(one: Path, other: Path) -> Iterator[str]:
    """What differs between two folders of runs, a line each.

    Args:
        one: made by one build.
        other: made by another.
    """
    files = [
        {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        for folder in (one, other)
    ]
    yield from (f"{name}: made by one build only" for name in sorted(files[0] ^ files[1]))
    for name in sorted(files[0] & files[1]):
        yield from (f"{name}: {what}" for what in _of_file(one / name, other / name))


def _of_file(one: Path, other: Path) -> Iterator[str]:
    match one.suffix:
        case ".parquet":
            yield from _of_tables(pd.read_parquet(one), pd.read_parquet(other))
        case ".safetensors":
            yield from _of_arrays(load_file(one), load_file(other))
        case ".json":
            yield from _of_values(json.loads(one.read_bytes()), json.loads(other.read_bytes()), "")
        case ".html" | ".svg" | ".txt":
            texts = [_HASH.sub("#", path.read_text(encoding="utf-8")) for path in (one, other)]
            if texts[0] != texts[1]:
                yield "other text"
        case _:
            if one.read_bytes() != other.read_bytes():
                yield "other bytes"


def _of_tables(one: pd.DataFrame, other: pd.DataFrame) -> Iterator[str]:
    if one.shape != other.shape:
        yield f"shape {one.shape} and {other.shape}"
        return
    for a, b in zip(one.columns, other.columns, strict=True):
        # lists and words by what they print in full; numbers by their bits, NaN included
        left, right = (_bits(table[name].to_numpy()) for table, name in ((one, a), (other, b)))
        if left != right:
            yield f"column {a} ({b}): other values"


def _bits(values: np.ndarray) -> Any:
    if values.dtype != object:
        return values.dtype.str, values.tobytes()
    return [v.tobytes() if isinstance(v, np.ndarray) and v.dtype != object else repr(v) for v in values]


def _of_arrays(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> Iterator[str]:
    if list(one) != list(other):
        yield f"arrays {sorted(one)} and {sorted(other)}"
        return
    for name, values in one.items():
        if _bits(values) != _bits(other[name]) or values.shape != other[name].shape:
            yield f"array {name}: other values"


def _of_values(one: Any, other: Any, where: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        yield from (f"{where}/{key}: in one record only" for key in sorted(set(one) ^ set(other)))
        for key in sorted(set(one) & set(other) - OF_CODE):
            yield from _of_values(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from _of_values(a, b, f"{where}/{place}")
    elif repr(one) != repr(other):
        yield f"{where}: {one!r} and {other!r}"


def run_with(build: Path, out: Path) -> None:
    """Make the runs with the source in a folder, in a process of its own.

    Args:
        build: a checkout.
        out: where they go.
    """
    code = f"import runpy; runpy.run_path({str(Path(__file__))!r})['make'](__import__('pathlib').Path({str(out)!r}))"
    environment = {**os.environ, "PYTHONPATH": str(build), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=build)


def main(commit: str) -> int:
    """Compare this checkout with a commit; returns 1 where anything differs."""
    with TemporaryDirectory(prefix="probekit-identity-") as folder:
        here, there, tree = (Path(folder) / name for name in ("here", "there", "tree"))
        subprocess.run(["git", "worktree", "add", "--detach", "-q", str(tree), commit], check=True, cwd=ROOT)
        try:
            run_with(ROOT, here)
            run_with(tree, there)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], check=True, cwd=ROOT)
        found = list(differences(here, there))
        n_files = sum(path.is_file() for path in here.rglob("*"))
    sys.stdout.write(
        ("\n".join(found) or f"{n_files} files of three runs: every bit the same as {commit}'s") + "\n"
    )
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
