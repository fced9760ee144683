"""Before a run: what it will take, and what it could find.

The text is read, labelled and planned as a run does it, so its counts are the run's own. Time comes from a pilot on one
layer (`pilot`), the floor from the pilot's twins (`evidence.floor`). Nothing is written.
"""

from __future__ import annotations

import html
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from probekit.analysis import run_fingerprint
from probekit.analysis.api import analyze
from probekit.analysis.backends import check_engine
from probekit.analysis.grouping import Grouping, grouping, halves_of, n_read
from probekit.analysis.inputs import AnalysisInputs, inputs_of_model
from probekit.analysis.memory import as_bytes
from probekit.analysis.pilot import Pilot, clock_of, run_pilot, seconds_a_token
from probekit.analysis.progress import watching
from probekit.analysis.reading import Reading
from probekit.analysis.settings import Settings
from probekit.arguments import as_concepts, as_layers, called_as
from probekit.errors import guarded
from probekit.evidence.floor import floor
from probekit.evidence.nulls import MIN_TAIL, TAIL_SHARE
from probekit.evidence.pair_sampling import PairSampling
from probekit.model.ambient import as_torch_starts

STEPS = {
    "calibration": "drawing twins", "supports": "moments and selection", "readouts": "refit", "confirm": "confirmation",
    "decision": "decision",
}  # fmt: skip
"""First word of a pilot's step: what it is called here."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take and could find; print it, or show it in a notebook."""

    model: str
    """Name of the model."""
    corpus: str
    """Name of the corpus."""
    n_docs: int
    """Documents read."""
    n_tokens_fit: int
    """Counted tokens that readouts are fitted on."""
    n_tokens_confirm: int
    """Counted tokens that they are judged on."""
    n_concepts: int
    """Concepts."""
    n_pairs: int
    """Pairs of them."""
    n_testable: int
    """Pairs with tokens enough in every quadrant of both halves."""
    n_tested: int
    """Pairs that are tested."""
    untestable: Mapping[str, int]
    """The other pairs by reason."""
    layers: tuple[int, ...]
    """Layers measured."""
    n_together: int
    """Layers that share a reading of the text."""
    n_neurons: int
    """Neurons of a layer."""
    device: str
    """Where the model computes."""
    n_twins: int
    """Twins of a layer."""
    memory_bytes: int
    """Memory of what is summed and kept of a group of layers, besides the model and what it is computing."""
    seconds: float
    """Time of the run on this machine, one process, its last seconds for tables and report left out: of the processor, all
    cores added up; on an accelerator, of the clock on the wall."""
    steps: Mapping[str, float]
    """The same by step."""
    smallest_p: float | None
    """Smallest p-value of a single pair; 0 where a tail is fitted beyond the twins, None without twins enough."""
    fewest_nameable: int | None
    """Pairs that must stand out together for any of them to be named; None where none could be."""
    detectable_d: float | None
    """d′ at which a usual pair would be named; None where none could be."""
    assumptions: str
    """What the last three rest on, in words."""
    pilot: Mapping[str, int | float]
    """What was measured: layer, n_tokens, n_pairs, n_twins, seconds."""
    notes: tuple[str, ...]
    """What the run would tell before any number."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, ready for JSON."""
        return {**asdict(self), "layers": list(self.layers), "notes": list(self.notes)}

    def _rows(self) -> list[tuple[str, str]]:
        """What is reported, a line each."""
        n_layers = len(self.layers)
        at_once = (
            ""
            if n_layers == 1
            else ", all at once"
            if self.n_together == n_layers
            else f", {self.n_together} at once"
        )
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in self.untestable.items() if n)
        steps = ", ".join(f"{name} {duration(value)}" for name, value in self.steps.items())
        whose = "of one core" if self.device == "cpu" else f"on {self.device}"
        pilot = self.pilot
        lines = {
            "reads": f"{self.n_docs:,} documents of {self.corpus}, {self.n_tokens_fit:,} tokens to fit and "
            f"{self.n_tokens_confirm:,} to confirm",
            "pairs": f"{self.n_concepts:,} concepts, {self.n_pairs:,} pairs, {self.n_testable:,} testable, "
            f"{self.n_tested:,} tested" + (f" (not testable: {reasons})" if reasons else ""),
            "layers": f"{n_layers} of {self.n_neurons:,} neurons{at_once}; {self.n_twins} twins each",
            "memory": f"{self.memory_bytes / 1e9:.2g} GB for sums and kept activations, besides the model and its forwards",
            "time": f"some {duration(self.seconds)} {whose} ({steps})",
            "could find": _findable(self),
            "pilot": f"layer {pilot['layer']:.0f}, {pilot['n_tokens']:,.0f} tokens, {pilot['n_pairs']:.0f} pairs, "
            f"{pilot['n_twins']:.0f} twins: {duration(pilot['seconds'])}",
        }
        return [*lines.items(), *(("note", note) for note in self.notes)]

    def __str__(self) -> str:
        """A line for each thing to know."""
        lines = [f"{self.model}: what a run will take, and could find"]
        return "\n".join(lines + [f"  {name:<11}{text}" for name, text in self._rows()])

    def __repr__(self) -> str:
        """One line."""
        return (
            f"Estimate({self.model!r}, {len(self.layers)} layers, {self.n_tested} pairs, {duration(self.seconds)}, "
            f"{self.memory_bytes / 1e9:.2g} GB)"
        )

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        rows = "".join(
            f"<tr><th {left}>{html.escape(name)}</th><td {left}>{html.escape(text)}</td></tr>"
            for name, text in self._rows()
        )
        return f"<table><caption>{html.escape(str(self).splitlines()[0])}</caption>{rows}</table>"


def _findable(result: Estimate) -> str:
    if result.fewest_nameable is None:
        return f"no pair ({result.assumptions.rstrip('.')})"
    alone = (
        "a single pair can be named"
        if result.fewest_nameable == 1
        else f"{result.fewest_nameable} pairs must stand out together for any to be named"
    )
    smallest = (
        "no smallest p (a tail is fitted)"
        if result.smallest_p == 0
        else f"smallest p {result.smallest_p:.2g}"
    )
    needed = (
        "no d′ would do"
        if result.detectable_d is None
        else f"a usual pair needs d′ of some {result.detectable_d:.2g}"
    )
    return f"{alone}; {smallest}; {needed} ({result.assumptions.rstrip('.')})"


def duration(seconds: int | float) -> str:
    """Seconds in the unit that a person would use.

    >>> duration(4.2), duration(150), duration(9_000), duration(400_000)
    ('4.2 s', '2.5 min', '2.5 h', '4.6 days')

    Args:
        seconds: a time.
    """
    for size, word, most in ((1, "s", 100), (60, "min", 100), (3_600, "h", 48)):
        if seconds < size * most:
            return f"{seconds / size:.2g} {word}"
    return f"{seconds / 86_400:.2g} days"


@guarded
@as_torch_starts()
@called_as(analyze)
def estimate(**arguments: Any) -> Estimate:
    """What `analyze` with the same arguments will take on this machine, and what it could find.

    The text is read, labelled and planned in full; one layer is measured on some thousand tokens. The time is that of one
    process, whatever the engine is. Nothing is written to `out`, and what a run has finished there is not taken off.

    Args:
        **arguments: those of `analyze`, with its defaults; `force`, `command` and `truth` are of no effect.

    Raises:
        InputError: data or configuration that `analyze` would refuse; no pair is testable.
        ModelError: the model cannot be loaded or fails the proof of its sites.
    """
    begun = time.process_time()
    settings = Settings.of(arguments)
    model, device = arguments["model"], arguments["device"]
    check_engine(arguments["engine"], model)
    budget = as_bytes(arguments["memory"])
    wanted, concepts = as_layers(arguments["layers"]), as_concepts(arguments["concepts"])
    pair_sampling = PairSampling.of(arguments["pairs"])
    clock = clock_of(run_fingerprint.of_device(device))
    with watching(arguments["progress"]) as report:
        reading = Reading(
            model, arguments["corpus"], settings, tokenizer=arguments["tokenizer"], device=device, dtype=arguments["dtype"],
            report=report,
        )  # fmt: skip
        chosen = reading.concepts(concepts)
        analysis_inputs = inputs_of_model(reading, chosen, wanted, pair_sampling, report)
        read = time.process_time() - begun
        measured = sorted(analysis_inputs.layers)
        report("pilot", 0, 2)
        ends = seconds_a_token(analysis_inputs.source, sorted({measured[0], measured[-1]}), clock)
        report("pilot", 1, 2)
        pilot = run_pilot(analysis_inputs, measured[len(measured) // 2], clock)
        report("pilot", 2, 2)
    return _estimate_of(analysis_inputs, pilot, ends, read, budget)


def _estimate_of(
    analysis_inputs: AnalysisInputs, pilot: Pilot, ends: Mapping[int, float], read: float, budget: float
) -> Estimate:
    """From what was planned and measured to what is reported."""
    design = analysis_inputs.design
    groups = grouping(design, analysis_inputs, budget)
    steps = {"reading": read, "forward": _forward(analysis_inputs, ends, groups)}
    for step, seconds in pilot.layer_seconds.items():
        name = STEPS[step.partition(",")[0]]
        steps[name] = steps.get(name, 0.0) + seconds * len(analysis_inputs.layers)
    at_best = floor(
        len(design.pairs), design.settings.twins, design.tested.q, fdr=design.tested.fdr,
        d_twins=_as_many(pilot.d_twins, len(design.pairs)),
    )  # fmt: skip
    counted = analysis_inputs.concepts
    return Estimate(
        model=str(analysis_inputs.model["name"]), corpus=str(analysis_inputs.corpus["name"]),
        n_docs=int(analysis_inputs.corpus["n_docs"]),
        n_tokens_fit=design.fit.labels.n_tokens, n_tokens_confirm=design.confirm.labels.n_tokens,
        n_concepts=counted["n"], n_pairs=counted["n_pairs"], n_testable=design.n_testable, n_tested=len(design.pairs),
        untestable=dict(design.excluded), layers=tuple(analysis_inputs.layers), n_together=groups.n_layers,
        n_neurons=analysis_inputs.n_neurons, device=str(analysis_inputs.model["device"]),
        n_twins=design.settings.twins, memory_bytes=int(groups.n_bytes),
        seconds=sum(steps.values()), steps=steps, **at_best,
        pilot={
            "layer": pilot.layer, "n_tokens": pilot.n_tokens, "n_pairs": pilot.n_pairs, "n_twins": pilot.n_twins,
            "seconds": pilot.seconds,
        },
        notes=tuple(analysis_inputs.notes),
    )  # fmt: skip


def _forward(analysis_inputs: AnalysisInputs, ends: Mapping[int, float], groups: Grouping) -> float:
    """Seconds of all forwards: a group reads the text once, or for its calibration, twice to fit and once to confirm."""
    n_tokens = n_read(halves_of(analysis_inputs.design), groups)
    layers, size = analysis_inputs.layers, groups.n_layers
    deepest = [max(layers[i : i + size]) for i in range(0, len(layers), size)]
    return n_tokens * float(np.interp(deepest, list(ends), list(ends.values())).sum())


def _as_many(
    d_twins: Float[np.ndarray, "twin some"] | None, n_pairs: int
) -> Float[np.ndarray, "twin pair"] | None:
    """The pilot's twins as if all pairs scattered as its pairs do; None where they are too few to show a tail."""
    if d_twins is None or d_twins.size * TAIL_SHARE < MIN_TAIL:
        return None
    return d_twins[:, np.arange(n_pairs) % d_twins.shape[1]]
