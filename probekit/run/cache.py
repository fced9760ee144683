"""Texts that are slow to gather, kept between runs in the user's cache folder."""

from __future__ import annotations

import os
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
    """The same corpus, read from the cache if its texts are there and put there if they are worth it.

    A cache that cannot be read or written is no error: the texts are gathered again.
    """
    if corpus.cache_key is None:
        return corpus
    file = cache_folder() / f"texts-{corpus.cache_key}.json"
    try:
        if file.exists():
            return corpus.with_texts([str(text) for text in store.read_json(file)])
        texts = list(corpus.texts())
        store.write_json(file, texts)
    except StoreError:
        return corpus
    return corpus.with_texts(texts)
