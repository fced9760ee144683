"""Running sums taken up again are the sums that would have been; what a run's seed decides; what a write does to a disk."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probekit.analysis.design import HalfPlan, StudyDesign, is_fit
from probekit.analysis.settings import Settings
from probekit.analysis.sites import Layer, Site
from probekit.evidence.contrast import ConfirmPlan, ConfirmSums, NeuronSums
from probekit.evidence.pair_sampling import PairSampling
from probekit.model.weights import MlpWeights
from probekit.probes.lists import token_lists
from probekit.probes.moments import Moments
from probekit.probes.pairs import LabelColumns, TokenSample, all_pairs, sample_tokens, splitmix64
from probekit.probes.refit import BalancedMoments, Readouts
from probekit.storage import store
from probekit.storage.checkpoint import begun_window
from probekit.storage.shards import STAGES

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
from disks import CountingDisk

N, M, WIDTH, CUT = 600, 4, 20, 256
RNG = np.random.default_rng(8)
LABELS = RNG.random((N, M)) < 0.4
ROWS = RNG.standard_normal((N, WIDTH)).astype(np.float32)
DOC = np.arange(N) // 3


def sampled() -> TokenSample:
    columns = LabelColumns.from_dense(LABELS)
    return sample_tokens(columns, all_pairs(M), DOC, splitmix64(np.arange(N, dtype=np.uint64)))


SAMPLE = sampled()
PLAN = ConfirmPlan.of(SAMPLE, DOC % 64)
SUPPORT = np.stack([RNG.permutation(WIDTH)[:5] for _ in all_pairs(M)]).astype(np.int32)
READOUTS = Readouts(SUPPORT, RNG.standard_normal(SUPPORT.shape) * 0.2, np.zeros(len(SUPPORT)))


def add_moments(m: Moments, start: int, stop: int) -> None:
    lists = token_lists(LabelColumns.from_dense(LABELS[start:stop]), m.pairs, DOC[start:stop] % 2, 2)
    m.add_tile(torch.from_numpy(ROWS[start:stop]), lists)


def add_sampled(stream: Any, start: int, stop: int) -> None:
    low, high = SAMPLE.between(start, stop)
    columns = np.ascontiguousarray(ROWS[start:stop].T)
    if isinstance(stream, ConfirmSums):
        stream.add_tile(columns, start, low, high, np.empty(len(SAMPLE.token), np.float32))
    else:
        stream.add_tile(columns, start, low, high)


STREAMS: dict[str, tuple[Callable[[], Any], Callable[[Any, int, int], None]]] = {
    "moments": (lambda: Moments(WIDTH, M, n_folds=2), add_moments),
    "refit": (lambda: BalancedMoments(SUPPORT, torch.zeros(WIDTH), SAMPLE), add_sampled),
    "confirm": (lambda: ConfirmSums(PLAN, READOUTS, keeps_values=True), add_sampled),
    "neurons": (lambda: NeuronSums(PLAN, SUPPORT), add_sampled),
}


@pytest.mark.parametrize("name", STREAMS)
def test_sums_taken_up_again_are_the_sums_that_would_have_been(name: str):
    make, add = STREAMS[name]
    whole, first, second = make(), make(), make()
    add(whole, 0, CUT)
    add(whole, CUT, N)
    add(first, 0, CUT)
    second.restore({name: values.copy() for name, values in first.state().items()})
    add(second, CUT, N)
    ended = whole.state()
    assert set(second.state()) == set(ended)
    for part, values in ended.items():
        assert np.abs(values).max() > 0, f"{part} is never used, so nothing is tested"
        assert second.state()[part].tobytes() == values.tobytes(), part
    # nothing that is summed was forgotten in what is kept
    for attribute, values in vars(whole).items():
        if isinstance(values, np.ndarray):
            assert getattr(second, attribute).tobytes() == values.tobytes(), attribute
    # the control: what was kept matters
    only_second = make()
    if name != "moments":
        add(only_second, CUT, N)
        assert any(v.tobytes() != ended[part].tobytes() for part, v in only_second.state().items())


def layer(seed: int) -> Layer:
    columns = LabelColumns.from_dense(LABELS)
    half = HalfPlan("fit", columns, splitmix64(DOC.astype(np.uint64)), np.unique(DOC), np.arange(N), SAMPLE)
    pairs = all_pairs(M)
    design = StudyDesign(
        Settings(twins=4, seed=seed, spikes=()), pairs, half, half, len(pairs), {}, (), np.ones(len(pairs)), None,
        PairSampling(), np.arange(M),
    )  # fmt: skip
    weights = MlpWeights(torch.ones(WIDTH, 7), torch.zeros(WIDTH))
    return Layer(2, weights, has_inputs=True, design=design)


def test_bytes_are_known_without_asking_an_accelerator(monkeypatch: pytest.MonkeyPatch):
    moments = Moments(WIDTH, M, n_folds=2)
    add_moments(moments, 0, CUT)
    n_bytes = sum(values.nbytes for values in moments.state().values())

    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("the sums were brought over")

    monkeypatch.setattr(Moments, "_fetch", fetched)
    assert Site((), moments=moments).n_bytes() == n_bytes
    with pytest.raises(AssertionError, match="the sums were brought over"):
        moments.state()


def test_the_seed_draws_the_twins_and_deals_the_documents():
    sample = torch.from_numpy(ROWS[:, :7].copy())
    drawn = [layer(seed).calibrate(sample) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0]["signs"], drawn[1]["signs"])
    assert not np.array_equal(drawn[0]["signs"], drawn[2]["signs"])
    assert not np.array_equal(drawn[0]["isotropic/rows"], drawn[2]["isotropic/rows"])
    keys = splitmix64(np.arange(400, dtype=np.uint64))
    assert (is_fit(keys, 0) != is_fit(keys, 1)).mean() == pytest.approx(0.5, abs=0.1)


def test_twins_taken_over_are_the_twins_that_were_drawn():
    sample = torch.from_numpy(ROWS[:, :7].copy())
    drawn, again = layer(0), layer(0)
    again.load_calibrated(drawn.calibrate(sample))
    neurons = torch.from_numpy(ROWS)
    labels = LabelColumns.from_dense(LABELS)
    both = (layer.rows(sample, neurons, labels) for layer in (drawn, again))
    for (name, rows), (_, taken) in zip(*both, strict=True):
        assert rows.numpy().tobytes() == taken.numpy().tobytes(), name
    both = (layer.columns(sample, neurons, labels, dense=True) for layer in (drawn, again))
    for (name, columns, _), (_, taken, _) in zip(*both, strict=True):
        assert columns.numpy().tobytes() == taken.numpy().tobytes(), name


def test_a_write_goes_to_the_device_before_it_gets_its_name(tmp_path: Path):
    """bytes, flush, name, flush of the folder; a new folder is flushed into the one above it first."""
    counting = CountingDisk()
    with store.on(counting):
        store.write_bytes(tmp_path / "new" / "f", b"12345678")
    assert counting.names == [
        "make_folder", "sync_folder", "create", "write", "half written", "sync", "replace", "sync_folder",
    ]  # fmt: skip


def test_a_folder_loses_its_name_before_its_files(tmp_path: Path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x")
    counting = CountingDisk()
    with store.on(counting):
        store.remove_tree(tmp_path / "d")
    assert counting.names == ["replace", "sync_folder", "unlink", "remove_folder"]
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_finds_the_group_it_had_begun(tmp_path: Path) -> None:
    layers = [0, 2, 4, 6, 8]
    assert begun_window(tmp_path, 2, layers) == []
    (tmp_path / STAGES / "layers-002-006.supports").mkdir(parents=True)
    (tmp_path / STAGES / "layers-002-006.readouts.at-000000004096").mkdir()
    (tmp_path / STAGES / "layers-none.supports").mkdir()
    assert begun_window(tmp_path, 4, layers) == [2, 4, 6]
    assert begun_window(tmp_path, 8, layers) == []
