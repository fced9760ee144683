"""Latents of a dictionary as concepts: where a sparse autoencoder or transcoder of another library is active.

A latent holds at a token where its activation exceeds a threshold, by default 0: where it is active at all. The formats
are those of `probekit.model.dictionaries`.
Axes: token, input (the site's width), latent.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from probekit.errors import InputError, ModelError, NonFiniteError, ShapeError, guarded, require_order
from probekit.fingerprint import of_value
from probekit.model.ambient import as_torch_starts
from probekit.model.dictionaries import Dictionary, read_dictionary
from probekit.model.dictionaries.processing import Processing, processing_of
from probekit.model.harvest import default_batch_docs
from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.model.hub import official_name
from probekit.model.state import of_object
from probekit.text.concepts.blocks import Column, Where
from probekit.text.concepts.concepts import Concepts
from probekit.text.corpus import Corpus
from probekit.text.tokens import Tokens

RARE, COMMON = 0.005, 0.3
"""Latents chosen by themselves hold on this share of the tokens: fewer leave quadrants empty, more tell little."""
SAMPLE_TOKENS = 20_000


@dataclass(frozen=True, eq=False)
class Encoder:
    """A dictionary at work in a model: activations of its latents, token by token."""

    hooked: HookedModel
    """The model whose activations it reads."""
    dictionary: Dictionary
    """What it reads them with."""
    site: str
    """The hook it reads."""
    processing: Processing
    """What is done to the activations first."""

    @classmethod
    def of(cls, hooked: HookedModel, dictionary: Dictionary, site: str | None = None) -> Encoder:
        """Bring the two together; warns of what they may not have in common.

        Args:
            hooked: the model.
            dictionary: the dictionary.
            site: the hook it reads, if its files are not to decide.

        Raises:
            InputError: no site is known, or it was trained on a model processed in a way that cannot be made up for.
            ModelError: the model is an encoder, or has no such site.
        """
        if not hooked.bridge.hook_dict:
            raise ModelError(
                f"{hooked.name}: an encoder, whose activations have none of the names by which a dictionary says what it "
                "reads, so no dictionary can be read in it; wanted a decoder. Choose another model or other concepts."
            )
        site = site or dictionary.site
        if site is None:
            raise InputError(
                f"{dictionary.name}: its files name no hook of TransformerLens, so it is not known what it reads; pass "
                'site=, such as site="blocks.3.hook_resid_post".'
            )
        if site not in hooked.bridge.hook_dict:
            raise ModelError(
                f"{hooked.name}: no hook {site!r}, which the autoencoder reads; it was trained on another model or site."
            )
        processing = processing_of(hooked, site, dictionary.training.processing, dictionary.name)
        for message in (*_differences(hooked, dictionary), *processing.warnings):
            warnings.warn(message, UserWarning, stacklevel=4)
        return cls(hooked, dictionary, site, processing)

    def activations(self, tokens: Tokens) -> Iterator[Float[Tensor, "token latent"]]:
        """Activations of all latents, block by block, of counted tokens in order.

        Args:
            tokens: the token block.

        Raises:
            ShapeError: the site has another width than the dictionary reads.
            NonFiniteError: an activation of the model is NaN or infinite.
        """
        context = self.dictionary.training.context
        if context is not None and tokens.ids.shape[1] > context:
            warnings.warn(
                f"{self.dictionary.name}: was trained on rows of {context} tokens, and {tokens.name!r} has rows of "
                f"{tokens.ids.shape[1]}; later positions are new to it (context={context} leaves them out).",
                UserWarning,
                stacklevel=3,
            )
        for inputs in site_activations(self.hooked, tokens, self.site, self.dictionary.head):
            if inputs.shape[1] != self.dictionary.n_inputs:
                raise ShapeError(
                    f"{self.dictionary.name}: reads {self.dictionary.n_inputs} inputs, but {self.site!r} is "
                    f"{inputs.shape[1]} wide in this model; take an autoencoder of this model."
                )
            if not bool(torch.isfinite(inputs).all()):
                raise NonFiniteError(
                    f"{self.hooked.name}: activations at {self.site!r} hold NaN or infinity, which no latent can be read "
                    "from; load the model in float32 or bfloat16."
                )
            yield self.dictionary.encode(self.processing.apply(inputs))

    @property
    def fingerprint(self) -> str:
        """Digest of what its activations depend on beside the tokens: dictionary, site, processing, model."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{self.dictionary.fingerprint} {self.site} {self.processing.centred}\n".encode())
        digest.update(of_object(self.hooked.bridge).encode())
        return digest.hexdigest()


def _differences(hooked: HookedModel, dictionary: Dictionary) -> Iterator[str]:
    """What a dictionary was trained on and this run is not."""
    name, told = dictionary.name, dictionary.training
    if told.model is not None and _short(told.model) != _short(hooked.name):
        yield (
            f"{name}: was trained on {told.model!r}, and this model is called {hooked.name!r}; of another model the latents "
            "mean nothing."
        )
    if told.prepend_bos is not None and told.prepend_bos != (hooked.bos_id is not None):
        ours = "begin" if hooked.bos_id is not None else "do not begin"
        theirs = "with" if told.prepend_bos else "without"
        yield f"{name}: was trained on text {theirs} a start mark, and documents {ours} with one here."
    if told.positions:
        positions = ":".join("" if n is None else str(n) for n in told.positions)
        yield (
            f"{name}: was trained on positions [{positions}] of its rows "
            "alone; elsewhere its latents were never trained."
        )


def _short(name: str) -> str:
    """A model's name without its owner and revision, in the spelling of the hub."""
    return official_name(name.partition("@")[0]).rpartition("/")[2].lower()


@dataclass(frozen=True, eq=False)
class LatentBlock:
    """Concepts that hold where a latent is active."""

    columns: tuple[Column, ...]
    """One concept a latent."""
    encoder: Encoder
    """What computes their activations."""
    latents: tuple[int, ...]
    """Latent of each column."""
    above: float
    """Activation that must be exceeded."""

    @property
    def fingerprint(self) -> str:
        """Digest of the autoencoder as it was read, of the latents, and of the model that it reads."""
        return of_value((self.columns, self.encoder.fingerprint, self.latents, self.above))

    def label(self, tokens: Tokens) -> list[Where]:
        """Run the model over the tokens, and the encoder over what it computes at the site."""
        found: list[list[np.ndarray]] = [[] for _ in self.latents]
        n_before = 0
        for activations in self.encoder.activations(tokens):
            active = activations[:, list(self.latents)] > self.above
            for places, column in zip(found, active.T.cpu().numpy(), strict=True):
                places.append(np.flatnonzero(column) + n_before)
            n_before += len(activations)
        return [np.concatenate(places or [np.empty(0)]).astype(np.int32) for places in found]


def site_activations(
    hooked: HookedModel, tokens: Tokens, site: str, head: int | None = None
) -> Iterator[Float[Tensor, "token input"]]:
    """Activations at any hook, block by block, of counted tokens in order; float32 on the CPU.

    Args:
        hooked: the model.
        tokens: the token block.
        site: name of a hook of the bridge, canonical or in the older spelling.
        head: one attention head; None for all of them side by side.

    Raises:
        ModelError: the model has no such hook.
        ShapeError: the hook has no such head.
    """
    from transformer_lens.model_bridge.exceptions import StopAtLayerException

    captured: list[Tensor] = []

    def keep(activation: Tensor, hook: Any) -> None:
        captured.append(activation)
        raise StopAtLayerException(activation)

    if site not in hooked.bridge.hook_dict:
        raise ModelError(f"{hooked.name}: no hook {site!r}; choose one of bridge.hook_dict.")
    size = default_batch_docs(hooked, max(1, tokens.ids.shape[1]))
    for start in range(0, tokens.n_docs, size):
        rows = tokens.ids[start : start + size]
        counted = torch.from_numpy(tokens.counted[start : start + size].ravel())
        # padding becomes an id of the document itself; counted tokens do not see it
        valid = np.maximum(np.where(rows < 0, rows[:, :1], rows), 0).astype(np.int64)
        captured.clear()
        with torch.inference_mode():
            hooked.bridge.run_with_hooks(
                torch.from_numpy(valid).to(hooked.device), return_type=None, fwd_hooks=[(site, keep)]
            )
            if not captured:
                raise ModelError(
                    f"{hooked.name}: hook {site!r} did not fire in a forward pass; choose another site."
                )
            activation = captured[0] if head is None else _one_head(captured[0], site, head)
            flat = rearrange(activation, "doc pos ... -> (doc pos) (...)").to("cpu", torch.float32)
        yield flat[counted].clone()


def _one_head(activation: Tensor, site: str, head: int) -> Tensor:
    if activation.ndim != 4 or head >= activation.shape[2]:
        shape = tuple(activation.shape)
        raise ShapeError(
            f"{site!r}: has shape {shape}, wanted (doc, pos, head, input) with more than {head} heads, since the dictionary "
            f"reads head {head}; take one of this model."
        )
    return activation[:, :, head]


@guarded
@as_torch_starts()
def latents(
    model: Any,
    folder: str | Path,
    latents: Sequence[int] | None = None,
    *,
    corpus: Any = None,
    most: int = 50,
    above: float = 0.0,
    names: Sequence[str] | None = None,
    site: str | None = None,
) -> Concepts:
    """Latents of a sparse autoencoder or transcoder as concepts; kind "latent".

    Warns where the files say that the dictionary was trained on another model, on text with another start, on shorter rows
    or on some positions only.

    Args:
        model: as in `analyze`; pass a TransformerBridge to both, so that the model is loaded once.
        folder: of the dictionary, in a format that `probekit.model.dictionaries` reads; nothing in it is run.
        latents: which ones; None takes those that hold on 0.5 to 30 % of a sample of the corpus, the rarest left out first.
        corpus: a `Corpus` to choose them on; only needed when `latents` is None.
        most: latents at most, when none are given.
        above: activation that must be exceeded.
        names: of the latents, such as their explanations; None numbers them.
        site: the hook of TransformerLens whose activations the dictionary reads; None takes what its files name.

    Raises:
        InputError: the dictionary cannot be read, a field of it changes the encoder in a way not known here, or a latent
            does not exist.
        ShapeError: its arrays do not fit together, or it reads another width than the model's site has.
        ModelError: the model is an encoder, or has no such site.
    """
    require_order(latents, "latents")
    require_order(names, "names")
    if not math.isfinite(above):
        raise InputError(f"above: got {above}, wanted a finite activation.")
    hooked = model if isinstance(model, HookedModel) else load_hooked_model(model)
    encoder = Encoder.of(hooked, read_dictionary(folder), site)
    dictionary = encoder.dictionary
    if latents is None:
        chosen = _frequent(encoder, corpus, most, above)
    else:
        chosen = [int(index) for index in latents]
        outside = [index for index in chosen if not 0 <= index < dictionary.n_latents]
        if outside or not chosen:
            what = f"latent {outside[0]} does not exist" if outside else "the list is empty"
            raise InputError(
                f"{dictionary.name}: {what}; there are {dictionary.n_latents:,}, counted from 0."
            )
    if names is not None and len(names) != len(chosen):
        raise InputError(f"names: got {len(names)} for {len(chosen)} latents, wanted one each.")
    told = [f": {name}" for name in names] if names is not None else [""] * len(chosen)
    weights = dictionary.fingerprint[:12]
    columns = tuple(
        Column(
            f"sae:{index}", "latent", 0,
            f"latent {index} of {dictionary.name} ({weights}) at {encoder.site} exceeds {above:g}{said}",
        )
        for index, said in zip(chosen, told, strict=True)
    )  # fmt: skip
    return Concepts((LatentBlock(columns, encoder, tuple(chosen), above),))


def _frequent(encoder: Encoder, corpus: Any, most: int, above: float) -> list[int]:
    if not isinstance(corpus, Corpus):
        raise InputError(
            "latents: none named and no Corpus given to choose them on; pass latents=[…] or corpus=."
        )
    hooked, dictionary = encoder.hooked, encoder.dictionary
    context = min(128, hooked.context, dictionary.training.context or 128)
    tokens = corpus.tokenize(
        hooked.tokenizer, context=context, max_tokens=SAMPLE_TOKENS, bos_id=hooked.bos_id
    )
    n_active = torch.zeros(dictionary.n_latents)
    for activations in encoder.activations(tokens):
        n_active += (activations > above).sum(0)
    share = n_active.numpy() / tokens.n_tokens
    order = np.argsort(-share, kind="stable")
    chosen = [int(index) for index in order if RARE <= share[index] <= COMMON][:most]
    if not chosen:
        raise InputError(
            f"{dictionary.name}: no latent holds on {RARE:.1%} to {COMMON:.0%} of {tokens.n_tokens:,} tokens of "
            f"{tokens.name}; name the latents, or raise above=."
        )
    return sorted(chosen)
