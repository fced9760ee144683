"""Pair sums and Gram matrices: the two sums that every token pays for."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.table import Goal, Table, digits
from benchmarks.timing import in_turns
from probekit.probes.lists import token_lists
from probekit.probes.moments import Moments
from probekit.probes.pairs import LabelColumns, all_pairs
from probekit.probes.sums import ListSums
from probekit.probes.tiles import TILE, add_gram

N_TOKENS = 2 * TILE


def pair_sums(*, quick: bool) -> Table:
    """Sums of every pair against three ways by matrix product."""
    table = Table(
        "pair_sums",
        "Sums over the tokens of every pair",
        f"{N_TOKENS:,} tokens of independent concepts (200 of them, 19,900 pairs), random activations; sums are "
        f"fp32 within a tile of {TILE:,} and fp64 above for ours, fp32 for the others. Ours includes finding the tokens of "
        "every pair, and visits the sums once for both tiles where the lists are short (6 a token); the dense product is "
        "given its 0/1 matrix of pairs (2,000 at a time, scaled to all), the gathered one its concept lists. One thread, "
        "processor time, medians.",
        ["neurons", "concepts a token", "method", "ms", "× ours"],
    )
    for n_neurons, n_active in ((512, 20), (512, 6), (3072, 20), (3072, 6)):
        _pair_sums(table, n_neurons, n_active, n_rounds=1 if quick else 9)
    return table


def _pair_sums(table: Table, n_neurons: int, n_active: int, n_rounds: int) -> None:
    rng = np.random.default_rng(0)
    n_concepts, n_block = 200, 2_000
    x = rng.standard_normal((N_TOKENS, n_neurons), dtype=np.float32)
    truth = rng.random((N_TOKENS, n_concepts)) < n_active / n_concepts
    pairs = all_pairs(n_concepts)
    tiles = [LabelColumns.from_dense(truth[t : t + TILE]) for t in range(0, N_TOKENS, TILE)]
    whole = torch.from_numpy(x)
    dense = torch.from_numpy(truth.astype(np.float32))
    block = dense[:, pairs[:n_block, 0]] * dense[:, pairs[:n_block, 1]]
    held = [np.flatnonzero(column) for column in truth.T]
    sums = ListSums(1, len(pairs) + n_concepts, n_neurons)

    def ours() -> None:
        for index, labels in enumerate(tiles):
            sums.add(x[index * TILE : (index + 1) * TILE], token_lists(labels, pairs))
        assert len(sums.strips) == 1  # all tiles are added when they are asked for

    def gathered() -> None:
        for concept, tokens in enumerate(held):
            chosen = torch.from_numpy(tokens)
            whole[chosen].T @ dense[chosen, concept + 1 :]

    def once() -> None:
        for _ in tiles:
            np.add(sums.strips, 1.0, out=sums.strips)

    times = in_turns(
        {
            "ours": (ours, 1), "once": (once, 1), "gathered": (gathered, 1), "dense": (lambda: whole.T @ block, 1),
        },
        n_rounds=n_rounds,
    )  # fmt: skip
    dense_seconds = times["dense"].each * len(pairs) / n_block
    base = times["ours"].each
    n_added = int(sum(len(token_lists(labels, pairs).tokens) for labels in tiles)) * n_neurons
    for told, seconds in (
        ("**token lists, summed**", base),
        ("for comparison: 1 added to every fp64 sum, once a tile", times["once"].each),
        ("gathered product, a concept at a time", times["gathered"].each),
        ("dense product", dense_seconds),
    ):
        table.rows.append([n_neurons, n_active, told, digits(seconds * 1e3), round(seconds / base, 1)])
    if n_neurons == 512 or n_active == 6:
        wanted = {20: 8.0, 6: 50.0}[n_active]
        table.goals.append(
            Goal(f"× the dense product at {n_active} a token, n = {n_neurons}", wanted, round(dense_seconds / base, 1))
        )  # fmt: skip
    table.rates[f"pair_additions_a_second_{n_neurons}_{n_active}"] = n_added / base


def gram(*, quick: bool) -> Table:
    """Gram matrices against the product of the same tile."""
    table = Table(
        "gram",
        "Gram matrices",
        f"One tile of {TILE:,} tokens. Ours is what a tile costs in the stream: shift, products of the upper "
        "triangle in fp32, "
        "fp64 sums, column sums, by fold. Rate: 2·tokens·n² over the time, as if the whole square had been "
        "multiplied; needed: "
        "tokens·n·(n+1), the least that a symmetric matrix takes. One thread, processor time, medians.",
        [
            "neurons",
            "method",
            "ms",
            "GFLOP/s of the square",
            "% of the product’s rate",
            "GFLOP/s needed",
            "% of the product’s rate, needed",
        ],
    )
    for n_neurons in (512, 1024, 2048, 3072):
        rows = torch.from_numpy(np.random.default_rng(0).standard_normal((TILE, n_neurons), dtype=np.float32))
        square = torch.zeros((n_neurons, n_neurons), dtype=torch.float64)
        streams = {folds: Moments(n_neurons, 2, n_folds=folds) for folds in (1, 5)}
        whole = token_lists(LabelColumns.from_dense(np.zeros((TILE, 2), bool)), all_pairs(2))
        ways = {
            "product": (lambda rows=rows: rows.T @ rows, 1),
            "sums of products": (lambda rows=rows, square=square: add_gram(rows, square), 1),
        }
        for folds, stream in streams.items():
            lists = whole if folds == 1 else whole.by_fold(np.arange(TILE) // 64 % folds, folds)
            ways[f"whole tile, {folds} fold{'s' * (folds > 1)}"] = (
                lambda stream=stream, rows=rows, lists=lists: stream.add_tile(rows, lists), 1,
            )  # fmt: skip
        times = in_turns(ways, n_rounds=3 if quick else 9)
        square_flop, needed = 2 * TILE * n_neurons**2, TILE * n_neurons * (n_neurons + 1)
        rate = square_flop / times["product"].each
        for name, time in times.items():
            each = needed if name != "product" else square_flop
            told = name if name == "product" else f"**{name}**"
            table.rows.append(
                [n_neurons, told if name != "product" else "fp32 product XᵀX (torch)", digits(time.each * 1e3),
                 digits(square_flop / time.each / 1e9), round(100 * square_flop / time.each / rate),
                 digits(each / time.each / 1e9), round(100 * each / time.each / rate)]
            )  # fmt: skip
        if n_neurons >= 1024:
            share = square_flop / times["whole tile, 1 fold"].each / rate
            table.goals.append(
                Goal(f"share of the product's rate, whole tile, n = {n_neurons}", 0.8, round(share, 2))
            )
        table.rates[f"gemm_flops_{n_neurons}"] = rate
        table.rates[f"gram_flops_{n_neurons}"] = square_flop / times["whole tile, 1 fold"].each
    return table
