"""One pair in language: a sentence, its concepts in words, tokens in four quadrants, its readout against null layers.

The first pair of the one ranking (`evidence.tables.ranked`) in the layer that the headline names, of those that it counts
(finds, or relays where there are only these), pairs of two concepts of one token last; where nothing was found it is the
pair that came nearest, and is called that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from probekit.evidence.summary import LayerRow, Summary
from probekit.evidence.tables import ranked
from probekit.evidence.truth import Truth
from probekit.report import known_answer
from probekit.report.answer import foremost
from probekit.report.in_words import context, describe, neurons_of, sentence
from probekit.report.pair import QUADRANTS, PairDetailLike, pair_figure
from probekit.report.strongest import holds

N_NEURONS = 5
"""Neurons listed on the first screen; the readout may have more."""


def chosen(
    summary: Summary, pairs: Mapping[int, pd.DataFrame], examples: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The example shown on the first screen; None where there is none.

    Args:
        summary: summary.json of the run.
        pairs: layer number → its tested pairs.
        examples: the strongest pairs with their neurons and tokens.
    """
    rows: list[LayerRow] = summary["layers"]
    named = foremost(rows)
    found = [one.layer for one in named]
    relays = bool(named) and named[0].kind == "relayed"
    held = [one for one in examples if one["layer"] in pairs]
    if not held:
        return None
    layer = next((number for number in found if any(one["layer"] == number for one in held)), None)
    among = [pairs[number] for number in ([layer] if layer is not None else sorted(pairs))]
    order = ranked(pd.concat(among, ignore_index=True))
    keys = list(zip(order["layer"].astype(int), order["a"], order["b"], strict=True))
    # what the headline counts first; of two concepts of one token an embedding can hold the AND by itself, so other pairs
    # go before them
    counted = ["relayed"] if relays else ["computed", "above_twins"]
    rank = [
        (not any(map(holds, flags)), str(kind).endswith("same token"), at)
        for at, (*flags, kind) in enumerate(zip(*(order[name] for name in (*counted, "kind")), strict=True))
    ]
    place = dict(zip(keys, rank, strict=True))
    return min(
        (one for one in held if (one["layer"], one["a"], one["b"]) in place),
        key=lambda one: place[one["layer"], one["a"], one["b"]],
        default=None,
    )


def showcase(
    example: Mapping[str, Any],
    pair: Mapping[Any, Any],
    *,
    n_twins: int,
    detail: PairDetailLike | None,
    concepts: pd.DataFrame | None,
    truth: Truth | None,
) -> dict[str, Any]:
    """What the template needs of the pair on the first screen.

    Args:
        example: its neurons and tokens.
        pair: its row of the pair table.
        n_twins: null layers it was set against.
        detail: its readout in the quadrants and its null layers, where the run keeps that.
        concepts: the concepts with their meanings.
        truth: the known answer of a planted model.
    """
    layer = int(example["layer"])
    listed = concepts is not None and len(concepts)
    meanings = (
        dict(zip(concepts["name"], concepts["description"], strict=True))
        if concepts is not None and listed
        else {}
    )
    here = None if detail is None else detail.layers[detail.layers["layer"] == layer].to_dict("records")
    low, high = (here[0]["twin_low"], here[0]["twin_high"]) if here and here[0]["n_twins"] else (None, None)
    find = holds(pair["computed"]) or holds(pair["above_twins"])
    aside = "a relay, " if holds(pair["relayed"]) else ""
    return {
        "a": describe(str(example["a"]), meanings),
        "b": describe(str(example["b"]), meanings),
        "layer": layer,
        "called": known_answer.called(truth, layer, str(example["a"]), str(example["b"])),
        "lead": "The strongest pair" if find else f"The pair that came nearest ({aside}not a find)",
        "sentence": sentence(pair, n_twins=n_twins, low=low, high=high),
        "svg": "" if detail is None or not here else _figure(detail, layer),
        "neurons": neurons(example)[:N_NEURONS],
        "n_more": max(0, len(example["neurons"]) - N_NEURONS),
        # in a planted corpus the tokens around one tell nothing of it
        "quadrants": quadrants(example, alone=truth is not None),
    }


def _figure(detail: PairDetailLike, layer: int) -> str:
    layers, quadrants = (table[table["layer"] == layer] for table in (detail.layers, detail.quadrants))
    twins = detail.twins[detail.twins["layer"] == layer] if len(detail.twins) else detail.twins
    return pair_figure(detail.a, detail.b, layers, quadrants, twins, name="showcase", titled=False)


def neurons(example: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The readout's neurons with their weights and shares of the contrast, largest first."""
    return neurons_of(example["neurons"], example["weights"], example["contributions"])


def quadrants(example: Mapping[str, Any], *, alone: bool = False) -> list[dict[str, Any]]:
    """The highest-reading tokens of each quadrant, in context or alone."""
    return [
        {
            "name": name,
            "key": key,
            "contexts": [_shown(item, alone) for item in example["quadrants"].get(key, [])],
        }
        for key, name in QUADRANTS.items()
    ]


def _shown(item: Mapping[str, Any], alone: bool) -> dict[str, str]:
    told = context(item)
    return {**told, "before": "token ", "after": ""} if alone else told
