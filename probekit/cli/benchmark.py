"""`probekit benchmark`: how often a detector of computed pairs is wrong, and how often right, where the answer is known."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

import probekit.cli.options as options
from probekit.cli.terminal import print_json

if TYPE_CHECKING:
    from probekit.followups.benchmark import Benchmark


def benchmark(  # noqa: PLR0913
    detector: Annotated[
        str,
        typer.Argument(help="probekit, sparse-probe, mean-difference, module:function or file.py:function."),
    ],
    correlation: Annotated[
        str, typer.Option(help="Of the worlds' concepts within a correlated group, such as 0,0.5.")
    ] = "0,0.5,0.8",
    load: Annotated[
        str, typer.Option(help="ANDs computed for each neuron, such as 0.02,0.1.")
    ] = "0.02,0.05,0.1",
    worlds: Annotated[int, typer.Option(help="Worlds at each setting.")] = 5,
    n_concepts: Annotated[int, typer.Option(help="Concepts of a world.")] = 48,
    n_neurons: Annotated[int, typer.Option(help="Its neurons.")] = 192,
    d_model: Annotated[int, typer.Option(help="Dimensions of its input.")] = 64,
    n_tokens: Annotated[int, typer.Option(help="Its tokens.")] = 12_000,
    max_pairs: Annotated[int, typer.Option(help="Pairs of each world given to the detector.")] = 120,
    q: Annotated[float, typer.Option("-q", help="Level of the false discovery rate.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the worlds.")] = 0,
    json_: options.Json = False,
) -> None:
    """Run a detector of computed pairs on synthetic worlds: false discovery rate and power at each correlation and load.

    Example: probekit benchmark sparse-probe --worlds 2 --correlation 0.5 --load 0.05
    """
    from probekit.evidence.tables import json_rows
    from probekit.followups.benchmark import benchmark as run

    found = run(
        detector, correlations=options.as_numbers("--correlation", correlation), loads=options.as_numbers("--load", load),
        n_worlds=worlds, max_pairs=max_pairs, q=q, seed=seed, n_concepts=n_concepts, n_neurons=n_neurons, d_model=d_model,
        n_tokens=n_tokens,
    )  # fmt: skip
    if json_:
        print_json({"summary": found.summary, "settings": json_rows(found.table)})
    else:
        _print(found)


def _print(found: Benchmark) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(
        title=Text(f"{found.summary['detector']} on worlds whose answer is known", "table.title"),
        title_justify="left",
    )
    for name in (
        "correlation",
        "load",
        "worlds",
        "false discovery rate",
        "power",
        "null found",
        "relayed found",
    ):
        shown.add_column(name, justify="right")
    for row in found.table.to_dict("records"):
        shown.add_row(
            f"{row['correlation']:g}", f"{row['load']:g}", str(row["n_worlds"]), _estimate(row["fdr"], row["fdr_se"]),
            _estimate(row["power"], row["power_se"]), _percent(row["found_null"]), _percent(row["found_relayed"]),
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(shown)


def _estimate(value: float, error: float) -> str:
    if value != value:
        return "–"
    return f"{value:.3f}" if error != error else f"{value:.3f} ± {error:.3f}"


def _percent(value: float) -> str:
    return "–" if value != value else f"{value:.1%}"
