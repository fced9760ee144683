"""`probekit circuits`: the constructions of the papers by name, and one of them measured against its prediction."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import probekit.cli.options as options

if TYPE_CHECKING:
    from typer import Context

    from probekit.theory.circuits.circuit import Circuit
    from probekit.theory.measure import Measured
else:
    Context = (
        TyperGroup.context_class
    )  # what is passed; typer.Context is a subclass, and annotations are checked in tests

app = typer.Typer(
    help="The constructions of the papers: list them, measure one.", invoke_without_command=True
)


@app.callback()
def circuits(context: Context) -> None:
    """List the constructions, or measure one against its predicted error.

    Example: probekit circuits measure two-and-low --n 512 --m 1024 --d-model 512
    """
    if context.invoked_subcommand is not None:
        return
    from probekit.theory.catalogue import CONSTRUCTIONS

    width = max(map(len, CONSTRUCTIONS))
    lines = [f"{name:<{width}}  {found.summary} ({found.source})" for name, found in CONSTRUCTIONS.items()]
    sys.stdout.write("\n".join(lines) + "\n")


@app.command()
def measure(  # noqa: PLR0913
    name: Annotated[str, typer.Argument(help="A construction, as `probekit circuits` lists them.")],
    n: Annotated[int, typer.Option("--n", help="Neurons.")],
    m: Annotated[int, typer.Option("--m", help="Concepts.")],
    s: Annotated[int, typer.Option("--s", help="Concepts on in every input.")] = 3,
    pairs: Annotated[
        int | None, typer.Option(help="Pairs computed. Default: m, or all where every pair is.")
    ] = None,
    d_model: Annotated[
        int | None, typer.Option(help="Dimensions of superposed inputs. Default: a coordinate a concept.")
    ] = None,
    inputs: Annotated[int, typer.Option(help="Inputs in each pattern.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Of the circuit and of the inputs.")] = 0,
    json_: options.JsonOnly = False,
) -> None:
    """Measured against predicted error of one construction, pattern by pattern of its own concepts.

    Example: probekit circuits measure dense-uand --n 512 --m 200
    """
    from probekit.theory.catalogue import build
    from probekit.theory.checks import as_count
    from probekit.theory.measure import measure as measured_error

    as_count("seed", seed, at_least=0)
    circuit = build(name, n_neurons=n, n_concepts=m, n_active=s, pairs=pairs, d_model=d_model, seed=seed)
    found = measured_error(circuit, n_inputs=inputs, seed=seed)
    if json_:
        sys.stdout.write(json.dumps(_values(name, circuit, found, seed), indent=1, allow_nan=False) + "\n")
    else:
        _print(_values(name, circuit, found, seed))


def _values(name: str, circuit: Circuit, found: Measured, seed: int) -> dict[str, Any]:
    """What is printed; null where a construction predicts nothing."""
    patterns = [
        {
            "pattern": "".join("1" if on else "0" for on in setting),
            "predicted_mean": _number(circuit.predicted_mean[i]), "mean": _number(found.mean[i]),
            "predicted_sd": _number(circuit.predicted_sd[i]), "sd": _number(found.sd[i]),
        }
        for i, setting in enumerate(circuit.patterns.tolist())
    ]  # fmt: skip
    return {
        "name": name, "n_neurons": circuit.n_neurons, "n_concepts": circuit.n_concepts, "n_outputs": circuit.n_outputs,
        "d_model": circuit.d_model, "basis_aligned": circuit.basis_aligned, "n_active": circuit.n_active,
        "n_inputs": found.n_inputs, "seed": seed, "patterns": patterns, "eps95": found.eps95,
        "worst_error": found.worst_error, "threshold": found.threshold, "contrast": _number(found.contrast),
    }  # fmt: skip


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _print(values: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    inputs = (
        "a coordinate a concept"
        if values["basis_aligned"]
        else f"superposed in {values['d_model']:,} dimensions"
    )
    table = Table(
        title=f"{values['name']}: {values['n_outputs']:,} outputs of {values['n_concepts']:,} concepts in "
        f"{values['n_neurons']:,} neurons, inputs {inputs}"
    )
    for column in (
        "pattern",
        "predicted mean",
        "measured mean",
        "predicted sd",
        "measured sd",
        "measured / predicted sd",
    ):
        table.add_column(column, justify="right")
    for row in values["patterns"]:
        cells = [_shown(row[key]) for key in ("predicted_mean", "mean", "predicted_sd", "sd")]
        ratio = row["sd"] / row["predicted_sd"] if row["sd"] is not None and row["predicted_sd"] else None
        table.add_row(row["pattern"], *cells, "–" if ratio is None else f"{ratio:.2f}")
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(
        f"{values['n_inputs']:,} inputs a pattern, {values['n_active']} concepts on in each, seed {values['seed']}. "
        f"ε95 = {values['eps95']:.3f} (¼ is reached with nothing computed); the worst pattern errs in "
        f"{values['worst_error']:.2%} at the one best threshold.",
        highlight=False,
    )


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
