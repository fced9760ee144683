"""`probekit capacity`: what the bounds say about a layer of some size."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer


def capacity(
    d_model: Annotated[int, typer.Option(help="Width of the residual stream.")],
    d_mlp: Annotated[int, typer.Option(help="Neurons of the layer.")],
    concepts: Annotated[int, typer.Option(help="Base concepts of the dictionary.")],
    gated: Annotated[bool, typer.Option("--gated", help="The layer is gated (SwiGLU and the like).")] = False,
    delta: Annotated[float, typer.Option(help="Share of the selected set that may be wrong.")] = 0.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What the capacity bounds say about a layer of this size.

    Example: probekit capacity --d-model 768 --d-mlp 3072 --concepts 10000
    """
    from probekit.theory import bounds

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
    console = Console()
    console.print(table)
    console.print(
        f"P = {n_params:,} weights act at the neurons. The finite bound limits which pairs the weights can select, not "
        "how many ANDs some probe can read (Adler & Shavit, arXiv 2409.15318)."
    )
