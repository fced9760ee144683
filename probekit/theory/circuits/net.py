"""Chosen ANDs in superposition by design: the channels are the lines of a net.

The low-influence scheme of Adler & Shavit (arXiv 2409.15318) gives every pair a random channel of neurons; here the channels
are laid out so that what *in superposition* means holds exactly. Neurons are the points of a square of prime side q, a
channel is one of its lines: rows, columns, then diagonals j + s·i = const (mod q) of slope s. Two lines of one direction
are disjoint, two of different directions meet in one point (a k-net of order q; Bruck 1951). With k directions, k·q pairs of
2·k·q concepts are computed by q² neurons, each neuron serves k pairs, and two pairs share at most one neuron.
Axes: neuron, concept, output.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from probekit.errors import InputError, guarded
from probekit.theory.checks import Number, as_count
from probekit.theory.circuits.circuit import Circuit, patterns
from probekit.theory.circuits.draw import generator


@guarded
def net_and(*, side: Number = 7, directions: Number = 4, n_active: Number = 3, seed: int) -> Circuit:
    """A layer whose pairs are spread over neurons that they share: h = relu(A + B − 1) on every line of a square.

    Every pair is read as the mean over its line. A single neuron of it answers to the other k − 1 pairs it serves as well,
    so no neuron is as good a readout as the line.

    Args:
        side: q, also the neurons of a channel: a prime, so that all slopes give nets.
        directions: k, pairs that each neuron serves; at most q + 1.
        n_active: s, concepts on in the inputs that the prediction is made for.
        seed: which two concepts each line computes.

    Raises:
        InputError: a side that is no prime, or more directions than the square has.
    """
    q = as_count("side", side, at_least=2)
    if any(q % divisor == 0 for divisor in range(2, q)):
        raise InputError(
            f"net_and: side={q} is no prime, so not all of its slopes give lines. Try 5, 7 or 11."
        )
    k = as_count("directions", directions, at_least=1, at_most=q + 1)
    lines = lines_of_square(q, k)
    n_pairs = len(lines)
    active = as_count("n_active", n_active, at_most=2 * n_pairs)
    pairs = np.sort(generator(seed).permutation(2 * n_pairs).reshape(n_pairs, 2), axis=1)
    route = np.zeros((q * q, 2 * n_pairs), np.bool_)
    for concepts in pairs.T:
        route[:, concepts] = lines.T
    mean, sd = _prediction(q, k, active)
    readoff = lines / q
    return Circuit(
        name="net_and",
        encode=np.eye(2 * n_pairs),
        w_in=route.astype(np.float64),
        b_in=np.full(q * q, -1.0),
        w_out=readoff,
        readoff=readoff,
        readoff_bias=np.zeros(n_pairs),
        pairs=pairs,
        n_active=active,
        predicted_mean=mean,
        predicted_sd=sd,
        route=route.astype(np.float64),
    )


def lines_of_square(side: int, directions: int) -> Bool[np.ndarray, "line neuron"]:
    """The lines of a square of prime side, direction by direction; point (i, j) is neuron side·i + j.

    Args:
        side: q, a prime.
        directions: rows, columns, then diagonals of slope 1, 2, …; at most q + 1.
    """
    i, j = np.divmod(np.arange(side**2), side)
    constants = np.arange(side)[:, None]
    # slope 0 is the columns; a slope and the same modulo q are one direction
    sloped = [(j + slope * i) % side == constants for slope in range(directions - 1)]
    return np.concatenate([i == constants, *sloped])


def _prediction(
    side: int, directions: int, n_active: int
) -> tuple[Float[np.ndarray, " pattern"], Float[np.ndarray, " pattern"]]:
    """Exact mean and sd of the readout in each pattern, with exactly `n_active` concepts on.

    A neuron of the line also reads 2(k − 1) of the other concepts, and no other concept is read by two neurons of the line:
    the numbers of them that are on, neuron by neuron, are multivariate hypergeometric.
    """
    n_others, n_read = 2 * directions * side - 2, 2 * (directions - 1)
    mean, sd = np.full(4, np.nan), np.full(4, np.nan)
    for row, setting in enumerate(patterns(2)):
        own = int(setting.sum())
        drawn = n_active - own
        if drawn < 0:
            continue
        hits = np.arange(min(drawn, n_read) + 1)
        neuron = np.maximum(own + hits - 1.0, 0.0)
        here, there = np.meshgrid(hits, hits, indexing="ij")
        joint = stats.multivariate_hypergeom.pmf(
            np.stack([here, there, drawn - here - there], axis=-1),
            [n_read, n_read, n_others - 2 * n_read],
            drawn,
        )  # two neurons of the line
        single = stats.hypergeom.pmf(hits, n_others, n_read, drawn)
        mean[row] = single @ neuron
        variance = single @ neuron**2 - mean[row] ** 2
        covariance = neuron @ np.nan_to_num(joint) @ neuron - mean[row] ** 2
        sd[row] = np.sqrt(max(variance + (side - 1) * covariance, 0.0) / side)
    return mean, sd
