"""Planted layers in superposition: how many of the planted ANDs are found, and called *in superposition*; and what else is.

    python analyses/superposed.py                # five circuits, half a minute of one core each

Each is `pk.circuits.net_and` set into a transformer: the channels are the lines of a square, every neuron serves
`directions` pairs and two pairs share one neuron at most. With one direction the lines are disjoint: pairs are spread,
and no neuron is shared, so nothing is in superposition (the control). Writes superposed.md.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from measured import RESULTS, table, write_page

import probekit as pk
from probekit.model.planted import plant

FLAGS = ("above_plain", "above_twins", "computed", "superposed")


def counts(seed: int, directions: int, twins: int) -> dict[str, Any]:
    """Planted and other pairs on every rung."""
    circuit = pk.circuits.net_and(directions=directions, seed=seed)
    n_active = 0.04 * circuit.n_concepts
    planted = plant(circuit, n_docs=320, n_active=n_active, noise=0.07, together=0.05, seed=seed)
    run = pk.analyze(
        planted.model, planted.corpus, concepts=planted.concepts, max_pairs=2_000, twins=twins, seed=seed
    )
    pairs, truth = run.pairs(), set(planted.truth)
    known = np.array([pair in truth for pair in zip(pairs["a"], pairs["b"], strict=True)])
    return {"tested": (int(known.sum()), int((~known).sum()))} | {
        flag: (int(pairs[flag][known].sum()), int(pairs[flag][~known].sum())) for flag in FLAGS
    }


def main() -> None:
    """All circuits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--twins", type=int, default=10)
    parser.add_argument("--out", default=str(RESULTS / "superposed.md"))
    options = parser.parse_args()
    rows: list[list[str]] = []
    for directions in (4, 1):
        for seed in range(options.seeds):
            found = counts(seed, directions, options.twins)
            rows.append([str(directions), str(seed), *(f"{a} · {b:,}" for a, b in found.values())])
            print(rows[-1], flush=True)
    heads = (
        "pairs a neuron serves",
        "seed",
        "tested: planted · others",
        *(name.replace("_", " ") for name in FLAGS),
    )
    said = (
        f"`python analyses/superposed.py --seeds {options.seeds} --twins {options.twins}`. Every cell: planted pairs · "
        "other pairs. The two concepts of a planted pair hold together at one token in twenty, besides what they do alone."
    )
    write_page(["# Planted layers in superposition", "", said, "", *table(heads, rows)], options.out)


if __name__ == "__main__":
    main()
