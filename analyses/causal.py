"""Does the bundled model use its strongest pairs, and only where both concepts hold?

    python analyses/causal.py                  # some 8 minutes of one core
    python analyses/causal.py --quick --out -  # one layer, few tokens, printed

A run on nano; of each layer the strongest pairs (by standardised value: nothing is computed pair-specifically there) are
mean-ablated on the confirm half, along the readout, along the neurons' own interaction, and by their strongest neurons,
beside random vectors of the same norm. Writes analyses/results/causal.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import probekit as pk
from probekit.followups.causal import CausalCheck
from probekit.storage import store

RESULT = Path(__file__).parent / "results" / "causal.md"
COLUMNS = (
    "layer",
    "pair",
    "n11",
    "Δ11",
    "Δ10",
    "Δ01",
    "Δ00",
    "interaction",
    "only 11",
    "p other",
    "p elsewhere",
    "KL 11",
    "KL 00",
)
TOLD = {
    "direction": "The readout, taken out along itself",
    "pattern": "The readout, taken out along the neurons' own interaction",
    "neurons": "The four strongest neurons, set to their means",
}


def rows(table: pd.DataFrame) -> Iterator[str]:
    """One line a pair; changes of the loss in millinats a token with their standard errors."""
    for row in table.to_dict("records"):
        cells = [
            f"{1e3 * row[f'loss{q}']:+.2f} ± {1e3 * row[f'loss{q}_se']:.2f}" for q in ("11", "10", "01", "00")
        ]
        interaction = f"{1e3 * row['loss_interaction']:+.2f} ± {1e3 * row['loss_interaction_se']:.2f}"
        names = f"{row['a']} ∧ {row['b']}".replace("|", "\\|").replace("`", "'")
        yield (
            f"| {row['layer']} | {names} | {row['n11']} | {' | '.join(cells)} | {interaction} | "
            f"{'yes' if row['loss_selective'] else 'no'} | {row['loss_p_other']:.2f} | {row['loss_p_elsewhere']:.2f} | "
            f"{1e3 * row['divergence11']:.2f} | {1e3 * row['divergence00']:.2f} |"
        )


def summary(check: CausalCheck) -> str:
    """What the table comes to."""
    table, draws = check.table, check.draws
    n = len(table)
    other = draws[draws["kind"] == "other"]
    size = table["loss11"].abs().median() / max(other["loss11"].abs().median(), 1e-12)
    both = (table["loss_selective"] & (table["loss_p_other"] <= 0.1)).sum()
    n_random = len(other) // max(n, 1)
    return (
        f"Of {n} pairs {int(table['loss_selective'].sum())} move the loss in quadrant 11 only, by the bounds; "
        f"{int((table['loss_p_other'] <= 1.01 / (1 + n_random)).sum())} have an interaction larger than each of their "
        f"{n_random} other directions ({n / (1 + n_random):.1f} expected by chance), {int(both)} both with p ≤ 0.1. "
        f"Among random directions the share that moves 11 only is {other['loss_selective'].mean():.1%}. The median |Δ11| is "
        f"{size:.1f} times that of the other directions."
    )


def report(options: argparse.Namespace) -> Iterator[str]:
    """The page, line by line."""
    layers = [1] if options.quick else None
    run = pk.analyze(
        "nano", layers=layers, max_tokens=options.tokens, max_pairs=options.pairs, twins=options.twins, spikes=(),
        controls=(), out=options.run, seed=options.seed,
    )  # fmt: skip
    corpus = run.summary["corpus"]
    yield "# The causal check on the bundled model\n"
    yield (
        f"`python analyses/causal.py --tokens {options.tokens} --pairs {options.pairs} --twins {options.twins} --strongest "
        f"{options.strongest} --random {options.random} --ablated {options.ablated}`, seed {options.seed}: "
        f"{corpus['n_tokens_fit']:,} tokens to fit, the {options.strongest} pairs of each layer with the largest "
        "standardised value. Mean change of the next-token loss in each quadrant, in millinats a token, ± its standard "
        "error clustered by document; KL is the divergence of the predictions, in millinats. *Only 11*: quadrant 11 "
        "moves and each other one by less than a quarter of it, by 95 % bounds. *p*: (1 + random vectors with an "
        "interaction as large)/(1 + all); *other*: the same values on random neurons; *elsewhere*: the same change at "
        "every token, written to random neurons. The pairs were chosen on the same half as the loss is measured on, by "
        "a statistic that does not see the loss.\n"
    )
    computed = int(run.layers["n_computed"].sum())
    yield f"Computed pairs in this run: {computed}.\n"
    for what in ("direction", "pattern", "neurons"):
        check = pk.causal(
            run, "nano", n_pairs=options.strongest, what=what, n_random=options.random, max_tokens=options.ablated,
            seed=options.seed,
        )  # fmt: skip
        held = check.settings
        yield f"## {TOLD[what]}\n"
        yield (
            f"{held['n_tokens']:,} predictions in {held['n_docs']} documents, loss {held['loss']:.3f} nats. "
            f"{summary(check)}\n"
        )
        yield f"| {' | '.join(COLUMNS)} |"
        yield "|" + "---|" * len(COLUMNS)
        yield from rows(check.table)
        yield ""


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, default=60_000)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--twins", type=int, default=6)
    parser.add_argument("--strongest", type=int, default=3, help="pairs of each layer")
    parser.add_argument("--random", type=int, default=9, help="random vectors of each kind and pair")
    parser.add_argument(
        "--ablated", type=int, default=10_000, help="tokens of the confirm half that are read"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=None, help="where the run is kept")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default=str(RESULT), help="where to write the page; - prints it")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.pairs, options.strongest, options.random, options.ablated = (
            20_000,
            60,
            2,
            3,
            2_000,
        )
    lines: list[str] = []
    for line in report(options):
        lines.append(line)
        print(line, flush=True)
    if options.out != "-":
        store.write_text(Path(options.out), "\n".join(lines))


if __name__ == "__main__":
    main()
