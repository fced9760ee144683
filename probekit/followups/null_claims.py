"""Claims in a layer and in its null layers: evaluated, described, and read with relays removed.

The null layers are the PC-sign null layers of the analysis (`probekit.model.twins`); a claim is put to each of them as it is
put to the layer. A recipe is repeated on each. Relays are removed as in `probekit.probes.removal`, but from the input of the
whole layer at once, since a claim hangs on all its neurons. Axes: token claim pair null.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from probekit.analysis.design import StudyDesign
from probekit.analysis.passes import CALIBRATION_TOKENS
from probekit.analysis.source import Half, Source
from probekit.errors import InputError
from probekit.evidence.claims import Quadrants, d_of_sample, describe, document_error, like, unmatched_p
from probekit.model.claims import AtWork, ClaimedByRecipe, Claims, Place, Recipe, Works
from probekit.model.twins import InputFrame, PcSignTwins
from probekit.probes.interaction import interaction_directions
from probekit.probes.pairs import TokenSample
from probekit.probes.removal import SCRAMBLES

MOST_REMOVED = 250
"""Tokens a quadrant on which a claim is read with relays removed: its value hangs on the whole layer, not on 16 neurons."""
RIDGE = 1e-3
"""Of the regression on the input, relative to the mean variance of a coordinate."""


@dataclass(frozen=True)
class RecipeClaim:
    """A recipe that has not seen a layer yet."""

    recipe: Recipe
    """What is run on the layer and on every null layer."""
    place: Place
    """What it is shown."""


@dataclass(frozen=True)
class Audited:
    """The layer that is audited and the text it is audited on."""

    works: Works
    """Its weights."""
    inputs: dict[Half, Tensor]
    """Its inputs in each half."""
    design: StudyDesign
    """Pairs, halves, labels."""
    before: dict[Half, Tensor] | None = None
    """The residual stream behind it less what it writes, where claims are read there."""
    seed: int = 0
    """Of the null layers."""

    def around(self, half: Half) -> Tensor | None:
        """What of the residual stream is not the layer's, in one half."""
        return None if self.before is None else self.before[half]


def read_inputs(source: Source, layer: int) -> dict[Half, Tensor]:
    """The layer's inputs in each half, fp32 on the CPU."""
    found: dict[Half, Tensor] = {}
    halves: tuple[Half, ...] = ("fit", "confirm")
    for half in halves:
        parts = [block[layer][0] for block in source.blocks(half, [layer])]
        kept = [part.float().cpu() for part in parts if part is not None]
        if len(kept) < len(parts):
            raise InputError(
                "audit: the layer's inputs are not known, so no null layer can be made; pass them."
            )
        found[half] = torch.cat(kept)
    return found


@dataclass(frozen=True)
class Reading:
    """Claims in one layer: what they are about and how strongly."""

    names: tuple[str, ...]
    claims: Claims
    values: dict[Half, np.ndarray]
    pair: Int[np.ndarray, " claim"]
    sign: Float[np.ndarray, " claim"]
    d: Float[np.ndarray, " claim"]
    removed: Float[np.ndarray, " claim"]


@dataclass(frozen=True)
class Bench:
    """The layer and its null layers, ready to be asked for claims."""

    audited: Audited
    frame: InputFrame
    nulls: PcSignTwins
    quadrants: dict[Half, Quadrants]
    directions: np.ndarray
    """Interaction directions of every pair in the frame [pair input direction]."""
    scrambles: Tensor
    """±1 [scramble input]."""

    @classmethod
    def of(cls, audited: Audited, frame: InputFrame, nulls: PcSignTwins, rng: np.random.Generator) -> Bench:
        """Directions of every pair, and the scrambles.

        Args:
            audited: the layer and the text.
            frame: of its inputs on the fit half.
            nulls: its null layers.
            rng: of the scrambles.
        """
        plan = audited.design
        assert plan.fit.relay_sample is not None
        rotated = (audited.inputs["fit"][:CALIBRATION_TOKENS] - frame.mean) @ frame.directions
        halves: dict[Half, Quadrants] = {
            half.half: Quadrants(half.labels, plan.pairs) for half in (plan.fit, plan.confirm)
        }
        directions = interaction_directions(rotated, plan.fit.relay_sample, rng)
        scrambles = torch.from_numpy(rng.integers(0, 2, (SCRAMBLES, rotated.shape[1])) * 2.0 - 1.0).float()
        return cls(audited, frame, nulls, halves, directions, scrambles)

    def read(self, claims: Claims | RecipeClaim, null: int | None) -> Reading:
        """The claims in the layer (None) or in one null layer: evaluated, described, and read with relays removed."""
        with torch.no_grad():
            if isinstance(claims, RecipeClaim):
                claims = ClaimedByRecipe.fitted(claims.recipe, claims.place, self._at_work("fit", null))
            values: dict[Half, np.ndarray] = {
                half: self._values(claims, half, null) for half in self.quadrants
            }
            about = describe(self.quadrants["fit"], values["fit"])
            d, _ = self.quadrants["confirm"].d_prime(values["confirm"])
            at = np.arange(len(about.pair))
            removed = about.sign * self._removed(claims, about.pair, null)
        return Reading(
            claims.names, claims, values, about.pair, about.sign, about.sign * d[about.pair, at], removed
        )

    def _inputs(self, half: Half, null: int | None) -> Tensor:
        inputs = self.audited.inputs[half]
        return inputs if null is None else self.nulls.twin_inputs(inputs, null)

    def _at_work(self, half: Half, null: int | None) -> AtWork:
        return self.audited.works.on(self._inputs(half, null), self.audited.around(half))

    def _values(self, claims: Claims, half: Half, null: int | None) -> np.ndarray:
        return claims.values(self._at_work(half, null)).double().cpu().numpy()

    def _removed(self, claims: Claims, pairs: np.ndarray, null: int | None) -> np.ndarray:
        """d′ of each claim on some tokens of each quadrant of its pair, what lies along the pair's directions scrambled."""
        sample = self.audited.design.confirm.relay_sample
        assert sample is not None
        works, frame, around = self.audited.works, self.frame, self.audited.around("confirm")
        sign = torch.ones(len(frame.mean)) if null is None else self.nulls.signs[null]
        reads = (works.weights.weight @ frame.directions * sign).T
        inputs = self._inputs("confirm", null)
        pre = works.weights.pre(inputs)
        found = np.zeros(len(pairs))
        for c, pair in enumerate(pairs.tolist()):
            rows, quadrant = _some_tokens(sample, pair)
            rotated = (self.audited.inputs["confirm"][rows] - frame.mean) @ frame.directions
            along, claim = torch.from_numpy(self.directions[pair]), claims.take(c)
            for scramble in self.scrambles:
                change = (rotated * (scramble - 1)) @ along
                layer = works.from_pre(
                    inputs[rows] + change @ (along.T * sign) @ frame.directions.T,
                    pre[rows] + change @ (along.T @ reads),
                    None if around is None else around[rows],
                )
                values = claim.values(layer)[:, 0].double().cpu().numpy()
                found[c] += d_of_sample(values, quadrant, sample.n_natural[pair]) / len(self.scrambles)
        return found

    def errors(self, reading: Reading) -> np.ndarray:
        """Standard error of each d′, by documents."""
        half, quadrants = self.audited.design.confirm, self.quadrants["confirm"]
        _, doc = np.unique(half.doc_key, return_inverse=True)
        values = reading.values["confirm"]
        return np.array(
            [
                document_error(values[:, c], quadrants.of(int(pair)), doc, float(reading.d[c]))
                for c, pair in enumerate(reading.pair)
            ]
        )

    def against_random(self, reading: Reading, n_random: int) -> np.ndarray:
        """p of each claim's d′ against random directions of the same place, each described anew."""
        rng = np.random.default_rng([self.audited.seed, 32])
        halves = {half: self._at_work(half, None).at(reading.claims.place) for half in self.quadrants}
        drawn = torch.from_numpy(rng.standard_normal((halves["fit"].shape[1], n_random))).float()
        random = {half: (rows @ drawn).double().cpu().numpy() for half, rows in halves.items()}
        # to a twentieth: each share needs random directions of its own
        zeros = np.round(20 * (reading.values["fit"] == 0).mean(0)) / 20
        found = np.ones(len(reading.d))
        for share in np.unique(zeros):
            cut = {half: like(values, float(share)) for half, values in random.items()}
            about = describe(self.quadrants["fit"], cut["fit"])
            d, _ = self.quadrants["confirm"].d_prime(cut["confirm"])
            mine = zeros == share
            found[mine] = unmatched_p(reading.d[mine], [about.sign * d[about.pair, np.arange(n_random)]])
        return found

    def input_share(self, reading: Reading) -> np.ndarray:
        """Held-out R² of each claim from the layer's input, by ridge regression on the fit half; at least 0."""
        x = {half: (inputs - self.frame.mean).double() for half, inputs in self.audited.inputs.items()}
        y = {half: torch.from_numpy(values) for half, values in reading.values.items()}
        mean = y["fit"].mean(0)
        gram = x["fit"].T @ x["fit"]
        gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
        fitted = x["confirm"] @ torch.linalg.solve(gram, x["fit"].T @ (y["fit"] - mean)) + mean
        residual = ((y["confirm"] - fitted) ** 2).sum(0)
        spread = ((y["confirm"] - y["confirm"].mean(0)) ** 2).sum(0)
        share = torch.where(spread > 0, 1 - residual / spread.clamp_min(1e-300), 0.0)
        return share.clamp_min(0.0).numpy()


def _some_tokens(sample: TokenSample, pair: int) -> tuple[Tensor, np.ndarray]:
    """At most `MOST_REMOVED` tokens of each quadrant of a pair, and their quadrants."""
    groups = [sample.token[sample.ptr[g] : sample.ptr[g + 1]] for g in range(4 * pair, 4 * pair + 4)]
    # the sample is in the order of the text: every few tokens of it, not its beginning
    kept = [group[:: max(1, -(-len(group) // MOST_REMOVED))] for group in groups]
    rows = torch.from_numpy(np.concatenate(kept).astype(np.int64))
    return rows, np.repeat(np.arange(4), [len(group) for group in kept])
