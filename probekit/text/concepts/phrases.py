"""Token pairs and longer n-grams: identities at lags chosen so that their conjunction is a phrase.

Source: the compound words of Gurnee et al. 2023 (arXiv:2305.01610, "Finding Neurons in a Haystack"): early layers are
expected to tell "social security" from "social" and "security" alone, as `prev=" social"` ∧ `cur=" security"`.
Axes: id (vocabulary ids).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from probekit.errors import InputError
from probekit.text.concepts.blocks import VocabBlock
from probekit.text.concepts.tokens import identity_block
from probekit.text.concepts.vocabulary import Vocabulary, quoted
from probekit.text.tokens import Tokens

COMPOUNDS = (
    "blood pressure", "clinical trials", "control group", "credit card", "federal government", "gene expression",
    "high school", "human rights", "living room", "magnetic field", "mental health", "north america", "prime factors",
    "public health", "second derivative", "side effects", "social media", "social security", "third party", "trial court",
    "cell lines",
)  # fmt: skip
"""The compound words of Gurnee et al. 2023."""
LONGEST = 4
"""Tokens of a phrase at most."""


def phrase_blocks(vocabulary: Vocabulary, tokenizer: Any, phrases: Sequence[str]) -> tuple[VocabBlock, ...]:
    """For each phrase the identity of its last token at lag 0, of the one before at lag 1, and so on.

    Args:
        vocabulary: the surfaces.
        tokenizer: a `transformers` tokenizer; a phrase is read as it stands in running text, after a space.
        phrases: two tokens or more each.

    Raises:
        InputError: a phrase is one token, or more than four.
    """
    at_lag: dict[int, dict[int, None]] = {}
    for phrase in phrases:
        ids = phrase_ids(tokenizer, phrase)
        if not 2 <= len(ids) <= LONGEST:
            parts = ", ".join(quoted(vocabulary.surfaces[index]) for index in ids)
            raise InputError(
                f"phrase {phrase!r} is {len(ids)} tokens ({parts}), wanted 2 to {LONGEST}; leave it out"
            )
        for lag, index in enumerate(reversed(ids)):
            at_lag.setdefault(lag, {})[index] = None
    if not at_lag:
        raise InputError("phrases: the list is empty; wanted at least one phrase of two tokens")
    return tuple(identity_block(vocabulary, list(ids), (lag,)) for lag, ids in sorted(at_lag.items()))


def phrase_ids(tokenizer: Any, phrase: str) -> list[int]:
    """Ids of a phrase as it stands in running text, after a space.

    Args:
        tokenizer: a `transformers` tokenizer.
        phrase: the words.
    """
    first = tokenizer(" " + phrase.strip(), add_special_tokens=False)["input_ids"]
    plain = tokenizer(phrase.strip(), add_special_tokens=False)["input_ids"]
    return [int(index) for index in min(first, plain, key=len)]


def two_token_compounds(tokenizer: Any) -> tuple[str, ...]:
    """The compound words of Gurnee et al. that are two tokens of this tokenizer.

    Args:
        tokenizer: a `transformers` tokenizer.

    Raises:
        InputError: none is.
    """
    held = tuple(phrase for phrase in COMPOUNDS if len(phrase_ids(tokenizer, phrase)) == 2)
    if not held:
        raise InputError(
            "compounds: none of the compound words of Gurnee et al. is two tokens of this tokenizer, whose vocabulary is "
            "small; pass phrases of your own, or use frequent n-grams"
        )
    return held


def ngram_blocks(
    vocabulary: Vocabulary, tokens: Tokens, *, n_first: int, n_second: int
) -> tuple[VocabBlock, ...]:
    """A grid of bigrams: the tokens that most often begin a frequent bigram at lag 1, those that end one at lag 0.

    A bigram's score is the number of times it stands in the corpus; a token's is that of its most frequent bigram, so that
    the grid holds real phrases and not only the most frequent tokens. Special tokens are left out.

    Args:
        vocabulary: the surfaces.
        tokens: the token block.
        n_first: tokens at lag 1.
        n_second: tokens at lag 0.

    Raises:
        InputError: no two tokens follow each other, or fewer than one token a side is asked for.
    """
    if n_first < 1 or n_second < 1:
        raise InputError(f"ngrams: got {n_first} × {n_second} tokens, wanted at least one a side")
    both = tokens.counted[:, 1:] & tokens.counted[:, :-1]
    first, second = tokens.ids[:, :-1][both], tokens.ids[:, 1:][both]
    known = np.array([surface != "" for surface in vocabulary.surfaces])
    inside = (np.maximum(first, second) < len(known)) & known[np.minimum(first, len(known) - 1)]
    inside &= known[np.minimum(second, len(known) - 1)]
    pairs, n_times = np.unique(np.stack([first[inside], second[inside]], axis=1), axis=0, return_counts=True)
    if not len(pairs):
        raise InputError(f"corpus {tokens.name!r}: no two tokens follow each other, so there is no bigram")
    order = np.argsort(-n_times, kind="stable")
    firsts = list(dict.fromkeys(pairs[order, 0].tolist()))[:n_first]
    seconds = list(dict.fromkeys(pairs[order, 1].tolist()))[:n_second]
    return identity_block(vocabulary, seconds, (0,)), identity_block(vocabulary, firsts, (1,))
