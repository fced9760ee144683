"""Sites measured apart are the sites measured together; Ray gives the same tables, also when workers die."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

import probekit as pk
from probekit.analysis import backends, cluster, passes
from probekit.analysis.design import LabelledTokens
from probekit.analysis.design import plan as plan_pairs
from probekit.analysis.inputs import doc_keys
from probekit.analysis.passes import assemble, calibrate_layer, measure_layers, measure_sites
from probekit.analysis.reading import Reading
from probekit.analysis.settings import Settings
from probekit.analysis.source import ArraySource, ModelSource
from probekit.errors import ConfigError, InputError, NonFiniteError
from probekit.model import harvest
from probekit.probes.tiles import retile
from probekit.testing.synthetic import make_scene, plan, random_layer

OPTIONS: dict[str, Any] = {
    "layers": [1], "max_tokens": 8_000, "min_support": 20, "max_pairs": 20, "twins": 4, "controls": ("isotropic", "shuffle"),
}  # fmt: skip


def require_same(one: Any, two: Any, where: str = "") -> int:
    """Demand equal bits all the way down; returns how many arrays were compared."""
    if isinstance(one, np.ndarray):
        assert one.dtype == two.dtype, where
        assert one.tobytes() == two.tobytes(), where
        return 1
    if isinstance(one, dict):
        assert list(one) == list(two), where
        return sum(require_same(one[key], two[key], f"{where}/{key}") for key in one)
    if isinstance(one, list | tuple):
        assert len(one) == len(two), where
        return sum(require_same(a, b, f"{where}/{i}") for i, (a, b) in enumerate(zip(one, two, strict=True)))
    if hasattr(one, "__dataclass_fields__"):
        names = [field.name for field in fields(one)]
        return sum(require_same(getattr(one, n), getattr(two, n), f"{where}.{n}") for n in names)
    assert one == two, where
    return 0


def test_sites_measured_apart_are_the_sites_measured_together() -> None:
    """The theorem the engine stands on: whoever else goes along, a site's bits are the same."""
    scene = make_scene(0, n_tokens=6_000, n_concepts=8, n_active=2)
    weights = random_layer(0, 48, 8)
    design = plan(scene, Settings(twins=4, min_support=20, controls=("isotropic", "shuffle"), spikes=(1.0,)))
    source = ArraySource(weights.neurons(scene.inputs), scene.inputs, weights, design.rows)
    whole = next(measure_layers(source, [0], design))
    drawn = calibrate_layer(source, 0, design)
    names = backends._names(source, 0, design)
    assert {"neurons", "input", "pre", "twin:3", "isotropic:0", "shuffle:2", "spike:1"} <= set(names)
    apart: dict[str, Any] = {}
    for share in backends._shares({0: names}, 5)[0]:
        assert len(share) < len(names)
        apart |= measure_sites(source, 0, share, design, drawn)
    put_together = assemble(0, {name: apart[name] for name in names}, drawn["overlap"])
    assert require_same(whole, put_together) > 100
    # positive control: other twins are told apart
    other = dict(drawn, signs=-drawn["signs"][::-1])
    swapped = measure_sites(source, 0, ["twin:0"], design, other)["twin:0"]
    with pytest.raises(AssertionError):
        require_same(apart["twin:0"], swapped)


def test_nothing_of_a_tile_is_used_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tile's memory is used again: whoever kept a view of it would read the next one."""
    scene = make_scene(2, n_tokens=10_000, n_concepts=8, n_active=2)
    weights = random_layer(2, 24, 8)
    design = plan(scene, Settings(twins=4, min_support=20, controls=("isotropic", "shuffle"), spikes=(1.0,)))
    source = ArraySource(weights.neurons(scene.inputs), scene.inputs, weights, design.rows)
    whole = next(measure_layers(source, [0], design))
    too_early = False

    def spoil(tile: tuple[torch.Tensor, ...]) -> None:
        for part in tile:
            part.fill_(torch.nan)

    def poisoned(blocks: Iterable[tuple[torch.Tensor, ...]], n_tokens: int):
        for start, tile in retile(blocks, n_tokens):
            if too_early:
                spoil(tile)
            yield start, tile
            spoil(tile)

    monkeypatch.setattr(passes, "retile", poisoned)
    assert require_same(whole, next(measure_layers(source, [0], design))) > 100
    # the control: what is read after its memory is gone is seen
    too_early = True
    with pytest.raises(NonFiniteError, match=r"layer 0, neurons: .* values are NaN or infinite"):
        next(measure_layers(source, [0], design))


def test_where_arrays_lie_in_memory_does_not_matter() -> None:
    """What a retried task gets lies elsewhere; the last bits of a product may follow the place of its factors."""
    scene = make_scene(1, n_tokens=3_000, n_concepts=24, n_active=3)
    weights = random_layer(1, 72, 24)
    design = plan(scene, Settings(twins=4, min_support=10, controls=("isotropic", "shuffle"), spikes=(1.0,)))
    source = ArraySource(weights.neurons(scene.inputs), scene.inputs, weights, design.rows)
    drawn = calibrate_layer(source, 0, design)
    names = ["twin:0", "twin:2", "isotropic:1", "shuffle:0", "spike:1"]
    found = []
    for shift in (0, 4, 16, 20, 48):
        moved = {}
        for name, values in drawn.items():
            room = np.empty(values.nbytes + 128, np.uint8)
            start = -room.ctypes.data % 64 + shift
            moved[name] = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
            moved[name][...] = values
            assert moved[name].ctypes.data % 64 == shift
        found.append(measure_sites(source, 0, names, design, moved))
    for other in found[1:]:
        assert require_same(found[0], other) > 10


@pytest.mark.parametrize("n_slots", [1, 3, 4, 9, 1_000])
def test_every_site_is_dealt_once(n_slots: int) -> None:
    names = {2: list("abcdefg"), 5: list("abc")}
    shares = backends._shares(names, n_slots)
    for layer, held in names.items():
        assert sorted(name for share in shares[layer] for name in share) == held
        assert all(shares[layer])
    n_tasks = sum(map(len, shares.values()))
    assert n_tasks >= min(n_slots, sum(map(len, names.values()))) or n_slots > 2 * 3


@pytest.mark.parametrize("n_slots", [1, 2, 5, 1_000])
def test_sites_that_share_work_are_dealt_together(n_slots: int) -> None:
    names = [
        "neurons",
        "input",
        "pre",
        *(f"twin:{r}" for r in range(10)),
        "isotropic:0",
        "isotropic:1",
        "spike:1",
    ]
    shares = backends._shares({0: names}, n_slots)[0]
    assert sorted(name for share in shares for name in share) == sorted(names)
    groups = [[f"twin:{r}" for r in group] for group in (range(4), range(4, 8), range(8, 10))]
    for group in (*groups, ["isotropic:0", "isotropic:1"], ["neurons", "spike:1"], ["input", "pre"]):
        assert sum(any(name in share for name in group) for share in shares) == 1
    assert len(shares) == min(n_slots, 6), "whatever shares nothing is dealt one by one"


def test_forwards_of_some_batches_are_those_of_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever forwards which documents, the passes see the same bits, from whatever token on."""
    settings = Settings(max_tokens=6_000, max_pairs=20, min_support=20)
    reading = Reading("nano", "docs", settings)
    labels = pk.Concepts.defaults(reading.hooked.tokenizer, reading.tokens).label(reading.tokens)
    design = plan_pairs(LabelledTokens.of(labels, doc_keys(reading.tokens)), settings)
    remote = backends.RemoteModel("nano", "cpu", None, reading.tokens, design.docs)
    monkeypatch.setattr(harvest, "_MOST_TOKENS", 512)
    source = remote.open()
    assert isinstance(source, ModelSource)
    n_bytes = 4 * (source.hooked.d_model + source.hooked.d_mlp) * reading.tokens.n_tokens
    [group] = backends._groups(source, [0, 2], design, 2.0 * n_bytes, 2)
    assert min(len(parts) for parts in group.cuts.values()) > 2
    parts = [
        backends._forwarded((remote, design, 1), [0, 2], half, start, stop)
        for half, of_half in group.cuts.items()
        for start, stop in of_half
    ]
    for layer, blocks in zip([0, 2], zip(*parts, strict=True), strict=True):
        delivered = backends._source(remote, layer, blocks)
        for half in ("fit", "confirm"):
            for start in (0, 700):
                whole, joined = (
                    [block[layer] for block in of.blocks(half, [layer], start)] for of in (source, delivered)
                )
                for part in (0, 1):
                    one, two = (torch.cat([block[part] for block in blocks]) for blocks in (whole, joined))
                    assert len(one) > 1_000
                    assert torch.equal(one, two)
    [few] = backends._groups(source, [0, 2], design, 2.0 * n_bytes, 1)
    for half, parts_of_half in few.cuts.items():
        assert len(parts_of_half) <= backends.FORWARDS < len(source.batch_ends(half))
        assert {stop for _, stop in parts_of_half} <= {*source.batch_ends(half).tolist()}, "whole batches"
        assert parts_of_half[-1][1] == group.cuts[half][-1][1], "all tokens"
    # layers that do not fit together are taken one after the other; where not even one fits, nothing is delivered
    assert [one.layers for one in backends._groups(source, [0, 2], design, float(n_bytes), 2)] == [[0], [2]]
    assert backends._groups(source, [0, 2], design, n_bytes / 2, 2)[0].cuts == {}


@pytest.mark.parametrize(("on_gpu", "held", "told"), [
    (False, {"CPU": 1, "GPU": 4}, "no machine of the cluster has 2 cores for a task, so none would ever begin"),
    (True, {"CPU": 8}, "has 2 cores and a GPU for a task, .* or choose device=cpu"),
])  # fmt: skip
def test_a_cluster_on_which_no_task_would_ever_begin_is_refused(
    monkeypatch: pytest.MonkeyPatch, on_gpu: bool, held: dict[str, float], told: str
) -> None:
    nodes = [{"Alive": True, "Resources": held}, {"Alive": False, "Resources": {"CPU": 64, "GPU": 8}}]
    monkeypatch.setattr(cluster, "ray_package", lambda: SimpleNamespace(nodes=lambda: nodes))
    with pytest.raises(ConfigError, match=told):
        cluster.slots(2, on_gpu=on_gpu)
    nodes[1]["Alive"] = True
    assert cluster.slots(2, on_gpu=on_gpu) == (8 if on_gpu else 32)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="engine: got 'cluster', wanted one of 'local', 'ray'"):
        backends.check_engine("cluster", "nano")
    with pytest.raises(ConfigError, match="'ray' got a object; wanted a model by name or folder"):
        backends.check_engine("ray", object())
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="needs the package ray, which is not installed"):
        backends.check_engine("ray", "nano")
    assert backends.check_engine("local", object()) == "local"


def require_same_tables(one: pk.Run, two: pk.Run) -> None:
    assert one.summary == two.summary
    pd.testing.assert_frame_equal(one.layers, two.layers, check_exact=True)
    pd.testing.assert_frame_equal(one.pairs(1), two.pairs(1), check_exact=True)


def _refuse() -> None:
    raise InputError("pairs: refused in the worker.")


class Killer(threading.Thread):
    """Kills the first workers that it sees at a task of the engine."""

    def __init__(self, n_kills: int) -> None:
        super().__init__(daemon=True)
        self.n_kills = n_kills
        self.killed: list[int] = []
        self.over = False

    def run(self) -> None:
        while not self.over and len(self.killed) < self.n_kills:
            for process in psutil.process_iter(["pid", "name", "cmdline"]):
                told = " ".join(process.info["cmdline"] or ())
                if told.startswith("ray::_measured") and process.info["pid"] not in self.killed:
                    time.sleep(0.5)  # well inside its work
                    os.kill(process.info["pid"], signal.SIGKILL)
                    self.killed.append(process.info["pid"])
                    break
            time.sleep(0.1)


@pytest.mark.slow
def test_ray_gives_the_same_tables_and_survives_dead_workers(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    local = pk.analyze("nano", out=tmp_path / "local", progress=False, **OPTIONS)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        seen: list[tuple[int, int]] = []
        watch = lambda what, done, total: seen.append((done, total)) if what == "layers and sites" else None
        far = pk.analyze("nano", out=tmp_path / "ray", engine="ray", progress=watch, **OPTIONS)
        require_same_tables(local, far)
        assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))
        killer = Killer(2)
        killer.start()
        hurt = pk.analyze("nano", out=tmp_path / "hurt", engine="ray", progress=False, **OPTIONS)
        killer.over = True
        killer.join(10)
        assert len(killer.killed) >= 1
        require_same_tables(local, hurt)
        # what a task raises arrives as it was raised
        refuse = ray.remote(_refuse)
        with pytest.raises(InputError, match="pairs: refused in the worker") as refused, cluster.as_ours():
            ray.get(refuse.remote())
        assert type(refused.value) is InputError
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_half_finished_run_may_go_on_with_the_other_engine(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    options = OPTIONS | {"layers": [0, 1], "controls": (), "heldout_types": True}
    whole = pk.analyze("nano", out=tmp_path / "whole", progress=False, **options)

    class StopError(Exception):
        pass

    n_done = 0

    def stop(what: str, done: int, total: int) -> None:
        nonlocal n_done
        if what == "layers and sites":
            n_done += 1
            if n_done == 2:
                raise StopError

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with pytest.raises(InputError, match="progress: the function given raised StopError"):
            pk.analyze("nano", out=tmp_path / "half", engine="ray", progress=stop, **options)
    finally:
        ray.shutdown()
    finished = pk.analyze("nano", out=tmp_path / "half", progress=False, **options)
    assert finished.summary == whole.summary
    for layer in (0, 1):
        pd.testing.assert_frame_equal(finished.pairs(layer), whole.pairs(layer), check_exact=True)


class TestASignalUnderRay:
    """Ray puts in a handler for SIGTERM of its own, which ends a process with code 15."""

    @pytest.fixture
    def handled(self) -> Iterable[list[int]]:
        """Signals that came to the handler that was there before Ray."""
        seen: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
        yield seen
        signal.signal(signal.SIGTERM, before)

    def test_it_comes_to_the_handler_that_was_there(
        self, handled: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        down: list[bool] = []

        def init(**options: Any) -> None:
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))

        fake = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: down.append(True))
        monkeypatch.setattr(cluster, "ray_package", lambda: fake)
        with cluster.joined_cluster():
            signal.raise_signal(signal.SIGTERM)
        assert (handled, down) == ([signal.SIGTERM], [True])

    def test_also_while_ray_starts(self, handled: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        down: list[bool] = []

        def init(**options: Any) -> None:
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            signal.raise_signal(signal.SIGTERM)

        fake = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: down.append(True))
        monkeypatch.setattr(cluster, "ray_package", lambda: fake)
        with cluster.joined_cluster():
            pass
        assert (handled, down) == ([signal.SIGTERM], [True])

    def test_any_other_end_goes_its_way(self, handled: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        fake = SimpleNamespace(
            is_initialized=lambda: False, init=lambda **options: sys.exit(3), shutdown=lambda: None
        )
        monkeypatch.setattr(cluster, "ray_package", lambda: fake)
        with pytest.raises(SystemExit, match="3"), cluster.joined_cluster():
            pass
        assert handled == []
