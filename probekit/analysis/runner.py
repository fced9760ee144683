"""One run in its directory, from claiming it to the finished results, whatever it takes.

The order on disk: lock, run.json, stages, tables, COMMIT.json, report. Killed anywhere, the same call goes on behind the
last part that was finished and ends with the same bytes. Input that cannot be used leaves the disk as it was.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from probekit.analysis import progress, run_fingerprint
from probekit.analysis.backends import Engine, measure_on_ray
from probekit.analysis.examples import examples_of
from probekit.analysis.grouping import Grouping, grouping, layer_bytes
from probekit.analysis.inputs import AnalysisInputs
from probekit.analysis.layer_summary import summarise_layer
from probekit.analysis.memory import Memory, as_bytes
from probekit.analysis.pair_details import detail_table
from probekit.analysis.passes import LayerMeasure, measure_layers
from probekit.analysis.settings import DECIDING_K
from probekit.analysis.source import ReadOnce, Source
from probekit.analysis.threads import computing_with, threads_of
from probekit.errors import InputError, ModelError, OutOfMemoryError, lacks_memory
from probekit.results.concept_table import concept_table
from probekit.results.run import Run
from probekit.results.text_snapshot import TextSnapshot
from probekit.results.write import About, DecidedLayer, keep_layer, write_results
from probekit.storage import manifest, store
from probekit.storage.checkpoint import CheckpointStore, begun_window
from probekit.storage.contents import Contents
from probekit.storage.lock import locked
from probekit.storage.shards import STAGES, Stage, digest_of_inputs

RESULT_BYTES_A_PAIR = 4_000
"""Room that a tested pair takes in one layer's results, tables and report together."""


@dataclass(frozen=True)
class Job:
    """What to run."""

    record: dict[str, Any]
    """Its science and identity."""
    prepare: Callable[[progress.Report], AnalysisInputs]
    """Loads what is analysed."""
    arguments: dict[str, Any] | None = None
    """The call in words, so that `probekit resume` can repeat it; None where objects were passed."""
    command: str | None = None
    """What the report prints as the way to get this run again."""
    device: str = "cpu"
    """Where the model computes."""
    engine: Engine = "local"
    """Where the passes run."""
    memory: Memory = "auto"
    """What sums and kept activations may take."""
    contents: Contents = field(default_factory=Contents)
    """The files its identity was taken from."""
    truth: dict[str, Any] | None = None
    """The known answer of a planted model, which the report is to show; no number depends on it."""


def execute(job: Job, out: str | Path | None, watch: Any, *, force: bool) -> Run:
    """Load the run if it is finished, else start or continue it.

    Raises:
        StaleError: the directory holds another run and `force` is not set.
        LockedError: another process works on it.
    """
    if out is None:
        temporary = TemporaryDirectory(prefix="probekit-")
        return _in_folder(job, Path(temporary.name), watch, force=force, temporary=temporary)
    folder = _folder(out)
    if not force and manifest.state_of(folder, job.record) == "finished" and manifest.is_tidy(folder):
        return Run(folder)
    existed = folder.exists()
    made = store.make_folders(folder)
    try:
        with locked(folder):
            return _in_folder(job, folder, watch, force=force)
    except KeyboardInterrupt as stop:
        if (folder / manifest.RECORD).exists():
            again = f"continue with: probekit resume {shlex.quote(str(folder))}"
            if job.arguments is None:  # begun with objects, which no command line can name
                again = "make the same call again, and it goes on from there."
            stop.add_note(f"{folder} keeps what was finished; {again}")
        raise
    finally:
        if not existed and not any(folder.iterdir()):
            for path in made:
                with contextlib.suppress(OSError):  # somebody else has put something there
                    store.disk.remove_folder(path)


def _folder(out: Any) -> Path:
    if not isinstance(out, str | Path) or "\0" in str(out) or not str(out).strip():
        raise InputError(f"out: got {out!r}, wanted the path of a folder.")
    return Path(out)


def _in_folder(
    job: Job, folder: Path, watch: Any, *, force: bool, temporary: TemporaryDirectory[str] | None = None
) -> Run:
    """The same, by the one who holds the directory."""
    state = "other" if force and any(_foreign_or_own_files(folder)) else manifest.state_of(folder, job.record)
    environment = run_fingerprint.environment(job.device)
    if state == "other" and not force:
        manifest.require_same(folder, job.record)
    if state == "unfinished":
        manifest.require_same_environment(folder, environment)
    if state != "other":
        store.sweep(folder)
    if state == "finished":
        run = Run(folder, temporary)
        if not (folder / manifest.REPORT).exists():
            run.report()
        return run
    # a run that is replaced has no say in how its successor computes
    n_threads = threads_of(folder) if state == "unfinished" else torch.get_num_threads()
    record = {
        "schema": manifest.RECORD_SCHEMA, "format": manifest.FORMAT, **job.record, "command": job.command,
        "arguments": job.arguments, "versions": run_fingerprint.versions(), "environment": environment,
        "threads": n_threads, **({} if job.truth is None else {"truth": job.truth}),
    }  # fmt: skip
    if state == "new":
        store.write_sealed(folder / manifest.RECORD, record)
    try:
        with progress.watching(watch) as report, computing_with(n_threads):
            analysis_inputs = job.prepare(report)
            job.contents.require_unchanged()
            if state == "other":  # only now: what cannot be used must not cost the run that was there
                manifest.empty(folder)
                store.write_sealed(folder / manifest.RECORD, record)
            room = RESULT_BYTES_A_PAIR * len(analysis_inputs.layers) * len(analysis_inputs.design.pairs)
            store.require_room(folder, room, "the results of this run")
            _measure(folder, job, analysis_inputs, report, keeps=temporary is None)
            try:
                _finish(folder, job, analysis_inputs)
            except Exception as error:
                if lacks_memory(error):
                    raise _measured_and_kept(error) from error
                raise
    except (InputError, ModelError):
        if state == "new":
            manifest.empty(folder)
        raise
    run = Run(folder, temporary)
    run.report()
    return run


def _foreign_or_own_files(folder: Path) -> Iterator[Path]:
    """What a run, or anybody, has put there; somebody else's files are no run to replace."""
    names = {path.name for path in folder.iterdir()}
    if manifest.RECORD in names:
        yield folder / manifest.RECORD


def _measure(
    folder: Path, job: Job, analysis_inputs: AnalysisInputs, report: progress.Report, *, keeps: bool
) -> None:
    """Every layer to its decided part."""
    stage = _result_stage(folder, job, analysis_inputs)
    if stage.committed() is None:
        pending = [layer for layer in analysis_inputs.layers if not stage.has(layer)]
        if job.engine == "ray" and pending:
            _measure_group(analysis_inputs, stage, _on_ray(pending, job, analysis_inputs, report))
        elif pending:
            groups = grouping(analysis_inputs.design, analysis_inputs, as_bytes(job.memory))
            progress.say(report, _foreseen(analysis_inputs, pending, groups))
            _measure_here(analysis_inputs, stage, groups, report, folder if keeps else None)
        stage.commit()


def _measure_here(
    analysis_inputs: AnalysisInputs,
    stage: Stage,
    groups: Grouping,
    report: progress.Report,
    folder: Path | None,
) -> None:
    """Group by group in this process; fewer layers together where memory runs out."""
    layers = analysis_inputs.layers
    while pending := [layer for layer in layers if not stage.has(layer)]:
        # windows over all layers, finished ones included: a continued run finds its groups again
        begun = begun_window(folder, pending[0], layers) if folder is not None else []
        window = begun or _window(layers, pending[0], groups)
        try:
            if groups.keeps and len(begun) <= 1:
                group = [layer for layer in window if layer in pending]
                source = ReadOnce(analysis_inputs.source, group)
                for layer in group:
                    _measure_window(analysis_inputs, source, stage, [layer], report, folder)
                    source.forget(layer)
            else:
                _measure_window(analysis_inputs, analysis_inputs.source, stage, window, report, folder)
        except Exception as error:
            if not lacks_memory(error):
                raise
            fewer = groups.halved()
            if fewer is None:
                raise _too_large(analysis_inputs, error) from error
            groups = fewer  # the same numbers


def _window(layers: list[int], first: int, groups: Grouping) -> list[int]:
    at = layers.index(first) // groups.n_layers * groups.n_layers
    return layers[at : at + groups.n_layers]


def _measure_window(
    analysis_inputs: AnalysisInputs,
    source: Source,
    stage: Stage,
    window: list[int],
    report: progress.Report,
    folder: Path | None,
) -> None:
    """Layers that go through the passes together."""
    checkpoints = CheckpointStore() if folder is None else CheckpointStore(folder, stage.inputs, window)
    pending = [layer for layer in window if not stage.has(layer)]
    measured = measure_layers(source, pending, analysis_inputs.design, report, checkpoints)
    _measure_group(analysis_inputs, stage, measured)
    checkpoints.clear()


def _finish(folder: Path, job: Job, analysis_inputs: AnalysisInputs) -> None:
    """From decided layers to tables and the mark that they are complete, if the files are still those of the record."""
    try:
        # weights may still be mapped from their file; workers elsewhere read it themselves
        job.contents.require_unchanged(in_memory=job.engine == "local")
    except InputError:
        manifest.empty(folder)
        raise
    stage = _result_stage(folder, job, analysis_inputs)
    write_results(folder, stage, analysis_inputs.layers, _about(analysis_inputs))
    for path in sorted((folder / STAGES).glob("layers-*")):
        store.remove_tree(path)
    manifest.commit(folder, job.record["identity"], {manifest.RESULT: stage.require_committed()})


def _about(analysis_inputs: AnalysisInputs) -> About:
    text = concepts = None
    if analysis_inputs.tokens is not None and analysis_inputs.labels is not None:
        text = TextSnapshot.of(analysis_inputs.tokens, analysis_inputs.tokenizer)
        concepts = concept_table(analysis_inputs.labels, analysis_inputs.descriptions, text)
    return About(
        analysis_inputs.model,
        analysis_inputs.corpus,
        analysis_inputs.concepts,
        analysis_inputs.notes,
        text,
        concepts,
    )


def _result_stage(folder: Path, job: Job, analysis_inputs: AnalysisInputs) -> Stage:
    inputs = digest_of_inputs(
        (job.record["identity"], analysis_inputs.fingerprint(), *map(str, analysis_inputs.layers))
    )
    return Stage(folder / STAGES / manifest.RESULT, inputs)


def _on_ray(
    layers: list[int], job: Job, analysis_inputs: AnalysisInputs, report: progress.Report
) -> Iterator[LayerMeasure]:
    assert analysis_inputs.remote is not None
    return measure_on_ray(
        analysis_inputs.remote,
        analysis_inputs.source,
        layers,
        analysis_inputs.design,
        job.device,
        as_bytes(job.memory),
        report,
    )


def _measure_group(analysis_inputs: AnalysisInputs, stage: Stage, measured: Iterator[LayerMeasure]) -> None:
    """Judge the layers one by one, as they come, and keep what was found."""
    design = analysis_inputs.design
    n_tokens = design.confirm.labels.n_tokens
    for measure in measured:
        result = summarise_layer(
            measure, design, names=analysis_inputs.names, kinds=analysis_inputs.kinds,
            n_params=analysis_inputs.n_params(measure.layer), bits_stored=float(analysis_inputs.bits(measure.layer)),
        )  # fmt: skip
        examples = examples_of(
            measure, result.pairs, design, analysis_inputs.tokens, analysis_inputs.tokenizer
        )
        details = detail_table(measure, design, analysis_inputs.names)
        twins = [contrast.d_prime for contrast in measure.twins.get(DECIDING_K, [])]
        decided = DecidedLayer(
            measure.layer, result.row, result.pairs, result.paths, details, examples,
            measure.readouts.neurons, measure.readouts.weights, measure.readouts.offset,
            np.stack(twins) if twins else np.zeros((0, len(result.pairs))),
        )  # fmt: skip
        keep_layer(stage, decided, n_tokens)


def _foreseen(analysis_inputs: AnalysisInputs, layers: list[int], groups: Grouping) -> str:
    """What a run is going to take, in words."""
    design = analysis_inputs.design
    n_tokens = design.fit.labels.n_tokens + design.confirm.labels.n_tokens
    size = min(groups.n_layers, len(layers))
    together = "" if size == len(layers) else f", {size} at a time"
    what = f"{len(layers)} layers{together}" if len(layers) > 1 else "1 layer"
    held = "sums and kept activations" if groups.keeps else "sums"
    return (
        f"{what}: {len(design.pairs):,} pairs and {design.settings.twins} twins each, {n_tokens:,} tokens; "
        f"{held} of some {groups.n_bytes / 1e9:.2g} GB, besides the model and what it is computing"
    )


def _too_large(analysis_inputs: AnalysisInputs, error: BaseException) -> OutOfMemoryError:
    needed = layer_bytes(analysis_inputs.design, analysis_inputs)
    return OutOfMemoryError(
        f"one layer of {analysis_inputs.n_neurons:,} neurons with "
        f"{len(analysis_inputs.design.pairs):,} pairs needs some {needed:,} bytes for its sums and did not "
        f"fit ({error or 'no memory left'}). Lower max_pairs or twins, or use a larger machine; what was finished is kept."
    )


def _measured_and_kept(error: BaseException) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"no memory left while the results were put together ({error}). Every layer is measured and kept: run the same "
        "command again."
    )
