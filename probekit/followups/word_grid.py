"""`word_grid`: does each layer compute that two tokens are a word? A known positive with an exact test.

Two disjoint sets of words of exactly two tokens are read in all combinations of their prefixes and suffixes behind the same
short contexts. The statistics are in `probekit.evidence.word_grid`, the choice of words in `probekit.text.grid_words`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from probekit.analysis.progress import watching
from probekit.analysis.reading import cached
from probekit.errors import ConfigError, InputError, guarded
from probekit.evidence import word_grid as evidence
from probekit.evidence.word_grid import DECIDING, LEVEL, SITES, Cells, LinearPart
from probekit.model.ambient import as_torch_starts
from probekit.model.grid import (
    Grid,
    LayerCells,
    bytes_per_layer,
    draw_twins,
    neuron_means,
    output_weights,
    read_grid,
)
from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.report.word_grid import answer, grid_chart, render_word_grid, summary_html
from probekit.storage import store
from probekit.text.corpus import Corpus, as_corpus
from probekit.text.grid_words import MIN_WORDS, SETS, GridWords, choose_grid
from probekit.text.word_pairs import read_pairs

if TYPE_CHECKING:
    from probekit.model.weights import MlpWeights

GROUP_BYTES = 2 * 2**30
"""Memory that the cells of the layers read in one forward may take; with more layers the model is run again."""
N_PSEUDO = 20
"""Pseudo-diagonals a layer and site."""
KINDS = ("plain", "relay")
_OTHER = dict(zip(SETS, reversed(SETS), strict=True))


@dataclass(frozen=True, repr=False)
class WordGrid:
    """What the word grid shows of a model, layer by layer."""

    layers: pd.DataFrame
    """One row a layer. By site (input, neurons, output, given, before, after): `z_…` the standardised statistic, mean of
    both word sets, and `p_…` the larger of their exact p-values. Of the deciding site *given* beside the twins:
    `margin_plain`, `margin_relay` (z minus the highest twin's), `p_plain`, `p_relay` (z as one more twin), `p_layer` (the
    largest of all three p-values), `p_holm` (the same for the number of layers) and `adds`. d′ of the residual stream:
    `d_before`, `d_after`, and the highest twin's `d_after_twins`."""
    sites: pd.DataFrame
    """One row a layer, site and word set: effect, z, p, d_prime, auc, and `d_prime_canonical` against those crosses alone
    that the tokenizer writes as these two tokens. The direction is always learned on the other set."""
    twins: pd.DataFrame
    """One row a layer, site, word set, kind of twin (plain, relay) and twin: z, d_prime."""
    arms: pd.DataFrame
    """One row a layer, site and arm (rare, matched, phrases), scored along the direction of word set B: effect, z, p,
    d_prime, auc; `relative`, its effect over that of as many words of set A (NaN where these do not stand out);
    `p_words_above`, that these words score higher."""
    pseudo: pd.DataFrame
    """One row a layer, site, word set and draw: z and p of a random pairing without a word, treated in both sets as the
    words are. Nothing is to be found in it."""
    words: pd.DataFrame
    """One row a word or pair: group (A, B, rare, matched, phrases), text, prefix, suffix, n, n_docs."""
    contexts: tuple[str, ...]
    """What stands before every cell."""
    summary: dict[str, Any]
    """Model, text, sizes, settings, notes."""

    def __repr__(self) -> str:
        return f"WordGrid({self.summary['model']['name']}: {answer(self)[1]})"

    def _repr_html_(self) -> str:
        return summary_html(self)

    def plot(self) -> Any:
        """z of each layer beside its twins, as an Altair chart."""
        return grid_chart(self)

    @guarded
    def report(self, path: str | Path) -> Path:
        """Write one HTML page that needs nothing else.

        Args:
            path: where the page goes.

        Returns:
            The path written.

        Raises:
            StoreError: the page cannot be written.
        """
        target = Path(path)
        store.write_text(target, render_word_grid(self))
        return target


@dataclass(frozen=True)
class _Plan:
    """What is the same for all layers."""

    hooked: HookedModel
    words: GridWords
    grids: dict[str, Grid]
    n_twins: int
    n_relay: int
    n_permutations: int
    seed: int
    pairings: dict[int, np.ndarray]


@dataclass
class _Tables:
    """Rows of the result's tables."""

    sites: list[dict[str, Any]] = field(default_factory=list)
    twins: list[dict[str, Any]] = field(default_factory=list)
    arms: list[dict[str, Any]] = field(default_factory=list)
    pseudo: list[dict[str, Any]] = field(default_factory=list)
    not_added: list[int] = field(default_factory=list)


@guarded
@as_torch_starts()
def word_grid(  # noqa: PLR0913
    model: Any,
    words: Sequence[str] | None = None,
    *,
    contexts: int | Sequence[str] = 6,
    layers: Sequence[int] | None = None,
    n_words: int = 72,
    twins: int = 8,
    seed: int = 0,
    corpus: Any = None,
    tokenizer: Any | None = None,
    relay: int = 8,
    permutations: int = 2_000,
    arms: bool = True,
    max_tokens: int = 2_000_000,
    device: str = "auto",
    dtype: Any = None,
    progress: Any = None,
) -> WordGrid:
    """Test layer by layer whether a model computes that two tokens make a word.

    Args:
        model: as in `analyze`: a name, a folder, a `transformers` model with its tokenizer, or a TransformerBridge.
        words: words to use, each two tokens long behind a space; None chooses them from the corpus by a stated rule
            (`probekit.text.grid_words`), in an order drawn by the seed.
        contexts: how many short beginnings of documents every cell is read behind, or these texts themselves.
        layers: layers to test; None for all.
        n_words: words of each of the two sets, at most. Time and memory grow with its square.
        twins: random twins of each layer, each plain and relay-matched; 0 for none.
        seed: of words, contexts, twins and permutations.
        corpus: text for words, frequencies and contexts; None for the docstrings that the bundled model was trained on,
            which need no network.
        tokenizer: of a `transformers` model.
        relay: directions of the input along which relay-matched twins read as the layer does.
        permutations: random pairings for the exact p-values, which are at least 1/(permutations + 1).
        arms: also read rare words, pieces of longer words matched in frequency, and frequent phrases.
        max_tokens: tokens of the corpus that are read.
        device: "auto", "cpu" or "cuda".
        dtype: what to compute in, as in `analyze`.
        progress: None (bars when a terminal watches), False (silent), or a function of (what, done, total).

    Returns:
        Tables by layer; see `WordGrid`.

    Raises:
        InputError: an argument, word or context cannot be used.
        DegenerateError: the text has too few words of two tokens.
        ModelError: the model cannot be loaded or has no tokenizer.
    """
    _check_numbers(n_words, twins, permutations, relay, contexts, max_tokens)
    texts = as_corpus(corpus) if corpus is not None else Corpus.docs("train")
    hooked = load_hooked_model(model, device=device, dtype=dtype, tokenizer=tokenizer)
    hooked.require_decoder("the word grid")
    if hooked.tokenizer is None:
        raise InputError(
            f"{hooked.name} has no tokenizer, and words are chosen by how it splits them; pass tokenizer= with the "
            "transformers model, or set bridge.tokenizer."
        )
    chosen = list(range(hooked.n_layers)) if layers is None else sorted(set(layers))
    if not chosen:
        raise InputError("layers: the list is empty; give at least one layer, or None for all.")
    for layer in chosen:
        hooked.check_layer(layer)
    if not 2 <= relay <= hooked.d_model:
        raise ConfigError(f"relay: got {relay} directions, wanted 2 (one a word set) to {hooked.d_model}.")
    with watching(progress) as report:
        text = read_pairs(
            cached(texts), hooked.tokenizer, max_tokens=max_tokens,
            progress=lambda done, total: report("reading text", done, total),
        )  # fmt: skip
        grid = choose_grid(
            text, hooked.tokenizer, words=words, contexts=contexts, n_words=n_words, seed=seed, arms=arms,
            longest_context=hooked.context - 2 - (hooked.bos_id is not None),
        )  # fmt: skip
        plan = _plan(hooked, grid, twins, relay, permutations, seed)
        tables = _measured(plan, chosen, report)
    summary = _summary(plan, chosen, texts.name, int((text.ids >= 0).sum()), tables, words is None)
    return _result(plan, chosen, tables, summary)


def _check_numbers(
    n_words: int, twins: int, permutations: int, relay: int, contexts: Any, max_tokens: int
) -> None:
    least: dict[str, tuple[int, int]] = {
        "n_words": (n_words, MIN_WORDS), "twins": (twins, 0), "permutations": (permutations, 19),
        "relay": (relay, 2), "max_tokens": (max_tokens, 1),
    }  # fmt: skip
    if isinstance(contexts, int):
        least["contexts"] = (contexts, 1)
    for name, (value, wanted) in least.items():
        if value < wanted:
            raise ConfigError(f"{name}: got {value!r}, wanted {wanted} or more.")
    if 0 < twins < evidence.MIN_GRID_TWINS:
        raise ConfigError(
            f"twins: got {twins}, wanted 0, or {evidence.MIN_GRID_TWINS} or more to know their spread."
        )


def _plan(
    hooked: HookedModel, grid: GridWords, twins: int, relay: int, permutations: int, seed: int
) -> _Plan:
    grids = {
        name: Grid(grid.contexts, [pair.first for pair in pairs], [pair.second for pair in pairs])
        for name, pairs in grid.groups.items()
    }
    sizes = sorted({len(pairs) for pairs in grid.groups.values()})
    pairings = {
        size: evidence.draw_pairings(size, permutations, np.random.default_rng([seed, 31, size]))
        for size in sizes
    }
    return _Plan(hooked, grid, grids, twins, relay, permutations, seed, pairings)


def _measured(plan: _Plan, layers: Sequence[int], report: Any) -> _Tables:
    """Every layer in turn; the model is run for as many layers at once as memory allows."""
    tables = _Tables()
    at_once = max(1, GROUP_BYTES // bytes_per_layer(plan.grids.values(), plan.hooked.d_model))
    n_cells = sum(grid.n_cells for grid in plan.grids.values())
    for first in range(0, len(layers), at_once):
        group = layers[first : first + at_once]
        cells: dict[str, dict[int, LayerCells]] = {}
        n_before = 0
        for name, grid in plan.grids.items():
            told = lambda done, n=n_before: report("reading the model", n + done, n_cells)
            cells[name] = read_grid(plan.hooked, grid, group, progress=told)
            n_before += grid.n_cells
        for place, layer in enumerate(group, first + 1):
            _measure(plan, layer, {name: layer_data.pop(layer) for name, layer_data in cells.items()}, tables)
            report("measuring layers", place, len(layers))
    return tables


# -------------------------------------------------------------------------------- one layer


@dataclass(frozen=True)
class _Layer:
    """Interactions of one layer: site → group of words → cells."""

    sites: dict[str, dict[str, Cells]]
    linear: dict[str, LinearPart]
    w_out: np.ndarray
    weights: MlpWeights


def _measure(plan: _Plan, layer: int, cells: dict[str, LayerCells], tables: _Tables) -> None:
    layer_data = _interactions(plan, layer, cells)
    adds = all(part.adds for part in cells.values())
    if not adds:
        tables.not_added.append(layer)
        del layer_data.sites["before"]
    for site, by_group in layer_data.sites.items():
        _test_sets(plan, layer, site, by_group, tables)
        _test_pseudo(plan, layer, site, by_group, tables)
    _test_arms(plan, layer, layer_data, tables)
    if plan.n_twins:
        _test_twins(plan, layer, layer_data, cells, tables, adds=adds)


def _interactions(plan: _Plan, layer: int, cells: dict[str, LayerCells]) -> _Layer:
    weights, w_out = plan.hooked.mlp(layer), output_weights(plan.hooked, layer).numpy()
    sites: dict[str, dict[str, Cells]] = {site: {} for site in SITES}
    for group, layer_data in cells.items():
        sites["input"][group] = evidence.double_centred(layer_data.inputs.mean(0).numpy())
        sites["neurons"][group] = evidence.double_centred(neuron_means(weights, layer_data.inputs).numpy())
        sites["output"][group] = sites["neurons"][group] @ w_out
        sites["after"][group] = evidence.double_centred(layer_data.after.numpy())
        sites["before"][group] = sites["after"][group] - sites["output"][group]
    linear = {group: LinearPart.of(inputs) for group, inputs in sites["input"].items()}
    sites["given"] = {group: linear[group].rest(outputs) for group, outputs in sites["output"].items()}
    return _Layer(sites, linear, w_out, weights)


def _test_sets(plan: _Plan, layer: int, site: str, by_group: Mapping[str, Cells], tables: _Tables) -> None:
    for name in SETS:
        scores = evidence.word_scores(by_group[name], evidence.word_direction(by_group[_OTHER[name]]))
        found = evidence.grid_test(scores, plan.pairings[len(scores)])
        canonical = scores[plan.words.canonical[name] & ~np.eye(len(scores), dtype=bool)]
        words = np.diagonal(scores)
        d_canonical = (
            float((words.mean() - canonical.mean()) / canonical.std()) if len(canonical) > 1 else float("nan")
        )
        tables.sites.append(
            {"layer": layer, "site": site, "words": name, **vars(found), "d_prime_canonical": d_canonical}
        )


def _test_arms(plan: _Plan, layer: int, layer_data: _Layer, tables: _Tables) -> None:
    """The arms along the direction learned on set B, beside as many words of set A along the same.

    A smaller grid leaves less of what a linear prediction takes away, so the words are read as a grid of the arm's size.
    """
    for arm in [group for group in plan.grids if group not in SETS]:
        size = len(plan.grids[arm].prefixes)
        few = {
            site: evidence.double_centred(by_group["A"][:size, :size])
            for site, by_group in layer_data.sites.items()
        }
        few["given"] = LinearPart.of(few["input"]).rest(few["output"])
        for site, by_group in layer_data.sites.items():
            if site == DECIDING and _few_cells(size, plan.hooked.d_model):
                continue
            direction = evidence.word_direction(by_group["B"])
            of_words = evidence.word_scores(few[site], direction)
            of_arm = evidence.word_scores(by_group[arm], direction)
            reference = evidence.grid_test(of_words, plan.pairings[size])
            found = evidence.grid_test(of_arm, plan.pairings[size])
            rng = np.random.default_rng([plan.seed, 37, layer])
            higher = evidence.p_larger(np.diagonal(of_words), np.diagonal(of_arm), plan.n_permutations, rng)
            tables.arms.append(
                {"layer": layer, "site": site, "arm": arm, "n_pairs": size, **vars(found),
                 "relative": found.effect / reference.effect if reference.p <= LEVEL else np.nan,
                 "p_words_above": higher}
            )  # fmt: skip


def _test_pseudo(plan: _Plan, layer: int, site: str, by_group: Mapping[str, Cells], tables: _Tables) -> None:
    """Pairings without a word in the words' place, learned on one set and scored on the other."""
    rng = np.random.default_rng([plan.seed, 41, layer])
    for draw in range(N_PSEUDO):
        pairing = {name: evidence.derangement(len(by_group[name]), rng) for name in SETS}
        for name in SETS:
            other = _OTHER[name]
            direction = evidence.word_direction(by_group[other], pairing[other])
            scores = evidence.word_scores(by_group[name], direction)
            found = evidence.grid_test(scores, plan.pairings[len(scores)], pairing[name])
            tables.pseudo.append(
                {"layer": layer, "site": site, "words": name, "draw": draw, "z": found.z, "p": found.p}
            )


def _test_twins(
    plan: _Plan,
    layer: int,
    layer_data: _Layer,
    cells: Mapping[str, LayerCells],
    tables: _Tables,
    *,
    adds: bool,
) -> None:
    inputs = {name: cells[name].inputs for name in SETS}
    relay = evidence.interaction_directions([layer_data.sites["input"][name] for name in SETS], plan.n_relay)
    rng = np.random.default_rng([plan.seed, 43, layer])
    twins = draw_twins(layer_data.weights, list(inputs.values()), relay, plan.n_twins, rng)
    drawn = zip(*(twins.means(inputs[name]) for name in SETS), strict=True)
    for twin, by_set in enumerate(drawn):
        for place, kind in enumerate(KINDS):
            neurons = [evidence.double_centred(means[place].numpy()) for means in by_set]
            outputs = [cells @ layer_data.w_out for cells in neurons]
            given = [layer_data.linear[name].rest(cells) for name, cells in zip(SETS, outputs, strict=True)]
            sites = {"neurons": neurons, "output": outputs, "given": given}
            if adds:
                before = [layer_data.sites["before"][name] for name in SETS]
                sites["after"] = [b + y for b, y in zip(before, outputs, strict=True)]
            for site, pair in sites.items():
                for name, own, other in zip(SETS, pair, reversed(pair), strict=True):
                    scores = evidence.word_scores(own, evidence.word_direction(other))
                    found = evidence.grid_test(scores, plan.pairings[len(scores)])
                    tables.twins.append(
                        {"layer": layer, "site": site, "words": name, "kind": kind, "twin": twin, "z": found.z,
                         "d_prime": found.d_prime}
                    )  # fmt: skip


def _few_cells(n_words: int, d_model: int) -> bool:
    return n_words**2 < evidence.CELLS_PER_INPUT * d_model


# -------------------------------------------------------------------------------- the result


def _result(plan: _Plan, layers: Sequence[int], tables: _Tables, summary: dict[str, Any]) -> WordGrid:
    sites, twins = pd.DataFrame(tables.sites), pd.DataFrame(tables.twins)
    rows = [_layer_row(layer, sites, twins) for layer in layers]
    frame = pd.DataFrame(rows)
    frame["p_holm"] = evidence.holm(frame["p_layer"].tolist()) if plan.n_twins else np.nan
    frame["adds"] = [bool(p <= LEVEL) if plan.n_twins else None for p in frame["p_holm"]]
    words = pd.DataFrame(
        {"group": group, "text": pair.text, "prefix": pair.pieces[0], "suffix": pair.pieces[1], "n": pair.n,
         "n_docs": pair.n_docs}
        for group, pairs in plan.words.groups.items()
        for pair in pairs
    )  # fmt: skip
    return WordGrid(
        layers=frame,
        sites=sites,
        twins=twins,
        arms=pd.DataFrame(tables.arms),
        pseudo=pd.DataFrame(tables.pseudo),
        words=words,
        contexts=plan.words.context_texts,
        summary=summary,
    )


def _layer_row(layer: int, sites: pd.DataFrame, twins: pd.DataFrame) -> dict[str, Any]:
    own = sites[sites["layer"] == layer]
    row: dict[str, Any] = {"layer": layer}
    for site in SITES:
        found = own[own["site"] == site]
        row[f"z_{site}"] = float(found["z"].mean()) if len(found) else np.nan
        row[f"p_{site}"] = float(found["p"].max()) if len(found) else np.nan
    p_values = [row[f"p_{DECIDING}"]]
    for kind in KINDS:
        beside = (
            None
            if twins.empty
            else evidence.beside_twins(row[f"z_{DECIDING}"], _of(twins, layer, DECIDING, kind, "z"))
        )
        row[f"margin_{kind}"] = np.nan if beside is None else beside.margin
        row[f"p_{kind}"] = np.nan if beside is None else beside.p
        p_values.append(row[f"p_{kind}"])
    row["p_layer"] = float(np.max(p_values))
    for site in ("before", "after"):
        found = own[own["site"] == site]["d_prime"]
        row[f"d_{site}"] = float(found.mean()) if len(found) else np.nan
    reached = [] if twins.empty else [*(_of(twins, layer, "after", kind, "d_prime") for kind in KINDS)]
    reached = [values.max() for values in reached if len(values)]
    row["d_after_twins"] = float(max(reached)) if reached else np.nan
    return row


def _of(twins: pd.DataFrame, layer: int, site: str, kind: str, column: str) -> np.ndarray:
    """One value a twin: the mean over word sets."""
    chosen = twins[(twins["layer"] == layer) & (twins["site"] == site) & (twins["kind"] == kind)]
    return chosen.groupby("twin")[column].mean().to_numpy()


def _summary(
    plan: _Plan, layers: Sequence[int], corpus: str, n_tokens: int, tables: _Tables, by_rule: bool
) -> dict[str, Any]:
    hooked = plan.hooked
    notes = list(plan.words.notes)
    if tables.not_added:
        notes.append(
            f"Layers {', '.join(map(str, tables.not_added))}: the MLP's output is not simply added to the residual stream, "
            "so the stream before the MLP, and behind a twin, is left out."
        )
    few = [name for name, pairs in plan.words.groups.items() if _few_cells(len(pairs), hooked.d_model)]
    if few:
        notes.append(
            f"Group {', '.join(few)}: fewer than {evidence.CELLS_PER_INPUT} cells for each of {hooked.d_model:,} inputs, so "
            f"a linear prediction fits nearly everything and little is left to find given the input. Sets need "
            f"{int(np.ceil((evidence.CELLS_PER_INPUT * hooked.d_model) ** 0.5))} words or more; arms are left out there."
        )
    canonical = {
        name: float(written[~np.eye(len(written), dtype=bool)].mean())
        for name, written in plan.words.canonical.items()
    }
    return {
        "model": {"name": hooked.name, "n_layers": hooked.n_layers, "d_model": hooked.d_model, "d_mlp": hooked.d_mlp,
                  "activation": hooked.activation, "gated": hooked.gated},
        "corpus": {"name": corpus, "n_tokens": n_tokens},
        "layers": list(layers),
        "groups": {name: len(pairs) for name, pairs in plan.words.groups.items()},
        "canonical_crosses": canonical,
        "words_by_rule": by_rule,
        "settings": {"n_contexts": len(plan.words.contexts), "twins": plan.n_twins, "relay": plan.n_relay,
                     "permutations": plan.n_permutations, "seed": plan.seed},
        "smallest_p": 1 / (plan.n_permutations + 1),
        "level": LEVEL,
        "notes": notes,
    }  # fmt: skip
