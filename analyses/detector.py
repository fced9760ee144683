"""What the detector finds on transformers whose computed pairs are known, by construction and load.

    python analyses/detector.py                      # targeted 2-ANDs, some 10 minutes on two free cores
    python analyses/detector.py --group universal    # constructions that compute every pair
    python analyses/detector.py --group previous     # concepts on two tokens

Writes results/detector-GROUP.md after every case. Every construction is planted at three loads (pairs computed per neuron),
the highest ones beyond what the layer can hold, and the whole analysis runs on the transformer. Shares of pairs above the
twins and of pairs called computed: of the designated pairs, of pairs whose concepts some neuron reads together by accident,
and of pairs that no neuron reads together (the true nulls).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import beta
from tqdm import tqdm

import probekit as pk
from probekit.storage.store import write_text
from probekit.theory.catalogue import build
from probekit.theory.circuits.circuit import Circuit
from probekit.theory.circuits.two_and import Case as Case2And
from probekit.theory.circuits.two_and import two_and
from probekit.theory.measure import measure

HERE = Path(__file__).parent
N_CONCEPTS, N_ACTIVE, NOISE = 32, 3, 0.1
TARGETED: dict[str, Case2And] = {
    "two-and-low": "low",
    "two-and-mixed": "mixed",
    "two-and-high": "high",
    "two-and-general": "general",
}
LOADS = (32, 128, 384)
UNIVERSAL = ("sparse-uand", "dense-uand", "gaussian-uand")
WIDTHS = (256, 128, 64)
N_NEURONS = 256
CORPUS = {"n_docs": 500, "doc_len": 50}
OPTIONS = {"twins": 8, "min_support": 40, "progress": False}


@dataclass(frozen=True)
class Case:
    """One construction at one load."""

    name: str
    n_neurons: int
    n_pairs: int
    spread: str = "token"


def cases(group: str) -> list[Case]:
    """Everything in one table."""
    if group == "targeted":
        return [Case(name, N_NEURONS, pairs) for name in TARGETED for pairs in LOADS]
    if group == "previous":
        return [Case("two-and-low", N_NEURONS, pairs, "previous") for pairs in LOADS[:1]]
    every = N_CONCEPTS * (N_CONCEPTS - 1) // 2
    return [Case(name, width, every) for name in UNIVERSAL for width in WIDTHS]


CLASSES = ("designated", "read together by accident", "disjoint")
RUNGS = ("above_twins", "computed")
Tally = dict[tuple[str, str], tuple[int, int]]


def construction(case: Case, seed: int) -> Circuit:
    """The circuit of one case."""
    sizes = {"n_neurons": case.n_neurons, "n_concepts": N_CONCEPTS, "n_active": N_ACTIVE, "seed": seed}
    if case.name not in TARGETED:
        return build(case.name, pairs=case.n_pairs, **sizes)
    every = np.array(list(itertools.combinations(range(N_CONCEPTS), 2)))
    chosen = np.random.default_rng(seed).choice(every, size=case.n_pairs, replace=False)
    return two_and(pairs=chosen, case=TARGETED[case.name], **sizes)


def counts(case: Case, seed: int) -> tuple[Tally, float]:
    """Pairs found and tested by class and rung, and the circuit's own worst-pattern error."""
    circuit = construction(case, seed)
    planted = pk.plant(circuit, noise=NOISE, spread=case.spread, seed=seed, **CORPUS)  # pyright: ignore[reportArgumentType]
    run = pk.analyze(planted.model, planted.corpus, concepts=planted.concepts, seed=seed, **OPTIONS)  # pyright: ignore[reportArgumentType]
    table = run.pairs(0)
    truth, shared = set(planted.truth), set(planted.shared_channel)
    names = zip(table["a"], table["b"], strict=True)
    kind = np.array([CLASSES[0 if pair in truth else 1 if pair in shared else 2] for pair in names])
    found = {
        (name, rung): (int(table[rung].to_numpy()[kind == name].sum()), int((kind == name).sum()))
        for name in CLASSES
        for rung in RUNGS
    }
    return found, measure(circuit, n_inputs=1_000, noise_sd=NOISE, seed=seed).worst_error


def share(n_found: int, n_tested: int) -> str:
    """A share with its Clopper–Pearson 95 % interval."""
    if not n_tested:
        return "–"
    low = float(beta.ppf(0.025, n_found, n_tested - n_found + 1)) if n_found else 0.0
    high = float(beta.ppf(0.975, n_found + 1, n_tested - n_found)) if n_found < n_tested else 1.0
    return f"{n_found:,}/{n_tested:,} = {n_found / n_tested:.1%} ({low:.1%}–{high:.1%})"


def row(case: Case, n_seeds: int) -> str:
    """One line of the table."""
    found = [counts(case, seed) for seed in range(n_seeds)]
    totals = {key: np.sum([tally[key] for tally, _ in found], axis=0).tolist() for key in found[0][0]}
    cells = [
        case.name, case.spread, f"{case.n_neurons}", f"{case.n_pairs}", f"{case.n_pairs / case.n_neurons:.2g}",
        f"{np.mean([error for _, error in found]):.1%}", *(share(*counted) for counted in totals.values()),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def page(rows: Iterable[str], n_seeds: int, group: str) -> str:
    """The result as markdown."""
    columns = (
        "construction", "spread", "n", "m'", "m'/n", "own worst-pattern error",
        *(f"{name}: {rung.replace('_', ' ')}" for name in CLASSES for rung in RUNGS),
    )  # fmt: skip
    text = (
        f"`python analyses/detector.py --group {group} --seeds {n_seeds}`: "
        f"{n_seeds} seeds (circuit, corpus and twins), {N_CONCEPTS} "
        f"concepts on basis-aligned inputs, {N_ACTIVE} on at a token in the mean, background {NOISE}, "
        f"{CORPUS['n_docs'] * CORPUS['doc_len']:,} tokens, {OPTIONS['twins']} twins, relu. Shares of the tested pairs at "
        "q = 0.05, pooled over seeds, with Clopper–Pearson 95 % intervals; these take pairs for independent, which those "
        "of one layer are not, so they are too narrow. The construction's own error is that of its readoff in the worst "
        "pattern at the best threshold, with the same background: where it is large the layer does not compute its pairs "
        'well either. Pairs that no neuron reads together are the true nulls. "Above twins" asks whether the layer holds a '
        'pair better than its twins do; "computed" also asks that the pair stand out from the other pairs of its two '
        "concepts, which cannot be where most of these are read together too: with many designated pairs, wide channels or "
        'a universal construction, in which every pair is designated and none is special. With spread "previous" the '
        "pairs tested include all concepts at both places."
    )
    lines = (
        "# The detector on planted models",
        "",
        text,
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
    )
    return "\n".join([*lines, *rows, ""])


def main() -> None:
    """Run every case and write the table."""
    parser = argparse.ArgumentParser(description="The detector on planted models.")
    parser.add_argument("--group", choices=("targeted", "universal", "previous"), default="targeted")
    parser.add_argument("--seeds", type=int, default=3, help="Circuits, corpora and sets of twins per case.")
    parser.add_argument("--out", type=Path, help="Default: results/detector-GROUP.md.")
    given = parser.parse_args()
    out = given.out or HERE / "results" / f"detector-{given.group}.md"
    rows: list[str] = []
    for case in tqdm(cases(given.group)):
        rows.append(row(case, given.seeds))
        tqdm.write(rows[-1])
        write_text(out, page(rows, given.seeds, given.group))


if __name__ == "__main__":
    main()
