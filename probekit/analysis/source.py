"""Where a run's activations come from: a transformer read through its hooks, or arrays from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from probekit.model.weights import MlpWeights

if TYPE_CHECKING:
    from probekit.model.hooked_model import HookedModel
    from probekit.text.tokens import Tokens

Half = Literal["fit", "confirm"]
LayerBlock = dict[int, tuple[Tensor | None, Tensor]]
"""Layer → (MLP inputs [token input] or None, neurons [token neuron])."""


@runtime_checkable
class Source(Protocol):
    """Activations of one half of the documents, block by block, re-iterable."""

    def blocks(self, half: Half, layers: list[int], start: int = 0) -> Iterator[LayerBlock]:
        """Blocks in token order from token `start` of the half on; every layer of a block has the same tokens."""
        ...

    def weights(self, layer: int) -> MlpWeights | None:
        """The weights that act at the layer's neurons, if known."""
        ...

    def has_inputs(self, layer: int) -> bool:
        """Whether blocks carry the layer's MLP inputs."""
        ...

    @property
    def width_kept(self) -> int | None:
        """Numbers that a token's activations in one layer are, where keeping them spares a computation; else None."""
        ...


def _mask(tokens: Tokens, rows: np.ndarray) -> np.ndarray:
    """Which counted tokens are used."""
    mask = np.zeros(tokens.n_tokens, bool)
    mask[rows] = True
    return mask


class ModelSource:
    """Activations harvested from a model.

    Args:
        hooked: the model.
        tokens: the token block.
        docs: documents of each half.
        rows: counted tokens of each half that are used, where these are not all of its documents'.
    """

    def __init__(
        self,
        hooked: HookedModel,
        tokens: Tokens,
        docs: dict[Half, np.ndarray],
        rows: dict[Half, np.ndarray] | None = None,
    ) -> None:
        self.hooked = hooked
        self.tokens = tokens
        self.docs = docs
        self._kept = {half: _mask(tokens, chosen) for half, chosen in (rows or {}).items()}
        self._weights: dict[int, MlpWeights] = {}

    def blocks(self, half: Half, layers: list[int], start: int = 0) -> Iterator[LayerBlock]:
        """Forward one half, all layers at once.

        A later start leaves out whole batches only: the same documents go through the model together, whatever was
        done before.
        """
        from probekit.model.harvest import harvest

        docs, batch, ends = self.docs[half], self._batch_docs, self.batch_ends(half)
        kept = self._kept.get(half)
        n_batches = int((ends <= start).sum())
        surplus = start - (int(ends[n_batches - 1]) if n_batches else 0)
        for block in harvest(self.hooked, self.tokens, docs[n_batches * batch :], layers, batch_docs=batch):
            sites, n_tokens = block.sites, block.n_tokens
            if kept is not None:
                chosen = torch.from_numpy(np.flatnonzero(kept[block.tokens]))
                n_tokens = len(chosen)
                sites = {
                    layer: (x[chosen.to(x.device)], h[chosen.to(h.device)]) for layer, (x, h) in sites.items()
                }
            dropped = min(surplus, n_tokens)
            surplus -= dropped
            if dropped < n_tokens:
                yield {layer: (x[dropped:], h[dropped:]) for layer, (x, h) in sites.items()}
            del block, sites  # not kept during the next forward

    def batch_ends(self, half: Half) -> Int[np.ndarray, " batch"]:
        """Tokens of the half up to the end of each batch of documents that goes through the model together.

        Args:
            half: which half.
        """
        docs, batch, kept = self.docs[half], self._batch_docs, self._kept.get(half)
        used = self.tokens.counted if kept is None else self._at(kept)
        upto = np.cumsum(used[docs].sum(1))
        return upto[np.minimum(np.arange(batch - 1, len(docs) + batch - 1, batch), len(docs) - 1)]

    @property
    def _batch_docs(self) -> int:
        from probekit.model.harvest import default_batch_docs

        return default_batch_docs(self.hooked, max(1, self.tokens.ids.shape[1]))

    def _at(self, kept: np.ndarray) -> np.ndarray:
        """The kept counted tokens at their places, [doc pos]."""
        places = np.zeros_like(self.tokens.counted)
        places[self.tokens.counted] = kept
        return places

    def weights(self, layer: int) -> MlpWeights | None:
        """The layer's weights, read once."""
        if layer not in self._weights:
            self._weights[layer] = self.hooked.mlp(layer)
        return self._weights[layer]

    def has_inputs(self, layer: int) -> bool:
        """Always: the hook on the MLP input gives them."""
        return True

    @property
    def width_kept(self) -> int | None:
        """Inputs and neurons; on an accelerator a forward is cheaper than memory."""
        on_cpu = torch.device(self.hooked.device).type == "cpu"
        return self.hooked.d_model + self.hooked.d_mlp if on_cpu else None


class HeldSource:
    """A source whose blocks are in memory, in front of the one they come from."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def weights(self, layer: int) -> MlpWeights | None:
        """Those of the source."""
        return self._source.weights(layer)

    def has_inputs(self, layer: int) -> bool:
        """As the source has."""
        return self._source.has_inputs(layer)

    @property
    def width_kept(self) -> int | None:
        """Nothing is spared by keeping blocks twice."""
        return None


class ReadOnce(HeldSource):
    """A source whose blocks are kept when they are first read, for a group of layers measured one after another.

    Args:
        source: what is read.
        layers: the group; whichever layer asks first, all of them are read.
    """

    def __init__(self, source: Source, layers: list[int]) -> None:
        super().__init__(source)
        self._layers = layers
        self._kept: dict[Half, list[LayerBlock]] = {"fit": [], "confirm": []}
        self._whole: set[Half] = set()

    def blocks(self, half: Half, layers: list[int], start: int = 0) -> Iterator[LayerBlock]:
        """Blocks of some layers of the group, from what is kept as far as it goes."""
        kept, n_tokens = self._kept[half], 0
        for block in kept:
            first = n_tokens
            n_tokens += _n_tokens(block)
            if n_tokens > start:
                yield _part(block, layers, max(start - first, 0))
        if half in self._whole:
            return
        for block in self._source.blocks(half, self._layers, n_tokens):
            kept.append(block)
            first = n_tokens
            n_tokens += _n_tokens(block)
            if n_tokens > start:
                yield _part(block, layers, max(start - first, 0))
        self._whole.add(half)

    def forget(self, layer: int) -> None:
        """Give back the memory of a layer that has been measured."""
        self._layers = [other for other in self._layers if other != layer]
        for half in ("fit", "confirm"):
            for block in self._kept[half]:
                block.pop(layer, None)


def _n_tokens(block: LayerBlock) -> int:
    return len(next(iter(block.values()))[1])


def _part(block: LayerBlock, layers: list[int], first: int) -> LayerBlock:
    """Some layers of a block, without its first tokens."""
    return {
        layer: (inputs if inputs is None else inputs[first:], neurons[first:])
        for layer, (inputs, neurons) in block.items()
        if layer in layers
    }


class Delivered(HeldSource):
    """A source whose blocks were made elsewhere, for one layer.

    Args:
        source: gives the weights.
        layer: the layer.
        blocks: of each half, in token order.
    """

    def __init__(
        self, source: Source, layer: int, blocks: dict[Half, list[tuple[np.ndarray, np.ndarray]]]
    ) -> None:
        super().__init__(source)
        self._layer, self._blocks = layer, blocks

    def blocks(self, half: Half, layers: list[int], start: int = 0) -> Iterator[LayerBlock]:
        """The blocks from a token on, each copied: what was sent may not be written to, and lies wherever it lies."""
        n_tokens = 0
        for inputs, neurons in self._blocks[half]:
            first = max(start - n_tokens, 0)
            n_tokens += len(neurons)
            if first < len(neurons):
                yield {self._layer: (_copied(inputs[first:]), _copied(neurons[first:]))}


def _copied(values: np.ndarray) -> Tensor:
    made = torch.empty(values.shape)
    made.numpy()[...] = values
    return made


class ArraySource:
    """Activations given as arrays; the only layer is 0."""

    def __init__(
        self,
        neurons: Tensor,
        inputs: Tensor | None,
        weights: MlpWeights | None,
        rows: dict[Half, np.ndarray],
        block: int = 16_384,
    ) -> None:
        self._neurons, self._inputs, self._mlp = neurons, inputs, weights
        self._rows = rows
        self._block = block

    def blocks(self, half: Half, layers: list[int], start: int = 0) -> Iterator[LayerBlock]:
        """Slices of the arrays."""
        rows = self._rows[half][start:]
        for first in range(0, len(rows), self._block):
            chosen = torch.from_numpy(rows[first : first + self._block])
            inputs = None if self._inputs is None else self._inputs[chosen].float()
            yield {0: (inputs, self._neurons[chosen].float())}

    def weights(self, layer: int) -> MlpWeights | None:
        """The weights given, if any."""
        return self._mlp

    def has_inputs(self, layer: int) -> bool:
        """Whether inputs were given."""
        return self._inputs is not None

    @property
    def width_kept(self) -> int | None:
        """Arrays are in memory anyway."""
        return None
