"""A set of boolean base concepts and the labels it gives to a block of tokens.

Source: base concepts c_i(t) on tokens, of four kinds: token identity, token class, context, the user's own.
Axes: concept, doc, pos, token (counted tokens in document order).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from probekit.errors import InputError, ShapeError
from probekit.text.concepts.blocks import Block, Column, FunctionBlock, Kind, VocabBlock, lag_word, place
from probekit.text.concepts.defaults import DEFAULT_FREQUENT, default_blocks
from probekit.text.concepts.files import toml_blocks
from probekit.text.concepts.labels import Labels
from probekit.text.corpus import Corpus, Tokens


@dataclass(frozen=True, eq=False)
class Concepts:
    """Boolean base concepts; sets add with `+`."""

    blocks: tuple[Block, ...]
    """The concepts in order, in groups that are labelled together."""

    def __post_init__(self) -> None:
        """Refuse an empty set and two concepts of one name."""
        if not self.columns:
            raise InputError("the set of concepts is empty; wanted at least one")
        twice = [name for name, n_times in Counter(self.names).items() if n_times > 1]
        if twice:
            raise InputError(
                f"{len(twice)} concept names stand twice, first {twice[0]!r}; rename one of the two"
            )

    @classmethod
    def defaults(
        cls,
        tokenizer: Any,
        corpus: Corpus | Tokens,
        *,
        n_frequent: int = DEFAULT_FREQUENT,
        context: int = 128,
    ) -> Concepts:
        """Identity of the most frequent tokens and token classes at lags 0, 1 and 2, and context at lag 0.

        Args:
            tokenizer: a `transformers` tokenizer.
            corpus: the tokens to be labelled, or a corpus, of which the first 100,000 tokens are read.
            n_frequent: tokens whose identity is a concept.
            context: longest row when a corpus is given.
        """
        if isinstance(corpus, Corpus):
            corpus = corpus.tokenize(tokenizer, context=context, max_tokens=100_000, bos_id=None)
        return cls(default_blocks(tokenizer, corpus, n_frequent=n_frequent))

    @classmethod
    def from_vocab(
        cls, masks: Mapping[str, Any], lags: Sequence[int] = (0,), *, kind: Kind = "user"
    ) -> Concepts:
        """Sets of token ids as concepts.

        The concept bears the set's name at lag 0, and `prev:name`, `prev2:name` at lags 1 and 2.

        >>> Concepts.from_vocab({"red": np.array([True, False, True])}, lags=(0, 1)).names
        ('red', 'prev:red')

        Args:
            masks: name → bool[vocab].
            lags: places back at which each set is looked up, each a concept of its own.
            kind: what the concepts are reported as.
        """
        if not masks:
            raise InputError("from_vocab: no mask given; wanted at least one name → bool[vocab]")
        arrays = {name: _as_mask(name, mask) for name, mask in masks.items()}
        lengths = {name: len(mask) for name, mask in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ShapeError(
                f"from_vocab: masks of different lengths {lengths}, wanted one entry a vocabulary id"
            )
        if not lags or any(lag < 0 for lag in lags):
            raise InputError(f"from_vocab: lags={tuple(lags)}, wanted one or more numbers ≥ 0 (places back)")
        columns = tuple(
            Column(
                name if lag == 0 else f"{lag_word(lag)}:{name}",
                kind,
                lag,
                f"{place(lag)} in the set {name!r}",
            )
            for lag in lags
            for name in arrays
        )
        return cls(
            (
                VocabBlock(
                    tuple(columns), np.stack(list(arrays.values())), tuple(range(len(arrays))) * len(lags)
                ),
            )
        )

    @classmethod
    def from_function(cls, name: str, f: Callable[[Any], Any], *, description: str = "") -> Concepts:
        """One concept computed from the whole block of ids.

        Args:
            name: its name.
            f: tokens int[doc pos] → bool[doc pos]; it sees the beginning-of-sequence tokens and -1 for
                padding, and what it says there is left out.
            description: when it holds, in words.
        """
        return cls(
            (FunctionBlock((Column(name, "user", 0, description or f"the user's function {name!r}"),), f),)
        )

    @classmethod
    def from_toml(cls, path: str | Path, tokenizer: Any, tokens: Tokens | None = None) -> Concepts:
        """Concepts listed in a file; its keys are described in `probekit.text.concepts.files`.

        Args:
            path: the TOML file.
            tokenizer: a `transformers` tokenizer.
            tokens: the tokens to be labelled; only needed for `defaults = true`.
        """
        return cls(toml_blocks(Path(path), tokenizer, tokens))

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Name, kind, lag and description of each concept."""
        return tuple(column for block in self.blocks for column in block.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each concept."""
        return tuple(column.name for column in self.columns)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each concept: token, class, context or user."""
        return tuple(column.kind for column in self.columns)

    @property
    def lags(self) -> tuple[int, ...]:
        """How many tokens back each concept looks."""
        return tuple(column.lag for column in self.columns)

    @property
    def descriptions(self) -> tuple[str, ...]:
        """When each concept holds, in words."""
        return tuple(column.description for column in self.columns)

    def __len__(self) -> int:
        """Concepts."""
        return len(self.columns)

    def __add__(self, other: Concepts) -> Concepts:
        """Both sets, this one first."""
        return Concepts(self.blocks + other.blocks)

    def label(self, tokens: Tokens) -> Labels:
        """Labels of every counted token.

        Args:
            tokens: the token block.
        """
        where = [found for block in self.blocks for found in block.label(tokens)]
        indptr = np.concatenate([[0], np.cumsum([len(found) for found in where])]).astype(np.int64)
        return Labels(
            names=self.names,
            kinds=self.kinds,
            lags=self.lags,
            doc=tokens.doc_of_token,
            pos=tokens.pos_of_token,
            indptr=indptr,
            tokens=np.concatenate(where),
            n_docs=tokens.n_docs,
        )


def _as_mask(name: str, mask: Any) -> np.ndarray:
    """One boolean entry a vocabulary id."""
    array = np.asarray(mask.detach().cpu().numpy() if hasattr(mask, "detach") else mask)
    if array.ndim != 1 or array.dtype != np.bool_:
        raise ShapeError(
            f"from_vocab: mask {name!r} has shape {array.shape} of {array.dtype}, wanted bool[vocab]"
        )
    return array
