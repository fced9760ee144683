"""The main job: text → model → probes → evidence → report, in a run directory.

`analyze` runs a transformer over a corpus, `analyze_arrays` takes activations from anywhere; both go through the same
study, the same three passes and the same decisions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from probekit.errors import ConfigError, DegenerateError, InputError, ModelError, StaleError
from probekit.evidence.tables import SCHEMA
from probekit.probes.pairs import LabelColumns, splitmix64
from probekit.run import identity, progress, store
from probekit.run.cache import cached
from probekit.run.examples import examples_of
from probekit.run.given import GivenArrays
from probekit.run.judge import judge
from probekit.run.measure import measure_layers
from probekit.run.publish import EXAMPLES, REPORT
from probekit.run.result import FORMAT, RECORD, SUMMARY, Run, read_record
from probekit.run.source import ArraySource, ModelSource, Source
from probekit.run.study import PlannedStudy, Settings, counts_of, pair_kinds, plan_study
from probekit.text.concepts.concepts import Concepts
from probekit.text.concepts.labels import Labels
from probekit.text.corpus import Tokens, as_corpus

MIN_DOCS_TOTAL = 2
GROUP_BYTES = 1.0e9
"""Memory the sums of one group of layers may take; more layers are measured in another pass over the text."""


@dataclass(frozen=True)
class _Subject:
    """What is analysed: where activations come from and what the summary says of them."""

    source: Source
    layers: list[int]
    n_neurons: int
    d_model: int
    n_params: Callable[[int], int]
    bits: int
    model: dict[str, Any]
    corpus: dict[str, Any]
    concepts: dict[str, Any]
    names: Sequence[str]
    kinds: Sequence[str]
    planned: PlannedStudy
    notes: list[str]
    tokens: Tokens | None = None
    tokenizer: Any | None = None


def analyze(
    model: Any,
    corpus: Any = None,
    *,
    concepts: Any = None,
    layers: Iterable[int] | None = None,
    pairs: Iterable[tuple[str, str]] | None = None,
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
) -> Run:
    """How many AND-like features does each MLP layer compute, against its random twins and the capacity limit?

    Args:
        model: "gpt2" or another hub name, a folder in Hugging Face format, "nano" (bundled), or a TransformerBridge.
        corpus: None or "docs" (the offline corpus), a file, a hub dataset, or a `Corpus`.
        concepts: None (the defaults), a `Concepts` set, or a TOML file.
        layers: layers to measure; None takes all.
        pairs: pairs of concept names to test; None takes all testable ones.
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
    asked = None if pairs is None else [(str(a), str(b)) for a, b in pairs]
    record = identity.science(
        identity.of_model(model), identity.of_corpus(corpus), identity.of_concepts(concepts), settings,
        layers=wanted, pairs=asked,
    )  # fmt: skip
    return _run(
        record,
        out,
        lambda report: _model_subject(model, corpus, concepts, wanted, asked, settings, device, report),
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
    pairs: Iterable[tuple[str, str]] | None = None,
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
        pairs: pairs of concept names; None takes all testable ones.
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
    asked = None if pairs is None else [(str(a), str(b)) for a, b in pairs]
    record = identity.science(
        f"arrays@{given.digest()}", "arrays", "arrays", settings, layers=[0], pairs=asked
    )
    return _run(
        record,
        out,
        lambda report: _array_subject(given, asked, settings),
        progress,
        force=force,
        command=None,
    )


def _run(
    record: dict[str, Any],
    out: str | Path | None,
    prepare: Callable[[progress.Report], _Subject],
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
    for name in (SUMMARY, REPORT, EXAMPLES):
        (folder / name).unlink(missing_ok=True)
    for name in ("pairs", "paths", "figures"):
        store.remove_tree(folder / name)
    return False


def _measure(folder: Path, subject: _Subject, report: progress.Report) -> None:
    rows: list[dict[str, Any]] = []
    examples: list[dict[str, Any]] = []
    planned = subject.planned
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


def _group_size(planned: PlannedStudy, subject: _Subject) -> int:
    """Layers measured together: their moments, refits and confirm sums fit into GROUP_BYTES."""
    study = planned.study
    n_pairs, n_sites = len(study.pairs), 4 + study.n_twins + min(4, study.n_twins)
    n_concepts, n_neurons = planned.tested.n_concepts, subject.n_neurons
    moments = 8 * n_neurons * (n_neurons + n_pairs + n_concepts)
    confirm = n_pairs * (64 * 4 * 2 * 4 + 16 * 4 * 16 * 4 + 16 * 16 * 8)
    own = 4 * len(study.confirm.sample.token) * 5 + n_pairs * 64 * 64 * 8 + 2 * moments
    return max(1, int(GROUP_BYTES // (n_sites * (moments + confirm) + own)))


def _model_subject(
    model: Any,
    corpus: Any,
    concepts: Any,
    layers: list[int] | None,
    pairs: list[tuple[str, str]] | None,
    settings: Settings,
    device: str,
    report: progress.Report,
) -> _Subject:
    from probekit.model.host import load_host

    texts = cached(as_corpus(corpus))
    host = load_host(model, device=device)
    chosen = list(range(host.n_layers)) if layers is None else layers
    if not chosen:
        raise InputError("layers: the list is empty; give at least one layer, or None for all.")
    for layer in chosen:
        host.check_layer(layer)
    tokens = texts.tokenize(
        host.tokenizer, context=min(settings.context, host.context), max_tokens=settings.max_tokens, bos_id=host.bos_id,
        progress=lambda done, total: report("tokenizing", done, total),
    )  # fmt: skip
    if tokens.n_docs < MIN_DOCS_TOTAL:
        raise DegenerateError(
            f"{texts.name}: {tokens.n_docs} document within {settings.max_tokens:,} tokens; wanted many, since documents "
            "are split into a fit and a confirm half. Raise max_tokens, or split the text (doc_sep=)."
        )
    labelled = _label(concepts, host.tokenizer, tokens)
    planned = _plan(labelled, _doc_keys(tokens), settings, pairs)
    n_fit = planned.study.fit.labels.n_tokens
    return _Subject(
        source=ModelSource(host, tokens, planned.docs),
        layers=chosen,
        n_neurons=host.d_mlp,
        d_model=host.d_model,
        n_params=lambda layer: host.mlp(layer).n_params,
        bits=host.bits,
        model={
            "name": host.name, "n_layers": host.n_layers, "d_model": host.d_model, "d_mlp": host.d_mlp,
            "activation": host.activation, "gated": host.gated, "dtype": str(host.dtype).removeprefix("torch."),
            "device": host.device.type,
        },
        corpus={
            "name": tokens.name, "fingerprint": tokens.fingerprint, "n_tokens_fit": n_fit,
            "n_tokens_confirm": tokens.n_tokens - n_fit, "n_docs": tokens.n_docs, "context": int(tokens.ids.shape[1]),
            "bos_id": tokens.bos_id, "policy": "one document a row, start mark first if there is one, right-padded; "
            "start mark and padding are never counted",
        },
        concepts=counts_of(planned),
        names=labelled.names,
        kinds=pair_kinds(labelled.kinds, labelled.lags, planned.study.pairs),
        planned=planned,
        notes=[],
        tokens=tokens,
        tokenizer=host.tokenizer,
    )  # fmt: skip


def _label(concepts: Any, tokenizer: Any, tokens: Tokens) -> Labels:
    if concepts is None or (isinstance(concepts, str) and concepts == "default"):
        if tokenizer is None:
            raise InputError(
                "concepts: the defaults need a tokenizer and this model has none; pass concepts=Concepts.from_vocab(...)."
            )
        return Concepts.defaults(tokenizer, tokens).label(tokens)
    if isinstance(concepts, str | Path):
        return Concepts.from_toml(concepts, tokenizer, tokens).label(tokens)
    if not isinstance(concepts, Concepts):
        raise InputError(
            f"concepts: got a {type(concepts).__name__}; wanted None, a Concepts set or a TOML file."
        )
    return concepts.label(tokens)


def _doc_keys(tokens: Tokens) -> np.ndarray:
    """A hash of each document's token ids: equal documents fall into the same half."""
    keys = [
        hashlib.blake2b(row[:length].tobytes(), digest_size=8).digest()
        for row, length in zip(tokens.ids, tokens.lengths, strict=True)
    ]
    return np.frombuffer(b"".join(keys), np.uint64)


def _plan(
    labelled: Labels, doc_key: np.ndarray, settings: Settings, pairs: list[tuple[str, str]] | None
) -> PlannedStudy:
    columns = LabelColumns(labelled.indptr, labelled.tokens, labelled.n_tokens)
    chosen = None if pairs is None else _indices(pairs, labelled.names)
    return plan_study(columns, labelled.doc, labelled.pos, doc_key, settings, chosen)


def _indices(pairs: list[tuple[str, str]], names: Sequence[str]) -> np.ndarray:
    place = {name: index for index, name in enumerate(names)}
    unknown = sorted({name for pair in pairs for name in pair if name not in place})
    if unknown:
        raise InputError(
            f"pairs: {unknown[0]!r} is none of the {len(names)} concepts (such as {', '.join(map(repr, names[:3]))}); "
            "run.pairs() and Concepts.names list them."
        )
    same = [a for a, b in pairs if a == b]
    if same or not pairs:
        raise InputError(
            f"pairs: {'a concept with itself: ' + repr(same[0]) if same else 'the list is empty'}."
        )
    return np.array([[place[a], place[b]] for a, b in pairs], np.int64)


def _array_subject(given: GivenArrays, pairs: list[tuple[str, str]] | None, settings: Settings) -> _Subject:
    can_twin = given.inputs is not None and given.weights is not None
    notes: list[str] = []
    if settings.twins and not can_twin:
        notes.append(
            "No inputs and weights were given, so no random twin could be made: nothing is said about computation."
        )
        settings = replace(settings, twins=0)
    columns = LabelColumns.from_dense(given.labels)
    n_docs = int(given.doc[-1]) + 1
    keys = splitmix64(np.arange(n_docs, dtype=np.uint64))
    chosen = None if pairs is None else _indices(pairs, given.names)
    planned = plan_study(columns, given.doc, given.pos, keys, settings, chosen)
    mlp = given.weights
    n_neurons = given.neurons.shape[1]
    n_params = mlp.n_params if mlp is not None else n_neurons
    n_fit = planned.study.fit.labels.n_tokens
    return _Subject(
        source=ArraySource(given.neurons, given.inputs, mlp, planned.rows),
        layers=[0],
        n_neurons=n_neurons,
        d_model=0 if given.inputs is None else given.inputs.shape[1],
        n_params=lambda layer: n_params,
        bits=32,
        model={
            "name": "arrays", "n_layers": 1, "d_model": None if given.inputs is None else given.inputs.shape[1],
            "d_mlp": n_neurons, "activation": None if mlp is None else mlp.activation,
            "gated": None if mlp is None else mlp.gated, "dtype": "float32", "device": "cpu",
        },
        corpus={
            "name": "arrays", "fingerprint": given.digest(), "n_tokens_fit": n_fit,
            "n_tokens_confirm": len(given.doc) - n_fit, "n_docs": n_docs, "context": None, "bos_id": None,
            "policy": "every row given is counted",
        },
        concepts=counts_of(planned),
        names=given.names,
        kinds=pair_kinds(["user"] * len(given.names), [0] * len(given.names), planned.study.pairs),
        planned=planned,
        notes=notes,
    )  # fmt: skip
