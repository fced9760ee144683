"""The causal check: is a pair's readout direction used by the model, and only where A and B hold together?

The readouts of a finished run are mean-ablated in the model one at a time, on the documents they were not fitted on, and
the change of the loss and of the predictions is averaged over the pair's four quadrants. What a readout reads is taken out
along the readout itself ("direction"), along what A∧B adds to the neurons beyond A and B ("pattern": a readout also has
weights that only cancel noise), or its strongest neurons are set to their means ("neurons"). Random vectors of the same
norm are treated alike, in two ways: *other* ablations (the same values on random neurons), and the same change at every
token written *elsewhere*. A computed pair need not be used; this asks whether it is. Axes: pair draw token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from probekit.analysis import run_fingerprint
from probekit.analysis.design import is_fit
from probekit.analysis.inputs import doc_keys
from probekit.analysis.progress import watching
from probekit.analysis.reading import concepts_of
from probekit.arguments import as_layers
from probekit.errors import DegenerateError, InputError, StoreError, guarded
from probekit.evidence.causal import p_against, quadrant_change, quadrant_of
from probekit.evidence.tables import ranked
from probekit.followups.edits import What, edits_of
from probekit.model.ambient import as_torch_starts
from probekit.model.hooked_model import DTYPES, HookedModel, load_hooked_model
from probekit.model.intervene import Edit, NeuronScale, neuron_scales, predict
from probekit.probes.pairs import QUADRANTS
from probekit.results.run import Run, load
from probekit.results.text_snapshot import TextSnapshot
from probekit.text.concepts.concepts import Concepts
from probekit.text.concepts.labels import Labels
from probekit.text.corpus import as_corpus
from probekit.text.tokens import Tokens

KINDS = ("own", "other", "elsewhere")
MEASURES = ("loss", "divergence")


@dataclass(frozen=True)
class CausalCheck:
    """What the ablation of each pair's readout does to the model."""

    table: pd.DataFrame
    """One row a pair: layer, a, b, computed; n_tokens by quadrant; for the loss and for the divergence the mean change by
    quadrant with its standard error, the interaction with its own, `selective`, and p_other, p_elsewhere."""
    draws: pd.DataFrame
    """One row a pair and random direction: kind ("other", "elsewhere"), mean changes by quadrant and interaction."""
    settings: dict[str, Any]
    """What was ablated, on how many tokens of how many documents, loss of the unchanged model."""

    def __repr__(self) -> str:
        n = int(self.table["loss_selective"].sum())
        return f"CausalCheck({len(self.table)} pairs, {n} move the loss in quadrant 11 only)"

    def _repr_html_(self) -> str:
        return self.table.to_html(float_format=lambda value: f"{value:.3g}")


@guarded
@as_torch_starts()
def causal(  # noqa: PLR0913
    run: Run | str | Path,
    model: Any,
    *,
    concepts: Any = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    n_pairs: int = 5,
    layers: int | str | Sequence[int] | None = None,
    what: str = "pattern",
    n_neurons: int = 4,
    n_random: int = 8,
    max_tokens: int = 20_000,
    seed: int = 0,
    device: str = "auto",
    progress: Any = None,
) -> CausalCheck:
    """Mean-ablate readouts of a run in the model and see in which quadrants its loss moves.

    Args:
        run: a finished run on a model, or its directory.
        model: the same model.
        concepts: the same concepts; None are the defaults.
        pairs: pairs (a, b) by name, each in all layers; None takes the strongest of each layer: computed ones first, then
            by standardised value (without twins by d′).
        n_pairs: pairs of each layer where none are named.
        layers: layers of the run; None takes all.
        what: "pattern": what the readout reads, taken out along the neurons' own interaction of A and B (on the fit
            half); "direction": taken out along the readout itself, which leaves most of what the neurons write on;
            "neurons": its strongest neurons, each by itself.
        n_neurons: how many neurons, with what="neurons".
        n_random: random directions of each of the two kinds, beside every pair.
        max_tokens: tokens of the confirm half that are read; whole documents.
        seed: of the random directions.
        device: "auto", "cpu" or "cuda".
        progress: None (bars when a terminal watches), False (silent), or a function of (what, tokens done, tokens).

    Returns:
        Tables; see `CausalCheck`. Every token of a document is edited at once, so through attention a token's loss may also
        move by what was changed at an earlier one.

    Raises:
        InputError: the model, concepts or pairs are not those of the run, or an option is out of range.
        StoreError: the run was made of arrays and keeps no text.
    """
    held = load(run) if isinstance(run, str | Path) else run
    _check(what, n_pairs=n_pairs, n_neurons=n_neurons, n_random=n_random, max_tokens=max_tokens)
    text = TextSnapshot.read(held.path, held._results.files)
    if text is None:
        raise StoreError(
            f"{held.path}: a run on arrays keeps no text and no model; analyse the model itself."
        )
    science = held.record["science"]
    require_same("model", run_fingerprint.of_model(model), held)
    chosen = chosen_pairs(held, pairs, n_pairs, as_layers(layers))
    # of an object the tensors say it; "as stored" is what loading does by itself
    told = str(science.get("dtype"))
    hooked = load_hooked_model(model, device=device, dtype=told if told in DTYPES else None)
    tokens = text.tokens
    labels = labels_of(held, concepts, hooked, tokens)
    halves = halves_of(tokens, int(science["settings"]["seed"]), max_tokens)
    scale = _scale(hooked, tokens, halves["fit"], labels, chosen)
    edits = [
        edit
        for p, row in enumerate(chosen.to_dict("records"))
        for edit in edits_of(row, scale[p], what, n_neurons, n_random, np.random.default_rng([seed, p]))
    ]
    return _measured(hooked, tokens, halves["confirm"], labels, chosen, edits, n_random, what, progress)


def labels_of(run: Run, concepts: Any, hooked: HookedModel, tokens: Tokens) -> Labels:
    """Where the concepts of a run hold on its tokens.

    Args:
        run: the run.
        concepts: as the user gave them.
        hooked: the model, loaded.
        tokens: of the run.

    Raises:
        InputError: they are not those of the run.
    """
    given = concepts.settled(lambda: tokens) if isinstance(concepts, Concepts) else concepts
    require_same("concepts", run_fingerprint.of_concepts(given), run)
    return concepts_of(given, hooked.tokenizer, tokens, as_corpus(None)).label(tokens)


def require_same(what: str, now: str, run: Run) -> None:
    """Refuse a model or concepts that are not what the run was made of, whatever they are called.

    Args:
        what: "model" or "concepts".
        now: fingerprint of what was given.
        run: the run.

    Raises:
        InputError: they are others.
    """
    measured = str(run.record["science"].get(what))
    if "dtype" not in run.record["science"]:
        raise InputError(
            f"{run.path}: made by an older probekit, whose record does not tell contents from names, so nobody can say "
            f"whether this is its {what}; run it again."
        )
    if now != measured:
        raise InputError(
            f"{what}: got {now}, but {run.path} was measured on {measured}; pass the {what} of the run."
        )


def _check(what: Any, **counts: Any) -> None:
    if what not in get_args(What):
        raise InputError(f"what: got {what!r}, wanted one of {get_args(What)}.")
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name}: got {value!r}, wanted a whole number ≥ 1.")


def chosen_pairs(
    run: Run, pairs: Sequence[tuple[str, str]] | None, n_pairs: int, layers: Sequence[int] | None
) -> pd.DataFrame:
    """The pairs that a follow-up looks at: those named, in all layers, or the strongest of each layer.

    Args:
        run: the run.
        pairs: by name; None for the strongest.
        n_pairs: how many of each layer.
        layers: of the run; None for all.

    Raises:
        InputError: a pair was not tested.
    """
    table = run.pairs() if layers is None else pd.concat([run.pairs(int(layer)) for layer in layers])
    if pairs is not None:
        wanted = {frozenset(pair) for pair in pairs}
        mine = [frozenset(pair) in wanted for pair in zip(table["a"], table["b"], strict=True)]
        found = {frozenset(pair) for pair in zip(table["a"], table["b"], strict=True)}
        if wanted - found or not wanted:
            missing = ", ".join(str(tuple(pair)) for pair in list(wanted - found)[:3]) or "the list is empty"
            raise InputError(
                f"pairs: not among the tested pairs of {run.path}: {missing}; run.pairs() lists them."
            )
        return table[mine].reset_index(drop=True)
    strongest = ranked(table).groupby("layer", sort=True).head(n_pairs)
    return strongest.sort_values("layer", kind="stable").reset_index(drop=True)


def halves_of(tokens: Tokens, seed: int, max_tokens: int) -> dict[str, np.ndarray]:
    """Whole documents of each half ("fit", "confirm"), in order, until there are tokens enough.

    Args:
        tokens: of the run.
        seed: of the run.
        max_tokens: of each half.
    """
    fit = is_fit(doc_keys(tokens), seed)
    halves: dict[str, np.ndarray] = {}
    for half, mask in (("fit", fit), ("confirm", ~fit)):
        docs = np.flatnonzero(mask)
        n_tokens = tokens.counted[docs].sum(1)
        halves[half] = docs[np.cumsum(n_tokens) - n_tokens < max_tokens]
    return halves


def _scale(
    hooked: HookedModel, tokens: Tokens, docs: np.ndarray, labels: Labels, chosen: pd.DataFrame
) -> list[NeuronScale]:
    """How the neurons move over the fit half, and with A, B and A∧B, for each pair."""
    rows = [
        (int(layer), where_holds(labels, str(a)), where_holds(labels, str(b)))
        for layer, a, b in zip(chosen["layer"], chosen["a"], chosen["b"], strict=True)
    ]
    return neuron_scales(hooked, tokens, docs, rows)


def _measured(  # noqa: PLR0913
    hooked: HookedModel,
    tokens: Tokens,
    docs: np.ndarray,
    labels: Labels,
    chosen: pd.DataFrame,
    edits: list[Edit],
    n_random: int,
    what: str,
    watch: Any,
) -> CausalCheck:
    n_tokens = int(tokens.counted[docs].sum())
    with watching(watch) as report:
        parts = list(
            predict(hooked, tokens, docs, edits, progress=lambda done: report("ablating", done, n_tokens))
        )
    at = np.concatenate([part.tokens for part in parts])
    changes = {
        "loss": np.concatenate([part.change for part in parts], axis=1),
        "divergence": np.concatenate([part.divergence for part in parts], axis=1),
    }
    doc = tokens.doc_of_token[at]
    rows: list[dict[str, Any]] = []
    draws: list[dict[str, Any]] = []
    each = 1 + 2 * n_random
    for p, row in enumerate(chosen.to_dict("records")):
        holds = [np.isin(at, where_holds(labels, str(row[side]))) for side in ("a", "b")]
        quadrant = quadrant_of(*holds)
        named = {name: row[name] for name in ("layer", "a", "b", "computed")}
        mine = slice(p * each, (p + 1) * each)
        found, drawn = _row({key: values[mine] for key, values in changes.items()}, quadrant, doc, n_random)
        rows.append(named | found)
        draws += [named | draw for draw in drawn]
    settings = {
        "what": what, "n_random": n_random, "n_tokens": len(at), "n_docs": len(np.unique(doc)),
        "loss": float(np.concatenate([part.loss for part in parts]).mean()),
    }  # fmt: skip
    return CausalCheck(pd.DataFrame(rows), pd.DataFrame(draws), settings)


def where_holds(labels: Labels, name: str) -> np.ndarray:
    """Counted tokens at which a concept of the run holds.

    Args:
        labels: of the run.
        name: of the concept.

    Raises:
        InputError: it is none of them.
    """
    if name not in labels.names:
        raise InputError(
            f"concepts: the run has {name!r}, which is none of the {labels.n_concepts} given; pass the concepts of the run."
        )
    return labels.where(name)


def _row(
    changes: dict[str, np.ndarray], quadrant: np.ndarray, doc: np.ndarray, n_random: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    kinds = [KINDS[0], *([KINDS[1]] * n_random), *([KINDS[2]] * n_random)]
    row: dict[str, Any] = {}
    draws: list[dict[str, Any]] = [{"kind": kind} for kind in kinds]
    for measure, change in changes.items():
        found = quadrant_change(change, quadrant, doc)
        if not (found.n_tokens > 0).all():
            raise DegenerateError(
                f"a quadrant holds no token among the {len(quadrant):,} that were read; raise max_tokens."
            )
        row |= {f"n{name}": int(n) for name, n in zip(QUADRANTS, found.n_tokens, strict=True)}
        row |= {f"{measure}{name}": float(v) for name, v in zip(QUADRANTS, found.mean[0], strict=True)}
        row |= {f"{measure}{name}_se": float(v) for name, v in zip(QUADRANTS, found.se[0], strict=True)}
        row[f"{measure}_interaction"] = float(found.interaction[0])
        row[f"{measure}_interaction_se"] = float(found.interaction_se[0])
        row[f"{measure}_selective"] = bool(found.selective[0])
        for k, kind in enumerate(KINDS[1:]):
            random = found.interaction[1 + k * n_random : 1 + (k + 1) * n_random]
            row[f"{measure}_p_{kind}"] = p_against(float(found.interaction[0]), random)
        for i, draw in enumerate(draws):
            draw |= {f"{measure}{name}": float(v) for name, v in zip(QUADRANTS, found.mean[i], strict=True)}
            draw[f"{measure}_interaction"] = float(found.interaction[i])
            draw[f"{measure}_selective"] = bool(found.selective[i])
    return row, draws[1:]
