"""Numbers and sentences of the report: every claim comes from the summary, and holds when nothing is found.

A count is a count of tested pairs beyond the listed nulls, never a share of some capacity; n²/ln n (Adler
and Shavit, arXiv 2409.15318) is an asymptotic reference with its constant
assumed; a vacuous bound is called vacuous.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]
"""One entry of `summary["layers"]`."""

RUNGS: tuple[tuple[str, str, str], ...] = (
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
        NONE if _missing(value) else f"{round(_real(value)):,}".replace(",", "\u202f").replace("-", "\u2212")
    )


def visible(text: str) -> str:
    """Text on one line, with its line breaks and tabs made visible."""
    return text.replace("\r", "").replace("\n", "↵").replace("\t", "⇥")


def real(value: Number, digits: int = 2) -> str:
    """A real number at fixed digits with a true minus sign; a dash for what was not measured."""
    if _missing(value):
        return NONE
    text = f"{_real(value):,.{digits}f}".replace(",", "\u202f").replace("-", "\u2212")
    return text.lstrip("\u2212") if not text.strip("\u22120.") else text


def mean(value: Number) -> str:
    """A mean of counts: one decimal below 100, none above, none for whole numbers."""
    if _missing(value):
        return NONE
    whole = abs(_real(value)) >= 100 or math.isclose(_real(value), round(_real(value)), abs_tol=1e-9)
    return count(value) if whole else real(value, 1)


def percent(share: Number, digits: int = 1) -> str:
    """A share as a percentage."""
    return NONE if _missing(share) else f"{real(100 * _real(share), digits)}\u202f%"


def probability(value: Number) -> str:
    """A p- or q-value: three decimals, or a power of ten below a thousandth."""
    if _missing(value):
        return NONE
    number = _real(value)
    return real(number, 3) if number >= 0.001 or number == 0 else f"{number:.0e}".replace("-", "\u2212")


def span(low: Number, high: Number) -> str:
    """Two ends of an interval of counts."""
    if _missing(low) or _missing(high):
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


def answer(summary: Mapping[str, Any]) -> tuple[str, str, str]:
    """The answer in three sentences: what was asked, what was found, what it says of the capacity limit."""
    return _asked(summary), _found(summary["layers"]), _limit(summary["layers"])


def _asked(summary: Mapping[str, Any]) -> str:
    rows: list[Row] = summary["layers"]
    model = summary["model"]["name"]
    tested = _spread(row["n_tested"] for row in rows)
    neurons = _spread(row["n_neurons"] for row in rows)
    n_layers = summary["model"]["n_layers"]
    if len(rows) == 1:
        where = f"layer {rows[0]['layer']} of {model} ({neurons} neurons)"
    else:
        all_or_some = f"the {len(rows)}" if len(rows) == n_layers else f"{len(rows)} of the {n_layers}"
        where = f"{all_or_some} MLP layers of {model} ({neurons} neurons each)"
    head = (
        "We asked how many features of the form “A and B”, true at a token only where two simpler things "
        f"are both true, {where} may be said to compute, and tested {tested} such "
        f"pairs{'' if len(rows) == 1 else ' in each'}"
    )
    n_twins = rows[0]["n_twins"] or 0
    if n_twins == 0:
        return f"{head}; no random twin of the layer was measured, so nothing below can be called computed."
    return (
        f"{head}, each against {plural(n_twins, 'random twin')} of the layer: copies that see the same text "
        "and respond as strongly, but whose learned directions have been scrambled."
    )


def finds(rows: Sequence[Row]) -> list[Row]:
    """Layers whose computed pairs are more than their twins may give: the excess interval lies above zero."""
    return [
        row for row in rows if row["n_computed"] and not _missing(row["excess_low"]) and row["excess_low"] > 0
    ]


def _found(rows: Sequence[Row]) -> str:
    if all(row["n_computed"] is None for row in rows):
        return (
            "Whether any pair is computed was not decided in this run: the counts speak of readability only."
        )
    passed = [row for row in rows if row["n_computed"]]
    shown = finds(rows)
    if not passed:
        return _nothing(rows)
    if not shown:
        return _doubtful(passed, len(rows))
    best = max(shown, key=lambda row: (row["n_computed"], -row["layer"]))
    others = [row for row in shown if row is not best]
    weak = [row for row in passed if row not in shown]
    text = (
        f"Layer {best['layer']} reads {count(best['n_computed'])} of "
        f"{plural(best['n_tested'], 'tested pair')} better than its twins do and in a way specific to the "
        f"pair, {mean(best['n_excess'])} more than a twin put in its place gets on average (95 % interval "
        f"{span(best['excess_low'], best['excess_high'])}){_sharing(best)}"
    )
    if others:
        text += f"; {_named(others)} {'does' if len(others) == 1 else 'do'} so too"
    if weak:
        text += f"; the passes in {_named(weak)} are no more than twins may give"
    n_none = len(rows) - len(passed)
    if n_none:
        text += f"; nothing was found in the other {'layer' if n_none == 1 else plural(n_none, 'layer')}"
    return f"{text}."


def _nothing(rows: Sequence[Row]) -> str:
    n_tests = sum(int(row["n_tested"]) for row in rows if row["n_computed"] is not None)
    where = "" if len(rows) == 1 else " over all layers"
    return (
        f"Nothing was found: in {plural(n_tests, 'test')}{where} no pair stood out from the "
        "twins in a way specific to it, which does not prove that nothing is computed, only that nothing "
        f"was strong enough to be told apart from chance and from what the two concepts do singly{_power(rows)}."
    )


def _power(rows: Sequence[Row]) -> str:
    """What a zero is worth: how large the ANDs that were added for comparison had to be; empty where none were."""
    held = [row for row in rows if row.get("sensitivity")]
    if not held:
        return ""
    reached = [row["sensitivity"]["computed_at"]["0.5"] for row in held]
    n_blind = sum(size is None for size in reached)
    sizes = [size for size in reached if size is not None]
    if n_blind == 0:
        return (
            f"; of known ANDs added for comparison half were found from a size of {real(max(sizes), 1)} standard "
            "deviations of a neuron on"
        )
    largest = max(point["amplitude"] for row in held for point in row["sensitivity"]["curve"])
    where = "" if n_blind == len(rows) else f" in {n_blind} of the {len(rows)} layers"
    return (
        f"; this zero says little{where}, because of known ANDs added for comparison not even half were found at "
        f"the largest size tried, {real(largest, 1)} standard deviations of a neuron"
    )


def _doubtful(passed: Sequence[Row], n_layers: int) -> str:
    row = max(passed, key=lambda row: (row["n_computed"], -row["layer"]))
    if _missing(row["excess_low"]) or _missing(row["excess_high"]):
        doubt = "too few twins were drawn to say how many of them are chance"
    else:
        doubt = (
            f"a twin put in its place gets {mean(_per_twin(row))} on average and the interval of the excess, "
            f"{span(row['excess_low'], row['excess_high'])}, holds zero"
        )
    rest = f"; {_named([other for other in passed if other is not row])} likewise" if len(passed) > 1 else ""
    none = (
        f"; the other {plural(n_layers - len(passed), 'layer')} passed none" if n_layers > len(passed) else ""
    )
    return (
        f"Nothing was found beyond what chance may give: layer {row['layer']} has "
        f"{plural(row['n_computed'], 'pair')} of {count(row['n_tested'])} that passed every test, but "
        f"{doubt}{rest}{none}."
    )


def _named(rows: Sequence[Row]) -> str:
    """Layers with their counts, the first six by name."""
    parts = [f"layer {row['layer']} ({count(row['n_computed'])})" for row in rows[:6]]
    more = [f"{len(rows) - 6} more"] if len(rows) > 6 else []
    return listed([*parts, *more])


def _sharing(row: Row) -> str:
    n_superposed = row["n_superposed"]
    if n_superposed is None:
        return ""
    if n_superposed == 0:
        return "; none of them is spread over neurons that serve other such pairs too"
    who = (
        "it is" if row["n_computed"] == 1 else f"{count(n_superposed)} of the {count(row['n_computed'])} are"
    )
    return f"; {who} spread over neurons that serve other such pairs too, here called “in superposition”"


def _limit(rows: Sequence[Row]) -> str:
    binding = [row for row in rows if not row["capacity"]["cannot_bind"]]
    if binding:
        return _bound(
            max(binding, key=lambda row: (row["n_computed"] or 0, -row["layer"])), len(rows) - len(binding)
        )
    row = max(rows, key=lambda row: row["n_tested"])
    capacity = row["capacity"]
    tested, reference = plural(row["n_tested"], "tested pair"), count(capacity["n2_over_ln_n"])
    if capacity["vacuous"]:
        few = row["n_tested"] < capacity["n2_over_ln_n"]
        reason = (
            f"a layer’s weights have room to single out any selection whatever from {tested}, so the exact "
            "bound excludes nothing (it is vacuous), and no count possible here could have exceeded it"
            f"{' or' if few else '; for scale,'} n²/ln n = {reference} (constant 1 assumed)"
        )
    else:
        reason = (
            f"with only {tested}, fewer than n²/ln n = {reference} (constant 1 assumed), no count possible "
            "here could have exceeded it"
        )
    return f"{_THEORY}, and this run cannot put that to the test: {reason}."


_THEORY = "Theory puts the most such features that n neurons can compute at the order of n²/log n"


def _bound(row: Row, n_unbound: int) -> str:
    capacity = row["capacity"]
    reference, exact = capacity["n2_over_ln_n"], capacity["max_selected"]
    rest = (
        f"; in {plural(n_unbound, 'other layer')} no count possible could have exceeded it"
        if n_unbound
        else ""
    )
    bits = f"{mean(capacity['bits_per_param'])} bits a weight (assumed)"
    room = "" if exact is None else f", and the exact bound allows {count(exact)} at {bits}"
    return f"{_THEORY}: n²/ln n = {count(reference)} with constant 1 assumed{room}; {_side(row)}{rest}."


def _side(row: Row) -> str:
    """On which side of the references the count of a layer lies, and what that does not mean."""
    found, exact = row["n_computed"], row["capacity"]["max_selected"]
    if found is None:
        return "no count was decided that could be set against it"
    over = [
        name
        for name, value in (("n²/ln n", row["capacity"]["n2_over_ln_n"]), ("the exact bound", exact))
        if value is not None and found > value
    ]
    if over:
        return (
            f"the count of layer {row['layer']}, {count(found)}, exceeds {listed(over)}, which would mean a "
            "regular set of pairs, false finds or too small a constant, never a refuted theorem"
        )
    return f"the count of layer {row['layer']}, {count(found)}, lies below, which leaves the limit untested"


def excluded(summary: Mapping[str, Any]) -> str:
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


def sampled(summary: Mapping[str, Any]) -> str:
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


def _per_twin(row: Row) -> Number:
    rate = row["twin_rate"]
    return None if _missing(rate) else rate * row["n_tested"]


def _spread(values: Iterable[float | int]) -> str:
    seen = sorted(set(values))
    return count(seen[0]) if len(seen) == 1 else f"{count(seen[0])} to {count(seen[-1])}"


def _missing(value: Number) -> bool:
    return value is None or not math.isfinite(float(value))


def _real(value: Number) -> float:
    assert value is not None
    return float(value)
