"""Sensitivity: known ANDs of growing size are added to the layer's own activations, and counted how many are found.

"Few found" may mean that few are there or that the probe is weak; the recall curve tells which. For a random subset of the
tested pairs, c random neurons of the layer get a·s_i·(A∧B) on top, s_i the neuron's own standard deviation. These
pairs then go through the same code, beside all other pairs and the same twins. All of them are spiked at once, which
makes Benjamini–Hochberg a little more lenient than it is for a layer with a single one.
Axes: token neuron pair spike channel amplitude.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from probekit.evidence.contrast import Contrast
from probekit.evidence.decide import Tested, decide
from probekit.evidence.estimate import clopper_pearson
from probekit.evidence.summary import Recall, RecallStep, Sensitivity
from probekit.probes.moments import FrozenMoments
from probekit.probes.pairs import LabelColumns

AMPLITUDES = (0.5, 1.0, 2.0, 4.0)
"""Sizes in standard deviations of the neuron."""
CHANNEL = 5
"""Neurons that carry one spike, as in the constructions."""
MOST_SPIKES = 100
SHARE = 0.1
"""At most this share of the tested pairs is spiked, so that the others still show what is usual."""
RECALLS = (0.5, 0.9)
PAIRS_PER_STRATUM = 500
MAX_STRATA = 4


@dataclass(frozen=True)
class Spikes:
    """Which pairs are spiked, and on which neurons."""

    pairs: Int[np.ndarray, "spike 2"]
    """Concepts of each spiked pair."""
    pattern: Float[np.ndarray, "spike neuron"]
    """What A∧B adds to the neurons at amplitude 1, fp32."""

    @classmethod
    def draw(
        cls, pairs: Int[np.ndarray, "spike 2"], unit: Float[np.ndarray, " neuron"], rng: np.random.Generator
    ) -> Spikes:
        """Choose c of the neurons that move for each pair.

        Args:
            pairs: the pairs to be spiked.
            unit: standard deviation of each neuron.
            rng: of the choice.
        """
        moving = np.flatnonzero(unit > 0)
        pattern = np.zeros((len(pairs), len(unit)), np.float32)
        size = min(CHANNEL, len(moving))
        for row in pattern:
            chosen = rng.choice(moving, size=size, replace=False)
            row[chosen] = unit[chosen]
        return cls(pairs, pattern)

    def moments(
        self,
        of_layer: FrozenMoments,
        at: Int[np.ndarray, " spike"],
        together: Int[np.ndarray, "concept_and_spike spike"],
        amplitude: float,
    ) -> FrozenMoments:
        """Moments of the layer with the spikes added, for the spiked pairs: from those of the layer, exactly.

        With y the 0/1 columns of the spiked pairs, neurons h become h + y·P: products with h are known from the pairs'
        sums, products of the columns from `together`.

        Args:
            of_layer: moments of the layer itself.
            at: places of the spiked pairs among its pairs.
            together: on how many of its tokens each concept holds, and each spiked pair, together with each spiked pair.
            amplitude: how often the pattern is added.
        """
        added = amplitude * self.pattern.astype(float)
        n, n_spiked = of_layer.n_tokens, of_layer.n_pair[at]
        n_each = np.concatenate([of_layer.n_concept, n_spiked])
        beyond_chance = together - n_each[:, None] * n_spiked / n
        of_concepts, of_spikes = np.split(beyond_chance, [len(of_layer.n_concept)])
        sums = of_layer.pair_sums[at]
        cross = sums.T @ added
        return replace(
            of_layer,
            mean=of_layer.mean + n_spiked / n @ added,
            gram=of_layer.gram + cross + cross.T + added.T @ of_spikes @ added,
            concept_sums=of_layer.concept_sums + of_concepts @ added,
            pair_sums=sums + of_spikes @ added,
            n_pair=n_spiked,
            pairs=of_layer.pairs[at],
        )


def holding_together(
    labels: LabelColumns, spiked: Int[np.ndarray, "spike 2"]
) -> Int[np.ndarray, "concept_and_spike spike"]:
    """On how many tokens each concept holds, and each spiked pair, together with each spiked pair.

    Args:
        labels: of all tokens.
        spiked: concepts of the spiked pairs.
    """
    held = labels.matrix().astype(np.int64).tocsc()
    both = held[:, spiked[:, 0]].multiply(held[:, spiked[:, 1]]).tocsc()
    return np.vstack([(part.T @ both).toarray() for part in (held, both)])


def support_strata(n11: Int[np.ndarray, " pair"]) -> Int[np.ndarray, " pair"]:
    """Strata of similar support, of at least `PAIRS_PER_STRATUM` pairs, at most `MAX_STRATA`; recall is shown for each.

    Cut by rank, ties in the order of the pairs.
    """
    n_strata = int(np.clip(len(n11) // PAIRS_PER_STRATUM, 1, MAX_STRATA))
    rank = np.empty(len(n11), np.int64)
    rank[np.argsort(n11, kind="stable")] = np.arange(len(n11))
    return rank * n_strata // max(len(n11), 1)


def spiked_pairs(n_tested: int, rng: np.random.Generator) -> Int[np.ndarray, " spike"]:
    """Which of the tested pairs are spiked, ascending."""
    n_spikes = min(MOST_SPIKES, int(SHARE * n_tested))
    return np.sort(rng.choice(n_tested, size=n_spikes, replace=False))


def spliced(whole: Contrast, part: Contrast, at: Int[np.ndarray, " spike"]) -> Contrast:
    """The contrasts of all pairs with those of the spiked ones in their places."""
    changed: dict[str, Any] = {}
    for field in fields(Contrast):
        ours, theirs = getattr(whole, field.name), getattr(part, field.name)
        if ours is None or theirs is None:
            changed[field.name] = None
            continue
        values = ours.copy()
        values[at] = theirs
        changed[field.name] = values
    return replace(whole, **changed)


def sensitivity(
    neurons: Contrast,
    spiked: Mapping[float, Contrast],
    at: Int[np.ndarray, " spike"],
    twins: list[Contrast],
    tested: Tested,
) -> Sensitivity | None:
    """The recall curve of one layer.

    Args:
        neurons: the layer as it is.
        spiked: the spiked pairs at each amplitude.
        at: their places among the tested pairs.
        twins: the layer's twins.
        tested: pairs and level.

    Returns:
        For each amplitude (0: as it is) and rung the share found with its exact interval, overall and by stratum of
        support, and the amplitude at which half and nine tenths are found; None without twins or spikes.
    """
    if not twins or not spiked or neurons.d_relay is None:
        return None
    strata = support_strata(tested.n11)[at]
    rows: list[RecallStep] = []
    for amplitude in (0.0, *sorted(spiked)):
        layer = spliced(neurons, spiked[amplitude], at) if amplitude else neurons
        decision = decide(layer, twins, [], tested)
        assert decision.computed is not None
        assert decision.above_twins is not None
        rows.append(
            {
                "amplitude": amplitude,
                "above_twins": _recall(decision.above_twins[at], strata),
                "computed": _recall(decision.computed[at], strata),
            }
        )
    return {
        "n_spiked": len(at),
        "channel": CHANNEL,
        "curve": rows,
        "above_twins_at": {f"{share:g}": _amplitude_at(rows, "above_twins", share) for share in RECALLS},
        "computed_at": {f"{share:g}": _amplitude_at(rows, "computed", share) for share in RECALLS},
    }


def _recall(flags: np.ndarray, strata: np.ndarray) -> Recall:
    whole = clopper_pearson(int(flags.sum()), len(flags))
    return {
        "recall": whole.value,
        "low": whole.low,
        "high": whole.high,
        "by_support": [
            {"n_spiked": int((strata == s).sum()), "recall": float(flags[strata == s].mean())}
            for s in np.unique(strata)
        ],
    }


def _amplitude_at(
    rows: list[RecallStep], rung: Literal["above_twins", "computed"], share: float
) -> float | None:
    """Where the curve first reaches a share, between two amplitudes on a line; None where it never does."""
    for before, after in itertools.pairwise(rows):
        low, high = before[rung]["recall"], after[rung]["recall"]
        if high >= share:
            step = (share - low) / (high - low) if high > low else 1.0
            return float(before["amplitude"] + max(0.0, step) * (after["amplitude"] - before["amplitude"]))
    return None
