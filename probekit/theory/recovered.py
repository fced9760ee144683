"""What a compressed layer can still name, and what a detector recovered of a planted set, both in bits.

A layer of P weights of which z are not 0, each of b bits, is one of at most C(P, z)·2^(zb), so it takes log2 C(P, z) + zb
bits to describe. Let m′ of M pairs have been planted, drawn at random, and let a fixed rule on the compressed layer call f
pairs found, h of them planted. Only C(f, h)·C(M − f, m′ − h) planted sets agree with that, so the layer has given
log2 C(M, m′) less the logarithm of their number; by counting, it gives k bits more than it takes to describe with
probability at most 2^−k over the planted sets (the bound of Adler & Shavit, arXiv 2409.15318, in this finite form).
"""

from __future__ import annotations

from probekit.errors import InputError
from probekit.theory.checks import Number, as_count
from probekit.theory.counting import log2_binomial


def description_bits(n_params: Number, n_kept: Number, bits: Number) -> float:
    """log2 C(P, z) + z·b: bits to describe a layer with z of P weights of b bits each.

    >>> description_bits(100, 100, 2)
    200.0

    Args:
        n_params: P.
        n_kept: z, weights that are not 0.
        bits: b, of each of these.
    """
    kept = as_count("n_kept", n_kept, at_least=0)
    return log2_binomial(n_params, kept) + kept * float(bits)


def recovered_bits(n_universe: Number, n_planted: Number, n_found: Number, n_hit: Number) -> float:
    """Bits that a set of finds tells about a planted set: log2 C(M, m′) − log2 C(f, h) − log2 C(M − f, m′ − h).

    0 where the finds are as good as none, log2 C(M, m′) where they are the planted set; never below 0 by more than the
    logarithm of the number of possible h.

    Args:
        n_universe: M, pairs tested.
        n_planted: m′.
        n_found: f, pairs called found.
        n_hit: h, planted ones among them.

    Raises:
        InputError: more hits than finds or than planted pairs, or the rest does not fit into the universe.
    """
    universe = as_count("n_universe", n_universe, at_least=0)
    planted = as_count("n_planted", n_planted, at_least=0, at_most=universe)
    found = as_count("n_found", n_found, at_least=0, at_most=universe)
    hit = as_count("n_hit", n_hit, at_least=0, at_most=min(planted, found))
    if planted - hit > universe - found:
        raise InputError(
            f"n_hit: got {hit}; with {found} of {universe} found at least {planted - universe + found} of {planted} are hit."
        )
    consistent = log2_binomial(found, hit) + log2_binomial(universe - found, planted - hit)
    return log2_binomial(universe, planted) - consistent
