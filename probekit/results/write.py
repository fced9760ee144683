"""From layers that are decided to the files a reader opens.

Each layer is one part of the stage `result`: its tables as they will be published, and beside them the numbers of the
decision as plain arrays, the twins' d′ included, so that the decision can be taken again without the model (and without
this package: the parts are safetensors).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probekit.errors import FormatError
from probekit.evidence.summary import (
    SCHEMA,
    ConceptsSection,
    CorpusSection,
    FloorSection,
    LayerRow,
    ModelSection,
    Summary,
)
from probekit.evidence.tables import layer_table
from probekit.results.text_snapshot import TextSnapshot
from probekit.storage import store
from probekit.storage.manifest import CONCEPTS, EXAMPLES, LAYERS, PAIR_DETAILS, SUMMARY, TABLES
from probekit.storage.shards import Stage

NUMBERS = (
    "kappa",
    "kappa_se",
    "d_prime",
    "d_balanced",
    "z",
    "p_twin",
    "p_relay",
    "p_pair",
    "p_decision",
    "p_vs_linear",
    "q_above",
    "q",
)
"""Columns of the pair table that the part also holds as plain arrays, NaN where nothing was measured."""


@dataclass(frozen=True)
class DecidedLayer:
    """One layer, decided: its tables as they will be published, and the numbers of the decision. Axes: pair k twin."""

    layer: int
    """Its number."""
    row: LayerRow
    """Its entry of summary.json."""
    pairs: pd.DataFrame
    """One row a tested pair."""
    paths: pd.DataFrame
    """One row a pair and other size of the readout."""
    details: pd.DataFrame
    """What single pairs are looked at by, one row a pair."""
    examples: list[dict[str, Any]]
    """The strongest pairs in context."""
    neurons: np.ndarray
    """Neurons of the deciding readouts [pair k]."""
    weights: np.ndarray
    """Their weights [pair k]."""
    offset: np.ndarray
    """Their offsets [pair]."""
    twin_d_prime: np.ndarray
    """d′ of the same pairs in every twin [twin pair]."""


def keep_layer(stage: Stage, decided: DecidedLayer, n_tokens: int) -> None:
    """Put one decided layer into the stage.

    Args:
        stage: where it is kept until the results are published.
        decided: the layer.
        n_tokens: tokens it was decided on.
    """
    table = decided.pairs
    arrays = {
        "row": _text(decided.row), "examples": _text(decided.examples),
        "pairs": _bytes(store.table_bytes(table)), "paths": _bytes(store.table_bytes(decided.paths)),
        PAIR_DETAILS: _bytes(store.table_bytes(decided.details)),
        "neurons": decided.neurons, "weights": decided.weights, "offset": decided.offset,
        "computed": table["computed"].fillna(False).to_numpy(bool),
        **{name: table[name].to_numpy(float) for name in NUMBERS},
        "twin_d_prime": decided.twin_d_prime,
    }  # fmt: skip
    stage.put(decided.layer, arrays, n_tokens=n_tokens)


@dataclass(frozen=True)
class About:
    """What the results are about: sections of summary.json, and the text where there is one."""

    model: ModelSection
    """The `model` section."""
    corpus: CorpusSection
    """The `corpus` section."""
    concepts: ConceptsSection
    """The `concepts` section."""
    notes: list[str]
    """What the reader must know before any number."""
    text: TextSnapshot | None = None
    """The tokens with their surfaces, which later looks at single pairs need; None for arrays."""
    concept_table: pd.DataFrame | None = None
    """One row a concept; None where there is no text."""


def write_results(folder: Path, stage: Stage, layers: Sequence[int], about: About) -> None:
    """Write tables and summary from the stage; the same stage gives the same bytes.

    Args:
        folder: the run directory.
        stage: every layer, decided.
        layers: in the order of the summary.
        about: what they were measured on.
    """
    rows: list[LayerRow] = []
    examples: list[dict[str, Any]] = []
    for layer in layers:
        held = stage.get(layer)
        for kind in TABLES:
            store.write_bytes(folder / table_name(kind, layer), held[kind].tobytes())
        rows.append(_value(held["row"], stage.folder))
        examples += _value(held["examples"], stage.folder)
    if about.text is not None:
        about.text.write(folder)
    if about.concept_table is not None:
        store.write_table(folder / CONCEPTS, about.concept_table)
    store.write_json(folder / EXAMPLES, examples)
    store.write_table(folder / LAYERS, layer_table(rows))
    floor: FloorSection = {
        "smallest_p": rows[0]["floor"]["smallest_p"],
        "fewest_nameable": rows[0]["floor"]["fewest_nameable"],
        "detectable_d": {str(row["layer"]): row["floor"]["detectable_d"] for row in rows},
    }
    summary: Summary = {
        "schema": SCHEMA, "model": about.model, "corpus": about.corpus, "concepts": about.concepts,
        "floor": floor, "layers": rows, "notes": about.notes,
    }  # fmt: skip
    store.write_json(folder / SUMMARY, summary)


def table_name(kind: str, layer: int) -> str:
    """Where a layer's table lies in the run directory."""
    return f"{kind}/layer-{layer:02d}.parquet"


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def _text(value: Any) -> np.ndarray:
    return _bytes(store.canonical_json(value).encode())


def _value(data: np.ndarray, where: Path) -> Any:
    try:
        return json.loads(data.tobytes().decode())
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{where}: a row is no JSON ({error}); start the run afresh with --force."
        ) from error
