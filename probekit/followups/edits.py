"""The edits of one pair: its own ablation, others like it, and its own change written elsewhere.

Axes: neuron.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from probekit.model.intervene import Edit, NeuronScale, ablate_direction, ablate_neurons, written_elsewhere

What = Literal["direction", "pattern", "neurons"]


def edits_of(
    row: dict[Any, Any],
    scale: NeuronScale,
    what: str,
    n_neurons: int,
    n_random: int,
    rng: np.random.Generator,
) -> list[Edit]:
    """The pair's own ablation, then the other ones, then its own change written elsewhere.

    Args:
        row: of the pair table: layer, neurons and weights of the readout.
        scale: how the layer's neurons move, and with the pair.
        what: as in `causal`.
        n_neurons: how many, with what="neurons".
        n_random: vectors of each of the two random kinds.
        rng: of these.
    """
    layer, mean = int(row["layer"]), scale.mean
    neurons = np.asarray(row["neurons"], np.int64)
    weights = np.zeros(len(mean), np.float32)
    weights[neurons] = np.asarray(row["weights"], np.float32)
    moving = np.flatnonzero(scale.sd.numpy() > 0)
    shuffles = [_shuffle(moving, len(mean), rng) for _ in range(2 * n_random)]
    if what == "neurons":
        # weight times the neuron's own movement: its share of the readout's
        strength = np.abs(weights[neurons]) * scale.sd.numpy()[neurons]
        best = neurons[np.argsort(-strength, kind="stable")[:n_neurons]]
        own = ablate_neurons(layer, best, mean)
        others = [ablate_neurons(layer, order[best], mean) for order in shuffles[:n_random]]
    else:
        read = torch.from_numpy(weights)
        along = read if what == "direction" else scale.interaction
        own = ablate_direction(layer, read, mean, along)
        others = [
            ablate_direction(layer, _moved(read, order), mean, _moved(along, order))
            for order in shuffles[:n_random]
        ]
    elsewhere = [written_elsewhere(own, _moved(own.write, order)) for order in shuffles[n_random:]]
    return [own, *others, *elsewhere]


def _shuffle(moving: np.ndarray, n_neurons: int, rng: np.random.Generator) -> np.ndarray:
    """A place for each neuron's value: neurons that move change places, the others stay."""
    order = np.arange(n_neurons)
    order[moving] = rng.permutation(moving)
    return order


def _moved(values: Tensor, order: np.ndarray) -> Tensor:
    out = torch.empty_like(values)
    out[..., torch.from_numpy(order)] = values
    return out
