"""SAE latents as concepts: a sparse autoencoder's own files, read without its library.

Source: the layout of SAELens (`cfg.json` and `sae_weights.safetensors`), in which most public autoencoders are shared. A
latent holds at a token where its activation exceeds a threshold, by default 0: where it is active at all.
Architectures: standard ReLU, top-k (Gao et al. 2024), JumpReLU (Rajamanoharan et al. 2024), gated (the same authors).
Axes: token, input (the site's width), latent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probekit.errors import InputError, ModelError, NonFiniteError, ShapeError, guarded
from probekit.model.harvest import default_batch_docs
from probekit.model.host import Host, load_host
from probekit.text.concepts.blocks import Column, Where
from probekit.text.concepts.concepts import Concepts
from probekit.text.corpus import Corpus
from probekit.text.tokens import Tokens

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
RARE, COMMON = 0.005, 0.3
"""Latents chosen by themselves hold on this share of the tokens: fewer leave quadrants empty, more tell little."""
SAMPLE_TOKENS = 20_000


@dataclass(frozen=True)
class Sae:
    """A sparse autoencoder's encoder."""

    name: str
    """Its folder's name."""
    site: str
    """The hook whose activations it reads."""
    architecture: str
    """standard, topk, jumprelu or gated."""
    w_enc: Float[Tensor, "input latent"]
    """Encoder."""
    b_enc: Float[Tensor, " latent"]
    """Its bias; of the magnitude path in a gated autoencoder."""
    b_dec: Float[Tensor, " input"] | None
    """Taken off the input first; None where the encoder does not."""
    threshold: Float[Tensor, " latent"] | None = None
    """JumpReLU thresholds."""
    gate_bias: Float[Tensor, " latent"] | None = None
    """Bias of the gate path."""
    gain: Float[Tensor, " latent"] | None = None
    """exp(r_mag) of the magnitude path."""
    k: int | None = None
    """Latents that stay active in a top-k autoencoder."""
    rescale: str = "none"
    """What is done to an input first: none, constant_norm_rescale or layer_norm."""

    @property
    def n_latents(self) -> int:
        """Latents."""
        return self.w_enc.shape[1]

    def encode(self, inputs: Float[Tensor, "token input"]) -> Float[Tensor, "token latent"]:
        """Activations of all latents, float32.

        Args:
            inputs: activations at the site.
        """
        with torch.no_grad():
            x = self._rescaled(inputs.float())
            pre = (x if self.b_dec is None else x - self.b_dec) @ self.w_enc
            if self.architecture == "gated":
                assert self.gate_bias is not None
                assert self.gain is not None
                active = pre + self.gate_bias > 0
                return active * torch.relu(pre * self.gain + self.b_enc)
            pre = pre + self.b_enc
            if self.architecture == "jumprelu":
                assert self.threshold is not None
                return torch.relu(pre) * (pre > self.threshold)
            if self.architecture == "topk":
                assert self.k is not None
                values, places = pre.topk(self.k, dim=1)
                return torch.zeros_like(pre).scatter_(1, places, torch.relu(values))
            return torch.relu(pre)

    def _rescaled(self, x: Tensor) -> Tensor:
        if self.rescale == "constant_norm_rescale":
            return x * (x.shape[1] ** 0.5 / x.norm(dim=1, keepdim=True))
        if self.rescale == "layer_norm":
            centred = x - x.mean(dim=1, keepdim=True)
            return centred / (centred.std(dim=1, keepdim=True) + 1e-5)
        return x


def read_sae(folder: str | Path) -> Sae:
    """The encoder of an autoencoder's folder.

    Args:
        folder: holds cfg.json and sae_weights.safetensors.

    Raises:
        InputError: a file is missing or damaged, or the architecture is none of those above.
        ShapeError: arrays that do not fit together.
        NonFiniteError: a weight is NaN or infinite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        weights = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{folder}: no autoencoder could be read ({type(error).__name__}: {error}); wanted a folder with {CONFIG} and "
            f"{WEIGHTS}, as SAELens saves them."
        ) from error
    config = {**config, **(config.get("metadata") or {})}
    architecture = _architecture(folder, config)
    site = config.get("hook_name") or config.get("hook_point")
    if not isinstance(site, str):
        raise InputError(
            f"{folder}: {CONFIG} names no hook_name, so it is not known where the autoencoder reads."
        )
    bad = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise NonFiniteError(f"{folder}: {bad[0]} holds NaN or infinity; download the autoencoder again.")
    wanted = {"gated": ("W_enc", "b_gate", "r_mag", "b_mag"), "jumprelu": ("W_enc", "b_enc", "threshold")}
    missing = [name for name in wanted.get(architecture, ("W_enc", "b_enc")) if name not in weights]
    if missing:
        raise InputError(f"{folder}: {WEIGHTS} has no {missing[0]}; a {architecture} autoencoder needs it.")
    gated = architecture == "gated"
    n_latents = weights["W_enc"].shape[1]
    for name in ("b_enc", "threshold", "b_gate", "r_mag", "b_mag"):
        if name in weights and weights[name].shape != (n_latents,):
            shape = tuple(weights[name].shape)
            raise ShapeError(f"{folder}: {name} has shape {shape}, wanted ({n_latents},) as W_enc's latents.")
    return Sae(
        name=folder.name,
        site=site,
        architecture=architecture,
        w_enc=weights["W_enc"],
        b_enc=weights["b_mag" if gated else "b_enc"],
        b_dec=weights.get("b_dec") if config.get("apply_b_dec_to_input", True) else None,
        threshold=weights.get("threshold"),
        gate_bias=weights.get("b_gate"),
        gain=weights["r_mag"].exp() if gated else None,
        k=_k(folder, config, weights["W_enc"].shape[1]) if architecture == "topk" else None,
        rescale=_rescale(folder, config),
    )


def _architecture(folder: Path, config: dict[str, Any]) -> str:
    named = str(config.get("architecture") or "standard")
    if (
        named == "standard"
        and str(config.get("activation_fn_str") or config.get("activation_fn") or "relu") == "topk"
    ):
        named = "topk"
    if named not in ("standard", "topk", "jumprelu", "gated"):
        raise InputError(
            f"{folder}: architecture {named!r} is unknown, wanted standard, topk, jumprelu or gated."
        )
    return named


def _k(folder: Path, config: dict[str, Any], n_latents: int) -> int:
    k = config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k")
    if not isinstance(k, int) or not 0 < k <= n_latents:
        raise InputError(f"{folder}: a top-k autoencoder with k = {k!r}, wanted a number up to {n_latents}.")
    return k


def _rescale(folder: Path, config: dict[str, Any]) -> str:
    asked = str(config.get("normalize_activations") or "none").lower()
    if asked not in ("none", "constant_norm_rescale", "layer_norm"):
        raise InputError(
            f"{folder}: inputs are normalised by {asked!r}, whose factor is not in the files; fold it into the weights "
            "(SAELens: fold_activation_norm_scaling_factor) and save the autoencoder again."
        )
    return asked


@dataclass(frozen=True, eq=False)
class LatentBlock:
    """Concepts that hold where a latent is active."""

    columns: tuple[Column, ...]
    """One concept a latent."""
    sae: Sae
    """The autoencoder."""
    latents: tuple[int, ...]
    """Latent of each column."""
    host: Host
    """The model whose activations it reads."""
    above: float
    """Activation that must be exceeded."""

    def label(self, tokens: Tokens) -> list[Where]:
        """Run the model over the tokens, and the encoder over what it computes at the site."""
        found: list[list[np.ndarray]] = [[] for _ in self.latents]
        n_before = 0
        for inputs in site_activations(self.host, tokens, self.sae.site):
            _require_width(self.sae, inputs)
            active = self.sae.encode(inputs)[:, list(self.latents)] > self.above
            for places, column in zip(found, active.T.cpu().numpy(), strict=True):
                places.append(np.flatnonzero(column) + n_before)
            n_before += len(inputs)
        return [np.concatenate(places or [np.empty(0)]).astype(np.int32) for places in found]


def site_activations(host: Host, tokens: Tokens, site: str) -> Iterator[Float[Tensor, "token input"]]:
    """Activations at any hook, block by block, of counted tokens in order; float32 on the CPU.

    Args:
        host: the model.
        tokens: the token block.
        site: name of a hook of the bridge, canonical or in the older spelling.

    Raises:
        ModelError: the model has no such hook.
    """
    from transformer_lens.model_bridge.exceptions import StopAtLayerException

    captured: list[Tensor] = []

    def keep(activation: Tensor, hook: Any) -> None:
        captured.append(activation)
        raise StopAtLayerException(activation)

    if site not in host.bridge.hook_dict:
        raise ModelError(
            f"{host.name}: no hook {site!r}, which the autoencoder reads; it was trained on another model or site."
        )
    size = default_batch_docs(host, max(1, tokens.ids.shape[1]))
    for start in range(0, tokens.n_docs, size):
        rows = tokens.ids[start : start + size]
        counted = torch.from_numpy(tokens.counted[start : start + size].ravel())
        # padding becomes an id of the document itself; counted tokens do not see it
        valid = np.maximum(np.where(rows < 0, rows[:, :1], rows), 0).astype(np.int64)
        captured.clear()
        with torch.inference_mode():
            host.bridge.run_with_hooks(
                torch.from_numpy(valid).to(host.device), return_type=None, fwd_hooks=[(site, keep)]
            )
            if not captured:
                raise ModelError(
                    f"{host.name}: hook {site!r} did not fire in a forward pass; choose another site."
                )
            flat = captured[0].reshape(valid.size, -1).to("cpu", torch.float32)
        yield flat[counted].clone()


@guarded
def latents(
    model: Any,
    folder: str | Path,
    latents: Sequence[int] | None = None,
    *,
    corpus: Any = None,
    most: int = 50,
    above: float = 0.0,
    names: Sequence[str] | None = None,
) -> Concepts:
    """SAE latents as concepts; kind "latent".

    Args:
        model: as in `analyze`; pass a TransformerBridge to both, so that the model is loaded once.
        folder: of the autoencoder, with cfg.json and sae_weights.safetensors.
        latents: which ones; None takes those that hold on 0.5 to 30 % of a sample of the corpus, the rarest left out first.
        corpus: a `Corpus` to choose them on; only needed when `latents` is None.
        most: latents at most, when none are given.
        above: activation that must be exceeded.
        names: of the latents, such as their explanations; None numbers them.

    Raises:
        InputError: the autoencoder cannot be read, or a latent does not exist.
        ShapeError: it reads another width than the model's site has.
        ModelError: the model has no such site.
    """
    host = model if isinstance(model, Host) else load_host(model)
    sae = read_sae(folder)
    if latents is None:
        chosen = _frequent(host, sae, corpus, most, above)
    else:
        chosen = [int(index) for index in latents]
        outside = [index for index in chosen if not 0 <= index < sae.n_latents]
        if outside or not chosen:
            what = f"latent {outside[0]} does not exist" if outside else "the list is empty"
            raise InputError(f"{sae.name}: {what}; there are {sae.n_latents:,}, counted from 0.")
    if names is not None and len(names) != len(chosen):
        raise InputError(f"names: got {len(names)} for {len(chosen)} latents, wanted one each.")
    told = [f": {name}" for name in names] if names is not None else [""] * len(chosen)
    columns = tuple(
        Column(
            f"sae:{index}", "latent", 0, f"latent {index} of {sae.name} at {sae.site} exceeds {above:g}{said}"
        )
        for index, said in zip(chosen, told, strict=True)
    )
    return Concepts((LatentBlock(columns, sae, tuple(chosen), host, above),))


def _frequent(host: Host, sae: Sae, corpus: Any, most: int, above: float) -> list[int]:
    if not isinstance(corpus, Corpus):
        raise InputError(
            "latents: none named and no Corpus given to choose them on; pass latents=[…] or corpus=."
        )
    tokens = corpus.tokenize(
        host.tokenizer, context=min(128, host.context), max_tokens=SAMPLE_TOKENS, bos_id=host.bos_id
    )
    n_active = torch.zeros(sae.n_latents)
    for inputs in site_activations(host, tokens, sae.site):
        _require_width(sae, inputs)
        n_active += (sae.encode(inputs) > above).sum(0)
    share = n_active.numpy() / tokens.n_tokens
    order = np.argsort(-share, kind="stable")
    chosen = [int(index) for index in order if RARE <= share[index] <= COMMON][:most]
    if not chosen:
        raise InputError(
            f"{sae.name}: no latent holds on {RARE:.1%} to {COMMON:.0%} of {tokens.n_tokens:,} tokens of {tokens.name}; "
            "name the latents, or raise above=."
        )
    return sorted(chosen)


def _require_width(sae: Sae, inputs: Tensor) -> None:
    if inputs.shape[1] != len(sae.w_enc):
        raise ShapeError(
            f"{sae.name}: reads {len(sae.w_enc)} inputs, but {sae.site!r} is {inputs.shape[1]} wide in this model; take an "
            "autoencoder of this model."
        )
