"""A run in the hand: described columns, figures as charts, what notebooks and consoles show of things."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pytest

import probekit as pk
from probekit.errors import InputError
from probekit.evidence import columns
from probekit.report import recall, words
from probekit.report.plot import run_chart
from probekit.storage.manifest import FORMAT

GOLDEN = Path(__file__).parents[1] / "golden" / f"v{FORMAT}"
NAMES = ("ladder", "effects", "groups", "capacity", "recall", "gap")


@pytest.fixture(scope="module")
def run():
    return pk.load(GOLDEN)


class TestColumns:
    def test_every_column_has_its_meaning_and_its_place(self, run: pk.Run):
        told = run.describe()
        assert list(told.columns) == ["table", "column", "type", "meaning"]
        assert told.loc[told["table"] == "layers", "column"].tolist() == list(run.layers.columns)
        assert told.loc[told["table"] == "pairs", "column"].tolist() == list(run.pairs(0).columns)
        assert told.loc[told["meaning"] == "", "column"].tolist() == []
        for name, table in columns.TABLES.items():
            held = told.loc[told["table"] == name, "column"].tolist()
            assert held == [column for column in table if column in held], (
                "in the order in which they are described"
            )

    def test_what_is_read_first_comes_first(self, run: pk.Run):
        assert list(run.pairs(0).columns[:6]) == ["layer", "a", "b", "kind", "d_prime", "d_prime_twins"]
        assert list(run.layers.columns[:4]) == ["layer", "n_neurons", "n_tested", "n_twins"]
        at = list(run.layers.columns).index("n_computed")
        assert list(run.layers.columns[at + 1 : at + 4]) == [
            f"twins_n_computed_{x}" for x in ("mean", "low", "high")
        ]

    def test_an_unknown_column_stays_and_comes_last(self, run: pk.Run):
        table = run.pairs(0).assign(mine=1)
        assert list(columns.in_order(table[["mine", "b", "a"]], columns.PAIRS).columns) == ["a", "b", "mine"]
        (row,) = columns.described({"pairs": table[["mine"]]}).to_dict("records")
        assert row == {"table": "pairs", "column": "mine", "type": "int64", "meaning": ""}


class TestPlot:
    @pytest.mark.parametrize("name", NAMES)
    def test_each_is_a_chart_of_the_runs_numbers(self, run: pk.Run, name: str):
        chart = run.plot(name)  # pyright: ignore[reportArgumentType] - a name of NAMES
        assert isinstance(chart, alt.TopLevelMixin)
        spec = chart.to_dict()
        assert spec["title"]["text"]
        assert spec["config"]["background"]
        held = [row for rows in spec["datasets"].values() for row in rows]
        layer: Any = run.summary["layers"][0]
        if name == "ladder":
            drawn = {row["rung"]: row["value"] for row in held if "rung" in row}
            assert drawn == {label: layer[key] for key, label, _ in words.RUNGS}
        if name == "groups":
            assert {row["mean_z"] for row in held if "mean_z" in row} == {
                g["mean_z"] for g in layer["groups"]
            }
        if name == "recall":
            assert {row["recall"] for row in held if row.get("rung") == dict(recall.RUNGS)["computed"]} == {
                step["computed"]["recall"] for step in layer["sensitivity"]["curve"]
            }

    def test_it_can_be_saved(self, run: pk.Run, tmp_path: Path):
        run.plot("ladder").save(str(tmp_path / "ladder.svg"))
        assert (tmp_path / "ladder.svg").read_text().startswith("<svg")

    def test_what_is_none_is_refused(self, run: pk.Run):
        with pytest.raises(InputError, match=r"got 'laddr'"):  # by the hints, or by the function itself
            run.plot("laddr")  # pyright: ignore[reportArgumentType]
        with pytest.raises(
            InputError, match=r"plot: got 'laddr', wanted one of ladder, .*Did you mean 'ladder'\?"
        ):
            run_chart("laddr", run.summary, {})
        with pytest.raises(InputError, match="plot: got 3, wanted one of ladder"):
            run_chart(3, run.summary, {})

    def test_what_was_not_measured_says_what_would_measure_it(
        self, run: pk.Run, monkeypatch: pytest.MonkeyPatch
    ):
        rows = [{**row, "sensitivity": None} for row in run.summary["layers"]]
        monkeypatch.setattr(run, "summary", {**run.summary, "layers": rows})
        with pytest.raises(
            InputError, match=r"'recall' has nothing to show: no known ANDs were added.*spikes="
        ):
            run.plot("recall")


class TestShown:
    def test_a_run_in_a_notebook(self, run: pk.Run):
        page = run._repr_html_()
        layer: Any = run.summary["layers"][0]
        text = html.unescape(re.sub("<[^>]+>", " ", page))
        assert layer["statement"] in text
        assert (
            f"{layer['n_significant_raw']} ({words.mean(layer['twins']['n_significant_raw']['mean'])})"
            in text
        )
        assert page.count("<tr>") == 1 + len(run.summary["layers"])

    def test_nothing_in_it_is_markup(self, run: pk.Run, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(run, "summary", {**run.summary, "notes": ["<script>alert(1)</script>"]})
        assert "<script>" not in run._repr_html_()

    def test_in_a_console_each_is_a_line(self, planted):
        circuit = pk.circuits.two_and(pairs=12, n_concepts=24, n_neurons=96, n_active=2, seed=3)
        assert (
            repr(circuit)
            == f"Circuit({circuit.name!r}, 24 concepts, 12 outputs in 96 neurons, d_model 24, 2 concepts active)"
        )
        moments = pk.Moments(3, 2, pairs=[(0, 1)])
        moments.update(np.ones((8, 3)), np.eye(2)[[0, 1] * 4], np.arange(8))
        assert repr(moments) == "Moments(3 neurons, 2 concepts, 1 pairs, 8 tokens)"
        assert (
            repr(planted)
            == f"Planted(1 layer, 24 concepts, planted pairs: 12, corpus {planted.corpus.name!r})"
        )
        assert repr(pk.bounds.min_neurons(1_000)).startswith(
            "Bound(83.1129; asymptotic reference, constant 1 assumed"
        )
        assert len(repr(pk.circuits.random_gates(n_concepts=16, widths=[4], seed=0))) > 0

    def test_dir_lists_what_is_meant_for_use(self):
        assert dir(pk.bounds) == sorted(pk.bounds.__all__)
        assert dir(pk.circuits) == sorted(pk.circuits.__all__)
        assert all(callable(getattr(pk.bounds, name)) for name in dir(pk.bounds))

    def test_the_version_is_that_of_the_package(self):
        from importlib.metadata import version

        assert pk.__version__ == version("probekit-superposition")
