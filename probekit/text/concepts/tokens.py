"""Labels single tokens: identity, and the classes of the string.

Source: the token-identity and token-class concepts of sparse-probing work (Gurnee et al. 2023), decided
from the surface string of each vocabulary id, once. A token's *body* is its surface without the white space
around it.
Axes: mask (a set of ids), vocab (ids).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from probekit.errors import InputError
from probekit.text.concepts.blocks import Column, Kind, VocabBlock, lag_word, place
from probekit.text.concepts.classes import CLASSES
from probekit.text.concepts.vocabulary import Vocabulary, quoted
from probekit.text.tokens import Tokens


def class_block(
    vocabulary: Vocabulary, tokens: Tokens, lags: Sequence[int], *, kind: Kind = "class"
) -> VocabBlock | None:
    """Every token class that occurs in the corpus, at each lag; None if none does.

    Args:
        vocabulary: the surfaces.
        tokens: the token block.
        lags: places back.
        kind: what the concepts are reported as.
    """
    found = {
        name: np.array([surface != "" and test(surface) for surface in vocabulary.surfaces], dtype=np.bool_)
        for name, (test, _) in CLASSES.items()
    }
    used = np.unique(_known_ids(tokens, vocabulary))
    held = {name: mask for name, mask in found.items() if mask[used].any()}
    if not held:
        return None
    columns = tuple(
        Column(f"{lag_word(lag)}:{name}", kind, lag, f"{place(lag)} {CLASSES[name][1]}")
        for lag in lags
        for name in held
    )
    return VocabBlock(columns, np.stack(list(held.values())), tuple(range(len(held))) * len(lags))


def identity_block(
    vocabulary: Vocabulary, ids: Sequence[int], lags: Sequence[int], *, kind: Kind = "token"
) -> VocabBlock:
    """Token identity of some ids at each lag.

    Args:
        vocabulary: the surfaces.
        ids: the tokens, each a concept at each lag.
        lags: places back.
        kind: what the concepts are reported as.
    """
    masks = np.zeros((len(ids), len(vocabulary)), dtype=np.bool_)
    masks[np.arange(len(ids)), list(ids)] = True
    names = _identity_names(vocabulary, ids)
    columns = tuple(
        Column(
            f"{lag_word(lag)}={name}",
            kind,
            lag,
            f"{place(lag)} {name}",
        )
        for lag in lags
        for name in names
    )
    return VocabBlock(columns, masks, tuple(range(len(ids))) * len(lags))


def frequent_ids(tokens: Tokens, vocabulary: Vocabulary, n_frequent: int) -> Int[np.ndarray, " id"]:
    """The most frequent ids among counted tokens, special tokens left out, most frequent first.

    Args:
        tokens: the token block.
        vocabulary: the surfaces.
        n_frequent: how many at most.
    """
    n_times = np.bincount(_known_ids(tokens, vocabulary), minlength=len(vocabulary))
    n_times[[surface == "" for surface in vocabulary.surfaces]] = 0
    order = np.argsort(-n_times, kind="stable")[:n_frequent]
    return order[n_times[order] > 0]


def _known_ids(tokens: Tokens, vocabulary: Vocabulary) -> Int[np.ndarray, " token"]:
    """Counted ids, refused if one is beyond the vocabulary."""
    counted = tokens.ids[tokens.counted]
    if counted.max(initial=0) >= len(vocabulary):
        raise InputError(
            f"corpus {tokens.name!r} holds token id {counted.max()} but the tokenizer ends at "
            f"{len(vocabulary) - 1}; pass the tokenizer that made these tokens"
        )
    return counted


def _identity_names(vocabulary: Vocabulary, ids: Sequence[int]) -> list[str]:
    """Quoted surfaces; two ids of one surface are told apart by their number."""
    surfaces = [vocabulary.surfaces[index] for index in ids]
    return [
        quoted(surface) if surfaces.count(surface) == 1 else f"{quoted(surface)}#{index}"
        for surface, index in zip(surfaces, ids, strict=True)
    ]
