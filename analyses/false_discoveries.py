"""The realised share of false discoveries over planted layers, under each control of the rate, and the power beside it.

    python analyses/false_discoveries.py                  # 210 layers, some 8 minutes of one core
    python analyses/false_discoveries.py --layers 12 --out -
    python analyses/false_discoveries.py --layers 42 --twins 48 --out analyses/results/false_discoveries-48-twins.md
    python analyses/false_discoveries.py --layers 42 --tokens 40000 --out analyses/results/false_discoveries-40000.md

Kinds of layer, in turn: planted 2-ANDs with weak, middling and strong background, on basis-aligned and on superposed
inputs; the two traps (a random layer that avoids the loud directions of its inputs, readers of single concepts); a PC-sign
twin of a planted layer in the layer's place. Null pairs are those whose concepts no neuron of the plant reads together, and
every pair of a trap or twin. Pairs that share a channel neuron by accident are a third class: counted, and left out of
the share. The share of a layer is V/max(V + S, 1) with V null and S designated pairs flagged; its mean over layers
estimates the rate that is controlled. tests/evidence/test_false_discoveries.py runs a reduced set.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from measured import (
    RESULTS,
    decided,
    design_for,
    mean_and_error,
    measured,
    table,
    write_page,
)

# isort: split
from probekit.analysis.passes import LayerMeasure
from probekit.analysis.settings import DECIDING_K
from probekit.evidence.decide import Decision, adjusted
from probekit.model.weights import MlpWeights
from probekit.testing.synthetic import (
    Scene,
    make_plant,
    make_scene,
    random_layer,
    reader_layer,
    twin_of,
    unit_codes,
)

Q = 0.05
CONTROLS = ("bh", "by", "storey")
PAIRS = ("designated", "shared channel", "null")
KINDS: dict[str, tuple[float, int | None]] = {
    "plant, background 0.15": (0.15, None),
    "plant, background 0.45": (0.45, None),
    "plant, background 0.8": (0.8, None),
    "plant, superposed, background 0.1": (0.1, 64),
}
"""Background of the planted kinds, and the dimensions of superposed inputs."""
READERS = "single-concept readers"
TRAPS = ("avoids loud directions", READERS, "twin of a plant")


@dataclass(frozen=True)
class Size:
    """How large the layers are."""

    n_neurons: int = 96
    n_concepts: int = 20
    n_pairs: int = 8
    n_tokens: int = 10_000
    n_twins: int = 12


@dataclass(frozen=True)
class Found:
    """What was flagged on one layer."""

    kind: str
    """Kind of layer."""
    of: np.ndarray
    """Class of each pair, an index of `PAIRS`."""
    flags: dict[tuple[str, str], np.ndarray]
    """Flags by rung and control."""

    def count(self, rung: str, control: str, of: int) -> int:
        """Flagged pairs of one class."""
        return int(self.flags[rung, control][self.of == of].sum())

    def false_share(self, rung: str, control: str) -> float:
        """V/max(V + S, 1)."""
        false, true = self.count(rung, control, 2), self.count(rung, control, 0)
        return false / max(false + true, 1)


def layer_of(kind: str, seed: int, size: Size) -> tuple[Scene, MlpWeights, np.ndarray | None]:
    """A scene, a layer, and the class of every pair (a matrix over concepts); None where all are null."""
    shape = {"n_tokens": size.n_tokens, "n_concepts": size.n_concepts}
    codes = unit_codes(seed, size.n_concepts, size.n_concepts)
    if kind == "avoids loud directions":
        return (
            make_scene(seed, codes=codes, n_loud=8, n_active=3, **shape),
            random_layer(seed, size.n_neurons, size.n_concepts, n_loud=8),
            None,
        )
    if kind == READERS:
        return (
            make_scene(seed, codes=codes, n_active=3, **shape),
            reader_layer(seed, size.n_neurons, codes, gain=4.0),
            None,
        )
    noise, d_model = KINDS.get(kind, (0.15, None))
    plant = make_plant(
        seed, n_pairs=size.n_pairs, n_neurons=size.n_neurons, d_model=d_model, noise=noise, **shape
    )
    if kind == "twin of a plant":
        return plant.scene, twin_of(plant.weights, plant.scene, design_for(plant.scene, twins=0), seed), None
    classes = np.full((size.n_concepts, size.n_concepts), 2)
    for index, held in enumerate((plant.designated, plant.shared_channel)):
        for a, b in held:
            classes[a, b] = index
    return plant.scene, plant.weights, classes


def rungs(decision: Decision, measure: LayerMeasure) -> dict[str, np.ndarray]:
    """The p-value of each rung; the raw one is no p-value of any null here and is the control."""
    assert decision.p_relay is not None
    assert decision.p_decision is not None
    return {
        "above twins": decision.p_relay,
        "computed": decision.p_decision,
        "raw": measure.by_k[DECIDING_K].p_raw,
    }


def found_on(kind: str, seed: int, size: Size) -> Found:
    """Measure and decide one layer."""
    scene, weights, classes = layer_of(kind, seed, size)
    design = design_for(scene, twins=size.n_twins, seed=seed)
    measure = measured(scene, weights, design)
    decision = decided(measure, design.tested)
    flags = {
        (rung, control): adjusted(p, control) <= Q
        for rung, p in rungs(decision, measure).items()
        for control in CONTROLS
    }
    pairs = design.tested.pairs
    of = np.full(len(pairs), 2) if classes is None else classes[pairs[:, 0], pairs[:, 1]]
    return Found(kind, of, flags)


def pass_plan(n_layers: int, size: Size, seed: int = 0) -> Iterator[Found]:
    """Layers of every kind in turn."""
    kinds = (*KINDS, *TRAPS)
    for index in range(n_layers):
        yield found_on(kinds[index % len(kinds)], 10_000 * seed + index, size)


def rows(found: list[Found], rung: str, controls: tuple[str, ...] = CONTROLS) -> Iterator[list[str]]:
    """One line a kind and control."""
    by_kind: dict[str, list[Found]] = defaultdict(list)
    for one in found:
        by_kind[one.kind].append(one)
    null = [one for one in found if rung == "computed" or one.kind != READERS]
    for kind, held in (*by_kind.items(), (f"all {len({one.kind for one in null})} kinds", null)):
        for control in controls:
            shares = [one.false_share(rung, control) for one in held]
            mean, error = mean_and_error(shares)
            cells = [kind, f"{len(held)}", control.upper() if control != "storey" else "Storey"]
            for of in range(3):
                n = sum(int((one.of == of).sum()) for one in held)
                flagged = sum(one.count(rung, control, of) for one in held)
                cells.append(f"{flagged:,} / {n:,} = {flagged / n:.2%}" if n else "–")
            yield [
                *cells,
                f"{mean:.4f} ± {error:.4f}",
                f"{Q + 3 * error:.4f}",
                "yes" if mean <= Q + 3 * error else "NO",
            ]


COLUMNS = ("layers", "number", "control", "designated found", "shared channel found", "null found",
           "false discovery share ± s.e.", "q + 3 s.e.", "holds")  # fmt: skip


def page(n_layers: int, size: Size) -> Iterator[str]:
    """The whole page."""
    yield "# Realised share of false discoveries\n"
    yield (
        f"`python analyses/false_discoveries.py --layers {n_layers} --tokens {size.n_tokens} --twins {size.n_twins}`: "
        f"{size.n_neurons} neurons, "
        f"{size.n_concepts} concepts, 3 on at a token, {size.n_pairs} planted pairs (channel 5, influence ≤ 2), "
        f"{size.n_tokens:,} tokens in documents of 50, {size.n_twins} PC-sign twins, k = 16, q = {Q}. The share "
        "of a layer is V/max(V + S, 1), V null and S designated pairs flagged; the standard error is that "
        "of its mean over layers. Pairs that share a channel "
        "neuron by accident are read together there; they count as neither.\n"
    )
    found = list(pass_plan(n_layers, size))
    yield "## Computed\n"
    yield from table(COLUMNS, rows(found, "computed"))
    yield "\n## Above twins\n"
    yield (
        "Readers of single concepts do stand above their twins: what this rung says of them is true, and that nothing is "
        "computed pair by pair is for the table before to say. They are left out of the last line.\n"
    )
    yield from table(COLUMNS, rows(found, "above twins"))
    yield "\n## Significant raw (the control: what a naive count would report)\n"
    yield from table(COLUMNS, rows(found, "raw", CONTROLS[:1]))


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--layers", type=int, default=210, help="planted layers, traps and twins in all")
    parser.add_argument("--tokens", type=int, default=Size.n_tokens, help="tokens of a layer")
    parser.add_argument("--twins", type=int, default=Size.n_twins, help="null layers of a layer")
    parser.add_argument("--out", default=str(RESULTS / "false_discoveries.md"), help="- prints only")
    options = parser.parse_args()
    size = Size(n_tokens=options.tokens, n_twins=options.twins)
    write_page(page(options.layers, size), options.out)


if __name__ == "__main__":
    main()
