"""Labels the position in the document, in buckets that double: 0-7, 8-15, 16-31, …

Source: position is the plainest context; doubling buckets keep every bucket frequent at any context length.
Axes: token (counted tokens in document order).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probekit.fingerprint import of_value
from probekit.text.concepts.blocks import Column, Where
from probekit.text.tokens import Tokens


@dataclass(frozen=True)
class PositionBlock:
    """Buckets of the position in the document, 0 for the first counted token."""

    columns: tuple[Column, ...]
    """One bucket a column."""
    bounds: tuple[tuple[int, int], ...]
    """First and last position of each bucket."""

    @property
    def fingerprint(self) -> str:
        """Digest of the buckets."""
        return of_value(self)

    def label(self, tokens: Tokens) -> list[Where]:
        """Sorted counted tokens of each bucket."""
        place = tokens.pos_of_token - (0 if tokens.bos_id is None else 1)
        return [
            np.flatnonzero((place >= low) & (place <= high)).astype(np.int32) for low, high in self.bounds
        ]


def position_block(n_pos: int) -> PositionBlock:
    """Buckets 0-7, 8-15, 16-31, 32-63, … up to the longest row.

    Args:
        n_pos: width of the token block.
    """
    bounds = [(0, 7)]
    while bounds[-1][1] + 1 < n_pos:
        low = bounds[-1][1] + 1
        bounds.append((low, 2 * low - 1))
    columns = tuple(
        Column(f"pos:{low}-{high}", "context", 0, f"position {low} to {high} of the document")
        for low, high in bounds
    )
    return PositionBlock(columns, tuple(bounds))
