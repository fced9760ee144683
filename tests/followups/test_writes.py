"""An additive layer writes nothing for A and B together, a planted one the image of its neurons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.errors import InputError, StoreError
from probekit.followups.writes import COLUMNS, patched, second_difference
from probekit.model.claims import Works
from probekit.model.weights import MlpWeights


@pytest.fixture(scope="module")
def found(planted: Any, planted_run: Any) -> Any:
    table = planted_run.pairs(0)
    truth = {frozenset(pair) for pair in planted.truth}
    weakest = table.sort_values("d_prime").iloc[0]
    assert frozenset((weakest.a, weakest.b)) not in truth
    pairs = [*planted.truth[:4], (weakest.a, weakest.b)]
    return pk.writes(
        planted_run, planted.model, concepts=planted.concepts, pairs=pairs, n_random=80,
        top=3, max_tokens=6_000,
    )  # fmt: skip


def works(w_in: np.ndarray) -> Works:
    writes = np.random.default_rng(0).standard_normal((len(w_in), 6))
    return Works(MlpWeights.from_arrays(w_in, np.zeros(len(w_in))), torch.from_numpy(writes).float())


def test_an_additive_layer_writes_nothing_for_both() -> None:
    """Neurons that each read one coordinate: the terms cancel one by one, and only the float32 sums are left."""
    inputs = torch.from_numpy(np.random.default_rng(1).integers(-4, 5, (50, 4)) / 4).float()
    rows = np.eye(4)[[0, 0, 1, 1, 2, 3]] * np.array([[1], [-1], [2], [-1], [1], [1]])
    a, b = torch.eye(4)[:2]
    mean, size = second_difference(works(rows), inputs, a, b)
    assert np.abs(mean).max() < 1e-6
    assert size < 1e-6
    rows[0] = [1, 1, 0, 0]
    one = works(rows)
    mean, size = second_difference(one, inputs, a, b)
    assert size > 0.05, "the test could fail: one neuron reads both"
    assert one.writes is not None
    assert abs(np.corrcoef(mean, one.writes[0].numpy())[0, 1]) > 0.999, "and what is written is its own"


def test_no_token_with_both_is_no_evidence() -> None:
    """Nothing was taken out: every number is undefined, the p-value among them."""
    layer, rng = works(np.ones((3, 4))), np.random.default_rng(2)
    a, b = torch.eye(4)[:2]
    none = patched(layer, torch.zeros(0, 4), a, b, 20, rng)
    assert np.isnan([none.share, none.size, none.size_random, none.p]).all()
    assert np.isnan(none.mean).all()
    some = patched(layer, torch.ones(5, 4), a, b, 20, rng)  # the control
    assert np.isfinite([some.share, some.size, some.size_random, some.p]).all()


def test_a_planted_and_is_written_where_its_neurons_write(found: Any, planted: Any) -> None:
    named = {tuple(sorted(pair)) for pair in planted.truth}
    is_planted = [tuple(sorted((row.a, row.b))) in named for row in found.table.itertuples()]
    mine = found.table[is_planted]
    assert len(mine) == 4
    assert (mine["patch_size"] > 1.5 * mine["patch_size_random"]).all()
    assert (mine["p_patch"] == 1 / 11).all()
    assert (mine["patch_cosine"] > 0.7).all()
    rest = found.table[[not flag for flag in is_planted]]
    assert (rest["patch_share"] < 0.05).all()
    assert (mine["patch_share"] > 0.5).all()


def test_the_table(found: Any) -> None:
    assert list(found.table.columns) == list(COLUMNS) == list(found.describe()["column"])
    assert (found.table["promoted"].map(len) == 3).all()
    assert found.images.shape == found.patches.shape
    assert repr(found) == "Writes(5 pairs)"
    assert "<table" in found._repr_html_()
    assert found.table["p_promoted"].between(1 / 81, 1).all()


def test_what_cannot_be_asked(planted: Any, planted_run: Any, arrays: Any, tmp_path: Path) -> None:
    options = {"concepts": planted.concepts}
    with pytest.raises(InputError, match="top: got 0, wanted a whole number"):
        pk.writes(planted_run, planted.model, top=0, **options)
    with pytest.raises(InputError, match="pairs: not among the tested pairs"):
        pk.writes(planted_run, planted.model, pairs=[("f0", "nobody")], **options)
    with pytest.raises(InputError, match="model: got"):
        pk.writes(planted_run, "nano", **options)
    neurons, labels, docs, inputs, weights = arrays
    run = pk.analyze_arrays(
        neurons, labels, docs, inputs=inputs, weights=weights, twins=0, out=tmp_path / "run", progress=False
    )
    with pytest.raises(StoreError, match="a run on arrays keeps no text and no model"):
        pk.writes(run, planted.model)
