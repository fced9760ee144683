"""What one layer would take, measured: the three passes on a few thousand tokens and some of the pairs, and scaled.

Every step of a pass grows with sizes that are known before a run: streaming with the tokens and with the places where pairs
are read, the end of a pass with the pairs, all of it with the twins. Three pilots of different numbers of pairs and twins
tell the parts of each step apart. Axes: token pair twin.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from probekit.analysis.design import HalfPlan, StudyDesign
from probekit.analysis.inputs import AnalysisInputs
from probekit.analysis.layer_summary import summarise_layer
from probekit.analysis.pair_details import detail_table
from probekit.analysis.passes import CALIBRATION_TOKENS, LayerMeasure, measure_layers
from probekit.analysis.settings import DECIDING_K
from probekit.analysis.source import Half, HeldSource, LayerBlock, Source
from probekit.probes.pairs import RELAY_SAMPLE, SAMPLE, natural_counts, sample_tokens, splitmix64
from probekit.probes.tiles import TILE
from probekit.storage.checkpoint import CheckpointStore, Pass
from probekit.storage.named_arrays import Arrays

PILOT_TOKENS = TILE
"""Tokens of each half: one tile, so that what a tile costs beside its tokens is in the measure. Twice as many, and so on, as
long as too few pairs have tokens enough."""
ENOUGH_PAIRS, ENOUGH_TOKENS = 32, 8
"""So many pairs with so many tokens in every quadrant are wanted: fewer tokens give no spread within a quadrant."""
PILOT_PAIRS = 128
"""Pairs: with `PILOT_TWINS` enough twin values for the tail that decides what can be found."""
PILOT_TWINS = 8
FEWER_PAIRS, FEWER_TWINS = 4, 2
"""The other pilots take this part of the pairs, and of the twins."""
DECISION = "decision"

Clock = Callable[[], float]
"""Seconds: of the processor, or on an accelerator, whose work the processor does not count, of the clock on the wall."""


def clock_of(device: str) -> Clock:
    """What the time of a device is taken with.

    Args:
        device: cpu, cuda.
    """
    if device == "cpu":
        return time.process_time

    def wall() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return wall


@dataclass(frozen=True)
class Pilot:
    """What the pilots say."""

    layer: int
    """The layer they ran on."""
    n_tokens: int
    """Tokens of both halves."""
    n_pairs: int
    """Pairs of the largest pilot."""
    n_twins: int
    """Its twins."""
    seconds: float
    """What all of them took."""
    layer_seconds: dict[str, float]
    """What one layer of the whole run would take, by step, its forward left out."""
    d_twins: Float[np.ndarray, "twin pair"] | None
    """d′ of the pilot's twins with relays removed; None without twins."""


def run_pilot(analysis_inputs: AnalysisInputs, layer: int, clock: Clock) -> Pilot:
    """Measure one layer with few tokens, pairs and twins, and say what it takes with all of them.

    Args:
        analysis_inputs: what is analysed, planned in full.
        layer: one of its layers.
        clock: where the time comes from.
    """
    start = clock()
    whole = analysis_inputs.design
    n_tokens, chosen = _chosen(whole)
    source = Recorded(analysis_inputs.source, layer, n_tokens)
    few_twins = whole.settings.twins if whole.settings.twins < PILOT_TWINS else PILOT_TWINS // FEWER_TWINS
    most = _small(whole, chosen, min(whole.settings.twins, PILOT_TWINS), n_tokens)
    fewer_pairs = _small(whole, chosen[: max(1, len(chosen) // FEWER_PAIRS)], most.settings.twins, n_tokens)
    fewer_twins = _small(whole, chosen, few_twins, n_tokens)
    # once for nothing: kernels are compiled or loaded, and memory is taken, the first time
    _timed(analysis_inputs, source, _small(whole, chosen[:1], few_twins, n_tokens), layer, clock)
    costs, measure = _timed(analysis_inputs, source, most, layer, clock)
    with_fewer_pairs, _ = _timed(analysis_inputs, source, fewer_pairs, layer, clock)
    with_fewer_twins = costs
    if few_twins < most.settings.twins:
        with_fewer_twins, _ = _timed(analysis_inputs, source, fewer_twins, layer, clock)
    largest, smaller, full = sizes_of(most), sizes_of(fewer_pairs), sizes_of(whole)
    steps = {
        step: scaled(seconds, with_fewer_pairs[step], largest[step], smaller[step], full[step])
        * more_twins(seconds, with_fewer_twins[step], most.settings.twins, few_twins, whole.settings.twins)
        for step, seconds in costs.items()
    }
    twins = [twin.d_relay for twin in measure.twins.get(DECIDING_K, []) if twin.d_relay is not None]
    return Pilot(
        layer=layer,
        n_tokens=most.fit.labels.n_tokens + most.confirm.labels.n_tokens,
        n_pairs=len(chosen),
        n_twins=most.settings.twins,
        seconds=clock() - start,
        layer_seconds=steps,
        d_twins=np.stack(twins) if twins else None,
    )


def seconds_a_token(source: Source, layers: Sequence[int], clock: Clock) -> dict[int, float]:
    """What a token takes on its way through the model up to some layers.

    Args:
        source: gives the activations.
        layers: each timed by itself.
        clock: where the time comes from.
    """
    found: dict[int, float] = {}
    for layer in layers:
        with torch.inference_mode():
            start, n_tokens = clock(), 0
            for block in source.blocks("fit", [layer]):
                n_tokens += len(block[layer][1])
                if n_tokens >= PILOT_TOKENS:
                    break
        found[layer] = (clock() - start) / max(n_tokens, 1)
    return found


# -------------------------------------------------------------------------------- the sizes that time grows with


@dataclass(frozen=True)
class Size:
    """How much a step has to do."""

    base: int | float
    """What it has to do whatever the pairs are."""
    pairs: int | float
    """What it has to do for the pairs."""


def sizes_of(design: StudyDesign) -> dict[str, Size]:
    """The sizes of each step: tokens and places where pairs are read, or the pairs alone at the end of a pass.

    Args:
        design: of a pilot, or the whole one.
    """
    n_pairs, n_fit, n_confirm = (
        len(design.pairs),
        design.fit.labels.n_tokens,
        design.confirm.labels.n_tokens,
    )
    n_first = min(n_fit, CALIBRATION_TOKENS)
    together = float(natural_counts(design.fit.labels, design.pairs)[:, 0].sum())
    end = Size(1, n_pairs)
    return {
        "calibration, end": Size(n_first, _entries(design.fit, relay_only=True) * n_first / max(n_fit, 1)),
        "supports, tiles": Size(n_fit, together),
        "supports, end": end,
        "readouts, tiles": Size(n_fit, _entries(design.fit)),
        "readouts, end": end,
        "confirm, tiles": Size(n_confirm, _entries(design.confirm)),
        DECISION: end,
    }


def _entries(half: HalfPlan, *, relay_only: bool = False) -> float:
    """Tokens on which the pairs are read, counted once for every pair."""
    relay = 0 if half.relay_sample is None else len(half.relay_sample.token)
    return float(relay if relay_only else relay + len(half.sample.token))


def scaled(seconds: float, with_fewer: float, size: Size, fewer: Size, full: Size) -> float:
    """Seconds at full size, from two measures that differ in the pairs.

    Args:
        seconds: with more pairs.
        with_fewer: with fewer pairs, all else alike.
        size: of the first.
        fewer: of the second.
        full: wanted.
    """
    apart = size.pairs - fewer.pairs
    # what is below the noise of the clock is no share of the pairs
    for_pairs = min(max((seconds - with_fewer) / apart, 0.0) * size.pairs, seconds) if apart > 0 else 0.0
    more = full.pairs / size.pairs if size.pairs else 1.0
    return (seconds - for_pairs) * full.base / max(size.base, 1) + for_pairs * more


def more_twins(seconds: float, with_fewer: float, n_twins: int, n_fewer: int, n_full: int) -> float:
    """How many times as long a step takes with all twins as with some.

    Args:
        seconds: with `n_twins`.
        with_fewer: with `n_fewer`.
        n_twins: twins of the first measure.
        n_fewer: twins of the second.
        n_full: wanted.
    """
    if n_full <= n_twins or n_twins <= n_fewer or seconds <= 0:
        return 1.0
    each = max(seconds - with_fewer, 0.0) / (n_twins - n_fewer)
    return float(min(1 + each * (n_full - n_twins) / seconds, n_full / n_twins))


# -------------------------------------------------------------------------------- one pilot


class Recorded(HeldSource):
    """The first activations of one layer, held in memory, so that pilots do not run the model again.

    Args:
        source: where they come from.
        layer: the one layer.
        n_tokens: tokens of each half that are held.
    """

    def __init__(self, source: Source, layer: int, n_tokens: int) -> None:
        super().__init__(source)
        self._layer = layer
        halves: tuple[Half, ...] = ("fit", "confirm")
        with torch.inference_mode():
            self._blocks = {half: list(self._first(half, n_tokens)) for half in halves}

    def _first(self, half: Half, n_most: int) -> Iterator[LayerBlock]:
        n_done = 0
        for block in self._source.blocks(half, [self._layer]):
            inputs, neurons = block[self._layer]
            n = min(len(neurons), n_most - n_done)
            yield {self._layer: (None if inputs is None else inputs[:n], neurons[:n])}
            n_done += n
            if n_done >= n_most:
                return

    def blocks(self, half: Half, layers: list[int], start: int = 0) -> Iterator[LayerBlock]:
        """The blocks held, from a token on."""
        for block in self._blocks[half]:
            inputs, neurons = block[self._layer]
            n = len(neurons)
            if start < n:
                yield {self._layer: (None if inputs is None else inputs[start:], neurons[start:])}
            start = max(start - n, 0)


class _Stopwatch(CheckpointStore):
    """Keeps nothing; tells how long the tiles and the end of each pass took."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}
        self._clock, self._since = clock, clock()

    def open(self, name: str, *upstream: str) -> Pass:
        """A pass whose laps are taken."""
        self._since = self._clock()
        return _TimedPass(self, name)

    def lap(self, step: str) -> None:
        """What went by since the last lap belongs to a step."""
        now = self._clock()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._since
        self._since = now


class _TimedPass(Pass):
    def __init__(self, watch: _Stopwatch, name: str) -> None:
        super().__init__(None, name, "")
        self._watch, self._called = watch, name

    def maybe_save(self, sums: object, n_tokens: int) -> None:
        self._watch.lap(f"{self._called}, tiles")

    def save(self, layer: int, arrays: Arrays | Mapping[str, np.ndarray], n_tokens: int) -> None:
        self._watch.lap(f"{self._called}, end")


def _timed(
    analysis_inputs: AnalysisInputs, source: Recorded, design: StudyDesign, layer: int, clock: Clock
) -> tuple[dict[str, float], LayerMeasure]:
    """One pilot: seconds of each step, and what it measured."""
    watch = _Stopwatch(clock)
    (measure,) = measure_layers(source, [layer], design, checkpoints=watch)
    kinds = [""] * len(design.pairs)
    summarise_layer(
        measure, design, names=analysis_inputs.names, kinds=kinds, n_params=analysis_inputs.n_params(layer),
        bits_stored=float(analysis_inputs.bits(layer)),
    )  # fmt: skip
    detail_table(measure, design, analysis_inputs.names)
    watch.lap(DECISION)
    return watch.seconds, measure


def _chosen(design: StudyDesign) -> tuple[int, Int[np.ndarray, " chosen"]]:
    """Tokens of each half, and the pairs that hold most of them in their emptiest quadrant, best first.

    On few tokens d′ scatters between twins as it does on all of them only where the pilot has tokens enough.
    """
    most = max(design.fit.labels.n_tokens, design.confirm.labels.n_tokens)
    n_tokens = PILOT_TOKENS
    while True:
        emptiest = np.minimum(*(_emptiest(half, design, n_tokens) for half in (design.fit, design.confirm)))
        usable = int((emptiest >= ENOUGH_TOKENS).sum())
        if usable >= min(ENOUGH_PAIRS, len(emptiest)) or n_tokens >= most:
            # testable pairs have tokens enough in every quadrant once all tokens are read
            return n_tokens, np.argsort(-emptiest, kind="stable")[: min(max(usable, 1), PILOT_PAIRS)]
        n_tokens *= 2


def _emptiest(half: HalfPlan, design: StudyDesign, n_tokens: int) -> Int[np.ndarray, " pair"]:
    """Tokens in the emptiest quadrant of each pair among the first tokens of a half."""
    labels = half.labels.between(0, min(half.labels.n_tokens, n_tokens))
    return natural_counts(labels, design.pairs).min(1)


def _small(
    whole: StudyDesign, chosen: Int[np.ndarray, " chosen"], n_twins: int, n_tokens: int
) -> StudyDesign:
    """The plan on its first tokens, with some of its pairs and twins."""
    pairs = whole.pairs[chosen]
    fit, confirm = (_first_tokens(half, pairs, n_tokens) for half in whole.halves)
    return replace(
        whole.with_settings(twins=n_twins),
        pairs=pairs,
        fit=fit,
        confirm=confirm,
        n_testable=len(pairs),
        inclusion=np.ones(len(pairs)),
        block=None,
    )


def _first_tokens(half: HalfPlan, pairs: Int[np.ndarray, "pair 2"], n_most: int) -> HalfPlan:
    n_tokens = min(half.labels.n_tokens, n_most)
    labels, key = half.labels.between(0, n_tokens), half.doc_key[:n_tokens]
    _, doc = np.unique(key, return_inverse=True)
    token_hash = splitmix64(key ^ splitmix64(np.arange(n_tokens, dtype=np.uint64)))
    samples = [sample_tokens(labels, pairs, doc, token_hash, limit=n) for n in (SAMPLE, RELAY_SAMPLE)]
    rows = half.rows[:n_tokens]
    return replace(half, labels=labels, doc_key=key, rows=rows, sample=samples[0], relay_sample=samples[1])
