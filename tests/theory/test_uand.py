"""Universal ANDs: every pair is readable, at the error of the closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from probekit.errors import InputError
from probekit.theory.circuits.uand import dense_uand, gaussian_uand, sparse_uand
from probekit.theory.measure import measure

BUILDERS = {"sparse": sparse_uand, "dense": dense_uand, "gaussian": gaussian_uand}


def mean_sd(build, **parameters) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    circuits = [build(**parameters, pairs=2_000, seed=seed) for seed in range(5)]
    found = [measure(circuit, n_inputs=2_000, seed=seed) for seed, circuit in enumerate(circuits)]
    shift = np.mean([got.mean for got in found], axis=0) - circuits[0].predicted_mean
    return np.mean([got.sd for got in found], axis=0), circuits[0].predicted_sd, shift


@pytest.mark.parametrize("n_neurons", [128, 512])
@pytest.mark.parametrize("n_active", [2, 3, 5])
@pytest.mark.parametrize("kind", BUILDERS)
def test_predicted_error_is_the_measured_one_pattern_by_pattern(
    kind: str, n_active: int, n_neurons: int
) -> None:
    measured, predicted, shift = mean_sd(
        BUILDERS[kind], n_concepts=100, n_neurons=n_neurons, n_active=n_active
    )
    # 10 %: five seeds of 2,000 inputs; the pairs of one seed share neurons, so they scatter more than 10,000
    # draws would
    np.testing.assert_allclose(measured, predicted, rtol=0.10, atol=0.004)
    assert np.abs(shift).max() < 0.25 * predicted.max()


def test_closed_forms() -> None:
    s, n = 3, 2048
    gaussian = gaussian_uand(n_concepts=50, n_neurons=n, n_active=s, pairs=10, seed=0)
    variances = np.array(
        [math.pi * s * (s + 4) - 1, math.pi * s * (s + 2), math.pi * s * (s + 2), math.pi * s**2]
    )
    np.testing.assert_allclose(gaussian.predicted_sd, np.sqrt(variances / n))
    for negative, k in ((1.0, 24.0), (2.0, 8.0)):
        dense = dense_uand(n_concepts=50, n_neurons=n, n_active=s, pairs=10, negative=negative, seed=0)
        np.testing.assert_allclose(dense.predicted_sd, np.sqrt(np.array([k - 1, k, k, k]) / n))
    dense = dense_uand(n_concepts=50, n_neurons=n, n_active=20, pairs=10, negative=1.0, seed=0)
    assert dense.predicted_sd[1] ** 2 * n == pytest.approx(1163, rel=0.001)
    sparse = sparse_uand(n_concepts=50, n_neurons=n, n_active=s, pairs=10, seed=0)
    p = 2 * (s * n) ** (-1 / 3)
    others = np.array([s - 2, s - 1])
    # 2.5 %: the closed form has 1/(p²n) for the mean of 1/(common neurons)
    np.testing.assert_allclose(sparse.predicted_sd[:2], np.sqrt(others * (1 - p) / (p * n)), rtol=0.025)


@pytest.mark.parametrize("n_neurons", [256, pytest.param(512, marks=pytest.mark.slow)])
def test_superposed_gaussian_layer_reads_any_number_of_concepts(n_neurons: int) -> None:
    for n_concepts in (n_neurons, 4 * n_neurons):
        measured, predicted, _ = mean_sd(
            gaussian_uand, n_concepts=n_concepts, n_neurons=n_neurons, n_active=3, d_model=n_neurons
        )
        np.testing.assert_allclose(measured, predicted, rtol=0.10)


def test_superposed_sparse_layer_is_predicted_and_fails_beyond_n() -> None:
    measured, predicted, _ = mean_sd(sparse_uand, n_concepts=256, n_neurons=256, n_active=3, d_model=256)
    np.testing.assert_allclose(measured, predicted, rtol=0.10)
    crowded = sparse_uand(n_concepts=2048, n_neurons=512, n_active=3, d_model=512, pairs=2_000, seed=0)
    roomy = sparse_uand(n_concepts=64, n_neurons=512, n_active=3, d_model=512, pairs=2_000, seed=0)
    assert measure(roomy, seed=0).worst_error < 0.05 < 0.15 < measure(crowded, seed=0).worst_error


def test_the_published_density_computes_nothing_at_this_size() -> None:
    n, m = 2048, 200
    published = float(np.log(m) ** 2 / np.sqrt(n))
    kappas = [
        measure(
            sparse_uand(n_concepts=m, n_neurons=n, n_active=3, pairs=500, density=p, seed=0), seed=1
        ).contrast
        for p in (published, None)
    ]
    assert kappas[0] < 0.1 < 0.7 < kappas[1]


def test_superposed_dense_layer_claims_nothing() -> None:
    circuit = dense_uand(n_concepts=400, n_neurons=128, n_active=3, d_model=128, pairs=100, seed=0)
    assert np.isnan(circuit.predicted_sd).all()
    assert circuit.predicted_input_sd == pytest.approx(math.sqrt(2.5 * 400 * 3 / 128))


def test_errors_do_not_grow_with_the_number_of_concepts() -> None:
    few, many = (
        measure(dense_uand(n_concepts=m, n_neurons=256, n_active=3, pairs=1_000, seed=0), seed=1)
        for m in (50, 1000)
    )
    np.testing.assert_allclose(few.sd, many.sd, rtol=0.1)


def test_no_and_is_computed_without_the_activation() -> None:
    for build in BUILDERS.values():
        circuit = build(n_concepts=60, n_neurons=512, n_active=3, pairs=1_000, seed=0)
        assert measure(circuit, seed=1).contrast > 0.5
        object.__setattr__(circuit, "linear", True)  # the linearised layer: κ vanishes
        # 0.05: 2,000 inputs a pattern at sd ≤ 0.4
        assert abs(measure(circuit, seed=1).contrast) < 0.05


def test_three_concepts_at_a_time() -> None:
    triples = [(3 * i, 3 * i + 1, 3 * i + 2) for i in range(20)]
    circuit = sparse_uand(n_concepts=70, n_neurons=1024, n_active=4, pairs=triples, density=0.2, seed=0)
    assert measure(circuit, seed=1).worst_error < 0.05
    with pytest.raises(InputError, match="reads pairs only"):
        dense_uand(n_concepts=70, n_neurons=64, n_active=4, pairs=triples, seed=0)


def test_all_pairs_by_default_and_splits() -> None:
    circuit = gaussian_uand(n_concepts=30, n_neurons=64, n_active=3, d_model=20, seed=0)
    assert circuit.n_outputs == 30 * 29 // 2
    split = circuit.split_in()
    assert split.compress is not None
    np.testing.assert_allclose(split.compress @ split.decompress, circuit.w_in, atol=1e-10)
    sparse = sparse_uand(n_concepts=30, n_neurons=64, n_active=3, d_model=20, seed=0).split_in()
    assert sparse.compress is not None
    assert set(np.unique(sparse.compress)) == {0.0, 1.0}


BAD = {
    "one concept": ({"n_concepts": 1}, "n_concepts: got 1, wanted at least 2"),
    "s > m": ({"n_active": 31}, "n_active: got 31, wanted between"),
    "too many pairs": ({"pairs": 436}, "pairs: got 436, wanted between 1 and 435"),
    "no neuron": ({"n_neurons": 0}, "n_neurons: got 0"),
    "d_model": ({"d_model": 0}, "d_model: got 0"),
}


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("what", BAD)
def test_bad_parameters_are_named(kind: str, what: str) -> None:
    change, match = BAD[what]
    with pytest.raises(InputError, match=match):
        BUILDERS[kind](**({"n_concepts": 30, "n_neurons": 64, "n_active": 3, "seed": 0} | change))


def test_a_dense_layer_that_computes_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no AND is computed"):
        dense_uand(n_concepts=30, n_neurons=64, n_active=2, bias=50.0, seed=0)
    with pytest.raises(InputError, match="density: got 0"):
        sparse_uand(n_concepts=30, n_neurons=64, n_active=2, density=0, seed=0)
