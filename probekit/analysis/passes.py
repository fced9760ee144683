"""Measure a group of layers: two passes over the fit half, one over the confirm half, nothing kept but sums.

Pass A leaves shared moments for every site (neurons, pre-activations, input, linearised layer, twins), from which come
the supports; pass B the quadrant-balanced refit on them; pass C what the readouts do on documents they have not seen.
All sites of a layer go through the same code, and every pass can be killed and resumed (`checkpoint`). Axes: token
neuron pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probekit.analysis.design import HalfPlan, StudyDesign
from probekit.analysis.settings import CONTROLS, DECIDING_K
from probekit.analysis.sites import N_FOLDS, Layer, Site, SiteSums
from probekit.analysis.source import LayerBlock, Source
from probekit.evidence.contrast import Contrast
from probekit.evidence.spread import Spread
from probekit.probes.lists import token_lists
from probekit.probes.moments import fold_of, require_finite
from probekit.probes.refit import Readouts
from probekit.probes.removal import Columns
from probekit.probes.tiles import TILE, retile
from probekit.storage.checkpoint import CheckpointStore, Pass
from probekit.storage.named_arrays import Arrays, below, under

CALIBRATION_TOKENS = 50_000
GATHERED = 1_024
"""Tokens of a tile from which readouts gather their neurons: fewer than are summed at a time, so that they are still in
the processor's cache when the next pair asks for them."""

Progress = Callable[[str, int, int], None]
"""Called with (what is running, tokens done, tokens in all)."""


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
    controls: dict[str, list[Contrast]]
    """Contrasts of every twin of the further kinds at the deciding size."""
    spiked: dict[float, Contrast]
    """The spiked pairs at the deciding size, by amplitude."""
    overlap: np.ndarray | None
    """Channel overlap of every pair by the weights alone."""
    values: np.ndarray
    """Deciding readout at every sampled token of the confirm half, fp32 [entry]."""


def measure_layers(
    source: Source,
    layers: list[int],
    design: StudyDesign,
    progress: Progress | None = None,
    checkpoints: CheckpointStore | None = None,
) -> Iterator[LayerMeasure]:
    """Measure some layers together: each half is forwarded for all of them at once.

    Args:
        source: their activations.
        layers: the layers, at least one.
        design: what is measured.
        progress: called after every tile.
        checkpoints: where the passes save their checkpoints, so that a killed run can be resumed; None saves nothing.
    """
    checkpoints = CheckpointStore() if checkpoints is None else checkpoints
    by_layer = {
        layer: Layer(layer, source.weights(layer), has_inputs=source.has_inputs(layer), design=design)
        for layer in layers
    }
    with torch.inference_mode():
        calibrated = _calibrate(source, by_layer, checkpoints.open("calibration"))
        _passes(source, by_layer, design, checkpoints, progress, calibrated)
    for layer in layers:
        done = by_layer.pop(layer)
        yield assemble(layer, _site_results(done), done.overlap)


def _passes(
    source: Source,
    by_layer: dict[int, Layer],
    design: StudyDesign,
    checkpoints: CheckpointStore,
    progress: Progress | None,
    calibrated: str,
) -> None:
    selected = _pass_a(source, by_layer, design, checkpoints.open("supports", calibrated), progress)
    refitted = _pass_b(source, by_layer, design, checkpoints.open("readouts", selected), progress)
    _pass_c(source, by_layer, design, checkpoints.open("confirm", refitted), progress)


def _calibrate(source: Source, by_layer: dict[int, Layer], checkpoint: Pass) -> str:
    """Draw the twins on the first inputs of the fit half, or load those drawn earlier."""
    pending = _load(by_layer, checkpoint, lambda layer, outputs: layer.load_calibrated(outputs))
    samples, n_tokens = _first_inputs(source, list(pending))
    for index, layer in pending.items():
        checkpoint.save(index, layer.calibrate(samples.pop(index)), n_tokens)
    return checkpoint.close()


def _first_inputs(source: Source, layers: list[int]) -> tuple[dict[int, Tensor | None], int]:
    """The first inputs of the fit half, for each layer, and how many tokens they are."""
    parts: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    n_tokens = 0
    for block in source.blocks("fit", layers) if layers else ():
        for layer, (inputs, _) in block.items():
            if inputs is not None:
                parts[layer].append(inputs)
        n_tokens += len(next(iter(block.values()))[1])
        if n_tokens >= CALIBRATION_TOKENS:
            break
    return {layer: torch.cat(parts.pop(layer)) if parts[layer] else None for layer in layers}, n_tokens


def _load(
    by_layer: dict[int, Layer], checkpoint: Pass, load: Callable[[Layer, dict[str, np.ndarray]], None]
) -> dict[int, Layer]:
    """Load the layers whose outputs the pass has saved; returns the others."""
    pending: dict[int, Layer] = {}
    for index, layer in by_layer.items():
        outputs = checkpoint.load(index)
        if outputs is None:
            pending[index] = layer
        else:
            load(layer, outputs)
    return pending


def _tiles(
    source: Source,
    layers: list[int],
    half: HalfPlan,
    what: str,
    progress: Progress | None,
    n_done: int = 0,
    *,
    size: int,
) -> Iterator[tuple[int, int, dict[int, tuple[Tensor | None, Tensor]]]]:
    """Tiles of one half from a token on: first token, number of tokens, and each layer's inputs and neurons."""
    has_inputs = {layer: source.has_inputs(layer) for layer in layers}
    if n_done >= half.labels.n_tokens:
        return

    def flat(block: LayerBlock) -> tuple[Tensor, ...]:
        return tuple(column for layer in layers for column in block[layer] if column is not None)

    # map keeps no block while the next one is made
    for start, columns in retile(map(flat, source.blocks(half.half, layers, n_done)), size):
        queue = list(columns)
        tile: dict[int, tuple[Tensor | None, Tensor]] = {}
        for layer in layers:
            inputs = queue.pop(0) if has_inputs[layer] else None
            tile[layer] = (inputs, queue.pop(0))
        n_rows = len(columns[0])
        yield n_done + start, n_rows, tile
        if progress is not None:
            progress(what, n_done + start + n_rows, half.labels.n_tokens)


def _sums(by_layer: dict[int, Layer]) -> dict[str, SiteSums]:
    """The running sums of some layers by name."""
    return {name: sums for layer in by_layer.values() for name, sums in layer.sums().items()}


def _parts(design: StudyDesign) -> list[StudyDesign]:
    """The plan, and behind it that of the spiked pairs where there are any."""
    return [design, design.spiked] if design.settings.spikes and len(design.spiked_at) else [design]


def _seen(site: Site, design: StudyDesign) -> StudyDesign:
    return design.spiked if site.spiked else design


def _pass_a(
    source: Source,
    by_layer: dict[int, Layer],
    design: StudyDesign,
    checkpoint: Pass,
    progress: Progress | None,
) -> str:
    def load(layer: Layer, outputs: dict[str, np.ndarray]) -> None:
        for name, site in layer.sites.items():
            site.load_selected(below(name, outputs), _seen(site, design))

    pending = _load(by_layer, checkpoint, load)
    n_done = checkpoint.resume(_sums(pending)) if pending else design.fit.labels.n_tokens
    for start, n_rows, tile in _tiles(
        source, list(pending), design.fit, "moments", progress, n_done, size=TILE
    ):
        labels = design.fit.labels.between(start, start + n_rows)
        whole = token_lists(labels, design.pairs)
        dealt = whole.by_fold(fold_of(design.fit.doc_key[start : start + n_rows], N_FOLDS), N_FOLDS)
        for layer, (inputs, neurons) in tile.items():
            require_finite(neurons, f"layer {layer}, neurons")
            for name, rows in pending[layer].rows(inputs, neurons, labels):
                moments = pending[layer].sites[name].open_moments(rows.shape[1], design)
                moments.add_tile(rows, dealt if moments.n_folds > 1 else whole)
        checkpoint.maybe_save(_sums(pending), start + n_rows)
    for index, layer in pending.items():
        outputs: dict[str, np.ndarray] = {}
        for name, summed in layer.summed():
            site = layer.sites[name]
            outputs |= under(name, site.select(summed, _seen(site, design), f"layer {index}, {name}"))
        checkpoint.save(index, outputs, design.fit.labels.n_tokens)
    return checkpoint.close()


def _contiguous(columns: Tensor) -> np.ndarray:
    return columns.to("cpu", torch.float32).contiguous().numpy()


def _removable(layer: Layer, neurons: np.ndarray, pre: Tensor | None) -> Columns:
    assert pre is not None
    assert layer.weights is not None
    return Columns(neurons, _contiguous(pre), layer.weights.activation)


def _pass_b(
    source: Source,
    by_layer: dict[int, Layer],
    design: StudyDesign,
    checkpoint: Pass,
    progress: Progress | None,
) -> str:
    def load(layer: Layer, outputs: dict[str, np.ndarray]) -> None:
        for name, site in layer.sites.items():
            site.load_refitted(below(name, outputs))

    pending = _load(by_layer, checkpoint, load)
    for layer in pending.values():
        layer.open_removed(design.fit)
    n_done = checkpoint.resume(_sums(pending)) if pending else design.fit.labels.n_tokens
    for start, n_rows, tile in _tiles(
        source, list(pending), design.fit, "refit", progress, n_done, size=min(TILE, GATHERED)
    ):
        labels = design.fit.labels.between(start, start + n_rows)
        bounds = [part.fit.sample.between(start, start + n_rows) for part in _parts(design)]
        for layer, (inputs, neurons) in tile.items():
            changes = pending[layer].changes(inputs, start, design.fit)
            for name, columns, pre in pending[layer].columns(inputs, neurons, labels, dense=False):
                site = pending[layer].sites[name]
                if site.balanced is None:
                    continue
                values = _contiguous(columns)
                site.balanced.add_tile(values, start, *bounds[site.spiked])
                if site.removed is not None:
                    site.removed.add_tile(
                        _removable(pending[layer], values, pre), start, changes[site.spiked]
                    )
        checkpoint.maybe_save(_sums(pending), start + n_rows)
    for index, layer in pending.items():
        outputs: dict[str, np.ndarray] = {}
        for name, site in layer.sites.items():
            outputs |= under(name, site.refit())
        checkpoint.save(index, outputs, design.fit.labels.n_tokens)
    return checkpoint.close()


def _pass_c(
    source: Source,
    by_layer: dict[int, Layer],
    design: StudyDesign,
    checkpoint: Pass,
    progress: Progress | None,
) -> None:
    scratch = np.empty(len(design.confirm.sample.token), np.float32)
    for layer in by_layer.values():
        for site in layer.sites.values():
            site.open_sums(_seen(site, design))
        layer.open_removed(design.confirm)
    n_done = checkpoint.resume(_sums(by_layer))
    for start, n_rows, tile in _tiles(
        source, list(by_layer), design.confirm, "confirm", progress, n_done, size=min(TILE, GATHERED)
    ):
        labels = design.confirm.labels.between(start, start + n_rows)
        bounds = [part.confirm.sample.between(start, start + n_rows) for part in _parts(design)]
        for layer, (inputs, neurons) in tile.items():
            require_finite(neurons, f"layer {layer}, neurons")
            changes = by_layer[layer].changes(inputs, start, design.confirm)
            for name, columns, pre in by_layer[layer].columns(inputs, neurons, labels, dense=True):
                site = by_layer[layer].sites[name]
                values = _contiguous(columns)
                site.add_confirm(values, start, *bounds[site.spiked], scratch)
                if site.removed_sums is not None:
                    site.removed_sums.add_tile(
                        _removable(by_layer[layer], values, pre), start, changes[site.spiked]
                    )
        checkpoint.maybe_save(_sums(by_layer), start + n_rows)


@dataclass(frozen=True)
class SiteResult:
    """The results of the three passes for one site."""

    readouts: dict[int, Readouts]
    """Readouts by size."""
    sums: dict[int, Contrast]
    """Their contrasts on the confirm half; 0 is all columns."""
    spread: tuple[Spread, Contrast] | None
    """How the deciding readouts are spread, and the best single neurons."""
    values: np.ndarray | None
    """Deciding readout at every sampled token of the confirm half."""
    n_columns: int
    """Columns of the dense readouts; 0 where there are none."""


def _site_results(layer: Layer) -> dict[str, SiteResult]:
    return {
        name: SiteResult(
            site.readouts,
            site.contrasts(),
            site.measured_spread() if site.spread else None,
            site.sums[DECIDING_K].values if site.keeps_values else None,
            0 if site.dense_fit is None else site.dense_fit.weights.shape[1],
        )
        for name, site in layer.sites.items()
    }


def assemble(layer: int, sites: Mapping[str, SiteResult], overlap: np.ndarray | None) -> LayerMeasure:
    """One layer from its sites, in the order `Layer` names them."""
    neurons = sites["neurons"]
    assert neurons.spread is not None
    assert neurons.values is not None
    twins = [site for name, site in sites.items() if name.startswith("twin:")]
    pre = sites["pre"].sums[DECIDING_K] if "pre" in sites else None
    return LayerMeasure(
        layer=layer,
        n_neurons=neurons.n_columns,
        readouts=neurons.readouts[DECIDING_K],
        by_k=neurons.sums,
        best=neurons.spread[1],
        spread=neurons.spread[0],
        input_site=sites["input"].sums[0] if "input" in sites else None,
        pre=pre,
        linear=sites["linear"].sums[DECIDING_K] if "linear" in sites else pre,
        twins={k: [site.sums[k] for site in twins] for k in (sorted(twins[0].sums) if twins else ())},
        twin_readouts=[site.readouts[DECIDING_K] for site in twins],
        twin_spreads=[site.spread[0] for site in twins if site.spread is not None],
        controls={kind: _deciding(sites, kind) for kind in CONTROLS},
        spiked={
            float(name.partition(":")[2]): site.sums[DECIDING_K]
            for name, site in sites.items()
            if name.startswith("spike:")
        },
        overlap=overlap,
        values=neurons.values,
    )


def _deciding(sites: Mapping[str, SiteResult], kind: str) -> list[Contrast]:
    return [site.sums[DECIDING_K] for name, site in sites.items() if name.startswith(f"{kind}:")]


# ------------------------------------------------------------------------ one layer, some of its sites


def calibrate_layer(source: Source, layer: int, design: StudyDesign) -> Arrays:
    """The twins and spikes of one layer, drawn as `measure_layers` draws them."""
    one = Layer(layer, source.weights(layer), has_inputs=source.has_inputs(layer), design=design)
    with torch.inference_mode():
        sample, _ = _first_inputs(source, [layer])
        return one.calibrate(sample[layer])


def measure_sites(
    source: Source, layer: int, names: Sequence[str], design: StudyDesign, calibrated: Arrays
) -> dict[str, SiteResult]:
    """The three passes for some sites of one layer. A site's sums do not depend on which others go along."""
    one = Layer(
        layer,
        source.weights(layer),
        has_inputs=source.has_inputs(layer),
        design=design,
        only=frozenset(names),
    )
    one.load_calibrated(calibrated)
    with torch.inference_mode():
        _passes(source, {layer: one}, design, CheckpointStore(), None, "")
    found = _site_results(one)
    return {name: result for name, result in found.items() if name in names}
