"""R19: what was finished is not done again. Killed anywhere, a run redoes at most one part a stage and one tile a pass."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from probekit.analysis import passes, run_fingerprint, runner
from probekit.analysis.array_inputs import ActivationData
from probekit.analysis.design import HalfPlan
from probekit.analysis.grouping import Grouping
from probekit.analysis.inputs import AnalysisInputs, inputs_of_arrays
from probekit.analysis.runner import Job, execute
from probekit.analysis.settings import Settings
from probekit.analysis.source import ArraySource, Half, LayerBlock, Source
from probekit.evidence.pair_sampling import PairSampling
from probekit.model.weights import MlpWeights
from probekit.results import publish
from probekit.storage import checkpoint, store
from probekit.storage.shards import Arrays, Stage

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
from disks import CountingDisk

LAYERS = [0, 1]
N_TOKENS, TILE = 1_200, 160


class ManyLayers(ArraySource):
    """The same inputs through other weights in every layer."""

    def __init__(self, given: ActivationData, rows: dict[Half, np.ndarray]) -> None:
        super().__init__(given.neurons, given.inputs, given.weights, rows)
        assert given.weights is not None
        weights = given.weights
        self.by_layer = [MlpWeights(weights.w_in.roll(n, 0), weights.b_in, activation="relu") for n in LAYERS]

    def blocks(self, half: Half, layers: list[int], start: int = 0) -> Iterator[LayerBlock]:
        for block in super().blocks(half, [0], start):
            inputs: Tensor | None = block[0][0]
            assert inputs is not None
            yield {layer: (inputs, self.by_layer[layer].neurons(inputs)) for layer in layers}

    def weights(self, layer: int) -> MlpWeights | None:
        return self.by_layer[layer]


def two_layers() -> Job:
    rng = np.random.default_rng(3)
    labels = rng.random((N_TOKENS, 6)) < 0.4
    inputs = labels + 0.3 * rng.standard_normal((N_TOKENS, 6))
    w_in, b_in = rng.standard_normal((12, 6)), np.zeros(12)
    given = ActivationData.check(
        np.maximum(inputs @ w_in.T, 0), labels, np.arange(N_TOKENS) // 20, inputs, (w_in, b_in), "relu", None
    )
    settings = Settings(N_TOKENS, 2, 4, 20, 4, 0.05, 0, controls=(), spikes=())

    def prepare(report: object) -> AnalysisInputs:
        analysis_inputs = inputs_of_arrays(given, PairSampling.of(None), settings)
        return replace(
            analysis_inputs, source=ManyLayers(given, analysis_inputs.design.rows), layers=list(LAYERS)
        )

    record = run_fingerprint.science("two", "arrays", "arrays", settings, layers=LAYERS, pairs=None)
    return Job(record, prepare)


@pytest.fixture(scope="module", autouse=True)
def small_tiles() -> Iterator[None]:
    """Several tiles a pass, the sums kept after each; each layer by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "TILE", TILE)
        patch.setattr(checkpoint, "SHARE", math.inf)
        patch.setattr(runner, "grouping", lambda *args: Grouping(1, keeps=False, n_bytes=1))
        patch.setattr(publish, "figures", lambda *args: {"ladder": "<svg/>"})
        patch.setattr(publish, "render_page", lambda *args, **options: "<html/>")
        yield


class Killed(BaseException):
    """Nobody catches this: everything stays as a kill would leave it, the lock apart."""


class DyingDisk(CountingDisk):  # pyright: ignore[reportUntypedBaseClass] - a helper beside the fault tests
    """Ends the run at one boundary."""

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k

    def at(self, boundary: int, operation: str) -> None:
        if boundary == self.k:
            raise Killed


class Work:
    """What was done: parts put, and tiles that went through a pass."""

    def __init__(self) -> None:
        self.parts: Counter[str] = Counter()
        self.tiles: Counter[str] = Counter()
        self.n_boundaries = 0

    def do(self, job: Job, out: Path, kill_at: float = math.inf) -> None:
        """Carry the job out until its end or that boundary."""
        put: Callable[..., None] = Stage.put

        def counted(stage: Stage, part: int, arrays: Arrays, *, n_tokens: int) -> None:
            # before: a part whose making was cut short is work as well, whether or not it has to be made again
            self.parts[stage.name] += 1
            put(stage, part, arrays, n_tokens=n_tokens)

        cut = passes._tiles

        def counted_tiles(
            source: Source, layers: list[int], half: HalfPlan, what: str, *more: Any, **size: int
        ) -> Iterator[Any]:
            for tile in cut(source, layers, half, what, *more, **size):
                self.tiles[what] += 1
                yield tile

        disk = DyingDisk(kill_at)
        with pytest.MonkeyPatch.context() as patch, store.on(disk):
            patch.setattr(Stage, "put", counted)
            patch.setattr(passes, "_tiles", counted_tiles)
            if kill_at < math.inf:
                with pytest.raises(Killed):
                    execute(job, out, False, force=False)
            else:
                execute(job, out, False, force=False)
        self.n_boundaries = disk.n_boundaries


def most_redone(done: Counter[str], clean: Counter[str]) -> int:
    assert set(done) == set(clean)
    assert all(done[what] >= clean[what] for what in clean)
    return max(done[what] - clean[what] for what in clean)


@pytest.fixture(scope="module")
def clean(small_tiles: None, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """The work of a run that is left alone."""
    work = Work()
    work.do(two_layers(), tmp_path_factory.mktemp("clean") / "run")
    assert len(work.parts) > 10
    assert all(n >= 3 * len(LAYERS) for n in work.tiles.values())
    return work


def n_redone(clean: Work, share: float, folder: Path) -> int:
    """Kill at this share of all boundaries, resume; how many parts and tiles were done twice."""
    work, out = Work(), folder / f"killed-{share:.2f}"
    work.do(two_layers(), out, int(share * clean.n_boundaries))
    work.do(two_layers(), out)
    parts, tiles = most_redone(work.parts, clean.parts), most_redone(work.tiles, clean.tiles)
    assert max(parts, tiles) <= 1, f"at {share}: {work.parts - clean.parts}, {work.tiles - clean.tiles}"
    return parts + tiles


@pytest.mark.parametrize("share", [0.35, 0.99])
def test_killed_next_to_nothing_is_done_again(clean: Work, share: float, tmp_path: Path):
    n_redone(clean, share, tmp_path)


@pytest.mark.slow
def test_killed_anywhere_next_to_nothing_is_done_again(clean: Work, tmp_path: Path):
    # the control: somewhere a part was in the making, and it was made again
    assert sum(n_redone(clean, n / 100, tmp_path) for n in range(100)) > 0


def test_work_done_twice_would_be_seen(clean: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The control: a run that finds nothing of what was kept."""
    monkeypatch.setattr(checkpoint.Pass, "load", lambda *args: None)
    monkeypatch.setattr(checkpoint.Pass, "resume", lambda *args: 0)
    with pytest.raises(AssertionError, match=r"at 0.35: .*supports.*moments"):
        n_redone(clean, 0.35, tmp_path)
