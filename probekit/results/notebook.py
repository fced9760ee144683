"""A run as a notebook shows it: the ladder as a small table, and what it says in a sentence a layer."""

from __future__ import annotations

import html

from probekit.evidence.summary import LayerRow, Summary
from probekit.report import words

_LEFT = "style='text-align:left'"


def run_html(summary: Summary, path: str) -> str:
    """The run as HTML.

    Args:
        summary: its summary.json.
        path: where it lies.
    """
    heads = "".join(f"<th>{html.escape(label)}</th>" for _, label, _ in words.RUNGS)
    rows = "".join(_row(row) for row in summary["layers"])
    said = "".join(
        f"<li>Layer {row['layer']}: {html.escape(str(row['statement']))}</li>" for row in summary["layers"]
    )
    notes = "".join(f"<p>{html.escape(str(note))}</p>" for note in summary["notes"])
    title = f"{summary['model']['name']}: pairs on every rung (twins’ mean in brackets)"
    return (
        f"<div><table><caption {_LEFT}>{html.escape(title)}</caption>"
        f"<thead><tr><th>Layer</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        f"<ul>{said}</ul>{notes}<p><small>{html.escape(path)}</small></p></div>"
    )


def _row(row: LayerRow) -> str:
    cells: list[str] = []
    for key, _, _ in words.RUNGS:
        twins = (row["twins"] or {}).get(key)
        beside = f" ({words.mean(twins['mean'])})" if twins else ""
        cells.append(f"<td>{html.escape(words.count(row[key]) + beside)}</td>")
    return f"<tr><th>{row['layer']}</th>{''.join(cells)}</tr>"
