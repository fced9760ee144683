"""The speeds of one core that the planning page multiplies: a few seconds, at the width of GPT-2-small."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.selection import K
from benchmarks.table import Table, digits
from benchmarks.timing import in_turns
from probekit.probes.lists import token_lists
from probekit.probes.moments import Moments
from probekit.probes.pairs import LabelColumns, all_pairs
from probekit.probes.select import forward_select
from probekit.probes.sums import ListSums
from probekit.probes.tiles import TILE

N_NEURONS, N_CONCEPTS, N_ACTIVE, N_PAIRS = 3_072, 200, 6, 1_000


def run(*, quick: bool) -> Table:
    """The table."""
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.standard_normal((TILE, N_NEURONS), dtype=np.float32)).relu()
    pairs = all_pairs(N_CONCEPTS)[rng.choice(N_CONCEPTS * (N_CONCEPTS - 1) // 2, N_PAIRS, replace=False)]
    labels = LabelColumns.from_dense(rng.random((TILE, N_CONCEPTS)) < N_ACTIVE / N_CONCEPTS)
    stream = Moments(N_NEURONS, N_CONCEPTS, pairs=pairs)
    lists = token_lists(labels, pairs)
    none = token_lists(LabelColumns.from_dense(np.zeros((TILE, N_CONCEPTS), bool)), pairs)
    sums = ListSums(1, N_PAIRS + N_CONCEPTS, N_NEURONS)
    stream.add_tile(rows, lists)
    frozen = stream.finalize()
    times = in_turns(
        {
            "product": (lambda: rows.T @ rows, 1),
            "gram": (lambda: stream.add_tile(rows, none), 1),
            "pairs": (lambda: sums.add(rows.numpy(), token_lists(labels, pairs)), 1),
            "selection": (lambda: forward_select(frozen, K), N_PAIRS),
        },
        n_rounds=1 if quick else 3,
    )
    square = 2.0 * TILE * N_NEURONS**2
    table = Table(
        "rates",
        "Speeds of one core",
        f"{N_NEURONS:,} neurons, a tile of {TILE:,} tokens, {N_CONCEPTS} concepts of which {N_ACTIVE} hold at a token, "
        f"{N_PAIRS:,} pairs, k = {K}. What `python -m benchmarks.plan` multiplies, beside the forward of the harvest "
        "table. One thread, processor time.",
        ["what", "speed"],
    )
    table.rates = {
        "product_flops": square / times["product"].each,
        "gram_flops": square / times["gram"].each,
        "pair_additions": len(lists.tokens) * N_NEURONS / times["pairs"].each,
        "selection_seconds": times["selection"].each / N_NEURONS,
    }
    table.rows = [
        ["fp32 product, GFLOP/s", digits(table.rates["product_flops"] / 1e9)],
        ["Gram matrix, GFLOP/s of the whole square", digits(table.rates["gram_flops"] / 1e9)],
        ["pair sums, G additions/s", digits(table.rates["pair_additions"] / 1e9)],
        [f"path of {K} neurons, ms a pair", digits(times["selection"].each * 1e3)],
    ]
    return table
