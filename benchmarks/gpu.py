"""The exhaustive job on an accelerator: one layer of GPT-2-small's width, every pair of the concepts.

Never run on a GPU so far. With `--quick` and no accelerator a small size goes through the same code on the processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.selection import K
from benchmarks.table import Goal, Table, digits
from probekit.probes.device import DeviceSums, list_sums
from probekit.probes.lists import token_lists
from probekit.probes.moments import Moments
from probekit.probes.pairs import LabelColumns
from probekit.probes.select import forward_select
from probekit.probes.tiles import TILE

N_LAYERS = 12
FULL = {"n_neurons": 3_072, "n_tokens": 1_000_000, "n_concepts": 1_000, "n_active": 10}
SMALL = {"n_neurons": 128, "n_tokens": 2 * TILE, "n_concepts": 40, "n_active": 4}


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Elapsed seconds, with the device's queue empty before and after."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run(*, quick: bool) -> Table:
    """The table.

    Raises:
        SystemExit: there is no accelerator, and the full size was asked for.
    """
    if not torch.cuda.is_available() and not quick:
        raise SystemExit("gpu: no accelerator here; --quick runs a small size on the processor.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = SMALL if quick else FULL
    n, n_tokens, n_concepts = size["n_neurons"], size["n_tokens"], size["n_concepts"]
    rng = np.random.default_rng(0)
    generator = torch.Generator(device).manual_seed(0)
    rows = torch.randn((TILE, n), device=device, generator=generator).relu()
    truth = rng.random((TILE, n_concepts)) < size["n_active"] / n_concepts
    moments = Moments(n, n_concepts)
    lists = token_lists(LabelColumns.from_dense(truth), moments.pairs)
    n_tiles = n_tokens // TILE
    if device.type == "cpu":
        moments._there = DeviceSums(moments._gram, moments._total, moments._sums, device)
        moments._add_here = moments._there.add  # the accelerator's code, here
    moments.add_tile(rows, lists)  # compiles, and takes the memory
    whole = _seconds(lambda: [moments.add_tile(rows, lists) for _ in range(n_tiles)], device)
    gemm = _seconds(lambda: [rows.T @ rows for _ in range(20)], device) / 20
    own = lists.of_fold(0)
    list_sums(rows, *own)
    pair_sums = _seconds(lambda: [list_sums(rows, *own) for _ in range(5)], device) / 5
    square = torch.empty(2**26 if not quick else 2**20, device=device)
    copy = _seconds(lambda: [square.clone() for _ in range(20)], device) / 20
    bandwidth = 2 * 4 * square.numel() / copy
    frozen = moments.finalize()
    forward_select(frozen, K, device=device)
    selection = _seconds(lambda: forward_select(frozen, K, device=device), device)
    agree = float((forward_select(frozen, K, device=device) == forward_select(frozen, K)).all(1).mean())
    seconds = N_LAYERS * (whole + selection)
    read = 4.0 * n * len(own[1]) + 16.0 * n * (len(own[0]) - 1)
    table = Table(
        "gpu",
        "The exhaustive job on an accelerator",
        f"{torch.cuda.get_device_name() if device.type == 'cuda' else 'the processor'}: {n:,} neurons, "
        f"{n_tokens:,} tokens, "
        f"{n_concepts:,} concepts of which {size['n_active']} hold at a token, all {len(moments.pairs):,} pairs, "
        f"k = {K}, fp32 "
        "products and fp64 sums. One layer is measured, twelve are its twelvefold; the forward of the model is "
        "not in it.",
        ["what", "seconds, one layer", "share of the ceiling measured in this run"],
        rates={},
    )
    table.rows = [
        ["pass over the tokens", digits(whole), f"{n_tiles * gemm / whole:.2f} of the product"],
        ["pair sums of it", digits(pair_sums * n_tiles), f"{read / pair_sums / bandwidth:.2f} of the bandwidth"],
        ["selection", digits(selection), "–"],
        ["paths equal to the processor’s, %", round(100 * agree, 2), "–"],
    ]  # fmt: skip
    if not quick:
        table.goals = [
            Goal("seconds, twelve layers, one site", 10.0, digits(seconds), at_most=True),
            Goal("seconds, twelve layers, a site and 20 twins", 150.0, digits(21 * seconds), at_most=True),
        ]
    return table
