"""The known answer of a planted model, and how a run's pairs compare with it: precision and recall.

Three kinds of pair: planted (the circuit was made to compute its AND), read together (not planted, but some neuron reads
both concepts, so that a part of the AND is there by accident), and all others, of which the circuit computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from probekit.errors import FormatError, InputError

Pair = tuple[str, str]
Kind = Literal["planted", "read together", "other"]
RUNGS = ("above_twins", "computed", "superposed")
"""Columns of the pair table that are held against the answer."""


@dataclass(frozen=True)
class Truth:
    """Which pairs were planted, by layer."""

    planted: Mapping[int, tuple[Pair, ...]]
    """Layer → its planted pairs; their place is the number they are called by (from 1)."""
    read_together: Mapping[int, tuple[Pair, ...]]
    """Layer → pairs that are not planted and whose concepts some neuron reads together."""

    @classmethod
    def of(cls, given: Any) -> Truth:
        """The answer, however it is given.

        Args:
            given: a planted model (`probekit.plant`), a `Truth`, layer → pairs of concept names, or a list of such pairs,
                which are those of layer 0.

        Raises:
            InputError: it is none of these.
        """
        if isinstance(given, Truth):
            return given
        if hasattr(given, "truth_by_layer") and hasattr(given, "shared_by_layer"):
            return cls(
                _by_layer(enumerate(given.truth_by_layer)), _by_layer(enumerate(given.shared_by_layer))
            )
        layers = given if isinstance(given, Mapping) else {0: given}
        return cls(_by_layer(layers.items()), {})

    @classmethod
    def from_record(cls, record: Any) -> Truth | None:
        """The answer as `as_record` wrote it; None where there is none.

        Raises:
            FormatError: it is something else.
        """
        if record is None:
            return None
        try:
            parts = [
                _by_layer((int(layer), pairs) for layer, pairs in record[key].items())
                for key in ("planted", "read_together")
            ]
        except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
            raise FormatError(
                f"run.json: its truth is no list of pairs by layer ({error!r}); start the run afresh with --force."
            ) from error
        return cls(*parts)

    def as_record(self) -> dict[str, dict[str, list[list[str]]]]:
        """The answer as JSON holds it."""
        return {
            "planted": {str(layer): [list(pair) for pair in pairs] for layer, pairs in self.planted.items()},
            "read_together": {
                str(layer): [list(pair) for pair in pairs] for layer, pairs in self.read_together.items()
            },
        }

    def number(self, layer: int, a: str, b: str) -> int | None:
        """The number of a planted pair, from 1; None where it is not planted."""
        for number, pair in enumerate(self.planted.get(layer, ()), 1):
            if set(pair) == {a, b}:
                return number
        return None

    def kinds(self, layer: int, table: pd.DataFrame) -> list[Kind]:
        """What each tested pair of a layer is."""
        planted = {frozenset(pair) for pair in self.planted.get(layer, ())}
        together = {frozenset(pair) for pair in self.read_together.get(layer, ())}
        pairs = (frozenset(pair) for pair in zip(table["a"], table["b"], strict=True))
        return ["planted" if p in planted else "read together" if p in together else "other" for p in pairs]


@dataclass(frozen=True)
class Score:
    """A layer's pairs held against the answer."""

    layer: int
    """Layer index."""
    n_planted: int
    """Pairs planted, tested or not."""
    tested: Mapping[str, int]
    """Kind of pair → how many were tested."""
    found: Mapping[str, Mapping[str, int]]
    """Rung (`above_twins`, `computed`, `superposed`) → kind of pair → how many reached it."""

    def n_found(self, rung: str) -> int:
        """Pairs on a rung, of whatever kind."""
        return sum(self.found[rung].values())

    def precision(self, rung: str) -> float | None:
        """Share of the pairs on a rung that were planted; None where there are none."""
        return self.found[rung]["planted"] / n if (n := self.n_found(rung)) else None

    def recall(self, rung: str) -> float | None:
        """Share of the planted pairs tested that reached a rung; None where none was tested."""
        return self.found[rung]["planted"] / n if (n := self.tested["planted"]) else None


def score(truth: Truth, layer: int, table: pd.DataFrame) -> Score | None:
    """How the tested pairs of a layer compare with the answer; None where nothing was planted in that layer.

    Args:
        truth: the answer.
        layer: layer index.
        table: its tested pairs. A flag that could not be decided counts as not reached.
    """
    planted = truth.planted.get(layer, ())
    if not planted:
        return None
    kinds = pd.Series(truth.kinds(layer, table), index=table.index, dtype=str)
    every: tuple[Kind, ...] = ("planted", "read together", "other")
    reached = {rung: table[rung].astype("boolean").fillna(False).astype(bool) for rung in RUNGS}
    return Score(
        layer,
        len(planted),
        {kind: int((kinds == kind).sum()) for kind in every},
        {
            rung: {kind: int((held & (kinds == kind)).sum()) for kind in every}
            for rung, held in reached.items()
        },
    )


def _by_layer(layers: Iterable[tuple[Any, Any]]) -> dict[int, tuple[Pair, ...]]:
    held: dict[int, tuple[Pair, ...]] = {}
    for layer, pairs in layers:
        if not isinstance(layer, int) or isinstance(pairs, str) or not isinstance(pairs, Iterable):
            raise _unusable(pairs)
        held[layer] = tuple(_pair(pair) for pair in pairs)
    return held


def _pair(pair: Any) -> Pair:
    if (
        not isinstance(pair, tuple | list)
        or len(pair) != 2
        or not all(isinstance(name, str) for name in pair)
    ):
        raise _unusable(pair)
    return str(pair[0]), str(pair[1])


def _unusable(got: Any) -> InputError:
    return InputError(
        f"truth: got {got!r}, wanted a planted model (pk.plant), pairs of concept names such as [('f0', 'f1')], or "
        "such a list "
        "for each layer."
    )
