"""Measure a group of layers: two passes over the fit half, one over the confirm half, nothing kept but sums.

Pass A leaves shared moments for every site (neurons, pre-activations, input, linearised layer, twins), from which come
the supports; pass B the quadrant-balanced refit on them; pass C what the readouts do on documents they have not seen.
All sites of a layer go through the same code. Axes: token neuron pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from probekit.evidence.contrast import ConfirmPlan, ConfirmSums, Contrast, NeuronSums
from probekit.evidence.spread import Spread, measure_spread
from probekit.model.twins import InputFrame, LinearLayer, PcSignTwins, isotropic_twin, linearised
from probekit.model.weights import MlpWeights
from probekit.probes.moments import Moments, fold_of, require_finite
from probekit.probes.pairs import LabelColumns, TokenSample
from probekit.probes.refit import BalancedMoments, DenseReadouts, Readouts, dense_readouts
from probekit.probes.select import forward_select
from probekit.probes.tiles import TILE, retile, segments
from probekit.run.source import Half, Source

KS = (1, 4, 16, 64)
DECIDING_K = 16
N_FOLDS = 3
"""Document folds that choose the strength of the dense readouts."""
N_ISOTROPIC = 4
"""Isotropic twins: enough for a mean and a range; they decide nothing."""
CALIBRATION_TOKENS = 50_000

Progress = Callable[[str, int, int], None]
"""Called with (what is running, tokens done, tokens in all)."""


@dataclass(frozen=True)
class HalfPlan:
    """One half of the documents: its labels, documents and sampled tokens."""

    half: Half
    """Which half."""
    labels: LabelColumns
    """Labels of its tokens."""
    doc_key: np.ndarray
    """Hash of each token's document, uint64 [token]."""
    sample: TokenSample
    """Sampled tokens of each pair."""


@dataclass(frozen=True)
class Study:
    """What is measured, the same for every layer."""

    pairs: Int[np.ndarray, "pair 2"]
    """Tested pairs."""
    fit: HalfPlan
    """The half the readouts are fitted on."""
    confirm: HalfPlan
    """The half they are judged on."""
    plan: ConfirmPlan
    """Batches of the confirm half."""
    n_twins: int
    """PC-sign twins."""
    seed: int
    """Seed of the twins."""
    twin_ks: tuple[int, ...] = (DECIDING_K,)
    """Sizes at which twins are confirmed; 0 stands for all neurons."""


@dataclass(frozen=True)
class LayerMeasure:
    """Everything the confirm half says about one layer."""

    layer: int
    """Layer index."""
    n_neurons: int
    """Width."""
    readouts: Readouts
    """Deciding readouts."""
    by_k: dict[int, Contrast]
    """Readouts at the neurons by size; 0 is all neurons."""
    best: Contrast
    """Best single neuron of each deciding support."""
    spread: Spread
    """How the deciding readouts are spread."""
    input_site: Contrast | None
    """Ridge readouts of the MLP input."""
    pre: Contrast | None
    """Deciding size on the pre-activations."""
    linear: Contrast | None
    """Deciding size on the linearised layer."""
    twins: dict[int, list[Contrast]]
    """Contrasts of every PC-sign twin by size."""
    twin_readouts: list[Readouts]
    """Deciding readouts of every twin."""
    twin_spreads: list[Spread]
    """How the twins' readouts are spread."""
    isotropic: list[Contrast]
    """Contrasts of every isotropic twin at the deciding size."""
    values: np.ndarray
    """Deciding readout at every sampled token of the confirm half, fp32 [entry]."""


@dataclass
class _Site:
    """One stream of activations of one layer on its way through the three passes."""

    ks: tuple[int, ...]
    dense: bool = False
    spread: bool = False
    keeps_values: bool = False
    moments: Moments | None = None
    balanced: BalancedMoments | None = None
    dense_fit: DenseReadouts | None = None
    readouts: dict[int, Readouts] = field(default_factory=dict)
    best: Readouts | None = None
    sums: dict[int, ConfirmSums] = field(default_factory=dict)
    best_sums: ConfirmSums | None = None
    neuron_sums: NeuronSums | None = None

    def end_pass_a(self, study: Study) -> None:
        assert self.moments is not None
        if self.ks:
            support = forward_select(self.moments.freeze(), max(self.ks))
            self.balanced = BalancedMoments(support, self.moments.shift, study.fit.sample)
        if self.dense:
            self.dense_fit = dense_readouts(self.moments)
        self.moments = None  # the Gram matrix is the largest thing a site holds

    def end_pass_b(self, study: Study) -> None:
        if self.balanced is not None:
            self.readouts = {k: self.balanced.fit(k) for k in self.ks}
            for k, readouts in self.readouts.items():
                self.sums[k] = ConfirmSums(study.plan, readouts, keeps_values=self.keeps_values)
            if self.spread:
                self.best = self.balanced.best_neuron(DECIDING_K)
                self.best_sums = ConfirmSums(study.plan, self.best, keeps_values=False)
                self.neuron_sums = NeuronSums(study.plan, self.readouts[DECIDING_K].neurons)
        if self.dense_fit is not None:
            self.sums[0] = ConfirmSums(study.plan, self.dense_fit, keeps_values=self.keeps_values)

    def measured_spread(self) -> tuple[Spread, Contrast]:
        assert self.best_sums is not None
        assert self.neuron_sums is not None
        assert self.balanced is not None
        best = self.best_sums.freeze()
        readouts = self.readouts[DECIDING_K]
        deviations = self.balanced.deviations()[:, : readouts.neurons.shape[1]]
        contrast = self.sums[DECIDING_K].freeze()
        return measure_spread(readouts, self.neuron_sums, deviations, contrast, best), best


class _Layer:
    """The sites of one layer and how their activations follow from its inputs and neurons."""

    def __init__(self, layer: int, weights: MlpWeights | None, sample: Tensor | None, study: Study) -> None:
        self.layer = layer
        self.weights = weights
        self.pc_twins: PcSignTwins | None = None
        self.isotropic: list[MlpWeights] = []
        self.linear: LinearLayer | None = None
        self.sites: dict[str, _Site] = {"neurons": _Site(KS, dense=True, spread=True, keeps_values=True)}
        if sample is not None:
            self.sites["input"] = _Site((), dense=True)
        if weights is None or sample is None:
            return
        self.sites["pre"] = _Site((DECIDING_K,))
        if weights.gated:
            # in a plain layer the linearised neurons are the pre-activations up to scale: the same sparse readouts
            self.linear = linearised(weights, sample)
            self.sites["linear"] = _Site((DECIDING_K,))
        if study.n_twins:
            rng = np.random.default_rng([study.seed, layer, 1])
            self.pc_twins = PcSignTwins.draw(weights, InputFrame.of(sample), study.n_twins, rng)
            sparse = tuple(sorted({k for k in study.twin_ks if k} | {DECIDING_K}))
            for r in range(study.n_twins):
                self.sites[f"twin:{r}"] = _Site(sparse, dense=0 in study.twin_ks, spread=True)
            for r in range(min(N_ISOTROPIC, study.n_twins)):
                rng = np.random.default_rng([study.seed, layer, 2, r])
                self.isotropic.append(isotropic_twin(weights, sample, rng))
                self.sites[f"isotropic:{r}"] = _Site((DECIDING_K,))

    def rows(
        self, inputs: Tensor | None, neurons: Tensor, *, sparse_only: bool = False
    ) -> Iterator[tuple[str, Tensor]]:
        """Activations of every site on one tile, one at a time."""
        yield "neurons", neurons
        if inputs is None:
            return
        if not sparse_only:
            yield "input", inputs
        if self.weights is None:
            return
        yield "pre", self.weights.pre(inputs)
        if self.linear is not None:
            yield "linear", self.linear.neurons(inputs)
        if self.pc_twins is not None:
            for r, rows in enumerate(self.pc_twins.neurons(inputs)):
                yield f"twin:{r}", rows
        for r, weights in enumerate(self.isotropic):
            yield f"isotropic:{r}", weights.neurons(inputs)


def measure_layers(
    source: Source, layers: list[int], study: Study, progress: Progress | None = None
) -> Iterator[LayerMeasure]:
    """Measure some layers together: each half is forwarded for all of them at once."""
    samples = _calibrate(source, layers)
    held = {layer: _Layer(layer, source.weights(layer), samples.get(layer), study) for layer in layers}
    with torch.inference_mode():
        _pass_a(source, held, study, progress)
        _pass_b(source, held, study, progress)
        _pass_c(source, held, study, progress)
    for layer in layers:
        yield _freeze(held.pop(layer))


def _calibrate(source: Source, layers: list[int]) -> dict[int, Tensor]:
    """The first inputs of the fit half, on which the frame and the firing rates are taken."""
    parts: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    n_tokens = 0
    for block in source.blocks("fit", layers):
        for layer, (inputs, _) in block.items():
            if inputs is not None:
                parts[layer].append(inputs)
        n_tokens += len(next(iter(block.values()))[1])
        if n_tokens >= CALIBRATION_TOKENS:
            break
    return {layer: torch.cat(rows) for layer, rows in parts.items() if rows}


def _tiles(
    source: Source, layers: list[int], half: HalfPlan, what: str, progress: Progress | None
) -> Iterator[tuple[int, int, dict[int, tuple[Tensor | None, Tensor]]]]:
    """Tiles of one half: first token, number of tokens, and each layer's inputs and neurons."""
    has_inputs = {layer: source.has_inputs(layer) for layer in layers}

    def flat() -> Iterator[tuple[Tensor, ...]]:
        for block in source.blocks(half.half, layers):
            columns: list[Tensor] = []
            for layer in layers:
                inputs, neurons = block[layer]
                columns += [neurons] if inputs is None else [inputs, neurons]
            yield tuple(columns)

    n_done = 0
    for start, columns in retile(flat(), TILE):
        queue = list(columns)
        tile: dict[int, tuple[Tensor | None, Tensor]] = {}
        for layer in layers:
            inputs = queue.pop(0) if has_inputs[layer] else None
            tile[layer] = (inputs, queue.pop(0))
        n_rows = len(columns[0])
        yield start, n_rows, tile
        n_done += n_rows
        if progress is not None:
            progress(what, n_done, half.labels.n_tokens)


def _pass_a(source: Source, held: dict[int, _Layer], study: Study, progress: Progress | None) -> None:
    n_concepts = study.fit.labels.n_concepts
    for start, n_rows, tile in _tiles(source, list(held), study.fit, "moments", progress):
        ptr, tokens = segments(study.fit.labels.between(start, start + n_rows), study.pairs)
        folds = fold_of(study.fit.doc_key[start : start + n_rows], N_FOLDS)
        whole = np.zeros(n_rows, np.int64)
        for layer, (inputs, neurons) in tile.items():
            require_finite(neurons, f"layer {layer}, neurons")
            for name, rows in held[layer].rows(inputs, neurons):
                site = held[layer].sites[name]
                n_folds = N_FOLDS if site.dense else 1
                if site.moments is None:
                    site.moments = Moments(rows.shape[1], n_concepts, pairs=study.pairs, n_folds=n_folds)
                site.moments.add_tile(rows, folds if n_folds > 1 else whole, ptr, tokens)
    for layer in held.values():
        for site in layer.sites.values():
            site.end_pass_a(study)


def _contiguous(rows: Tensor) -> np.ndarray:
    return rows.to("cpu", torch.float32).contiguous().numpy()


def _pass_b(source: Source, held: dict[int, _Layer], study: Study, progress: Progress | None) -> None:
    for start, n_rows, tile in _tiles(source, list(held), study.fit, "refit", progress):
        low, high = study.fit.sample.between(start, start + n_rows)
        for layer, (inputs, neurons) in tile.items():
            for name, rows in held[layer].rows(inputs, neurons, sparse_only=True):
                balanced = held[layer].sites[name].balanced
                if balanced is not None:
                    balanced.add_tile(_contiguous(rows.T), start, low, high)
    for layer in held.values():
        for site in layer.sites.values():
            site.end_pass_b(study)


def _pass_c(source: Source, held: dict[int, _Layer], study: Study, progress: Progress | None) -> None:
    scratch = np.empty(len(study.confirm.sample.token), np.float32)
    for start, n_rows, tile in _tiles(source, list(held), study.confirm, "confirm", progress):
        low, high = study.confirm.sample.between(start, start + n_rows)
        for layer, (inputs, neurons) in tile.items():
            require_finite(neurons, f"layer {layer}, neurons")
            for name, rows in held[layer].rows(inputs, neurons):
                site, by_token, by_neuron = held[layer].sites[name], _contiguous(rows), _contiguous(rows.T)
                for sums in site.sums.values():
                    sums.add_tile(by_token, by_neuron, start, low, high, scratch)
                if site.best_sums is not None:
                    site.best_sums.add_tile(by_token, by_neuron, start, low, high, scratch)
                if site.neuron_sums is not None:
                    site.neuron_sums.add_tile(by_neuron, start, low, high)


def _freeze(layer: _Layer) -> LayerMeasure:
    sites = layer.sites
    neurons = sites["neurons"]
    spread, best = neurons.measured_spread()
    twins = [site for name, site in sites.items() if name.startswith("twin:")]
    sizes = sorted(twins[0].sums) if twins else []
    pre = sites["pre"].sums[DECIDING_K].freeze() if "pre" in sites else None
    assert neurons.dense_fit is not None
    return LayerMeasure(
        layer=layer.layer,
        n_neurons=neurons.dense_fit.weights.shape[1],
        readouts=neurons.readouts[DECIDING_K],
        by_k={k: sums.freeze() for k, sums in neurons.sums.items()},
        best=best,
        spread=spread,
        input_site=sites["input"].sums[0].freeze() if "input" in sites else None,
        pre=pre,
        linear=sites["linear"].sums[DECIDING_K].freeze() if "linear" in sites else pre,
        twins={k: [site.sums[k].freeze() for site in twins] for k in sizes},
        twin_readouts=[site.readouts[DECIDING_K] for site in twins],
        twin_spreads=[site.measured_spread()[0] for site in twins],
        isotropic=[s.sums[DECIDING_K].freeze() for name, s in sites.items() if name.startswith("isotropic:")],
        values=neurons.sums[DECIDING_K].values,
    )
