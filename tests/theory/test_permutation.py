"""Features come out in the order asked for, at the predicted noise."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.errors import InputError
from probekit.theory.circuits.permutation import permutation
from probekit.theory.measure import measure


@pytest.mark.parametrize("clean_up", [False, True])
@pytest.mark.parametrize(("d_model", "n_concepts"), [(128, 64), (256, 500)])
def test_predicted_error_is_the_measured_one(d_model: int, n_concepts: int, clean_up: bool) -> None:
    circuits = [
        permutation(n_concepts=n_concepts, d_model=d_model, clean_up=clean_up, seed=s) for s in range(5)
    ]
    found = [measure(circuit, seed=s) for s, circuit in enumerate(circuits)]
    # 10 %: five seeds of 2,000 inputs
    np.testing.assert_allclose(
        np.mean([got.sd for got in found], axis=0), circuits[0].predicted_sd, rtol=0.10
    )
    np.testing.assert_allclose(
        np.mean([got.mean for got in found], axis=0), circuits[0].predicted_mean, atol=0.03
    )


def test_linear_map_reads_at_one_percent_where_the_closed_form_says() -> None:
    # one per cent needs variance (0.5/2.33)²: m ≤ (0.046 − 2s/d)·d²/s, nothing below d = 44 s
    d_model, n_active = 256, 3
    most = int((0.046 - 2 * n_active / d_model) * d_model**2 / n_active)
    errors = [
        np.mean(
            [
                measure(permutation(n_concepts=m, d_model=d_model, seed=s), seed=s).worst_error
                for s in range(3)
            ]
        )
        for m in (most // 2, 4 * most)
    ]
    assert errors[0] < 0.01 < errors[1]
    assert measure(permutation(n_concepts=16, d_model=64, seed=0), seed=0).worst_error > 0.02


def test_order_is_followed() -> None:
    order = np.roll(np.arange(20), 3)
    circuit = permutation(n_concepts=20, d_model=2048, order=order, seed=0)
    concepts = np.eye(20, dtype=bool)
    assert np.array_equal(circuit.truth(concepts), concepts[:, order])
    assert np.array_equal(circuit.read(concepts) > 0.5, circuit.truth(concepts))
    split = circuit.split_in()
    assert split.compress is not None
    np.testing.assert_allclose(split.compress @ split.decompress, circuit.w_in, atol=1e-12)
    out = circuit.split_out()
    assert out.compress is None
    assert np.array_equal(out.decompress, circuit.w_out)


BAD = {
    "one concept": ({"n_concepts": 1}, "n_concepts: got 1"),
    "not a permutation": ({"order": [0, 0, 1, 2]}, "order: not a permutation of 0…3"),
    "too many active": ({"n_active": 5}, "n_active: got 5"),
    "odd neurons": ({"clean_up": True, "n_neurons": 31}, "n_neurons: got 31, wanted an even number"),
    "neurons of a linear map": ({"n_neurons": 31}, "a linear permutation has d_model = 32"),
    "channel": ({"clean_up": True, "channel": 17}, "channel: got 17"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_parameters_are_named(what: str) -> None:
    change, match = BAD[what]
    with pytest.raises(InputError, match=match):
        permutation(**({"n_concepts": 4, "d_model": 32, "seed": 0} | change))
