"""The tiny job of the fault tests: one ReLU layer, 64 neurons, 12 concepts, 2,400 tokens, two tiles a half, four twins.

Run in a process of its own with one thread, so that it can be forked; the model library is never loaded.
"""

from __future__ import annotations

import os

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NUMBA_THREADING_LAYER"] = "workqueue"  # the one layer that survives a fork without OpenMP

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probekit.analysis import passes
from probekit.analysis.api import analyze_arrays
from probekit.results import publish
from probekit.results.run import Run
from probekit.storage import checkpoint

torch.set_num_threads(1)

N_TOKENS, N_CONCEPTS, N_NEURONS, TILE = 2_400, 12, 64, 640


def arrays(seed: int = 0) -> dict[str, Any]:
    """A random ReLU layer on independent concepts."""
    rng = np.random.default_rng(seed)
    labels = rng.random((N_TOKENS, N_CONCEPTS)) < 0.3
    inputs = labels + 0.3 * rng.standard_normal((N_TOKENS, N_CONCEPTS))
    w_in, b_in = rng.standard_normal((N_NEURONS, N_CONCEPTS)), 0.1 * rng.standard_normal(N_NEURONS)
    return {
        "neurons": np.maximum(inputs @ w_in.T + b_in, 0), "labels": labels, "docs": np.arange(N_TOKENS) // 25,
        "inputs": inputs, "weights": (w_in, b_in),
    }  # fmt: skip


GIVEN = arrays()


def run_job(out: Path, *, seed: int = 0, force: bool = False) -> Run:
    """The whole of it: three passes, twins, decisions, tables, report."""
    return analyze_arrays(
        **GIVEN, twins=4, max_pairs=12, min_support=20, seed=seed, out=out, force=force, progress=False
    )


def keep_after_every_tile() -> None:
    """Small tiles, and the running sums kept after each: every kind of write happens."""
    passes.TILE = TILE
    checkpoint.SHARE = math.inf


def draw_once() -> None:
    """Draw the same report only once: a sweep makes the same one hundreds of times, and drawing is most of the job."""
    publish.figures = _remembered(publish.figures)
    publish.render_page = _remembered(publish.render_page)


def _remembered(draw: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[str, Any] = {}

    def once(*args: Any, **options: Any) -> Any:
        key = json.dumps([args, options], sort_keys=True, default=_spelled)
        if key not in known:
            known[key] = draw(*args, **options)
        return known[key]

    return once


def _spelled(value: Any) -> Any:
    return value.to_json(double_precision=15) if hasattr(value, "to_json") else repr(value)


def files(folder: Path) -> dict[str, str]:
    """blake2b of every file below a folder, LOCK and debris included."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file()) if folder.exists() else ()
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        for path in found
    }
