"""Prune, round or re-quantise the weights that act at one layer's neurons, in place and back.

Pruning is by magnitude over the whole layer (gate and linear half together), rounding to evenly spaced levels; biases stay.
A set of P weights of which z are not 0, each of b bits, holds at most log2 C(P, z) + z·b bits, which bounds what it can
select. Formats are those of GGUF files (Q8_0, Q4_1, F16, …), block by block along a neuron's inputs as the file would hold
them. Axes: neuron input.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probekit.errors import ConfigError, ModelError
from probekit.model.gguf import bits_of_types, package
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


def in_format(values: Float[Tensor, "neuron input"], name: str) -> Float[Tensor, "neuron input"]:
    """Weights as a GGUF file of one tensor type would give them back.

    Args:
        values: one weight matrix; blocks of the format lie along its rows.
        name: a ggml type that the `gguf` package can write: F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0, TQ2_0 or TQ1_0.

    Raises:
        ConfigError: `gguf` is not installed, has no such type, cannot write it, or the rows do not fill its blocks.
    """
    gguf = package()
    kind = check_format(name)
    block = gguf.GGML_QUANT_SIZES[kind][0]
    if values.shape[1] % block:
        raise ConfigError(
            f"{name}: a block holds {block} weights of one row, and a neuron here reads {values.shape[1]}; choose another "
            "format."
        )
    plain = np.ascontiguousarray(values.detach().float().cpu().numpy())
    back = gguf.dequantize(gguf.quants.quantize(plain, kind), kind)
    return torch.from_numpy(np.ascontiguousarray(back, np.float32)).reshape(values.shape).to(values)


def check_format(name: str) -> Any:
    """The ggml type of a name.

    Raises:
        ConfigError: `gguf` is not installed, has no such type, or cannot write it.
    """
    gguf = package()
    kinds = gguf.GGMLQuantizationType
    writable = [kind for kind in bits_of_types() if _can_write(gguf, kinds[kind])]
    if name not in writable:
        raise ConfigError(f"format: got {name!r}; the gguf package writes {', '.join(writable)}.")
    return kinds[name]


def _can_write(gguf: Any, kind: Any) -> bool:
    block = gguf.GGML_QUANT_SIZES[kind][0]
    try:
        gguf.quants.quantize(np.zeros((1, block), np.float32), kind)
    except NotImplementedError:
        return False
    return True


@contextmanager
def compressed(
    hooked: HookedModel,
    layer: int,
    *,
    n_kept: int | None = None,
    bits: int | None = None,
    stored_as: str | None = None,
) -> Generator[int]:
    """The model with the weights that act at a layer's neurons pruned by magnitude and rounded; biases stay.

    Inside the block `hooked.mlp(layer)` and every forward see the compressed weights; afterwards they are as before.

    Args:
        hooked: the model.
        layer: which layer.
        n_kept: weights that stay (of gate and linear half together); None keeps all.
        bits: bits of each weight that stays; None leaves them as they are.
        stored_as: a GGUF tensor type through which each weight matrix goes instead, as in `in_format`.

    Returns:
        The number of weights that are not 0.

    Raises:
        InputError: no such layer.
        ConfigError: bits is below 1, n_kept below 0, or the format cannot be used.
        ModelError: the model holds its weights in a way that they cannot be changed.
    """
    hooked.check_layer(layer)
    if n_kept is not None and n_kept < 0:
        raise ConfigError(f"n_kept: got {n_kept}, wanted at least 0.")
    held = _input_weights(hooked, layer)
    before = [weight.detach().clone() for weight in held]
    given = before if stored_as is None else _stored(hooked, layer, before, stored_as)
    flat = torch.cat([weight.flatten().float() for weight in given])
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


def _stored(hooked: HookedModel, layer: int, held: list[Tensor], name: str) -> list[Tensor]:
    """Weight matrices after a way through a file, in the order and orientation the model holds them."""
    weights = hooked.mlp(layer)
    rows = [half for half in (weights.w_gate, weights.w_in) if half is not None]
    back: list[Tensor] = []
    for weight, row in zip(held, rows, strict=True):
        # a file holds one row a neuron, whichever way the model multiplies
        same = weight.shape == row.shape and torch.equal(weight.float(), row.to(weight.device))
        stored = in_format(row, name).to(weight.device)
        back.append(stored if same else stored.T)
    return back


def _input_weights(hooked: HookedModel, layer: int) -> list[Tensor]:
    mlp = hooked.bridge.blocks[layer].mlp
    halves = ("gate", "in") if hooked.gated else ("in",)
    return [getattr(mlp, half).weight for half in halves]
