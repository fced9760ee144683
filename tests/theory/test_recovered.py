"""The information in a set of finds, counted out on small universes, and the counting bound that follows."""

from __future__ import annotations

import itertools
from math import comb, log2

import numpy as np
import pytest

from probekit.errors import InputError
from probekit.theory.recovered import description_bits, recovered_bits


@pytest.mark.parametrize(("universe", "planted"), [(6, 2), (7, 3), (8, 4)])
def test_it_counts_the_sets_that_agree(universe: int, planted: int) -> None:
    every = [set(chosen) for chosen in itertools.combinations(range(universe), planted)]
    for n_found in range(universe + 1):
        found = set(range(n_found))
        for hit in range(planted + 1):
            agreeing = sum(len(chosen & found) == hit for chosen in every)
            if not agreeing:
                continue
            told = recovered_bits(universe, planted, n_found, hit)
            assert told == pytest.approx(log2(len(every) / agreeing), abs=1e-9)


def test_all_found_exactly_tells_all_and_everything_found_tells_nothing() -> None:
    assert recovered_bits(276, 12, 12, 12) == pytest.approx(log2(comb(276, 12)), rel=1e-12)
    assert recovered_bits(276, 12, 276, 12) == pytest.approx(0.0, abs=1e-9)
    assert recovered_bits(276, 12, 0, 0) == pytest.approx(0.0, abs=1e-9)


def test_no_code_beats_its_length() -> None:
    """The best decoder of 4 bits: over all planted sets at most 2^(4 − k) of them are told 4 + k bits or more.

    The code here is as good as can be: 16 messages, each decoded to a fixed set of finds, and every planted set is sent
    by the message that tells most about it.
    """
    universe, planted, bits = 8, 3, 4
    rng = np.random.default_rng(0)
    every = [set(chosen) for chosen in itertools.combinations(range(universe), planted)]
    messages = [set(rng.choice(universe, 3, replace=False).tolist()) for _ in range(2**bits)]
    told = np.array(
        [max(recovered_bits(universe, planted, len(f), len(s & f)) for f in messages) for s in every]
    )
    for k in (0.5, 1, 1.5):
        # one factor for the h that may be reported: finds and hits together are the message
        assert (told >= bits + k).mean() <= 2.0**-k
    assert told.max() == pytest.approx(log2(comb(universe, planted)))


def test_description() -> None:
    assert description_bits(8, 0, 16) == 0.0
    assert description_bits(8, 8, 2) == 16.0
    assert description_bits(8, 3, 1) == pytest.approx(log2(comb(8, 3)) + 3)


def test_impossible_counts() -> None:
    with pytest.raises(InputError, match="n_hit"):
        recovered_bits(10, 3, 2, 3)
    with pytest.raises(InputError, match="with 9 of 10 found at least 2 of 3 are hit"):
        recovered_bits(10, 3, 9, 1)
