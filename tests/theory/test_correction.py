"""The error-correction layer does what it is said to, and does not help at sizes one can run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from probekit.errors import InputError
from probekit.theory.circuits.correction import correction
from probekit.theory.measure import measure


def sd_after(noise_sd: float, **sizes) -> tuple[float, float]:
    """Measured and predicted root mean square error of a feature that is off, as nearly all are."""
    circuit = correction(**sizes, noise_sd=noise_sd, seed=0)
    measured = measure(circuit, noise_sd=noise_sd, n_inputs=2_000, seed=1)
    rms = lambda mean, sd: float(np.hypot(mean[1], sd[1]))
    return rms(measured.mean, measured.sd), rms(circuit.predicted_mean, circuit.predicted_sd)


@pytest.mark.parametrize("noise_sd", [0.0, 0.05, 0.2])
def test_predicted_error_is_the_measured_one(noise_sd: float) -> None:
    circuits = [
        correction(n_concepts=256, n_neurons=512, d_model=256, noise_sd=noise_sd, seed=s) for s in range(3)
    ]
    found = [measure(c, noise_sd=noise_sd, seed=s) for s, c in enumerate(circuits)]
    # 10 %: three seeds of 2,000 inputs
    np.testing.assert_allclose(
        np.mean([got.sd for got in found], axis=0), circuits[0].predicted_sd, rtol=0.10
    )


def test_it_does_not_help_at_small_sizes_in_superposition() -> None:
    n = 512
    for noise_sd in (0.0, 0.1, 0.2):
        after, predicted = sd_after(noise_sd, n_concepts=n, n_neurons=n, d_model=n)
        before = math.hypot(math.sqrt(3 / n), noise_sd)
        assert after > before
        assert after == pytest.approx(predicted, rel=0.15)


def test_it_helps_with_many_neurons_a_concept() -> None:
    # 2mc/n = 0.1 reads a unit: noise below the ramp is removed, shared units leave √(2s/n) = 0.04
    after, _ = sd_after(0.1, n_concepts=40, n_neurons=4096, d_model=None)
    assert after < 0.05 < 0.1


def test_a_clean_input_passes_unchanged() -> None:
    circuit = correction(n_concepts=10, n_neurons=400, channel=4, seed=1)
    concepts = np.eye(10, dtype=bool)
    assert np.array_equal(circuit.read(concepts) > 0.5, concepts)
    np.testing.assert_allclose(np.diag(circuit.read(concepts)), 1.0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n_neurons": 65}, "wanted an even number"),
        ({"n_concepts": 1}, "n_concepts"),
        ({"ramp": 0.5}, "ramp: got 0.5"),
        ({"channel": 40}, "channel: got 40"),
    ],
    ids=["odd", "concepts", "ramp", "channel"],
)
def test_bad_parameters_are_named(change: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        correction(**({"n_concepts": 10, "n_neurons": 64, "seed": 0} | change))
