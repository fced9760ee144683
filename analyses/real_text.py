"""A model on several texts: the census on default concepts, and on a grid of bigrams, layer by layer.

    python analyses/real_text.py MODEL CORPUS [CORPUS ...] --out runs/real-text --result analyses/results/real_text.md

Gurnee et al. 2023 (arXiv:2305.01610) lead one to expect that early layers tell phrases such as "social security" from their
words. So the grid (tokens at lag 1 that begin, tokens at lag 0 that end, the most frequent bigrams) is tested in every layer
against PC-sign twins, and the first layer is set beside the later ones. Tables only; what they mean is said where they
are quoted. Several calls add their section to the same result file; a finished run is loaded, not computed again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import probekit as pk
from probekit.model.hooked_model import load_reader
from probekit.storage import store
from probekit.text.corpus import as_corpus

RUNGS = ("significant_raw", "represented", "above_plain", "relayed", "above_twins", "computed")
HEAD = """# Real text: default concepts and bigram grids

Written by `python analyses/real_text.py MODEL CORPUS …`; every section names its settings. Each cell: pairs of the layer
on that rung, in brackets the mean of its twins put in its place. "z" is the mean standardised d′ of all pairs with the
twins' 95 % interval; "p" the share of pairs with p_decision ≤ 1 % and, as the other tail, ≥ 99 %.
"""


def census(run: pk.Run) -> list[str]:
    """One line a layer."""
    lines = [
        "| layer | tested | " + " | ".join(RUNGS) + " | excess (95 %) | mean z (twins) | p |",
        "|---" * (6 + len(RUNGS)) + "|",
    ]
    for row in run.summary["layers"]:
        cells = [f"{row[f'n_{rung}']} ({row['twins'][f'n_{rung}']['mean']:.1f})" for rung in RUNGS]
        excess = f"{row['n_excess']:+.1f} ({row['excess_low']:+.1f} to {row['excess_high']:+.1f})"
        z, low, high = mean_z(row)
        tails = f"{row['share_low_p']:.1%} / {row['share_high_p']:.1%}"
        lines.append(
            f"| {row['layer']} | {row['n_tested']} | {' | '.join(cells)} | {excess} | "
            f"{z:+.2f} ({low:+.2f} to {high:+.2f}) | {tails} |"
        )
    return lines


def mean_z(row: dict) -> tuple[float, float, float]:
    """Mean z over the groups, weighted by their pairs, and the twins' interval; exact where there is one group."""
    groups = row["groups"]
    weight = np.array([group["n_tested"] for group in groups], float) / sum(
        group["n_tested"] for group in groups
    )
    return tuple(
        float(weight @ [group[key] for group in groups]) for key in ("mean_z", "twin_low", "twin_high")
    )


def strongest(run: pk.Run, n: int = 6) -> list[str]:
    """The bigrams with the largest z of the first and of the last layer."""
    lines: list[str] = []
    for layer in (run.summary["layers"][0]["layer"], run.summary["layers"][-1]["layer"]):
        best = run.pairs(layer).sort_values("z", ascending=False).head(n)
        said = ", ".join(
            f"`{b.partition('=')[2]}{a.partition('=')[2]}` (z {z:.1f}, q {q:.2g})"
            for a, b, z, q in zip(best["a"], best["b"], best["z"], best["q"], strict=True)
        )
        lines.append(f"Strongest in layer {layer}: {said}.")
    return lines


def section(model: str, corpus: str, options: argparse.Namespace) -> str:
    """Both runs on one corpus, as Markdown."""
    name = f"{Path(model).name} on {Path(corpus).name}"
    common = {
        "max_tokens": options.tokens,
        "twins": options.twins,
        "seed": options.seed,
        "max_pairs": options.pairs,
    }
    folder = options.out / f"{Path(model).name}-{Path(corpus).stem}"
    default = (
        None
        if options.grid_only
        else pk.analyze(model, corpus, pairs="stratified", out=folder / "default", **common)
    )
    reader = load_reader(model)
    tokens = as_corpus(corpus).tokenize(
        reader.tokenizer, context=min(128, reader.context), max_tokens=options.tokens, bos_id=reader.bos_id
    )
    grid = pk.Concepts.ngrams(reader.tokenizer, tokens, n_first=options.grid, n_second=options.grid)
    bigrams = pk.analyze(
        model, corpus, concepts=grid, pairs="token × token, lag 1", out=folder / "bigrams", **common
    )
    corpus_row = bigrams.summary["corpus"]
    return "\n".join(
        [
            f"## {name}",
            "",
            (
                f"{corpus_row['n_tokens_fit']:,} tokens to fit, {corpus_row['n_tokens_confirm']:,} to confirm, "
                f"{corpus_row['n_docs']:,} documents, {options.twins} twins, seed {options.seed}, context 128, "
                f"quadrants of {options.support} tokens or more."
            ),
            "",
            *of_defaults(default),
            (
                f"Bigram grid {options.grid} × {options.grid} ({bigrams.summary['concepts']['n_tested']} of "
                f"{bigrams.summary['concepts']['n_testable']} testable):"
            ),
            "",
            *census(bigrams),
            "",
            *strongest(bigrams),
            "",
        ]
    )


def of_defaults(run: pk.Run | None) -> list[str]:
    """The census on the default concepts, where it was asked for."""
    if run is None:
        return []
    held = run.summary["concepts"]
    head = (
        f"The {held['n']} default concepts, equal shares of each kind of pair ({held['n_tested']} of "
        f"{held['n_testable']:,} testable pairs):"
    )
    return [head, "", *census(run), ""]


def main() -> None:
    """Run, or load the finished runs, and add the sections to the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("corpus", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("runs/real-text"))
    parser.add_argument("--result", type=Path, default=None)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--twins", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--grid", type=int, default=30)
    parser.add_argument("--support", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grid-only", action="store_true", help="leave the default concepts out")
    options = parser.parse_args()
    for corpus in options.corpus:
        text = section(options.model, corpus, options)
        print(text)
        if options.result is not None:
            before = options.result.read_text() if options.result.exists() else HEAD
            store.write_text(options.result, f"{before.rstrip()}\n\n{text}")


if __name__ == "__main__":
    main()
