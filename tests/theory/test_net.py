"""The net construction: its lines are a net, it computes its pairs, and no single neuron does."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.errors import InputError
from probekit.theory.circuits.net import lines_of_square, net_and
from probekit.theory.measure import measure


@pytest.mark.parametrize(("side", "directions"), [(2, 3), (5, 6), (7, 4), (11, 3)])
def test_lines_are_a_net(side: int, directions: int) -> None:
    lines = lines_of_square(side, directions).astype(int)
    meet = lines @ lines.T
    direction = np.repeat(np.arange(directions), side)
    same = direction[:, None] == direction
    assert (meet.diagonal() == side).all()
    # two lines of one direction share no neuron, two of different directions exactly one
    assert (meet[~same] == 1).all()
    assert (meet[same & ~np.eye(len(lines), dtype=bool)] == 0).all()
    assert (lines.sum(0) == directions).all()


def test_of_a_side_that_is_no_prime_slopes_are_no_net() -> None:
    # the control of the refusal: slopes 1 and 3 differ by 2, which divides 4
    lines = lines_of_square(4, 5).astype(int)
    assert (lines @ lines.T)[4 * 2 :, 4 * 4 :].max() > 1
    with pytest.raises(InputError, match=r"net_and: side=4 is no prime, so not all of its slopes give lines"):
        net_and(side=4, seed=0)


@pytest.mark.parametrize("n_active", [2, 3, 6])
def test_the_prediction_is_exact(n_active: int) -> None:
    circuit = net_and(n_active=n_active, seed=0)
    measured = measure(circuit, n_inputs=4_000, seed=1)
    # 4,000 inputs and 28 pairs: the standard error of a mean is below 0.003, of an sd below 3 %
    assert measured.mean == pytest.approx(circuit.predicted_mean, abs=0.01)
    assert measured.sd == pytest.approx(circuit.predicted_sd, rel=0.08, abs=0.004)


def test_a_line_reads_its_pair_and_none_of_its_neurons_does() -> None:
    circuit = net_and(n_active=6, seed=2)
    rng = np.random.default_rng(3)
    held = rng.random((20_000, circuit.n_concepts)) < 6 / circuit.n_concepts
    neurons, truth = circuit.neurons(held), circuit.truth(held)
    both = truth.sum(0) > 20
    gap = np.array([neurons[on].mean(0) - neurons[~on].mean(0) for on in truth.T[both]])
    spread = np.array([neurons[~on].std(0) for on in truth.T[both]])
    lines = circuit.readoff[both] > 0
    single = np.where(lines, gap / spread, -np.inf).max(1)
    whole = circuit.read(held)[:, both]
    whole_gap = np.array([w[on].mean() - w[~on].mean() for w, on in zip(whole.T, truth.T[both], strict=True)])
    whole_spread = np.array([w[~on].std() for w, on in zip(whole.T, truth.T[both], strict=True)])
    # averaging q neurons whose other pairs are different ones divides the noise by almost √q
    assert (whole_gap / whole_spread > 1.5 * single).all()
