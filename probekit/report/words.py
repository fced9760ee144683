"""Numbers and sentences of the report: every claim is generated from the summary, and holds when nothing is found.

The wording follows the honest template of the theory notes: a count is a count of tested pairs beyond the listed nulls; n²/ln n is
an asymptotic reference with its constant assumed; a vacuous bound is called vacuous. Nothing here is drawn or stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
    ("n_beyond_input", "Beyond the input", "read better from the neurons than from what enters them"),
    ("n_above_twins", "Above twins", "and read better than from random twins of the layer"),
    ("n_computed", "Computed", "and still so after removing what each of the two concepts brings by itself"),
    ("n_superposed", "In superposition", "and spread over neurons that carry other computed pairs too"),
)
"""The rungs of the ladder: key in the layer rows, label, meaning."""

NONE = "–"
"""Stands for what was not measured; never 0."""


def count(value: float | None) -> str:
    """A whole number with narrow no-break spaces between thousands; a dash for what was not measured."""
    return NONE if _missing(value) else f"{round(_real(value)):,}".replace(",", "\u202f")


def real(value: float | None, digits: int = 2) -> str:
    """A real number at fixed digits with a true minus sign; a dash for what was not measured."""
    if _missing(value):
        return NONE
    text = f"{_real(value):,.{digits}f}".replace(",", "\u202f").replace("-", "\u2212")
    return text.lstrip("\u2212") if not text.strip("\u22120.") else text


def mean(value: float | None) -> str:
    """A mean of counts: one decimal below 100, none above, none for whole numbers."""
    if _missing(value):
        return NONE
    whole = abs(_real(value)) >= 100 or math.isclose(_real(value), round(_real(value)), abs_tol=1e-9)
    return count(value) if whole else real(value, 1)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return NONE if _missing(share) else f"{real(100 * _real(share), digits)}\u202f%"


def probability(value: float | None) -> str:
    """A p- or q-value: three decimals, or a power of ten below a thousandth."""
    if _missing(value):
        return NONE
    number = _real(value)
    return real(number, 3) if number >= 0.001 or number == 0 else f"{number:.0e}".replace("-", "\u2212")


def span(low: float | None, high: float | None) -> str:
    """Two ends of an interval of counts."""
    if _missing(low) or _missing(high):
        return NONE
    return mean(low) if low == high else f"{mean(low)} to {mean(high)}"


def plural(number: int, word: str) -> str:
    """The number with its noun."""
    return f"{count(number)} {word}" if number == 1 else f"{count(number)} {word}s"


def listed(parts: Sequence[str]) -> str:
    """Parts joined as in prose."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def answer(summary: Mapping[str, Any]) -> tuple[str, str, str]:
    """The answer in three sentences: what was asked, what was found, what that says about the capacity limit."""
    return _asked(summary), _found(summary["layers"]), _limit(summary["layers"])


def _asked(summary: Mapping[str, Any]) -> str:
    rows: list[Row] = summary["layers"]
    model = summary["model"]["name"]
    tested = _spread(row["n_tested"] for row in rows)
    neurons = _spread(row["n_neurons"] for row in rows)
    where = (
        f"layer {rows[0]['layer']} of {model} ({neurons} neurons)"
        if len(rows) == 1
        else f"the {len(rows)} MLP layers of {model} ({neurons} neurons each)"
    )
    head = (
        f"We asked how many features of the form “A and B”, true at a token only where two simpler things are both true, "
        f"{where} may be said to compute, and tested {tested} such pairs{'' if len(rows) == 1 else ' in each'}"
    )
    n_twins = rows[0]["n_twins"] or 0
    if n_twins == 0:
        return f"{head}; no random twin of the layer could be made, so nothing below can be called computed."
    return (
        f"{head}, each against {plural(n_twins, 'random twin')} of the layer: copies that see the same text and respond as "
        f"strongly, but whose learned directions have been scrambled."
    )


def _found(rows: Sequence[Row]) -> str:
    if all(row["n_computed"] is None for row in rows):
        return "Whether any pair is computed was not decided in this run, so the counts below describe readability only."
    n_tests = sum(int(row["n_tested"]) for row in rows if row["n_computed"] is not None)
    finds = [row for row in rows if row["n_computed"]]
    if not finds:
        place = "in this layer" if len(rows) == 1 else "in any layer"
        return (
            f"Nothing was found: of {plural(n_tests, 'test')} not one showed a pair that stands out from the twins for itself "
            f"{place}, which does not prove that nothing is computed there, only that nothing was strong enough to be told "
            f"apart from chance and from what its two concepts do alone."
        )
    best = max(finds, key=lambda row: (row["n_computed"], -row["layer"]))
    others = [row for row in finds if row is not best]
    nothing = len(rows) - len(finds)
    text = (
        f"Layer {best['layer']} reads {count(best['n_computed'])} of {plural(best['n_tested'], 'tested pair')} better than its "
        f"twins do, in a way specific to the pair (a twin put in the layer’s place gets "
        f"{mean(_per_twin(best))} on average), {_excess(best)}{_sharing(best)}"
    )
    if others:
        more = listed([f"layer {row['layer']} ({count(row['n_computed'])})" for row in others[:6]])
        text += f"; pairs were also found in {more}" + (
            f" and {len(others) - 6} more layers" if len(others) > 6 else ""
        )
    if nothing:
        text += f"; in {'the other layer' if nothing == 1 and not others else plural(nothing, 'layer')} nothing was found"
    return f"{text}."


def _excess(row: Row) -> str:
    low, high = row["excess_low"], row["excess_high"]
    if _missing(low) or _missing(high):
        return "but too few twins were drawn to give the excess an interval"
    if low <= 0:
        return (
            f"but the interval of the excess, {span(low, high)}, holds zero, so chance has not been excluded"
        )
    return f"an excess of {mean(row['n_excess'])} pairs over chance (interval {span(low, high)})"


def _sharing(row: Row) -> str:
    n_superposed = row["n_superposed"]
    if n_superposed is None:
        return ""
    if n_superposed == 0:
        return ", none of them spread over neurons shared with other pairs"
    return (
        f", {count(n_superposed)} of them spread over neurons that also serve other such pairs, which is what “in superposition” "
        f"means here"
    )


def _limit(rows: Sequence[Row]) -> str:
    binding = [row for row in rows if not row["capacity"]["cannot_bind"]]
    if binding:
        return _bound(
            max(binding, key=lambda row: (row["n_computed"] or 0, -row["layer"])), len(rows) - len(binding)
        )
    row = max(rows, key=lambda row: row["n_tested"])
    capacity = row["capacity"]
    reference = count(capacity["n2_over_ln_n"])
    if capacity["vacuous"]:
        return (
            f"About the published capacity limit, of the order n²/log n for n neurons, this run can say nothing: the layer’s weights "
            f"could hold any choice whatever among {plural(row['n_tested'], 'tested pair')}, so the exact bound is vacuous "
            f"and no count possible here could have exceeded it" + _reference(row, reference)
        )
    return (
        f"About the published capacity limit, of the order n²/log n for n neurons, this run can say nothing: only "
        f"{plural(row['n_tested'], 'pair')} could be tested, fewer than n²/ln n = {reference} (constant 1 assumed), so no count "
        f"possible here could have exceeded it."
    )


def _reference(row: Row, reference: str) -> str:
    if row["n_tested"] < row["capacity"]["n2_over_ln_n"]:
        return f" (nor n²/ln n = {reference}, constant 1 assumed)."
    return f" (n²/ln n would be {reference}, constant 1 assumed)."


def _bound(row: Row, n_unbound: int) -> str:
    capacity = row["capacity"]
    reference = capacity["n2_over_ln_n"]
    found = row["n_computed"]
    if found is None:
        side = "the count is not decided, so it cannot be set against it"
    elif found <= reference:
        side = (
            f"the count of layer {row['layer']} stays below both, which neither confirms nor tests it"
            if (capacity["max_selected"] is None or found <= capacity["max_selected"])
            else f"the count of layer {row['layer']} exceeds the second, {_above()}"
        )
    else:
        side = f"the count of layer {row['layer']} exceeds the first, {_above()}"
    exact = (
        f" and the exact bit bound allows {count(capacity['max_selected'])} freely chosen pairs at "
        f"{mean(capacity['bits_per_param'])} bits a parameter (assumed)"
        if capacity["max_selected"] is not None
        else ""
    )
    rest = (
        f"; in {plural(n_unbound, 'other layer')} no count possible could have exceeded it"
        if n_unbound
        else ""
    )
    return (
        f"The published capacity limit is of the order n²/log n for n neurons: n²/ln n = {count(reference)} with constant 1 "
        f"assumed{exact}; {side}{rest}."
    )


def _above() -> str:
    return "which means a regular set of pairs, false finds or too small a constant, never a refuted theorem"


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
        f"{count(concepts['n'])} concepts make {plural(concepts['n_pairs'], 'pair')}; {count(n_out)} of them ({share}) could not be "
        f"tested on this text and {count(concepts['n_testable'])} could. The counts of this report speak of testable pairs only "
        f"and are not extrapolated to the rest."
    )


def sampled(summary: Mapping[str, Any]) -> str:
    """Whether the tested pairs are all testable ones, in one sentence; empty when they are."""
    n_testable = summary["concepts"]["n_testable"]
    n_tested = max(row["n_tested"] for row in summary["layers"])
    if n_tested >= n_testable:
        return ""
    return (
        f"Of {plural(n_testable, 'testable pair')} a uniform sample of {count(n_tested)} was carried through "
        f"({percent(n_tested / n_testable, 1)} inclusion probability). The counts are counts in the sample."
    )


def _per_twin(row: Row) -> float | None:
    rate = row["twin_rate"]
    return None if _missing(rate) else rate * row["n_tested"]


def _spread(values: Iterable[float]) -> str:
    seen = sorted(set(values))
    return count(seen[0]) if len(seen) == 1 else f"{count(seen[0])} to {count(seen[-1])}"


def _missing(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def _real(value: float | None) -> float:
    assert value is not None
    return float(value)
