"""The configuration file: [science] may change a result, [execution] may not."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from probekit.errors import ConfigError


def read_config(path: Path | None) -> dict[str, Any]:
    """Options of a TOML file, checked; an empty dict for no file.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is of the wrong type.
    """
    if path is None:
        return {}
    from pydantic import BaseModel, ConfigDict, ValidationError

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    class Science(Strict):
        max_tokens: int | None = None
        context: int | None = None
        max_pairs: int | None = None
        min_support: int | None = None
        twins: int | None = None
        q: float | None = None
        seed: int | None = None
        twin_ks: list[int] | None = None
        controls: list[str] | None = None
        spikes: list[float] | None = None
        fdr: str | None = None
        heldout_types: bool | None = None
        skip_first: int | None = None

    class Execution(Strict):
        device: str | None = None
        engine: str | None = None

    class File(Strict):
        science: Science = Science()
        execution: Execution = Execution()

    try:
        held = File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"--config {path}: could not be read ({error.strerror}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join((*Science.model_fields, *Execution.model_fields))
        raise ConfigError(
            f"--config {path}: {where}: {first['msg'].lower()} (got {_shown(first.get('input'))}). "
            f"[science] and [execution] know {known}."
        ) from error
    except (ValueError, RecursionError) as error:  # no TOML or UTF-8; too many digits; nested too deep
        raise ConfigError(f"--config {path}: not a TOML file ({error}).") from error
    sections = (held.science, held.execution)
    return {
        key: value for section in sections for key, value in section.model_dump().items() if value is not None
    }


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # an integer of more digits than Python spells
        return "a number of thousands of digits"
