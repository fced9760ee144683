"""Finds the counted tokens at which concepts hold: by vocabulary masks at lags, or by a function of the ids.

Source: base concepts computed from ids alone. A lag looks back inside a document only: never into another
document, the beginning-of-sequence token or padding.
Axes: concept, vocab (ids), doc, pos, token (counted tokens in document order), label (one concept at one
token).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int32

from probekit.errors import InputError, ProbekitError, ShapeError, require_unmasked
from probekit.fingerprint import of_array, of_parts, of_value
from probekit.text.tokens import Tokens

Kind = Literal["token", "class", "context", "user", "next", "document", "span", "lexicon", "latent"]
"""next: of the token after; document: of the whole document; span: labelled by hand; latent: of a sparse autoencoder."""
Where = Int32[np.ndarray, " _label"]  # the underscore: each concept has its own number of labels

_SMALL_IDS = 1 << 16  # below it numpy sorts by radix, ten times faster than a comparison sort


@dataclass(frozen=True)
class Column:
    """What is known of one concept before any token is seen."""

    name: str
    """Unique within a set."""
    kind: Kind
    """What it is reported as."""
    lag: int
    """Tokens it looks back; 0 is the token itself, −1 the next one."""
    description: str
    """When it holds, in words."""


@runtime_checkable
class Block(Protocol):
    """Some concepts that are labelled together.

    A block whose data decides every label may also have a property `fingerprint`, a digest of that data, in the class that
    defines `label`. The others are known by the labels they give (`settled`).
    """

    @property
    def columns(self) -> tuple[Column, ...]:
        """Their descriptions."""
        ...

    def label(self, tokens: Tokens) -> list[Where]:
        """Sorted counted tokens of each column."""
        ...


@dataclass(frozen=True, eq=False)
class SettledBlock:
    """Concepts whose labels were asked for once and are kept, so that what was digested is what is used."""

    block: Block
    """Whose labels they are."""
    tokens: str
    """Fingerprint of the tokens they were given for."""
    found: tuple[Where, ...]
    """Sorted counted tokens of each column."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Their descriptions."""
        return self.block.columns

    def label(self, tokens: Tokens) -> list[Where]:
        """The labels kept; those of other tokens are asked for."""
        return list(self.found) if tokens.fingerprint == self.tokens else labels_of(self.block, tokens)

    @property
    def fingerprint(self) -> str:
        """Digest of the labels."""
        return of_parts([of_value(self.columns), self.tokens, *map(of_array, self.found)])


def fingerprint_of(block: Block) -> str | None:
    """Digest of all that decides a block's labels; None where only the labels tell, as with a function.

    What a class inherited beside a `label` of its own tells nothing of that.
    """
    home = next((cls for cls in type(block).__mro__ if "label" in vars(cls)), type(block))
    if "fingerprint" not in vars(home):
        return None
    return of_parts([type(block).__qualname__, str(getattr(block, "fingerprint"))])  # noqa: B009 - no part of the protocol


def settled(block: Block, tokens: Callable[[], Tokens]) -> Block:
    """The block itself if its data tells what it is, else its labels of these tokens.

    Args:
        block: the block.
        tokens: gives the tokens that a run reads; called only if they are needed.
    """
    if fingerprint_of(block) is not None:
        return block
    read = tokens().whole  # blocks read the whole text, positions that are not counted included
    return SettledBlock(block, read.fingerprint, tuple(labels_of(block, read)))


def labels_of(block: Block, tokens: Tokens) -> list[Where]:
    """What a block says of the tokens; of somebody else's block it is looked at first.

    Args:
        block: the block.
        tokens: the tokens.

    Raises:
        InputError: it raised, or what it gave are no sorted counted tokens of each column.
    """
    if type(block).__module__.startswith("probekit."):
        return block.label(tokens)
    name = type(block).__qualname__
    try:
        given: Any = block.label(tokens)
    except ProbekitError:
        raise
    except Exception as error:
        raise InputError(
            f"concept {block.columns[0].name!r}: `{name}.label` raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(given, list | tuple) or len(given) != len(block.columns):
        got = f"{len(given)} entries" if isinstance(given, list | tuple) else f"a {type(given).__name__}"
        raise InputError(
            f"concept {block.columns[0].name!r}: `{name}.label` gave {got}, wanted a list with one array a column "
            f"({len(block.columns)})."
        )
    return [
        _places(held, column, name, tokens.n_tokens)
        for held, column in zip(given, block.columns, strict=True)
    ]


def _places(given: Any, column: Column, name: str, n_tokens: int) -> Where:
    where = np.asarray(given)
    if not where.size:
        return np.empty(0, np.int32)
    if where.ndim != 1 or where.dtype.kind not in "iu":
        hint = "; pass np.flatnonzero of a mask" if where.dtype == np.bool_ else ""
        raise ShapeError(
            f"concept {column.name!r}: `{name}.label` gave shape {where.shape} of {where.dtype}, wanted the places of "
            f"counted tokens, whole numbers in one row{hint}."
        )
    if where.min() < 0 or where.max() >= n_tokens or (np.diff(where.astype(np.int64)) <= 0).any():
        raise InputError(
            f"concept {column.name!r}: `{name}.label` gave places from {where.min()} to {where.max()}, wanted each once, "
            f"in ascending order, from 0 to {n_tokens - 1}; np.unique sorts them."
        )
    return where.astype(np.int32)


def lag_word(lag: int) -> str:
    """`next`, `cur`, `prev`, `prev2`, …

    Args:
        lag: tokens back; −1 is the next one.
    """
    if lag == -1:
        return "next"
    return ("cur", "prev")[lag] if lag < 2 else f"prev{lag}"


def place(lag: int) -> str:
    """The token `lag` places back, in words.

    Args:
        lag: tokens back.
    """
    if lag == -1:
        return "the next token is:"
    return ("the token is:", "the token before is:")[lag] if lag < 2 else f"the token {lag} back is:"


@dataclass(frozen=True, eq=False)
class VocabBlock:
    """Concepts that hold where the token `lag` places back is in a set of ids."""

    columns: tuple[Column, ...]
    """One concept a column."""
    masks: Bool[np.ndarray, "mask vocab"]
    """Sets of ids."""
    mask_of_column: tuple[int, ...]
    """The set that each column looks up, at its own lag."""

    def label(self, tokens: Tokens) -> list[Where]:
        """Sorted counted tokens of each column."""
        n_vocab = self.masks.shape[1]
        ids = tokens.ids[tokens.counted]
        if ids.max(initial=0) >= n_vocab:
            raise ShapeError(
                f"corpus {tokens.name!r} holds token id {ids.max()} but the vocabulary masks of "
                f"{self.columns[0].name!r} end at {n_vocab - 1}; give one entry for each id of the model"
            )
        left = tokens_left(tokens)
        found = [_where(ids, mask, order) for order in [_by_id(ids, n_vocab)] for mask in self.masks]
        return [
            _lagged(found[mask], column.lag, left)
            for column, mask in zip(self.columns, self.mask_of_column, strict=True)
        ]

    @property
    def fingerprint(self) -> str:
        """Digest of the sets and of who looks them up."""
        return of_value(self)

    def repeats(self, other: VocabBlock) -> list[int]:
        """Columns of another block that are also here: same name, same lag, same set of ids; never a user's own."""
        mine = {column.name: place for place, column in enumerate(self.columns)}
        found: list[int] = []
        for index, column in enumerate(other.columns):
            place = mine.get(column.name)
            if place is None or column.kind == "user" or self.columns[place].lag != column.lag:
                continue
            masks = self.masks[self.mask_of_column[place]], other.masks[other.mask_of_column[index]]
            if np.array_equal(*masks):
                found.append(index)
        return found

    def without(self, dropped: list[int]) -> VocabBlock | None:
        """The same block without some columns; None if nothing is left."""
        kept = [index for index in range(len(self.columns)) if index not in set(dropped)]
        if not kept:
            return None
        columns = tuple(self.columns[index] for index in kept)
        return VocabBlock(columns, self.masks, tuple(self.mask_of_column[index] for index in kept))


@dataclass(frozen=True, eq=False)
class FunctionBlock:
    """One concept computed by a function of the whole token block."""

    columns: tuple[Column, ...]
    """The one concept."""
    function: Callable[[Any], Any]
    """int[doc pos] → bool[doc pos]."""

    def label(self, tokens: Tokens) -> list[Where]:
        """Sorted counted tokens at which the function says yes."""
        ids = tokens.ids.view()
        ids.flags.writeable = False
        try:
            got = self.function(ids)
        except Exception as error:
            raise InputError(
                f"concept {self.columns[0].name!r}: its function raised {type(error).__name__}: {error}. It is given the "
                "token ids [doc pos], which it must not change, and returns one truth value for each."
            ) from error
        require_unmasked(got, f"concept {self.columns[0].name!r}")
        array = np.asarray(got.detach().cpu().numpy() if hasattr(got, "detach") else got)
        if array.shape != ids.shape or array.dtype != np.bool_:
            raise ShapeError(
                f"concept {self.columns[0].name!r}: its function gave shape {array.shape} of {array.dtype}, "
                f"wanted bool of shape {ids.shape} ([doc, pos])"
            )
        return [np.flatnonzero(array[tokens.counted]).astype(np.int32)]


def tokens_left(tokens: Tokens) -> Int32[np.ndarray, " token"]:
    """How many counted tokens of the same document follow each one."""
    last = (tokens.text_stops - 1).astype(np.int32)
    return last[tokens.doc_of_token] - tokens.pos_of_token


def _by_id(ids: Int32[np.ndarray, " token"], n_vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """Counted tokens ordered by id, and where each id starts in that order."""
    keys = ids.astype(np.uint16) if n_vocab <= _SMALL_IDS else ids
    order = np.argsort(keys, kind="stable").astype(np.int32)
    return order, np.concatenate([[0], np.cumsum(np.bincount(ids, minlength=n_vocab))])


def _where(
    ids: Int32[np.ndarray, " token"], mask: Bool[np.ndarray, " vocab"], by_id: tuple[np.ndarray, np.ndarray]
) -> Where:
    """Counted tokens whose id is in a set, sorted."""
    members = np.flatnonzero(mask)
    if len(members) == 1:
        order, start = by_id
        return order[start[members[0]] : start[members[0] + 1]]
    return np.flatnonzero(mask[ids]).astype(np.int32)


def _lagged(where: Where, lag: int, left: Int32[np.ndarray, " token"]) -> Where:
    """Tokens that stand `lag` after the given ones in the same document."""
    if lag == 0:
        return where
    if lag < 0:  # the token before, unless it belongs to the document before
        earlier = where[where > 0] - np.int32(1)
        return earlier[left[earlier] > 0]
    return where[left[where] >= lag] + np.int32(lag)
