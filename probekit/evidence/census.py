"""The census of one layer: a ladder of counts beside its twins, both tails, groups of pairs, the excess.

Never one number. Every rung is counted for the layer and for each twin put in its place. The excess is the number of
computed pairs less the twins' mean, with a prediction interval from the R twin-level counts: under the null the layer is
one more twin, so its count scatters like theirs (variance s²(1 + 1/R), t with R − 1 degrees of freedom), and s² is never
taken below (total of the twins' counts + 1)/R, since R empty twins do not prove a rate of zero. Few and small
counts are not normal, so the interval reaches at least as far as the exact one for Poisson counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from probekit.evidence.blocks import Block, in_block
from probekit.evidence.decide import Decision
from probekit.evidence.estimate import Estimate, horvitz_thompson, in_population
from probekit.evidence.nulls import Standardised
from probekit.evidence.spread import Classes, Spread
from probekit.evidence.summary import GroupMean, LayerRow, RungCounts, Tail, Total, TwinRange

RUNGS = tuple(key.removeprefix("n_") for key in RungCounts.__annotations__)
TAILS = (0.001, 0.01, 0.05, 0.1)
TAIL_SHOWN = 0.01
EFFECT_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def rung_counts(decision: Decision, spread: Spread | None, classes: Classes | None) -> dict[str, int | None]:
    """Number of pairs on every rung; None where the rung was not measured."""
    flags = rung_flags(decision, spread, classes)
    return {name: None if held is None else int(held.sum()) for name, held in flags.items()}


def keyed(counts: dict[str, int | None]) -> RungCounts:
    """Counts of `rung_counts` under the keys that they have in summary.json."""
    return cast(RungCounts, {f"n_{rung}": n for rung, n in counts.items()})


def rung_flags(
    decision: Decision, spread: Spread | None, classes: Classes | None
) -> dict[str, Bool[np.ndarray, " pair"] | None]:
    """Which pairs stand on every rung; None where the rung was not measured."""
    computed = decision.computed
    return {
        "significant_raw": decision.raw,
        "represented": decision.represented,
        "beyond_linear": decision.beyond_linear,
        "above_plain": decision.above_plain,
        "relayed": decision.relayed,
        "above_twins": decision.above_twins,
        "computed": computed,
        "distributed": None if computed is None or spread is None else computed & spread.distributed,
        "superposed": None if classes is None else classes.superposed,
    }


def twin_ladder(twin_counts: Sequence[dict[str, int | None]]) -> dict[str, TwinRange | None]:
    """Mean and range of the twins' counts on every rung."""
    ladder: dict[str, TwinRange | None] = {}
    for rung in RUNGS:
        held = [float(c[rung] or 0) for c in twin_counts if c[rung] is not None]
        ladder[f"n_{rung}"] = (
            {"mean": float(np.mean(held)), "low": min(held), "high": max(held)} if held else None
        )
    return ladder


def in_all(
    computed: Bool[np.ndarray, " pair"],
    inclusion: Float[np.ndarray, " pair"],
    n_testable: int,
    pairs: Int[np.ndarray, "pair 2"] | None = None,
    block: Block | None = None,
) -> Total:
    """How many of all testable pairs the same rule would call computed, from the tested ones.

    Args:
        computed: flags of the tested pairs.
        inclusion: probability with which each was tested.
        n_testable: testable pairs there are.
        pairs: concepts of the tested ones; needed where only some of the concepts were drawn.
        block: how they were drawn then.
    """
    n_found, n_tested = int(computed.sum()), len(computed)
    n_untested = n_testable - n_tested
    if block is not None and pairs is not None:
        found, method = in_block(computed, pairs, block, n_testable), "pairs among randomly drawn concepts"
    elif n_tested == n_testable:
        found, method = in_population(n_found, n_tested, n_testable), "every testable pair was tested"
    elif (inclusion == 1).all():
        # chosen, not drawn: nothing is known of the others
        found, method = (
            Estimate(float(n_found), *_whatever(n_found, n_untested)),
            "pairs that were chosen, not drawn",
        )
    elif (inclusion == inclusion[0]).all() and not np.isclose(inclusion[0], n_tested / n_testable, rtol=1e-9):
        # equal chances that are not a uniform sample's: unbiased, but only the design could tell how far off
        found = Estimate(n_found / float(inclusion[0]), *_whatever(n_found, n_untested))
        method = "a design that was not given: limits are all that is possible"
    elif (inclusion == inclusion[0]).all():
        found, method = in_population(n_found, n_tested, n_testable), "hypergeometric"
    else:
        found, method = horvitz_thompson(computed, inclusion), "Horvitz-Thompson"
    return {"method": method, "value": found.value, "low": found.low, "high": found.high}


def _whatever(n_found: int, n_untested: int) -> tuple[float, float]:
    """Limits that hold whatever the untested pairs would show: none of them found, all of them found."""
    return float(n_found), float(n_found + n_untested)


def excess_interval(n_computed: int, twin_computed: Sequence[int]) -> tuple[float, float, float]:
    """Excess of the layer over its twins and its 95 % prediction interval.

    Returns:
        (excess, low, high).
    """
    counts = np.asarray(twin_computed, float)
    n_twins = len(counts)
    excess = n_computed - counts.mean()
    variance = max(counts.var(ddof=1), (counts.sum() + 1) / n_twins)
    reach = stats.t.ppf(0.975, n_twins - 1) * np.sqrt(variance * (1 + 1 / n_twins))
    reach = max(reach, _highest_null_count(int(counts.sum()), n_twins) - counts.mean())
    return float(excess), float(excess - reach), float(excess + reach)


def _highest_null_count(total: int, n_twins: int) -> int:
    """Upper end of the 95 % prediction interval of one more Poisson count: given the sum it is binomial."""
    highest = 0
    while stats.binom.sf(highest, total + highest + 1, 1 / (n_twins + 1)) > 0.025:
        highest += 1
    return highest


def tail_table(p: Float[np.ndarray, " pair"], twin_p: Sequence[Float[np.ndarray, " pair"]]) -> list[Tail]:
    """Share of pairs with p ≤ t and with p ≥ 1 − t, beside the twins' means."""
    rows: list[Tail] = []
    for t in TAILS:
        low = [float((other <= t).mean()) for other in twin_p]
        high = [float((other >= 1 - t).mean()) for other in twin_p]
        rows.append(
            {
                "t": t, "low": float((p <= t).mean()), "high": float((p >= 1 - t).mean()),
                "twin_low_mean": float(np.mean(low)), "twin_high_mean": float(np.mean(high)),
            }
        )  # fmt: skip
    return rows


def group_table(z: Standardised, group: Sequence[str]) -> list[GroupMean]:
    """Mean standardised z of each group of pairs beside the twin-level means.

    The interval is a 95 % prediction interval of one more twin, for one group at a time.

    Groups show what single pairs cannot: a pair's d′ scatters by a third between twins, a group's mean hardly does.
    """
    labels = np.asarray(group)
    rows: list[GroupMean] = []
    for name in sorted(set(group)):
        inside = labels == name
        theirs = z.twins[:, inside].mean(1)
        n_twins = len(theirs)
        reach = stats.t.ppf(0.975, n_twins - 1) * theirs.std(ddof=1) * np.sqrt(1 + 1 / n_twins)
        rows.append(
            {
                "kind": name, "n_tested": int(inside.sum()), "mean_z": float(z.layer[inside].mean()),
                "twin_low": float(theirs.mean() - reach), "twin_high": float(theirs.mean() + reach),
            }
        )  # fmt: skip
    return rows


def group_counts(
    decision: Decision, classes: Classes | None, spread: Spread | None, group: Sequence[str]
) -> dict[str, RungCounts]:
    """Number of pairs of each group on every rung; None where the rung was not measured."""
    labels = np.asarray(group)
    flags = rung_flags(decision, spread, classes)
    return {
        name: keyed(
            {rung: None if held is None else int(held[labels == name].sum()) for rung, held in flags.items()}
        )
        for name in sorted(set(group))
    }


def effect_quantiles(d_prime: Float[np.ndarray, " any"]) -> list[float]:
    """Quantiles of d′ at `EFFECT_LEVELS`."""
    return [float(v) for v in np.quantile(d_prime, EFFECT_LEVELS)] if d_prime.size else []


def _bound(row: LayerRow) -> str:
    """What is said of all pairs at once, where it says more than those that can be named."""
    bound = row.get("n_at_least_above")
    if not bound or bound <= (row["n_above_twins"] or 0):
        return ""
    return f" by themselves, at least {bound:,} do so together, with 95 % confidence, without saying which"


def statement(row: LayerRow) -> str:
    """One paragraph on the layer, generated from its counts (wording of theory §6)."""
    where = f"Layer {row['layer']} ({row['n_neurons']:,} neurons), {row['n_tested']:,} tested pairs: "
    twins, low, high = row["twins"], row["excess_low"], row["excess_high"]
    if row["n_computed"] is None or twins is None or low is None or high is None:
        return where + (
            f"{row['n_significant_raw']:,} have a significant interaction, but no twin was run, so nothing is said about "
            "computation."
        )
    raw, computed = twins["n_significant_raw"], twins["n_computed"]
    assert raw is not None
    assert computed is not None
    parts = [
        (
            f"{row['n_significant_raw']:,} have a significant interaction (random twins: "
            f"{raw['mean']:,.0f}). {row['n_above_plain']:,} stand above plain twins; of these "
            f"{row['n_relayed']:,} no longer do once what the input already holds of the pair is taken out (relayed). "
            f"{row['n_above_twins']:,} stand above their twins without it{_bound(row)}, and {row['n_computed']:,} are "
            f"computed pair-specifically (twins in the layer's place: {computed['mean']:.2f} on average, at most "
            f"{computed['high']:.0f})."
        )
    ]
    if row["n_computed"] == 0:
        parts.append(
            f"No pair-specific computation was found; {row['n_twins']} twins leave room for at most "
            f"{max(high, 0):.0f} at this power."
        )
    else:
        parts.append(f"Excess over the twins {row['n_excess']:.1f} (95 % interval {low:.1f} to {high:.1f}).")
        distinct, rank = row["n_distinct"] or 0, row["effective_rank"] or 0.0
        if row["n_superposed"] and distinct > rank:
            parts.append(
                f"{row['n_superposed']:,} are in superposition, and the {distinct:,} distinct readouts exceed "
                f"their effective rank {rank:.1f}."
            )
        else:
            parts.append("Distributed readouts are not shown to exceed the neurons they use.")
    capacity = row["capacity"]
    if capacity["cannot_bind"]:
        parts.append(
            f"No count possible in this run could have exceeded n²/ln n = {capacity['n2_over_ln_n']:,.0f} (constant 1 "
            "assumed): too few pairs were tested for the reference to bind."
        )
    else:
        parts.append(
            f"Naming the excess takes at least {capacity['bits_needed']:,.0f} bits; the layer's "
            f"{capacity['n_params']:,} weights hold {capacity['bits_held']:,.0f} at b = 2 (assumed)."
        )
    return where + " ".join(parts)
