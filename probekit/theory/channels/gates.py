"""Which gate a set of neurons computes of two concepts: signs, bias, and the levels they add up to.

On the set, the four settings of the pair drive the mean neuron to r11, r10, r01, r00, the rest of the input held at its
mean. A ReLU whose bias takes one concept off passes A + B − 1, an AND; one without a bias passes A + B, an OR for a
threshold; a positive and a negative sign give A ∧ ¬B. Axes: pair, setting, neuron.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm

from probekit.theory.channels.layer import ACTIVATIONS, LayerArrays

GATES = ("and", "or", "a andnot b", "sum", "a", "b", "none")
"""What a set may be found to compute: the Boolean ones first; `sum` is on for both off, so nothing Boolean."""
BOOLEAN = ("and", "or", "a andnot b")
"""The gates that make clauses of the program."""
SETTINGS = np.array([(1, 1), (1, 0), (0, 1), (0, 0)], dtype=np.float64)
"""The on/off settings of a pair: 11, 10, 01, 00."""


def settings_on(
    layer: LayerArrays,
    columns: Float[np.ndarray, "half neuron concept"],
    rest: Float[np.ndarray, "half neuron"],
    pair: tuple[int, int],
    neurons: Int[np.ndarray, " chosen"],
) -> Float[np.ndarray, "setting chosen"]:
    """Each chosen neuron in each setting of the pair.

    Args:
        layer: the layer.
        columns: what each concept adds to the pre-activations, in a gated layer to the linear half as well.
        rest: the pre-activations without the two concepts: bias and the mean of the input.
        pair: the two concepts.
        neurons: which.
    """
    pre = rest[:, None, neurons] + np.einsum("sp,hnp->hsn", SETTINGS, columns[:, neurons][:, :, list(pair)])
    on = ACTIVATIONS[layer.activation](pre[0])
    return on if layer.w_gate is None else on * pre[1]


def gate_of(means: Float[np.ndarray, " setting"]) -> str:
    """The gate that four levels r11, r10, r01, r00 make, the largest taken as on.

    and: only 11 is on, an interaction of at least half of it (A + B − 1 has all, A + B none). or: either alone and both,
    not neither. a andnot b: A alone; both less than half of it.
    """
    top = float(means.max())
    if not top > 0:
        return "none"
    r11, r10, r01, r00 = (means / top).tolist()
    if r00 >= 0.5:
        return "sum"
    if r11 - r10 - r01 + r00 >= 0.5 and r11 == 1.0:
        return "and"
    if r10 == 1.0 and r11 < 0.5 and r01 < 0.5:
        return "a andnot b"
    if r10 >= 0.25 and r01 >= 0.25 and r11 >= 0.5:
        return "or"
    if r11 >= 0.5:
        return "a" if r10 >= r01 else "b"
    return "none"


def outlet(
    w_out: Float[np.ndarray, "out neuron"] | None, neurons: Int[np.ndarray, " chosen"], q: float
) -> dict[str, Any]:
    """What a set writes to: the output with the largest mean weight for its spread, and its sign.

    The sign is 0 where no output stands out from sets of as many random neurons, at level q over all outputs.
    """
    if w_out is None or not len(neurons):
        return {"out": -1, "out_sign": 0, "out_z": float("nan")}
    spread = w_out.std(axis=1)
    apart = w_out[:, neurons].mean(axis=1) - w_out.mean(axis=1)
    # a sample without replacement of |set| of n has this variance
    n, k = w_out.shape[1], len(neurons)
    scale = spread * np.sqrt((n - k) / max(k * (n - 1), 1))
    z = np.divide(apart, scale, out=np.zeros_like(apart), where=scale > 0)
    best = int(np.abs(z).argmax())
    stands_out = abs(z[best]) > norm.isf(q / (2 * len(w_out)))
    return {"out": best, "out_sign": int(np.sign(z[best])) if stands_out else 0, "out_z": float(z[best])}
