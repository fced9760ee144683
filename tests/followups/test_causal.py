"""The causal check where the answer is known: one AND of a planted layer is written on to the predictions, no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.errors import InputError, StoreError
from probekit.theory.circuits import two_and

CIRCUIT = two_and(pairs=6, n_concepts=12, n_neurons=64, n_active=3, seed=3)
LENGTH = 24


def write_on(planted: Any, k: int, gain: float = 5.0) -> None:
    """Make the model predict, from output k alone, that the next token is one that follows a token with both concepts.

    Every token of the corpus has an entry of its own, so these entries are known. Coordinate 0 also holds a concept of
    the input, which no edit of the neurons touches.
    """
    tokens = planted.corpus.tokenize(None, context=100, max_tokens=10**6, bos_id=None)
    labels = planted.concepts.label(tokens)
    both = np.intersect1d(*(labels.where(f"f{c}") for c in CIRCUIT.pairs[k]))
    following = tokens.ids.ravel()[both[(both + 1) % LENGTH != 0] + 1]
    bridge = planted.model
    with torch.no_grad():
        out, unembed = bridge.blocks[0].mlp.out, bridge.unembed.weight
        out.weight.zero_()
        out.weight[0] = torch.from_numpy(CIRCUIT.readoff[k]).float()
        out.bias.zero_()
        unembed.zero_()
        unembed[torch.from_numpy(following.astype(np.int64)), 0] = gain


@pytest.fixture(scope="module")
def scene() -> Any:
    """The model, a run on it, and the designated pairs, the one that is written on first."""
    planted = pk.plant(CIRCUIT, n_docs=150, doc_len=LENGTH, noise=0.1, seed=1)
    # not one with concept 0, which would saturate the coordinate by itself
    order = sorted(range(CIRCUIT.n_outputs), key=lambda k: 0 in CIRCUIT.pairs[k])
    write_on(planted, order[0])
    pairs = [tuple(f"f{c}" for c in sorted(CIRCUIT.pairs[k].tolist())) for k in order]
    run = pk.analyze(
        planted.model,
        planted.corpus,
        concepts=planted.concepts,
        pairs=pairs,
        twins=0,
        min_support=20,
        progress=False,
    )
    return planted, run, pairs


@pytest.mark.parametrize("what", ["direction", "pattern"])
def test_only_what_is_written_on_moves_and_only_where_both_hold(scene: Any, what: Any) -> None:
    planted, run, pairs = scene
    check = pk.causal(
        run, planted.model, concepts=planted.concepts, what=what, pairs=pairs[:3], n_random=5, progress=False
    )
    table = check.table.set_index(["a", "b"])
    assert len(table) == 3
    written = table.loc[pairs[0]]
    # taking the AND away costs where both hold: the model no longer knows what follows
    assert written["loss11"] > 10 * written["loss11_se"]
    assert written["divergence_selective"]
    # along the readout little of it is taken away, and its mean, put everywhere, moves the other quadrants too
    if what == "pattern":
        assert written["loss11"] > 0.5
        assert written["loss_selective"]
    # the other pairs are computed as well, and nothing reads them
    for pair in pairs[1:3]:
        assert abs(table.loc[pair]["loss11"]) < 0.2 * written["loss11"]
    draws = check.draws.set_index(["a", "b"]).loc[pairs[0]]
    other = draws[draws["kind"] == "other"]
    # a random direction of the same norm: none is like it (16 of 64 neurons can hold some of the five that matter)
    assert np.median(np.abs(other["loss11"])) < 0.1 * written["loss11"]
    assert other["loss_selective"].mean() < 0.5
    assert check.settings["n_tokens"] == written[["n11", "n10", "n01", "n00"]].sum()


def test_neurons_one_by_one(scene: Any) -> None:
    planted, run, pairs = scene
    check = pk.causal(
        run, planted.model, concepts=planted.concepts, what="neurons", n_neurons=5, pairs=pairs[:1], n_random=3,
        progress=False,
    )  # fmt: skip
    row = check.table.iloc[0]
    assert row["loss11"] > 0.05
    assert row["divergence_selective"]
    assert "1 pairs" in repr(check)
    assert "loss11" in check._repr_html_()


def test_the_same_seed_gives_the_same_numbers(scene: Any) -> None:
    planted, run, pairs = scene
    one, two = (
        pk.causal(
            run,
            planted.model,
            concepts=planted.concepts,
            pairs=pairs[:1],
            n_random=1,
            max_tokens=600,
            progress=False,
        )
        for _ in range(2)
    )
    assert one.table.equals(two.table)
    assert one.draws.equals(two.draws)


def test_the_strongest_of_each_layer_are_taken(scene: Any) -> None:
    planted, run, _ = scene
    check = pk.causal(run, planted.model, concepts=planted.concepts, n_pairs=2, n_random=1, progress=False)
    best = run.pairs().sort_values("d_prime", ascending=False).head(2)
    assert set(zip(check.table["a"], check.table["b"], strict=True)) == set(
        zip(best["a"], best["b"], strict=True)
    )


def test_concepts_of_the_same_names_that_hold_elsewhere_are_refused(scene: Any) -> None:
    planted, run, pairs = scene
    block = planted.concepts.blocks[0]
    other = pk.Concepts((replace(block, masks=np.roll(block.masks, 1, axis=1)), *planted.concepts.blocks[1:]))
    assert other.names == planted.concepts.names
    with pytest.raises(InputError, match=r"concepts: got \w+, but .* pass the concepts of the run"):
        pk.causal(run, planted.model, concepts=other, pairs=pairs[:1], progress=False)


def test_what_cannot_be_used_is_refused(scene: Any, arrays: Any) -> None:
    planted, run, pairs = scene
    options: dict[str, Any] = {"concepts": planted.concepts, "progress": False}
    with pytest.raises(InputError, match="what: got 'soul', wanted one of"):
        pk.causal(run, planted.model, what="soul", **options)
    with pytest.raises(InputError, match="n_random: got 0, wanted a whole number ≥ 1"):
        pk.causal(run, planted.model, n_random=0, **options)
    with pytest.raises(InputError, match="pass the model of the run"):
        pk.causal(run, "nano", **options)
    with pytest.raises(InputError, match="not among the tested pairs"):
        pk.causal(run, planted.model, pairs=[("f0", "nobody")], **options)
    other = pk.Concepts.from_vocab({"g0": np.ones(150 * LENGTH, bool)})
    with pytest.raises(InputError, match="pass the concepts of the run"):
        pk.causal(run, planted.model, concepts=other, pairs=pairs[:1], progress=False)
    neurons, labels, docs, _, _ = arrays
    of_arrays = pk.analyze_arrays(neurons, labels, docs, min_support=20, progress=False)
    with pytest.raises(StoreError, match="a run on arrays keeps no text"):
        pk.causal(of_arrays, planted.model, progress=False)
