"""An expert as a layer on the tokens routed to it: what is handed on, what is found, and what is said of too few tokens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.analysis.experts import ExpertLayer
from probekit.errors import ConfigError, DegenerateError, InputError, StaleError
from probekit.testing.experts import PAIR, PlantedExperts, planted_experts

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
import architectures

QUICK: dict[str, Any] = {"twins": 4, "min_support": 10, "spikes": (), "controls": (), "progress": False}
PLANTED_IN = 2


def layer_of(planted: PlantedExperts, **options: Any) -> ExpertLayer:
    return pk.experts(
        planted.model,
        planted.corpus,
        layer=0,
        concepts=planted.concepts,
        context=32,
        progress=False,
        **options,
    )


@pytest.fixture(scope="module")
def layer() -> ExpertLayer:
    return layer_of(planted_experts(0, PLANTED_IN, n_docs=120))


def computed(run: pk.Run) -> set[tuple[str, str]]:
    pairs = run.pairs()
    return {(str(row.a), str(row.b)) for row in pairs[pairs["computed"].astype(bool)].itertuples()}


def times_its_twins(run: pk.Run) -> float:
    """d′ of the planted pair over that of the expert's random twins."""
    pairs = run.pairs()
    row = pairs[(pairs["a"] == PAIR[0]) & (pairs["b"] == PAIR[1])]
    return float((row["d_prime"] / row["d_prime_twins"]).iloc[0])


def test_an_and_stands_out_in_the_expert_that_has_it_and_in_no_other(layer: ExpertLayer) -> None:
    run = layer[PLANTED_IN].analyze(**QUICK)
    assert times_its_twins(run) > 4  # 7, 8 and 6 in three models of other seeds
    assert times_its_twins(layer[0].analyze(**QUICK)) < 2  # a random expert is one more twin
    notes = run.summary["notes"]
    assert notes[0].startswith(f"This is expert {PLANTED_IN} of layer 0 as a layer of its own: 1,")
    assert "A concept that decides the routing" in notes[0]
    assert run.summary["model"]["name"] == f"MixtralForCausalLM, layer 0, expert {PLANTED_IN}"
    assert run.summary["corpus"]["policy"] == f"tokens routed to expert {PLANTED_IN}"


def test_without_it_the_same_expert_does_not_stand_out() -> None:
    """Every other weight, token and route is the same."""
    assert times_its_twins(layer_of(planted_experts(0, None, n_docs=120))[PLANTED_IN].analyze(**QUICK)) < 2


@pytest.mark.slow
def test_it_is_computed_in_that_expert_only() -> None:
    """The decision needs more twins and text; `analyses/experts.py` has it for more models."""
    whole = QUICK | {"twins": 20, "min_support": 20}
    for planted_in in (PLANTED_IN, None):
        for expert in layer_of(planted_experts(0, planted_in)):
            assert (PAIR in computed(expert.analyze(**whole))) == (expert.expert == planted_in)


def test_each_expert_gets_its_tokens(layer: ExpertLayer) -> None:
    table = layer.table
    assert list(table["expert"]) == [0, 1, 2, 3] == [expert.expert for expert in layer]
    assert table["tokens"].sum() == 2 * len(layer.docs)  # two experts a token
    assert (table["remark"] == "").all()
    # the two that are chosen share weight 1
    assert sum(float(expert.router_weights.sum()) for expert in layer) == pytest.approx(
        len(layer.docs), rel=1e-5
    )
    assert repr(layer).startswith("ExpertLayer(MixtralForCausalLM, layer 0: 4 experts, 1,")
    assert repr(layer[1]).startswith("Expert(MixtralForCausalLM, layer 0, expert 1: 1,")


def test_the_experts_of_a_layer_write_what_the_layer_writes() -> None:
    """Neurons and router weights as they are handed on, through W_out, against the block of `transformers` itself."""
    planted = planted_experts(1, 0, n_docs=3)
    held, block = layer_of(planted), planted.model.model.layers[0].mlp
    written = torch.zeros(len(held.docs), held.inputs.shape[1])
    for expert in held:
        rows = (held.chosen == expert.expert).any(1)
        weight = torch.from_numpy(expert.router_weights)[:, None]
        with torch.no_grad():
            written[rows] += weight * (expert.neurons() @ block.experts.down_proj[expert.expert].T)
    with torch.no_grad():
        theirs = block(held.inputs[None])[0]
    torch.testing.assert_close(written, theirs, rtol=1e-5, atol=1e-5)  # float32, sums in another order


def test_its_arrays_are_those_of_analyze_arrays(layer: ExpertLayer) -> None:
    few = {**QUICK, "max_pairs": 6}
    by_hand = pk.analyze_arrays(**layer[1].arrays(), **few).pairs()
    own = layer[1].analyze(**few).pairs()
    assert by_hand.drop(columns="kind").equals(own.drop(columns="kind"))


def test_equal_documents_count_as_one() -> None:
    ids = np.random.default_rng(0).integers(0, 60, (4, 8))
    model = architectures.builder("mixtral")()
    read = pk.experts(
        model, pk.Corpus.from_tokens(ids[[0, 1, 0, 2]]), layer=0, context=8, progress=False,
        concepts=pk.Concepts.from_vocab({"a": np.arange(64) < 30, "b": np.arange(64) % 2 == 0}),
    )  # fmt: skip
    assert read.docs.tolist() == [0] * 14 + [1] * 7 + [3] * 7
    torch.testing.assert_close(read.inputs[:7], read.inputs[7:14])


def test_a_concept_of_the_token_before_is_called_so() -> None:
    planted = planted_experts(0, PLANTED_IN, n_docs=100)
    masks = {name: np.arange(8_000) % 3 == i for i, name in enumerate(("x", "y"))}
    read = pk.experts(
        planted.model, planted.corpus, layer=0, context=32, progress=False,
        concepts=pk.Concepts.from_vocab(masks, lags=(0, 1)),
    )  # fmt: skip
    kinds = read[0].analyze(**{**QUICK, "twins": 0}).pairs().set_index(["a", "b"])["kind"]
    assert kinds["x", "prev:y"] == "user × user, lag 1"


class TestTooLittle:
    """Said in words, never NaN."""

    @pytest.fixture(scope="class")
    def starved(self) -> ExpertLayer:
        planted = planted_experts(0, None, n_docs=60, n_vocab=500)
        gate = planted.model.model.layers[0].mlp.gate
        with torch.no_grad():
            gate.weight[3] = -10 * gate.weight.abs().max()  # the constant is positive: never chosen
            gate.weight[2] /= 3  # seldom
        return layer_of(planted)

    def test_no_token(self, starved: ExpertLayer) -> None:
        assert starved[3].n_tokens == 0
        assert starved.table["remark"][3] == "no token is routed to it"
        assert starved.table.notna().all(axis=None)
        with pytest.raises(
            DegenerateError, match=r"layer 0, expert 3: no token is routed to it\. Read more text"
        ):
            starved[3].analyze(**QUICK)

    def test_few_tokens(self, starved: ExpertLayer) -> None:
        few = starved[2]
        assert 0 < few.n_tokens < len(starved.docs)
        with pytest.raises(
            DegenerateError, match=r"expert 2: .* tokens are routed to it: too few, since four quadrants of"
        ):
            few.analyze(**{**QUICK, "min_support": 300})
        with pytest.raises(DegenerateError, match=r"expert 2, to which .* tokens are routed: "):
            few.analyze(**{**QUICK, "min_support": few.n_tokens // 8})


def test_what_is_refused(layer: ExpertLayer, tmp_path: Path) -> None:
    planted = planted_experts(0, None, n_docs=4)
    with pytest.raises(InputError, match="got expert 4, but layer 0 has experts 0 to 3"):
        _ = layer[4]
    with pytest.raises(ConfigError, match=r"Expert\.analyze: got layers, wanted some of pairs, max_pairs"):
        layer[0].analyze(layers=[0])
    with pytest.raises(InputError, match="got layer 1, but the model has layers 0 to 0"):
        pk.experts(planted.model, planted.corpus, layer=1, concepts=planted.concepts)
    with pytest.raises(InputError, match=r"no/such/file"):
        pk.experts(planted.model, "no/such/file.txt", layer=0)
    few = {**QUICK, "twins": 0, "out": tmp_path / "run"}
    first = layer[0].analyze(**few)
    assert layer[0].analyze(**few).pairs().equals(first.pairs())
    with pytest.raises(StaleError, match="another run"):
        layer[1].analyze(**few)
