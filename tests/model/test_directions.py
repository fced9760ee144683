"""Directions of concepts in a layer's input: what the model itself computes, and least squares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from architectures import BOS

from probekit.errors import InputError
from probekit.model.directions import measured_directions, token_directions
from probekit.model.harvest import harvest
from probekit.model.hooked_model import HookedModel
from probekit.text.concepts.concepts import Concepts
from probekit.text.tokens import Tokens


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_token_directions_are_the_layers_inputs_behind_the_mark(
    name: str, hooked_model: Callable[[str], HookedModel]
) -> None:
    hooked = hooked_model(name)
    found = token_directions(hooked, [3, 7, 11, 20], 1)
    rows = np.array([[BOS, token] for token in (3, 7, 11, 20)], dtype=np.int32)
    tokens = Tokens(rows, np.full(4, 2), BOS, "by hand")
    inputs = np.concatenate([b.sites[1][0].numpy() for b in harvest(hooked, tokens, np.arange(4), [1])])
    # fp32 activations summed in fp64: their own rounding
    assert (found.codes.T + found.mean) == pytest.approx(inputs, abs=1e-6)
    assert found.codes.sum(axis=1) == pytest.approx(0, abs=1e-5)
    assert found.names == tuple(hooked.token_string(token) for token in (3, 7, 11, 20))


def test_measured_directions_are_least_squares_on_all_labels(
    hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
) -> None:
    hooked = hooked_model("gpt2")
    masks = {"low": np.arange(64) < 20, "even": np.arange(64) % 2 == 0}
    labels = Concepts.from_vocab(masks, lags=(0,)).label(ragged_tokens)
    found = measured_directions(hooked, ragged_tokens, labels, 0)
    docs = np.arange(ragged_tokens.n_docs)
    inputs = np.concatenate(
        [b.sites[0][0].numpy() for b in harvest(hooked, ragged_tokens, docs, [0])]
    ).astype(float)
    design = np.column_stack([np.ones(len(inputs)), labels.dense()])
    plain = np.linalg.lstsq(design, inputs, rcond=None)[0][1:]
    # a ridge of a thousandth of each label's variance shrinks by about that
    assert np.abs(found.codes.T - plain).max() <= 0.01 * np.abs(plain).max()
    assert found.covariance == pytest.approx(np.cov(inputs.T, bias=True), abs=1e-4)
    assert found.commonest(labels, 1).codes.shape[1] == 2  # never fewer than a pair


def test_one_token_is_no_set(hooked_model: Callable[[str], HookedModel]) -> None:
    with pytest.raises(InputError, match=r"tokens: got 1, wanted two or more"):
        token_directions(hooked_model("gpt2"), [3], 0)
    with pytest.raises(InputError, match=r"layer 7"):
        token_directions(hooked_model("gpt2"), [3, 4], 7)
