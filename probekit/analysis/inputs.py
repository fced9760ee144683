"""What is analysed: activations, labels and the study design on them, from a model and a corpus or from arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from probekit.analysis import progress
from probekit.analysis.array_inputs import ActivationData
from probekit.analysis.backends import RemoteModel, RemoteSource
from probekit.analysis.design import LabelledTokens, StudyDesign, complements, counts_of, plan
from probekit.analysis.reading import Reading, concepts_of
from probekit.analysis.settings import Settings
from probekit.analysis.source import ArraySource, ModelSource, Source
from probekit.errors import DegenerateError, InputError
from probekit.evidence.pair_sampling import PairSampling
from probekit.evidence.summary import ConceptsSection, CorpusSection, ModelSection
from probekit.fingerprint import of_array
from probekit.model.hooked_model import HookedModel
from probekit.probes.pairs import LabelColumns, splitmix64
from probekit.text.concepts.labels import Labels
from probekit.text.corpus import Corpus
from probekit.text.tokens import Tokens

MIN_DOCS_TOTAL = 2
TYPES_NOTE = (
    "Token types were held out: readouts were fitted on tokens of one half of the types and judged on tokens of the other "
    "half, in other documents. A concept that is one token type cannot be tested so."
)


def coding_note(labels: LabelColumns, names: Sequence[str]) -> list[str]:
    """What must be said where a concept stands in the set together with its complement; nothing where none does."""
    found = complements(labels)
    if not found:
        return []
    a, b = found[0]
    return [
        f"{names[b]!r} holds exactly where {names[a]!r} does not"
        + (f" ({len(found)} such pairs of concepts)" if len(found) > 1 else "")
        + ". A∧C and ¬A∧C differ by C alone, so both stand for one interaction, and the same neurons are chosen for both. "
        "But a readout is fitted to the one quadrant where both of its concepts hold: d′ and the decision differ between "
        "the two codings, at times severalfold. Count such pairs once, or leave one of the two concepts out."
    ]


def refused_note(design: StudyDesign) -> list[str]:
    """Which of the pairs asked for by name are not tested, and why; nothing where all are."""
    if not design.refused:
        return []
    shown = "; ".join(design.refused[:MOST_REFUSED]) + ("; …" if len(design.refused) > MOST_REFUSED else "")
    return [f"{len(design.refused)} of the pairs asked for cannot be tested: {shown}."]


MOST_REFUSED = 5
NO_TWINS_NOTE = "No random twin was asked for (twins=0): nothing is said about computation."


@dataclass(frozen=True)
class AnalysisInputs:
    """What is analysed: where activations come from and what the summary says of them."""

    source: Source
    """Activations of each half."""
    layers: list[int]
    """Layers to measure."""
    n_neurons: int
    """Neurons of a layer."""
    n_params: Callable[[int], int]
    """Weights that act at a layer's neurons."""
    bits: Callable[[int], int | float]
    """Bits of a stored weight of those that act at a layer's neurons."""
    model: ModelSection
    """The `model` section of summary.json."""
    corpus: CorpusSection
    """Its `corpus` section."""
    concepts: ConceptsSection
    """Its `concepts` section."""
    names: Sequence[str]
    """Name of each concept."""
    kinds: Sequence[str]
    """Kind of each tested pair."""
    design: StudyDesign
    """The study design."""
    notes: list[str]
    """What the reader must know before any number."""
    tokens: Tokens | None = None
    """The token block, where there is one."""
    tokenizer: Any | None = None
    """The tokenizer, where there is one."""
    labels: Labels | None = None
    """Labels of all counted tokens, where there are tokens."""
    descriptions: Sequence[str] = ()
    """When each concept holds, in words."""
    remote: RemoteSource | None = None
    """How a worker on another machine opens the source, where it can."""

    def fingerprint(self) -> str:
        """Digest of the tokens, labels, pairs and weights the stages are computed from."""
        design = self.design
        parts = [str(self.corpus["fingerprint"]), str(self.model), *self.names, of_array(design.pairs)]
        for half in (design.fit, design.confirm):
            parts += [
                of_array(a) for a in (half.labels.indptr, half.labels.tokens, half.doc_key, half.sample.ptr)
            ]
        for layer in self.layers:
            mlp = self.source.weights(layer)
            parts += (
                [] if mlp is None else [of_array(mlp.weight.cpu().numpy()), of_array(mlp.bias.cpu().numpy())]
            )
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=32).hexdigest()


def inputs_of_model(
    reading: Reading,
    concepts: Any,
    layers: list[int] | None,
    pair_sampling: PairSampling,
    report: progress.Report = progress.silent,
) -> AnalysisInputs:
    """Load the model, read the corpus, label it and draw up the study design.

    Args:
        reading: the model, the corpus and the settings.
        concepts: as in `analyze`.
        layers: as in `analyze`.
        pair_sampling: which pairs are tested.
        report: called with the progress.

    Raises:
        InputError: a layer, pair, corpus or concept that cannot be used.
        ModelError: the model cannot be loaded or fails the proof of its sites.
    """
    settings = reading.settings
    opened, hooked = (
        reading.opened,
        reading.hooked,
    )  # in this order: no model is loaded for a corpus that is not there
    chosen = _chosen_layers(hooked, layers)
    reading.report = report
    texts, tokens = reading.texts, reading.tokens
    _require_documents(opened, tokens, settings)
    chosen_concepts = concepts_of(concepts, hooked.tokenizer, tokens, texts)
    labelled = chosen_concepts.label(tokens)
    held = LabelledTokens.of(labelled, doc_keys(tokens), tokens.ids[tokens.counted])
    design = plan(held, settings, pair_sampling)
    rows = design.rows if settings.heldout_types else None
    return AnalysisInputs(
        source=ModelSource(hooked, tokens, design.docs, rows),
        layers=chosen,
        n_neurons=hooked.d_mlp,
        n_params=lambda layer: hooked.mlp(layer).n_params,
        bits=hooked.bits_at,
        model=_about_model(hooked),
        corpus=_about_corpus(texts, tokens, hooked.tokenizer, design),
        concepts=counts_of(design),
        names=labelled.names,
        kinds=held.pair_kinds(design.pairs),
        design=design,
        notes=[
            *hooked.notes,
            *_notes_of(settings),
            *coding_note(held.labels, held.names),
            *refused_note(design),
            *text_notes(texts, tokens, hooked.tokenizer),
        ],
        tokens=tokens,
        tokenizer=hooked.tokenizer,
        labels=labelled,
        descriptions=chosen_concepts.descriptions,
        remote=RemoteModel(str(reading.model), hooked.device.type, reading.dtype, tokens, design.docs, rows)
        if isinstance(reading.model, str | Path) else None,
    )  # fmt: skip


def _chosen_layers(hooked: HookedModel, layers: list[int] | None) -> list[int]:
    """The layers asked for, all where none are named.

    Raises:
        InputError: the list is empty, or the model has no such layer.
    """
    chosen = list(range(hooked.n_layers)) if layers is None else layers
    if not chosen:
        raise InputError("layers: the list is empty; give at least one layer, or None for all.")
    for layer in chosen:
        hooked.check_layer(layer)
    return chosen


def _require_documents(texts: Corpus, tokens: Tokens, settings: Settings) -> None:
    if tokens.n_docs < MIN_DOCS_TOTAL:
        raise DegenerateError(
            f"{texts.name}: {tokens.n_docs} document within {settings.max_tokens:,} tokens; wanted many, since documents "
            "are split into a fit and a confirm half. Raise max_tokens, or split the text (doc_sep=)."
        )


def _about_model(hooked: HookedModel) -> ModelSection:
    """The `model` section of summary.json."""
    about: ModelSection = {
        "name": hooked.name, "n_layers": hooked.n_layers, "d_model": hooked.d_model, "d_mlp": hooked.d_mlp,
        "activation": hooked.activation, "gated": hooked.gated, "dtype": str(hooked.dtype).removeprefix("torch."),
        "device": hooked.device.type,
    }  # fmt: skip
    if hooked.stored:
        about["stored"] = hooked.stored
    return about


def _notes_of(settings: Settings) -> list[str]:
    """What a reader must know of the settings before any number."""
    return [
        *([NO_TWINS_NOTE] if settings.twins == 0 else []),
        *([TYPES_NOTE] if settings.heldout_types else []),
    ]


def _about_corpus(
    corpus: Corpus, tokens: Tokens, tokenizer: Any | None, design: StudyDesign
) -> CorpusSection:
    """The `corpus` section of summary.json: the tokens, and how the text was read.

    Args:
        corpus: the text.
        tokens: what was read of it.
        tokenizer: of the model; None where there is none, and so no token is known as special.
        design: how the tokens were halved.
    """
    skipped = f"the first {tokens.skip_first} after the start mark, " if tokens.skip_first else ""
    special = (
        "special tokens wherever they stand" if tokenizer is not None else "(no tokenizer, no special tokens)"
    )
    first, last = (
        ("start mark", "")
        if tokens.end_id is None
        else ("marks at both ends", ", an encoder's end mark last")
    )
    policy = (
        f"one document a row, start mark first if there is one{last}, right-padded; never counted: {first}, "
    )
    return {
        "name": tokens.name, "fingerprint": tokens.fingerprint, "n_tokens_fit": design.fit.labels.n_tokens,
        "n_tokens_confirm": design.confirm.labels.n_tokens, "n_docs": tokens.n_docs,
        "context": int(tokens.ids.shape[1]), "bos_id": tokens.bos_id, "column": corpus.column,
        "n_rows_left_out": corpus.n_left_out, "skip_first": tokens.skip_first,
        "special_tokens": {_spelt(tokenizer, at): n_times for at, n_times in tokens.special_in_text().items()},
        "policy": f"{policy}{skipped}{special}, padding",
    }  # fmt: skip


def text_notes(corpus: Corpus, tokens: Tokens, tokenizer: Any | None) -> list[str]:
    """What a reader must know of the text before any number.

    Args:
        corpus: the text.
        tokens: what was read of it.
        tokenizer: of the model, if it has one.
    """
    notes: list[str] = []
    if corpus.column is not None:
        left_out = (
            f"; {corpus.n_left_out:,} rows without a text there were left out" if corpus.n_left_out else ""
        )
        notes.append(f"The text is column {corpus.column!r} of {corpus.name}{left_out}.")
    special = {_spelt(tokenizer, index): n for index, n in tokens.special_in_text().items()}
    if special:
        shown = ", ".join(f"{word} {n:,} times" for word, n in list(special.items())[:5])
        notes.append(
            f"Special tokens stand inside the documents ({shown}{', …' if len(special) > 5 else ''}): the model reads them "
            "as such, and they are never counted."
        )
    return notes


def _spelt(tokenizer: Any | None, index: int) -> str:
    return str(index) if tokenizer is None else str(tokenizer.convert_ids_to_tokens(index))


def doc_keys(tokens: Tokens) -> np.ndarray:
    """A hash of each document's token ids: equal documents fall into the same half."""
    keys = [
        hashlib.blake2b(row[:length].tobytes(), digest_size=8).digest()
        for row, length in zip(tokens.ids, tokens.lengths, strict=True)
    ]
    return np.frombuffer(b"".join(keys), np.uint64)


def inputs_of_arrays(
    given: ActivationData, pair_sampling: PairSampling, settings: Settings, concepts: Labels | None = None
) -> AnalysisInputs:
    """Draw up the study design on given arrays; without inputs and weights no twin can be made, and a note says so.

    Args:
        given: the arrays.
        pair_sampling: which pairs are tested.
        settings: of the analysis.
        concepts: of what kind the concepts are and how far they look back, where that is known.
    """
    can_twin = given.inputs is not None and given.weights is not None
    notes = given.notes()
    if settings.twins == 0:
        notes.append(NO_TWINS_NOTE)
    elif not can_twin:
        notes.append(
            "No inputs and weights were given, so no random twin could be made: nothing is said about computation."
        )
        settings = replace(settings, twins=0)
    columns = LabelColumns.from_dense(given.labels)
    n_docs = int(given.doc[-1]) + 1
    # hashed twice: the position is hashed once, and document d at position p must not meet document p at d
    keys = splitmix64(splitmix64(np.arange(n_docs, dtype=np.uint64)))
    held = LabelledTokens(columns, given.doc, given.pos, keys, given.names, types=given.types)
    if concepts is not None:
        held = replace(held, kinds=concepts.kinds, lags=concepts.lags, by_token=concepts.by_token)
    design = plan(held, settings, pair_sampling)
    if settings.heldout_types:
        notes.append(TYPES_NOTE)
    notes += [*coding_note(columns, given.names), *refused_note(design)]
    mlp = given.weights
    n_neurons = given.neurons.shape[1]
    n_params = mlp.n_params if mlp is not None else n_neurons
    n_fit = design.fit.labels.n_tokens
    return AnalysisInputs(
        source=ArraySource(given.neurons, given.inputs, mlp, design.rows),
        layers=[0],
        n_neurons=n_neurons,
        n_params=lambda layer: n_params,
        bits=lambda layer: 32.0 if mlp is None else float(mlp.bits),
        model={
            "name": "arrays", "n_layers": 1, "d_model": None if given.inputs is None else given.inputs.shape[1],
            "d_mlp": n_neurons, "activation": None if mlp is None else mlp.activation,
            "gated": None if mlp is None else mlp.gated, "dtype": "float32", "device": "cpu",
        },
        corpus={
            "name": "arrays", "fingerprint": given.digest(), "n_tokens_fit": n_fit,
            "n_tokens_confirm": design.confirm.labels.n_tokens, "n_docs": n_docs, "context": None, "bos_id": None,
            "policy": "every row given is counted",
        },
        concepts=counts_of(design),
        names=given.names,
        kinds=held.pair_kinds(design.pairs),
        design=design,
        notes=notes,
    )  # fmt: skip
