"""κ, d′, ε and their document-clustered errors against direct computation, jackknife, bootstrap and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from readings import made_up, plan_of, single, stream, stream_neurons
from scipy import stats

from probekit.evidence.contrast import (
    EPSILON,
    MIN_DOCS_EXACT,
    N_BATCHES,
    N_NEURON_BATCHES,
    ConfirmPlan,
    Contrast,
    p_not_exceeding,
)
from probekit.probes.pairs import SIGNS
from probekit.probes.refit import DenseReadouts, Readouts


def small_study(seed: int = 0) -> tuple[ConfirmPlan, np.ndarray, Readouts, np.ndarray]:
    """600 documents of 12 tokens, five concepts, readouts of three of eight neurons with document effects."""
    rng = np.random.default_rng(seed)
    doc = np.repeat(np.arange(600), 12)
    labels = rng.random((len(doc), 5)) < 0.4
    pairs = np.array([[0, 1], [0, 2], [3, 4]])
    rows = rng.standard_normal((len(doc), 8)) + 0.5 * rng.standard_normal((600, 8))[doc]
    rows[:, 0] += labels[:, 0] & labels[:, 1]
    support = np.array([[0, 1, 2], [3, 4, -1], [5, 6, 7]], np.int32)
    weights = np.where(support >= 0, rng.standard_normal(support.shape), 0.0)
    weights[0, 0] = 1.0
    return (
        plan_of(labels, doc, pairs, limit=700),
        rows,
        Readouts(support, weights, rng.standard_normal(3)),
        labels,
    )


def direct_values(rows: np.ndarray, readouts: Readouts) -> np.ndarray:
    """Readout of every pair at every token, [pair token]."""
    held = np.where(readouts.neurons >= 0, readouts.neurons, 0)
    return np.einsum("pk,tpk->pt", readouts.weights, rows[:, held]) + readouts.offset[:, None]


def groups(plan: ConfirmPlan, pair: int) -> list[np.ndarray]:
    """Sampled entries of each quadrant of one pair."""
    ptr = plan.sample.ptr
    return [np.arange(ptr[4 * pair + q], ptr[4 * pair + q + 1]) for q in range(4)]


def statistics(plan: ConfirmPlan, values: np.ndarray, pair: int, batches: np.ndarray) -> tuple[float, float]:
    """κ and d′ of one pair on some document batches (a batch may occur twice), quadrant weights held fixed."""
    mean, variance = np.zeros(4), np.zeros(4)
    times = np.bincount(batches, minlength=N_BATCHES)
    for q, entries in enumerate(groups(plan, pair)):
        weight = times[plan.batch[entries]]
        x = values[plan.sample.token[entries]]
        mean[q] = (weight * x).sum() / weight.sum()
        variance[q] = (weight * (x - mean[q]) ** 2).sum() / weight.sum()
    natural = plan.sample.n_natural[pair] / plan.sample.n_natural[pair].sum()
    kappa = mean @ SIGNS
    return float(kappa), float(kappa / np.sqrt(natural @ variance))


def test_every_measure_equals_its_direct_computation() -> None:
    plan, rows, readouts, labels = small_study()
    contrast, _ = stream(plan, rows, readouts)
    values = direct_values(rows, readouts)
    everything = np.arange(N_BATCHES)
    for pair in range(3):
        kappa, d_prime = statistics(plan, values[pair], pair, everything)
        quadrants = [values[pair][plan.sample.token[entries]] for entries in groups(plan, pair)]
        sd = np.array([x.std() for x in quadrants])
        errors = [np.quantile(np.abs(x - (q == 0)), 0.95) for q, x in enumerate(quadrants)]
        # 1e-5: values and sums are fp32, of order 1 over some hundred tokens
        np.testing.assert_allclose(contrast.kappa[pair], kappa, atol=1e-5)
        np.testing.assert_allclose(contrast.d_prime[pair], d_prime, atol=1e-5)
        np.testing.assert_allclose(contrast.d_balanced[pair], kappa / np.sqrt((sd**2).mean()), atol=1e-5)
        np.testing.assert_allclose(contrast.mean[pair], [x.mean() for x in quadrants], atol=1e-5)
        np.testing.assert_allclose(contrast.sd[pair], sd, atol=1e-5)
        assert contrast.eps95 is not None
        np.testing.assert_allclose(contrast.eps95[pair], max(errors), atol=1e-5)
    # quadrants hold what they say: the sampled tokens' labels
    a, b = labels[:, 0], labels[:, 1]
    for entries, truth in zip(groups(plan, 0), (a & b, a & ~b, ~a & b, ~a & ~b), strict=True):
        assert truth[plan.sample.token[entries]].all()


def test_result_does_not_depend_on_how_tokens_arrive() -> None:
    plan, rows, readouts, _ = small_study(1)
    whole, _ = stream(plan, rows, readouts, tile=8_192)
    pieces, _ = stream(plan, rows, readouts, tile=333)
    # entries are added one by one in the same order; only vector lanes of the readout's own sum may differ
    np.testing.assert_allclose(pieces.kappa, whole.kappa, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(pieces.d_influence, whole.d_influence, rtol=1e-5, atol=1e-6)


def test_dense_and_sparse_readouts_of_the_same_weights_agree() -> None:
    plan, rows, readouts, _ = small_study(2)
    full = np.zeros((3, rows.shape[1]))
    for pair, used in enumerate(readouts.neurons):
        full[pair, used[used >= 0]] = readouts.weights[pair, used >= 0]
    sparse, _ = stream(plan, rows, readouts)
    dense, _ = stream(plan, rows, DenseReadouts(full, readouts.offset, np.zeros(3)))
    np.testing.assert_allclose(dense.d_prime, sparse.d_prime, atol=1e-5)
    np.testing.assert_allclose(dense.kappa_se, sparse.kappa_se, atol=1e-5)


def test_clustered_errors_equal_jackknife_and_bootstrap_over_documents() -> None:
    plan, rows, readouts, _ = small_study(3)
    contrast, _ = stream(plan, rows, readouts)
    values = direct_values(rows, readouts)
    everything = np.arange(N_BATCHES)
    rng = np.random.default_rng(4)
    for pair in range(3):
        left_out = np.array(
            [statistics(plan, values[pair], pair, np.delete(everything, g)) for g in everything]
        )
        jackknife = np.sqrt((N_BATCHES - 1) / N_BATCHES * ((left_out - left_out.mean(0)) ** 2).sum(0))
        drawn = [
            statistics(plan, values[pair], pair, rng.integers(0, N_BATCHES, N_BATCHES)) for _ in range(400)
        ]
        bootstrap = np.std(drawn, axis=0)
        ours = np.array([contrast.kappa_se[pair], np.sqrt((contrast.d_influence[pair] ** 2).sum())])
        # linearisation against jackknife: they differ in second order, 1/√(tokens of a batch and quadrant) ≈ 5 %
        np.testing.assert_allclose(ours, jackknife, rtol=0.05)
        # the sd of 400 bootstrap draws is known to 1/√800 = 3.5 %, three of them
        np.testing.assert_allclose(ours, bootstrap, rtol=0.12)


def correlated_study(seed: int, n_pairs: int, doc_sd: float) -> tuple[ConfirmPlan, np.ndarray, np.ndarray]:
    """Readouts without interaction; most tokens of a document fall into one quadrant and share its offset."""
    rng = np.random.default_rng(seed)
    n_docs, length = 320, 10
    doc = np.repeat(np.arange(n_docs), length)
    of_doc = rng.random((n_docs, 2 * n_pairs)) < 0.5
    labels = np.where(
        rng.random((len(doc), 2 * n_pairs)) < 0.85, of_doc[doc], rng.random((len(doc), 2 * n_pairs)) < 0.5
    )
    rows = rng.standard_normal((len(doc), n_pairs)) + doc_sd * rng.standard_normal((n_docs, n_pairs))[doc]
    pairs = np.arange(2 * n_pairs).reshape(-1, 2)
    return plan_of(labels, doc, pairs), rows, pairs


def covered(contrast: Contrast, se: np.ndarray) -> float:
    return float((np.abs(contrast.kappa) <= stats.t.ppf(0.975, N_BATCHES - 1) * se).mean())


def test_clustered_error_covers_where_tokens_of_a_document_agree_and_the_iid_error_does_not() -> None:
    n_pairs = 250
    # 3 standard errors of a share of 95 % among 250 pairs: 0.041
    allowed = 3 * np.sqrt(0.95 * 0.05 / n_pairs)
    for doc_sd in (0.0, 1.0):
        plan, rows, _ = correlated_study(5, n_pairs, doc_sd)
        contrast, _ = stream(plan, rows, single(np.arange(n_pairs)))
        iid = np.sqrt((contrast.sd**2 / plan.sample.n_sampled).sum(1))
        assert covered(contrast, contrast.kappa_se) >= 0.95 - allowed
        if doc_sd:
            assert covered(contrast, iid) < 0.80
        else:  # positive control of the control: without document effects the iid error covers too
            assert covered(contrast, iid) >= 0.95 - allowed


def test_p_values_of_no_interaction_are_uniform_and_a_planted_one_is_found() -> None:
    n_pairs = 250
    plan, rows, pairs = correlated_study(6, n_pairs, 1.0)
    contrast, _ = stream(plan, rows, single(np.arange(n_pairs)))
    assert (
        stats.kstest(contrast.p_raw, "uniform").pvalue > 0.001
    )  # seeds are fixed; 0.001 leaves room for one unlucky
    both = np.zeros_like(rows)
    for pair in range(n_pairs):
        entries = groups(plan, pair)[0]
        both[plan.sample.token[entries], pair] = 1.0
    planted, _ = stream(plan, rows + both, single(np.arange(len(pairs))))
    assert (planted.p_raw < 0.01).mean() > 0.9


def test_a_readout_of_nothing_has_no_interaction() -> None:
    plan, rows, readouts, _ = small_study(7)
    silent = Readouts(readouts.neurons, np.zeros_like(readouts.weights), np.full(3, 0.25))
    contrast, _ = stream(plan, rows, silent)
    np.testing.assert_allclose(contrast.kappa, 0.0, atol=1e-6)
    np.testing.assert_array_equal(contrast.d_prime, 0.0)
    assert (contrast.p_raw >= 0.5).all()


def test_exceeding_the_largest_rival_means_exceeding_each() -> None:
    better = made_up(np.array([3.0, 3.0, 3.0]), se=0.0)
    near = made_up(np.array([0.0, 2.0, 4.0]))
    far = made_up(np.array([-5.0, -5.0, -5.0]))
    alone = p_not_exceeding(better, [near])
    # far rivals change nothing; with unit error and z = 3, 1, −1
    np.testing.assert_allclose(alone, stats.t.sf([3.0, 1.0, -1.0], N_BATCHES - 1))
    np.testing.assert_array_equal(p_not_exceeding(better, [near, far]), alone)
    np.testing.assert_array_equal(p_not_exceeding(better, [far, near]), alone)
    # errors are paired: a common disturbance cancels, p is then 0 or 1
    same = made_up(np.array([3.0]), se=1.0)
    below = made_up(np.array([2.9]), se=1.0)
    assert p_not_exceeding(same, [below])[0] == 0.0
    assert p_not_exceeding(below, [same])[0] == 0.5 * 2 or p_not_exceeding(below, [same])[0] >= 0.5


def test_p_not_exceeding_holds_its_level_at_the_boundary_and_has_power() -> None:
    n_pairs = 250
    plan, rows, _ = correlated_study(8, n_pairs, 1.0)
    rng = np.random.default_rng(9)
    signal = np.zeros_like(rows)
    for pair in range(n_pairs):
        signal[plan.sample.token[groups(plan, pair)[0]], pair] = 1.0
    alone = single(np.arange(n_pairs))
    noise = [rows[:, rng.permutation(n_pairs)] for _ in range(2)]
    better, equal, weak = (
        stream(plan, part, alone)[0]
        for part in (noise[0] + signal, noise[1] + signal, noise[1] + 0.2 * signal)
    )
    # as good as the best rival: the level is kept (3 s.e. of a share of 5 % among 250)
    assert (p_not_exceeding(better, [equal, weak]) <= 0.05).mean() <= 0.05 + 3 * np.sqrt(
        0.05 * 0.95 / n_pairs
    )
    assert (p_not_exceeding(better, [weak, weak]) <= 0.05).mean() > 0.8


def exact_study(n_docs: int, n_misses: int) -> tuple[Contrast, np.ndarray]:
    """Each document has one token in every quadrant, `n_misses` of the 11 tokens are read as 0.5, all else exactly."""
    doc = np.repeat(np.arange(n_docs), 4)
    quadrant = np.tile(np.arange(4), n_docs)
    labels = np.stack([quadrant <= 1, (quadrant == 0) | (quadrant == 2)], axis=1)
    values = (quadrant == 0).astype(float)
    values[np.flatnonzero(quadrant == 0)[:n_misses]] = 0.5
    plan = plan_of(labels, doc, np.array([[0, 1]]))
    return stream(plan, values[:, None], single(np.array([0])))[0], plan.n_docs


def test_epsilon_test_is_the_exact_binomial_one() -> None:
    for n_docs, n_misses in ((59, 0), (120, 1), (120, 3), (300, 6), (300, 30)):
        contrast, held = exact_study(n_docs, n_misses)
        assert (held == n_docs).all()
        hits = [n_docs - n_misses, n_docs, n_docs, n_docs]
        expected = max(stats.binomtest(h, n_docs, 0.95, alternative="greater").pvalue for h in hits)
        # 1e-12: the same sum of binomial terms in double precision
        np.testing.assert_allclose(contrast.p_epsilon[0], expected, rtol=1e-12)


def test_58_documents_are_undecidable_and_59_decide() -> None:
    few, _ = exact_study(58, 0)
    enough, _ = exact_study(59, 0)
    assert 0.95**59 < 0.05 < 0.95**58
    assert MIN_DOCS_EXACT == 59
    assert not few.decidable[0]
    assert few.p_epsilon[0] == 1.0
    assert enough.decidable[0]
    np.testing.assert_allclose(enough.p_epsilon[0], 0.95**59, rtol=1e-12)
    additive = 0.25  # the additive readout misses by exactly ε in every quadrant: no evidence
    assert not additive < EPSILON


def test_epsilon_counts_one_token_a_document() -> None:
    rng = np.random.default_rng(10)
    doc = np.repeat(np.arange(80), 40)
    labels = rng.random((len(doc), 2)) < 0.5
    plan = plan_of(labels, doc, np.array([[0, 1]]))
    good_doc = rng.random(80) < 0.97
    truth = (labels[:, 0] & labels[:, 1]).astype(float)
    values = truth + np.where(good_doc[doc], 0.0, 1.0)
    contrast, _ = stream(plan, values[:, None], single(np.array([0])))
    hits, docs = int(good_doc.sum()), 80
    assert (plan.n_docs == docs).all()  # 40 tokens a document: each quadrant is met in every one
    expected = stats.binom.sf(hits - 1, docs, 0.95)
    np.testing.assert_allclose(contrast.p_epsilon[0], expected, rtol=1e-12)
    tokens = stats.binom.sf(int((good_doc[doc] & labels.all(1)).sum()) - 1, int(labels.all(1).sum()), 0.95)
    assert tokens < expected / 10  # what counting tokens would have claimed


def test_neuron_sums_leave_one_batch_out_exactly() -> None:
    plan, rows, readouts, _ = small_study(11)
    means = stream_neurons(plan, rows, readouts.neurons, tile=1_000).leave_one_out()
    assert means.shape == (N_NEURON_BATCHES + 1, 3, 4, 3)
    coarse = plan.batch % N_NEURON_BATCHES
    for pair in range(3):
        for q, entries in enumerate(groups(plan, pair)):
            for place, neuron in enumerate(readouts.neurons[pair]):
                if neuron < 0:
                    assert (means[:, pair, q, place] == 0).all()
                    continue
                x = rows[plan.sample.token[entries], neuron]
                kept = [np.ones(len(entries), bool)] + [coarse[entries] != g for g in range(N_NEURON_BATCHES)]
                # 1e-5: fp32 sums of some hundred values of order 1
                np.testing.assert_allclose(means[:, pair, q, place], [x[k].mean() for k in kept], atol=1e-5)


def test_more_documents_give_smaller_errors() -> None:
    rng = np.random.default_rng(12)
    ratio: list[float] = []
    for n_docs in (300, 1_200):
        doc = np.repeat(np.arange(n_docs), 8)
        labels = rng.random((len(doc), 40)) < 0.5
        rows = rng.standard_normal((len(doc), 20)) + rng.standard_normal((n_docs, 20))[doc]
        plan = plan_of(labels, doc, np.arange(40).reshape(-1, 2), limit=100_000)
        ratio.append(float(np.median(stream(plan, rows, single(np.arange(20)))[0].kappa_se)))
    # four times the documents halve the error; the median of 20 errors of 64 batches is known to 3 %
    assert ratio[0] / ratio[1] == pytest.approx(2.0, rel=0.12)
