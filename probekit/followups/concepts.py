"""The concepts that `analyze` would use on a corpus, listed without a run."""

from __future__ import annotations

from typing import Any

import pandas as pd

from probekit.errors import guarded
from probekit.model.ambient import as_torch_starts
from probekit.results.concept_table import concept_table
from probekit.results.text_snapshot import TextSnapshot
from probekit.text.tokens import SKIP_FIRST


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
    from probekit.analysis.reading import Reading, concepts_of
    from probekit.analysis.settings import Settings

    reading = Reading(model, corpus, Settings(max_tokens=max_tokens, context=context, skip_first=skip_first))
    tokenizer, tokens = reading.reader.tokenizer, reading.tokens
    chosen = concepts_of(concepts, tokenizer, tokens, reading.texts)
    return concept_table(chosen.label(tokens), chosen.descriptions, TextSnapshot.of(tokens, tokenizer))
