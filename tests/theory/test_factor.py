"""Sparse factorisation of weights: planted computation is recovered, random layers hold none, twins keep what they must."""

from __future__ import annotations

import numpy as np
import pytest

import probekit as pk
from probekit.errors import DegenerateError, InputError, NonFiniteError, ShapeError
from probekit.theory.circuits import Circuit, factor, two_and


def planted(d_model: int | None, seed: int = 0) -> Circuit:
    return two_and(pairs=16, n_concepts=32, n_neurons=64, d_model=d_model, influence=1, seed=seed)


@pytest.mark.parametrize("d_model", [None, 160])
def test_a_planted_computation_is_found_entry_by_entry(d_model: int | None) -> None:
    circuit = planted(d_model)
    found = factor(circuit.w_in, circuit.encode, seed=1)
    assert circuit.route is not None
    # most = 8 holds every row of this circuit, so nothing has to be missed
    assert (circuit.route != 0).sum(axis=1).max() <= 8
    np.testing.assert_allclose(found.compute, circuit.route, atol=1e-9)
    np.testing.assert_allclose(found.compute @ found.decompress, circuit.w_in, atol=1e-9)
    assert found.left_over == pytest.approx(0, abs=1e-9)
    assert found.p == pytest.approx(1 / 21)  # the smallest that 20 twins can give
    assert (found.reads == (circuit.route != 0).any(axis=1)).all()


def test_the_pairs_of_a_planted_circuit_come_first() -> None:
    circuit = planted(48)
    scores = factor(circuit.w_in, circuit.encode, twins=10).pair_scores()
    a, b = np.triu_indices(32, 1)
    best = np.argsort(-scores[a, b])[:16]
    truth = {(int(min(pair)), int(max(pair))) for pair in circuit.pairs}
    assert {(int(a[i]), int(b[i])) for i in best} == truth
    np.testing.assert_array_equal(scores, scores.T)


def test_noise_on_the_weights_is_left_over() -> None:
    circuit = planted(48)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(circuit.w_in.shape)
    noise *= (
        0.3
        * np.linalg.norm(circuit.w_in, axis=1, keepdims=True)
        / np.linalg.norm(noise, axis=1, keepdims=True)
    )
    found = factor(circuit.w_in + noise, circuit.encode, covariance=np.eye(48), seed=2)
    # 0.09 of 1.09 is noise; some of it is explained by chance, and weak entries may be missed
    assert found.left_over == pytest.approx(0.09 / 1.09, abs=0.05)


def test_random_layers_hold_no_sparse_computation() -> None:
    """Exchangeable with their twins: p is uniform, and a row keeps a concept with a chance of about q."""
    codes = planted(24).encode
    p, kept = list[float](), list[float]()
    for seed in range(40):
        weight = np.random.default_rng([seed, 3]).standard_normal((8, 24))
        found = factor(weight, codes, twins=9, most=3, seed=seed)
        p.append(found.p)
        kept.append(float((found.compute != 0).any(axis=1).mean()))
    # q + 3 standard errors of 40 draws at a level of 0.1; rows share their twins' quantile, hence the layers count
    assert np.mean(np.array(p) <= 0.1) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 40)
    assert np.mean(kept) <= 0.05 + 3 * np.std(kept, ddof=1) / np.sqrt(40)
    # positive control: the same codes, a row that reads two of them
    route = np.zeros((12, 32))
    route[np.arange(12), np.arange(12)] = route[np.arange(12), np.arange(12, 24)] = 1
    assert factor(route @ codes.T, codes, twins=9, most=4).p == pytest.approx(0.1)


def test_a_covariance_weighs_what_counts_as_explained() -> None:
    """A row of two concepts, one of which hardly varies: the other explains nearly all of the pre-activation."""
    found = factor(
        np.array([[1.0, 1.0, 0.0]]), np.eye(3), covariance=np.diag([1.0, 0.01, 1.0]), most=1, twins=0
    )
    np.testing.assert_allclose(found.compute, [[1.0, 0.0, 0.0]])
    assert found.explained[0] == pytest.approx(1 / 1.01)


def test_signs_and_scales_of_rows_and_codes_go_through() -> None:
    circuit = planted(64)
    once = factor(circuit.w_in, circuit.encode, twins=5, covariance=np.eye(64))
    scale = np.linspace(0.5, 2, 64)[:, None] * np.where(np.arange(64) % 2, 1, -1)[:, None]
    stretch = np.linspace(1, 3, 32)
    other = factor(scale * circuit.w_in, circuit.encode * stretch, twins=5, covariance=np.eye(64))
    np.testing.assert_allclose(other.compute * stretch, scale * once.compute, atol=1e-9)
    np.testing.assert_allclose(other.pair_scores() > 0, once.pair_scores() > 0)


def test_without_twins_there_is_no_p() -> None:
    circuit = planted(48)
    found = factor(circuit.w_in, circuit.encode, twins=0, most=3)
    assert np.isnan(found.p)
    assert found.path.shape == (64, 3)
    assert found.twin_path.shape == (0, 3)
    assert ((found.compute != 0).sum(axis=1) <= 3).all()


def test_rows_that_read_nothing_and_codes_that_are_nothing_stay_zero() -> None:
    circuit = planted(48)
    weight, codes = circuit.w_in.copy(), circuit.encode.copy()
    weight[3], codes[:, 5] = 0, 0
    found = factor(weight, codes, twins=5)
    assert not found.reads[3]
    assert (found.compute[3] == 0).all()
    assert (found.compute[:, 5] == 0).all()
    assert np.isfinite(found.compute).all()


def test_what_cannot_be_factored_is_refused() -> None:
    weight, codes = np.ones((4, 6)), np.ones((6, 3))
    with pytest.raises(ShapeError, match=r"codes: got \(3, 6\), wanted \[6, concept\]"):
        factor(weight, codes.T)
    with pytest.raises(ShapeError, match=r"covariance: got shape \(3, 3\)"):
        factor(weight, codes, covariance=np.eye(3))
    with pytest.raises(NonFiniteError, match="weight: 1 of 24 entries"):
        factor(np.where(np.arange(24).reshape(4, 6) == 5, np.nan, weight), codes)
    with pytest.raises(DegenerateError, match="directions: all zero"):
        factor(weight, 0 * codes)
    with pytest.raises(DegenerateError, match="weight: nothing of it"):
        factor(0 * weight, codes)
    with pytest.raises(InputError, match="most: got 0"):
        factor(weight, codes, most=0)
    with pytest.raises(InputError, match="q: got 2"):
        factor(weight, codes, q=2)
    with pytest.raises(InputError, match="seed: got -1"):
        factor(weight, codes, seed=-1)


def test_it_is_public() -> None:
    circuit = planted(None)
    assert "concepts a neuron explain 100%" in repr(pk.circuits.factor(circuit.w_in, circuit.encode))
