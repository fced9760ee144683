"""One analysis on a Ray cluster of one core and of two, in turns: elapsed time, and the tables bit for bit.

    python benchmarks/cluster.py                       # two layers of SmolLM2-135M, two rounds
    python benchmarks/cluster.py --layers 3 --rounds 1

Both clusters are of this machine, with workers of one core. Every worker loads the model for itself, and a cluster takes
seconds to start: what is timed is the analysis on a cluster that has made one small run already, as a cluster in use has.
Writes results/cluster/smollm2.json.
"""

from __future__ import annotations

import os

# one thread a task, said before the libraries ask
for variable in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
    os.environ[f"{variable}_NUM_THREADS"] = "1"

import argparse  # noqa: E402
import json  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import ray  # noqa: E402

import probekit as pk  # noqa: E402
from benchmarks.whole_run import model_folder  # noqa: E402
from probekit.storage.store import write_json  # noqa: E402

RESULTS = Path(__file__).parent / "results"


def on_cluster(n_cores: int, options: dict[str, Any], layers: list[int]) -> tuple[float, pk.Run]:
    """Elapsed seconds on a cluster of so many cores, and the run."""
    ray.init(num_cpus=n_cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        # models are loaded and kernels read by as many workers as there are cores
        pk.analyze(**(options | {"max_tokens": 12_000, "max_pairs": 20, "twins": 8}), layers=layers[:1])
        begun = time.monotonic()
        run = pk.analyze(**options, layers=layers)
        return time.monotonic() - begun, run
    finally:
        ray.shutdown()


def main() -> None:
    """One core and two in turns."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 15])
    parser.add_argument("--tokens", type=int, default=30_000)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--twins", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="cluster-") as held:
        options: dict[str, Any] = {
            "model": model_folder("smollm2", Path(held) / "model"), "corpus": "docs", "max_tokens": asked.tokens,
            "max_pairs": asked.pairs, "twins": asked.twins, "engine": "ray", "progress": False,
        }  # fmt: skip
        runs: dict[int, pk.Run] = {}
        for _ in range(asked.rounds):
            for n_cores in (1, 2):
                took, runs[n_cores] = on_cluster(n_cores, options, asked.layers)
                seconds[n_cores].append(round(took, 1))
                print(n_cores, "cores:", seconds[n_cores][-1], "s", flush=True)
        same = all(runs[1].pairs(layer).equals(runs[2].pairs(layer)) for layer in asked.layers)
    ratio = float(np.median(seconds[1]) / np.median(seconds[2]))
    record = {"settings": vars(asked), "seconds": seconds, "ratio": ratio, "same_tables": same}
    write_json(RESULTS / "cluster" / "smollm2.json", record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
