"""Which commit of a hub dataset is meant: names move on, a commit stays."""

from __future__ import annotations

import re

from probekit.text.readers import HUB_TIMEOUT_S
from probekit.text.timeouts import call_with_timeout

_COMMIT = re.compile("[0-9a-f]{40}")


def commit_of(name: str, revision: str | None) -> str | None:
    """The commit that a revision of a hub dataset is at now; None where the hub cannot be asked.

    Args:
        name: the hub's name.
        revision: branch, tag or commit; None for the default branch.
    """
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, HTTPError  # pyright: ignore[reportPrivateImportUsage]

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        info = call_with_timeout(
            HUB_TIMEOUT_S, lambda: HfApi().dataset_info(name, revision=revision, timeout=HUB_TIMEOUT_S)
        )
    except (HTTPError, HFValidationError, OSError):
        return None
    return info.sha
