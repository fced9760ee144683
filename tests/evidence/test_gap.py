"""The levels of a run's layers are those of `theory.gap` at the layers' own sizes."""

from __future__ import annotations

from typing import Any

import pytest

from probekit.evidence.gap import OCTAVES, STEPS, shape, shapes_of
from probekit.theory.gap import gap


def row(n_neurons: int, n_params: int | None = None) -> dict[str, Any]:
    return {"n_neurons": n_neurons, "capacity": None if n_params is None else {"n_params": n_params}}


def test_layers_of_one_size_stand_together_and_small_ones_are_left_out() -> None:
    summary = {"model": {"d_model": 16, "gated": False}, "layers": [row(64), row(32), row(64), row(7)]}
    found = shapes_of(summary)
    assert [(held.own.n_neurons, len(held.rows)) for held in found] == [(64, 2), (32, 1)]
    assert found[0].own == gap(64, 16, gated=False)


@pytest.mark.parametrize("gated", [False, True])
def test_the_width_follows_from_the_weights_where_the_summary_has_none(gated: bool) -> None:
    # a bias a neuron, and both halves where the layer is gated
    summary = {
        "model": {"d_model": None, "gated": gated},
        "layers": [row(64, 64 * 17 * (2 if gated else 1)), row(64)],
    }
    (found,) = shapes_of(summary)
    assert found.own == gap(64, 16, gated=gated)
    assert len(found.rows) == 1, "a layer without weights has no width"


def test_the_curves_go_to_both_sides_at_one_ratio() -> None:
    found = shape(64, 16)
    sizes = [curve.n_neurons for curve in found.curves]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (8, 64 * 2**OCTAVES)  # below 8 neurons there is no level
    assert sizes.count(64) == 1
    assert sizes[-1 - STEPS] == 64 * 2 ** (OCTAVES - 1)
