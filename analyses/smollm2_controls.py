"""Controls of the study of SmolLM2's layers: concepts that mean nothing, and more directions taken out.

    python analyses/smollm2_controls.py bundle results --layers 0 15 --out results/controls

*Scrambled*: every concept that says something of one token by itself (a class, such as prepositions) is dealt anew to token
types of like frequency, eight neighbours in rank among themselves; the pairs, their lags and their numbers of tokens stay
nearly the same, and what they mean is gone. A layer that lifts such pairs over its null layers does so for another reason
than that it combines what the concepts say. *Directions*: the pairs above null layers once more with 16 and 32 directions
of the input taken out in place of 8, for ANDs that are relayed along many of them. Reads the bundle and the tables of
remote_layers.py.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import remote_layers as remote
import torch

BIN = 8
"""Neighbours in rank of frequency among which a type's classes are dealt anew."""


def scrambled(
    held: Any, counted: np.ndarray, names: list[str], lags: list[int], by_token: list[bool], seed: int
) -> Any:
    """The labels with every concept of one token dealt anew, as columns; the other concepts as they are."""
    from probekit.probes.pairs import LabelColumns

    rng = np.random.default_rng(seed)
    ids = held["ids"].astype(np.int64)
    row, pos = np.nonzero(counted)
    n_types = int(ids.max()) + 1
    order = np.argsort(-np.bincount(ids[counted], minlength=n_types), kind="stable")
    ends, columns = [0], []
    for concept in range(len(names)):
        tokens = held["tokens"][held["indptr"][concept] : held["indptr"][concept + 1]]
        if by_token[concept]:
            back = pos - lags[concept]
            types = np.where(back >= 0, ids[row, np.maximum(back, 0)], -1)
            member = np.zeros(n_types, bool)
            member[types[tokens]] = True
            stand_in = np.empty(n_types, np.int64)
            for first in range(0, n_types, BIN):
                stand_in[order[first : first + BIN]] = rng.permutation(order[first : first + BIN])
            tokens = np.flatnonzero((types >= 0) & member[stand_in[np.maximum(types, 0)]]).astype(np.int32)
        columns.append(tokens)
        ends.append(ends[-1] + len(tokens))
    return LabelColumns(np.array(ends), np.concatenate(columns).astype(np.int32), int(counted.sum()))


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--text", default="wikitext")
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 15])
    parser.add_argument("--directions", type=int, nargs="*", default=[16, 32])
    parser.add_argument("--most", type=int, default=400, help="scrambled pairs of a layer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Forward once, then every control of every layer."""
    from probekit.analysis.design import LabelledTokens, plan
    from probekit.analysis.settings import Settings
    from probekit.evidence.pair_sampling import PairSampling
    from probekit.model.weights import MlpWeights
    from probekit.probes import interaction
    from probekit.probes.pairs import LabelColumns

    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    held = np.load(options.bundle / f"text-{options.text}.npz")  # noqa: TID251
    names, kinds, lags, by_token = json.loads(str(held["names"]))
    counted = np.unpackbits(held["counted"])[: held["ids"].size].reshape(held["ids"].shape).astype(bool)
    model = remote.llama(options.bundle, max(options.layers) + 1)
    inputs = remote.mlp_inputs(model, held["ids"], counted, options.layers, "cpu")
    print(f"forwarded, {time.monotonic() - start:.0f} s", flush=True)
    real = LabelColumns(held["indptr"], held["tokens"], int(counted.sum()))
    meaningless = scrambled(held, counted, names, lags, by_token, options.seed)
    place = {name: index for index, name in enumerate(names)}

    def measure(tag: str, layer: int, columns: LabelColumns, pairs: list[tuple[str, str]]) -> None:
        tag = tag if options.text == "wikitext" else f"{options.text}.{tag}"
        if (options.out / f"{tag}.json").exists():
            return
        settings = Settings(
            max_tokens=int(counted.sum()),
            max_pairs=len(pairs),
            twins=20,
            seed=0,
            spikes=(),
            controls=(),
            twin_ks=(16,),
        )
        labelled = LabelledTokens(
            columns, held["doc"], held["pos"], held["keys"], names, kinds, lags, held["types"], by_token
        )
        design = plan(labelled, settings, PairSampling.of(pairs))
        mlp = model.layers[layer].mlp
        weights = MlpWeights.from_arrays(
            mlp.up_proj.weight, None, w_gate=mlp.gate_proj.weight, activation="silu", bits=5
        )
        words = labelled.pair_kinds(design.pairs)
        remote.measure_one(tag, layer, inputs[layer], weights, design, names, words, options.out)
        print(f"{tag}: {time.monotonic() - start:.0f} s", flush=True)

    for layer in options.layers:
        table = pd.read_parquet(options.results / f"{options.text}-{layer:02d}.parquet")
        tested = list(zip(table["a"], table["b"], strict=True))
        of_tokens = [(a, b) for a, b in tested if by_token[place[a]] and by_token[place[b]]]
        chosen = np.random.default_rng(options.seed).permutation(len(of_tokens))[: options.most]
        measure(f"scrambled-{layer:02d}", layer, meaningless, [of_tokens[i] for i in sorted(chosen)])
        above = [pair for pair, flag in zip(tested, table["above_twins"], strict=True) if flag]
        for n in options.directions:
            kept = interaction.MOST_DIRECTIONS
            interaction.MOST_DIRECTIONS = n
            try:
                measure(f"directions{n}-{layer:02d}", layer, real, above)
            finally:
                interaction.MOST_DIRECTIONS = kept


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
