"""Pre-activations of several sign-flipped layers from products that they share.

A PC-sign twin computes Σ_d s_d x_d W_d over the principal directions d of the input, s_d = ±1. Of g twins take the
directions that they all treat alike, up to one common sign: there are 2^(g−1) such classes, whatever the number of
directions. The products within the classes make up *one* product with W, and each twin is a sum of ± those class products.
So g twins cost one product and g·2^(g−1) additions a pre-activation in place of g products (the idea of the four Russians:
Arlazarov, Dinic, Kronrod & Faradžev 1970). The numbers are those of the plain product up to the rounding of sums in another
order. Blocks stay in the processor's cache, activations included: of tokens where a token's neurons are wanted side by side
(sums over tokens), of neurons where a neuron's tokens are (readouts that gather few neurons).
Axes: token input half neuron twin class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from probekit.model.weights import MlpWeights

GROUP = 4
"""Twins that share products. With more, twice as many classes are added up for each twin and fewer products saved."""
CACHE_BYTES = 16 * 2**20
"""Room for the class products of one block of tokens."""
MOST_ROWS = 128
"""Tokens of a block, or neurons: more leave the cache, fewer spoil the product."""


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
            n_half: pre-activations of a token; or, where neurons are blocked, tokens of a tile.
        """
        if self.weight.device.type != "cpu":
            return 2**30  # an accelerator takes a tile at once
        fitting = max(1, CACHE_BYTES // (4 * n_half * (len(self.bounds) - 1)))
        return min(MOST_ROWS, 2 ** (fitting.bit_length() - 1))

    def by_class(self, bias: Float[Tensor, "twin half"]) -> list[Tensor | None]:
        """What each class adds, so that every twin gets its own bias; None where a class has nothing to add.

        The rows of `combine` are orthogonal, with every ±1 pattern once: bias = combine · (combineᵀ · bias / n_classes).

        Args:
            bias: of every twin.
        """
        if len(bias) == 1 or bool((bias == bias[0]).all()):
            return [bias[0], *[None] * (len(self.bounds) - 2)]  # the first class counts +1 in every twin
        return list(self.combine.T @ bias / self.combine.shape[1])

    def pre(
        self,
        rotated: Float[Tensor, "token input"],
        bias: Sequence[Tensor | None],
        out: Float[Tensor, "twin kept half"],
        then: Callable[[slice], object],
    ) -> None:
        """Pre-activations of every twin.

        Args:
            rotated: inputs less their mean, along the directions.
            bias: of every class, as `by_class` gives it.
            out: written to. With fewer tokens than `rotated` it is a block that the next one overwrites.
            then: called after every block with its tokens, while it is in the cache.
        """
        flipped = rotated[:, self.order] * self.first
        n_tokens, n_half = len(flipped), self.weight.shape[1]
        n_rows = self.n_rows(n_half)
        keeps = out.shape[1] == n_tokens
        products = flipped.new_empty((len(self.bounds) - 1, min(n_rows, n_tokens), n_half))
        for start in range(0, n_tokens, n_rows):
            block = slice(start, min(start + n_rows, n_tokens))
            rows = block.stop - start
            for c, (low, high) in enumerate(zip(self.bounds, self.bounds[1:], strict=False)):
                x, w = flipped[block, low:high], self.weight[low:high]
                added = bias[c]
                if added is None:
                    torch.mm(x, w, out=products[c, :rows])
                else:
                    torch.addmm(added, x, w, out=products[c, :rows])
            at = start if keeps else 0
            # the block of every twin as one row: a product with ±1 is the sum over the classes
            line = out.as_strided((self.n_twins, rows * n_half), (out.stride(0), 1), at * n_half)
            shared = products.as_strided((len(products), rows * n_half), (products.stride(0), 1))
            torch.mm(self.combine, shared, out=line)
            then(block)

    def columns(
        self,
        flipped: Float[Tensor, "input token"],
        bias: Sequence[Tensor | None],
        half: slice,
        products: Float[Tensor, "class most_half token"],
        out: Float[Tensor, "twin half token"],
    ) -> None:
        """Some pre-activations of every twin, each neuron's tokens side by side.

        Args:
            flipped: inputs along the directions, in `order` and with the signs of the first twin.
            bias: of every class, as `by_class` gives it.
            half: which pre-activations.
            products: scratch, overwritten.
            out: written to; each twin's part is contiguous.
        """
        size = out.shape[1] * out.shape[2]
        for c, (low, high) in enumerate(zip(self.bounds, self.bounds[1:], strict=False)):
            w, x, added = self.weight[low:high, half].T, flipped[low:high], bias[c]
            if added is None:
                torch.mm(w, x, out=products[c, : out.shape[1]])
            else:
                torch.addmm(added[half, None], w, x, out=products[c, : out.shape[1]])
        line = out.as_strided((self.n_twins, size), (out.stride(0), 1))
        torch.mm(self.combine, products.as_strided((len(products), size), (products.stride(0), 1)), out=line)


@dataclass(frozen=True)
class SignFlipped:
    """R layers on the same inputs that differ in the signs with which they read the directions, and in their biases."""

    signs: Float[Tensor, "twin input"]
    """±1 along every direction."""
    weight: Float[Tensor, "input half"]
    """What all of them read along each direction, up to those signs."""
    bias: Float[Tensor, "twin half"]
    """Their biases."""
    weights: MlpWeights
    """Gives the activation and the width."""

    def activations(
        self, rotated: Float[Tensor, "token input"], which: Sequence[int] | None, *, with_pre: bool
    ) -> Iterator[tuple[Float[Tensor, "token half"] | None, Float[Tensor, "token neuron"]]]:
        """Pre-activations (where wanted) and neurons of each layer in turn, or of some of them, in ascending order.

        Those that stand together in `signs` share products, whichever of them are asked for: the bits are the same.
        """
        for group, bias, places in self._asked(which):
            pre, neurons = self._of_group(group, bias, rotated, with_pre=with_pre)
            for r in places:
                yield pre[r] if with_pre else None, neurons[r]

    def _of_group(
        self, group: SignGroup, bias: list[Tensor | None], rotated: Tensor, *, with_pre: bool
    ) -> tuple[Float[Tensor, "twin kept half"], Float[Tensor, "twin token neuron"]]:
        n_tokens, n_half = len(rotated), self.weight.shape[1]
        n_kept = n_tokens if with_pre else min(n_tokens, group.n_rows(n_half))
        pre = rotated.new_empty((group.n_twins, n_kept, n_half))
        neurons = rotated.new_empty((group.n_twins, n_tokens, self.weights.n_neurons))

        def activate(block: slice) -> None:
            at = block if with_pre else slice(0, block.stop - block.start)
            neurons[:, block] = self.weights.activate(pre[:, at])

        group.pre(rotated, bias, pre, activate)
        return pre, neurons

    def columns(
        self, rotated: Float[Tensor, "token input"], which: Sequence[int] | None, *, with_pre: bool
    ) -> Iterator[tuple[Float[Tensor, "half token"] | None, Float[Tensor, "neuron token"]]]:
        """As `activations`, with each neuron's tokens side by side."""
        for group, bias, places in self._asked(which):
            pre, neurons = self._columns_of_group(group, bias, rotated, with_pre=with_pre)
            for r in places:
                yield pre[r] if with_pre else None, neurons[r]

    def _columns_of_group(
        self, group: SignGroup, bias: list[Tensor | None], rotated: Tensor, *, with_pre: bool
    ) -> tuple[Float[Tensor, "twin kept token"], Float[Tensor, "twin neuron token"]]:
        n_tokens, n = len(rotated), self.weights.n_neurons
        firsts = (0, n) if self.weights.gated else (0,)
        n_block = min(n, group.n_rows(n_tokens))
        flipped = (rotated[:, group.order] * group.first).T.contiguous()
        products = rotated.new_empty((len(group.bounds) - 1, n_block, n_tokens))
        n_kept = n if with_pre else n_block
        pre = rotated.new_empty((group.n_twins, len(firsts) * n_kept, n_tokens))
        neurons = rotated.new_empty((group.n_twins, n, n_tokens))
        for start in range(0, n, n_block):
            stop, at = min(start + n_block, n), start if with_pre else 0
            halves = [pre[:, h * n_kept + at : h * n_kept + at + stop - start] for h in range(len(firsts))]
            for first, out in zip(firsts, halves, strict=True):
                group.columns(flipped, bias, slice(first + start, first + stop), products, out)
            neurons[:, start:stop] = self.weights.activate(*halves)
        return pre, neurons

    def _asked(
        self, which: Sequence[int] | None
    ) -> Iterator[tuple[SignGroup, list[Tensor | None], list[int]]]:
        """The groups that hold a layer that is asked for, with the places of these in the group."""
        wanted = range(len(self.signs)) if which is None else which
        for first, group, bias in self._groups:
            if places := [r - first for r in wanted if first <= r < first + group.n_twins]:
                yield group, bias, places

    @cached_property
    def _groups(self) -> list[tuple[int, SignGroup, list[Tensor | None]]]:
        found: list[tuple[int, SignGroup, list[Tensor | None]]] = []
        for first in range(0, len(self.signs), GROUP):
            group = SignGroup.of(self.signs[first : first + GROUP], self.weight)
            found.append((first, group, group.by_class(self.bias[first : first + GROUP])))
        return found
