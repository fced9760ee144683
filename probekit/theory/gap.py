"""The gap, drawn: how many features a layer can represent, read linearly, compute, and what is built or observed.

Representing is exponentially cheaper than computing (Adler & Shavit, arXiv 2409.15318): random codes of d
dimensions hold exp(Θ(d)) features, n neurons select of the order of n²/log n. Between the two stand readouts: an
approximately linear one, layer after layer, is certified for Õ(d^{3/2}) features (Hänni et al., arXiv 2408.05451),
a thresholded one reaches n² up to logarithms. Borobia, Seguí-Mas & Tormo-Carbó (arXiv 2605.01192) show that these
keep different invariants and do not contradict: `readouts` gives both sides as numbers. A level is a count of
features; counts beyond a float are kept as their logarithm. Axes: none.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.stats import norm

from probekit.errors import InputError, guarded
from probekit.theory.asymptotic import asymptotic_features
from probekit.theory.capacity import layer_params, max_selected
from probekit.theory.checks import Number, as_count, as_number, as_positive, as_probability
from probekit.theory.circuits.predict import Channel, channel_prediction, inverse_of_binomial
from probekit.theory.circuits.two_and import meeting_density
from probekit.theory.circuits.uand import two_valued_moments
from probekit.theory.representation import welch_floor

if TYPE_CHECKING:
    import pandas as pd

Group = Literal["represented", "linear", "computable", "constructed", "readable", "observed"]
"""What a level counts."""

Kind = Literal["theorem", "exact count", "order, constant 1", "predicted", "observed"]
"""How much a level's number may be trusted."""

MAX_FLOAT_LOG10 = 308.0
"""Counts above 10 to this are beyond a float and are given by their logarithm only."""


@dataclass(frozen=True)
class Level:
    """One number of features, on its way from what can be represented to what was observed."""

    key: str
    """Name for programs."""
    group: Group
    """What is counted."""
    label: str
    """Name for readers."""
    log10: float
    """log10 of the number of features; minus infinity for none."""
    kind: Kind
    """A theorem's sufficient number, an exact count, an order of magnitude, a prediction that simulations confirm."""
    readout: Literal["linear", "threshold", "none"]
    """How the features are read: by a linear readout, against a threshold, or not at all (weights are counted)."""
    vacuous: bool
    """True when the argument rules nothing out; the number is then that of all candidates."""
    assumptions: str
    """What it rests on."""
    source: str
    """Where it comes from."""
    low: float | None = None
    """Lower limit of an observed count."""
    high: float | None = None
    """Upper limit of an observed count."""

    @property
    def features(self) -> float:
        """The number of features; infinite where it is beyond a float."""
        return 10.0**self.log10 if self.log10 < MAX_FLOAT_LOG10 else math.inf


@dataclass(frozen=True)
class Readouts:
    """F features in d dimensions, s on at a time: what a linear readout must bear and a threshold need not."""

    n_features: float
    """F."""
    linear_rms: float
    """Least root mean square error, over features, of any linear readout that reads each feature itself with slope 1."""
    linear_overlap: float
    """Least largest cross-talk of one feature into another's readout (Welch)."""
    threshold_error: float
    """Bound on the chance that one read of a random sign code falls on the wrong side of ½."""
    expected_wrong: float
    """F times that: the wrong answers to expect in one input."""


@dataclass(frozen=True)
class Gap:
    """Every level of one layer, from most to fewest features by theory, and what was observed."""

    n_neurons: int
    """n."""
    d_model: int
    """d."""
    n_active: int
    """s, concepts on in one input."""
    levels: tuple[Level, ...]
    """The levels in reading order."""
    readouts: Readouts
    """Linear and threshold readouts at n²/ln n features."""

    def __getitem__(self, key: str) -> Level:
        """The level of that key.

        Raises:
            InputError: there is none.
        """
        for level in self.levels:
            if level.key == key:
                return level
        raise InputError(
            f"level: got {key!r}, wanted one of {', '.join(level.key for level in self.levels)}."
        )

    def frame(self) -> pd.DataFrame:
        """The levels as a table, one row a level; `features` is infinite where only `log10` is finite."""
        import pandas as pd

        names = ("key", "group", "label", "features", "log10", "kind", "readout", "vacuous", "low", "high",
                 "assumptions", "source")  # fmt: skip
        return pd.DataFrame([{name: getattr(level, name) for name in names} for level in self.levels])


@guarded
def gap(  # noqa: PLR0913
    n_neurons: Number,
    d_model: Number,
    *,
    n_active: Number = 3,
    n_concepts: Number = 100_000,
    bits: tuple[Number, ...] = (2.0, 16.0),
    gated: bool = False,
    epsilon: Number = 0.25,
    p_failure: Number = 0.01,
    error: Number = 0.01,
    channel: Number = 5,
    observed: Number | None = None,
    interval: tuple[Number | None, Number | None] = (None, None),
) -> Gap:
    """How many features a layer of n neurons on d dimensions represents, reads, computes.

    Args:
        n_neurons: n.
        d_model: d, dimensions of the code that the layer reads.
        n_active: s, concepts on in one input.
        n_concepts: m of the dictionary whose pairs the weights choose from, in the exact count.
        bits: b, bits a parameter; one exact count for each.
        gated: the layer has a gate beside its linear half: twice the parameters.
        epsilon: largest overlap of two codes in the pairwise form.
        p_failure: η, chance that a random draw fails, where a form has one.
        error: worst-pattern error at which a construction is said to work.
        channel: c, neurons of one output channel of `two_and`.
        observed: a count of features found, such as a run's.
        interval: its lower and upper limit, None where there is none.

    Raises:
        InputError: a parameter out of range.
    """
    neurons = as_count("n_neurons", n_neurons, at_least=8)
    width = as_count("d_model", d_model)
    active = as_count("n_active", n_active, at_least=2)
    size = as_count("channel", channel, at_most=neurons)
    wanted = as_probability("error", error)
    if not bits:
        raise InputError("bits: got none, wanted at least one number of bits a parameter.")
    reference = asymptotic_features(neurons)
    levels = (
        *_represented(width, active, as_probability("epsilon", epsilon), as_probability("p_failure", p_failure)),
        _readable(neurons, active, as_probability("p_failure", p_failure)),
        *(_selectable(neurons, width, n_concepts, each, gated=gated) for each in sorted(bits, reverse=True)),
        Level(
            "n2_over_ln_n", "computable", "n²/ln n", math.log10(float(reference)), "order, constant 1", "threshold",
            False, ", ".join(reference.assumptions), "Adler & Shavit, arXiv 2409.15318",
        ),
        Level(
            "linear_template", "linear", "linear readouts, d^1.5", 1.5 * math.log10(width), "order, constant 1",
            "linear", False, "logarithms and constant left out; of that template, not a limit of every layer",
            "Hänni et al., arXiv 2408.05451; Borobia et al., arXiv 2605.01192",
        ),
        *_constructed(neurons, width, active, size, wanted),
        *(() if observed is None else (_observed(observed, interval),)),
    )  # fmt: skip
    return Gap(neurons, width, active, levels, readouts(float(reference), width, n_active=active))


@guarded
def readouts(n_features: Number, d_model: Number, *, n_active: Number = 3) -> Readouts:
    """What a linear readout of F features in d dimensions must bear, and what a threshold need not.

    Linear: a readout R of a code Φ with slope 1 on each feature itself has tr(RΦ) = F and rank d at most, so
    ‖RΦ‖² ≥ F²/d, and what the others add has, over features that are on independently with chance s/F, mean
    variance (s/F)(1 − s/F)(F − d)/d at least: s/d for F ≫ d, and it is there in every read (the rank–trace
    form of arXiv 2605.01192). Threshold: the read of a random ±1/√d code errs by ½ with chance exp(−d/8s) at
    most, and an error below ½ is gone once the threshold has been applied.

    Args:
        n_features: F.
        d_model: d.
        n_active: s, features on in one input.

    Raises:
        InputError: a parameter out of range, or more features on than there are.

    >>> found = readouts(768**2, 768)
    >>> f"{found.linear_rms:.4f} {found.threshold_error:.0e}"
    '0.0625 1e-14'
    """
    total = as_positive("n_features", n_features)
    width = as_count("d_model", d_model)
    active = as_count("n_active", n_active)
    if total < max(active, 2):
        raise InputError(
            f"n_features: got {total:g}, wanted at least n_active = {active} and 2. Lower n_active."
        )
    share = active / total
    variance = share * (1.0 - share) * max(0.0, total - width) / width
    wrong = math.exp(-width / (8.0 * active))
    return Readouts(total, math.sqrt(variance), float(welch_floor(int(total), width)), wrong, total * wrong)


def _represented(width: int, active: int, epsilon: float, failure: float) -> tuple[Level, ...]:
    """The three forms of `representation.jl_*`, turned around: the m that d dimensions hold."""
    per_unit = math.log10(math.e)
    source = "Johnson & Lindenstrauss; random ±1/√d codes"
    return (
        Level(
            "jl_reading", "represented", "represented, a typical input",
            math.log10(failure / 2.0) + width / (8.0 * active) * per_unit, "theorem", "threshold", False,
            f"s = {active} on, one given input, all read right at ½ but for a chance of {failure:g}", source,
        ),
        Level(
            "jl_pairwise", "represented", f"represented, overlaps below {epsilon:g}",
            width * epsilon**2 / 4.0 * per_unit, "theorem", "linear", False, "such codes exist", source,
        ),
        Level(
            "jl_worst_case", "represented", "represented, every input", width / (16.0 * active**2) * per_unit,
            "theorem", "linear", False, f"every input with s = {active} on is read right at ½", source,
        ),
        Level(
            "orthogonal", "represented", "a dimension each, d", math.log10(width), "theorem", "linear", False,
            "orthogonal codes: no interference, no superposition", "linear algebra",
        ),
    )  # fmt: skip


def _readable(neurons: int, active: int, failure: float) -> Level:
    """Pairs that a random two-valued layer lets a threshold read, by Bernstein's inequality: nothing is selected."""
    scale, second = two_valued_moments(active, 2.0, 0.0)
    spread, bound = second / scale**2, active / scale + 1.0
    log10 = math.log10(failure) + neurons / (8.0 * (spread + bound / 6.0)) * math.log10(math.e)
    return Level(
        "random_layer", "readable", "ANDs readable from a random layer", log10, "theorem", "threshold", False,
        f"weights +1 or −2 at random, a coordinate a concept, s = {active} on, one given input, all read right "
        f"at ½ but for a chance of {failure:g}; nothing is selected, so no bound on n applies",
        "Bernstein's inequality on circuits.dense_uand",
    )  # fmt: skip


def _selectable(neurons: int, width: int, n_concepts: Number, bits: Number, *, gated: bool) -> Level:
    params = layer_params(width, neurons, site="neurons", gated=gated)
    bound = max_selected(n_concepts=n_concepts, n_params=params, bits=bits)
    held = float(as_number("bits", bits))
    return Level(
        f"selectable_{held:g}_bits", "computable", f"exact count, {held:g} bits a weight", _log10(float(bound)),
        "exact count", "none", bound.vacuous,
        f"{params:,} weights act at the neurons; pairs of {int(n_concepts):,} concepts; "
        + ", ".join(bound.assumptions),
        "counting; Adler & Shavit, arXiv 2409.15318",
    )  # fmt: skip


def _constructed(neurons: int, width: int, active: int, size: int, error: float) -> tuple[Level, ...]:
    told = f"superposed inputs, s = {active} on, predicted worst-pattern error {error:g} at most"
    source = "Adler & Shavit, arXiv 2409.15318"
    low = two_and_low_features(neurons, width, active, size, error)
    high = two_and_high_features(neurons, width, active, error)
    moved = permutation_features(width, active, error)
    return (
        Level(
            "two_and_low", "constructed", "built: 2-AND, low influence", _log10(low), "predicted", "threshold", False,
            f"{told}; every concept in two pairs, c = {size}", source,
        ),
        Level(
            "two_and_high", "constructed", "built: 2-AND, high influence", _log10(high), "predicted", "threshold",
            False, f"{told}; all pairs of its concepts, which takes few bits to name: no bound on choices applies",
            source,
        ),
        Level(
            "permutation", "constructed", "built: linear permutation", _log10(moved), "predicted", "threshold", False,
            told, source,
        ),
    )  # fmt: skip


@functools.lru_cache(maxsize=4096)
def two_and_low_features(neurons: int, width: int, active: int, channel: int, error: float) -> int:
    """Most pairs m' = m that `two_and`'s low-influence case computes at a predicted error, two pairs a concept."""
    density = 1.0 - (1.0 - channel / neurons) ** 2

    def works(n_concepts: int) -> bool:
        return worst_error(Channel(2, active, n_concepts, density, 1.0 / channel, width)) <= error

    return _most(works, active + 2)


@functools.lru_cache(maxsize=4096)
def two_and_high_features(neurons: int, width: int, active: int, error: float) -> int:
    """Most pairs that `two_and`'s high-influence case computes at a predicted error: all pairs of its concepts."""
    density = meeting_density(neurons)
    inverse = inverse_of_binomial(neurons, density**2)

    def works(n_concepts: int) -> bool:
        return worst_error(Channel(2, active, n_concepts, density, inverse, width)) <= error

    most = _most(works, active + 2)
    return most * (most - 1) // 2


def permutation_features(width: int, active: int, error: float) -> int:
    """Most concepts m that a linear permutation puts in order at a predicted error.

    The read has variance 2(s − f)/d + (m − 1)s/d² for a concept that is on (f = 1) or off (f = 0).
    """
    z = float(norm.isf(error))

    def works(n_concepts: int) -> bool:
        on, off = (2 * (active - f) / width + (n_concepts - 1) * active / width**2 for f in (1, 0))
        return z * (math.sqrt(on) + math.sqrt(off)) <= 1.0

    return _most(works, active + 1)


def worst_error(channel: Channel) -> float:
    """Worst-pattern error of a predicted readout at the one best threshold, were readouts normal.

    The share of missed 11 rises with the threshold, that of every other pattern falls; where two meet both
    are Φ̄((μ11 − μ)/(σ11 + σ)), and the largest of these is what no threshold can avoid.
    """
    mean, sd = channel_prediction(channel)
    apart = (mean[0] - mean[1:]) / (sd[0] + sd[1:])
    return float(norm.sf(np.nanmin(apart)))


def _most(works: Callable[[int], bool], start: int) -> int:
    """Largest number at which a construction works, for one that works up to there; 0 where `start` fails."""
    if not works(start):
        return 0
    low, high = start, 2 * start
    while works(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if works(middle) else (low, middle)
    return low


def _observed(count: Number, interval: tuple[Number | None, Number | None]) -> Level:
    value = float(as_number("observed", count))
    low, high = (None if end is None else float(as_number("interval", end)) for end in interval)
    if not value >= 0 or (low is not None and high is not None and low > high):
        raise InputError(
            f"observed, interval: got {count} and {interval}, wanted a count of 0 or more and low ≤ high."
        )
    return Level(
        "observed", "observed", "observed", _log10(value), "observed", "linear", False,
        "pair-specific excess over the layer's twins, among the pairs that were tested", "this run", low, high,
    )  # fmt: skip


def _log10(value: float | int) -> float:
    return math.log10(value) if value > 0 else -math.inf
