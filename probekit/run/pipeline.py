"""The main job: text → model → probes → evidence → report, in a run directory.

`analyze` runs a transformer over a corpus, `analyze_arrays` takes activations from anywhere; both go through the same
study, the same three passes and the same decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from probekit.errors import ConfigError, InputError, ModelError, StaleError
from probekit.evidence.tables import SCHEMA
from probekit.run import identity, progress, store
from probekit.run.choice import Choice
from probekit.run.examples import examples_of
from probekit.run.given import GivenArrays
from probekit.run.judge import judge
from probekit.run.kept import SURFACES, TOKENS, KeptText
from probekit.run.listing import CONCEPTS, concept_table
from probekit.run.look import LOOKS, look_table
from probekit.run.measure import measure_layers
from probekit.run.publish import EXAMPLES, REPORT
from probekit.run.result import FORMAT, RECORD, SUMMARY, Run, read_record
from probekit.run.study import PlannedStudy, Settings
from probekit.run.subject import Subject, array_subject, model_subject

Pairs = str | Iterable[str] | Iterable[tuple[str, str]] | None
"""A rule or kinds of pair, or pairs of concept names; None is the rule "uniform"."""
GROUP_BYTES = 1.0e9
"""Memory the sums of one group of layers may take; more layers are measured in another pass over the text."""


def analyze(
    model: Any,
    corpus: Any = None,
    *,
    concepts: Any = None,
    layers: Iterable[int] | None = None,
    pairs: Pairs = None,
    max_tokens: int = 300_000,
    context: int = 128,
    max_pairs: int = 2_000,
    min_support: int = 60,
    twins: int = 20,
    q: float = 0.05,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    engine: str = "local",
    progress: Any = None,
    twin_ks: Sequence[int] = (16,),
    force: bool = False,
    command: str | None = None,
    dtype: str | None = None,
    tokenizer: Any = None,
) -> Run:
    """How many AND-like features does each MLP layer compute, against its random twins and the capacity limit?

    Args:
        model: "gpt2" or another hub name or short name, with a revision or training checkpoint behind an @
            ("EleutherAI/pythia-70m@step3000"), a folder in Hugging Face format, "nano" (bundled), a TransformerBridge, or
            a `transformers` model.
        corpus: None or "docs" (the offline corpus), a file, a hub dataset, or a `Corpus`.
        concepts: None (the defaults), a `Concepts` set, or a TOML file.
        layers: layers to measure; None takes all.
        pairs: which testable pairs are tested. None or "uniform": each with the same probability; "stratified": an equal
            share of each kind; "support": those whose emptiest quadrant holds the most tokens; a kind such as
            "token × token" or "context × token, lag 1" (x for × will do), or a list of such words; or a list of (a, b)
            concept names.
        max_tokens: counted tokens to read.
        context: positions of a document that are read.
        max_pairs: more testable pairs are sampled uniformly, with their inclusion probability recorded.
        min_support: tokens every quadrant must hold in both halves.
        twins: PC-sign twins a layer; 0 runs none and claims nothing.
        q: level of the false discovery rate.
        out: run directory; None takes a temporary one that goes with the returned Run.
        seed: of twins and of the sample of pairs; also deals documents to the halves.
        device: "auto", "cpu" or "cuda".
        engine: "local".
        progress: None (bars when a terminal watches), False (silent), or a function of (what, tokens done, tokens).
        twin_ks: sizes at which twins are confirmed; 0 stands for all neurons. 16 always is.
        force: start afresh where `out` holds another run.
        command: what the report prints as the way to get this run again.
        dtype: what the model computes in: "float32", "bfloat16" or "float16"; None: float32 on a CPU, else as stored.
        tokenizer: of a `transformers` model given as an object.

    Returns:
        The finished run. Where `out` holds the same run finished, it is loaded, not computed again.

    Raises:
        InputError: data or configuration cannot be used; no pair is testable.
        StaleError: `out` holds another run and `force` is not set.
        ModelError: the model cannot be loaded or fails the proof of its sites.
    """
    if engine != "local":
        raise ConfigError(f"engine: got {engine!r}, wanted 'local', the only one this version has.")
    settings = Settings(max_tokens, context, max_pairs, min_support, twins, q, seed, tuple(twin_ks))
    wanted = None if layers is None else sorted(set(layers))
    choice = Choice.of(pairs)
    record = identity.science(
        identity.of_model(model, dtype), identity.of_corpus(corpus), identity.of_concepts(concepts), settings,
        layers=wanted, pairs=choice.record(),
    )  # fmt: skip
    return _run(
        record,
        out,
        lambda report: model_subject(
            model,
            corpus,
            concepts,
            wanted,
            choice,
            settings,
            device,
            report,
            dtype=dtype,
            tokenizer=tokenizer,
        ),
        progress,
        force=force,
        command=command,
    )


def analyze_arrays(
    neurons: Any,
    labels: Any,
    docs: Any,
    *,
    inputs: Any = None,
    weights: tuple[Any, ...] | None = None,
    activation: str = "relu",
    names: Sequence[str] | None = None,
    pairs: Pairs = None,
    max_pairs: int = 2_000,
    min_support: int = 60,
    twins: int = 20,
    q: float = 0.05,
    out: str | Path | None = None,
    seed: int = 0,
    progress: Any = None,
    twin_ks: Sequence[int] = (16,),
    force: bool = False,
) -> Run:
    """The same analysis on activations from anywhere; its only layer is 0.

    Args:
        neurons: Float[token neuron], neuron outputs in document order.
        labels: Bool[token concept].
        docs: Int[token], document of each token, non-decreasing.
        inputs: Float[token d_model], the MLP inputs; with `weights` they make the twins.
        weights: (w_in [neuron d_model], b_in [neuron]), or (w_in, b_in, w_gate, b_gate) of a gated layer.
        activation: of the layer.
        names: of the concepts; None names them c0, c1, …
        pairs: as in `analyze`.
        max_pairs: as in `analyze`.
        min_support: as in `analyze`.
        twins: as in `analyze`; without inputs and weights none can be made, and the summary says so.
        q: as in `analyze`.
        out: as in `analyze`.
        seed: as in `analyze`.
        progress: as in `analyze`.
        twin_ks: as in `analyze`.
        force: as in `analyze`.

    Raises:
        ShapeError: axes do not fit together.
        NonFiniteError: an activation is NaN or infinite.
        InputError: anything else that cannot be used.
    """
    given = GivenArrays.check(neurons, labels, docs, inputs, weights, activation, names)
    n_tokens = len(given.doc)
    settings = Settings(max(n_tokens, 1), 2, max_pairs, min_support, twins, q, seed, tuple(twin_ks))
    choice = Choice.of(pairs)
    record = identity.science(
        f"arrays@{given.digest()}", "arrays", "arrays", settings, layers=[0], pairs=choice.record()
    )
    return _run(
        record,
        out,
        lambda report: array_subject(given, choice, settings),
        progress,
        force=force,
        command=None,
    )


def _run(
    record: dict[str, Any],
    out: str | Path | None,
    prepare: Callable[[progress.Report], Subject],
    watch: Any,
    *,
    force: bool,
    command: str | None,
) -> Run:
    """Claim the directory, do the work, write it down."""
    temporary = TemporaryDirectory(prefix="probekit-") if out is None else None
    folder = Path(temporary.name if temporary is not None else str(out))
    finished = _claim(folder, record, force=force)
    if finished:
        return Run(folder)
    existed = folder.exists()
    try:
        with progress.Bars() as bars:
            seen = watch is None and progress.watched()
            report: Any = watch if callable(watch) else bars if seen else progress.silent
            subject = prepare(report)
            store.write_json(
                folder / RECORD,
                {**record, "format": FORMAT, "command": command, "versions": identity.versions()},
            )
            _measure(folder, subject, report)
    except (InputError, ModelError):
        # what cannot be used leaves nothing; an interrupted run keeps its record and is started again
        if not existed:
            store.remove_tree(folder)
        raise
    run = Run(folder, temporary)
    run.report()
    return run


def _claim(folder: Path, record: dict[str, Any], *, force: bool) -> bool:
    """Whether the directory holds this very run, finished; otherwise leave it ready for it.

    Raises:
        StaleError: it holds another run, or files that are no run, and `force` is not set.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return False
    if not (folder / RECORD).exists():
        raise StaleError(f"{folder}: holds files that are no run; choose an empty folder for --out.")
    held = read_record(folder)
    if held.get("identity") == record["identity"] and (folder / SUMMARY).exists() and not force:
        return True
    if held.get("identity") != record["identity"] and not force:
        ours, theirs = record["science"], held.get("science", {})
        changed = sorted(key for key in ours if ours[key] != theirs.get(key))
        raise StaleError(
            f"{folder}: holds another run (it differs in {', '.join(changed) or 'its record'}). Choose another --out, or "
            "--force to replace it."
        )
    store.sweep(folder)
    for name in (SUMMARY, REPORT, EXAMPLES, TOKENS, SURFACES, CONCEPTS):
        (folder / name).unlink(missing_ok=True)
    for name in ("pairs", "paths", "figures", LOOKS):
        store.remove_tree(folder / name)
    return False


def _measure(folder: Path, subject: Subject, report: progress.Report) -> None:
    rows: list[dict[str, Any]] = []
    examples: list[dict[str, Any]] = []
    planned = subject.planned
    _keep_text(folder, subject)
    size = _group_size(planned, subject)
    for first in range(0, len(subject.layers), size):
        group = subject.layers[first : first + size]
        for measure in measure_layers(subject.source, group, planned.study, report):
            result = judge(
                measure, planned, names=subject.names, kinds=subject.kinds,
                n_params=subject.n_params(measure.layer), bits_stored=float(subject.bits),
            )  # fmt: skip
            store.write_table(folder / "pairs" / f"layer-{measure.layer:02d}.parquet", result.pairs)
            store.write_table(folder / "paths" / f"layer-{measure.layer:02d}.parquet", result.paths)
            looks = look_table(measure, planned, subject.names)
            store.write_table(folder / LOOKS / f"layer-{measure.layer:02d}.parquet", looks)
            rows.append(result.row)
            examples += examples_of(measure, result.pairs, planned, subject.tokens, subject.tokenizer)
    store.write_json(folder / EXAMPLES, examples)
    store.write_json(
        folder / SUMMARY,
        {
            "schema": SCHEMA, "model": subject.model, "corpus": subject.corpus, "concepts": subject.concepts,
            "layers": rows, "notes": subject.notes,
        },
    )  # fmt: skip


def _keep_text(folder: Path, subject: Subject) -> None:
    """Tokens, their surfaces and the list of concepts: what later looks at single pairs need."""
    if subject.tokens is None or subject.labels is None:
        return
    text = KeptText.of(subject.tokens, subject.tokenizer)
    text.write(folder)
    store.write_table(folder / CONCEPTS, concept_table(subject.labels, subject.descriptions, text))


def _group_size(planned: PlannedStudy, subject: Subject) -> int:
    """Layers measured together: their moments, refits and confirm sums fit into GROUP_BYTES."""
    study = planned.study
    n_pairs, n_sites = len(study.pairs), 4 + study.n_twins + min(4, study.n_twins)
    n_concepts, n_neurons = planned.tested.n_concepts, subject.n_neurons
    moments = 8 * n_neurons * (n_neurons + n_pairs + n_concepts)
    confirm = n_pairs * (64 * 4 * 2 * 4 + 16 * 4 * 16 * 4 + 16 * 16 * 8)
    own = 4 * len(study.confirm.sample.token) * 5 + n_pairs * 64 * 64 * 8 + 2 * moments
    return max(1, int(GROUP_BYTES // (n_sites * (moments + confirm) + own)))
