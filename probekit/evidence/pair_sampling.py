"""Which of the testable pairs are tested: all, a sample (uniform, in a block of concepts, by kind), the fullest, a list.

Only labels are looked at, never an activation, so no choice here can favour pairs that a layer computes. Whatever the
rule, the probability with which a pair was taken is recorded. Axes: pair.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from probekit.errors import InputError
from probekit.evidence.block_sampling import draw_block
from probekit.evidence.blocks import Block

RULES = ("uniform", "blocks", "stratified", "support")


@dataclass(frozen=True)
class Drawn:
    """The tested pairs among the testable ones."""

    index: Int[np.ndarray, " chosen"]
    """Their places, in order."""
    inclusion: Float[np.ndarray, " chosen"]
    """Probability with which each was taken."""
    block: Block | None = None
    """How they were drawn, where only some of the concepts were."""


@dataclass(frozen=True)
class PairSampling:
    """How the tested pairs are chosen among the testable ones."""

    rule: str = "blocks"
    """uniform: any pair with the same probability; blocks: pairs among as many randomly drawn concepts as leaves each of
    them 20 pairs on average, any pair again with the same probability; stratified: an equal share of each kind of pair;
    support: those whose emptiest quadrant holds the most tokens."""
    kinds: tuple[str, ...] = ()
    """Kinds of pair that are looked at, such as "token × token"; none named: all."""
    named: tuple[tuple[str, str], ...] | None = None
    """Pairs asked for by name; None for a choice by rule."""

    @classmethod
    def of(cls, given: Any) -> PairSampling:
        """What a user means by `pairs=`.

        Args:
            given: None; a rule or a kind of pair (x may stand for ×), or several of them in one list; or a list of pairs
                of concept names, such as a table with columns a and b.

        Raises:
            InputError: it is none of these.
        """
        if given is None:
            return cls()
        if isinstance(given, PairSampling):
            return given
        if not isinstance(given, str) and (not hasattr(given, "__iter__") or getattr(given, "ndim", 1) == 0):
            raise InputError(
                f"pairs: got a {type(given).__name__}, wanted a rule, kinds of pair or a list of (name, name)."
            )
        entries: list[Any] = [given] if isinstance(given, str) else _rows(given)
        words = [entry for entry in entries if isinstance(entry, str)]
        if not words:
            return cls(named=_named(entries))
        if len(words) < len(entries):
            raise InputError("pairs: rules and single pairs in one list; give either words or (a, b) pairs.")
        rules = [word for word in words if word in RULES]
        if len(rules) > 1:
            raise InputError(f"pairs: got the rules {', '.join(rules)}; wanted one of them.")
        kinds = [_kind(word) for word in words if word not in RULES]
        return cls(rules[0] if rules else cls.rule, tuple(sorted(kinds)))

    def record(self) -> Any:
        """The choice as it stands in run.json: null for the default, a list otherwise."""
        if self.named is not None:
            return sorted([a, b] for a, b in self.named)
        return None if self == PairSampling() else [self.rule, *self.kinds]

    def within(self, kinds: list[str]) -> np.ndarray:
        """Which of some pairs are of a kind that is looked at.

        Args:
            kinds: kind of each pair, such as "class × token, lag 1".

        Raises:
            InputError: a kind asked for is that of no testable pair.
        """
        if not self.kinds:
            return np.ones(len(kinds), bool)
        held = np.zeros(len(kinds), bool)
        for wanted in self.kinds:
            mine = np.array([kind == wanted or kind.partition(",")[0] == wanted for kind in kinds], bool)
            if not mine.any():
                raise InputError(
                    f"pairs: no testable pair is {wanted!r}; there are {', '.join(sorted(set(kinds)))}."
                )
            held |= mine
        return held

    def draw(
        self,
        kinds: list[str],
        emptiest: Int[np.ndarray, " pair"],
        pairs: Int[np.ndarray, "pair 2"],
        n_most: int,
        rng: np.random.Generator,
    ) -> Drawn:
        """Pairs taken, in order, and the probability with which each was.

        Args:
            kinds: kind of each testable pair.
            emptiest: tokens in its emptiest quadrant, the smaller of both halves.
            pairs: its two concepts.
            n_most: pairs at most.
            rng: of the sample.
        """
        n = len(kinds)
        if n <= n_most:
            return Drawn(np.arange(n), np.ones(n))
        if self.rule == "support":
            best = np.argsort(-emptiest, kind="stable")[:n_most]
            return Drawn(np.sort(best), np.ones(n_most))
        if self.rule == "uniform":
            return Drawn(np.sort(rng.choice(n, n_most, replace=False)), np.full(n_most, n_most / n))
        if self.rule == "blocks":
            taken, block = draw_block(pairs, n_most, rng)
            inclusion = n_most / n if block.uniform else block.inclusion
            return Drawn(taken, np.full(len(taken), inclusion), None if block.uniform else block)
        return Drawn(*_stratified(np.asarray(kinds), n_most, rng))


def _stratified(kinds: np.ndarray, n_most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    names, stratum, sizes = np.unique(kinds, return_inverse=True, return_counts=True)
    quota = shares(sizes, n_most)
    taken = [
        rng.choice(np.flatnonzero(stratum == s), quota[s], replace=False)
        for s in range(len(names))
        if quota[s]
    ]
    index = np.sort(np.concatenate(taken))
    return index, (quota / sizes)[stratum[index]]


def shares(sizes: Int[np.ndarray, " stratum"], n_most: int) -> Int[np.ndarray, " stratum"]:
    """Equal shares of `n_most`; what a small stratum leaves goes to the larger ones.

    Args:
        sizes: pairs in each stratum.
        n_most: pairs in all, at most.
    """
    quota = np.zeros_like(sizes)
    left = min(n_most, int(sizes.sum()))
    while left:
        open_ = np.flatnonzero(quota < sizes)
        each = max(left // len(open_), 1)
        for s in open_[:left]:
            more = min(each, int(sizes[s] - quota[s]), left)
            quota[s] += more
            left -= more
    return quota


def _kind(word: str) -> str:
    """A kind of pair in the spelling of the tables."""
    plain = " × ".join(part.strip() for part in word.replace(" x ", " × ").split("×"))
    ends, comma, rest = plain.partition(",")
    parts = sorted(ends.split(" × "))
    if len(parts) != 2 or not all(parts):
        raise InputError(
            f"pairs: {word!r} is no rule ({', '.join(RULES)}) and no kind of pair such as 'token × token' or "
            "'context × token, lag 1'."
        )
    return " × ".join(parts) + comma + rest


def _rows(given: Any) -> list[Any]:
    """The entries of a list, or the rows of a table of pairs."""
    if not hasattr(given, "columns"):
        return list(given)
    if not {"a", "b"} <= set(given.columns):
        raise InputError(
            f"pairs: got a table with columns {', '.join(map(str, given.columns))}, wanted a and b, such as run.top() has."
        )
    return list(dict.fromkeys(zip(given["a"], given["b"], strict=True)))


def _named(entries: Iterable[Any]) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for entry in entries:
        names = list(entry) if isinstance(entry, tuple | list | np.ndarray) else []
        if len(names) != 2:
            raise InputError(f"pairs: got {entry!r}, wanted pairs of concept names (a, b), or a rule.")
        pairs.append((str(names[0]), str(names[1])))
    return tuple(pairs)
