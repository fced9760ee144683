"""How often "at least V of these pairs" is true of every set at once, and how much of the truth it sees.

    python analyses/at_least_coverage.py                     # 500 layers a line, some 4 minutes of one core
    python analyses/at_least_coverage.py --draws 100 --out -

The simulators are those of tests/evidence/posthoc.py: 400 pairs, normal values, one-sided p-values. Beside the balanced
thresholds that are used stand the linear (Simes) ones, calibrated on the same twins.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

import numpy as np
from measured import RESULTS, table, write_page

# isort: split
from posthoc import (
    N_PAIRS,
    Draw,
    broken_by_parts,
    broken_by_pooling,
    clustered,
    equicorrelated,
    independent,
    promises,
    upper,
)

DRAWS: tuple[tuple[str, Draw], ...] = (
    ("independent", independent),
    ("in clusters of 20, correlation 0.3", clustered),
    ("all correlated at 0.3", equicorrelated),
)
SIGNALS = ((0, 0.0), (100, 2.0), (100, 3.0), (100, 4.0), (20, 4.0), (10, 5.0))
TWINS = (20, 40)
COLUMNS = (
    "pairs", "twins", "non-null", "shift", "all sets hold", "± s.e.", "bound of all pairs", "bound of the n of smallest p",
    "non-null among these", "linear: all sets hold", "linear: bound of all pairs",
)  # fmt: skip


def linear(
    rng: np.random.Generator, n_draws: int, draw: Draw, n_twins: int, n_true: int, shift: float
) -> tuple[float, float]:
    """Share of layers in which the linear thresholds keep all promises, and their median bound of all pairs."""
    k = np.arange(1, N_PAIRS + 1)
    true = np.zeros(N_PAIRS, bool)
    true[np.random.default_rng(0).permutation(N_PAIRS)[:n_true]] = True
    held, low = 0, []
    for _ in range(n_draws):
        p = upper(draw(rng, 1)[0] + shift * true)
        own = (np.sort(upper(draw(rng, n_twins)), axis=1) * N_PAIRS / k).min(1)
        thresholds = np.sort(own)[int(np.floor(0.05 * (n_twins + 1) + 1e-9)) - 1] * k / N_PAIRS

        def bound(inside: np.ndarray, below: np.ndarray = thresholds) -> int:
            return max(0, int((np.searchsorted(np.sort(inside), below, side="left") - k + 1).max()))

        held += bound(p[~true]) == 0
        low.append(bound(p))
    return held / n_draws, float(np.median(low))


def rows(n_draws: int) -> Iterator[list[str]]:
    """One line a kind of dependence, number of twins and signal."""
    index = 0
    for name, draw in DRAWS:
        for n_twins in TWINS:
            for n_true, shift in SIGNALS:
                index += 1
                got = promises(
                    np.random.default_rng([78, index]), n_draws, draw=draw, n_twins=n_twins, n_true=n_true, shift=shift
                )  # fmt: skip
                simes = linear(np.random.default_rng([79, index]), n_draws, draw, n_twins, n_true, shift)
                yield [
                    name, str(n_twins), str(n_true), f"{shift:g}" if n_true else "–",
                    f"{got.held:.1%}", f"{_error(got.held, n_draws):.1%}",
                    f"{np.median(got.low):.0f}", f"{np.median(got.low_top):.0f}" if n_true else "–",
                    f"{np.median(got.true_top):.0f}" if n_true else "–", f"{simes[0]:.1%}", f"{simes[1]:.0f}",
                ]  # fmt: skip


def harder(n_draws: int) -> Iterator[list[str]]:
    """One line a way in which real p-values are not the textbook's."""
    smaller = partial(broken_by_parts, smallest=True)
    larger = partial(broken_by_parts, smallest=False)
    ranks = partial(broken_by_pooling, draw=independent)
    cases = (
        ("every pair passes one test and is null in the other; twins by their smaller p (as used)", smaller),
        ("the same; twins by their larger p, as the layer is judged", larger),
        ("p-values are ranks among the 20 twins that also calibrate; independent", ranks),
        ("the same; in clusters", partial(broken_by_pooling, draw=clustered)),
    )  # fmt: skip
    for index, (what, broken) in enumerate(cases):
        held = 1 - broken(np.random.default_rng([80, index]), n_draws)
        yield [what, f"{held:.1%}", f"{_error(held, n_draws):.1%}"]


def _error(share: float, n: int) -> float:
    return float(np.sqrt(max(share * (1 - share), 1 / n) / n))


def page(n_draws: int) -> Iterator[str]:
    """The whole page."""
    yield "# At least V of these pairs\n"
    yield (
        f"`python analyses/at_least_coverage.py --draws {n_draws}`: {N_PAIRS} pairs, nominal 95 %, {n_draws:,} simulated "
        "layers a line, each with twins of its own. *All sets hold*: no set of pairs, however chosen, is promised more "
        "non-null pairs than it has. Shifts are in standard deviations; bounds are medians over layers. *Linear*: "
        "thresholds λk/m in place of the balanced ones.\n"
    )
    yield from table(COLUMNS, rows(n_draws))
    yield "\nNo pair non-null, 20 twins:\n"
    yield from table(("p-values", "all sets hold", "± s.e."), harder(n_draws // 2))


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--out", default=str(RESULTS / "at_least_coverage.md"), help="- prints only")
    options = parser.parse_args()
    write_page(page(options.draws), options.out)


if __name__ == "__main__":
    main()
