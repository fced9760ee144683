"""`probekit runs` and `probekit compare`: which runs there are, and whether some of them differ."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import probekit.cli.options as options
from probekit.cli.terminal import in_bytes, print_json
from probekit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look; a run directory itself will do.")] = Path(),
    depth: Annotated[int, typer.Option(help="Levels of folders searched below it.")] = 3,
    json_: options.Json = False,
) -> None:
    """List the runs in a folder: complete, unfinished (and how far), damaged, or of another format.

    Only records and sizes of files are looked at; probekit verify reads every byte of one run.

    Example: probekit runs runs
    """
    from probekit.results.listing import runs as list_runs

    table = list_runs(folder, depth=depth)
    if json_:
        text = table.to_json(orient="records", force_ascii=False, indent=1, date_format="iso")
        sys.stdout.write(text + "\n")
        return
    if table.empty:
        typer.echo(
            f"No run directory in {folder}, {depth} levels deep. probekit analyze MODEL --out DIR makes one."
        )
        return
    _print_runs(table)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more run directories; each is compared with the first.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the page of the comparison (.html).")
    ] = None,
    level: Annotated[
        float, typer.Option(help="Share of the null layers' values beyond which a pair counts.")
    ] = 0.01,
    json_: options.Json = False,
) -> None:
    """Test whether runs differ in how many of the same pairs stand beyond their null layers, layer by layer.

    Example: probekit compare runs/step-1000 runs/step-3000 --out compare.html
    """
    import json

    from probekit.followups.compare import compare as write_comparison
    from probekit.followups.difference import difference, records
    from probekit.results.run import load

    if len(runs) < 2:
        raise InputError(
            f"compare: got {len(runs)} run, wanted two or more; probekit report writes up a single one."
        )
    held = [load(path) for path in runs]
    tables = {
        str(path): difference(held[0], run, level=level) for path, run in zip(runs[1:], held[1:], strict=True)
    }
    if out is not None:
        write_comparison(held, out)
    if json_:
        rows = {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
        print_json({"first": str(runs[0]), "others": rows})
        return
    from rich.console import Console

    from probekit.cli.terminal import print_table
    from probekit.report.difference import difference_in_words, difference_table

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    for name, table in tables.items():
        rows = records(table)
        console.print(difference_in_words(str(runs[0]), name, rows), markup=False)
        print_table(console, difference_table("first", "second", rows, level))
    if out is not None:
        console.print(f"written: {out}", markup=False)


def _print_runs(table: pd.DataFrame) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    states = table["state"].value_counts().sort_index()
    shown = RichTable(
        title=f"{len(table):,} run{'' if len(table) == 1 else 's'}: "
        + ", ".join(f"{n} {state}" for state, n in states.items())
    )
    for name in ("run", "state", "model", "layers", "pairs", "tokens", "computed", "size", "modified"):
        right = name in ("pairs", "tokens", "computed", "size")
        shown.add_column(name, justify="right" if right else "left", overflow="fold")
    rows: list[dict[Any, Any]] = table.to_dict("records")
    for row in rows:
        cells = (
            row["path"], _state(row), row["model"], _layers(row["layers"]), _count(row["n_pairs"]),
            _count(row["n_tokens"]), _count(row["n_computed"]), in_bytes(row["n_bytes"]),
            f"{row['modified']:%Y-%m-%d %H:%M}",
        )  # fmt: skip
        shown.add_row(*(Text("–" if cell is None else str(cell)) for cell in cells))
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(shown)
    for row in rows:
        if row["note"]:
            console.print(Text(row["note"]))


def _state(row: dict[Any, Any]) -> str:
    if row["state"] != "unfinished":
        return str(row["state"])
    of = "" if row["layers"] is None else f" of {len(row['layers'])}"
    return f"unfinished: {row['n_layers_decided']}{of} layers decided"


def _layers(layers: list[int] | None) -> str | None:
    """Layer numbers as --layers takes them, such as 0,2-4."""
    if layers is None:
        return None
    spans: list[list[int]] = []
    for layer in sorted(layers):
        if spans and layer == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], layer]
        else:
            spans.append([layer])
    return ",".join("-".join(map(str, span)) for span in spans)


def _count(value: Any) -> str | None:
    import pandas as pd

    return None if pd.isna(value) else f"{value:,}"
