"""How many features does a layer compute, by this library's own rule, as neurons and parameters grow?

    python analyses/count_against_parameters.py                  # some 12 minutes of one core; goes on where it stopped
    python analyses/count_against_parameters.py --kinds planted  # one family
    python analyses/count_against_parameters.py --quick --out /tmp/count.json

Adler & Shavit (arXiv 2409.15318) close with the claim that the number of parameters is a good estimator of the number of
features computed: n neurons with n inputs, O(n²/log n). Three families, six widths and three seeds each: nets trained on the
ANDs of m′ chosen pairs (U-AND targets, `trained_uand.py`), nets trained on one random DNF of m′ terms of two literals, and
planted channels (`two_and`, c = 5). All have 24 concepts on a basis, so that the rule is the same everywhere; neurons and
parameters n(m + 1) are then proportional, and the papers' m′ ln m′ ∝ P is an exponent a little below 1 in both. In each
width m′ is raised until recall falls; *the count* of a seed is the largest number of its targets, over the loads, that the
rule calls computed (`probekit.testing.synthetic.run_layer`: above PC-sign twins with relays removed, and pair-specific). So
its exponent says how the rule and the training scale, not what a layer could hold. Beside it, where a net has readouts:
how many targets its own readouts get right. Writes results/count_against_parameters.md and .json; theory_pictures.py
draws the picture.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import altair as alt
import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from measured import RESULTS, table, write_page
from trained_uand import Layer, Loss, S, Task, all_inputs, all_pairs, built, train

from probekit.analysis.design import StudyDesign
from probekit.analysis.settings import Settings
from probekit.model.weights import MlpWeights
from probekit.report.canvas import ACCENT, INK, MUTED, to_svg
from probekit.storage.store import write_text
from probekit.testing.synthetic import Scene, make_scene, plan, run_layer
from probekit.theory import bounds
from probekit.theory.circuits import two_and

Kind = Literal["trained ANDs", "trained DNF", "planted"]
WIDTHS: dict[str, tuple[int, ...]] = {
    "trained ANDs": (8, 12, 16, 24, 32, 48),
    "trained DNF": (8, 12, 16, 24, 32, 48),
    "planted": (24, 32, 48, 64, 96, 128),
}
M = 24
"""Concepts. With fewer the twins have so few dimensions to forget in that the rule calls nothing: 0 of 8 targets in each
of three nets with 8 neurons on 8 concepts, 0, 0 and 4 of 8 with 16 on 16."""
LOADS = {
    "trained ANDs": (0.25, 0.5, 1.0, 2.0, 4.0),
    "trained DNF": (0.25, 0.5, 1.0),
    "planted": (0.125, 0.25, 0.5, 1.0),
}
"""m′ / n."""
SEEDS = (0, 1, 2)
N_STEPS = 2_500
TWINS = 6
SUPPORT = 20
N_TOKENS = 6_000
RIGHT = 0.01
"""A target counts as right by a net's own readouts with at most this share of wrong answers in each pattern, at ½."""
N_BOOTSTRAP = 4_000
OUT = RESULTS / "count_against_parameters.json"


class Formula(Task):
    """One output: the DNF whose terms are the pairs."""

    @property
    def truth(self) -> Bool[np.ndarray, "input one"]:
        """Whether any term holds."""
        return self.inputs[:, self.pairs].all(axis=2).any(axis=1, keepdims=True)

    def weights(self, loss: Loss) -> Float[np.ndarray, "input one"]:
        """True and false inputs weigh one half each."""
        del loss
        share = self.truth.mean()
        return np.where(self.truth, 0.5 / share, 0.5 / max(1 - share, 1 / len(self.inputs)))


def scene_of(seed: int) -> tuple[Scene, StudyDesign]:
    """Text of 24 concepts, three of which hold at a token in the mean; tokens enough for every pair."""
    scene = make_scene(seed, n_tokens=N_TOKENS, n_concepts=M, n_active=S)
    return scene, plan(
        scene, Settings(twins=TWINS, seed=seed, max_pairs=10_000, min_support=SUPPORT, spikes=())
    )


def targets_of(n_targets: int, seed: int) -> np.ndarray:
    """Pairs drawn from all."""
    every = all_pairs(M)
    return every[np.random.default_rng([seed, n_targets, 21]).choice(len(every), n_targets, replace=False)]


def layers_of(kind: Kind, n: int, n_targets: int) -> list[Layer]:
    """A layer a seed, with its own readouts where it has them."""
    if kind == "planted":
        pairs = [targets_of(n_targets, seed) for seed in SEEDS]
        return [
            built(two_and(pairs=one, n_concepts=M, n_neurons=n, seed=seed))
            for seed, one in zip(SEEDS, pairs, strict=True)
        ]
    inputs = all_inputs(M, S)
    make = Task if kind == "trained ANDs" else Formula
    tasks = [make(inputs, targets_of(n_targets, seed)) for seed in SEEDS]
    draws = [np.random.default_rng([seed, n, 22]).standard_normal((n, M)) for seed in SEEDS]
    starts = [Layer(draw / math.sqrt(S), np.zeros(n)) for draw in draws]
    return train(starts, tasks, "balanced", n_steps=N_STEPS, seeds=SEEDS)


def n_right(layer: Layer, task: Task) -> int:
    """Targets that the layer's own readouts get right, at ½, in every pattern."""
    wrong = (layer.read(task.seen) > 0.5) != task.truth
    shares = [(wrong & pattern).sum(axis=0) / np.maximum(pattern.sum(axis=0), 1) for pattern in task.patterns]
    return int((np.max(shares, axis=0) <= RIGHT).sum())


def rows_of(
    kind: Kind, n: int, load: float, scenes: dict[int, tuple[Scene, StudyDesign]]
) -> Iterator[dict[str, Any]]:
    """What the rule calls computed in each seed at one load."""
    n_targets = min(round(load * n), math.comb(M, 2))
    for seed, layer in zip(SEEDS, layers_of(kind, n, n_targets), strict=True):
        scene, design = scenes[seed]
        judged = run_layer(
            scene, MlpWeights.from_arrays(layer.w_in, layer.b_in), twins=TWINS, seed=seed, design=design
        )
        pairs = targets_of(n_targets, seed)
        wanted = judged.rows_of({(int(a), int(b)) for a, b in np.sort(pairs, axis=1)})
        right = None if kind == "trained DNF" else n_right(layer, Task(all_inputs(M, S), pairs))
        accuracy = None
        if kind == "trained DNF":
            formula = Formula(all_inputs(M, S), pairs)
            wrong = (layer.read(formula.inputs) > 0.5) != formula.truth
            accuracy = float(1 - np.mean([wrong[formula.truth].mean(), wrong[~formula.truth].mean()]))
        yield {
            "kind": kind, "n": n, "params": n * (M + 1), "load": load, "seed": seed, "n_targets": n_targets,
            "n_tested": len(judged.pairs), "tested_targets": int(wanted.sum()), "right": right, "accuracy": accuracy,
            "computed": int(judged.computed[wanted].sum()), "computed_others": int(judged.computed[~wanted].sum()),
            "above": int(judged.above[wanted].sum()), "above_others": int(judged.above[~wanted].sum()),
        }  # fmt: skip


def measure(kinds: tuple[Kind, ...], out: Path, *, quick: bool) -> list[dict[str, Any]]:
    """Every load of every width; what `out` holds already is not done again."""
    found: list[dict[str, Any]] = json.loads(out.read_text()) if out.exists() else []
    done = {(row["kind"], row["n"], row["load"]) for row in found}
    began = time.process_time()
    scenes = {seed: scene_of(seed) for seed in SEEDS}
    # small widths of every family first: a study that is stopped is still one
    tasks = sorted((n, kind) for kind in kinds for n in (WIDTHS[kind][:2] if quick else WIDTHS[kind]))
    for n, kind in tasks:
        for load in LOADS[kind]:
            if (kind, n, load) in done:
                continue
            rows = list(rows_of(kind, n, load, scenes))
            found += rows
            write_text(out, json.dumps(found, indent=1) + "\n")
            print(f"{time.process_time() - began:.0f} s", rows, flush=True)
    return found


def counts_of(rows: pd.DataFrame, field: str) -> pd.DataFrame:
    """Largest count over the loads: a row a width, a column a seed."""
    return rows.groupby(["n", "seed"])[field].max().unstack("seed")


def exponent(
    counts: pd.DataFrame, size: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, float] | None:
    """Slope of ln(mean count) on ln(size), with the 95 % interval of a bootstrap over the seeds of each width.

    Widths whose mean is 0 are left out; None where fewer than four are left.
    """
    values = counts.to_numpy(float)

    def slope(table: np.ndarray) -> float:
        means = table.mean(axis=1)
        kept = means > 0
        return (
            float(np.polyfit(np.log(size[kept]), np.log(means[kept]), 1)[0]) if kept.sum() > 2 else math.nan
        )

    if (values.mean(axis=1) > 0).sum() < 4:
        return None
    drawn = np.empty(N_BOOTSTRAP)
    for b in range(N_BOOTSTRAP):
        chosen = rng.integers(0, values.shape[1], values.shape)
        drawn[b] = slope(np.take_along_axis(values, chosen, axis=1))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return slope(values), float(low), float(high)


def _with_interval(found: tuple[float, float, float] | None) -> str:
    return "hardly any" if found is None else f"{found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}]"


def page(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The exponents, the counts, every load, SmolLM2."""
    held = pd.DataFrame(rows)
    yield "# Features computed against neurons and parameters\n"
    yield (
        f"`python analyses/count_against_parameters.py`: seeds {', '.join(map(str, SEEDS))}, {TWINS} twins, q = 0.05, "
        f"k = 16, all pairs with at least {SUPPORT} tokens in every quadrant of both halves tested, "
        f"{N_TOKENS:,} tokens with "
        f"three of {M} concepts on in the mean; training {N_STEPS:,} steps of Adam on the balanced loss. Basis-aligned "
        "inputs, parameters n(m + 1). *Computed*: targets that the rule calls computed, at the load with the most "
        "of them; the largest of several loads is a little more than a count at a load fixed before. *Right*: targets that "
        f"the net's own readouts get right at ½ in all but {RIGHT:.0%} of each pattern, at the load with the "
        f"most. Exponents: "
        "slope of ln count on ln size, 95 % interval from drawing the seeds of each width anew; widths without "
        "any are left out. Between these widths the "
        "local exponent of n²/ln n is the number in the last column.\n"
    )
    yield "## Exponents\n"
    yield from table(
        (
            "family",
            "widths",
            "count",
            "against neurons [95 %]",
            "against parameters [95 %]",
            "n²/ln n against neurons",
        ),
        _exponent_rows(held),
    )
    yield ""
    yield "## Counts\n"
    yield from table(
        ("family", "n", "parameters", "computed, by seed", "at m′", "recall there", "right, by seed", "n²/ln n",
         "P/ln m′: the bound's form"),
        _count_rows(held),
    )  # fmt: skip
    yield ""
    yield "## Every load\n"
    yield (
        "Means over seeds. *Others*: pairs that are no target and are called computed (in a planted layer pairs that share "
        "a channel are read off it as well). *Accuracy*: of the DNF net, true and false inputs alike.\n"
    )
    means = held.groupby(["kind", "n", "n_targets"], sort=False).mean(numeric_only=True).reset_index()
    yield from table(
        ("family", "n", "m′", "computed", "above twins", "others computed", "right", "accuracy"),
        ((row.kind, row.n, row.n_targets, f"{row.computed:.1f}", f"{row.above:.1f}", f"{row.computed_others:.1f}",
          "–" if math.isnan(row.right) else f"{row.right:.1f}", "–" if math.isnan(row.accuracy) else f"{row.accuracy:.3f}")
         for row in means.itertuples()),
    )  # fmt: skip
    yield ""
    yield "## SmolLM2-135M as found\n"
    yield (
        "From `smollm2_layers.json`, WikiText-2: pairs computed of those tested, and pairs above null layers. The pairs "
        "tested are a sample of a dictionary that was not made for the layer, so these are points, and no exponent.\n"
    )
    yield from table(
        ("layer", "neurons", "parameters at the neurons", "tested", "above twins", "computed", "n²/ln n"),
        ((row["layer"], f"{row['n']:,}", f"{row['params']:,}", f"{row['tested']:,}", row["above"], row["computed"],
          f"{float(bounds.asymptotic_features(row['n'])):,.0f}") for row in smollm2()),
    )  # fmt: skip


def _exponent_rows(held: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    rng = np.random.default_rng(0)
    for kind, rows in held.groupby("kind", sort=False):
        for field, name in (("computed", "computed, by the rule"), ("right", "right, by its own readouts")):
            if rows[field].isna().any():
                continue
            counts = counts_of(rows, field)
            n = counts.index.to_numpy(float)
            params = rows.groupby("n")["params"].first().to_numpy(float)
            reference = float(np.polyfit(np.log(n), np.log(n**2 / np.log(n)), 1)[0])
            yield (
                kind, f"{int(n[0])} … {int(n[-1])}", name, _with_interval(exponent(counts, n, rng)),
                _with_interval(exponent(counts, params, rng)), f"{reference:.2f}",
            )  # fmt: skip


def _count_rows(held: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    for (kind, n), rows in held.groupby(["kind", "n"], sort=False):
        best = rows.loc[rows.groupby("seed")["computed"].idxmax()]
        recall = best["computed"].sum() / best["n_targets"].sum()
        params, load = int(rows["params"].iloc[0]), float(best["n_targets"].mean())
        right = (
            "–"
            if rows["right"].isna().any()
            else ", ".join(f"{v:.0f}" for v in rows.groupby("seed")["right"].max())
        )
        yield (
            kind, n, f"{params:,}", ", ".join(map(str, best["computed"])),
            ", ".join(map(str, best["n_targets"])), f"{recall:.2f}", right,
            f"{float(bounds.asymptotic_features(int(n))):,.0f}", f"{params / max(math.log(load), 1):,.0f}",
        )  # fmt: skip


def smollm2() -> list[dict[str, Any]]:
    """The layers of SmolLM2 from their study."""
    held = json.loads((RESULTS / "smollm2_layers.json").read_text())
    rows = [row for tag, row in held.items() if tag.startswith("wikitext") and tag.count("-") == 1]
    d_model = 576
    return [
        {"layer": row["layer"], "n": row["n_neurons"], "params": 2 * d_model * row["n_neurons"], "tested": row["n_tested"],
         "above": row["n_above_twins"], "computed": row["n_computed"]}
        for row in sorted(rows, key=lambda row: row["layer"])
    ]  # fmt: skip


def picture(rows: list[dict[str, Any]]) -> str:
    """Counts against neurons and parameters, SmolLM2's layers and the references."""
    held = pd.DataFrame(rows)
    best = held.groupby(["kind", "n", "params", "seed"], sort=False)["computed"].max().reset_index()
    best = best[best["computed"] > 0]
    real = pd.DataFrame(smollm2())
    real = real[real["computed"] > 0].assign(kind="SmolLM2 layers (1,200 pairs)")
    points = pd.concat([best, real[["kind", "n", "params", "computed"]]])
    widths = np.geomspace(8, 1_536, 40)
    kinds = [*get_args(Kind), "SmolLM2 layers (1,200 pairs)"]
    color = alt.Color("kind:N", title=None, scale=alt.Scale(domain=kinds, range=[ACCENT, "#c2410c", INK, MUTED]),
                      legend=alt.Legend(orient="top", labelLimit=260))  # fmt: skip
    panels = list[Any]()
    for field, title, line, name in (
        ("n", "neurons n", widths**2 / np.log(widths), "n²/ln n"),
        ("params", "parameters P at the neurons", widths**2 / np.log(widths), "P/ln √P"),
    ):
        x = alt.X(
            f"{field}:Q",
            title=title,
            scale=alt.Scale(type="log"),
            axis=alt.Axis(format="~s", grid=False, values=[10.0**k for k in range(8)]),
        )
        y = alt.Y("computed:Q", title="targets computed, by the rule", scale=alt.Scale(type="log"),
                  axis=alt.Axis(format="~s", values=[10.0**k for k in range(7)]))  # fmt: skip
        shown = pd.DataFrame({field: widths if field == "n" else widths**2, "computed": line})
        marks = alt.Chart(points).mark_point(filled=True, size=45, opacity=0.75).encode(x=x, y=y, color=color)
        means = (
            alt.Chart(best)
            .mark_line(strokeWidth=1.2)
            .encode(x=x, y=alt.Y("mean(computed):Q", title=None), color=color)
        )
        reference = alt.Chart(shown).mark_line(strokeDash=[4, 4], color=MUTED).encode(x=x, y=y)
        label = (
            alt.Chart(shown.tail(1))
            .mark_text(align="right", dx=-4, dy=-8, color=INK)
            .encode(x=x, y=y, text=alt.value(name))
        )
        panels.append(alt.layer(reference, label, means, marks).properties(width=360, height=300))
    return to_svg(
        alt.hconcat(*panels), "count", "Features computed, by the rule, against neurons and parameters",
        "a point a seed, at the load with the most, zeros left out; lines: means; dashed: the papers' order, constant 1",
        "Counts grow with neurons and parameters, far below the dashed line.",
    )  # fmt: skip


def main() -> None:
    """Measure what is missing, write the page and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kinds", nargs="*", choices=get_args(Kind), default=list(get_args(Kind)))
    parser.add_argument("--quick", action="store_true", help="two widths only")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(tuple(options.kinds), options.out, quick=options.quick)
    write_page(page(rows), str(options.out.with_suffix(".md")))


if __name__ == "__main__":
    main()
