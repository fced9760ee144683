"""Predicted and measured error of every construction, and the width each of them needs.

    python analyses/constructions.py                 # about a quarter of an hour on one core; writes
    results/constructions.md python analyses/constructions.py --quick --out /tmp/constructions.md

Four tables: the error of each construction at three sizes or more (five seeds, 2,000 inputs in each pattern),
the width needed for 1 % of errors against the number of outputs with its log-log slope, the error-correction
layer and the size at which it starts to help, and deep boolean circuits. Every number comes from the seeds
named at the top of the file.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student
from tqdm import tqdm

from probekit.storage.store import write_text
from probekit.theory import bounds
from probekit.theory.circuits import (
    Circuit,
    boolean_circuit,
    correction,
    dense_uand,
    gaussian_uand,
    permutation,
    random_gates,
    sparse_uand,
    targeted_and,
    two_and,
)
from probekit.theory.circuits.draw import generator, subsets
from probekit.theory.circuits.predict import Channel, channel_prediction, inverse_of_binomial
from probekit.theory.measure import measure, measure_deep

S = 3
HERE = Path(__file__).parent
Build = Callable[[int, int], Circuit]
"""(n, seed) → circuit."""


@dataclass(frozen=True)
class Entry:
    """One construction at its sizes."""

    name: str
    inputs: str
    build: Build
    sizes: tuple[int, ...]
    recoded: bool = False


def _uand(build: Callable[..., Circuit], **fixed: float) -> Build:
    return lambda n, seed: build(n_concepts=200, n_neurons=n, n_active=S, pairs=2_000, seed=seed, **fixed)


def _superposed_uand(build: Callable[..., Circuit], load: float) -> Build:
    return lambda n, seed: build(
        n_concepts=int(load * n), n_neurons=n, d_model=n, n_active=S, pairs=2_000, seed=seed
    )


def _low(load: float, *, superposed: bool) -> Build:
    return lambda n, seed: two_and(
        pairs=int(load * n),
        n_concepts=int(load * n),
        n_neurons=n,
        d_model=n if superposed else None,
        seed=seed,
    )


def _high(n_heavy: int, *, superposed: bool) -> Build:
    return lambda n, seed: two_and(
        pairs=math.comb(n_heavy, 2), n_concepts=n_heavy, n_neurons=n, d_model=n if superposed else None,
        influence=n_heavy - 1, case="high", seed=seed,
    )  # fmt: skip


def _mixed(*, superposed: bool) -> Build:
    def build(n: int, seed: int) -> Circuit:
        pairs = [(heavy, 8 + n // 8 * heavy + i) for heavy in range(8) for i in range(n // 8)]
        return two_and(
            pairs=pairs, n_concepts=n + 8, n_neurons=n, d_model=n if superposed else None, channel=8,
            case="mixed", seed=seed,
        )  # fmt: skip

    return build


def _general(*, superposed: bool) -> Build:
    def build(n: int, seed: int) -> Circuit:
        heavy_light = [(h, 8 + n // 64 * h + i) for h in range(8) for i in range(n // 64)]
        first = 8 + n // 8
        light = [(first + 2 * i, first + 2 * i + 1) for i in range(n // 8)]
        pairs = [*heavy_light, *itertools.combinations(range(8), 2), *light]
        return two_and(
            pairs=pairs, n_concepts=first + n // 4, n_neurons=n, d_model=n if superposed else None,
            case="general", seed=seed,
        )  # fmt: skip

    return build


def _targeted(n: int, seed: int) -> Circuit:
    return targeted_and(pairs=n, n_concepts=n, n_neurons=n, d_model=n, seed=seed)


def _permutation(*, clean_up: bool) -> Build:
    def build(n: int, seed: int) -> Circuit:
        m = max(16, int(0.9 * (0.046 - 2 * S / n) * n**2 / S)) if not clean_up else n // 4
        return permutation(n_concepts=m, d_model=n, clean_up=clean_up, seed=seed)

    return build


ENTRIES = (
    Entry("sparse U-AND", "basis", _uand(sparse_uand), (128, 512, 2048)),
    Entry("sparse U-AND, m = n", "superposed", _superposed_uand(sparse_uand, 1), (256, 512, 1024)),
    Entry("dense U-AND {1,−2}", "basis", _uand(dense_uand), (128, 512, 1024, 2048)),
    Entry("dense U-AND ±1", "basis", _uand(dense_uand, negative=1.0), (128, 512, 2048)),
    Entry("Gaussian layer", "basis", _uand(gaussian_uand), (128, 512, 2048)),
    Entry("Gaussian layer, m = 2n", "superposed", _superposed_uand(gaussian_uand, 2), (256, 512, 1024)),
    Entry("2-AND low, m' = 4n", "basis", _low(4, superposed=False), (128, 256, 512)),
    Entry("2-AND low, m' = n", "superposed", _low(1, superposed=True), (256, 512, 1024)),
    Entry("2-AND low, m' = 2n", "superposed", _low(2, superposed=True), (256, 512, 1024)),
    Entry(
        "2-AND low, m' = 2n, recoded", "superposed", _low(2, superposed=True), (256, 512, 1024), recoded=True
    ),
    Entry("2-AND low, m' = 4n", "superposed", _low(4, superposed=True), (256, 512, 1024)),
    Entry("2-AND high, 48 concepts", "basis", _high(48, superposed=False), (256, 512, 1024)),
    Entry("2-AND high, 48 concepts", "superposed", _high(48, superposed=True), (256, 512, 1024)),
    Entry("2-AND high, 96 concepts", "superposed", _high(96, superposed=True), (256, 512, 1024)),
    Entry("2-AND mixed, 8 heavy", "basis", _mixed(superposed=False), (256, 512, 1024)),
    Entry("2-AND mixed, 8 heavy", "superposed", _mixed(superposed=True), (256, 512, 1024)),
    Entry("2-AND general", "basis", _general(superposed=False), (512, 1024, 1536)),
    Entry("2-AND general", "superposed", _general(superposed=True), (512, 1024, 1536)),
    Entry("targeted AND, m' = n", "superposed", _targeted, (256, 512, 1024)),
    Entry("permutation, linear", "superposed", _permutation(clean_up=False), (192, 256, 512)),
    Entry("permutation, clean-up, m = n/4", "superposed", _permutation(clean_up=True), (256, 512, 1024)),
)


def _header(*columns: str) -> list[str]:
    return ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]


def error_table(n_seeds: int, n_inputs: int, entries: tuple[Entry, ...]) -> str:
    """Predicted and measured error of every entry."""
    columns = (
        "construction", "inputs", "n", "m", "m'", "predicted sd 11 / 10 / 01 / 00",
        "measured sd (± over seeds)",
        "measured / predicted", "ε95", "worst-pattern error % (range)", "√(m' ln m')", "√m' ln m'",
    )  # fmt: skip
    lines = _header(*columns)
    tasks = [(entry, n) for entry in entries for n in entry.sizes]
    for entry, n in tqdm(tasks, desc="errors", unit="size"):
        predicted, measured = [], []
        for seed in range(n_seeds):
            circuit = entry.build(n, seed)
            predicted.append(circuit.predicted_recoded_sd if entry.recoded else circuit.predicted_sd)
            measured.append(measure(circuit, n_inputs=n_inputs, recoded=entry.recoded, seed=1_000 + seed))
        wanted = np.mean(predicted, axis=0)
        sds = np.array([found.sd for found in measured])
        spread, ratio = sds.std(axis=0, ddof=1), sds.mean(axis=0) / wanted
        eps = np.array([found.eps95 for found in measured])
        errors = 100 * np.array([found.worst_error for found in measured])
        some = [
            entry.name, entry.inputs, f"{n:,}", f"{circuit.n_concepts:,}", f"{circuit.n_outputs:,}",
            " / ".join(f"{sd:.3f}" for sd in wanted),
            " / ".join(f"{sd:.3f} ± {by:.3f}" for sd, by in zip(sds.mean(axis=0), spread, strict=True)),
            " / ".join(f"{r:.2f}" for r in ratio),
            f"{eps.mean():.3f} ± {eps.std(ddof=1):.3f}",
            f"{errors.mean():.2f} ({errors.min():.2f}–{errors.max():.2f})",
            *_forms(entry, circuit),
        ]  # fmt: skip
        lines.append("| " + " | ".join(some) + " |")
    return "\n".join(lines)


def _forms(entry: Entry, circuit: Circuit) -> tuple[str, str]:
    if "AND" in entry.name and "U-" not in entry.name:
        return (
            f"{float(bounds.min_neurons(circuit.n_outputs)):.0f}",
            f"{float(bounds.sufficient_neurons(circuit.n_outputs)):.0f}",
        )
    if "permutation" in entry.name:
        return f"{float(bounds.min_neurons(circuit.n_outputs)):.0f}", "–"
    return "–", "–"  # universal: no selection, so no bound of this kind


Moments = tuple[np.ndarray, np.ndarray]
"""Predicted mean and sd of the readout in each pattern."""


@dataclass(frozen=True)
class Scaling:
    """Widths needed by one construction as the number of its outputs grows."""

    name: str
    x_name: str
    loads: tuple[int, ...]
    build: Callable[[int, int, int], Circuit]
    """(load, n, seed) → circuit."""
    outputs: Callable[[int], int]
    """m' of a load."""
    predict: Callable[[int, int], Moments]
    """(load, n) → moments, without building the circuit."""
    theory: Callable[[float], str]
    """The theory's exponent, given the mean of ln m' over the loads."""
    selects: bool = False
    """Whether the outputs are an arbitrary choice, to which the bounds on n apply."""


def _pairs(m: int) -> int:
    return math.comb(m, 2)


def _of(circuit: Circuit) -> Moments:
    return circuit.predicted_mean, circuit.predicted_sd


def _low_moments(m: int, n: int, size: int, *, superposed: bool) -> Moments:
    """Every concept in two pairs, each with a channel of `size` neurons."""
    return channel_prediction(Channel(2, S, m, 1 - (1 - size / n) ** 2, 1 / size, n if superposed else None))


def _high_moments(m: int, n: int) -> Moments:
    q = math.sqrt(min(12, n / 4) / n)
    return channel_prediction(Channel(2, S, m, q, inverse_of_binomial(n, q**2), n))


def _permutation_moments(m: int, n: int) -> Moments:
    on = np.array([1.0, 0.0])
    return on, np.sqrt(2 * (S - on) / n + (m - 1) * S / n**2)


def _half(log_m: float) -> str:
    upper, lower = 0.5 + 1 / log_m, 0.5 + 0.5 / log_m
    return f"√m' ln m': {upper:.2f}; √m' at fixed c: 0.50; lower bound √(m' ln m'): {lower:.2f}"


SCALINGS = (
    Scaling(
        "sparse U-AND, basis", "all pairs of m = 16 … 256", (16, 32, 64, 128, 256),
        lambda m, n, seed: sparse_uand(
            n_concepts=m, n_neurons=n, n_active=S, pairs=min(_pairs(m), 2_000), seed=seed
        ),
        _pairs,
        lambda m, n: _of(sparse_uand(n_concepts=8, n_neurons=n, n_active=S, pairs=1, seed=0)),
        lambda log_m: "polylog(m): 0",
    ),
    Scaling(
        "dense U-AND {1,−2}, basis", "all pairs of m = 16 … 256", (16, 32, 64, 128, 256),
        lambda m, n, seed: dense_uand(
            n_concepts=m, n_neurons=n, n_active=S, pairs=min(_pairs(m), 2_000), seed=seed
        ),
        _pairs,
        lambda m, n: _of(dense_uand(n_concepts=8, n_neurons=n, n_active=S, pairs=1, seed=0)),
        lambda log_m: "K/ε²: 0",
    ),
    Scaling(
        "Gaussian layer, superposed (d = n)", "all pairs of m = 64 … 1024", (64, 256, 1024),
        lambda m, n, seed: gaussian_uand(
            n_concepts=m, n_neurons=n, n_active=S, d_model=n, pairs=2_000, seed=seed
        ),
        _pairs,
        lambda m, n: _of(gaussian_uand(n_concepts=8, n_neurons=n, n_active=S, d_model=n, pairs=1, seed=0)),
        lambda log_m: "independent of m: 0",
    ),
    Scaling(
        "2-AND low, basis, c = 5", "m' = m", (256, 512, 1024, 2048, 4096),
        lambda m, n, seed: two_and(pairs=m, n_concepts=m, n_neurons=n, seed=seed),
        lambda m: m,
        lambda m, n: _low_moments(m, n, 5, superposed=False),
        lambda log_m: "collisions s·t·c/n only: 0 (each neuron has m input wires, so P = n·m)",
    ),
    Scaling(
        "2-AND low, superposed (d = n), c = 5", "m' = m", (256, 512, 1024, 2048, 4096, 8192),
        lambda m, n, seed: two_and(pairs=m, n_concepts=m, n_neurons=n, d_model=n, seed=seed),
        lambda m: m,
        lambda m, n: _low_moments(m, n, 5, superposed=True),
        _half,
        selects=True,
    ),
    Scaling(
        "2-AND low, superposed (d = n), c = log2 m'", "m' = m", (256, 512, 1024, 2048, 4096),
        lambda m, n, seed: two_and(
            pairs=m, n_concepts=m, n_neurons=n, d_model=n, channel=round(math.log2(m)), seed=seed
        ),
        lambda m: m,
        lambda m, n: _low_moments(m, n, round(math.log2(m)), superposed=True),
        _half,
        selects=True,
    ),
    Scaling(
        "2-AND high, superposed (d = n)", "all pairs of m = 16 … 128", (16, 32, 64, 128),
        lambda m, n, seed: two_and(
            pairs=_pairs(m), n_concepts=m, n_neurons=n, d_model=n, influence=m - 1, case="high", seed=seed
        ),
        _pairs,
        _high_moments,
        lambda log_m: "√(q·m_h·s/d) at q = √(12/n): towards ⅓",
    ),
    Scaling(
        "permutation, linear (n = d)", "m' = m", (128, 512, 2048, 4096),
        lambda m, n, seed: permutation(n_concepts=m, d_model=n, seed=seed),
        lambda m: m,
        _permutation_moments,
        lambda log_m: f"m·s/d² + 2s/d: towards 0.50; lower bound √(m' ln m'): {0.5 + 0.5 / log_m:.2f}",
        selects=True,
    ),
)  # fmt: skip


def width_needed(error: Callable[[int], float], start: float, *, wanted: float = 0.01) -> float:
    """Smallest n with at most `wanted` worst-pattern errors, found to within a tenth of an octave."""
    error = functools.cache(error)
    low = high = 2 * round(start / 2)
    while error(high) > wanted:
        low, high = high, 2 * round(high * 0.7)
    while low > 16 and error(low) <= wanted:
        low, high = 2 * round(low / 3), low
    while high / low > 1.07:
        middle = 2 * round(math.sqrt(low * high) / 2)
        if middle in (low, high):
            break
        low, high = (low, middle) if error(middle) <= wanted else (middle, high)
    return math.sqrt(low * high)


def normal_error(moments: Moments) -> float:
    """Worst-pattern error at the best threshold if readouts were normal, the first pattern being true."""
    mean, sd = moments
    thresholds = np.linspace(0.0, 1.5, 1_501)[:, None]
    wrong = norm.sf(np.where(np.arange(len(mean)) == 0, mean - thresholds, thresholds - mean) / sd)
    return float(wrong.max(axis=1).min())


def scaling_table(n_seeds: int, n_inputs: int, scalings: tuple[Scaling, ...]) -> str:
    """Widths needed for 1 % of errors and their log-log slopes with 95 % intervals over seeds."""
    columns = (
        "construction", "loads", "m'", "n needed", "n predicted", "√(m' ln m')", "√m' ln m'",
        "slope of ln n on ln m' [95 %]", "predicted slope", "slope of the last two", "theory",
    )  # fmt: skip
    lines = _header(*columns)
    for scaling in tqdm(scalings, desc="widths", unit="construction"):
        widths, predicted = np.empty((n_seeds, len(scaling.loads))), np.empty(len(scaling.loads))
        for j, load in enumerate(scaling.loads):
            predicted[j] = width_needed(functools.partial(_predicted_error, scaling, load), 400)
            for seed in range(n_seeds):
                measured = functools.partial(_measured_error, scaling, load, seed, n_inputs)
                widths[seed, j] = width_needed(measured, predicted[j])
        outputs = np.array([scaling.outputs(load) for load in scaling.loads])
        some = [
            scaling.name, scaling.x_name, ", ".join(f"{m:,}" for m in outputs),
            ", ".join(f"{n:.0f}" for n in widths.mean(axis=0)), ", ".join(f"{n:.0f}" for n in predicted),
            *(
                ", ".join(f"{float(form(int(m))):.0f}" for m in outputs) if scaling.selects else "–"
                for form in (bounds.min_neurons, bounds.sufficient_neurons)
            ),
            _slope(outputs, widths), f"{np.polyfit(np.log(outputs), np.log(predicted), 1)[0]:.2f}",
            _slope(outputs[-2:], widths[:, -2:]), scaling.theory(float(np.log(outputs).mean())),
        ]  # fmt: skip
        lines.append("| " + " | ".join(some) + " |")
    return "\n".join(lines)


def _predicted_error(scaling: Scaling, load: int, n: int) -> float:
    return normal_error(scaling.predict(load, n))


def _measured_error(scaling: Scaling, load: int, seed: int, n_inputs: int, n: int) -> float:
    return measure(scaling.build(load, n, seed), n_inputs=n_inputs, seed=1_000 + seed).worst_error


def _slope(outputs: np.ndarray, widths: np.ndarray) -> str:
    slopes = np.array([np.polyfit(np.log(outputs), np.log(row), 1)[0] for row in widths])
    half = student.ppf(0.975, len(slopes) - 1) * slopes.std(ddof=1) / math.sqrt(len(slopes))
    return f"{slopes.mean():.2f} [{slopes.mean() - half:.2f}, {slopes.mean() + half:.2f}]"


def far_slopes() -> str:
    """Where the predicted widths go at sizes that cannot be run: local exponents of the low case."""
    columns = ("m'", "c = 5: n", "slope", "c = log2 m': n", "slope", "slope of √m' ln m'")
    lines = _header(*columns)
    for exponent in (3, 4, 6, 9, 12):
        cells = [f"1e{exponent}"]
        for grows in (False, True):
            ends = []
            for m in (10**exponent, 2 * 10**exponent):
                size = math.log2(m) if grows else 5
                ends.append(_continuous_width(m, size))
            cells += [f"{ends[0]:,.0f}", f"{math.log2(ends[1] / ends[0]):.2f}"]
        lines.append("| " + " | ".join([*cells, f"{0.5 + 1 / math.log(10**exponent):.2f}"]) + " |")
    return "\n".join(lines)


def _continuous_width(m: int, size: float) -> float:
    def excess(log_n: float) -> float:
        n = math.exp(log_n)
        channel = Channel(2, S, m, 1 - (1 - size / n) ** 2, 1 / size, n, 0.0)  # type: ignore[arg-type]
        return math.log(max(normal_error(channel_prediction(channel)), 1e-300) / 0.01)

    return math.exp(brentq(excess, math.log(50), math.log(1e9), xtol=1e-6))


def correction_table(n_seeds: int, n_inputs: int, sizes: tuple[int, ...], light: tuple[int, ...]) -> str:
    """Error of a feature that is off, before and after an error-correction layer at n = d."""
    columns = (
        "n = d", "m", "extra noise of a read", "before", "after, predicted", "after, measured",
        "after recoding, predicted", "helps (read / recoded)",
    )  # fmt: skip
    lines = _header(*columns)
    tasks = [
        (n, load, noise)
        for load, noise in ((1, 0.0), (1, 0.02), (1, 0.05), (1, 0.1), (4, 0.02))
        for n in (*sizes, *light, 32_768, 131_072)
    ]
    for n, load, noise in tqdm(tasks, desc="correction", unit="size"):
        m = load * n
        channel = Channel(1, S, m, 6 / (n // 2), 1 / 6, n, noise, 0.25)
        mean, sd = channel_prediction(channel)
        before, after = math.hypot(math.sqrt(S / n), noise), float(np.hypot(mean[1], sd[1]))
        recoded = math.hypot(after, math.sqrt((S + m * after**2) / n))
        measured = "–"
        if load == 1 and n in sizes:
            found = [
                measure(
                    correction(n_concepts=m, n_neurons=n, d_model=n, noise_sd=noise, seed=seed),
                    n_inputs=n_inputs, noise_sd=noise, seed=1_000 + seed,
                )
                for seed in range(n_seeds)
            ]  # fmt: skip
            off = [math.hypot(f.mean[1], f.sd[1]) for f in found]
            measured = f"{np.mean(off):.4f} ± {np.std(off, ddof=1):.4f}"
        elif load == 1 and n in light:
            off = [_light_correction(n, noise, n_inputs // 2, seed) for seed in range(n_seeds)]
            measured = f"{np.mean(off):.4f} ± {np.std(off, ddof=1):.4f}"
        helps = f"{'yes' if after < before else 'no'} / {'yes' if recoded < before else 'no'}"
        lines.append(
            f"| {n:,} | {m:,} | {noise:g} | {before:.4f} | {after:.4f} | {measured} | {recoded:.4f} | "
            f"{helps} |"
        )
    return "\n".join(lines)


def _light_correction(n: int, noise: float, n_inputs: int, seed: int) -> float:
    """The layer at m = n = d without its matrices: only the units of one feature an input, which is off."""
    rng = generator(seed)
    codes = rng.integers(0, 2, size=(n, n), dtype=np.int8) * np.int8(2) - np.int8(1)  # concept, input
    units = subsets(rng, n, 6, n // 2)
    by_unit = np.argsort(units.ravel(), kind="stable")
    ends = np.searchsorted(units.ravel()[by_unit], np.arange(n // 2 + 1))
    reads = np.empty(n_inputs)
    for i in range(n_inputs):
        feature, *active = rng.choice(n, size=S + 1, replace=False)
        x = codes[active].sum(axis=0) / math.sqrt(n) + noise * rng.standard_normal(n)
        served = [by_unit[ends[u] : ends[u + 1]] // 6 for u in units[feature]]
        decoded = codes[np.concatenate(served)] @ x / math.sqrt(n)
        sums = np.add.reduceat(decoded, np.cumsum([0, *map(len, served[:-1])]))
        reads[i] = np.clip(2 * (sums - 0.25), 0, 1).mean()
    return math.sqrt(np.mean(reads**2))


def deep_table(n_seeds: int, sizes: tuple[int, ...]) -> str:
    """Deep boolean circuits of three layers of random gates, with and without correction layers between."""
    columns = (
        "n, d", "gates a layer", "correction", "rms error of the layers", "missed % in the last",
        "falsely on % in the last",
    )  # fmt: skip
    lines = _header(*columns)
    tasks = [(d, share, fix) for d in sizes for share in (32, 8) for fix in (False, True)]
    for d, share, fix in tqdm(tasks, desc="deep", unit="circuit"):
        found = []
        for seed in range(n_seeds):
            width = d // share
            gates = random_gates(n_concepts=width, widths=[width] * 3, kinds=("and", "or", "xor"), seed=seed)
            circuit = boolean_circuit(
                gates=gates, n_concepts=width, n_neurons=2 * d, d_model=d, correct=fix, seed=seed
            )
            found.append(measure_deep(circuit, n_inputs=400, seed=1_000 + seed))
        rms = np.mean([[layer.rms for layer in one] for one in found], axis=0)
        missed = 100 * np.array([one[-1].missed for one in found])
        falsely = 100 * np.array([one[-1].falsely_on for one in found])
        some = [
            f"{2 * d:,}, {d:,}",
            f"{d // share:,}",
            "yes" if fix else "no",
            ", ".join(f"{r:.3f}" for r in rms),
            f"{missed.mean():.2f} ± {missed.std(ddof=1):.2f}",
            f"{falsely.mean():.2f} ± {falsely.std(ddof=1):.2f}",
        ]
        lines.append("| " + " | ".join(some) + " |")
    return "\n".join(lines)


INTRODUCTION = """\
`python analyses/constructions.py {command}`: seeds 0 to {last}, {inputs:,} inputs in each of the patterns
11, 10, 01, 00 of a pair (on, off of a single concept), exactly s = 3 concepts on in each, d = n where
inputs are superposed. Errors are pooled over outputs and inputs; ± is the standard deviation over seeds;
the worst-pattern error is at the best common threshold. Universal ANDs select nothing, so no bound of the
selecting kind stands beside them. The asymptotic forms have constant 1, which no paper claims: they are
orders of magnitude."""

WIDTHS = """\
Predicted widths take the predicted means and sds for normal variables; the reads are skewed, so they are
off by up to a fifth. √(m' ln m') is the lower bound, √m' ln m' the order that the construction needs,
both with constant 1. The slope on basis-aligned inputs is 0 because the inputs then have m wires of their
own: the bounds on n hold where n neurons have n inputs. All pairs of some concepts are a regular set, and
cost the counting bound nothing."""

FAR = """\
The same prediction of the low case on superposed inputs, at sizes that cannot be run. At small m' the
width is held up by the overlaps of the two concepts' own codes (2s/d), which no channel averages out, so
the measured slopes lie below ½. They tend to ½ and not to the exponent of √m' ln m' because 1 % of wrong
answers is allowed; the logarithm is paid when all m' outputs have to be right at once. The counting bound
is respected: an entry of w_in is a sum of some 2m'c/n signs, so it carries of the order of ½ log2(2m'c/n)
bits, not O(1)."""

CORRECTION = """\
A feature that is off, rms error. c = 6 units a feature, ramp τ = ¼; n ReLU neurons are n/2 units. Above
2,048 the layer is simulated unit by unit without its matrices, or only predicted."""

DEEP = """\
Three layers of random and, or, xor gates, c = 5, threshold ½; half of the inputs hold a witness of a last
output. With correction, layers 2 and 4 of the five are the corrections."""


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds of every number, at least two")
    parser.add_argument("--inputs", type=int, default=2_000, help="inputs in each pattern")
    parser.add_argument(
        "--quick", action="store_true", help="the smallest size of everything: a check of the script"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results" / "constructions.md")
    options = parser.parse_args()
    entries, scalings = ENTRIES, SCALINGS
    sizes, light, deep = (512, 1024, 2048), (8192,), (512, 1024)
    if options.quick:
        entries = tuple(Entry(e.name, e.inputs, e.build, e.sizes[:1], e.recoded) for e in ENTRIES)
        scalings, sizes, light, deep = SCALINGS[1:2], (512,), (), (256,)
    start = time.perf_counter()
    parts = [
        "# The constructions, predicted and measured",
        INTRODUCTION.format(
            command=f"--seeds {options.seeds} --inputs {options.inputs}{' --quick' if options.quick else ''}",
            last=options.seeds - 1,
            inputs=options.inputs,
        ),
        "## Error",
        error_table(options.seeds, options.inputs, entries),
        "## Width needed for 1 % of errors in the worst pattern",
        WIDTHS,
        scaling_table(options.seeds, options.inputs, scalings),
        FAR,
        far_slopes(),
        "## Error correction: where it starts to help",
        CORRECTION,
        correction_table(options.seeds, options.inputs, sizes, light),
        "## Deep boolean circuits",
        DEEP,
        deep_table(options.seeds, deep),
    ]
    write_text(options.out, "\n\n".join(parts) + "\n")
    print(f"{options.out} written in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
