"""The user's cache folder, and lists of texts kept there between runs because they are slow to gather."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from probekit.errors import StoreError
from probekit.storage import store


def cache_folder() -> Path:
    """PROBEKIT_CACHE, or `probekit` in the user's cache folder."""
    given = os.environ.get("PROBEKIT_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "probekit"


def cached_texts(key: str, gather: Callable[[], Iterable[str]]) -> list[str]:
    """Texts from the cache if they are there, else gathered and put there.

    A cache that cannot be read or written is no error: the texts are gathered again.

    Args:
        key: what they are kept under; other texts have another key.
        gather: makes them.
    """
    file = cache_folder() / f"texts-{key}.json"
    with contextlib.suppress(StoreError, TypeError):
        if file.exists():
            return [str(text) for text in store.read_json(file)]
    texts = list(gather())
    with contextlib.suppress(StoreError):
        store.write_json(file, texts)
    return texts
