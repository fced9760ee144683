"""Change a model at its neurons, and see what its predictions do.

An `Edit` acts on one layer's neurons h at every counted token: h′ = h − (R h − m) W. Where R W′ = 1 it is mean ablation:
what R reads becomes its mean m, taken out along W, which for some neurons or a direction is R itself and may be another
vector (a readout reads along one direction and what it reads is written along another: Haufe et al. 2014). With any other W
it is the same change written elsewhere, a control. The prediction at a token is that of the token after it; its loss is in
nats. Axes: token edit direction neuron.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, Int64
from torch import Tensor

from probekit.errors import InputError, OutOfMemoryError, lacks_memory
from probekit.model.harvest import default_batch_docs, harvest
from probekit.model.hooked_model import HookedModel
from probekit.model.sites import NEURON_SITE
from probekit.text.tokens import Tokens

LOGIT_BYTES = 128 * 2**20
"""Memory that the logits of one forward may take."""


@dataclass(frozen=True)
class Edit:
    """One change of one layer's neurons."""

    layer: int
    """Which layer."""
    read: Float[Tensor, "direction neuron"]
    """What is read, R."""
    mean: Float[Tensor, " direction"]
    """What the reading is replaced by, m."""
    write: Float[Tensor, "direction neuron"]
    """Where the change goes, W."""

    def apply(self, neurons: Float[Tensor, "... neuron"]) -> Float[Tensor, "... neuron"]:
        """The changed neurons."""
        return neurons - (neurons @ self.read.T - self.mean) @ self.write

    def to(self, device: torch.device, dtype: torch.dtype) -> Edit:
        """The same change where the model computes."""
        return Edit(
            self.layer,
            self.read.to(device, dtype),
            self.mean.to(device, dtype),
            self.write.to(device, dtype),
        )


def ablate_direction(
    layer: int,
    direction: Float[Tensor, " neuron"],
    mean_neurons: Float[Tensor, " neuron"],
    along: Float[Tensor, " neuron"] | None = None,
) -> Edit:
    """Mean-ablate what one direction in neuron space reads.

    Args:
        layer: which layer.
        direction: what is read: any non-zero vector, its length does not matter.
        mean_neurons: mean of each neuron over the text.
        along: what is taken out of the neurons, scaled so that the reading becomes its mean; None: the direction itself.

    Raises:
        InputError: the direction is zero, or reads nothing of `along`.
    """
    along = direction if along is None else along
    overlap = float(direction @ along)
    # a thousandth of what Cauchy and Schwarz allow: dividing by less would blow the change up
    if not abs(overlap) > 1e-3 * float(direction.norm() * along.norm()):
        raise InputError(
            f"layer {layer}: the direction to ablate is zero or reads nothing of what is to be taken out."
        )
    return Edit(layer, direction[None], (direction @ mean_neurons)[None], (along / overlap)[None])


def ablate_neurons(
    layer: int, neurons: Int[np.ndarray, " chosen"], mean_neurons: Float[Tensor, " neuron"]
) -> Edit:
    """Mean-ablate some neurons, each by itself."""
    read = torch.zeros(len(neurons), len(mean_neurons))
    read[torch.arange(len(neurons)), torch.from_numpy(neurons.astype(np.int64))] = 1.0
    return Edit(layer, read, mean_neurons[neurons.astype(np.int64)], read)


def written_elsewhere(edit: Edit, write: Float[Tensor, "direction neuron"]) -> Edit:
    """The same change at every token, written along other vectors; of the same size where these are as long."""
    return Edit(edit.layer, edit.read, edit.mean, write)


@dataclass(frozen=True)
class NeuronScale:
    """How a layer's neurons move over some text, and with one pair of concepts."""

    mean: Float[Tensor, " neuron"]
    """Mean of each."""
    sd: Float[Tensor, " neuron"]
    """Standard deviation of each."""
    interaction: Float[Tensor, " neuron"]
    """What A∧B adds to each beyond what A and B add: μ11 − μ10 − μ01 + μ00; 0 where a quadrant is empty."""


def neuron_scales(
    hooked: HookedModel,
    tokens: Tokens,
    docs: Int[np.ndarray, " doc"],
    pairs: Sequence[tuple[int, np.ndarray, np.ndarray]],
) -> list[NeuronScale]:
    """How the neurons move with each pair over some documents.

    Args:
        hooked: the model.
        tokens: the token block.
        docs: rows of it.
        pairs: for each pair its layer and the counted tokens at which A and at which B holds, sorted.
    """
    layers = sorted({layer for layer, _, _ in pairs})
    sums = {layer: torch.zeros(2, 0, dtype=torch.float64) for layer in layers}
    means = [torch.zeros(4, 0, dtype=torch.float64)] * len(pairs)
    counts = np.zeros((len(pairs), 4))
    n_tokens = 0
    for block in harvest(hooked, tokens, docs, layers):
        n_tokens += block.n_tokens
        held = {layer: neurons.double().cpu() for layer, (_, neurons) in block.sites.items()}
        for layer, h in held.items():
            sums[layer] = _plus(sums[layer], torch.stack([h.sum(0), h.square().sum(0)]))
        for p, (layer, where_a, where_b) in enumerate(pairs):
            a, b = np.isin(block.tokens, where_a), np.isin(block.tokens, where_b)
            cells = np.stack([a & b, a & ~b, ~a & b, ~a & ~b])
            counts[p] += cells.sum(1)
            means[p] = _plus(means[p], torch.from_numpy(cells.astype(float)) @ held[layer])
    signs = torch.tensor([[1.0, -1.0, -1.0, 1.0]], dtype=torch.float64)
    scales: list[NeuronScale] = []
    for p, (layer, _, _) in enumerate(pairs):
        mean, square = sums[layer] / max(n_tokens, 1)
        by_quadrant = means[p] / torch.from_numpy(np.maximum(counts[p], 1))[:, None]
        interaction = (signs @ by_quadrant)[0] * float((counts[p] > 0).all())
        sd = (square - mean.square()).clamp_min(0).sqrt()
        scales.append(NeuronScale(mean.float(), sd.float(), interaction.float()))
    return scales


def _plus(total: Tensor, part: Tensor) -> Tensor:
    return total + part if total.numel() else part


@dataclass(frozen=True)
class Predictions:
    """The model's predictions at some tokens, as it is and under each edit, fp32."""

    tokens: Int64[np.ndarray, " token"]
    """Running index over the counted tokens of `Tokens`: those with a counted token after them."""
    loss: Float[np.ndarray, " token"]
    """Nats of the token after, unchanged model."""
    change: Float[np.ndarray, "edit token"]
    """Loss under the edit less the loss without."""
    divergence: Float[np.ndarray, "edit token"]
    """Kullback–Leibler divergence of the edited prediction from the unchanged one, nats."""


def predict(
    hooked: HookedModel,
    tokens: Tokens,
    docs: Int[np.ndarray, " doc"],
    edits: Sequence[Edit],
    *,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Predictions]:
    """Predictions on documents, block by block, unchanged and under each edit.

    An edit acts at every counted token (not at a beginning-of-sequence token), so what changes at a token may also come
    from an earlier one, through attention.

    Args:
        hooked: the model.
        tokens: the token block the documents are rows of.
        docs: rows wanted.
        edits: changes, each made alone.
        progress: called after every block with the number of predictions delivered so far.

    Raises:
        InputError: a layer that does not exist, or rows longer than the model's context.
        OutOfMemoryError: a forward does not fit on the device.
    """
    hooked.require_decoder("an effect on predictions")
    for edit in edits:
        hooked.check_layer(edit.layer)
    if tokens.ids.shape[1] > hooked.context:
        raise InputError(
            f"corpus {tokens.name!r}: rows of {tokens.ids.shape[1]} tokens, but {hooked.name} has a context of "
            f"{hooked.context}; choose context={hooked.context} or less."
        )
    docs = np.asarray(docs, np.int64)
    there = [edit.to(hooked.device, hooked.dtype) for edit in edits]
    n_docs = _batch_docs(hooked, tokens)
    token_at = np.cumsum(tokens.counted.ravel(), dtype=np.int64).reshape(tokens.counted.shape) - 1
    n_done = 0
    for start in range(0, len(docs), n_docs):
        block = _predictions(hooked, tokens, docs[start : start + n_docs], there, token_at)
        yield block
        n_done += len(block.tokens)
        if progress is not None:
            progress(n_done)


def _batch_docs(hooked: HookedModel, tokens: Tokens) -> int:
    n_positions = max(1, tokens.ids.shape[1])
    by_logits = LOGIT_BYTES // (4 * hooked.n_vocab * n_positions)
    return max(1, min(default_batch_docs(hooked, n_positions), by_logits))


def _predictions(
    hooked: HookedModel, tokens: Tokens, rows: np.ndarray, edits: Sequence[Edit], token_at: np.ndarray
) -> Predictions:
    ids, counted = tokens.ids[rows], tokens.counted[rows]
    # a token is predicted from the one before it; the last one of a row predicts nothing that is known
    usable = np.zeros_like(counted)
    usable[:, :-1] = counted[:, :-1] & counted[:, 1:]
    target = torch.from_numpy(np.roll(ids, -1, axis=1)[usable].astype(np.int64)).to(hooked.device)
    shown = torch.from_numpy(np.maximum(np.where(ids < 0, ids[:, :1], ids), 0).astype(np.int64)).to(
        hooked.device
    )
    kept = torch.from_numpy(np.flatnonzero(usable)).to(hooked.device)
    acted_on = torch.from_numpy(counted).to(hooked.device)
    try:
        with torch.inference_mode():
            clean = _log_probabilities(hooked, shown, kept, None, acted_on)
            loss = -clean.gather(1, target[:, None])[:, 0]
            change = np.zeros((len(edits), len(target)), np.float32)
            divergence = np.zeros_like(change)
            for i, edit in enumerate(edits):
                edited = _log_probabilities(hooked, shown, kept, edit, acted_on)
                change[i] = (-edited.gather(1, target[:, None])[:, 0] - loss).cpu().numpy()
                divergence[i] = (clean.exp() * (clean - edited)).sum(1).cpu().numpy()
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        raise OutOfMemoryError(
            f"{hooked.name}: the logits of {len(rows)} documents of {ids.shape[1]} tokens do not fit on {hooked.device}; "
            "choose a smaller context or device='cpu'."
        ) from error
    return Predictions(token_at[rows][usable], loss.cpu().numpy(), change, divergence)


def _log_probabilities(
    hooked: HookedModel, ids: Tensor, kept: Tensor, edit: Edit | None, acted_on: Tensor
) -> Float[Tensor, "token vocab"]:
    def change(activation: Tensor, hook: Any) -> Tensor:
        assert edit is not None
        # some architectures hand neurons over as [doc·pos neuron]
        mask = acted_on.reshape(*activation.shape[:-1], 1)
        return torch.where(mask, edit.apply(activation), activation)

    hooks = [] if edit is None else [(NEURON_SITE.format(edit.layer), change)]
    logits = hooked.bridge.run_with_hooks(ids, return_type="logits", fwd_hooks=hooks)
    rows = rearrange(logits, "doc pos vocab -> (doc pos) vocab").index_select(0, kept)
    return torch.log_softmax(rows.float(), dim=-1)
