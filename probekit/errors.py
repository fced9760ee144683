"""What can go wrong, one class a cause, and the exit code of each family.

ProbekitError
├── InputError            2  the caller's data or configuration
│   ├── ConfigError          an unknown key, a wrong type, a value out of range
│   ├── ShapeError           an axis of the wrong length or an array of the wrong rank
│   ├── NonFiniteError       NaN or infinity where a finite number is needed
│   └── DegenerateError      too little to work on: no pair, one class, an empty corpus
├── StoreError            3  what lies on disk
│   ├── CorruptError         bytes that do not match their digest
│   ├── IncompleteError      a stage or run that was not finished
│   ├── StaleError           results of other inputs than the ones asked for
│   ├── FormatError          an unknown schema or a newer version
│   └── LockedError          held by another process
├── ResourceError         4  the machine
│   ├── DiskFullError        no space left
│   └── OutOfMemoryError     more memory asked for than there is
├── ModelError            5  a model that cannot be loaded or does not behave as its sites claim
└── NumericalError        6
    └── NotConvergedError    a solver that stopped before its tolerance

Every message says what, where, got, wanted and what to do next.
"""

from __future__ import annotations

import difflib
import errno
import functools
import inspect
import numbers
import reprlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

P = ParamSpec("P")
R = TypeVar("R")


class ProbekitError(Exception):
    """Base of everything probekit raises on purpose."""

    exit_code = 1


class InputError(ProbekitError, ValueError):
    """The caller's data or configuration cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration key or value is unknown, of the wrong type, or out of range."""


class ShapeError(InputError):
    """An array has the wrong rank or an axis the wrong length."""


class NonFiniteError(InputError):
    """NaN or infinity where a finite number is needed."""


class DegenerateError(InputError):
    """The input holds too little to measure anything."""


class StoreError(ProbekitError):
    """What lies on disk cannot be used."""

    exit_code = 3


class CorruptError(StoreError):
    """Bytes on disk do not match their digest."""


class IncompleteError(StoreError):
    """A stage or a run was not finished."""


class StaleError(StoreError):
    """What is stored belongs to other inputs than the ones asked for."""


class FormatError(StoreError):
    """A file has an unknown schema, or one written by a newer version."""


class LockedError(StoreError):
    """Another process holds the run directory."""


class ResourceError(ProbekitError):
    """The machine has too little of something."""

    exit_code = 4


class DiskFullError(ResourceError):
    """No space is left on the device."""


class OutOfMemoryError(ResourceError):
    """More memory is needed than is available."""


class ModelError(ProbekitError):
    """A model cannot be loaded, or does not behave as its sites claim."""

    exit_code = 5


class NumericalError(ProbekitError):
    """A computation did not give a usable number."""

    exit_code = 6


class NotConvergedError(NumericalError):
    """A solver stopped before reaching its tolerance."""


def guarded(entry: Callable[P, R]) -> Callable[P, R]:
    """Let nothing but a ProbekitError out of a public entry point, and say in a note which one it was.

    What the machine refuses becomes a ResourceError or StoreError; what nobody foresaw becomes a plain ProbekitError with
    its cause chained, so that a caller needs one except clause and a defect still shows itself.
    """

    @functools.wraps(entry)
    def call(*args: P.args, **options: P.kwargs) -> R:
        try:
            return entry(*args, **options)
        except Exception as error:
            mapped = _misuse(entry, args, options, error) or as_ours(error)
            mapped.add_note(f"in probekit.{entry.__qualname__}")
            if mapped is error:
                raise
            raise mapped from error

    return call


def _misuse(
    entry: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any], error: Exception
) -> InputError | None:
    """What a foreign error comes of when the call does not fit the signature; looked at only once it has failed."""
    if isinstance(error, (ProbekitError, OSError, MemoryError)):
        return None
    try:
        given = inspect.signature(entry).bind(*args, **options).arguments
    except TypeError as wrong:
        names = [name for name in inspect.signature(entry).parameters if name not in ("self", "cls")]
        return InputError(f"{entry.__qualname__}: {wrong}. It takes: {', '.join(names)}.")
    try:
        hints = get_type_hints(entry)
    except NameError:  # a hint that is there for type checkers only
        return None
    for name, value in given.items():
        if name in hints and not _fits(value, hints[name]):
            wanted = str(hints[name]).replace("typing.", "").removeprefix("<class '").removesuffix("'>")
            return InputError(
                f"{name}: got {shown(value)} ({type(value).__name__}), wanted {wanted}. Change {name}."
            )
    return None


def shown(value: Any) -> str:
    """The beginning of what a value prints as; some values refuse to, such as integers of thousands of digits."""
    try:
        return f"{reprlib.repr(value):.60}"
    except ValueError:
        return "a value that cannot be printed"


def near(asked: str, names: Iterable[str], most: int = 5) -> list[str]:
    """Names that may have been meant, likeliest first: those that hold what was asked for, then those spelt much like it.

    Args:
        asked: a name that is not among them.
        names: the names there are.
        most: names returned.
    """
    told = list(dict.fromkeys(names))
    spelt = ["".join(name.replace('"', "").split()).casefold() for name in told]
    wanted = "".join(asked.replace('"', "").split()).casefold()
    if not wanted:
        return []
    alike = difflib.get_close_matches(wanted, list(dict.fromkeys(spelt)), n=most)
    rank = {name: place for place, name in enumerate(alike)}
    holds = [i for i, name in enumerate(spelt) if wanted in name]
    close = sorted((i for i, name in enumerate(spelt) if name in rank), key=lambda i: rank[spelt[i]])
    order = dict.fromkeys([*sorted(holds, key=lambda i: len(spelt[i])), *close])
    return [told[i] for i in order][:most]


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value may be of the hinted type; True where that is too costly to find out."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in get_args(hint))
    if hint is None:
        return value is None
    if isinstance(value, (str, bytes)) and origin is not None:
        return False  # no text is meant where a sequence of things is
    if isinstance(value, bool) and hint is not bool:
        return hint in (Any, object)
    if isinstance(value, Sequence) and origin in (Sequence, list):
        return all(_fits(one, get_args(hint)[0]) for one in value[:3])
    kind = {int: numbers.Integral, float: numbers.Real}.get(hint) or origin or hint  # NumPy's are numbers too
    try:
        return isinstance(value, kind)
    except TypeError:
        return True


def require_order(values: Any, name: str) -> None:
    """Refuse a set where the order decides: each process puts its entries in another one.

    Args:
        values: what the user gave.
        name: of the argument.

    Raises:
        InputError: it is a set.
    """
    if isinstance(values, set | frozenset):
        raise InputError(
            f"{name}: got a {type(values).__name__}, whose entries have no order; wanted a list."
        )


def require_unmasked(values: Any, name: str) -> None:
    """Refuse an array that hides some of its entries: what lies behind a mask would be read as if it counted.

    Args:
        values: what the user gave.
        name: of the argument.

    Raises:
        InputError: it is a NumPy masked array with entries that are masked.
    """
    numpy = sys.modules.get("numpy")  # whoever has such an array has loaded it
    if numpy is not None and numpy.ma.is_masked(values):
        n_hidden = int(numpy.ma.getmaskarray(values).sum())
        raise InputError(
            f"{name}: got a masked array that hides {n_hidden:,} of {values.size:,} entries, wanted an array; leave these "
            "tokens out, or fill them (values.filled(…))."
        )


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left: Python's, an accelerator's, or torch's on a CPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
    )


def as_ours(error: Exception) -> ProbekitError:
    """The error of this tree that says what a foreign one means."""
    told = f"{type(error).__name__}: {error}"
    if isinstance(error, ProbekitError):
        return error
    if lacks_memory(error):
        return OutOfMemoryError(
            f"no memory left ({told}); lower max_tokens, max_pairs or twins, or use a larger machine."
        )
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return DiskFullError(
                f"no space left on the device ({error}); free some and run the same command again."
            )
        return StoreError(f"the file system refused ({told}); choose a folder you may read and write.")
    if isinstance(error, ArithmeticError) or type(error).__name__ == "LinAlgError":
        return NumericalError(f"a computation failed ({told}); check the activations for extreme values.")
    return ProbekitError(
        f"unforeseen: {told}. This is a defect of probekit; please report it with the lines above."
    )
