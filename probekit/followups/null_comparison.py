"""All nulls of a layer from the same code, tokens and readouts, and the table of what each alone would call found.

The nulls that need the layer only (twins, input, pre-activations, linearised layer) come with its measurement. The others
are further studies of the same pairs: labels permuted within strata, untrained models of the same architecture, and
earlier checkpoints of the same training. Axes: pair concept token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from probekit.analysis.design import HalfPlan, StudyDesign
from probekit.analysis.inputs import inputs_of_model
from probekit.analysis.passes import LayerMeasure, measure_layers
from probekit.analysis.progress import watching
from probekit.analysis.reading import Reading
from probekit.analysis.settings import CONTROLS, DECIDING_K, Settings
from probekit.analysis.source import ModelSource, Source
from probekit.arguments import as_layers
from probekit.errors import InputError, guarded
from probekit.evidence.contrast import Contrast
from probekit.evidence.null_comparison import Null, flagged, in_place, nothing_read, p_values
from probekit.evidence.pair_sampling import PairSampling
from probekit.model.ambient import as_torch_starts
from probekit.model.hooked_model import load_hooked_model
from probekit.model.twins import random_model
from probekit.probes.pairs import LabelColumns, sample_tokens, splitmix64
from probekit.probes.workers import start_workers
from probekit.text.tokens import SKIP_FIRST


def permuted(design: StudyDesign, rng: np.random.Generator) -> StudyDesign:
    """The plan with B permuted within A and within not-A, for each pair by itself: every quadrant keeps its size.

    Each pair gets a concept of its own in B's place, so that all pairs go through the same code at once. Halves are kept
    apart. Documents are not: a concept that comes in clusters is spread out.

    Args:
        design: the plan of the run; its twins and spikes are left out.
        rng: of the permutations.
    """
    n_concepts = design.fit.labels.n_concepts
    pairs = np.stack([design.pairs[:, 0], n_concepts + np.arange(len(design.pairs))], axis=1).astype(np.int32)
    fit, confirm = (_permuted_half(half, design.pairs, pairs, rng) for half in (design.fit, design.confirm))
    bare = design.with_settings(twins=0, controls=(), spikes=())
    return replace(bare, pairs=pairs, fit=fit, confirm=confirm)


def _permuted_half(
    half: HalfPlan, pairs: np.ndarray, renamed: np.ndarray, rng: np.random.Generator
) -> HalfPlan:
    held = half.labels
    columns = [held.tokens[held.indptr[c] : held.indptr[c + 1]] for c in range(held.n_concepts)]
    everywhere = np.arange(held.n_tokens, dtype=np.int32)
    for a, b in pairs.tolist():
        outside = np.delete(everywhere, columns[a])
        n11 = len(np.intersect1d(columns[a], columns[b], assume_unique=True))
        inside = rng.choice(columns[a], n11, replace=False)
        columns.append(
            np.sort(np.concatenate([inside, rng.choice(outside, len(columns[b]) - n11, replace=False)]))
        )
    ends = np.cumsum([0, *map(len, columns)])
    labels = LabelColumns(ends, np.concatenate(columns).astype(np.int32), held.n_tokens)
    token_hash = splitmix64(half.doc_key ^ splitmix64(everywhere.astype(np.uint64)))
    # documents by their keys: equal neighbours are one document
    doc = np.cumsum(np.concatenate([[False], half.doc_key[1:] != half.doc_key[:-1]]))
    sample = sample_tokens(labels, renamed, doc, token_hash)
    return replace(half, labels=labels, sample=sample, relay_sample=None)


def readings(source: Source, layers: list[int], design: StudyDesign) -> dict[int, Contrast]:
    """The deciding readouts of some layers under a plan without twins."""
    bare = design.with_settings(twins=0, controls=(), spikes=())
    return {measure.layer: measure.by_k[DECIDING_K] for measure in measure_layers(source, layers, bare)}


def nulls_of(
    measure: LayerMeasure,
    *,
    permutations: Sequence[Contrast] = (),
    untrained: Sequence[Contrast] = (),
    earlier: Mapping[str, Contrast] | None = None,
) -> list[Null]:
    """Every null of one layer that is at hand, the usable ones, weakest first.

    Args:
        measure: the layer with its twins and linear sites.
        permutations: the layer's own readings of permuted labels.
        untrained: the same layer of untrained models.
        earlier: the same layer of earlier checkpoints, by name.
    """
    neurons = measure.by_k[DECIDING_K]
    twins = tuple(measure.twins.get(DECIDING_K, []))
    sites = {
        "MLP input": measure.input_site,
        "pre-activations": measure.pre,
        "linearised layer": measure.linear,
    }
    held = [
        Null("labels alone", "rivals", (nothing_read(neurons),)),
        Null("permutation within strata", "draws", tuple(permutations)),
        *(Null(name, "rivals", (site,)) for name, site in sites.items() if site is not None),
        *(Null(f"checkpoint {name}", "rivals", (site,)) for name, site in (earlier or {}).items()),
        Null("untrained models", "draws", tuple(untrained)),
        Null("pairs of like frequency", "pairs"),
        *(Null(f"{kind} twins", "draws", tuple(measure.controls[kind])) for kind in CONTROLS),
        Null("PC-sign twins", "draws", twins),
        Null("PC-sign twins, pair-specific", "specific", twins),
    ]
    return [null for null in held if null.usable]


@dataclass(frozen=True)
class NullTable:
    """What each null alone would call found, in each layer."""

    table: pd.DataFrame
    """One row a layer and null: layer, null, how, n_draws, n_tested, n_found (pairs at level q by this null alone),
    share_low and share_high (p ≤ 1 %, p ≥ 99 %), own_low (the same share of its own draws in the layer's place) and
    own_any (share of these draws with any pair found); null where a draw cannot take the layer's place."""

    def _repr_html_(self) -> str:
        return self.table.to_html(float_format=lambda value: f"{value:.3g}")


@guarded
@as_torch_starts()
def against_nulls(  # noqa: PLR0913
    model: Any,
    corpus: Any = None,
    *,
    concepts: Any = None,
    layers: Sequence[int] | None = None,
    pairs: Any = None,
    max_tokens: int = 100_000,
    context: int = 128,
    max_pairs: int = 500,
    min_support: int = 60,
    twins: int = 8,
    permutations: int = 4,
    untrained: int = 4,
    checkpoints: Sequence[Any] = (),
    q: float = 0.05,
    skip_first: int = SKIP_FIRST,
    seed: int = 0,
    device: str = "auto",
    progress: Any = None,
) -> NullTable:
    """Set a model's layers against every null, one at a time, on the same pairs, tokens and readouts.

    Args:
        model: as in `analyze`; untrained models need a name or folder, of which only the architecture is read.
        corpus: as in `analyze`.
        concepts: as in `analyze`.
        layers: as in `analyze`.
        pairs: as in `analyze`.
        max_tokens: as in `analyze`.
        context: as in `analyze`.
        max_pairs: as in `analyze`.
        min_support: as in `analyze`.
        twins: PC-sign twins; half as many, four at most, of each further kind.
        permutations: draws of labels permuted within strata; 0 leaves them out, else 3 or more.
        untrained: untrained models of the same architecture; 0 leaves them out, else 3 or more.
        checkpoints: earlier checkpoints of the same training, as names or folders, with the same tokenizer.
        q: level of the false discovery rate.
        skip_first: as in `analyze`.
        seed: of twins, permutations, untrained models and the sample of pairs.
        device: as in `analyze`.
        progress: as in `analyze`.

    Raises:
        InputError: data or configuration cannot be used; a checkpoint has other layers than the model.
        ModelError: a model cannot be loaded.
    """
    for name, value in {"permutations": permutations, "untrained": untrained}.items():
        if value and value < 3:
            raise InputError(f"{name}: got {value}, wanted 0, or at least 3 to standardise by.")
    start_workers()
    settings = Settings(
        max_tokens, context, max_pairs, min_support, twins, q, seed, controls=CONTROLS, spikes=(),
        skip_first=skip_first,
    )  # fmt: skip
    with watching(progress) as report:
        reading = Reading(model, corpus, settings, device=device)
        analysis_inputs = inputs_of_model(
            reading, concepts, as_layers(layers), PairSampling.of(pairs), report
        )
        design, chosen = analysis_inputs.design, analysis_inputs.layers
        measures = list(measure_layers(analysis_inputs.source, chosen, design, report))
        rng = np.random.default_rng([seed, 21])
        shuffled = [
            readings(analysis_inputs.source, chosen, permuted(design, rng)) for _ in range(permutations)
        ]
        drawn = [random_model(model, seed=seed + r) for r in range(untrained)]
        fresh = [readings(_source(hooked, analysis_inputs), chosen, design) for hooked in drawn]
        before = {
            str(name).rsplit("/", 1)[-1]: readings(
                _source(load_hooked_model(name, device=device), analysis_inputs), chosen, design
            )
            for name in checkpoints
        }
    rows = [
        row
        for measure in measures
        for row in rows_of(
            measure,
            analysis_inputs.design,
            nulls_of(
                measure,
                permutations=[held[measure.layer] for held in shuffled],
                untrained=[held[measure.layer] for held in fresh],
                earlier={name: held[measure.layer] for name, held in before.items()},
            ),
        )
    ]
    return NullTable(pd.DataFrame(rows))


def _source(hooked: Any, analysis_inputs: Any) -> ModelSource:
    hooked.check_layer(max(analysis_inputs.layers))
    return ModelSource(hooked, analysis_inputs.tokens, analysis_inputs.design.docs)


def rows_of(measure: LayerMeasure, design: StudyDesign, nulls: Sequence[Null]) -> list[dict[str, Any]]:
    """One row a null of one layer."""
    tested, counts = design.tested, design.confirm.sample.n_natural
    layer = measure.by_k[DECIDING_K]
    rows: list[dict[str, Any]] = []
    for null in nulls:
        p = p_values(null, layer, tested, counts)
        own = in_place(null, tested)
        rows.append(
            {
                "layer": measure.layer, "null": null.name, "how": null.how, "n_draws": len(null.contrasts),
                "n_tested": len(p), "n_found": int(flagged(null, layer, tested, counts).sum()),
                "share_low": float((p <= 0.01).mean()), "share_high": float((p >= 0.99).mean()),
                "own_low": float(np.mean([(q <= 0.01).mean() for q in own])) if own else np.nan,
                "own_any": float(np.mean([(tested.adjusted(q) <= tested.q).any() for q in own])) if own else np.nan,
            }
        )  # fmt: skip
    return rows
