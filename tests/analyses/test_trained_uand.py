"""Trained nets beside the constructions: what must hold of any run, at sizes of a second."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from probekit.theory.circuits import dense_uand, gaussian_uand

SCRIPT = Path(__file__).parents[2] / "analyses" / "trained_uand.py"
SPEC = importlib.util.spec_from_file_location("trained_uand", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
script = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)

M, N = 10, 16
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def task():
    return script.Task(script.all_inputs(M, 3), script.all_pairs(M))


@pytest.fixture(scope="module")
def some(task):
    """Nine of the 45 pairs."""
    return script.Task(task.inputs, task.pairs[::5])


@pytest.fixture(scope="module")
def starts():
    circuits = [gaussian_uand(n_concepts=M, n_neurons=N, n_active=3, seed=seed) for seed in SEEDS]
    return [script.Layer(circuit.w_in / math.sqrt(3), circuit.b_in) for circuit in circuits]


@pytest.fixture(scope="module")
def nets(starts, some):
    return script.train(starts, [some] * 3, "balanced", n_steps=300, seeds=SEEDS)


def error(layer, task):
    return script.score(layer.read(task.inputs), task).balanced


def refitted(layer, task):
    return error(script.fitted(layer, task, "balanced"), task)


def test_inputs_are_all_there_and_weights_balance_the_patterns(task):
    assert len(task.inputs) == len({tuple(row) for row in task.inputs}) == math.comb(M, 3)
    weights = task.weights("balanced")
    shares = (task.patterns * weights).mean(axis=1)
    np.testing.assert_allclose(shares, 0.25, atol=1e-12)  # float64 sums of 120 terms


def test_closed_form_readouts_are_the_weighted_least_squares_ones(task, starts):
    fit = script.fitted(starts[0], task, "balanced").read(task.inputs)
    hidden = np.column_stack([starts[0].neurons(task.inputs), np.ones(len(task.inputs))])
    for pair in (0, 17, 44):
        root = np.sqrt(task.weights("balanced")[:, pair])
        direct = np.linalg.lstsq(hidden * root[:, None], task.truth[:, pair] * root, rcond=None)[0]
        # the ridge of 1e-9 shifts predictions by parts in 10⁷ where directions are weak
        np.testing.assert_allclose(fit[:, pair], hidden @ direct, atol=1e-5)
    assert error(script.fitted(starts[0], task, "balanced"), task) < error(
        script.fitted(starts[0], task, "mse"), task
    )


def test_without_a_layer_kappa_is_zero_and_the_threshold_error_is_too(task):
    """The additive readout: thresholds prove nothing, κ and ¼ do."""
    linear = script.Layer(np.eye(M), np.zeros(M))
    additive = script.score(script.fitted(linear, task, "balanced").read(task.inputs), task)
    assert abs(additive.kappa) < 1e-6  # exact but for the ridge
    assert additive.worst == 0
    assert additive.balanced <= 1 / 16 + 1e-9  # −¼ + A/2 + B/2 is among the readouts
    perfect = script.score(task.truth.astype(float), task)  # positive control
    assert (perfect.kappa, perfect.balanced, perfect.eps95, perfect.worst) == (1, 0, 0, 0)


def test_training_beats_the_mean_the_untrained_readout_and_the_start(nets, starts, some):
    untrained = script.train(starts, [some] * 3, "balanced", n_steps=0, seeds=SEEDS)
    for net, start, before in zip(nets, starts, untrained, strict=True):
        assert error(net, some) < 0.25 * 0.75 < error(before, some)  # ¼·¾: always answering ¼
        assert refitted(net, some) <= error(net, some)  # the closed form is the best readout of the layer
        assert refitted(net, some) < refitted(start, some)
        assert refitted(net, some) < 1 / 16  # better than adding the concepts up


def test_learned_arrangement_matters_where_pairs_are_chosen(nets, starts, some):
    """A layer trained on nine pairs loses when its weights are shuffled; a Gaussian one does not."""
    lost = [refitted(script.shuffled(net, seed=9), some) / refitted(net, some) for net in nets]
    assert min(lost) > 1.2
    control = [refitted(script.shuffled(start, seed=9), some) / refitted(start, some) for start in starts]
    assert np.mean(control) < np.mean(lost) / 1.2


def test_same_seeds_same_net(nets, starts, some):
    alone = script.train(starts[:1], [some], "balanced", n_steps=300, seeds=SEEDS[:1])[0]
    # nets are trained side by side but apart; float32 rounding differs with the batch of matrices
    assert refitted(alone, some) == pytest.approx(refitted(nets[0], some), rel=0.05)


def test_form_knows_two_levels_from_a_gaussian(task):
    two = script.built(dense_uand(n_concepts=M, n_neurons=400, n_active=3, seed=0))
    random = script.built(gaussian_uand(n_concepts=M, n_neurons=400, n_active=3, seed=0))
    signs, gauss = script.form(two, task.pairs), script.form(random, task.pairs)
    assert script.levels(np.array([1.0, -2, 1, -2, -2])) == (-2, 1)
    # a row's rms depends on how many of its ten weights are −2: levels smear a little
    assert signs.explained > 0.95
    assert signs.bimodality > 0.9
    assert signs.sign_product == pytest.approx(1)
    # 2/π for a Gaussian; dividing only ten weights by their rms thins the tails and adds some .04
    assert gauss.explained == pytest.approx(2 / math.pi, abs=0.06)
    assert gauss.energy < 0.25 < 0.9 < signs.energy
    assert gauss.product == pytest.approx(1)


def test_naive_baseline_of_the_mixing_check():
    """n dedicated neurons lose 1 without M and 2σ²m(m − 1)/(m − n) more with it."""
    without, with_m = script.mixing_check(
        (0.0, 0.1), (0, 1), n_targets=20, n_neurons=10, p_active=0.1, n_steps=2
    )
    assert all(result.naive == pytest.approx(1) for result in without)
    expected = 1 + 2 * 0.1**2 * 20 * 19 / 10
    # M has 190 entries: the square sum varies by √(2/190) = 10 %, two seeds
    assert np.mean([result.naive for result in with_m]) == pytest.approx(expected, rel=0.15)
    for result in (*without, *with_m):
        assert result.naive_fitted <= result.naive + 1e-9
        assert result.clean_refit <= result.clean + 1e-9
