"""`probekit compress`: what a layer still computes when its weights are pruned, rounded or re-quantised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import probekit.cli.options as options
from probekit.cli.look import go_offline
from probekit.cli.terminal import print_answer, print_json, say
from probekit.errors import ConfigError

if TYPE_CHECKING:
    from probekit.followups.compression import CompressionCurve


def compress(  # noqa: PLR0913
    model: options.Model,
    layer: Annotated[int, typer.Option(help="The layer that is compressed and analysed.")] = 0,
    corpus: options.Corpus = None,
    keep: Annotated[
        str, typer.Option(help="Shares of the weights that stay, largest first; empty for none.")
    ] = "0.5,0.2,0.1,0.05",
    bits: Annotated[
        str, typer.Option(help="Bits to which weights are rounded; empty for none.")
    ] = "8,4,3,2,1",
    formats: Annotated[
        str, typer.Option(help="Tensor types of GGUF files, such as Q8_0,Q4_1; needs the extra gguf.")
    ] = "",
    max_tokens: options.MaxTokens = 60_000,
    max_pairs: Annotated[int, typer.Option(help="Pairs tested, the same in every step.")] = 300,
    min_support: options.MinSupport = 60,
    twins: Annotated[int, typer.Option(help="Null layers a step.")] = 10,
    seed: options.Seed = 0,
    loss_tokens: Annotated[int, typer.Option(help="Tokens for the model's loss; 0 for none.")] = 12_000,
    runs: Annotated[
        Path | None, typer.Option(help="Keep the run of every step here; a curve that was stopped goes on.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start afresh where --runs holds the run of something else.")
    ] = False,
    out: options.Page = None,
    device: options.Device = "auto",
    offline: options.Offline = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compress one layer step by step and count what it still computes, beside the bits its weights take.

    Example: probekit compress nano --layer 1 --keep 0.5,0.1 --bits 4,1 --out compression.html
    """
    if offline:
        go_offline()
    from probekit.followups.compression import compression_curve

    curve = compression_curve(
        model, corpus, layer=layer, keep=options.as_numbers("--keep", keep), bits=_whole("--bits", bits),
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


def _whole(option: str, text: str) -> list[int]:
    numbers = options.as_numbers(option, text)
    if not all(number.is_integer() for number in numbers):
        raise ConfigError(f"{option}: got {text!r}, wanted whole numbers with commas between them.")
    return [int(number) for number in numbers]


def _print(curve: CompressionCurve) -> None:
    from probekit.report.compression import answer, steps_table

    print_answer(steps_table(curve), answer(curve), width=160)
