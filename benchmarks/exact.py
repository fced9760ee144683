"""What must be equal: held-out errors and direct refits, supports in fp32 and in fp64."""

from __future__ import annotations

import numpy as np

from benchmarks.problems import Problem, dense, u_and
from benchmarks.selection import K, moments_of
from benchmarks.table import Goal, Table, digits
from benchmarks.timing import in_turns
from probekit.probes.heldout import held_out
from probekit.probes.moments import FrozenMoments, fold_of
from probekit.probes.pairs import LabelColumns, all_pairs, natural_counts
from probekit.probes.select import COLLINEAR, forward_select

N_FOLDS = 5


def folds(*, quick: bool) -> Table:
    """Held-out R² from fold moments against refits on the tokens."""
    table = Table(
        "folds",
        "Held-out errors from moments against direct refits",
        f"20,000 tokens, 512 neurons, k = {K}, five folds of documents, least squares on the tokens in fp64 with "
        "the same "
        "supports. Time is that of all pairs from given moments, a pair, against the direct refits of one.",
        ["layer", "fitted beside the neurons", "pairs", "largest difference of R²", "ms a pair", "ms a pair, direct"],
    )  # fmt: skip
    for problem in (u_and(512), dense(512)):
        moments = moments_of(problem, N_FOLDS)
        fold = fold_of(problem.docs, N_FOLDS)
        chosen = np.arange(0, len(problem.pairs), 400 if quick else 100)
        for additive in (False, True):
            supports = [
                forward_select(moments.finalize(np.arange(N_FOLDS) != f), K, additive=additive)
                for f in range(N_FOLDS)
            ]
            direct: list[float] = []
            times = in_turns(
                {
                    "ours": (
                        lambda m=moments, additive=additive: held_out(m, k=K, additive=additive),
                        len(problem.pairs),
                    ),
                    "direct": (
                        lambda p=problem, s=supports, additive=additive, d=direct: d.extend(
                            [_direct(p, pair, s, fold, additive) for pair in chosen]
                        ),
                        len(chosen),
                    ),
                },
                n_rounds=1,
                warm=False,
            )
            found = held_out(moments, k=K, additive=additive).r2[chosen]
            worst = float(np.abs(found - np.array(direct[: len(chosen)])).max())
            table.rows.append(
                [problem.name, "1, A, B" if additive else "1", len(chosen), f"{worst:.1e}",
                 digits(times["ours"].each * 1e3), digits(times["direct"].each * 1e3)]
            )  # fmt: skip
            table.goals.append(
                Goal(f"largest difference, {problem.name}, {'1, A, B' if additive else '1'}", 1e-5, worst, at_most=True)
            )  # fmt: skip
    return table


def _direct(problem: Problem, pair: int, supports: list[np.ndarray], fold: np.ndarray, additive: bool) -> float:  # fmt: skip
    a, b = problem.labels[:, problem.pairs[pair]].T
    y = (a & b).astype(float)
    base = np.column_stack([np.ones(len(y)), a, b][: 3 if additive else 1]).astype(float)
    totals = [0.0, 0.0]
    for f in range(N_FOLDS):
        out = fold == f
        whole = np.column_stack([base, problem.x[:, supports[f][pair]].astype(float)])
        for at, columns in enumerate((whole, base)):
            fitted = columns @ np.linalg.lstsq(columns[~out], y[~out])[0]
            totals[at] += float(((y - fitted)[out] ** 2).sum())
    return 1 - totals[0] / totals[1]


def forward_in_fp64(frozen: FrozenMoments, k: int, block: int = 128) -> np.ndarray:
    """The same greedy steps in numpy and fp64, a block of pairs at a time."""
    out = []
    diagonal = np.diag(frozen.gram)
    coefficients = np.stack(frozen.partialled())
    for first in range(0, len(frozen.pairs), block):
        part = slice(first, first + block)
        a_unit, b_unit, b_on_a, y_on_a, y_on_b = (c[part, None] for c in coefficients)
        s_a, s_b = (frozen.concept_sums[frozen.pairs[part, side]] for side in (0, 1))
        v1, v2 = s_a * a_unit, (s_b - b_on_a * s_a) * b_unit
        rest = frozen.pair_sums[part] - y_on_a * v1 - y_on_b * v2
        variance = diagonal - v1**2 - v2**2
        chosen = [v1, v2]
        rows = np.arange(len(rest))
        support = np.full((len(rest), k), -1)
        for step in range(k):
            allowed = variance > COLLINEAR * diagonal
            best = np.where(allowed, rest**2 / np.where(allowed, variance, 1), 0).argmax(1)
            support[:, step] = best
            column = frozen.gram[best] - sum(c[rows, best][:, None] * c for c in chosen)
            column /= np.sqrt(variance[rows, best])[:, None]
            pull = rest[rows, best] / np.sqrt(variance[rows, best])
            rest = rest - pull[:, None] * column
            variance = variance - column**2
            variance[rows, best] = 0
            chosen.append(column)
        out.append(support)
    return np.concatenate(out)


def precision(*, quick: bool) -> Table:
    """Supports in fp32 against fp64, on planted layers and on the bundled model."""
    table = Table(
        "precision",
        "Supports in fp32 and in fp64",
        f"k = {K}, 1, A and B partialled out; the same fp64 moments go to the fp32 kernel and to the same greedy "
        "steps in "
        "fp64. Equal: the same set of neurons.",
        ["activations", "neurons", "targets", "equal supports, %", "equal paths, %"],
    )
    scenes = [(problem.name, moments_of(problem).finalize()) for problem in (u_and(512), dense(512))]
    scenes += [(f"nano, layer {layer}", frozen) for layer, frozen in _nano(60_000 if not quick else 20_000)]
    for name, frozen in scenes:
        single, double = forward_select(frozen, K), forward_in_fp64(frozen, K)
        interacts = frozen.has_interaction()
        single, double = single[interacts], double[interacts]
        sets = (np.sort(single, 1) == np.sort(double, 1)).all(1).mean()
        paths = (single == double).all(1).mean()
        n_neurons = len(frozen.gram)
        table.rows.append([name, n_neurons, len(single), round(100 * sets, 2), round(100 * paths, 2)])
        table.goals.append(Goal(f"share of equal supports, {name}", 0.999, round(float(sets), 4)))
    return table


def _nano(n_tokens: int):
    """Moments of every layer of the bundled model on the offline corpus, its default concepts."""
    from probekit.analysis.reading import cached
    from probekit.model.harvest import harvest
    from probekit.model.hooked_model import load_hooked_model
    from probekit.probes.moments import Moments
    from probekit.text.concepts.concepts import Concepts
    from probekit.text.corpus import as_corpus

    hooked = load_hooked_model("nano", device="cpu")
    tokens = cached(as_corpus("docs")).tokenize(
        hooked.tokenizer, context=128, max_tokens=n_tokens, bos_id=hooked.bos_id
    )
    labels = Concepts.defaults(hooked.tokenizer, tokens).label(tokens)
    columns = LabelColumns(labels.indptr, labels.tokens, labels.n_tokens)
    counts = natural_counts(columns, all_pairs(columns.n_concepts))
    pairs = all_pairs(columns.n_concepts)[counts.min(1) >= 60][:1_500]
    streams = {
        layer: Moments(hooked.d_mlp, columns.n_concepts, pairs=pairs) for layer in range(hooked.n_layers)
    }
    dense_labels = columns.dense() > 0
    for block in harvest(hooked, tokens, np.arange(tokens.n_docs), range(hooked.n_layers)):
        for layer, (_, neurons) in block.sites.items():
            streams[layer].update(neurons, dense_labels[block.tokens], labels.doc[block.tokens])
    return [(layer, stream.finalize()) for layer, stream in streams.items()]
