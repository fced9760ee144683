"""Labels as columns, counts against brute force, the token sample as a set fixed by its hash."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from probekit.probes import pairs as pairing
from probekit.probes.pairs import LabelColumns, QuadrantCounts, all_pairs, count_quadrants, sample_tokens

labellings = st.tuples(st.integers(0, 40), st.integers(1, 6)).flatmap(lambda shape: arrays(bool, shape))


def dense(columns: LabelColumns) -> np.ndarray:
    out = np.zeros((columns.n_tokens, columns.n_concepts), bool)
    for concept in range(columns.n_concepts):
        out[columns.tokens[columns.indptr[concept] : columns.indptr[concept + 1]], concept] = True
    return out


def quadrants(labels: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Quadrant of every token and pair, [token pair]."""
    a, b = labels[:, pairs[:, 0]], labels[:, pairs[:, 1]]
    return np.where(a, np.where(b, 0, 1), np.where(b, 2, 3))


@settings(max_examples=60, deadline=None)
@given(labels=labellings, data=st.data())
def test_columns_are_dense_algebra(labels: np.ndarray, data: st.DataObject) -> None:
    columns = LabelColumns.from_dense(labels)
    np.testing.assert_array_equal(dense(columns), labels)
    np.testing.assert_array_equal(columns.matrix().toarray(), labels)
    kept = data.draw(arrays(bool, len(labels)))
    np.testing.assert_array_equal(dense(columns.take(kept)), labels[kept])
    start = data.draw(st.integers(0, len(labels)))
    stop = data.draw(st.integers(start, len(labels)))
    np.testing.assert_array_equal(dense(columns.between(start, stop)), labels[start:stop])
    for part in (columns, columns.take(kept), columns.between(start, stop)):
        for concept in range(part.n_concepts):
            assert (np.diff(part.tokens[part.indptr[concept] : part.indptr[concept + 1]]) > 0).all()


@settings(max_examples=30, deadline=None)
@given(labels=labellings, data=st.data())
def test_counts_are_brute_force(labels: np.ndarray, data: st.DataObject) -> None:
    doc = np.sort(data.draw(arrays(np.int64, len(labels), elements=st.integers(0, 5))))
    counts = count_quadrants(LabelColumns.from_dense(labels), doc)
    pairs = all_pairs(labels.shape[1])
    quadrant = quadrants(labels, pairs)
    for q in range(4):
        inside = quadrant == q
        np.testing.assert_array_equal(counts.n_tokens[:, q], inside.sum(0))
        n_docs = [len(np.unique(doc[inside[:, p]])) for p in range(len(pairs))]
        np.testing.assert_array_equal(counts.n_docs[:, q], n_docs)
    natural = pairing.natural_counts(LabelColumns.from_dense(labels), pairs)
    np.testing.assert_array_equal(natural, counts.n_tokens)


def counts_of(n_tokens: list[int], n_docs: list[int] | None = None) -> QuadrantCounts:
    docs = [100, 100, 100, 100] if n_docs is None else n_docs
    return QuadrantCounts(np.array([n_tokens]), np.array([docs]))


PLENTY = counts_of([500, 500, 500, 500])
RARE = counts_of([5, 100, 100, 9_000])
EXCLUSIVE = counts_of([5, 1_000, 1_000, 1_000])
NESTED = counts_of([500, 5, 500, 500])
EVERYWHERE = counts_of([500, 500, 500, 5])
FEW = counts_of([500, 500, 500, 500], [100, 3, 100, 100])


@pytest.mark.parametrize(
    ("fit", "confirm", "reason"),
    [
        (PLENTY, PLENTY, None),
        (RARE, PLENTY, "rare"),
        (EXCLUSIVE, PLENTY, "exclusive"),
        (NESTED, PLENTY, "nested"),
        (EVERYWHERE, PLENTY, "nested"),
        (FEW, PLENTY, "few documents"),
        (EXCLUSIVE, RARE, "rare"),
        (NESTED, EXCLUSIVE, "exclusive"),
        (FEW, NESTED, "nested"),
    ],
)
def test_reason_is_the_first_that_applies_in_either_half(
    fit: QuadrantCounts, confirm: QuadrantCounts, reason: str | None
) -> None:
    for one, other in ((fit, confirm), (confirm, fit)):
        found = pairing.testable_pairs(one, other, min_support=60)
        assert len(found.index) == (reason is None)
        assert {name for name, n in found.excluded.items() if n} == ({reason} - {None})


def test_reasons_partition_the_untestable() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        share = rng.choice([0.01, 0.1, 0.5, 0.95], 12)
        halves = []
        for _ in range(2):
            labels = rng.random((3_000, 12)) < share
            labels[:, 1] &= labels[:, 2]  # nested
            labels[:, 3] &= ~labels[:, 4]  # exclusive
            doc = np.sort(rng.integers(0, 60, 3_000))
            halves.append(count_quadrants(LabelColumns.from_dense(labels), doc))
        found = pairing.testable_pairs(*halves, min_support=60)
        assert tuple(found.excluded) == pairing.REASONS
        assert len(found.index) + sum(found.excluded.values()) == 66
        enough = np.all([((h.n_tokens >= 60) & (h.n_docs >= 20)).all(1) for h in halves], axis=0)
        np.testing.assert_array_equal(found.index, np.flatnonzero(enough))


def stream(seed: int = 0, n_tokens: int = 4_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, documents, and a hash of (document, position)."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n_tokens, 4)) < [0.5, 0.3, 0.1, 0.02]
    doc = np.sort(rng.integers(0, 50, n_tokens))
    pos = np.arange(n_tokens) - np.searchsorted(doc, doc)
    key = pairing.splitmix64(doc.astype(np.uint64)) + pos.astype(np.uint64)
    return labels, doc, pairing.splitmix64(key)


def groups(sample: pairing.TokenSample) -> list[np.ndarray]:
    return [sample.token[a:b] for a, b in zip(sample.ptr[:-1], sample.ptr[1:], strict=True)]


@pytest.mark.parametrize("limit", [1, 37, 10_000])
def test_the_sample_is_the_tokens_of_smallest_hash(limit: int) -> None:
    labels, doc, token_hash = stream()
    pairs = all_pairs(4)
    sample = sample_tokens(LabelColumns.from_dense(labels), pairs, doc, token_hash, limit=limit)
    quadrant = quadrants(labels, pairs)
    assert sample.n_pairs == 6
    for group, tokens in enumerate(groups(sample)):
        inside = np.flatnonzero(quadrant[:, group // 4] == group % 4)
        smallest = inside[np.argsort(token_hash[inside])][:limit]
        np.testing.assert_array_equal(tokens, np.sort(smallest))
        assert sample.n_natural[group // 4, group % 4] == len(inside)
        assert sample.n_sampled[group // 4, group % 4] == min(limit, len(inside))
    assert (sample.n_sampled <= limit).all()


def test_no_quadrant_is_read_on_more_than_two_thousand_tokens() -> None:
    labels, doc, token_hash = stream(n_tokens=12_000)
    sample = sample_tokens(LabelColumns.from_dense(labels), all_pairs(4), doc, token_hash)
    assert sample.n_sampled.max() == pairing.SAMPLE == 2_000
    np.testing.assert_array_equal(sample.n_sampled, np.minimum(sample.n_natural, 2_000))


def test_the_sample_does_not_depend_on_the_order_of_documents() -> None:
    labels, doc, token_hash = stream()
    order = np.random.default_rng(1).permutation(50)
    rows = np.concatenate([np.flatnonzero(doc == d) for d in order])
    there = sample_tokens(LabelColumns.from_dense(labels), all_pairs(4), doc, token_hash, limit=60)
    moved = sample_tokens(
        LabelColumns.from_dense(labels[rows]), all_pairs(4), doc[rows], token_hash[rows], limit=60
    )
    for here, away in zip(groups(there), groups(moved), strict=True):
        np.testing.assert_array_equal(here, np.sort(rows[away]))
    first_there = set(zip(np.repeat(np.arange(24), np.diff(there.ptr))[there.first_of_doc].tolist(),
                          there.token[there.first_of_doc].tolist(), strict=True))  # fmt: skip
    first_moved = set(zip(np.repeat(np.arange(24), np.diff(moved.ptr))[moved.first_of_doc].tolist(),
                          rows[moved.token[moved.first_of_doc]].tolist(), strict=True))  # fmt: skip
    assert first_there == first_moved
    # positive control: another hash chooses other tokens
    other = sample_tokens(
        LabelColumns.from_dense(labels), all_pairs(4), doc, pairing.splitmix64(token_hash), limit=60
    )
    assert not all(np.array_equal(a, b) for a, b in zip(groups(there), groups(other), strict=True))


@pytest.mark.parametrize("limit", [25, 10_000])
def test_one_token_of_each_document_and_quadrant_is_its_first(limit: int) -> None:
    labels, doc, token_hash = stream()
    pairs = all_pairs(4)
    sample = sample_tokens(LabelColumns.from_dense(labels), pairs, doc, token_hash, limit=limit)
    quadrant = quadrants(labels, pairs)
    group = np.repeat(np.arange(4 * len(pairs)), np.diff(sample.ptr))
    for g in range(4 * len(pairs)):
        tokens = sample.token[group == g]
        first = tokens[sample.first_of_doc[group == g]]
        np.testing.assert_array_equal(np.unique(doc[tokens]), np.sort(doc[first]))
        for token in first:  # and it is the document's smallest hash in the whole quadrant, sampled or not
            rivals = np.flatnonzero((doc == doc[token]) & (quadrant[:, g // 4] == g % 4))
            assert token == rivals[np.argmin(token_hash[rivals])]


def test_between_gives_the_entries_of_a_range() -> None:
    labels, doc, token_hash = stream()
    sample = sample_tokens(LabelColumns.from_dense(labels), all_pairs(4), doc, token_hash, limit=50)
    group = np.repeat(np.arange(24), np.diff(sample.ptr))
    for start, stop in ((0, 4_000), (0, 0), (123, 1_777), (3_999, 4_000), (5_000, 6_000)):
        low, high = sample.between(start, stop)
        inside = (sample.token >= start) & (sample.token < stop)
        np.testing.assert_array_equal(high - low, np.bincount(group[inside], minlength=24))
        held = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)])
        np.testing.assert_array_equal(held, np.flatnonzero(inside))


def test_the_hash_is_the_published_one_and_mixes() -> None:
    # first outputs of SplitMix64 seeded with 0 (state 0, γ, 2γ)
    gamma = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        states = np.arange(3, dtype=np.uint64) * gamma
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    np.testing.assert_array_equal(pairing.splitmix64(states), np.array(expected, np.uint64))
    keys = pairing.splitmix64(np.arange(100_000, dtype=np.uint64))
    assert len(np.unique(keys)) == 100_000
    # one half of 100,000 fair bits, ± 5 sd
    ones = np.array([((keys >> np.uint64(bit)) & np.uint64(1)).sum() for bit in range(64)])
    assert np.abs(ones.astype(float) - 50_000).max() < 5 * np.sqrt(100_000) / 2


def test_a_part_of_a_sample_is_the_sample_of_the_part() -> None:
    rng = np.random.default_rng(5)
    columns = LabelColumns.from_dense(rng.random((400, 6)) < 0.4)
    doc, token_hash = np.arange(400) // 20, pairing.splitmix64(np.arange(400, dtype=np.uint64))
    pairs = all_pairs(6)
    whole = sample_tokens(columns, pairs, doc, token_hash, limit=25)
    for at in (np.array([0, 3, 14]), np.array([7]), np.array([], np.int64)):
        part, alone = whole.take(at), sample_tokens(columns, pairs[at], doc, token_hash, limit=25)
        for name in ("ptr", "token", "first_of_doc", "n_natural"):
            np.testing.assert_array_equal(getattr(part, name), getattr(alone, name))


def test_dense_labels_are_the_labels() -> None:
    labels = np.random.default_rng(6).random((50, 4)) < 0.3
    np.testing.assert_array_equal(LabelColumns.from_dense(labels).dense(), labels.astype(np.float32))
