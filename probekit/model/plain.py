"""The same model as `transformers` built it, beside the bridge: its weights, its fused attention, two hooks a layer.

A bridge recomputes attention step by step, so that every intermediate can be hooked, and calls a hook point at each step.
Reading only MLP inputs and neurons needs neither. The plain model shares every parameter with the bridged one, and
an in-place change of a weight affects both. It is used only where it is proved equal: module by module by identity, and
number by number on random tokens. Where that fails nothing is lost but speed.
Axes: doc pos input neuron.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probekit.errors import ModelError, lacks_memory
from probekit.model.sites import INPUT_SITE, NEURON_SITE, capture, proof_tokens

FAR = 64
"""Largest distance between both models' activations at the proof, root mean square over that of the activations, in
epsilons of the dtype times √(layer + 1): sums are taken in different orders, and rounding errors accumulate from layer to
layer like a random walk."""
_POSITIONS = 64
"""Positions of a document of the proof, at most."""
_REFUSED = (TypeError, ValueError, KeyError, AttributeError, RuntimeError, NotImplementedError)
"""What a model that cannot be copied or called this way raises."""


class _EndError(Exception):
    """Ends a forward at the last wanted layer."""


@dataclass(frozen=True)
class PlainModel:
    """A `transformers` model without hook points that shares its weights with a bridge."""

    model: nn.Module
    """In evaluation mode."""
    inputs: Sequence[nn.Module]
    """For each layer the module whose input is the MLP input."""
    outs: Sequence[nn.Module]
    """For each layer the module whose input is the neurons."""
    bidirectional: bool = False
    """Whether a token sees those behind it, so that padding must be masked."""

    def capture(self, ids: Tensor, layers: Sequence[int], seen: Tensor | None = None) -> dict[str, Tensor]:
        """Activations of the wanted layers under the names of their sites; ends before the last output projection.

        Args:
            ids: tokens, [doc pos].
            layers: layers wanted, ascending.
            seen: which of the tokens are text, [doc pos]; what a decoder's text cannot see anyway is not masked.
        """
        captured: dict[str, Tensor] = {}

        def keep(name: str, *, ends: bool) -> Any:
            def hook(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
                captured[name] = args[0] if args else named["hidden_states"]
                if ends:
                    raise _EndError

            return hook

        handles: list[Any] = []
        try:
            for layer in layers:
                for module, site in ((self.inputs[layer], INPUT_SITE), (self.outs[layer], NEURON_SITE)):
                    ends = site is NEURON_SITE and layer == layers[-1]
                    hook = keep(site.format(layer), ends=ends)
                    handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
            if self.bidirectional:
                mask = torch.ones_like(ids) if seen is None else seen.long()
                self.model(ids, attention_mask=mask)
            else:
                self.model(ids, use_cache=False)
        except _EndError:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return captured


def sharing_copy(model: Any, name: str) -> Any:
    """A model of its own modules, configuration and flags, which shares storage with the weights of the given one.

    A bridge puts itself into the model it is given, and sets its attention, mode and flags.

    Args:
        model: a `transformers` model; it stays as it is.
        name: what the user called it.

    Raises:
        ModelError: it cannot be copied.
    """
    shared: dict[int, Any] = {
        id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()
    }
    shared |= {id(b): b.detach() for b in model.buffers()}
    try:
        return copy.deepcopy(model, shared)
    except Exception as error:  # whatever is attached to the model
        raise ModelError(
            f"{name}: something attached to the model cannot be copied ({type(error).__name__}: {error}), "
            "and the model you "
            "gave is never changed. Take hooks and wrappers off, or save the model and pass the folder."
        ) from error


@dataclass(frozen=True)
class Unbridged:
    """A model as it was before a bridge took it apart."""

    copied: nn.Module | None
    """A copy that shares its parameters and buffers; None where it cannot be copied."""
    names: dict[int, str]
    """Name of each of the model's own modules, by identity."""
    fused: bool = True
    """Whether its attention is fused, so that it is worth reading in the bridge's place."""

    @classmethod
    def of(cls, hf_model: nn.Module) -> Unbridged:
        """Remember a model that is about to be bridged."""
        names = {id(module): name for name, module in hf_model.named_modules()}
        fused = getattr(getattr(hf_model, "config", None), "_attn_implementation", None) == "sdpa"
        shared = {id(tensor): tensor for tensor in (*hf_model.parameters(), *hf_model.buffers())}
        try:
            return cls(copy.deepcopy(hf_model, shared).eval(), names, fused)
        except _REFUSED:
            return cls(None, names, fused)

    def require_same(self, bridge: Any, name: str, n_vocab: int, context: int) -> None:
        """Refuse a bridge that computes something else than the model it was made of.

        Args:
            bridge: the bridge of the remembered model.
            name: what the user called it.
            n_vocab: rows of the embedding.
            context: positions the model was made for.

        Raises:
            ModelError: its logits differ by more than rounding explains.
        """
        if self.copied is None:
            return
        ids = proof_tokens(n_vocab, min(context, _POSITIONS)).to(next(self.copied.parameters()).device)
        with torch.inference_mode():
            here = self._run(ids, name)
            there: Tensor = bridge(ids, return_type="logits").float()
        error, size = (here - there).square().mean().sqrt(), here.square().mean().sqrt()
        eps = torch.finfo(next(self.copied.parameters()).dtype).eps
        if not error <= FAR * eps * (len(bridge.blocks) + 1) ** 0.5 * size:
            raise ModelError(
                f"{name}: as TransformerLens runs it, the model gives other logits than as transformers does "
                "(relative distance "
                f"{float(error / size):.2g}): its bridge leaves something of the configuration out. Choose another model."
            )

    def _run(self, ids: Tensor, name: str) -> Tensor:
        """Logits, where the model runs at all.

        Raises:
            ModelError: transformers itself cannot run it.
        """
        assert self.copied is not None
        try:
            logits: Tensor = self.copied(ids, use_cache=False).logits.float()
        except _REFUSED as error:
            if lacks_memory(error):
                raise
            kinds = sorted({str(p.dtype).removeprefix("torch.") for p in self.copied.parameters()})
            raise ModelError(
                f"{name}: transformers itself cannot run the model on a few tokens ({type(error).__name__}: {error}); its "
                f"weights are of {' and '.join(kinds)}. Wanted a model that runs: bring its parts to one dtype, "
                "model.to(dtype)."
            ) from error
        return logits

    def proved(self, bridge: Any, n_vocab: int, context: int) -> PlainModel | None:
        """The plain model of a bridge; None where it is not found equal.

        Args:
            bridge: the bridge of the remembered model.
            n_vocab: rows of the embedding.
            context: positions the model was made for.
        """
        if self.copied is None or not self.fused:
            return None
        inputs: list[nn.Module] = []
        outs: list[nn.Module] = []
        for block in bridge.blocks:
            parts = {
                name: self.names.get(id(part.original_component))
                for name, part in (("", block.mlp), *block.mlp.named_children())
                if hasattr(part, "original_component")
            }
            # a part that the bridge made itself (a half of a fused projection) holds weights of its own
            if None in parts.values() or not {"", "out"} <= parts.keys():
                return None
            inputs.append(self.copied.get_submodule(str(parts[""])))
            outs.append(self.copied.get_submodule(str(parts["out"])))
        plain = PlainModel(self.copied, inputs, outs)
        return plain if _equal(plain, bridge, n_vocab, min(context, _POSITIONS)) else None


def norms_as_the_model(bridge: Any) -> None:
    """Give a bridge's norms the ε of the model's own: TransformerLens knows some attribute names, else takes 1e-5."""
    norms = [
        (module, float(eps)) for module in bridge.modules()
        if (own := getattr(module, "original_component", None)) is not None and "Norm" in type(module).__name__
        and (eps := getattr(own, "variance_epsilon", getattr(own, "eps", None))) is not None
    ]  # fmt: skip
    if len({eps for _, eps in norms}) == 1:
        for module, eps in norms:
            module.config.eps = eps


def _equal(plain: PlainModel, bridge: Any, n_vocab: int, n_positions: int) -> bool:
    layers = range(len(plain.outs))
    ids = proof_tokens(n_vocab, n_positions)
    wanted = capture(bridge, ids)
    try:
        with torch.inference_mode():
            found = plain.capture(ids.to(next(plain.model.parameters()).device), layers)
    except _REFUSED:
        return False
    for layer in layers:
        for site in (INPUT_SITE, NEURON_SITE):
            there, here = wanted[site.format(layer)], found.get(site.format(layer))
            if here is None or here.numel() != there.numel():
                return False
            error = (here.reshape(there.shape).float() - there.float()).square().mean().sqrt()
            size = there.float().square().mean().sqrt()
            if not error <= FAR * torch.finfo(there.dtype).eps * (layer + 1) ** 0.5 * size:
                return False
    return True
