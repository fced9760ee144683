"""What a result depends on beyond its inputs: one table, from which every other spelling follows.

A field of `Settings` is a keyword of `analyze` and `estimate`, a key of the section [science] of a configuration, part of a
run's record, and what `resume` reads back; `tests/analysis/test_settings.py` holds names and defaults against it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from probekit.errors import ConfigError, InputError
from probekit.evidence.decide import Fdr
from probekit.evidence.spikein import AMPLITUDES
from probekit.text.tokens import SKIP_FIRST

KS = (1, 4, 16, 64)
"""Sizes of the sparse readouts."""
DECIDING_K = 16
"""The size that decides, fixed beforehand."""
CONTROLS = ("isotropic", "shuffle")
"""Further kinds of twins; they decide nothing."""
_MOST = 2**63
"""A count beyond this is a slip, and fits into no array."""


@dataclass(frozen=True)
class Settings:
    """What a result depends on beyond model, corpus and concepts: the [science] section of a configuration."""

    max_tokens: int = 300_000
    """Counted tokens of the corpus that are used."""
    context: int = 128
    """Tokens of a document that are read, the start mark included."""
    max_pairs: int = 2_000
    """More testable pairs than this are sampled, by default in a block of concepts."""
    min_support: int = 60
    """Tokens that every quadrant of a testable pair must hold in both halves."""
    twins: int = 20
    """PC-sign twins a layer; 0 runs none."""
    q: float = 0.05
    """Level of the false discovery rate."""
    seed: int = 0
    """Seed of the twins and of the sample of pairs."""
    twin_ks: tuple[int, ...] = (DECIDING_K,)
    """Sizes at which twins are confirmed; 0 stands for all neurons (`as_sizes` reads "all")."""
    controls: tuple[str, ...] = ("isotropic",)
    """Further kinds of twins, shown beside; they decide nothing."""
    spikes: tuple[float, ...] = AMPLITUDES
    """Sizes of the ANDs that are added to measure the sensitivity, in standard deviations of a neuron; () adds none."""
    fdr: Fdr = "bh"
    """How the false discovery rate is controlled."""
    heldout_types: bool = False
    """Whether readouts are judged on token types that they were not fitted on, as well as on other documents."""
    skip_first: int = SKIP_FIRST
    """Positions after the start mark that are read and not counted."""

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Settings:
        """What the numbers and lists of a call mean.

        Args:
            arguments: by name, those of `analyze`; what is no setting is passed over.

        Raises:
            InputError: one of them cannot be.
        """
        given: dict[str, Any] = {name: arguments[name] for name in names() if name in arguments}
        for name, read in (("twin_ks", as_sizes), ("controls", _as_words), ("spikes", as_spikes)):
            if name in given:
                given[name] = read(given[name])
        return cls(**given)

    def record(self) -> dict[str, Any]:
        """All of them, as run.json holds them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    def __post_init__(self) -> None:
        limits: dict[str, tuple[int, int]] = {
            "max_tokens": (1, _MOST), "context": (2, _MOST), "max_pairs": (1, _MOST), "min_support": (2, _MOST),
            "twins": (0, _MOST), "seed": (0, _MOST), "skip_first": (0, _MOST),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value < high:
                raise InputError(
                    f"{name}: got {_in_digits(value)}, wanted a whole number ≥ {low} and below 2**63."
                )
        level: Any = self.q
        if not isinstance(level, int | float) or not 0 < level < 1:
            raise InputError(
                f"q: got {self.q!r}, wanted a false discovery rate between 0 and 1, such as 0.05."
            )
        sizes: tuple[Any, ...] = self.twin_ks
        if not all(isinstance(k, int) and not isinstance(k, bool) and k in (0, *KS) for k in sizes):
            raise InputError(
                f"twin_ks: got {self.twin_ks!r}, wanted sizes from {KS}, or 'all' for all neurons."
            )
        if not all(kind in CONTROLS for kind in self.controls):
            raise InputError(f"controls: got {self.controls!r}, wanted some of {CONTROLS}.")
        kept_out: Any = self.heldout_types
        if not isinstance(kept_out, bool):
            raise InputError(f"heldout_types: got {self.heldout_types!r}, wanted True or False.")
        if self.fdr not in get_args(Fdr):
            raise InputError(f"fdr: got {self.fdr!r}, wanted one of {get_args(Fdr)}.")
        amplitudes: tuple[Any, ...] = self.spikes
        usable = {
            a for a in amplitudes if isinstance(a, int | float) and not isinstance(a, bool) and 0 < a < np.inf
        }
        if len(usable) < len(self.spikes):
            raise InputError(f"spikes: got {self.spikes!r}, wanted different sizes above 0, or none.")
        if 0 < self.twins < 4:
            raise InputError(
                f"twins: got {self.twins}; wanted 0 (no twin, no claim about computation) or at least 4, since each twin "
                "is standardised by the others while one of them stands for the layer."
            )


def names() -> tuple[str, ...]:
    """What the settings are called."""
    return tuple(field.name for field in fields(Settings))


def _in_digits(value: Any) -> str:
    # Python refuses to spell out integers of more than some thousand digits
    return (
        f"a number of {value.bit_length():,} bits"
        if isinstance(value, int) and abs(value) > _MOST
        else repr(value)
    )


def as_items(values: Any, name: str) -> tuple[Any, ...]:
    """A list as a tuple, and one number or word as a list of one; `Settings` says what may stand in it.

    Args:
        values: what the user gave.
        name: of the argument.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(values, str | int | float) and values != "":
        return (values,)
    items: Any = values
    if values == "" or not hasattr(values, "__iter__"):
        raise InputError(f"{name}: got {values!r}, wanted a list.")
    return tuple(items)


def as_sizes(values: Any) -> tuple[Any, ...]:
    """Sizes of readouts as `Settings` and records hold them: "all" neurons are written as 0.

    Args:
        values: what the user gave, such as (16, 64, "all").

    Raises:
        InputError: it is no list.
    """
    return tuple(0 if isinstance(k, str) and k == "all" else k for k in as_items(values, "twin_ks"))


def _as_words(values: Any) -> tuple[Any, ...]:
    return as_items(values, "controls")


def as_spikes(values: Any) -> tuple[Any, ...]:
    """Sizes of the known ANDs; two that the tables would call the same would be measured as one and be counted twice.

    Args:
        values: what the user gave.

    Raises:
        InputError: they are no list, or two of them agree to the six digits that name them.
    """
    sizes = as_items(values, "spikes")
    names = [f"{size:g}" if isinstance(size, int | float) else repr(size) for size in sizes]
    twice = [size for place, size in enumerate(sizes) if names.index(names[place]) < place]
    if twice:
        raise InputError(
            f"spikes: got {sizes!r}, of which {twice[0]!r} is named {names[sizes.index(twice[0])]} as another one is; "
            "wanted sizes that differ in their first six digits. Leave one of them out."
        )
    return sizes


def read_config(path: Path | None) -> dict[str, Any]:
    """Options of a TOML file, checked; an empty dict for no file.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is of the wrong type.
    """
    if path is None:
        return {}
    from pydantic import BaseModel, ConfigDict, ValidationError, create_model

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def section(keys: dict[str, Any]) -> Any:
        # every key may be left out
        held: dict[str, Any] = {name: (kind | None, None) for name, kind in keys.items()}
        return create_model("Section", __base__=Strict, **held)

    science = section({name: _in_file(kind) for name, kind in get_type_hints(Settings).items()})
    execution = section({"device": str, "engine": str, "memory": str | float})
    file: Any = create_model(
        "File", __base__=Strict, science=(science, science()), execution=(execution, execution())
    )
    try:
        held = file.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"--config {path}: could not be read ({error.strerror}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join((*science.model_fields, *execution.model_fields))
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


def _in_file(kind: Any) -> Any:
    """The type that a setting has in a file, where a tuple is a list; which word or size is possible `Settings` says."""
    if get_origin(kind) is not tuple:
        return str if get_origin(kind) is Literal else kind
    item = get_args(kind)[0]
    return list[int | Literal["all"]] if item is int else list[item]


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # an integer of more digits than Python spells
        return "a number of thousands of digits"
