"""The parts of the channel decoder against other people's code, exact sums and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import hypergeom, multivariate_normal, nchypergeom_fisher

from probekit.errors import DegenerateError, InputError, NonFiniteError, ShapeError
from probekit.theory.channels.codes import CodeFrame, Columns, ternary, threshold
from probekit.theory.channels.gates import gate_of, outlet
from probekit.theory.channels.layer import as_layer
from probekit.theory.channels.meetings import Known, Rows
from probekit.theory.channels.overlap import log_load_ratio, log_odds_beyond, noncentral_tail, overlap_tail


def test_the_tail_is_that_of_the_hypergeometric_and_of_fishers_noncentral_one() -> None:
    rng = np.random.default_rng(0)
    n = 90
    a, b = rng.integers(0, 40, 60), rng.integers(0, 40, 60)
    met = np.array([int(rng.integers(0, min(x, y) + 1)) for x, y in zip(a, b, strict=True)])
    odds = rng.uniform(1.0, 6.0, 60)
    got = noncentral_tail(met, a, b, n, np.log(odds))
    plain = noncentral_tail(met, a, b, n, np.zeros(60))
    for i in range(60):
        # scipy's own sums of up to 40 terms: 1e-9 of the value
        assert plain[i] == pytest.approx(hypergeom(n, a[i], b[i]).sf(met[i] - 1), rel=1e-9, abs=1e-14)
        wanted = nchypergeom_fisher(n, a[i], b[i], odds[i]).sf(met[i] - 1)
        assert got[i] == pytest.approx(wanted, rel=1e-6, abs=1e-10)


def test_the_tail_stays_exact_far_out() -> None:
    """1/C(512, 10) for ten of ten: far below what 1 − cdf could tell."""
    p = noncentral_tail(np.array([10]), np.array([10]), np.array([10]), 512, np.zeros(1))
    assert p[0] == pytest.approx(float(np.exp(hypergeom.logpmf(10, 512, 10, 10))), rel=1e-9)
    assert 0 < p[0] < 1e-19


def test_p_values_of_independent_codes_are_not_too_small() -> None:
    """Fixed margins, drawn by permuting each code: P(p ≤ t) ≤ t for every t, and not far below it."""
    rng = np.random.default_rng(1)
    margins = rng.integers(10, 40, 80)
    codes = np.stack([rng.permutation(np.arange(150) < k) for k in margins], axis=1)
    pairs = np.array(list(itertools.combinations(range(80), 2)))
    p, met, expected = overlap_tail(codes, codes, pairs, lambda rows: np.zeros(len(rows)))
    assert met.mean() == pytest.approx(
        expected.mean(), rel=0.05
    )  # a mean of 3,160 counts of some 4: 1 % s.e.
    for t in (0.01, 0.05, 0.2):
        share = float((p <= t).mean())
        # 3,160 pairs of 80 codes: three binomial standard errors
        assert share <= t + 3 * np.sqrt(t * (1 - t) / len(p))
        assert share >= t / 5


def test_the_odds_of_overlapping_directions_are_those_of_the_bivariate_normal() -> None:
    for rho, level in itertools.product((-0.5, 0.0, 0.2, 0.7), (0.05, 0.004)):
        t = threshold(level)
        both = float(multivariate_normal(cov=[[1, rho], [rho, 1]]).cdf([-t, -t]))
        odds = both * (1 - 2 * level + both) / (level - both) ** 2
        got = float(log_odds_beyond(np.array([rho]), t)[0])
        # the oracle integrates to about 1e-5 of a probability
        assert got == pytest.approx(max(0.0, np.log(odds)), abs=0.02)
    assert float(log_odds_beyond(np.array([0.0]), 2.0)[0]) == pytest.approx(0.0, abs=1e-9)
    two_sided = [
        float(log_odds_beyond(np.array([r]), 2.0, two_sided_second=True)[0]) for r in (-0.4, 0.0, 0.4)
    ]
    assert two_sided[0] == pytest.approx(two_sided[2])
    assert two_sided[0] > two_sided[1] + 0.1


def test_the_load_ratio_is_that_of_the_curveball_null() -> None:
    """Margins of rows and columns kept by swaps: pairs of columns meet as often as the ratio says."""
    rng = np.random.default_rng(2)
    heavy = np.where(np.arange(120) < 20, 0.5, 0.05)
    codes = rng.random((120, 30)) < heavy[:, None]
    ratio = np.exp(log_load_ratio(codes, codes))
    assert ratio > 1.5
    rows = [set(np.flatnonzero(row).tolist()) for row in codes]
    for _ in range(6_000):  # curveball: two rows pool what only one of them has, and share it out anew
        i, j = rng.choice(120, 2, replace=False)
        only_i, only_j = list(rows[i] - rows[j]), list(rows[j] - rows[i])
        pool = rng.permutation(only_i + only_j).tolist()
        common = rows[i] & rows[j]
        rows[i], rows[j] = common | set(pool[: len(only_i)]), common | set(pool[len(only_i) :])
    mixed = np.zeros_like(codes)
    for i, row in enumerate(rows):
        mixed[i, list(row)] = True
    assert (mixed.sum(0) == codes.sum(0)).all()
    together = mixed.astype(float).T @ mixed
    margins = mixed.sum(0)
    independent = np.outer(margins, margins) / 120
    off = ~np.eye(30, dtype=bool)
    # 435 pairs with some 2 meetings each: 4 % s.e.
    assert together[off].sum() / independent[off].sum() == pytest.approx(ratio, rel=0.12)
    equal = rng.permuted(np.arange(120)[:, None] < np.full(30, 12), axis=0)
    assert np.exp(log_load_ratio(equal, equal)) < 1.1


def test_known_pairs_do_not_count_as_loads() -> None:
    """Pairs that share all their neurons raise the ratio; the loads are equal once these are known."""
    pairs = np.array([(2 * i, 2 * i + 1) for i in range(20)])
    both = np.concatenate([pairs, pairs[:, ::-1]])
    rng = np.random.default_rng(8)
    mixed = rng.permuted(np.arange(200)[:, None] < np.full(40, 8), axis=0)
    mixed[:, 1::2] = mixed[:, ::2]  # pairs that share every neuron, the rest by chance
    assert np.exp(log_load_ratio(mixed, mixed)) > 1.4
    # 1,520 chance meetings of 0.32 expected: 5 % s.e.
    assert np.exp(log_load_ratio(mixed, mixed, both)) < 1.15


def test_explained_rows_keep_known_reads_and_lose_what_overlaps_with_them() -> None:
    """Row = φ_a + φ_b + ε: once it is known to read a and b, a third code that overlaps with φ_a is not read there."""
    rng = np.random.default_rng(9)
    phi = rng.standard_normal((60, 12)) / np.sqrt(60)
    phi[:, 2] = 0.7 * phi[:, 0] + 0.7 * phi[:, 2]
    rows = 0.02 * rng.standard_normal((30, 60))
    rows[:6] += phi[:, 0] + phi[:, 1]
    layer, frame = as_layer({"w_in": rows}), CodeFrame.of(phi)
    found = [{"a": 0, "b": 1, "kind": "++", "neurons": list(range(6))}]
    known = Known.of(found, layer, 12)
    plain, explained = Rows.of(layer, phi), Rows.of(layer, phi, known)
    before, after = plain.own(frame)[0].scores, explained.own(frame)[0].scores
    assert (after[:6, :2] == before[:6, :2]).all()
    assert (after[6:] == before[6:]).all()
    # the control: it seemed to be read on all six
    assert (before[:6, 2] > 1.0).all()
    assert np.abs(after[:6, 2]).max() < 0.3
    assert np.abs(explained.left[0][:6] @ phi[:, :2]).max() < 1e-12
    # twins see the rest in the units of the whole row
    assert np.abs(explained.of_twin(frame)[0].scores[:6, :2]).max() < 1e-9


def test_twins_of_the_codes_keep_norms_and_covariance_and_the_columns_variance_is_theirs() -> None:
    rng = np.random.default_rng(3)
    codes = np.linspace(2, 0.2, 40)[:, None] * rng.standard_normal((40, 60))
    frame = CodeFrame.of(codes)
    rows = rng.standard_normal((25, 40))
    own = Columns.of(rows, frame)
    assert own.values == pytest.approx(rows @ codes)
    twins = [frame.twin(rng) for _ in range(400)]
    assert np.linalg.norm(twins[0].directions, axis=0) == pytest.approx(np.linalg.norm(codes, axis=0))
    entries = np.stack([rows @ twin.directions for twin in twins])
    spread = own.values / np.where(own.scores == 0, 1, own.scores)
    # 400 draws: a standard deviation to 3.5 % each, 1,500 of them, averaged
    assert (entries.std(0) / spread).mean() == pytest.approx(1.0, abs=0.02)
    assert np.abs(entries.mean(0) / spread).mean() < 0.06
    # the correlation of two columns over twins, from its formula
    flat = entries / spread
    measured = np.einsum("rnc,rnd->cd", flat, flat) / flat.shape[0] / flat.shape[1]
    off = ~np.eye(60, dtype=bool)
    assert np.abs(measured - own.correlation)[off].mean() < 0.03
    # a twin keeps the second moments to the factor of two that bands allow, along every axis
    before = ((frame.axes.T @ codes) ** 2).mean(1)
    after = np.mean([((frame.axes.T @ twin.directions) ** 2).mean(1) for twin in twins], axis=0)
    assert 0.5 <= (after / before).min() <= (after / before).max() <= 2.0


def test_a_random_layer_takes_codes_at_the_level_asked_for() -> None:
    rng = np.random.default_rng(4)
    frame = CodeFrame.of(rng.choice((-1.0, 1.0), size=(96, 120)))
    scores = Columns.of(rng.standard_normal((300, 96)), frame).scores
    for level in (0.05, 0.01):
        code = ternary(scores, level)
        # 36,000 entries: three standard errors are .003 at 5 %; columns share geometry
        assert (code > 0).mean() == pytest.approx(level, rel=0.15)
        assert (code < 0).mean() == pytest.approx(level, rel=0.15)


@pytest.mark.parametrize(
    ("means", "gate"),
    [
        ((1.0, 0.05, 0.0, 0.0), "and"), ((2.0, 1.0, 1.0, 0.0), "or"), ((0.1, 1.0, 0.0, 0.0), "a andnot b"),
        ((3.0, 2.0, 2.0, 1.0), "sum"), ((3.0, 2.0, 2.0, 1.6), "sum"), ((1.0, 1.0, 0.0, 0.0), "a"),
        ((1.0, 0.0, 1.0, 0.0), "b"), ((0.0, 0.0, 0.0, 0.0), "none"), ((-1.0, -2.0, 0.0, -1.0), "none"),
        ((1.0, 1.0, 1.0, 0.0), "or"),
    ],
)  # fmt: skip
def test_gates_of_four_levels(means: tuple[float, ...], gate: str) -> None:
    got = gate_of(np.array(means))
    assert got == gate or (means[3] == 1.0 and got in ("sum", "or"))


def test_an_outlet_is_named_with_its_sign_and_only_where_it_stands_out() -> None:
    rng = np.random.default_rng(5)
    w_out = 0.1 * rng.standard_normal((6, 80))
    neurons = np.array([3, 17, 40, 71])
    w_out[4, neurons] -= 1.0
    assert {k: outlet(w_out, neurons, 0.05)[k] for k in ("out", "out_sign")} == {"out": 4, "out_sign": -1}
    assert outlet(0.1 * rng.standard_normal((6, 80)), neurons, 1e-6)["out_sign"] == 0
    assert outlet(None, neurons, 0.05)["out"] == -1


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    good = np.ones((5, 3))
    with pytest.raises(InputError, match=r"weights: got int without w_in"):
        as_layer(3)
    with pytest.raises(InputError, match=r"weights: got unknown keys w_up"):
        as_layer({"w_in": good, "w_up": good})
    with pytest.raises(ShapeError, match=r"b_in: got shape \(4,\), wanted \(5,\)"):
        as_layer((good, np.ones(4)))
    with pytest.raises(ShapeError, match=r"w_gate: got shape \(3, 5\)"):
        as_layer({"w_in": good, "w_gate": good.T})
    with pytest.raises(NonFiniteError, match=r"w_in: 1 of 15 entries"):
        as_layer((np.where(np.arange(15).reshape(5, 3) == 7, np.nan, 1.0),))
    with pytest.raises(InputError, match=r"activation: got 'swish'"):
        as_layer({"w_in": good, "activation": "swish"})
    with pytest.raises(ShapeError, match=r"w_out: got shape \(5, 2\), wanted \[out, 5\]"):
        as_layer({"w_in": good, "w_out": np.ones((5, 2))})
    with pytest.raises(DegenerateError, match=r"directions: all zero"):
        CodeFrame.of(np.zeros((3, 4)))
