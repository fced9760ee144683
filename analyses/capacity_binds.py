"""Layers on which the capacity audit can bind, and what it then says.

    python analyses/capacity_binds.py              # some 8 minutes of one core
    python analyses/capacity_binds.py --part planted --out -

The finite bound log2 C(M, m') ≤ P·b says something only where more pairs are tested than the layer's weights hold bits, and
the asymptotic reference only where more are tested than n²/ln n. Planted: a narrow layer on superposed inputs, all pairs of
80 concepts. nano: all testable pairs of its default dictionary (at most 6,000) on so few of its neurons that the bound can
bind (its 512 neurons would need more than 132,096 tested pairs at b = 2), and as many untrained neurons.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from measured import RESULTS, design_for, table, write_page

# isort: split
from probekit.analysis.design import StudyDesign
from probekit.analysis.inputs import inputs_of_model
from probekit.analysis.layer_summary import summarise_layer
from probekit.analysis.passes import measure_layers
from probekit.analysis.reading import Reading
from probekit.analysis.settings import Settings
from probekit.analysis.source import ArraySource, Half
from probekit.evidence.audit import ASSUMED_BITS
from probekit.evidence.pair_sampling import PairSampling
from probekit.model.weights import MlpWeights
from probekit.testing.synthetic import Scene, make_plant, random_layer

LAYER, MOST_PAIRS = 1, 6_000


def judged(
    inputs: torch.Tensor, weights: MlpWeights, design: StudyDesign, bits_stored: float
) -> dict[str, Any]:
    """The layer's row of summary.json."""
    source = ArraySource(weights.neurons(inputs), inputs, weights, design.rows)
    measure = next(measure_layers(source, [0], design))
    n_concepts, n_pairs = design.tested.n_concepts, len(design.tested.pairs)
    return summarise_layer(
        measure, design, names=[f"c{i}" for i in range(n_concepts)], kinds=["all"] * n_pairs,
        n_params=weights.n_params, bits_stored=bits_stored,
    ).row  # fmt: skip


def said(name: str, row: dict[str, Any]) -> Iterator[str]:
    """References, verdicts and the statement of one layer."""
    held = row["capacity"]
    most = "vacuous" if held["max_selected"] is None else f"{held['max_selected']:,.0f}"
    yield f"## {name}\n"
    yield from table(
        ("tested pairs M", "n²/ln n", "weights P", "bits held at b = 2", "most pairs nameable", "can bind", "computed",
         "twins' mean", "excess, lower limit", "bits its naming takes"),
        [[
            f"{held['universe']:,}", f"{held['n2_over_ln_n']:,.0f}", f"{held['n_params']:,}", f"{held['bits_held']:,.0f}",
            most, "no" if held["cannot_bind"] else "yes", f"{row['n_computed']:,}",
            f"{row['twins']['n_computed']['mean']:.2f}", f"{row['excess_low']:.1f}", f"{held['bits_needed']:,.0f}",
        ]],
    )  # fmt: skip
    yield f"\n> {row['statement']}\n"
    yield "Verdict under other assumptions (b bits a weight, a share δ of the set may be wrong):\n"
    columns = ("b", "δ", "bits held", "bits needed", "most pairs nameable", "verdict")
    yield from table(
        columns,
        (
            [
                f"{r['bits']:g}", f"{r['delta']:g}", f"{r['bits_held']:,.0f}", f"{r['bits_needed']:,.0f}",
                "–" if r["max_selected"] is None else f"{r['max_selected']:,.0f}", r["verdict"],
            ]
            for r in held["by_assumption"]
        ),
    )  # fmt: skip
    yield ""


def planted() -> Iterator[str]:
    """Narrow planted layers with all pairs of their concepts tested."""
    size = {"n_concepts": 80, "n_tokens": 60_000, "n_active": 4, "noise": 0.05}
    plant = make_plant(3, n_pairs=10, n_neurons=44, d_model=32, **size)
    for name, layer in (
        ("Planted: 10 ANDs in 44 neurons, 80 concepts on 32 dimensions", plant.weights),
        ("A random layer of the same size on the same inputs", random_layer(3, 44, 32)),
    ):
        yield from said(name, on_scene(plant.scene, layer))
    basis = make_plant(4, n_pairs=8, n_neurons=15, channel=3, **size)
    yield from said(
        "Planted: 8 ANDs in 15 neurons, 80 concepts on a basis", on_scene(basis.scene, basis.weights)
    )


def on_scene(scene: Scene, weights: MlpWeights) -> dict[str, Any]:
    """A layer of a scene, judged."""
    return judged(scene.inputs, weights, design_for(scene, twins=8, min_support=40), 32.0)


def nano() -> Iterator[str]:
    """A piece of nano's layer, trained and untrained, with all testable pairs of the default dictionary."""
    settings = Settings(
        max_tokens=40_000, max_pairs=MOST_PAIRS, min_support=40, twins=6, controls=(), spikes=()
    )
    analysis_inputs = inputs_of_model(
        Reading("nano", None, settings, device="cpu"), None, [LAYER], PairSampling()
    )
    n_fit = analysis_inputs.design.fit.labels.n_tokens
    n_all = n_fit + analysis_inputs.design.confirm.labels.n_tokens
    halves: tuple[Half, Half] = ("fit", "confirm")
    design = replace(
        analysis_inputs.design,
        fit=replace(analysis_inputs.design.fit, rows=np.arange(n_fit)),
        confirm=replace(analysis_inputs.design.confirm, rows=np.arange(n_fit, n_all)),
    )
    blocks = [block[LAYER][0] for half in halves for block in analysis_inputs.source.blocks(half, [LAYER])]
    inputs = torch.cat([x for x in blocks if x is not None])
    whole = analysis_inputs.source.weights(LAYER)
    assert whole is not None
    n_tested = len(design.tested.pairs)
    # a tenth fewer weights than would make the bound vacuous at b = 2
    piece = int(0.9 * n_tested / (ASSUMED_BITS * (whole.d_model + 1)))
    yield (
        f"{analysis_inputs.concepts['n']} concepts, "
        f"{analysis_inputs.concepts['n_testable']:,} of {analysis_inputs.concepts['n_pairs']:,} pairs "
        f"testable, {n_tested:,} tested, {n_all:,} tokens.\n"
    )
    own = MlpWeights.from_arrays(whole.w_in[:piece], whole.b_in[:piece], activation=whole.activation)
    rows = np.random.default_rng(0).standard_normal((piece, whole.d_model)) * float(own.w_in.std())
    untrained = MlpWeights.from_arrays(rows, np.zeros(piece), activation=whole.activation)
    yield from said(
        f"nano: the first {piece} neurons of layer {LAYER}",
        judged(inputs, own, design, analysis_inputs.bits(LAYER)),
    )
    yield from said(f"{piece} untrained neurons on the same inputs", judged(inputs, untrained, design, 32.0))


def page(part: str) -> Iterator[str]:
    """The whole page."""
    yield "# Layers on which the capacity audit can bind\n"
    yield (
        f"`python analyses/capacity_binds.py --part {part}`: all pairs tested, 8 PC-sign twins (nano 6), q = 0.05, k = 16. "
        "What is bounded is how long it takes to name the selected set given inputs, dictionary and rule; a failed "
        "inequality would mean a set that can be named in fewer bits, false positives or too small a b, and no refuted "
        "theorem.\n"
    )
    if part in ("all", "planted"):
        yield from planted()
    if part in ("all", "nano"):
        yield from nano()


def main() -> None:
    """Run the layers and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--part", choices=("all", "planted", "nano"), default="all")
    parser.add_argument("--out", default=str(RESULTS / "capacity_binds.md"), help="- prints only")
    options = parser.parse_args()
    write_page(page(options.part), options.out)


if __name__ == "__main__":
    main()
