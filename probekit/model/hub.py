"""Find a model by name on the Hugging Face hub: in the local cache, else over the network, or fail fast."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from probekit.errors import ModelError

HUB_TIMEOUT_SECONDS = 6.0
"""How long the hub may take to answer before it counts as out of reach."""

_ALIASES = {
    "gpt2-small": "gpt2",
    "pythia-14m": "EleutherAI/pythia-14m",
    "pythia-70m": "EleutherAI/pythia-70m",
    "pythia-160m": "EleutherAI/pythia-160m",
    "pythia-410m": "EleutherAI/pythia-410m",
}

_Result = TypeVar("_Result")


def official_name(name: str) -> str:
    """The hub's name of a model that is often called by a shorter one."""
    return _ALIASES.get(name, name)


def fetch(name: str) -> Path:
    """The local folder of a hub model: from the cache if it is there, else downloaded.

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
    )

    # HTTPError is that of the transport the client is built on, whose refused connection is no OSError.
    neither = f"{name!r} is neither a folder nor in the local cache"
    hint = "To use local files, pass the folder that holds config.json, the weights and the tokenizer."
    try:
        cached = Path(snapshot_download(name, local_files_only=True))
        if _complete(cached):
            return cached
    except (LocalEntryNotFoundError, OSError):
        pass
    except HFValidationError as error:
        raise ModelError(f"{name!r} is neither a folder nor a hub name. {hint}") from error
    if constants.HF_HUB_OFFLINE:
        raise ModelError(f"{neither}, and HF_HUB_OFFLINE is set. {hint}")
    try:
        info = _within(HUB_TIMEOUT_SECONDS, lambda: HfApi().model_info(name, timeout=HUB_TIMEOUT_SECONDS))
        safe = any(file.rfilename.endswith(".safetensors") for file in info.siblings or [])
        patterns = ["*.json", "*.txt", "*.model", "*.tiktoken", "*.safetensors" if safe else "*.bin"]
        logging.getLogger(__name__).info("downloading %s", name)
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except GatedRepoError as error:
        raise ModelError(f"{name!r} is gated: accept its terms on the hub and log in. {hint}") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"{neither}, nor on the hub; check the spelling. {hint}") from error
    except (HTTPError, OfflineModeIsEnabled, OSError, RuntimeError) as error:
        raise ModelError(
            f"{neither}, and the hub cannot be reached ({type(error).__name__}). {hint}"
        ) from error


def _complete(folder: Path) -> bool:
    has_weights = any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))
    return (folder / "config.json").is_file() and has_weights


def _within(seconds: float, call: Callable[[], _Result]) -> _Result:
    """The result of `call`, or TimeoutError: a transport's timeout does not cover name resolution."""
    outcome: list[_Result | BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001  carried over to the caller's thread
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer in {seconds:g} s")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
