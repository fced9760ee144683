"""`probekit grid`: does each layer of a model compute that two tokens are a word?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import probekit.cli.options as options
from probekit.cli.look import go_offline
from probekit.cli.terminal import print_answer, print_json, say
from probekit.errors import InputError

if TYPE_CHECKING:
    from probekit.followups.word_grid import WordGrid


def grid(  # noqa: PLR0913
    model: Annotated[str, typer.Argument(help="Hub name, folder in Hugging Face format, or nano (bundled).")],
    words: Annotated[
        Path | None,
        typer.Option("--words", help="A file with one word a line. Default: chosen from the corpus."),
    ] = None,
    corpus: options.Corpus = None,
    contexts: Annotated[int, typer.Option(help="Contexts every cell is read behind.")] = 6,
    layers: options.Layers = None,
    n_words: Annotated[int, typer.Option(help="Words of each of the two sets, at most.")] = 72,
    twins: Annotated[int, typer.Option(help="Random twins a layer; 0 for none.")] = 8,
    seed: Annotated[int, typer.Option(help="Of words, contexts, twins and permutations.")] = 0,
    permutations: Annotated[int, typer.Option(help="Random pairings for the exact p-values.")] = 2_000,
    max_tokens: Annotated[int, typer.Option(help="Tokens of the corpus that are read.")] = 2_000_000,
    arms: Annotated[
        bool, typer.Option("--arms/--no-arms", help="Also read rare words, pieces of words, and phrases.")
    ] = True,
    dtype: options.Dtype = None,
    device: options.Device = "auto",
    out: options.Page = None,
    offline: options.Offline = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Test on two-token words, layer by layer, whether a model computes that two tokens are a word.

    Example: probekit grid nano --layers 0 --n-words 24 --out words.html
    """
    if offline:
        go_offline()
    from probekit.arguments import as_layers
    from probekit.followups.word_grid import word_grid

    found = word_grid(
        model, _words(words), contexts=contexts, layers=as_layers(layers), n_words=n_words, twins=twins, seed=seed,
        corpus=corpus, permutations=permutations, arms=arms, max_tokens=max_tokens, device=device, dtype=dtype,
        progress=False if quiet else None,
    )  # fmt: skip
    if out is not None:
        found.report(out)
    if json_:
        print_json(_as_json(found))
    if not (json_ or quiet):
        _print(found)
    if out is not None:
        say(f"report: {out}", quiet=quiet)


def _words(file: Path | None) -> list[str] | None:
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--words: {str(file)!r} cannot be read: {error}.") from error
    return [line.strip() for line in lines if line.strip()]


def _as_json(found: WordGrid) -> dict[str, Any]:
    import json

    tables = {
        name: json.loads(getattr(found, name).to_json(orient="records"))
        for name in ("layers", "sites", "twins", "arms", "words")
    }
    return {"summary": found.summary, "contexts": list(found.contexts), **tables}


def _print(found: WordGrid) -> None:
    from probekit.report.word_grid import answer, layers_table

    print_answer(layers_table(found), (*answer(found), *found.summary["notes"]), width=140)
