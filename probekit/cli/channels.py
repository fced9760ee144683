"""`probekit channels`: one layer's channels decoded from its weights, as a Boolean program."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

import probekit.cli.options as options
from probekit.errors import InputError

if TYPE_CHECKING:
    from probekit.theory.channels import Channels


def channels(  # noqa: PLR0913
    model: Annotated[str, typer.Argument(help="Hub name, folder, GGUF file, or nano.")],
    layer: Annotated[int, typer.Option("--layer", help="Which MLP layer.")],
    corpus: options.NamedCorpus = "docs",
    concepts: options.ConceptSet = "default",
    directions: Annotated[
        str,
        typer.Option(
            help="measured: what each concept adds to the layer's input on the corpus. tokens: token types by themselves, "
            "behind the start mark."
        ),
    ] = "measured",
    most: Annotated[int, typer.Option(help="At most this many concepts, the commonest.")] = 100,
    max_tokens: options.MaxTokens = 20_000,
    context: options.Context = 128,
    q: Annotated[float, typer.Option(help="False discovery rate over all pairs.")] = 0.05,
    twins: Annotated[int, typer.Option(help="Twins of the codes; 3/q of them can find a single set.")] = 60,
    seed: Annotated[int, typer.Option(help="Of the twins.")] = 0,
    json_: options.JsonOnly = False,
) -> None:
    """Decode which pairs of concepts a layer's weights bring together, and by what gate.

    Example: probekit channels nano --layer 0 --most 60
    """
    from probekit.analysis.reading import cached, concepts_of
    from probekit.model.directions import measured_directions, token_directions
    from probekit.model.hooked_model import load_hooked_model
    from probekit.text.corpus import as_corpus
    from probekit.theory.channels import channels as decode

    if directions not in ("measured", "tokens"):
        raise InputError(f"--directions: got {directions!r}, wanted measured or tokens.")
    hooked = load_hooked_model(model)
    hooked.check_layer(layer)
    texts = cached(as_corpus(corpus))
    tokens = texts.tokenize(
        hooked.tokenizer,
        context=min(context, hooked.context),
        max_tokens=max_tokens,
        bos_id=hooked.bos_id,
        end_id=hooked.end_id,
    )
    if directions == "tokens":
        counts = Counter(tokens.ids[tokens.counted].tolist())
        found = token_directions(hooked, [token for token, _ in counts.most_common(most)], layer)
    else:
        chosen = None if concepts == "default" else concepts
        labels = concepts_of(chosen, hooked.tokenizer, tokens, texts).label(tokens)
        found = measured_directions(hooked, tokens, labels, layer).commonest(labels, most)
    decoded = decode(
        hooked.mlp(layer), found.codes, names=found.names, covariance=found.covariance, mean=found.mean, q=q, twins=twins,
        seed=seed,
    )  # fmt: skip
    if json_:
        sys.stdout.write(json.dumps(_values(decoded), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        _print(decoded, hooked.name, layer)


def _values(decoded: Channels) -> dict[str, Any]:
    """What was found, for JSON."""
    sets = [
        {**one, "a": decoded.names[one["a"]], "b": decoded.names[one["b"]], "out_z": None}
        for one in decoded.sets
    ]
    return {
        "n_concepts": len(decoded.names), "n_tests": len(decoded.p), "n_neurons": decoded.layer.n_neurons,
        "q": decoded.q_wanted, "smallest_p": float(decoded.p.min()), "sets": sets,
        "program": [str(clause) for clause in decoded.program.clauses],
    }  # fmt: skip


def _print(decoded: Channels, name: str, layer: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    program = decoded.program
    table = Table(
        title=f"{escape(name)}, layer {layer}: {len(decoded.sets):,} sets of {len(decoded.p):,} tests, "
        f"{len(program):,} of them clauses (q = {decoded.q_wanted:g})"
    )
    for column in ("a", "b", "gate"):
        table.add_column(column, overflow="fold")
    for column in ("neurons", "expected", "p", "q"):
        table.add_column(column, justify="right")
    for one in decoded.sets:
        cells = (decoded.names[one["a"]], decoded.names[one["b"]], one["gate"])
        numbers = (str(one["n_met"]), f"{one['expected']:.2f}", f"{one['p']:.1e}", f"{one['q']:.1e}")
        table.add_row(*(escape(cell) for cell in cells), *numbers)
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(table)
    if not decoded.sets:
        console.print(
            f"No pair meets on more neurons than margins, geometry and {len(decoded.p):,} tests allow (smallest p "
            f"{decoded.p.min():.1e}). A layer that computes every AND alike has no channels of this kind."
        )
