"""The closed forms behind every prediction, against plain simulation."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.theory.circuits.predict import (
    Channel,
    _ramp_moments,
    _relu_moments,
    channel_prediction,
    foreign_density,
    inverse_of_binomial,
)
from probekit.theory.circuits.two_and import two_and
from probekit.theory.measure import measure


@pytest.mark.parametrize("sd", [0.1, 0.6, 2.0])
def test_moments_of_a_noisy_relu_and_of_a_ramp(sd: float) -> None:
    level = np.array([-1.0, 0.0, 0.4, 1.0, 2.0])
    z = np.random.default_rng(0).standard_normal((400_000, 1))
    x = level + sd * z
    for moments, values in (
        (_relu_moments(level, sd), np.maximum(x, 0.0)),
        (_ramp_moments(level, sd, 0.25), np.clip(2 * (x - 0.25), 0.0, 1.0)),
    ):
        # 400,000 draws: five standard errors of the second moment
        np.testing.assert_allclose(moments[0], values.mean(axis=0), atol=5 * sd * 0.002 + 0.003)
        np.testing.assert_allclose(
            moments[1], (values**2).mean(axis=0), atol=0.01 * (1 + level.max() + sd) ** 2
        )


def test_without_noise_the_moments_are_exact() -> None:
    level = np.array([-1.0, 0.0, 0.5, 1.0, 3.0])
    first, second, _ = _ramp_moments(level, 0.0, 0.25)
    np.testing.assert_allclose(first, [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(second, [0, 0, 0.25, 1, 1])


def test_closed_form_of_the_sparse_universal_and() -> None:
    s, n, p = 5, 800, 0.15
    means, sds = channel_prediction(Channel(2, s, 100, p, 1 / (p**2 * n), None))
    np.testing.assert_allclose(sds[:2], np.sqrt(np.array([s - 2, s - 1]) * (1 - p) / (p * n)))
    np.testing.assert_allclose(means[:2] - [1, 0], np.array([s - 2, s - 1]) * p)
    # E relu(Bin(s, p) − 1) = s·p − 1 + (1 − p)^s
    assert means[3] == pytest.approx(s * p - 1 + (1 - p) ** s)


def test_more_concepts_on_than_active_is_not_predicted() -> None:
    means, _ = channel_prediction(Channel(3, 2, 100, 0.1, 0.1, None))
    assert np.isnan(means[0])
    assert np.isfinite(means[1:]).all()


def test_inverse_of_a_binomial() -> None:
    draws = np.random.default_rng(0).binomial(60, 0.15, size=200_000)
    assert inverse_of_binomial(60, 0.15) == pytest.approx(np.mean(1 / draws[draws > 0]), rel=0.01)
    assert inverse_of_binomial(5, 1.0) == pytest.approx(0.2)


def test_foreign_density_recovers_what_was_drawn() -> None:
    rng = np.random.default_rng(0)
    density = np.where(np.arange(300) < 30, 0.5, 0.1)
    route = rng.random((500, 300)) < density
    pairs = rng.permutation(300)[:200].reshape(100, 2)
    reads = rng.random((100, 500)) < 0.02
    mean, variance = foreign_density(route, reads, pairs)
    assert mean == pytest.approx(density.mean(), rel=0.05)
    assert variance == pytest.approx(density.var(), rel=0.1)
    flat = foreign_density(rng.random((500, 300)) < 0.1, reads, pairs)[1]
    assert flat < 0.05 * density.var()  # nothing but the scatter of the draw


def test_recoded_outputs_carry_the_leak_of_all_others() -> None:
    found, wanted = [], []
    for seed in range(5):
        circuit = two_and(pairs=512, n_concepts=512, n_neurons=256, d_model=256, seed=seed)
        found.append(measure(circuit, recoded=True, seed=seed).sd)
        wanted.append(circuit.predicted_recoded_sd)
        assert (circuit.predicted_recoded_sd > circuit.predicted_sd).all()
    # 10 %: five seeds of 2,000 inputs
    np.testing.assert_allclose(np.mean(found, axis=0), np.mean(wanted, axis=0), rtol=0.10)
    aligned = two_and(pairs=20, n_concepts=40, n_neurons=64, seed=0)
    assert np.array_equal(aligned.predicted_recoded_sd, aligned.predicted_sd)
