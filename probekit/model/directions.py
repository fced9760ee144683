"""Directions of concepts in a layer's input: what a token, or a concept of a corpus, adds to what the MLP reads.

Axes: token, input, concept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probekit.errors import InputError
from probekit.model.harvest import harvest
from probekit.model.hooked_model import HookedModel
from probekit.model.twins import concept_directions
from probekit.text.concepts.labels import Labels
from probekit.text.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Directions:
    """Where concepts lie in the input of one layer."""

    names: tuple[str, ...]
    """Names of the concepts."""
    codes: Float[np.ndarray, "input concept"]
    """What each adds to the MLP input."""
    mean: Float[np.ndarray, " input"]
    """Mean MLP input."""
    covariance: Float[np.ndarray, "input input"]
    """Covariance of the MLP inputs."""

    def commonest(self, labels: Labels, most: int) -> Directions:
        """At most this many of the concepts, those that hold most often but not nearly always, in their order."""
        counts = np.diff(labels.indptr)
        counts = np.where(counts <= labels.n_tokens / 2, counts, 0)
        kept = np.sort(np.argsort(-counts, kind="stable")[: max(most, 2)])
        return Directions(tuple(self.names[i] for i in kept), self.codes[:, kept], self.mean, self.covariance)


def token_directions(hooked: HookedModel, ids: Sequence[int], layer: int) -> Directions:
    """Token types by themselves: the MLP input behind the start mark, its mean over the tokens taken off.

    In the first layer that is the token's embedding, pushed through attention to itself and the mark, and the norm.

    Raises:
        InputError: fewer tokens than two.
    """
    if len(ids) < 2:
        raise InputError(f"tokens: got {len(ids)}, wanted two or more.")
    first = [] if hooked.bos_id is None else [hooked.bos_id]
    last = [] if hooked.end_id is None else [hooked.end_id]
    rows = np.array([[*first, token, *last] for token in ids], dtype=np.int32)
    tokens = Tokens(
        rows, np.full(len(rows), rows.shape[1]), hooked.bos_id, "single tokens", end_id=hooked.end_id
    )
    inputs = _inputs(hooked, tokens, layer)
    if len(inputs) != len(ids):
        raise InputError(
            f"tokens: got {len(ids)}, of which {len(inputs)} are counted; special tokens have no direction. Leave them out."
        )
    names = tuple(hooked.token_string(token) or str(token) for token in ids)
    centred = (inputs - inputs.mean(0)).numpy()
    return Directions(names, centred.T, inputs.mean(0).numpy(), centred.T @ centred / len(centred))


def measured_directions(hooked: HookedModel, tokens: Tokens, labels: Labels, layer: int) -> Directions:
    """Concepts of a corpus: least squares of the MLP input on all labels at once.

    Args:
        hooked: the model.
        tokens: documents to read, all of them.
        labels: where each concept holds on their counted tokens.
        layer: which layer's input.
    """
    inputs = _inputs(hooked, tokens, layer)
    centred = inputs - inputs.mean(0)
    codes = concept_directions(inputs, torch.from_numpy(labels.dense()).double())
    return Directions(
        tuple(labels.names),
        codes.double().numpy().T,
        inputs.mean(0).numpy(),
        (centred.T @ centred / len(inputs)).numpy(),
    )


def _inputs(hooked: HookedModel, tokens: Tokens, layer: int) -> Float[Tensor, "token input"]:
    """MLP inputs of every counted token, in fp64."""
    blocks = harvest(hooked, tokens, np.arange(tokens.n_docs), [layer])
    return torch.cat([block.sites[layer][0].cpu() for block in blocks]).double()
