"""`audit`: is what somebody claims a layer computes made there, relayed, or no more than null layers show?

A claim is a pair of concepts, a direction (of neurons or of the output), a latent of a dictionary, or whatever a recipe
finds in the layer's activations. A pair goes through the analysis. Any other claim is first *described*: the pair of
concepts at which it is surest to interact on the fit half. Then four questions, on the confirm half:

1. Is its d′ there above that of the same claim in plain null layers, each described anew?
2. Is it, with relays removed: what the input holds along the pair's interaction directions scrambled, in both alike?
3. Is the pair itself read better from the layer than from plain null layers, by the analysis' own readouts?
4. Is it, with relays removed?

*Made here*: all four. *Relayed*: 1 and 3. Questions 1 and 2 are about the claim, 3 and 4 do not look at it, so that a claim
which was fitted to the layer (a latent, a probe) cannot profit from the fit. A recipe is repeated on every null layer,
where nothing corresponds to anything: questions 1 and 2 then pool all it finds. Of a pair only 3 and 4 can be asked.

A layer that computes shows it along most directions, so a random one may pass as well. Beside the verdict stands whether
the claim's d′ is above that of random directions of the same layer, each described anew and rectified as the claim is; it
decides nothing, since in a layer of few features random directions carry each of them strongly.
Axes: token claim pair null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probekit.analysis.design import StudyDesign
from probekit.analysis.inputs import AnalysisInputs, inputs_of_model
from probekit.analysis.layer_summary import summarise_layer
from probekit.analysis.passes import CALIBRATION_TOKENS, LayerMeasure, measure_layers
from probekit.analysis.progress import watching
from probekit.analysis.reading import Reading
from probekit.analysis.settings import DECIDING_K, Settings
from probekit.analysis.source import Half
from probekit.errors import ConfigError, InputError, ModelError, guarded
from probekit.evidence.claims import VERDICTS, Passes, interval, matched_p, unmatched_p
from probekit.evidence.decide import adjusted
from probekit.evidence.pair_sampling import PairSampling
from probekit.followups.null_claims import Audited, Bench, RecipeClaim, read_inputs
from probekit.model.ambient import as_torch_starts
from probekit.model.claims import ClaimedLatents, Claims, Works, claimed_directions, place_of_site
from probekit.model.dictionaries import read_dictionary
from probekit.model.grid import output_constant, output_weights
from probekit.model.hooked_model import HookedModel
from probekit.model.latents import Encoder, site_activations
from probekit.model.twins import InputFrame, PcSignTwins
from probekit.probes.workers import start_workers
from probekit.report.claims import render_audit, summary_html
from probekit.storage import store

COLUMNS = {
    "claim": "What is claimed: a pair, or the name of a direction or latent.",
    "a": "The pair that describes it (of a claimed pair: the pair itself).",
    "b": "Its second concept.",
    "n11": "Tokens of the confirm half at which both hold.",
    "input_share": "Share of the claim's variance that is linear in the layer's input (held out); NaN for a pair.",
    "d_prime": "Interaction of the claim at that pair, confirm half; of a pair: its readout's d′.",
    "d_prime_null": "Mean of the same in plain null layers.",
    "excess": "d_prime less d_prime_null.",
    "excess_low": "Lower end of its 95 % interval (documents and null layers drawn anew).",
    "excess_high": "Upper end.",
    "d_prime_removed": "d′ with relays removed.",
    "d_prime_removed_null": "Mean of the same in null layers.",
    "p_plain": "One-sided p against plain null layers.",
    "p_removed": "The same with relays removed.",
    "p_random": "One-sided p against random directions of the same layer; NaN for a pair.",
    "above_plain": "Whether p_plain passes Benjamini–Hochberg over the claims.",
    "above_removed": "Whether p_removed does.",
    "above_random": "Whether p_random does.",
    "pair_above_plain": "Whether the pair itself is above plain null layers in the analysis.",
    "pair_above_removed": "Whether it is with relays removed.",
    "pair_computed": "Whether it is pair-specific as well: computed, in the words of a report.",
    "verdict": "made here, relayed, or not above its null layers.",
}
"""Columns of `Audit.table` and what they mean."""
N_RANDOM = 400
"""Random directions of the layer: p can be a fifth of a percent, and fifty claims can pass together."""
MIN_NULLS = 4


@dataclass(frozen=True, repr=False)
class Audit:
    """Claims about one layer, each with a verdict."""

    table: pd.DataFrame
    """One row a claim; `describe()` says what each column means."""
    summary: dict[str, Any]
    """Model, layer, text, sizes and settings."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.counts[name]} {name}" for name in VERDICTS)
        return f"Audit({self.summary['model']}, layer {self.summary['layer']}: {counts})"

    def _repr_html_(self) -> str:
        return summary_html(self)

    @property
    def counts(self) -> dict[str, int]:
        """How many claims got each verdict."""
        return {name: int((self.table["verdict"] == name).sum()) for name in VERDICTS}

    def describe(self) -> pd.DataFrame:
        """What the columns of `table` mean."""
        return pd.DataFrame({"column": list(COLUMNS), "meaning": list(COLUMNS.values())})

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
        store.write_text(target, render_audit(self))
        return target


@guarded
@as_torch_starts()
def audit(  # noqa: PLR0913
    claim: Any,
    model: Any,
    corpus: Any = None,
    *,
    layer: int,
    space: Any = None,
    latents: Sequence[int] | None = None,
    site: str | None = None,
    names: Sequence[str] | None = None,
    concepts: Any = None,
    pairs: Any = None,
    max_tokens: int = 60_000,
    context: int = 128,
    max_pairs: int = 300,
    min_support: int = 60,
    twins: int = 20,
    q: float = 0.05,
    seed: int = 0,
    device: str = "auto",
    tokenizer: Any = None,
    progress: Any = None,
) -> Audit:
    """Hold what is claimed to be computed at a layer against null layers, with and without relays, on held-out text.

    Args:
        claim: a pair (a, b) of concept names or a list of pairs; a direction or an array of directions [claim width]; the
            folder of a dictionary as in `latents`; or a recipe, a function of the activations [token width] of the fit
            half that returns directions or a function of activations. A recipe is run on every null layer as well.
        model: as in `analyze`.
        corpus: as in `analyze`.
        layer: which layer is said to compute it.
        space: "neuron" or "output": where directions lie and a recipe looks. None goes by the width of directions, and
            shows a recipe the neurons.
        latents: latents of a dictionary; needed with one.
        site: the hook of TransformerLens that a dictionary reads; None takes what its files name.
        names: of directions or latents; None numbers them.
        concepts: as in `analyze`; what claims can be described by.
        pairs: as in `analyze`, for claims that are no pairs.
        max_tokens: counted tokens that are read; half of them fit, half confirm.
        context: as in `analyze`.
        max_pairs: pairs by which claims can be described.
        min_support: as in `analyze`.
        twins: null layers, at least 4; with fewer than 20 a single claim cannot pass.
        q: level of the false discovery rate over the claims.
        seed: of null layers, pairs and halves.
        device: as in `analyze`.
        tokenizer: as in `analyze`.
        progress: as in `analyze`.

    Returns:
        A verdict on every claim, and a page.

    Raises:
        ConfigError: fewer null layers than four.
        InputError: a claim, layer or concept that cannot be used.
        ShapeError: a direction that is as wide as neither neurons nor output.
        ModelError: the model cannot be loaded, or adds more to the residual stream than the layer's output.
    """
    if twins < MIN_NULLS:
        raise ConfigError(f"twins: got {twins}, wanted at least {MIN_NULLS} null layers to audit against.")
    claimed_pairs = _as_pairs(claim)
    settings = Settings(
        max_tokens, context, max_pairs, min_support, twins, q, seed, controls=(), spikes=(),
    )  # fmt: skip
    start_workers()
    reading = Reading(model, corpus, settings, tokenizer=tokenizer, device=device)
    hooked = reading.hooked
    hooked.check_layer(layer)
    claims = None if claimed_pairs is not None else _claims(claim, hooked, layer, space, latents, site, names)
    with watching(progress) as report:
        held = inputs_of_model(
            reading, concepts, [layer], PairSampling.of(claimed_pairs if claims is None else pairs), report
        )
        measure = next(measure_layers(held.source, [layer], held.design, report))
        table = _pair_results(measure, held.design, held.names, held.kinds)
        if claims is None:
            rows = rows_of_pairs(table, measure, q)
        else:
            works = Works(
                hooked.mlp(layer).to("cpu"), output_weights(hooked, layer), output_constant(hooked, layer)
            )
            inputs = read_inputs(held.source, layer)
            before = _before(hooked, held, layer, works, inputs) if claims.place == "after" else None
            audited = Audited(works, inputs, held.design, before, seed)
            rows = rows_of_claims(audited, claims, table, twins, q)
    summary = {
        "model": held.model["name"], "layer": layer, "corpus": held.corpus["name"],
        "n_tokens": held.corpus["n_tokens_fit"] + held.corpus["n_tokens_confirm"], "n_twins": twins, "q": q,
        "n_pairs": len(table), "kind": _kind(claims), "n_claims": len(rows),
    }  # fmt: skip
    return Audit(rows, summary)


# ----------------------------------------------------------------------------------------------- what is claimed


def _as_pairs(claim: Any) -> list[tuple[str, str]] | None:
    """Pairs of names, or None for claims of another kind."""
    if isinstance(claim, str | Path) or callable(claim) or isinstance(claim, np.ndarray | Tensor):
        return None
    listed: list[Any] = list(claim) if hasattr(claim, "__iter__") else []
    if len(listed) == 2 and all(isinstance(name, str) for name in listed):
        listed = [tuple(listed)]
    if listed and all(_is_pair(pair) for pair in listed):
        return [(str(a), str(b)) for a, b in listed]
    if listed and all(isinstance(value, int | float | list | tuple | np.ndarray) for value in listed):
        return None
    raise InputError(
        f"claim: got {type(claim).__name__}, wanted a pair (a, b) of concept names, an array of directions, the folder of a "
        "dictionary, or a function of activations."
    )


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(name, str) for name in value)
    )


def _claims(
    claim: Any,
    hooked: HookedModel,
    layer: int,
    space: Any,
    latents: Sequence[int] | None,
    site: str | None,
    names: Sequence[str] | None,
) -> Claims | RecipeClaim:
    if space not in (None, "input", "neuron", "output"):
        raise InputError(f"space: got {space!r}, wanted 'neuron' or 'output'.")
    if callable(claim):
        recipe: Any = claim
        return RecipeClaim(recipe, space or "neuron")
    if not isinstance(claim, str | Path):
        held = claim.detach().cpu().numpy() if isinstance(claim, Tensor) else claim
        return claimed_directions(
            held, place=space, n_neurons=hooked.mlp(layer).n_neurons, d_output=hooked.d_model, names=names
        )
    encoder = Encoder.of(hooked, read_dictionary(claim), site)
    dictionary = encoder.dictionary
    if latents is None or not len(latents):
        raise InputError(
            f"latents: none named of {dictionary.name}; pass latents=[…], such as its first fifty."
        )
    outside = [index for index in latents if not 0 <= int(index) < dictionary.n_latents]
    if outside:
        raise InputError(
            f"{dictionary.name}: latent {outside[0]} does not exist; there are {dictionary.n_latents:,}, counted from 0."
        )
    if names is not None and len(names) != len(latents):
        raise InputError(f"names: got {len(names)} for {len(latents)} latents, wanted one each.")
    told = tuple(names) if names is not None else tuple(f"latent {int(index)}" for index in latents)
    place = place_of_site(encoder.site, layer)
    if place == "after" and "ln2_post" in dict(hooked.bridge.blocks[layer].named_children()):
        raise ModelError(
            f"{hooked.name}: layer {layer} normalises its output before adding it, so a null layer's residual stream is not "
            "known; take a dictionary of the MLP's own output."
        )
    chosen = tuple(int(index) for index in latents)
    return ClaimedLatents(told, place, dictionary, encoder.processing, chosen)


def _kind(claims: Claims | RecipeClaim | None) -> str:
    if claims is None:
        return "pair"
    if isinstance(claims, RecipeClaim):
        return "recipe"
    return "latent" if isinstance(claims, ClaimedLatents) else "direction"


# ------------------------------------------------------------------------------------------------ verdicts


def _before(
    hooked: HookedModel, held: AnalysisInputs, layer: int, works: Works, inputs: dict[Half, Tensor]
) -> dict[Half, Tensor]:
    """The residual stream right behind the layer less what the layer writes, in each half."""
    assert held.tokens is not None
    rows = torch.cat(list(site_activations(hooked, held.tokens, f"blocks.{layer}.hook_resid_post")))
    found: dict[Half, Tensor] = {}
    for half, kept in held.design.rows.items():
        outputs = works.on(inputs[half]).outputs
        assert outputs is not None
        found[half] = rows[torch.from_numpy(kept)] - outputs
    return found


def _pair_results(
    measure: LayerMeasure, design: StudyDesign, names: Sequence[str], kinds: Sequence[str]
) -> pd.DataFrame:
    return summarise_layer(measure, design, names=names, kinds=kinds, n_params=1, bits_stored=32.0).pairs


def rows_of_pairs(table: pd.DataFrame, measure: LayerMeasure, q: float) -> pd.DataFrame:
    """Claimed pairs: the analysis' own decision on them, as rows of an audit."""
    d = table["d_prime"].to_numpy(float)
    twins = np.stack([twin.d_prime for twin in measure.twins[DECIDING_K]])
    kappa = table["kappa"].to_numpy(float)
    error = np.where(kappa != 0, np.abs(d * table["kappa_se"] / np.where(kappa != 0, kappa, 1.0)), 0.0)
    excess, low, high = interval(d, error, twins)
    p_plain, p_removed = (table[name].to_numpy(float) for name in ("p_twin", "p_relay"))
    flags = (table[name].to_numpy(bool) for name in ("above_plain", "above_twins"))
    plain, removed = flags
    passes = Passes(plain, removed, plain, removed)
    return _rows(
        [f"{a} ∧ {b}" for a, b in zip(table["a"], table["b"], strict=True)], table, np.arange(len(table)),
        {
            "input_share": np.full(len(table), np.nan), "d_prime": d, "d_prime_null": twins.mean(0), "excess": excess,
            "excess_low": low, "excess_high": high, "d_prime_removed": table["d_prime_relay"].to_numpy(float),
            "d_prime_removed_null": table["d_prime_relay_twins"].to_numpy(float), "p_plain": p_plain,
            "p_removed": p_removed, "p_random": np.full(len(table), np.nan),
        },
        passes, q,
    )  # fmt: skip


def rows_of_claims(
    audited: Audited, claims: Claims | RecipeClaim, table: pd.DataFrame, n_nulls: int, q: float
) -> pd.DataFrame:
    """Claims that are no pairs: described, and held against the same in null layers.

    Args:
        audited: the layer and the text.
        claims: what is claimed of it.
        table: the analysis' decision on every pair of the design, in its order.
        n_nulls: null layers drawn for the claims.
        q: level over the claims.
    """
    frame = InputFrame.of(audited.inputs["fit"][:CALIBRATION_TOKENS])
    rng = np.random.default_rng([audited.seed, 31])
    bench = Bench.of(audited, frame, PcSignTwins.draw(audited.works.weights, frame, n_nulls, rng), rng)
    own = bench.read(claims, None)
    others = [bench.read(claims, null) for null in range(n_nulls)]
    matched = not isinstance(claims, RecipeClaim)
    error = bench.errors(own)
    if matched:
        plain, removed = (np.stack([getattr(o, name) for o in others]) for name in ("d", "removed"))
        p_plain, p_removed = matched_p(own.d, plain), matched_p(own.removed, removed)
    else:
        p_plain = unmatched_p(own.d, [o.d for o in others])
        p_removed = unmatched_p(own.removed, [o.removed for o in others])
        plain, removed = (
            np.array([[getattr(o, name).mean()] for o in others]) * np.ones(len(own.d))
            for name in ("d", "removed")
        )
    excess, low, high = interval(own.d, error, plain)
    p_random = bench.against_random(own, N_RANDOM)
    pair_plain, pair_removed = (
        table[name].to_numpy(bool)[own.pair] for name in ("above_plain", "above_twins")
    )
    return _rows(
        own.names, table, own.pair,
        {
            "input_share": bench.input_share(own), "d_prime": own.d, "d_prime_null": plain.mean(0), "excess": excess,
            "excess_low": low, "excess_high": high, "d_prime_removed": own.removed,
            "d_prime_removed_null": removed.mean(0), "p_plain": p_plain, "p_removed": p_removed, "p_random": p_random,
        },
        Passes(adjusted(p_plain) <= q, adjusted(p_removed) <= q, pair_plain, pair_removed), q,
    )  # fmt: skip


def _rows(
    names: Sequence[str],
    table: pd.DataFrame,
    pair: np.ndarray,
    numbers: dict[str, np.ndarray],
    passes: Passes,
    q: float,
) -> pd.DataFrame:
    about, p_random = table.iloc[pair].reset_index(drop=True), numbers["p_random"]
    nothing = [pd.NA] * len(pair)
    random = nothing if np.isnan(p_random).any() else (adjusted(p_random) <= q).tolist()
    columns: dict[str, Any] = {
        "claim": list(names), "a": about["a"], "b": about["b"], "n11": about["n11"], **numbers,
        "above_plain": passes.plain, "above_removed": passes.removed, "above_random": pd.array(random, dtype="boolean"),
        "pair_above_plain": passes.pair_plain,
        "pair_above_removed": passes.pair_removed, "pair_computed": about["computed"].to_numpy(bool),
        "verdict": passes.verdicts,
    }  # fmt: skip
    return pd.DataFrame(columns)[list(COLUMNS)]
