"""The concepts of some labelled tokens as a table: kind, description, how often they hold, and tokens in context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from probekit.results.text_snapshot import TextSnapshot
from probekit.text.concepts.labels import Labels

N_EXAMPLES = 3
WINDOW = 6
"""Tokens shown before and after an example."""


def concept_table(labels: Labels, descriptions: Sequence[str], text: TextSnapshot) -> pd.DataFrame:
    """One row a concept.

    Args:
        labels: where each concept holds.
        descriptions: when each concept holds, in words.
        text: the labelled tokens and their surfaces.

    Returns:
        name, kind, lag, description, n_tokens (counted tokens where it holds), n_docs (documents with one), share (of all
        counted tokens), examples (up to 3, the token in ⟦ ⟧, spread over the corpus).
    """
    rows: list[dict[str, Any]] = []
    for index, (name, kind, lag, description) in enumerate(
        zip(labels.names, labels.kinds, labels.lags, descriptions, strict=True)
    ):
        where = labels.where(index)
        rows.append(
            {
                "name": name,
                "kind": kind,
                "lag": lag,
                "description": description,
                "n_tokens": len(where),
                "n_docs": len(np.unique(labels.doc[where])),
                "share": len(where) / max(labels.n_tokens, 1),
                "examples": [_shown(text, int(token)) for token in _spread(where)],
            }
        )
    return pd.DataFrame(rows)


def _spread(where: np.ndarray) -> np.ndarray:
    """A few occurrences far from each other, the same ones each time."""
    if len(where) <= N_EXAMPLES:
        return where
    return where[(np.arange(N_EXAMPLES) * 2 + 1) * len(where) // (2 * N_EXAMPLES)]


def _shown(text: TextSnapshot, token: int) -> str:
    part = text.in_context(token, WINDOW)
    return f"{part['before']}⟦{part['token']}⟧{part['after']}"
