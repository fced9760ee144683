"""An audit of claims as a page: what was claimed, the verdict on each, and what the verdict rests on.

Names come from a user and a text and may hold anything: the template escapes every string. Same input, same bytes.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from probekit.report import words
from probekit.report.environment import environment
from probekit.report.tables import Table


@runtime_checkable
class Shown(Protocol):
    """What a page shows of an audit."""

    @property
    def table(self) -> pd.DataFrame:
        """One row a claim."""
        ...

    @property
    def summary(self) -> dict[str, Any]:
        """Model, layer, text, sizes."""
        ...

    @property
    def counts(self) -> dict[str, int]:
        """Claims of each verdict."""
        ...


def answer(audit: Shown) -> tuple[str, str, str]:
    """The answer in three sentences: what was asked, what was found, what it does not say."""
    summary, counts = audit.summary, audit.counts
    n = summary["n_claims"]
    asked = (
        f"Whether {words.plural(n, summary['kind'])} claimed of layer {summary['layer']} of {summary['model']} "
        f"{'is' if n == 1 else 'are'} made there, relayed, or no more than null layers show."
    )
    found = (
        f"Made here: {words.count(counts['made here'])}. Relayed: {words.count(counts['relayed'])}. Not above null layers: "
        f"{words.count(counts['not above its null layers'])}."
    )
    return asked, found, (
        f"A claim is judged by the one pair of {words.count(summary['n_pairs'])} that describes it best; what it holds "
        "beyond pairs of these concepts is not seen, and “not above” does not say that nothing is there."
    )  # fmt: skip


def claims_table(audit: Shown) -> Table:
    """Every claim as text, strongest first."""
    shown = audit.table.assign(order=audit.table["verdict"].map({"made here": 0, "relayed": 1}).fillna(2))
    shown = shown.sort_values(["order", "p_removed", "p_plain"], kind="stable")
    return Table(
        "Every claim. d′ is the claim’s interaction at the pair that describes it, held out; beside it the mean of its null "
        "layers; below the excess with its 95 % interval.",
        (
            "Claim", "Verdict", "Described by", "n11", "Linear in the input", "d′ / null layers", "Relays removed",
            "p plain", "p removed", "p random", "The pair itself",
        ),
        tuple(
            (
                words.visible(str(row["claim"])), str(row["verdict"]), words.visible(f"{row['a']} ∧ {row['b']}"),
                words.count(row["n11"]), words.percent(row["input_share"], 0),
                _with_excess(row),
                f"{words.real(row['d_prime_removed'])} / {words.real(row['d_prime_removed_null'])}",
                words.probability(row["p_plain"]), words.probability(row["p_removed"]),
                words.probability(row["p_random"]), _about_pair(row),
            )
            for row in shown.to_dict("records")
        ),
        n_text=3,
    )  # fmt: skip


def _with_excess(row: Mapping[Any, Any]) -> str:
    span = f"{words.real(row['excess_low'])} to {words.real(row['excess_high'])}"
    return f"{words.real(row['d_prime'])} / {words.real(row['d_prime_null'])}\n{words.real(row['excess'])} ({span})"


def _about_pair(row: Mapping[Any, Any]) -> str:
    if row["pair_computed"]:
        return "computed"
    if row["pair_above_removed"] and row["pair_above_plain"]:
        return "above null layers"
    return "above plain null layers only" if row["pair_above_plain"] else "not above"


def render_audit(audit: Shown) -> str:
    """The page as one HTML text."""
    summary = audit.summary
    return (
        environment()
        .get_template("claims.html")
        .render(
            title=f"Audit of layer {summary['layer']} of {summary['model']}",
            subtitle=f"text: {summary['corpus']}, {words.count(summary['n_tokens'])} tokens · "
            f"{words.plural(summary['n_twins'], 'null layer')} · level {summary['q']:g}",
            answer=list(zip(("Asked", "Found", "The limit"), answer(audit), strict=True)),
            table=claims_table(audit),
            kind=summary["kind"],
        )
    )


def summary_html(audit: Shown) -> str:
    """What a notebook shows: the answer and the table."""
    shown = audit.table.to_html(index=False, float_format=lambda value: f"{value:.3g}")
    return f"<p>{html.escape(answer(audit)[1])}</p>{shown}"
