"""The accelerator's code, run on the processor: the same sums and supports up to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probekit.probes.device import DeviceSums, full_precision, list_sums, paths_on
from probekit.probes.lists import token_lists
from probekit.probes.moments import Moments, fold_of
from probekit.probes.pairs import LabelColumns
from probekit.probes.select import forward_select
from probekit.probes.tiles import TILE

HERE = torch.device("cpu")


def streamed(planted, n_folds: int, *, there: bool) -> Moments:
    """Moments of whole tiles, by the processor's code or by the accelerator's."""
    moments = Moments(24, 6, n_folds=n_folds)
    sums = DeviceSums(moments._gram, moments._total, moments._sums, HERE)
    if there:
        moments._add_here = sums.add
    for start in range(0, len(planted.x), TILE):
        part = slice(start, start + TILE)
        fold = fold_of(planted.docs[part], n_folds)
        lists = token_lists(LabelColumns.from_dense(planted.labels[part]), moments.pairs, fold, n_folds)
        moments.add_tile(torch.from_numpy(planted.x[part]), lists)
    if there:
        moments._there = sums
    return moments


@pytest.mark.parametrize("n_folds", [1, 3])
def test_sums_are_those_of_the_processor(planted, n_folds: int) -> None:
    here, there = (streamed(planted, n_folds, there=there) for there in (False, True))
    one, two = here.finalize(), there.finalize()
    assert there.device == HERE
    for name in ("mean", "gram", "concept_sums", "pair_sums"):
        expected = getattr(one, name)
        # fp32 sums of a tile in another order: some 4,096 terms of order 1 about the shift
        np.testing.assert_allclose(getattr(two, name), expected, atol=2e-6 * np.abs(expected).max())
    np.testing.assert_array_equal(one.n_pair, two.n_pair)
    np.testing.assert_array_equal(here.n_tokens_of_folds, there.n_tokens_of_folds)
    np.testing.assert_array_equal(forward_select(one, 8), forward_select(two, 8))
    # what was brought over is a copy: asked again, the sums are the same
    np.testing.assert_array_equal(there.finalize().pair_sums, two.pair_sums)


def test_what_was_summed_there_can_be_kept_and_gone_on_with(planted) -> None:
    whole = streamed(planted, 2, there=True)
    kept = {name: values.copy() for name, values in whole.state().items()}
    again = Moments(24, 6, n_folds=2)
    again.restore(kept)
    assert again.device == HERE
    for name, values in again.state().items():
        assert values.tobytes() == kept[name].tobytes(), name
    assert np.abs(kept["gram"]).max() > 0


def test_list_sums_are_plain_sums() -> None:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.standard_normal((50, 7)).astype(np.float32))
    ptr, tokens = np.array([0, 3, 3, 8]), np.array([4, 9, 49, 0, 7, 8, 9, 30], np.int32)
    expected = [rows.numpy()[tokens[a:b]].sum(0) for a, b in ((0, 3), (3, 3), (3, 8))]
    np.testing.assert_allclose(list_sums(rows, ptr, tokens).numpy(), np.stack(expected), atol=1e-5)


@pytest.mark.parametrize("additive", [True, False])
def test_paths_are_those_of_the_compiled_kernel(
    planted, additive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead and repeated neurons, paths longer than there are neurons, and blocks of a few pairs."""
    from probekit.probes import device, select

    x = planted.x.copy()
    x[:, 20], x[:, 23] = 0.0, x[:, 0]
    moments = Moments(24, 6)
    moments.update(x, planted.labels, planted.docs)
    frozen = moments.finalize()
    monkeypatch.setattr(device, "BLOCK_BYTES", 4 * 24 * 40 * 4)
    monkeypatch.setattr(select, "_paths", lambda *given: paths_on(HERE, *given))
    there = forward_select(frozen, 40, additive=additive)
    monkeypatch.undo()
    here = forward_select(frozen, 40, additive=additive)
    assert there.shape == here.shape == (15, 24)
    assert (there[:, -2:] == -1).all()
    np.testing.assert_array_equal(there[:, :16], here[:, :16])


def test_both_ways_pass_over_the_same_neurons() -> None:
    from probekit.probes import device, select

    assert device.COLLINEAR == select.COLLINEAR


def test_reduced_precision_is_off_while_sums_are_taken() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
