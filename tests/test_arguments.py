"""Plain things are taken as they are meant; what cannot be meant is one clear error."""

# ruff: noqa: E501 - tables are read along their rows

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probekit as pk
from probekit.arguments import as_concepts, as_layer, as_layers
from probekit.errors import InputError
from probekit.followups.compare import _runs
from probekit.text.concepts.concepts import Concepts
from probekit.text.corpus import as_corpus, check_name
from probekit.text.tokens import Tokens


class TestLayers:
    @pytest.mark.parametrize(
        ("given", "meant"),
        [
            (None, None), (1, [1]), (np.int64(3), [3]), ("1", [1]), ("0-3", [0, 1, 2, 3]), ("0, 2-4,2", [0, 2, 3, 4]),
            ([2, 0, 2], [0, 2]), ((1,), [1]), (range(3), [0, 1, 2]), ({1, 0}, [0, 1]), (np.arange(2), [0, 1]), (np.array(3), [3]), (iter([5]), [5]),
            ((layer for layer in (1, 2)), [1, 2]), ([], []), ([np.uint8(200)], [200]),
        ],
    )  # fmt: skip
    def test_what_is_plain_is_taken(self, given: Any, meant: list[int] | None):
        assert as_layers(given) == meant

    @pytest.mark.parametrize(
        "given",
        ["", "x", "3-1", "-1", "1-", "1-2-3", "0-9999999", "²", True, [True], 1.0, [1.0], ["1"], [None], {"1": 2}, b"1", object(), Path("1")],
    )  # fmt: skip
    def test_what_is_not_is_refused(self, given: Any):
        with pytest.raises(
            InputError,
            match=r"layers: got .*, wanted whole numbers, one or several, or words such as '0,2-4'",
        ):
            as_layers(given)

    def test_of_a_finished_run(self):
        assert as_layer(None, [0, 2]) is None
        assert as_layer(np.int32(2), [0, 2]) == 2
        with pytest.raises(
            InputError, match=r"layer: got '2' \(str\), wanted one of the numbers 0, 2, or None for all"
        ):
            as_layer("2", [0, 2])
        with pytest.raises(InputError, match=r"layer: got \[0\] \(list\), wanted one of the numbers"):
            as_layer([0], [0, 2])
        with pytest.raises(InputError, match=r"layer: got True \(bool\)"):
            as_layer(True, [0, 1])
        with pytest.raises(InputError, match="layer 1: this run measured layers 0, 2"):
            as_layer(1, [0, 2])


MASKS = {"even": np.arange(6) % 2 == 0, "third": np.arange(6) % 3 == 0}


class TestConcepts:
    def test_a_dictionary_is_a_set(self):
        made = as_concepts(
            {**MASKS, "first": lambda ids: np.arange(ids.shape[1])[None] == np.zeros((len(ids), 1))}
        )
        assert made.names == ("even", "third", "first")
        ids = np.array([[0, 1, 2, 3]], np.int32)
        tokens = Tokens(ids=ids, lengths=np.array([4]), bos_id=None, name="t")
        wanted = Concepts.from_vocab(MASKS).label(tokens).dense()
        assert np.array_equal(made.label(tokens).dense()[:, :2], wanted)
        assert made.label(tokens).dense()[:, 2].tolist() == [True, False, False, False]

    def test_sets_in_a_list_are_added(self):
        one, two = (Concepts.from_vocab({name: mask}) for name, mask in MASKS.items())
        assert as_concepts([one, two]).names == ("even", "third")
        assert as_concepts(one) is one
        assert as_concepts("default") == "default"
        assert as_concepts(None) is None

    @pytest.mark.parametrize(
        "given", [[], 5, {}, {3: np.ones(2, bool)}, object(), {1, 2}, [None], ["even", 5]]
    )
    def test_what_is_none_is_refused(self, given: Any):
        with pytest.raises(InputError, match="concepts: got "):
            as_concepts(given)

    def test_a_mask_that_is_none_is_named(self):
        with pytest.raises(InputError, match="mask 'a' has shape"):
            as_concepts({"a": 1.5})


class TestCorpus:
    @pytest.mark.parametrize(
        "text",
        [
            "hello world this is text",
            "",
            "a\nb",
            "what?",
            "x" * 5_000 + " y",
            "nowhere/of/all",
            "a b.",
            "nul\0l",
        ],
    )
    def test_a_text_is_no_corpus(self, text: str, tmp_path: Path):
        for call in (pk.analyze, pk.list_concepts):
            options = {"out": tmp_path / "run"} if call is pk.analyze else {}
            with pytest.raises(
                InputError, match=r"corpus: got .*Corpus\.from_texts\(\[text, …\]\)"
            ) as caught:
                call("nano", text, **options)
            assert len(str(caught.value)) < 400
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("empty", [{}, [], ()])
    def test_nothing_is_no_corpus(self, empty: Any):
        with pytest.raises(InputError, match=r"corpus: got an empty .*, wanted at least one document"):
            as_corpus(empty)

    def test_what_may_name_one_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "my texts").mkdir()
        for word in (
            "docs",
            "wikitext",
            "owner/data-set_1.0",
            "nowhere.txt",
            "/nowhere/at all",
            "my texts",
            Path("my texts"),
        ):
            assert check_name(word) is word
        assert as_corpus(["a list of documents needs no name"]).name


class TestSeveralRuns:
    @pytest.mark.parametrize(
        ("runs", "told"),
        [
            ([], "got 0 runs, wanted two or more"),
            ("nowhere", r"got 'nowhere' \(str\), wanted a list of two or more runs"),
            (5, r"got 5 \(int\), wanted a list"),
            ([5, 6], r"got 5 \(int\) among the runs, wanted a run or its directory"),
        ],
    )
    def test_what_cannot_be_compared(self, runs: Any, told: str):
        with pytest.raises(InputError, match=f"compare: {told}"):
            _runs(runs)

    def test_one_run_is_not_several(self, planted_run: pk.Run, tmp_path: Path):
        with pytest.raises(
            InputError, match=r"compare: got 1 run, wanted two or more; the report of one run is run\.report"
        ):
            pk.compare([planted_run], tmp_path / "x.html")
        with pytest.raises(InputError, match="names: got 'ab', wanted a list of names"):
            pk.compare([planted_run, planted_run], tmp_path / "x.html", names="ab")
        assert not list(tmp_path.iterdir())
        pk.compare([planted_run, planted_run], tmp_path / "x.html", names=["a", "b"])
        assert (tmp_path / "x.html").exists()


class TestOneRun:
    def test_a_slip_of_spelling_is_helped(self, planted_run: pk.Run):
        name = str(planted_run.pairs()["a"][0])
        with pytest.raises(
            InputError, match=rf"concept '{name}x': none of the \d+ in tested pairs; did you mean .*'{name}'"
        ):
            planted_run.pair(name + "x", name)
        with pytest.raises(
            InputError, match=r"concept 'zzzzzz': none of .*; none is spelt like it\. run\.concepts"
        ):
            planted_run.pair("zzzzzz", name)


def test_twins_that_nobody_asked_for_are_not_said_to_be_impossible(arrays: Any):
    neurons, labels, docs, inputs, weights = arrays
    options: dict[str, Any] = {"max_pairs": 5, "twins": 0, "progress": False}
    run = pk.analyze_arrays(neurons, labels, docs, inputs=inputs, weights=weights, **options)
    assert run.summary["notes"] == [
        "No random twin was asked for (twins=0): nothing is said about computation."
    ]
    assert "could be made" not in (run.path / "report.html").read_text()
    # the control: without weights it is said that none can be
    without = pk.analyze_arrays(neurons, labels, docs, **{**options, "twins": 4})
    assert "no random twin could be made" in without.summary["notes"][0]
