"""Twins keep exactly what they claim to keep, and nothing else; the linearised layer is the least-squares line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probekit.model.twins import (
    InputFrame,
    IsotropicTwins,
    PcSignTwins,
    channel_shuffle,
    concept_directions,
    linearised,
)
from probekit.model.weights import MlpWeights

N_TOKENS, N_INPUTS, N_NEURONS = 4_000, 12, 30


def isotropic(weights: MlpWeights, sample: torch.Tensor, seed: int) -> MlpWeights:
    """The last of five."""
    return IsotropicTwins.draw(weights, sample, 5, np.random.default_rng(seed)).of(4)


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    """Skewed, correlated inputs with a mean, of very unequal variance."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((N_INPUTS, N_INPUTS)) * np.geomspace(2, 0.5, N_INPUTS)
    x = rng.exponential(1.0, (N_TOKENS, N_INPUTS)) @ mixing + rng.standard_normal(N_INPUTS)
    return torch.from_numpy(x).float()


def layer(gated: bool, activation: str = "relu") -> MlpWeights:
    rng = np.random.default_rng([1, gated])
    gate = {"w_gate": rng.standard_normal((N_NEURONS, N_INPUTS)), "b_gate": rng.standard_normal(N_NEURONS)}
    return MlpWeights.from_arrays(
        rng.standard_normal((N_NEURONS, N_INPUTS)), rng.standard_normal(N_NEURONS), activation=activation,
        **(gate if gated else {}),
    )  # fmt: skip


def draw(weights: MlpWeights, inputs: torch.Tensor, n_twins: int = 6, seed: int = 2) -> PcSignTwins:
    return PcSignTwins.draw(weights, InputFrame.of(inputs), n_twins, np.random.default_rng(seed))


def moments(pre: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    values = pre.double().numpy()
    return values.mean(0), np.cov(values.T, bias=True)


@pytest.mark.parametrize("gated", [False, True])
def test_pc_sign_twins_keep_mean_and_covariance_of_all_pre_activations(
    inputs: torch.Tensor, gated: bool
) -> None:
    weights = layer(gated)
    twins = draw(weights, inputs)
    mean, covariance = moments(weights.pre(inputs))
    scale = np.sqrt(np.outer(covariance.diagonal(), covariance.diagonal()))
    for twin in range(6):
        pre = weights.pre(twins.twin_inputs(inputs, twin))
        twin_mean, twin_covariance = moments(pre)
        # exact on the calibration sample up to fp32 rounding of sums of a dozen products
        np.testing.assert_allclose((twin_mean - mean) / np.sqrt(covariance.diagonal()), 0, atol=1e-5)
        np.testing.assert_allclose((twin_covariance - covariance) / scale, 0, atol=1e-5)
        # and it is another layer: a neuron of the twin is not the neuron
        own = [np.corrcoef(pre[:, i], weights.pre(inputs)[:, i])[0, 1] for i in range(N_NEURONS)]
        assert np.mean(np.abs(own)) < 0.9


def test_isotropic_twins_do_not_keep_the_covariance(inputs: torch.Tensor) -> None:
    # the control of the test above
    weights = layer(False)
    covariance = moments(weights.pre(inputs))[1].diagonal()
    fresh = isotropic(weights, inputs, 3)
    ratio = moments(fresh.pre(inputs))[1].diagonal() / covariance
    assert np.abs(np.log(ratio)).mean() > 0.2


@pytest.mark.parametrize("gated", [False, True])
def test_one_sign_vector_serves_gate_and_linear_half(inputs: torch.Tensor, gated: bool) -> None:
    weights = layer(gated, "silu" if gated else "gelu")
    twins = draw(weights, inputs)
    streamed = list(twins.neurons(inputs))
    assert len(streamed) == 6
    for twin, neurons in enumerate(streamed):
        # the same turned inputs go through both halves; 1e-4 of the largest value: fp32, two orders of summation
        expected = weights.neurons(twins.twin_inputs(inputs, twin))
        assert float((neurons - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert float((streamed[0] - streamed[1]).abs().max()) > 0.1


def test_signs_are_fair_and_follow_the_generator(inputs: torch.Tensor) -> None:
    weights = layer(False)
    signs = draw(weights, inputs, n_twins=500).signs
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    # 6,000 fair signs: 4 s.e. of the mean are 0.05
    assert abs(float(signs.mean())) < 0.05
    assert torch.equal(draw(weights, inputs).signs, draw(weights, inputs).signs)
    assert not torch.equal(draw(weights, inputs).signs, draw(weights, inputs, seed=4).signs)


def test_linear_readability_of_the_input_is_unchanged(inputs: torch.Tensor) -> None:
    label = (inputs[:, 0] + inputs[:, 3] > inputs[:, 0].mean()).double().numpy()
    twins = draw(layer(False), inputs)

    def rest(x: torch.Tensor) -> float:
        design = np.column_stack([x.double().numpy(), np.ones(len(x))])
        fitted = design @ np.linalg.lstsq(design, label, rcond=None)[0]
        return float(((label - fitted) ** 2).mean())

    for twin in range(3):
        # an orthogonal image of the input: the same regression, up to fp32 rounding of the turn
        assert rest(twins.twin_inputs(inputs, twin)) == pytest.approx(rest(inputs), rel=1e-5)
    assert rest(inputs) < 0.8 * float(label.var())  # the label is readable at all


def test_a_twin_of_a_twin_is_a_twin(inputs: torch.Tensor) -> None:
    # signs multiply, so twins of a twin are distributed as the twins of the layer: they are exchangeable with it
    twins = draw(layer(False), inputs)
    frame = twins.frame
    once = twins.twin_inputs(inputs, 0)
    again = frame.mean + ((once - frame.mean) @ frame.directions * twins.signs[1]) @ frame.directions.T
    product = PcSignTwins(twins.weights, frame, twins.signs[:1] * twins.signs[1:2])
    assert float((again - product.twin_inputs(inputs, 0)).abs().max()) < 1e-4
    both = PcSignTwins(twins.weights, frame, torch.ones(1, N_INPUTS))
    assert float((both.twin_inputs(inputs, 0) - inputs).abs().max()) < 1e-4  # all signs +1: the layer itself


def test_frame_is_orthonormal_and_diagonalises(inputs: torch.Tensor) -> None:
    frame = InputFrame.of(inputs)
    directions = frame.directions.double().numpy()
    np.testing.assert_allclose(directions.T @ directions, np.eye(N_INPUTS), atol=1e-6)
    turned = (inputs - frame.mean).double().numpy() @ directions
    covariance = turned.T @ turned / len(turned)
    largest = float(frame.variance.max())
    np.testing.assert_allclose(covariance, np.diag(frame.variance.numpy()), atol=1e-5 * largest)


@pytest.mark.parametrize("gated", [False, True])
def test_isotropic_twins_keep_row_norms_and_firing_rates(inputs: torch.Tensor, gated: bool) -> None:
    weights = layer(gated)
    twin = isotropic(weights, inputs, 5)
    np.testing.assert_allclose(twin.w_in.norm(dim=1), weights.w_in.norm(dim=1), rtol=1e-5)
    n = N_NEURONS
    gates, twin_gates = weights.pre(inputs)[:, :n], twin.pre(inputs)[:, :n]
    # rates agree to a token or two of the calibration sample
    np.testing.assert_allclose(
        (twin_gates > 0).double().mean(0), (gates > 0).double().mean(0), atol=3 / N_TOKENS, rtol=0
    )
    assert float((twin.w_in * weights.w_in).sum(1).abs().max()) < float((weights.w_in**2).sum(1).max())
    if gated:
        assert twin.w_gate is not None
        assert weights.w_gate is not None
        np.testing.assert_allclose(twin.w_gate.norm(dim=1), weights.w_gate.norm(dim=1), rtol=1e-5)
        assert torch.equal(twin.b_in, weights.b_in)


def test_isotropic_twin_of_a_silent_neuron_stays_silent(inputs: torch.Tensor) -> None:
    weights = layer(False)
    weights.b_in[0] = -1e4
    twin = isotropic(weights, inputs, 6)
    assert float((twin.neurons(inputs)[:, 0] > 0).double().mean()) <= 1 / N_TOKENS


@pytest.mark.parametrize("gated", [False, True])
def test_isotropic_twins_are_layers_of_their_own(inputs: torch.Tensor, gated: bool) -> None:
    """What shares products computes what each computes by itself; no two are alike."""
    weights = layer(gated, "silu")
    drawn = IsotropicTwins.draw(weights, inputs, 5, np.random.default_rng(7))
    streams = zip(drawn.neurons(inputs), drawn.columns(inputs), strict=True)
    found = [(rows, columns) for rows, columns in streams]
    for twin, (rows, columns) in enumerate(found):
        wanted = drawn.of(twin).neurons(inputs)
        # 1e-4 of the largest value: fp32, sums in another order
        assert float((rows - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
        assert float((columns.T - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
    for a in range(5):
        for b in range(a):
            assert float((found[a][0] - found[b][0]).abs().max()) > 0.1
    [only] = drawn.neurons(inputs, [3])
    assert torch.equal(only, found[3][0])


def test_linearised_plain_layer_is_the_line_of_its_own_pre_activations(inputs: torch.Tensor) -> None:
    weights = layer(False, "gelu")
    line = linearised(weights, inputs).neurons(inputs).double().numpy()
    neurons, pre = weights.neurons(inputs).double().numpy(), weights.pre(inputs).double().numpy()
    for i in range(N_NEURONS):
        slope, constant = np.polyfit(pre[:, i], neurons[:, i], 1)
        # fp32 weights: 1e-4 of the neuron's own spread
        np.testing.assert_allclose(line[:, i], slope * pre[:, i] + constant, atol=1e-4 * neurons[:, i].std())


def test_linearised_gated_layer_leaves_a_rest_orthogonal_to_both_halves(inputs: torch.Tensor) -> None:
    weights = layer(True, "silu")
    neurons = weights.neurons(inputs).double().numpy()
    rest = neurons - linearised(weights, inputs).neurons(inputs).double().numpy()
    pre = weights.pre(inputs).double().numpy()
    for i in range(N_NEURONS):
        size = neurons[:, i].std() * np.sqrt(N_TOKENS)
        for regressor in (np.ones(N_TOKENS), pre[:, i], pre[:, N_NEURONS + i]):
            scaled = regressor / np.linalg.norm(regressor)
            assert abs(rest[:, i] @ scaled) / size < 1e-4  # fp32 weights
        assert rest[:, i].std() > 0.01 * neurons[:, i].std()  # something non-linear is left


def test_linearised_silent_and_collinear_neurons_do_not_fail(inputs: torch.Tensor) -> None:
    silent = layer(False)
    silent.b_in[0] = -1e4
    line = linearised(silent, inputs)
    np.testing.assert_allclose(line.neurons(inputs)[:, 0], 0.0, atol=1e-6)
    twice = layer(True, "silu")
    assert twice.w_gate is not None
    twice.w_gate[0] = twice.w_in[0]
    assert torch.isfinite(linearised(twice, inputs).neurons(inputs)).all()


@pytest.mark.parametrize("gated", [False, True])
def test_channel_shuffle_deals_each_concept_to_other_neurons(gated: bool) -> None:
    rng = np.random.default_rng(7)
    n_concepts = 8
    held = torch.from_numpy(rng.random((N_TOKENS, n_concepts)) < 0.3).float()
    codes = torch.from_numpy(rng.standard_normal((n_concepts, N_INPUTS))).float()
    inputs = held @ codes + 0.1 * torch.from_numpy(rng.standard_normal((N_TOKENS, N_INPUTS))).float()
    weights = layer(gated)
    directions = concept_directions(inputs, held)
    # 4,000 tokens of noise 0.1 at 30 %: a direction is known to 0.1/√840, five of them, and the ridge of 1e-3
    np.testing.assert_allclose(directions, codes, atol=0.02)
    twin = channel_shuffle(weights, directions, rng)
    before = (directions @ weights.weight.T).numpy()
    after = before + twin.moves.numpy()
    halves = 2 if gated else 1
    for half in range(halves):
        part = slice(half * N_NEURONS, (half + 1) * N_NEURONS)
        # each concept is read as strongly, by as many neurons
        np.testing.assert_allclose(np.sort(after[:, part]), np.sort(before[:, part]), atol=1e-5)
    # and by others: which concepts meet on a neuron is by chance
    overlap = np.corrcoef(before[:, :N_NEURONS])[np.triu_indices(n_concepts, 1)]
    shuffled = np.corrcoef(after[:, :N_NEURONS])[np.triu_indices(n_concepts, 1)]
    assert abs(np.corrcoef(overlap, shuffled)[0, 1]) < 0.7
    if gated:  # the same permutation in both halves: a concept's gate and linear part stay together
        for c in range(n_concepts):
            together = {(round(float(g), 4), round(float(v), 4)) for g, v in before[c].reshape(2, -1).T}
            assert {
                (round(float(g), 4), round(float(v), 4)) for g, v in after[c].reshape(2, -1).T
            } == together
    # a token with no concept passes unchanged
    none = ~held.any(1)
    np.testing.assert_array_equal(twin.neurons(inputs, held)[none], weights.neurons(inputs)[none])


def test_concepts_that_determine_each_other_share_their_direction() -> None:
    rng = np.random.default_rng(8)
    one = torch.from_numpy(rng.random((500, 1)) < 0.4).float()
    held = torch.cat([one, one, torch.zeros(500, 1)], dim=1)
    inputs = one @ torch.ones(1, N_INPUTS)
    directions = concept_directions(inputs, held)
    np.testing.assert_allclose(directions[0] + directions[1], np.ones(N_INPUTS), atol=1e-3)
    assert not directions[2].any()
