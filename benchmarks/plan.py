"""What a run would move, hold and take, from the rates that the benchmarks measured.

python -m benchmarks.plan                                             # gpt2-small, pythia-6.9b, a 70B model
python -m benchmarks.plan --model 32,4096,16384,6.4e9 --tokens 1e8    # layers, width, neurons, weights of the body
python -m benchmarks.plan --cores 64 --pairs 499500
python -m benchmarks.plan --write                                     # docs/planning.md again
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS
from probekit.model.sign_products import GROUP
from probekit.storage.store import read_json, write_text

PAGE = Path(__file__).parents[1] / "docs" / "planning.md"
N_ISOTROPIC, N_SPIKES, TILE, SAMPLED = 4, 4, 4_096, 8_000
CALIBRATION = 50_000
"""Tokens of the fit half that are forwarded once more, before its two passes."""
FORWARDED_AGAIN = 1.5
"""Readings of the text where activations are not kept, but for the calibration."""
MEMORY = 8e9
"""Bytes for sums and kept activations in one process."""


@dataclass(frozen=True)
class Shape:
    """A model's size."""

    name: str
    n_layers: int
    d_model: int
    n_neurons: int
    n_weights: float
    """Weights that act on every token: no embedding, no unembedding."""
    gated: bool = False


MODELS = (
    Shape("gpt2-small", 12, 768, 3_072, 85e6),
    Shape("pythia-6.9b", 32, 4_096, 16_384, 6.4e9),
    Shape("a 70B model (Llama shape)", 80, 8_192, 28_672, 68.5e9, gated=True),
)
TOKENS = (1e6, 1e7, 1e8, 1e9)


@dataclass(frozen=True)
class Rates:
    """Speeds of one core."""

    forward: float
    """Floating-point operations a second of a forward."""
    gemm: float
    """Of a large product."""
    gram: float
    """Of a Gram matrix, as if the whole square were multiplied."""
    additions: float
    """Additions a second of pair sums."""
    selection: float
    """Seconds a pair and neuron of a path of 16."""


def measured() -> tuple[Rates, list[dict[str, Any]]]:
    """The rates of benchmarks/results, and the records they come from."""
    records = [read_json(RESULTS / f"{name}.json") for name in ("harvest", "rates")]
    held = {key: value for record in records for key, value in record["rates"].items()}
    rates = Rates(
        held["forward_flops"], held["product_flops"], held["gram_flops"], held["pair_additions"],
        held["selection_seconds"],
    )  # fmt: skip
    return rates, records


@dataclass(frozen=True)
class Plan:
    """What one run needs."""

    seconds: dict[str, float]
    """Core seconds by stage."""
    n_busy: int
    """Cores that have a task."""
    site_bytes: float
    """Sums that a task holds for one site in pass A."""
    twin_input_bytes: float
    """Weights and inputs of a layer's twins."""
    avoided_bytes: float
    """A cache of neurons and MLP inputs in 16 bits, which is not made."""
    moved_bytes: float
    """What a task of the ray engine returns, all tasks together."""


def plan(
    shape: Shape,
    n_tokens: float,
    rates: Rates,
    *,
    n_twins: int = 20,
    n_pairs: int = 2_000,
    n_concepts: int = 1_000,
    n_active: float = 10,
    n_slots: int = 1,
) -> Plan:
    """Core seconds, memory and bytes of one run over all layers.

    Args:
        shape: the model.
        n_tokens: counted tokens.
        rates: of one core.
        n_twins: twins a layer.
        n_pairs: tested pairs.
        n_concepts: concepts.
        n_active: concepts that hold at a token.
        n_slots: tasks at the same time; more than layers means that the text is forwarded again for each share of sites.
    """
    n, d, depth = shape.n_neurons, shape.d_model, shape.n_layers
    fit = 0.5 * n_tokens
    # neurons, pre-activations, in a gated layer linearised neurons, and what is random
    n_sites = 2 + shape.gated + n_twins + N_ISOTROPIC + N_SPIKES
    n_squares = n_sites + 3 * shape.gated  # its pre-activations have two halves: twice as wide
    site_bytes = 8.0 * n * (n + n_pairs + n_concepts) + 4 * TILE * n * 3
    kept_bytes = 4.0 * (d + n) * n_tokens
    forwards, n_busy, keeps = _forwards(depth, n_sites, n_squares * site_bytes, kept_bytes, n_slots)
    # the fit half twice, the confirm half once; the first tokens once more for each group of layers, or each layer
    calibrations = min(forwards, (depth + 1) / 2) * min(CALIBRATION, fit)
    forwarded = forwards * n_tokens + (0 if keeps else forwards * fit + calibrations)
    per_site = fit * 2.0 * n**2 / rates.gram
    squares = n_squares + (d / n) ** 2  # the input's is smaller
    per_pairs = fit * n * (n_pairs * (n_active / n_concepts) ** 2 + n_active) / rates.additions
    # twins of a group share one product; each is a sum of its classes
    n_groups = -(-n_twins // GROUP)
    products = d * (n_groups + N_ISOTROPIC) + n_twins * 2 ** (GROUP - 1)
    twin_flops = 2.0 * n * (2 if shape.gated else 1) * products * 1.5 * n_tokens
    k = 16
    sampled = n_sites * n_pairs * 2 * min(SAMPLED, n_tokens) * (k + k * k / 2)
    seconds = {
        "forward": forwarded * 2 * shape.n_weights / rates.forward,
        "twins’ rows": depth * twin_flops / rates.gemm,
        "Gram matrices": depth * per_site * squares,
        "pair sums": depth * (n_sites + shape.gated) * per_pairs,
        "selection": depth * n_sites * n_pairs * rates.selection * n,
        "refit and confirm": depth * sampled / rates.additions,
    }
    return Plan(
        seconds,
        n_busy,
        site_bytes,
        4.0 * (d * d + 2 * n * d + TILE * (d + n)) + N_ISOTROPIC * 4.0 * n * d,
        2.0 * n_tokens * depth * (n + d),
        depth * n_sites * n_pairs * 16 * 4 * 16 * 8.0,
    )


def _forwards(
    n_layers: int, n_sites: int, layer_bytes: float, kept_bytes: float, n_slots: int
) -> tuple[float, int, bool]:
    """How often the whole model is run over the text, the cores that have something to do, and whether it runs once.

    A pass stops inside the last layer that it reads. One process keeps the activations of a group of layers where they fit
    into `MEMORY`, else takes layers together as far as their sums fit; a cluster deals the sites of each layer to as many
    tasks as there are cores (`backends._shares`).
    """
    if n_slots <= 1:
        n_streamed = max(1, int(MEMORY // layer_bytes))
        streamed = _depth(n_layers, n_streamed)
        n_kept = int((MEMORY - layer_bytes) // kept_bytes)
        kept = _depth(n_layers, n_kept) if n_kept >= 1 else float("inf")
        keeps = kept < streamed * FORWARDED_AGAIN
        return (kept if keeps else streamed), 1, keeps
    n_shares = min(-(-n_slots // n_layers), n_sites)
    return n_shares * (n_layers + 1) / 2, min(n_slots, n_shares * n_layers), False


def _depth(n_layers: int, together: int) -> float:
    """How often the model's layers are gone through where groups of so many share a forward."""
    lasts = [min(first + together, n_layers) for first in range(0, n_layers, together)]
    return sum(lasts) / n_layers


def size(n_bytes: float) -> str:
    """Bytes as a reader wants them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1_000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1_000
    return f"{n_bytes:,.3g} PB"


def duration(seconds: float) -> str:
    """Seconds as a reader wants them."""
    for limit, unit, name in (
        (120, 1, "s"),
        (7_200, 60, "min"),
        (172_800, 3_600, "h"),
        (63_072_000, 86_400, "days"),
    ):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 31_536_000:,.3g} years"


def rows(
    shapes: tuple[Shape, ...], tokens: tuple[float, ...], rates: Rates, n_cores: int, **options: Any
) -> list[str]:
    """Table rows: one a model and number of tokens."""
    stages = ("forward", "twins’ rows", "Gram matrices", "pair sums", "selection", "refit and confirm")
    lines = [
        (
            f"| model | tokens | {' | '.join(stages)} | all, on {n_cores:,} core{'s' * (n_cores > 1)} | a site’s "
            "sums | "
            "not stored | moved |"
        ),
        "|" + "---|" * (len(stages) + 6),
    ]
    for shape in shapes:
        for n_tokens in tokens:
            found = plan(shape, n_tokens, rates, n_slots=n_cores, **options)
            cells = [duration(found.seconds[stage]) for stage in stages]
            whole = duration(sum(found.seconds.values()) / found.n_busy)
            lines.append(
                f"| {shape.name} | {n_tokens:,.0f} | {' | '.join(cells)} | {whole} | {size(found.site_bytes)} | "
                f"{size(found.avoided_bytes)} | {size(found.moved_bytes)} |"
            )
    return lines


def page() -> str:
    """The documentation page."""
    rates, records = measured()
    machine = records[0]["machine"]
    lines = [
        "# What a run would take",
        "",
        (
            "Written by `python -m benchmarks.plan --write` from the speeds in `benchmarks/results/`. The tables "
            "multiply counts "
            "of operations by the measured speed of one core; they are estimates, not measurements, and leave out "
            "loading, "
            "tokenizing and labelling. Where a run's settings differ, ask for your own: "
            "`python -m benchmarks.plan --model LAYERS,WIDTH,NEURONS,WEIGHTS --tokens N --pairs P --twins R "
            "--cores C`."
        ),
        "",
        (
            f"One core of {machine['processor']}: forward {rates.forward / 1e9:.3g} GFLOP/s, product "
            f"{rates.gemm / 1e9:.3g}, Gram "
            f"matrix {rates.gram / 1e9:.3g} (of the whole square), pair sums {rates.additions / 1e9:.3g} G "
            "additions/s, a path of "
            f"16 neurons {rates.selection * 3_072 * 1e3:.3g} ms at 3,072. Stages are core time; *all* divides by the "
            "cores. "
            "Default analysis: 1,000 concepts of which 10 hold at a token, 2,000 tested pairs, 20 twins, 4 isotropic "
            "twins, 4 "
            "spike sizes; where activations do not fit into memory the fit half is forwarded twice, its first 50,000 tokens "
            "three times, the confirm half once."
        ),
        "",
        (
            "- *A site’s sums*: what a task holds in pass A for one site (Gram matrix, sums of pairs and concepts, "
            "tiles). It does "
            "not grow with the tokens. A process that takes all sites of a layer at once holds as many of them as "
            "there are sites."
        ),
        "- *Not stored*: neurons and MLP inputs of all layers in 16 bits, as a cache of activations would take.",
        "- *Moved*: readouts and contrasts that tasks of the ray engine return, all together.",
        "",
        "## One core",
        "",
        (
            f"One process with {MEMORY / 1e9:g} GB (`memory=`) takes as many layers together as have their sums there; of a "
            "short text the activations fit as well, and it is forwarded once."
        ),
        "",
        *rows(MODELS, TOKENS, rates, 1),
        "",
        "## A thousand cores, `--engine ray`",
        "",
        (
            "The table is for texts whose activations of a layer do not fit into `memory=` and the cluster's memory: a task "
            "takes one layer and some of its sites and forwards the text up to its layer itself, nothing is stored or sent, "
            "and every task pays for its forward (half of the model on average). That is why the column grows. Where they "
            "fit, every token is forwarded once, batch by batch on whatever machine is free. No more cores are busy than "
            "there are layers times sites."
        ),
        "",
        *rows(MODELS, TOKENS, rates, 1_000),
        "",
        "## All pairs of 1,000 concepts, one core",
        "",
        (
            "499,500 pairs. The sums of pairs then outgrow the Gram matrix and have to be taken in blocks of pairs, "
            "each of which "
            "reads the text again; the column of the sums shows what one process would have to hold for all at once."
        ),
        "",
        *rows(MODELS[:1], TOKENS, rates, 1, n_pairs=499_500),
        "",
        "## Graphics processors",
        "",
        (
            "No speed of one has been measured, so none is promised. `--forward-rate` and `--gram-rate` take yours "
            "(operations a "
            "second) in place of the measured ones."
        ),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Print or write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--model", help="layers,width,neurons,weights of the body; none: three well-known sizes"
    )
    parser.add_argument("--gated", action="store_true", help="the model's MLP has a gate")
    parser.add_argument("--tokens", type=float, nargs="*", default=list(TOKENS))
    parser.add_argument("--pairs", type=int, default=2_000)
    parser.add_argument("--concepts", type=int, default=1_000)
    parser.add_argument("--active", type=float, default=10, help="concepts that hold at a token")
    parser.add_argument("--twins", type=int, default=20)
    parser.add_argument("--cores", type=int, default=1, help="tasks at the same time")
    parser.add_argument("--forward-rate", type=float, help="operations a second of your forward")
    parser.add_argument("--gram-rate", type=float, help="operations a second of your products")
    parser.add_argument("--write", action="store_true", help="write docs/planning.md")
    options = parser.parse_args()
    if options.write:
        write_text(PAGE, page())
        return
    rates, _ = measured()
    if options.forward_rate or options.gram_rate:
        products = options.gram_rate
        rates = Rates(
            options.forward_rate or rates.forward, products or rates.gemm, products or rates.gram, rates.additions,
            rates.selection,
        )  # fmt: skip
    shapes = MODELS
    if options.model:
        try:
            depth, width, neurons, weights = (float(part) for part in options.model.split(","))
        except ValueError:
            parser.error(f"--model {options.model}: wanted four numbers, LAYERS,WIDTH,NEURONS,WEIGHTS")
        shapes = (Shape("yours", int(depth), int(width), int(neurons), weights, gated=options.gated),)
    asked = {
        "n_pairs": options.pairs, "n_concepts": options.concepts, "n_active": options.active, "n_twins": options.twins,
    }  # fmt: skip
    print("\n".join(rows(shapes, tuple(options.tokens), rates, options.cores, **asked)))


if __name__ == "__main__":
    sys.exit(main())
