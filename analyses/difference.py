"""How often the test of the difference between two runs is wrong, and what it finds.

    python analyses/difference.py                       # 100 pairs of runs a line, some minutes of one core
    python analyses/difference.py --draws 20 --out -

The runs are simulated at the level of d′ (tests/evidence/differences.py): concepts shared between pairs, twins of either run
drawn anew, a text of its own for each. Beside the test stand the rank of the difference among those of null layers, and
McNemar's test, which takes pairs as independent.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from measured import RESULTS, table, write_page

# isort: split
from differences import Case, draws, mcnemar

CASES: tuple[tuple[str, bool, Case], ...] = (
    ("two null layers", True, Case()),
    ("two null layers, strong concept effects", True, Case(of_concept=0.25)),
    ("two null layers, 5 twins", True, Case(n_twins=5)),
    ("the same layer, 60 of 400 pairs computed", True, Case(common=60)),
    ("the same layer, 200 computed", True, Case(common=200)),
    ("the same, weaker, and twice the noise of the text", True, Case(common=200, strong=0.5, text=0.2)),
    ("the same, half of all pairs on 4 concepts", True, Case(common=200, strong=0.5, text=0.2, hubs=True)),
    ("the same as before the hubs, 5 twins", True, Case(common=200, strong=0.5, text=0.2, n_twins=5)),
    ("40 computed against none", False, Case(only_first=40)),
    ("80 computed against none", False, Case(only_first=80)),
    ("200 computed against 100 of them", False, Case(common=100, only_first=100)),
    ("the same layer, 200 computed, 20 twins", True, Case(common=200, n_twins=20)),
)
COLUMNS = (
    "two runs", "equal", "beyond, first", "second", "rejects at 5 %", "± s.e.", "null layers", "McNemar",
    "sd of the difference", "half the interval",
)  # fmt: skip


def rows(n_draws: int) -> Iterator[list[str]]:
    """One line a case."""
    for index, (name, equal, case) in enumerate(CASES):
        found = list(draws(np.random.default_rng([91, index]), case, n_draws))
        rates = [
            np.mean([p <= 0.05 for p in values])
            for values in (
                [d.p for d in found], [d.p_null for d in found], [mcnemar(d) for d in found],
            )
        ]  # fmt: skip
        error = np.sqrt(max(rates[0] * (1 - rates[0]), 1 / n_draws) / n_draws)
        yield [
            name, "yes" if equal else "no", f"{np.mean([d.n_first for d in found]):.0f}",
            f"{np.mean([d.n_second for d in found]):.0f}", f"{rates[0]:.1%}", f"{error:.1%}",
            *(f"{rate:.1%}" for rate in rates[1:]), f"{np.std([d.difference for d in found]):.1f}",
            f"{np.mean([d.high - d.low for d in found]) / 2:.1f}",
        ]  # fmt: skip


def page(n_draws: int) -> Iterator[str]:
    """The whole page."""
    yield "# The test of the difference between two runs\n"
    yield (
        f"`python analyses/difference.py --draws {n_draws}`: {n_draws} simulated pairs of runs a line, 400 pairs of 40 "
        "concepts, 10 twins unless said. Where the runs are equal, a rejection is an error. Ranking the difference among "
        "those of null layers is a test of *neither layer computes anything* and rejects a layer against "
        "itself; McNemar's takes pairs as independent. Half the interval should be about 2 sd; where it is more, the test "
        "errs on the safe side, at a cost in power that the last lines show.\n"
    )
    yield from table(COLUMNS, rows(n_draws))


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--out", default=str(RESULTS / "difference.md"), help="- prints only")
    options = parser.parse_args()
    write_page(page(options.draws), options.out)


if __name__ == "__main__":
    main()
