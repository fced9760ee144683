"""`probekit writes`: which tokens a pair's readout promotes, and what the layer writes for both concepts together."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

import probekit.cli.options as options
from probekit.cli.look import go_offline
from probekit.cli.terminal import print_json


def writes(  # noqa: PLR0913
    model: options.Model,
    a: Annotated[str, typer.Argument(help="First concept of the pair.")],
    b: Annotated[str, typer.Argument(help="Second concept.")],
    layer: Annotated[int, typer.Option(help="The layer that is asked.")] = 0,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="A finished run that tested the pair. Default: one on this pair alone."),
    ] = None,
    corpus: options.Corpus = None,
    concepts: options.ConceptSet = "default",
    max_tokens: options.MaxTokens = 60_000,
    min_support: options.MinSupport = 60,
    twins: Annotated[int, typer.Option(help="Null layers of the analysis, where none was given.")] = 20,
    top: Annotated[int, typer.Option(help="Tokens named at each end.")] = 10,
    n_random: Annotated[int, typer.Option(help="Random readouts of the same norm.")] = 200,
    seed: Annotated[int, typer.Option(help="Of what is random.")] = 0,
    device: options.Device = "auto",
    offline: options.Offline = False,
    json_: options.Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Say which tokens a pair's readout promotes, and what the layer writes for A and B together and for neither alone.

    Example: probekit writes nano "cur:word-start" "prev:full-stop" --layer 1
    """
    if offline:
        go_offline()
    from probekit.analysis.api import analyze
    from probekit.evidence.tables import json_rows
    from probekit.followups.writes import writes as what_it_writes

    named = None if concepts == "default" else concepts
    with TemporaryDirectory(prefix="probekit-") as folder:
        held: Any = run
        if run is None:
            held = analyze(
                model, corpus, concepts=named, layers=layer, pairs=[(a, b)], max_tokens=max_tokens, min_support=min_support,
                twins=twins, seed=seed, device=device, out=Path(folder) / "run", progress=False if quiet else None,
            )  # fmt: skip
        found = what_it_writes(
            held, model, concepts=named, pairs=[(a, b)], layers=layer, top=top, n_random=n_random, max_tokens=max_tokens,
            seed=seed, device=device,
        )  # fmt: skip
    shown = json_rows(found.table)
    if json_:
        print_json({"pairs": shown, "columns": dict(found.describe().itertuples(index=False, name=None))})
    else:
        _print(shown, found.describe())


def _print(rows: list[dict[str, Any]], meanings: Any) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for row in rows:
        title = f"layer {row['layer']}: {row['a']} & {row['b']}"
        table = Table(title=Text(title, "table.title"), title_justify="left")
        for head in ("", "value", "meaning"):
            table.add_column(head, overflow="fold")
        for name, meaning in meanings.itertuples(index=False, name=None):
            if name not in ("layer", "a", "b"):
                table.add_row(name, Text(_shown(row[name])), Text(meaning))
        console.print(table)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "  ".join(map(repr, value))
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
