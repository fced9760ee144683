"""The configuration that a GGUF file states, key by key; a key that nobody uses is refused by name.

Each function takes what it needs from the file and gives the arguments of a `transformers` configuration. Nothing that
changes what the model computes is left to a default of `transformers`, which is one checkpoint's value; where the file is
silent, the value is the one that llama.cpp takes (its `llama-model.cpp`).
Axes: none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from probekit.errors import ModelError
from probekit.model.gguf import GgufFile

ROPE_FREQS, ROPE_LONG, ROPE_SHORT = (
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
)
USED_IN_CONFIG = frozenset({ROPE_FREQS, ROPE_LONG, ROPE_SHORT})
"""Tensors that go into the configuration."""
_REQUIRED: Any = object()
_GEMMA2_27B, _GEMMA3_27B = 46, 62
"""Layers by which llama.cpp knows the models that scale attention by d_model / n_heads."""


class Stated:
    """The keys of a file under its architecture, and which of them were used."""

    def __init__(self, file: GgufFile) -> None:
        self.file = file
        self._used: set[str] = set()

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """The value under `architecture.name`; a list whose entries are all equal is one value.

        Raises:
            ModelError: it is not there, or differs between layers.
        """
        key = f"{self.file.architecture}.{name}"
        self._used.add(key)
        value = self.file.get(key)
        if value is None:
            if default is _REQUIRED:
                raise ModelError(
                    f"{self.file.path}: does not state {key!r}, so the model cannot be built; download it again, or use "
                    "the model in Hugging Face format."
                )
            return default
        if isinstance(value, list):
            if len(set(value)) != 1:
                raise self.refused(name, "differs between layers", value)
            return value[0]
        # as float32, what 0.00001 is there prints as 9.999999747378752e-06
        return float(str(np.float32(value))) if isinstance(value, float) else value

    def only(self, name: str, *allowed: Any) -> None:
        """Take a key that may have these values and no other.

        Raises:
            ModelError: it has another.
        """
        value = self.take(name, allowed[0])
        if value not in allowed:
            raise self.refused(name, f"wanted {' or '.join(map(repr, allowed))}", value)

    def refused(self, name: str, why: str, value: Any) -> ModelError:
        """The error for a key whose value cannot be built."""
        return ModelError(
            f"{self.file.path}: {self.file.architecture}.{name} is {value!r}: {why}. transformers cannot build that from "
            "the file; use the model in Hugging Face format."
        )

    def has(self, *names: str) -> bool:
        """Whether the first block has one of these tensors."""
        return any(f"blk.0.{name}" in self.file.tensors for name in names)

    def require_all_used(self) -> None:
        """Refuse what nobody took.

        Raises:
            ModelError: there is some.
        """
        own = {key for key in self.file.keys if key.startswith(f"{self.file.architecture}.")}
        left = sorted(own - self._used)
        if left:
            told = ", ".join(f"{key} = {self.file.get(key)!r:.40}" for key in left[:3])
            raise ModelError(
                f"{self.file.path}: states {len(left)} things about the model that cannot be built from a GGUF file here "
                f"({told}); what would be analysed is not the model in the file. Use the model in Hugging Face format."
            )


def _decoder(s: Stated) -> dict[str, Any]:
    """What every decoder of the Llama kind states."""
    s.only("expert_count", 0)
    s.only("expert_used_count", 0)
    s.only("attention.causal", True)
    s.only("tensor_data_layout", "Meta AI original pth", "reference")
    s.only("pooling_type", 0)
    d_model, n_heads = s.take("embedding_length"), s.take("attention.head_count")
    head_dim = s.take("attention.key_length", d_model // n_heads)
    s.only("attention.value_length", head_dim)
    return {
        "hidden_size": d_model,
        "num_hidden_layers": s.take("block_count"),
        "num_attention_heads": n_heads,
        "num_key_value_heads": s.take("attention.head_count_kv", n_heads),
        "intermediate_size": s.take("feed_forward_length"),
        "max_position_embeddings": s.take("context_length"),
        "head_dim": head_dim,
    }


def _rope(s: Stated, head_dim: int, *, theta: float = 10_000.0, partial: bool = False) -> dict[str, Any]:
    """Rotary embedding: base, width, and every kind of scaling that a file may state."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": float(s.take("rope.freq_base", theta))}
    n_rotated = s.take("rope.dimension_count", head_dim)
    if partial:
        rope["partial_rotary_factor"] = n_rotated / head_dim
    elif n_rotated != head_dim:
        raise s.refused("rope.dimension_count", f"wanted the {head_dim} of a head", n_rotated)
    kind = str(s.take("rope.scaling.type", "linear"))
    factor = float(s.take("rope.scaling.factor", 0.0) or s.take("rope.scale_linear", 0.0) or 1.0)
    s.take("rope.scale_linear", None)
    original = s.take("rope.scaling.original_context_length", None)
    attention = float(s.take("rope.scaling.attn_factor", 1.0))
    betas = {
        b: float(s.take(f"rope.scaling.yarn_{b}", d)) for b, d in (("beta_fast", 32.0), ("beta_slow", 1.0))
    }
    s.take("rope.scaling.finetuned", None)  # says how it was trained
    factors = [name in s.file.tensors for name in (ROPE_LONG, ROPE_SHORT)]
    if kind == "yarn":
        s.only("rope.scaling.yarn_ext_factor", 1.0)
        if original is None:
            s.take("rope.scaling.original_context_length")
        rope |= {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original, **betas}
        rope["attention_factor"] = attention * (0.1 * math.log(factor) + 1 if factor > 1 else 1.0)
    elif kind == "longrope" or any(factors):
        if not all(factors) or original is None:
            raise s.refused("rope.scaling.type", "its factors or its original length are missing", kind)
        long, short = s.file.numbers(ROPE_LONG), s.file.numbers(ROPE_SHORT)
        rope |= _by_factors(long, short, original, attention)
    elif kind == "linear" and factor != 1:
        rope |= {"rope_type": "linear", "factor": factor}
    elif kind not in ("linear", "none"):
        raise s.refused("rope.scaling.type", "wanted none, linear, yarn or longrope", kind)
    if ROPE_FREQS in s.file.tensors:
        if rope["rope_type"] != "default":
            raise s.refused("rope.scaling.type", f"and {ROPE_FREQS} is there as well", kind)
        freqs = s.file.numbers(ROPE_FREQS)
        if any(x != 1 for x in freqs):  # Llama 3.1's scaling, written out frequency by frequency
            rope |= _by_factors(freqs, freqs, s.take("context_length"), 1.0)
    return rope


def _by_factors(long: list[float], short: list[float], original: int, attention: float) -> dict[str, Any]:
    return {
        "rope_type": "longrope", "long_factor": long, "short_factor": short, "factor": 1.0, "attention_factor": attention,
        "original_max_position_embeddings": original,
    }  # fmt: skip


def _llama(s: Stated) -> dict[str, Any]:
    held = _decoder(s)
    return held | {
        "rms_norm_eps": s.take("attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rope(s, held["head_dim"]),
        "attention_bias": s.has("attn_q.bias", "attn_output.bias"),
        "mlp_bias": s.has("ffn_up.bias", "ffn_down.bias"),
        "hidden_act": "silu",
    }


def _qwen2(s: Stated) -> dict[str, Any]:
    held = _decoder(s)
    if held.pop("head_dim") != held["hidden_size"] // held["num_attention_heads"]:
        raise s.refused("attention.key_length", "wanted d_model / n_heads", s.take("attention.key_length"))
    return held | {
        "rms_norm_eps": s.take("attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rope(s, held["hidden_size"] // held["num_attention_heads"]),
        "use_sliding_window": False,
        "hidden_act": "silu",
    }


def _qwen3(s: Stated) -> dict[str, Any]:
    held = _decoder(s)
    return held | {
        "rms_norm_eps": s.take("attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rope(s, held["head_dim"]),
        "attention_bias": s.has("attn_q.bias"),
        "use_sliding_window": False,
        "hidden_act": "silu",
    }


def _gemma(s: Stated, n_layers_scaled: int) -> dict[str, Any]:
    held = _decoder(s)
    scaled = held["num_hidden_layers"] == n_layers_scaled
    by = held["hidden_size"] // held["num_attention_heads"] if scaled else held["head_dim"]
    return held | {
        "rms_norm_eps": s.take("attention.layer_norm_rms_epsilon"),
        "query_pre_attn_scalar": by,
        "attention_bias": s.has("attn_q.bias"),
        "hidden_activation": "gelu_pytorch_tanh",
    }


def _gemma2(s: Stated) -> dict[str, Any]:
    held = _gemma(s, _GEMMA2_27B)
    s.only("attention.sliding_window_pattern", 2)
    return held | {
        "rope_parameters": _rope(s, held["head_dim"]),
        "sliding_window": s.take("attention.sliding_window", 4_096),
        "layer_types": _every(2, held["num_hidden_layers"]),
        "attn_logit_softcapping": s.take("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": s.take("final_logit_softcapping", 30.0),
    }


def _gemma3(s: Stated) -> dict[str, Any]:
    held = _gemma(s, _GEMMA3_27B)
    s.only("attention.sliding_window_pattern", 6)
    near = float(s.take("rope.freq_base_swa", 10_000.0))
    return held | {
        "rope_parameters": {
            "full_attention": _rope(s, held["head_dim"], theta=1_000_000.0),
            "sliding_attention": {"rope_type": "default", "rope_theta": near},
        },
        "sliding_window": s.take("attention.sliding_window"),
        "layer_types": _every(6, held["num_hidden_layers"]),
        "attn_logit_softcapping": None,
        "final_logit_softcapping": s.take("final_logit_softcapping", 0.0) or None,
    }


def _every(period: int, n_layers: int) -> list[str]:
    """Every period-th layer sees all, the others a window."""
    return ["full_attention" if (i + 1) % period == 0 else "sliding_attention" for i in range(n_layers)]


def _phi3(s: Stated) -> dict[str, Any]:
    held = _decoder(s)
    head_dim = held.pop("head_dim")
    rope = _rope(s, head_dim, partial=True)
    original = {k: v for k, v in rope.items() if k == "original_max_position_embeddings"}
    return (
        held
        | original
        | {
            "rms_norm_eps": s.take("attention.layer_norm_rms_epsilon"),
            "rope_parameters": rope,
            "sliding_window": s.take("attention.sliding_window", 0) or None,
            "hidden_act": "silu",
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
        }
    )


def _gpt2(s: Stated) -> dict[str, Any]:
    held = _decoder(s)
    if held["num_key_value_heads"] != held["num_attention_heads"]:
        raise s.refused("attention.head_count_kv", "wanted as many as heads", held["num_key_value_heads"])
    inner = held["intermediate_size"]
    return {
        "n_embd": held["hidden_size"], "n_layer": held["num_hidden_layers"], "n_head": held["num_attention_heads"],
        "n_positions": held["max_position_embeddings"], "n_inner": None if inner == 4 * held["hidden_size"] else inner,
        "layer_norm_epsilon": s.take("attention.layer_norm_epsilon"), "activation_function": "gelu_new",
        "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
    }  # fmt: skip


def _stablelm(s: Stated) -> dict[str, Any]:
    held = _decoder(s)
    head_dim = held.pop("head_dim")
    return held | {
        "layer_norm_eps": s.take("attention.layer_norm_epsilon"),
        "rope_parameters": _rope(s, head_dim, partial=True),
        "use_parallel_residual": bool(s.take("use_parallel_residual", not s.has("ffn_norm.weight"))),
        "use_qkv_bias": s.has("attn_q.bias"),
        "qk_layernorm": s.has("attn_q_norm.weight"),
        "hidden_act": "silu",
    }


def _starcoder2(s: Stated) -> dict[str, Any]:
    held = _decoder(s)
    head_dim = held.pop("head_dim")
    return held | {
        "norm_epsilon": s.take("attention.layer_norm_epsilon"),
        "rope_parameters": _rope(s, head_dim),
        "sliding_window": s.take("attention.sliding_window", 0) or None,
        "use_bias": s.has("attn_q.bias"),
        "hidden_act": "gelu_pytorch_tanh",
    }


def _falcon(s: Stated) -> dict[str, Any]:
    held = _decoder(s)
    if held["num_key_value_heads"] != 1:
        raise s.refused(
            "attention.head_count_kv", "only files with one key and value head hold their matrices as transformers reads "
            "them", held["num_key_value_heads"],
        )  # fmt: skip
    return {
        "hidden_size": held["hidden_size"], "num_hidden_layers": held["num_hidden_layers"],
        "num_attention_heads": held["num_attention_heads"], "ffn_hidden_size": held["intermediate_size"],
        "max_position_embeddings": held["max_position_embeddings"], "rope_parameters": _rope(s, held["head_dim"]),
        "layer_norm_epsilon": s.take("attention.layer_norm_epsilon"), "multi_query": True, "parallel_attn": True,
        "new_decoder_architecture": False, "alibi": False, "bias": s.has("attn_qkv.bias"), "activation": "gelu",
    }  # fmt: skip


def _bloom(s: Stated) -> dict[str, Any]:
    s.only("attention.max_alibi_bias", 8.0)
    s.take("context_length", None)  # positions are no weights here
    n_heads, d_model = s.take("attention.head_count"), s.take("embedding_length")
    s.only("attention.head_count_kv", n_heads)
    s.only("feed_forward_length", 4 * d_model)
    s.only("attention.causal", True)
    return {
        "hidden_size": d_model, "n_layer": s.take("block_count"), "n_head": n_heads,
        "layer_norm_epsilon": s.take("attention.layer_norm_epsilon"),
    }  # fmt: skip


def _nemotron(s: Stated) -> dict[str, Any]:
    held = _decoder(s)
    return held | {
        "norm_eps": s.take("attention.layer_norm_epsilon"),
        "rope_parameters": _rope(s, held["head_dim"], partial=True),
        "attention_bias": s.has("attn_q.bias"),
        "mlp_bias": s.has("ffn_up.bias"),
        "hidden_act": "relu2",
    }


ARCHITECTURES: dict[str, tuple[str, Callable[[Stated], dict[str, Any]]]] = {
    "bloom": ("bloom", _bloom),
    "falcon": ("falcon", _falcon),
    "gemma2": ("gemma2", _gemma2),
    "gemma3": ("gemma3_text", _gemma3),
    "gpt2": ("gpt2", _gpt2),
    "llama": ("llama", _llama),
    "nemotron": ("nemotron", _nemotron),
    "phi3": ("phi3", _phi3),
    "qwen2": ("qwen2", _qwen2),
    "qwen3": ("qwen3", _qwen3),
    "stablelm": ("stablelm", _stablelm),
    "starcoder2": ("starcoder2", _starcoder2),
}
"""What a file calls its architecture → the model type of `transformers`, and how its configuration is read.

Llama, Mistral and what else computes the same are all "llama" in a GGUF file."""


def _arguments(file: GgufFile) -> tuple[str, dict[str, Any]]:
    if file.architecture not in ARCHITECTURES:
        raise ModelError(
            f"{file.path}: the architecture {file.architecture!r} cannot be read from a GGUF file; wanted one of "
            f"{', '.join(ARCHITECTURES)}. Use the model in Hugging Face format."
        )
    model_type, read = ARCHITECTURES[file.architecture]
    stated = Stated(file)
    held = read(stated)
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelError(
            f"{file.path}: holds no token_embd.weight; wanted a language model. Download it again."
        )
    held["vocab_size"] = embedding.shape[0]
    stated.only("vocab_size", embedding.shape[0])
    held["tie_word_embeddings"] = "output.weight" not in file.tensors
    stated.require_all_used()
    return model_type, held


def read_config(file: GgufFile) -> Any:
    """The `transformers` configuration that a file states.

    Raises:
        ModelError: the architecture or something that the file states about the model cannot be built.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, held = _arguments(file)
    ids = {
        f"{name}_token_id": file.get(f"tokenizer.ggml.{key}_token_id")
        for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
    }
    config = AutoConfig.for_model(model_type, **held, **ids)
    known: Any = AutoModelForCausalLM._model_mapping
    config.architectures = [known[type(config)].__name__]
    return config


def differences(file: GgufFile, config: Any) -> list[str]:
    """Where a configuration is not what a file states.

    Raises:
        ModelError: as `read_config`.
    """
    _, held = _arguments(file)
    wanted = read_config(file)
    return [
        f"{name} is {getattr(config, name, None)!r:.80}, the file says {getattr(wanted, name)!r:.80}"
        for name in held
        if not _alike(getattr(config, name, None), getattr(wanted, name))
    ]


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        # what stands for the whole width may be left out
        full = {"partial_rotary_factor": 1.0}
        return all(_alike(a.get(k, full.get(k)), b.get(k, full.get(k))) for k in a.keys() | b.keys())
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6)  # the file holds float32
    return bool(a == b)
