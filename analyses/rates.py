"""The exponents that the papers name, fitted: universal AND, chosen ANDs in three influence cases, depth.

    python analyses/rates.py                       # some half an hour of one core; writes results/rates.md and .json
    python analyses/rates.py --parts universal deep

Universal AND: neurons for 1 % of errors against concepts m, on a basis and superposed at d = n, beside the d = Õ(m^⅔) of
Hänni et al. (arXiv 2408.05451); the density of the sparse layer is chosen anew for every size, and its prediction is
followed to sizes that cannot be run. Chosen ANDs: low, high and mixed influence against √m′ log m′, and parameters
n(d + 1) against m′ log² m′ (Adler & Shavit, arXiv 2409.15318). Depth: gates a layer that three layers compute with 5 %
of errors against d, beside d^1.5, without and with correction; errors at a given number of gates without and with it;
and the size at which correction pays, by its prediction. `constructions.py` has the errors that these widths rest on,
five seeds, and further constructions.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import torch
from constructions import normal_error, width_needed
from measured import RESULTS, table, write_page
from scipy.optimize import brentq
from scipy.stats import t as student

from probekit.report.canvas import ACCENT, INK, MUTED, to_svg
from probekit.storage.store import write_text
from probekit.theory import bounds
from probekit.theory.circuits import (
    Circuit,
    boolean_circuit,
    random_gates,
    sparse_uand,
    two_and,
)
from probekit.theory.circuits.predict import Channel, channel_prediction, inverse_of_binomial
from probekit.theory.measure import MeasuredLayer, measure, measure_deep

OUT = RESULTS / "rates.json"
S = 3
SEEDS = (0, 1, 2)
N_INPUTS = 1_000
WRONG, WRONG_DEEP = 0.01, 0.05
DEPTHS = (192, 256, 384, 512, 768, 1_024, 1_536, 2_048)
"""Dimensions between the layers of deep circuits; at 2,048 a layer's weights take 67 MB."""
HELPS_DIMS, HELPS_GATES = (512, 1_024, 2_048, 4_096), (16, 32, 64, 128, 256)
AGAIN, FRESH_SEEDS = ((4_096, 128), (4_096, 256)), (3, 4, 5, 6, 7, 8)


# ------------------------------------------------------------------------------------------------- universal and chosen ANDs


def sparse_error(m: float, n: int, density: float, *, superposed: bool) -> float:
    """Predicted worst-pattern error of the sparse universal AND, readouts taken for normal."""
    size = inverse_of_binomial(n, density**2) if n < 20_000 else 1 / (density**2 * n)
    channel = Channel(2, S, m, density, size, n if superposed else None)
    return normal_error(channel_prediction(channel))


@functools.cache
def best_density(m: float, n: int, *, superposed: bool) -> float:
    """The density with the least predicted error."""
    grid = np.geomspace(1.0 / math.sqrt(n), 0.5, 24)
    return float(min(grid, key=lambda p: sparse_error(m, n, p, superposed=superposed)))


def sparse(m: int, n: int, seed: int, *, superposed: bool) -> Circuit:
    """A sparse universal AND at its best density."""
    return sparse_uand(
        n_concepts=m, n_neurons=n, n_active=S, d_model=n if superposed else None, pairs=min(math.comb(m, 2), 1_000),
        density=best_density(m, n, superposed=superposed), seed=seed,
    )  # fmt: skip


def low(m: int, n: int, seed: int) -> Circuit:
    """m′ pairs of m′ concepts, two each, channels of log2 m′."""
    return two_and(pairs=m, n_concepts=m, n_neurons=n, d_model=n, channel=round(math.log2(m)), seed=seed)


def high(m: int, n: int, seed: int) -> Circuit:
    """All pairs of some concepts, about m′ of them."""
    heavy = n_heavy(m)
    return two_and(
        pairs=math.comb(heavy, 2),
        n_concepts=heavy,
        n_neurons=n,
        d_model=n,
        influence=heavy - 1,
        case="high",
        seed=seed,
    )


def mixed(m: int, n: int, seed: int) -> Circuit:
    """Eight heavy concepts, each with m′/8 light ones, channels of log2 m′ inside those of the heavy."""
    pairs = [(heavy, 8 + m // 8 * heavy + i) for heavy in range(8) for i in range(m // 8)]
    return two_and(
        pairs=pairs,
        n_concepts=m + 8,
        n_neurons=n,
        d_model=n,
        channel=round(math.log2(m)),
        case="mixed",
        seed=seed,
    )


def n_heavy(m: int) -> int:
    """Concepts whose pairs are about m′."""
    return round((1 + math.sqrt(1 + 8 * m)) / 2)


@dataclass(frozen=True)
class Rate:
    """One construction whose width is measured at several sizes."""

    name: str
    build: Callable[[int, int, int], Circuit]
    sizes: tuple[int, ...]
    start: float
    """A width to begin the first search at."""
    theory: str
    outputs: Callable[[int], int] = lambda m: m
    """m′ of a size; m itself where the width stands against concepts."""


UNIVERSAL = (
    Rate(
        "sparse U-AND, basis",
        functools.partial(sparse, superposed=False),
        (32, 64, 128, 256),
        220,
        "polylog: 0",
    ),
    Rate(
        "sparse U-AND, superposed",
        functools.partial(sparse, superposed=True),
        (32, 64, 128, 256, 512),
        600,
        "m^⅔, with logs",
    ),
)
CHOSEN = (
    Rate("low influence", low, (128, 256, 512, 1024), 350, "√m′ ln m′"),
    Rate("mixed influence", mixed, (128, 256, 512, 1024), 350, "√m′ ln m′"),
    Rate("high influence", high, (120, 496, 2_016), 550, "√m′ ln m′", lambda m: math.comb(n_heavy(m), 2)),
)


def widths(rates: Sequence[Rate]) -> Iterator[dict[str, Any]]:
    """Neurons for 1 % of errors, by size and seed."""
    for rate in rates:
        start, found = rate.start, list[list[float]]()
        for m in rate.sizes:
            row = list[float]()
            for seed in SEEDS:
                row.append(
                    width_needed(functools.partial(_worst_error, rate.build, m, seed), start, wanted=WRONG)
                )
                start = row[-1]
            found.append(row)
            print(rate.name, m, row, flush=True)
        yield {
            "name": rate.name, "sizes": list(rate.sizes), "outputs": [rate.outputs(m) for m in rate.sizes],
            "widths": found, "theory": rate.theory,
        }  # fmt: skip


def _worst_error(build: Callable[[int, int, int], Circuit], m: int, seed: int, n: int) -> float:
    return measure(build(m, n, seed), n_inputs=N_INPUTS, seed=1_000 + seed).worst_error


def slope(x: Sequence[float], rows: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean slope of ln(row) on ln(x) over seeds, and its 95 % interval (Student's t over seeds)."""
    seeds = np.log(np.asarray(rows, float)).T
    slopes = np.array([np.polyfit(np.log(x), row, 1)[0] for row in seeds])
    half = student.ppf(0.975, len(slopes) - 1) * slopes.std(ddof=1) / math.sqrt(len(slopes))
    return float(slopes.mean()), float(slopes.mean() - half), float(slopes.mean() + half)


def local(x: Sequence[float], form: Callable[[float], float]) -> float:
    """Slope of a form with logarithms over the same sizes."""
    return float(np.polyfit(np.log(x), np.log([form(one) for one in x]), 1)[0])


def far() -> Iterator[dict[str, Any]]:
    """Widths of the sparse universal AND by its prediction, at sizes that cannot be run, and their local exponents."""
    crossing = brentq(
        lambda log_m: math.log(_far_width(math.exp(log_m))) - log_m,
        math.log(500),
        math.log(50_000),
        xtol=1e-2,
    )
    for m in sorted((1e2, 1e3, round(math.exp(crossing)), 1e4, 1e5, 1e6, 1e8, 1e10)):
        ends = [_far_width(m * factor) for factor in (1, 4)]
        yield {"m": m, "n": ends[0], "slope": math.log(ends[1] / ends[0], 4)}


def _far_width(m: float) -> float:
    def excess(log_n: float) -> float:
        n = round(math.exp(log_n))
        # errors may underflow far above the width needed
        return math.log(
            max(sparse_error(m, n, best_density(m, n, superposed=True), superposed=True), 1e-300) / WRONG
        )

    return math.exp(float(brentq(excess, math.log(60), math.log(1e12), xtol=1e-4)))


# ------------------------------------------------------------------------------------------------------------------ depth


def last_layer(d: int, width: int, seed: int, *, correct: bool, n_inputs: int = 300) -> MeasuredLayer:
    """What the last of three layers of random gates gets wrong."""
    gates = random_gates(n_concepts=width, widths=[width] * 3, kinds=("and", "or", "xor"), seed=seed)
    circuit = boolean_circuit(
        gates=gates, n_concepts=width, n_neurons=2 * d, d_model=d, correct=correct, seed=seed
    )
    return measure_deep(circuit, n_inputs=n_inputs, seed=1_000 + seed)[-1]


def emulated(d: int, seed: int, *, correct: bool, start: float) -> int:
    """Most gates a layer with at most 5 % of errors; widths are tried upwards from `start` until three in a row fail.

    Which gates are drawn counts for as much as their number in so small circuits, hence not the first that fails.
    """
    best, failed = 0, 0
    for width in sorted({round(4 * 2 ** (i / 4)) for i in range(40)}):
        if width < start:
            continue
        last = last_layer(d, width, seed, correct=correct)
        if max(last.missed, last.falsely_on) <= WRONG_DEEP:
            best, failed = width, 0
        elif (failed := failed + 1) == 3:
            break
    return best


def deep() -> Iterator[dict[str, Any]]:
    """Width emulated against d; the search begins at a quarter of what the size before carried."""
    for correct in (False, True):
        rows = list[list[int]]()
        for d in DEPTHS:
            starts = [best / 4 for best in rows[-1]] if rows else [4.0] * len(SEEDS)
            rows.append(
                [
                    emulated(d, seed, correct=correct, start=start)
                    for seed, start in zip(SEEDS, starts, strict=True)
                ]
            )
            print("deep", correct, d, rows[-1], flush=True)
        yield {"correct": correct, "dims": list(DEPTHS), "widths": rows}


def helps() -> Iterator[dict[str, Any]]:
    """Errors of the last layer without and with correction, the same gates, where few gates are carried."""
    for d in HELPS_DIMS:
        for width in HELPS_GATES:
            yield both_ways(d, width, SEEDS)


def again() -> Iterator[dict[str, Any]]:
    """Two sizes at which correction helped, on seeds that had no part in choosing them."""
    for d, width in AGAIN:
        yield both_ways(d, width, FRESH_SEEDS)


def both_ways(d: int, width: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Errors of the last layer without and with correction."""
    found: dict[str, Any] = {"d": d, "gates": width, "seeds": list(seeds)}
    for correct in (False, True):
        layers = [last_layer(d, width, seed, correct=correct, n_inputs=N_INPUTS) for seed in seeds]
        which = "corrected" if correct else "plain"
        found[f"{which}_rms"] = [layer.rms for layer in layers]
        found[f"{which}_wrong"] = [max(layer.missed, layer.falsely_on) for layer in layers]
    print("both ways", found, flush=True)
    return found


def pays() -> Iterator[dict[str, Any]]:
    """Smallest d, by the prediction, at which a correction layer leaves a recoded read better than it found it."""
    for neurons in (1.0, 1.5, 1.75):
        for power in (0.5, 0.75, 1.0, 1.25, 1.5):
            for noise in (0.0, 0.02, 0.05):
                sizes = (2**k for k in range(7, 41))
                found = next(
                    (
                        (d, c)
                        for d in sizes
                        if (c := _best_channel(d, d**neurons, d**power, noise)) is not None
                    ),
                    None,
                )
                yield {"neurons": neurons, "power": power, "noise": noise, "d": None if found is None else found[0],
                       "channel": None if found is None else found[1]}  # fmt: skip


def _best_channel(d: int, n: float, m: float, noise: float) -> int | None:
    """A channel of 4 to 64 units at which correction helps the recoded read, n/2 units; None where none does."""
    before = math.hypot(math.sqrt(S / d), noise)
    for c in (4, 6, 8, 12, 16, 24, 32, 48, 64):
        channel = Channel(1, S, m, min(1.0, 2 * c / n), 1 / c, d, noise, 0.25)
        mean, sd = channel_prediction(channel)
        after = math.hypot(mean[1], sd[1])
        if math.hypot(after, math.sqrt((S + m * after**2) / d)) < before:
            return c
    return None


# --------------------------------------------------------------------------------------------------------------- the page


def _interval(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}]"


def page(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Every exponent with its interval."""
    yield "# Rates\n"
    yield (
        f"`python analyses/rates.py`: seeds {', '.join(map(str, SEEDS))}, {N_INPUTS:,} inputs in each pattern, "
        f"s = {S} concepts "
        f"on, d = n where inputs are superposed; width: smallest n with at most {WRONG:.0%} of errors in the worst pattern "
        "at the best common threshold, found to within a tenth of an octave. Intervals: Student's t over the "
        "slopes of the seeds. Forms "
        "with logarithms have an exponent of their own over the same sizes, given beside.\n"
    )
    yield "## Universal AND: neurons against concepts\n"
    yield from table(
        ("construction", "m", "n needed, mean over seeds", "exponent of n in m [95 %]", "last two sizes", "theory"),
        ((row["name"], ", ".join(f"{m:,}" for m in row["sizes"]), ", ".join(f"{np.mean(one):,.0f}" for one in row["widths"]),
          _interval(slope(row["sizes"], row["widths"])), _interval(slope(row["sizes"][-2:], row["widths"][-2:])),
          row["theory"])
         for row in found["universal"]),
    )  # fmt: skip
    yield ""
    yield (
        "The sparse layer on superposed inputs at its best density, by its prediction, where it cannot be run. It computes "
        "more concepts than it has neurons from the row on in which n / m is 1. Local exponent: between m and 4m.\n"
    )
    yield from table(
        ("m", "n = d needed, predicted", "n / m", "local exponent", "theory"),
        ((f"{row['m']:,.0f}", f"{row['n']:,.0f}", f"{row['n'] / row['m']:.3g}", f"{row['slope']:.2f}", "0.67")
         for row in found["far"]),
    )  # fmt: skip
    yield ""
    yield "## Chosen ANDs: neurons and parameters against m′\n"
    yield from table(
        ("influence", "m′", "n needed, mean over seeds", "exponent of n [95 %]", "√m′ ln m′ over the same",
         "exponent of P = n(d + 1)",          "m′ ln² m′ over the same", "√m′ ln m′", "m′ ln² m′"),
        _chosen_rows(found["chosen"]),
    )  # fmt: skip
    yield ""
    yield "## Depth: gates a layer against dimensions\n"
    yield (
        f"Three layers of random and, or, xor gates, n = 2d, c = 5; most gates a layer with at most "
        f"{WRONG_DEEP:.0%} of errors "
        "in the last, tried upwards in quarters of an octave, from a quarter of what the size before carried, until "
        "three in a row fail.\n"
    )
    yield from table(
        ("correction", "d", "gates a layer, by seed", "exponent in d [95 %]", "upper half of the sizes", "Hänni et al.",
         "d^1.5 at the largest"),
        (("yes" if row["correct"] else "no", ", ".join(f"{d:,}" for d in row["dims"]),
          "; ".join(", ".join(map(str, one)) for one in row["widths"]), *_deep_slopes(row), "1.50, with logs",
          f"{row['dims'][-1] ** 1.5:,.0f}") for row in found["deep"]),
    )  # fmt: skip
    yield ""
    yield (
        f"The last layer of such circuits at a given number of gates, {N_INPUTS:,} inputs, means over seeds: "
        "root mean square error of the reads, and the larger share of wrong answers. *Lower in*: seeds in which correction, "
        "with the same gates, has the lower root mean square error. The last rows are sizes at which it helped, tried again "
        "on seeds that had no part in choosing them.\n"
    )
    yield from table(
        (
            "d",
            "gates a layer",
            "rms error: as it is",
            "corrected",
            "lower in",
            "wrong %: as it is",
            "corrected",
        ),
        map(_helps_row, (*found["helps"], *found["again"])),
    )
    yield ""
    yield (
        "Where a correction layer leaves the *recoded* read of a feature that is off better "
        "than it found "
        "it, by the prediction that `constructions.md` holds against measurement, over channels of 4 to 64 "
        "units, d = 2⁷ … 2⁴⁰. Without extra noise it cannot at any size: recoding puts the s/d of a read back.\n"
    )
    yield from table(
        ("neurons n", "features m", "extra noise of a read", "smallest d", "channel there"),
        ((f"d^{row['neurons']:g}", f"d^{row['power']:g}", f"{row['noise']:g}", "none" if row["d"] is None else
        f"{row['d']:,}", row["channel"] or "–")
         for row in found["pays"]),
    )  # fmt: skip


def _helps_row(row: dict[str, Any]) -> tuple[object, ...]:
    plain, corrected = np.array(row["plain_rms"]), np.array(row["corrected_rms"])
    return (
        f"{row['d']:,}", row["gates"], f"{plain.mean():.4f}", f"{corrected.mean():.4f}",
        f"{int((corrected < plain).sum())} of {len(plain)}",
        f"{100 * np.mean(row['plain_wrong']):.2f}", f"{100 * np.mean(row['corrected_wrong']):.2f}",
    )  # fmt: skip


def _deep_slopes(row: dict[str, Any]) -> tuple[str, str]:
    """Exponents over all sizes and over the upper half of them."""
    if np.min(row["widths"]) == 0:
        return "a width of 0", "a width of 0"
    dims, widths, half = row["dims"], row["widths"], len(row["dims"]) // 2
    return _interval(slope(dims, widths)), _interval(slope(dims[half:], widths[half:]))


def _chosen_rows(rows: list[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for row in rows:
        outputs, params = row["outputs"], [[n * (n + 1) for n in one] for one in row["widths"]]
        neurons = lambda m: float(bounds.sufficient_neurons(m))
        square = lambda m: m * math.log(m) ** 2
        yield (
            row["name"], ", ".join(f"{m:,}" for m in outputs), ", ".join(f"{np.mean(one):,.0f}" for one in row["widths"]),
            _interval(slope(outputs, row["widths"])), f"{local(outputs, neurons):.2f}",
            _interval(slope(outputs, params)), f"{local(outputs, square):.2f}",
            ", ".join(f"{neurons(m):,.0f}" for m in outputs), ", ".join(f"{square(m):,.0f}" for m in outputs),
        )  # fmt: skip


def picture(found: dict[str, list[dict[str, Any]]]) -> str:
    """Measured widths with the forms of the papers, scaled to the first point; and depth."""
    sets = (
        ("universal AND", "concepts m", found["universal"], "sizes", lambda m: m ** (2 / 3), "m^⅔"),
        (
            "chosen ANDs",
            "pairs m′",
            found["chosen"],
            "outputs",
            lambda m: math.sqrt(m) * math.log(m),
            "√m′ ln m′",
        ),
    )
    colors = alt.Scale(range=[ACCENT, "#c2410c", INK])
    panels = list[Any]()
    for title, x_title, rows, key, form, name in sets:
        points = pd.DataFrame(
            [
                {"x": x, "n": n, "which": row["name"]}
                for row in rows
                for x, one in zip(row[key], row["widths"], strict=True)
                for n in one
            ]
        )
        # through the first width of the construction that the form is claimed for
        anchor = next(row for row in rows if row["name"] in ("sparse U-AND, superposed", "low influence"))
        scale = np.mean(anchor["widths"][0]) / form(anchor[key][0])
        line = pd.DataFrame([{"x": x, "n": scale * form(x)} for x in anchor[key]])
        panels.append(_panel(points, line, title, x_title, "neurons needed", name, colors))
    rows = found["deep"]
    points = pd.DataFrame(
        [{"x": d, "n": n, "which": "corrected" if row["correct"] else "as it is"}
         for row in rows for d, one in zip(row["dims"], row["widths"], strict=True) for n in one if n]
    )  # fmt: skip
    dims = rows[0]["dims"]
    scale = np.mean(rows[0]["widths"][0]) / dims[0] ** 1.5
    line = pd.DataFrame([{"x": d, "n": scale * d**1.5} for d in dims])
    panels.append(
        _panel(points, line, "depth", "dimensions d", "gates a layer, 5 % of errors", "d^1.5", colors)
    )
    return to_svg(
        alt.hconcat(*panels).resolve_scale(color="independent"), "rates", "Rates: measured, and the papers' forms",
        "points: seeds; lines: means; dashed: the form named, put through the first point of its construction",
        "Measured neurons rise more slowly than the dashed forms; gates a layer, few as they are, more steeply than d^1.5.",
    )  # fmt: skip


def _panel(
    points: pd.DataFrame,
    line: pd.DataFrame,
    title: str,
    x_title: str,
    y_title: str,
    name: str,
    colors: alt.Scale,
) -> Any:
    x = alt.X("x:Q", title=x_title, scale=alt.Scale(type="log"), axis=alt.Axis(format="~s", grid=False))
    y = alt.Y("n:Q", title=y_title, scale=alt.Scale(type="log"), axis=alt.Axis(format="~s"))
    color = alt.Color(
        "which:N", title=None, scale=colors, legend=alt.Legend(orient="bottom", columns=1, labelLimit=240)
    )
    base = alt.Chart(points)
    return alt.layer(
        alt.Chart(line).mark_line(color=MUTED, strokeDash=[4, 4]).encode(x=x, y=y),
        alt.Chart(line.tail(1))
        .mark_text(align="left", dx=6, color=INK)
        .encode(x=x, y=y, text=alt.value(name)),
        base.mark_line(strokeWidth=1.2).encode(x=x, y=alt.Y("mean(n):Q", title=y_title), color=color),
        base.mark_point(filled=True, size=30, opacity=0.7).encode(x=x, y=y, color=color),
    ).properties(width=230, height=240, title=title)


def main() -> None:
    """Run the parts asked for, keep the numbers of each, write the page from all that are there."""
    makers: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "pays": pays, "far": far, "chosen": lambda: widths(CHOSEN), "universal": lambda: widths(UNIVERSAL), "deep": deep,
        "helps": helps, "again": again,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parts", nargs="*", choices=list(makers), default=list(makers))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for part in options.parts:
        began = time.process_time()
        found[part] = list(makers[part]())
        print(f"({part}: {time.process_time() - began:.0f} s of processor time)", found[part], flush=True)
        write_text(options.out, json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if set(makers) <= set(found):
        write_page(page(found), str(options.out.with_suffix(".md")))


if __name__ == "__main__":
    main()
