"""From layers that are decided to the files a reader opens.

Each layer is one part of the stage `result`: its tables as they will be published, and beside them the numbers of the
decision as plain arrays, the twins' d′ included, so that the decision can be taken again without the model (and without
this package: the parts are safetensors).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probekit.errors import FormatError
from probekit.evidence.tables import SCHEMA, layer_table
from probekit.run import store
from probekit.run.directory import CONCEPTS, EXAMPLES, LAYERS, LOOKS, SUMMARY, TABLES
from probekit.run.judge import LayerResult
from probekit.run.kept import KeptText
from probekit.run.listing import concept_table
from probekit.run.measure import LayerMeasure
from probekit.run.planned import DECIDING_K
from probekit.run.stages import Stage
from probekit.run.subject import Subject

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
    "p_lin",
    "q_above",
    "q",
)
"""Columns of the pair table that the part also holds as plain arrays, NaN where nothing was measured."""


def keep_layer(
    stage: Stage,
    measure: LayerMeasure,
    result: LayerResult,
    looks: pd.DataFrame,
    examples: list[dict[str, Any]],
    n_tokens: int,
) -> None:
    """Put one decided layer into the stage."""
    table = result.pairs
    flags = table["computed"].fillna(False).to_numpy(bool)
    twins = [contrast.d_prime for contrast in measure.twins.get(DECIDING_K, [])]
    arrays = {
        "row": _text(result.row), "examples": _text(examples),
        "pairs": _bytes(store.table_bytes(table)), "paths": _bytes(store.table_bytes(result.paths)),
        LOOKS: _bytes(store.table_bytes(looks)),
        "neurons": measure.readouts.neurons, "weights": measure.readouts.weights, "offset": measure.readouts.offset,
        "computed": flags, **{name: table[name].to_numpy(float) for name in NUMBERS},
        "twin_d_prime": np.stack(twins) if twins else np.zeros((0, len(table))),
    }  # fmt: skip
    stage.put(measure.layer, arrays, n_tokens=n_tokens)


def write_results(folder: Path, stage: Stage, subject: Subject) -> None:
    """Write tables and summary from the stage; the same stage gives the same bytes."""
    rows: list[dict[str, Any]] = []
    examples: list[dict[str, Any]] = []
    for layer in subject.layers:
        held = stage.get(layer)
        for kind in TABLES:
            store.write_bytes(folder / table_name(kind, layer), held[kind].tobytes())
        rows.append(_value(held["row"], stage.folder))
        examples += _value(held["examples"], stage.folder)
    if subject.tokens is not None and subject.labels is not None:  # what later looks at single pairs need
        text = KeptText.of(subject.tokens, subject.tokenizer)
        text.write(folder)
        store.write_table(folder / CONCEPTS, concept_table(subject.labels, subject.descriptions, text))
    store.write_json(folder / EXAMPLES, examples)
    store.write_table(folder / LAYERS, layer_table(rows))
    store.write_json(
        folder / SUMMARY,
        {
            "schema": SCHEMA, "model": subject.model, "corpus": subject.corpus, "concepts": subject.concepts,
            "floor": _floor(rows), "layers": rows, "notes": subject.notes,
        },
    )  # fmt: skip


def _floor(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the run could find at best: the same for all layers but the detectable d′."""
    same = {key: rows[0]["floor"][key] for key in ("smallest_p", "fewest_nameable")}
    return same | {"detectable_d": {str(row["layer"]): row["floor"]["detectable_d"] for row in rows}}


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
