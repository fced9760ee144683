"""What a direction of the neurons writes on the next token, against random directions of like norm.

The image of a readout w under the output weights is v = W_outᵀ w: what the layer would write if its neurons moved along
w. Through the final norm's gain g and the unembedding it moves the logits along W_Uᵀ(g ∘ v), up to the norm's scale, which
changes no order. Random readouts put the same weights on other neurons. Axes: token readout neuron.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Promoted:
    """The tokens that one readout promotes and suppresses most."""

    up: Int[np.ndarray, " top"]
    """Tokens whose logits rise most."""
    down: Int[np.ndarray, " top"]
    """Tokens whose logits fall most."""
    z: Float[np.ndarray, " vocab"]
    """Every token's logit, in standard deviations over the vocabulary, about its mean."""
    p_up: float
    """(b + 1)/(B + 1): b of the B random readouts raise some token as many logits."""
    p_down: float
    """The same for the token that falls most."""
    size: float
    """Standard deviation of the logits over the vocabulary."""
    size_random: float
    """Its mean over the random readouts."""


def promoted(
    own: Float[np.ndarray, " vocab"], random: Float[np.ndarray, "readout vocab"], top: int
) -> Promoted:
    """What a readout's logits say beside those of random readouts.

    Args:
        own: logits of the readout's image.
        random: those of random readouts of the same norm.
        top: how many tokens are named at each end.
    """
    centred, others = own - own.mean(), random - random.mean(1, keepdims=True)
    spread = float(centred.std())
    order = np.argsort(-centred, kind="stable")
    return Promoted(
        up=order[:top],
        down=order[::-1][:top],
        z=centred / (spread if spread > 0 else 1.0),
        p_up=_p(float(centred.max()), others.max(1)),
        p_down=_p(float(-centred.min()), -others.min(1)),
        size=spread,
        size_random=float(others.std(1).mean()),
    )


def _p(value: float, random: np.ndarray) -> float:
    return float((1 + (random >= value).sum()) / (1 + len(random)))
