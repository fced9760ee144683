"""A readout that promotes a token is told from random ones; one that is random is not."""

from __future__ import annotations

import numpy as np

from probekit.evidence.writes import promoted


def test_a_promoted_token_is_named_and_surprising() -> None:
    rng = np.random.default_rng(0)
    random = rng.standard_normal((199, 500)) + 3
    own = rng.standard_normal(500)
    own[17], own[40] = 9, -9
    found = promoted(own, random, 3)
    assert found.up[0] == 17
    assert found.down[0] == 40
    assert found.p_up == found.p_down == 1 / 200
    assert found.z[17] > 6
    assert abs(found.size_random - 1) < 0.01


def test_random_readouts_are_not() -> None:
    rng = np.random.default_rng(1)
    p = [promoted(*_drawn(rng), 1).p_up for _ in range(200)]
    # uniform on (0, 1]: 10 ± 3 of 200 at or below 0.05
    assert sum(value <= 0.05 for value in p) <= 20
    assert 0.4 < np.mean(p) < 0.6


def _drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows = rng.standard_normal((100, 300))
    return rows[0], rows[1:]
