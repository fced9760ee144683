"""What reading a model costs beyond running it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.table import Goal, Table, digits
from benchmarks.timing import in_turns
from probekit.model.harvest import Block, harvest
from probekit.model.host import load_host
from probekit.probes.moments import Moments
from probekit.probes.pairs import LabelColumns, all_pairs
from probekit.probes.tiles import TILE, add_segments, retile, segments
from probekit.text.tokens import Tokens

CONTEXT, BATCH = 128, 8
N_CONCEPTS, N_ACTIVE, N_PAIRS = 200, 6, 2_000


def gpt2_small():
    """The body of a model of GPT-2-small's shape with random weights: what it computes does not change the time."""
    from transformers import GPT2Config, GPT2LMHeadModel

    generator = torch.random.get_rng_state()
    try:
        return GPT2LMHeadModel(GPT2Config(attn_implementation="sdpa")).eval()
    finally:
        torch.random.set_rng_state(generator)


def _neurons(block: Block) -> tuple[torch.Tensor, ...]:
    return tuple(h for _, h in block.sites.values())


def run(*, quick: bool) -> Table:
    """The table."""
    rng = np.random.default_rng(0)
    body = gpt2_small().transformer
    host = load_host(gpt2_small(), device="cpu")
    n_docs = TILE // CONTEXT
    ids = rng.integers(0, 50_000, (n_docs, CONTEXT)).astype(np.int32)
    tokens = Tokens(ids=ids, lengths=np.full(n_docs, CONTEXT), bos_id=None, name="random")
    layers = list(range(host.n_layers))
    labels = LabelColumns.from_dense(rng.random((TILE, N_CONCEPTS)) < N_ACTIVE / N_CONCEPTS)
    pairs = all_pairs(N_CONCEPTS)[rng.choice(N_CONCEPTS * (N_CONCEPTS - 1) // 2, N_PAIRS, replace=False)]
    none = np.zeros((0, 2), np.int32)
    fold = np.zeros(TILE, np.int64)

    def bare() -> None:
        with torch.inference_mode():
            for first in range(0, n_docs, BATCH):
                body(torch.from_numpy(ids[first : first + BATCH].astype(np.int64)), use_cache=False)

    def tiles() -> Iterator[dict[int, torch.Tensor]]:
        blocks = harvest(host, tokens, np.arange(n_docs), layers, batch_docs=BATCH)
        for _, columns in retile(map(_neurons, blocks)):
            yield dict(zip(layers, columns, strict=True))

    def read() -> None:
        for _ in tiles():
            pass

    def of_layers(n_lists: int) -> dict[int, np.ndarray]:
        return {layer: np.zeros((1, n_lists, host.d_mlp)) for layer in layers}

    # every layer has sums of its own, made once for all tiles
    held = {"labels": of_layers(N_CONCEPTS), "sums": of_layers(N_PAIRS + N_CONCEPTS)}
    streams = {layer: Moments(host.d_mlp, N_CONCEPTS, pairs=pairs) for layer in layers}

    inside: dict[str, list[float]] = {"labels": [], "sums": [], "gram": []}

    def sums(name: str, chosen: np.ndarray) -> None:
        spent = 0.0
        for tile in tiles():
            start = time.process_time()
            lists = segments(labels, chosen)
            for layer, neurons in tile.items():
                if name == "gram":
                    streams[layer].add_tile(neurons, fold, *lists)
                else:
                    add_segments(neurons.numpy(), fold, *lists, held[name][layer])
            spent += time.process_time() - start
        inside[name].append(spent)

    n_tokens = tokens.n_tokens
    times = in_turns(
        {
            "bare": (bare, n_tokens),
            "read": (read, n_tokens),
            "labels": (lambda: sums("labels", none), n_tokens),
            "sums": (lambda: sums("sums", pairs), n_tokens),
            "gram": (lambda: sums("gram", pairs), n_tokens),
        },
        n_rounds=1 if quick else 5,
    )
    base, read_time = times["bare"].each, times["read"].each
    # what sums add is a few per cent of passes that vary by as much: it is timed inside them, the first one left out
    added = {name: float(np.median(spent[1:])) / n_tokens for name, spent in inside.items()}
    each = {"bare": base, "read": read_time} | {name: read_time + more for name, more in added.items()}
    table = Table(
        "harvest",
        "Reading a model against running it",
        f"A model of GPT-2-small's shape (12 layers, 768, 3,072; random weights), {n_tokens:,} tokens in rows of "
        f"{CONTEXT}, "
        f"{BATCH} documents a forward, fp32, one tile of sums. The bare forward is `transformers`' GPT2Model with its fused "
        "attention: no cache, "
        "no unembedding. Ours reads MLP inputs and neurons of all twelve layers in one pass and stops before the "
        "last output "
        f"projection; sums: {N_CONCEPTS} concepts, {N_ACTIVE} a token, {N_PAIRS:,} pairs, in every layer, each with "
        "sums of its own; what sums add is timed inside the pass. Nothing is kept: 0 "
        "bytes of activations on disk, where a cache of the neurons would take 144 KiB a token. One thread, "
        "processor time.",
        ["what", "tokens a second", "× the bare forward"],
    )
    for name, told in (
        ("bare", "bare forward, `transformers`"),
        ("read", "**all layers read**"),
        ("labels", "**… and the sums of concepts**"),
        ("sums", "**… and the sums of concepts and pairs**"),
        ("gram", "**… and Gram matrices (moments whole)**"),
    ):
        table.rows.append([told, digits(1 / each[name]), round(each[name] / base, 3)])
    table.goals = [
        Goal("reading and label sums, × the bare forward", 1.05, round(each["labels"] / base, 3), at_most=True),
        Goal("label sums alone, share of the bare forward", 0.05, round(added["labels"] / base, 3), at_most=True),
    ]  # fmt: skip
    n_weights = sum(
        p.numel() for name, p in body.named_parameters() if "wte" not in name and "wpe" not in name
    )
    table.rates["forward_flops"] = 2 * n_weights / times["read"].each
    return table
