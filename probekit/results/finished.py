"""What report, export and explorer need of a finished run. `Run` is one, and imports all three."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from probekit.evidence.summary import Summary
from probekit.evidence.truth import Truth
from probekit.report.pair import PairDetailLike


@runtime_checkable
class Finished(Protocol):
    """A finished run."""

    path: Path
    record: dict[str, Any]
    summary: Summary

    @property
    def layers(self) -> pd.DataFrame:
        """One row a layer."""
        ...

    @property
    def concepts(self) -> pd.DataFrame:
        """One row a concept; empty where there are none to list."""
        ...

    def pairs(self, layer: int | None = None) -> pd.DataFrame:
        """One row a tested pair."""
        ...

    @property
    def truth(self) -> Truth | None:
        """The known answer of a planted model."""
        ...

    def pair(self, a: str, b: str, layer: int | None = None) -> PairDetailLike:
        """One pair, in a layer or in all."""
        ...

    def paths(self, layer: int | None = None) -> pd.DataFrame:
        """One row a pair and other k."""
        ...

    def examples(self) -> list[dict[str, Any]]:
        """The strongest pairs with their neurons and tokens."""
        ...
