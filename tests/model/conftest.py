"""Tiny random transformers of the real classes, saved once as folders, and the hooked models made of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.text.tokens import Tokens

sys.path.insert(0, str(Path(__file__).parent))
import architectures

N_VOCAB, CONTEXT, BOS = architectures.N_VOCAB, architectures.CONTEXT, architectures.BOS


def _configurations() -> dict[str, Callable[[], Any]]:
    import transformers as hf

    common = architectures.COMMON | {"hidden_act": "quick_gelu"}
    made = {name: architectures.builder(name) for name in architectures.CONFIGURATIONS}
    return made | {
        "neox": made["gpt_neox"],
        "llama-quick-gelu": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**common)),
    }


DENSE = ("gpt2", "neox", "llama", "qwen2", "gemma2", "phi", "phi3", "gptj", "opt", "bloom")


@pytest.fixture(params=DENSE)
def dense(request: pytest.FixtureRequest) -> str:
    """The name of an architecture with a dense MLP."""
    return request.param


def save_tokenizer(folder: Path, **special: str) -> None:
    """A word-level tokenizer of the words w0 … w61."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {f"w{word}": word for word in range(N_VOCAB - 2)} | {"<unk>": N_VOCAB - 2, "<s>": BOS}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special).save_pretrained(folder)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an architecture with random weights of a size at which activations bend."""
    made: dict[str, Path] = {}
    tokenizer_folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tokenizer_folder, bos_token="<s>", eos_token="<s>", pad_token="<s>")

    def make(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / name
            with torch.random.fork_rng():  # transformers draws the initial weights from the global generator
                model = _configurations()[name]()
            generator = torch.Generator().manual_seed(len(name))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
            model.save_pretrained(folder)
            shutil.copytree(tokenizer_folder, folder, dirs_exist_ok=True)
            made[name] = folder
        return made[name]

    return make


@pytest.fixture(scope="session")
def hooked_model(model_folder: Callable[[str], Path]) -> Callable[[str], HookedModel]:
    """The hooked model of an architecture; shared, so leave it as it was."""
    made: dict[str, HookedModel] = {}

    def make(name: str) -> HookedModel:
        if name not in made:
            made[name] = load_hooked_model(model_folder(name))
        return made[name]

    return make


@pytest.fixture(scope="session")
def ragged_tokens() -> Tokens:
    """Seven documents of random words and unequal lengths, beginning with BOS."""
    generator = np.random.default_rng(0)
    lengths = np.array([20, 3, 12, 1, 20, 7, 16])
    ids = generator.integers(0, N_VOCAB - 2, (len(lengths), 20)).astype(np.int32)
    ids[:, 0] = BOS
    ids[np.arange(20) >= lengths[:, None]] = -1
    return Tokens(ids=ids, lengths=lengths, bos_id=BOS, name="ragged")
