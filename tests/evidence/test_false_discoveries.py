"""The reduced form of analyses/false_discoveries.py: few false finds on plants, traps and twins, most true ones found."""

from __future__ import annotations

import numpy as np
import pytest
from false_discoveries import READERS, Found, Q, Size, found_on

pytestmark = pytest.mark.sweep  # a minute and more
SMALL = Size(n_neurons=96, n_concepts=18, n_pairs=6, n_tokens=8_000, n_twins=12)
KINDS = (
    "plant, background 0.15",
    "avoids loud directions",
    READERS,
    "twin of a plant",
    "plant, background 0.45",
)


@pytest.fixture(scope="module")
def found() -> list[Found]:
    return [found_on(kind, seed, SMALL) for seed, kind in enumerate(KINDS, 20)]


def test_false_finds_are_few_and_true_ones_many(found: list[Found]) -> None:
    for control in ("bh", "by", "storey"):
        shares = [one.false_share("computed", control) for one in found]
        # the mean share is at most q; three standard errors of five shares of which q are 1
        assert np.mean(shares) <= Q + 3 * np.sqrt(Q * (1 - Q) / len(shares))
    # pair by pair: 600 null pairs, of which a procedure that kept q of its finds false would flag hardly one
    assert sum(one.count("computed", "bh", 2) for one in found) <= 3
    plants = [one for one in found if one.kind.startswith("plant")]
    n_designated = sum(int((one.of == 0).sum()) for one in plants)
    assert n_designated == 2 * SMALL.n_pairs
    assert sum(one.count("computed", "bh", 0) for one in plants) >= 0.6 * n_designated


def test_a_naive_count_is_nearly_all_false(found: list[Found]) -> None:
    # the control: the same layers, the same pairs, κ over its own error
    traps = [one for one in found if not one.kind.startswith("plant")]
    assert np.mean([one.false_share("raw", "bh") for one in traps]) > 0.9
    assert sum(one.count("raw", "bh", 2) for one in traps) > 0.8 * sum(len(one.of) for one in traps)
    # and the readers of single concepts are a trap for twins alone
    readers = next(one for one in found if one.kind == READERS)
    assert readers.count("above twins", "bh", 2) > 0
    assert readers.count("computed", "bh", 2) == 0
