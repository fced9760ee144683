"""The battery for probes: good ones pass it, and each kind of defect is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probekit.errors import InputError
from probekit.probes.estimator import SparseProbe
from probekit.testing import CHECKS, ProbeCheckError, check_probe

THREE = "three classes are refused"
RARE = "a signal stays when positives are rare"


def test_there_are_forty_checks():
    assert len(CHECKS) >= 40


@pytest.mark.parametrize("k", [3, 16])
def test_ours_passes_all_of_it(k: int):
    assert check_probe(SparseProbe(k=k)) == list(CHECKS)


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_a_logistic_regression_in_standard_units_passes(penalty: float):
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=penalty, class_weight="balanced", tol=1e-8, max_iter=2_000)
    )
    assert len(check_probe(probe, without=[THREE, RARE, "every token twice is the same"])) == len(CHECKS) - 3


class Broken(SparseProbe):
    """A probe with one defect."""

    def __init__(self, k: Any = 16, defect: str = "") -> None:
        super().__init__(k)
        self.defect = defect

    def fit(self, X: Any, y: Any) -> Broken:
        rows = X
        match self.defect:
            case "global generator":
                rows = X + 1e-9 * np.random.standard_normal(X.shape)  # noqa: NPY002
            case "in place":
                rows -= X.mean(0)
            case "NaN is silence":
                rows = np.nan_to_num(X, posinf=0.0, neginf=0.0)
            case "first half only":
                rows, y = X[: len(X) // 2], y[: len(y) // 2]
            case "one class is fine" if len(np.unique(y)) == 1:
                y = np.arange(len(y)) % 2
            case _:
                pass
        super().fit(rows, y)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        scores = super().decision_function(X)
        match self.defect:
            case "batch dependent":
                return scores - scores.mean()
            case "sign":
                return -scores
            case "extra axis":
                return scores[:, None]
            case _:
                return scores


@pytest.mark.parametrize(
    ("defect", "found"),
    [
        ("global generator", "fit draws nothing from numpy's global generator"),
        ("in place", "fit leaves the activations as they were"),
        ("NaN is silence", "NaN is refused"),
        ("first half only", "another number of labels is refused|the order of the tokens does not matter"),
        ("one class is fine", "one class is refused"),
        ("batch dependent", "a token alone scores the same"),
        ("sign", "a signal that is there is found"),
        ("extra axis", "one score a token"),
    ],
)
def test_a_defect_is_found(defect: str, found: str):
    with pytest.raises(ProbeCheckError, match=found):
        check_probe(Broken(defect=defect))


def test_the_broken_probe_is_sound_without_its_defect():
    check_probe(Broken())


def test_what_is_no_probe_and_no_check():
    with pytest.raises(InputError, match="got a int without fit, decision_function, predict"):
        check_probe(3)
    with pytest.raises(InputError, match="'gravity' is no check"):
        check_probe(SparseProbe(), without=["gravity"])
