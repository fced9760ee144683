"""A pair in words: its concepts, what is to be made of it, its neurons and tokens, ready for a template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probekit.report import words
from probekit.report.strongest import holds


@dataclass(frozen=True)
class Described:
    """A concept in words."""

    name: str
    """Its name in the tables."""
    meaning: str
    """When it holds; empty where nothing says so."""


def describe(name: str, meanings: Mapping[str, str]) -> Described:
    """A concept with its meaning, where one is known that says more than its name."""
    meaning = meanings.get(name, "")
    return Described(name, "" if meaning == name else words.visible(meaning))


def sentence(
    row: Mapping[Any, Any], *, n_twins: int, low: words.Number = None, high: words.Number = None
) -> str:
    """What is to be made of a pair, in plain words.

    Args:
        row: its row of the pair table.
        n_twins: null layers it was set against.
        low: the smallest d′ of the same pair among them, where known.
        high: the largest.
    """
    ranged = low is not None and high is not None
    return reading(row, n_twins=n_twins, ranged=ranged).format(
        layer=row["layer"], d=words.real(row["d_prime"], 1), low=words.real(low, 1), high=words.real(high, 1)
    )


def reading(row: Mapping[Any, Any], *, n_twins: int, ranged: bool) -> str:
    """The sentence of a pair with its numbers left open as {layer}, {d}, {low} and {high}.

    Args:
        row: its row of the pair table.
        n_twins: null layers it was set against.
        ranged: whether the smallest and largest d′ among them are known.
    """
    beside = " (null layers: {low} to {high})" if ranged else ""
    reads = f"On unseen documents layer {{layer}} tells A-and-B from what A and B add up to with a d′ of {{d}}{beside}"
    if not n_twins:
        return f"{reads}; no null layer was measured, so nothing says whether that is more than an accident."
    if holds(row["computed"]):
        shared = (
            ", and most of its neurons serve other such pairs as well (in superposition)"
            if holds(row["superposed"])
            else ""
        )
        return (
            f"{reads}: more than its null layers, also without what its input already holds of the AND, and more "
            "than the "
            f"other pairs of A and B lead one to expect (pair-specific){shared}."
        )
    if holds(row["above_twins"]):
        return (
            f"{reads}: more than its null layers, also without what its input already holds of the AND, but not more "
            "than the "
            "other pairs of A and B lead one to expect, so it may be a matter of A or of B alone."
        )
    if holds(row["relayed"]):
        return (
            f"{reads}, but without what the layer’s input already holds of the AND it is no better than its null layers "
            "(relayed)."
        )
    return f"{reads}. That is not a find: among so many pairs null layers come as far by accident."


def neurons_of(
    neurons: Sequence[int], weights: Sequence[float], contributions: Sequence[float]
) -> list[dict[str, Any]]:
    """The readout's neurons with their weights and shares of the contrast, as they come."""
    total = sum(abs(value) for value in contributions) or 1.0
    largest = max((abs(value) for value in contributions), default=0.0) or 1.0
    return [
        {
            "neuron": str(neuron),
            "weight": words.real(weight),
            "share": words.percent(value / total, 0),
            "width": f"{100 * abs(value) / largest:.1f}",
            "negative": value < 0,
        }
        for neuron, weight, value in zip(neurons, weights, contributions, strict=True)
    ]


def context(item: Mapping[Any, Any]) -> dict[str, str]:
    """A token with what stands around it."""
    return {
        "before": words.visible(str(item["before"])),
        "token": words.visible(str(item["token"])) or "∅",
        "after": words.visible(str(item["after"])),
        "value": words.real(item["value"]),
    }
