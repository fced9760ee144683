"""Mixtures of experts: each expert as a layer on the tokens that the router sends to it.

The model runs over the text once; what reaches a layer's experts is kept, and each expert's tokens go the way that
`analyze_arrays` goes. Axes: token (counted, and for an expert those routed to it) choice input neuron concept.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probekit.analysis import run_fingerprint
from probekit.analysis.api import analyze_arrays
from probekit.analysis.array_inputs import ActivationData
from probekit.analysis.inputs import AnalysisInputs, doc_keys, inputs_of_arrays, text_notes
from probekit.analysis.progress import Report, watching
from probekit.analysis.reading import Reading, concepts_of
from probekit.analysis.runner import Job, execute
from probekit.analysis.settings import Settings
from probekit.errors import ConfigError, DegenerateError, InputError, guarded
from probekit.evidence.pair_sampling import PairSampling
from probekit.model.ambient import as_torch_starts
from probekit.model.experts import ExpertModel, load_expert_model, prove_experts
from probekit.model.harvest import harvest
from probekit.model.weights import MlpWeights
from probekit.results.run import Run
from probekit.text.concepts.labels import Labels
from probekit.text.tokens import SKIP_FIRST

_OPTIONS = {
    name: parameter.default
    for name, parameter in inspect.signature(analyze_arrays).parameters.items()
    if name
    not in ("neurons", "labels", "docs", "inputs", "weights", "activation", "names", "nonfinite", "types")
}
"""What may be said of the analysis of an expert, with its defaults."""
_QUADRANTS, _HALVES = 4, 2


@dataclass(frozen=True, eq=False)
class ReadText:
    """The text that the model was run on, and the concepts that were looked for."""

    name: str
    """Of the corpus."""
    labels: Labels
    """Concepts on all counted tokens, in document order."""
    descriptions: tuple[str, ...]
    """When each concept holds, in words."""


@dataclass(frozen=True, eq=False)
class Expert:
    """One expert of a layer, on the tokens that are routed to it."""

    model: str
    """What the user called the model."""
    layer: int
    """Its layer."""
    expert: int
    """Its number in the layer."""
    inputs: Float[Tensor, "token input"]
    """What it reads of each of its tokens: the MLP input, float32."""
    labels: Bool[np.ndarray, "token concept"]
    """Which concepts hold there."""
    text: ReadText
    """The text and its concepts, of which these tokens are some."""
    docs: Int[np.ndarray, " token"]
    """Document of each token, non-decreasing; equal documents count as one."""
    router_weights: Float[np.ndarray, " token"]
    """What the router multiplies its output by."""
    mlp: MlpWeights
    """The weights that act at its neurons."""
    notes: tuple[str, ...] = ()
    """What a reader must know of model, text and layer."""

    def __repr__(self) -> str:
        """Where it is and how many tokens it gets."""
        return f"Expert({self.place}: {self.routed})"

    @property
    def place(self) -> str:
        """Model, layer and expert in words."""
        return f"{self.model}, layer {self.layer}, expert {self.expert}"

    @property
    def n_tokens(self) -> int:
        """Tokens that are routed to it."""
        return len(self.docs)

    @property
    def routed(self) -> str:
        """How many tokens are routed to it, in words."""
        return f"{self.n_tokens:,} of {self.text.labels.n_tokens:,} counted tokens are routed to it"

    def remark(self, min_support: int = Settings().min_support) -> str:
        """Why nothing can be tested here, in words; empty where numbers of tokens alone do not forbid it.

        Args:
            min_support: tokens every quadrant must hold in both halves.
        """
        fewest = _QUADRANTS * _HALVES * min_support
        if self.n_tokens == 0:
            return "no token is routed to it"
        if self.n_tokens < fewest:
            return (
                f"{self.n_tokens:,} tokens are routed to it: too few, since four quadrants of {min_support} tokens in two "
                f"halves are {fewest:,}"
            )
        return ""

    def neurons(self) -> Float[Tensor, "token neuron"]:
        """Its neurons on its tokens, float32, before the router's weight."""
        return self.mlp.neurons(self.inputs)

    def arrays(self) -> dict[str, Any]:
        """What `analyze_arrays` takes: neurons, labels, docs, inputs, weights, activation and names."""
        mlp = self.mlp
        gate = () if mlp.w_gate is None else (mlp.w_gate, mlp.b_gate)
        return {
            "neurons": self.neurons(), "labels": self.labels, "docs": self.docs, "inputs": self.inputs,
            "weights": (mlp.w_in, mlp.b_in, *gate), "activation": mlp.activation, "names": self.text.labels.names,
        }  # fmt: skip

    @guarded
    @as_torch_starts()
    def analyze(self, **options: Any) -> Run:
        """The analysis of a layer, with this expert as the layer and its tokens as the text; its only layer is 0.

        Args:
            options: those of `analyze_arrays`, with its defaults: pairs, max_pairs, min_support, twins, q, out, seed,
                progress, twin_ks, controls, spikes, fdr, force.

        Raises:
            ConfigError: an option is unknown.
            DegenerateError: too few tokens are routed to this expert, or no pair of concepts can be tested on them.
            InputError: an option cannot be used.
            StaleError: `out` holds another run and `force` is not set.
        """
        unknown = [name for name in options if name not in _OPTIONS]
        if unknown:
            raise ConfigError(f"Expert.analyze: got {unknown[0]}, wanted some of {', '.join(_OPTIONS)}.")
        chosen = _OPTIONS | options
        whole = {"max_tokens": max(self.n_tokens, 1), "context": 2, "heldout_types": False, "skip_first": 0}
        settings = Settings.of(chosen | whole)
        remark = self.remark(settings.min_support)
        if remark:
            raise DegenerateError(
                f"{self.place}: {remark}. Read more text (max_tokens), lower min_support, or choose another expert."
            )
        pairs = PairSampling.of(chosen["pairs"])
        given = self._given()
        record = run_fingerprint.science(
            f"expert@{given.digest()}", self.place, "\n".join(self._notes()), settings, layers=[0], pairs=pairs.record()
        )  # fmt: skip
        job = Job(
            record, lambda report: self._described(inputs_of_arrays(given, pairs, settings, self.text.labels))
        )
        try:
            return execute(job, chosen["out"], chosen["progress"], force=chosen["force"])
        except DegenerateError as error:
            raise DegenerateError(
                f"{self.place}, to which {self.n_tokens:,} tokens are routed: {error}"
            ) from error

    def _given(self) -> ActivationData:
        arrays = self.arrays()
        held = ActivationData.check(
            *(arrays[name] for name in inspect.signature(ActivationData.check).parameters if name in arrays)
        )
        return replace(held, weights=self.mlp)

    def _notes(self) -> list[str]:
        about = (
            f"This is expert {self.expert} of layer {self.layer} as a layer of its own: {self.routed}, and everything here "
            "is about these. A concept that decides the routing holds at nearly all of them or at none and cannot be "
            "tested, and that two concepts hold together may be the router's doing. Neurons are taken before the router's "
            "weight."
        )
        return [about, *self.notes]

    def _described(self, inputs: AnalysisInputs) -> AnalysisInputs:
        return replace(
            inputs,
            notes=[*self._notes(), *inputs.notes],
            model=inputs.model | {"name": self.place},
            corpus=inputs.corpus
            | {"name": self.text.name, "policy": f"tokens routed to expert {self.expert}"},
            descriptions=self.text.descriptions,
        )


@dataclass(frozen=True, eq=False)
class ExpertLayer:
    """The experts of one layer on a text; a sequence of `Expert`."""

    model: str
    """What the user called the model."""
    layer: int
    """Which layer."""
    weights: tuple[MlpWeights, ...]
    """The weights that act at each expert's neurons."""
    inputs: Float[Tensor, "token input"]
    """The MLP input at every counted token, float32."""
    chosen: Int[Tensor, "token choice"]
    """The experts that the router chose."""
    router_weights: Float[Tensor, "token choice"]
    """Their weights."""
    labels: Bool[np.ndarray, "token concept"]
    """Which concepts hold."""
    text: ReadText
    """The text and its concepts."""
    docs: Int[np.ndarray, " token"]
    """Document of each token, non-decreasing; equal documents count as one."""
    notes: tuple[str, ...] = ()
    """What a reader must know of model, text and layer."""

    def __len__(self) -> int:
        """Experts of the layer."""
        return len(self.weights)

    def __iter__(self) -> Iterator[Expert]:
        """One expert after the other."""
        return (self[expert] for expert in range(len(self)))

    def __getitem__(self, expert: int) -> Expert:
        """One expert on the tokens routed to it.

        Raises:
            InputError: there is no such expert.
        """
        if not 0 <= expert < len(self):
            raise InputError(
                f"{self.model}: got expert {expert}, but layer {self.layer} has experts 0 to {len(self) - 1}; choose one of "
                "these."
            )
        here = self.chosen == expert
        rows = here.any(1)
        kept = rows.numpy()
        return Expert(
            model=self.model, layer=self.layer, expert=expert, inputs=self.inputs[rows], labels=self.labels[kept],
            text=self.text, docs=self.docs[kept],
            router_weights=torch.where(here, self.router_weights, 0.0).sum(1)[rows].numpy(),
            mlp=self.weights[expert], notes=self.notes,
        )  # fmt: skip

    def __repr__(self) -> str:
        """Where it is and how tokens are spread."""
        tokens = self.table["tokens"]
        return (
            f"ExpertLayer({self.model}, layer {self.layer}: {len(self)} experts, {tokens.min():,} to {tokens.max():,} of "
            f"{len(self.docs):,} counted tokens each)"
        )

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row an expert: its tokens, their share and documents, its mean router weight there (0 without tokens), and a
        remark where these tokens are too few to test anything."""
        return pd.DataFrame(
            {
                "expert": expert.expert, "tokens": expert.n_tokens,
                "share": expert.n_tokens / max(1, len(self.docs)), "documents": len(np.unique(expert.docs)),
                "router_weight": float(expert.router_weights.mean()) if expert.n_tokens else 0.0,
                "remark": expert.remark(),
            }
            for expert in self
        )  # fmt: skip


class _ExpertReading(Reading):
    """A model read through its experts."""

    @cached_property
    def hooked(self) -> ExpertModel:
        """The model, loaded."""
        return load_expert_model(self.model, device=self._device, dtype=self.dtype, tokenizer=self._tokenizer)


@guarded
@as_torch_starts()
def experts(  # noqa: PLR0913
    model: Any,
    corpus: Any = None,
    *,
    layer: int,
    concepts: Any = None,
    max_tokens: int = Settings().max_tokens,
    context: int = Settings().context,
    skip_first: int = SKIP_FIRST,
    device: str = "auto",
    dtype: str | None = None,
    tokenizer: Any = None,
    progress: Any = None,
) -> ExpertLayer:
    """The experts of one layer of a mixture of experts, each on the tokens that the router sends to it.

        layer = pk.experts("allenai/OLMoE-1B-7B-0924", layer=3)
        layer.table                          # tokens of each expert
        run = layer[5].analyze(out="runs/e5")

    The model runs over the text once, and what it reads at that layer is kept: 4 bytes × width × tokens.

    Args:
        model: as in `analyze`, but no GGUF file; decoders whose experts `transformers` 5 keeps in one tensor (Mixtral,
            OLMoE, Qwen2-MoE, Qwen3-MoE, DeepSeek-V3 and others; the recipe "Your own model" names those that were tried).
        corpus: as in `analyze`.
        layer: which layer; it must be a mixture of experts.
        concepts: as in `analyze`.
        max_tokens: counted tokens to read; an expert gets its share of them.
        context: as in `analyze`.
        skip_first: as in `analyze`.
        device: as in `analyze`.
        dtype: as in `analyze`.
        tokenizer: as in `analyze`.
        progress: as in `analyze`.

    Raises:
        InputError: data or configuration cannot be used; the layer is dense or does not exist.
        ModelError: the model cannot be loaded, or its experts are not what they are read as.
        OutOfMemoryError: the model does not fit.
    """
    settings = Settings.of(locals())
    with watching(progress) as report:
        reading = _ExpertReading(
            model, corpus, settings, tokenizer=tokenizer, device=device, dtype=dtype, report=report
        )
        _ = reading.opened  # no model is loaded for a corpus that is not there
        hooked = reading.hooked
        hooked.module(layer)
        chosen_concepts = concepts_of(
            reading.concepts(concepts), hooked.tokenizer, reading.tokens, reading.texts
        )
        activation, notes = prove_experts(hooked, layer)
        return _read(reading, layer, replace(hooked, activation=activation), chosen_concepts, notes, report)


def _read(
    reading: _ExpertReading,
    layer: int,
    hooked: ExpertModel,
    concepts: Any,
    notes: tuple[str, ...],
    report: Report,
) -> ExpertLayer:
    tokens = reading.tokens
    labelled = concepts.label(tokens)
    blocks = [
        block.sites[layer] for block in harvest(
            hooked, tokens, np.arange(tokens.n_docs), [layer],
            progress=lambda done: report("routing", done, tokens.n_tokens),
        )
    ]  # fmt: skip
    if not blocks:
        raise DegenerateError(f"{tokens.name}: no token to read; give a text.")
    inputs, routes = (torch.cat([block[part] for block in blocks]).cpu() for part in (0, 1))
    del blocks
    n_choices = routes.shape[1] // 2
    _, first, same = np.unique(doc_keys(tokens), return_index=True, return_inverse=True)
    docs = first[same][
        labelled.doc
    ]  # equal documents bear the number of the first, so that one half holds them
    order = np.argsort(docs, kind="stable")
    return ExpertLayer(
        model=hooked.name,
        layer=layer,
        weights=tuple(hooked.expert(layer, expert).to("cpu") for expert in range(hooked.n_experts(layer))),
        inputs=inputs[order],
        chosen=routes[order, :n_choices].long(),
        router_weights=routes[order, n_choices:],
        labels=labelled.dense()[order],
        text=ReadText(tokens.name, labelled, tuple(concepts.descriptions)),
        docs=docs[order],
        notes=(*hooked.notes, *notes, *text_notes(reading.texts, tokens, hooked.tokenizer)),
    )
