"""The interaction subspace of a pair: the directions of the input along which A∧B is already there.

A layer may only *relay* an AND that attention or an earlier layer put into its input, and a threshold sharpens what it
relays, so no comparison with a linear readout tells the two apart. What can be done is to find where in the input an
interaction lies and to look at the layer without it (`probekit.probes.removal`). With x̄_q and Cov_q the mean and
covariance of the inputs in quadrant q,

    δ = x̄₁₁ − x̄₁₀ − x̄₀₁ + x̄₀₀        M = Cov₁₁ − Cov₁₀ − Cov₀₁ + Cov₀₀

δ is where A∧B lies on average; the leading eigenvectors of M are further directions along which it varies from token to
token (an AND that lies along another direction for each token type has a small δ and a large M). Inputs that are additive
in A and B with noise that knows of neither have δ ≈ 0 and M ≈ 0: the directions are then noise, and taking them out
changes nothing in particular. A's and B's own directions enter neither. Axes: token input pair direction.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probekit.probes.pairs import SIGNS, TokenSample

MOST_DIRECTIONS = 8
"""Directions of a pair, the mean interaction first."""
SHARE_OF_INPUT = 8
"""At most one direction for so many input coordinates: what is taken out must stay a small part of the input."""
N_POWER = 5
"""Rounds of subspace iteration; eigenvalues that matter are far above the bulk."""
OVERSAMPLING = 2
"""Columns iterated for each direction wanted."""


def n_directions(n_inputs: int) -> int:
    """Directions used with inputs of a width: 8, fewer for narrow inputs."""
    return int(np.clip(n_inputs // SHARE_OF_INPUT, 1, MOST_DIRECTIONS))


def interaction_directions(
    inputs: Float[Tensor, "token input"], sample: TokenSample, rng: np.random.Generator
) -> Float[np.ndarray, "pair input direction"]:
    """Orthonormal interaction directions of every pair, the mean interaction first.

    Subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4) on M without forming it. A direction that the
    sample does not show (too few tokens in some quadrant, no positive eigenvalue) is a column of zeros.

    Args:
        inputs: the first inputs of the half that the sample's tokens count, centred as the caller likes.
        sample: tokens of each pair by quadrant; those beyond `inputs` are left out.
        rng: of the start of the iteration, the same for all pairs.
    """
    n_tokens, width = inputs.shape
    n_kept = n_directions(width)
    start = rng.standard_normal((width, min(width, OVERSAMPLING * n_kept))).astype(np.float32)
    begin = torch.from_numpy(start).to(inputs.device)
    low, high = sample.between(0, n_tokens)
    found = np.zeros((sample.n_pairs, width, n_kept), np.float32)
    for pair in range(sample.n_pairs):
        groups = [sample.token[low[g] : high[g]] for g in range(4 * pair, 4 * pair + 4)]
        if min(map(len, groups)) < 2:
            continue
        rows = [inputs[torch.from_numpy(group.astype(np.int64)).to(inputs.device)] for group in groups]
        found[pair] = _directions(rows, begin, n_kept).cpu().numpy()
    return found


def _directions(rows: list[Tensor], start: Tensor, n_kept: int) -> Tensor:
    """The directions of one pair [input direction] from its inputs by quadrant."""
    means = [quadrant.mean(0) for quadrant in rows]
    delta = torch.stack([float(s) * mean for s, mean in zip(SIGNS, means, strict=True)]).sum(0)
    length = delta.norm()
    first = delta / length if length > 0 else torch.zeros_like(delta)
    centred = torch.cat([quadrant - mean for quadrant, mean in zip(rows, means, strict=True)])
    weight = torch.cat(
        [
            centred.new_full((len(quadrant), 1), float(s) / len(quadrant))
            for s, quadrant in zip(SIGNS, rows, strict=True)
        ]
    )

    def without_first(block: Tensor) -> Tensor:
        return block - first[:, None] * (first @ block)

    def times(block: Tensor) -> Tensor:
        return without_first(centred.T @ (weight * (centred @ block)))

    basis = torch.linalg.qr(without_first(start))[0]
    for _ in range(N_POWER):
        basis = torch.linalg.qr(times(basis))[0]
    basis = torch.linalg.qr(without_first(basis))[0]
    image = times(basis)
    values, vectors = torch.linalg.eigh(basis.T @ image)
    order = torch.arange(len(values) - 1, len(values) - n_kept, -1, device=values.device)
    further = (basis @ vectors[:, order]) * (values[order] > 0)
    return torch.cat([first[:, None], further], dim=1)
