"""Cells read with a cache are those of whole rows, in every architecture; a grid's twins are the twins they claim to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from probekit.errors import InputError, NonFiniteError
from probekit.model import grid as module
from probekit.model.grid import Grid, bytes_per_layer, draw_twins, neuron_means, output_weights, read_grid
from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.model.sites import INPUT_SITE, capture
from probekit.model.twins import InputFrame, PcSignTwins

GRID = Grid(contexts=[[5, 9, 2], [7, 1]], prefixes=[11, 12, 13, 14, 15], suffixes=[21, 22, 23, 24])
PARALLEL_OR_PLAIN = {"gpt2", "neox", "llama", "qwen2", "phi", "phi3", "gptj"}
"""Their blocks add the MLP's output as it is; gemma2 normalises it first, BLOOM's MLP adds the stream itself."""


def whole(hooked: HookedModel, context: int, prefix: int, suffix: int) -> dict[str, torch.Tensor]:
    """One cell as an ordinary row through the bridge."""
    return capture(hooked.bridge, torch.tensor([GRID.row(hooked.bos_id, context, prefix, suffix)]))


def test_cells_are_those_of_whole_rows(dense: str, hooked_model: Callable[[str], HookedModel]):
    hooked = hooked_model(dense)
    seen: list[int] = []
    found = read_grid(hooked, GRID, [0, 1], progress=seen.append)
    assert seen[-1] == GRID.n_cells
    assert seen == sorted(seen)
    for layer, cells in found.items():
        assert cells.inputs.shape == (2, 5, 4, hooked.d_model)
        for context, prefix, suffix in ((0, 0, 0), (1, 4, 3), (0, 2, 1)):
            row = whole(hooked, context, prefix, suffix)[INPUT_SITE.format(layer)][0, -1].float()
            error = (row - cells.inputs[context, prefix, suffix]).norm() / row.norm()
            assert error < 1e-4, (dense, layer, float(error))  # orders of summation, over two layers
        assert cells.adds or dense not in PARALLEL_OR_PLAIN, dense
    if dense == "gemma2":
        assert not found[0].adds, "its MLP output is normalised before it is added"


def test_the_cache_is_used_and_its_proof_can_fail(
    hooked_model: Callable[[str], HookedModel], monkeypatch: pytest.MonkeyPatch
):
    hooked = hooked_model("llama")
    calls: list[int] = []
    run = module._Taps.run
    monkeypatch.setattr(
        module._Taps, "run", lambda taps, ids, cache: calls.append(ids.shape[1]) or run(taps, ids, cache)
    )
    found = read_grid(hooked, GRID, [0, 1])
    assert 1 in calls, "one token a cell"
    kept, calls[:] = list(calls), []
    # a cache that hands every cell the first prefix's past must be noticed
    monkeypatch.setattr(
        module, "_repeated", lambda cache, rows, own=module._repeated: own(cache, torch.zeros_like(rows))
    )
    again = read_grid(hooked, GRID, [0, 1])
    assert calls.count(1) < kept.count(1)
    assert torch.allclose(again[1].inputs, found[1].inputs, rtol=1e-4, atol=1e-5)


def test_a_bridge_alone_gives_the_same(hooked_model: Callable[[str], HookedModel]):
    hooked = hooked_model("gpt2")
    found, alone = read_grid(hooked, GRID, [1]), read_grid(replace(hooked, plain=None), GRID, [1])
    assert torch.allclose(found[1].inputs, alone[1].inputs, rtol=1e-4, atol=1e-5)
    assert torch.allclose(found[1].after, alone[1].after, rtol=1e-4, atol=1e-5)
    assert alone[1].adds


def test_the_stream_behind_a_layer_enters_the_next(hooked_model: Callable[[str], HookedModel]):
    """after = before + output, so the MLP's part can be taken off; and layers read apart are layers read together."""
    hooked = hooked_model("llama")
    both, last = read_grid(hooked, GRID, [0, 1]), read_grid(hooked, GRID, [1])
    assert torch.allclose(both[1].after, last[1].after, rtol=1e-5, atol=1e-6)
    output = neuron_means(hooked.mlp(0), both[0].inputs) @ output_weights(hooked, 0)
    middle = both[0].after - output
    seen = [whole(hooked, c, 0, 0)["blocks.0.ln2.hook_in"][0, -1].float() for c in range(2)]
    assert torch.allclose(middle[0, 0], (seen[0] + seen[1]) / 2, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_read_is_refused(
    hooked_model: Callable[[str], HookedModel], model_folder: Callable[[str], Path]
):
    hooked = hooked_model("gpt2")
    with pytest.raises(InputError, match=r"token id 999 is beyond the 64 rows of gpt2's embedding"):
        read_grid(hooked, Grid([[999]], [1], [2]), [0])
    with pytest.raises(InputError, match="give shorter contexts"):
        read_grid(hooked, Grid([[3] * hooked.context], [1], [2]), [0])
    with pytest.raises(InputError, match="got layer 7, but the model has layers"):
        read_grid(hooked, GRID, [7])
    broken = load_hooked_model(model_folder("gpt2"))
    with torch.no_grad():
        next(iter(broken.bridge.original_model.parameters()))[GRID.suffixes[0]] = float("nan")
    with pytest.raises(NonFiniteError, match=r"layer 0: some activations of the word grid are NaN"):
        read_grid(broken, GRID, [0])


def test_memory_is_told_before_it_is_taken(hooked_model: Callable[[str], HookedModel]):
    hooked = hooked_model("llama")
    cells = read_grid(hooked, GRID, [0])[0]
    told = bytes_per_layer([GRID], hooked.d_model)
    assert told == 4 * (cells.inputs.numel() + cells.after.numel())


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_twins_and_their_relaying_partners(name: str, hooked_model: Callable[[str], HookedModel]):
    hooked = hooked_model(name)
    cells, weights = read_grid(hooked, GRID, [1])[1].inputs, hooked.mlp(1)
    rng = np.random.default_rng(0)
    relay = np.linalg.qr(rng.standard_normal((hooked.d_model, 3)))[0]
    twins = draw_twins(weights, [cells], relay, 4, np.random.default_rng(1))
    flat = cells.reshape(-1, hooked.d_model)
    by_hand = PcSignTwins.draw(weights, InputFrame.of(flat), 4, np.random.default_rng(1))
    direct = [one.reshape(2, 5, 4, -1).mean(0) for one in by_hand.neurons(flat)]
    along = torch.from_numpy(relay @ relay.T).float()
    for index, (plain, relayed) in enumerate(twins.means(cells)):
        assert torch.allclose(plain, direct[index], rtol=1e-4, atol=1e-4)
        # W̃ = (W − W D Dᵀ) T + W D Dᵀ on x − μ
        mean, image = by_hand.frame.mean, by_hand.twin_inputs(flat, index)
        read = (image - mean) - (image - mean) @ along + (flat - mean) @ along
        wanted = weights.neurons(read + mean).reshape(2, 5, 4, -1).mean(0)
        assert torch.allclose(relayed, wanted, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(relayed, plain, rtol=1e-2, atol=1e-2)


def test_a_partner_that_relays_everything_is_the_layer(hooked_model: Callable[[str], HookedModel]):
    hooked = hooked_model("llama")
    cells, weights = read_grid(hooked, GRID, [0])[0].inputs, hooked.mlp(0)
    twins = draw_twins(weights, [cells], np.eye(hooked.d_model), 3, np.random.default_rng(0))
    own = neuron_means(weights, cells)
    for plain, relayed in twins.means(cells):
        assert torch.allclose(relayed, own, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(plain, own, rtol=1e-2, atol=1e-2)
