"""Groups are as large as the memory allows, and activations are kept only where that spares forwards."""

from __future__ import annotations

import pytest

from probekit.analysis.grouping import Grouping, fitted, n_forwarded

N_FIT, N_CONFIRM = 60_000, 40_000


LAYERS = list(range(12))


@pytest.mark.parametrize(("n_bytes", "wanted"), [
    (1, Grouping(1, False, 100)),  # less than one layer takes: one at a time
    (399, Grouping(3, False, 300)),  # no layer's activations beside its sums
    (400, Grouping(4, False, 400)),  # 12 readings up to each layer are more than three times 2.5
    (1_200, Grouping(12, False, 1_200)),  # all sums at once: 2.1 readings, where groups of three would be 30 blocks of 1
    (3_700, Grouping(12, True, 3_700)),  # everything fits
])  # fmt: skip
def test_what_forwards_least_is_chosen(n_bytes: int, wanted: Grouping) -> None:
    """Twelve layers, each with sums of 100 bytes and activations of 300."""
    assert fitted(LAYERS, (N_FIT, N_CONFIRM), 100, 300, float(n_bytes)) == wanted


def test_nothing_is_kept_where_that_spares_no_forward() -> None:
    assert fitted(LAYERS, (N_FIT, N_CONFIRM), 100, None, 1e9) == Grouping(12, False, 1_200)


def test_forwards_are_counted_to_the_last_layer_of_each_group() -> None:
    halves = (N_FIT, N_CONFIRM)
    once = N_FIT + N_CONFIRM
    assert n_forwarded(LAYERS, halves, Grouping(12, True, 0)) == 12 * once
    assert n_forwarded(LAYERS, halves, Grouping(4, True, 0)) == (4 + 8 + 12) * once
    # not kept: the fit half again for its second pass, and its first 50,000 tokens for the calibration
    assert n_forwarded(LAYERS, halves, Grouping(12, False, 0)) == 12 * (once + N_FIT + 50_000)
    assert n_forwarded([3, 15], halves, Grouping(1, True, 0)) == (4 + 16) * once


def test_memory_that_runs_out_gives_smaller_groups_down_to_one() -> None:
    groups, seen = Grouping(5, True, 1), []
    while groups is not None:
        seen.append((groups.n_layers, groups.keeps))
        groups = groups.halved()
    assert seen == [(5, True), (3, True), (2, True), (1, True), (1, False)]
