"""Numbers and words of the report: every claim comes from the summary, and holds when nothing is found.

A count is a count of tested pairs beyond the listed nulls, never a share of some capacity; n²/ln n (Adler
and Shavit, arXiv 2409.15318) is an asymptotic reference with its constant
assumed; a vacuous bound is called vacuous.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from probekit.evidence.summary import RungKey, Summary

RUNGS: tuple[tuple[RungKey, str, str], ...] = (
    (
        "n_tested",
        "Tested",
        "pairs with enough tokens and documents in all four quadrants, in both halves of the text",
    ),
    (
        "n_significant_raw",
        "Significant, raw",
        "an interaction that is not zero; random layers pass this as well",
    ),
    (
        "n_represented",
        "ε-represented",
        "read off to within ¼ in every quadrant on 95 % of documents, computed here or not",
    ),
    (
        "n_beyond_linear",
        "Beyond linear",
        "read better from the neurons than linearly from as many pre-activations, and from the whole input; decides nothing",
    ),
    ("n_above_plain", "Above plain twins", "read better than from random layers that see the same inputs"),
    (
        "n_relayed",
        "Relayed",
        "above plain twins only until what the input already holds of the pair is taken out of both",
    ),
    ("n_above_twins", "Above twins", "read better than from random layers with relays removed on both sides"),
    ("n_computed", "Computed", "and more so than the two concepts' other pairs predict"),
    ("n_superposed", "In superposition", "and spread over neurons that carry other computed pairs too"),
)
"""The rungs of the ladder: key in the layer rows, label, meaning."""

Number = float | int | np.number[Any] | None
"""What may be printed as a number; None for what was not measured."""

NONE = "–"
"""Stands for what was not measured; never 0."""


def count(value: Number) -> str:
    """A whole number with narrow no-break spaces between thousands; a dash for what was not measured."""
    return (
        NONE if missing(value) else f"{round(_real(value)):,}".replace(",", "\u202f").replace("-", "\u2212")
    )


def visible(text: str) -> str:
    """Text on one line, with its line breaks and tabs made visible."""
    return text.replace("\r", "").replace("\n", "↵").replace("\t", "⇥")


def real(value: Number, digits: int = 2) -> str:
    """A real number at fixed digits with a true minus sign; a dash for what was not measured."""
    if missing(value):
        return NONE
    text = f"{_real(value):,.{digits}f}".replace(",", "\u202f").replace("-", "\u2212")
    return text.lstrip("\u2212") if not text.strip("\u22120.") else text


def mean(value: Number) -> str:
    """A mean of counts: one decimal below 100, none above, none for whole numbers."""
    if missing(value):
        return NONE
    whole = abs(_real(value)) >= 100 or math.isclose(_real(value), round(_real(value)), abs_tol=1e-9)
    return count(value) if whole else real(value, 1)


def percent(share: Number, digits: int = 1) -> str:
    """A share as a percentage."""
    return NONE if missing(share) else f"{real(100 * _real(share), digits)}\u202f%"


def probability(value: Number) -> str:
    """A p- or q-value: three decimals, or a power of ten below a thousandth."""
    if missing(value):
        return NONE
    number = _real(value)
    return real(number, 3) if number >= 0.001 or number == 0 else f"{number:.0e}".replace("-", "\u2212")


def span(low: Number, high: Number) -> str:
    """Two ends of an interval of counts."""
    if missing(low) or missing(high):
        return NONE
    return mean(low) if low == high else f"{mean(low)} to {mean(high)}"


def plural(number: float | int | np.number[Any], word: str) -> str:
    """The number with its noun."""
    return f"{count(number)} {word}" if number == 1 else f"{count(number)} {word}s"


def spaced(text: str) -> str:
    """A sentence of the summary with its numbers spelled as in the rest of the report."""
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "\u202f", text)


def listed(parts: Sequence[str]) -> str:
    """Parts joined as in prose."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def excluded(summary: Summary) -> str:
    """How many pairs could not be tested, in one sentence."""
    concepts = summary["concepts"]
    n_out = concepts["n_pairs"] - concepts["n_testable"]
    if n_out == 0:
        return (
            f"All {count(concepts['n_pairs'])} pairs of the {count(concepts['n'])} concepts could be tested."
        )
    share = percent(n_out / concepts["n_pairs"], 1)
    return (
        f"{count(concepts['n'])} concepts make {plural(concepts['n_pairs'], 'pair')}; {count(n_out)} of "
        f"them ({share}) could not be tested on this text and {count(concepts['n_testable'])} could. The "
        "counts of this report speak of testable pairs only and are not extrapolated to the rest."
    )


def sampled(summary: Summary) -> str:
    """Whether the tested pairs are all testable ones, in one sentence; empty when they are."""
    n_testable = summary["concepts"]["n_testable"]
    n_tested = max(row["n_tested"] for row in summary["layers"])
    if n_tested >= n_testable:
        return ""
    rule = str((summary["concepts"].get("choice") or ["uniform"])[0])
    block = summary["concepts"].get("block")
    if rule == "blocks" and block:
        among = (
            f"{count(n_tested)} were carried through: {count(block['n_drawn'])} of their {count(block['n_concepts'])} "
            "concepts were drawn at random, then pairs among these, so that each concept has many "
            f"({percent(block['inclusion'], 1)} inclusion probability)."
        )
        return f"Of {plural(n_testable, 'testable pair')} {among} The counts are counts in the sample."
    how = {
        "stratified": f"{count(n_tested)} were carried through, drawn at random in equal shares from each kind of pair; the "
        "inclusion probability of each stands in its row.",
        "support": f"the {count(n_tested)} whose emptiest quadrant holds the most tokens were carried through.",
    }.get(
        rule,
        f"a uniform sample of {count(n_tested)} was carried through ({percent(n_tested / n_testable, 1)} inclusion "
        "probability).",
    )
    return f"Of {plural(n_testable, 'testable pair')} {how} The counts are counts in the sample."


def spread(values: Iterable[float | int]) -> str:
    """One number, or the smallest and largest of several."""
    seen = sorted(set(values))
    return count(seen[0]) if len(seen) == 1 else f"{count(seen[0])} to {count(seen[-1])}"


def missing(value: Number) -> bool:
    """Whether there is no finite number."""
    return value is None or not math.isfinite(float(value))


def _real(value: Number) -> float:
    assert value is not None
    return float(value)
