"""Arguments that several commands take, each with the one help that all of them print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from probekit.errors import ConfigError

Model = Annotated[
    str, typer.Argument(help="Hub name, folder in Hugging Face format, GGUF file, or nano (bundled).")
]
Corpus = Annotated[
    str | None,
    typer.Option(
        "--corpus", help="A text/jsonl/parquet file or a hub dataset. Default: docstrings, offline."
    ),
]
NamedCorpus = Annotated[
    str, typer.Option("--corpus", help="docs (offline), a text/jsonl/parquet file, or a hub dataset.")
]
ConceptSet = Annotated[str, typer.Option("--concepts", help="default, or a TOML file.")]
Layers = Annotated[str | None, typer.Option(help="Such as 0,2-4. Default: all.")]
MaxTokens = Annotated[int, typer.Option(help="Counted tokens to read.")]
Context = Annotated[int, typer.Option(help="Positions read of a document.")]
MinSupport = Annotated[int, typer.Option(help="Tokens every quadrant must hold in both halves.")]
Seed = Annotated[int, typer.Option(help="Of null layers, pairs and halves.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16. Default: float32 on a CPU.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the network.")]
Page = Annotated[Path | None, typer.Option("--out", help="Also write the page (.html).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
JsonOnly = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]


def as_numbers(option: str, text: str) -> list[float]:
    """Numbers with commas between them.

    Raises:
        ConfigError: something else.
    """
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(f"{option}: got {text!r}, wanted numbers with commas between them.") from None
