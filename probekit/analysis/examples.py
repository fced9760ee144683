"""The strongest pairs with their neurons and the tokens they are read on, for the report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from probekit.analysis.design import StudyDesign
from probekit.analysis.passes import LayerMeasure
from probekit.analysis.settings import DECIDING_K
from probekit.evidence.tables import ranked
from probekit.probes.pairs import QUADRANTS
from probekit.text.tokens import Tokens

PAIRS_A_LAYER = 3
TOKENS_A_QUADRANT = 3
WINDOW = 12
"""Tokens shown before and after."""


def strongest_pairs(table: pd.DataFrame) -> np.ndarray:
    """Rows of the pairs shown, the strongest of the layer."""
    return ranked(table.reset_index(drop=True)).index.to_numpy()[:PAIRS_A_LAYER]


def examples_of(
    measure: LayerMeasure,
    table: pd.DataFrame,
    design: StudyDesign,
    tokens: Tokens | None,
    tokenizer: Any | None,
) -> list[dict[str, Any]]:
    """Neurons of the strongest pairs and, where there is text, the highest-reading tokens of each quadrant."""
    shown: list[dict[str, Any]] = []
    sample = design.confirm.sample
    for p in strongest_pairs(table).tolist():
        used = measure.readouts.neurons[p] >= 0
        order = np.argsort(-np.abs(measure.spread.contribution[p][used]), kind="stable")
        quadrants: dict[str, list[dict[str, Any]]] = {}
        for q, name in enumerate(QUADRANTS):
            entries = np.arange(int(sample.ptr[4 * p + q]), int(sample.ptr[4 * p + q + 1]))
            best = entries[np.argsort(-measure.values[entries], kind="stable")[:TOKENS_A_QUADRANT]]
            quadrants[name] = [
                _in_context(design, int(sample.token[e]), float(measure.values[e]), tokens, tokenizer)
                for e in best
            ]
        shown.append(
            {
                "layer": measure.layer,
                "a": str(table["a"].iloc[p]),
                "b": str(table["b"].iloc[p]),
                "k": DECIDING_K,
                "neurons": measure.readouts.neurons[p][used][order].tolist(),
                "weights": measure.readouts.weights[p][used][order].tolist(),
                "contributions": measure.spread.contribution[p][used][order].tolist(),
                "quadrants": quadrants if tokens is not None else {},
            }
        )
    return shown


def _in_context(
    design: StudyDesign, token: int, value: float, tokens: Tokens | None, tokenizer: Any | None
) -> dict[str, Any]:
    if tokens is None:
        return {"before": "", "token": str(token), "after": "", "value": value}
    index = int(design.rows["confirm"][token])
    doc, pos = int(tokens.doc_of_token[index]), int(tokens.pos_of_token[index])
    row = tokens.ids[doc, : int(tokens.lengths[doc])]
    first = 0 if tokens.bos_id is None else 1

    def text(ids: np.ndarray) -> str:
        if tokenizer is None:
            return " ".join(str(i) for i in ids.tolist()) + (" " if len(ids) else "")
        return str(tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False))

    return {
        "before": text(row[max(first, pos - WINDOW) : pos]),
        "token": text(row[pos : pos + 1]),
        "after": text(row[pos + 1 : pos + 1 + WINDOW]),
        "value": value,
    }
