"""Shared moments: one pass over the activations serves every probe.

From G = Σ x xᵀ, the sums over each concept and over each pair's quadrant 11, and exact counts, follow every
least-squares readout, every quadrant mean and every document-fold error, for any number of pairs and at a
cost that does not depend on the number of tokens. Rows are shifted by a fixed vector (the mean of the first
tile) before fp32 products are summed in fp64: the shift buys two digits, the accumulator alone none. The fold
algebra is that of Engstrøm (arXiv 2401.13185).
Axes: token neuron concept pair fold segment, where segments are the pairs followed by the concepts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Integer

from probekit.errors import DegenerateError, InputError, NonFiniteError, ShapeError, guarded, shown
from probekit.probes.device import DeviceSums
from probekit.probes.lists import TokenLists, token_lists
from probekit.probes.pairs import LabelColumns, all_pairs, splitmix64
from probekit.probes.sums import ListSums
from probekit.probes.tiles import TILE, add_gram, column_sums, mirrored
from probekit.probes.workers import start_workers

Array = np.ndarray | torch.Tensor
Pairs = np.ndarray | torch.Tensor | Sequence[tuple[int, int]]
NOTHING_SEEN = "Moments: no token has been seen; call update with at least one block first."


@dataclass(frozen=True)
class FrozenMoments:
    """What a stream left behind, about its own mean."""

    n_tokens: int
    """Tokens seen."""
    mean: Float[np.ndarray, " neuron"]
    """Mean activation."""
    gram: Float[np.ndarray, "neuron neuron"]
    """Σ (x − mean)(x − mean)ᵀ, fp64."""
    concept_sums: Float[np.ndarray, "concept neuron"]
    """Σ (x − mean) over each concept's tokens."""
    pair_sums: Float[np.ndarray, "pair neuron"]
    """Σ (x − mean) over each pair's quadrant 11."""
    n_concept: Int[np.ndarray, " concept"]
    """Tokens of each concept."""
    n_pair: Int[np.ndarray, " pair"]
    """Tokens in each pair's quadrant 11."""
    pairs: Int[np.ndarray, "pair 2"]
    """Concept indices of each pair."""

    def partialled(self) -> tuple[np.ndarray, ...]:
        """Coefficients that take 1, A and B out of the neurons and of the AND target (Frisch–Waugh).

        A concept that holds on no token or on all, and a B that A determines, have nothing to take out: their
        unit is 0. (It happens in a document fold, and to whoever asks for such a pair.)

        Returns:
            (a_unit, b_unit, b_on_a, y_on_a, y_on_b), each [pair]: with S the concept sums, v1 = S_A·a_unit,
            v2 = (S_B − b_on_a·S_A)·b_unit are the unit directions of A and of B beyond A, and the residual of
            the AND target's cross-moment is C − y_on_a·v1 − y_on_b·v2.
        """
        n = float(self.n_tokens)
        n_a, n_b = (self.n_concept[self.pairs[:, side]].astype(float) for side in (0, 1))
        n_ab = self.n_pair.astype(float)
        s_aa, s_ab, s_bb = n_a * (1 - n_a / n), n_ab - n_a * n_b / n, n_b * (1 - n_b / n)
        a_unit = _inverse_root(s_aa)
        b_on_a = s_ab * a_unit**2
        b_unit = _inverse_root(s_bb - s_ab * b_on_a)
        y_a, y_b = n_ab * (1 - n_a / n), n_ab * (1 - n_b / n)
        return a_unit, b_unit, b_on_a, y_a * a_unit, (y_b - b_on_a * y_a) * b_unit

    def n_quadrant(self) -> Int[np.ndarray, "pair quadrant"]:
        """Tokens in each quadrant."""
        n_a, n_b = (self.n_concept[self.pairs[:, side]] for side in (0, 1))
        n_ab = self.n_pair
        return np.stack([n_ab, n_a - n_ab, n_b - n_ab, self.n_tokens - n_a - n_b + n_ab], axis=1)

    def has_interaction(self) -> Bool[np.ndarray, " pair"]:
        """Whether A∧B is more than a sum of functions of A and of B here: every quadrant holds a token."""
        return self.n_quadrant().min(1) > 0


def affine_image(
    moments: FrozenMoments, weight: Float[torch.Tensor, "half neuron"], bias: Float[torch.Tensor, " half"]
) -> FrozenMoments:
    """The moments of x Wᵀ + b from those of x, exactly and without its rows.

    Args:
        moments: of x.
        weight: W, on whatever device; the products run there, in fp64.
        bias: b.
    """
    w = weight.double()

    def image(of_x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(of_x).to(w.device) @ w.T

    return replace(
        moments,
        mean=(image(moments.mean) + bias.double()).cpu().numpy(),
        gram=(w @ image(moments.gram)).cpu().numpy(),
        concept_sums=image(moments.concept_sums).cpu().numpy(),
        pair_sums=image(moments.pair_sums).cpu().numpy(),
    )


def _added(parts: np.ndarray, chosen: Bool[np.ndarray, " fold"]) -> np.ndarray:
    """Sum over the chosen folds, in order, one after the other: indexing would copy all of them first."""
    first, *rest = np.flatnonzero(chosen)
    total = parts[first].copy()
    for fold in rest:
        total += parts[fold]
    return total


def _inverse_root(squares: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
    # a 0/1 column that varies within a group has a sum of squares of at least ½ there: below ¼ is rounding
    held = squares > 0.25
    return np.where(held, 1 / np.sqrt(np.where(held, squares, 1.0)), 0.0)


MOST = 10_000_000
"""More neurons, concepts or folds than this are a mistake."""


class Moments:
    """Streams activations and labels into moments; `finalize` ends it.

    Args:
        n_neurons: columns of the activations.
        n_concepts: columns of the labels.
        pairs: concept pairs whose sums are kept; None keeps all of them.
        n_folds: document folds kept apart, for errors on documents a fit has not seen.
    """

    @guarded
    def __init__(
        self,
        n_neurons: int,
        n_concepts: int,
        *,
        pairs: Pairs | None = None,
        n_folds: int = 1,
    ) -> None:
        if not (1 <= n_neurons <= MOST and 2 <= n_concepts <= MOST and 1 <= n_folds <= MOST):
            raise InputError(
                f"Moments: got n_neurons={shown(n_neurons)}, n_concepts={shown(n_concepts)}, n_folds={shown(n_folds)}; "
                f"wanted at least one neuron, two concepts and one fold, and at most {MOST:,} of each."
            )
        start_workers()
        self.pairs = all_pairs(n_concepts) if pairs is None else as_pairs(pairs)
        wrong = ((self.pairs < 0) | (self.pairs >= n_concepts)).any(1)
        wrong |= self.pairs[:, 0] == self.pairs[:, 1]
        if wrong.any():
            raise InputError(
                f"Moments: got pair {tuple(self.pairs[wrong][0].tolist())}; wanted two different concepts from "
                f"0 to {n_concepts - 1}."
            )
        n_segments = len(self.pairs) + n_concepts
        self.n_neurons, self.n_concepts, self.n_folds = n_neurons, n_concepts, n_folds
        self._shift: torch.Tensor | None = None
        self._there: DeviceSums | None = None
        self._gram = np.zeros((n_folds, n_neurons, n_neurons))
        self._total = np.zeros((n_folds, n_neurons))
        self._sums = ListSums(n_folds, n_segments, n_neurons)
        self._n_tokens = np.zeros(n_folds, np.int64)
        self._n_segment = np.zeros((n_folds, n_segments), np.int64)
        self._rows: list[torch.Tensor] = []
        self._labels: list[np.ndarray] = []
        self._docs: list[np.ndarray] = []
        self._n_waiting = 0

    def __repr__(self) -> str:
        """Its sizes, and the tokens summed so far."""
        folds = f", {self.n_folds} folds" if self.n_folds > 1 else ""
        return (
            f"Moments({self.n_neurons} neurons, {self.n_concepts} concepts, {len(self.pairs):,} pairs{folds}, "
            f"{int(self._n_tokens.sum()) + self._n_waiting:,} tokens)"
        )

    @guarded
    def update(self, activations: Array, labels: Array, docs: Array) -> None:
        """Add a block of any length.

        Args:
            activations: Float[token neuron].
            labels: Bool[token concept].
            docs: Int[token], the document of each token.

        Raises:
            ShapeError: an axis does not fit.
            InputError: labels are not booleans, or documents not whole numbers.
            NonFiniteError: an activation is NaN or infinite.
        """
        rows = torch.as_tensor(activations).detach().to("cpu", torch.float32)
        truth = np.asarray(torch.as_tensor(labels).detach().cpu())
        doc = np.asarray(torch.as_tensor(docs).detach().cpu())
        wanted = f"activations [token, {self.n_neurons}], labels [token, {self.n_concepts}], docs [token]"
        if (
            rows.ndim != 2
            or rows.shape[1] != self.n_neurons
            or truth.shape != (len(rows), self.n_concepts)
            or doc.shape != (len(rows),)
        ):
            got = f"{tuple(rows.shape)}, {truth.shape} and {doc.shape}"
            raise ShapeError(
                f"Moments.update: got shapes {got}; wanted {wanted}, equally many tokens in each."
            )
        if truth.dtype != bool and not np.isin(truth, (0, 1)).all():
            raise InputError(
                f"Moments.update: got labels other than 0 and 1 (dtype {truth.dtype}); wanted booleans."
            )
        if doc.dtype.kind not in "iu":
            raise InputError(
                f"Moments.update: got docs of dtype {doc.dtype}; wanted a whole number for each token."
            )
        require_finite(rows, "activations")
        truth = truth.astype(bool)
        start = 0
        while start < len(rows):
            stop = start + TILE - self._n_waiting
            # copies: what waits for its tile to fill must not follow a buffer the caller uses again
            self._rows.append(rows[start:stop].clone())
            self._labels.append(truth[start:stop].copy())
            self._docs.append(doc[start:stop].copy())
            self._n_waiting += len(self._rows[-1])
            start = stop
            if self._n_waiting == TILE:
                self._flush()

    def _flush(self) -> None:
        columns = LabelColumns.from_dense(np.concatenate(self._labels))
        fold = fold_of(np.concatenate(self._docs), self.n_folds)
        self.add_tile(torch.cat(self._rows), token_lists(columns, self.pairs, fold, self.n_folds))
        self._rows, self._labels, self._docs = [], [], []
        self._n_waiting = 0

    def add_tile(self, rows: Float32[torch.Tensor, "token neuron"], lists: TokenLists) -> None:
        """Add one tile whose token lists are known (`probekit.probes.lists.token_lists`)."""
        if self._shift is None:
            self._shift = rows.mean(0)
        self._shift = self._shift.to(rows.device)  # a restored one comes from the processor
        # the tokens of a fold side by side: one copy of the tile, and every fold a slice of it
        if self.n_folds > 1:
            shifted = rows[torch.from_numpy(lists.order).to(rows.device)].sub_(self.shift)
        else:
            shifted = rows - self.shift
        if rows.device.type == "cpu":
            self._add_here(shifted, lists)
        else:
            if self._there is None:
                self._there = DeviceSums(self._gram, self._total, self._sums, rows.device)
            self._there.add(shifted, lists)
        self._n_tokens += lists.n_tokens
        self._n_segment += lists.n_held

    def _add_here(self, shifted: torch.Tensor, lists: TokenLists) -> None:
        self._fetch()
        for f in range(self.n_folds):
            part = shifted[lists.bounds[f] : lists.bounds[f + 1]]
            add_gram(part, torch.from_numpy(self._gram[f]))
            self._total[f] += column_sums(part).numpy()
        self._sums.add(shifted.numpy(), lists)

    def _fetch(self, *, leave: bool = True) -> None:
        """Bring over what was summed on an accelerator."""
        if self._there is not None:
            self._there.fetch(self._gram, self._total, self._sums)
            self._there = None if leave else self._there

    @guarded
    def finalize(self, folds: Bool[np.ndarray, " fold"] | None = None) -> FrozenMoments:
        """The moments of all tokens seen, or of the chosen folds only.

        Raises:
            DegenerateError: no token has been seen.
        """
        if self._n_waiting:
            self._flush()
        if self._there is not None:
            self._there.fetch(self._gram, self._total)
        chosen = np.ones(self.n_folds, bool) if folds is None else folds
        n_tokens = int(self._n_tokens[chosen].sum())
        if n_tokens == 0 or self._shift is None:
            raise DegenerateError(NOTHING_SEEN)
        offset = self._total[chosen].sum(0) / n_tokens
        n_segment = self._n_segment[chosen].sum(0)
        gram = _added(self._gram, chosen)
        sums = (self._there or self._sums).over(chosen)
        sums -= n_segment[:, None] * offset
        n_pairs = len(self.pairs)
        return FrozenMoments(
            n_tokens=n_tokens,
            mean=self._shift.cpu().double().numpy() + offset,
            gram=mirrored(gram) - n_tokens * np.outer(offset, offset),
            concept_sums=sums[n_pairs:],
            pair_sums=sums[:n_pairs],
            n_concept=n_segment[n_pairs:],
            n_pair=n_segment[:n_pairs],
            pairs=self.pairs,
        )

    def state(self) -> dict[str, np.ndarray]:
        """The sums as they stand between two tiles, to be kept and given to `restore`; not copied.

        Raises:
            DegenerateError: no tile has been added.
        """
        self._fetch(leave=False)
        return {
            "shift": self.shift.cpu().numpy(), "gram": self._gram, "total": self._total, "sums": self._sums.strips,
            "n_tokens": self._n_tokens, "n_segment": self._n_segment,
        }  # fmt: skip

    @property
    def n_bytes(self) -> int:
        """Bytes of `state`, without bringing it over from an accelerator."""
        held = (self._gram, self._total, self._n_tokens, self._n_segment)
        return 4 * self.n_neurons + self._sums.n_bytes + sum(part.nbytes for part in held)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state kept earlier, bit for bit."""
        self._shift = torch.from_numpy(state["shift"].copy())
        own = self.state()
        for name in ("gram", "total", "sums", "n_tokens", "n_segment"):
            np.copyto(own[name], state[name], casting="no")
        self._there = None

    @property
    def n_tokens_of_folds(self) -> Int[np.ndarray, " fold"]:
        """Tokens of each fold, those that wait for their tile to fill included."""
        if self._n_waiting:
            self._flush()
        return self._n_tokens

    @property
    def device(self) -> torch.device:
        """Where the sums are: with the rows on an accelerator, else here."""
        return torch.device("cpu") if self._there is None else self._there.device

    @property
    def shift(self) -> torch.Tensor:
        """The fixed vector taken from every row, fp32 [neuron]."""
        if self._shift is None:
            raise DegenerateError(NOTHING_SEEN)
        return self._shift


def as_pairs(pairs: Pairs) -> Int[np.ndarray, "pair 2"]:
    """Concept indices of pairs, whatever holds them.

    Raises:
        ShapeError: not [pair, 2].
    """
    indices = pairs.cpu().numpy() if isinstance(pairs, torch.Tensor) else np.asarray(pairs)
    if indices.ndim != 2 or indices.shape[1] != 2 or indices.dtype.kind not in "iu":
        raise ShapeError(
            f"pairs: got shape {indices.shape} of {indices.dtype}; wanted whole numbers [pair, 2], the two "
            "concept indices of each pair."
        )
    return indices.astype(np.int32)


def fold_of(doc: Integer[np.ndarray, " token"], n_folds: int) -> Int[np.ndarray, " token"]:
    """The fold of each token, by a hash of its document."""
    if n_folds == 1:
        return np.zeros(len(doc), np.int64)
    return (splitmix64(doc.astype(np.uint64)) % np.uint64(n_folds)).astype(np.int64)


def require_finite(rows: torch.Tensor, name: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        NonFiniteError: with the count and the first place.
    """
    if bool(torch.isfinite(rows.sum())):
        return
    # a sum is finite unless a term is not, or finite terms overflow: a cheap look, then a close one
    finite = torch.isfinite(rows)
    if not bool(finite.all()):
        token, neuron = (int(v) for v in (~finite).nonzero()[0])
        n_bad = int((~finite).sum())
        raise NonFiniteError(
            f"{name}: {n_bad:,} of {rows.numel():,} values are NaN or infinite (first at token {token}, column "
            f"{neuron}). Probes need finite input; check the model's dtype (fp16 overflows at 65,504) or drop "
            "these tokens."
        )
