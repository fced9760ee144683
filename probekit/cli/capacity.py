"""`probekit capacity`: what the bounds say about a layer of some size."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import probekit.cli.options as options

if TYPE_CHECKING:
    from probekit.theory.gap import Gap


def capacity(  # noqa: PLR0913
    d_model: Annotated[int, typer.Option(help="Width of the residual stream.")],
    d_mlp: Annotated[int, typer.Option(help="Neurons of the layer.")],
    concepts: Annotated[int, typer.Option(help="Base concepts of the dictionary.")],
    gated: Annotated[bool, typer.Option("--gated", help="The layer is gated (SwiGLU and the like).")] = False,
    delta: Annotated[float, typer.Option(help="Share of the selected set that may be wrong.")] = 0.0,
    gap: Annotated[
        bool,
        typer.Option(
            "--gap",
            help="Every level from what can be represented to what the papers' constructions compute.",
        ),
    ] = False,
    active: Annotated[int, typer.Option(help="Concepts on in one input (with --gap).")] = 3,
    svg: Annotated[Path | None, typer.Option(help="Also draw the gap into this file.")] = None,
    json_: options.JsonOnly = False,
) -> None:
    """What the capacity bounds say about a layer of this size.

    Example: probekit capacity --d-model 768 --d-mlp 3072 --concepts 10000 --gap
    """
    from probekit.theory import bounds

    levels = None
    if gap or svg is not None:
        levels = bounds.gap(d_mlp, d_model, n_active=active, n_concepts=concepts, gated=gated)
    if svg is not None:
        _draw(svg, d_mlp, d_model, gated=gated, n_active=active, n_concepts=concepts)

    n_params = int(float(bounds.layer_params(d_model, d_mlp, site="neurons", gated=gated)))
    universe = concepts * (concepts - 1) // 2
    finite = {
        bits: bounds.max_selected(n_concepts=concepts, n_params=n_params, bits=bits, delta=delta)
        for bits in (1.0, 2.0, 3.6, 16.0)
    }
    values: dict[str, Any] = {
        "d_model": d_model, "d_mlp": d_mlp, "n_concepts": concepts, "n_pairs": universe, "n_params": n_params,
        "n2_over_ln_n": float(bounds.asymptotic_features(d_mlp)),
        "n2_over_log2_n": float(bounds.asymptotic_features(d_mlp, log="2")),
        "delta": delta,
        "max_selected": {f"{bits:g}": None if b.vacuous else float(b) for bits, b in finite.items()},
    }  # fmt: skip
    if levels is not None:
        values["gap"] = _records(levels)
    if json_:
        sys.stdout.write(json.dumps(values, indent=1, allow_nan=False) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{d_mlp:,} neurons on d_model {d_model:,}, {concepts:,} concepts ({universe:,} pairs)"
    )
    table.add_column("reference")
    table.add_column("features", justify="right")
    table.add_column("what it is")
    order = "order of magnitude, constant 1 assumed, not a limit"
    table.add_row("n²/ln n", f"{values['n2_over_ln_n']:,.0f}", order)
    table.add_row("n²/log₂ n", f"{values['n2_over_log2_n']:,.0f}", order)
    for bits, bound in finite.items():
        text = "vacuous" if bound.vacuous else f"{float(bound):,.0f}"
        why = (
            "any set of pairs fits into the weights"
            if bound.vacuous
            else "most pairs that can be selected freely"
        )
        table.add_row(f"finite bound, b = {bits:g} bits", text, why)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    console.print(
        f"P = {n_params:,} weights act at the neurons. The finite bound limits which pairs the weights can select, not "
        "how many ANDs some probe can read (Adler & Shavit, arXiv 2409.15318)."
    )
    if levels is not None:
        _print_gap(console, levels)


def _records(levels: Gap) -> list[dict[str, Any]]:
    """The levels for JSON: null where a count is beyond a float, or its logarithm that of nothing."""
    return [
        {
            "key": level.key, "group": level.group, "label": level.label,
            "features": level.features if math.isfinite(level.features) else None,
            "log10": level.log10 if math.isfinite(level.log10) else None,
            "kind": level.kind, "readout": level.readout, "vacuous": level.vacuous,
            "assumptions": level.assumptions, "source": level.source,
        }
        for level in levels.levels
    ]  # fmt: skip


def _draw(path: Path, n_neurons: int, d_model: int, **options: Any) -> None:
    from probekit.evidence.gap import shape
    from probekit.report import gap
    from probekit.storage import store

    drawn = gap.svg([shape(n_neurons, d_model, **options)])
    assert drawn is not None
    store.write_text(path, drawn)


def _print_gap(console: Any, levels: Gap) -> None:
    from rich.table import Table

    from probekit.report.gap import features, notes_of

    table = Table(
        title=f"From representing to computing: features by level, {levels.n_active} concepts on in an input"
    )
    table.add_column("level")
    table.add_column("features", justify="right", no_wrap=True)
    table.add_column("number")
    table.add_column("read by")
    table.add_column("rests on", overflow="fold")
    for level in levels.levels:
        value = "vacuous" if level.vacuous else features(level.log10)
        table.add_row(level.label, value, level.kind, level.readout, level.assumptions)
    console.print(table)
    console.print(notes_of(levels), highlight=False)
