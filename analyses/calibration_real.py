"""Calibration on real models: twins in the layer's place, seeds, and two disjoint halves of the corpus.

    python analyses/calibration_real.py nano docs                    # some 8 minutes of one core
    python analyses/calibration_real.py MODEL TEXT --pool 41         # adds a section on another model

Twins: of each layer a pool of PC-sign twins is measured once; each twin in turn takes the layer's place, twenty others of
the pool are its reference, and any pair flagged is an error. Seeds: other halves of the documents, other twins; does the
excess lie in the interval that another seed states? Halves of the corpus: documents in turn, each half with a fit and a
confirm half of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from measured import LEVELS, RESULTS, mean_and_error, table, twins_in_place
from scipy import stats

from probekit.analysis.design import LabelledTokens, StudyDesign, plan
from probekit.analysis.inputs import AnalysisInputs, doc_keys, inputs_of_model
from probekit.analysis.passes import LayerMeasure, measure_layers
from probekit.analysis.reading import Reading
from probekit.analysis.settings import DECIDING_K, Settings
from probekit.analysis.source import ModelSource
from probekit.evidence.census import excess_interval
from probekit.evidence.decide import Decision, decide, decide_twins
from probekit.evidence.pair_sampling import PairSampling
from probekit.probes.pairs import LabelColumns
from probekit.storage.store import write_text

RESULT = RESULTS / "calibration_real.md"
Q, N_TWINS = 0.05, 20
RICH = 300
"""Tokens of the rarest quadrant from which on two halves of a corpus must agree."""
HEAD = """# Calibration on real models

Written by `python analyses/calibration_real.py MODEL CORPUS`, a section a model; default concepts, an equal share of each
kind of pair, context 128, quadrants of 60 tokens or more, k = 16, q = 0.05.
"""


def inputs_of(
    model: str, corpus: str, options: argparse.Namespace, rule: str = "stratified", **changed: int
) -> AnalysisInputs:
    """Model, corpus, concepts and pairs; nothing is measured but the PC-sign twins."""
    settings = Settings(
        max_tokens=options.tokens, max_pairs=options.pairs, twins=N_TWINS, controls=(), spikes=()
    )
    return inputs_of_model(
        Reading(model, corpus, replace(settings, **changed), device="cpu"), None, None, PairSampling.of(rule)
    )


def measured(analysis_inputs: AnalysisInputs, n_twins: int) -> Iterator[LayerMeasure]:
    """Every layer with some twins."""
    design = analysis_inputs.design.with_settings(twins=n_twins)
    yield from measure_layers(analysis_inputs.source, analysis_inputs.layers, design)


def in_place(analysis_inputs: AnalysisInputs, n_pool: int) -> Iterator[str]:
    """Every twin of every layer's pool in the layer's place."""
    tested = analysis_inputs.design.tested
    rows: list[list[str]] = []
    everything: list[Decision] = []
    for measure in measured(analysis_inputs, n_pool):
        rng = np.random.default_rng([17, measure.layer])
        pool = measure.twins[DECIDING_K]
        decisions = list(twins_in_place(pool, tested, n_twins=N_TWINS, rng=rng))
        everything += decisions
        rows.append([f"{measure.layer}", *flagged(decisions)])
    rows.append(["all", *flagged(everything)])
    n = len(everything)
    yield (
        f"**Twins in the layer's place**: {n_pool} a layer, {N_TWINS} others as reference, {len(tested.pairs)} pairs; "
        f"allowed is q + 3 s.e. = {Q + 3 * np.sqrt(Q * (1 - Q) / n):.3f} of {n} draws.\n"
    )
    columns = (
        "layer",
        "draws",
        "any pair above its twins",
        "any pair computed",
        "flagged pairs: above",
        "computed",
    )
    yield from table(columns, rows)
    yield ""
    columns = (
        "p-value",
        *(f"p ≤ {t} (1.1 t + 3 s.e.)" for t in LEVELS),
        *(f"p ≥ 1 − {t}" for t in LEVELS),
        "holds",
    )
    yield from table(columns, (tails(everything, of) for of in ("p_twin", "p_relay", "p_pair")))


def flagged(decisions: list[Decision]) -> list[str]:
    """Draws, shares of draws with any flag, and flagged pairs in all."""
    cells = [f"{len(decisions)}"]
    counts: list[str] = []
    for rung in ("above_twins", "computed"):
        flags = np.stack([getattr(decision, rung) for decision in decisions])
        cells.append(f"{flags.any(1).mean():.3f}")
        counts.append(f"{int(flags.sum())} of {flags.size:,}")
    return cells + counts


def tails(decisions: list[Decision], of: str) -> list[str]:
    """Shares of small and of large p-values, clustered by twin."""
    p = np.stack([getattr(decision, of) for decision in decisions])
    cells, holds = [of], True
    for t in LEVELS:
        mean, error = mean_and_error((p <= t).mean(1))
        holds &= mean <= 1.1 * t + 3 * error
        cells.append(f"{mean:.5f} (≤ {1.1 * t + 3 * error:.5f})")
    return [*cells, *(f"{(p >= 1 - t).mean():.5f}" for t in LEVELS), "yes" if holds else "NO"]


def seeds(model: str, corpus: str, options: argparse.Namespace) -> Iterator[str]:
    """The counts of every layer under three seeds, and whether each excess lies in the intervals of the others."""
    held: dict[tuple[int, str], list[tuple[int, float, float, float]]] = {}
    for seed in range(options.seeds):
        analysis_inputs = inputs_of(model, corpus, options, seed=seed)
        for measure in measured(analysis_inputs, N_TWINS):
            tested, twins = analysis_inputs.design.tested, measure.twins[DECIDING_K]
            own = decide(measure.by_k[DECIDING_K], twins, [], tested)
            theirs = decide_twins(twins, tested)
            for rung in ("above_twins", "computed"):
                count = int(getattr(own, rung).sum())
                interval = excess_interval(count, [int(getattr(twin, rung).sum()) for twin in theirs])
                held.setdefault((measure.layer, rung), []).append((count, *interval))
    rows: list[list[str]] = []
    inside: list[bool] = []
    for (layer, rung), of_seeds in held.items():
        agrees = [
            low <= other[1] <= high
            for a, (_, _, low, high) in enumerate(of_seeds)
            for b, other in enumerate(of_seeds)
            if a != b
        ]
        inside += agrees
        said = [f"{count} ({low:+.1f} … {high:+.1f})" for count, _, low, high in of_seeds]
        rows.append([f"{layer}", rung.replace("_", " "), *said, f"{sum(agrees)} of {len(agrees)}"])
    yield (
        f"\n**Seeds** (other halves, other pairs, other {N_TWINS} twins): count (95 % interval of the excess over the "
        "twins).\n"
    )
    yield from table(
        ("layer", "rung", *(f"seed {s}" for s in range(options.seeds)), "excess inside another's"), rows
    )
    yield f"\nThe excess of one seed lies in the interval of another in {np.mean(inside):.1%} of {len(inside)} couples."


def half_of(
    analysis_inputs: AnalysisInputs, parity: int, named: list[tuple[str, str]]
) -> tuple[ModelSource, StudyDesign]:
    """The study of every other document, on the same pairs."""
    labels, tokens = analysis_inputs.labels, analysis_inputs.tokens
    assert labels is not None
    assert tokens is not None
    assert isinstance(analysis_inputs.source, ModelSource)
    kept = labels.doc % 2 == parity
    columns = LabelColumns(labels.indptr, labels.tokens, labels.n_tokens).take(kept)
    settings = Settings(max_pairs=len(named), min_support=30, twins=N_TWINS, controls=(), spikes=())
    held = LabelledTokens.of(labels, doc_keys(tokens))
    part = replace(held, labels=columns, doc=labels.doc[kept], pos=labels.pos[kept])
    design = plan(part, settings, PairSampling.of(named))
    fit, confirm = (replace(half, docs=half.docs[half.docs % 2 == parity]) for half in design.halves)
    design = replace(design, fit=fit, confirm=confirm)
    return ModelSource(analysis_inputs.source.hooked, tokens, design.docs), design


def halves(analysis_inputs: AnalysisInputs, n_twins: int) -> Iterator[str]:
    """d′ and flags of the same pairs on two disjoint halves of the corpus."""
    names = analysis_inputs.names
    named = [(names[a], names[b]) for a, b in analysis_inputs.design.tested.pairs]
    parts = [half_of(analysis_inputs, parity, named) for parity in (0, 1)]
    decided: list[list[tuple[np.ndarray, Decision]]] = []
    for source, whole in parts:
        design = whole.with_settings(twins=n_twins)
        decided.append(
            [
                (
                    measure.by_k[DECIDING_K].d_prime,
                    decide(
                        measure.by_k[DECIDING_K],
                        measure.twins[DECIDING_K],
                        [],
                        design.tested,
                    ),
                )
                for measure in measure_layers(source, analysis_inputs.layers, design)
            ]
        )
    keys = [{(int(a), int(b)): row for row, (a, b) in enumerate(design.tested.pairs)} for _, design in parts]
    both = sorted(keys[0].keys() & keys[1].keys())
    at = [np.array([key[pair] for pair in both]) for key in keys]
    rarest = np.minimum(*(p.confirm.sample.n_natural.min(1)[i] for (_, p), i in zip(parts, at, strict=True)))
    rows: list[list[str]] = []
    for layer, ((d0, first), (d1, second)) in zip(
        analysis_inputs.layers, zip(*decided, strict=True), strict=True
    ):
        x, y = d0[at[0]], d1[at[1]]
        rich = rarest >= RICH
        cells = [f"{layer}", f"{len(both)}", spearman(x, y), f"{rich.sum()}", spearman(x[rich], y[rich])]
        for rung in ("above_twins", "computed"):
            a, b = getattr(first, rung)[at[0]], getattr(second, rung)[at[1]]
            union = int((a | b).sum())
            cells.append(
                f"{int((a & b).sum())} / {union}" + (f" = {(a & b).sum() / union:.2f}" if union else "")
            )
        assert first.z is not None
        assert second.z is not None
        cells.append(spearman(first.z.layer[at[0]], second.z.layer[at[1]]))
        rows.append(cells)
    yield (
        f"\n**Two disjoint halves of the corpus** ({sum(p.confirm.labels.n_tokens for _, p in parts):,} tokens to "
        f"confirm), {n_twins} twins each, the "
        f"{len(named)} pairs with the most tokens in their rarest quadrant:\n"
    )
    columns = (
        "layer", "pairs", "Spearman of d′", f"with every quadrant ≥ {RICH} tokens", "Spearman of d′ there",
        "Jaccard: above twins", "computed", "Spearman of z",
    )  # fmt: skip
    yield from table(columns, rows)


def spearman(x: np.ndarray, y: np.ndarray) -> str:
    """Rank correlation, for few pairs nothing."""
    return f"{float(stats.spearmanr(x, y).statistic):.3f}" if len(x) >= 10 else "–"


def section(options: argparse.Namespace) -> Iterator[str]:
    """All three studies of one model."""
    analysis_inputs = inputs_of(options.model, options.corpus, options)
    said = analysis_inputs.corpus
    name = f"{Path(options.model).name} on {options.name or analysis_inputs.corpus['name']}"
    yield f"## {name}\n"
    yield (
        f"{said['n_tokens_fit']:,} tokens to fit, {said['n_tokens_confirm']:,} to confirm, {said['n_docs']:,} documents, "
        f"{analysis_inputs.concepts['n']} concepts, "
        f"{analysis_inputs.concepts['n_tested']} of {analysis_inputs.concepts['n_testable']:,} testable "
        f"pairs; `--tokens {options.tokens} --pairs {options.pairs} --pool {options.pool} --seeds {options.seeds}`.\n"
    )
    yield from in_place(analysis_inputs, options.pool)
    yield from seeds(options.model, options.corpus, options)
    # twice the tokens, and the pairs whose emptiest quadrant holds most: a quarter of the corpus confirms each half
    rich = inputs_of(options.model, options.corpus, options, "support", max_tokens=2 * options.tokens)
    yield from halves(rich, 8)


def main() -> None:
    """Run the studies of one model and add their section to the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("corpus")
    parser.add_argument("--name", default="", help="what the page calls the corpus")
    parser.add_argument("--tokens", type=int, default=40_000)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--pool", type=int, default=51)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", default=str(RESULT), help="- prints only")
    options = parser.parse_args()
    lines: list[str] = []
    for line in section(options):
        lines.append(line)
        print(line, flush=True)
    if options.out != "-":
        page = Path(options.out)
        before = page.read_text() if page.exists() else HEAD
        parts = [
            part for part in before.split("\n## ") if not f"## {part}".startswith(lines[0].strip() + "\n")
        ]
        text = "\n## ".join(part.rstrip() + "\n" for part in parts)
        write_text(page, f"{text.rstrip()}\n\n" + "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
