"""`writes`: what a computed pair's readout writes on the next token, and what the layer makes of A and B together.

Two questions about each pair of a finished run. *Tokens*: the readout's image under the output weights, sent through the
final norm's gain and the unembedding: which tokens does it promote and suppress, and more than random readouts of the same
norm (`probekit.evidence.writes`)? *Patching*: at tokens where A and B hold, A's evidence, B's or both are taken out of the
layer's input (their directions by least squares on all labels); the second difference

    out(x) − out(x − a) − out(x − b) + out(x − a − b)

is what the layer writes for A∧B alone. A layer that is additive in A and B writes exactly nothing; the writing of a planted
AND is the image of its neurons. The same is done with random directions as long as a and b. Axes: pair token input output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from probekit.analysis import run_fingerprint
from probekit.arguments import as_layers
from probekit.errors import InputError, ModelError, StoreError, guarded
from probekit.evidence.writes import promoted
from probekit.followups.causal import chosen_pairs, halves_of, labels_of, require_same, where_holds
from probekit.model.ambient import as_torch_starts
from probekit.model.claims import Works
from probekit.model.grid import output_weights
from probekit.model.harvest import harvest
from probekit.model.hooked_model import DTYPES, HookedModel, load_hooked_model
from probekit.model.twins import concept_directions
from probekit.results.run import Run, load
from probekit.results.text_snapshot import TextSnapshot
from probekit.text.concepts.labels import Labels

COLUMNS = {
    "layer": "Layer.",
    "a": "First concept.",
    "b": "Second concept.",
    "computed": "Whether the run calls the pair computed.",
    "promoted": "Tokens whose logits the readout raises most, strongest first.",
    "suppressed": "Tokens whose logits it lowers most.",
    "p_promoted": "(b + 1)/(B + 1) against random readouts: whether some token is raised as much.",
    "p_suppressed": "The same for the token that falls most.",
    "logit_sd": "Standard deviation of the readout's logits over the vocabulary, up to the final norm's scale.",
    "logit_sd_random": "Its mean over random readouts of the same norm.",
    "n_patched": "Tokens with A and B at which their evidence was taken out; with none the numbers below are NaN.",
    "patch_share": "Length of the mean second difference as a share of the layer's mean change when both are taken out.",
    "patch_size": "Its length, in units of the residual stream.",
    "patch_size_random": "The length with random directions as long as A's and B's, the mean over draws.",
    "p_patch": "(b + 1)/(B + 1): random directions whose second difference is as long.",
    "patch_cosine": "Cosine of the mean second difference with the readout's image.",
    "patch_promoted": "Tokens that the mean second difference raises most.",
}
"""Columns of `Writes.table` and what they mean."""


@dataclass(frozen=True)
class Writes:
    """What some pairs write."""

    table: pd.DataFrame
    """One row a pair; `describe()` says what each column means."""
    images: Float[np.ndarray, "pair output"]
    """The readout's image under the output weights."""
    patches: Float[np.ndarray, "pair output"]
    """The mean second difference."""

    def __repr__(self) -> str:
        return f"Writes({len(self.table)} pairs)"

    def _repr_html_(self) -> str:
        return self.table.to_html(float_format=lambda value: f"{value:.3g}")

    def describe(self) -> pd.DataFrame:
        """What the columns of `table` mean."""
        return pd.DataFrame({"column": list(COLUMNS), "meaning": list(COLUMNS.values())})


@guarded
@as_torch_starts()
def writes(  # noqa: PLR0913
    run: Run | str | Path,
    model: Any,
    *,
    concepts: Any = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    n_pairs: int = 5,
    layers: int | str | Sequence[int] | None = None,
    top: int = 10,
    n_random: int = 200,
    max_tokens: int = 20_000,
    seed: int = 0,
    device: str = "auto",
) -> Writes:
    """Which tokens a pair's readout promotes, and what the layer writes for A and B together and for neither alone.

    Args:
        run: a finished run on a model, or its directory.
        model: the same model.
        concepts: the same concepts; None are the defaults.
        pairs: as in `causal`.
        n_pairs: as in `causal`.
        layers: as in `causal`.
        top: tokens named at each end.
        n_random: random readouts of the same norm; of random directions an eighth as many.
        max_tokens: tokens of each half that are read; whole documents. Evidence is found on the fit half and taken out on
            the confirm half.
        seed: of what is random.
        device: "auto", "cpu" or "cuda".

    Returns:
        Tables; see `Writes`. Everything later than the layer is left out but the final norm's gain and the unembedding: what
        later layers make of it is `causal`'s question.

    Raises:
        InputError: the model, concepts or pairs are not those of the run, or an option is out of range.
        ModelError: the model has no unembedding that can be read.
        StoreError: the run was made of arrays and keeps no text.
    """
    for name, value in {
        "n_pairs": n_pairs,
        "top": top,
        "n_random": n_random,
        "max_tokens": max_tokens,
    }.items():
        if isinstance(value, bool) or value < 1:
            raise InputError(f"{name}: got {value!r}, wanted a whole number ≥ 1.")
    held = load(run) if isinstance(run, str | Path) else run
    text = TextSnapshot.read(held.path, held._results.files)
    if text is None:
        raise StoreError(
            f"{held.path}: a run on arrays keeps no text and no model; analyse the model itself."
        )
    require_same("model", run_fingerprint.of_model(model), held)
    chosen = chosen_pairs(held, pairs, n_pairs, as_layers(layers))
    told = str(held.record["science"].get("dtype"))
    hooked = load_hooked_model(model, device=device, dtype=told if told in DTYPES else None)
    hooked.require_decoder("what a pair writes on the next token")
    labels = labels_of(held, concepts, hooked, text.tokens)
    docs = halves_of(text.tokens, int(held.record["science"]["settings"]["seed"]), max_tokens)
    rng = np.random.default_rng([seed, 41])
    unembed = unembedding(hooked)
    rows: list[dict[str, Any]] = []
    images: list[np.ndarray] = []
    patches: list[np.ndarray] = []
    for layer in sorted({int(value) for value in chosen["layer"].tolist()}):
        patching = _Patching.of(hooked, text.tokens, labels, docs, layer)
        for row in chosen[chosen["layer"] == layer].to_dict("records"):
            found, image, patch = _pair(row, patching, hooked, unembed, top, n_random, rng)
            rows.append(found)
            images.append(image)
            patches.append(patch)
    return Writes(pd.DataFrame(rows, columns=list(COLUMNS)), np.stack(images), np.stack(patches))


def unembedding(hooked: HookedModel) -> Float[Tensor, "output vocab"]:
    """The unembedding behind the final norm's gain, float32; the part that a norm takes off as a mean goes with it.

    Raises:
        ModelError: the model has none that can be read.
    """
    weight = getattr(getattr(hooked.bridge, "unembed", None), "W_U", None)
    if not isinstance(weight, Tensor):
        raise ModelError(f"{hooked.name}: its unembedding cannot be read; choose a model that has one.")
    rows = weight.detach().float().cpu()
    rows = rows if rows.shape[0] == hooked.d_model else rows.T
    norm = getattr(hooked.bridge, "ln_final", None)
    gain = getattr(norm, "weight", None)
    if isinstance(gain, Tensor):
        # Gemma's gain is stored less one
        shift = (
            1.0 if "gemma" in type(getattr(hooked.bridge, "original_model", None)).__name__.lower() else 0.0
        )
        rows = (gain.detach().float().cpu() + shift)[:, None] * rows
    if getattr(norm, "bias", None) is not None:
        rows = rows - rows.mean(0)  # LayerNorm takes the mean off what is written
    return rows


@dataclass(frozen=True)
class _Patching:
    """One layer: how it works, its inputs on the confirm half, and the evidence of every concept."""

    works: Works
    inputs: Tensor
    tokens: np.ndarray
    evidence: Tensor
    labels: Labels

    @classmethod
    def of(
        cls, hooked: HookedModel, tokens: Any, labels: Labels, docs: dict[str, np.ndarray], layer: int
    ) -> _Patching:
        parts: dict[str, tuple[Tensor, np.ndarray]] = {}
        for half, rows in docs.items():
            blocks = list(harvest(hooked, tokens, rows, [layer]))
            inputs = torch.cat([block.sites[layer][0].cpu() for block in blocks])
            parts[half] = inputs, np.concatenate([block.tokens for block in blocks])
        inputs, at = parts["fit"]
        dense = torch.from_numpy(labels.dense()[at]).double()
        works = Works(hooked.mlp(layer).to("cpu"), output_weights(hooked, layer))
        return cls(works, *parts["confirm"], concept_directions(inputs, dense), labels)


def second_difference(
    works: Works, inputs: Float[Tensor, "token input"], a: Float[Tensor, " input"], b: Float[Tensor, " input"]
) -> tuple[Float[np.ndarray, " output"], float]:
    """Mean of out(x) − out(x − a) − out(x − b) + out(x − a − b), and its length as a share of the mean change without both.

    Args:
        works: the layer.
        inputs: x, at tokens where both hold.
        a: evidence of the one concept.
        b: of the other.
    """
    outputs: list[Tensor] = []
    for taken in (torch.zeros_like(a), a, b, a + b):
        written = works.on(inputs - taken).outputs
        assert written is not None
        outputs.append(written.double())
    whole, no_a, no_b, neither = outputs
    mean = (whole - no_a - no_b + neither).mean(0)
    change = float((whole - neither).mean(0).norm())
    return mean.float().numpy(), float(mean.norm()) / change if change > 0 else 0.0


@dataclass(frozen=True)
class Patch:
    """What the layer writes for A and B together; NaN throughout where no token with both was read."""

    mean: Float[np.ndarray, " output"]
    """The mean second difference."""
    share: float
    """Its length as a share of the mean change without both."""
    size_random: float
    """Its mean length with random directions."""
    p: float
    """(b + 1)/(B + 1): random directions with which it is as long."""

    @property
    def size(self) -> float:
        """Its length."""
        return float(np.linalg.norm(self.mean))


def patched(
    works: Works,
    inputs: Float[Tensor, "token input"],
    a: Float[Tensor, " input"],
    b: Float[Tensor, " input"],
    n_random: int,
    rng: np.random.Generator,
) -> Patch:
    """The second difference, beside that of random directions as long.

    Args:
        works: the layer.
        inputs: what it reads at tokens where both hold.
        a: evidence of the one concept.
        b: of the other.
        n_random: draws of random directions.
        rng: of these.
    """
    assert works.writes is not None
    if not len(inputs):
        return Patch(np.full(works.writes.shape[1], np.nan, np.float32), np.nan, np.nan, np.nan)
    mean, share = second_difference(works, inputs, a, b)
    drawn = np.array(
        [
            np.linalg.norm(second_difference(works, inputs, _as_long(a, rng), _as_long(b, rng))[0])
            for _ in range(n_random)
        ]
    )
    p = (1 + (drawn >= np.linalg.norm(mean)).sum()) / (1 + len(drawn))
    return Patch(mean, share, float(drawn.mean()), float(p))


def _pair(
    row: dict[Any, Any],
    patching: _Patching,
    hooked: HookedModel,
    unembed: Tensor,
    top: int,
    n_random: int,
    rng: np.random.Generator,
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    works, labels = patching.works, patching.labels
    assert works.writes is not None
    # copies: what comes from a file may be read-only
    weights, neurons = np.array(row["weights"], np.float32), np.array(row["neurons"], np.int64)
    image = works.writes[torch.from_numpy(neurons)].T @ torch.from_numpy(weights)
    moved = np.stack([rng.permutation(len(works.writes))[: len(weights)] for _ in range(n_random)])
    random = torch.einsum("rko,k->ro", works.writes[torch.from_numpy(moved)], torch.from_numpy(weights))
    said = promoted((image @ unembed).numpy(), (random @ unembed).numpy(), top)
    holds = [np.isin(patching.tokens, where_holds(labels, str(row[side]))) for side in ("a", "b")]
    both = np.flatnonzero(holds[0] & holds[1])
    x = patching.inputs[torch.from_numpy(both)]
    a, b = (patching.evidence[labels.names.index(str(row[side]))] for side in ("a", "b"))
    patch = patched(works, x, a, b, max(1, n_random // 8), rng)
    order = np.argsort(-(torch.from_numpy(patch.mean) @ unembed).numpy(), kind="stable")[:top]
    lengths = patch.size * float(image.norm())
    found = {
        "layer": int(row["layer"]), "a": row["a"], "b": row["b"], "computed": row["computed"],
        "promoted": _spelt(hooked, said.up), "suppressed": _spelt(hooked, said.down), "p_promoted": said.p_up,
        "p_suppressed": said.p_down, "logit_sd": said.size, "logit_sd_random": said.size_random,
        "n_patched": len(both), "patch_share": patch.share, "patch_size": patch.size, "patch_size_random": patch.size_random,
        "p_patch": patch.p,
        "patch_cosine": 0.0 if lengths == 0 else float(patch.mean @ image.numpy()) / lengths,
        "patch_promoted": _spelt(hooked, order) if len(both) else [],
    }  # fmt: skip
    return found, image.numpy(), patch.mean


def _as_long(vector: Tensor, rng: np.random.Generator) -> Tensor:
    drawn = torch.from_numpy(rng.standard_normal(len(vector))).float()
    return drawn * (vector.norm() / drawn.norm())


def _spelt(hooked: HookedModel, tokens: np.ndarray) -> list[str]:
    return [hooked.token_string(int(token)) or str(int(token)) for token in tokens]
