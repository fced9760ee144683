"""Which pairs of concepts can be tested, and which tokens each of them is read on.

A pair (A, B) is testable when each of its four quadrants (11, 10, 01, 00 = A and B, A only, B only, neither)
holds enough tokens from enough documents. A testable pair is then read on at most `SAMPLE` tokens a quadrant:
those with the smallest hash of (document, position), so that the choice depends on the tokens alone, never on
the order or the size of the blocks they arrive in.
Axes: token concept pair quadrant; quadrants are numbered 0: 11, 1: 10, 2: 01, 3: 00.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt64
from scipy import sparse

QUADRANTS = ("11", "10", "01", "00")
SIGNS = np.array([1.0, -1.0, -1.0, 1.0])
"""Sign of each quadrant mean in the interaction contrast κ = μ11 − μ10 − μ01 + μ00."""
SAMPLE = 2_000
"""Tokens a quadrant and pair, at most."""
RELAY_SAMPLE = 800
"""The same where relays are removed: a pair's d′ hangs on its rarest quadrant, which seldom holds more."""
MIN_DOCS = 20
"""Documents that each quadrant must come from."""


@dataclass(frozen=True)
class LabelColumns:
    """Boolean labels, column-sparse: the sorted tokens at which each concept holds."""

    indptr: Int[np.ndarray, " concepts_and_one"]
    """Start of each concept in `tokens`; one longer than the number of concepts."""
    tokens: Int[np.ndarray, " label"]
    """Token indices, ascending within a concept."""
    n_tokens: int
    """Number of tokens labelled, with or without a concept."""

    @property
    def n_concepts(self) -> int:
        """Number of concepts."""
        return len(self.indptr) - 1

    @classmethod
    def from_dense(cls, labels: Bool[np.ndarray, "token concept"]) -> LabelColumns:
        """The same labels from a dense boolean array."""
        concept, token = np.nonzero(labels.T)
        indptr = np.searchsorted(concept, np.arange(labels.shape[1] + 1))
        return cls(indptr.astype(np.int64), token.astype(np.int32), labels.shape[0])

    def matrix(self) -> sparse.csr_matrix:
        """Token-major 0/1 matrix [token, concept]."""
        ones = np.ones(len(self.tokens), dtype=np.int8)
        shape = (self.n_tokens, self.n_concepts)
        return sparse.csr_matrix(sparse.csc_matrix((ones, self.tokens, self.indptr), shape=shape))

    def dense(self) -> Float[np.ndarray, "token concept"]:
        """The labels as fp32 zeros and ones, for products."""
        held = np.zeros((self.n_tokens, self.n_concepts), np.float32)
        held[self.tokens, np.repeat(np.arange(self.n_concepts), np.diff(self.indptr))] = 1.0
        return held

    def take(self, kept: Bool[np.ndarray, " token"]) -> LabelColumns:
        """The labels of the kept tokens, renumbered in order."""
        new_index = np.cumsum(kept) - 1
        held = kept[self.tokens]
        ends = np.concatenate([[0], np.cumsum(held)])
        return LabelColumns(ends[self.indptr], new_index[self.tokens[held]].astype(np.int32), int(kept.sum()))

    def between(self, start: int, stop: int) -> LabelColumns:
        """The labels of tokens start … stop−1, counted from `start`."""
        n_concepts = self.n_concepts
        low = np.empty(n_concepts, np.int64)
        high = np.empty(n_concepts, np.int64)
        for concept in range(n_concepts):
            column = self.tokens[self.indptr[concept] : self.indptr[concept + 1]]
            low[concept], high[concept] = self.indptr[concept] + np.searchsorted(column, (start, stop))
        indptr = np.concatenate([[0], np.cumsum(high - low)])
        pieces = [self.tokens[a:b] for a, b in zip(low, high, strict=True)]
        tokens = np.concatenate(pieces) - np.int32(start) if pieces else np.empty(0, np.int32)
        return LabelColumns(indptr, tokens.astype(np.int32), stop - start)


@dataclass(frozen=True)
class QuadrantCounts:
    """Exact counts of every pair i < j over one half of the documents."""

    n_tokens: Int[np.ndarray, "pair quadrant"]
    """Tokens in each quadrant."""
    n_docs: Int[np.ndarray, "pair quadrant"]
    """Documents with at least one token in the quadrant."""


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _count(indptr, concepts, doc_start, n_concepts, n_tokens, n_docs):  # pragma: no cover - compiled
    together = np.zeros((n_concepts, n_concepts), np.int32)
    alone = np.zeros(n_concepts, np.int32)
    for d in range(len(doc_start) - 1):
        first, last = doc_start[d], doc_start[d + 1]
        length = last - first
        together[:] = 0
        alone[:] = 0
        for t in range(first, last):
            for a in range(indptr[t], indptr[t + 1]):
                i = concepts[a]
                alone[i] += 1
                for b in range(a + 1, indptr[t + 1]):
                    together[i, concepts[b]] += 1
        p = 0
        for i in range(n_concepts):
            for j in range(i + 1, n_concepts):
                c11 = together[i, j]
                c10 = alone[i] - c11
                c01 = alone[j] - c11
                c00 = length - alone[i] - alone[j] + c11
                n_tokens[p, 0] += c11
                n_tokens[p, 1] += c10
                n_tokens[p, 2] += c01
                n_tokens[p, 3] += c00
                n_docs[p, 0] += c11 > 0
                n_docs[p, 1] += c10 > 0
                n_docs[p, 2] += c01 > 0
                n_docs[p, 3] += c00 > 0
                p += 1


def all_pairs(n_concepts: int) -> Int[np.ndarray, "pair 2"]:
    """Every pair i < j in lexicographic order."""
    return np.stack(np.triu_indices(n_concepts, k=1), axis=1).astype(np.int32)


def count_quadrants(labels: LabelColumns, doc: Int[np.ndarray, " token"]) -> QuadrantCounts:
    """Tokens and documents of every quadrant of every pair, in the order of `all_pairs`.

    Args:
        labels: the labels of one half.
        doc: document of each token, non-decreasing.
    """
    n_concepts = labels.n_concepts
    n_pairs = n_concepts * (n_concepts - 1) // 2
    matrix = labels.matrix()
    matrix.sort_indices()
    starts = np.flatnonzero(doc[1:] != doc[:-1]) + 1
    doc_start = np.concatenate([[0], starts, [len(doc)]]).astype(np.int64)
    n_tokens = np.zeros((n_pairs, 4), np.int64)
    n_docs = np.zeros((n_pairs, 4), np.int64)
    _count(matrix.indptr, matrix.indices, doc_start, n_concepts, n_tokens, n_docs)
    return QuadrantCounts(n_tokens, n_docs)


REASONS = ("rare", "exclusive", "nested", "few documents")


@dataclass(frozen=True)
class Testable:
    """The testable pairs and the reason why each of the others is not."""

    index: Int[np.ndarray, " pair"]
    """Positions of the testable pairs in the order of `all_pairs`."""
    excluded: dict[str, int]
    """Number of untestable pairs by reason."""


def testable_pairs(
    fit: QuadrantCounts,
    confirm: QuadrantCounts,
    *,
    min_support: int,
    min_docs: int = MIN_DOCS,  # noqa: PT028 - "testable" names pairs, not a test
) -> Testable:
    """Pairs with enough tokens and documents in every quadrant of both halves.

    The reason of an untestable pair is the first that applies in either half: *rare* (chance alone would put
    fewer than `min_support` tokens into quadrant 11), *exclusive* (11 is short of what chance would put
    there), *nested* (10 or 01 is short: one concept nearly implies the other; or 00 is: one of them nearly
    always holds), *few documents*.
    """
    reason = np.full(len(fit.n_tokens), len(REASONS))
    for half in (fit, confirm):
        n = half.n_tokens
        n_all = np.maximum(n.sum(1), 1)
        expected = (n[:, 0] + n[:, 1]) * (n[:, 0] + n[:, 2]) / n_all
        short = n < min_support
        first = np.select(
            [
                short[:, 0] & (expected < min_support),
                short[:, 0],
                short[:, 1:].any(1),
                (half.n_docs < min_docs).any(1),
            ],
            range(len(REASONS)),
            len(REASONS),
        )
        reason = np.minimum(reason, first)
    excluded = {name: int((reason == k).sum()) for k, name in enumerate(REASONS)}
    return Testable(np.flatnonzero(reason == len(REASONS)), excluded)


def splitmix64(key: UInt64[np.ndarray, " any"]) -> UInt64[np.ndarray, " any"]:
    """A fixed, well-mixing hash of 64-bit keys (Steele, Lea & Flood 2014)."""
    with np.errstate(over="ignore"):
        mixed = key + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


@dataclass(frozen=True)
class TokenSample:
    """The tokens each pair is read on in one half, grouped by pair and quadrant, ascending within a group."""

    ptr: Int[np.ndarray, " groups_and_one"]
    """Start of each group; group 4·pair + quadrant."""
    token: Int[np.ndarray, " entry"]
    """Token of each entry."""
    first_of_doc: Bool[np.ndarray, " entry"]
    """Whether the entry is its document's one token in that quadrant for the exact test of ε."""
    n_natural: Int[np.ndarray, "pair quadrant"]
    """Tokens in each quadrant before sampling: an entry of quadrant q weighs n_natural/n_sampled."""

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return len(self.n_natural)

    @property
    def n_sampled(self) -> Int[np.ndarray, "pair quadrant"]:
        """Entries in each quadrant."""
        return rearrange(np.diff(self.ptr), "(pair quadrant) -> pair quadrant", quadrant=4)

    def entries_of(self, pairs: Int[np.ndarray, " chosen"]) -> Int[np.ndarray, " kept"]:
        """Places of the entries of some pairs, in the order of the pairs."""
        start, stop = self.ptr[4 * pairs], self.ptr[4 * pairs + 4]
        parts = [np.arange(a, b) for a, b in zip(start, stop, strict=True)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def take(self, pairs: Int[np.ndarray, " chosen"]) -> TokenSample:
        """The sample of some of the pairs."""
        kept = self.entries_of(pairs)
        ptr = np.concatenate([[0], np.cumsum(self.n_sampled[pairs].ravel())])
        return TokenSample(ptr, self.token[kept], self.first_of_doc[kept], self.n_natural[pairs])

    def between(self, start: int, stop: int) -> tuple[Int[np.ndarray, " group"], Int[np.ndarray, " group"]]:
        """First and last-plus-one entry of each group among tokens start … stop−1."""
        n_groups = len(self.ptr) - 1
        low, high = np.empty(n_groups, np.int64), np.empty(n_groups, np.int64)
        _between(self.ptr, self.token, start, stop, low, high)
        return low, high


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _between(ptr, token, start, stop, low, high):  # pragma: no cover - compiled
    for g in range(len(ptr) - 1):
        group = token[ptr[g] : ptr[g + 1]]
        low[g] = ptr[g] + np.searchsorted(group, start)
        high[g] = ptr[g] + np.searchsorted(group, stop)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _holds(member, concept, token):  # pragma: no cover - compiled
    return (member[concept, token >> 3] >> (7 - (token & 7))) & 1


@numba.njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _sample(  # noqa: C901
    pairs, indptr, by_rank, member, order, limit, out_token, out_count
):  # pragma: no cover - compiled
    for p in numba.prange(len(pairs)):
        a, b = pairs[p, 0], pairs[p, 1]
        n11 = n10 = n01 = n00 = 0
        for e in range(indptr[a], indptr[a + 1]):
            t = by_rank[e]
            if _holds(member, b, t):
                if n11 < limit:
                    out_token[p, 0, n11] = t
                    n11 += 1
            elif n10 < limit:
                out_token[p, 1, n10] = t
                n10 += 1
            if n11 == limit and n10 == limit:
                break
        for e in range(indptr[b], indptr[b + 1]):
            t = by_rank[e]
            if not _holds(member, a, t):
                out_token[p, 2, n01] = t
                n01 += 1
                if n01 == limit:
                    break
        for t in order:
            if not (_holds(member, a, t) | _holds(member, b, t)):
                out_token[p, 3, n00] = t
                n00 += 1
                if n00 == limit:
                    break
        out_count[p, 0], out_count[p, 1], out_count[p, 2], out_count[p, 3] = n11, n10, n01, n00


@numba.njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _pack(raw_token, ptr, doc, token_hash, token, first):  # pragma: no cover - compiled
    for g in numba.prange(len(ptr) - 1):
        start, n = ptr[g], ptr[g + 1] - ptr[g]
        group = raw_token[g // 4, g % 4, :n]
        best = -1
        for e in range(n):
            token[start + e] = group[e]
            # one token a document: the one with the smallest hash, so that position does not choose
            if best < 0 or doc[group[best]] != doc[group[e]]:
                best = e
                first[start + e] = True
            elif token_hash[group[e]] < token_hash[group[best]]:
                first[start + best] = False
                first[start + e] = True
                best = e


def sample_tokens(
    labels: LabelColumns,
    pairs: Int[np.ndarray, "pair 2"],
    doc: Int[np.ndarray, " token"],
    token_hash: UInt64[np.ndarray, " token"],
    *,
    limit: int = SAMPLE,
) -> TokenSample:
    """At most `limit` tokens a quadrant and pair, those with the smallest hash."""
    order = np.argsort(token_hash, kind="stable").astype(np.int32)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    concept = np.repeat(np.arange(labels.n_concepts), np.diff(labels.indptr))
    by_rank = labels.tokens[np.lexsort((rank[labels.tokens], concept))]
    member = np.zeros((labels.n_concepts, (labels.n_tokens + 7) // 8), np.uint8)
    for index in range(labels.n_concepts):
        row = np.zeros(labels.n_tokens, bool)
        row[labels.tokens[labels.indptr[index] : labels.indptr[index + 1]]] = True
        member[index] = np.packbits(row)
    raw_token = np.full((len(pairs), 4, limit), labels.n_tokens, np.int32)
    n_sampled = np.zeros((len(pairs), 4), np.int64)
    _sample(pairs, labels.indptr, by_rank, member, order, limit, raw_token, n_sampled)
    raw_token.sort(axis=-1)  # empty places hold a token past the last and stay behind
    ptr = np.concatenate([[0], np.cumsum(n_sampled)])
    token = np.empty(ptr[-1], np.int32)
    first = np.zeros(ptr[-1], bool)
    _pack(raw_token, ptr, doc, token_hash, token, first)
    return TokenSample(ptr, token, first, natural_counts(labels, pairs))


def natural_counts(
    labels: LabelColumns, pairs: Int[np.ndarray, "pair 2"]
) -> Int[np.ndarray, "pair quadrant"]:
    """Tokens in each quadrant of the given pairs."""
    matrix = labels.matrix().astype(np.int64)
    together = np.asarray((matrix.T @ matrix).todense())
    alone = np.diff(labels.indptr)
    n11 = together[pairs[:, 0], pairs[:, 1]]
    n10, n01 = alone[pairs[:, 0]] - n11, alone[pairs[:, 1]] - n11
    return np.stack([n11, n10, n01, labels.n_tokens - n11 - n10 - n01], axis=1)
