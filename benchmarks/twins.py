"""What a twin costs, and what fewer of them cost the decision."""

from __future__ import annotations

import numpy as np

from benchmarks.table import Table, digits
from benchmarks.timing import in_turns
from probekit.analysis.settings import Settings
from probekit.testing.synthetic import make_plant, make_scene, plan, random_layer, run_layer, twin_of

COUNTS = (4, 8, 12, 20)
QUARTER = 69
PLANT = {"n_pairs": 12, "n_concepts": 24, "n_neurons": 160, "n_tokens": 16_000}


def run(*, quick: bool) -> Table:
    """The table."""
    plant = make_plant(0, **PLANT)
    n_planted = len(plant.designated)
    once = lambda twins: run_layer(plant.scene, plant.weights, twins=twins)
    fewer = plan(plant.scene, Settings(max_pairs=QUARTER, min_support=40, spikes=()))
    part = lambda twins: run_layer(plant.scene, plant.weights, twins=twins, design=fewer)
    ways = {str(r): (lambda r=r: once(r), 1) for r in (0, *COUNTS)}
    ways |= {f"{r} on a quarter": (lambda r=r: part(r), 1) for r in (0, COUNTS[-1])}
    times = in_turns(ways, n_rounds=1 if quick else 3)
    alone = times["0"].each
    table = Table(
        "twins",
        "Twins: what they cost and what fewer of them cost",
        f"Planted 2-AND layers ({PLANT['n_neurons']} neurons, {PLANT['n_concepts']} concepts, 276 pairs, 16,000 "
        "tokens, "
        f"{n_planted} planted) through all three passes; seconds of one layer with R twins beside those of the "
        "layer without "
        "any, processor time. Labels, pair lists, sampled tokens and counts are built once for all sites, so a "
        "twin costs its "
        "rows and its own sums. Decision: planted pairs computed over 3 layers; pairs computed on twins put in "
        "the layer's "
        "place, and on random layers, each with R twins of its own (any is an error; 5 % of such layers may have "
        f"one). The last row bounds what twins of a sample of the pairs could save: a quarter of them, {QUARTER}. It is not "
        "done, since the excess of a pair is over its own twins; nor are twins shared between layers, since a twin keeps "
        "the moments of its layer's own weights on its own inputs.",
        ["twins R", "seconds", "a twin, share of the layer alone", "planted found", "flagged on twins in the layer’s place",
         "flagged on random layers"],
    )  # fmt: skip
    draws = 2 if quick else 6
    for r in COUNTS:
        found, total, wrong, n_wrong_pairs, random_pairs, n_random = 0, 0, 0, 0, 0, 0
        for seed in range(1 if quick else 3):
            held = make_plant(seed, **PLANT)
            judged = run_layer(held.scene, held.weights, twins=r, seed=seed)
            mask = judged.rows_of(held.designated)
            found += int(judged.computed[mask].sum())
            total += int(mask.sum())
        design = plan(plant.scene, Settings(twins=r, max_pairs=10_000, min_support=40, spikes=()))
        for seed in range(draws):
            stand_in = twin_of(plant.weights, plant.scene, design, seed)
            flagged = run_layer(plant.scene, stand_in, twins=r, seed=seed).computed
            wrong += int(flagged.any())
            n_wrong_pairs += int(flagged.sum())
            scene = make_scene(seed, n_tokens=16_000, n_concepts=24, n_active=3)
            innocent = run_layer(scene, random_layer(seed, 160, 24), twins=r, seed=seed).computed
            n_random += int(innocent.any())
            random_pairs += int(innocent.sum())
        share = (times[str(r)].each - alone) / r / alone
        table.rows.append(
            [r, digits(times[str(r)].each), round(share, 3), f"{found} / {total}",
             f"{n_wrong_pairs} pairs in {wrong} of {draws}", f"{random_pairs} pairs in {n_random} of {draws}"]
        )  # fmt: skip
    few, none = (times[f"{r} on a quarter"].each for r in (COUNTS[-1], 0))
    share = (few - none) / COUNTS[-1] / alone
    table.rows.append(
        [f"{COUNTS[-1]}, a quarter of the pairs", digits(alone + few - none), round(share, 3), *["–"] * 3]
    )
    seconds = [times[str(r)].each for r in (0, *COUNTS)]
    table.rates["twin_share_of_layer"] = float(np.polyfit((0, *COUNTS), seconds, 1)[0]) / alone
    return table
