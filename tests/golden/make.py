"""Make a golden run directory with the probekit that is installed: python tests/golden/make.py tests/golden/v4

test_golden.py opens it with the current code; a released format is kept for ever. The report and figures are
left out: they are derived.
"""

# ruff: noqa: E501 - tables are read along their rows

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from probekit.analysis.api import analyze_arrays

torch.set_num_threads(1)


def main(out: Path) -> None:
    """A random ReLU layer of 48 neurons on ten concepts, with three planted ANDs of eight neurons each; q so large that some pairs
    are called computed, whatever they are: this is about the format.
    """
    rng = np.random.default_rng(42)
    labels = rng.random((5_000, 10)) < 0.35
    inputs = labels + 0.2 * rng.standard_normal((5_000, 10))
    w_in, b_in = rng.standard_normal((48, 10)), 0.1 * rng.standard_normal(48)
    for pair in range(3):  # several neurons that fire on A and B together
        rows = slice(8 * pair, 8 * pair + 8)
        w_in[rows] = 0.05 * rng.standard_normal((8, 10))
        w_in[rows, 2 * pair : 2 * pair + 2] = 2.0
        b_in[rows] = -3.0
    analyze_arrays(
        np.maximum(inputs @ w_in.T + b_in, 0), labels, np.arange(5_000) // 20, inputs=inputs, weights=(w_in, b_in),
        names=list("abcdefghij"), twins=12, q=0.7, min_support=20, out=out, progress=False,
    )  # fmt: skip
    shutil.rmtree(out / "figures")
    (out / "report.html").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
