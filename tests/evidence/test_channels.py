"""Channel scores agree with a measured excess that they caused, no better than twins with one they did not."""

from __future__ import annotations

import numpy as np
import pytest

from probekit.errors import DegenerateError
from probekit.evidence.channels import LEAST_PAIRS, agreement

RNG = np.random.default_rng(0)
SCORES, TWINS = RNG.standard_normal(200), RNG.standard_normal((19, 200))


def test_an_excess_that_follows_the_scores_is_found_and_another_is_not() -> None:
    planted = agreement(SCORES, TWINS, SCORES + 0.5 * RNG.standard_normal(200))
    assert planted.p_correlation == planted.p_overlap == 1 / 20
    assert planted.top == 20
    assert planted.overlap > planted.twin_overlap[2]
    none = agreement(SCORES, TWINS, RNG.standard_normal(200), top=30)
    assert none.p_correlation > 0.05
    assert none.top == 30


def test_too_few_pairs_are_refused() -> None:
    few = np.where(np.arange(200) < LEAST_PAIRS - 1, SCORES, np.nan)
    with pytest.raises(DegenerateError, match=f"agreement: got {LEAST_PAIRS - 1} pairs with both numbers"):
        agreement(SCORES, TWINS, few)
