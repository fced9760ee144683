"""The tables a run writes: the one owner of their column names and types.

`pairs/layer-LL.parquet` has one row a tested pair at the deciding k; `paths/layer-LL.parquet` one row a pair and other
k. What was not measured is null, never 0; flags are booleans, never null, except those that need twins when none ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from probekit.evidence.contrast import Contrast
from probekit.evidence.decide import Decision, Tested
from probekit.evidence.spread import Classes, Spread
from probekit.evidence.summary import LayerRow
from probekit.probes.refit import Readouts

PAIR_COLUMNS = (
    "layer", "a", "b", "n11", "n10", "n01", "n00", "k", "neurons", "weights", "kappa", "kappa_se", "d_prime",
    "d_prime_input", "eps95", "mean11", "mean10", "mean01", "mean00", "best_neuron_d_prime", "participation", "shape",
    "p_twin", "p_relay", "p_pair", "p_decision", "p_vs_linear", "q_above", "q", "above_plain", "relayed", "above_twins",
    "computed", "represented", "distributed", "superposed", "inclusion", "kind", "z", "d_balanced", "d_prime_pre",
    "d_prime_linear", "d_prime_twins", "d_prime_relay", "d_prime_relay_twins", "dedicated", "conjunctive", "offset",
    "decidable", "overlap",
)  # fmt: skip
PATH_COLUMNS = (
    "layer", "a", "b", "k", "kappa", "kappa_se", "d_prime", "d_balanced", "eps95", "mean11", "mean10", "mean01",
    "mean00", "sd11", "sd10", "sd01", "sd00", "significant_raw", "represented", "p_twin", "above_plain",
)  # fmt: skip


def pair_table(  # noqa: PLR0913
    *,
    layer: int,
    names: Sequence[str],
    tested: Tested,
    n_natural: np.ndarray,
    k: int,
    readouts: Readouts,
    neurons: Contrast,
    input_site: Contrast | None,
    pre: Contrast | None,
    linear: Contrast | None,
    twins: Sequence[Contrast],
    best: Contrast,
    spread: Spread,
    decision: Decision,
    classes: Classes | None,
    kind: Sequence[str],
    inclusion: np.ndarray,
    overlap: np.ndarray | None,
) -> pd.DataFrame:
    """One row a tested pair: the deciding readout, its rivals, its p-values and its classes."""
    n_pairs = len(tested.pairs)
    nothing = np.full(n_pairs, np.nan)
    without = [twin.d_relay for twin in twins if twin.d_relay is not None]
    columns: dict[str, object] = {
        "layer": np.full(n_pairs, layer, np.int32),
        "a": [names[i] for i in tested.pairs[:, 0]],
        "b": [names[i] for i in tested.pairs[:, 1]],
        **{f"n{q}": n_natural[:, i] for i, q in enumerate(("11", "10", "01", "00"))},
        "k": np.full(n_pairs, k, np.int32),
        **_readout_columns(readouts, neurons, nothing),
        **_decision_columns(decision, nothing),
        **_class_columns(spread, decision, classes, n_pairs),
        "d_prime_input": nothing if input_site is None else input_site.d_prime,
        "best_neuron_d_prime": best.d_prime,
        "inclusion": inclusion,
        "kind": list(kind),
        "d_prime_pre": nothing if pre is None else pre.d_prime,
        "d_prime_linear": nothing if linear is None else linear.d_prime,
        "d_prime_twins": np.stack([t.d_prime for t in twins]).mean(0) if twins else nothing,
        "d_prime_relay_twins": np.stack(without).mean(0) if without else nothing,
        "overlap": nothing if overlap is None else overlap,
    }
    return pd.DataFrame(columns)[list(PAIR_COLUMNS)]


def _flags(values: np.ndarray | None, n_pairs: int) -> object:
    """Booleans, or nulls for what is not claimed."""
    return pd.array([pd.NA] * n_pairs if values is None else values, dtype="boolean")


def _readout_columns(readouts: Readouts, neurons: Contrast, nothing: np.ndarray) -> dict[str, object]:
    """The deciding readout, and how it stands in the quadrants of the confirm half."""
    used = [row >= 0 for row in readouts.neurons]
    return {
        "neurons": [row[u].astype(np.int32).tolist() for row, u in zip(readouts.neurons, used, strict=True)],
        "weights": [row[u].astype(float).tolist() for row, u in zip(readouts.weights, used, strict=True)],
        "kappa": neurons.kappa,
        "kappa_se": neurons.kappa_se,
        "d_prime": neurons.d_prime,
        "eps95": nothing if neurons.eps95 is None else neurons.eps95,
        **{f"mean{q}": neurons.mean[:, i] for i, q in enumerate(("11", "10", "01", "00"))},
        "d_balanced": neurons.d_balanced,
        "d_prime_relay": nothing if neurons.d_relay is None else neurons.d_relay,
        "offset": readouts.offset,
        "decidable": _flags(neurons.decidable, len(nothing)),
    }


def _decision_columns(decision: Decision, nothing: np.ndarray) -> dict[str, object]:
    """p-values, levels and rungs."""
    numbers = {
        "p_twin": decision.p_twin,
        "p_relay": decision.p_relay,
        "p_pair": decision.p_pair,
        "p_decision": decision.p_decision,
        "p_vs_linear": decision.p_vs_linear,
        "q_above": decision.q_above,
        "q": decision.q_computed,
        "z": None if decision.z is None else decision.z.layer,
    }
    rungs = {
        "above_plain": decision.above_plain,
        "relayed": decision.relayed,
        "above_twins": decision.above_twins,
        "computed": decision.computed,
        "represented": decision.represented,
    }
    return {
        **{name: nothing if values is None else values for name, values in numbers.items()},
        **{name: _flags(values, len(nothing)) for name, values in rungs.items()},
    }


def _class_columns(
    spread: Spread, decision: Decision, classes: Classes | None, n_pairs: int
) -> dict[str, object]:
    """How many neurons a readout is spread over, and whether they carry other pairs as well."""
    dedicated = None if classes is None else classes.dedicated & (decision.computed == True)  # noqa: E712
    return {
        "participation": spread.participation,
        "shape": spread.shape,
        "distributed": _flags(spread.distributed, n_pairs),
        "superposed": _flags(None if classes is None else classes.superposed, n_pairs),
        "dedicated": _flags(dedicated, n_pairs),
        "conjunctive": _flags(spread.conjunctive, n_pairs),
    }


RANKING = {"p_decision": True, "z": False, "d_prime": False, "a": True, "b": True}
"""Columns that rank pairs, strongest first, and whether each ascends."""


TOP_COLUMNS = (
    "layer", "a", "b", "kind", "d_prime", "d_prime_twins", "d_prime_relay", "d_prime_relay_twins", "p_twin", "p_relay",
    "p_pair", "q", "relayed", "above_twins", "computed",
)  # fmt: skip
"""What `Run.top` shows of a pair."""


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Pairs, strongest first: the one order in which tables, cards and `Run.top` name them.

    By what is decided on, then by how far a pair stands out from its twins; pairs of a run without twins by d′.
    """
    return table.sort_values(
        list(RANKING), ascending=list(RANKING.values()), kind="stable", na_position="last"
    )


def path_rows(
    *, layer: int, names: Sequence[str], tested: Tested, k: int, contrast: Contrast, decision: Decision
) -> pd.DataFrame:
    """One row a pair for a readout of another size, with its own decisions; relays are removed at the deciding size only."""
    n_pairs = len(tested.pairs)
    nothing = np.full(n_pairs, np.nan)

    def flag(values: np.ndarray | None) -> object:
        return pd.array([pd.NA] * n_pairs if values is None else values, dtype="boolean")

    columns: dict[str, object] = {
        "layer": np.full(n_pairs, layer, np.int32),
        "a": [names[i] for i in tested.pairs[:, 0]],
        "b": [names[i] for i in tested.pairs[:, 1]],
        "k": np.full(n_pairs, k, np.int32),
        "kappa": contrast.kappa,
        "kappa_se": contrast.kappa_se,
        "d_prime": contrast.d_prime,
        "d_balanced": contrast.d_balanced,
        "eps95": nothing if contrast.eps95 is None else contrast.eps95,
        **{f"mean{q}": contrast.mean[:, i] for i, q in enumerate(("11", "10", "01", "00"))},
        **{f"sd{q}": contrast.sd[:, i] for i, q in enumerate(("11", "10", "01", "00"))},
        "significant_raw": decision.raw,
        "represented": decision.represented,
        "p_twin": nothing if decision.p_twin is None else decision.p_twin,
        "above_plain": flag(decision.above_plain),
    }
    return pd.DataFrame(columns)[list(PATH_COLUMNS)]


def layer_table(rows: Sequence[LayerRow]) -> pd.DataFrame:
    """One row a layer: every number of summary.json's `layers`, nested ones with their path as a prefix."""
    flat: list[dict[str, Any]] = []
    for row in rows:
        kept = {k: v for k, v in row.items() if not isinstance(v, list | dict)}
        for key, value in (row["twins"] or {}).items():
            kept |= {f"twins_{key}_{part}": v for part, v in (value or {}).items()}
        kept |= {f"capacity_{key}": v for key, v in row["capacity"].items() if not isinstance(v, list)}
        kept |= {f"total_{key}": v for key, v in (row.get("total") or {}).items()}
        flat.append(kept)
    return pd.DataFrame(flat)


def json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON holds them: numbers of Python, and None for what was not measured.

    Args:
        table: any; a list in a cell stays a list.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        return None if pd.api.types.is_scalar(value) and pd.isna(value) else value

    return [{str(name): plain(value) for name, value in row.items()} for row in table.to_dict("records")]
