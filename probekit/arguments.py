"""What a user means by an argument: plain things are taken as they are meant, before anything heavy is imported."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from itertools import groupby
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, get_type_hints

import numpy as np

from probekit.errors import InputError, shown

if TYPE_CHECKING:
    from probekit.text.concepts.concepts import Concepts


P = ParamSpec("P")
R = TypeVar("R")


def called_as(pattern: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Give a function the arguments of another, which it gets by name, defaults filled in.

    Args:
        pattern: whose signature it takes over, all but what is returned.
    """
    signature, hints = inspect.signature(pattern), get_type_hints(pattern)

    def decorate(function: Callable[..., R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            bound = signature.bind(*args, **options)
            bound.apply_defaults()
            return function(**bound.arguments)

        returned = get_type_hints(function).get("return")
        call.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
        call.__annotations__ = hints | {"return": returned}
        return call

    return decorate


def as_layers(layers: Any) -> list[int] | None:
    """Layers, however they were given, each once and in order; None takes all.

    Args:
        layers: None, one layer, several, or words such as "0,2-4".

    Raises:
        InputError: they are no whole numbers.
    """
    if layers is None:
        return None
    if isinstance(layers, str):
        return layers_in_words(layers)
    if isinstance(layers, np.ndarray) and layers.ndim == 0:
        layers = layers.item()
    held = [layers] if _is_whole(layers) else layers
    if isinstance(held, Mapping | bytes) or not isinstance(held, Iterable):
        raise InputError(f"layers: got {shown(layers)} ({type(layers).__name__}), {_WANTED}")
    listed: list[Any] = list(held)
    wrong = [layer for layer in listed if not _is_whole(layer)]
    if wrong:
        raise InputError(f"layers: got {shown(wrong[0])} ({type(wrong[0]).__name__}) among them, {_WANTED}")
    return sorted({int(layer) for layer in listed})


_WANTED = "wanted whole numbers, one or several, or words such as '0,2-4'."


def layers_in_words(text: str) -> list[int]:
    """0,2-4 → [0, 2, 3, 4].

    Raises:
        InputError: it is not of this form.
    """
    chosen: set[int] = set()
    for part in text.split(","):
        low, dash, high = (word.strip() for word in part.partition("-"))
        whole = low.isdecimal() and (high.isdecimal() or not dash) and max(len(low), len(high)) < _MOST_DIGITS
        if not whole or (dash and int(high) < int(low)):
            raise InputError(f"layers: got {shown(text)}, {_WANTED}")
        chosen |= set(range(int(low), int(high if dash else low) + 1))
    return sorted(chosen)


_MOST_DIGITS = 6
"""No model has a million layers; a slip must not fill the memory."""


def as_layer(layer: Any, layers: Iterable[int]) -> int | None:
    """One layer of those that a run measured; None for all of them.

    Raises:
        InputError: it is none of them.
    """
    if layer is None:
        return None
    measured = list(layers)
    if not _is_whole(layer):
        raise InputError(
            f"layer: got {shown(layer)} ({type(layer).__name__}), wanted one of the numbers {_listed(measured)}, or None "
            "for all of them."
        )
    if int(layer) not in measured:
        raise InputError(f"layer {int(layer)}: this run measured layers {_listed(measured)}.")
    return int(layer)


def as_concepts(concepts: Any) -> Any:
    """Concepts as the rest of the house knows them: None, a file, or a `Concepts` set.

    Args:
        concepts: these; or name → bool[vocab], words, token ids, a compiled regular expression or a function of the ids; or
            a table with a column bool[vocab] a concept; or a list of words, or of sets, which are added.

    Raises:
        InputError: it is none of these.
    """
    if concepts is None or isinstance(concepts, str | Path) or hasattr(concepts, "descriptions"):
        return concepts
    if isinstance(concepts, Mapping):
        return _of_mapping(concepts)
    if hasattr(concepts, "columns") and hasattr(concepts, "to_numpy"):
        return _of_mapping({name: concepts[name].to_numpy() for name in concepts.columns})
    if (
        isinstance(concepts, list | tuple)
        and concepts
        and all(hasattr(one, "descriptions") for one in concepts)
    ):
        return sum(concepts[1:], concepts[0])
    if isinstance(concepts, list | tuple) and concepts and all(isinstance(one, str) for one in concepts):
        from probekit.text.concepts.concepts import Concepts

        return Concepts.from_words(concepts)
    raise InputError(
        f"concepts: got a {type(concepts).__name__}; wanted None, a Concepts set or a list of such sets, a list of words, a "
        "TOML file, or a dictionary of name → bool[vocab], words, token ids, a compiled expression or a function."
    )


def _of_mapping(named: Mapping[Any, Any]) -> Concepts:
    wrong = [name for name in named if not isinstance(name, str)]
    if wrong or not named:
        told = shown(wrong[0]) if wrong else "nothing"
        raise InputError(f"concepts: got {told} as a name, wanted names of concepts.")
    # neighbours of one kind make one set, and all stand in the order given
    parts = [
        _of_one_kind(kind, dict(part))
        for kind, part in groupby(named.items(), key=lambda item: _kind(item[1]))
    ]
    return sum(parts[1:], parts[0])


def _kind(value: Any) -> str:
    """How a concept is written in a message."""
    if callable(value):
        return "function"
    if isinstance(value, re.Pattern):
        return "pattern"
    items: list[Any] = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    plain = bool(items) and all(isinstance(one, str) or _is_whole(one) for one in items)
    return "words" if plain else "mask"


def _of_one_kind(kind: str, named: dict[str, Any]) -> Concepts:
    from probekit.text.concepts.concepts import Concepts

    made = {
        "function": Concepts.from_function, "pattern": Concepts.from_regex, "words": Concepts.from_words,
        "mask": Concepts.from_vocab,
    }  # fmt: skip
    return made[kind](named)


def _is_whole(value: Any) -> bool:
    kinds: Any = (bool, np.bool_)
    return isinstance(value, Integral) and not isinstance(value, kinds)


def _listed(layers: list[int]) -> str:
    return ", ".join(map(str, layers))
