"""Texts that are slow to gather, kept between runs in the user's cache folder."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

from probekit.errors import StoreError
from probekit.run import store
from probekit.text.corpus import Corpus


def cache_folder() -> Path:
    """PROBEKIT_CACHE, or `probekit` in the user's cache folder."""
    given = os.environ.get("PROBEKIT_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "probekit"


def cached(corpus: Corpus) -> Corpus:
    """The same corpus with its texts in memory: from the cache if they are there, else gathered and put there.

    A cache that cannot be read or written is no error: the texts are gathered again.
    """
    if corpus.cache_key is None:
        return corpus
    file = cache_folder() / f"texts-{corpus.cache_key}.json"
    with contextlib.suppress(StoreError, TypeError):
        if file.exists():
            return _held(corpus, [str(text) for text in store.read_json(file)])
    texts = list(corpus.texts())
    with contextlib.suppress(StoreError):
        store.write_json(file, texts)
    return _held(corpus, texts)


def _held(corpus: Corpus, texts: list[str]) -> Corpus:
    return replace(corpus.with_texts(texts), cache_key=None)
