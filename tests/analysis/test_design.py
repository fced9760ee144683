"""The word for a kind of pair says whether two concepts are of one token, of one position, or apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from probekit.analysis.design import pair_kinds
from probekit.evidence.pair_sampling import PairSampling


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        (("token", 0, True), ("class", 0, True), "class × token, same token"),
        (("class", 1, True), ("class", 1, True), "class × class, same token"),
        (("user", 0, True), ("class", 0, True), "class × user, same token"),
        (("token", 0, True), ("class", 1, True), "class × token, lag 1"),
        (("next", -1, True), ("token", 1, True), "next × token, lag 2"),
        (("token", 0, True), ("context", 0, False), "context × token, same position"),
        (("document", 0, False), ("context", 0, False), "context × document, same position"),
        (("user", 0, False), ("user", 0, False), "user × user, same position"),
    ],
)
def test_kinds_of_pair(a, b, wanted: str) -> None:
    for (kind, lag, alone), (kind_b, lag_b, alone_b) in itertools.permutations((a, b)):
        got = pair_kinds([kind, kind_b], [lag, lag_b], np.array([[0, 1]]), [alone, alone_b])
        assert got == [wanted]
        # a user's list of kinds finds it, with and without what stands after the comma
        assert PairSampling.of(wanted).within(got).all()
        assert PairSampling.of(wanted.partition(",")[0]).within(got).all()


def test_concepts_of_which_nothing_is_known_are_of_one_position() -> None:
    assert pair_kinds(["token", "class"], [0, 0], np.array([[0, 1]])) == ["class × token, same position"]
