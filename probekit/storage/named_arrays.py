"""Arrays by name: several such sets are kept as one, each behind a prefix of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]


def under(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The same arrays, their names behind a prefix."""
    return {f"{prefix}/{name}": values for name, values in arrays.items()}


def below(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays whose names stand behind a prefix, without it."""
    head = f"{prefix}/"
    return {name.removeprefix(head): values for name, values in arrays.items() if name.startswith(head)}


def prefixes(name: str) -> list[str]:
    """Everything that a name may stand behind: a/b/c stands behind a and behind a/b."""
    words = name.split("/")
    return ["/".join(words[:n]) for n in range(1, len(words))]
