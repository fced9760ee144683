"""Parameter checks shared by the bounds and the circuits: one sentence an error, naming the parameter."""

from __future__ import annotations

import math

import numpy as np

from probekit.errors import InputError, shown

Number = int | float | np.integer | np.floating
"""What a caller may pass where a number is wanted."""


def as_number(name: str, value: object) -> Number:
    """`value` itself.

    Raises:
        InputError: it is not a number, or an integer too large for a float.
    """
    if not isinstance(value, Number):
        raise InputError(
            f"{name}: got {shown(value)} ({type(value).__name__}), wanted a number. Change {name}."
        )
    try:
        float(value)
    except OverflowError:
        raise InputError(
            f"{name}: got an integer beyond 1.8e308, wanted a smaller one. Change {name}."
        ) from None
    return value


def as_count(name: str, value: Number, *, at_least: int = 1, at_most: int | None = None) -> int:
    """`value` as an int.

    Raises:
        InputError: it is not a whole number, or out of range.
    """
    whole = math.isfinite(as_number(name, value)) and int(value) == value
    if not whole or isinstance(value, bool):
        raise InputError(
            f"{name}: got {value!r}, wanted a whole number of at least {at_least}. Round it first."
        )
    if value < at_least or (at_most is not None and value > at_most):
        wanted = f"at least {at_least}" if at_most is None else f"between {at_least} and {at_most:,}"
        raise InputError(f"{name}: got {value}, wanted {wanted}. Change {name}.")
    return int(value)


def as_positive(name: str, value: Number) -> float:
    """`value` as a float above zero.

    Raises:
        InputError: it is not finite or not positive.
    """
    if not (math.isfinite(as_number(name, value)) and value > 0):
        raise InputError(f"{name}: got {value!r}, wanted a finite number above 0. Change {name}.")
    return float(value)


def as_fraction(name: str, value: Number, *, below: float = 1.0) -> float:
    """`value` as a float in [0, below).

    Raises:
        InputError: it lies outside.
    """
    if not 0 <= as_number(name, value) < below:
        raise InputError(f"{name}: got {value!r}, wanted a number in [0, {below:g}). Change {name}.")
    return float(value)


def as_probability(name: str, value: Number) -> float:
    """`value` as a float strictly between 0 and 1.

    Raises:
        InputError: it lies outside.
    """
    if not 0 < as_number(name, value) < 1:
        raise InputError(f"{name}: got {value!r}, wanted a number strictly between 0 and 1. Change {name}.")
    return float(value)
