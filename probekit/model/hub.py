"""Find a model by name on the Hugging Face hub: in the local cache, else over the network, or fail fast."""

from __future__ import annotations

import importlib.util
import json
import logging
from functools import cache
from pathlib import Path

from probekit.errors import ModelError
from probekit.text.timeouts import call_with_timeout

HUB_TIMEOUT_SECONDS = 6.0
"""How long the hub may take to answer before it counts as out of reach."""

_ALIAS_FILE = Path("tools", "model_registry", "data", "model_aliases.json")


@cache
def _aliases() -> dict[str, str]:
    """The short names in use → the hub's, from TransformerLens's own table (read as a file: its import takes seconds)."""
    spec = importlib.util.find_spec("transformer_lens")
    roots = [] if spec is None else spec.submodule_search_locations or []
    for root in roots:
        file = Path(root) / _ALIAS_FILE
        if file.is_file():
            table: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))["aliases"]
            return {short.lower(): official for official, names in table.items() for short in names}
    return {}


def official_name(name: str) -> str:
    """The hub's name of a model that is often called by a shorter one, such as gpt2-small or pythia-70m."""
    return _aliases().get(name.lower(), name)


def fetch(name: str, revision: str | None = None) -> Path:
    """The local folder of a hub model: from the cache if it is there, else downloaded.

    Args:
        name: the hub's name.
        revision: branch, tag or commit, such as the training checkpoint step3000 of a Pythia; None for the newest.

    Raises:
        ModelError: the hub has no such model, or cannot be reached.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # HTTPError is that of the transport the client is built on, whose refused connection is no OSError.
    asked = name if revision is None else f"{name}@{revision}"
    neither = f"{asked!r} is neither a folder nor in the local cache"
    hint = "To use local files, pass the folder that holds config.json, the weights and the tokenizer."
    try:
        cached = Path(snapshot_download(name, revision=revision, local_files_only=True))
        if _complete(cached):
            return cached
    except (LocalEntryNotFoundError, OSError):
        pass
    except HFValidationError as error:
        raise ModelError(f"{asked!r} is neither a folder nor a hub name. {hint}") from error
    if constants.HF_HUB_OFFLINE:
        raise ModelError(f"{neither}, and HF_HUB_OFFLINE is set. {hint}")
    try:
        info = call_with_timeout(
            HUB_TIMEOUT_SECONDS,
            lambda: HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS),
        )
        safe = any(file.rfilename.endswith(".safetensors") for file in info.siblings or [])
        patterns = ["*.json", "*.txt", "*.model", "*.tiktoken", "*.safetensors" if safe else "*.bin"]
        logging.getLogger(__name__).info("downloading %s", asked)
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"])
        )
    except GatedRepoError as error:
        raise ModelError(f"{name!r} is gated: accept its terms on the hub and log in. {hint}") from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{name!r} has no revision {revision!r}; its page on the hub lists them. {hint}"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"{neither}, nor on the hub; check the spelling. {hint}") from error
    except (HTTPError, OfflineModeIsEnabled, OSError, RuntimeError) as error:
        raise ModelError(
            f"{neither}, and the hub cannot be reached ({type(error).__name__}). {hint}"
        ) from error


def _complete(folder: Path) -> bool:
    has_weights = any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))
    return (folder / "config.json").is_file() and has_weights
