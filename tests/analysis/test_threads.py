"""A run computes with as many threads as its record says, and leaves its caller what it found.

Numba's first launch sets the thread count of the runtime that torch shares with it, so these go through fresh processes.
(Torch sets the count that was asked for when it is first used, so the trap only springs where torch was used before.)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from probekit.analysis.threads import computing_with

SCRIPT = """
import json, sys
import numpy as np, torch
torch.set_num_threads(1)
assert torch.get_num_threads() == 1
import probekit as pk

seen = []
def watch(what, done, total):
    seen.append(torch.get_num_threads())

rng = np.random.default_rng(0)
labels = rng.random((2000, 4)) < 0.3
inputs = labels + 0.3 * rng.standard_normal((2000, 4))
w_in = rng.standard_normal((12, 4))
call = dict(
    neurons=np.maximum(inputs @ w_in.T, 0), labels=labels, docs=np.repeat(np.arange(100), 20), inputs=inputs,
    weights=(w_in, np.zeros(12)), twins=4, min_support=10, max_pairs=4, controls=(), spikes=(), progress=watch,
)
{what}
"""
LAUNCH = "torch.get_num_threads(); import numba; numba.get_num_threads(); print(json.dumps(torch.get_num_threads()))"
RUN = (
    "pk.analyze_arrays(**call, out=sys.argv[1])\n"
    "print(json.dumps([sorted(set(seen)), torch.get_num_threads(), pk.load(sys.argv[1]).record['threads']]))"
)
PROBE = "pk.SparseProbe(k=2).fit(call['neurons'], labels[:, 0]); print(json.dumps(torch.get_num_threads()))"
MOMENTS = "pk.Moments(12, 4); print(json.dumps(torch.get_num_threads()))"


def told(what: str, out: Path) -> Any:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"NUMBA_NUM_THREADS": "2", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{what}", what), str(out)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: there is no other count to fall into")
class TestFreshProcess:
    def test_the_trap_is_real(self, tmp_path: Path) -> None:
        """The control: numba's start does raise torch's count from 1 to 2."""
        count = told(LAUNCH, tmp_path)
        if count == 1:  # torch reads its count late in some processes, and then nothing is to be seen
            pytest.skip("numba's start did not raise torch's count in this process")
        assert count == 2

    def test_a_run_computes_with_the_count_it_records_and_the_caller_keeps_its_own(
        self, tmp_path: Path
    ) -> None:
        assert told(RUN, tmp_path / "run") == [[1], 1, 1]

    @pytest.mark.parametrize(
        "what",
        [
            pytest.param(PROBE, id="SparseProbe", marks=pytest.mark.sweep),
            pytest.param(MOMENTS, id="Moments", marks=pytest.mark.slow),
        ],
    )
    def test_so_does_whoever_probes_without_a_run(self, what: str, tmp_path: Path) -> None:
        assert told(what, tmp_path) == 1


def test_the_count_comes_back_also_when_the_work_fails() -> None:
    from threadpoolctl import threadpool_info

    def blas() -> list[int]:
        return [int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"]

    here, before = torch.get_num_threads(), blas()
    inside: list[int] = []

    def failing() -> None:
        with computing_with(here + 1):
            inside.append(torch.get_num_threads())
            raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        failing()
    assert inside == [here + 1]
    assert (torch.get_num_threads(), blas()) == (here, before)


def test_a_task_on_a_worker_gives_the_counts_back() -> None:
    import numba

    from probekit.analysis.backends import _threads

    here = torch.get_num_threads(), numba.get_num_threads()
    with _threads(1):
        assert (torch.get_num_threads(), numba.get_num_threads()) == (1, 1)
    assert (torch.get_num_threads(), numba.get_num_threads()) == here
