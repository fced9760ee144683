"""Error correction by its trace: does a layer answer to feature directions more than to mixtures of them?

Source: Ferreira da Silva & Heimersheim (arXiv 2606.24964). A layer that corrects errors ignores a small perturbation along
every feature, so a perturbation that is spread over two features must be larger than one along a single feature to have
the same effect. If the effect depends on the L^p norm of the perturbation in feature coordinates, then with r_a and r_b the
radii at which pure perturbations reach a level and r_m that of the even mixture, |u|^p + |v|^p = 1 for u = r_m/(√2 r_a) and
v = r_m/(√2 r_b). Any layer whose effect is quadratic has p = 2, whatever its directions; p > 2 is what correction shows.
Effects are averaged over both signs of each direction, and over both mixtures, so that the directions' own angle drops out
of the quadratic part. Axes: pair ray radius (rays: a, b, their mixture).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import optimize

from probekit.errors import InputError, ShapeError

LEAST_P, MOST_P = 0.25, 64.0
"""Exponents outside are reported as these ends."""

Effect = Callable[[Float[np.ndarray, " input"]], float]
"""Mean effect of adding one vector to every input."""


def responses(
    effect: Effect,
    pairs: Float[np.ndarray, "pair 2 input"],
    radii: Float[np.ndarray, " radius"],
) -> Float[np.ndarray, "pair ray radius"]:
    """Effects along both directions of each pair and along their even mixtures.

    Args:
        effect: of one perturbation, 0 for none.
        pairs: two directions each, of any length.
        radii: sizes of the perturbations, ascending and above 0.

    Raises:
        ShapeError: a direction is zero.
        InputError: radii that do not ascend from above 0.
    """
    length = np.linalg.norm(pairs, axis=2, keepdims=True)
    if not (length > 0).all():
        raise ShapeError("responses: a direction is zero; leave out concepts that move nothing.")
    if len(radii) < 2 or radii[0] <= 0 or (np.diff(radii) <= 0).any():
        raise InputError(f"responses: radii {radii.tolist()}, wanted two or more that ascend from above 0.")
    unit = pairs / length
    # a + b and a − b are as long only where a ⟂ b; at the same share of each direction their mean is that of a ⟂ b
    rays = [
        (unit[:, 0],),
        (unit[:, 1],),
        ((unit[:, 0] + unit[:, 1]) / np.sqrt(2), (unit[:, 0] - unit[:, 1]) / np.sqrt(2)),
    ]
    found = np.zeros((len(pairs), 3, len(radii)))
    for k, parts in enumerate(rays):
        for p in range(len(pairs)):
            for i, radius in enumerate(radii):
                steps = [sign * radius * part[p] for part in parts for sign in (1, -1)]
                found[p, k, i] = np.mean([effect(step) for step in steps])
    return found


def exponents(
    response: Float[np.ndarray, "pair ray radius"], radii: Float[np.ndarray, " radius"], share: float = 0.5
) -> Float[np.ndarray, " pair"]:
    """The exponent p of each pair, at the level that is `share` of the least of its three largest effects.

    Args:
        response: from `responses`.
        radii: of the perturbations.
        share: which level; between two radii effects are interpolated as powers.

    Returns:
        p, within 0.25 and 64; NaN where an effect does not rise to the level.

    Raises:
        InputError: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"share: got {share}, wanted between 0 and 1.")
    found = np.full(len(response), np.nan)
    for i, rays in enumerate(response):
        level = share * rays.max(1).min()
        reached = [_radius(ray, radii, level) for ray in rays]
        if level > 0 and np.isfinite(reached).all():
            found[i] = _exponent(reached[2] / np.sqrt(2) / reached[0], reached[2] / np.sqrt(2) / reached[1])
    return found


def _radius(effect: np.ndarray, radii: np.ndarray, level: float) -> float:
    """Where an effect first reaches a level, between two radii on a line in logarithms."""
    reached = np.flatnonzero(effect >= level)
    if not len(reached):
        return np.nan
    i = int(reached[0])
    if i == 0:
        return np.nan  # below the first radius nothing is known
    low, high = effect[i - 1], effect[i]
    if low <= 0:
        return float(radii[i])
    between = np.log(level / low) / np.log(high / low)
    return float(radii[i - 1] * (radii[i] / radii[i - 1]) ** between)


def _exponent(u: float, v: float) -> float:
    def over(p: float) -> float:
        return u**p + v**p - 1

    if over(LEAST_P) <= 0:
        return LEAST_P
    if over(MOST_P) >= 0:
        return MOST_P
    found: Any = optimize.brentq(over, LEAST_P, MOST_P)
    return float(found)
