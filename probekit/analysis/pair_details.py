"""What is kept of every pair while its layer is measured, so that it can be looked at later (`results/pair.py`).

The readout's value is at hand at every sampled token of the confirm half; of each pair a histogram, five quantiles and the
highest tokens of each quadrant are kept. Axes: pair quadrant entry; quadrants in the order 11, 10, 01, 00.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from probekit.analysis.design import StudyDesign
from probekit.analysis.passes import LayerMeasure
from probekit.analysis.settings import DECIDING_K
from probekit.probes.pairs import QUADRANTS
from probekit.results.pair import LEVELS, N_BINS, TOP


def detail_table(measure: LayerMeasure, design: StudyDesign, names: Sequence[str]) -> pd.DataFrame:
    """What is kept of every pair of a layer, one row a pair.

    Args:
        measure: the layer's measurement, with the deciding readout's values.
        design: the study design, whose confirm half was sampled.
        names: of the concepts.
    """
    sample, token = design.confirm.sample, design.rows["confirm"]
    twins = measure.twins.get(DECIDING_K, [])
    d_twins = np.stack([twin.d_prime for twin in twins], axis=1) if twins else np.zeros((sample.n_pairs, 0))
    without = [twin.d_relay for twin in twins if twin.d_relay is not None]
    d_without = np.stack(without, axis=1) if without else np.zeros((sample.n_pairs, 0))
    token_of_entry = token[sample.token]
    rows: list[dict[str, Any]] = []
    for p, (a, b) in enumerate(design.pairs.tolist()):
        bounds = sample.ptr[4 * p : 4 * p + 5]
        used = measure.readouts.neurons[p] >= 0
        row: dict[str, Any] = {
            "a": names[a],
            "b": names[b],
            "contribution": measure.spread.contribution[p][used].astype(float).tolist(),
            "d_prime_twins": d_twins[p].astype(float).tolist(),
            "d_prime_relay_twins": d_without[p].astype(float).tolist(),
        }
        held = measure.values[bounds[0] : bounds[4]]
        row["low"], row["high"] = float(held.min(initial=0.0)), float(held.max(initial=1.0))
        edges = np.linspace(row["low"], row["high"], N_BINS + 1)
        for q, quadrant in enumerate(QUADRANTS):
            row |= _quadrant(
                measure.values, token_of_entry, edges, int(bounds[q]), int(bounds[q + 1]), quadrant
            )
        rows.append(row)
    return pd.DataFrame(rows)


def _quadrant(
    values: np.ndarray, token: np.ndarray, edges: np.ndarray, first: int, last: int, name: str
) -> dict[str, Any]:
    part = values[first:last]
    order = np.argsort(part, kind="stable")
    ordered = part[order].astype(float)
    place = np.searchsorted(ordered, edges[1:-1], side="left")
    counts = np.diff(np.concatenate([[0], place, [len(part)]]))
    top = order[::-1][:TOP]
    return {
        f"counts{name}": counts.astype(np.int32).tolist(),
        f"quantiles{name}": np.quantile(ordered, LEVELS).tolist() if len(part) else [],
        f"tokens{name}": token[first + top].astype(np.int64).tolist(),
        f"values{name}": part[top].astype(float).tolist(),
    }
