"""The tables as text, and README.md between its marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS
from probekit.storage.store import read_json, write_text

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- tables: generated -->", "<!-- end of tables -->"
ORDER = (
    "selection", "end_to_end", "probes", "pair_sums", "gram", "folds", "precision", "harvest", "memory", "scaling",
    "twins", "rates", "gpu",
)  # fmt: skip


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def section(record: dict[str, Any]) -> str:
    """One table with its goals, as markdown."""
    lines = [f"## {record['title']}", "", record["conditions"], ""]
    lines += [
        "| " + " | ".join(record["columns"]) + " |",
        "|" + "|".join("---" for _ in record["columns"]) + "|",
    ]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in record["rows"]]
    if record["goals"]:
        lines += ["", "| goal | wanted | found | |", "|---|---|---|---|"]
        lines += [
            f"| {g['what']} | {'≤' if g['at_most'] else '≥'} {_cell(g['wanted'])} | {_cell(g['found'])} | "
            f"{'reached' if g['met'] else '**not reached**'} |"
            for g in record["goals"]
        ]
    for figure in record["figures"]:
        lines += ["", f"![{record['title']}](results/{figure})"]
    return "\n".join(lines) + "\n"


def write() -> None:
    """Put every kept table into README.md."""
    records = [read_json(RESULTS / f"{name}.json") for name in ORDER if (RESULTS / f"{name}.json").exists()]
    goals = [goal for record in records for goal in record["goals"]]
    missed = [f"{g['what']} ({_cell(g['found'])})" for g in goals if not g["met"]]
    machines = sorted(
        {f"{r['machine']['processor']}, {r['machine']['n_cores']} cores" for r in records if r["machine"]}
    )
    versions = {name: v for record in records for name, v in record["versions"].items()}
    told = ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    head = [
        f"{len(goals) - len(missed)} of {len(goals)} goals reached. Not reached: {'; '.join(missed) or 'none'}.",
        "",
        f"Measured on {'; '.join(machines)}, one thread; {told}.",
        "",
    ]
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    body = "\n".join([*head, *map(section, records)])
    write_text(README, f"{before}{BEGIN}\n\n{body}\n{END}{after}")
