"""Run a model over documents and deliver, block by block, the MLP inputs and neurons of the wanted layers.

Every forward pass has one fixed shape and stops inside the last wanted layer, before its output projection:
later layers and the unembedding are never computed. Rows are padded on the right, which no earlier position of a decoder
can see and which is masked for an encoder. Only counted tokens are delivered (`probekit.text.tokens` says which those
are; the model reads the others all the same), document by document, in float32.
Axes: token doc pos input neuron.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int, Int64
from torch import Tensor

from probekit.errors import (
    ConfigError,
    InputError,
    ModelError,
    NonFiniteError,
    OutOfMemoryError,
    lacks_memory,
)
from probekit.model.hooked_model import HookedModel
from probekit.model.sites import INPUT_SITE, NEURON_SITE
from probekit.text.tokens import Tokens

# More tokens a forward gain nothing: attention matrices leave the cache of the processor (64 documents of 128
# tokens ran at 0.6 of the speed of 32 on a five-layer Llama), and blocks cost memory.
_MOST_TOKENS = 4_096
_FEWEST_TOKENS = 512
_BLOCK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Block:
    """Activations of some documents' counted tokens."""

    docs: Int[np.ndarray, " doc"]
    """Rows of `Tokens`, in the order delivered."""
    tokens: Int64[np.ndarray, " token"]
    """For each delivered token its running index over the counted tokens of `Tokens`."""
    sites: Mapping[int, tuple[Tensor, Tensor]]
    """For each layer the MLP inputs [token input] and the neurons [token neuron]."""

    @property
    def n_tokens(self) -> int:
        """Tokens delivered."""
        return len(self.tokens)


def default_batch_docs(hooked: HookedModel, n_positions: int) -> int:
    """Documents a forward: some 4,096 tokens, fewer where all layers' activations would exceed 256 MiB.

    It depends on the model and the width of the token block only, not on the layers or documents asked for.
    """
    bytes_per_token = 4 * hooked.n_layers * (hooked.d_model + hooked.d_mlp)
    n_tokens = min(_MOST_TOKENS, max(_FEWEST_TOKENS, _BLOCK_BYTES // bytes_per_token))
    return max(1, n_tokens // n_positions)


def harvest(
    hooked: HookedModel,
    tokens: Tokens,
    docs: Int[np.ndarray, " doc"],
    layers: Iterable[int],
    *,
    batch_docs: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Block]:
    """Deliver the activations of documents, block by block, in the order of `docs`.

    Args:
        hooked: the model.
        tokens: the token block the documents are rows of.
        docs: rows wanted, in the order wanted.
        layers: layers wanted; all are read in the same forward pass.
        batch_docs: documents a forward; None for `default_batch_docs`. It changes how tokens are cut into
            blocks, not which tokens are delivered nor their order.
        progress: called after every block with the number of tokens delivered so far.

    Returns:
        An iterator of blocks. The arguments are checked at once, the model runs while one iterates.

    Raises:
        InputError: a layer or document that does not exist, a token id beyond the embedding, rows longer than
            the model's context.
        ConfigError: `batch_docs` is below 1.
        NonFiniteError: while iterating, an activation is NaN or infinite.
        OutOfMemoryError: while iterating, not even a forward of one document fits on the device. Before that a batch is
            halved as often as it takes; blocks and tokens stay what they were, the last bits may not.
    """
    wanted = sorted(set(layers))
    if not wanted:
        raise InputError("layers: got none, wanted at least one; name the layers to read.")
    for layer in wanted:
        hooked.check_layer(layer)
    docs = np.asarray(docs, np.int64)
    if batch_docs is None:
        batch_docs = default_batch_docs(hooked, max(1, tokens.ids.shape[1]))
    if batch_docs < 1:
        raise ConfigError(f"batch_docs: got {batch_docs}, wanted at least 1.")
    _check_tokens(hooked, tokens, docs)
    return _blocks(hooked, tokens, docs, wanted, batch_docs, progress)


def _blocks(
    hooked: HookedModel,
    tokens: Tokens,
    docs: Int[np.ndarray, " doc"],
    layers: list[int],
    batch_docs: int,
    progress: Callable[[int], object] | None,
) -> Iterator[Block]:
    token_at = np.cumsum(tokens.counted.ravel(), dtype=np.int64).reshape(tokens.counted.shape) - 1
    n_done, n_together = 0, batch_docs
    for start in range(0, len(docs), batch_docs):
        rows = docs[start : start + batch_docs]
        counted = tokens.counted[rows]
        ids = tokens.ids[np.resize(rows, batch_docs)]
        sites, n_together = _forward_parts(hooked, ids, layers, np.flatnonzero(counted), n_together)
        _require_finite(hooked, tokens, rows, sites)
        block = Block(docs=rows, tokens=token_at[rows][counted], sites=sites)
        yield block
        n_done += block.n_tokens
        if progress is not None:
            progress(n_done)
        del block, sites  # not kept during the next forward


def _forward_parts(
    hooked: HookedModel,
    ids: Int[np.ndarray, "doc pos"],
    layers: list[int],
    positions: Int64[np.ndarray, " token"],
    n_together: int,
) -> tuple[dict[int, tuple[Tensor, Tensor]], int]:
    """One block in forwards of `n_together` documents, fewer if they do not fit; and how many did."""
    n_positions = ids.shape[1]
    while True:
        try:
            parts: list[dict[int, tuple[Tensor, Tensor]]] = []
            for first in range(0, len(ids), n_together):
                part = np.resize(ids[first : first + n_together], (n_together, n_positions))
                start, stop = first * n_positions, min(first + n_together, len(ids)) * n_positions
                own = positions[(positions >= start) & (positions < stop)] - start
                parts.append(_forward(hooked, part, layers, own))
            break
        except OutOfMemoryError:
            if n_together == 1:
                raise
            n_together = (n_together + 1) // 2
    if len(parts) == 1:
        return parts[0], n_together
    joined = {layer: [part[layer] for part in parts] for layer in layers}
    return {
        layer: (torch.cat([x for x, _ in pairs]), torch.cat([h for _, h in pairs]))
        for layer, pairs in joined.items()
    }, n_together


def _forward(
    hooked: HookedModel,
    ids: Int[np.ndarray, "doc pos"],
    layers: list[int],
    positions: Int64[np.ndarray, " token"],
) -> dict[int, tuple[Tensor, Tensor]]:
    """One forward pass; of its flattened [doc pos] rows those at `positions`, in float32."""
    names = [site.format(layer) for layer in layers for site in (INPUT_SITE, NEURON_SITE)]
    # Padding becomes a valid id. What it computes is dropped, and counted tokens do not see it, except that
    # attention multiplies it by zero, and 0·NaN is NaN: so it is an id of the document itself.
    valid_ids = np.maximum(np.where(ids < 0, ids[:, :1], ids), 0).astype(np.int64)
    valid = torch.from_numpy(valid_ids).to(hooked.device)
    try:
        with torch.inference_mode():
            captured = _captured(hooked, valid, layers, names, torch.from_numpy(ids >= 0))
        kept = torch.from_numpy(positions).to(hooked.device)
        # Outside inference mode, so that what is delivered are ordinary tensors that may be changed in place.
        delivered: dict[str, Tensor] = {}
        for name in names:
            if name not in captured:
                raise ModelError(
                    f"{hooked.name}: site `{name}` did not fire in this forward pass; load the model again."
                )
            activation = captured.pop(name)
            rows = rearrange(activation, "... feature -> (...) feature")
            delivered[name] = rows.index_select(0, kept.to(rows.device)).to(hooked.device, torch.float32)
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        raise OutOfMemoryError(
            f"{hooked.name}: a forward of {len(ids)} documents of {ids.shape[1]} tokens does not fit on "
            f"{hooked.device}. Choose a smaller context, a 16-bit dtype, or a device with more memory."
        ) from error
    return {
        layer: (delivered[INPUT_SITE.format(layer)], delivered[NEURON_SITE.format(layer)]) for layer in layers
    }


def _captured(
    hooked: HookedModel, ids: Tensor, layers: list[int], names: list[str], text: Tensor
) -> dict[str, Tensor]:
    if hooked.plain is not None:
        return hooked.plain.capture(ids, layers, text.to(ids.device))
    from transformer_lens.model_bridge.exceptions import StopAtLayerException

    captured: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: Any) -> None:
        captured[hook.name] = activation
        if hook.name == names[-1]:
            raise StopAtLayerException(activation)

    hooked.bridge.run_with_hooks(ids, return_type=None, fwd_hooks=[(name, keep) for name in names])
    return captured


def _check_tokens(hooked: HookedModel, tokens: Tokens, docs: Int[np.ndarray, " doc"]) -> None:
    outside = docs[(docs < 0) | (docs >= tokens.n_docs)]
    if len(outside):
        raise InputError(
            f"docs: got document {outside[0]}, but corpus {tokens.name!r} has documents 0 to "
            f"{tokens.n_docs - 1}; choose among these."
        )
    n_positions = tokens.ids.shape[1]
    if n_positions > hooked.context:
        raise InputError(
            f"corpus {tokens.name!r}: rows of {n_positions} tokens, but {hooked.name} has a context of "
            f"{hooked.context}; choose context={hooked.context} or less."
        )
    if not len(docs):
        return
    too_large = tokens.ids[docs] >= hooked.n_vocab
    if too_large.any():
        row, pos = np.argwhere(too_large)[0]
        token_id = int(tokens.ids[docs[row], pos])
        string = hooked.token_string(token_id)
        raise InputError(
            f"corpus {tokens.name!r}, document {docs[row]}, position {pos}: token id {token_id}"
            f"{'' if string is None else f' ({string!r})'} is beyond the {hooked.n_vocab:,} rows of "
            f"{hooked.name}'s embedding; tokenize with the model's own tokenizer, or drop that token."
        )


def _require_finite(
    hooked: HookedModel,
    tokens: Tokens,
    rows: Int[np.ndarray, " doc"],
    sites: Mapping[int, tuple[Tensor, Tensor]],
) -> None:
    # A sum is finite unless a term is not, or finite terms overflow: a cheap look, then a close one.
    sums = torch.stack([activation.sum() for pair in sites.values() for activation in pair])
    if bool(torch.isfinite(sums).all()):
        return
    for layer, pair in sites.items():
        for what, activations in zip(("MLP inputs", "neurons"), pair, strict=True):
            bad = ~torch.isfinite(activations)
            n_bad = int(bad.sum())
            if n_bad == 0:
                continue
            token = int(bad.any(dim=1).nonzero()[0])
            row, pos = np.argwhere(tokens.counted[rows])[token]
            raise NonFiniteError(
                f"{hooked.name}: layer {layer}: {n_bad:,} of {activations.numel():,} {what} of this block are "
                f"NaN or infinite, the first at document {rows[row]}, position {pos}; wanted finite numbers. "
                f"The model computes in {str(hooked.dtype).removeprefix('torch.')}: load it with "
                "dtype=torch.float32, or leave that document out."
            )
