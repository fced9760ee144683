"""What a tokenizer is: a digest of everything that decides which ids a text becomes."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from probekit.fingerprint import of_file, of_parts, of_value

_OF_A_CALL = ("truncation", "padding")
"""Set by each call anew, so no part of what the tokenizer is."""


def of_tokenizer(tokenizer: Any) -> str:
    """Digest of a tokenizer's vocabulary, rules and special tokens; "none" for None.

    Args:
        tokenizer: a `transformers` tokenizer, fast or slow.
    """
    if tokenizer is None:
        return "none"
    facts = {
        "class": type(tokenizer).__qualname__,
        "special": [
            str(getattr(tokenizer, f"{name}_token_id", None)) for name in ("bos", "eos", "unk", "pad")
        ],
        "specials": sorted(getattr(tokenizer, "all_special_ids", ())),
        "split": bool(getattr(tokenizer, "split_special_tokens", False)),
        "built with": str((getattr(tokenizer, "init_kwargs", None) or {}).get("bos_token")),
    }
    return of_parts([of_value(facts), _rules(tokenizer)])


def _rules(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        described: dict[str, Any] = json.loads(backend.to_str())
        kept = {key: value for key, value in described.items() if key not in _OF_A_CALL}
        return of_parts([json.dumps(kept, sort_keys=True)])
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
    added = tokenizer.get_added_vocab() if hasattr(tokenizer, "get_added_vocab") else {}
    return of_parts([of_value(vocabulary), of_value(added), _saved(tokenizer)])


def _saved(tokenizer: Any) -> str:
    """Digest of the files in which a slow tokenizer writes down what it knows."""
    if not hasattr(tokenizer, "save_vocabulary"):
        return "unsaved"
    with TemporaryDirectory(prefix="probekit-") as folder:
        try:
            tokenizer.save_vocabulary(folder)
        except (NotImplementedError, OSError, ValueError, TypeError):
            return "unsaved"
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return of_parts(f"{path.name} {of_file(path)}" for path in files)
