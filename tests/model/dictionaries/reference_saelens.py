"""Run by another interpreter, which has sae-lens: dictionaries with random weights as that library saves them, and what its
own encoders give on random inputs. Argument: a folder, in which every case becomes one of its own.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

D_IN, D_SAE, D_OUT, N_TOKENS = 16, 40, 24, 64
META = {"hook_name": "blocks.1.hook_resid_pre", "model_name": "gpt2", "prepend_bos": True, "context_size": 20}
NORMS = ("none", "layer_norm", "constant_norm_rescale")


def randomised(sae: Any, seed: int) -> Any:
    """Random weights of all sizes, decoder norms very unequal."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sae.state_dict().items():
            drawn = 0.3 * torch.randn(weight.shape, generator=generator)
            if "threshold" in name:
                drawn = 0.2 + drawn.abs()
            if name == "W_dec":
                drawn = drawn * torch.logspace(-1, 1, len(drawn))[:, None]
            weight.copy_(drawn.to(weight.dtype))
    return sae


def inputs() -> torch.Tensor:
    return 0.5 + torch.randn(N_TOKENS, D_IN, generator=torch.Generator().manual_seed(99))


def main(root: Path) -> None:
    import sae_lens as sl
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.training.activation_scaler import ActivationScaler

    def options(**more: Any) -> dict[str, Any]:
        return {"d_in": D_IN, "d_sae": D_SAE, "metadata": SAEMetadata(**META), **more}

    def keep(folder: Path, acts: torch.Tensor) -> None:
        save_file(
            {"x": inputs(), "acts": acts.detach().float().contiguous()}, folder / "reference.safetensors"
        )

    def finished(name: str, cls: Any, cfg: Any, *, seed: int, x: torch.Tensor | None = None) -> None:
        """Saved, read again by the library, and encoded."""
        randomised(cls(cfg), seed).save_model(root / name)
        keep(root / name, sl.SAE.load_from_disk(root / name).encode(inputs() if x is None else x))

    def checkpoint(name: str, cls: Any, cfg: Any, *, seed: int, batch: bool = False) -> None:
        """A training checkpoint, and the same one as the library saves it for inference."""
        sae = randomised(cls(cfg), seed)
        sae.save_model(root / f"{name} checkpoint")
        sae.save_inference_model(root / f"{name} inference")
        reread = sl.SAE.load_from_disk(root / f"{name} inference").encode(inputs())
        # what batch top-k keeps in training depends on the batch
        keep(root / f"{name} checkpoint", reread if batch else sae.encode(inputs()))
        keep(root / f"{name} inference", reread)

    inference = {
        "standard": (sl.StandardSAE, sl.StandardSAEConfig, {}),
        "topk": (sl.TopKSAE, sl.TopKSAEConfig, {"k": 5}),
        "topk rescaled": (sl.TopKSAE, sl.TopKSAEConfig, {"k": 5, "rescale_acts_by_decoder_norm": True}),
        "abstopk": (sl.AbsTopKSAE, sl.AbsTopKSAEConfig, {"k": 5}),
        "abstopk rescaled": (
            sl.AbsTopKSAE,
            sl.AbsTopKSAEConfig,
            {"k": 5, "rescale_acts_by_decoder_norm": True},
        ),
        "jumprelu": (sl.JumpReLUSAE, sl.JumpReLUSAEConfig, {}),
        "gated": (sl.GatedSAE, sl.GatedSAEConfig, {}),
    }
    for number, (name, (cls, config, own)) in enumerate(inference.items()):
        for norm in NORMS:
            for centred in (True, False):
                cfg = config(**options(normalize_activations=norm, apply_b_dec_to_input=centred, **own))
                finished(f"{name} {norm} {centred}", cls, cfg, seed=number)
    transcoders = {
        "transcoder": (sl.Transcoder, sl.TranscoderConfig),
        "skip_transcoder": (sl.SkipTranscoder, sl.SkipTranscoderConfig),
        "jumprelu_transcoder": (sl.JumpReLUTranscoder, sl.JumpReLUTranscoderConfig),
        "jumprelu_skip_transcoder": (sl.JumpReLUSkipTranscoder, sl.JumpReLUSkipTranscoderConfig),
    }
    for number, (name, (cls, config)) in enumerate(transcoders.items()):
        cfg = config(**options(d_out=D_OUT, apply_b_dec_to_input=False))
        cfg.metadata.hook_name_out = "blocks.1.hook_mlp_out"
        finished(name, cls, cfg, seed=20 + number)
    cfg = sl.StandardSAEConfig(**options(reshape_activations="hook_z"))
    cfg.metadata.hook_name = "blocks.1.attn.hook_z"
    finished("hook_z", sl.StandardSAE, cfg, seed=30, x=inputs().reshape(N_TOKENS, 2, D_IN // 2))

    training = {
        "standard": (sl.StandardTrainingSAE, sl.StandardTrainingSAEConfig, {}),
        "topk": (sl.TopKTrainingSAE, sl.TopKTrainingSAEConfig, {"k": 5}),
        "topk plain": (sl.TopKTrainingSAE, sl.TopKTrainingSAEConfig, {"k": 5, "rescale_acts_by_decoder_norm": False}),
        "abstopk": (sl.AbsTopKTrainingSAE, sl.AbsTopKTrainingSAEConfig, {"k": 5}),
        "jumprelu": (sl.JumpReLUTrainingSAE, sl.JumpReLUTrainingSAEConfig, {}),
        "gated": (sl.GatedTrainingSAE, sl.GatedTrainingSAEConfig, {}),
        "batchtopk": (sl.BatchTopKTrainingSAE, sl.BatchTopKTrainingSAEConfig, {"k": 4.5}),
        "batchtopk plain": (
            sl.BatchTopKTrainingSAE, sl.BatchTopKTrainingSAEConfig, {"k": 4.5, "rescale_acts_by_decoder_norm": False},
        ),
        "matryoshka": (
            sl.MatryoshkaBatchTopKTrainingSAE, sl.MatryoshkaBatchTopKTrainingSAEConfig,
            {"k": 4.5, "matryoshka_widths": [10, D_SAE]},
        ),
    }  # fmt: skip
    for number, (name, (cls, config, own)) in enumerate(training.items()):
        checkpoint(f"training {name}", cls, config(**options(**own)), seed=40 + number, batch=number >= 6)

    for norm in ("expected_average_only_in", "covariance_whitening"):
        scaler = ActivationScaler()
        batches = iter(lambda: inputs() @ torch.diag(torch.linspace(0.5, 3, D_IN)), None)
        if norm == "covariance_whitening":
            scaler.estimate_whitening(D_IN, batches, 3)
        else:
            scaler.estimate_scaling_factor(D_IN, batches, 3)
        cfg = sl.TopKTrainingSAEConfig(**options(k=5, normalize_activations=norm))
        sae = randomised(sl.TopKTrainingSAE(cfg), 60)
        sae.save_model(root / norm)
        scaler.save(str(root / norm / "activation_scaler.json"))
        keep(root / norm, sae.encode(scaler(inputs())))
    (root / "version.json").write_text(json.dumps({"sae_lens": sl.__version__}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
