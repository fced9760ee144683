"""Where the arrays of a circuit lie in a transformer: residual coordinates, head, norms, MLPs.

Residual stream: the current token's block, then (spread "previous") the previous token's block and the position codes, then
what each MLP but the last writes, in coordinates of its own; the next layer reads it there. A block is the circuit's d
inputs x; with LayerNorm it is [x, −x, r, −r] with r chosen so that the block's mean is 0 and its norm the same for every
token: LayerNorm then divides by one known number, which its gain undoes. What layers write is mirrored likewise, and
where several layers follow each other r is made so large that it changes the norm by less than `NORM_DRIFT`. Else nothing
is approximated but the sums of float32 and the head's pattern, which leaks at most `LEAK`. Position p is coded by cosine
and sine of two frequencies, and the head's score is the sum of cos(ω(p − 1 − j)), highest at the previous position
j = p − 1. Axes: vocab input neuron pos coordinate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from probekit.theory.circuits.circuit import Circuit

LEAK = 1e-6
"""Attention on all other positions together, at most; below what float32 resolves in a sum of codes."""
SMOOTH_GAIN = 8.0
"""Pre-activations of smooth activations are multiplied by this: gelu(8z)/8 is within 0.022 of relu(z)."""
NORM_DRIFT = 1e-4
"""Relative change of a token's norm by what earlier layers wrote, at most (with LayerNorm)."""
_SPARE = 1.25  # room above the longest code, so that r never comes near 0, where it would bend most


@dataclass(frozen=True)
class Layout:
    """Which residual coordinates hold what."""

    d_inputs: int
    """Inputs of the first layer's circuit, of one token."""
    d_written: tuple[int, ...]
    """Coordinates that each layer's circuit writes."""
    previous: bool
    """Whether a head moves the previous token's block."""
    layer_norm: bool
    """Whether LayerNorm stands before attention and MLP."""

    @property
    def d_block(self) -> int:
        """Coordinates of one token's block."""
        return 2 * self.d_inputs + 2 if self.layer_norm else self.d_inputs

    @property
    def d_position(self) -> int:
        """Coordinates of the position code: cosine and sine of two frequencies, mirrored under LayerNorm."""
        return 0 if not self.previous else 8 if self.layer_norm else 4

    @property
    def d_used(self) -> int:
        """Coordinates that hold anything before the first MLP writes."""
        return self.d_block * (1 + self.previous) + self.d_position

    def written_at(self, layer: int) -> int:
        """First coordinate that a layer writes to; the last one writes over the tokens, which nothing reads any more."""
        if layer == len(self.d_written) - 1:
            return 0
        return self.d_used + (1 + self.layer_norm) * sum(self.d_written[:layer])

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        *between, last = self.d_written
        return max(self.d_used + (1 + self.layer_norm) * sum(between), last)


def plant_bridge(
    layers: Sequence[Circuit],
    layout: Layout,
    inputs: Float[np.ndarray, "vocab input"],
    w_in: Float[np.ndarray, "neuron coordinate"],
    doc_len: int,
    activation: str,
    *,
    name: str,
    written_square: float = 0.0,
) -> Any:
    """A TransformerBridge that holds a circuit in each of its MLP layers.

    Args:
        layers: the MLP layers; narrower ones are filled up with neurons that read nothing.
        layout: their place.
        inputs: what the current token's inputs are, for every vocabulary entry.
        w_in: input weights of the first layer on the current inputs, followed by those on the previous ones where
            `layout` has them.
        doc_len: positions.
        activation: canonical name.
        name: what reports call it.
        written_square: largest square norm of all that the layers before the last one write at a token.
    """
    from transformer_lens.model_bridge import TransformerBridge

    gain = 1.0 if activation == "relu" else SMOOTH_GAIN
    d_model, d_block = layout.d_model, layout.d_block
    # LayerNorm divides by the norm: a relative change δ of its square changes it by δ/2
    blocks = _normed(inputs, written_square / (2 * NORM_DRIFT)) if layout.layer_norm else inputs
    embedding = np.zeros((len(inputs), d_model))
    embedding[:, :d_block] = blocks
    head = _head(layout, doc_len)
    d_mlp = max(layer.n_neurons for layer in layers)
    boot: Any = TransformerBridge  # its constructors are attached when the library is imported
    bridge = boot.boot_native(
        {
            "n_layers": len(layers), "d_model": d_model, "n_heads": 1, "d_head": head.query.shape[0], "d_mlp": d_mlp,
            "n_ctx": doc_len, "d_vocab": len(inputs), "act_fn": {"gelu_tanh": "gelu_new"}.get(activation, activation),
            "normalization_type": "LN" if layout.layer_norm else None, "seed": 0, "model_name": f"planted-{name}",
        }
    )  # fmt: skip
    bridge.cfg.model_name = f"planted-{name}"  # what reports call it
    values: dict[Any, np.ndarray | float] = {
        bridge.embed.weight: embedding,
        bridge.pos_embed.weight: head.positions,
    }
    square = float((blocks[0] ** 2).sum())  # every token's
    position = float((head.positions[0] ** 2).sum())  # every position's
    for i in range(len(layers)):
        values |= _mlp_values(bridge.blocks[i], layers, i, layout, w_in, gain)
        values |= _attention_values(bridge.blocks[i], head if i == 0 else None)
        if layout.layer_norm:
            after = square * (1 + layout.previous) + position
            before = square + position if i == 0 else after
            values |= _norm_values(bridge.blocks[i], before / d_model, after / d_model, float(bridge.cfg.eps))
    with torch.no_grad():
        for parameter, value in values.items():
            parameter.copy_(torch.as_tensor(np.asarray(value, np.float32)).expand(parameter.shape))
    bridge.eval()
    return bridge


def _mlp_values(
    block: Any, layers: Sequence[Circuit], i: int, layout: Layout, w_in: np.ndarray, gain: float
) -> dict[Any, np.ndarray]:
    """Values of an MLP layer's parameters, filled up with neurons that read nothing."""
    layer = layers[i]
    silent = max(one.n_neurons for one in layers) - layer.n_neurons
    read = np.pad(_reads(layers, i, layout, w_in), ((0, silent), (0, 0)))
    written = np.pad(_at(layout, i, layer.w_out), ((0, 0), (0, silent)))
    offset = np.zeros(layout.d_model)
    if layer.code_out is not None:
        offset = _at(layout, i, (layer.code_out @ layer.readoff_bias)[:, None])[:, 0]
    return {
        getattr(block.mlp, "in").weight: gain * read,
        getattr(block.mlp, "in").bias: gain * np.pad(layer.b_in, (0, silent)),
        block.mlp.out.weight: written / gain, block.mlp.out.bias: offset,
    }  # fmt: skip


def _attention_values(block: Any, head: Any | None) -> dict[Any, np.ndarray | float]:
    """Attention that does nothing, or a head that brings the previous token."""
    parts = (block.attn.q, block.attn.k, block.attn.v, block.attn.o)
    values: dict[Any, np.ndarray | float] = {}
    for part in parts:
        values |= {part.weight: 0.0, part.bias: 0.0}
    if head is not None:
        given = (head.query, head.key, head.value, head.value_out)
        values |= {part.weight: value for part, value in zip(parts, given, strict=True)}
    return values


def _norm_values(block: Any, before: float, after: float, epsilon: float) -> dict[Any, np.ndarray | float]:
    """Gains that undo what LayerNorm divides by: the root of the mean square before attention, and after it."""
    return {
        block.ln1.weight: np.sqrt(before + epsilon), block.ln1.bias: 0.0,
        block.ln2.weight: np.sqrt(after + epsilon), block.ln2.bias: 0.0,
    }  # fmt: skip


def _reads(
    layers: Sequence[Circuit], layer: int, layout: Layout, w_in: Float[np.ndarray, "first_neuron coordinate"]
) -> Float[np.ndarray, "neuron d_model"]:
    """Input weights of one layer on the residual stream."""
    read = np.zeros((layers[layer].n_neurons, layout.d_model))
    if layer:
        start = layout.written_at(layer - 1)
        read[:, start : start + layers[layer].d_model] = layers[layer].w_in
        return read
    for lag in range(1 + layout.previous):
        start = lag * layout.d_block
        read[:, start : start + layout.d_inputs] = w_in[
            :, lag * layout.d_inputs : (lag + 1) * layout.d_inputs
        ]
    return read


def _at(
    layout: Layout, layer: int, rows: Float[np.ndarray, "out column"]
) -> Float[np.ndarray, "d_model column"]:
    """What a layer writes, at its coordinates; mirrored where LayerNorm is to find the mean unchanged."""
    full = np.zeros((layout.d_model, rows.shape[1]))
    start, n = layout.written_at(layer), len(rows)
    full[start : start + n] = rows
    if layout.layer_norm and layer < len(layout.d_written) - 1:
        full[start + n : start + 2 * n] = -rows
    return full


def _normed(
    inputs: Float[np.ndarray, "vocab input"], least_square: float
) -> Float[np.ndarray, "vocab coordinate"]:
    """[x, −x, r, −r]: mean 0, and one norm for all, whose square is at least the one given."""
    squares = (inputs**2).sum(axis=1)
    room = max(_SPARE * max(float(squares.max()), 1.0), least_square / 2)
    spare = np.sqrt(room - squares)[:, None]
    return np.concatenate([inputs, -inputs, spare, -spare], axis=1)


@dataclass(frozen=True)
class _Head:
    """The attention head, and the position codes it goes by."""

    positions: Float[np.ndarray, "pos coordinate"]
    query: Float[np.ndarray, "channel coordinate"]
    key: Float[np.ndarray, "channel coordinate"]
    value: Float[np.ndarray, "channel coordinate"]
    value_out: Float[np.ndarray, "coordinate channel"]


def _head(layout: Layout, doc_len: int) -> _Head:
    """Attend to the previous position and copy its block; write nothing where the layout asks for none."""
    d_model, d_block = layout.d_model, layout.d_block
    d_head = max(d_block, 4)
    positions = np.zeros((doc_len, d_model))
    query, key, value = (np.zeros((d_head, d_model)) for _ in range(3))
    value_out = np.zeros((d_model, d_head))
    if not layout.previous:
        return _Head(positions, query, key, value, value_out)
    first = 2 * d_block
    # the slow frequency tells far positions apart, the fast one near ones; one turn of the slow one holds all differences
    turn = 2 * doc_len
    slow, fast = 2 * np.pi / turn, 2 * np.pi * round(turn**0.5) / turn
    steps = np.arange(doc_len)[:, None]
    code = np.concatenate([f(w * steps) for w in (slow, fast) for f in (np.cos, np.sin)], axis=1)
    positions[:, first : first + 4] = code
    if layout.layer_norm:
        positions[:, first + 4 : first + 8] = -code
    away = np.arange(1, doc_len)
    # the least by which another position's score is lower
    nearest = float((2 - np.cos(slow * away) - np.cos(fast * away)).min())
    sharpness = np.log(doc_len / LEAK) / nearest
    for i, w in enumerate((slow, fast)):
        # the query of p is the code of p − 1
        at = slice(first + 2 * i, first + 2 * i + 2)
        turned = np.array([[np.cos(w), np.sin(w)], [-np.sin(w), np.cos(w)]])
        query[2 * i : 2 * i + 2, at] = sharpness * np.sqrt(d_head) * turned
        key[2 * i : 2 * i + 2, at] = np.eye(2)
    channels = np.arange(d_block)
    value[channels, channels] = 1.0
    value_out[d_block + channels, channels] = 1.0
    return _Head(positions, query, key, value, value_out)
