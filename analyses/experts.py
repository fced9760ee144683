"""An AND planted in one of four experts: is it found there, and what is found where nothing was planted?

    python analyses/experts.py --seeds 8      # some five minutes of one core

Each model is `probekit.testing.experts.planted_experts`: a Mixtral of one layer with random experts of 48 neurons, in one of
which eight neurons compute f0 ∧ f1 besides; each token goes to two of four experts by something that has nothing to do with
the concepts. Every expert is analysed on its own tokens, and the planted one again without what was planted, every other
number as it was. Writes analyses/results/experts.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pandas as pd
from measured import RESULTS, table, write_page

import probekit as pk
from probekit.testing.experts import N_CONCEPTS, PAIR, planted_experts

PLANTED_IN = 2
TWINS, MIN_SUPPORT = 20, 20
LAYERS = ("the expert with the AND", "the other three", "the same expert without it")
COLUMNS = (
    "",
    "analyses",
    "tokens each",
    "f0 ∧ f1 computed",
    "median d′ / null layers",
    "other pairs computed",
    "of tested",
)


def analysed(seed: int) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Which kind of layer, its tokens and its table of pairs."""
    for planted_in in (PLANTED_IN, None):
        planted = planted_experts(seed, planted_in)
        layer = pk.experts(
            planted.model, planted.corpus, layer=0, concepts=planted.concepts, context=32, progress=False
        )
        for expert in layer:
            here = expert.expert == PLANTED_IN
            if planted_in is None and not here:
                continue  # the same as before, number by number
            kind = LAYERS[0 if here and planted_in is not None else 2 if here else 1]
            options = {
                "twins": TWINS,
                "min_support": MIN_SUPPORT,
                "spikes": (),
                "controls": (),
                "progress": False,
            }
            yield kind, expert.n_tokens, expert.analyze(**options).pairs()


def row(kind: str, held: list[tuple[int, pd.DataFrame]]) -> list[str]:
    """One line of the table."""
    pairs = [found.set_index(["a", "b"]) for _, found in held]
    planted = [bool(found.loc[PAIR, "computed"]) for found in pairs]
    ratios = pd.Series([(found["d_prime"] / found["d_prime_twins"])[PAIR] for found in pairs])
    others = sum(int(found["computed"].sum()) for found in pairs) - sum(planted)
    tokens = pd.Series([n for n, _ in held])
    return [
        kind, str(len(held)), f"{tokens.min():,}–{tokens.max():,}", str(sum(planted)), f"{ratios.median():.1f}",
        f"{others} (in {sum(found['computed'].drop(PAIR).any() for found in pairs)} of the analyses)",
        f"{sum(len(found) - 1 for found in pairs):,}",
    ]  # fmt: skip


def page(n_seeds: int) -> Iterator[str]:
    """The page's lines."""
    yield "# An AND in one expert"
    yield ""
    yield (
        f"`python analyses/experts.py --seeds {n_seeds}`, probekit {pk.__version__}: {n_seeds} random Mixtrals of one "
        f"layer, {N_CONCEPTS} concepts, {TWINS} null layers, min_support {MIN_SUPPORT}, q = 0.05 in each expert. What is "
        "computed where nothing was planted is a chance find: at this level one analysis in twenty may have some."
    )
    yield ""
    held: dict[str, list[tuple[int, pd.DataFrame]]] = {kind: [] for kind in LAYERS}
    for seed in range(n_seeds):
        for kind, n_tokens, found in analysed(seed):
            held[kind].append((n_tokens, found))
    yield from table(COLUMNS, (row(kind, held[kind]) for kind in LAYERS))


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", default=str(RESULTS / "experts.md"), help="page; - only prints it")
    options = parser.parse_args()
    write_page(page(options.seeds), options.out)


if __name__ == "__main__":
    main()
