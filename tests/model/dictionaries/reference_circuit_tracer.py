"""Run by another interpreter, which has circuit-tracer: cross-layer transcoders with random weights as that library saves
them, and what its own loader's last encoder gives on random inputs. Argument: a folder, in which every case becomes one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

N_LAYERS, D_IN, N_LATENTS, N_TOKENS = 3, 16, 40, 64


def inputs() -> torch.Tensor:
    return 0.5 + torch.randn(N_LAYERS, N_TOKENS, D_IN, generator=torch.Generator().manual_seed(97))


def main(root: Path) -> None:
    from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder, load_clt

    options = {"device": torch.device("cpu"), "dtype": torch.float32}
    cases = [(kind, skip) for kind in ("relu", "jump_relu") for skip in (False, True)]
    for seed, (kind, skip) in enumerate(cases):
        made = CrossLayerTranscoder(
            N_LAYERS,
            N_LATENTS,
            D_IN,
            activation_function=kind,
            skip_connection=skip,
            lazy_decoder=False,
            **options,
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in made.state_dict().items():
                drawn = 0.3 * torch.randn(weight.shape, generator=generator)
                weight.copy_(0.2 + drawn.abs() if "threshold" in name else drawn)
        folder = root / (f"CrossLayerTranscoder {kind}" + " with skip" * skip)
        made.to_safetensors(str(folder))
        read = load_clt(str(folder), **options)
        with torch.no_grad():
            acts = read.encode(inputs())
        save_file({"x": inputs()[-1].clone(), "acts": acts[-1].clone()}, folder / "reference.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
