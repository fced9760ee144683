"""The default concepts: token identity and token classes at lags 0, 1 and 2, and context at lag 0.

Source: the concepts that sparse probes of language models are usually tried on; identity of the most frequent
tokens only, so that pairs have support.
"""

from __future__ import annotations

from typing import Any

from probekit.text.concepts.blocks import Block
from probekit.text.concepts.characters import char_table
from probekit.text.concepts.context import ContextBlock, context_columns
from probekit.text.concepts.position import position_block
from probekit.text.concepts.tokens import class_block, frequent_ids, identity_block
from probekit.text.concepts.vocabulary import read_vocabulary
from probekit.text.tokens import Tokens

LAGS = (0, 1, 2)
DEFAULT_FREQUENT = (
    20  # some 170 concepts with the classes and contexts; thousands of their pairs have support
)


def default_blocks(tokenizer: Any, tokens: Tokens, *, n_frequent: int) -> tuple[Block, ...]:
    """Blocks of the default concepts.

    Args:
        tokenizer: a `transformers` tokenizer.
        tokens: the tokens to be labelled.
        n_frequent: tokens whose identity is a concept.
    """
    vocabulary = read_vocabulary(tokenizer)
    ids = [int(index) for index in frequent_ids(tokens, vocabulary, n_frequent)]
    of_tokens = (
        identity_block(vocabulary, ids, LAGS) if ids else None,
        class_block(vocabulary, tokens, LAGS),
    )
    return (
        *(block for block in of_tokens if block is not None),
        ContextBlock(context_columns(), char_table(vocabulary)),
        position_block(tokens.ids.shape[1] - (tokens.bos_id is not None) - (tokens.end_id is not None)),
    )
