"""The concepts of a run or of a corpus, listed: kind, description, how often they hold, and tokens in context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from probekit.errors import guarded
from probekit.model.ambient import as_torch_starts
from probekit.run.asked import check_corpus
from probekit.run.kept import KeptText
from probekit.text.concepts.labels import Labels
from probekit.text.corpus import as_corpus
from probekit.text.tokens import SKIP_FIRST

N_EXAMPLES = 3
WINDOW = 6
"""Tokens shown before and after an example."""


def concept_table(labels: Labels, descriptions: Sequence[str], text: KeptText) -> pd.DataFrame:
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


def _shown(text: KeptText, token: int) -> str:
    part = text.in_context(token, WINDOW)
    return f"{part['before']}⟦{part['token']}⟧{part['after']}"


@guarded
@as_torch_starts()
def list_concepts(
    model: Any,
    corpus: Any = None,
    *,
    concepts: Any = None,
    max_tokens: int = 100_000,
    context: int = 128,
    skip_first: int = SKIP_FIRST,
) -> pd.DataFrame:
    """The concepts that `analyze` would use on a corpus, without loading the model's weights.

    Args:
        model: as in `analyze`; of a name or folder only the tokenizer is read.
        corpus: as in `analyze`.
        concepts: as in `analyze`.
        max_tokens: counted tokens to read.
        context: positions of a document that are read.
        skip_first: as in `analyze`.

    Returns:
        The table of `concept_table`, in the order of the set.

    Raises:
        InputError: the corpus or the concepts cannot be used.
        ModelError: the model has no tokenizer.
    """
    from probekit.model.host import load_reader
    from probekit.run.cache import cached
    from probekit.run.subject import concepts_of

    check_corpus(corpus)
    named = as_corpus(corpus)
    reader = load_reader(model)
    texts = cached(named)
    tokens = texts.tokenize(
        reader.tokenizer, context=min(context, reader.context), max_tokens=max_tokens, bos_id=reader.bos_id,
        skip_first=skip_first,
    )  # fmt: skip
    chosen = concepts_of(concepts, reader.tokenizer, tokens, texts)
    return concept_table(chosen.label(tokens), chosen.descriptions, KeptText.of(tokens, reader.tokenizer))
