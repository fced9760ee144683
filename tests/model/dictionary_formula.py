"""Dictionaries written by hand, and their encoders from the published definitions: one latent at a time, float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

D, N, K = 16, 40, 5
SITE = "blocks.1.hook_resid_pre"
NEEDED = {
    "standard": ("W_enc", "W_dec", "b_enc", "b_dec"),
    "topk": ("W_enc", "W_dec", "b_enc", "b_dec"),
    "abstopk": ("W_enc", "W_dec", "b_enc", "b_dec"),
    "jumprelu": ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"),
    "gated": ("W_enc", "W_dec", "b_dec", "b_gate", "r_mag", "b_mag"),
    "batchtopk": ("W_enc", "W_dec", "b_enc", "b_dec", "topk_threshold"),
    "matryoshka_batchtopk": ("W_enc", "W_dec", "b_enc", "b_dec", "topk_threshold"),
    "transcoder": ("W_enc", "W_dec", "b_enc", "b_dec"),
    "jumprelu_skip_transcoder": ("W_enc", "W_dec", "b_enc", "b_dec", "threshold", "W_skip"),
}


def weights(architecture: str = "standard", seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays; the norms of the decoder's rows range over two orders of magnitude."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "W_enc": (D, N), "W_dec": (N, D), "b_enc": (N,), "b_dec": (D,), "threshold": (N,), "b_gate": (N,), "r_mag": (N,),
        "b_mag": (N,), "topk_threshold": (), "W_skip": (D, D),
    }  # fmt: skip
    made = {name: np.asarray(0.3 * rng.normal(size=shape), np.float32) for name, shape in shapes.items()}
    made["threshold"] = np.abs(made["threshold"])
    made["topk_threshold"] = np.asarray(0.4, np.float64)
    made["W_dec"] *= np.logspace(-1, 1, N, dtype=np.float32)[:, None]
    return {name: made[name] for name in NEEDED[architecture]}


def saved(
    folder: Path,
    architecture: str = "standard",
    /,
    arrays: dict[str, np.ndarray] | None = None,
    **config: Any,
) -> Path:
    """A folder in SAELens' format; a field given as ... is left out."""
    folder.mkdir(exist_ok=True)
    own: dict[str, Any] = {"k": K} if architecture in ("topk", "abstopk") else {}
    if architecture.endswith("transcoder"):
        own |= {"d_out": D, "apply_b_dec_to_input": False}
    written = {"hook_name": SITE, "d_in": D, "d_sae": N, "architecture": architecture} | own | config
    save_file(weights(architecture) if arrays is None else arrays, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps({k: v for k, v in written.items() if v is not ...}))
    return folder


def encoded(
    x: np.ndarray, architecture: str = "standard", *, decentred: bool = True, rescaled: bool = False
) -> np.ndarray:
    """What the definitions say of the arrays of `weights`."""
    w = {name: array.astype(float) for name, array in weights(architecture).items()}
    out = np.zeros((len(x), N))
    norm = np.sqrt((w["W_dec"] ** 2).sum(1)) if rescaled else np.ones(N)
    for t, row in enumerate(x.astype(float)):
        row = row - w["b_dec"] if decentred else row
        pre = np.array([row @ w["W_enc"][:, j] for j in range(N)])
        if architecture == "gated":
            out[t] = [
                max(pre[j] * np.exp(w["r_mag"][j]) + w["b_mag"][j], 0) if pre[j] + w["b_gate"][j] > 0 else 0
                for j in range(N)
            ]
            continue
        pre = (pre + w["b_enc"]) * norm
        if architecture in ("topk", "abstopk"):
            size = pre if architecture == "topk" else np.abs(pre)
            for j in sorted(range(N), key=lambda j: -size[j])[:K]:
                out[t, j] = max(pre[j], 0) if architecture == "topk" else pre[j]
        elif "threshold" in w or "topk_threshold" in w:
            bar = w["threshold"] if "threshold" in w else np.full(N, w["topk_threshold"])
            out[t] = [max(p, 0) if p > bar[j] else 0 for j, p in enumerate(pre)]
        else:
            out[t] = np.maximum(pre, 0)
    return out
