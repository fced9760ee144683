"""Compiled loops call the linear algebra in one thread each, and the caller's number of threads comes back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import scipy.linalg.cython_blas  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
from threadpoolctl import threadpool_info, threadpool_limits

from probekit.probes.workers import one_blas_thread


def threads_of_blas() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_one_thread_inside_and_the_callers_number_afterwards() -> None:
    with threadpool_limits(2, user_api="blas"):
        assert threads_of_blas() == {2}  # the control: there is a number to be changed
        with one_blas_thread:
            with one_blas_thread:
                assert threads_of_blas() == {1}
            assert threads_of_blas() == {1}
        assert threads_of_blas() == {2}
        with pytest.raises(ZeroDivisionError), one_blas_thread:
            _ = 1 / 0
        assert threads_of_blas() == {2}


def test_the_last_thread_to_leave_gives_the_number_back() -> None:
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with one_blas_thread:
            inside.set()
            leave.wait(10)

    # under nobody's limit: what one thread has limited with threadpoolctl another one cannot change (3.6, OpenBLAS 0.3.30)
    before = threads_of_blas()
    if before == {1}:
        pytest.skip("one thread to begin with")
    other = threading.Thread(target=stay)
    other.start()
    assert inside.wait(10)
    with one_blas_thread:
        pass
    # somebody is still inside: given back now, his products would start threads of their own
    assert threads_of_blas() == {1}
    leave.set()
    other.join()
    assert threads_of_blas() == before


SCRIPT = """
import contextlib
import numpy as np, torch
import probekit.probes.refit as refit
from probekit.probes.pairs import LabelColumns, sample_tokens
if {unguarded}:
    refit.one_blas_thread = contextlib.nullcontext()
rng = np.random.default_rng(0)
labels = rng.random((20_000, 6)) < 0.3
columns = LabelColumns.from_dense(labels)
pairs = np.array([[0, 1], [2, 3], [4, 5]] * 8)
order = rng.integers(0, 2**63, 20_000).astype(np.uint64)
sample = sample_tokens(columns, pairs, np.arange(20_000) // 20, order, limit=2_000)
rows = rng.standard_normal((20_000, 128)).astype(np.float32)
support = np.tile(np.arange({k}), (len(pairs), 1))
moments = refit.BalancedMoments(support, torch.zeros(128), sample)
low, high = sample.between(0, 20_000)
moments.add_tile(np.ascontiguousarray(rows.T), 0, low, high)
"""


def warnings_of(*, unguarded: bool) -> int:
    """Warnings of OpenBLAS while a readout's moments are summed by two threads."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment |= {
        "NUMBA_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{unguarded}", str(unguarded)).replace("{k}", "64")],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stderr.count("OpenBLAS Warning")


@pytest.mark.sweep
def test_no_product_of_a_compiled_loop_warns_that_it_may_hang() -> None:
    assert warnings_of(unguarded=False) == 0
    if not warnings_of(unguarded=True):
        pytest.skip("this build of OpenBLAS does not warn")
