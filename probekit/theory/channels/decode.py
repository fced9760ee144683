"""Channels decoded from the weights: which pairs of concepts meet on neurons of their own, and what they compute there.

After feature channel coding (Adler, Alistarh & Shavit, arXiv 2504.08842): features are computed on sets of neurons that the
inputs share, and the sets can be read off the signs of the weights. Here a set is a claim with a p-value: two codes
meet on more neurons than margins, geometry and loads allow (`overlap`), more than in twins of the codes as well
(`codes`), with the false discovery rate over all pairs controlled. What was found is explained away and the rest is asked
again (`meetings`) until nothing more is found; where no pair is true, only the first pass can err. Each set found is given
a gate (`gates`); the Boolean ones are the clauses of a program that can be run against the layer (`program`). No activation
is looked at, and a layer that computes every AND alike (a universal one) shows no channels. Axes: neuron, concept, pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import false_discovery_control

from probekit.errors import InputError, ShapeError, guarded
from probekit.theory.channels.codes import CodeFrame, Columns
from probekit.theory.channels.gates import BOOLEAN, gate_of, outlet, settings_on
from probekit.theory.channels.layer import LayerArrays, as_layer, matrix
from probekit.theory.channels.meetings import Known, Rows, Tests, all_tests, meetings, rows_of_halves
from probekit.theory.channels.program import Clause, Program
from probekit.theory.checks import Number, as_count, as_probability

if TYPE_CHECKING:
    import pandas as pd

LOOSEST = 0.05
"""The loosest chance at which a random code takes a neuron, by default; 1/n and 1/n² are tried beside it."""
MOST_LEVEL = 0.5
"""Beyond it a code is what it is not."""
MOST_PASSES = 8
"""Passes at the most; they end when one finds what the pass before had found."""


@dataclass(frozen=True, eq=False)
class Channels:
    """Every pair's verdict, the sets found, and the program they make."""

    layer: LayerArrays
    """The layer that was read."""
    frame: CodeFrame
    """Directions of the concepts."""
    mean: Float[np.ndarray, " input"]
    """Mean input that gates were judged at."""
    pairs: Int[np.ndarray, "test 2"]
    """Concepts of every test: a pair for each kind of meeting, both ways round where the order matters."""
    kind: tuple[str, ...]
    """Kind of meeting of every test."""
    n_met: Int[np.ndarray, " test"]
    """Neurons met on, at the level with the smallest p."""
    expected: Float[np.ndarray, " test"]
    """Neurons that independent codes of the same margins would meet on."""
    p_exact: Float[np.ndarray, " test"]
    """Exact conditional p, for the levels tried, before any set is explained away."""
    p: Float[np.ndarray, " test"]
    """The larger of the exact p of the last pass and the share of twin tests that stand out as much."""
    q: Float[np.ndarray, " test"]
    """Benjamini–Hochberg over all tests."""
    level: Float[np.ndarray, " test"]
    """Level of the codes at which the smallest p was found."""
    q_wanted: float
    """False discovery rate of the sets below."""
    sets: tuple[dict[str, Any], ...]
    """The sets found, with their gates."""
    names: tuple[str, ...]
    """Names of the concepts."""
    least: int
    """Neurons of the smallest set."""
    tried: tuple[float, ...]
    """Levels of the codes that were tried."""

    @property
    def program(self) -> Program:
        """The clauses: sets with a Boolean gate, by p-value."""
        return Program(
            tuple(
                Clause(
                    one["a"], one["b"], one["gate"], one["neurons"], self.names[one["a"]], self.names[one["b"]],
                    one["p"], one["q"], one["out"], one["out_sign"],
                )
                for one in self.sets
                if one["gate"] in BOOLEAN
            ),
            self.layer, self.frame.directions, self.mean,
        )  # fmt: skip

    def frame_of_sets(self) -> pd.DataFrame:
        """The sets found as a table, smallest p first."""
        import pandas as pd

        columns = ("a", "b", "kind", "gate", "written", "n_met", "expected", "p", "q", "level", "r11", "r10", "r01", "r00",
                   "out", "out_sign", "neurons")  # fmt: skip
        table = pd.DataFrame(
            [{name: one[name] for name in columns} for one in self.sets], columns=list(columns)
        )
        table["a"] = [self.names[one["a"]] for one in self.sets]
        table["b"] = [self.names[one["b"]] for one in self.sets]
        return table

    def frame_of_tests(self) -> pd.DataFrame:
        """Every test as a table."""
        import pandas as pd

        return pd.DataFrame(
            {
                "a": [self.names[i] for i in self.pairs[:, 0]], "b": [self.names[i] for i in self.pairs[:, 1]],
                "kind": self.kind, "n_met": self.n_met, "expected": self.expected, "p_exact": self.p_exact, "p": self.p,
                "q": self.q, "level": self.level,
            }
        )  # fmt: skip

    def scores(self, pairs: Int[np.ndarray, "pair 2"]) -> Float[np.ndarray, " pair"]:
        """−log10 of the smallest exact p of each pair, over kinds of meeting and levels: how much of a channel it has."""
        return _scores(self.pairs, self.p_exact, len(self.names), pairs)

    def twin_scores(
        self, pairs: Int[np.ndarray, "pair 2"], n_twins: int, *, seed: int = 0
    ) -> Float[np.ndarray, "twin pair"]:
        """The same scores of twins of the codes: what a layer of these weights shows that did not learn these concepts."""
        rng = np.random.default_rng(as_count("seed", seed, at_least=0))
        rows, scored = Rows.of(self.layer, self.frame.directions), list[np.ndarray]()
        for _ in range(as_count("n_twins", n_twins)):
            drawn = all_tests(rows.own(self.frame.twin(rng)), self.layer.sides, self.least, self.tried)
            p = np.minimum(1.0, len(drawn) * np.min([tests.p for tests in drawn], axis=0))
            scored.append(_scores(self.pairs, p, len(self.names), pairs))
        return np.stack(scored)


@guarded
def channels(  # noqa: PLR0913
    weights: Any,
    directions: Any,
    *,
    names: Sequence[str] | None = None,
    covariance: Any = None,
    mean: Any = None,
    q: Number = 0.05,
    twins: Number = 60,
    least: Number = 2,
    levels: Sequence[Number] | None = None,
    seed: int = 0,
) -> Channels:
    """Decode the channels of one layer from its weights.

    Args:
        weights: (w_in, b_in), a mapping, or an object with `w_in`, `b_in` and, where they apply, `w_gate`, `b_gate`,
            `w_out`, `activation`: a circuit of `pk.circuits`, a layer of a model. Where `w_out` has a single row, neurons
            that raise the output and those that lower it are asked apart.
        directions: φ, one column a concept: a construction's codes, token embeddings pushed through the norm,
            measured directions (what a concept's presence adds to the layer's input).
        names: names of the concepts.
        covariance: of the layer's inputs; twins of the codes keep it. By default the second moments of the directions.
        mean: mean input at which the gates are judged; 0 by default.
        q: false discovery rate over all pairs and kinds of meeting.
        twins: draws of the codes' twins that p-values are held against; 0 leaves the exact ones alone. A single set can
            be found with 3/q of them or more, k sets with a k-th part.
        least: neurons of the smallest set.
        levels: chances at which a random code takes a neuron; p-values are multiplied by their number. By default 1/n²,
            1/n and 0.05, for codes that stand out on few neurons. Trained nets without superposed inputs may code densely,
            on a third of the neurons: 0.3 for those.
        seed: of the twins.

    Raises:
        InputError: weights, directions or options that do not fit together.
    """
    layer = as_layer(weights)
    codes = matrix("directions", directions)
    if codes.shape[0] != layer.n_inputs or codes.shape[1] < 2:
        raise ShapeError(
            f"directions: got shape {codes.shape}, wanted [{layer.n_inputs}, concepts] with two concepts or more, a "
            "column a concept; transpose it."
        )
    told = tuple(names) if names is not None else tuple(str(i) for i in range(codes.shape[1]))
    if len(told) != codes.shape[1]:
        raise ShapeError(f"names: got {len(told)}, wanted one for each of {codes.shape[1]} concepts.")
    kept = None if covariance is None else matrix("covariance", covariance, (len(codes), len(codes)))
    wanted, smallest = as_probability("q", q), as_count("least", least)
    n_twins, rng = (
        as_count("twins", twins, at_least=0),
        np.random.default_rng(as_count("seed", seed, at_least=0)),
    )
    at = (
        np.zeros(len(codes))
        if mean is None
        else matrix("mean", np.reshape(mean, (1, -1)), (1, len(codes)))[0]
    )
    frame = CodeFrame.of(codes, kept)
    tried = (layer.n_neurons**-2.0, 1.0 / layer.n_neurons, LOOSEST)
    if levels is not None:
        tried = tuple(as_probability("levels", level) for level in levels)
    if not tried or max(tried) > MOST_LEVEL:
        raise InputError(f"levels: got {levels!r}, wanted chances of at most {MOST_LEVEL:g}, one or more.")
    tried = tuple(sorted(set(tried)))
    asked = _Asked(layer, frame, at, smallest, tried, n_twins, wanted)
    first = last = _judge(asked, None, rng)
    known = None
    for _ in range(MOST_PASSES - 1):
        before, known = known, Known.of(last.sets, layer, codes.shape[1], smallest)
        if not last.sets or known.same(before):
            break
        last = _judge(asked, known, rng)
    own = last.tests
    return Channels(
        layer, frame, at, own.pairs, own.kind, own.n_met, own.expected, first.tests.p, last.p, last.adjusted, own.level,
        wanted, last.sets, told, smallest, tried,
    )  # fmt: skip


# -------------------------------------------------------------------------------- the passes


@dataclass(frozen=True, eq=False)
class _Asked:
    """What every pass works on."""

    layer: LayerArrays
    frame: CodeFrame
    mean: Float[np.ndarray, " input"]
    least: int
    tried: tuple[float, ...]
    n_twins: int
    q: float


@dataclass(frozen=True, eq=False)
class _Pass:
    """One pass over all tests: at the best level of each, with what it found."""

    tests: Tests
    p: Float[np.ndarray, " test"]
    adjusted: Float[np.ndarray, " test"]
    sets: tuple[dict[str, Any], ...]


def _judge(asked: _Asked, known: Known | None, rng: np.random.Generator) -> _Pass:
    """All tests with what is known explained away."""
    rows = Rows.of(asked.layer, asked.frame.directions, known)
    halves, sides = rows.own(asked.frame), asked.layer.sides
    tested = all_tests(halves, sides, asked.least, asked.tried, known)
    exact = [tests.p for tests in tested]
    judged = exact
    if asked.n_twins:
        twins = (rows.of_twin(asked.frame.twin(rng)) for _ in range(asked.n_twins))
        drawn = [[tests.p for tests in all_tests(twin, sides, asked.least, asked.tried)] for twin in twins]
        judged = [
            _against(p, np.concatenate(held)) for p, held in zip(exact, zip(*drawn, strict=True), strict=True)
        ]
    best = np.argmin(judged, axis=0)
    take = lambda values: np.take_along_axis(np.stack(values), best[None], axis=0)[0]
    own = Tests(
        tested[0].pairs, tested[0].kind, np.minimum(1.0, len(tested) * np.min(exact, axis=0)),
        take([tests.n_met for tests in tested]), take([tests.expected for tests in tested]), np.array(asked.tried)[best],
    )  # fmt: skip
    p = np.minimum(1.0, len(tested) * np.min(judged, axis=0))
    adjusted = false_discovery_control(p, method="bh")
    found = [int(i) for i in np.lexsort((own.p, p)) if adjusted[i] <= asked.q]
    sets = [_set(asked, halves, own, i, p[i], adjusted[i]) for i in found]
    for one in sets:
        one["written"] = _written(asked, halves, one, sets)
    return _Pass(own, p, adjusted, tuple(sets))


def _against(p: Float[np.ndarray, " test"], drawn: Float[np.ndarray, " draw"]) -> Float[np.ndarray, " test"]:
    """The exact p, or the share of twin tests with one as small where that is larger.

    Neurons with like rows meet codes together, so that fewer are independent than the margins count; twins of the
    codes have the same rows, and tell.
    """
    ordered = np.sort(drawn)
    return np.maximum(p, (1.0 + np.searchsorted(ordered, p, side="right")) / (1.0 + len(ordered)))


def _scores(
    tested: Int[np.ndarray, "test 2"],
    p: Float[np.ndarray, " test"],
    n_concepts: int,
    pairs: Int[np.ndarray, "pair 2"],
) -> Float[np.ndarray, " pair"]:
    best = np.zeros((n_concepts, n_concepts))
    with np.errstate(divide="ignore"):
        found = np.minimum(-np.log10(p), 400.0)  # an exact p of 0 is one below the smallest float
    np.maximum.at(best, (tested[:, 0], tested[:, 1]), found)
    best = np.maximum(best, best.T)
    return best[pairs[:, 0], pairs[:, 1]]


def _set(
    asked: _Asked, halves: Sequence[Columns], tests: Tests, i: int, p: float, adjusted: float
) -> dict[str, Any]:
    """One set found: its neurons at its level, its gate, what it writes to."""
    layer = asked.layer
    a, b = (int(one) for one in tests.pairs[i])
    meeting = next(
        one for one in meetings(halves, layer.sides, float(tests.level[i])) if one.name == tests.kind[i]
    )
    neurons = meeting.neurons[meeting.first[:, a] & meeting.second[:, b]]
    seen = _seen(asked, halves, (a, b), neurons)
    if layer.w_gate is not None:  # the linear half may write either way: every neuron counts by its size
        seen = seen * np.sign(seen[np.abs(seen).argmax(axis=0), np.arange(seen.shape[1])])
    means = seen.mean(axis=1)
    return {
        "a": a, "b": b, "kind": tests.kind[i], "gate": gate_of(means), "neurons": neurons.tolist(), "p": float(p),
        "q": float(adjusted), "n_met": int(tests.n_met[i]), "expected": float(tests.expected[i]),
        "level": float(tests.level[i]),
        **dict(zip(("r11", "r10", "r01", "r00"), means.tolist(), strict=True)),
        **outlet(layer.w_out, neurons, asked.q),
    }  # fmt: skip


def _seen(
    asked: _Asked, halves: Sequence[Columns], pair: tuple[int, int], neurons: Int[np.ndarray, " chosen"]
) -> Float[np.ndarray, "setting chosen"]:
    """Some neurons in the four settings of a pair, everything else at the mean input."""
    layer = asked.layer
    biases = [layer.first_bias] if layer.w_gate is None else [layer.first_bias, layer.b_in]
    rest = np.stack(
        [rows @ asked.mean + bias for rows, bias in zip(rows_of_halves(layer), biases, strict=True)]
    )
    return settings_on(layer, np.stack([half.values for half in halves]), rest, pair, neurons)


def _written(
    asked: _Asked, halves: Sequence[Columns], one: dict[str, Any], sets: Sequence[dict[str, Any]]
) -> str:
    """The gate that all sets of a pair write to a single output, each neuron by its weight; "" with several outputs."""
    w_out = asked.layer.w_out
    if w_out is None or len(w_out) > 1:
        return ""
    pair = (one["a"], one["b"])
    mine = [held["neurons"] for held in sets if {held["a"], held["b"]} == set(pair)]
    neurons = np.unique(np.concatenate(mine))
    return gate_of(_seen(asked, halves, pair, neurons) @ w_out[0, neurons])
