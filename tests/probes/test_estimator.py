"""The scikit-learn face of the sparse probe."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import probekit as pk
from probekit.errors import DegenerateError, InputError
from probekit.probes.estimator import SparseProbe
from probekit.probes.select import forward_rows, forward_targets


@parametrize_with_checks([SparseProbe(), SparseProbe(k=1)])
def test_scikit_learn_contract(estimator, check) -> None:
    before = estimator.get_params()
    check(estimator)
    assert estimator.get_params() == before


class Forgetful(SparseProbe):
    """Breaks the contract: a parameter is changed by fitting."""

    def fit(self, X: Any, y: Any) -> Forgetful:
        super().fit(X, y)
        self.k = 1
        return self


def test_a_breach_of_the_contract_would_be_seen() -> None:
    """The control of the test above, and that the battery is a battery."""
    told = check_estimator(Forgetful(k=3), on_skip=None, on_fail=None)
    failed = {one["check_name"] for one in told if one["status"] == "failed"}
    assert "check_estimators_overwrite_params" in failed
    assert len(told) > 40


def planted(n_tokens: int = 3_000, n_neurons: int = 40, share: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """A label read by neurons 3, 11 and 29 in that order of strength, among neurons of very different scales."""
    rng = np.random.default_rng(0)
    y = rng.random(n_tokens) < share
    x = rng.standard_normal((n_tokens, n_neurons))
    x[:, 3] += 3 * y
    x[:, 11] -= 2 * y
    x[:, 29] += 1.2 * y
    return x * np.exp(rng.normal(0, 3, n_neurons)) + 5, y


def test_the_planted_neurons_are_found() -> None:
    x, y = planted()
    probe = SparseProbe(k=3).fit(x, y)
    assert probe.neurons_.tolist() == [3, 11, 29]
    np.testing.assert_array_equal(np.flatnonzero(probe.coef_), [3, 11, 29])
    assert np.sign(probe.coef_[0, [3, 11, 29]]).tolist() == [1, -1, 1]
    assert balanced_accuracy_score(y, probe.predict(x)) > 0.95
    # positive control of the last line: without the signal nothing is better than chance on fresh tokens
    shuffled = np.random.default_rng(1).permutation(y)
    chance = cross_val_score(SparseProbe(k=3), x, shuffled, scoring="balanced_accuracy").mean()
    assert abs(chance - 0.5) < 0.1  # 300 positives: sd 0.03


def test_supports_are_nested_and_k_is_clipped() -> None:
    x, y = planted(n_neurons=30)
    paths = [SparseProbe(k=k).fit(x, y).neurons_.tolist() for k in (1, 4, 30, 1_000)]
    assert paths[0] == paths[1][:1]
    assert paths[1] == paths[2][:4]
    assert paths[2] == paths[3]
    assert sorted(paths[3]) == list(range(30))


def test_rare_positives_are_not_crushed() -> None:
    """The refit is balanced: an unbalanced one calls nearly all rare positives negative."""
    rng = np.random.default_rng(3)
    y = rng.random(20_000) < 0.01
    x = rng.standard_normal((20_000, 8))
    x[:, 0] += 1.5 * y
    found = SparseProbe(k=1).fit(x, y).predict(x)[y].mean()
    unbalanced = LogisticRegression().fit(x[:, :1], y).predict(x[:, :1])[y].mean()
    # Φ(1.5 / 2) = 0.77 of the positives lie on the right side of the middle; 200 of them: sd 0.03
    assert found == pytest.approx(0.77, abs=0.1)
    assert unbalanced < 0.05


def test_the_refit_is_logistic_regression_on_the_support() -> None:
    x, y = planted()
    probe = SparseProbe(k=5).fit(x, y)
    units = (x - x.mean(0)) / x.std(0)
    oracle = LogisticRegression(class_weight="balanced", max_iter=1_000).fit(units[:, probe.neurons_], y)
    # the same optimiser on the same problem; what differs is the order of the sums
    np.testing.assert_allclose(
        probe.decision_function(x), oracle.decision_function(units[:, probe.neurons_]), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(
        probe.predict_proba(x), oracle.predict_proba(units[:, probe.neurons_]), atol=1e-9
    )


def test_a_feature_s_unit_does_not_matter() -> None:
    x, y = planted()
    scale = np.exp2(np.arange(x.shape[1]) % 7 - 3)  # powers of two: exact in floating point
    a, b = SparseProbe(k=6).fit(x, y), SparseProbe(k=6).fit(x * scale, y)
    assert a.neurons_.tolist() == b.neurons_.tolist()
    np.testing.assert_allclose(a.coef_, b.coef_ * scale, rtol=1e-9)


def test_selection_is_greedy_on_residuals() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((500, 12)) @ rng.standard_normal((12, 12))
    y = (x[:, 2] + x[:, 7] + rng.standard_normal(500) > 1).astype(float)
    x, y = x - x.mean(0), y - y.mean()
    chosen: list[int] = []
    for neuron in forward_targets(x.T @ x, (x.T @ y)[None], 6)[0].tolist():
        residual = [
            np.inf if i in chosen else np.linalg.lstsq(x[:, [*chosen, i]], y)[1][0] for i in range(12)
        ]
        assert neuron == int(np.argmin(residual))
        chosen.append(neuron)


def test_constant_features_are_never_used() -> None:
    x, y = planted(n_neurons=30)
    x[:, 5] = 0.0
    x[:, 6] = 0.1
    probe = SparseProbe(k=30).fit(x, y)
    assert len(probe.neurons_) == 28
    assert not np.isin([5, 6], probe.neurons_).any()
    nothing = SparseProbe().fit(np.ones((10, 3)), np.arange(10) % 2)
    assert len(nothing.neurons_) == 0
    np.testing.assert_array_equal(nothing.predict_proba(np.ones((2, 3))), 0.5)


def test_torch_and_numpy_alike() -> None:
    x, y = planted()
    a = SparseProbe(k=4).fit(x, y)
    b = SparseProbe(k=4).fit(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_array_equal(a.coef_, b.coef_)
    np.testing.assert_array_equal(a.predict(x), b.predict(torch.from_numpy(x)))


def test_errors_and_public_name() -> None:
    x, y = planted(200)
    assert pk.SparseProbe is SparseProbe
    assert SparseProbe(k=7).get_params() == {"k": 7}
    for k in (0, 2.5, None):
        with pytest.raises(InputError, match=f"got k={k}; wanted a whole number of at least 1"):
            SparseProbe(k=k).fit(x, y)
    with pytest.raises(InputError, match="Only binary classification is supported"):
        SparseProbe().fit(x, np.arange(200) % 3)
    with pytest.raises(DegenerateError, match="one class only"):
        SparseProbe().fit(x, np.ones(200))


class TestMoreFeaturesThanTokens:
    """From the rows themselves: a Gram matrix of 65,536 features would take 32 GiB."""

    @pytest.mark.parametrize("seed", range(6))
    def test_both_paths_are_one_path(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        n_tokens, n_neurons = int(rng.integers(40, 400)), int(rng.integers(10, 300))
        x = rng.standard_normal((n_tokens, n_neurons)) @ rng.standard_normal((n_neurons, n_neurons))
        x[:, ::7] = np.maximum(x[:, ::7], 0)
        y = (x[:, 2] - x[:, 7] + x.std() * rng.standard_normal(n_tokens) > 0).astype(float)
        x, y = (x - x.mean(0)) / x.std(0), y - y.mean()
        k = min(12, n_tokens // 4)
        assert forward_rows(x, y, k).tolist() == forward_targets(x.T @ x, (x.T @ y)[None], k)[0].tolist()

    def test_copies_of_a_neuron_are_taken_once_and_the_first_of_them(self) -> None:
        rng = np.random.default_rng(1)
        y = np.repeat([0.0, 1.0], 60) - 0.5
        signal, other = y + 0.3 * rng.standard_normal(120), rng.standard_normal(120)
        x = np.stack([other, *[signal] * 3, other, *[2 * signal] * 2], 1)
        x -= x.mean(0)
        x /= x.std(0)
        assert forward_rows(x, y, 7).tolist() == [1, 0]
        paths = forward_targets(x.T @ x, (x.T @ y)[None], 7)[0]
        assert paths[paths >= 0].tolist() == [1, 0]

    def test_it_stops_when_nothing_is_left_to_explain(self) -> None:
        rng = np.random.default_rng(2)
        x = rng.standard_normal((20, 50))
        x -= x.mean(0)
        target = x[:, 4] - x[:, 4].mean()
        assert forward_rows(x, target, 10).tolist() == [4]
        noisy = rng.standard_normal(20)
        chosen = forward_rows(x, noisy - noisy.mean(), 50)
        assert len(set(chosen.tolist())) == len(chosen) == 19, "as many as there are degrees of freedom"

    def test_the_probe_is_the_same_on_either_side_of_the_switch(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x, y = planted(n_tokens=90, n_neurons=200, share=0.4)
        wide = SparseProbe(k=4).fit(x, y)

        def by_gram(rows: np.ndarray, target: np.ndarray, k: int) -> np.ndarray:
            return forward_targets(rows.T @ rows, (rows.T @ target)[None], k)[0]

        monkeypatch.setattr("probekit.probes.estimator.forward_rows", by_gram)
        narrow = SparseProbe(k=4).fit(x, y)
        assert wide.neurons_.tolist() == narrow.neurons_.tolist()
        np.testing.assert_array_equal(wide.coef_, narrow.coef_)

    def test_a_dictionary_of_65_536_latents_within_a_gigabyte(self) -> None:
        rng = np.random.default_rng(3)
        x = rng.standard_normal((500, 65_536), np.float32)
        y = rng.random(500) < 0.3
        x[:, 40_000] += 2 * y
        tracemalloc.start()
        try:
            probe = SparseProbe(k=1).fit(x, y)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert probe.neurons_.tolist() == [40_000]
        # the rows in fp64 as they are and once more in units of their deviation: 2 × 262 MB, and room for a temporary
        assert peak < 1.0e9


def test_a_truth_value_is_no_number_of_features() -> None:
    x, y = planted()
    with pytest.raises(InputError, match="got k=True; wanted a whole number"):
        SparseProbe(k=True).fit(x, y)
