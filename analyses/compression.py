"""How far can a layer be compressed before what it computes is gone, and how does that stand to the bound in bits?

    python analyses/compression.py                  # both parts, some 12 minutes of one core
    python analyses/compression.py --part planted   # layers with a planted set of pairs
    python analyses/compression.py --part nano      # the bundled model
    python analyses/compression.py --quick --out -  # few steps, printed

The weights that act at the neurons are pruned by magnitude and rounded, step by step; after each step the whole analysis
runs again. z weights of b bits among P take log2 C(P, z) + z·b bits to describe, which must not be less than what the
finds tell about the planted set (probekit/theory/recovered.py): the script asserts it for every planted layer and step,
with 10 bits of luck (a chance of 1 in 1,000). Beside it stands m′ ln m′, the parameters that the found number would
need by Adler & Shavit, constant 1 assumed. Writes analyses/results/compression.md and compression.svg.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import probekit as pk
from probekit.analysis.settings import Settings
from probekit.followups.compression import losses
from probekit.model.compress import compressed, pruned, quantised
from probekit.model.hooked_model import load_hooked_model
from probekit.model.weights import MlpWeights
from probekit.storage.store import write_text
from probekit.testing.synthetic import Plant, make_plant, plan, run_layer
from probekit.theory import bounds
from probekit.theory.counting import log2_binomial
from probekit.theory.recovered import description_bits, recovered_bits

RESULT = Path(__file__).parent / "results" / "compression.md"
LUCK = 10.0
SIZE = {"n_pairs": 24, "n_concepts": 32, "n_neurons": 256, "n_tokens": 24_000}
STORED = 16
JITTER = 0.05
"""Relative noise on the planted weights: without it all are equal and magnitude says nothing about which go first."""
KEPT = (1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.02)
"""Shares of the planted layer's non-zero weights."""
BITS = (8, 4, 3, 2, 1)


@dataclass(frozen=True)
class Step:
    """A planted layer after one step."""

    kept: int
    bits: int
    described: float
    """log2 C(P, z) + z·b."""
    told: float
    """What the finds tell about the planted set, in bits."""
    needed: float
    """log2 C(M, m′)."""
    n_found: int
    n_hit: int
    n_above: int
    excess: tuple[float, float]
    represented: int
    error: float
    """Root mean square error of the construction's own readoff."""


def steps_of(quick: bool) -> list[tuple[float, int]]:
    """(share kept, bits) of every step."""
    kept, bits = ((1.0, 0.2), (1,)) if quick else (KEPT, BITS)
    return (
        [(share, STORED) for share in kept]
        + [(1.0, b) for b in bits]
        + ([] if quick else [(0.6, 2), (0.4, 1)])
    )


def planted_steps(seed: int, quick: bool, twins: int) -> Iterator[Step]:
    """Compress one planted layer step by step."""
    plant = make_plant(seed, **SIZE)
    rng = np.random.default_rng([seed, 41])
    jitter = torch.from_numpy(1 + JITTER * rng.standard_normal(tuple(plant.weights.w_in.shape))).float()
    weights = replace(plant.weights, w_in=plant.weights.w_in * jitter)
    design = plan(plant.scene, Settings(twins=twins, max_pairs=10_000, min_support=40))
    n_used = int((weights.w_in != 0).sum())
    for share, bits in steps_of(quick):
        small = pruned(weights.w_in, round(share * n_used))
        small = small if bits == STORED else quantised(small, bits)
        layer = replace(weights, w_in=small)
        judged = run_layer(plant.scene, layer, twins=twins, seed=seed, design=design)
        row = judged.result.row
        n_hit = int(judged.computed[judged.rows_of(plant.designated)].sum())
        n_found, universe = int(judged.computed.sum()), len(judged.pairs)
        kept = int((small != 0).sum())
        yield Step(
            kept=kept,
            bits=bits,
            described=description_bits(small.numel(), kept, bits),
            told=recovered_bits(universe, len(plant.designated), n_found, n_hit),
            needed=log2_binomial(universe, len(plant.designated)),
            n_found=n_found,
            n_hit=n_hit,
            n_above=int(judged.above.sum()),
            excess=(row["excess_low"], row["excess_high"]),
            represented=row["n_represented"],
            error=readoff_error(plant, layer),
        )


def readoff_error(plant: Plant, layer: MlpWeights) -> float:
    """Error of reading each designated pair off the neurons that read both its concepts in the uncompressed layer."""
    h = layer.neurons(plant.scene.inputs).numpy()
    reads = plant.weights.w_in.numpy() > 0.5
    errors: list[float] = []
    for a, b in sorted(plant.designated):
        both = reads[:, a] & reads[:, b]
        quadrant = 2 * plant.scene.labels[:, a] + plant.scene.labels[:, b]
        square = (h[:, both].mean(1) - (quadrant == 3)) ** 2
        errors.append(float(np.mean([square[quadrant == q].mean() for q in range(4)])))
    return float(np.sqrt(np.mean(errors)))


def planted_part(quick: bool, figure: Path | None) -> Iterator[str]:
    """The curve of the planted layers, and the assertion."""
    n_seeds, twins = (1, 5) if quick else (2, 6)
    size = ", ".join(f"{value:,} {name.removeprefix('n_')}" for name, value in SIZE.items())
    yield "## Planted layers\n"
    yield (
        f"{size}; {n_seeds} seeds, {twins} twins. P = {SIZE['n_neurons'] * SIZE['n_concepts']:,} input weights, of which "
        f"the construction uses a few hundred (made unequal by {JITTER:.0%} of noise); biases are all −1 and carry nothing. "
        "*Told*: bits that the finds tell about the planted set; *described*: bits that the compressed weights take. "
        "*Told* must stay below *described*; the script stops where it exceeds it by 10. m′ ln m′: parameters that the "
        "found number would need, constant 1 assumed. Error: root mean square error of the construction's own readoff, "
        "quadrants alike.\n"
    )
    yield (
        "| seed | weights kept | bits each | described | told | whole set | designated computed | computed | above twins | "
        "excess (95 %) | represented | m′ ln m′ | error |"
    )
    yield "|" + "---|" * 13
    drawn: list[dict[str, Any]] = []
    for seed in range(n_seeds):
        for step in planted_steps(seed, quick, twins):
            assert step.told <= step.described + LUCK, f"more told than described: {step}"
            assert step.described + LUCK >= step.needed or step.n_hit < SIZE["n_pairs"], (
                f"a set survived: {step}"
            )
            wanted = float(bounds.min_params(step.n_found)) if step.n_found > 1 else 0.0
            yield (
                f"| {seed} | {step.kept} | {step.bits} | {step.described:,.0f} | {step.told:.0f} | {step.needed:.0f} | "
                f"{step.n_hit} / {SIZE['n_pairs']} | {step.n_found} | {step.n_above} | {step.excess[0]:.0f} to "
                f"{step.excess[1]:.0f} | {step.represented} | {wanted:,.0f} | {step.error:.3f} |"
            )
            drawn.append({"seed": str(seed), **step.__dict__, "wanted": wanted})
    yield ""
    yield "ASSERTED: in every step told ≤ described + 10, and no whole set survives below its own bits.\n"
    if figure is not None:
        write_figure(drawn, figure)


def write_figure(steps: list[dict[str, Any]], path: Path) -> None:
    """Bits told against bits described, on logarithmic axes, with the line that no layer may cross."""
    import altair as alt
    import pandas as pd
    import vl_convert

    data = pd.DataFrame(
        [{**step, "told": max(step["told"], 1.0), "excess": str(step["excess"])} for step in steps]
    )
    low, high = 1.0, float(data["described"].max())
    line = pd.DataFrame({"described": [low, high], "told": [low, high]})
    x = alt.X("described:Q", scale=alt.Scale(type="log"), title="bits that describe the compressed weights")
    y = alt.Y("told:Q", scale=alt.Scale(type="log"), title="bits told about the planted set (1 where none)")
    points = alt.Chart(data).mark_point(filled=True, size=60).encode(x=x, y=y, shape="seed:N", color="bits:O")
    needed = alt.Chart(data).mark_rule(strokeDash=[4, 4]).encode(y="needed:Q")
    chart = alt.layer(alt.Chart(line).mark_line(color="#8793a1").encode(x=x, y=y), needed, points)
    drawing = chart.properties(
        width=480,
        height=300,
        title="No layer tells more than it holds (grey line); dashed: the whole planted set",
    )
    write_text(path, vl_convert.vegalite_to_svg(drawing.to_json()))


def nano_part(quick: bool, _: Path | None) -> Iterator[str]:
    """The bundled model, one layer compressed at a time, as seen."""
    layer = 1
    size: dict[str, Any] = {"max_tokens": 30_000, "max_pairs": 150, "twins": 6}
    size = {"max_tokens": 10_000, "max_pairs": 30, "twins": 4, "min_support": 25} if quick else size
    steps: list[tuple[float, int | None]] = [(1.0, None)] + [
        (s, None) for s in ((0.1,) if quick else (0.5, 0.2, 0.05, 0.01))
    ]
    steps += [(1.0, b) for b in ((1,) if quick else (8, 4, 3, 2, 1))]
    hooked = load_hooked_model("nano")
    n_params = hooked.mlp(layer).weight.numel()
    tokens = pk.Corpus.docs(split="heldout").tokenize(
        hooked.tokenizer, context=hooked.context, max_tokens=2_000 if quick else 12_000, bos_id=hooked.bos_id
    )
    yield "## The bundled model\n"
    yield (
        f"Layer {layer} of nano, its {n_params:,} input weights compressed in place, {size}, default concepts, seed 0; the "
        f"loss over {tokens.n_tokens:,} held-out tokens, change against the whole model ± its standard error by document. "
        "Nothing is asserted here: no pair is known to be computed.\n"
    )
    yield (
        "| weights kept | bits each | described | loss | significant | represented | above plain twins | above twins | "
        "computed | excess (95 %) | median d′: layer / twins | largest m′ for these bits |"
    )
    yield "|" + "---|" * 12
    whole: np.ndarray | None = None
    for share, bits in steps:
        n_kept = None if share == 1.0 else round(share * n_params)
        with compressed(hooked, layer, n_kept=n_kept, bits=bits) as kept:
            loss, n_each = losses(hooked, tokens)
            run = pk.analyze(
                hooked.bridge, None, layers=[layer], spikes=(), controls=(), progress=False, **size
            )
        whole = loss if whole is None else whole
        row = run.summary["layers"][0]
        described = description_bits(n_params, kept, bits or STORED)
        most = bounds.max_selected(n_universe=row["n_tested"], n_params=1, bits=described)
        yield (
            f"| {kept:,} | {bits or STORED} | {described:,.0f} | {told_loss(loss, whole, n_each)} | "
            f"{row['n_significant_raw']} | {row['n_represented']} | {row['n_above_plain']} | {row['n_above_twins']} | "
            f"{row['n_computed']} | {row['excess_low']:.0f} to {row['excess_high']:.0f} | "
            f"{row['effect']['neurons'][2]:.2f} / {row['effect']['twins'][2]:.2f} | "
            f"{'vacuous' if most.vacuous else f'{float(most):,.0f}'} |"
        )
    yield ""


def told_loss(loss: np.ndarray, whole: np.ndarray, n_each: np.ndarray) -> str:
    """Mean loss and its change, with a standard error clustered by document."""
    change = (loss - whole).sum() / n_each.sum()
    influence = (loss - whole - change * n_each) / n_each.sum()
    return f"{loss.sum() / n_each.sum():.3f} ({change:+.3f} ± {np.sqrt((influence**2).sum()):.3f})"


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--part", choices=("both", "planted", "nano"), default="both")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default=str(RESULT), help="page whose parts are replaced; - prints it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = {"planted": planted_part, "nano": nano_part}
    page = Path(options.out)
    sections = (page.read_text() if options.out != "-" and page.exists() else "").split("\n## ")[1:]
    held = {text.partition("\n")[0]: f"## {text.rstrip()}\n" for text in sections}
    for name, part in parts.items():
        if options.part not in ("both", name):
            continue
        lines: list[str] = []
        for line in part(options.quick, None if options.out == "-" else page.with_suffix(".svg")):
            lines.append(line)
            print(line, flush=True)
        held[lines[0].removeprefix("## ").strip()] = "\n".join(lines).rstrip() + "\n"
        if options.out != "-":
            head = "# Compression curves\n\nWritten by `python analyses/compression.py`; figure: compression.svg.\n"
            write_text(page, "\n".join([head, *(held[title] for title in sorted(held, reverse=True))]))


if __name__ == "__main__":
    main()
