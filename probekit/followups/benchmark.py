"""`benchmark`: how often is a detector of computed pairs wrong, and how often right, where the answer is known?

The detector is run on the worlds of `probekit.theory.worlds` at every correlation and load asked for. A find is false where
the pair is null or relayed, or kin of a relayed one; pairs that are kin of computed ones count neither way.
Axes: setting world pair.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from probekit.errors import InputError, ProbekitError, ShapeError, guarded, shown
from probekit.evidence.decide import adjusted
from probekit.followups.detectors import Detector, load_detector
from probekit.theory.checks import as_count, as_fraction, as_probability
from probekit.theory.worlds import CLASSES, NOT_COMPUTED, World, worlds

COLUMNS = {
    "correlation": "Of the Gaussians behind the labels, within a correlated group.",
    "load": "ANDs computed for each neuron.",
    "n_worlds": "Worlds drawn.",
    "fdr": "False discovery rate: mean over the worlds of false finds / finds (0 where nothing is found).",
    "fdr_se": "Its standard error over the worlds; NaN for a single one.",
    "power": "Mean share of the computed pairs that are found; NaN where nothing is computed.",
    "power_se": "Its standard error over the worlds.",
    "n_pairs": "Pairs given to the detector, mean over the worlds.",
    **{f"found_{name.replace(' ', '_')}": f"Share of the pairs {name} that are found." for name in CLASSES},
}
"""Columns of `Benchmark.table` and what they mean."""
CORRELATIONS, LOADS = (0.0, 0.5, 0.8), (0.02, 0.05, 0.1)
MIN_SUPPORT = 60
"""Tokens that every quadrant of a pair holds that is given to a detector."""


@dataclass(frozen=True, repr=False)
class Benchmark:
    """A detector against worlds whose answer is known."""

    table: pd.DataFrame
    """One row a setting; `describe()` says what each column means."""
    worlds: pd.DataFrame
    """One row a world: setting, number, false finds, true finds, and tested and found pairs of every class."""
    summary: dict[str, Any]
    """Detector, level, and what was asked of the worlds."""

    def __repr__(self) -> str:
        worst = self.table["fdr"].max()
        return (
            f"Benchmark({self.summary['detector']}: {len(self.worlds)} worlds at {len(self.table)} settings, "
            f"false discovery rate up to {worst:.3f} at q = {self.summary['q']:g})"
        )

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False, float_format="{:.3f}".format)

    def describe(self) -> pd.DataFrame:
        """Every column of the table and what it means."""
        return pd.DataFrame({"column": list(COLUMNS), "meaning": list(COLUMNS.values())})


@guarded
def benchmark(
    detector: Detector | str,
    *,
    correlations: Sequence[float | int] = CORRELATIONS,
    loads: Sequence[float | int] = LOADS,
    n_worlds: int = 5,
    max_pairs: int = 120,
    q: float | int = 0.05,
    seed: int = 0,
    **world: Any,
) -> Benchmark:
    """False discovery rate and power of a detector of computed pairs, at each correlation and load.

    Args:
        detector: a function of (neurons [token neuron], labels [token concept], doc [token], inputs [token input], pairs
            [pair 2]) that returns Float[pair], p-values, or Bool[pair], which of them the layer computes. It is also given
            those of `weights`, `q` and `seed` that it names. Or one of the names "probekit", "sparse-probe" and
            "mean-difference", module:function, or file.py:function.
        correlations: of the worlds.
        loads: ANDs computed for each neuron; 0 is allowed.
        n_worlds: worlds at each setting.
        max_pairs: pairs of each world given to the detector: all computed ones, and others at random.
        q: level of the Benjamini–Hochberg rule for p-values. Decisions are taken as they are.
        seed: of the worlds. Two detectors see the same worlds and pairs.
        **world: further arguments of `worlds`.

    Raises:
        ConfigError: there is no such detector.
        InputError: the detector fails, or returns something else; an argument of `worlds` is out of range.
    """
    function = load_detector(detector) if isinstance(detector, str) else detector
    if not callable(function):
        raise InputError(
            f"detector: got {shown(detector)} ({type(detector).__name__}), wanted a function or the name of one."
        )
    settings = [
        (as_fraction("correlations", rho), as_fraction("loads", load, below=100.0))
        for rho in _listed("correlations", correlations)
        for load in _listed("loads", loads)
    ]
    level, most = as_probability("q", q), as_count("max_pairs", max_pairs)
    unknown = set(world) - set(inspect.signature(worlds).parameters)
    if unknown or {"correlation", "load"} & set(world):
        named = sorted(unknown or {"correlation", "load"} & set(world))[0]
        raise InputError(f"{named}: no argument that is passed on to the worlds; see pk.worlds.")
    options: dict[str, Any] = {**world}
    rows: list[dict[str, Any]] = []
    for rho, load in settings:
        drawn = worlds(n_worlds, correlation=rho, load=load, seed=seed, **options)
        rows += [
            {"correlation": rho, "load": load, "world": number}
            | scored(function, one, max_pairs=most, q=level, seed=seed)
            for number, one in enumerate(drawn)
        ]
    by_world = pd.DataFrame(rows)
    named = (
        detector if isinstance(detector, str) else getattr(function, "__qualname__", type(function).__name__)
    )
    summary = {
        "detector": named, "q": level, "n_worlds": int(n_worlds), "max_pairs": most, "seed": int(seed), "world": dict(world),
    }  # fmt: skip
    return Benchmark(table_of(by_world), by_world, summary)


def scored(detector: Detector, world: World, *, max_pairs: int, q: float, seed: int) -> dict[str, Any]:
    """One world: false and true finds, and tested and found pairs of every class.

    Args:
        detector: as in `benchmark`.
        world: a world.
        max_pairs: pairs given to it.
        q: level.
        seed: passed on to a detector that names it.
    """
    pairs = given_pairs(world, max_pairs)
    found = _decisions(detector, world, pairs, q, seed)
    classes = np.array(world.class_of(pairs))
    row: dict[str, Any] = {"n_pairs": len(pairs)}
    row["n_false"] = int(found[np.isin(classes, NOT_COMPUTED)].sum())
    row["n_true"] = int(found[classes == "computed"].sum())
    for name in CLASSES:
        key = name.replace(" ", "_")
        row[f"tested_{key}"] = int((classes == name).sum())
        row[f"found_{key}"] = int(found[classes == name].sum())
    return row


def given_pairs(world: World, max_pairs: int) -> Int[np.ndarray, "pair 2"]:
    """All computed pairs, and as many others with enough tokens as there is room for, drawn at random, in order."""
    held = world.testable(MIN_SUPPORT)
    listed = {tuple(pair) for pair in world.computed.tolist()}
    others = held[[tuple(pair) not in listed for pair in held.tolist()]]
    rng = np.random.default_rng([len(others), len(listed), 149])
    chosen = rng.permutation(others)[: max(max_pairs - len(listed), 0)]
    pairs = np.concatenate([world.computed, chosen]).astype(np.int64)
    return pairs[np.lexsort(pairs.T[::-1])]


def table_of(by_world: pd.DataFrame) -> pd.DataFrame:
    """The table of settings from the rows of `scored`, each with its correlation and load."""
    rows: list[dict[str, Any]] = []
    for (rho, load), held in by_world.groupby(["correlation", "load"], sort=False):
        share = held["n_false"] / (held["n_false"] + held["n_true"]).clip(lower=1)
        tested = held["tested_computed"]
        power = (held["n_true"] / tested.where(tested > 0)).dropna()
        row = {
            "correlation": rho, "load": load, "n_worlds": len(held), "fdr": share.mean(), "fdr_se": share.sem(),
            "power": power.mean(), "power_se": power.sem(), "n_pairs": held["n_pairs"].mean(),
        }  # fmt: skip
        for name in CLASSES:
            key = name.replace(" ", "_")
            total = held[f"tested_{key}"].sum()
            row[f"found_{key}"] = held[f"found_{key}"].sum() / total if total else np.nan
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _listed(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Sequence | np.ndarray) or not len(values):
        raise InputError(f"{name}: got {shown(values)}, wanted a list of numbers.")
    return list(values)


def _decisions(
    detector: Detector, world: World, pairs: Int[np.ndarray, "pair 2"], q: float, seed: int
) -> Bool[np.ndarray, " pair"]:
    """What the detector returns, checked and decided."""
    also = {"weights": world.weights, "q": q, "seed": seed}
    try:
        takes = set(inspect.signature(detector).parameters)
    except (TypeError, ValueError):  # some callables have no signature
        takes = set[str]()
    options = {name: value for name, value in also.items() if name in takes}
    try:
        returned = detector(world.neurons, world.labels, world.doc, world.inputs, pairs, **options)
    except ProbekitError:
        raise
    except Exception as error:
        raise InputError(
            f"detector: it raised {type(error).__name__}: {error}. It is called as (neurons, labels, doc, inputs, pairs)."
        ) from error
    values = np.asarray(returned)
    if values.shape != (len(pairs),):
        raise ShapeError(
            f"detector: it returned an array of shape {values.shape}, wanted ({len(pairs)},): one p-value or one "
            "boolean for each pair."
        )
    if values.dtype == np.bool_:
        return values
    if values.dtype.kind != "f" or not ((values >= 0) & (values <= 1)).all():
        raise InputError(
            f"detector: it returned {values.dtype} with values beyond [0, 1], or no p-values; wanted p-values or "
            "booleans. Return 1.0 for a pair that cannot be tested."
        )
    return adjusted(values.astype(np.float64)) <= q
