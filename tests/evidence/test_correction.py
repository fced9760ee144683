"""The exponent is 2 for whatever is quadratic, and above it exactly where a layer corrects errors."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.errors import InputError, ShapeError
from probekit.evidence.correction import LEAST_P, MOST_P, Effect, exponents, responses
from probekit.theory.circuits import correction, dense_uand
from probekit.theory.circuits.circuit import Circuit

M = 12
RADII = np.geomspace(0.05, 2.0, 14)


def feature_pairs(n: int = 6) -> np.ndarray:
    return np.stack([np.eye(M)[[2 * i, 2 * i + 1]] for i in range(n)])


def turned_pairs(n: int = 6) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, 2, M))


def of_circuit(circuit: Circuit, noise: float = 0.05) -> Effect:
    """Mean squared change of the outputs over inputs that are near what concepts give."""
    rng = np.random.default_rng(0)
    inputs = (rng.random((150, M)) < 0.25) + noise * rng.standard_normal((150, M))

    def read(x: np.ndarray) -> np.ndarray:
        return circuit.activate(x) @ circuit.readoff.T

    before = read(inputs)
    return lambda step: float(((read(inputs + step) - before) ** 2).sum(1).mean())


@pytest.fixture(scope="module")
def cleaning() -> Circuit:
    """One ramp unit a concept: what comes within a quarter of 0 or 1 leaves at 0 or 1."""
    return correction(n_concepts=M, n_neurons=8 * M, channel=4, ramp=0.25, seed=0)


def test_a_quadratic_effect_has_exponent_two_whatever_the_directions() -> None:
    rng = np.random.default_rng(2)
    form = rng.standard_normal((5, M))
    for pairs in (feature_pairs(), turned_pairs()):
        found = exponents(responses(lambda step: float(((form @ step) ** 2).sum()), pairs, RADII), RADII)
        # the cross term of two directions drops out of the mean over both mixtures; the rest is interpolation of powers
        np.testing.assert_allclose(found, 2.0, atol=1e-6)


def test_a_power_is_recovered() -> None:
    for p in (1.0, 3.0, 6.0):
        effect: Effect = lambda step, p=p: float((np.abs(step) ** p).sum() ** (2 / p))  # pyright: ignore[reportAssignmentType]
        np.testing.assert_allclose(exponents(responses(effect, feature_pairs(), RADII), RADII), p, rtol=1e-6)


def test_a_layer_that_corrects_shows_it_along_its_features_only(cleaning: Circuit) -> None:
    effect = of_circuit(cleaning)
    along = exponents(responses(effect, feature_pairs(), RADII), RADII, 0.2)
    across = exponents(responses(effect, turned_pairs(), RADII), RADII, 0.2)
    # units serve more than one feature, so the plateaus are not perfectly flat: p is well above 2, not infinite
    assert (along > 2.5).all()
    assert np.nanmedian(along) > np.nanmedian(across) + 1


def test_a_layer_that_does_not_correct_does_not() -> None:
    linear = Circuit(
        name="identity", encode=np.eye(M), w_in=np.eye(M), b_in=np.zeros(M), w_out=np.eye(M), readoff=np.eye(M),
        readoff_bias=np.zeros(M), pairs=np.arange(M)[:, None], n_active=3, predicted_mean=np.zeros(2),
        predicted_sd=np.zeros(2), linear=True,
    )  # fmt: skip
    np.testing.assert_allclose(
        exponents(responses(of_circuit(linear), feature_pairs(), RADII), RADII), 2.0, atol=1e-6
    )
    # it computes, and far from linearly, but it has no plateau
    computing = dense_uand(n_concepts=M, n_neurons=256, n_active=3, seed=0)
    found = exponents(responses(of_circuit(computing), feature_pairs(), RADII), RADII, 0.2)
    assert np.abs(np.median(found) - 2) < 0.5


def test_what_cannot_be_used() -> None:
    with pytest.raises(ShapeError, match="a direction is zero"):
        responses(lambda step: 0.0, np.zeros((1, 2, 3)), RADII)
    with pytest.raises(InputError, match="wanted two or more that ascend from above 0"):
        responses(lambda step: 0.0, feature_pairs(), np.array([1.0, 0.5]))
    with pytest.raises(InputError, match=r"share: got 1\.5"):
        exponents(np.ones((1, 3, 2)), np.array([1.0, 2.0]), 1.5)
    # nothing happens: nothing is known
    assert np.isnan(exponents(responses(lambda step: 0.0, feature_pairs(1), RADII), RADII)).all()


def test_an_exponent_has_limits_and_a_radius_an_interval() -> None:
    radii = np.array([0.01, 0.1, 1.0, 10.0])
    early, late, at_once = np.array([0.0, 1, 1, 1]), np.array([0.0, 0, 0, 1]), np.ones(4)
    found = exponents(
        np.stack(
            [np.stack(rays) for rays in ((late, late, early), (early, early, late), (early, early, at_once))]
        ),
        radii,
    )
    assert found[:2].tolist() == [LEAST_P, MOST_P]
    assert np.isnan(found[2]), "below the first radius nothing is known"
