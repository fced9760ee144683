"""`compression_curve`: what a layer still computes when the weights at its neurons are pruned, rounded or re-quantised.

After each step the whole analysis runs again on the same text and pairs. The counts stand beside the bits that the
compressed weights take to describe (a layer cannot tell more than it holds: `probekit.theory.recovered`) and beside
m′ ln m′, the parameters that so many features of low influence need (Adler & Shavit, arXiv 2409.15318), constant 1
assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from probekit.analysis.api import analyze
from probekit.analysis.reading import cached
from probekit.errors import ConfigError, guarded
from probekit.evidence.truth import Truth
from probekit.model.compress import check_format, compressed
from probekit.model.gguf import bits_of_types
from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.model.intervene import predict
from probekit.report.compression import compression_chart, render_compression, summary_html
from probekit.results.run import Run
from probekit.storage import store
from probekit.text.corpus import Corpus, as_corpus
from probekit.text.tokens import Tokens
from probekit.theory import bounds
from probekit.theory.recovered import description_bits, recovered_bits

COLUMNS = {
    "step": "What was done to the weights.",
    "kind": "whole, pruned, rounded or format.",
    "n_weights": "Weights that are not 0.",
    "bits": "Bits of each of them.",
    "bits_described": "log2 C(P, z) + z·b, bits that describe the compressed weights; in a format, their bits in a file.",
    "loss": "Mean loss of the next token over the text, in nats.",
    "loss_change": "Loss less that of the whole model.",
    "loss_change_se": "Its standard error, documents drawn anew.",
    "n_tested": "Pairs tested, the same in every step.",
    "n_above_twins": "Pairs above the null layers with relays removed. The null layers are those of the compressed layer.",
    "n_computed": "Pairs that are pair-specific as well.",
    "still_above": "Of the pairs above the null layers in the whole model, those that still are.",
    "still_computed": "Of the pairs computed in the whole model, those that still are.",
    "d_prime_correlation": "Rank correlation of the pairs' d′ (relays removed) with those in the whole model.",
    "params_needed": "m′ ln m′ for m′ = n_computed: parameters so many features need, constant 1 assumed.",
    "bits_recovered": "Bits that the computed pairs give about the planted ones; NaN where no answer is known.",
}
"""Columns of `CompressionCurve.steps` and what they mean."""


@dataclass(frozen=True, repr=False)
class CompressionCurve:
    """What one layer still computes, step by step."""

    steps: pd.DataFrame
    """One row a step, the whole layer first; `describe()` says what each column means."""
    summary: dict[str, Any]
    """Model, layer, text, sizes and settings."""

    def __repr__(self) -> str:
        whole, last = self.steps.iloc[0], self.steps.iloc[-1]
        return (
            f"CompressionCurve({self.summary['model']}, layer {self.summary['layer']}: {len(self.steps)} steps, "
            f"{whole['n_above_twins']} pairs above null layers in the whole layer, {last['n_above_twins']} after "
            f"“{last['step']}”)"
        )

    def _repr_html_(self) -> str:
        return summary_html(self)

    def describe(self) -> pd.DataFrame:
        """What the columns of `steps` mean."""
        return pd.DataFrame({"column": list(COLUMNS), "meaning": list(COLUMNS.values())})

    def plot(self) -> Any:
        """Pairs above the null layers and the model's loss against the bits of the weights, as an Altair chart."""
        return compression_chart(self)

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
        store.write_text(target, render_compression(self))
        return target


@dataclass(frozen=True)
class _Step:
    """One compression."""

    name: str
    kind: str
    keep: float = 1.0
    bits: int | None = None
    stored_as: str | None = None


@guarded
def compression_curve(  # noqa: PLR0913
    model: Any,
    corpus: Any = None,
    *,
    layer: int,
    keep: Sequence[float] = (0.5, 0.2, 0.1, 0.05),
    bits: Sequence[int] = (8, 4, 3, 2, 1),
    formats: Sequence[str] = (),
    loss_tokens: int = 12_000,
    out: str | Path | None = None,
    device: str = "auto",
    dtype: Any = None,
    tokenizer: Any = None,
    truth: Any = None,
    **options: Any,
) -> CompressionCurve:
    """What one layer still computes when the weights that act at its neurons are pruned, rounded or re-quantised.

    Args:
        model: as in `analyze`; an object is compressed in place and afterwards as it was.
        corpus: as in `analyze`.
        layer: which layer is compressed and analysed.
        keep: shares of the weights that are not 0 which stay, the largest by magnitude (of gate and linear half together).
        bits: bits to which every weight is rounded: evenly spaced levels up to the largest, 1 for sign times mean size.
        formats: tensor types of GGUF files through which the weights go, such as "Q8_0", "Q4_1"; needs the extra `gguf`.
        loss_tokens: tokens of the corpus over which the model's loss is taken; 0 leaves it out.
        out: a folder in which the run of every step is kept, so that a curve that was stopped goes on; None keeps none.
        device: as in `analyze`.
        dtype: as in `analyze`.
        tokenizer: as in `analyze`.
        truth: as in `analyze`; with it `steps` says how many bits of the answer the finds recover.
        **options: everything else `analyze` takes (concepts, pairs, max_tokens, twins, seed, …).

    Returns:
        A table of the steps, a chart, a page.

    Raises:
        ConfigError: no step, a share outside (0, 1], bits or loss_tokens that are no such number, a format that cannot be
            written.
        InputError: an argument of `analyze` that cannot be used, or no such layer.
    """
    steps = _steps(keep, bits, formats)
    _no_double(options)
    if isinstance(loss_tokens, bool) or loss_tokens < 0:
        raise ConfigError(f"loss_tokens: got {loss_tokens!r}, wanted a whole number; 0 leaves the loss out.")
    texts = cached(as_corpus(corpus)) if corpus is not None else Corpus.docs()
    hooked = load_hooked_model(model, device=device, dtype=dtype, tokenizer=tokenizer)
    hooked.check_layer(layer)
    hooked.require_decoder("the compression curve")
    answer = None if truth is None else Truth.of(truth)
    rows: list[dict[str, Any]] = []
    whole: _Measured | None = None
    for number, step in enumerate(steps):
        folder = (
            None
            if out is None
            else Path(out) / f"{number:02d}-{step.name.replace(' ', '-').replace('%', '')}"
        )
        found = _measure(hooked, texts, layer, step, loss_tokens, folder, truth, options)
        whole = whole or found
        rows.append(_row(step, found, whole, answer, layer))
    assert whole is not None
    summary = {
        "model": hooked.name, "layer": layer, "n_params": whole.n_params, "corpus": texts.name,
        "n_tokens": _n_tokens(whole.run), "loss_tokens": whole.n_predicted,
        "n_twins": int(whole.run.layers.iloc[0]["n_twins"]), "planted": answer is not None,
    }  # fmt: skip
    return CompressionCurve(pd.DataFrame(rows, columns=list(COLUMNS)), summary)


def _n_tokens(run: Run) -> int:
    corpus = run.summary["corpus"]
    return int(corpus["n_tokens_fit"] + corpus["n_tokens_confirm"])


def _steps(keep: Sequence[float], bits: Sequence[int], formats: Sequence[str]) -> list[_Step]:
    for share in keep:
        if not 0 < share <= 1:
            raise ConfigError(f"keep: got {share!r}, wanted shares above 0 and at most 1.")
    for number in bits:
        if isinstance(number, bool) or number != int(number) or number < 1:
            raise ConfigError(f"bits: got {number!r}, wanted whole numbers of at least 1.")
    for name in formats:
        check_format(name)
    steps = [
        *(_Step(f"keep {100 * share:.3g}%", "pruned", keep=float(share)) for share in keep if share < 1),
        *(_Step(f"{number} bit{'s' if number > 1 else ''}", "rounded", bits=int(number)) for number in bits),
        *(_Step(name, "format", stored_as=name) for name in formats),
    ]
    if not steps:
        raise ConfigError(
            "keep, bits, formats: got no step; give at least one share, number of bits or format."
        )
    return [_Step("whole", "whole"), *steps]


def _no_double(options: dict[str, Any]) -> None:
    for name in ("layers", "engine", "command"):
        if name in options:
            raise ConfigError(f"{name}: a compression curve sets this itself; leave it out.")


@dataclass(frozen=True)
class _Measured:
    """One step's run, weights and loss."""

    run: Run
    n_weights: int
    n_params: int
    bits: float
    loss: np.ndarray
    """Summed loss of each document, in nats."""
    n_each: np.ndarray
    """Predictions of each document."""

    @property
    def n_predicted(self) -> int:
        return int(self.n_each.sum())


def _measure(
    hooked: HookedModel, texts: Corpus, layer: int, step: _Step, loss_tokens: int, folder: Path | None, truth: Any,
    options: dict[str, Any],
) -> _Measured:  # fmt: skip
    weights = hooked.mlp(layer).weight
    n_params, stored = weights.numel(), float(hooked.bits_at(layer))
    n_kept = None if step.keep == 1.0 else round(step.keep * int((weights != 0).sum()))
    with compressed(hooked, layer, n_kept=n_kept, bits=step.bits, stored_as=step.stored_as) as n_weights:
        loss, n_each = np.zeros(0), np.zeros(0)
        if loss_tokens:
            loss, n_each = losses(hooked, _tokens(hooked, texts, loss_tokens, options))
        run = analyze(hooked.bridge, texts, layers=[layer], out=folder, truth=truth, **options)
    bits = bits_of_types()[step.stored_as] if step.stored_as else float(step.bits or stored)
    return _Measured(run, n_weights, n_params, bits, loss, n_each)


def _tokens(hooked: HookedModel, texts: Corpus, max_tokens: int, options: dict[str, Any]) -> Tokens:
    context = min(hooked.context, options.get("context", 128))
    return texts.tokenize(hooked.tokenizer, context=context, max_tokens=max_tokens, bos_id=hooked.bos_id)


def losses(hooked: HookedModel, tokens: Tokens) -> tuple[Float[np.ndarray, " doc"], Int[np.ndarray, " doc"]]:
    """The model's loss on each document, summed over its predictions, in nats; and how many predictions it has."""
    parts = list(predict(hooked, tokens, np.arange(tokens.n_docs), []))
    loss, at = np.concatenate([p.loss for p in parts]), np.concatenate([p.tokens for p in parts])
    doc = tokens.doc_of_token[at]
    return np.bincount(doc, weights=loss, minlength=tokens.n_docs), np.bincount(doc, minlength=tokens.n_docs)


def _row(step: _Step, found: _Measured, whole: _Measured, answer: Truth | None, layer: int) -> dict[str, Any]:
    pairs = found.run.pairs(layer).set_index(["a", "b"])
    before = whole.run.pairs(layer).set_index(["a", "b"]).reindex(pairs.index)
    above, computed = (pairs[name].astype("boolean").fillna(False) for name in ("above_twins", "computed"))
    was_above, was_computed = (
        before[name].astype("boolean").fillna(False) for name in ("above_twins", "computed")
    )
    n_computed = int(computed.sum())
    described = (
        found.n_params * found.bits
        if step.kind == "format"
        else description_bits(found.n_params, found.n_weights, found.bits)
    )
    return {
        "step": step.name, "kind": step.kind, "n_weights": found.n_weights, "bits": found.bits, "bits_described": described,
        **_loss_row(found, whole), "n_tested": len(pairs), "n_above_twins": int(above.sum()), "n_computed": n_computed,
        "still_above": int((above & was_above).sum()), "still_computed": int((computed & was_computed).sum()),
        "d_prime_correlation": float(pairs["d_prime_relay"].corr(before["d_prime_relay"], method="spearman")),
        "params_needed": float(bounds.min_params(n_computed)) if n_computed > 1 else 0.0,
        "bits_recovered": _recovered(pairs.index, computed.to_numpy(bool), answer, layer),
    }  # fmt: skip


def _loss_row(found: _Measured, whole: _Measured) -> dict[str, float]:
    n = found.n_predicted
    if not n:
        return {"loss": np.nan, "loss_change": np.nan, "loss_change_se": np.nan}
    change = float((found.loss - whole.loss).sum() / n)
    influence = (found.loss - whole.loss - change * found.n_each) / n
    return {
        "loss": float(found.loss.sum() / n),
        "loss_change": change,
        "loss_change_se": float(np.sqrt((influence**2).sum())),
    }


def _recovered(pairs: pd.Index[Any], computed: np.ndarray, answer: Truth | None, layer: int) -> float:
    if answer is None:
        return float("nan")
    planted = {frozenset(pair) for pair in answer.planted.get(layer, ())}
    hit = np.array([frozenset(pair) in planted for pair in pairs])
    return recovered_bits(len(pairs), int(hit.sum()), int(computed.sum()), int((hit & computed).sum()))
