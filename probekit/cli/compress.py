"""`probekit compress`: what a layer still computes when its weights are pruned, rounded or re-quantised."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probekit.cli.look import Json, go_offline
from probekit.cli.terminal import print_json, say
from probekit.errors import ConfigError

if TYPE_CHECKING:
    from probekit.followups.compression import CompressionCurve


def compress(  # noqa: PLR0913
    model: Annotated[
        str, typer.Argument(help="Hub name, folder in Hugging Face format, GGUF file, or nano (bundled).")
    ],
    layer: Annotated[int, typer.Option(help="The layer that is compressed and analysed.")] = 0,
    corpus: Annotated[
        str | None,
        typer.Option(
            "--corpus", help="A text/jsonl/parquet file or a hub dataset. Default: docstrings, offline."
        ),
    ] = None,
    keep: Annotated[
        str, typer.Option(help="Shares of the weights that stay, largest first; empty for none.")
    ] = "0.5,0.2,0.1,0.05",
    bits: Annotated[
        str, typer.Option(help="Bits to which weights are rounded; empty for none.")
    ] = "8,4,3,2,1",
    formats: Annotated[
        str, typer.Option(help="Tensor types of GGUF files, such as Q8_0,Q4_1; needs the extra gguf.")
    ] = "",
    max_tokens: Annotated[int, typer.Option(help="Counted tokens to read.")] = 60_000,
    max_pairs: Annotated[int, typer.Option(help="Pairs tested, the same in every step.")] = 300,
    min_support: Annotated[int, typer.Option(help="Tokens every quadrant must hold in both halves.")] = 60,
    twins: Annotated[int, typer.Option(help="Null layers a step.")] = 10,
    seed: Annotated[int, typer.Option(help="Of null layers, pairs and halves.")] = 0,
    loss_tokens: Annotated[int, typer.Option(help="Tokens for the model's loss; 0 for none.")] = 12_000,
    runs: Annotated[
        Path | None, typer.Option(help="Keep the run of every step here; a curve that was stopped goes on.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start afresh where --runs holds the run of something else.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the page (.html).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the network.")] = False,
    json_: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
) -> None:
    """Compress one layer step by step and count what it still computes, beside the bits its weights take.

    Example: probekit compress nano --layer 1 --keep 0.5,0.1 --bits 4,1 --out compression.html
    """
    if offline:
        go_offline()
    from probekit.followups.compression import compression_curve

    curve = compression_curve(
        model, corpus, layer=layer, keep=_numbers("--keep", keep), bits=_whole("--bits", bits),
        formats=[name.strip() for name in formats.split(",") if name.strip()], loss_tokens=loss_tokens, out=runs,
        device=device, max_tokens=max_tokens, max_pairs=max_pairs, min_support=min_support, twins=twins, seed=seed,
        force=force, controls=(), spikes=(), progress=False if quiet else None,
    )  # fmt: skip
    if out is not None:
        curve.report(out)
    if json_:
        from probekit.evidence.tables import json_rows

        print_json({"summary": curve.summary, "steps": json_rows(curve.steps)})
    if not (json_ or quiet):
        _print(curve)
    if out is not None:
        say(f"report: {out}", quiet=quiet)


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(f"{option}: got {text!r}, wanted numbers with commas between them.") from None


def _whole(option: str, text: str) -> list[int]:
    numbers = _numbers(option, text)
    if not all(number.is_integer() for number in numbers):
        raise ConfigError(f"{option}: got {text!r}, wanted whole numbers with commas between them.")
    return [int(number) for number in numbers]


def _print(curve: CompressionCurve) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    from probekit.report.compression import answer, steps_table

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    table = steps_table(curve)
    shown = RichTable(title=Text(table.caption, "table.title"), title_justify="left")
    for number, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if number else "left")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    console.print(shown)
    for sentence in answer(curve):
        console.print(Text(sentence))
