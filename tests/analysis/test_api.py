"""The main job end to end: what a run directory holds, that it is repeatable, and that bad input leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probekit as pk
from probekit.analysis.api import analyze, analyze_arrays
from probekit.errors import (
    ConfigError,
    DegenerateError,
    IncompleteError,
    InputError,
    ModelError,
    NonFiniteError,
    ShapeError,
    StaleError,
    StoreError,
)
from probekit.evidence.tables import PAIR_COLUMNS, PATH_COLUMNS
from probekit.storage import store

OPTIONS = {"twins": 6, "max_pairs": 270, "min_support": 25, "progress": False}

LAYER_KEYS = {
    "layer", "n_neurons", "n_tested", "n_twins", "n_significant_raw", "n_represented", "n_beyond_linear",
    "n_above_plain", "n_relayed", "n_above_twins",
    "n_computed", "twins", "groups", "n_distributed", "n_superposed", "n_dedicated", "twin_rate", "n_excess",
    "excess_low", "excess_high", "share_low_p", "share_high_p", "n_nonnull_low", "sensitivity", "capacity", "statement",
}  # fmt: skip
CAPACITY_KEYS = {
    "n2_over_ln_n", "n2_over_log2_n", "max_selected", "bits_per_param", "n_params", "vacuous", "cannot_bind",
}  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class TestRunDirectory:
    def test_holds_the_contract(self, planted_run: pk.Run):
        held = set(files(planted_run.path))
        wanted = {
            "run.json", "summary.json", "report.html", "examples.json", "pairs/layer-00.parquet",
            "paths/layer-00.parquet", "figures/ladder.svg", "figures/capacity.svg",
        }  # fmt: skip
        assert wanted <= held
        assert not [name for name in held if ".tmp-" in name]

    def test_the_report_is_the_same_bytes_in_another_process(self, planted_run: pk.Run, tmp_path: Path):
        """Page and drawings included, which the tests of resuming stub; another hash seed shows any order of a set."""
        again = tmp_path / "again.html"
        script = "import sys, probekit as pk; pk.load(sys.argv[1]).report(sys.argv[2])"
        subprocess.run(
            [sys.executable, "-c", script, str(planted_run.path), str(again)],
            env={**os.environ, "PYTHONHASHSEED": "1"}, check=True, capture_output=True,
        )  # fmt: skip
        assert again.read_bytes() == (planted_run.path / "report.html").read_bytes()
        assert b"<svg" in again.read_bytes()

    def test_summary_has_every_key(self, planted_run: pk.Run):
        summary = json.loads((planted_run.path / "summary.json").read_text())
        assert summary["schema"] == "probekit.summary/2"
        assert {"name", "n_layers", "d_model", "d_mlp", "activation", "gated"} <= set(summary["model"])
        assert {"n_tokens_fit", "n_tokens_confirm", "n_docs"} <= set(summary["corpus"])
        assert {"n", "n_pairs", "n_testable"} <= set(summary["concepts"])
        for row in summary["layers"]:
            assert set(row) >= LAYER_KEYS
            assert set(row["capacity"]) >= CAPACITY_KEYS
            # flags are booleans, what is not claimed is null, never 0, and it is said why
            assert isinstance(row["capacity"]["vacuous"], bool)
            assert row["n_nonnull_low"] is None
            assert row["nonnull"]["why_not"] == f"{row['n_twins']} twins; 19 are needed for a 95 % constant"
            assert [step["amplitude"] for step in row["sensitivity"]["curve"]] == [0.0, 0.5, 1.0, 2.0, 4.0]
            share = row["n_tested"] / summary["concepts"]["n_testable"]
            assert row["total"]["value"] == pytest.approx(row["n_computed"] / share)
            assert row["total"]["low"] <= row["total"]["value"] <= row["total"]["high"]

    def test_tables_have_every_column(self, planted_run: pk.Run):
        # every column that is written, in the order in which one reads them
        columns = list(planted_run.pairs(0).columns)
        assert sorted(columns) == sorted(PAIR_COLUMNS)
        assert columns[:6] == ["layer", "a", "b", "kind", "d_prime", "d_prime_twins"]
        assert tuple(planted_run.paths(0).columns) == PATH_COLUMNS
        assert set(planted_run.paths(0)["k"]) == {1, 4, 64, 96}

    def test_counts_of_summary_and_table_agree(self, planted_run: pk.Run):
        row: Any = planted_run.summary["layers"][0]
        pairs = planted_run.pairs(0)
        assert len(pairs) == row["n_tested"] <= 270
        for flag in ("computed", "above_twins", "represented", "superposed", "dedicated"):
            assert int(pairs[flag].sum()) == row[f"n_{flag}"]
        assert (pairs["inclusion"] == row["n_tested"] / planted_run.summary["concepts"]["n_testable"]).all()

    def test_planted_pairs_are_found_and_disjoint_ones_are_not(self, planted, planted_run: pk.Run):
        pairs = planted_run.pairs(0)
        names = list(zip(pairs["a"], pairs["b"], strict=True))
        truth, shared = set(planted.truth), set(planted.shared_channel)
        designated = np.array([name in truth for name in names])
        disjoint = np.array([name not in truth and name not in shared for name in names])
        assert designated.sum() >= 10
        assert disjoint.sum() >= 20
        assert pairs["computed"][designated].mean() >= 0.8
        assert pairs["computed"][disjoint].sum() == 0

    def test_layers_frame(self, planted_run: pk.Run):
        frame = planted_run.layers
        assert len(frame) == 1
        assert frame.loc[0, "capacity_n_params"] == 96 * 25
        assert "twins_n_computed_mean" in frame


class TestRepeatability:
    def test_the_same_run_twice_gives_the_same_tables(self, planted, planted_run: pk.Run, tmp_path: Path):
        again = analyze(
            planted.model, planted.corpus, concepts=planted.concepts, out=tmp_path / "again", **OPTIONS
        )
        assert files(again.path) == files(planted_run.path)

    def test_another_seed_gives_other_twins(self, planted, planted_run: pk.Run):
        # positive control of the test above: it could fail
        other = analyze(planted.model, planted.corpus, concepts=planted.concepts, seed=1, **OPTIONS)
        assert not other.pairs(0)["p_twin"].equals(planted_run.pairs(0)["p_twin"])

    def test_a_finished_run_is_loaded(self, planted, planted_run: pk.Run):
        before = {p: p.stat().st_mtime_ns for p in planted_run.path.rglob("*")}
        analyze(planted.model, planted.corpus, concepts=planted.concepts, out=planted_run.path, **OPTIONS)
        assert {p: p.stat().st_mtime_ns for p in planted_run.path.rglob("*")} == before

    def test_another_run_is_not_overwritten(self, planted, planted_run: pk.Run):
        before = files(planted_run.path)
        with pytest.raises(
            StaleError,
            match=r"in settings: q: 0\.05 there, 0\.1 asked for\)\. Keep both .*\(--out\); force=True \(--force\)",
        ):
            analyze(planted.model, planted.corpus, concepts=planted.concepts, out=planted_run.path, q=0.1,
                    **OPTIONS)  # fmt: skip
        assert files(planted_run.path) == before

    def test_force_replaces_another_run(self, arrays, tmp_path: Path):
        neurons, labels, docs, inputs, weights = arrays
        options = {
            "inputs": inputs,
            "weights": weights,
            "twins": 0,
            "progress": False,
            "out": tmp_path / "run",
        }
        analyze_arrays(neurons, labels, docs, q=0.05, **options)
        run = analyze_arrays(neurons, labels, docs, q=0.1, force=True, **options)
        assert run.record["science"]["settings"]["q"] == 0.1

    @pytest.mark.sweep
    def test_memory_changes_nothing(self, planted, planted_run: pk.Run):
        alone = analyze(planted.model, planted.corpus, concepts=planted.concepts, memory=1, **OPTIONS)
        assert alone.pairs(0).equals(planted_run.pairs(0))

    def test_a_loaded_run_is_the_run(self, planted_run: pk.Run):
        loaded = pk.load(planted_run.path)
        assert loaded.summary == planted_run.summary
        assert loaded.pairs().equals(planted_run.pairs())


class TestArrays:
    @pytest.mark.sweep
    def test_arrays_give_what_the_model_gives(self, planted, planted_run: pk.Run):
        """The same activations, brought along instead of harvested, give the same readouts and decisions."""
        from probekit.model.harvest import harvest
        from probekit.model.hooked_model import load_hooked_model

        hooked = load_hooked_model(planted.model)
        tokens = planted.corpus.tokenize(None, context=128, max_tokens=300_000, bos_id=None)
        blocks = list(harvest(hooked, tokens, np.arange(tokens.n_docs), [0]))
        inputs = np.concatenate([block.sites[0][0].numpy() for block in blocks])
        neurons = np.concatenate([block.sites[0][1].numpy() for block in blocks])
        labels = planted.concepts.label(tokens)
        weights = hooked.mlp(0)
        run = analyze_arrays(
            neurons, labels.dense(), labels.doc, inputs=inputs, weights=(weights.w_in, weights.b_in),
            names=labels.names, **OPTIONS,
        )  # fmt: skip
        # documents are dealt by number here and by content there: other halves, the same findings
        theirs = planted_run.pairs(0).set_index(["a", "b"])["computed"]
        ours = run.pairs(0).set_index(["a", "b"])["computed"]
        both = theirs.index.intersection(ours.index)
        assert len(both) > 50
        assert (theirs[both] == ours[both]).mean() > 0.9

    def test_without_weights_nothing_is_claimed(self, arrays):
        neurons, labels, docs, inputs, _ = arrays
        run = analyze_arrays(neurons, labels, docs, inputs=inputs, progress=False)
        row = run.summary["layers"][0]
        assert row["n_computed"] is None
        assert row["twins"] is None
        assert "nothing is said about computation" in run.summary["notes"][0]
        assert "nothing is said about computation" in row["statement"]
        assert run.pairs(0)["computed"].isna().all()

    def test_torch_and_numpy_are_alike(self, arrays):
        import torch

        neurons, labels, docs, inputs, (w_in, b_in) = arrays
        options = {"twins": 4, "progress": False}
        a = analyze_arrays(neurons, labels, docs, inputs=inputs, weights=(w_in, b_in), **options)
        b = analyze_arrays(
            torch.tensor(neurons), torch.tensor(labels), torch.tensor(docs), inputs=torch.tensor(inputs),
            weights=(torch.tensor(w_in), torch.tensor(b_in)), **options,
        )  # fmt: skip
        assert a.pairs(0).equals(b.pairs(0))


class TestBadInput:
    """Each bad input is one error of its class, and the disk is as it was."""

    @pytest.fixture
    def folder(self, tmp_path: Path):
        yield tmp_path / "out"
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"labels": lambda v: v[:-1]}, ShapeError, "labels: got shape .7999, 8., wanted .token=8,000"),
            ({"docs": lambda v: v[::-1].copy()}, InputError, "docs: wanted whole numbers that never fall"),
            ({"docs": lambda v: v[:5]}, ShapeError, "docs: got shape .5,."),
            ({"neurons": lambda v: v[0]}, ShapeError, "neurons: got shape .32,., wanted rank 2"),
            ({"labels": lambda v: v + 1.5}, InputError, "labels: got values other than 0 and 1"),
            ({"labels": lambda v: v[:, :1]}, DegenerateError, "wanted at least two concepts"),
            ({"inputs": lambda v: v[:, :3]}, ShapeError, "w_in reads 8 inputs, inputs has 3"),
            ({"labels": lambda v: v & False}, DegenerateError, "No testable pair: of 28 pairs.*28 rare.*lower min_support"),
        ],
    )  # fmt: skip
    def test_arrays_that_do_not_fit(self, arrays, folder: Path, change, error, message):
        values = dict(zip(("neurons", "labels", "docs", "inputs", "weights"), arrays, strict=True))
        for name, edit in change.items():
            values[name] = edit(values[name])
        with pytest.raises(error, match=message) as caught:
            analyze_arrays(**values, out=folder, twins=4, progress=False)
        assert type(caught.value) is error

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_non_finite_activations(self, arrays, folder: Path, value: float):
        neurons, labels, docs, inputs, weights = arrays
        neurons = neurons.copy()
        neurons[1234, 7] = value
        with pytest.raises(
            NonFiniteError, match=r"1 of 256,000 values are NaN or infinite \(first at token 1234, column 7\)"
        ):
            analyze_arrays(neurons, labels, docs, inputs=inputs, weights=weights, out=folder, progress=False)

    @pytest.mark.parametrize(
        ("option", "error", "message"),
        [
            ({"twins": 3}, InputError, "twins: got 3; wanted 0 .* or at least 4"),
            ({"q": 0.0}, InputError, "q: got 0.0, wanted a false discovery rate"),
            ({"max_tokens": -1}, InputError, "max_tokens: got -1"),
            ({"engine": "cluster"}, ConfigError, "engine: got 'cluster'"),
            ({"layers": [7]}, InputError, "got layer 7, but the model has layers 0 to 0"),
            ({"layers": []}, InputError, "layers: the list is empty"),
            ({"pairs": [("f0", "nobody")]}, InputError, "'nobody' is none of the 24 concepts"),
            ({"pairs": [("f0", "f0")]}, InputError, "a concept with itself: 'f0'"),
            ({"max_tokens": 50}, DegenerateError, "1 document within 50 tokens"),
            ({"min_support": 100_000}, DegenerateError, "No testable pair"),
            ({"concepts": None}, InputError, "the defaults need a tokenizer"),
            ({"concepts": 5}, InputError, "concepts: got a int"),
        ],
    )
    def test_options(self, planted, folder: Path, option, error, message):
        options = {"concepts": planted.concepts, **OPTIONS, **option}
        with pytest.raises(error, match=message) as caught:
            analyze(planted.model, planted.corpus, out=folder, **options)
        assert type(caught.value) is error

    def test_unknown_model_offline(self, folder: Path):
        with pytest.raises(ModelError, match="folder"):
            analyze("no-such-organisation/no-such-model", out=folder, progress=False)

    def test_a_token_beyond_the_embedding(self, planted, folder: Path):
        rng = np.random.default_rng(0)
        corpus = pk.Corpus.from_tokens(rng.integers(3_900, 4_100, size=(200, 20)))
        concepts = pk.Concepts.from_vocab({"a": np.arange(5_000) % 2 == 0, "b": np.arange(5_000) % 3 == 0})
        with pytest.raises(InputError, match=r"token id 40\d\d"):
            analyze(planted.model, corpus, concepts=concepts, out=folder, min_support=2, progress=False)

    def test_a_folder_of_something_else_is_refused(self, arrays, tmp_path: Path):
        (tmp_path / "notes.txt").write_text("mine")
        neurons, labels, docs, _, _ = arrays
        with pytest.raises(StaleError, match="holds files that are no run"):
            analyze_arrays(neurons, labels, docs, out=tmp_path, progress=False)
        assert files(tmp_path) == {"notes.txt": b"mine"}


class TestLoading:
    def test_not_a_run(self, tmp_path: Path):
        with pytest.raises(StoreError, match=r"no run\.json"):
            pk.load(tmp_path)

    def test_unfinished(self, planted_run: pk.Run, tmp_path: Path):
        store.write_sealed(tmp_path / "run.json", planted_run.record)
        with pytest.raises(IncompleteError, match="was started and not finished"):
            pk.load(tmp_path)

    def test_no_such_layer(self, planted_run: pk.Run):
        with pytest.raises(InputError, match="layer 3: this run measured layers 0"):
            planted_run.pairs(3)
