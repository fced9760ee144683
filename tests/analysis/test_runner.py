"""A run in its directory: interrupted, crowded out, started twice, taken up again; always the same bytes."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from probekit.analysis import passes, run_fingerprint
from probekit.analysis.api import analyze_arrays
from probekit.analysis.array_inputs import ActivationData
from probekit.analysis.inputs import AnalysisInputs, inputs_of_arrays
from probekit.analysis.runner import Job, execute
from probekit.analysis.settings import Settings
from probekit.analysis.source import ArraySource, Half, LayerBlock
from probekit.errors import (
    CorruptError,
    DegenerateError,
    DiskFullError,
    FormatError,
    IncompleteError,
    InputError,
    LockedError,
    OutOfMemoryError,
    StaleError,
)
from probekit.evidence.pair_sampling import PairSampling
from probekit.model.weights import MlpWeights
from probekit.results import publish
from probekit.results.run import load
from probekit.storage import checkpoint, manifest, store
from probekit.storage.lock import LOCK, locked
from probekit.storage.verify import verify


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    """Several tiles a pass, the sums kept after each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "TILE", 1_024)
        patch.setattr(checkpoint, "SHARE", math.inf)
        patch.setattr(publish, "figures", lambda *args: {"ladder": "<svg/>"})  # drawing is most of a tiny run
        patch.setattr(publish, "render_page", lambda *args, **options: "<html/>")
        yield


@pytest.fixture(scope="module")
def few() -> dict[str, object]:
    rng = np.random.default_rng(3)
    labels = rng.random((3_000, 8)) < 0.3
    inputs = labels + 0.3 * rng.standard_normal((3_000, 8))
    w_in, b_in = rng.standard_normal((24, 8)), 0.1 * rng.standard_normal(24)
    return {
        "neurons": np.maximum(inputs @ w_in.T + b_in, 0), "labels": labels, "docs": np.arange(3_000) // 25,
        "inputs": inputs, "weights": (w_in, b_in), "twins": 4, "max_pairs": 8, "min_support": 20, "progress": False,
    }  # fmt: skip


@pytest.fixture(scope="module")
def clean(few: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("clean") / "run"
    analyze_arrays(**few, out=out)
    return files(out)


class TestInterrupted:
    @pytest.mark.parametrize(
        ("what", "n_calls"), [("moments", 1), ("moments", 2), ("refit", 1), ("confirm", 2)]
    )
    def test_ctrl_c_keeps_what_was_finished_and_says_how_to_go_on(self, few, clean, tmp_path, what, n_calls):
        seen = []

        def interrupt(step: str, done: int, total: int) -> None:
            seen.append(step)
            if seen.count(what) == n_calls and step == what:
                raise KeyboardInterrupt

        out = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt) as caught:
            analyze_arrays(**{**few, "progress": interrupt}, out=out)
        # arrays are in no file: a command line could not go on
        assert f"{out} keeps what was finished; make the same call again" in caught.value.__notes__[0]
        assert not (out / LOCK).exists()
        with pytest.raises(IncompleteError, match="started and not finished; `probekit resume"):
            load(out)
        with pytest.raises(IncompleteError, match=r"finished parts .* are intact"):
            verify(out)
        steps = []
        analyze_arrays(**{**few, "progress": lambda step, done, total: steps.append(step)}, out=out)
        assert files(out) == clean
        # what was finished is not done again
        order = ("moments", "refit", "confirm")
        assert not set(order[: order.index(what)]) & set(steps)

    def test_a_progress_function_that_fails_is_the_callers_and_loses_nothing(self, few, clean, tmp_path):
        def broken(step: str, done: int, total: int) -> None:
            if step == "refit":
                raise KeyError("my own")

        out = tmp_path / "run"
        with pytest.raises(
            InputError, match=r"progress: the function given raised KeyError: 'my own'.*'refit', 1,024"
        ):
            analyze_arrays(**{**few, "progress": broken}, out=out)
        analyze_arrays(**few, out=out)
        assert files(out) == clean

    def test_a_resume_does_not_begin_its_pass_again(self, few, tmp_path):
        """After the sums of the first tile were kept, the resumed pass starts behind it."""
        out, seen = tmp_path / "run", []

        def first_tile(step: str, done: int, total: int) -> None:
            if step == "confirm" and done == 1_024:  # told after the sums were kept
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            analyze_arrays(**{**few, "progress": first_tile}, out=out)
        analyze_arrays(**{**few, "progress": lambda step, done, total: seen.append((step, done))}, out=out)
        assert [step for step, _ in seen] == ["confirm"]
        assert seen[0][1] > 1_024
        assert len(seen) == 1

    @pytest.mark.parametrize(("changed", "wanted"), [({}, 1), ({"seed": 1, "force": True}, 2)])
    def test_threads_are_those_the_run_was_begun_with_not_those_of_one_it_replaces(
        self, few, tmp_path, changed, wanted
    ):
        out, here, seen = tmp_path / "run", torch.get_num_threads(), []

        def stop(step: str, done: int, total: int) -> None:
            seen.append(torch.get_num_threads())
            raise KeyboardInterrupt

        try:
            for n_threads, more in ((1, {}), (2, changed)):
                torch.set_num_threads(n_threads)
                with pytest.raises(KeyboardInterrupt):
                    analyze_arrays(**{**few, **more, "progress": stop}, out=out)
        finally:
            torch.set_num_threads(here)
        assert seen == [1, wanted]
        assert manifest.read_record(out)["threads"] == wanted

    def test_other_versions_are_not_mixed(self, few, tmp_path, monkeypatch):
        out = tmp_path / "run"

        def stop(step: str, done: int, total: int) -> None:
            if step == "refit":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            analyze_arrays(**{**few, "progress": stop}, out=out)
        before = files(out)
        monkeypatch.setattr(run_fingerprint, "_versions", lambda: {"torch": "99"})
        with pytest.raises(StaleError, match=r"begun with .*torch 2\.\S+, now 99"):
            analyze_arrays(**few, out=out)
        assert files(out) == before

    def test_a_damaged_part_is_refused_not_used(self, few, clean, tmp_path):
        out = tmp_path / "run"

        def stop(step: str, done: int, total: int) -> None:
            if step == "refit":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            analyze_arrays(**{**few, "progress": stop}, out=out)
        part = next(out.glob("stages/*.supports/part-*.safetensors"))
        whole = part.read_bytes()
        part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(CorruptError, match=r"part-00000.safetensors: block 0 .* another crc32"):
            analyze_arrays(**few, out=out)
        part.write_bytes(whole)
        analyze_arrays(**few, out=out)
        assert files(out) == clean


class TestCrowded:
    def test_a_second_run_is_refused_and_told_who_holds_the_directory(self, few, clean, tmp_path):
        out = tmp_path / "run"
        script = (
            "import sys, time; from pathlib import Path; from probekit.storage.lock import locked\n"
            "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
        )
        out.mkdir()
        holder = subprocess.Popen([sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, text=True)
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(LockedError, match=rf"process {holder.pid} on \S+ works on this run"):
                analyze_arrays(**few, out=out)
            assert [p.name for p in out.iterdir()] == [LOCK]
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        # the dead holder's LOCK is still there, and in nobody's way
        assert (out / LOCK).exists()
        analyze_arrays(**few, out=out)
        assert files(out) == clean

    def test_the_same_process_cannot_hold_it_twice(self, tmp_path):
        with (
            locked(tmp_path),
            pytest.raises(LockedError, match=f"process {os.getpid()} on"),
            locked(tmp_path),
        ):
            pass
        with locked(tmp_path):
            pass
        assert list(tmp_path.iterdir()) == []

    def test_too_little_space_is_said_before_anything_is_computed(self, few, clean, tmp_path, monkeypatch):
        out = tmp_path / "run"
        monkeypatch.setattr(store, "free_bytes", lambda folder: 1_000)
        with pytest.raises(
            DiskFullError, match=r"the results of this run needs [\d,]+ bytes and 1,000 are free"
        ):
            analyze_arrays(**few, out=out)
        monkeypatch.undo()
        analyze_arrays(**few, out=out)
        assert files(out) == clean


class TestBadInputLeavesTheDisk:
    def test_forced_bad_input_does_not_cost_the_old_run(self, few, clean, tmp_path):
        out = tmp_path / "run"
        analyze_arrays(**few, out=out)
        with pytest.raises(DegenerateError, match="No testable pair"):
            analyze_arrays(**{**few, "min_support": 100_000}, out=out, force=True)
        assert files(out) == clean

    def test_an_empty_folder_stays_and_a_new_one_goes(self, few, tmp_path):
        (tmp_path / "mine").mkdir()
        for out in (tmp_path / "mine", tmp_path / "a" / "b"):
            with pytest.raises(DegenerateError, match="No testable pair"):
                analyze_arrays(**{**few, "min_support": 100_000}, out=out)
        assert [p.name for p in tmp_path.iterdir()] == ["mine"]
        assert list((tmp_path / "mine").iterdir()) == []


class TwoLayers(ArraySource):
    """The given arrays as layer 0, and the same inputs through other weights as layer 1; as many at once as fit."""

    def __init__(self, given: ActivationData, rows: dict[Half, np.ndarray], most: int) -> None:
        super().__init__(given.neurons, given.inputs, given.weights, rows)
        assert given.weights is not None
        self.second = MlpWeights(given.weights.w_in.flip(0) * 0.7, given.weights.b_in, activation="relu")
        self.most = most
        self.asked: list[list[int]] = []

    def blocks(self, half: Half, layers: list[int], start: int = 0) -> Iterator[LayerBlock]:
        self.asked.append(list(layers))
        if len(layers) > self.most:
            # as torch says it on a CPU, and as an accelerator does
            raise (
                RuntimeError("DefaultCPUAllocator: can't allocate memory")
                if self.most
                else torch.OutOfMemoryError("planted: too many layers at once")
            )
        for block in super().blocks(half, [0], start):
            inputs, neurons = block[0]
            assert inputs is not None
            both = {0: (inputs, neurons), 1: (inputs, self.second.neurons(inputs))}
            yield {layer: both[layer] for layer in layers}

    def weights(self, layer: int) -> MlpWeights | None:
        return self.second if layer else super().weights(layer)


class TestMemory:
    def job(self, few: dict, most: int) -> tuple[Job, list[TwoLayers]]:
        names = ("neurons", "labels", "docs", "inputs", "weights")
        neurons, labels, docs, inputs, weights = (few[name] for name in names)
        given = ActivationData.check(neurons, labels, docs, inputs, weights, "relu", None)
        settings = Settings(3_000, 2, 8, 20, 4, 0.05, 0)
        sources: list[TwoLayers] = []

        def prepare(report: object) -> AnalysisInputs:
            analysis_inputs = inputs_of_arrays(given, PairSampling.of(None), settings)
            sources.append(TwoLayers(given, analysis_inputs.design.rows, most))
            return replace(analysis_inputs, source=sources[-1], layers=[0, 1])

        record = run_fingerprint.science("two", "arrays", "arrays", settings, layers=[0, 1], pairs=None)
        return Job(record, prepare), sources

    def test_fewer_layers_together_give_the_same_bytes(self, few, tmp_path):
        roomy, sources = self.job(few, most=2)
        execute(roomy, tmp_path / "roomy", False, force=False)
        assert sources[0].asked[0] == [0, 1]
        narrow, sources = self.job(few, most=1)
        execute(narrow, tmp_path / "narrow", False, force=False)
        assert [0] in sources[0].asked
        assert [1] in sources[0].asked
        assert files(tmp_path / "narrow") == files(tmp_path / "roomy")

    def test_where_one_layer_does_not_fit_the_bytes_are_named(self, few, tmp_path):
        job, _ = self.job(few, most=0)
        with pytest.raises(OutOfMemoryError, match=r"24 neurons with 8 pairs needs some [\d,]+ bytes"):
            execute(job, tmp_path / "run", False, force=False)
        enough, _ = self.job(few, most=2)
        assert len(execute(enough, tmp_path / "run", False, force=False).layers) == 2

    def test_killed_in_the_second_layer_the_first_stands(self, few, tmp_path):
        job, sources = self.job(few, most=2)
        job = replace(job, memory=1)
        execute(job, tmp_path / "clean", False, force=False)

        def stop(step: str, done: int, total: int) -> None:
            if step == "moments" and sources[-1].asked[-1] == [1]:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            execute(job, tmp_path / "run", stop, force=False)
        execute(job, tmp_path / "run", False, force=False)
        assert [0] not in sources[-1].asked
        assert files(tmp_path / "run") == files(tmp_path / "clean")


class TestFormats:
    def test_a_newer_format_is_refused_politely(self, few, tmp_path):
        record = {
            "schema": manifest.RECORD_SCHEMA,
            "format": manifest.FORMAT + 1,
            "science": {},
            "identity": "x",
        }
        store.write_sealed(tmp_path / "run.json", record)
        with pytest.raises(FormatError, match=r"written in format 5, this probekit reads up to 4; upgrade"):
            load(tmp_path)
        with pytest.raises(FormatError, match="upgrade"):
            analyze_arrays(**few, out=tmp_path)


def test_what_a_run_will_take_is_told_before_it_starts(few: dict[str, object], tmp_path: Path) -> None:
    """Whoever reports the progress and can speak hears layers, pairs, tokens and memory, once and first."""

    class Listener:
        def __init__(self) -> None:
            self.heard: list[str] = []

        def __call__(self, what: str, done: int, total: int) -> None:
            self.heard.append(what)

        def say(self, text: str) -> None:
            self.heard.append(f"said: {text}")

    listener = Listener()
    analyze_arrays(**{**few, "progress": listener}, out=tmp_path / "run")
    assert re.fullmatch(
        r"said: 1 layer: \d+ pairs and 4 twins each, [\d,]+ tokens; sums of some [\d.e-]+ GB, "
        "besides the model and what it is computing",
        listener.heard[0],
    )
    assert not [line for line in listener.heard[1:] if line.startswith("said")]
    again = Listener()
    analyze_arrays(**{**few, "progress": again}, out=tmp_path / "run")
    assert not again.heard, "a finished run takes nothing"


def test_the_memory_told_is_no_less_than_that_of_the_sums_and_not_far_above(
    few: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arrays held between two tiles, counted. Those of pass A and of pass C are not held at once: hence the room."""
    held: list[int] = []
    maybe_save = checkpoint.Pass.maybe_save

    def count(self: checkpoint.Pass, sums: Mapping[str, checkpoint.Resumable], n_tokens: int) -> None:
        states = [one.state() for one in sums.values()]
        held.append(sum(values.nbytes for arrays in states for values in arrays.values()))
        maybe_save(self, sums, n_tokens)

    class Listener:
        said = ""

        def __call__(self, what: str, done: int, total: int) -> None: ...

        def say(self, text: str) -> None:
            self.said = text

    listener = Listener()
    monkeypatch.setattr(checkpoint.Pass, "maybe_save", count)
    analyze_arrays(**{**few, "progress": listener}, out=tmp_path / "run")
    told = float(listener.said.split("some ")[1].split(" GB")[0]) * 1e9
    assert max(held) <= 1.05 * told <= 6 * max(held), "two digits are told"
