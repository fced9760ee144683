"""Tiny GGUF files, written from `transformers` models as llama.cpp's converter writes them.

Sources: the tensor names are those of the gguf package; the rearrangements are those of llama.cpp's convert_hf_to_gguf.py.
Axes: none.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import architectures

N_VOCAB, CONTEXT, BOS = architectures.N_VOCAB, architectures.CONTEXT, architectures.BOS

WIDE = {"hidden_size": 32, "intermediate_size": 64}  # blocks of 32 weights
_LLAMA = architectures.COMMON | WIDE | {"head_dim": 16}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA | {"num_attention_heads": 4, "head_dim": 8, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0},
    "qwen2": architectures.COMMON | {"rms_norm_eps": 3e-6},
    "qwen3": architectures.COMMON | {"head_dim": 4},
    "gemma2": architectures.COMMON | {
        "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6, "attn_logit_softcapping": 0.5,
        "final_logit_softcapping": 2.0,
    },
    "gemma3": architectures.COMMON | {
        "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6, "num_hidden_layers": 6,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "phi3": architectures.COMMON | {
        "num_attention_heads": 2, "hidden_size": 32, "sliding_window": 9,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
    },
    "gpt2": architectures.GPT2 | {"layer_norm_epsilon": 1e-4, "n_inner": 48},
    "stablelm": architectures.COMMON | {
        "layer_norm_eps": 1e-4, "use_qkv_bias": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e4, "partial_rotary_factor": 0.5},
    },
    "starcoder2": architectures.COMMON | {"sliding_window": None, "rope_theta": 1e5, "norm_epsilon": 1e-4, "use_bias": True},
    "falcon": architectures.PLAIN | {
        "ffn_hidden_size": 48, "new_decoder_architecture": False, "multi_query": True, "parallel_attn": True, "alibi": False,
        "layer_norm_epsilon": 1e-4,
    },
    "bloom": architectures.CONFIGURATIONS["bloom"] | {"layer_norm_epsilon": 1e-4},
    "nemotron": architectures.COMMON | {
        "norm_eps": 1e-4, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
    },
}  # fmt: skip
"""Configurations that differ from what `transformers` puts where a file is not asked."""
_TYPES = {"gemma3": "gemma3_text"}
_PLUS_ONE = {"gemma2", "gemma3", "nemotron"}


def build(name: str, **more: Any) -> Any:
    """A random model of one architecture, in evaluation mode."""
    import transformers as hf

    config = hf.AutoConfig.for_model(_TYPES.get(name, name), **(CONFIGS[name] | more))
    with torch.random.fork_rng():
        model = hf.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def keys_of(name: str, config: Any) -> dict[str, Any]:
    """What the converter states about the model."""
    heads, d = config.num_attention_heads, config.hidden_size
    head_dim = getattr(config, "head_dim", None) or d // heads
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention", rope)
    keys: dict[str, Any] = {
        "block_count": config.num_hidden_layers, "embedding_length": d, "attention.head_count": heads,
        "context_length": getattr(config, "max_position_embeddings", CONTEXT), "vocab_size": config.vocab_size,
    }  # fmt: skip
    inner = next(
        (x for a in ("intermediate_size", "n_inner", "ffn_hidden_size") if (x := getattr(config, a, None))),
        4 * d,
    )
    keys["feed_forward_length"] = inner
    if name not in ("gpt2", "bloom"):
        keys["attention.head_count_kv"] = 1 if name == "falcon" else config.num_key_value_heads
        keys["rope.freq_base"] = rope["rope_theta"]
        keys["rope.dimension_count"] = int(head_dim * rope.get("partial_rotary_factor", 1.0))
    eps = next(
        getattr(config, a) for a in ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps")
        if hasattr(config, a)
    )  # fmt: skip
    keys[
        "attention.layer_norm_rms_epsilon"
        if hasattr(config, "rms_norm_eps")
        else "attention.layer_norm_epsilon"
    ] = eps
    if name in ("qwen3", "gemma2", "gemma3", "nemotron"):
        keys |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    if name in ("gemma2", "gemma3", "phi3"):
        keys["attention.sliding_window"] = config.sliding_window
    if name == "gemma2":
        keys |= {
            "attn_logit_softcapping": config.attn_logit_softcapping,
            "final_logit_softcapping": config.final_logit_softcapping,
        }
    if name == "gemma3":
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]}
    if name == "stablelm":
        keys["use_parallel_residual"] = config.use_parallel_residual
    return keys


def _arranged(name: str, config: Any, stem: str, last: str, weights: torch.Tensor) -> torch.Tensor:
    """As the file holds it."""
    if name == "llama" and stem.endswith(("q_proj", "k_proj")):
        n = config.num_attention_heads if stem.endswith("q_proj") else config.num_key_value_heads
        return weights.reshape(n, 2, -1, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)
    if name in _PLUS_ONE and "norm" in stem and last == "weight":
        return weights + 1
    if (
        name == "gpt2"
        and stem.rsplit(".", 1)[-1].startswith(("c_attn", "c_proj", "c_fc"))
        and weights.ndim == 2
    ):
        return weights.T
    if name == "bloom" and stem.endswith("query_key_value"):
        n, d = config.n_head, config.hidden_size
        parts = weights.reshape(n, 3, d // n, *weights.shape[1:])
        return torch.cat([parts[:, i].reshape(d, *weights.shape[1:]) for i in range(3)])
    return weights


def tokenizer_keys(n_tokens: int = N_VOCAB) -> dict[str, Any]:
    """A byte-level vocabulary of letters, digits and a few others, and one mark."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,!?;:'-", "Ġ", "Ċ", "Â", "½", "ĠĠ", "th", "12"]
    tokens = [*letters, *(f"<unused{i}>" for i in range(n_tokens - len(letters) - 1)), "<s>"]
    return {
        "model": "gpt2", "pre": "gpt-2", "tokens": tokens, "merges": ["Ġ Ġ", "t h", "1 2"],
        "token_type": [3 if t == "<s>" else 5 if t.startswith("<unused") else 1 for t in tokens],
        "bos_token_id": n_tokens - 1, "eos_token_id": n_tokens - 1, "add_bos_token": False,
    }  # fmt: skip


def write(  # noqa: PLR0913
    path: Path, name: str, model: Any, *, keys: dict[str, Any] | None = None, without: tuple[str, ...] = (),
    tokenizer: dict[str, Any] | None = None, kinds: dict[str, str] | None = None,
    more: dict[str, np.ndarray] | None = None, leave_out: tuple[str, ...] = (), general: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write a model as a GGUF file.

    Args:
        path: the file.
        name: its architecture, as the format calls it.
        model: of `build`.
        keys: stated besides, or in place of, what the converter states.
        without: keys that are not stated.
        tokenizer: of `tokenizer_keys`.
        kinds: ggml type of the tensors whose names hold a word; the others are float32.
        more: further tensors.
        leave_out: names of tensors that are not written.
        general: further keys, by their full name.
    """
    import gguf

    writer = gguf.GGUFWriter(path, name)
    stated = {
        k: v
        for k, v in (keys_of(name, model.config) | (keys or {})).items()
        if v is not None and k not in without
    }
    full = {f"{name}.{k}": v for k, v in stated.items()} | (general or {})
    full |= {f"tokenizer.ggml.{k}": v for k, v in (tokenizer or tokenizer_keys()).items()}
    for key, value in full.items():
        add = {
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            str: writer.add_string,
        }
        add.get(type(value), writer.add_array)(key, value)
    arch = next(kind for kind, known in gguf.MODEL_ARCH_NAMES.items() if known == name)
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    for parameter, values in model.state_dict().items():
        stem, _, last = parameter.rpartition(".")
        target = names.get_name(stem)
        if target is None and name == "bloom":
            target = names.get_name(stem.removeprefix("transformer."))
        if stem == "lm_head" and model.config.tie_word_embeddings:
            continue
        assert target is not None, parameter
        written = f"{target}.{last}"
        if written in leave_out:
            continue
        array = np.ascontiguousarray(_arranged(name, model.config, stem, last, values).numpy())
        kind = next((k for word, k in (kinds or {}).items() if word in written), "F32")
        if kind == "F32":
            writer.add_tensor(written, array)
        else:
            ggml = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(written, gguf.quantize(array, ggml), raw_dtype=ggml)
    for extra, array in (more or {}).items():
        writer.add_tensor(extra, array.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
