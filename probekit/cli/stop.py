"""What a signal does: Ctrl-C and a polite kill end a command with its own code, and with words on how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from typer.core import TyperGroup

HEARD = ("SIGTERM", "SIGHUP")
"""Signals that end a process at once unless somebody listens; a scheduler sends the first before it kills."""


class Terminated(KeyboardInterrupt):
    """One of HEARD: whatever tidies up after Ctrl-C does so after these."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


class Stopped(Exception):  # noqa: N818 - it is no error
    """A command that a signal ended. typer would take a KeyboardInterrupt for itself, and drop code and notes."""

    def __init__(self, stop: KeyboardInterrupt) -> None:
        super().__init__()
        self.code = 128 + int(getattr(stop, "signum", signal.SIGINT))
        """What a shell reports of a process that the signal killed: 130 for Ctrl-C, 143 for SIGTERM."""
        self.notes: list[str] = getattr(stop, "__notes__", ["Run the same command again."])


class Stoppable(TyperGroup):
    """The commands, with a stop told apart from an end."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            Stopped: a signal came.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise Stopped(stop) from stop


@contextmanager
def listening() -> Generator[list[int], None, None]:
    """Raise Terminated where a signal of HEARD comes; those that are ignored (nohup) stay so.

    Yields:
        The signals that came. Compiled code that looks for signals by itself (Ray's) puts a KeyboardInterrupt of its own in
        the place of what was raised.
    """
    numbers = [getattr(signal, name) for name in HEARD if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) == signal.SIG_DFL}
    came: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        raise Terminated(signum)

    for number in before:
        signal.signal(number, stop)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
