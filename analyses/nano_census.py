"""The census of the bundled model with 20 PC-sign twins, at k = 16, 64 and all neurons, pooled and balanced d′.

    python analyses/nano_census.py --out runs/nano-census         # some 15 minutes on two cores

Default settings otherwise: 300,000 tokens of the held-out docs corpus, context 128, at most 2,000 pairs, q = 0.05,
seed 0. k = 16 and the pooled d′ decide; the others are shown to see whether that choice hides something. Writes
analyses/results/nano_census.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scipy import stats

import probekit as pk
from probekit.storage import store

RESULT = Path(__file__).parent / "results" / "nano_census.md"


def table(run: pk.Run) -> str:
    """The run's counts as Markdown."""
    concepts, corpus = run.summary["concepts"], run.summary["corpus"]
    lines = [
        "# nano, 20 twins",
        "",
        (
            f"`python analyses/nano_census.py`, seed 0: {concepts['n']} concepts, {concepts['n_tested']:,} of "
            f"{concepts['n_testable']:,} testable pairs, {corpus['n_tokens_fit']:,} tokens to fit and "
            f"{corpus['n_tokens_confirm']:,} to confirm, corpus {corpus['fingerprint'][:12]}."
        ),
        "",
        "| layer | rung | nano | twins: mean (range) |",
        "|---|---|---|---|",
    ]
    rungs = (
        "significant_raw",
        "represented",
        "above_plain",
        "relayed",
        "above_twins",
        "computed",
        "superposed",
    )
    for row in run.summary["layers"]:
        for rung in rungs:
            twins = row["twins"][f"n_{rung}"]
            held = f"{twins['mean']:.1f} ({twins['low']:.0f}–{twins['high']:.0f})"
            lines.append(f"| {row['layer']} | {rung} | {row[f'n_{rung}']:,} | {held} |")
    lines += [
        "",
        "Shares at 1 %: of pairs with p ≤ 0.01 and, as the other tail, p ≥ 0.99.",
        "",
        "| layer | k | d′ | above plain twins | pair-specific | p_twin low / high | p_pair low / high |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in run.summary["layers"]:
        for cell in row["by_k"]:
            twin = f"{cell['share_low_p_twin']:.2%} / {cell['share_high_p_twin']:.2%}"
            pair = f"{cell['share_low_p']:.2%} / {cell['share_high_p']:.2%}"
            lines.append(
                f"| {row['layer']} | {cell['k']} | {cell['form']} | {cell['n_above_plain']} | {cell['n_specific_plain']} | "
                f"{twin} | {pair} |"
            )
    return "\n".join([*lines, "", *groups_outside(run), ""])


def groups_outside(run: pk.Run) -> list[str]:
    """Groups whose mean z lies outside the twins' interval, and whether they do so among all that were looked at."""
    rows = [(row["layer"], group) for row in run.summary["layers"] for group in row["groups"]]
    df = run.summary["layers"][0]["n_twins"] - 1
    # the same interval at 95 % over all groups of all layers together (Bonferroni)
    wider = stats.t.ppf(1 - 0.025 / len(rows), df) / stats.t.ppf(0.975, df)
    lines = [
        (
            f"Groups of pairs whose mean z lies outside the twins' 95 % interval. {len(rows)} were looked at, so some "
            f"{0.05 * len(rows):.0f} would by chance; **bold**: outside the interval that holds for all of them together."
        ),
        "",
    ]
    for layer, group in rows:
        low, high, found = group["twin_low"], group["twin_high"], group["mean_z"]
        if low <= found <= high:
            continue
        mark = "**" if abs(found - (low + high) / 2) > wider * (high - low) / 2 else ""
        lines.append(
            f"* {mark}layer {layer}, {group['kind']}{mark} ({group['n_tested']} pairs): {found:+.2f}, twins "
            f"{low:+.2f} to {high:+.2f}"
        )
    return lines


def main() -> None:
    """Run, or load the finished run, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/nano-census"))
    parser.add_argument("--max-pairs", type=int, default=2_000)
    options = parser.parse_args()
    run = pk.analyze("nano", twins=20, twin_ks=(16, 64, "all"), max_pairs=options.max_pairs, out=options.out)
    text = table(run)
    store.write_text(RESULT, text)
    print(text)


if __name__ == "__main__":
    main()
