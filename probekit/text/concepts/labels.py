"""Where each boolean concept holds, stored by column: the counted tokens of concept c, sorted.

Source: base concepts c_i(t) on tokens, the m boolean inputs of the pairs that the project measures.
Axes: token (counted tokens in document order), concept, label (one concept holding at one token).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64

from probekit.errors import InputError


@dataclass(frozen=True, eq=False)
class Labels:
    """Column-sparse labels: concept c holds at `tokens[indptr[c]:indptr[c + 1]]`."""

    names: tuple[str, ...]
    """Name of each concept."""
    kinds: tuple[str, ...]
    """Kind of each concept: token, class, context or user."""
    lags: tuple[int, ...]
    """How many tokens back each concept looks."""
    doc: Int32[np.ndarray, " token"]
    """Row of each counted token."""
    pos: Int32[np.ndarray, " token"]
    """Column of each counted token."""
    indptr: Int64[np.ndarray, " bound"]
    """Where each concept's labels start, and the end of the last: one more entry than concepts."""
    tokens: Int32[np.ndarray, " label"]
    """Counted tokens, sorted within a concept."""
    n_docs: int
    """Documents, those without any label included."""
    by_token: tuple[bool, ...] = ()
    """Whether each concept is decided by the one token it looks at; none given: nothing is known of any."""

    @property
    def n_concepts(self) -> int:
        """Concepts."""
        return len(self.names)

    @property
    def n_tokens(self) -> int:
        """Counted tokens."""
        return len(self.doc)

    def where(self, concept: int | str) -> Int32[np.ndarray, " label"]:
        """Sorted counted tokens at which one concept holds.

        Args:
            concept: its index or its name.
        """
        if isinstance(concept, str):
            if concept not in self.names:
                raise InputError(f"there is no concept {concept!r} among the {self.n_concepts} labelled ones")
            concept = self.names.index(concept)
        return self.tokens[self.indptr[concept] : self.indptr[concept + 1]]

    def dense(self) -> Bool[np.ndarray, "token concept"]:
        """The labels as one boolean array; for small sets and tests."""
        dense = np.zeros((self.n_tokens, self.n_concepts), dtype=np.bool_)
        dense[self.tokens, np.repeat(np.arange(self.n_concepts), np.diff(self.indptr))] = True
        return dense
