"""Held-out token types: a layer that only knows certain tokens is caught, one that combines two concepts is not.

The scene: every token has one of 320 types, which decides all of its labels. The input holds the type (one coordinate
each) and the concepts (one coordinate each) in noise. Of eight pairs four are *lexical*: neurons that each know one type,
for the types with both concepts; four are true: neurons that add the two concepts up and bend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.analysis.design import is_confirm_type
from probekit.analysis.source import ModelSource
from probekit.errors import ShapeError
from probekit.model.hooked_model import load_hooked_model

N_TYPES, N_CONCEPTS, N_DOCS, LENGTH, CHANNEL = 320, 16, 400, 50, 5
LEXICAL = [(0, 1), (2, 3), (4, 5), (6, 7)]
TRUE = [(8, 9), (10, 11), (12, 13), (14, 15)]
OTHERS = [(a, b) for a in range(8) for b in range(8, 12)]


@dataclass(frozen=True)
class Scene:
    types: np.ndarray
    labels: np.ndarray
    docs: np.ndarray
    inputs: np.ndarray
    weights: tuple[np.ndarray, np.ndarray]

    @property
    def neurons(self) -> np.ndarray:
        w_in, b_in = self.weights
        return np.maximum(self.inputs @ w_in.T + b_in, 0)


@pytest.fixture(scope="module")
def scene() -> Scene:
    rng = np.random.default_rng(4)
    held = rng.random((N_TYPES, N_CONCEPTS)) < 0.3
    types = rng.integers(0, N_TYPES, N_DOCS * LENGTH)
    labels = held[types]
    inputs = np.concatenate([np.eye(N_TYPES)[types], labels], axis=1)
    inputs = inputs + np.concatenate(
        [np.full(N_TYPES, 0.15), np.full(N_CONCEPTS, 0.15)]
    ) * rng.standard_normal(inputs.shape)
    rows: list[np.ndarray] = []
    bias: list[float] = []
    known = sorted({t for a, b in LEXICAL for t in np.flatnonzero(held[:, a] & held[:, b]).tolist()})
    for t in known:
        rows.append(np.eye(N_TYPES + N_CONCEPTS)[t])
        bias.append(-0.5)
    for a, b in TRUE:
        for _ in range(CHANNEL):
            row = np.zeros(N_TYPES + N_CONCEPTS)
            row[[N_TYPES + a, N_TYPES + b]] = 1
            rows.append(row + 0.02 * rng.standard_normal(len(row)))
            bias.append(-1.0)
    return Scene(
        types, labels, np.repeat(np.arange(N_DOCS), LENGTH), inputs, (np.stack(rows), np.array(bias))
    )


def judged(scene: Scene, **more: Any) -> dict[tuple[int, int], Any]:
    run = pk.analyze_arrays(
        scene.neurons, scene.labels, scene.docs, inputs=scene.inputs, weights=scene.weights, twins=8, spikes=(),
        controls=(), min_support=40, progress=False,
        pairs=[(f"c{a}", f"c{b}") for a, b in LEXICAL + TRUE + OTHERS], **more,
    )  # fmt: skip
    table = run.pairs(0)
    if more:
        assert any("Token types were held out" in note for note in run.summary["notes"])
    return {(int(row["a"][1:]), int(row["b"][1:])): row for row in table.to_dict("records")}


@pytest.mark.sweep
def test_the_lexical_confound_is_caught_and_the_true_and_survives(scene: Scene) -> None:
    by_documents = judged(scene)
    by_types = judged(scene, types=scene.types)
    # split by documents alone the neurons that know single tokens pass for ANDs
    assert sum(bool(by_documents[pair]["above_twins"]) for pair in LEXICAL) >= 3
    assert all(by_documents[pair]["above_twins"] for pair in TRUE)
    # on types that were not seen their readouts hold nothing, and a true AND stays what it was
    assert not any(by_types[pair]["above_twins"] for pair in LEXICAL)
    # half of the types hold some 15 with both concepts, so twins scatter and one of four may stay below the level
    assert sum(bool(by_types[pair]["above_twins"]) for pair in TRUE) >= 3
    assert all(by_types[pair]["p_twin"] < 0.01 for pair in TRUE)
    for pair in LEXICAL:
        assert abs(by_types[pair]["d_prime"]) < 0.25 * by_documents[pair]["d_prime"]
    for pair in TRUE:
        assert by_types[pair]["d_prime"] == pytest.approx(by_documents[pair]["d_prime"], rel=0.25)


def test_no_type_is_fitted_and_judged_on(scene: Scene) -> None:
    """Fit: documents of one half, types of one half; confirm: the others of both."""
    run = pk.analyze_arrays(
        scene.neurons,
        scene.labels,
        scene.docs,
        types=scene.types,
        twins=0,
        min_support=40,
        progress=False,
        pairs=[("c0", "c1")],
    )
    corpus = run.summary["corpus"]
    share = is_confirm_type(scene.types, 0).mean()
    assert 0.35 < share < 0.65
    # documents are dealt by halves too: a quarter of the tokens each, up to how unequal the types are
    assert corpus["n_tokens_fit"] + corpus["n_tokens_confirm"] < 0.6 * len(scene.types)
    assert corpus["n_tokens_fit"] == pytest.approx(0.5 * (1 - share) * len(scene.types), rel=0.1)
    assert corpus["n_tokens_confirm"] == pytest.approx(0.5 * share * len(scene.types), rel=0.1)
    assert not np.array_equal(is_confirm_type(scene.types, 0), is_confirm_type(scene.types, 1))


def test_types_must_fit(scene: Scene) -> None:
    with pytest.raises(
        ShapeError, match=r"types: got shape \(3,\) of int64, wanted whole numbers \[token=20,000\]"
    ):
        pk.analyze_arrays(scene.neurons, scene.labels, scene.docs, types=np.arange(3))


def test_a_model_delivers_the_kept_tokens_from_any_start() -> None:
    """The same rows as all tokens of the same documents, cut to the kept ones, wherever one takes up."""
    hooked = load_hooked_model("nano")
    tokens = pk.Corpus.from_texts(
        [f"Document {i} returns a list of {i} values, if any." * 3 for i in range(30)]
    ).tokenize(hooked.tokenizer, context=40, max_tokens=10_000, bos_id=hooked.bos_id)
    docs = {"fit": np.arange(0, 30, 2), "confirm": np.arange(1, 30, 2)}
    of_fit = np.isin(tokens.doc_of_token, docs["fit"])
    kept = np.flatnonzero(of_fit & (tokens.ids[tokens.counted] % 3 > 0))
    source = ModelSource(hooked, tokens, docs, {"fit": kept})

    def rows(blocks: Iterator[Any]) -> torch.Tensor:
        return torch.cat([block[1][1] for block in blocks])

    every = rows(ModelSource(hooked, tokens, docs).blocks("fit", [1]))
    wanted = every[torch.from_numpy(np.isin(np.flatnonzero(of_fit), kept))]
    assert torch.equal(rows(source.blocks("fit", [1])), wanted)
    for start in (1, 57, len(kept) - 1):
        assert torch.equal(rows(source.blocks("fit", [1], start)), wanted[start:])
    # the half without rows keeps all its tokens
    assert torch.equal(
        rows(source.blocks("confirm", [1])), rows(ModelSource(hooked, tokens, docs).blocks("confirm", [1]))
    )


@pytest.mark.slow
def test_a_model_run_says_so() -> None:
    run = pk.analyze(
        "nano",
        layers=[1],
        max_tokens=16_000,
        max_pairs=10,
        twins=0,
        min_support=20,
        heldout_types=True,
        progress=False,
    )
    assert run.record["science"]["settings"]["heldout_types"] is True
    assert any("Token types were held out" in note for note in run.summary["notes"])
    corpus = run.summary["corpus"]
    assert corpus["n_tokens_fit"] + corpus["n_tokens_confirm"] < 12_000
    # a concept that is one token type is in no tested pair
    assert not any(name.startswith("cur=") for name in (*run.pairs()["a"], *run.pairs()["b"]))
