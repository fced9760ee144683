"""R10: on one kind of device nothing but the input decides, in whatever blocks, order and company it comes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from probekit.analysis import passes, source
from probekit.analysis.api import analyze_arrays
from probekit.storage import checkpoint
from probekit.storage.shards import Stage

sys.path.insert(0, str(Path(__file__).parent))

ROWS = ("1", "7", "64", "1000", "0")
Digests = dict[str, dict[str, str]]


def made(*rows: str, hash_seed: str, n_threads: str = "1", listing: str | None = None) -> Digests:
    """Digests of all files of the job under these conditions, from a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment |= {"PYTHONHASHSEED": hash_seed, "NUMBA_NUM_THREADS": n_threads}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "grid.py"), *rows], capture_output=True, text=True, check=False,
        env=environment if listing is None else {**environment, "LISTING": listing},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout)


def assert_alike(*all_made: Digests) -> int:
    """Every run has the same files of the same bytes; how many runs there were."""
    runs = [(name, run) for found in all_made for name, run in found.items()]
    first = runs[0][1]
    assert len(first) > 8
    for name, run in runs:
        assert run == first, (
            name,
            sorted(file for file in {*run, *first} if run.get(file) != first.get(file)),
        )
    return len(runs)


@pytest.mark.sweep
@pytest.mark.usefixtures("undrawn")
def test_rows_a_block_hash_seed_order_of_folders_threads_and_a_stop_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    import grid
    import job

    other = made("7", hash_seed="2", n_threads="2", listing="5")
    monkeypatch.setattr(passes, "TILE", job.TILE)
    monkeypatch.setattr(checkpoint, "SHARE", math.inf)
    assert assert_alike(grid.digests([1_000], tmp_path), other) == 4


@pytest.mark.sweep
def test_kernels_just_compiled_and_kept_ones_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The first run after an installation compiles, later ones load what was kept."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    first = made("1000", hash_seed="0")
    assert list((tmp_path / "kernels").rglob("*.nbc")), "they were compiled here"
    assert assert_alike(first, made("1000", hash_seed="0")) == 4


@pytest.mark.slow
def test_the_whole_grid():
    """5 reruns, each with its own hash seed, number of threads and order of folders × 5 rows a block × stopped or not."""
    reruns = [
        made(*ROWS, hash_seed=str(n), n_threads=threads, listing=str(n) if n else None)
        for n, threads in enumerate(("1", "1", "2", "4", "4"))
    ]
    assert assert_alike(*reruns) == 50


@pytest.mark.usefixtures("undrawn")
def test_a_difference_would_be_seen(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], tmp_path: Path):
    """The control: without re-blocking the numbers do depend on how the rows come, so that the tests above can fail."""
    import grid
    from job import files

    monkeypatch.setattr(passes, "retile", _as_they_come)
    found: Digests = {}
    for n_rows in (7, 640):
        with monkeypatch.context() as patch:
            patch.setattr(source.ArraySource, "blocks", grid.in_blocks(n_rows))
            analyze_arrays(**given, out=tmp_path / str(n_rows))
        found[str(n_rows)] = files(tmp_path / str(n_rows))
    with pytest.raises(AssertionError, match=r"pairs/layer-00\.parquet"):
        assert_alike(found)


def _as_they_come(blocks: Any, n_tokens: int) -> Any:
    start = 0
    for block in blocks:
        yield start, block
        start += len(block[0])


def test_the_order_in_which_a_folder_is_listed_is_not_the_order_of_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    import grid

    stage = Stage(tmp_path / "s", "inputs")
    for part in range(12):
        stage.put(part, {"a": np.arange(part + 1)}, n_tokens=1)
    identity, listed = stage.commit(), [path.name for path in stage.folder.iterdir()]
    rng = np.random.default_rng(0)
    for name in ("iterdir", "glob", "rglob"):
        monkeypatch.setattr(Path, name, grid.shuffled(rng, getattr(Path, name)))
    assert [path.name for path in stage.folder.iterdir()] != listed
    assert stage.parts() == list(range(12))
    assert stage.commit() == stage.committed() == identity


EXACT = [
    "n11", "n10", "n01", "n00", "neurons", "weights", "offset", "mean11", "mean10", "mean01", "mean00", "kappa_se", "eps95",
    "participation", "represented",
]  # fmt: skip
NEARLY = [
    "kappa", "d_prime", "d_balanced", "best_neuron_d_prime", "d_prime_input", "d_prime_pre", "d_prime_linear",
    "d_prime_twins",
]  # fmt: skip
"""What a pair's row says of the pair itself (p-values and q are relative to all pairs tested). What is streamed, selected
and fitted is the same bit for bit; what comes from a product over all pairs at the end may differ in the last bits, since
BLAS orders its terms by the number of rows."""


def assert_companions_do_not_matter(given: dict[str, Any], n_together: int) -> None:
    """Each pair's own numbers, measured in groups of so many pairs, are those of all pairs measured together."""
    all_pairs = {**given, "max_pairs": 100, "spikes": ()}
    every = analyze_arrays(**all_pairs).pairs()
    names = list(zip(every["a"], every["b"], strict=True))
    assert len(names) == 15
    groups = [names[start : start + n_together] for start in range(0, len(names), n_together)]
    together = pd.concat([analyze_arrays(**all_pairs, pairs=group).pairs() for group in groups])
    assert list(zip(together["a"], together["b"], strict=True)) == names
    for column in (*EXACT, *NEARLY):
        ours, theirs = (np.stack(list(map(np.asarray, table[column]))) for table in (together, every))
        if column in EXACT:
            assert ours.tobytes() == theirs.tobytes(), column
        else:
            # differences of sums of at most 20 terms in another order: some hundred ulps of the terms, which are as large
            # as the largest of the values; a value near 0 is what is left of them
            size = float(np.abs(theirs).max())
            np.testing.assert_allclose(
                ours, theirs, rtol=0, atol=100 * np.finfo(float).eps * size, err_msg=column
            )
    # the control: what is relative to the pairs tested does change
    assert not np.array_equal(together["z"], every["z"])


@pytest.mark.usefixtures("undrawn")
def test_the_companions_of_a_pair_change_nothing(given: dict[str, Any]):
    assert_companions_do_not_matter(given, 7)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("n_together", [1, 2])
def test_groups_of_pairs_of_any_size(given: dict[str, Any], n_together: int):
    assert_companions_do_not_matter(given, n_together)
