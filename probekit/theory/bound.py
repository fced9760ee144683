"""The value type of every bound: a number, whether it limits anything, and what it takes for granted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """One number from a theorem or a counting argument; `float(bound)` is its value."""

    value: float
    """The number itself."""
    vacuous: bool
    """True when the argument rules nothing out at these parameters; `value` is then the trivial limit."""
    assumptions: tuple[str, ...]
    """What has to hold, and which constants were assumed, for the number to mean what its function says."""

    def __repr__(self) -> str:
        """The number, whether it limits anything, and what it assumes."""
        vacuous = ", vacuous" if self.vacuous else ""
        return f"Bound({self.value:,.6g}{vacuous}; {', '.join(self.assumptions) or 'no assumptions'})"

    def __float__(self) -> float:
        """The bare number."""
        return self.value
