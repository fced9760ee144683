"""Before a run: the counts are the run's own, time is told within a factor of two, nothing is written."""

from __future__ import annotations

import inspect
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probekit as pk
from probekit.analysis.estimate import duration
from probekit.analysis.pilot import Size, more_twins, scaled
from probekit.errors import DegenerateError, InputError

OPTIONS: dict[str, Any] = {"max_pairs": 270, "min_support": 25, "progress": False}


@pytest.fixture(scope="module")
def told(planted, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("estimate") / "out"
    made = pk.estimate(planted.model, planted.corpus, concepts=planted.concepts, twins=6, out=out, **OPTIONS)
    assert not out.exists(), "nothing is written"
    return made


def test_it_takes_what_analyze_takes():
    """Another argument, or another default, would estimate another run."""
    mine, theirs = (inspect.signature(f).parameters for f in (pk.estimate, pk.analyze))
    assert {name: p.default for name, p in mine.items()} == {name: p.default for name, p in theirs.items()}
    assert [p.annotation for p in mine.values()] == [p.annotation for p in theirs.values()]


def test_the_counts_are_those_of_the_run(told: pk.Estimate, planted_run: pk.Run):
    concepts, corpus = planted_run.summary["concepts"], planted_run.summary["corpus"]
    assert (told.n_concepts, told.n_pairs, told.n_testable, told.n_tested) == tuple(
        concepts[key] for key in ("n", "n_pairs", "n_testable", "n_tested")
    )
    assert dict(told.untestable) == concepts["untestable"]
    assert (told.n_docs, told.n_tokens_fit, told.n_tokens_confirm) == tuple(
        corpus[key] for key in ("n_docs", "n_tokens_fit", "n_tokens_confirm")
    )
    assert list(told.layers) == [row["layer"] for row in planted_run.summary["layers"]]


def test_what_could_be_found_is_what_the_run_says(told: pk.Estimate, planted_run: pk.Run):
    """The floor depends on the counts alone; the detectable d′ on the scatter of the twins, and the pilot's twins are those
    of the run, read on fewer tokens: their scatter is noisier, which moves the d′ by less than a factor of two."""
    (row,) = planted_run.summary["layers"]
    assert told.smallest_p == row["floor"]["smallest_p"]
    assert told.fewest_nameable == row["floor"]["fewest_nameable"]
    assert told.detectable_d is not None
    assert row["floor"]["detectable_d"] is not None
    assert 0.5 < told.detectable_d / row["floor"]["detectable_d"] < 2


def test_it_reads_well_everywhere(told: pk.Estimate):
    text, page, plain = str(told), told._repr_html_(), told.as_dict()
    for part in (
        f"{told.n_docs:,} documents",
        f"{told.n_tested:,} tested",
        "6 twins each",
        duration(told.seconds),
    ):
        assert part in text
        assert part in page
    assert len(repr(told)) < 110
    assert json.loads(json.dumps(plain, allow_nan=False)) == json.loads(json.dumps(plain))
    assert plain["n_tested"] == told.n_tested
    assert sum(plain["steps"].values()) == pytest.approx(plain["seconds"])  # rounding of one sum


def test_what_analyze_refuses_is_refused(planted):
    with pytest.raises(InputError, match="twins: got 2; wanted 0"):
        pk.estimate(planted.model, planted.corpus, concepts=planted.concepts, twins=2)
    with pytest.raises(DegenerateError, match="No testable pair"):
        pk.estimate(planted.model, planted.corpus, concepts=planted.concepts, min_support=10**6)


def test_without_twins_nothing_can_be_named(planted):
    told = pk.estimate(planted.model, planted.corpus, concepts=planted.concepts, twins=0, **OPTIONS)
    assert (told.smallest_p, told.fewest_nameable, told.detectable_d) == (None, None, None)
    assert "no pair" in str(told)


class TestScaling:
    """A step that costs a + b·tokens + c·pairs places, measured without noise, is told exactly."""

    COSTS = ((3e-6, 5e-8), (0.0, 5e-8), (3e-6, 0.0))

    @pytest.mark.parametrize(("a_token", "a_place"), COSTS)
    def test_a_linear_step_is_exact(self, a_token: float, a_place: float):
        def cost(size: Size) -> float:
            return a_token * size.base + a_place * size.pairs

        large, small, full = Size(4_096, 90_000), Size(4_096, 20_000), Size(150_000, 8_000_000)
        got = scaled(cost(large), cost(small), large, small, full)
        np.testing.assert_allclose(got, cost(full), rtol=1e-12)  # the same products in another order

    def test_noise_gives_pairs_neither_less_than_nothing_nor_more_than_all(self):
        large, small, full = Size(4_096, 90_000), Size(4_096, 20_000), Size(8_192, 180_000)
        assert scaled(1.0, 1.2, large, small, full) == 2.0
        assert scaled(1.0, 0.0, large, small, full) == 2.0

    def test_twins(self):
        # a base of 2 and one a twin: 10 with 8 twins, 6 with 4, 22 with 20
        assert more_twins(10.0, 6.0, 8, 4, 20) == pytest.approx(2.2)  # rounding of one division
        assert more_twins(10.0, 6.0, 8, 4, 8) == 1.0
        assert more_twins(10.0, 0.0, 8, 4, 20) == 2.5, "no more than as many times the twins"


def test_durations():
    assert [duration(s) for s in (0.04, 61, 3_600, 86_400 * 30)] == ["0.04 s", "61 s", "60 min", "30 days"]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["nano", "planted"])
def test_time_is_told_within_a_factor_of_two(what: str, planted, tmp_path: Path):
    """Processor time, so that neighbours on the machine count little. The kernels are compiled before."""
    if what == "nano":
        args: tuple[Any, ...] = ("nano",)
        options: dict[str, Any] = {"layers": [0, 1], "max_tokens": 60_000, "max_pairs": 400, "twins": 8}
    else:
        args = (planted.model, planted.corpus)
        options = {"concepts": planted.concepts, "twins": 12, **OPTIONS}
    options["progress"] = False
    pk.estimate(*args, **options)
    told = pk.estimate(*args, **options).seconds
    start = time.process_time()
    pk.analyze(*args, **options)
    assert 0.5 < (time.process_time() - start) / told < 2


def test_the_command_says_the_same_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from probekit.cli import main

    monkeypatch.chdir(tmp_path)
    options = ["--layers", "0", "--max-tokens", "12000", "--max-pairs", "20", "--twins", "4"]
    monkeypatch.setattr("sys.argv", ["probekit", "analyze", "nano", *options, "--estimate", "--json"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["layers"], told["n_twins"]) == ("nano", [0], 4)
    assert 1 <= told["n_tested"] <= 20
    assert told["seconds"] > 0
    assert not list(tmp_path.iterdir())
