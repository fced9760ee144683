"""Which trap does each null catch, and which does it miss? And is each null calibrated by itself?

    python analyses/nulls.py                    # both parts, some 15 minutes of one core
    python analyses/nulls.py --part layers      # synthetic layers whose answer is known
    python analyses/nulls.py --part model       # the bundled model, and the same with one layer drawn anew
    python analyses/nulls.py --quick --out -    # small and printed

Every null stands alone (probekit/evidence/null_comparison.py); the rule that decides uses several together. On innocent
layers each find is an error, on the planted layer the designated pairs shall be found. Writes analyses/results/nulls.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save

import probekit as pk
from probekit.analysis.design import StudyDesign
from probekit.analysis.layer_summary import summarise_layer
from probekit.analysis.passes import LayerMeasure, measure_layers
from probekit.analysis.settings import CONTROLS, DECIDING_K, Settings
from probekit.analysis.source import ArraySource
from probekit.evidence.null_comparison import Null, flagged, in_place, p_values
from probekit.followups.null_comparison import nulls_of, permuted, readings
from probekit.model.folder import NANO_FOLDER
from probekit.model.weights import MlpWeights
from probekit.storage.store import write_bytes, write_text
from probekit.testing.synthetic import (
    Scene,
    make_plant,
    make_scene,
    plan,
    random_layer,
    reader_layer,
    unit_codes,
)

HERE = Path(__file__).parent
RESULT = HERE / "results" / "nulls.md"
N_CONCEPTS, N_NEURONS = 24, 160
NAIVE_AUC = 0.9
RIDGE = 1e-2
Classes = dict[str, set[tuple[int, int]] | None]
"""Class of pairs → its members; None: all pairs."""


@dataclass(frozen=True)
class Trap:
    """A layer whose answer is known."""

    name: str
    scene: Scene
    weights: MlpWeights
    classes: Classes


def traps(seed: int, n_tokens: int) -> Iterator[Trap]:
    """Innocent layers, an AND that is there before the layer, and a planted layer."""
    size = {"n_tokens": n_tokens, "n_concepts": N_CONCEPTS, "n_active": 3}
    plain = make_scene(seed, **size)
    yield Trap("random layer", plain, random_layer(seed, N_NEURONS, N_CONCEPTS), {"": None})
    straight = random_layer(seed, N_NEURONS, N_CONCEPTS)
    # so large a bias that no neuron is ever off: all that A∧B can be read by is the threshold on A + B
    yield Trap("A + B, no bend", plain, replace(straight, b_in=straight.b_in + 20.0), {"": None})
    codes = unit_codes(seed, N_CONCEPTS, N_CONCEPTS)
    readers = reader_layer(seed, N_NEURONS, codes, gain=4.0)
    yield Trap("single-concept readers", make_scene(seed, codes=codes, **size), readers, {"": None})
    loud = make_scene(seed, codes=codes, n_loud=8, **size)
    yield Trap(
        "avoids loud directions", loud, random_layer(seed, N_NEURONS, N_CONCEPTS, n_loud=8), {"": None}
    )
    yield before_the_layer(seed, plain)
    plant = make_plant(seed, n_pairs=12, n_concepts=N_CONCEPTS, n_neurons=N_NEURONS, n_tokens=n_tokens)
    every = {(a, b) for a in range(N_CONCEPTS) for b in range(a + 1, N_CONCEPTS)}
    disjoint = every - plant.designated - plant.shared_channel
    classes: Classes = {
        "designated": plant.designated, "shared channel": plant.shared_channel, "disjoint": disjoint,
    }  # fmt: skip
    yield Trap("planted", plant.scene, plant.weights, classes)


def before_the_layer(seed: int, scene: Scene) -> Trap:
    """Twelve ANDs stand in the input already; the layer is random."""
    rng = np.random.default_rng([seed, 31])
    pairs = [(2 * i, 2 * i + 1) for i in range(12)]
    ands = np.stack([scene.labels[:, a] & scene.labels[:, b] for a, b in pairs], axis=1)
    noisy = ands + 0.15 * rng.standard_normal(ands.shape)
    inputs = torch.cat([scene.inputs, torch.from_numpy(noisy).float()], dim=1)
    weights = random_layer(seed, N_NEURONS, inputs.shape[1])
    given = set(pairs)
    every = {(a, b) for a in range(N_CONCEPTS) for b in range(a + 1, N_CONCEPTS)}
    return Trap(
        "AND in the input", replace(scene, inputs=inputs), weights, {"given": given, "others": every - given}
    )


def measured(
    trap: Trap, twins: int, n_permutations: int, seed: int
) -> tuple[StudyDesign, LayerMeasure, list[Null]]:
    """One layer with every null that needs no model."""
    settings = Settings(
        twins=twins, seed=seed, max_pairs=10_000, min_support=30, controls=CONTROLS, spikes=()
    )
    design = plan(trap.scene, settings)
    source = ArraySource(
        trap.weights.neurons(trap.scene.inputs), trap.scene.inputs, trap.weights, design.rows
    )
    measure = next(measure_layers(source, [0], design))
    rng = np.random.default_rng([seed, 32])
    shuffled = [readings(source, [0], permuted(design, rng))[0] for _ in range(n_permutations)]
    return design, measure, nulls_of(measure, permutations=shuffled)


def naive(trap: Trap, design: StudyDesign) -> np.ndarray:
    """Pairs whose AND a ridge probe on all neurons ranks with an AUC of `NAIVE_AUC` on the confirm half."""
    h = trap.weights.neurons(trap.scene.inputs).numpy().astype(float)
    rows = design.rows
    shift = h[rows["fit"]].mean(0)
    x, y = h[rows["fit"]] - shift, trap.scene.labels
    pairs = design.tested.pairs
    truth = y[:, pairs[:, 0]] & y[:, pairs[:, 1]]
    gram = x.T @ x
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    target = truth[rows["fit"]].astype(float)
    weights = np.linalg.solve(gram, x.T @ (target - target.mean(0)))
    score = (h[rows["confirm"]] - shift) @ weights
    rank = score.argsort(0).argsort(0) + 1.0
    held = truth[rows["confirm"]]
    n_on = held.sum(0)
    auc = ((rank * held).sum(0) - n_on * (n_on + 1) / 2) / (n_on * (len(held) - n_on))
    return auc >= NAIVE_AUC


def layer_tables(n_seeds: int, n_tokens: int, twins: int, n_permutations: int) -> Iterator[str]:
    """Null × trap, and each null's calibration."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    own: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(n_seeds):
        for trap in traps(seed, n_tokens):
            design, measure, nulls = measured(trap, twins, n_permutations, seed)
            counts = design.confirm.sample.n_natural
            layer = measure.by_k[DECIDING_K]
            names = [f"f{c}" for c in range(N_CONCEPTS)]
            decided = summarise_layer(
                measure, design, names=names, kinds=["all"] * len(counts), n_params=trap.weights.n_params,
                bits_stored=32.0,
            ).pairs  # fmt: skip
            flags = {f"AUC ≥ {NAIVE_AUC} (naive)": naive(trap, design)}
            flags |= {null.name: flagged(null, layer, design.tested, counts) for null in nulls}
            flags |= {
                f"the rule: {c.replace('_', ' ')}": decided[c].to_numpy(bool)
                for c in ("above_twins", "computed")
            }
            held = [(int(a), int(b)) for a, b in design.tested.pairs]
            for column, members in trap.classes.items():
                mask = np.array([members is None or pair in members for pair in held])
                title = f"{trap.name}{': ' if column else ''}{column}"
                for name, flag in flags.items():
                    found.setdefault((name, title), []).append((int(flag[mask].sum()), int(mask.sum())))
            for null in nulls:
                p = in_place(null, design.tested)
                if null.how == "pairs" and trap.name == "random layer":
                    p = [p_values(null, layer, design.tested, counts)]
                own.setdefault(null.name, []).extend(
                    (
                        float((q <= 0.01).mean()),
                        float((q <= 0.1).mean()),
                        float((design.tested.adjusted(q) <= design.tested.q).any()),
                    )
                    for q in p
                )
    rows = list(dict.fromkeys(name for name, _ in found))
    columns = list(dict.fromkeys(title for _, title in found))
    yield f"| null | {' | '.join(columns)} |"
    yield "|" + "---|" * (len(columns) + 1)
    for name in rows:
        cells = [np.sum(found[name, title], axis=0) for title in columns]
        yield f"| {name} | {' | '.join(f'{n} / {m}' for n, m in cells)} |"
    yield ""
    yield (
        "Each null's own calibration: its draws in the layer's place against the others, over all layers above. Rivals and "
        "pairs of like frequency have no draws: for the latter the shares are those of the random layers.\n"
    )
    yield "| null | draws | P(p ≤ 0.01) | P(p ≤ 0.1) | draws with any find |"
    yield "|---|---|---|---|---|"
    for name, shares in own.items():
        if shares:
            low, tenth, some = np.mean(shares, axis=0)
            yield f"| {name} | {len(shares)} | {low:.4f} | {tenth:.3f} | {some:.1%} |"
        else:
            yield f"| {name} | – | – | – | – |"
    yield ""


def checkpoint_folder(weights: Path, folder: Path) -> Path:
    """A checkpoint of the bundled model as a model folder."""
    place = folder / weights.stem
    place.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(NANO_FOLDER / name, place / name)
    shutil.copy(weights, place / "model.safetensors")
    return place


def with_layer_redrawn(layer: int, folder: Path, seed: int) -> Path:
    """The bundled model with one layer's input weights replaced by Gaussian ones of the same row norms."""
    place = checkpoint_folder(NANO_FOLDER / "model.safetensors", folder)
    state = load_file(place / "model.safetensors")
    name = next(key for key in state if key.endswith(f"h.{layer}.mlp.c_fc.weight"))
    old = state[name].float()
    fresh = torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(old.shape))).float()
    # stored [input neuron]: a neuron's weights are a column
    state[name] = (fresh * old.norm(dim=0) / fresh.norm(dim=0)).to(state[name].dtype)
    write_bytes(place / "model.safetensors", save(state, metadata={"format": "pt"}))
    return place


def model_tables(quick: bool) -> Iterator[str]:
    """The bundled model against every null, and the same model with one innocent layer."""
    size = {
        "max_tokens": 12_000,
        "max_pairs": 40,
        "twins": 5,
        "permutations": 3,
        "untrained": 3,
        "min_support": 30,
    }
    if not quick:
        size = {
            "max_tokens": 40_000,
            "max_pairs": 200,
            "twins": 8,
            "permutations": 4,
            "untrained": 4,
            "min_support": 60,
        }
    layers = [1] if quick else [0, 1, 2, 3]
    innocent = 1
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        steps = [HERE / "nano" / "checkpoints" / f"step-{step:05d}.safetensors" for step in (25, 384, 2400)]
        checkpoints = [checkpoint_folder(step, folder) for step in (steps[1:2] if quick else steps)]
        whole = pk.against_nulls("nano", layers=layers, checkpoints=checkpoints, **size).table
        redrawn = pk.against_nulls(
            with_layer_redrawn(innocent, folder, 7), layers=[innocent], checkpoints=checkpoints, **size
        ).table
    yield (
        f"`{json.dumps(size)}`, seed 0, {int(whole['n_tested'].iloc[0])} pairs. Each cell: pairs that this null alone calls "
        "found at q = 0.05, and in brackets the shares with p ≤ 1 % and p ≥ 99 %. In the last column layer "
        f"{innocent}'s input weights were drawn anew (Gaussian, same norms) inside the trained model: whatever is found "
        "there this layer did not learn.\n"
    )
    columns = {f"layer {layer}": whole[whole["layer"] == layer] for layer in layers}
    columns[f"layer {innocent} redrawn"] = redrawn
    yield f"| null | draws | {' | '.join(columns)} | own draws: P(p ≤ 0.01), any find |"
    yield "|" + "---|" * (len(columns) + 3)
    for name in dict.fromkeys(whole["null"]):
        rows = [table[table["null"] == name].iloc[0] for table in columns.values()]
        cells = [f"{row['n_found']} ({row['share_low']:.1%} / {row['share_high']:.1%})" for row in rows]
        own = whole[whole["null"] == name][["own_low", "own_any"]].mean()
        told = "–" if pd.isna(own["own_low"]) else f"{own['own_low']:.2%}, {own['own_any']:.0%}"
        yield f"| {name} | {rows[0]['n_draws']} | {' | '.join(cells)} | {told} |"
    yield ""


def report(options: argparse.Namespace) -> Iterator[str]:
    """The page, line by line."""
    if options.part in ("both", "layers"):
        n_seeds, n_tokens, twins, n_permutations = (1, 8_000, 6, 4) if options.quick else (3, 16_000, 12, 8)
        yield "## Layers whose answer is known\n"
        yield (
            f"{n_seeds} seeds, {n_tokens:,} tokens, {N_NEURONS} neurons, {N_CONCEPTS} concepts (3 on at a token), {twins} "
            f"PC-sign twins, 4 of each further kind, {n_permutations} permutations, q = 0.05. Each cell: pairs that this "
            "null alone calls found, of the tested ones. In the first four layers, where the AND is given in the input, and "
            "among the disjoint pairs nothing is computed: each find is an error. *Shared channel*: pairs that some neuron "
            "reads together by accident, a class of its own.\n"
        )
        yield from layer_tables(n_seeds, n_tokens, twins, n_permutations)
    if options.part in ("both", "model"):
        yield "## The bundled model\n"
        yield from model_tables(options.quick)


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--part", choices=("both", "layers", "model"), default="both")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default=str(RESULT), help="page whose parts are replaced; - prints it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts: list[str] = []
    for line in report(options):
        parts.append(line)
        print(line, flush=True)
    if options.out == "-":
        return
    page = Path(options.out)
    head = (
        "# Every null alone: what it catches and what it misses\n\nWritten by `python analyses/nulls.py`.\n"
    )
    held = dict(section(text) for text in (page.read_text() if page.exists() else "").split("\n## ")[1:])
    held |= dict(section(text) for text in ("\n" + "\n".join(parts)).split("\n## ")[1:])
    order = sorted(held, reverse=False)
    write_text(page, head + "".join(f"\n## {title}\n{held[title]}" for title in order))


def section(text: str) -> tuple[str, str]:
    """Title and text of a section."""
    title, _, rest = text.partition("\n")
    return title, rest.rstrip() + "\n"


if __name__ == "__main__":
    main()
