"""A set of tested pairs, however a user names it, and at least how many of them stand on a rung. Axes: pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool

from probekit.errors import InputError, ShapeError
from probekit.evidence.at_least import Calibration, at_least
from probekit.evidence.pair_sampling import PairSampling
from probekit.evidence.summary import LayerRow

Rung = Literal["computed", "above_twins"]
"""What is bounded: pairs that are computed, or pairs above their twins with relays removed, specific to the pair or not."""
_BOUNDS: dict[Rung, tuple[Literal["at_least", "at_least_above"], str]] = {
    "computed": ("at_least", "p_decision"),
    "above_twins": ("at_least_above", "p_relay"),
}
"""For each rung the layer's calibration, a key of its row, and the column that decides, before it is adjusted."""


def bound_of(
    row: LayerRow,
    table: pd.DataFrame,
    pairs: Any,
    n_before: int,
    n_all: int,
    rung: Rung = "computed",
) -> int:
    """At least so many of the chosen pairs of one layer are computed, or above their twins.

    Args:
        row: the layer's entry of summary.json.
        table: its tested pairs.
        pairs: the set, as `Run.at_least` takes it.
        n_before: rows of the layers before it in `Run.pairs()`.
        n_all: rows of all layers.
        rung: what is bounded.

    Raises:
        InputError: the set names a pair or kind that was not tested, or nothing can be said.
        ShapeError: a mask of another length.
    """
    name, column = _BOUNDS[rung]
    held = row.get(name)
    if not isinstance(held, Mapping):
        raise InputError(
            f"at_least: layer {row['layer']} holds no calibration; an older version measured it, or no twin was run. Run "
            "the analysis again with twins=20."
        )
    reason = str(held.get("why_not") or "") or "the bound was withheld"
    scale = held.get("lambda")
    calibration = Calibration(
        None if scale is None else float(scale), float(held["level"]), int(held["n_twins"]), len(table),
        reason if scale is None else "",
    )  # fmt: skip
    calibration.thresholds()  # says why not before the set is looked at
    return at_least(table[column].to_numpy(float), chosen(table, pairs, n_before, n_all), calibration)


def chosen(table: pd.DataFrame, pairs: Any, n_before: int = 0, n_all: int = 0) -> Bool[np.ndarray, " pair"]:
    """Which tested pairs of a layer a user means.

    Args:
        table: the layer's tested pairs.
        pairs: None for all; rows of `Run.pairs()`; a boolean mask over the layer's pairs or over all layers' rows; a kind
            of pair, or several; a list of (a, b).
        n_before: rows of the layers before it.
        n_all: rows of all layers.

    Raises:
        InputError: it is none of these, or names a pair that was not tested.
        ShapeError: a mask of another length.
    """
    if pairs is None:
        return np.ones(len(table), bool)
    if isinstance(pairs, pd.DataFrame):
        return _of_rows(table, pairs)
    if isinstance(pairs, pd.Series | np.ndarray | pd.api.extensions.ExtensionArray):
        return _of_mask(pd.Series(pairs), len(table), n_before, n_all)
    if isinstance(pairs, list) and pairs and all(isinstance(flag, bool | np.bool_) for flag in pairs):
        return _of_mask(pd.Series(pairs), len(table), n_before, n_all)
    if hasattr(pairs, "__len__") and not len(pairs):
        return np.zeros(len(table), bool)
    pair_sampling = PairSampling.of(pairs)
    if pair_sampling.named is not None:
        return _of_names(table, pair_sampling.named)
    if not pair_sampling.kinds:
        raise InputError(
            f"at_least: got {pairs!r}; wanted a kind of pair, such as {str(table['kind'].iloc[0])!r}, a mask, rows of "
            "run.pairs(), or a list of (a, b)."
        )
    return pair_sampling.within(table["kind"].astype(str).tolist())


def _of_rows(table: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    missing = {"a", "b"} - {str(column) for column in rows.columns}
    if missing:
        raise InputError(
            f"at_least: the rows given have no column {' and '.join(sorted(missing))}; wanted rows of run.pairs()."
        )
    here = rows[rows["layer"] == table["layer"].iloc[0]] if "layer" in rows else rows
    return _of_names(table, list(zip(here["a"].astype(str), here["b"].astype(str), strict=True)))


def _of_names(table: pd.DataFrame, names: Any) -> np.ndarray:
    place = {
        frozenset(pair): index
        for index, pair in enumerate(zip(table["a"].astype(str), table["b"].astype(str), strict=True))
    }
    held = np.zeros(len(table), bool)
    for a, b in names:
        at = place.get(frozenset((a, b)))
        if at is None:
            raise InputError(
                f"at_least: ({a!r}, {b!r}) is none of the {len(table):,} tested pairs; run.pairs() lists them."
            )
        held[at] = True
    return held


def _in_rows_order(mask: pd.Series, n_here: int, n_before: int, n_all: int) -> pd.Series:
    """A mask made of a sorted table, put in the order of the rows, which its index names.

    Raises:
        InputError: the index names other rows.
    """
    n_rows = len(mask)
    places = {n_here: (range(n_here), range(n_before, n_before + n_here)), n_all: (range(n_all),)}
    for rows in places.get(n_rows, ()):
        if mask.index.equals(pd.RangeIndex(rows.start, rows.stop)):
            return mask
        if mask.index.is_unique and mask.index.isin(rows).all():
            return mask.sort_index()
    if n_rows in places:
        raise InputError(
            "at_least: the mask's index names other rows than those of run.pairs(); pass the rows themselves, "
            "table[mask], or an array in the table's order."
        )
    return mask


def _of_mask(mask: pd.Series, n_here: int, n_before: int, n_all: int) -> np.ndarray:
    if not pd.api.types.is_bool_dtype(mask.dtype):
        raise InputError(f"at_least: got a mask of {mask.dtype}, wanted one of booleans.")
    mask = _in_rows_order(mask, n_here, n_before, n_all)
    # a decision that was not made (null) chooses no pair
    flags = mask.astype("boolean").fillna(False).to_numpy(bool)
    if len(flags) == n_here:
        return flags
    if len(flags) == n_all:
        return flags[n_before : n_before + n_here]
    raise ShapeError(
        f"at_least: got a mask of {len(flags):,} entries, wanted one for each of the layer's {n_here:,} tested pairs"
        + (f", or for each of the {n_all:,} rows of run.pairs()." if n_all > n_here else ".")
    )
