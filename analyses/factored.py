"""Weight matrices as compute ∘ decompress: planted circuits, trained nets whose targets are known, nano, SmolLM2.

    python analyses/factored.py            # some 20 minutes of one core; writes results/factored.md and .json
    python analyses/factored.py --parts planted trained

`pk.circuits.factor` writes each row of a layer's input weights with few concepts of a dictionary and holds what that
explains against PC-sign twins of the layer. Where the computation matrix is known (planted circuits) its entries are
counted; where the targets are known (nets trained on the ANDs of chosen pairs, on a basis and on superposed inputs) the
pairs whose concepts the same neurons read are ranked, beside those of a twin. In real layers (token types and measured
concepts as dictionaries, as in `channels.py`) there is no truth: shares and p-values as found.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import torch
from count_against_parameters import n_right
from jaxtyping import Float
from measured import RESULTS, mean_and_error, table, write_page
from sklearn.metrics import average_precision_score
from trained_uand import Layer, S, Task, all_inputs, all_pairs, train

from probekit.report.canvas import ACCENT, MUTED, to_svg
from probekit.storage.store import write_text
from probekit.theory.circuits import Circuit, dense_uand, gaussian_uand, two_and
from probekit.theory.circuits.draw import sign_codes
from probekit.theory.circuits.factor import Factored, factor

OUT = RESULTS / "factored.json"
SEEDS = (0, 1, 2)
N_STEPS = 2_500
M = 24
NETS = ((24, 12, None), (24, 24, None), (48, 24, None), (48, 48, None), (48, 24, 20), (48, 24, 16))
"""Neurons, targets, dimensions of superposed inputs."""


@dataclass(frozen=True, eq=False)
class Superposed(Task):
    """The same task seen through codes."""

    codes: Float[np.ndarray, "coordinate concept"]
    """φ, one column a concept."""

    @property
    def seen(self) -> Float[np.ndarray, "input coordinate"]:
        """Sums of codes."""
        return self.inputs @ self.codes.T


def summary(found: Factored) -> dict[str, Any]:
    """What every part says of a layer."""
    return {
        "per_neuron": found.per_neuron, "explained": 1 - found.left_over, "p": found.p,
        "any": float((found.compute[found.reads] != 0).any(axis=1).mean()),
        "path": found.path[found.reads].mean(axis=0).tolist(), "twin_path": found.twin_path.mean(axis=0).tolist(),
    }  # fmt: skip


def planted() -> Iterator[dict[str, Any]]:
    """Circuits whose computation matrix is known, and two that have no sparse one."""
    builders: dict[str, Callable[[int], Circuit]] = {
        f"two_and, {inputs}": lambda seed, d=d: two_and(
            pairs=64, n_concepts=64, n_neurons=192, d_model=d, influence=2, seed=seed
        )
        for inputs, d in (("basis", None), ("d = 192", 192), ("d = 64", 64), ("d = 48", 48), ("d = 32", 32))
    }
    builders["dense U-AND, basis"] = lambda seed: dense_uand(
        n_concepts=64, n_neurons=192, n_active=3, seed=seed
    )
    builders["Gaussian layer, d = 64"] = lambda seed: gaussian_uand(
        n_concepts=64, n_neurons=192, n_active=3, d_model=64, seed=seed
    )
    for name, build in builders.items():
        rows, precision, recall = list[dict[str, Any]](), list[float](), list[float]()
        for seed in SEEDS:
            circuit = build(seed)
            found = factor(circuit.w_in, circuit.encode, seed=seed)
            rows.append(summary(found))
            if name.startswith("two_and"):
                assert circuit.route is not None
                true, got = circuit.route != 0, found.compute != 0
                precision.append((true & got).sum() / max(got.sum(), 1))
                recall.append((true & got).sum() / true.sum())
        yield {
            "layer": name, **mean_of(rows),
            "precision": mean_and_error(precision) if precision else None,
            "recall": mean_and_error(recall) if recall else None,
        }  # fmt: skip


def mean_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds; the p-values as they are."""
    return {
        key: [row[key] for row in rows]
        if key == "p"
        else np.mean([row[key] for row in rows], axis=0).tolist()
        for key in rows[0]
    }


def twin_layer(weight: np.ndarray, covariance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A PC-sign twin of a layer."""
    _, axes = np.linalg.eigh(covariance)
    return (weight @ axes * rng.choice((-1.0, 1.0), len(axes))) @ axes.T


def trained() -> Iterator[dict[str, Any]]:
    """Nets trained on the ANDs of chosen pairs; do the right pairs share neurons in the computation matrix?"""
    inputs, every = all_inputs(M, S), all_pairs(M)
    for n, n_targets, d in NETS:
        tasks, starts = list[Superposed](), list[Layer]()
        for seed in SEEDS:
            rng = np.random.default_rng([seed, n, n_targets, 31])
            codes = np.eye(M) if d is None else sign_codes(rng, d, M)
            tasks.append(Superposed(inputs, every[rng.choice(len(every), n_targets, replace=False)], codes))
            starts.append(Layer(rng.standard_normal((n, len(codes))) / math.sqrt(S), np.zeros(n)))
        rows = list[dict[str, Any]]()
        precisions: dict[str, list[float]] = {"net": [], "twin": [], "start": []}
        averages: dict[str, list[float]] = {"net": [], "twin": [], "start": []}
        right: list[float] = []
        for seed, start, task, net in zip(
            SEEDS, starts, tasks, train(starts, tasks, "balanced", n_steps=N_STEPS, seeds=SEEDS), strict=True
        ):
            covariance = np.cov(task.seen.T.astype(float))
            rng = np.random.default_rng([seed, 32])
            layers = {"net": net.w_in, "twin": twin_layer(net.w_in, covariance, rng), "start": start.w_in}
            for which, weight in layers.items():
                found = factor(weight, task.codes, covariance=covariance, seed=seed)
                if which == "net":
                    rows.append(summary(found))
                at_targets, average = ranked(found, task.pairs)
                precisions[which].append(at_targets)
                averages[which].append(average)
            right.append(n_right(net, task) / n_targets)
        yield {
            "n": n, "targets": n_targets, "d": d, "right": mean_and_error(right), **mean_of(rows),
            **{f"precision_{which}": mean_and_error(values) for which, values in precisions.items()},
            **{f"average_{which}": mean_and_error(values) for which, values in averages.items()},
            "chance": n_targets / len(every),
        }  # fmt: skip


def ranked(found: Factored, targets: np.ndarray) -> tuple[float, float]:
    """Of the m′ best pairs, how many are targets (precision and recall at once); average precision over all pairs."""
    every = all_pairs(M)
    scores = found.pair_scores()[every[:, 0], every[:, 1]]
    wanted = {tuple(pair) for pair in np.sort(targets, axis=1).tolist()}
    true = np.array([tuple(pair) in wanted for pair in every.tolist()])
    best = np.argsort(-scores, kind="stable")[: len(targets)]
    return float(true[best].mean()), float(average_precision_score(true, scores))


def real(model: str, shown: str, layers: tuple[int, ...], most: int) -> Iterator[dict[str, Any]]:
    """Layers of a model in two dictionaries, both halves of gated ones."""
    from probekit.analysis.reading import cached
    from probekit.model.directions import measured_directions, token_directions
    from probekit.model.hooked_model import load_hooked_model
    from probekit.text.concepts.concepts import Concepts
    from probekit.text.corpus import as_corpus

    hooked = load_hooked_model(model)
    tokens = cached(as_corpus("docs")).tokenize(
        hooked.tokenizer, context=64, max_tokens=8_000, bos_id=hooked.bos_id
    )
    labels = Concepts.defaults(hooked.tokenizer, tokens).label(tokens)
    common = [token for token, _ in Counter(tokens.ids[tokens.counted].tolist()).most_common(most)]
    for layer in layers:
        measured = measured_directions(hooked, tokens, labels, layer)
        sources = {
            "token types": token_directions(hooked, common, layer),
            "measured": measured.commonest(labels, most),
        }
        weights = hooked.mlp(layer)
        halves = (
            {"in": weights.w_in}
            if weights.w_gate is None
            else {"gate": weights.w_gate, "linear": weights.w_in}
        )
        for name, held in sources.items():
            for half, weight in halves.items():
                # the covariance of the text for both: what is explained is a share of what the neurons see there
                found = factor(weight.double().numpy(), held.codes, covariance=measured.covariance)
                yield {
                    "model": shown, "layer": layer, "half": half, "dictionary": name, "concepts": len(held.names),
                    "neurons": len(found.compute), **summary(found),
                }  # fmt: skip


def real_rows(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of all models."""
    return [row for part, rows in found.items() if part not in ("planted", "trained") for row in rows]


def page(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """The results as Markdown."""
    spread = lambda pair: "–" if pair is None else f"{pair[0]:.3f} ± {pair[1]:.3f}"
    ends = lambda row: f"{row['path'][-1]:.2f} / {row['twin_path'][-1]:.2f}"
    yield "# Weight matrices as compute ∘ decompress\n"
    yield (
        "`python analyses/factored.py`. `pk.circuits.factor`: at most 8 concepts a neuron, kept up to the last that "
        "explains more of what is left than all but 0.05/8 of the twins' rows; 20 PC-sign twins, so that 1/21 = "
        "0.048 is the "
        "smallest p there is. *Explained*: share of the variance of a neuron's pre-activation by the concepts kept, mean "
        "over neurons; what is missing to 1 is left over. *With 8, layer / twins*: share explained by the eight best "
        "concepts of each neuron, kept or not.\n"
    )
    yield "## Planted circuits\n"
    yield (
        "64 concepts, 192 neurons, `two_and` with 64 pairs (channels of 5); three seeds. Precision and recall of the "
        "entries of the computation matrix. The last two have no sparse one and should show none.\n"
    )
    yield from table(
        ("layer", "concepts a neuron", "explained", "with 8, layer / twins", "p, by seed", "precision", "recall"),
        ((row["layer"], f"{row['per_neuron']:.2f}", f"{row['explained']:.3f}", ends(row),
          ", ".join(f"{p:.3f}" for p in row["p"]), spread(row["precision"]), spread(row["recall"]))
         for row in found["planted"]),
    )  # fmt: skip
    yield ""
    yield "## Trained nets whose targets are known\n"
    yield (
        f"{M} concepts, three on, m′ of 276 pairs as targets, balanced loss, {N_STEPS:,} steps, three seeds; the covariance "
        "of all inputs. *Right*: targets that the net gets right in 99 % of every pattern. *Pairs*: of the m′ "
        "pairs whose concepts "
        "the same neurons read most (`pair_scores`), the share that are targets, which is precision and recall "
        "at once; beside "
        "it the same of one PC-sign twin of each net, of its start, and what chance gives. *Average precision* over all "
        "pairs in the same order.\n"
    )
    yield from table(
        ("n", "m′", "inputs", "right", "concepts a neuron", "explained", "with 8, layer / twins", "p, by seed", "pairs: net",
         "twin", "start", "chance", "average precision: net", "twin"),
        ((row["n"], row["targets"], "basis" if row["d"] is None else f"d = {row['d']}", spread(row["right"]),
          f"{row['per_neuron']:.2f}", f"{row['explained']:.3f}", ends(row), ", ".join(f"{p:.3f}" for p in row["p"]),
          *(spread(row[f"precision_{which}"]) for which in ("net", "twin", "start")), f"{row['chance']:.3f}",
          *(spread(row[f"average_{which}"]) for which in ("net", "twin"))) for row in found["trained"]),
    )  # fmt: skip
    yield ""
    yield "## Real layers, as found\n"
    yield (
        "Dictionaries as in `channels.md`: the commonest token types by themselves, and concepts measured on 8,000 tokens "
        "of the bundled docstrings; the covariance of the layer's inputs on that text. *Neurons with any*: that "
        "keep a concept "
        "at all; about 0.05 by chance.\n"
    )
    yield from table(
        ("model", "layer", "weights", "dictionary", "concepts", "neurons with any", "concepts a neuron", "explained",
         "left over", "with 8, layer / twins", "p"),
        ((row["model"], row["layer"], row["half"], row["dictionary"], row["concepts"], f"{row['any']:.3f}",
          f"{row['per_neuron']:.2f}", f"{row['explained']:.3f}", f"{1 - row['explained']:.3f}", ends(row), f"{row['p']:.3f}")
         for row in real_rows(found)),
    )  # fmt: skip


def picture(found: dict[str, list[dict[str, Any]]]) -> str:
    """Share explained by the number of concepts, layer and twins, for one layer of each sort."""
    shown = [
        ("planted", f"planted, {row['layer']}", row)
        for row in found["planted"]
        if row["layer"].endswith("d = 48")
    ]
    shown += [
        ("trained", f"trained on {row['targets']} ANDs, n = {row['n']}, basis", row)
        for row in found["trained"]
        if row["d"] is None and (row["n"], row["targets"]) == (48, 24)
    ]
    shown += [
        ("real", f"{row['model'].split(' ')[0]}, layer {row['layer']}, {row['dictionary']}", row)
        for row in real_rows(found)
        if row["layer"] == 0 and row["half"] in ("in", "gate") and row["dictionary"] == "measured"
    ]
    lines = pd.DataFrame(
        [
            {"layer": name, "concepts": step, "explained": value, "of": of}
            for _, name, row in shown
            for of, field in (("layer", "path"), ("its twins", "twin_path"))
            for step, value in enumerate([0.0, *row[field]])
        ]
    )
    chart = (
        alt.Chart(lines)
        .mark_line(point=True)
        .encode(
            x=alt.X("concepts:Q", title="concepts a neuron reads", axis=alt.Axis(tickMinStep=1, grid=False)),
            y=alt.Y("explained:Q", title="share of its pre-activation explained", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("of:N", title=None, sort=["layer", "its twins"],
                            scale=alt.Scale(domain=["layer", "its twins"], range=[ACCENT, MUTED])),
        )
        .properties(width=190, height=200)
        .facet(facet=alt.Facet("layer:N", title=None, sort=[name for _, name, _ in shown],
                               header=alt.Header(labelLimit=260)), columns=2)
    )  # fmt: skip
    return to_svg(
        chart, "factored", "How much of a neuron do a few concepts explain?",
        "share of the pre-activation's variance by the best concepts, mean over neurons, beside PC-sign twins",
        "Planted and trained layers lie far above their twins; real layers a little.",
    )  # fmt: skip


def _smollm2(layers: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    from channels import smollm2

    file = smollm2()
    if file is not None:
        yield from real(file, "SmolLM2-135M (GGUF)", layers, 100)


def main() -> None:
    """Run the parts asked for, keep the numbers of each, write the page from those that are there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    makers: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "planted": planted, "trained": trained, "nano": lambda: real("nano", "nano", (0, 1, 2, 3), 80),
        "smollm2": lambda: _smollm2((0, 3, 8, 15, 22)),
    }  # fmt: skip
    parser.add_argument("--parts", nargs="*", choices=list(makers), default=list(makers))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for part in options.parts:
        began, rows = time.process_time(), list[dict[str, Any]]()
        for row in makers[part]():
            rows.append(row)
            print(part, {key: value for key, value in row.items() if "path" not in key}, flush=True)
        found[part] = rows
        print(f"({part}: {time.process_time() - began:.0f} s of processor time)", flush=True)
        write_text(options.out, json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if {"planted", "trained"} <= set(found):
        write_page(page(found), str(options.out.with_suffix(".md")))


if __name__ == "__main__":
    main()
