"""Degenerate data: a clear error or a stated exclusion, never a silent number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from readings import made_up

import probekit as pk
from probekit.errors import DegenerateError, NonFiniteError
from probekit.evidence.decide import Tested as StudiedPairs
from probekit.evidence.decide import decide
from probekit.evidence.nulls import leave_one_out, pooled_p
from probekit.model.weights import MlpWeights
from probekit.testing.synthetic import Judged, Scene, make_scene, random_layer, run_layer

N_TOKENS, N_CONCEPTS, N_NEURONS = 6_000, 6, 24
N_PAIRS = N_CONCEPTS * (N_CONCEPTS - 1) // 2
SCENE = make_scene(0, n_tokens=N_TOKENS, n_concepts=N_CONCEPTS, n_active=1.5)
LAYER = random_layer(0, N_NEURONS, N_CONCEPTS)


def judged(scene: Scene = SCENE, layer: MlpWeights = LAYER, *, twins: int = 4) -> Judged:
    return run_layer(scene, layer, twins=twins, min_support=30)


def with_labels(labels: np.ndarray) -> Judged:
    return judged(replace(SCENE, labels=labels))


def numbers_are_finite(run: Judged) -> bool:
    names = [
        "kappa",
        "kappa_se",
        "d_prime",
        "p_twin",
        "p_relay",
        "p_pair",
        "p_vs_linear",
        "q",
        "participation",
    ]
    return bool(np.isfinite(run.result.pairs[names].to_numpy(float)).all())


@pytest.fixture(scope="module")
def sound() -> Judged:
    return judged()


def test_sound_data_exclude_nothing(sound: Judged) -> None:
    assert len(sound.pairs) == N_PAIRS
    assert sum(sound.design.excluded.values()) == 0
    assert numbers_are_finite(sound)


@pytest.mark.parametrize(("value", "reason"), [(False, "rare"), (True, "nested")])
def test_a_constant_concept_leaves_with_a_reason(value: bool, reason: str) -> None:
    labels = SCENE.labels.copy()
    labels[:, 2] = value
    run = with_labels(labels)
    excluded = run.design.excluded
    assert excluded[reason] == sum(excluded.values()) == N_CONCEPTS - 1
    assert 2 not in np.unique(run.pairs)
    assert numbers_are_finite(run)


def test_a_duplicate_concept_is_no_pair_with_itself_and_counts_once() -> None:
    labels = SCENE.labels.copy()
    labels[:, 5] = labels[:, 4]
    run = with_labels(labels)
    excluded = run.design.excluded
    assert excluded["nested"] == sum(excluded.values()) == 1
    assert (4, 5) not in run.pairs
    assert run.design.duplicate_of[5] == 4
    # the same pair twice has the same numbers, and is one distinct pair wherever it is counted
    table = run.result.pairs
    for name in ("kappa", "d_prime", "n11"):
        held = dict(zip(run.pairs, table[name], strict=True))
        assert held[0, 4] == pytest.approx(held[0, 5], rel=1e-6)


def test_a_pair_that_never_meets_is_exclusive() -> None:
    labels = SCENE.labels.copy()
    labels[labels[:, 0], 1] = False
    run = with_labels(labels)
    excluded = run.design.excluded
    assert excluded["exclusive"] == sum(excluded.values()) == 1
    assert (0, 1) not in run.pairs


def test_words_that_are_never_the_same_token_are_told_to_be_that() -> None:
    which = np.arange(N_TOKENS) % SCENE.labels.shape[1]
    one_at_a_time = which[:, None] == np.arange(SCENE.labels.shape[1])
    with pytest.raises(
        DegenerateError, match=r"No two of these concepts ever hold at the same token.*lags=\(0, 1\)"
    ):
        with_labels(one_at_a_time)
    # the control: concepts that meet, too seldom, are not told so
    one_at_a_time[::500, :2] = True
    with pytest.raises(
        DegenerateError, match=r"No testable pair: of 15 pairs of concepts .*Raise max_tokens"
    ):
        with_labels(one_at_a_time)


def test_pairs_asked_for_are_told_of_alone() -> None:
    labels = SCENE.labels.copy()
    labels[labels[:, 0], 1] = False
    neurons = np.random.default_rng(0).standard_normal((N_TOKENS, 8)).astype(np.float32)
    with pytest.raises(
        DegenerateError, match=r"No testable pair: of 1 pair asked for none has .* of both halves\. 'a' ∧ 'b'"
    ):
        pk.analyze_arrays(
            neurons, labels, SCENE.doc, names=list("abcdef"), pairs=[("a", "b")], progress=False
        )


def test_one_document_is_refused() -> None:
    with pytest.raises(DegenerateError, match="No testable pair: of 15 pairs"):
        judged(replace(SCENE, doc=np.zeros(N_TOKENS, int)))


def test_a_silent_neuron_is_in_no_readout(sound: Judged) -> None:
    w_in, b_in = LAYER.w_in.clone(), LAYER.b_in.clone()
    used = {int(i) for support in sound.result.pairs["neurons"] for i in support}
    silent = next(iter(used))
    w_in[silent], b_in[silent] = 0.0, 0.0
    run = judged(layer=replace(LAYER, w_in=w_in, b_in=b_in))
    assert numbers_are_finite(run)
    assert silent not in {int(i) for support in run.result.pairs["neurons"] for i in support}


def test_a_silent_layer_reads_nothing_and_says_so(sound: Judged) -> None:
    run = judged(layer=replace(LAYER, w_in=0 * LAYER.w_in, b_in=0 * LAYER.b_in))
    assert (run.result.pairs["kappa"] == 0).all()
    assert (run.result.pairs["p_twin"] == 1).all()
    for rung in ("n_significant_raw", "n_beyond_linear", "n_above_plain", "n_above_twins", "n_computed"):
        assert run.result.row[rung] == 0
    assert (sound.result.pairs["kappa"] != 0).any()  # the control


def test_nan_is_refused() -> None:
    neurons = LAYER.neurons(SCENE.inputs).numpy().copy()
    neurons[3, 4] = np.nan
    told = r"neurons: 1 of 144,000 values are NaN or infinite \(first at token 3, column 4\)"
    with pytest.raises(NonFiniteError, match=told):
        pk.analyze_arrays(neurons, SCENE.labels, SCENE.doc, progress=False)


def test_without_twins_nothing_is_claimed(sound: Judged) -> None:
    row = judged(twins=0).result.row
    for name in ("n_computed", "n_above_twins", "n_excess", "excess_low", "twin_rate", "twins", "total"):
        assert row[name] is None
        assert sound.result.row[name] is not None
    assert "no twin was run, so nothing is said about computation" in row["statement"]


def test_equal_twins_and_one_pair_are_p_values_still() -> None:
    # no spread between twins, one pair alone, a pair without any signal: no division by nothing
    layer, twins = np.array([0.3]), np.full((5, 1), 0.3)
    assert pooled_p(leave_one_out(layer, twins), np.full(1, 60))[0] == 1.0
    above = pooled_p(leave_one_out(layer + 1, twins), np.full(1, 60))[0]
    assert above == pytest.approx(1 / 6)  # (0 + 1)/(5 + 1)
    still = made_up(np.zeros(1), se=0.0)
    decision = decide(
        still, [still] * 4, [(still, still)], StudiedPairs(np.array([[0, 1]]), 2, np.array([50]), 0.05)
    )
    assert decision.p_vs_linear is not None
    assert decision.p_twin is not None
    assert decision.computed is not None
    assert decision.p_vs_linear[0] > 0.4
    assert decision.p_twin[0] == 1.0
    assert not decision.computed.any()
