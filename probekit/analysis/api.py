"""The main job: text → model → probes → evidence → report, in a run directory.

`analyze` runs a transformer over a corpus, `analyze_arrays` takes activations from anywhere; both go through the same
study, the same three passes and the same decisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from probekit.analysis import run_fingerprint
from probekit.analysis.array_inputs import ActivationData
from probekit.analysis.backends import check_engine
from probekit.analysis.inputs import inputs_of_arrays, inputs_of_model
from probekit.analysis.memory import Memory, as_bytes
from probekit.analysis.progress import watching
from probekit.analysis.reading import Reading, of_given
from probekit.analysis.runner import Job, execute
from probekit.analysis.settings import Settings
from probekit.arguments import as_concepts, as_layers
from probekit.errors import guarded
from probekit.evidence.decide import Fdr
from probekit.evidence.pair_sampling import PairSampling
from probekit.evidence.spikein import AMPLITUDES
from probekit.evidence.truth import Truth
from probekit.model.ambient import as_torch_starts
from probekit.results.run import Run
from probekit.storage.contents import Contents
from probekit.text.tokens import SKIP_FIRST

Pairs = str | Iterable[str] | Iterable[tuple[str, str]] | pd.DataFrame | None
"""A rule or kinds of pair; or pairs of names, in a list or as columns a and b of a table. None is the rule "blocks"."""


@guarded
@as_torch_starts()
def analyze(  # noqa: PLR0913
    model: Any,
    corpus: Any = None,
    *,
    concepts: Any = None,
    layers: int | str | Iterable[int] | None = None,
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
    memory: Memory = "auto",
    progress: Any = None,
    twin_ks: int | Literal["all"] | Sequence[int | Literal["all"]] = (16,),
    controls: str | Sequence[str] = ("isotropic",),
    spikes: float | Sequence[float] = AMPLITUDES,
    fdr: Fdr = "bh",
    heldout_types: bool = False,
    skip_first: int = SKIP_FIRST,
    force: bool = False,
    command: str | None = None,
    dtype: str | None = None,
    tokenizer: Any = None,
    truth: Any = None,
) -> Run:
    """How many AND-like features does each MLP layer compute, against its random twins and the capacity limit?

    Args:
        model: "gpt2" or another hub name or short name, with a revision or training checkpoint behind an @
            ("EleutherAI/pythia-70m@step3000"), a folder in Hugging Face format, a GGUF file, "nano" (bundled), or a
            TransformerBridge or `transformers` model without hooks of your own, which stays as it is.
        corpus: None or "docs" (the offline corpus), a file, a hub dataset, a list of texts, a table in memory (Dataset,
            DataFrame, dictionary of lists), or a `Corpus`.
        concepts: None (the defaults), a `Concepts` set or a list of them, a list of words, a TOML file, or name →
            bool[vocab], words, token ids, compiled regular expression or function of the ids.
        layers: layers to measure: numbers, or words such as "0,2-4"; None takes all.
        pairs: which testable pairs are tested. None or "blocks": pairs among as many randomly drawn concepts as leaves each
            of them 20 pairs on average; "uniform": among all concepts; "stratified": an equal share of each kind;
            "support": those whose emptiest quadrant holds the most tokens; a kind such as "token × token" or
            "context × token, lag 1" (x for × will do), or a list of such words; or a list of (a, b) concept names,
            or a table with columns a and b, such as rows of `run.top()`.
        max_tokens: counted tokens to read.
        context: positions of a document that are read.
        max_pairs: more testable pairs are sampled, with their inclusion probability recorded.
        min_support: tokens every quadrant must hold in both halves.
        twins: PC-sign twins a layer; 0 runs none and claims nothing.
        q: level of the false discovery rate.
        out: run directory; None takes a temporary one that goes with the returned Run.
        seed: of twins and of the sample of pairs; also deals documents to the halves.
        device: "auto", "cpu" or "cuda".
        engine: "local", or "ray": layers and twins as tasks on the Ray cluster this machine belongs to, or on its own cores.
        memory: what sums and kept activations may take: "auto" (half of what is free), a number of bytes, or "8GB". More of
            it lets more layers share a forward of the text; no number depends on it.
        progress: None (bars when a terminal watches), False (silent), or a function of (what, tokens done, tokens); large
            files that are hashed are counted in bytes.
        twin_ks: sizes at which twins are confirmed; "all" stands for all neurons (0 too). 16 always is.
        controls: further kinds of twins that are shown and decide nothing: "isotropic", "shuffle".
        spikes: sizes of the known ANDs that are added to a tenth of the pairs to measure the sensitivity, in standard
            deviations of a neuron; () leaves that out.
        fdr: "bh" (Benjamini–Hochberg), "by" (Benjamini–Yekutieli) or "storey".
        heldout_types: judge readouts on token types that they were not fitted on, as well as on other documents: a layer
            that only knows certain tokens is then not mistaken for one that combines two concepts. Half of the tokens of
            each half are used.
        skip_first: positions after the start mark that are read and not counted: neither labelled nor summed nor judged. A
            transformer keeps attention sinks in the first positions of a text; see the measurement, section 1.
        force: start afresh where `out` holds another run.
        command: what the report prints as the way to get this run again.
        dtype: what the model computes in: "float32", "bfloat16" or "float16"; None: float32 on a CPU, else as stored.
        tokenizer: of a `transformers` model given as an object.
        truth: the known answer of a planted model (the `Planted`, or pairs of concept names): kept in the record of a new
            run, where it changes no number, and held against the finds in its report. For an old run: `Run.report`.

    Returns:
        The finished run. Where `out` holds the same run finished, it is loaded; unfinished, it is continued. The same is
        one whose files, objects, labels and settings hold the same, whatever they are called.

    Raises:
        InputError: data or configuration cannot be used; no pair is testable. The disk is as it was.
        StaleError: `out` holds another run and `force` is not set.
        LockedError: another process works on `out`.
        CorruptError: what lies in `out` is not what was written.
        DiskFullError: no space is left; what was finished is kept.
        ModelError: the model cannot be loaded or fails the proof of its sites.
    """
    settings = Settings.of(locals())
    engine_ = check_engine(engine, model)
    as_bytes(memory)
    wanted, concepts = as_layers(layers), as_concepts(concepts)
    pair_sampling = PairSampling.of(pairs)
    answer = None if truth is None else Truth.of(truth).as_record()
    kind = run_fingerprint.of_device(device)
    with watching(progress) as report:
        contents = Contents(report)
        reading = Reading(
            model, corpus, settings, tokenizer=tokenizer, device=device, dtype=dtype, report=report
        )
        record = run_fingerprint.science(
            run_fingerprint.of_model(model, contents),
            run_fingerprint.of_corpus(reading.corpus, max_tokens, contents, skip_first=skip_first),
            run_fingerprint.of_concepts(chosen := reading.concepts(concepts), contents),
            settings, layers=wanted, pairs=pair_sampling.record(),
            dtype=run_fingerprint.of_dtype(model, dtype, kind), tokenizer=of_given(model, tokenizer),
        )  # fmt: skip
    arguments = run_fingerprint.in_words(
        model, corpus, concepts, settings, layers=wanted, pairs=pair_sampling.record(), device=device, engine=engine,
        memory=memory, dtype=dtype,
    )  # fmt: skip
    job = Job(
        record,
        lambda report: inputs_of_model(reading, chosen, wanted, pair_sampling, report),
        arguments, command, kind, engine_, memory, contents, answer,
    )  # fmt: skip
    return execute(job, out, progress, force=force)


@guarded
@as_torch_starts()
def analyze_arrays(  # noqa: PLR0913
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
    twin_ks: int | Literal["all"] | Sequence[int | Literal["all"]] = (16,),
    controls: str | Sequence[str] = ("isotropic",),
    spikes: float | Sequence[float] = AMPLITUDES,
    fdr: Fdr = "bh",
    nonfinite: str = "refuse",
    types: Any = None,
    force: bool = False,
) -> Run:
    """The same analysis on activations from anywhere; its only layer is 0.

    Args:
        neurons: Float[token neuron], neuron outputs in document order: an array, a tensor, a data frame.
        labels: Bool[token concept]; of a data frame the columns name the concepts.
        docs: Int[token], document of each token, non-decreasing.
        inputs: Float[token d_model], what the MLP reads (behind the norm); with `weights` they make the twins.
        weights: (w_in [neuron d_model], b_in [neuron]), or (w_in, b_in, w_gate, b_gate) of a gated layer. Where both are
            given, activation(inputs · w_inᵀ + b_in) must be `neurons`, to what 16-bit arithmetic leaves; a sample of tokens
            is tried, and the error says what a mismatch looks like.
        activation: of the layer.
        names: of the concepts; None takes the columns of a data frame, or c0, c1, …
        pairs: as in `analyze`.
        max_pairs: as in `analyze`.
        min_support: as in `analyze`.
        twins: as in `analyze`; without inputs and weights none can be made, and the summary says so.
        q: as in `analyze`.
        out: as in `analyze`.
        seed: as in `analyze`.
        progress: as in `analyze`.
        twin_ks: as in `analyze`.
        controls: as in `analyze`.
        spikes: as in `analyze`.
        fdr: as in `analyze`.
        nonfinite: "refuse", or "drop_tokens" to leave out tokens with an activation that is NaN or infinite; the report says
            how many.
        types: Int[token], type of each token (its id in the vocabulary): readouts are judged on types that they were not
            fitted on, as with `heldout_types` in `analyze`. None: types are not looked at.
        force: as in `analyze`.

    Raises:
        ShapeError: axes do not fit together.
        NonFiniteError: an activation is NaN or infinite.
        InputError: anything else that cannot be used.
    """
    arguments = locals()
    given = ActivationData.check(neurons, labels, docs, inputs, weights, activation, names, nonfinite, types)
    of_arrays = {
        "max_tokens": max(len(given.doc), 1),
        "context": 2,
        "heldout_types": types is not None,
        "skip_first": 0,
    }
    settings = Settings.of(arguments | of_arrays)
    pair_sampling = PairSampling.of(pairs)
    record = run_fingerprint.science(
        f"arrays@{given.digest()}", "arrays", "arrays", settings, layers=[0], pairs=pair_sampling.record()
    )
    job = Job(record, lambda report: inputs_of_arrays(given, pair_sampling, settings))
    return execute(job, out, progress, force=force)
