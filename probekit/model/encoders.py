"""Encoders of the BERT family: where their neurons are, and the proof that they are read there.

An encoder sees the whole row at every position, so that the theorem which decoders are held to, no token changes what stands
before it, does not hold and is not asked for. In its place stand two: what is behind the attention mask changes nothing
(so that padding does not), and the model goes on from what is read here (with the recomputed neurons put in the place of its
own it ends in the same last hidden state, and with a layer's neurons silenced it does not).
TransformerLens has no bridge for most of these models; they are read as `transformers` builds them, at two linear layers a
block. Axes: doc pos input neuron.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from probekit.errors import ModelError
from probekit.model.plain import FAR, PlainModel
from probekit.model.sites import (
    INPUT_SITE,
    NEURON_SITE,
    OUTPUT_SITE,
    MlpSites,
    proof_tokens,
    prove_sites,
    read_weights,
    relative_error,
)

_SEEN = 5
"""Positions of the proof's rows that are text in the rows with padding."""


@dataclass(frozen=True)
class Layout:
    """Where an architecture keeps its MLPs, by the module names of `transformers`."""

    blocks: str
    """The list of blocks, inside the base model."""
    into: str
    """In a block, the linear layer that reads the MLP input."""
    out: str
    """The linear layer that reads the neurons."""
    activation: str = "hidden_act"
    """What the configuration calls the activation."""
    fused: bool = False
    """Whether `into` holds the gate's rows above the linear half's."""
    padded_positions: bool = False
    """Whether positions are counted from behind the padding token's id, as RoBERTa does."""


_BERT = Layout("encoder.layer", "intermediate.dense", "output.dense")
_ROBERTA = Layout("encoder.layer", "intermediate.dense", "output.dense", padded_positions=True)
LAYOUTS: dict[str, Layout] = {
    **dict.fromkeys(("bert", "electra", "ernie", "deberta", "deberta-v2", "megatron-bert"), _BERT),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "roberta-prelayernorm", "mpnet"), _ROBERTA),
    "distilbert": Layout("transformer.layer", "ffn.lin1", "ffn.lin2", "activation"),
    "modernbert": Layout("layers", "mlp.Wi", "mlp.Wo", "hidden_activation", fused=True),
}
"""The encoders that are read, by `model_type`."""


def layout_of(config: Any) -> Layout | None:
    """Where a configuration's MLPs are; None where it is no encoder that is read.

    Args:
        config: of `transformers`. A BERT that is made into a decoder is none.
    """
    if getattr(config, "is_decoder", False):
        return None
    return LAYOUTS.get(str(getattr(config, "model_type", "")))


def context_of(config: Any) -> int:
    """Positions an encoder was made for."""
    layout = layout_of(config)
    assert layout is not None
    taken = 1 + int(getattr(config, "pad_token_id", None) or 0) if layout.padded_positions else 0
    return int(config.max_position_embeddings) - taken


def marks_of(tokenizer: Any | None, n_vocab: int) -> tuple[int | None, int | None]:
    """The ids that an encoder reads before and behind a text ([CLS], [SEP]); None where there is none."""

    def known(*names: str) -> int | None:
        ids = (getattr(tokenizer, name, None) for name in names)
        return next((int(index) for index in ids if index is not None and index < n_vocab), None)

    return known("cls_token_id", "bos_token_id"), known("sep_token_id", "eos_token_id")


@dataclass(frozen=True)
class _Half:
    """Some rows of a linear layer; they share its storage."""

    linear: nn.Linear
    rows: slice

    @property
    def weight(self) -> Tensor:
        return self.linear.weight[self.rows]

    @property
    def bias(self) -> Tensor | None:
        bias: Any = self.linear.bias
        return None if bias is None else bias[self.rows]


class EncoderMlp:
    """One block's MLP under the names that a bridge has for it; matrices are [input neuron] and [neuron input]."""

    def __init__(self, into: nn.Linear, out: nn.Linear, *, fused: bool) -> None:
        self.into, self.out = into, out
        n_gates = len(into.weight) // 2 if fused else 0
        self._halves = {"in": _Half(into, slice(n_gates, None))}
        if fused:
            self._halves["gate"] = _Half(into, slice(n_gates))

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """Halves and output projection."""
        yield from (*self._halves.items(), ("out", self.out))

    def __getattr__(self, name: str) -> Any:
        matrices = {"W_in": "in", "W_gate": "gate"}
        halves: dict[str, _Half] = self.__dict__.get("_halves", {})
        if name == "W_out":
            return self.out.weight.T
        if name in matrices and matrices[name] in halves:
            return halves[matrices[name]].weight.T
        if name in halves:
            return halves[name]
        raise AttributeError(name)


@dataclass(eq=False)
class Encoder:
    """An encoder under the names that a bridge has for its parts; it has no hook points of its own."""

    original_model: Any
    """The base model of `transformers`, without a head."""
    blocks: list[Any]
    """One a layer, with its `mlp`."""
    cfg: Any
    """`act_fn` and `n_ctx`."""
    tokenizer: Any | None = None
    """A Hugging Face tokenizer, or None."""
    hook_dict: dict[str, Any] = field(default_factory=dict[str, Any])
    """Empty."""

    @classmethod
    def of(cls, model: Any, name: str, tokenizer: Any | None) -> Encoder:
        """Find the MLPs of a base model.

        Raises:
            ModelError: a block lacks one of its linear layers.
        """
        layout = layout_of(model.config)
        assert layout is not None
        blocks: list[Any] = []
        for layer, block in enumerate(model.get_submodule(layout.blocks)):
            found: list[nn.Linear] = []
            for path in (layout.into, layout.out):
                module = dict(block.named_modules()).get(path)
                if not isinstance(module, nn.Linear):
                    raise ModelError(
                        f"{name}: layer {layer} has no linear layer `{path}`; wanted the MLP that transformers builds for "
                        f"{model.config.model_type!r}, not quantised or replaced. Choose such a model."
                    )
                found.append(module)
            blocks.append(SimpleNamespace(mlp=EncoderMlp(found[0], found[1], fused=layout.fused)))
        cfg = SimpleNamespace(act_fn=getattr(model.config, layout.activation), n_ctx=context_of(model.config))
        return cls(model.eval(), blocks, cfg, tokenizer)

    @property
    def plain(self) -> PlainModel:
        """The same model, to be read."""
        mlps = [block.mlp for block in self.blocks]
        return PlainModel(
            self.original_model, [mlp.into for mlp in mlps], [mlp.out for mlp in mlps], bidirectional=True
        )

    def sites(self, ids: Tensor, seen: Tensor | None = None) -> MlpSites:
        """What passes the MLPs of every layer, [doc pos …], by the names of its sites.

        Raises:
            ModelError: a linear layer runs more than once a forward, or on something else than a row a position.
        """
        captured: MlpSites = {}

        def keep(site: str, layer: int) -> Callable[..., None]:
            def hook(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
                held = given[0] if site is not OUTPUT_SITE else made
                if site.format(layer) in captured or held.shape[:-1] != ids.shape:
                    raise ModelError(
                        f"{type(self.original_model).__name__}: the MLP of layer {layer} runs in pieces; wanted it on whole "
                        "rows. Set chunk_size_feed_forward=0 in its configuration and load it again."
                    )
                captured[site.format(layer)] = held.detach().clone()

            return hook

        handles: list[Any] = []
        try:
            for layer, block in enumerate(self.blocks):
                for site, module in (
                    (INPUT_SITE, block.mlp.into),
                    (NEURON_SITE, block.mlp.out),
                    (OUTPUT_SITE, block.mlp.out),
                ):
                    handles.append(module.register_forward_hook(keep(site, layer)))
            self.last_hidden(ids, seen)
        finally:
            for handle in handles:
                handle.remove()
        return captured

    def last_hidden(
        self, ids: Tensor, seen: Tensor | None = None, put: dict[int, Tensor] | None = None
    ) -> Tensor:
        """The last hidden state, [doc pos output].

        Args:
            ids: tokens.
            seen: which of them are text; None for all.
            put: neurons that take the place of the model's own, by layer.
        """
        device = next(self.original_model.parameters()).device
        mask = torch.ones_like(ids) if seen is None else seen.long()

        def replacing(neurons: Tensor) -> Callable[..., tuple[Tensor]]:
            return lambda _, given: (neurons.to(given[0]),)

        handles = [
            self.blocks[layer].mlp.out.register_forward_pre_hook(replacing(neurons))
            for layer, neurons in (put or {}).items()
        ]
        try:
            with torch.no_grad():
                return self.original_model(ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        finally:
            for handle in handles:
                handle.remove()


def prove_encoder(encoder: Encoder, name: str, n_vocab: int, bits: int | float) -> str:
    """Run a few random tokens and demand that every layer's MLP is read where the model computes it.

    Returns:
        The activation, as `probekit.model.sites.prove_sites` finds it.

    Raises:
        ModelError: neurons do not follow from the MLP input by the weights or the MLP output from them; the model does not
            go on from these neurons; or what is behind the mask changes what stands before it.
    """
    ids = proof_tokens(n_vocab, min(2 * _SEEN, encoder.cfg.n_ctx))
    activation = prove_sites(encoder, name, encoder.sites(ids), bits)
    _prove_used(encoder, name, ids, activation, bits)
    _prove_masked(encoder, name, ids)
    return activation


def _prove_used(encoder: Encoder, name: str, ids: Tensor, activation: str, bits: int | float) -> None:
    """Recomputed neurons in the place of the model's own leave the last hidden state; no neurons do not."""
    sites, whole = encoder.sites(ids), encoder.last_hidden(ids)
    allowed = FAR * torch.finfo(whole.dtype).eps * (len(encoder.blocks) + 1) ** 0.5
    recomputed: dict[int, Tensor] = {}
    for layer, block in enumerate(encoder.blocks):
        weights = read_weights(encoder, layer, activation, bits)
        recomputed[layer] = weights.neurons(sites[INPUT_SITE.format(layer)])
        neurons = sites[NEURON_SITE.format(layer)]
        silenced = encoder.last_hidden(ids, put={layer: torch.zeros_like(neurons)})
        writes = (neurons.float() @ block.mlp.W_out.float()).abs().max() > 0
        if writes and not bool((silenced != whole).any()):
            raise ModelError(
                f"{name}: layer {layer}: silencing its neurons leaves the last hidden state as it is, so the model does not "
                "compute with what is read there; choose another model."
            )
    error = relative_error(encoder.last_hidden(ids, put=recomputed) - whole, whole)
    if not error <= allowed:
        raise ModelError(
            f"{name}: with its neurons recomputed from MLP inputs and weights the last hidden state is another (relative "
            f"error {error:.2g}, wanted ≤ {allowed:.1g}); choose another model."
        )


def _prove_masked(encoder: Encoder, name: str, ids: Tensor) -> None:
    """Text beside padding has the neurons that it has alone."""
    n_seen = min(_SEEN, ids.shape[1] - 1)
    seen = torch.zeros_like(ids, dtype=torch.bool)
    seen[:, :n_seen] = True
    padded, alone = encoder.sites(ids, seen), encoder.sites(ids[:, :n_seen])
    for layer in range(len(encoder.blocks)):
        there, here = padded[NEURON_SITE.format(layer)][:, :n_seen], alone[NEURON_SITE.format(layer)]
        allowed = FAR * torch.finfo(here.dtype).eps * (layer + 1) ** 0.5
        error = relative_error(there - here, here)
        if not error <= allowed:
            raise ModelError(
                f"{name}: layer {layer}: tokens behind the attention mask change the neurons before it, so padding would "
                f"too (relative error {error:.2g}, wanted ≤ {allowed:.1g}); choose another model."
            )


def note_of(encoder: Encoder) -> str:
    """What a reader must know of an encoder before any number."""
    tokenizer = encoder.tokenizer
    before, behind = marks_of(tokenizer, int(encoder.original_model.config.vocab_size))
    marks = [
        f"{where} with {tokenizer.convert_ids_to_tokens(mark)}"
        for where, mark in (("begin", before), ("end", behind))
        if tokenizer is not None and mark is not None
    ]
    rows = f" Rows {' and '.join(marks)}, which are read and never counted." if marks else ""
    return (
        "The model is an encoder: at every token it has read the whole row, what stands behind the token as well, so a "
        f"neuron may answer to words that come later.{rows}"
    )
