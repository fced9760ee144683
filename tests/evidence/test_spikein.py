"""Known ANDs added to a layer are found the more often the larger they are, and nothing is found where none was added."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from readings import made_up

from probekit.analysis.layer_summary import summarise_layer
from probekit.analysis.passes import measure_layers
from probekit.analysis.settings import Settings
from probekit.analysis.source import ArraySource
from probekit.evidence import decide
from probekit.evidence.spikein import (
    CHANNEL,
    MAX_STRATA,
    MOST_SPIKES,
    PAIRS_PER_STRATUM,
    Spikes,
    holding_together,
    sensitivity,
    spiked_pairs,
    spliced,
    support_strata,
)
from probekit.probes.moments import Moments
from probekit.probes.pairs import LabelColumns, all_pairs
from probekit.testing.synthetic import make_scene, plan, random_layer

N_CONCEPTS, N_NEURONS = 24, 96


def test_moments_of_spiked_neurons_are_those_that_their_rows_give() -> None:
    rng = np.random.default_rng(3)
    labels, doc = rng.random((3_000, 6)) < 0.4, np.arange(3_000) // 20
    rows = (1.5 + rng.standard_normal((3_000, 12)) + labels @ rng.standard_normal((6, 12))).astype(np.float32)
    pairs = all_pairs(6)
    at = np.array([1, 4, 5, 13])
    spikes = Spikes.draw(pairs[at], rows.std(0), rng)
    together = holding_together(LabelColumns.from_dense(labels), pairs[at])
    both = labels[:, pairs[at, 0]] & labels[:, pairs[at, 1]]
    np.testing.assert_array_equal(
        together, np.vstack([labels.T.astype(int) @ both, both.T.astype(int) @ both])
    )

    def summed(neurons: np.ndarray, of: np.ndarray):
        moments = Moments(12, 6, pairs=of)
        moments.update(neurons, labels, doc)
        return moments.finalize()

    layer = summed(rows, pairs)
    for amplitude in (0.5, 4.0):
        seen = summed(rows + amplitude * both.astype(np.float32) @ spikes.pattern, pairs[at])
        made = spikes.moments(layer, at, together, amplitude)
        for name in ("mean", "gram", "concept_sums", "pair_sums"):
            wanted = getattr(seen, name)
            # fp32 rows and products: 1e-6 of the largest sum
            np.testing.assert_allclose(getattr(made, name), wanted, atol=2e-6 * np.abs(wanted).max())
        for name in ("n_tokens", "n_concept", "n_pair", "pairs"):
            np.testing.assert_array_equal(getattr(made, name), getattr(seen, name))
    # the control: without the cross terms the Gram matrix is far off
    assert np.abs(layer.gram - seen.gram).max() > 0.1 * np.abs(seen.gram).max()


def test_spikes_stand_on_a_few_neurons_that_move() -> None:
    rng = np.random.default_rng(0)
    unit = np.where(np.arange(40) % 4 == 0, 0.0, np.linspace(0.5, 2.0, 40))
    pairs = np.array([[0, 1], [2, 3], [4, 5]])
    spikes = Spikes.draw(pairs, unit, rng)
    assert ((spikes.pattern > 0).sum(1) == CHANNEL).all()
    held = spikes.pattern > 0
    np.testing.assert_allclose(spikes.pattern[held], np.broadcast_to(unit, held.shape)[held], rtol=1e-6)
    # a layer with fewer moving neurons than a channel takes what there is
    assert ((Spikes.draw(pairs, np.array([0.0, 1.0, 2.0]), rng).pattern > 0).sum(1) == 2).all()


def test_a_tenth_of_the_pairs_at_most_is_spiked() -> None:
    for n_tested, n_spikes in ((9, 0), (250, 25), (50_000, MOST_SPIKES)):
        at = spiked_pairs(n_tested, np.random.default_rng(1))
        assert len(at) == n_spikes
        assert (np.diff(at) > 0).all()


@pytest.mark.sweep
def test_recall_rises_with_the_amplitude_and_is_nothing_without() -> None:
    scene = make_scene(0, n_tokens=16_000, n_concepts=N_CONCEPTS, n_active=3)
    weights = random_layer(0, N_NEURONS, N_CONCEPTS)
    amplitudes = (0.02, 0.5, 4.0)
    design = plan(scene, Settings(twins=8, seed=0, min_support=40, spikes=amplitudes))
    source = ArraySource(weights.neurons(scene.inputs), scene.inputs, weights, design.rows)
    measure = next(measure_layers(source, [0], design))
    assert sorted(measure.spiked) == list(amplitudes)
    names, kinds = [f"f{c}" for c in range(N_CONCEPTS)], ["all"] * len(design.tested.pairs)
    row = summarise_layer(
        measure, design, names=names, kinds=kinds, n_params=weights.n_params, bits_stored=32.0
    ).row
    found: Any = row["sensitivity"]
    assert found["n_spiked"] == len(design.spiked_at) == len(design.tested.pairs) // 10
    curve = [step["above_twins"]["recall"] for step in found["curve"]]
    assert [step["amplitude"] for step in found["curve"]] == [0.0, *amplitudes]
    # a random layer holds no AND above its twins; 0.02 sd on five neurons is no AND either; 4 sd cannot be missed
    assert curve[0] == curve[1] == 0.0
    assert curve[3] == 1.0
    assert 0.02 < found["above_twins_at"]["0.5"] < 4.0
    assert found["above_twins_at"]["0.9"] >= found["above_twins_at"]["0.5"]
    for step in found["curve"]:
        for rung in ("above_twins", "computed"):
            assert step[rung]["low"] <= step[rung]["recall"] <= step[rung]["high"]
            assert sum(part["n_spiked"] for part in step[rung]["by_support"]) == found["n_spiked"]
    # the spike is in the neurons alone: the readout of the largest stands on its channel, and κ is that of an AND
    large = measure.spiked[4.0]
    assert np.median(large.kappa) == pytest.approx(1.0, abs=0.05)
    # without spikes the layer's own decision is the same: what is added decides nothing
    plain = design.with_settings(spikes=())
    again = next(measure_layers(source, [0], plain))
    np.testing.assert_array_equal(again.by_k[16].d_prime, measure.by_k[16].d_prime)
    silent = summarise_layer(
        again, plain, names=names, kinds=kinds, n_params=weights.n_params, bits_stored=32.0
    ).row
    assert silent["sensitivity"] is None
    assert silent["n_above_twins"] == row["n_above_twins"]


def test_the_curve_counts_the_spiked_pairs_and_says_where_it_crosses() -> None:
    """Forty pairs at the twins' level, ten of them raised: none by nothing, half by 1, all by 2."""
    rng = np.random.default_rng(3)
    at = np.arange(10)
    layer = made_up(0.1 * rng.standard_normal(40))
    twins = [made_up(0.1 * rng.standard_normal(40)) for _ in range(20)]
    tested = decide.Tested(np.array([(0, b) for b in range(1, 41)]), 41, np.arange(100, 140), 0.05)
    raised = {1.0: np.where(at < 5, 60.0, 0.0), 2.0: np.full(10, 60.0)}
    found = sensitivity(layer, {size: made_up(d) for size, d in raised.items()}, at, twins, tested)
    assert found is not None
    assert found["n_spiked"] == 10
    assert [row["above_twins"]["recall"] for row in found["curve"]] == [0.0, 0.5, 1.0]
    assert found["above_twins_at"] == {"0.5": 1.0, "0.9": pytest.approx(1.8)}
    low, high = (found["curve"][1]["above_twins"][bound] for bound in ("low", "high"))
    assert low < 0.5 < high
    # what is spliced in stands in its places, and nowhere else
    whole = spliced(layer, made_up(raised[2.0]), at)
    assert (whole.d_prime[:10] == 60).all()
    assert np.array_equal(whole.d_prime[10:], layer.d_prime[10:])
    assert whole.eps95 is None
    # a curve that never gets there, and a layer without twins or spikes
    short = sensitivity(layer, {1.0: made_up(raised[1.0])}, at, twins, tested)
    assert short is not None
    assert short["above_twins_at"]["0.9"] is None
    assert sensitivity(layer, {}, at, twins, tested) is None
    assert sensitivity(layer, {1.0: made_up(raised[1.0])}, at, [], tested) is None


def test_strata_are_cut_by_rank() -> None:
    n11 = np.random.default_rng(0).permutation(4 * PAIRS_PER_STRATUM)
    assert np.bincount(support_strata(n11)).tolist() == [PAIRS_PER_STRATUM] * MAX_STRATA
    assert n11[support_strata(n11) == 0].max() < n11[support_strata(n11) == 1].min()
    assert set(support_strata(n11[:100])) == {0}
