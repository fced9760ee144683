"""One pair looked at: what is kept of it is what the tables say, and it can be read from the directory alone."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

import probekit as pk
from probekit.errors import InputError, StoreError
from probekit.probes.pairs import QUADRANTS
from probekit.results.pair import N_BINS, TOP


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> pk.Run:
    """nano on words whose order matters: value array, value list, the array."""
    rng = np.random.default_rng(3)
    words = [" value", " array", " of", " the", " the", " list", " is", " a"]
    texts = ["The" + "".join(rng.choice(words, 40)) + "." for _ in range(240)]
    concepts = pk.Concepts.defaults(_tokenizer(), pk.Corpus.from_texts(texts), n_frequent=8)
    return pk.analyze(
        "nano", pk.Corpus.from_texts(texts), concepts=concepts, layers=[0, 2], twins=4, min_support=20, max_pairs=200,
        pairs=["token × token, lag 1"], out=tmp_path_factory.mktemp("look") / "run", progress=False,
    )  # fmt: skip


def _tokenizer():
    from probekit.model.hooked_model import load_reader

    return load_reader("nano").tokenizer


class TestPair:
    def test_says_what_the_tables_say(self, text_run: pk.Run):
        row = text_run.pairs(2).iloc[5]
        detail = text_run.pair(row["a"], row["b"])
        assert (detail.a, detail.b) == (row["a"], row["b"])
        assert detail.layers["layer"].tolist() == [0, 2]
        mine = detail.layers[detail.layers["layer"] == 2].iloc[0]
        assert mine["d_prime"] == row["d_prime"]
        assert mine["twin_mean"] == pytest.approx(row["d_prime_twins"], rel=1e-12)  # one mean, taken twice
        assert mine["n_twins"] == 4
        neurons = detail.neurons[detail.neurons["layer"] == 2]
        assert set(neurons["neuron"]) == set(row["neurons"])
        assert dict(zip(neurons["neuron"], neurons["weight"], strict=True)) == dict(
            zip(row["neurons"], row["weights"], strict=True)
        )
        assert neurons["contribution"].abs().is_monotonic_decreasing

    def test_contributions_sum_to_the_contrast(self, text_run: pk.Run):
        """κ is linear in the readout: Σ w·κ_i over its neurons is κ, on the same tokens; fp32 sums of 2,000 tokens."""
        row = text_run.pairs(0).iloc[0]
        neurons = text_run.pair(row["a"], row["b"]).neurons
        assert neurons[neurons["layer"] == 0]["contribution"].sum() == pytest.approx(row["kappa"], abs=2e-3)

    def test_quadrants_hold_every_sampled_token(self, text_run: pk.Run):
        for row in text_run.pairs(0).head(5).to_dict("records"):
            quadrants = text_run.pair(row["a"], row["b"]).quadrants
            quadrants = quadrants[quadrants["layer"] == 0].set_index("quadrant")
            for name in QUADRANTS:
                mine: Any = quadrants.loc[name].to_dict()
                assert mine["n_sampled"] == sum(mine["counts"]) == min(row[f"n{name}"], 2_000)
                assert len(mine["counts"]) == N_BINS
                assert (
                    mine["low"]
                    <= mine["q5"]
                    <= mine["q25"]
                    <= mine["q50"]
                    <= mine["q75"]
                    <= mine["q95"]
                    <= mine["high"]
                )
                middle = np.linspace(mine["low"], mine["high"], 2 * N_BINS + 1)[1::2]
                width = (mine["high"] - mine["low"]) / N_BINS
                # a histogram knows its mean to half a bin
                assert abs(np.average(middle, weights=mine["counts"]) - mine["mean"]) <= width / 2 + 1e-6

    def test_contexts_are_of_their_quadrant(self, text_run: pk.Run):
        """The kept tokens, read as text, are where the concepts say they are."""
        pairs = text_run.pairs(0)
        tokens = pairs[pairs["a"].str.startswith("cur=") & pairs["b"].str.startswith("prev=")]
        row = tokens.iloc[0]
        assert len(tokens) > 3
        contexts = text_run.pair(row["a"], row["b"]).contexts
        a, b = (json.loads(row[name].partition("=")[2]) for name in ("a", "b"))
        assert len(contexts) == 2 * 4 * TOP
        for shown in contexts.to_dict("records"):
            inside = (shown["token"] == a, shown["before"].endswith(b))
            assert inside == (shown["quadrant"][0] == "1", shown["quadrant"][1] == "1")
        top = contexts[(contexts["layer"] == 0) & (contexts["quadrant"] == "11")]["value"]
        assert top.is_monotonic_decreasing

    @pytest.mark.parametrize(("a", "b"), [("prev=value", "cur=array"), ("cur=array", "prev=value")])
    def test_names_may_be_bare_and_in_any_order(self, text_run: pk.Run, a: str, b: str):
        detail = text_run.pair(a, b)
        assert {detail.a, detail.b} == {'prev=" value"', 'cur=" array"'}

    def test_one_layer_alone(self, text_run: pk.Run):
        whole, part = (
            text_run.pair("prev=value", "cur=array"),
            text_run.pair("prev=value", "cur=array", layer=2),
        )
        assert part.layers["layer"].tolist() == [2]
        for name in ("quadrants", "neurons", "contexts", "twins"):
            held = getattr(whole, name)
            assert getattr(part, name).equals(held[held["layer"] == 2].reset_index(drop=True))
        assert "<h2>Layer" not in part.html()
        with pytest.raises(InputError, match="layer"):
            text_run.pair("prev=value", "cur=array", layer=1)

    def test_names_that_are_none(self, text_run: pk.Run):
        with pytest.raises(
            InputError, match=r"concept 'cur=arra': none of the \d+ in tested pairs; did you mean .*array"
        ):
            text_run.pair("prev=value", "cur=arra")
        with pytest.raises(InputError, match=r"not among the \d+ tested pairs.*was tested with \d+ concepts"):
            text_run.pair("cur=array", "cur=array")

    def test_picture_and_page(self, text_run: pk.Run, tmp_path):
        detail = text_run.pair("prev=value", "cur=array")
        svg = ET.fromstring(detail.figure())
        assert svg.tag.endswith("svg")
        assert "layer 2: d′" in "".join(svg.itertext())
        page = detail.save(tmp_path / "p.html").read_text()
        assert page == detail._repr_html_()
        assert page.count("<tr>") == 4 + 2 + 8 + 2 * 8  # headings, layers, quadrants, neurons
        assert page.count("<li>") == 2 * 4 * TOP  # contexts
        assert "<mark> array</mark>" in page
        # what is to be made of it, and what the concepts are
        assert re.search(r"On unseen documents layer [02] tells A-and-B", page)
        assert "the token before is" in re.sub(r"<[^>]+>", "", page)
        assert not re.search(r"(src|href)=\"http", page)
        with pytest.raises(InputError, match=r"p\.pdf: wanted a name that ends in \.svg"):
            detail.save(tmp_path / "p.pdf")

    def test_hostile_text_is_escaped(self, text_run: pk.Run):
        detail = text_run.pair("prev=value", "cur=array")
        detail.contexts.loc[0, "before"] = "<script>alert(1)</script>"
        assert "<script>alert" not in detail.html()

    def test_a_run_of_an_older_version(self, text_run: pk.Run, tmp_path):
        import shutil

        folder = shutil.copytree(text_run.path, tmp_path / "old")
        shutil.rmtree(folder / "pair_details")
        with pytest.raises(StoreError, match=r"layer-00\.parquet: missing.*older version"):
            pk.load(folder).pair("prev=value", "cur=array")

    def test_arrays_have_no_text_but_can_be_looked_at(self, arrays, tmp_path):
        neurons, labels, docs, inputs, weights = arrays
        run = pk.analyze_arrays(
            neurons, labels, docs, inputs=inputs, weights=weights, twins=4, max_pairs=6, progress=False
        )
        row = run.pairs(0).iloc[0]
        detail = run.pair(row["a"], row["b"])
        assert len(detail.twins) == 4
        truth = labels[:, [int(row["a"][1:]), int(row["b"][1:])]]
        for shown in detail.contexts.to_dict("records"):
            assert shown["quadrant"] == "".join(str(int(v)) for v in truth[int(shown["token"])])
        assert run.concepts.empty
        run.explore(tmp_path / "explorer")
        assert f'"name": "{row["a"]}"' in (tmp_path / "explorer" / "meta.js").read_text()


class TestListing:
    def test_the_run_lists_its_concepts(self, text_run: pk.Run):
        table = text_run.concepts.set_index("name")
        array: Any = table.loc['cur=" array"'].to_dict()
        assert (array["kind"], array["lag"]) == ("token", 0)
        corpus = text_run.summary["corpus"]
        n_tokens = corpus["n_tokens_fit"] + corpus["n_tokens_confirm"]
        assert array["share"] == pytest.approx(array["n_tokens"] / n_tokens, rel=1e-12)
        assert len(array["examples"]) == 3
        assert all("⟦ array⟧" in text for text in array["examples"])
        assert all(" value⟦" in text for text in table.loc['prev=" value"']["examples"])
        assert all(table["description"].str.len() > 5)
        # and the report shows them
        assert "The concepts of this run" in (text_run.path / "report.html").read_text()

    def test_listing_needs_no_weights_and_agrees(self, text_run: pk.Run, monkeypatch: pytest.MonkeyPatch):
        from probekit.followups.concepts import list_concepts

        monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *a, **k: 1 / 0)
        texts = ["The value array of the list", "it is a value array"]
        table = list_concepts("nano", pk.Corpus.from_texts(texts)).set_index("name")
        assert table.loc['cur=" array"', "n_tokens"] == 2
        assert table.loc['prev=" value"', "n_docs"] == 2


class TestGroups:
    def test_every_kind_has_its_own_census(self, text_run: pk.Run):
        pairs = text_run.pairs(2)
        groups = text_run.summary["layers"][1]["groups"]
        assert {g["kind"] for g in groups} == set(pairs["kind"])
        for group in groups:
            mine = pairs[pairs["kind"] == group["kind"]]
            assert group["n_tested"] == len(mine)
            assert group["n_computed"] == mine["computed"].sum()
            assert group["n_represented"] == mine["represented"].sum()
            assert group["mean_z"] is not None
            assert np.isfinite(group["mean_z"])
        assert sum(g["n_tested"] for g in groups) == len(pairs)
