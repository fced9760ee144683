"""How often every interval of a census holds the truth, how wide it is, and how the naive interval does.

    python analyses/interval_coverage.py                       # 600 censuses a line, some 2 minutes of one core
    python analyses/interval_coverage.py --censuses 100 --out -

The simulators are those of tests/evidence/censuses.py, each at its usual setting and at harder ones. Nominal level 95 %;
a lower limit is taken as an interval that reaches up to everything.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from measured import RESULTS, table, write_page

# isort: split
from censuses import (
    Coverage,
    excesses,
    grids,
    imperfect_detectors,
    independent_trials,
    lower_limits,
    non_null_bounds,
    unequal_inclusion,
    uniform_samples,
)

LEAST = 0.93
EDGE = {"recall": 0.35, "wrong": 0.05}
CASES: tuple[tuple[str, str, Callable[..., Coverage], dict[str, float]], ...] = (
    ("Clopper–Pearson", "400 independent pairs, 3 % true", independent_trials, {}),
    ("Clopper–Pearson", "400 independent pairs, 0.3 % true", independent_trials, {"truth": 0.003}),
    ("hypergeometric", "400 of 5,000 pairs, 180 true", uniform_samples, {}),
    ("hypergeometric", "400 of 5,000 pairs, 5 true", uniform_samples, {"n_found": 5}),
    ("hypergeometric", "400 of 600 pairs, 180 true", uniform_samples, {"n_population": 600}),
    ("delete-one-concept jackknife", "all pairs of 50 concepts", grids, {}),
    ("delete-one-concept jackknife", "all pairs of 25 concepts", grids, {"n_concepts": 25}),
    ("delete-one-concept jackknife", "all pairs of 50 concepts, all alike", grids, {"spread": 0.0}),
    ("Horvitz–Thompson", "inclusion .05, .3, 1; rare ones found more often", unequal_inclusion, {}),
    ("Horvitz–Thompson", "the same, few finds", unequal_inclusion, {"rare_rate": 0.004, "usual_rate": 0.001}),
    ("Rogan–Gladen", "25 % true, recall .7, false .03", imperfect_detectors, {}),
    ("Rogan–Gladen", "3 % true, recall .5, false .01", imperfect_detectors, {"truth": 0.03, "recall": 0.5, "wrong": 0.01}),
    ("Rogan–Gladen", "none true", imperfect_detectors, {"truth": 0.0, "wrong": 0.01}),
    ("Rogan–Gladen", "25 % true, recall .7 known from 30 cases", imperfect_detectors, {"n_known": 30}),
    ("Rogan–Gladen", "recall .35, false .05: on the edge of the claim", imperfect_detectors, EDGE),
    ("Rogan–Gladen", "recall .30, false .05: below the edge", imperfect_detectors, EDGE | {"recall": 0.30}),
    ("lower limit without recall", "5 % true, recall .8, false .02", lower_limits, {}),
    ("lower limit without recall", "none true, false .02", lower_limits, {"truth": 0.0}),
    ("excess over 20 twins", "20 true, twins hold 1 in clumps", excesses, {}),
    ("excess over 8 twins", "20 true, twins hold 1 in clumps", excesses, {"n_twins": 8}),
    ("excess over 20 twins", "20 true, twins hold 0.05", excesses, {"rate": 0.05}),
    ("Meinshausen–Rice, 20 twins", "200 of 1,000 shifted by 3 sd, dependent", non_null_bounds, {}),
    ("Meinshausen–Rice, 20 twins", "none of 1,000, dependent", non_null_bounds, {"n_true": 0}),
)  # fmt: skip
COLUMNS = (
    "interval", "censuses of", "claimed", "covers", "± s.e.", "wrong claims of all", "median width", "naive covers",
    "≥ 93 %",
)  # fmt: skip


def rows(n_censuses: int) -> Iterator[list[str]]:
    """One line a case."""
    for index, (name, what, simulate, options) in enumerate(CASES):
        got = simulate(np.random.default_rng([77, index]), n_censuses, **options)
        claimed = len(got.covered)
        if not claimed:
            yield [name, what, "0", "–", "–", "0.0%", "–", f"{got.naive.mean():.1%}", "–"]
            continue
        error = np.sqrt(max(got.share * (1 - got.share), 1 / claimed) / claimed)
        width = float(np.median(got.width))
        yield [
            name, what, f"{claimed:,}", f"{got.share:.1%}", f"{error:.1%}",
            f"{(~got.covered).sum() / n_censuses:.1%}", f"{width:.3g}",
            f"{got.naive.mean():.1%}", "yes" if got.share >= LEAST else "NO",
        ]  # fmt: skip


def page(n_censuses: int) -> Iterator[str]:
    """The whole page."""
    yield "# Coverage of the intervals\n"
    yield (
        f"`python analyses/interval_coverage.py --censuses {n_censuses}`: nominal 95 %, {n_censuses:,} simulated censuses a "
        "line. Widths are in the unit of what is estimated: a share, or a number of pairs. The naive interval is Wald's for "
        "independent pairs, a point for samples, Clopper–Pearson where pairs share concepts, the one without weights, the "
        "share found as it is, the lower limit of the share found, the Poisson error of the twins' mean, and Storey's "
        "number without error. Rogan–Gladen claims nothing where recall less false rate is at most 0.3; coverage is that of "
        "what is claimed, which a claim made only where the measured recall happens to be high makes worse.\n"
    )
    yield from table(COLUMNS, rows(n_censuses))


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--censuses", type=int, default=600)
    parser.add_argument("--out", default=str(RESULTS / "interval_coverage.md"), help="- prints only")
    options = parser.parse_args()
    write_page(page(options.censuses), options.out)


if __name__ == "__main__":
    main()
