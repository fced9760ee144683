"""The encoder of a dictionary: from an activation vector to its latents.

Sources: ReLU (Bricken et al. 2023), top-k (Gao et al. 2024, arXiv 2406.04093), batch top-k read with its threshold (Bussmann
et al. 2024, 2412.06410), JumpReLU (Rajamanoharan et al. 2024, 2407.14435), gated (the same authors, 2404.16014), top-k by
magnitude (2510.00404). The order of the operations is that of the libraries, so that float32 results agree to rounding.
Axes: token, input (the site's width), latent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

Nonlinearity = Literal["relu", "topk", "abstopk", "jumprelu", "gated"]
InputNorm = Literal["none", "constant_norm_rescale", "layer_norm"]


@dataclass(frozen=True)
class Training:
    """What a dictionary was trained on, as far as its files say."""

    model: str | None = None
    """Name of the model."""
    processing: dict[str, Any] | None = None
    """Arguments with which TransformerLens loaded it: the processing of its weights."""
    prepend_bos: bool | None = None
    """Whether its texts began with a start mark."""
    context: int | None = None
    """Tokens of a row."""
    positions: tuple[int | None, ...] = ()
    """Start, stop and step of the positions used; empty for all."""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """An encoder, and where it reads."""

    name: str
    """Its folder's name."""
    made_by: str
    """Format and architecture, as the files call it."""
    site: str | None
    """The hook whose activations it reads; None where the files do not say."""
    nonlinearity: Nonlinearity
    """What turns pre-activations into activations."""
    w_enc: Float[Tensor, "input latent"]
    """Encoder."""
    b_enc: Float[Tensor, " latent"]
    """Its bias; of the magnitude path in a gated autoencoder."""
    b_dec: Float[Tensor, " input"] | None = None
    """Taken off the input first; None where the encoder does not."""
    threshold: Float[Tensor, " latent"] | None = None
    """JumpReLU: what a pre-activation must exceed."""
    gate_bias: Float[Tensor, " latent"] | None = None
    """Gated: bias of the gate path."""
    gain: Float[Tensor, " latent"] | None = None
    """Gated: exp(r_mag) of the magnitude path."""
    k: int | None = None
    """Top-k: latents that stay."""
    norms: Float[Tensor, " latent"] | None = None
    """Decoder norms by which pre-activations are multiplied before the nonlinearity; None for ones."""
    out_norms: Float[Tensor, " latent"] | None = None
    """Decoder norms by which activations are multiplied after it; None for ones."""
    input_norm: InputNorm = "none"
    """What is done to every input vector first."""
    scale: float = 1.0
    """Factor on the input, estimated in training and not folded yet."""
    whitening: tuple[Float[Tensor, " input"], Float[Tensor, "input input"]] | None = None
    """Mean and matrix of x ↦ (x − mean) · matrix, estimated in training and not folded yet."""
    head: int | None = None
    """The one attention head whose activations it reads."""
    output_site: str | None = None
    """A transcoder's: the hook whose activations it predicts."""
    training: Training = Training()
    """What it was trained on."""

    @property
    def n_inputs(self) -> int:
        """Width of the activations it reads."""
        return self.w_enc.shape[0]

    @property
    def n_latents(self) -> int:
        """Latents."""
        return self.w_enc.shape[1]

    @property
    def fingerprint(self) -> str:
        """Digest of every number and setting that decides an activation; computed anew each time, about 1 GB a second."""
        digest = hashlib.blake2b(digest_size=16)
        for field in fields(self):
            if field.name in ("name", "made_by", "training", "output_site"):
                continue
            value = getattr(self, field.name)
            digest.update(f"{field.name}=".encode())
            for part in value if field.name == "whitening" and value is not None else (value,):
                if isinstance(part, Tensor):
                    array = part.detach().cpu().contiguous().numpy()
                    digest.update(f"{array.dtype} {array.shape}\n".encode())
                    digest.update(array.data)
                else:
                    digest.update(f"{part!r}\n".encode())
        return digest.hexdigest()

    def encode(self, inputs: Float[Tensor, "token input"]) -> Float[Tensor, "token latent"]:
        """Activations of all latents, float32.

        Args:
            inputs: activations at the site.
        """
        with torch.no_grad():
            x = self._prepared(inputs.float())
            pre = (x if self.b_dec is None else x - self.b_dec) @ self.w_enc
            if self.nonlinearity == "gated":
                assert self.gate_bias is not None
                assert self.gain is not None
                active = pre + self.gate_bias > 0
                return self._finished(active * torch.relu(pre * self.gain + self.b_enc))
            pre = pre + self.b_enc
            if self.norms is not None:
                pre = pre * self.norms
            return self._finished(self._activated(pre))

    def _activated(self, pre: Tensor) -> Tensor:
        match self.nonlinearity:
            case "jumprelu":
                assert self.threshold is not None
                return torch.relu(pre) * (pre > self.threshold)
            case "topk":
                assert self.k is not None
                values, places = pre.topk(self.k, dim=1)
                return torch.zeros_like(pre).scatter_(1, places, torch.relu(values))
            case "abstopk":
                assert self.k is not None
                places = pre.abs().topk(self.k, dim=1).indices
                return torch.zeros_like(pre).scatter_(1, places, pre.gather(1, places))
            case _:
                return torch.relu(pre)

    def _finished(self, activations: Tensor) -> Tensor:
        return activations if self.out_norms is None else activations * self.out_norms

    def _prepared(self, x: Tensor) -> Tensor:
        if self.scale != 1.0:
            x = x * self.scale
        if self.whitening is not None:
            mean, matrix = self.whitening
            x = (x - mean) @ matrix
        if self.input_norm == "constant_norm_rescale":
            return x * (x.shape[1] ** 0.5 / x.norm(dim=1, keepdim=True))
        if self.input_norm == "layer_norm":
            centred = x - x.mean(dim=1, keepdim=True)
            return centred / (centred.std(dim=1, keepdim=True) + 1e-5)
        return x
