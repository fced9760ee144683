"""Finds concepts that installed packages bring: entry points in the group `probekit.concepts`."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from probekit.errors import InputError

GROUP = "probekit.concepts"


def plugin_names() -> list[str]:
    """Names that installed packages register."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_plugin(name: str) -> Any:
    """The function that an entry point names: (tokenizer, tokens) → Concepts.

    Args:
        name: of the entry point.

    Raises:
        InputError: no installed package registers it, or its module cannot be imported.
    """
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        known = ", ".join(plugin_names()) or "none"
        raise InputError(
            f"plug-in {name!r}: no installed package registers it in the entry-point group {GROUP!r}; registered: {known}"
        )
    try:
        return found[0].load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"plug-in {name!r} ({found[0].value}) cannot be loaded: {error}") from error
