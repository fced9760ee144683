"""Whole probes, from activations to weights, and their quality on fresh tokens: ours against the recipes in use."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.peers import SINGLE
from benchmarks.problems import Problem, dense, u_and
from benchmarks.quality import Quality
from benchmarks.selection import K, moments_of
from benchmarks.table import Goal, Table, digits
from benchmarks.timing import in_turns
from probekit.probes.logistic import OVERSAMPLE, logistic_refit
from probekit.probes.select import forward_select, least_squares_weights

N_JUDGED = 200
"""Targets that ours is judged on."""
N_FEW = 96
"""Targets that are refitted on all tokens as well."""
SMALLER = 5.0
"""An `oversample` to compare the default with."""


def run(*, quick: bool) -> Table:
    """The table."""
    table = Table(
        "probes",
        "One probe, from activations to weights",
        f"Two planted layers of 512 neurons, 20,000 tokens, all 2,016 pairs of 64 concepts, k = {K}. Ours: the "
        "pass over the "
        "activations, selection for all pairs, and the refit of all of them, divided by their number. The "
        "recipes fit one "
        "target at a time and are run on as many as half a minute allows (column targets; ours is judged on "
        f"{N_JUDGED}, both spread over all pairs); a target is the AND itself on both sides. "
        "One thread, processor time. The last rows of a layer refit ours' supports. "
        "For sae-probes multiply the first recipe by the ten penalties it searches.",
        ["layer", "method", "targets", "ms a probe", "× ours", "AUC", "F1", "recovery"],
    )
    n_rounds = 1 if quick else 3
    for problem in (u_and(512), dense(512))[: 1 if quick else 2]:
        _layer(table, problem, n_rounds, quick=quick)
    return table


def _layer(table: Table, problem: Problem, n_rounds: int, *, quick: bool) -> None:
    held_columns = np.ascontiguousarray(problem.x.T)
    everything = np.arange(len(problem.pairs))
    few = everything[:: len(everything) // N_FEW][:N_FEW]
    twelve = few[:: N_FEW // 12]
    supports = forward_select(moments_of(problem).finalize(), K, additive=False)

    def least_squares():
        frozen = moments_of(problem).finalize()
        support = forward_select(frozen, K, additive=False)
        return support, least_squares_weights(frozen, support, additive=False)

    def refitted(
        pairs: np.ndarray, oversample: float = OVERSAMPLE, columns: np.ndarray = held_columns
    ) -> np.ndarray:
        rng = np.random.default_rng(0)
        lists = problem.lists(pairs)
        return logistic_refit(columns, lists, supports[pairs], rng=rng, oversample=oversample)[0]

    def refitted_by_sklearn(pairs: np.ndarray) -> list[np.ndarray]:
        fits = [LogisticRegression(max_iter=1_000) for _ in pairs]
        return [
            fit.fit(problem.x[:, supports[p]], problem.truth(p)).coef_[0]
            for fit, p in zip(fits, pairs, strict=True)
        ]

    ways = {
        "pass": (least_squares, len(everything)),
        "refit": (
            lambda: refitted(everything, columns=np.ascontiguousarray(problem.x.T)),
            len(everything),
        ),
        "smaller": (lambda: refitted(everything, SMALLER), len(everything)),
        "newton": (lambda: refitted(few, np.inf), len(few)),
        "sklearn": (lambda: refitted_by_sklearn(twelve), len(twelve)),
    }
    times = in_turns(ways, n_rounds=n_rounds)
    ls, refit = times["pass"].each, times["refit"].each
    support, weights = least_squares()
    judged = np.arange(0, len(everything), len(everything) // N_JUDGED)[:N_JUDGED]
    quality = {name: Quality() for name in ("pass", "refit", "newton", "sklearn", "refit of few", "smaller")}
    sampled = refitted(judged)
    for row, pair in enumerate(judged):
        quality["pass"].add(problem, pair, support[pair], weights[pair])
        quality["refit"].add(problem, pair, supports[pair], sampled[row])
    for name, pairs, found in (
        ("newton", few, refitted(few, np.inf)), ("refit of few", few, refitted(few)),
        ("smaller", few, refitted(few, SMALLER)), ("sklearn", twelve, refitted_by_sklearn(twelve)),
    ):  # fmt: skip
        for pair, w in zip(pairs, found, strict=True):
            quality[name].add(problem, pair, supports[pair], w)
    add = lambda told, n, each, cells: table.rows.append(
        [problem.name, told, n, digits(each * 1e3), round(each / (ls + refit), 1), *cells]
    )
    add("**moments, forward selection, least squares**", 2016, ls, quality["pass"].cells())
    add("**… and local case-control logistic refit**", 2016, ls + refit, quality["refit"].cells())
    seconds = _recipes(add, problem, few, quick=quick)
    add(
        "refit alone, local case-control, on the targets of the next row",
        N_FEW,
        refit,
        quality["refit of few"].cells(),
    )
    add(
        f"the same, {SMALLER:g} times the pilot's error where {OVERSAMPLE:g} is the default",
        N_FEW,
        times["smaller"].each,
        quality["smaller"].cells(),
    )
    add("refit alone, Newton on all tokens", N_FEW, times["newton"].each, quality["newton"].cells())
    add("refit alone, scikit-learn LogisticRegression", 12, times["sklearn"].each, quality["sklearn"].cells())
    loss = float(np.mean(quality["newton"].f1) - np.mean(quality["refit of few"].f1))
    table.goals += [
        Goal(f"× mean difference → LogisticRegression, {problem.name}", 25.0, round(seconds[0] / (ls + refit), 1)),
        Goal(f"× mean difference → saga, {problem.name}", 1000.0, round(seconds[1] / (ls + refit), 1)),
        Goal(f"F1 lost by sampling tokens, {problem.name}", 0.003, round(loss, 4), at_most=True),
        Goal(f"× Newton on all tokens, {problem.name}", 5.0, round(times["newton"].each / refit, 1)),
        Goal(f"× scikit-learn on the same supports, {problem.name}", 15.0, round(times["sklearn"].each / refit, 1)),
    ]  # fmt: skip
    table.rates[f"refit_seconds_a_pair_{problem.name}"] = refit


def _recipes(add, problem: Problem, pairs: np.ndarray, *, quick: bool) -> list[float]:
    seconds = []
    for name, (fit, n_targets) in SINGLE.items():
        n_run = 1 if quick else n_targets
        chosen = pairs[:: len(pairs) // n_run][:n_run]
        quality = Quality()
        try:
            found = {}

            def run(fit=fit, chosen=chosen, found=found) -> None:
                for pair in chosen:
                    found[pair] = fit(problem.x, problem.truth(pair), K)

            time = in_turns({name: (run, len(chosen))}, n_rounds=1, warm=False)[name]
        except ImportError:
            add(f"{name}: not installed", 0, float("nan"), ["–"] * 3)
            continue
        for pair, (support, weights) in found.items():
            quality.add(problem, pair, support, weights)
        add(name, len(chosen), time.each, quality.cells())
        seconds.append(time.each)
    return seconds
