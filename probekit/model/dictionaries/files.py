"""Files of a dictionary that a stranger made: JSON and arrays, read without running anything, and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probekit.errors import InputError, NonFiniteError, ShapeError

_MOST_BYTES = 10_000_000  # of a configuration; the largest in use have a few kB


def read_json(path: Path) -> dict[str, Any]:
    """A configuration.

    Raises:
        InputError: there is none, or it is no JSON object.
    """
    try:
        n_bytes = path.stat().st_size
        if n_bytes > _MOST_BYTES:
            raise ValueError(f"{n_bytes:,} bytes, a configuration has a few thousand")
        read = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(read, dict):
            raise ValueError(f"holds a {type(read).__name__}, not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no configuration could be read ({_message(error)}). {_REMEDY}") from error
    return read


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The arrays of a safetensors file.

    Raises:
        InputError: there is none, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{path}: no weights could be read ({_message(error)}). {_REMEDY}") from error


_REMEDY = "Download or save the dictionary again."


def _message(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


@dataclass
class Arrays:
    """The arrays of one dictionary, taken out by name: all must be known, fit together and be finite."""

    source: Path
    """The file."""
    arrays: dict[str, Tensor]
    """What it holds and nobody has taken yet."""
    kind: str
    """What the dictionary calls itself."""

    def take(self, name: str, shape: Mapping[str, int | None]) -> Tensor:
        """An array that must be there, float32.

        Args:
            name: its name in the file.
            shape: axis → length; None where the array decides it.
        """
        if name not in self.arrays:
            raise InputError(f"{self.source}: no array {name!r}, which a {self.kind} needs. {_REMEDY}")
        array = self.arrays.pop(name)
        wanted = ", ".join(f"{axis} = {'any' if n is None else n}" for axis, n in shape.items())
        fits = array.ndim == len(shape) and all(
            n is None or n == found for n, found in zip(shape.values(), array.shape, strict=True)
        )
        if not fits:
            raise ShapeError(
                f"{self.source}: {name} has shape {tuple(array.shape)}, wanted ({wanted}). {_transposed(array, shape)}"
            )
        if not array.is_floating_point():
            raise InputError(
                f"{self.source}: {name} holds {str(array.dtype).removeprefix('torch.')}, wanted floating-point numbers. "
                f"{_REMEDY}"
            )
        array = array.float().contiguous()
        if not bool(torch.isfinite(array).all()):
            raise NonFiniteError(f"{self.source}: {name} holds NaN or infinity. {_REMEDY}")
        return array

    def drop(self, names: Iterable[str]) -> None:
        """Arrays that play no part in the encoder."""
        for name in names:
            self.arrays.pop(name, None)

    def require_empty(self) -> None:
        """Refuse arrays nobody asked for: they may do something to the latents that is not known here."""
        if self.arrays:
            raise InputError(
                f"{self.source}: array {min(self.arrays)!r} is not part of a {self.kind}, and may change its latents; is "
                "the architecture in the configuration the right one?"
            )


def _transposed(array: Tensor, shape: Mapping[str, int | None]) -> str:
    lengths = list(shape.values())
    if array.ndim == 2 and len(lengths) == 2 and list(array.shape) == lengths[::-1]:
        return "It seems to be transposed."
    return "The file and its configuration are of two dictionaries, or one is damaged; download both again."
