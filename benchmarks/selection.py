"""Selection from given moments: forward selection for all targets against scikit-learn's matching pursuit."""

from __future__ import annotations

import numpy as np

from benchmarks.peers import pursuit_at_once, pursuit_loop, scaled
from benchmarks.problems import Problem, u_and
from benchmarks.quality import Quality
from benchmarks.table import Goal, Table, digits
from benchmarks.timing import in_turns
from probekit.probes.moments import FrozenMoments, Moments
from probekit.probes.select import forward_select, least_squares_weights, select_readouts

K = 16
JUDGED = slice(None, None, 4)
"""Pairs that quality is judged on: a quarter, every concept among them."""


def moments_of(problem: Problem, n_folds: int = 1) -> Moments:
    """Moments of the tokens to fit on."""
    moments = Moments(problem.x.shape[1], problem.labels.shape[1], n_folds=n_folds)
    moments.update(problem.x, problem.labels, problem.docs)
    return moments


def only(frozen: FrozenMoments, chosen: slice | np.ndarray) -> FrozenMoments:
    """The same of some pairs."""
    return FrozenMoments(
        frozen.n_tokens, frozen.mean, frozen.gram, frozen.concept_sums, frozen.pair_sums[chosen], frozen.n_concept,
        frozen.n_pair[chosen], frozen.pairs[chosen],
    )  # fmt: skip


def _compare(table: Table, n_neurons: int, *, quick: bool) -> None:
    problem = u_and(n_neurons, n_tokens=20_000 if n_neurons < 1_024 else 8_192)
    frozen = moments_of(problem).finalize()
    n_once, n_loop = (100, 20) if n_neurons < 1_024 else (12, 2)
    n_ours = len(frozen.pairs)
    gram, cross, norm = scaled(frozen.gram, frozen.pair_sums)
    single, double = np.asfortranarray(gram.astype(np.float32)), np.asfortranarray(gram)
    times = in_turns(
        {
            "ours": (lambda: forward_select(frozen, K, additive=False), n_ours),
            "ours, 1, A and B partialled out": (lambda: forward_select(frozen, K), n_ours),
            "the public call": (lambda: select_readouts(frozen, k=K), n_ours),
            "one call, fp64": (lambda: pursuit_at_once(double, cross[:n_once], K), n_once),
            "one call, fp32": (lambda: pursuit_at_once(single, cross[:n_once].astype(np.float32), K), n_once),
            "loop": (lambda: pursuit_loop(gram, cross[:n_loop], K), n_loop),
        },
        n_rounds=3 if quick else 7,
    )
    support = forward_select(frozen, K, additive=False)
    judged = np.arange(n_ours)[JUDGED]
    weights = least_squares_weights(only(frozen, JUDGED), support[JUDGED], additive=False)
    coefficients = pursuit_at_once(double, cross[JUDGED], K) / norm[:, None]
    ours, theirs = Quality(), Quality()
    for row, pair in enumerate(judged):
        ours.add(problem, pair, support[pair], weights[row])
        used = np.flatnonzero(coefficients[:, row])
        theirs.add(problem, pair, used, coefficients[used, row])
    best = min(times[name].each for name in ("one call, fp64", "one call, fp32"))
    base = times["ours"].each
    names = {
        "ours": ("**forward selection, all targets**", ours.cells()),
        "ours, 1, A and B partialled out": ("the same, 1, A and B partialled out", ["–"] * 3),
        "the public call": ("`pk.select_readouts(moments)`: that, and the weights", ["–"] * 3),
        "one call, fp64": ("scikit-learn `orthogonal_mp_gram`, one call, Fortran order", theirs.cells()),
        "one call, fp32": ("the same in fp32", ["–"] * 3),
        "loop": ("scikit-learn `orthogonal_mp_gram`, a call a target", theirs.cells()),
    }
    for name, (told, cells) in names.items():
        time = times[name]
        table.rows.append(
            [n_neurons, told, time.n_items, digits(time.each * 1e3), round(time.each / base, 1), *cells]
        )
    table.rates[f"select_seconds_a_pair_{n_neurons}"] = times["ours, 1, A and B partialled out"].each
    difference = np.subtract(ours.f1, theirs.f1)
    noise = digits(difference.std(ddof=1) / len(difference) ** 0.5)
    goals = {512: (75.0, 150.0), 3072: (75.0, 150.0)}[n_neurons]
    table.goals += [
        Goal(f"× scikit-learn's best call, n = {n_neurons}", goals[0], round(best / base, 1)),
        Goal(
            f"× scikit-learn's best call, `pk.select_readouts`, n = {n_neurons}", {512: 100.0, 3072: 150.0}[n_neurons],
            round(best / times["the public call"].each, 1),
        ),
        Goal(f"× scikit-learn's loop, n = {n_neurons}", goals[1], round(times["loop"].each / base, 1)),
        Goal(f"held-out F1 less scikit-learn's (± {noise:.4f}), n = {n_neurons}", 0.0, round(difference.mean(), 4)),
    ]  # fmt: skip


def run(*, quick: bool) -> Table:
    """The table."""
    table = Table(
        "selection",
        "Selection from given moments",
        f"U-AND, 64 concepts, 2,016 pairs, k = {K}; the Gram matrix and the cross-moments are given to both "
        "sides, scaled to "
        "unit columns for matching pursuit. Its one call gets its Gram matrix in the order it wants (in C order "
        "it copies it "
        "for every target); ours takes all pairs each round. One thread, processor time, medians of rounds in "
        "turns. Quality: "
        "least-squares weights on each side's own support, a quarter of the pairs, 20,000 fresh tokens (8,192 at "
        "n = 3,072); recovery is the share of the neurons that read both concepts, at most k.",
        ["neurons", "method", "targets a round", "ms a target", "× ours", "AUC", "F1", "recovery"],
    )
    _compare(table, 512, quick=quick)
    _compare(table, 3072, quick=quick)
    return table
