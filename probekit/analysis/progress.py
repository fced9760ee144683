"""Progress of the long steps: a bar with a rate when somebody watches, silence when nobody does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from probekit.errors import InputError, ProbekitError
from probekit.storage.contents import HASHING

Report = Callable[[str, int, int], None]
"""Called with (what is running, tokens done, tokens in all); files that are hashed are counted in bytes."""


class Bars:
    """tqdm bars, one a step; usable as a `Report` and as a context that closes the last one."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._what = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Move the bar of `what`, opening it when the step changes."""
        from tqdm.auto import tqdm

        if self._bar is None or what != self._what or done < self._bar.n:
            self.close()
            self._what = what
            unit = "B" if what == HASHING else "tok"
            self._bar = tqdm(
                total=total, desc=what, unit=unit, unit_scale=True, leave=False, dynamic_ncols=True
            )
        self._bar.update(done - self._bar.n)

    def say(self, text: str) -> None:
        """A line above the bars."""
        from tqdm.auto import tqdm

        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """End the open bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Callers:
    """A caller's own function: its exceptions are attributed to the caller."""

    def __init__(self, watch: Callable[[str, int, int], object]) -> None:
        self._watch = watch

    def __call__(self, what: str, done: int, total: int) -> None:
        with _theirs(f"is called with (what is running, done, total), here ({what!r}, {done:,}, {total:,})"):
            self._watch(what, done, total)

    def say(self, text: str) -> None:
        with _theirs("was asked to say a line of text"):
            say(self._watch, text)


@contextmanager
def _theirs(how: str) -> Generator[None]:
    try:
        yield
    except ProbekitError:
        raise
    except Exception as error:
        raise InputError(
            f"progress: the function given raised {type(error).__name__}: {error}. It {how}. "
            "With out= the same call goes on where this one ended."
        ) from error


def say(report: Callable[[str, int, int], object], text: str) -> None:
    """Tell whoever watches, if what reports the progress can also speak (it then has a method `say`)."""
    tell = getattr(report, "say", None)
    if tell is not None:
        tell(text)


def silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


def watched() -> bool:
    """Whether somebody looks at the terminal."""
    return sys.stderr.isatty()


@contextmanager
def watching(watch: Any) -> Generator[Any]:
    """What a caller's `progress=` means: its own function, bars where a terminal watches, or silence."""
    with Bars() as bars:
        seen = watch is None and watched()
        yield _Callers(watch) if callable(watch) else bars if seen else silent
