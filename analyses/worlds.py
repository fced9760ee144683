"""Three detectors of computed pairs on worlds whose answer is known: false discovery rate and power.

    python analyses/worlds.py                        # 23 worlds at each of nine settings; some 3 s of one core a world
    python analyses/worlds.py --minutes 5            # begin no world after five minutes; the next call goes on
    python analyses/worlds.py --worlds 2 --out -     # printed, nothing kept

The worlds are those of `pk.worlds` with its default sizes, over correlation × load; every detector sees the same worlds and
pairs. Each detector and world is a line of worlds.draws.jsonl beside the page, so that a run which was stopped goes on
where it was. Writes analyses/results/worlds.md.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from measured import RESULTS, table, write_page

from probekit.followups.benchmark import CORRELATIONS, LOADS, scored, table_of
from probekit.followups.detectors import BUILT_IN, N_TWINS
from probekit.theory.worlds import worlds

Q, MAX_PAIRS, N_WORLDS = 0.05, 100, 23
CELLS = ("computed", "kin_of_computed", "null", "relayed", "kin_of_relayed")
COLUMNS = (
    "detector", "correlation", "load", "worlds", "false discovery rate (s.e.)", "bound q + 3 s.e.", "power (s.e.)",
    *(f"found: {name.replace('_', ' ')}" for name in CELLS),
)  # fmt: skip


def drawn(path: Path, n_worlds: int, minutes: float) -> Iterator[dict[str, Any]]:
    """Every line there is, and then those that are made now; all detectors of a world one after the other."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    yield from (line for line in lines if line["world"] < n_worlds)
    done = {(line["detector"], line["correlation"], line["load"], line["world"]) for line in lines}
    began = time.monotonic()
    for number in range(n_worlds):
        for rho in CORRELATIONS:
            for load in LOADS:
                left = [name for name in BUILT_IN if (name, rho, load, number) not in done]
                if not left:
                    continue
                if time.monotonic() - began > 60 * minutes:
                    return
                yield from made(path, left, rho, load, number)


def made(path: Path, names: list[str], rho: float, load: float, number: int) -> Iterator[dict[str, Any]]:
    """One world, through some of the detectors."""
    world = next(worlds(correlation=rho, load=load, seed=number))
    for name in names:
        started = time.process_time()
        row = scored(BUILT_IN[name], world, max_pairs=MAX_PAIRS, q=Q, seed=number)
        line = {
            "detector": name, "correlation": rho, "load": load, "world": number,
            "seconds": round(time.process_time() - started, 3), **row,
        }  # fmt: skip
        if str(path) != "-":
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        yield line


def page(lines: list[dict[str, Any]], n_wanted: int) -> Iterator[str]:
    """The whole page."""
    by_world = pd.DataFrame(lines)
    n_worlds = by_world.groupby(["correlation", "load", "world"]).ngroups
    yield "# Detectors of computed pairs on worlds whose answer is known\n"
    seconds = by_world.groupby("detector")["seconds"].mean()
    cost = ", ".join(f"{name} {seconds[name]:.1f} s" for name in BUILT_IN)
    yield (
        f"`python analyses/worlds.py`: {n_worlds} worlds of {n_wanted} to be drawn, "
        f"{by_world['n_pairs'].mean():.0f} pairs "
        f"each in the mean, q = {Q}; probekit with {N_TWINS} PC-sign twins. One core a world: {cost}. "
        "Sizes are the defaults of `pk.worlds`: 48 "
        "concepts in 64 dimensions (superposed), Zipf exponent ½ from a rate of ¼, three quarters of the concepts in "
        "correlated, hierarchical and exclusive groups of four, bursts within documents, 192 ReLU neurons, 12,000 tokens. "
        "Eight ANDs lie in the input of every world.\n"
    )
    yield (
        "*Load*: ANDs computed for each neuron. *False discovery rate*: mean of V/max(V + S, 1) over the worlds, V finds "
        "among null and relayed pairs and kin of relayed ones, S among computed ones; kin of computed pairs count neither "
        "way. The probes are balanced between A∧B and all other tokens and are tested against guessing on held-out "
        "documents (binomial, Benjamini–Hochberg): what is asked is whether A∧B can be *read*, and it nearly always can, "
        "since A and B can. They have no null layer, and that is what the comparison shows; as probes they do what they "
        "are made for.\n"
    )
    parts = {name: table_of(by_world[by_world["detector"] == name]) for name in BUILT_IN}
    ours = parts["probekit"]
    kept = (ours["fdr"] <= Q + 3 * ours["fdr_se"]).sum()
    everywhere = by_world[by_world["detector"] == "probekit"]
    share = everywhere["n_false"] / (everywhere["n_false"] + everywhere["n_true"]).clip(lower=1)
    yield (
        f"**probekit: at {kept} of {len(ours)} settings the false discovery rate is at most q + 3 s.e.; over all "
        f"{len(everywhere)} worlds it is {share.mean():.3f} ± {share.sem():.3f}.**\n"
    )
    yield from table(
        COLUMNS, (row(name, one) for name, part in parts.items() for one in part.to_dict("records"))
    )


def row(name: str, one: dict[Any, Any]) -> list[str]:
    """A line of the table."""
    cells = [one[f"found_{cell}"] for cell in CELLS]
    return [
        name, f"{one['correlation']:g}", f"{one['load']:g}", str(one["n_worlds"]), f"{one['fdr']:.3f} ({one['fdr_se']:.3f})",
        f"{Q + 3 * one['fdr_se']:.3f}", f"{one['power']:.2f} ({one['power_se']:.2f})",
        *("–" if math.isnan(cell) else f"{cell:.1%}" for cell in cells),
    ]  # fmt: skip


def main() -> None:
    """Draw the worlds and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--worlds", type=int, default=N_WORLDS, help="worlds at each setting")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin no world after so many minutes"
    )
    parser.add_argument(
        "--out", default=str(RESULTS / "worlds.md"), help="page; - prints it and keeps nothing"
    )
    options = parser.parse_args()
    path = Path("-") if options.out == "-" else Path(options.out).with_suffix(".draws.jsonl")
    lines = list(drawn(path, options.worlds, options.minutes))
    write_page(page(lines, options.worlds * len(CORRELATIONS) * len(LOADS)), options.out)


if __name__ == "__main__":
    main()
