"""What is harvested: what two other ways of reading give, only counted tokens, nothing later."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probekit.analysis.source import LayerBlock, ModelSource
from probekit.errors import ConfigError, InputError, NonFiniteError, OutOfMemoryError
from probekit.model.harvest import Block, default_batch_docs, harvest
from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.text.tokens import Tokens

BOS = 63
ALL = np.arange(7)

# Two orders of summation of a few hundred float32 products and, through attention, of their sums.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def joined(blocks: Iterator[Block], layer: int) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """All tokens, MLP inputs and neurons of a harvest."""
    taken = list(blocks)
    inputs, neurons = zip(*(block.sites[layer] for block in taken), strict=True)
    return np.concatenate([block.tokens for block in taken]), torch.cat(inputs), torch.cat(neurons)


def raw_sites(folder: Path, ids: np.ndarray) -> list[torch.Tensor]:
    """The neurons of every layer, read from the plain transformers model by its own module names."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    ends = (
        "mlp.c_proj",
        "mlp.dense_4h_to_h",
        "mlp.down_proj",
        "mlp.fc2",
        "mlp.fc_out",
        "layers.0.fc2",
        "layers.1.fc2",
    )
    down = [module for name, module in model.named_modules() if name.endswith(ends)]
    captured: list[torch.Tensor] = []
    for module in down:
        module.register_forward_pre_hook(lambda module, given: captured.append(given[0]))
    with torch.no_grad():
        model(input_ids=torch.from_numpy(ids))
    return [neurons.reshape(ids.size, -1) for neurons in captured]


@pytest.fixture
def own_model(model_folder: Callable[[str], Path]) -> HookedModel:
    """A hooked GPT-2 to be tampered with, read through its bridge."""
    return replace(load_hooked_model(model_folder("gpt2")), plain=None)


def test_a_block_is_let_go_before_the_next_forward(
    hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens, monkeypatch: pytest.MonkeyPatch
):
    import probekit.model.harvest as module

    source = ModelSource(hooked_model("gpt2"), ragged_tokens, {"fit": ALL, "confirm": ALL[:0]})
    forward, seen = module._forward_parts, list[weakref.ref[torch.Tensor]]()

    def watched(*args: Any):
        assert all(neurons() is None for neurons in seen)
        sites, n_together = forward(*args)
        seen.extend(weakref.ref(neurons) for _, neurons in sites.values())
        return sites, n_together

    monkeypatch.setattr(module, "_forward_parts", watched)
    monkeypatch.setattr(module, "default_batch_docs", lambda *_: 2)

    def n_rows(block: LayerBlock) -> int:
        return len(block[0][1])

    assert sum(map(n_rows, source.blocks("fit", [0, 1]))) == ragged_tokens.n_tokens
    assert len(seen) == 4 * 2


def test_equals_run_with_cache(dense: str, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens):
    hooked = hooked_model(dense)
    ids = torch.from_numpy(np.maximum(ragged_tokens.ids, 0).astype(np.int64))
    with torch.no_grad():
        _, cache = hooked.bridge.run_with_cache(ids)
    counted = torch.from_numpy(ragged_tokens.counted)
    for layer in range(hooked.n_layers):
        _, inputs, neurons = joined(harvest(hooked, ragged_tokens, ALL, [layer], batch_docs=7), layer)
        torch.testing.assert_close(
            inputs, cache[f"blocks.{layer}.mlp.hook_in"].reshape(7, 20, -1)[counted], **CLOSE
        )
        torch.testing.assert_close(
            neurons, cache[f"blocks.{layer}.mlp.out.hook_in"].reshape(7, 20, -1)[counted], **CLOSE
        )


def test_equals_the_plain_model(
    dense: str,
    hooked_model: Callable[[str], HookedModel],
    model_folder: Callable[[str], Path],
    ragged_tokens: Tokens,
):
    """Against transformers without the bridge, with its own attention kernel."""
    hooked = hooked_model(dense)
    raw = raw_sites(model_folder(dense), np.maximum(ragged_tokens.ids, 0).astype(np.int64))
    assert len(raw) == hooked.n_layers
    blocks = list(harvest(hooked, ragged_tokens, ALL, range(hooked.n_layers)))
    for layer in range(hooked.n_layers):
        _, _, neurons = joined(iter(blocks), layer)
        torch.testing.assert_close(neurons, raw[layer][ragged_tokens.counted.ravel()], **CLOSE)


def test_neurons_follow_from_inputs_by_the_weights(
    dense: str, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
):
    hooked = hooked_model(dense)
    for layer in range(hooked.n_layers):
        _, inputs, neurons = joined(harvest(hooked, ragged_tokens, ALL, [layer]), layer)
        torch.testing.assert_close(hooked.mlp(layer).neurons(inputs), neurons, **CLOSE)


@pytest.mark.parametrize("batch_docs", [1, 3, 4, 7, 50])
def test_the_batch_changes_no_token(
    batch_docs: int, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
):
    hooked = hooked_model("neox")
    tokens, inputs, neurons = joined(harvest(hooked, ragged_tokens, ALL, [1], batch_docs=batch_docs), 1)
    reference = joined(harvest(hooked, ragged_tokens, ALL, [1]), 1)
    np.testing.assert_array_equal(tokens, np.arange(ragged_tokens.n_tokens))
    torch.testing.assert_close(inputs, reference[1], **CLOSE)
    torch.testing.assert_close(neurons, reference[2], **CLOSE)


def test_documents_come_in_the_order_asked(hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens):
    hooked, docs = hooked_model("llama"), np.array([5, 0, 3, 6])
    blocks = list(harvest(hooked, ragged_tokens, docs, [0], batch_docs=3))
    np.testing.assert_array_equal(np.concatenate([block.docs for block in blocks]), docs)
    tokens, _, neurons = joined(iter(blocks), 0)
    np.testing.assert_array_equal(ragged_tokens.doc_of_token[tokens], np.repeat(docs, [6, 19, 0, 15]))
    _, _, everything = joined(harvest(hooked, ragged_tokens, ALL, [0]), 0)
    torch.testing.assert_close(neurons, everything[tokens], **CLOSE)
    assert sum(block.n_tokens for block in blocks) == 40


def test_the_same_call_gives_the_same_bits(hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens):
    hooked = hooked_model("gpt2")
    first, second = (joined(harvest(hooked, ragged_tokens, ALL, [1]), 1) for _ in range(2))
    assert torch.equal(first[2], second[2])


def test_padding_is_not_seen(hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens):
    """A document alone and unpadded has the activations it has beside longer ones."""
    hooked = hooked_model("gpt2")
    alone = Tokens(ids=ragged_tokens.ids[2:3, :12], lengths=np.array([12]), bos_id=BOS, name="alone")
    _, _, neurons = joined(harvest(hooked, alone, np.array([0]), [1]), 1)
    _, _, padded = joined(harvest(hooked, ragged_tokens, np.array([2]), [1], batch_docs=4), 1)
    torch.testing.assert_close(neurons, padded, **CLOSE)


def test_without_bos_the_first_token_counts(
    hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
):
    bare = Tokens(ids=ragged_tokens.ids, lengths=ragged_tokens.lengths, bos_id=None, name="bare")
    tokens, _, _ = joined(harvest(hooked_model("gpt2"), bare, ALL, [0]), 0)
    assert len(tokens) == ragged_tokens.lengths.sum() == ragged_tokens.n_tokens + 7


def test_nothing_after_the_last_layer_runs(own_model: HookedModel, ragged_tokens: Tokens):
    calls = {"head": 0, "second block": 0, "first output": 0}

    def count(what: str) -> Callable[..., None]:
        def add(*_: object) -> None:
            calls[what] += 1

        return add

    own_model.bridge.unembed.original_component.register_forward_hook(count("head"))
    own_model.bridge.blocks[1].mlp.out.original_component.register_forward_hook(count("second block"))
    own_model.bridge.blocks[0].mlp.out.original_component.register_forward_hook(count("first output"))
    list(harvest(own_model, ragged_tokens, ALL, [0]))
    assert calls == {"head": 0, "second block": 0, "first output": 0}
    list(harvest(own_model, ragged_tokens, ALL, [0, 1]))
    assert calls == {"head": 0, "second block": 0, "first output": 1}
    own_model.bridge(torch.zeros(1, 2, dtype=torch.long))
    assert calls["head"] == 1  # positive control


def test_every_forward_has_one_shape(own_model: HookedModel, ragged_tokens: Tokens):
    shapes: list[torch.Size] = []
    own_model.bridge.embed.original_component.register_forward_pre_hook(
        lambda module, given: shapes.append(given[0].shape)
    )
    list(harvest(own_model, ragged_tokens, ALL, [0], batch_docs=3))
    list(harvest(own_model, ragged_tokens, ALL[:1], [0], batch_docs=3))
    assert shapes == [torch.Size([3, 20])] * 4


def test_the_model_is_left_as_it_was(own_model: HookedModel, ragged_tokens: Tokens):
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        before = own_model.bridge(ids)
    list(harvest(own_model, ragged_tokens, ALL, [0, 1]))
    abandoned = harvest(own_model, ragged_tokens, ALL, [0], batch_docs=1)
    next(abandoned)
    assert not any(hook.fwd_hooks for hook in own_model.bridge.hook_dict.values())
    with torch.no_grad():
        assert torch.equal(before, own_model.bridge(ids))


def test_ordinary_tensors_are_delivered(hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens):
    for block in harvest(hooked_model("gpt2"), ragged_tokens, ALL, [0], batch_docs=3):
        assert not torch.is_inference_mode_enabled()
        for activations in block.sites[0]:
            assert (activations.dtype, activations.requires_grad) == (torch.float32, False)
            activations += 1  # may be changed in place


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_activations_come_in_float32(
    dtype: torch.dtype,
    model_folder: Callable[[str], Path],
    hooked_model: Callable[[str], HookedModel],
    ragged_tokens: Tokens,
):
    hooked = load_hooked_model(model_folder("llama"), dtype=dtype)
    _, inputs, neurons = joined(harvest(hooked, ragged_tokens, ALL, [0]), 0)
    assert inputs.dtype == neurons.dtype == torch.float32
    assert torch.equal(neurons, neurons.to(dtype).float())  # the model's own numbers, widened
    _, _, wide = joined(harvest(hooked_model("llama"), ragged_tokens, ALL, [0]), 0)
    # Some ten roundings between the embedding and the neurons.
    assert (neurons - wide).norm() < 10 * torch.finfo(dtype).eps * wide.norm()


def test_progress_counts_tokens(hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens):
    seen: list[int] = []
    list(harvest(hooked_model("gpt2"), ragged_tokens, ALL, [0], batch_docs=3, progress=seen.append))
    assert seen == [32, 57, 72]
    assert seen[-1] == ragged_tokens.n_tokens


def test_no_documents_give_no_blocks(hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens):
    assert list(harvest(hooked_model("gpt2"), ragged_tokens, ALL[:0], [0])) == []


def test_default_batch_depends_on_the_model_and_the_width_only(hooked_model: Callable[[str], HookedModel]):
    assert default_batch_docs(hooked_model("gpt2"), 128) == 32
    assert default_batch_docs(hooked_model("gpt2"), 10_000) == 1


class TestRefused:
    """All but the last are refused before the model runs."""

    def test_token_beyond_the_embedding(
        self, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
    ):
        ids = ragged_tokens.ids.copy()
        ids[4, 7] = 64
        tokens = Tokens(ids=ids, lengths=ragged_tokens.lengths, bos_id=BOS, name="ragged")
        with pytest.raises(
            InputError, match="document 4, position 7: token id 64 is beyond the 64 rows of gpt2's"
        ):
            harvest(hooked_model("gpt2"), tokens, ALL, [0])
        list(harvest(hooked_model("gpt2"), tokens, ALL[:4], [0]))  # a document nobody asked for does no harm

    def test_token_beyond_the_embedding_is_spelled(self, own_model: HookedModel, ragged_tokens: Tokens):
        """A tokenizer may list more tokens than the embedding has rows; only one that is used is refused."""
        assert own_model.tokenizer is not None
        own_model.tokenizer.add_tokens(["surplus"])
        list(harvest(own_model, ragged_tokens, ALL, [0]))
        ids = ragged_tokens.ids.copy()
        ids[4, 7] = 64
        tokens = Tokens(ids=ids, lengths=ragged_tokens.lengths, bos_id=BOS, name="ragged")
        with pytest.raises(InputError, match=r"token id 64 \('surplus'\) is beyond"):
            harvest(own_model, tokens, ALL, [0])

    def test_rows_longer_than_the_context(self, hooked_model: Callable[[str], HookedModel]):
        tokens = Tokens(ids=np.ones((2, 33), np.int32), lengths=np.array([33, 33]), bos_id=None, name="long")
        with pytest.raises(
            InputError, match="rows of 33 tokens, but gpt2 has a context of 32; choose context=32"
        ):
            harvest(hooked_model("gpt2"), tokens, ALL[:2], [0])

    @pytest.mark.parametrize("doc", [-1, 7])
    def test_document(self, doc: int, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens):
        with pytest.raises(InputError, match=f"got document {doc}, but corpus 'ragged' has documents 0 to 6"):
            harvest(hooked_model("gpt2"), ragged_tokens, np.array([0, doc]), [0])

    def test_layers(self, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens):
        with pytest.raises(InputError, match="layers: got none"):
            harvest(hooked_model("gpt2"), ragged_tokens, ALL, [])
        with pytest.raises(InputError, match="got layer 2, but the model has layers 0 to 1"):
            harvest(hooked_model("gpt2"), ragged_tokens, ALL, [0, 2])

    def test_batch(self, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens):
        with pytest.raises(ConfigError, match="batch_docs: got 0, wanted at least 1"):
            harvest(hooked_model("gpt2"), ragged_tokens, ALL, [0], batch_docs=0)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_activations_that_are_no_numbers(self, bad: float, own_model: HookedModel, ragged_tokens: Tokens):
        spoil = torch.zeros(7, 20, 1)
        spoil[4, 9] = spoil[4, 11] = spoil[5, 2] = bad
        own_model.bridge.blocks[1].mlp.register_forward_pre_hook(lambda module, given: (given[0] + spoil,))
        blocks = harvest(own_model, ragged_tokens, ALL, [0, 1], batch_docs=7)  # not yet run
        wanted = r"gpt2: layer 1: 48 of 1,152 MLP inputs .*document 4, position 9;.*dtype=torch\.float32"
        with pytest.raises(NonFiniteError, match=wanted):
            next(blocks)
        assert len(list(harvest(own_model, ragged_tokens, ALL, [0]))) == 1  # layer 0 is sound

    def test_large_numbers_are_no_infinities(self, own_model: HookedModel, ragged_tokens: Tokens):
        """Their sum overflows, they do not."""
        mlp = own_model.bridge.blocks[0].mlp
        mlp.register_forward_pre_hook(lambda module, given: (given[0] * 0 + 3e37,))
        _, inputs, _ = joined(iter(harvest(own_model, ragged_tokens, ALL, [0])), 0)
        assert torch.isinf(inputs.sum())

    def test_padding_brings_in_no_token_of_its_own(self, own_model: HookedModel, ragged_tokens: Tokens):
        """Attention weighs later positions by zero, and 0·NaN is NaN: a spoilt token would be seen."""
        clean = np.flatnonzero(~(ragged_tokens.ids == 0).any(axis=1))
        assert len(clean) > 2
        assert (ragged_tokens.ids[clean] < 0).any()
        own_model.bridge.embed.original_component.register_forward_hook(
            lambda module, given, result: torch.where((given[0] == 0)[..., None], float("nan"), result)
        )
        tokens, _, neurons = joined(harvest(own_model, ragged_tokens, clean, [0, 1]), 1)
        assert torch.isfinite(neurons).all()
        assert len(tokens) == ragged_tokens.counted[clean].sum()


def test_nano_reads_text():
    hooked = load_hooked_model("nano")
    assert hooked.tokenizer is not None
    words = hooked.tokenizer("Return the number of items in the list.", add_special_tokens=False)["input_ids"]
    ids = np.array([[hooked.bos_id, *words]], np.int32)
    tokens = Tokens(ids=ids, lengths=np.array([ids.size]), bos_id=hooked.bos_id, name="one sentence")
    blocks = list(harvest(hooked, tokens, np.array([0]), range(hooked.n_layers)))
    assert [block.n_tokens for block in blocks] == [len(words)]
    assert sorted(blocks[0].sites) == list(range(hooked.n_layers))


NO_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
)
"""As an accelerator says it, and as torch says it on a CPU."""


@pytest.mark.parametrize(("fits", "error"), [(1, NO_MEMORY[0]), (2, NO_MEMORY[1]), (3, NO_MEMORY[0])])
def test_a_batch_that_does_not_fit_is_halved(
    own_model: HookedModel,
    ragged_tokens: Tokens,
    monkeypatch: pytest.MonkeyPatch,
    fits: int,
    error: RuntimeError,
) -> None:
    """The same blocks and tokens, and once smaller the forwards stay so."""
    whole = list(harvest(own_model, ragged_tokens, ALL, [0, 1], batch_docs=4))
    run, n_docs = own_model.bridge.run_with_hooks, []

    def small(ids: torch.Tensor, **given: Any) -> Any:
        n_docs.append(len(ids))
        if len(ids) > fits:
            raise error
        return run(ids, **given)

    monkeypatch.setattr(own_model.bridge, "run_with_hooks", small)
    halved = list(harvest(own_model, ragged_tokens, ALL, [0, 1], batch_docs=4))
    assert n_docs[0] == 4
    assert max(n_docs[2:]) <= fits if fits > 1 else max(n_docs[3:]) == 1
    for one, two in zip(whole, halved, strict=True):
        np.testing.assert_array_equal(one.tokens, two.tokens)
        for layer in (0, 1):
            for a, b in zip(one.sites[layer], two.sites[layer], strict=True):
                torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("error", NO_MEMORY)
def test_a_document_that_does_not_fit_alone_is_an_error(
    own_model: HookedModel, ragged_tokens: Tokens, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    raised = error

    def never(ids: torch.Tensor, **given: Any) -> Any:
        raise raised

    monkeypatch.setattr(own_model.bridge, "run_with_hooks", never)
    with pytest.raises(OutOfMemoryError, match="a forward of 1 documents of 20 tokens does not fit on cpu"):
        next(harvest(own_model, ragged_tokens, ALL, [0], batch_docs=4))
    raised = RuntimeError("shapes do not fit")  # the control: no lack of memory
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        next(harvest(own_model, ragged_tokens, ALL, [0], batch_docs=4))
