"""From a layer's measurements to its tables and its row of summary.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from probekit.analysis.design import StudyDesign
from probekit.analysis.passes import LayerMeasure
from probekit.analysis.settings import DECIDING_K
from probekit.evidence import census
from probekit.evidence.at_least import Calibration, group_bounds, summary_of
from probekit.evidence.audit import audit
from probekit.evidence.contrast import Contrast
from probekit.evidence.decide import Decision, decide, decide_twins, twin_p_values
from probekit.evidence.floor import floor
from probekit.evidence.lower_bound import non_null
from probekit.evidence.nulls import MIN_TWINS_LEAVE_ONE_OUT
from probekit.evidence.spikein import sensitivity
from probekit.evidence.spread import Classes, classify, coherence
from probekit.evidence.summary import (
    AgainstTwins,
    AtLeast,
    ByK,
    Group,
    LayerCounts,
    LayerRow,
    NonNullBound,
    RungCounts,
)
from probekit.evidence.tables import pair_table, path_rows

Bound = Literal["n_at_least", "n_at_least_above"]
Form = Literal["pooled", "balanced"]
"""d′ over the pooled noise, or over that of each quadrant alike."""


@dataclass(frozen=True)
class LayerResult:
    """One layer, decided."""

    layer: int
    """Layer index."""
    row: LayerRow
    """Its row of summary.json."""
    pairs: pd.DataFrame
    """One row a tested pair at the deciding k."""
    paths: pd.DataFrame
    """One row a pair and other k."""


def summarise_layer(
    measure: LayerMeasure,
    design: StudyDesign,
    *,
    names: Sequence[str],
    kinds: Sequence[str],
    n_params: int,
    bits_stored: float,
) -> LayerResult:
    """Decide every pair of a layer and count.

    Args:
        measure: what the passes measured of the layer.
        design: the study design, with its tested pairs.
        names: of the concepts.
        kinds: of the tested pairs.
        n_params: parameters of the layer, for the capacity bound.
        bits_stored: bits a parameter is stored in.
    """
    tested = design.tested
    neurons = measure.by_k[DECIDING_K]
    twins = measure.twins.get(DECIDING_K, [])
    decision = decide(neurons, twins, _matched(measure), tested)
    classes = _classes(measure, design, decision)
    table = pair_table(
        layer=measure.layer, names=names, tested=tested, n_natural=design.confirm.sample.n_natural, k=DECIDING_K,
        readouts=measure.readouts, neurons=neurons, input_site=measure.input_site, pre=measure.pre, linear=measure.linear,
        twins=twins, best=measure.best, spread=measure.spread, decision=decision, classes=classes, kind=kinds,
        inclusion=design.inclusion, overlap=measure.overlap,
    )  # fmt: skip
    against = _against_twins(measure, design, decision)
    capacity = audit(
        n_neurons=measure.n_neurons, n_params=n_params, bits_stored=bits_stored, n_tested=len(tested.pairs),
        excess_low=against["excess_low"] or 0.0,
    )  # fmt: skip
    row: LayerRow = {
        **_counted(measure, design, decision, classes),
        **against,
        "effect_levels": list(census.EFFECT_LEVELS),
        "effect": _effects(measure),
        "by_k": _by_k(measure, design),
        "total": None
        if decision.computed is None
        else census.in_all(
            decision.computed, design.inclusion, design.n_testable, tested.pairs, design.block
        ),
        "sensitivity": sensitivity(neurons, measure.spiked, design.spiked_at, twins, tested),
        "groups": _groups(
            decision,
            census.group_counts(decision, classes, measure.spread, kinds),
            kinds,
            _bounds(against, decision, kinds),
        ),
        "floor": floor(
            len(tested.pairs), len(twins), tested.q, fdr=tested.fdr, d_twins=_without_relays(twins)
        ),
        "capacity": capacity,
        "statement": "",
    }
    row["statement"] = census.statement(row)
    return LayerResult(measure.layer, row, table, _paths(measure, design, names))


def _classes(measure: LayerMeasure, design: StudyDesign, decision: Decision) -> Classes | None:
    """Dedicated, distributed, in superposition; None where nothing is called computed because no twin ran."""
    if decision.computed is None:
        return None
    return classify(
        decision.computed, measure.spread, measure.readouts, design.tested.pairs, design.duplicate_of,
        measure.n_neurons,
    )  # fmt: skip


def _paths(measure: LayerMeasure, design: StudyDesign, names: Sequence[str]) -> pd.DataFrame:
    """One row a pair and k other than the deciding one, against plain twins."""
    rows = [
        path_rows(
            layer=measure.layer, names=names, tested=design.tested, k=k if k else measure.n_neurons, contrast=contrast,
            decision=decide(contrast, measure.twins.get(k, []), [], design.tested),
        )
        for k, contrast in measure.by_k.items()
        if k != DECIDING_K
    ]  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def _counted(
    measure: LayerMeasure, design: StudyDesign, decision: Decision, classes: Classes | None
) -> LayerCounts:
    """What is counted of the layer itself; null, never 0, what is not claimed."""
    neurons, computed = measure.by_k[DECIDING_K], decision.computed
    return {
        "layer": measure.layer,
        "n_neurons": measure.n_neurons,
        "n_tested": len(design.tested.pairs),
        "n_twins": len(measure.twins.get(DECIDING_K, [])),
        **census.keyed(census.rung_counts(decision, measure.spread, classes)),
        "n_dedicated": None if classes is None else int((classes.dedicated & computed).sum()),
        "n_distinct": None if classes is None else classes.n_distinct,
        "effective_rank": None if classes is None else classes.effective_rank,
        "features_per_neuron": None if classes is None else classes.features_per_neuron,
        "n_conjunctive": None if computed is None else int((computed & measure.spread.conjunctive).sum()),
        "n_undecidable": int((~neurons.decidable).sum()),
        "coherence": None
        if computed is None
        else coherence(measure.readouts, computed & ~_duplicates(design), measure.n_neurons),
        "n_above_isotropic": _above(measure.controls["isotropic"], neurons, design),
        "n_above_shuffled": _above(measure.controls["shuffle"], neurons, design),
    }


def _effects(measure: LayerMeasure) -> dict[str, list[float] | None]:
    """Quantiles of d′ at each site, all twins of a kind together."""
    sites = {"input": measure.input_site, "pre": measure.pre, "linear": measure.linear}
    twins = {"twins": measure.twins.get(DECIDING_K, []), **measure.controls}
    return {
        "neurons": census.effect_quantiles(measure.by_k[DECIDING_K].d_prime),
        **{
            name: None if site is None else census.effect_quantiles(site.d_prime)
            for name, site in sites.items()
        },
        **{
            kind: census.effect_quantiles(np.concatenate([t.d_prime for t in drawn])) if drawn else None
            for kind, drawn in twins.items()
        },
    }


def _groups(
    decision: Decision,
    counts: Mapping[str, RungCounts],
    kinds: Sequence[str],
    bounds: Mapping[Bound, Mapping[str, int]],
) -> list[Group]:
    """The census of each kind of pair: its counts on every rung beside its mean z, which is null where no twin ran."""
    measured = (
        [] if decision.z is None or decision.p_decision is None else census.group_table(decision.z, kinds)
    )
    means = {group["kind"]: group for group in measured}

    def of(kind: str, held: RungCounts) -> Group:
        mean = means.get(kind)
        return {
            "kind": kind,
            "n_tested": sum(k == kind for k in kinds),
            "mean_z": None if mean is None else mean["mean_z"],
            "twin_low": None if mean is None else mean["twin_low"],
            "twin_high": None if mean is None else mean["twin_high"],
            "n_at_least": bounds["n_at_least"].get(kind),
            "n_at_least_above": bounds["n_at_least_above"].get(kind),
            **held,
        }

    return [of(kind, held) for kind, held in counts.items()]


def _bounds(
    against: AgainstTwins, decision: Decision, kinds: Sequence[str]
) -> dict[Bound, Mapping[str, int]]:
    """At least so many of each kind are computed, and above their twins, all kinds at once; empty where none is claimed."""

    def by_kind(held: AtLeast | None, p: np.ndarray | None) -> Mapping[str, int]:
        if held is None or held["lambda"] is None or p is None:
            return {}
        calibration = Calibration(held["lambda"], held["level"], held["n_twins"], len(kinds))
        return group_bounds(p, kinds, calibration)

    return {
        "n_at_least": by_kind(against["at_least"], decision.p_decision),
        "n_at_least_above": by_kind(against["at_least_above"], decision.p_relay),
    }


def _without_relays(twins: Sequence[Contrast]) -> np.ndarray | None:
    held = [twin.d_relay for twin in twins if twin.d_relay is not None]
    return np.stack(held) if held and len(held) == len(twins) else None


def _matched(measure: LayerMeasure) -> list[tuple[Contrast, Contrast]]:
    """Readouts at the neurons beside linear readouts of the same budget: as many coordinates, or all of them."""
    held: list[tuple[Contrast, Contrast]] = []
    if measure.pre is not None:
        held.append((measure.by_k[DECIDING_K], measure.pre))
    if measure.input_site is not None:
        held.append((measure.by_k[0], measure.input_site))
    return held


def _above(controls: list[Contrast], neurons: Contrast, design: StudyDesign) -> int | None:
    """Pairs above twins of another kind, by the rule of the rung above plain twins; None where too few were run."""
    if len(controls) < MIN_TWINS_LEAVE_ONE_OUT:
        return None
    _, p, _ = twin_p_values(neurons.d_prime, np.stack([t.d_prime for t in controls]), design.tested)
    return int((design.tested.adjusted(p) <= design.tested.q).sum())


def _duplicates(design: StudyDesign) -> np.ndarray:
    """Pairs whose concepts are stood for by those of an earlier pair."""
    held = np.sort(design.duplicate_of[design.tested.pairs], axis=1)
    _, first = np.unique(held, axis=0, return_index=True)
    later = np.ones(len(held), bool)
    later[first] = False
    return later


def _against_twins(measure: LayerMeasure, design: StudyDesign, decision: Decision) -> AgainstTwins:
    """Everything that sets the layer beside its twins; nulls where none ran."""
    twins = measure.twins.get(DECIDING_K, [])
    if decision.z is None or decision.p_decision is None:
        return {
            "twins": None, "tails": [], "twin_rate": None, "n_excess": None, "excess_low": None, "excess_high": None,
            "share_low_p": None, "share_high_p": None, "n_nonnull_low": None, "nonnull": None, "at_least": None,
            "n_at_least": None, "at_least_above": None, "n_at_least_above": None,
        }  # fmt: skip
    in_place = decide_twins(twins, design.tested)
    counts: list[dict[str, int | None]] = []
    for twin, spread, readouts in zip(in_place, measure.twin_spreads, measure.twin_readouts, strict=True):
        assert twin.computed is not None
        classes = classify(
            twin.computed, spread, readouts, design.tested.pairs, design.duplicate_of, measure.n_neurons
        )
        counts.append(census.rung_counts(twin, spread, classes))
    twin_computed = [int(c["computed"] or 0) for c in counts]
    n_tested = len(design.tested.pairs)
    assert decision.computed is not None
    excess, low, high = census.excess_interval(int(decision.computed.sum()), twin_computed)
    twin_p = [t.p_decision for t in in_place if t.p_decision is not None]
    tails = census.tail_table(decision.p_decision, twin_p)
    # a pair that is null in one test may be far from null in the other: the twins' smaller p is what such pairs have
    nonnull = non_null(decision.p_decision, [_parts(t).min(0) for t in in_place])
    bound = summary_of(_parts(decision), [_parts(t) for t in in_place])
    above = summary_of(_parts(decision)[:1], [_parts(t)[:1] for t in in_place])
    shown = next(row for row in tails if row["t"] == census.TAIL_SHOWN)
    return {
        "twins": census.twin_ladder(counts),
        "tails": tails,
        "twin_rate": float(np.mean(twin_computed)) / n_tested,
        "n_excess": excess,
        "excess_low": low,
        "excess_high": high,
        "share_low_p": shown["low"],
        "share_high_p": shown["high"],
        "n_nonnull_low": nonnull.n_low,
        "nonnull": NonNullBound(**asdict(nonnull)),
        "at_least": bound,
        "n_at_least": bound["n_low"],
        "at_least_above": above,
        "n_at_least_above": above["n_low"],
    }


def _parts(decision: Decision) -> np.ndarray:
    """The p-values that a computed pair must pass, one row each."""
    assert decision.p_relay is not None
    assert decision.p_pair is not None
    return np.stack([decision.p_relay, decision.p_pair])


def _by_k(measure: LayerMeasure, design: StudyDesign) -> list[ByK]:
    """Counts against plain twins at every size for which twins were confirmed, on the pooled and on the balanced d′.

    Relays are removed at the deciding size only, so nothing is called computed here.
    """
    forms: tuple[Form, ...] = ("pooled", "balanced")
    return [
        _counts(k, measure.by_k[k], twins, design, form)
        for k, twins in measure.twins.items()
        for form in forms
    ]


def _counts(k: int, neurons: Contrast, twins: list[Contrast], design: StudyDesign, form: Form) -> ByK:
    def values(contrast: Contrast) -> np.ndarray:
        return contrast.d_prime if form == "pooled" else contrast.d_balanced

    tested = design.tested
    _, p_twin, p_pair = twin_p_values(values(neurons), np.stack([values(t) for t in twins]), tested)
    return {
        "k": k or "all",
        "form": form,
        "n_above_plain": int((tested.adjusted(p_twin) <= tested.q).sum()),
        "n_specific_plain": int((tested.adjusted(np.maximum(p_twin, p_pair)) <= tested.q).sum()),
        "share_low_p_twin": float((p_twin <= census.TAIL_SHOWN).mean()),
        "share_high_p_twin": float((p_twin >= 1 - census.TAIL_SHOWN).mean()),
        "share_low_p": float((p_pair <= census.TAIL_SHOWN).mean()),
        "share_high_p": float((p_pair >= 1 - census.TAIL_SHOWN).mean()),
    }
