"""Which statistic finds most planted pairs at equal calibration: sizes, forms, nulls, and sharper ideas.

    python analyses/power.py                       # 8 + 8 layers, some 5 minutes of one core
    python analyses/power.py --layers 2 --out -

Planted 2-AND layers whose inputs carry a background of power-law covariance, so strong that the deciding statistic (d′ at
k = 16, pooled over the quadrants, pair-specific) misses a part. Every statistic gives one value a pair for the layer and for
each of its twins, and goes through the same three nulls: raw (all twin values of all pairs pooled), standardised by the
pair's own twins, and pair-specific (concept effects removed). Statistics are looked for on some layers and confirmed on
fresh ones: other circuits, other inputs, other twins.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from measured import RESULTS, design_for, measured, table, write_page

# isort: split
from probekit.analysis.design import StudyDesign
from probekit.analysis.passes import LayerMeasure
from probekit.analysis.settings import DECIDING_K
from probekit.evidence.decide import Tested, adjusted
from probekit.evidence.nulls import (
    Standardised,
    compress,
    leave_one_out,
    pair_specific,
    pooled_p,
)
from probekit.evidence.spread import channel_overlap
from probekit.model.twins import InputFrame, PcSignTwins, concept_directions
from probekit.probes.refit import Readouts
from probekit.testing.synthetic import Plant, auc, layer_of, make_plant
from probekit.theory.circuits.two_and import two_and

Q, N_TWINS = 0.05, 12
KS = (4, 16, 64, 0)
SIZE = {"n_pairs": 8, "n_concepts": 20, "n_neurons": 96, "n_tokens": 10_000, "noise": 0.2}
BACKGROUND = 0.5
"""Root mean square of the power-law background of a coordinate."""
DECIDES = "d′, k = 16, pooled"
Values = tuple[np.ndarray, np.ndarray]
"""Layer [pair] and twins [twin pair]."""


def realistic(seed: int) -> Plant:
    """A planted layer whose inputs carry a background with variances 1, 1/2, 1/3, … along random directions."""
    plant = make_plant(seed, **SIZE)
    rng = np.random.default_rng([seed, 211])
    x = plant.scene.inputs
    d = x.shape[1]
    spectrum = 1 / np.sqrt(np.arange(1, d + 1))
    spectrum *= BACKGROUND / np.sqrt((spectrum**2).mean())
    directions = np.linalg.qr(rng.standard_normal((d, d)))[0]
    background = (rng.standard_normal(tuple(x.shape)) * spectrum) @ directions.T
    return replace(plant, scene=replace(plant.scene, inputs=x + torch.from_numpy(background).float()))


def sizes_and_forms(measure: LayerMeasure) -> Iterator[tuple[str, Values]]:
    """d′ at every size, pooled and balanced, and the area under its path."""
    path: list[Values] = []
    for k in KS:
        layer, twins = measure.by_k[k], measure.twins[k]
        for form in ("pooled", "balanced"):
            of = "d_prime" if form == "pooled" else "d_balanced"
            yield (
                f"d′, k = {k or 'all'}, {form}",
                compress(getattr(layer, of), np.stack([getattr(twin, of) for twin in twins])),
            )
        path.append(compress(layer.d_prime, np.stack([twin.d_prime for twin in twins])))
    yield (
        "area under the k-path",
        (sum(own for own, _ in path) / len(path), sum(held for _, held in path) / len(path)),
    )


def overlaps(plant: Plant, design: StudyDesign, measure: LayerMeasure) -> Values:
    """Channel overlap with the concepts' directions, by the weights of the layer and of its twins."""
    fit = torch.from_numpy(design.rows["fit"])
    sample, weights = plant.scene.inputs[fit], plant.weights
    directions = concept_directions(sample, torch.from_numpy(plant.scene.labels).float()[fit])
    frame = InputFrame.of(sample)
    rng = np.random.default_rng([design.settings.seed, 0, 1])  # the twins that were measured
    twins = PcSignTwins.draw(weights, frame, len(measure.twins[DECIDING_K]), rng)
    rotated, into = directions @ frame.directions, frame.directions.T @ weights.w_in.T

    def score(reads: torch.Tensor) -> np.ndarray:
        return channel_overlap(reads.numpy().astype(float), design.tested.pairs)

    return score(directions @ weights.w_in.T), np.stack(
        [score((rotated * sign) @ into) for sign in twins.signs]
    )


def alignments(plant: Plant, measure: LayerMeasure) -> Values:
    """How far a readout's neurons write in one direction: |Σ wᵢuᵢ| over √Σ wᵢ²|uᵢ|², uᵢ what neuron i writes."""
    writes = np.asarray(plant.circuit.w_out, float).T

    def score(readouts: Readouts) -> np.ndarray:
        used = readouts.neurons >= 0
        part = np.where(used, readouts.weights, 0.0)[:, :, None] * writes[np.maximum(readouts.neurons, 0)]
        alone = np.sqrt((part**2).sum((1, 2)))
        together = np.sqrt((part.sum(1) ** 2).sum(1))
        return np.where(alone > 0, together / np.where(alone > 0, alone, 1.0), 0.0)

    return score(measure.readouts), np.stack([score(readouts) for readouts in measure.twin_readouts])


def z_of(values: Values) -> Values:
    """Standardised values, to be added up."""
    z = leave_one_out(*values)
    return z.layer, z.twins


def added(*parts: Values) -> Values:
    """The sum of standardised values, twin by twin."""
    return sum(own for own, _ in parts), sum(twins for _, twins in parts)


def second_seed(plant: Plant, design: StudyDesign, seed: int) -> Values:
    """d′ of another layer that computes the same pairs with other neurons, and of its twins."""
    circuit = two_and(
        pairs=plant.circuit.pairs, n_concepts=SIZE["n_concepts"], n_neurons=SIZE["n_neurons"], channel=5, influence=2,
        n_active=3, seed=seed + 5_000,
    )  # fmt: skip
    other = design.with_settings(seed=seed + 5_000, twin_ks=(DECIDING_K,))
    measure = measured(plant.scene, layer_of(circuit), other)
    return compress(
        measure.by_k[DECIDING_K].d_prime, np.stack([t.d_prime for t in measure.twins[DECIDING_K]])
    )


@dataclass(frozen=True)
class Scored:
    """One statistic under one null on one layer."""

    score: np.ndarray
    """What ranks the pairs."""
    p: np.ndarray
    """Its p-value against the twins."""


def scored(values: Values, tested: Tested) -> Iterator[tuple[str, Scored]]:
    """The three nulls of one statistic."""
    raw = Standardised(*values)
    z = leave_one_out(*values)
    specific = pair_specific(z, tested.graph)
    p_twin, p_pair = pooled_p(z, tested.n11), pooled_p(specific, tested.n11)
    yield "raw", Scored(raw.layer, pooled_p(raw, tested.n11))
    yield "standardised", Scored(z.layer, p_twin)
    yield "pair-specific", Scored(specific.layer, np.maximum(p_twin, p_pair))


@dataclass(frozen=True)
class Layer:
    """One planted layer, measured."""

    designated: np.ndarray
    """Which pairs were planted."""
    null: np.ndarray
    """Which are read together by no neuron."""
    by: dict[tuple[str, str], Scored]
    """Statistic and null → what it says."""
    groups: tuple[bool, bool]
    """Whether the mean z of the designated pairs, and of as many null pairs, lies above their twins' 95 % interval."""


def layer(seed: int) -> Layer:
    """Measure one layer and all statistics."""
    plant = realistic(seed)
    design = design_for(plant.scene, twins=N_TWINS, seed=seed, ks=KS)
    measure, tested = measured(plant.scene, plant.weights, design), design.tested
    values = dict(sizes_and_forms(measure))
    values["channel overlap (weights alone)"] = overlaps(plant, design, measure)
    values["readout written onward (W_out)"] = alignments(plant, measure)
    d, overlap, onward = (
        z_of(values[name])
        for name in (DECIDES, "channel overlap (weights alone)", "readout written onward (W_out)")
    )
    values["d′ + channel overlap"] = added(d, overlap)
    values["d′ + written onward"] = added(d, onward)
    values["d′ + overlap + onward"] = added(d, overlap, onward)
    values["d′, two seeds of the layer"] = added(d, z_of(second_seed(plant, design, seed)))
    pairs = [(int(a), int(b)) for a, b in tested.pairs]
    designated = np.array([pair in plant.designated for pair in pairs])
    null = np.array([pair not in plant.designated | plant.shared_channel for pair in pairs])
    z = leave_one_out(*values[DECIDES])
    some = np.random.default_rng(seed).choice(np.flatnonzero(null), int(designated.sum()), replace=False)
    return Layer(
        designated=designated,
        null=null,
        by={(name, kind): got for name, held in values.items() for kind, got in scored(held, tested)},
        groups=(stands_out(z, np.flatnonzero(designated)), stands_out(z, some)),
    )


def stands_out(z: Standardised, chosen: np.ndarray) -> bool:
    """Whether a group's mean lies above the 95 % prediction interval of its twins' means."""
    theirs = z.twins[:, chosen].mean(1)
    reach = 2.2 * theirs.std(ddof=1) * np.sqrt(1 + 1 / len(theirs))  # t with 11 degrees of freedom
    return bool(z.layer[chosen].mean() > theirs.mean() + reach)


def measures(layers: list[Layer], name: str, kind: str) -> tuple[float, float, float, float]:
    """Designated and null pairs found by BH, recall where 1 % of the null pairs pass, and area under the curve."""
    found = false = n_true = n_null = 0
    recall: list[float] = []
    areas: list[float] = []
    for one in layers:
        got = one.by[name, kind]
        flags = adjusted(got.p) <= Q
        found, false = found + int(flags[one.designated].sum()), false + int(flags[one.null].sum())
        n_true, n_null = n_true + int(one.designated.sum()), n_null + int(one.null.sum())
        at = float(np.quantile(got.score[one.null], 0.99))
        recall.append(float((got.score[one.designated] > at).mean()))
        areas.append(auc(got.score[one.designated], got.score[one.null]))
    return found / n_true, false / n_null, float(np.mean(recall)), float(np.mean(areas))


def page(n_layers: int) -> Iterator[str]:
    """The whole page."""
    yield "# Power at equal calibration\n"
    yield (
        f"`python analyses/power.py --layers {n_layers}`: {SIZE['n_neurons']} neurons, {SIZE['n_concepts']} concepts on a "
        f"basis, {SIZE['n_pairs']} planted pairs of influence ≤ 2 and channels of 5, {SIZE['n_tokens']:,} tokens, white "
        f"background {SIZE['noise']} and power-law background {BACKGROUND} a coordinate, {N_TWINS} twins; {n_layers} layers "
        f"to look and {n_layers} fresh ones to confirm. BH: share of the designated pairs found at q = {Q} "
        "(plain twins, relays not removed), in brackets the share of null pairs found. At 1 %: share of the "
        "designated pairs above what 1 % of the layer's null pairs exceed. AUC: designated against null pairs.\n"
    )
    looked = [layer(seed) for seed in range(n_layers)]
    fresh = [layer(1_000 + seed) for seed in range(n_layers)]
    names: dict[str, list[str]] = defaultdict(list)
    for name, kind in looked[0].by:
        names[name].append(kind)
    rows: list[list[str]] = []
    for name, kinds in names.items():
        for kind in kinds:
            cells = [name, kind]
            for layers in (looked, fresh):
                found, false, recall, area = measures(layers, name, kind)
                cells += [f"{found:.1%} ({false:.2%})", f"{recall:.1%}", f"{area:.3f}"]
            rows.append(cells)
    columns = ("statistic", "null", "look: BH", "at 1 %", "AUC", "fresh: BH", "at 1 %", "AUC")
    yield from table(columns, rows)
    yield "\n## Groups\n"
    yield (
        f"The mean z of a layer's {SIZE['n_pairs']} designated pairs stands above the 95 % interval of its twins in "
        f"{sum(one.groups[0] for one in looked + fresh)} of {2 * n_layers} layers; that of as many null pairs in "
        f"{sum(one.groups[1] for one in looked + fresh)}."
    )


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--layers", type=int, default=8, help="layers to look at, and as many to confirm on")
    parser.add_argument("--out", default=str(RESULTS / "power.md"), help="- prints only")
    options = parser.parse_args()
    write_page(page(options.layers), options.out)


if __name__ == "__main__":
    main()
