"""Waits for the network only so long: a transport's own timeout does not cover the look-up of a name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


def call_with_timeout(seconds: float, call: Callable[[], _Result]) -> _Result:
    """The result of `call`, or TimeoutError.

    Args:
        seconds: how long to wait.
        call: what to do, in a thread of its own that is left behind when the time is up.
    """
    outcome: list[_Result | BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001  carried over to the caller's thread
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer in {seconds:g} s")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
