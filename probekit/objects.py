"""What an object that somebody else wrote is, as a digest: what hangs on it, and the code that makes something of it.

A number, a tensor or a list of either counts with its content, and so does a function: its code, its defaults, what it
closed over and the globals that it names, through as many functions as it takes. Two functions are the same here if they
compute the same way, wherever they were written: in a file, a notebook, or typed into an interpreter. The code of installed
libraries counts by its name alone, since their versions are recorded elsewhere, and so does an object of which nothing is
known but its class.
"""

from __future__ import annotations

import builtins
import dis
import enum
import functools
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from probekit.fingerprint import CannotTellError, of_parts, of_value

_INSTALLED = tuple({str(Path(sysconfig.get_path(name))) for name in ("stdlib", "purelib", "platlib")})
_OURS = str(Path(__file__).parent)
_LIBRARIES = frozenset({"torch", "transformers", "transformer_lens", "accelerate", "peft", "probekit"})
_ON_THE_HEAP = 1 << 9
"""Flag of a class that was made by a class statement (Py_TPFLAGS_HEAPTYPE)."""
_OF_A_CLASS = frozenset(
    {"__module__", "__dict__", "__weakref__", "__doc__", "__firstlineno__", "__static_attributes__"}
)
"""Entries of a class that say where it was written, or are there in every class."""

Whole = Callable[[Any, Callable[[Any], str]], str | None]
"""Digest of an object of a kind that the caller knows better, such as a module; None for any other object. It is given what
digests the object's parts."""


def of_object(value: Any, whole: Whole = lambda value, of: None) -> str:
    """Digest of whatever an attribute holds.

    Args:
        value: anything.
        whole: knows some kinds of object.
    """
    return _Walk(whole).of(value)


def is_foreign(kind: type) -> bool:
    """Whether a class is neither part of Python nor of an installed library: code that nobody records a version of.

    Args:
        kind: the class.
    """
    if kind.__module__ == "builtins":  # what `exec` makes in a bare dictionary says so as well
        return vars(builtins).get(kind.__name__) is not kind and bool(kind.__flags__ & _ON_THE_HEAP)
    return _is_home_of_users(kind.__module__)


def _is_home_of_users(home: str) -> bool:
    top = home.partition(".")[0]
    if top == "__main__":  # whoever started the program, its own module is the user's
        return True
    if top in _LIBRARIES or top in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(home) or sys.modules.get(top), "__file__", None)
    return file is None or not str(file).startswith(_INSTALLED)


def _is_written_here(code: types.CodeType) -> bool:
    """Whether a function's code is the user's; its name says nothing, since wrappers bear that of the wrapped."""
    return not code.co_filename.startswith((*_INSTALLED, _OURS, "<frozen "))


class _Walk:
    """One walk through what hangs together; what holds itself is met once."""

    def __init__(self, whole: Whole) -> None:
        self._whole = whole
        self._done: dict[int, str] = {}
        self._open: dict[int, int] = {}
        self._kept: list[Any] = []

    def of(self, value: Any) -> str:
        if isinstance(value, Mapping | list | tuple | Set) or not _is_plain(value):
            return self._once(value)
        return of_value(value)

    def _once(self, value: Any) -> str:
        key = id(value)
        if key in self._open:
            return of_parts(["within itself", str(len(self._open) - self._open[key])])
        if key not in self._done:
            self._open[key] = len(self._open)
            self._kept.append(value)  # as long as it is kept nothing else has its id
            self._done[key] = of_parts(self._parts(value))
            del self._open[key]
        return self._done[key]

    def _parts(self, value: Any) -> Iterator[str]:
        known = self._whole(value, self.of)
        if known is not None:
            yield known
            return
        match value:
            case Mapping():
                yield f"mapping:{len(value)}"
                yield from sorted(of_parts([self.of(key), self.of(held)]) for key, held in value.items())
            case Set():
                yield f"set:{len(value)}"
                yield from sorted(self.of(held) for held in value)
            case list() | tuple():
                yield f"{type(value).__name__}:{len(value)}"
                yield from (self.of(held) for held in value)
            case types.ModuleType():
                yield f"module:{value.__name__}"
            case type():
                yield from self._class(value)
            case enum.Enum():
                yield f"{type(value).__qualname__}.{value.name}"
            case _:
                called = self._callable(value)
                yield from self._thing(value) if called is None else called

    def _callable(self, value: Any) -> Iterator[str] | None:
        """Parts of what can be called or wraps what can; None for anything else."""
        match value:
            case types.FunctionType():
                return self._function(value)
            case functools.partial():
                return self._named("partial", value.func, value.args, value.keywords)
            case types.MethodType():
                return self._named("method", value.__func__, value.__self__)
            case property():
                return self._named("property", value.fget, value.fset)
            case staticmethod() | classmethod():
                return self._named(type(value).__name__, value.__func__)
            case _:
                return None

    def _named(self, name: str, *parts: Any) -> Iterator[str]:
        yield name
        yield from (self.of(part) for part in parts)

    def _function(self, value: types.FunctionType) -> Iterator[str]:
        yield "function"
        if not _is_written_here(value.__code__):
            yield f"{value.__module__}.{value.__qualname__}"
            return
        yield from self._code(value.__code__)
        yield self.of([value.__defaults__, value.__kwdefaults__])
        yield from (self.of(_in_cell(cell)) for cell in value.__closure__ or ())
        looked_up, every_name = _names(value.__code__)
        for name in (name for name in looked_up if name in value.__globals__):
            held = value.__globals__[name]
            yield f"{name} {self.of(held)}"
            if isinstance(held, types.ModuleType) and _is_home_of_users(held.__name__):
                yield from (f"{name}.{at} {self.of(vars(held)[at])}" for at in every_name if at in vars(held))

    def _code(self, code: types.CodeType) -> Iterator[str]:
        yield code.co_code.hex()
        yield of_value([code.co_names, code.co_varnames, code.co_freevars, code.co_flags])
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                yield from self._code(constant)
            else:
                yield self.of(constant)

    def _class(self, value: type) -> Iterator[str]:
        for base in value.__mro__:
            yield f"class:{base.__qualname__}"
            if is_foreign(base):
                mine = {name: held for name, held in vars(base).items() if name not in _OF_A_CLASS}
                yield from (f"{name} {self.of(mine[name])}" for name in sorted(mine))

    def _thing(self, value: Any) -> Iterator[str]:
        try:
            yield of_value(value)
        except CannotTellError:
            kind = type(value)
            yield f"{kind.__module__}.{kind.__qualname__}"
            if is_foreign(kind):
                yield self.of(kind)
                yield self.of(getattr(value, "__dict__", {}))
            elif callable(value) or kind.__module__ == "torch":  # a built-in function, a dtype
                yield str(
                    getattr(value, "__qualname__", None) or (value if kind.__module__ == "torch" else "")
                )


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | bytes)


def _in_cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _names(code: types.CodeType) -> tuple[list[str], list[str]]:
    """Globals that a function and those written inside it look up; these and the attributes they read. Each once."""
    looked_up = [
        str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    ]
    names = list(code.co_names)
    for inner in (constant for constant in code.co_consts if isinstance(constant, types.CodeType)):
        more, every = _names(inner)
        looked_up += more
        names += every
    return list(dict.fromkeys(looked_up)), list(dict.fromkeys(names))
