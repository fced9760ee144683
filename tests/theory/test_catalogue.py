"""Every construction can be built by name and measured."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.errors import InputError
from probekit.theory.catalogue import CONSTRUCTIONS, build
from probekit.theory.measure import measure


@pytest.mark.parametrize("d_model", [None, 128])
@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_every_construction_builds_and_answers_better_than_chance(name: str, d_model: int | None) -> None:
    circuit = build(name, n_neurons=256, n_concepts=40, d_model=d_model, seed=0)
    assert circuit.n_concepts == 40
    assert circuit.basis_aligned == (d_model is None and not CONSTRUCTIONS[name].superposed_only)
    measured = measure(circuit, n_inputs=300, seed=1)
    if name == "dense-uand" and d_model is not None:
        assert np.isnan(circuit.predicted_sd).all()  # decoded dense weights fail, and nothing is claimed
    else:
        assert measured.worst_error < 0.3
        assert np.isfinite(circuit.predicted_sd).all()


def test_unknown_names_are_told_the_known_ones() -> None:
    with pytest.raises(InputError, match="got 'nand', wanted one of sparse-uand, dense-uand"):
        build("nand", n_neurons=8, n_concepts=4, seed=0)
