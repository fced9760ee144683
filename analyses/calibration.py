"""How often the decision errs on layers whose answer is known, and how much of it it finds: calibration.md.

Four tables from synthetic layers (probekit.testing.synthetic), each through the whole machinery: planted 2-AND layers
(designated pairs, pairs that share a channel by accident, pairs of disjoint channels); the two traps (a random layer
that avoids the loud directions of its inputs, readers of single concepts); twins of planted layers put in the layer's
place, each with fresh twins of its own (any pair flagged is an error); random layers in its place (does the interval of
the excess hold 0?).

    python analyses/calibration.py --draws 300 --random 100    # what is kept: 50 minutes of one core
    python analyses/calibration.py --draws 20 --out -     # a quick look, printed
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from probekit.analysis.settings import Settings
from probekit.storage.store import write_text
from probekit.testing.synthetic import (
    Judged,
    make_plant,
    make_scene,
    plan,
    random_layer,
    reader_layer,
    run_layer,
    twin_of,
    unit_codes,
)

RESULT = Path(__file__).parent / "results" / "calibration.md"
Q = 0.05
SMALL = {"n_pairs": 12, "n_concepts": 24, "n_neurons": 160, "n_tokens": 16_000}
"""The planted layers whose twins and random stand-ins take the layer's place."""


def shares(judged: Judged, mask: np.ndarray) -> str:
    """How many of some pairs are above their twins, and computed."""
    n = int(mask.sum())
    return f"{judged.above[mask].sum()} / {n} | {judged.computed[mask].sum()} / {n}" if n else "– | –"


def planted_rows() -> Iterator[str]:
    """One row a planted layer."""
    sizes = [
        (0, {"n_pairs": 24, "n_concepts": 32, "n_neurons": 256, "n_tokens": 24_000}),
        (1, {"n_pairs": 24, "n_concepts": 32, "n_neurons": 256, "n_tokens": 24_000}),
        (2, {"n_pairs": 24, "n_concepts": 24, "n_neurons": 192, "n_tokens": 24_000}),
        (3, {"n_pairs": 24, "n_concepts": 24, "n_neurons": 192, "n_tokens": 24_000}),
        (0, {"n_pairs": 64, "n_concepts": 64, "n_neurons": 512, "n_tokens": 100_000}),
        (0, {"n_pairs": 64, "n_concepts": 64, "n_neurons": 512, "n_tokens": 100_000, "d_model": 256}),
    ]
    for seed, size in sizes:
        plant = make_plant(seed, **size)
        judged = run_layer(plant.scene, plant.weights, twins=12, seed=seed)
        designated, shared = judged.rows_of(plant.designated), judged.rows_of(plant.shared_channel)
        row = judged.result.row
        inputs = f"superposed, d = {size['d_model']}" if "d_model" in size else "basis"
        yield (
            f"| {size['n_neurons']} | {size['n_concepts']} | {inputs} | {shares(judged, designated)} | "
            f"{shares(judged, shared)} | {shares(judged, ~designated & ~shared)} | {row['n_superposed']} | "
            f"{row['n_distinct']} / {row['effective_rank']:.0f} | {row['excess_low']:.0f} … {row['excess_high']:.0f} |"
        )


def trap_rows() -> Iterator[str]:
    """One row a trap."""
    size = {"n_tokens": 24_000, "n_concepts": 40, "n_active": 4}
    for seed in (0, 1, 2):
        loud = make_scene(seed, codes=unit_codes(seed, 40, 40), n_loud=8, **size)
        layers = {"avoids loud directions": (loud, random_layer(seed, 256, 40, n_loud=8))}
        codes = unit_codes(seed, 40, 40)
        layers["single-concept readers"] = (
            make_scene(seed, codes=codes, **size),
            reader_layer(seed, 256, codes, gain=4.0),
        )
        for name, (scene, weights) in layers.items():
            judged = run_layer(scene, weights, twins=12, seed=seed)
            row = judged.result.row
            yield (
                f"| {name} | {seed} | {row['n_tested']} | {row['n_above_isotropic']} | {row['n_above_twins']} | "
                f"{row['n_computed']} | {row['share_low_p']:.3f} / {row['share_high_p']:.3f} |"
            )


@dataclass(frozen=True)
class Draw:
    """What one stand-in in the layer's place was found to do."""

    any_above: bool
    any_computed: bool
    holds: bool
    n_pairs: int
    p: dict[str, np.ndarray]

    @classmethod
    def of(cls, judged: Judged) -> Draw:
        """Keep the counts and p-values, let the measurements go."""
        row, pairs = judged.result.row, judged.result.pairs
        return cls(
            bool(judged.above.any()),
            bool(judged.computed.any()),
            row["excess_low"] <= 0 <= row["excess_high"],
            len(pairs),
            {name: pairs[name].to_numpy() for name in ("p_twin", "p_pair")},
        )


def in_place(kind: str, n_draws: int, n_twins: int) -> Iterator[str]:
    """Twins of planted layers, or random layers, in the layer's place; five planted layers in turn."""
    draws: list[Draw] = []
    for layer in range(5):
        plant = make_plant(100 + layer, **SMALL)
        design = plan(plant.scene, Settings(twins=n_twins, max_pairs=10_000, min_support=30))
        for draw in range(layer, n_draws, 5):
            stand_in = (
                twin_of(plant.weights, plant.scene, design, draw)
                if kind == "twin"
                else random_layer(1_000 + draw, SMALL["n_neurons"], SMALL["n_concepts"])
            )
            judged = run_layer(plant.scene, stand_in, twins=n_twins, seed=2_000 + draw, design=design)
            draws.append(Draw.of(judged))
    allowed = Q + 3 * np.sqrt(Q * (1 - Q) / len(draws))
    yield f"* draws: {len(draws)}, twins each: {n_twins}, tested pairs each: {draws[0].n_pairs}"
    yield (
        f"* draws with any pair above its twins: {np.mean([d.any_above for d in draws]):.3f}; with any pair computed: "
        f"{np.mean([d.any_computed for d in draws]):.3f} (q + 3 s.e. = {allowed:.3f})"
    )
    yield f"* the 95 % interval of the excess holds 0 in {np.mean([d.holds for d in draws]):.3f} of the draws"
    for name in ("p_twin", "p_pair"):
        p = np.stack([d.p[name] for d in draws])
        low = ", ".join(f"≤ {t}: {(p <= t).mean():.4f}" for t in (0.001, 0.01, 0.1))
        high = ", ".join(f"≥ 1 − {t}: {(p >= 1 - t).mean():.4f}" for t in (0.001, 0.01, 0.1))
        yield f"* share of all pairs with {name} {low}; {high}"


COLUMNS = (
    "n", "concepts", "inputs", "designated: above", "computed", "shared channel: above", "computed", "disjoint: above",
    "computed", "in superposition", "distinct / rank", "excess",
)  # fmt: skip
TRAP_COLUMNS = (
    "layer", "seed", "tested", "above isotropic twins", "above PC-sign twins", "computed", "p_pair < 0.01 / > 0.99",
)  # fmt: skip


def header(columns: tuple[str, ...]) -> Iterator[str]:
    """The two first lines of a table."""
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)


def report(n_draws: int, n_random: int, n_twins: int) -> Iterator[str]:
    """The whole page, line by line, as it is found."""
    options = f"--draws {n_draws} --random {n_random} --twins {n_twins}"
    yield "# Calibration of the decision on layers whose answer is known\n"
    yield (
        f"`python analyses/calibration.py {options}`; background noise 0.15 a token and 0.05 a document on every input "
        "coordinate, documents of 50 tokens, q = 0.05, k = 16 decides.\n"
    )
    yield "## Planted 2-ANDs (channel 5, influence ≤ 2, 3 concepts on), 12 twins\n"
    yield "Pairs that share a channel neuron by accident are read together there: a class of its own, not errors.\n"
    yield from header(COLUMNS)
    yield from planted_rows()
    yield "\n## Traps (n = 256, 40 concepts, 12 twins): nothing is computed here\n"
    yield from header(TRAP_COLUMNS)
    yield from trap_rows()
    yield "\n## Twins of planted layers in the layer's place, each with fresh twins\n"
    yield from in_place("twin", n_draws, n_twins)
    yield "\n## Random layers in the layer's place\n"
    yield from in_place("random", n_random, n_twins)


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(
        description="Calibration of the decision on layers whose answer is known."
    )
    parser.add_argument("--draws", type=int, default=100, help="twins put in the layer's place")
    parser.add_argument("--random", type=int, default=50, help="random layers put in the layer's place")
    parser.add_argument("--twins", type=int, default=20, help="twins of each stand-in")
    parser.add_argument("--out", default=str(RESULT), help="where to write the page; - prints it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    lines: list[str] = []
    for line in report(options.draws, options.random, options.twins):
        lines.append(line)
        print(line, flush=True)
    print(f"({time.perf_counter() - began:.0f} s)")
    if options.out != "-":
        write_text(Path(options.out), "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
