"""Pre-activations of several sign-flipped layers from products that they share.

A PC-sign twin computes Σ_d s_d x_d W_d over the principal directions d of the input, s_d = ±1. Of g twins take the
directions that they all treat alike, up to one common sign: there are 2^(g−1) such classes, whatever the number of
directions. The products within the classes make up *one* product with W, and each twin is a sum of ± those class products.
So g twins cost one product and g·2^(g−1) additions a pre-activation in place of g products (the idea of the four Russians:
Arlazarov, Dinic, Kronrod & Faradžev 1970). The numbers are those of the plain product up to the rounding of sums in another
order. Rows go through in blocks that stay in the processor's cache, activations included.
Axes: token input half neuron twin class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

GROUP = 4
"""Twins that share products. With more, twice as many classes are added up for each twin and fewer products saved."""
CACHE_BYTES = 16 * 2**20
"""Room for the class products of one block of tokens."""
MOST_ROWS = 128
"""Tokens of a block: more leave the cache, fewer spoil the product."""


@dataclass(frozen=True)
class SignGroup:
    """Up to `GROUP` twins, and the products that they share."""

    order: Tensor
    """Directions, those of a class side by side [input]."""
    bounds: tuple[int, ...]
    """Where each class begins, and the end."""
    first: Float[Tensor, " input"]
    """Signs of the first twin, in that order."""
    weight: Float[Tensor, "input half"]
    """What is read along each direction, in that order."""
    combine: Float[Tensor, "twin class"]
    """±1: how each twin is made of the classes; of the first class always +1."""

    @classmethod
    def of(cls, signs: Float[Tensor, "twin input"], weight: Float[Tensor, "input half"]) -> SignGroup:
        """The group of some sign vectors.

        Args:
            signs: ±1 of every twin along every direction.
            weight: what the layer reads along each direction.
        """
        n_twins = len(signs)
        powers = 2 ** torch.arange(n_twins - 1, device=signs.device)
        differs = (signs[1:] != signs[:1]).long()
        of_class = (differs * powers[:, None]).sum(0)
        order = torch.argsort(of_class, stable=True)
        sizes = torch.bincount(of_class, minlength=2 ** (n_twins - 1))
        bits = (torch.arange(len(sizes), device=signs.device)[None, :] // powers[:, None]) % 2
        combine = torch.cat([torch.ones_like(bits[:1] if n_twins > 1 else sizes[None]), 1 - 2 * bits])
        bounds = (0, *sizes.cumsum(0).tolist())
        return cls(order, bounds, signs[0, order], weight[order], combine.float())

    @property
    def n_twins(self) -> int:
        """Twins of the group."""
        return len(self.combine)

    def n_rows(self, n_half: int) -> int:
        """Tokens of a block: their class products fit into the cache. It depends on the layer's width alone, as bits do.

        Args:
            n_half: pre-activations of a token.
        """
        if self.weight.device.type != "cpu":
            return 2**30  # an accelerator takes a tile at once
        fitting = max(1, CACHE_BYTES // (4 * n_half * (len(self.bounds) - 1)))
        return min(MOST_ROWS, 2 ** (fitting.bit_length() - 1))

    def pre(
        self,
        rotated: Float[Tensor, "token input"],
        bias: Float[Tensor, " half"],
        out: Float[Tensor, "twin kept half"],
        then: Callable[[slice], object],
    ) -> None:
        """Pre-activations of every twin.

        Args:
            rotated: inputs less their mean, along the directions.
            bias: of every pre-activation.
            out: written to. With fewer tokens than `rotated` it is a block that the next one overwrites.
            then: called after every block with its tokens, while it is in the cache.
        """
        flipped = rotated[:, self.order] * self.first
        n_tokens, n_half = len(flipped), len(bias)
        n_rows = self.n_rows(n_half)
        keeps = out.shape[1] == n_tokens
        products = flipped.new_empty((len(self.bounds) - 1, min(n_rows, n_tokens), n_half))
        for start in range(0, n_tokens, n_rows):
            block = slice(start, min(start + n_rows, n_tokens))
            rows = block.stop - start
            for c, (low, high) in enumerate(zip(self.bounds, self.bounds[1:], strict=False)):
                x, w = flipped[block, low:high], self.weight[low:high]
                if c == 0:
                    torch.addmm(bias, x, w, out=products[c, :rows])
                else:
                    torch.mm(x, w, out=products[c, :rows])
            at = start if keeps else 0
            # the block of every twin as one row: a product with ±1 is the sum over the classes
            line = out.as_strided((self.n_twins, rows * n_half), (out.stride(0), 1), at * n_half)
            shared = products.as_strided((len(products), rows * n_half), (products.stride(0), 1))
            torch.mm(self.combine, shared, out=line)
            then(block)
