"""Neural Permutation: features leave in another order, W = E_out·Π·E_inᵀ (Adler & Shavit, arXiv 2409.15318).

The linear map meets the counting bound log2 m! ≤ P·b within a logarithm. Its decoding noise has variance ≈
m·s/d² + 2s/d, so a threshold reads it at 1 % of errors only for m ≤ (0.046 − 2s/d)·d²/s: nothing works below
d ≈ 44 s. With clean-up every output goes through a channel of ramp units. Axes: input, concept, neuron,
output.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from probekit.errors import InputError, guarded
from probekit.theory.checks import Number, as_count
from probekit.theory.circuits.circuit import Circuit
from probekit.theory.circuits.correction import cleaned
from probekit.theory.circuits.draw import generator, sign_codes


@guarded
def permutation(
    *,
    n_concepts: Number,
    d_model: Number,
    order: Sequence[int] | np.ndarray | None = None,
    clean_up: bool = False,
    n_neurons: Number | None = None,
    channel: Number = 5,
    n_active: Number = 3,
    seed: int,
) -> Circuit:
    """A layer whose output k is concept `order[k]`.

    Args:
        n_concepts: m.
        d_model: d, dimensions of the superposed ±1/√d codes before and after.
        order: the permutation; a random one by default.
        clean_up: pass every output through ramp units instead of a linear map.
        n_neurons: neurons of the clean-up, even; d by default. A linear map has d.
        channel: c, ramp units of one output.
        n_active: s, concepts on in the inputs that the prediction is made for.
        seed: of codes, channels and the permutation.

    Raises:
        InputError: a parameter out of range, or an order that is none.
    """
    concepts = as_count("n_concepts", n_concepts, at_least=2)
    width = as_count("d_model", d_model)
    active = as_count("n_active", n_active, at_most=concepts)
    rng = generator(seed)
    sources = rng.permutation(concepts) if order is None else _checked(np.asarray(order), concepts)
    encode = sign_codes(rng, width, concepts)
    if clean_up:
        return cleaned(
            "permutation/clean",
            rng,
            encode,
            sources,
            superposed=True,
            n_neurons=width if n_neurons is None else n_neurons,
            channel=channel,
            ramp=0.25,
            n_active=active,
        )
    if n_neurons is not None and n_neurons != width:
        raise InputError(
            f"n_neurons: got {n_neurons}, but a linear permutation has d_model = {width} of them."
        )
    code_out = sign_codes(rng, width, concepts)
    route = np.empty((width, concepts))
    route[:, sources] = code_out
    # a read meets the overlaps of its own code before and after, and m noisy reads through overlaps after
    on = np.array([1, 0])
    variance = 2 * (active - on) / width + (concepts - 1) * active / width**2
    return Circuit(
        name="permutation/linear",
        encode=encode,
        w_in=route @ encode.T,
        b_in=np.zeros(width),
        w_out=np.eye(width),
        readoff=np.ascontiguousarray(code_out.T),
        readoff_bias=np.zeros(concepts),
        pairs=sources[:, None],
        n_active=active,
        predicted_mean=on.astype(np.float64),
        predicted_sd=np.sqrt(variance),
        predicted_input_sd=float(np.sqrt(concepts * active) / width),
        code_out=code_out,
        route=route,
        linear=True,
    )


def _checked(order: np.ndarray, n_concepts: int) -> Int[np.ndarray, " output"]:
    if order.shape != (n_concepts,) or not np.array_equal(np.sort(order), np.arange(n_concepts)):
        raise InputError(f"order: not a permutation of 0…{n_concepts - 1}. List every concept once.")
    return order.astype(np.int64)
