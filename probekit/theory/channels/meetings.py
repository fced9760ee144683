"""Every pair and every way to meet, tested level by level of the codes; what has been found is explained away first.

In a layer of a single output the neurons that raise it and those that lower it are asked apart: an AND may be made as
relu(a + b) − relu(a − b), on which the two codes agree here and disagree there.

A set that was found stands in the way of the others: its meetings count as loads of the neurons, its neurons are copies of
each other as far as both read the same two concepts, and a third concept whose code overlaps with one of the two seems to be
read there. So the reads of found sets are taken out of the rows (least squares on their directions, neuron by neuron) before
the rest is tested again: a concept is read on what is left of a row, but where its own read is known that counts as it
did; twins of the codes are held against what is left as well. And where other sets account for both reads of a neuron,
the two need no set of their own: it does not count for them. Axes: neuron, concept, pair, test, level.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from probekit.theory.channels.codes import CodeFrame, Columns, ternary, threshold
from probekit.theory.channels.layer import LayerArrays
from probekit.theory.channels.overlap import log_load_ratio, log_odds_beyond, overlap_tail

Sides = Sequence[tuple[str, Int[np.ndarray, " _"]]]
"""Neurons that are asked together, by name (`LayerArrays.sides`)."""
LINEAR = "gate+ linear"
"""The meeting whose second code is that of a gated layer's linear half."""


@dataclass(frozen=True)
class Meeting:
    """One way in which the codes of two concepts can meet."""

    name: str
    """`++`, `+-`; in a gated layer the half of each: `gate+ gate+`, `gate+ linear`; ` raising` or ` lowering` after it."""
    neurons: Int[np.ndarray, " met"]
    """The neurons asked; the codes below are theirs."""
    ordered: bool
    """Whether (a, b) and (b, a) are different questions."""
    first: Bool[np.ndarray, "met concept"]
    """Neurons that the first concept's code takes."""
    second: Bool[np.ndarray, "met concept"]
    """Neurons that the second concept's code takes."""
    correlation: Float[np.ndarray, "concept concept"]
    """Correlation of the two columns by geometry alone."""
    two_sided: bool = False
    """Whether the second code is taken on either side."""


@dataclass(frozen=True, eq=False)
class Tests:
    """All tests of one layer on one set of codes, at one level."""

    pairs: Int[np.ndarray, "test 2"]
    kind: tuple[str, ...]
    p: Float[np.ndarray, " test"]
    n_met: Int[np.ndarray, " test"]
    expected: Float[np.ndarray, " test"]
    level: Any


@dataclass(frozen=True, eq=False)
class Known:
    """What has been found: reads of single neurons, and pairs by kind of meeting."""

    reads: tuple[Bool[np.ndarray, "neuron concept"], ...]
    """Which neurons read which concepts by the sets found, for each half of the layer."""
    pairs: Mapping[str, Int[np.ndarray, "pair 2"]]
    """Pairs found, by kind of meeting."""

    @classmethod
    def of(
        cls, sets: Sequence[Mapping[str, Any]], layer: LayerArrays, n_concepts: int, least: int = 2
    ) -> Known:
        """What some sets tell, smallest p first; one that meets only where others account for both its reads tells nothing.

        Args:
            sets: sets found, in the order of their p-values.
            layer: the layer.
            n_concepts: how many concepts.
            least: neurons that a set must add.
        """
        reads = tuple(np.zeros((layer.n_neurons, n_concepts), dtype=np.bool_) for _ in rows_of_halves(layer))
        pairs: dict[str, list[tuple[int, int]]] = {}
        for one in sets:
            a, b, at = one["a"], one["b"], np.asarray(one["neurons"])
            first, second = reads[0], reads[_half_of_second(one["kind"])]
            if (~(first[at, a] & second[at, b])).sum() < least:
                continue
            first[at, a] = second[at, b] = True
            pairs.setdefault(one["kind"], []).append((a, b))
        return cls(reads, {kind: np.array(held) for kind, held in pairs.items()})

    def same(self, other: Known | None) -> bool:
        """Whether the other knows the same pairs."""
        held = lambda one: {(kind, *pair) for kind, pairs in one.pairs.items() for pair in pairs.tolist()}
        return other is not None and held(self) == held(other)

    def explained(self, meeting: Meeting) -> Int[np.ndarray, "concept concept"]:
        """Neurons on which two codes meet while both reads are known, which need no set of their own; 0 for known pairs."""
        at = meeting.neurons
        first = (meeting.first & self.reads[0][at]).astype(np.float64)
        second = (meeting.second & self.reads[_half_of_second(meeting.name)][at]).astype(np.float64)
        found = np.rint(first.T @ second).astype(np.int64)
        for a, b in self.of_kind(meeting):
            found[a, b] = 0
        return found

    def of_kind(self, meeting: Meeting) -> Int[np.ndarray, "known 2"]:
        """Pairs known to meet in a way, both ways round where that is one question."""
        held = self.pairs.get(meeting.name)
        if held is None:
            return np.zeros((0, 2), dtype=np.int64)
        return held if meeting.ordered else np.concatenate([held, held[:, ::-1]])

    def rest(
        self,
        rows: Float[np.ndarray, "neuron input"],
        half: int,
        directions: Float[np.ndarray, "input concept"],
    ) -> Float[np.ndarray, "neuron input"]:
        """The rows of a half less the least-squares share of the directions that each is known to read."""
        left, reads = rows.copy(), self.reads[half]
        for neuron in np.flatnonzero(reads.any(axis=1)):
            mine = directions[:, reads[neuron]]
            left[neuron] -= mine @ np.linalg.lstsq(mine, rows[neuron], rcond=None)[0]
        return left


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a layer's halves, and what is left of them once what is known has been explained."""

    whole: tuple[Float[np.ndarray, "neuron input"], ...]
    left: tuple[Float[np.ndarray, "neuron input"], ...]
    known: Known | None = None

    @classmethod
    def of(
        cls, layer: LayerArrays, directions: Float[np.ndarray, "input concept"], known: Known | None = None
    ) -> Rows:
        """The rows of a layer."""
        whole = rows_of_halves(layer)
        left = whole if known is None else tuple(known.rest(r, i, directions) for i, r in enumerate(whole))
        return cls(whole, left, known)

    def own(self, frame: CodeFrame) -> list[Columns]:
        """Columns of the concepts' own codes: on what is left, and whole where a read is known."""
        whole = [Columns.of(rows, frame) for rows in self.whole]
        if self.known is None:
            return whole
        left = self.of_twin(frame)
        return [
            replace(one, scores=np.where(reads, one.scores, rest.scores))
            for one, rest, reads in zip(whole, left, self.known.reads, strict=True)
        ]

    def of_twin(self, frame: CodeFrame) -> list[Columns]:
        """Columns of twins of the codes, of which nothing is known."""
        return [Columns.of(left, frame, unit) for left, unit in zip(self.left, self.whole, strict=True)]


def _half_of_second(kind: str) -> int:
    """The half of a layer that the second code of a meeting is read from."""
    return int(kind.startswith(LINEAR))


def rows_of_halves(layer: LayerArrays) -> tuple[Float[np.ndarray, "neuron input"], ...]:
    """The rows that an activation follows, and those of a gated layer's linear half."""
    return (layer.first,) if layer.w_gate is None else (layer.first, layer.w_in)


def all_tests(
    halves: Sequence[Columns], sides: Sides, least: int, tried: Sequence[float], known: Known | None = None
) -> list[Tests]:
    """Every pair and every kind of meeting, level by level of the codes.

    Args:
        halves: columns of each half.
        sides: neurons that are asked together, by name.
        least: neurons of the smallest set.
        tried: levels of the codes.
        known: pairs that do not count as loads of the neurons.
    """
    return [_tests_at(meetings(halves, sides, level), level, least, known) for level in tried]


def meetings(halves: Sequence[Columns], sides: Sides, level: float) -> Iterator[Meeting]:
    """The ways in which two codes can meet at a level."""
    code = ternary(halves[0].scores, level)
    rho = halves[0].correlation
    gated = len(halves) == 2
    # gate and linear rows of a neuron need not correlate; the geometry counts as far as they do at the most
    linear = ternary(halves[1].scores, level) != 0 if gated else None
    for side, at in sides:
        up, down = code[at] > 0, code[at] < 0
        yield Meeting(f"{'gate+ gate+' if gated else '++'}{side}", at, False, up, up, rho)
        yield Meeting(f"{'gate+ gate-' if gated else '+-'}{side}", at, True, up, down, -rho)
        if linear is not None:
            yield Meeting(f"{LINEAR}{side}", at, True, up, linear[at], rho, two_sided=True)


def _tests_at(asked: Iterable[Meeting], level: float, least: int, known: Known | None) -> Tests:
    found = list[Tests]()
    for meeting in asked:
        pairs = _pairs(meeting.first.shape[1], ordered=meeting.ordered)
        settled = None if known is None else known.of_kind(meeting)
        explained = None if known is None else known.explained(meeting)[pairs[:, 0], pairs[:, 1]]
        odds = functools.partial(_null_odds, meeting, pairs, level, settled)
        p, met, expected = overlap_tail(
            meeting.first, meeting.second, pairs, odds, least=least, explained=explained
        )
        found.append(Tests(pairs, (meeting.name,) * len(pairs), p, met, expected, level))
    return Tests(
        np.concatenate([one.pairs for one in found]),
        tuple(itertools.chain.from_iterable(one.kind for one in found)),
        np.concatenate([one.p for one in found]),
        np.concatenate([one.n_met for one in found]),
        np.concatenate([one.expected for one in found]),
        level,
    )


def _null_odds(
    meeting: Meeting,
    pairs: Int[np.ndarray, "pair 2"],
    level: float,
    settled: Int[np.ndarray, "known 2"] | None,
    rows: Int[np.ndarray, " row"],
) -> Float[np.ndarray, " row"]:
    """Log odds ratio that geometry and loads give some pairs."""
    rho = meeting.correlation[pairs[rows, 0], pairs[rows, 1]]
    geometry = log_odds_beyond(rho, threshold(level), two_sided_second=meeting.two_sided)
    return geometry + log_load_ratio(meeting.first, meeting.second, settled)


def _pairs(n_concepts: int, *, ordered: bool) -> Int[np.ndarray, "pair 2"]:
    first, second = np.triu_indices(n_concepts, k=1)
    pairs = np.column_stack([first, second]).astype(np.int64)
    return np.concatenate([pairs, pairs[:, ::-1]]) if ordered else pairs
