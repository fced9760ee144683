"""A planted model's known answer in words and numbers: precision, recall, and pairs called by what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from probekit.evidence.truth import Score, Truth, score
from probekit.report import words
from probekit.report.tables import Table

_RUNGS = {"above_twins": "Above null layers", "computed": "Pair-specific", "superposed": "In superposition"}


def scores(truth: Truth | None, pairs: Mapping[int, pd.DataFrame]) -> list[Score]:
    """Every layer in which something was planted, held against the answer."""
    if truth is None:
        return []
    found = (score(truth, layer, table) for layer, table in sorted(pairs.items()))
    return [one for one in found if one is not None]


def sentence(one: Score) -> str:
    """How a layer's finds compare with what was planted, in a sentence."""
    rung = "above_twins"
    hit, tested, n_found = one.found[rung]["planted"], one.tested["planted"], one.n_found(rung)
    said = (
        f"The answer is known: {words.count(hit)} of {words.plural(tested, 'planted pair')} tested stand above the null "
        f"layers (recall {words.percent(one.recall(rung), 0)})"
    )
    if not n_found:
        return f"{said}, and nothing else does."
    own = one.found["computed"]["planted"], one.found["superposed"]["planted"]
    said += f", {words.count(own[0])} of them pair-specific and {words.count(own[1])} in superposition"
    others = [
        f"{words.count(one.found[rung][kind])} of {words.count(one.tested[kind])} {called}"
        for kind, called in (
            ("read together", "pairs that some neuron reads together by accident"),
            ("other", "pairs that none does"),
        )
        if one.tested[kind]
    ]
    rest = f"; besides them stand {words.listed(others)}" if others else "; no other pair was testable"
    return f"{said}{rest} (precision {words.percent(one.precision(rung), 0)})."


def table(found: Sequence[Score]) -> Table:
    """Precision and recall on three rungs, layer by layer."""
    return Table(
        "Finds held against what was planted. Recall: share of the planted pairs tested that reach the rung; "
        "precision: "
        "share of the pairs on the rung that were planted. Pairs read together are no plain errors: some neuron does "
        "meet both concepts.",
        ("Layer", "Rung", "Recall", "Precision", "Planted", "Read together", "Other"),
        tuple(
            (
                str(one.layer),
                label,
                words.percent(one.recall(rung), 0),
                words.percent(one.precision(rung), 0),
                *(
                    f"{words.count(one.found[rung][kind])} of {words.count(one.tested[kind])}"
                    for kind in ("planted", "read together", "other")
                ),
            )
            for one in found
            for rung, label in _RUNGS.items()
        ),
        n_text=2,
    )


def called(truth: Truth | None, layer: int, a: str, b: str) -> str:
    """What a pair is by the known answer, such as "planted AND no. 7"; empty where no answer is known."""
    if truth is None or not truth.planted.get(layer):
        return ""
    number = truth.number(layer, a, b)
    if number is not None:
        return f"planted AND no. {number}"
    kinds = truth.kinds(layer, pd.DataFrame({"a": [a], "b": [b]}))
    return "not planted, read together" if kinds == ["read together"] else "not planted"
