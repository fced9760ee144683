"""From labels to the study design: halves by document hash, testable pairs, tested pairs, the tokens they are read on.

`plan` compiles it once; passes, decision, tables and report read it, and nothing of it is planned again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from probekit.analysis.settings import Settings
from probekit.analysis.source import Half
from probekit.errors import DegenerateError, InputError, near
from probekit.evidence.blocks import Block
from probekit.evidence.contrast import N_BATCHES, ConfirmPlan
from probekit.evidence.decide import Tested
from probekit.evidence.pair_sampling import PairSampling
from probekit.evidence.spikein import holding_together, spiked_pairs
from probekit.evidence.summary import BlockSection, ConceptsSection
from probekit.probes.pairs import (
    MIN_DOCS,
    RELAY_SAMPLE,
    SAMPLE,
    LabelColumns,
    QuadrantCounts,
    TokenSample,
    all_pairs,
    count_quadrants,
    sample_tokens,
    splitmix64,
    testable_pairs,
)
from probekit.text.concepts.labels import Labels

DUPLICATE_CORRELATION = 0.95


@dataclass(frozen=True)
class LabelledTokens:
    """What a study is planned on: labels of all counted tokens, and where these tokens stand."""

    labels: LabelColumns
    """Labels of all counted tokens."""
    doc: Int[np.ndarray, " token"]
    """Document of each token, non-decreasing."""
    pos: Int[np.ndarray, " token"]
    """Position of each token in its document."""
    doc_key: UInt64[np.ndarray, " doc"]
    """Hash of each document's content; equal documents fall into the same half."""
    names: Sequence[str] = ()
    """Of the concepts; only needed for pairs asked for by name."""
    kinds: Sequence[str] = ()
    """Of the concepts; none given: all are the user's."""
    lags: Sequence[int] = ()
    """Tokens back that each concept looks; none given: all look at the token itself."""
    types: Int[np.ndarray, " token"] | None = None
    """Type of each token; needed where types are held out."""
    by_token: Sequence[bool] = ()
    """Whether each concept is decided by the one token it looks at; none given: unknown, treated as no."""

    @classmethod
    def of(
        cls, held: Labels, doc_key: UInt64[np.ndarray, " doc"], types: Int[np.ndarray, " token"] | None = None
    ) -> LabelledTokens:
        """The labels of a text.

        Args:
            held: as a set of concepts gives them.
            doc_key: hash of each document's content.
            types: type of each token.
        """
        columns = LabelColumns(held.indptr, held.tokens, held.n_tokens)
        return cls(
            columns, held.doc, held.pos, doc_key, held.names, held.kinds, held.lags, types, held.by_token
        )

    def pair_kinds(self, pairs: Int[np.ndarray, "pair 2"]) -> list[str]:
        """A word for each pair.

        Args:
            pairs: of concepts.
        """
        n = self.labels.n_concepts
        return pair_kinds(self.kinds or ["user"] * n, self.lags or [0] * n, pairs, self.by_token)


@dataclass(frozen=True)
class HalfPlan:
    """One half of the documents: its labels, documents and sampled tokens."""

    half: Half
    """Which half."""
    labels: LabelColumns
    """Labels of its tokens."""
    doc_key: UInt64[np.ndarray, " token"]
    """Hash of each token's document."""
    docs: Int[np.ndarray, " doc"]
    """Its documents, in order."""
    rows: Int[np.ndarray, " token"]
    """Its tokens among all that are counted, in order; with held-out types only those of the half's own types."""
    sample: TokenSample
    """Sampled tokens of each pair."""
    relay_sample: TokenSample | None = None
    """Fewer of them, on which relays are removed; None where no null layer is measured."""

    def of_pairs(self, chosen: Int[np.ndarray, " chosen"]) -> HalfPlan:
        """The same half for some of the pairs."""
        relay = None if self.relay_sample is None else self.relay_sample.take(chosen)
        return replace(self, sample=self.sample.take(chosen), relay_sample=relay)


@dataclass(frozen=True)
class StudyDesign:
    """What is measured, the same for every layer, with what the report says about how its pairs came about."""

    settings: Settings
    """Twins, controls, spikes, level and seed among them."""
    pairs: Int[np.ndarray, "pair 2"]
    """Tested pairs."""
    fit: HalfPlan
    """The half the readouts are fitted on."""
    confirm: HalfPlan
    """The half they are judged on."""
    n_testable: int
    """Testable pairs, before sampling."""
    excluded: dict[str, int]
    """Untestable pairs by reason."""
    refused: tuple[str, ...]
    """Of pairs asked for by name, those that cannot be tested, and why."""
    inclusion: Float[np.ndarray, " pair"]
    """Probability with which each tested pair was taken."""
    block: Block | None
    """How they were drawn, where only some of the concepts were; a total over all testable pairs needs it."""
    pair_sampling: PairSampling
    """How they were chosen."""
    duplicate_of: Int[np.ndarray, " concept"]
    """Representative of each concept; duplicates share one."""

    @property
    def halves(self) -> tuple[HalfPlan, HalfPlan]:
        """The fit half and the confirm half."""
        return self.fit, self.confirm

    @property
    def docs(self) -> dict[Half, Int[np.ndarray, " doc"]]:
        """Documents of each half."""
        return {half.half: half.docs for half in self.halves}

    @property
    def rows(self) -> dict[Half, Int[np.ndarray, " token"]]:
        """Tokens of each half."""
        return {half.half: half.rows for half in self.halves}

    @cached_property
    def confirm_plan(self) -> ConfirmPlan:
        """Batches of the confirm half."""
        return ConfirmPlan.of(self.confirm.sample, batches_of(self.confirm.doc_key))

    @cached_property
    def tested(self) -> Tested:
        """What the decision needs."""
        return Tested(
            self.pairs,
            self.confirm.labels.n_concepts,
            self.confirm.sample.n_natural[:, 0],
            self.settings.q,
            self.settings.fdr,
        )

    @cached_property
    def spiked_at(self) -> Int[np.ndarray, " spike"]:
        """Places of the spiked pairs, the same in every layer."""
        return spiked_pairs(len(self.pairs), np.random.default_rng([self.settings.seed, 9]))

    @cached_property
    def spiked(self) -> StudyDesign:
        """The design of the spiked pairs alone."""
        return self.with_settings(spikes=()).of_pairs(self.spiked_at)

    @cached_property
    def spiked_together(self) -> Int[np.ndarray, "concept_and_spike spike"]:
        """Tokens of the fit half on which each concept, and each spiked pair, holds together with each spiked pair."""
        return holding_together(self.fit.labels, self.pairs[self.spiked_at])

    def of_pairs(self, chosen: Int[np.ndarray, " chosen"]) -> StudyDesign:
        """The same design for some of the pairs."""
        return replace(
            self,
            pairs=self.pairs[chosen],
            fit=self.fit.of_pairs(chosen),
            confirm=self.confirm.of_pairs(chosen),
            inclusion=self.inclusion[chosen],
        )

    def with_settings(self, **changed: Any) -> StudyDesign:
        """The same pairs, halves and tokens, with other twins, controls, spikes, level or seed of the twins.

        Args:
            changed: fields of `Settings`. Those that chose pairs, halves or tokens choose nothing any more.
        """
        return replace(self, settings=replace(self.settings, **changed))


def is_fit(doc_key: UInt64[np.ndarray, " doc"], seed: int) -> np.ndarray:
    """Whether each document belongs to the fit half, by a hash of its key and the seed."""
    return (splitmix64(doc_key ^ splitmix64(np.array([seed], np.uint64))) & np.uint64(1)) == 0


def batches_of(doc_key: UInt64[np.ndarray, " token"]) -> Int[np.ndarray, " token"]:
    """Batch of each token's document in the confirm half, by shifted bits: the low ones already chose the half."""
    return (splitmix64(doc_key >> np.uint64(1)) % np.uint64(N_BATCHES)).astype(np.int64)


def is_confirm_type(types: Int[np.ndarray, " token"], seed: int) -> np.ndarray:
    """Whether each token's type is one that readouts are judged on, by a hash of the type and the seed.

    Args:
        types: of each token, such as its id in the vocabulary.
        seed: as for documents.
    """
    own = splitmix64(
        np.array([seed], np.uint64) + np.uint64(1)
    )  # documents are split by the hash of the seed itself
    return (splitmix64(types.astype(np.uint64) ^ own) & np.uint64(1)) == 1


def plan(
    tokens: LabelledTokens, settings: Settings, pair_sampling: PairSampling | None = None
) -> StudyDesign:
    """Split, count, choose and sample.

    Args:
        tokens: what is labelled. Where types are held out, only tokens of one half of the types are used of the fit half,
            of the confirm half only those of the other.
        settings: the science settings.
        pair_sampling: which testable pairs are tested; None for the default rule.

    Raises:
        InputError: a pair or kind of pair asked for does not exist.
        DegenerateError: no pair is testable, or one half has no document.
    """
    pair_sampling = pair_sampling or PairSampling()
    labels, doc = tokens.labels, tokens.doc
    fit_doc = is_fit(tokens.doc_key, settings.seed)
    masks = _halves(fit_doc[doc], settings, tokens.types)
    parts = {half: labels.take(mask) for half, mask in masks.items()}
    counts: dict[Half, QuadrantCounts] = {
        half: count_quadrants(parts[half], doc[mask]) for half, mask in masks.items()
    }
    wanted = None if pair_sampling.named is None else _indices(pair_sampling.named, tokens.names)
    index, excluded, refused = _testable(counts, tokens, settings, wanted)
    concepts = all_pairs(labels.n_concepts)
    index = index[pair_sampling.within(tokens.pair_kinds(concepts[index]))]
    drawn = pair_sampling.draw(
        tokens.pair_kinds(concepts[index]),
        np.minimum(counts["fit"].n_tokens[index].min(1), counts["confirm"].n_tokens[index].min(1)),
        concepts[index],
        settings.max_pairs,
        np.random.default_rng([settings.seed, 7]),
    )
    pairs = concepts[index[drawn.index]]
    docs: dict[Half, np.ndarray] = {"fit": np.flatnonzero(fit_doc), "confirm": np.flatnonzero(~fit_doc)}
    return StudyDesign(
        settings=settings,
        pairs=pairs,
        fit=_half_plan("fit", parts["fit"], docs["fit"], masks["fit"], tokens, pairs),
        confirm=_half_plan("confirm", parts["confirm"], docs["confirm"], masks["confirm"], tokens, pairs),
        n_testable=len(index),
        excluded=excluded,
        refused=refused,
        inclusion=drawn.inclusion,
        block=drawn.block,
        pair_sampling=pair_sampling,
        duplicate_of=duplicates(labels),
    )


def _halves(
    in_fit_doc: Bool[np.ndarray, " token"], settings: Settings, types: Int[np.ndarray, " token"] | None
) -> dict[Half, np.ndarray]:
    """The tokens of each half; with held-out types those of the other half's types are in neither."""
    if not settings.heldout_types:
        return {"fit": in_fit_doc, "confirm": ~in_fit_doc}
    assert types is not None
    to_confirm = is_confirm_type(types, settings.seed)
    return {"fit": in_fit_doc & ~to_confirm, "confirm": ~in_fit_doc & to_confirm}


def _half_plan(
    half: Half,
    labels: LabelColumns,
    docs: np.ndarray,
    mask: np.ndarray,
    tokens: LabelledTokens,
    pairs: np.ndarray,
) -> HalfPlan:
    """The tokens of one half on which each pair is read, sampled by a hash of document and position."""
    doc = tokens.doc[mask]
    key = tokens.doc_key[doc]
    token_hash = splitmix64(key ^ splitmix64(tokens.pos[mask].astype(np.uint64)))
    sampled = [sample_tokens(labels, pairs, doc, token_hash, limit=limit) for limit in (SAMPLE, RELAY_SAMPLE)]
    return HalfPlan(half, labels, key, docs, np.flatnonzero(mask), *sampled)


def _indices(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> np.ndarray:
    place = {name: index for index, name in enumerate(names)}
    unknown = sorted({name for pair in pairs for name in pair if name not in place})
    if unknown:
        close = near(unknown[0], names, 3) or names[:3]
        raise InputError(
            f"pairs: {unknown[0]!r} is none of the {len(names)} concepts (such as {', '.join(map(repr, close))}); "
            "run.pairs() and Concepts.names list them."
        )
    same = [a for a, b in pairs if a == b]
    if same or not pairs:
        raise InputError(
            f"pairs: {'a concept with itself: ' + repr(same[0]) if same else 'the list is empty'}."
        )
    return np.array([[place[a], place[b]] for a, b in pairs], np.int64)


def _testable(
    counts: dict[Half, QuadrantCounts],
    concepts: LabelledTokens,
    settings: Settings,
    chosen: np.ndarray | None,
) -> tuple[np.ndarray, dict[str, int], tuple[str, ...]]:
    n = concepts.labels.n_concepts
    found = testable_pairs(counts["fit"], counts["confirm"], min_support=settings.min_support)
    index, refused = found.index, tuple[str, ...]()
    if chosen is not None:
        low, high = np.sort(chosen, axis=1).T
        wanted = low * n - low * (low + 1) // 2 + high - low - 1
        missing = np.setdiff1d(wanted, index)
        refused = tuple(_why_not(int(place), counts, concepts, settings) for place in missing)
        index = np.intersect1d(index, wanted)
    if not len(index):
        raise DegenerateError(_no_pair(counts, concepts, settings, found.excluded, refused))
    return index, found.excluded, refused


def _no_pair(
    counts: dict[Half, QuadrantCounts],
    concepts: LabelledTokens,
    settings: Settings,
    excluded: dict[str, int],
    refused: tuple[str, ...],
) -> str:
    """Why there is nothing to test, and what helps: of the pairs asked for, or of all."""
    n = concepts.labels.n_concepts
    emptiest = np.minimum(*(half.n_tokens.min(1) for half in counts.values()))
    of, beside, told = f"of {len(refused):,} pair{'s' * (len(refused) != 1)} asked for", "", refused[:3]
    if not refused:
        of = f"of {n * (n - 1) // 2:,} pairs of concepts"
        reasons = ", ".join(f"{held:,} {reason}" for reason, held in excluded.items() if held)
        best = f"the best pair's emptiest quadrant holds {int(emptiest.max(initial=0)):,}"
        beside = f" ({reasons or 'no pair asked for'}; {best})"
        told = (_why_not(int(emptiest.argmax()), counts, concepts, settings),) if len(emptiest) else ()
    helps = "Raise max_tokens, use a longer corpus or broader concepts, or lower min_support."
    held = np.concatenate([half.n_tokens for half in counts.values()])
    if held[:, 1:3].any() and not held[:, 0].any():
        helps = (
            "No two of these concepts ever hold at the same token, as no token is two words. Give concepts that can: "
            "Concepts.from_words(words, lags=(0, 1)) has the words of the token before as well."
        )
    return (
        f"No testable pair: {of} none has {settings.min_support} tokens from {MIN_DOCS} documents in every quadrant of both "
        f"halves{beside}. " + "".join(f"{reason}. " for reason in told) + helps
    )


_QUADRANTS = ("with both", "with the first alone", "with the second alone", "with neither")


def _why_not(
    place: int, counts: dict[Half, QuadrantCounts], concepts: LabelledTokens, settings: Settings
) -> str:
    """Which quadrant of a pair is the emptiest, and what that means where that is clear."""
    a, b = all_pairs(concepts.labels.n_concepts)[place].tolist()
    name_a, name_b = (concepts.names[c] if len(concepts.names) else f"concept {c}" for c in (a, b))
    pair = f"{name_a!r} ∧ {name_b!r}"
    tokens = {half: held.n_tokens[place] for half, held in counts.items()}
    half = min(tokens, key=lambda name: int(tokens[name].min()))
    quadrant = int(tokens[half].argmin())
    n = int(tokens[half][quadrant])
    if n >= settings.min_support:
        return f"{pair}: a quadrant whose tokens come from fewer than {MIN_DOCS} documents"
    told = f"{pair}: {n:,} tokens {_QUADRANTS[quadrant]} in the {half} half"
    never = not any(int(held[0]) for held in tokens.values())
    if never and concepts.kinds and concepts.kinds[a] == concepts.kinds[b] == "document":
        told += (
            " (a document has one value of a column, so two values of one never meet: pair each with concepts of the "
            "text, such as the defaults)"
        )
    return told


def duplicates(labels: LabelColumns) -> Int[np.ndarray, " concept"]:
    """Representative of each concept: the first whose labels correlate above 0.95 with it, through any chain."""
    matrix = labels.matrix().astype(np.int64)
    together = np.asarray((matrix.T @ matrix).todense()).astype(float)
    n, size = float(labels.n_tokens), together.diagonal()
    covariance = together / n - np.outer(size, size) / n**2
    spread = np.sqrt(np.maximum(covariance.diagonal(), 0.0))
    scale = np.outer(spread, spread)
    correlation = np.where(scale > 0, covariance / np.where(scale > 0, scale, 1.0), 0.0)
    representative = np.arange(labels.n_concepts)
    for a, b in zip(*np.nonzero(np.triu(correlation > DUPLICATE_CORRELATION, 1)), strict=True):
        low, high = sorted((representative[a], representative[b]))
        representative[representative == high] = low
    return representative


def complements(labels: LabelColumns) -> list[tuple[int, int]]:
    """Pairs of concepts of which one holds exactly where the other does not, such as the two values of a column."""
    size = np.diff(labels.indptr)
    members: dict[int, list[int]] = {}
    for concept, n_tokens in enumerate(size.tolist()):
        members.setdefault(n_tokens, []).append(concept)
    likely = [
        (a, b)
        for a, n_tokens in enumerate(size.tolist())
        for b in members.get(labels.n_tokens - n_tokens, [])
        if a < b
    ]
    if not likely:
        return []
    first, second = (labels.matrix()[:, [pair[side] for pair in likely]] for side in (0, 1))
    together = np.asarray(first.multiply(second).sum(0)).ravel()
    return [pair for pair, n_both in zip(likely, together.tolist(), strict=True) if n_both == 0]


def pair_kinds(
    kinds: Sequence[str],
    lags: Sequence[int],
    pairs: Int[np.ndarray, "pair 2"],
    by_token: Sequence[bool] = (),
) -> list[str]:
    """A word for each pair: the kinds of its concepts, and how far apart they look.

    Two sets of token types, looked up at one token, meet in a set of token types again. That is linear in the token's
    embedding, so such a pair, "same token", is not one of two concepts that merely hold at the same position.

    Args:
        kinds: of the concepts.
        lags: tokens back that each concept looks.
        pairs: of concepts.
        by_token: whether each concept is decided by the one token it looks at; none given: unknown, treated as no.
    """
    words: list[str] = []
    by_token = by_token or [False] * len(kinds)
    for row in pairs.tolist():
        a, b = int(row[0]), int(row[1])
        left, right = sorted((kinds[a], kinds[b]))
        reach = abs(lags[a] - lags[b])
        near = "same token" if by_token[a] and by_token[b] else "same position"
        words.append(f"{left} × {right}, " + (f"lag {reach}" if reach else near))
    return words


def counts_of(design: StudyDesign) -> ConceptsSection:
    """The `concepts` section of summary.json."""
    n = design.confirm.labels.n_concepts
    return {
        "n": n,
        "n_pairs": n * (n - 1) // 2,
        "n_testable": design.n_testable,
        "n_tested": len(design.pairs),
        "untestable": design.excluded,
        "choice": design.pair_sampling.record() or [design.pair_sampling.rule],
        "block": None
        if design.block is None
        else BlockSection(**asdict(design.block), inclusion=design.block.inclusion),
    }
