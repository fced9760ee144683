"""Edits do what their algebra says, at the tokens they shall, and leave the model as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from probekit.errors import ConfigError, InputError
from probekit.model.compress import compressed, in_format, pruned, quantised
from probekit.model.harvest import harvest
from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.model.intervene import (
    Edit,
    ablate_direction,
    ablate_neurons,
    neuron_scales,
    predict,
    written_elsewhere,
)
from probekit.text.tokens import Tokens

DOCS, LENGTH = 6, 10


def tokens_of(hooked: HookedModel, seed: int = 0) -> Tokens:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 60, (DOCS, LENGTH)).astype(np.int32)
    ids[:, 0] = 63
    lengths = np.array([LENGTH] * (DOCS - 1) + [4])
    ids[-1, 4:] = -1
    return Tokens(ids, lengths, 63, "drawn")


@pytest.fixture(scope="module", params=["gpt2", "llama", "opt"])
def hooked(request: pytest.FixtureRequest, model_folder: Callable[[str], Path]) -> HookedModel:
    """A plain, a gated, and one whose neurons come as [doc·pos neuron]."""
    return load_hooked_model(model_folder(request.param))


def test_an_ablated_direction_reads_its_mean_everywhere() -> None:
    generator = torch.Generator().manual_seed(1)
    h, r, u = (torch.randn(shape, generator=generator) for shape in ((50, 8), (8,), (8,)))
    for along in (None, u):
        edited = ablate_direction(0, r, h.mean(0), along).apply(h)
        torch.testing.assert_close(edited @ r, (h.mean(0) @ r).expand(50), rtol=0, atol=1e-4)
        # nothing but the direction it is taken out along changes
        out = (r if along is None else u) / (r if along is None else u).norm()
        rest = torch.eye(8) - torch.outer(out, out)
        torch.testing.assert_close(edited @ rest, h @ rest, rtol=0, atol=1e-4)
    chosen = ablate_neurons(0, np.array([2, 5]), h.mean(0)).apply(h)
    assert torch.equal(chosen[:, [0, 1, 3, 4, 6, 7]], h[:, [0, 1, 3, 4, 6, 7]])
    torch.testing.assert_close(chosen[:, [2, 5]], h.mean(0)[[2, 5]].expand(50, 2), rtol=0, atol=1e-6)


def test_written_elsewhere_is_as_large_at_every_token() -> None:
    h = torch.randn(50, 8, generator=torch.Generator().manual_seed(2))
    own = ablate_direction(0, torch.eye(8)[0], h.mean(0))
    moved = written_elsewhere(own, own.write.roll(3, dims=1))
    torch.testing.assert_close((moved.apply(h) - h).norm(dim=1), (own.apply(h) - h).norm(dim=1))
    assert torch.equal(moved.apply(h)[:, 0], h[:, 0])


def test_a_direction_that_cannot_be_ablated() -> None:
    with pytest.raises(InputError, match="the direction to ablate is zero or reads nothing of what"):
        ablate_direction(3, torch.zeros(4), torch.zeros(4))
    with pytest.raises(InputError, match="layer 3: the direction to ablate is zero or reads nothing"):
        ablate_direction(3, torch.eye(4)[0], torch.zeros(4), torch.eye(4)[1])


def test_the_loss_is_the_models_own(hooked: HookedModel) -> None:
    tokens = tokens_of(hooked)
    (block,) = list(predict(hooked, tokens, np.arange(DOCS), []))
    # a token is predicted from the one before: the last of each row predicts nothing
    assert len(block.tokens) == tokens.n_tokens - DOCS
    assert block.change.shape == (0, len(block.tokens))
    ids = torch.from_numpy(np.maximum(tokens.ids, 0).astype(np.int64))
    with torch.inference_mode():
        logits = hooked.bridge(ids, return_type="logits")
    place = 0
    for row, length in enumerate(tokens.lengths):
        wanted = torch.nn.functional.cross_entropy(
            logits[row, 1 : length - 1].float(), ids[row, 2:length], reduction="none"
        )
        got = block.loss[place : place + length - 2]
        np.testing.assert_allclose(got, wanted.numpy(), atol=1e-4)  # two orders of summation in float32
        place += length - 2


def test_an_edit_changes_predictions_and_an_empty_one_does_not(hooked: HookedModel) -> None:
    tokens = tokens_of(hooked)
    n = hooked.d_mlp
    nothing = Edit(0, torch.zeros(1, n), torch.zeros(1), torch.eye(n)[:1])
    push = Edit(0, torch.zeros(1, n), torch.tensor([50.0]), torch.eye(n)[:1])
    (block,) = list(predict(hooked, tokens, np.arange(DOCS), [nothing, push]))
    assert np.array_equal(block.change[0], np.zeros_like(block.loss))
    assert np.abs(block.change[1]).min() > 0
    assert (block.divergence[1] > 0).all()
    assert np.abs(block.divergence[0]).max() < 1e-6
    (again,) = list(predict(hooked, tokens, np.arange(DOCS), []))
    assert np.array_equal(again.loss, block.loss)


def test_the_mark_before_the_text_is_not_edited(hooked: HookedModel) -> None:
    """The token after the mark reads the layer above of the mark: as long as that is as it was, so is the mark."""
    n = hooked.d_mlp
    push = Edit(0, torch.zeros(1, n), torch.tensor([50.0]), torch.eye(n)[:1])
    ids = np.array([[63, 5, 6]], np.int32)
    left: list[torch.Tensor] = []

    def keep(activation: torch.Tensor, hook: object) -> None:
        left.append(activation.reshape(3, -1).clone())

    hooked.bridge.add_hook("blocks.0.mlp.hook_out", keep)
    try:
        list(predict(hooked, Tokens(ids, np.array([3]), 63, "one"), np.arange(1), [push]))
    finally:
        hooked.bridge.reset_hooks()
    clean, edited = left
    assert torch.equal(clean[0], edited[0])
    assert float((clean[1:] - edited[1:]).abs().min(dim=0).values.max()) > 0


def test_scales_are_those_of_the_harvest(hooked: HookedModel) -> None:
    tokens = tokens_of(hooked)
    where_a, where_b = np.arange(0, tokens.n_tokens, 2), np.arange(0, tokens.n_tokens, 3)
    (scale,) = neuron_scales(hooked, tokens, np.arange(DOCS), [(1, where_a, where_b)])
    h = torch.cat([block.sites[1][1] for block in harvest(hooked, tokens, np.arange(DOCS), [1])]).double()
    torch.testing.assert_close(scale.mean.double(), h.mean(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(scale.sd.double(), h.std(0, correction=0), rtol=0, atol=1e-6)
    a = np.isin(np.arange(tokens.n_tokens), where_a)
    b = np.isin(np.arange(tokens.n_tokens), where_b)
    cells = [h[torch.from_numpy(cell)].mean(0) for cell in (a & b, a & ~b, ~a & b, ~a & ~b)]
    wanted = cells[0] - cells[1] - cells[2] + cells[3]
    torch.testing.assert_close(scale.interaction.double(), wanted, rtol=0, atol=1e-6)


class TestCompressed:
    def test_pruning_keeps_the_largest(self) -> None:
        weights = torch.tensor([[3.0, -5.0], [0.5, -1.0]])
        assert torch.equal(pruned(weights, 2), torch.tensor([[3.0, -5.0], [0.0, 0.0]]))
        assert torch.equal(pruned(weights, 0), torch.zeros(2, 2))
        assert torch.equal(pruned(weights, 4), weights)

    @pytest.mark.parametrize("bits", [1, 2, 3, 8])
    def test_rounding_leaves_no_more_levels_than_bits_name(self, bits: int) -> None:
        values = torch.randn(2_000, generator=torch.Generator().manual_seed(bits))
        rounded = quantised(values, bits)
        assert len(rounded.unique()) <= 2**bits
        step = 2 * values.abs().max() / max(2**bits - 2, 1)
        if bits > 1:
            assert float((rounded - values).abs().max()) <= float(step) / 2 * 1.001
        held = values.clone()
        held[:5] = 0
        assert (quantised(held, bits)[:5] == 0).all()

    def test_no_bits(self) -> None:
        with pytest.raises(ConfigError, match="bits: got 0, wanted at least 1"):
            quantised(torch.ones(3), 0)

    def test_inside_the_block_and_afterwards(self, hooked: HookedModel) -> None:
        before = hooked.mlp(1).weight.clone()
        n_kept = before.numel() // 4
        with compressed(hooked, 1, n_kept=n_kept) as n_left:
            inside = hooked.mlp(1).weight.clone()
            assert n_left == int((inside != 0).sum()) == n_kept
            # the smallest that stays is no smaller than the largest that went
            assert float(inside[inside != 0].abs().min()) >= float(before[inside == 0].abs().max())
        assert torch.equal(hooked.mlp(1).weight, before)
        assert torch.equal(inside[inside != 0], before[inside != 0])

    def test_a_format_is_what_its_definition_says(self) -> None:
        pytest.importorskip("gguf")
        values = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
        # Q8_0: 32 weights share a scale, the largest magnitude over 127, held in half precision
        blocks = values.reshape(6, 2, 32)
        scale = blocks.abs().amax(2, keepdim=True) / 127
        wanted = ((blocks / scale).round() * scale.half().float()).reshape(6, 64)
        torch.testing.assert_close(in_format(values, "Q8_0"), wanted, rtol=0, atol=1e-6)
        assert torch.equal(in_format(values, "F16"), values.half().float())
        with pytest.raises(
            ConfigError, match="Q8_0: a block holds 32 weights of one row, and a neuron here reads 20"
        ):
            in_format(values[:, :20], "Q8_0")

    def test_formats_go_along_a_neurons_inputs(self) -> None:
        pytest.importorskip("gguf")
        hooked = load_hooked_model("nano")  # its weights are held [input neuron]
        before = hooked.mlp(1)
        halves = [half for half in (before.w_gate, before.w_in) if half is not None]
        with compressed(hooked, 1, stored_as="Q4_0"):
            inside = hooked.mlp(1)
            held = [half for half in (inside.w_gate, inside.w_in) if half is not None]
        for got, was in zip(held, halves, strict=True):
            assert torch.equal(got, in_format(was, "Q4_0"))
            assert not torch.equal(got, was)
        assert torch.equal(hooked.mlp(1).weight, before.weight)
