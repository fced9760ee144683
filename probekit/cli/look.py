"""`probekit concepts` and `probekit pair`: what a model and corpus offer to test, and what one tested pair looks like."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import probekit.cli.options as options
from probekit.cli.terminal import print_table
from probekit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def concepts(  # noqa: PLR0913
    model: Annotated[str, typer.Argument(help="Hub name, folder, or nano; only its tokenizer is read.")],
    corpus: options.NamedCorpus = "docs",
    concepts: options.ConceptSet = "default",
    max_tokens: options.MaxTokens = 100_000,
    context: options.Context = 128,
    kind: Annotated[str | None, typer.Option(help="Only this kind: token, class, context, …")] = None,
    search: Annotated[
        str | None, typer.Option(help="Only names or descriptions that hold this text.")
    ] = None,
    offline: options.Offline = False,
    json_: options.Json = False,
) -> None:
    """List the concepts of a corpus: what each means, how often it holds, and tokens in context.

    Example: probekit concepts gpt2 --corpus docs --kind context
    """
    if offline:
        go_offline()
    from probekit.followups.concepts import list_concepts

    table = list_concepts(
        model,
        corpus,
        concepts=None if concepts == "default" else concepts,
        max_tokens=max_tokens,
        context=context,
    )
    held = sorted(set(table["kind"]))
    if kind is not None:
        if kind not in held:
            raise InputError(f"--kind: got {kind!r}, this set has {', '.join(held)}.")
        table = table[table["kind"] == kind]
    if search is not None:
        wanted = search.lower()
        found = [
            wanted in f"{n} {d}".lower() for n, d in zip(table["name"], table["description"], strict=True)
        ]
        table = table[found]
    if json_:
        sys.stdout.write(table.to_json(orient="records", force_ascii=False, indent=1) + "\n")
        return
    _print_concepts(table)


def pair(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    a: Annotated[str, typer.Argument(help='A concept, such as prev=New for prev=" New".')],
    b: Annotated[str, typer.Argument(help="The other one; the order does not matter.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the picture (.svg) or the page (.html).")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Contexts and neurons of this layer only.")] = None,
    json_: options.Json = False,
) -> None:
    """Look at one pair of a finished run: every layer, quadrant distributions, neurons, contexts and twins.

    Example: probekit pair runs/gpt2 prev=New cur=York --out new-york.html
    """
    from probekit.results.run import load

    detail = load(run).pair(a, b)
    held = detail.layers["layer"].tolist()
    if layer is not None and layer not in held:
        raise InputError(f"--layer: got {layer}; this run measured layers {', '.join(map(str, held))}.")
    if out is not None:
        detail.save(out)
    if json_:
        import json

        values: dict[str, Any] = {"a": detail.a, "b": detail.b}
        for name in ("layers", "quadrants", "neurons", "contexts", "twins"):
            values[name] = json.loads(getattr(detail, name).to_json(orient="records", force_ascii=False))
        sys.stdout.write(json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
        return
    from rich.console import Console

    from probekit.report.pair import context_table, layer_table, neuron_table, quadrant_table

    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(f"[bold]{_escaped(detail.a)}  ∧  {_escaped(detail.b)}[/bold]")
    chosen = slice(None) if layer is None else layer
    neurons, contexts = (
        f if layer is None else f[f["layer"] == chosen] for f in (detail.neurons, detail.contexts)
    )
    for table in (layer_table(detail.layers), quadrant_table(detail.quadrants), neuron_table(neurons)):
        print_table(console, table)
    if len(contexts):
        print_table(console, context_table(contexts))
    if out is not None:
        console.print(f"written: {_escaped(str(out))}")


def pairs_asked(given: list[str] | None) -> list[str] | list[tuple[str, str]] | None:
    """What `--pairs` means: words as they stand, or the pairs of a file.

    Raises:
        InputError: a file among words, one that cannot be read, or a line without two names.
    """
    files = [word for word in given or [] if Path(word).is_file()]
    if not given or not files:
        return given or None
    if len(given) > 1:
        raise InputError(f"--pairs: {files[0]!r} is a file, which is given alone.")
    try:
        lines = Path(files[0]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--pairs: {files[0]!r} cannot be read: {error}.") from error
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        names = line.split("\t")
        if line.strip() and len(names) != 2:
            raise InputError(
                f"--pairs: {files[0]!r}, line {number}: got {len(names)} fields, wanted two names with a tab between."
            )
        if line.strip():
            pairs.append((names[0], names[1]))
    return pairs


def go_offline() -> None:
    """No hub is asked from here on: what is neither local nor cached is refused at once."""
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # pyright: ignore[reportAttributeAccessIssue]
    config = sys.modules.get("datasets.config")
    if config is not None:
        config.HF_HUB_OFFLINE = True  # pyright: ignore[reportAttributeAccessIssue]


def _print_concepts(table: pd.DataFrame) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    from probekit.report.words import visible

    shown = RichTable(title=f"{len(table):,} concepts", show_lines=False)
    for name, right in (
        ("concept", False),
        ("kind", False),
        ("tokens", True),
        ("share", True),
        ("docs", True),
    ):
        shown.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    shown.add_column("holds where", overflow="fold")
    shown.add_column("example", overflow="fold")
    for row in table.to_dict("records"):
        example = visible(row["examples"][0]) if len(row["examples"]) else "–"
        cells = (
            row["name"],
            row["kind"],
            f"{row['n_tokens']:,}",
            f"{row['share']:.2%}",
            f"{row['n_docs']:,}",
        )
        shown.add_row(*(_escaped(str(cell)) for cell in (*cells, row["description"], example)))
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(shown)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
