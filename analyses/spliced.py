"""A planted circuit spliced into the activations of nano: does Rogan–Gladen recover how many pairs it computes?

    python analyses/spliced.py                     # 60 repetitions, some 6 minutes of one core
    python analyses/spliced.py --repeats 6 --out -

In every repetition a random set of the tested pairs gets channels of five neurons, all channels disjoint, so that no pair
is computed by accident and the truth is known; relu(A + B − 1) times the pair's amplitude (in standard deviations of the
neuron, log-uniform) is added there. A second random set is spliced in alike and plays the known cases that measure the
sensitivity; the false rate is that of the layer's twins in its place. Estimated is the number of computed pairs among those
that are not known cases. In the last regime the known cases are stronger than the others: there Rogan–Gladen claims nothing
true, which is the control.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from measured import RESULTS, table, write_page

from probekit.analysis.design import LabelledTokens, StudyDesign, plan
from probekit.analysis.inputs import doc_keys, inputs_of_model
from probekit.analysis.passes import calibrate_layer, measure_layers, measure_sites
from probekit.analysis.reading import Reading
from probekit.analysis.settings import DECIDING_K, Settings
from probekit.analysis.source import ArraySource
from probekit.evidence.contrast import Contrast
from probekit.evidence.decide import Tested, decide, decide_twins
from probekit.evidence.estimate import Rate, clopper_pearson, rogan_gladen, share_at_least
from probekit.evidence.pair_sampling import PairSampling
from probekit.model.weights import MlpWeights
from probekit.probes.pairs import LabelColumns
from probekit.storage.named_arrays import Arrays

LAYER, CHANNEL, N_KNOWN, N_CONCEPTS = 1, 5, 24, 28
AMPLITUDES = (1.0, 4.0)
APART, ANY = 0.2, 1.0
"""Largest |correlation| of two concepts, where possible."""
"""Range of the amplitudes, standard deviations of a neuron."""


@dataclass(frozen=True)
class Stage:
    """nano's layer, measured once."""

    neurons: torch.Tensor
    """Activations, fit half first [token neuron]."""
    labels: np.ndarray
    """bool [token concept], the same tokens."""
    design: StudyDesign
    """The study, its rows those of `neurons`."""
    twins: list[Contrast]
    """Twins of the layer as it is."""
    inputs: torch.Tensor
    """MLP inputs of the same tokens."""
    weights: MlpWeights
    """The weights that act at its neurons."""
    calibrated: Arrays
    """The layer's frame and interaction directions."""
    own: int
    """Pairs that the layer computes by itself."""
    false: Rate
    """Pairs flagged where twins stand in its place."""
    correlation: float
    """Largest correlation of two concepts."""

    @property
    def tested(self) -> Tested:
        """Pairs and level."""
        return self.design.tested

    def found(self, neurons: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Which pairs of a spliced layer are computed, and which stand above their twins."""
        source = ArraySource(neurons, self.inputs, self.weights, self.design.rows)
        site = measure_sites(source, 0, ["neurons"], self.design, self.calibrated)["neurons"]
        decision = decide(site.sums[DECIDING_K], self.twins, [], self.tested)
        assert decision.computed is not None
        assert decision.above_twins is not None
        return decision.computed, decision.above_twins


def chosen(pairs: np.ndarray, correlation: np.ndarray, most: float) -> np.ndarray:
    """The pairs among a few concepts that hardly correlate, of which nearly all pairs are testable.

    Concepts that correlate most are taken out first, then those with the fewest pairs: where concepts correlate, a pair
    beside a spliced one is computed too and the truth is not known; and the pair-specific statistic takes out what a
    concept does in all its pairs, so that it needs several of each.
    """
    held = pairs
    while len(np.unique(held)) > N_CONCEPTS:
        concepts, n_of = np.unique(held, return_counts=True)
        worst = correlation[np.ix_(concepts, concepts)].max(1)
        if worst.max() > most:
            near = worst == worst.max()
            n_of = np.where(near, n_of, n_of.max() + 1)
        held = held[(held != concepts[n_of.argmin()]).all(1)]
    return held


def correlations(labels: LabelColumns) -> np.ndarray:
    """|correlation| of every two concepts, 0 with itself."""
    held = labels.dense()
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.nan_to_num(np.abs(np.corrcoef(held.T)))
    np.fill_diagonal(matrix, 0.0)
    return matrix


def stage(n_tokens: int, n_twins: int, most: float | None) -> Stage:
    """Run nano and measure its layer and twins; most: see `chosen`, None takes a uniform sample of all pairs."""
    n_pairs, rule = (3_000, "support") if most is not None else (240, "uniform")
    settings = Settings(max_tokens=n_tokens, max_pairs=n_pairs, twins=n_twins, controls=(), spikes=())
    analysis_inputs = inputs_of_model(
        Reading("nano", None, settings, device="cpu"), None, [LAYER], PairSampling.of(rule)
    )
    labelled, tokens = analysis_inputs.labels, analysis_inputs.tokens
    assert labelled is not None
    assert tokens is not None
    columns = LabelColumns(labelled.indptr, labelled.tokens, labelled.n_tokens)
    kept = analysis_inputs.design.tested.pairs
    kept = kept if most is None else chosen(kept, correlations(columns), most)
    named = [(labelled.names[a], labelled.names[b]) for a, b in kept]
    design = plan(LabelledTokens.of(labelled, doc_keys(tokens)), settings, PairSampling.of(named))
    blocks: list[tuple[torch.Tensor | None, torch.Tensor]] = []
    labels: list[np.ndarray] = []
    for half in design.halves:
        blocks += [block[LAYER] for block in analysis_inputs.source.blocks(half.half, [LAYER])]
        labels.append(half.labels.dense() > 0)
    inputs = torch.cat([x for x, _ in blocks if x is not None])
    neurons = torch.cat([h for _, h in blocks])
    n_fit = len(labels[0])
    design = replace(
        design,
        fit=replace(design.fit, rows=np.arange(n_fit)),
        confirm=replace(design.confirm, rows=np.arange(n_fit, len(neurons))),
    )
    source = ArraySource(neurons, inputs, analysis_inputs.source.weights(LAYER), design.rows)
    measure = next(measure_layers(source, [0], design))
    twins = measure.twins[DECIDING_K]
    own = decide(measure.by_k[DECIDING_K], twins, [], design.tested).computed
    assert own is not None
    in_place = decide_twins(twins, design.tested)
    flagged = sum(int(decision.computed.sum()) for decision in in_place if decision.computed is not None)
    false = Rate(flagged, len(in_place) * len(design.tested.pairs))
    largest = float(
        correlations(columns)[np.ix_(np.unique(design.tested.pairs), np.unique(design.tested.pairs))].max()
    )
    calibrated = calibrate_layer(source, 0, design)
    weights = analysis_inputs.source.weights(LAYER)
    assert weights is not None
    return Stage(
        neurons,
        np.concatenate(labels),
        design,
        twins,
        inputs,
        weights,
        calibrated,
        int(own.sum()),
        false,
        largest,
    )


@dataclass(frozen=True)
class Splice:
    """Which pairs are spliced in, and how strongly."""

    true: np.ndarray
    """Places of the pairs to be counted."""
    known: np.ndarray
    """Places of the pairs that measure the sensitivity."""
    amplitude: np.ndarray
    """Amplitude of each pair, true ones first."""

    @classmethod
    def draw(cls, n_pairs: int, n_true: int, weaker: float, rng: np.random.Generator) -> Splice:
        """Choose the pairs; the true ones are weaker than the known ones by a factor."""
        at = rng.permutation(n_pairs)[: n_true + N_KNOWN]
        amplitude = np.exp(rng.uniform(*np.log(AMPLITUDES), size=len(at)))
        amplitude[:n_true] *= weaker
        return cls(at[:n_true], at[n_true:], amplitude)

    def into(self, held: Stage, rng: np.random.Generator) -> torch.Tensor:
        """The layer with the circuit's neurons added."""
        neurons = held.neurons.clone()
        unit = neurons.std(0)
        moving = np.flatnonzero(unit.numpy() > 0)
        channels = rng.permutation(moving)[: CHANNEL * len(self.amplitude)].reshape(-1, CHANNEL)
        truth = torch.from_numpy(held.labels)
        for place, channel, size in zip([*self.true, *self.known], channels, self.amplitude, strict=True):
            a, b = (int(c) for c in held.tested.pairs[place])
            both = torch.relu(truth[:, a].float() + truth[:, b].float() - 1)
            chosen = torch.from_numpy(channel)
            neurons[:, chosen] += float(size) * both[:, None] * unit[chosen]
        return neurons


@dataclass(frozen=True)
class Repeat:
    """One repetition."""

    found: int
    """Flagged pairs among those that are not known cases."""
    others: int
    """Those of them that were not spliced in."""
    recall: float
    """Share of the known cases found."""
    above: float
    """Share of the known cases above their twins."""
    interval: tuple[float, float] | None
    """Rogan–Gladen's, in pairs; None where nothing is claimed."""
    naive: tuple[float, float]
    """Clopper–Pearson of the share found, in pairs."""
    low: float
    """Lower limit without a sensitivity, in pairs."""


def repeat(held: Stage, n_true: int, weaker: float, rng: np.random.Generator) -> Repeat:
    """Splice, decide, estimate."""
    splice = Splice.draw(len(held.tested.pairs), n_true, weaker, rng)
    flags, above = held.found(splice.into(held, rng))
    counted = np.ones(len(flags), bool)
    counted[splice.known] = False
    n = int(counted.sum())
    tested = Rate(int(flags[counted].sum()), n)
    known = Rate(int(flags[splice.known].sum()), len(splice.known))
    estimate = rogan_gladen(tested, known, held.false, rng)
    plain = clopper_pearson(tested.n_found, n)
    return Repeat(
        found=tested.n_found,
        others=tested.n_found - int(flags[splice.true].sum()),
        recall=known.value,
        above=float(above[splice.known].mean()),
        interval=None if estimate is None else (n * estimate.low, n * estimate.high),
        naive=(n * plain.low, n * plain.high),
        low=n * share_at_least(tested, held.false),
    )


def row(n_true: int, weaker: float, held: list[Repeat]) -> list[str]:
    """One line a regime."""
    claimed = [one.interval for one in held if one.interval is not None]
    covered = sum(low <= n_true <= high for low, high in claimed)
    width = float(np.median([high - low for low, high in claimed])) if claimed else np.nan
    naive = sum(low <= n_true <= high for low, high in (one.naive for one in held))
    return [
        f"{n_true}", f"{weaker:g}", f"{np.mean([one.found for one in held]):.1f}",
        f"{np.mean([one.others for one in held]):.1f}", f"{np.mean([one.recall for one in held]):.2f}",
        f"{np.mean([one.above for one in held]):.2f}", f"{len(claimed)} of {len(held)}",
        f"{covered} of {len(claimed)}" + (f" = {covered / len(claimed):.0%}" if claimed else ""), f"{width:.0f}",
        f"{naive} of {len(held)}", f"{sum(one.low <= n_true for one in held)} of {len(held)}",
    ]  # fmt: skip


COLUMNS = (
    "pairs spliced in", "weaker by", "found (mean)", "others among them", "recall of known cases", "above twins", "claimed",
    "interval holds the number", "median width", "naive interval holds it", "lower limit holds",
)  # fmt: skip


def page(n_repeats: int) -> Iterator[str]:
    """The whole page."""
    n_tokens, n_twins = 40_000, 12
    held = stage(n_tokens, n_twins, APART)
    yield "# A planted circuit spliced into nano\n"
    yield (
        f"`python analyses/spliced.py --repeats {n_repeats}`: layer {LAYER} of nano, {n_tokens:,} tokens of the held-out "
        f"docs corpus, {len(held.tested.pairs)} pairs of {N_CONCEPTS} concepts (|correlation| ≤ {held.correlation:.2f}), "
        f"{n_twins} PC-sign twins; channels of {CHANNEL} neurons, amplitudes {AMPLITUDES[0]:g} to {AMPLITUDES[1]:g}, "
        f"{N_KNOWN} known cases. The layer by itself computes {held.own} of the pairs; its twins in its place "
        f"{held.false.n_found} of {held.false.n_cases:,}. Numbers are pairs; others were not spliced in. The naive "
        "interval is Clopper–Pearson's of the share found; the lower limit knows no sensitivity. "
        "Amplitudes, the limit on correlations and the number of known cases were settled on short trials of this script "
        "before the repetitions shown.\n"
    )
    regimes = ((6, 1.0), (12, 1.0), (20, 1.0), (12, 0.25))
    sizes = np.full(len(regimes), n_repeats // len(regimes))
    sizes[-1] = max(2, n_repeats // 10)
    sizes[:-1] = (n_repeats - sizes[-1] + 2) // 3
    rows: list[list[str]] = []
    claimed = covered = 0
    for index, ((n_true, weaker), size) in enumerate(zip(regimes, sizes, strict=True)):
        repeats = [repeat(held, n_true, weaker, np.random.default_rng([41, index, r])) for r in range(size)]
        rows.append(row(n_true, weaker, repeats))
        if weaker == 1.0:
            intervals = [one.interval for one in repeats if one.interval is not None]
            claimed += len(intervals)
            covered += sum(low <= n_true <= high for low, high in intervals)
    yield from table(COLUMNS, rows)
    share = covered / max(claimed, 1)
    yield (
        f"\nWhere the known cases are like the others, the interval holds the true number in {covered} of {claimed} = "
        f"{share:.0%} of the repetitions in which it is claimed: {'at least' if share >= 0.9 else 'BELOW'} 90 %."
    )
    near = stage(n_tokens, n_twins, ANY)
    few = [repeat(near, 12, 1.0, np.random.default_rng([42, r])) for r in range(4)]
    yield "\n## Concepts that correlate\n"
    yield (
        f"The same with the {N_CONCEPTS} concepts that have the most testable pairs, whatever their correlation (up to "
        f"{near.correlation:.2f}; {len(near.tested.pairs)} pairs, of which the layer by itself computes {near.own}): where "
        "A′ goes with A, the spliced pair (A, B) makes (A′, B) computed too. The count is one of pairs, not of mechanisms.\n"
    )
    yield from table(COLUMNS, [row(12, 1.0, few)])
    sparse = stage(n_tokens, n_twins, None)
    few = [repeat(sparse, 12, 1.0, np.random.default_rng([43, r])) for r in range(4)]
    n_concepts = len(np.unique(sparse.tested.pairs))
    yield "\n## Few pairs of each concept\n"
    yield (
        f"The same with a uniform sample of {len(sparse.tested.pairs)} of all testable pairs: {n_concepts} concepts, "
        f"{2 * len(sparse.tested.pairs) / n_concepts:.1f} pairs of each. What a concept does in all its pairs is taken out "
        "before a pair is called computed; with so few of them the spliced pairs go with it, though they stand above their "
        "twins.\n"
    )
    yield from table(COLUMNS, [row(12, 1.0, few)])


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=54)
    parser.add_argument("--out", default=str(RESULTS / "spliced.md"), help="- prints only")
    options = parser.parse_args()
    write_page(page(options.repeats), options.out)


if __name__ == "__main__":
    main()
