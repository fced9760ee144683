"""One pair in language: a sentence, its concepts in words, tokens in four quadrants, its readout against null layers.

The first pair of the one ranking (`evidence.tables.ranked`) in the layer that the headline names; where nothing was found
it is the pair that came nearest, and is called that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probekit.evidence.tables import ranked
from probekit.evidence.truth import Truth
from probekit.report import known_answer, words
from probekit.report.answer import finds
from probekit.report.pair import Look, pair_figure
from probekit.report.strongest import holds

QUADRANTS = (("11", "A and B"), ("10", "A without B"), ("01", "B without A"), ("00", "neither"))
N_NEURONS = 5
"""Neurons listed on the first screen; the readout may have more."""


@dataclass(frozen=True)
class Described:
    """A concept in words."""

    name: str
    """Its name in the tables."""
    meaning: str
    """When it holds; empty where nothing says so."""


def chosen(
    summary: Mapping[str, Any], pairs: Mapping[int, pd.DataFrame], examples: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The example shown on the first screen; None where there is none.

    Args:
        summary: summary.json of the run.
        pairs: layer number → its tested pairs.
        examples: the strongest pairs with their neurons and tokens.
    """
    rows: list[words.Row] = summary["layers"]
    found = [one.layer for one in finds(rows)]
    held = [one for one in examples if one["layer"] in pairs]
    if not held:
        return None
    layer = next((number for number in found if any(one["layer"] == number for one in held)), None)
    among = [pairs[number] for number in ([layer] if layer is not None else sorted(pairs))]
    order = ranked(pd.concat(among, ignore_index=True))
    keys = list(zip(order["layer"].astype(int), order["a"], order["b"], strict=True))
    place = {key: at for at, key in enumerate(keys)}
    return min(
        (one for one in held if (one["layer"], one["a"], one["b"]) in place),
        key=lambda one: place[one["layer"], one["a"], one["b"]],
        default=None,
    )


def describe(name: str, concepts: pd.DataFrame | None) -> Described:
    """A concept with its meaning, as the table of concepts tells it."""
    if concepts is None or concepts.empty:
        return Described(name, "")
    match = concepts[concepts["name"] == name]
    meaning = "" if match.empty else str(match["description"].iloc[0])
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
    layer, d = row["layer"], words.real(row["d_prime"], 1)
    beside = (
        f" (null layers: {words.real(low, 1)} to {words.real(high, 1)})"
        if low is not None and high is not None
        else ""
    )
    reads = f"On unseen documents layer {layer} tells A-and-B from what A and B add up to with a d′ of {d}{beside}"
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
            f"{reads}, but the AND lies in the layer’s input already: without that part it is no better than its "
            "null layers "
            "(relayed)."
        )
    return (
        f"{reads}. That is not a find: null layers do about as well, or too often as well to be told apart."
    )


def showcase(
    example: Mapping[str, Any],
    pair: Mapping[Any, Any],
    *,
    n_twins: int,
    look: Look | None,
    concepts: pd.DataFrame | None,
    truth: Truth | None,
) -> dict[str, Any]:
    """What the template needs of the pair on the first screen.

    Args:
        example: its neurons and tokens.
        pair: its row of the pair table.
        n_twins: null layers it was set against.
        look: its readout in the quadrants and its null layers, where the run keeps that.
        concepts: the concepts with their meanings.
        truth: the known answer of a planted model.
    """
    layer = int(example["layer"])
    here = None if look is None else look.layers[look.layers["layer"] == layer].to_dict("records")
    low, high = (here[0]["twin_low"], here[0]["twin_high"]) if here and here[0]["n_twins"] else (None, None)
    find = holds(pair["computed"]) or holds(pair["above_twins"])
    return {
        "a": describe(str(example["a"]), concepts),
        "b": describe(str(example["b"]), concepts),
        "layer": layer,
        "called": known_answer.called(truth, layer, str(example["a"]), str(example["b"])),
        "lead": "The strongest pair" if find else "The pair that came nearest (not a find)",
        "sentence": sentence(pair, n_twins=n_twins, low=low, high=high),
        "svg": "" if look is None or not here else _figure(look, layer),
        "neurons": neurons(example)[:N_NEURONS],
        "n_more": max(0, len(example["neurons"]) - N_NEURONS),
        "quadrants": quadrants(example),
    }


def _figure(look: Look, layer: int) -> str:
    parts = [table[table["layer"] == layer] for table in (look.layers, look.quadrants)]
    twins = look.twins[look.twins["layer"] == layer] if len(look.twins) else look.twins
    return pair_figure(look.a, look.b, *parts, twins, name="showcase", titled=False)


def neurons(example: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The readout's neurons with their weights and shares of the contrast, largest first."""
    total = sum(abs(value) for value in example["contributions"]) or 1.0
    largest = max((abs(value) for value in example["contributions"]), default=0.0) or 1.0
    return [
        {
            "neuron": str(neuron),
            "weight": words.real(weight),
            "share": words.percent(value / total, 0),
            "width": f"{100 * abs(value) / largest:.1f}",
            "negative": value < 0,
        }
        for neuron, weight, value in zip(
            example["neurons"], example["weights"], example["contributions"], strict=True
        )
    ]


def quadrants(example: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The highest-reading tokens of each quadrant, in context."""
    return [
        {"name": name, "key": key, "contexts": [context(item) for item in example["quadrants"].get(key, [])]}
        for key, name in QUADRANTS
    ]


def context(item: Mapping[str, Any]) -> dict[str, str]:
    """A token with what stands around it."""
    return {
        "before": words.visible(str(item["before"])),
        "token": words.visible(str(item["token"])) or "∅",
        "after": words.visible(str(item["after"])),
        "value": words.real(item["value"]),
    }
