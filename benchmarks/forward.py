"""What reading a model costs beyond running it."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from benchmarks.table import Goal, Table, digits
from probekit.model.harvest import Block, harvest
from probekit.model.hooked_model import load_hooked_model
from probekit.probes.lists import token_lists
from probekit.probes.moments import Moments
from probekit.probes.pairs import LabelColumns, all_pairs
from probekit.probes.sums import ListSums
from probekit.probes.tiles import TILE, retile
from probekit.text.tokens import Tokens

CONTEXT, BATCH, N_TILES = 128, 8, 3
N_CONCEPTS, N_ACTIVE, N_PAIRS = 200, 6, 2_000


def gpt2_small():
    """The body of a model of GPT-2-small's shape with random weights: what it computes does not change the time."""
    from transformers import GPT2Config, GPT2LMHeadModel

    generator = torch.random.get_rng_state()
    try:
        return GPT2LMHeadModel(GPT2Config(attn_implementation="sdpa")).eval()
    finally:
        torch.random.set_rng_state(generator)


def _each(steps: Iterable[object]) -> list[float]:
    """Processor seconds of every step."""
    gc.collect()
    seconds, start = [], time.process_time()
    for _ in steps:
        now = time.process_time()
        seconds.append(now - start)
        start = now
    return seconds


def _flat(block: Block) -> tuple[torch.Tensor, ...]:
    return tuple(site for pair in block.sites.values() for site in pair)


def run(*, quick: bool) -> Table:  # noqa: C901
    """The table."""
    rng = np.random.default_rng(0)
    body = gpt2_small().transformer
    hooked = load_hooked_model(gpt2_small(), device="cpu")
    n_docs = N_TILES * TILE // CONTEXT
    ids = rng.integers(0, 50_000, (n_docs, CONTEXT)).astype(np.int32)
    tokens = Tokens(ids=ids, lengths=np.full(n_docs, CONTEXT), bos_id=None, name="random")
    layers = list(range(hooked.n_layers))
    labels = LabelColumns.from_dense(rng.random((TILE, N_CONCEPTS)) < N_ACTIVE / N_CONCEPTS)
    pairs = all_pairs(N_CONCEPTS)[rng.choice(N_CONCEPTS * (N_CONCEPTS - 1) // 2, N_PAIRS, replace=False)]
    chosen = {"labels": np.zeros((0, 2), np.int32), "sums": pairs, "gram": pairs}
    # every layer has sums of its own, made once for all tiles
    streams: dict[str, dict[int, ListSums] | dict[int, Moments]] = {
        name: {layer: ListSums(1, len(chosen[name]) + N_CONCEPTS, hooked.d_mlp) for layer in layers}
        for name in ("labels", "sums")
    }
    streams["gram"] = {layer: Moments(hooked.d_mlp, N_CONCEPTS, pairs=pairs) for layer in layers}

    def bare() -> Iterator[None]:
        for tile in range(N_TILES):
            with torch.inference_mode():
                for first in range(tile * TILE // CONTEXT, (tile + 1) * TILE // CONTEXT, BATCH):
                    body(torch.from_numpy(ids[first : first + BATCH].astype(np.int64)), use_cache=False)
            yield

    def tiles() -> Iterator[tuple[torch.Tensor, ...]]:
        blocks = harvest(hooked, tokens, np.arange(n_docs), layers, batch_docs=BATCH)
        for _, columns in retile(map(_flat, blocks)):
            yield columns

    def add(name: str, columns: tuple[torch.Tensor, ...]) -> None:
        lists = token_lists(labels, chosen[name])
        for layer, neurons in zip(layers, columns[1::2], strict=True):
            stream = streams[name][layer]
            if isinstance(stream, Moments):
                stream.add_tile(neurons, lists)
            else:
                stream.add(neurons.numpy(), lists)

    spent: dict[str, list[float]] = {name: [] for name in ("bare", "first", "read", *chosen)}
    for round_ in range(2 if quick else 6):
        found: dict[str, list[float]] = {name: [] for name in spent}
        found["bare"] = _each(bare())
        first, *found["read"] = _each(tiles())
        found["first"] = [first]
        for columns in tiles():
            for name in chosen:
                start = time.process_time()
                add(name, columns)
                found[name].append(time.process_time() - start)
        if round_:  # the round that compiles does not count
            for name, seconds in found.items():
                spent[name] += seconds
    base, first, read, *added = (float(np.median(seconds)) / TILE for seconds in spent.values())
    each = dict(zip(chosen, added, strict=True))
    table = Table(
        "harvest",
        "Reading a model against running it",
        f"A model of GPT-2-small's shape (12 layers, 768, 3,072; random weights), passes of {N_TILES} tiles of {TILE:,} "
        f"tokens in rows of {CONTEXT}, {BATCH} documents a forward, fp32. The bare forward is `transformers`' GPT2Model "
        "with its fused attention: no cache, no unembedding. Ours reads MLP inputs and neurons of all twelve layers, "
        "gathers them into tiles, and stops before the last output projection. A pass makes the memory of its tiles with "
        f"the first, which is told apart. Sums: {N_CONCEPTS} concepts, {N_ACTIVE} a token, {N_PAIRS:,} pairs, of the "
        "neurons of every layer, each with sums of its own; they are timed apart from the reading, tile by tile. Nothing "
        "is kept: 0 bytes of activations on disk, where a cache of the neurons would take 144 KiB a token. One thread, "
        "processor time, medians of tiles.",
        ["what", "tokens a second", "× the bare forward"],
    )
    for told, seconds in (
        ("bare forward, `transformers`", base),
        ("**all layers read**", read),
        ("**… first tile of a pass**", first),
        ("**… and the sums of concepts**", read + each["labels"]),
        ("**… and the sums of concepts and pairs**", read + each["sums"]),
        ("**… and Gram matrices (moments whole)**", read + each["gram"]),
    ):
        table.rows.append([told, digits(1 / seconds), round(seconds / base, 3)])
    share = round(each["labels"] / base, 3)
    together = round((read + each["labels"]) / base, 3)
    table.goals = [
        Goal("label sums, share of the bare forward", 0.05, share, at_most=True),
        Goal("reading and label sums, × the bare forward", 1.05, together, at_most=True),
    ]
    n_weights = sum(
        p.numel() for name, p in body.named_parameters() if "wte" not in name and "wpe" not in name
    )
    table.rates["forward_flops"] = 2 * n_weights / read
    return table
