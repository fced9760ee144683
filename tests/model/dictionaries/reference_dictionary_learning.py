"""Run by another interpreter, which has dictionary-learning: autoencoders with random weights as that library saves them,
and what its own loader's encoders give on random inputs. Argument: a folder, in which every case becomes one of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

D_IN, D_SAE, N_TOKENS, K = 16, 40, 64, 5


def inputs() -> torch.Tensor:
    return 0.5 + torch.randn(N_TOKENS, D_IN, generator=torch.Generator().manual_seed(98))


def main(root: Path) -> None:
    from dictionary_learning import trainers
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.utils import load_dictionary

    common = {
        "steps": 10, "activation_dim": D_IN, "dict_size": D_SAE, "layer": 1, "lm_name": "gpt2", "device": "cpu",
        "submodule_name": "resid_post_layer_1", "warmup_steps": 1,
    }  # fmt: skip
    cases: dict[str, tuple[Any, dict[str, Any]]] = {
        "AutoEncoder": (trainers.StandardTrainer, {"sparsity_warmup_steps": 1}),
        "GatedAutoEncoder": (trainers.GatedSAETrainer, {"sparsity_warmup_steps": 1, "l1_penalty": 0.1}),
        "AutoEncoderTopK": (trainers.TopKTrainer, {"k": K}),
        "BatchTopKSAE": (trainers.BatchTopKTrainer, {"k": K}),
        "MatryoshkaBatchTopKSAE": (MatryoshkaBatchTopKTrainer, {"k": K, "group_fractions": [0.25, 0.75]}),
        "JumpReluAutoEncoder": (trainers.JumpReluTrainer, {"sparsity_warmup_steps": 1}),
    }
    for seed, (name, (trainer_class, own)) in enumerate(cases.items()):
        trainer = trainer_class(**common, **own)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for key, weight in trainer.ae.state_dict().items():
                if key in ("k", "group_sizes"):
                    continue
                drawn = 0.3 * torch.randn(weight.shape, generator=generator)
                if key == "threshold":
                    drawn = 0.2 + drawn.abs()
                if key == "decoder.weight":
                    drawn = drawn * torch.logspace(-0.5, 0.5, D_SAE)
                weight.copy_(drawn)
        folder = root / name
        folder.mkdir()
        (folder / "config.json").write_text(
            json.dumps({"trainer": trainer.config, "buffer": {"ctx_len": 20}})
        )
        torch.save({key: weight.cpu() for key, weight in trainer.ae.state_dict().items()}, folder / "ae.pt")  # noqa: TID251
        read, _ = load_dictionary(str(folder), "cpu")
        acts = read.encode(inputs()).detach().contiguous()
        save_file({"x": inputs(), "acts": acts}, folder / "reference.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
