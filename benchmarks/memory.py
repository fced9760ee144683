"""Peak memory of a layer's moments: the same for any number of tokens."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.table import Goal, Table, digits

N_NEURONS, N_CONCEPTS, N_PAIRS, N_FOLDS = 3_072, 64, 500, 5
_CHILD = """
import re, sys, time
from pathlib import Path
import numpy as np, torch
from probekit.probes.moments import Moments
from probekit.probes.pairs import LabelColumns, all_pairs
from probekit.probes.lists import token_lists
from probekit.probes.tiles import TILE
n_tokens, width, m, n_pairs, folds = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
rows = torch.from_numpy(rng.standard_normal((TILE, width), dtype=np.float32))
pairs = all_pairs(m)[:n_pairs]
def stream(n):
    moments = Moments(width, m, pairs=pairs, n_folds=folds)
    for start in range(0, n, TILE):
        k = min(TILE, n - start)
        labels = LabelColumns.from_dense(rng.random((k, m)) < 6 / m)
        fold = (start + np.arange(k)) // 50 % folds
        moments.add_tile(rows[:k], token_lists(labels, pairs, fold, folds))
    return moments
small = Moments(64, m, pairs=pairs, n_folds=folds)
lists = token_lists(LabelColumns.from_dense(np.ones((100, m), bool)), pairs, np.arange(100) % folds, folds)
small.add_tile(rows[:100, :64].contiguous(), lists)
def peak():
    # of this program alone: getrusage tells the peak of the process that started it where that was higher
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
before = peak()
start = time.process_time()
stream(n_tokens)
print(peak() - before, time.process_time() - start)
"""


def run(*, quick: bool) -> Table:
    """The table."""
    table = Table(
        "memory",
        "Memory of one layer",
        f"{N_NEURONS:,} neurons, {N_FOLDS} folds, {N_CONCEPTS} concepts, a block of {N_PAIRS} pairs; synthetic "
        "activations "
        "(one tile, delivered again and again). Peak of the resident set over what the process held after a "
        "first small tile "
        "had loaded and compiled everything, each in a process of its own. By arithmetic 377 MB are the Gram "
        "matrices of the "
        "folds, 69 MB the sums of pairs and concepts, the rest is one tile and its copies.",
        [
            "tokens",
            "peak beyond the start, GB",
            "processor seconds",
            "bytes of the same activations in fp16, GB",
        ],
    )
    peaks = []
    for n_tokens in (8_192, 16_384) if quick else (100_000, 1_000_000):
        sizes = (n_tokens, N_NEURONS, N_CONCEPTS, N_PAIRS, N_FOLDS)
        command = [sys.executable, "-c", _CHILD, *map(str, sizes)]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        peaks.append(int(found[0]) * 1024 / 1e9)
        table.rows.append(
            [n_tokens, digits(peaks[-1]), digits(float(found[1])), digits(2 * n_tokens * N_NEURONS / 1e9)]
        )
    table.goals = [
        Goal("GB a layer", 0.6, digits(max(peaks)), at_most=True),
        Goal("growth with ten times the tokens", 1.02, digits(peaks[1] / peaks[0]), at_most=True),
    ]
    return table
