"""What a tokenizer is: a digest of everything that decides which ids a text becomes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from probekit.errors import InputError
from probekit.fingerprint import of_file, of_parts, of_value
from probekit.objects import is_foreign, of_object

_OF_A_CALL = ("truncation", "padding")
"""Set by each call anew, so no part of what the tokenizer is."""
_NO_MATTER = re.compile(r"^_|path|file|dir|side|verbose|max_len|chat_template|clean_up")
"""Names of attributes that say where a tokenizer comes from, or that no encoding without cutting and padding reads."""


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
    kind = type(tokenizer)
    return of_parts([of_value(facts), _rules(tokenizer), *([of_object(kind)] if is_foreign(kind) else [])])


def _rules(tokenizer: Any) -> str:
    described = description_of(tokenizer)
    if described is not None:
        kept = {key: value for key, value in described.items() if key not in _OF_A_CALL}
        return of_parts([json.dumps(kept, sort_keys=True)])
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
    added = tokenizer.get_added_vocab() if hasattr(tokenizer, "get_added_vocab") else {}
    return of_parts(
        [of_value(vocabulary), of_value(added), _saved(tokenizer), of_value(_switches(tokenizer))]
    )


def description_of(tokenizer: Any) -> dict[str, Any] | None:
    """A fast tokenizer's own JSON; None for one that is none.

    Args:
        tokenizer: a `transformers` tokenizer.

    Raises:
        InputError: a part of it is written in Python, so that it cannot be described.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    try:
        return json.loads(backend.to_str())
    except Exception as error:  # the library raises a bare one
        raise InputError(
            f"tokenizer: a {type(tokenizer).__name__} that cannot be written down ({error}), so nobody can say which one "
            "it is. Tokenize the text beforehand, and pass Corpus.from_tokens(ids) and a model without a tokenizer."
        ) from error


def _switches(tokenizer: Any) -> dict[str, Any]:
    """Numbers and words that a slow tokenizer was built with or was given since, such as `do_lower_case`."""
    held = {**(getattr(tokenizer, "init_kwargs", None) or {}), **vars(tokenizer)}
    return {
        str(key): value
        for key, value in held.items()
        if isinstance(value, bool | int | float | str) and not _NO_MATTER.search(str(key))
    }


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
