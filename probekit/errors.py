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
