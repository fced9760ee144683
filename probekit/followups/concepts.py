"""The concepts that `analyze` would use on a corpus, listed without a run."""

from __future__ import annotations

from typing import Any

import pandas as pd

from probekit.arguments import check_corpus
from probekit.errors import guarded
from probekit.model.ambient import as_torch_starts
from probekit.results.concept_table import concept_table
from probekit.results.text_snapshot import TextSnapshot
from probekit.text.corpus import as_corpus
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
    from probekit.analysis.inputs import cached, concepts_of
    from probekit.model.hooked_model import load_reader

    check_corpus(corpus)
    named = as_corpus(corpus)
    reader = load_reader(model)
    texts = cached(named)
    tokens = texts.tokenize(
        reader.tokenizer, context=min(context, reader.context), max_tokens=max_tokens, bos_id=reader.bos_id,
        skip_first=skip_first,
    )  # fmt: skip
    chosen = concepts_of(concepts, reader.tokenizer, tokens, texts)
    return concept_table(chosen.label(tokens), chosen.descriptions, TextSnapshot.of(tokens, reader.tokenizer))
