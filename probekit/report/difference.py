"""The test between two runs, in a sentence and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from probekit.evidence.difference import LEVEL
from probekit.report import tables, words

Difference = Mapping[str, Any]
"""One row of the table of `pk.difference`: a layer and rung."""
SIGNIFICANT = 0.05
"""Adjusted p-value up to which a difference counts as shown."""
RUNG_NAMES = {"above_plain": "above plain twins", "above_twins": "above twins, relays removed"}


def difference_in_words(first: str, second: str, rows: Sequence[Difference]) -> str:
    """The test between two runs in one sentence.

    Args:
        first: title of the first run.
        second: title of the other.
        rows: of the table of `pk.difference`, one a layer and rung.
    """
    asked = [row for row in rows if not row["note"]]
    if not asked:
        return f"Between {first} and {second} nothing could be tested: {_plain(rows[0]['note']).rstrip('.')}."
    found = [
        f"{_between(row)} ({words.count(abs(row['difference']))} {'more' if row['difference'] > 0 else 'fewer'} of "
        f"{words.count(row['n_pairs'])} pairs in {first}, 95 % interval {row['low']:+.0f} to {row['high']:+.0f}, "
        f"p = {_p(row['p_holm'])} after Holm’s correction)"
        for row in asked
        if row["p_holm"] <= SIGNIFICANT
    ]
    if not found:
        return (
            f"Between {first} and {second} no difference in the number of pairs beyond the null layers was shown "
            f"({words.plural(len(asked), 'test')}, smallest p = {_p(min(row['p_holm'] for row in asked))} after Holm’s "
            "correction)."
        )
    rest = len(asked) - len(found)
    more = "" if rest == 0 else f"; {words.plural(rest, 'other test')} showed none"
    return f"{first} and {second} differ in the number of pairs beyond their null layers in {words.listed(found)}{more}."


def _between(row: Difference) -> str:
    one, two = row["first_layer"], row["second_layer"]
    where = f"layer {one}" if one == two else f"layer {one} against layer {two}"
    return f"{where}, {RUNG_NAMES[row['rung']]}"


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else "below 0.0001"


def difference_table(
    first: str, second: str, rows: Sequence[Difference], level: float = LEVEL
) -> tables.Table:
    """The test between two runs, one row a layer and rung.

    Args:
        first: title of the first run.
        second: title of the other.
        rows: of the table of `pk.difference`.
        level: share of the null layers' values beyond which a pair counted.
    """

    # one note for all is said above the table, where it need not be scrolled to
    noted = len({row["note"] for row in rows}) > 1

    def cells(row: Difference) -> tuple[str, ...]:
        counts = [
            row[name] for name in ("n_named_first", "n_named_second", "n_computed_first", "n_computed_second")
        ]
        head = (_between(row), words.count(row["n_pairs"]), *(_or_none(n) for n in counts))
        if row["note"]:
            return (*head, *[words.NONE] * 5, *[_plain(row["note"])][: int(noted)])
        return (
            *head, words.count(row["n_first"]), words.count(row["n_second"]),
            f"{row['difference']:+d} ({row['low']:+.0f} to {row['high']:+.0f})",
            _p(row["p"]), _p(row["p_holm"]), *[""][: int(noted)],
        )  # fmt: skip

    columns = (
        "Layer and rung", "Common pairs", f"Named, {first}", f"Named, {second}", f"Computed, {first}",
        f"Computed, {second}", f"Beyond, {first}", f"Beyond, {second}", "Difference (95 %)",
        "p", "p, Holm", *["Note"][: int(noted)],
    )  # fmt: skip
    caption = (
        f"Pairs that both runs tested. Beyond: among the uppermost {100 * level:g} % of the run’s own null layers’ values, "
        "which is what is tested, paired by pair. Counts of computed pairs are not tested."
    )
    return tables.Table(caption, columns, tuple(cells(row) for row in rows), n_text=1)


def _plain(note: str) -> str:
    """Why nothing was tested, without the name of the function that says so."""
    return note.removeprefix("difference: ")


def _or_none(value: Any) -> str:
    return words.NONE if value is None or value is pd.NA else words.count(value)
