"""Are the p-values p-values: the share of null pairs with p ≤ t under every null, and the adjusted ones against statsmodels.

    python analyses/pvalues.py                     # some 4 minutes of one core
    python analyses/pvalues.py --draws 6 --out -

Nulls: PC-sign, isotropic and channel-shuffle twins of planted, random and reading layers in the layer's place; readers of
single concepts (null for the pair-specific p-value alone); pairs that no neuron of a plant reads together; additive inputs
at the linear sites; labels of other documents; labels permuted within the strata of their partner; readouts whose error is
below ¼ in exactly 95 % of the documents. The standard error is that over draws: pairs of one twin or scene are one cluster.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from measured import (
    LEVELS,
    RESULTS,
    decided,
    design_for,
    mean_and_error,
    measured,
    table,
    twins_in_place,
    write_page,
)
from scipy import stats
from statsmodels.stats.multitest import multipletests

# isort: split
from readings import plan_of, single, stream

from probekit.analysis import sites
from probekit.analysis.design import StudyDesign
from probekit.analysis.passes import measure_layers
from probekit.analysis.settings import DECIDING_K
from probekit.analysis.source import ArraySource
from probekit.evidence.contrast import EPSILON, REPRESENTED_SHARE, Contrast, p_not_exceeding
from probekit.evidence.decide import Decision, adjusted
from probekit.model.weights import MlpWeights
from probekit.testing.synthetic import Scene, make_plant, make_scene, random_layer, reader_layer, unit_codes

SIZE = {"n_concepts": 20, "n_tokens": 10_000, "n_active": 3}
N_NEURONS, N_TWINS, POOL = 96, 20, 41


@dataclass(frozen=True)
class Null:
    """p-values of null pairs, one array a draw."""

    name: str
    """What makes them null."""
    of: str
    """Which p-value."""
    draws: list[np.ndarray]
    """p-values of each draw."""

    def cells(self) -> list[str]:
        """Its line of the table."""
        cells = [self.name, self.of, f"{len(self.draws)}", f"{sum(len(p) for p in self.draws):,}"]
        holds = True
        for t in LEVELS:
            mean, error = mean_and_error([float((p <= t).mean()) for p in self.draws])
            limit = 1.1 * t + 3 * error
            holds &= mean <= limit
            cells.append(f"{mean:.5f} (≤ {limit:.5f})")
        high = float(np.mean([(p >= 0.9).mean() for p in self.draws]))
        return [*cells, f"{high:.3f}", "yes" if holds else "NO"]


def p_values(decisions: list[Decision], name: str) -> Iterator[Null]:
    """The two p-values that twins make, draw by draw."""
    for of in ("p_twin", "p_pair"):
        yield Null(name, of, [getattr(decision, of) for decision in decisions])


def stand_ins(kind: str, seed: int) -> tuple[Scene, MlpWeights]:
    """The layers whose twins are drawn."""
    codes = unit_codes(seed, SIZE["n_concepts"], SIZE["n_concepts"])
    if kind == "plant":
        plant = make_plant(seed, n_pairs=8, n_neurons=N_NEURONS, **SIZE)
        return plant.scene, plant.weights
    scene = make_scene(seed, codes=codes, **SIZE)
    if kind == "readers":
        return scene, reader_layer(seed, N_NEURONS, codes, gain=4.0)
    return scene, random_layer(seed, N_NEURONS, SIZE["n_concepts"])


def alone(neurons: torch.Tensor, design: StudyDesign) -> Contrast:
    """Neurons without weights: the deciding readouts and nothing else."""
    source = ArraySource(neurons, None, None, design.rows)
    return next(measure_layers(source, [0], design)).by_k[DECIDING_K]


def pools_of(scene: Scene, weights: MlpWeights, design: StudyDesign, seed: int) -> dict[str, list[Contrast]]:
    """Many twins of each kind of one layer, through the passes of a run."""
    many = design.with_settings(twins=POOL, controls=("isotropic", "shuffle"), seed=seed)
    measure = measured(scene, weights, many)
    pools = {"PC-sign": measure.twins[DECIDING_K]}
    pools |= {"isotropic": measure.controls["isotropic"], "channel-shuffle": measure.controls["shuffle"]}
    assert all(len(pool) == POOL for pool in pools.values())
    return pools


def of_twins(n_pools: int) -> Iterator[Null]:
    """Twins of every kind in the layer's place, references drawn from the same pool."""
    sites.N_CONTROL = POOL  # a run shows few of the kinds that decide nothing
    decisions: dict[str, list[Decision]] = defaultdict(list)
    for index in range(n_pools):
        scene, weights = stand_ins(("plant", "random", "readers")[index % 3], 300 + index)
        design = design_for(scene, twins=0, seed=index)
        rng = np.random.default_rng([index, 5])
        for kind, pool in pools_of(scene, weights, design, index).items():
            decisions[kind] += twins_in_place(pool, design.tested, n_twins=N_TWINS, rng=rng)
    for kind, held in decisions.items():
        yield from p_values(held, f"{kind} twin in the layer's place")


def of_layers(n_draws: int) -> Iterator[Null]:
    """Readers of single concepts, and the pairs of a plant that no neuron reads together."""
    read: list[np.ndarray] = []
    apart: dict[str, list[np.ndarray]] = {"p_twin": [], "p_pair": []}
    for seed in range(n_draws):
        scene, weights = stand_ins("readers", 500 + seed)
        design = design_for(scene, twins=N_TWINS, seed=seed)
        p = decided(measured(scene, weights, design), design.tested).p_pair
        assert p is not None
        read.append(p)
        plant = make_plant(700 + seed, n_pairs=8, n_neurons=N_NEURONS, **SIZE)
        design = design_for(plant.scene, twins=N_TWINS, seed=seed)
        decision = decided(measured(plant.scene, plant.weights, design), design.tested)
        together = plant.designated | plant.shared_channel
        null = np.array([(int(a), int(b)) not in together for a, b in design.tested.pairs])
        for of, held in apart.items():
            held.append(getattr(decision, of)[null])
    yield Null("readers of single concepts", "p_pair", read)
    for of, held in apart.items():
        yield Null("pairs that no neuron of a plant reads together", of, held)


def of_labels(n_draws: int) -> Iterator[Null]:
    """No interaction at all: linear sites of additive inputs, labels that have nothing to do with the neurons."""
    linear: dict[str, list[np.ndarray]] = {"p of κ": [], "p_vs_linear": []}
    moved: list[np.ndarray] = []
    within: list[np.ndarray] = []
    for seed in range(n_draws):
        codes = unit_codes(seed, 16, 20)
        scene = make_scene(900 + seed, codes=codes, doc_noise=0.1, **SIZE)
        weights = random_layer(seed, N_NEURONS, 16)
        design = design_for(scene, twins=0, seed=seed)
        measure = measured(scene, weights, design)
        assert measure.pre is not None
        assert measure.input_site is not None
        linear["p of κ"].append(measure.pre.p_raw)
        linear["p_vs_linear"].append(p_not_exceeding(measure.pre, [measure.input_site]))
        neurons = weights.neurons(scene.inputs)
        # whole documents, so that what a document does to all its tokens stays together
        half = len(scene.labels) // 2 // 50 * 50
        other = replace(scene, labels=np.roll(scene.labels, half, axis=0))
        moved.append(alone(neurons, design_for(other, twins=0, seed=seed)).p_raw)
        stratum = replace(scene, labels=permuted_within(scene.labels, np.random.default_rng([seed, 9])))
        within.append(alone(neurons, design_for(stratum, twins=0, seed=seed)).p_raw)
    yield Null("pre-activations of additive inputs", "p of κ", linear["p of κ"])
    yield Null("pre-activations against the input, both additive", "p_vs_linear", linear["p_vs_linear"])
    yield Null("labels of other documents", "p of κ", moved)
    yield Null("one concept and permutations of another within its strata", "p of κ", within)


def permuted_within(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The first concept, and copies of the second permuted among the tokens where the first holds, and where it does not."""
    copies = np.empty_like(labels)
    copies[:, 0] = labels[:, 0]
    for column in range(1, labels.shape[1]):
        for value in (False, True):
            at = np.flatnonzero(labels[:, 0] == value)
            copies[at, column] = labels[rng.permutation(at), 1]
    return copies


def of_represented(n_draws: int) -> Iterator[Null]:
    """Readouts on the edge of what counts as ε-represented: one quadrant at exactly 95 %, the others without error."""
    plain: list[np.ndarray] = []
    randomised: list[np.ndarray] = []
    for seed in range(n_draws):
        rng = np.random.default_rng([seed, 11])
        n_docs, n_pairs = 1_200, 40
        labels = rng.random((n_docs, 2)) < 0.5
        plan = plan_of(labels, np.arange(n_docs), np.array([[0, 1]]))
        n_quadrant = int(plan.n_docs[0, 0])
        p: list[float] = []
        q: list[float] = []
        for _ in range(n_pairs):
            truth = labels.all(1)
            far = truth & (rng.random(n_docs) >= REPRESENTED_SHARE)
            rows = (truth + far * 2 * EPSILON)[:, None]
            got = float(stream(plan, rows, single(np.zeros(1, int)))[0].p_epsilon[0])
            n_hits = n_quadrant - int(far.sum())
            assert np.isclose(got, stats.binom.sf(n_hits - 1, n_quadrant, REPRESENTED_SHARE))
            p.append(got)
            q.append(got - rng.random() * float(stats.binom.pmf(n_hits, n_quadrant, REPRESENTED_SHARE)))
        plain.append(np.array(p))
        randomised.append(np.array(q))
    yield Null("error below ¼ in exactly 95 % of documents", "p of ε", plain)
    yield Null("the same", "p of ε, randomised", randomised)


def against_statsmodels() -> Iterator[list[str]]:
    """Largest difference of the adjusted p-values over many vectors."""
    rng = np.random.default_rng(0)
    for ours, theirs in (("bh", "fdr_bh"), ("by", "fdr_by")):
        worst, n_decisions, n_vectors = 0.0, 0, 0
        for n in (1, 2, 3, 7, 40, 500, 5_000, 40_000):
            made = (rng.random(n), rng.random(n) ** 6, np.round(rng.random(n), 2).clip(0.01), np.full(n, 0.03),
                    rng.permutation(np.arange(1, n + 1) / n), rng.random(n) * 1e-12)  # fmt: skip
            for p in made:
                reject, expected, *_ = multipletests(p, alpha=0.05, method=theirs)
                got = adjusted(p, ours)
                worst = max(worst, float(np.abs(got - expected).max()))
                n_decisions += int(((got <= 0.05) != reject).sum())
                n_vectors += 1
        yield [
            ours.upper(),
            f"{n_vectors}",
            f"{worst:.1e}",
            f"{n_decisions}",
            "yes" if worst <= 1e-12 else "NO",
        ]


COLUMNS = (
    "null", "p-value", "draws", "pairs", *(f"share with p ≤ {t} (1.1 t + 3 s.e.)" for t in LEVELS), "p ≥ 0.9", "holds",
)  # fmt: skip


def page(n_draws: int, n_pools: int) -> Iterator[str]:
    """The whole page."""
    yield "# p-values where nothing is there\n"
    yield (
        f"`python analyses/pvalues.py --draws {n_draws} --pools {n_pools}`: {N_NEURONS} neurons, "
        f"{SIZE['n_concepts']} concepts, {SIZE['n_tokens']:,} tokens, {N_TWINS} twins drawn from pools of {POOL}. The "
        "share is the mean over draws, its standard error that over draws, each one cluster. A share far below t is "
        "no fault of a p-value and a loss of power.\n"
    )
    nulls = (of_twins(n_pools), of_layers(n_draws), of_labels(n_draws), of_represented(n_draws))
    yield from table(COLUMNS, (null.cells() for part in nulls for null in part))
    yield "\n## Adjusted p-values against statsmodels\n"
    columns = ("control", "vectors", "largest difference", "decisions that differ", "≤ 1e-12")
    yield from table(columns, against_statsmodels())


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--draws", type=int, default=24, help="scenes of each kind")
    parser.add_argument(
        "--pools", type=int, default=3, help="layers whose pools of twins are drawn, of each kind of twin"
    )
    parser.add_argument("--out", default=str(RESULTS / "pvalues.md"), help="- prints only")
    options = parser.parse_args()
    write_page(page(options.draws, options.pools), options.out)


if __name__ == "__main__":
    main()
