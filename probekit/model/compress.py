"""Prune and round the weights that act at one layer's neurons, step by step, in place and back.

Pruning is by magnitude over the whole layer (gate and linear half together), rounding to evenly spaced levels; biases stay.
A set of P weights of which z are not 0, each of b bits, holds at most log2 C(P, z) + z·b bits, which bounds what it can
select. Axes: neuron input.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from probekit.errors import ConfigError, ModelError
from probekit.model.hooked_model import HookedModel


def pruned(values: Float[Tensor, "*any"], n_kept: int) -> Float[Tensor, "*any"]:
    """The `n_kept` largest of some weights by magnitude, the others 0; ties are kept in order."""
    flat = values.flatten()
    kept = torch.argsort(flat.abs(), descending=True, stable=True)[:n_kept]
    out = torch.zeros_like(flat)
    out[kept] = flat[kept]
    return out.reshape(values.shape)


def quantised(values: Float[Tensor, "*any"], bits: int) -> Float[Tensor, "*any"]:
    """Weights rounded to 2^bits − 1 levels, symmetric about 0 and evenly spaced up to the largest magnitude.

    One bit is sign times mean magnitude of what is not 0. Zeros stay 0: which weights are 0 is told apart.

    Raises:
        ConfigError: bits is below 1.
    """
    if bits < 1:
        raise ConfigError(f"bits: got {bits}, wanted at least 1.")
    largest = values.abs().max()
    if not largest > 0:
        return values.clone()
    if bits == 1:
        return values.sign() * values.abs()[values != 0].mean()
    step = largest / (2 ** (bits - 1) - 1)
    return (values / step).round() * step


@contextmanager
def compressed(
    hooked: HookedModel, layer: int, *, n_kept: int | None = None, bits: int | None = None
) -> Generator[int]:
    """The model with the weights that act at a layer's neurons pruned by magnitude and rounded; biases stay.

    Inside the block `hooked.mlp(layer)` and every forward see the compressed weights; afterwards they are as before.

    Args:
        hooked: the model.
        layer: which layer.
        n_kept: weights that stay (of gate and linear half together); None keeps all.
        bits: bits of each weight that stays; None leaves them as they are.

    Returns:
        The number of weights that are not 0.

    Raises:
        InputError: no such layer.
        ConfigError: bits is below 1, or n_kept below 0.
        ModelError: the model holds its weights in a way that they cannot be changed.
    """
    hooked.check_layer(layer)
    if n_kept is not None and n_kept < 0:
        raise ConfigError(f"n_kept: got {n_kept}, wanted at least 0.")
    held = _input_weights(hooked, layer)
    before = [weight.detach().clone() for weight in held]
    flat = torch.cat([weight.flatten().float() for weight in before])
    flat = flat if n_kept is None else pruned(flat, n_kept)
    flat = flat if bits is None else quantised(flat, bits)
    parts = torch.split(flat, [weight.numel() for weight in before])
    try:
        with torch.no_grad():
            for weight, part in zip(held, parts, strict=True):
                weight.copy_(part.reshape(weight.shape))
        n_left = int((flat != 0).sum())
        if int((hooked.mlp(layer).weight != 0).sum()) != n_left:
            raise ModelError(
                f"{hooked.name}: layer {layer}: its input weights cannot be changed in place; load the model unfused and "
                "in memory."
            )
        yield n_left
    finally:
        with torch.no_grad():
            for weight, old in zip(held, before, strict=True):
                weight.copy_(old)


def _input_weights(hooked: HookedModel, layer: int) -> list[Tensor]:
    mlp = hooked.bridge.blocks[layer].mlp
    halves = ("gate", "in") if hooked.gated else ("in",)
    return [getattr(mlp, half).weight for half in halves]
