"""Do two finished runs differ in how many pairs stand above their null layers? Layer by layer, paired by pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from probekit.errors import InputError, guarded, shown
from probekit.evidence.difference import LEVEL, Measured
from probekit.evidence.difference import difference as test_difference
from probekit.results.run import Run, load
from probekit.storage import store
from probekit.storage.manifest import PAIR_DETAILS

Rung = Literal["above_plain", "above_twins"]
_OF_RUNG: dict[Rung, tuple[str, str]] = {
    "above_plain": ("d_prime", "d_prime_twins"),
    "above_twins": ("d_prime_relay", "d_prime_relay_twins"),
}
"""For each rung the layer's d′ in the pair table, and that of every twin in the table of pair details."""
COLUMNS: dict[str, str] = {
    "first_layer": "layer of the first run",
    "second_layer": "layer of the second run",
    "rung": "above_plain: d′ as read; above_twins: with relays removed from the layer and from every twin",
    "n_pairs": "tested pairs that both have",
    "n_named_first": "of these, named on the rung by the first run's own decision (false discovery rate)",
    "n_named_second": "by the second run's",
    "n_computed_first": "of these, computed in the first run; not tested, see `pk.difference`",
    "n_computed_second": "computed in the second run",
    "n_first": "of these, beyond the level of the first layer's null layers",
    "n_second": "beyond the level of the second layer's null layers",
    "n_only_first": "in the first alone",
    "n_only_second": "in the second alone",
    "difference": "n_first less n_second: what is tested",
    "low": "lower end of its 95 % interval",
    "high": "upper end of its 95 % interval",
    "p": "p-value of no difference, by its own error",
    "p_holm": "p adjusted for all rows of the table (Holm)",
    "p_null": "p-value of neither layer computing anything, by the null layers; decides nothing",
    "note": "why nothing was tested; empty where something was",
}
"""Columns of the table: name → meaning."""


@guarded
def difference(
    first: Run | str | Path, second: Run | str | Path, *, level: float | int = LEVEL
) -> pd.DataFrame:
    """Test whether two runs differ in how many of the same pairs stand beyond their null layers.

    Layers of the same number are set side by side (two runs of one layer each: these two), on the pairs that both tested.
    Each layer is judged by its own twins; a pair counts where it lies beyond the upper `level` of their values. The error of
    the difference takes pairs that share a concept as dependent, and either set of twins as a sample.
    `probekit.evidence.difference` says how, and what is assumed; `analyses/results/difference.md` how often it is wrong, and
    what it finds.

    Counts of *computed* pairs are shown and not tested: what is specific to a pair is, by construction, zero on average over
    the pairs of a layer, and decided by a threshold that depends on all the others.

    Args:
        first: a run, or its directory.
        second: the run it is compared with.
        level: share of the null layers' values that lie beyond.

    Returns:
        One row a layer and rung. What could not be tested has null p-values and a note.

    Raises:
        InputError: no run, no layer in common, or a level outside (0, 1/2).
        StoreError: a directory is no run, or damaged.
    """
    one, two = _run(first, "first"), _run(second, "second")
    if not 0 < level < 0.5:
        raise InputError(f"level: got {level}, wanted a share between 0 and 1/2, such as {LEVEL}.")
    rows = [_row(one, two, layers, rung, level) for layers in _layers(one, two) for rung in _OF_RUNG]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    whole = [name for name in COLUMNS if name.startswith("n_") or name == "difference"]
    table = table.astype(dict.fromkeys(whole, "Int64") | dict.fromkeys(["low", "high", "p", "p_null"], float))
    table["p_holm"] = holm(table["p"].to_numpy(float))
    return table


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of the table as a report takes them."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def holm(p: np.ndarray) -> np.ndarray:
    """p-values adjusted for as many tests as there are (Holm 1979); nulls stay null and do not count."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def _run(given: Any, name: str) -> Run:
    if not isinstance(given, str | Path | Run):
        raise InputError(
            f"{name}: got {shown(given)} ({type(given).__name__}), wanted a run or its directory."
        )
    return given if isinstance(given, Run) else load(given)


def in_common(first: Run, second: Run) -> list[tuple[int, int]]:
    """Layers that are set side by side: those of one number, or the only layer of each."""
    one, two = (_held(run) for run in (first, second))
    if len(one) == len(two) == 1:
        return [(one[0], two[0])]
    return [(layer, layer) for layer in one if layer in two]


def _held(run: Run) -> list[int]:
    return [int(row["layer"]) for row in run.summary["layers"]]


def _layers(first: Run, second: Run) -> list[tuple[int, int]]:
    common = in_common(first, second)
    if not common:
        one, two = _held(first), _held(second)
        raise InputError(
            f"difference: the first run has layers {', '.join(map(str, one))}, the second {', '.join(map(str, two))}; "
            "wanted a layer in common, or one layer in each."
        )
    return common


def _row(first: Run, second: Run, layers: tuple[int, int], rung: Rung, level: float) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {
        "first_layer": layers[0], "second_layer": layers[1], "rung": rung, "note": "",
    }  # fmt: skip
    tables = [_table(run, layer, rung) for run, layer in zip((first, second), layers, strict=True)]
    both = tables[0].merge(tables[1], on="pair", suffixes=("_first", "_second"))
    row["n_pairs"] = len(both)
    for side in ("first", "second"):
        row[f"n_named_{side}"] = _n_flagged(both[f"{rung}_{side}"])
        row[f"n_computed_{side}"] = _n_flagged(both[f"computed_{side}"])
    lacking = [
        name for name, held in zip(("first", "second"), tables, strict=True) if held["twins"].isna().any()
    ]
    if lacking:
        told = "d′ of single twins" + (" with relays removed" if rung == "above_twins" else "")
        return row | {
            "note": f"the {' and the '.join(lacking)} run keeps no {told}: run it again to test this rung"
        }
    both = both[_is_finite(both)]
    try:
        found = test_difference(
            _measured(both, "first"), _measured(both, "second"), _concepts(both), level=level,
            same_seed=_seed(first) == _seed(second),
        )  # fmt: skip
    except InputError as error:  # too few twins or pairs: a row says so, the others are tested
        return row | {"note": str(error)}
    return row | {name: value for name, value in vars(found).items() if name in COLUMNS}


def _table(run: Run, layer: int, rung: Rung) -> pd.DataFrame:
    """One row a pair: its concepts in one order, d′, the twins' d′ (null where not kept), n11 and flags."""
    own, of_twins = _OF_RUNG[rung]
    table = run.pairs(layer)
    name = f"{PAIR_DETAILS}/layer-{layer:02d}.parquet"
    details = store.read_table(run.path / name, run._results.files.get(name))
    held = table[["a", "b", own, "n11", rung, "computed"]].rename(columns={own: "d"})
    kept = details[["a", "b"]].assign(twins=details.get(of_twins))
    held = held.merge(kept, on=["a", "b"], how="left")
    # a run without twins, or without removal of relays, keeps empty lists
    held["twins"] = [
        values if values is not None and np.size(values) and np.ndim(values) else None
        for values in held["twins"]
    ]
    held["pair"] = [tuple(sorted(map(str, pair))) for pair in zip(held["a"], held["b"], strict=True)]
    return held


def _is_finite(both: pd.DataFrame) -> np.ndarray:
    """Pairs of which every d′ was measured."""
    values = (both[name] for name in ("d_first", "twins_first", "d_second", "twins_second"))
    return np.all([[bool(np.isfinite(value).all()) for value in column] for column in values], axis=0)


def _measured(both: pd.DataFrame, side: str) -> Measured:
    return Measured(
        both[f"d_{side}"].to_numpy(float),
        np.stack([np.asarray(values, float) for values in both[f"twins_{side}"]], axis=1)
        if len(both)
        else np.zeros((0, 0)),
        both[f"n11_{side}"].to_numpy(np.int64),
    )


def _concepts(both: pd.DataFrame) -> np.ndarray:
    names = sorted({name for pair in both["pair"] for name in pair})
    place = {name: index for index, name in enumerate(names)}
    return np.array([[place[a], place[b]] for a, b in both["pair"]], np.int64).reshape(-1, 2)


def _n_flagged(flags: pd.Series) -> int | None:
    return None if len(flags) and flags.isna().all() else int(flags.astype("boolean").fillna(False).sum())


def _seed(run: Run) -> Any:
    return cast(dict[str, Any], run.record["science"].get("settings") or {}).get("seed")
