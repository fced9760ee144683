"""Null layers in the layer's place: how often does the decision find anything where nothing is?

    python analyses/in_place.py                        # 612 draws from 12 layers, some ten minutes of one core
    python analyses/in_place.py --pool 25 --seeds 1 --out -

Of each layer a pool of PC-sign twins is measured once. Every twin of the pool takes the layer's place once, twenty others
drawn at random are its null layers, and any pair flagged is an error. A twin of a twin is one more twin (signs multiply in
one frame), so this is the situation of a layer that computes nothing; the layers of the pools are planted, relaying and
reading ones of trap_scenes.py, plain and gated. Draws of one pool share null layers and text, so the standard error is
taken over pools where that is larger than the binomial one. calibration.py has fresh twins in every draw, at twenty times
the cost. Writes in_place.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from measured import RESULTS, design_for, measured, table, twins_in_place, write_page
from trap_scenes import Form, draw

from probekit.analysis.settings import DECIDING_K

Q, N_TWINS = 0.05, 20
LAYERS: tuple[tuple[str, str, Form], ...] = (
    ("random layer", "planted", "relu"),
    ("random layer", "planted", "silu gated"),
    ("superposed codes", "planted", "gelu"),
    ("relay", "planted", "relu"),
    ("single-concept readers", "innocent", "silu gated"),
    ("behind LayerNorm", "planted", "gelu"),
)
"""Scene, variant and form of the layers whose twins make up the pools."""


def flagged(scene: str, variant: str, form: Form, seed: int, pool: int) -> np.ndarray:
    """Whether any pair was above twins, and whether any was computed, of every draw of one pool.

    Args:
        scene: a key of `RECIPES`.
        variant: innocent or planted.
        form: of the layer.
        seed: of scene and twins.
        pool: twins measured.
    """
    trap = draw(scene, variant, form, seed)
    design = design_for(trap.scene, twins=pool, seed=seed)
    twins = measured(trap.scene, trap.weights, design).twins[DECIDING_K]
    rng = np.random.default_rng([seed, 41])
    found = [
        (decision.above_twins, decision.computed)
        for decision in twins_in_place(twins, design.tested, n_twins=N_TWINS, rng=rng)
    ]
    return np.array([[flags is not None and bool(flags.any()) for flags in both] for both in found])


def cell(pools: list[np.ndarray], column: int) -> str:
    """Draws with any flagged pair, beside what is allowed."""
    draws = np.concatenate(pools)[:, column]
    shares = np.array([pool[:, column].mean() for pool in pools])
    error = np.sqrt(Q * (1 - Q) / len(draws))
    if len(pools) > 1:
        error = max(error, shares.std(ddof=1) / np.sqrt(len(pools)))
    holds = draws.mean() <= Q + 3 * error
    return f"{draws.sum()} = {draws.mean():.1%} (≤ {Q + 3 * error:.1%}: {'yes' if holds else 'NO'})"


def page(pool: int, seeds: int) -> Iterator[str]:
    """The whole page."""
    yield "# Null layers in the layer's place\n"
    yield (
        f"`python analyses/in_place.py --pool {pool} --seeds {seeds}`: pools of {pool} PC-sign twins of layers of "
        f"`trap_scenes.py` (192 neurons, 24 concepts, all testable pairs), each twin once in the layer's place against "
        f"{N_TWINS} others, relays removed on both sides, k = 16, q = {Q}. Allowed are q + 3 s.e., the s.e. the larger of "
        "the binomial one and that over pools.\n"
    )
    every: list[np.ndarray] = []
    rows: list[list[str]] = []
    for scene, variant, form in LAYERS:
        pools = [flagged(scene, variant, form, seed, pool) for seed in range(seeds)]
        every += pools
        rows.append([scene, variant, form, str(pool * seeds), cell(pools, 0), cell(pools, 1)])
        print(rows[-1], flush=True)
    rows.append(["all", "", "", str(sum(map(len, every))), cell(every, 0), cell(every, 1)])
    yield from table(("layer", "variant", "form", "draws", "any pair above twins", "any pair computed"), rows)


def main() -> None:
    """All pools."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pool", type=int, default=51, help="twins of a layer, each once in its place")
    parser.add_argument("--seeds", type=int, default=2, help="scenes of each kind")
    parser.add_argument("--out", default=str(RESULTS / "in_place.md"), help="- prints only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    write_page(page(options.pool, options.seeds), options.out)


if __name__ == "__main__":
    main()
