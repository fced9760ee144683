"""Tiny random configurations of every decoder that TransformerLens supports and transformers builds without remote code.

Dense ones are to be loaded, proved and analysed; the others are to be refused by name. Axes: none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

N_VOCAB = 64
CONTEXT = 32
BOS = 63

SPECIAL: dict[str, Any] = {"bos_token_id": BOS, "eos_token_id": BOS, "pad_token_id": BOS}
COMMON: dict[str, Any] = {
    "vocab_size": N_VOCAB, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": CONTEXT, **SPECIAL,
}  # fmt: skip
PLAIN = {key: value for key, value in COMMON.items() if key != "num_key_value_heads"}
GPT2: dict[str, Any] = {
    "vocab_size": N_VOCAB, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT, "bos_token_id": BOS,
    "eos_token_id": BOS,
}  # fmt: skip

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "gpt_neox": PLAIN,
    "llama": COMMON,
    "qwen2": COMMON,
    "gemma2": COMMON | {"head_dim": 8},
    "phi": COMMON,
    "phi3": COMMON,
    "gptj": GPT2 | {"rotary_dim": 4},
    "opt": {k: v for k, v in PLAIN.items() if k != "intermediate_size"} | {"ffn_dim": 48, "word_embed_proj_dim": 16},
    "bloom": {"vocab_size": N_VOCAB, "hidden_size": 16, "n_layer": 2, "n_head": 2, "bos_token_id": BOS, "eos_token_id": BOS},
    "mistral": COMMON,
    "ministral3": COMMON | {"head_dim": 8},
    "qwen3": COMMON | {"head_dim": 8},
    "gemma": COMMON | {"head_dim": 8},
    "gemma3_text": COMMON | {"head_dim": 8, "sliding_window": 16},
    "smollm3": COMMON,
    "olmo": COMMON,
    "olmo2": COMMON,
    "olmo3": COMMON,
    "granite": COMMON,
    "cohere": COMMON,
    "cohere2": COMMON,
    "glm": COMMON | {"head_dim": 8},
    "glm4": COMMON | {"head_dim": 8},
    "stablelm": COMMON,
    "starcoder2": COMMON,
    "falcon": PLAIN | {"ffn_hidden_size": 48, "new_decoder_architecture": False},
    "mpt": {"vocab_size": N_VOCAB, "d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": CONTEXT, "expansion_ratio": 3},
    "gpt_neo": {
        "vocab_size": N_VOCAB, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 48,
        "max_position_embeddings": CONTEXT, "attention_types": [[["global", "local"], 1]], "window_size": 8,
        "bos_token_id": BOS, "eos_token_id": BOS,
    },
    "gpt_bigcode": GPT2,
    "codegen": GPT2 | {"n_head": 4, "rotary_dim": 4},
    "openai-gpt": {k: v for k, v in GPT2.items() if not k.endswith("token_id")},
    "xglm": {
        "vocab_size": N_VOCAB, "d_model": 16, "num_layers": 2, "attention_heads": 2, "ffn_dim": 48,
        "max_position_embeddings": CONTEXT, **SPECIAL, "pad_token_id": 1,
    },
    "nemotron": COMMON,
    "exaone4": COMMON | {"sliding_window": 16},
    "ernie4_5": COMMON | {"head_dim": 8},
    "seed_oss": COMMON | {"head_dim": 8},
    "arcee": COMMON,
    "apertus": COMMON,
    "hunyuan_v1_dense": COMMON | {"head_dim": 8},
    "vaultgemma": COMMON | {"head_dim": 8, "query_pre_attn_scalar": 8},
    "nanochat": COMMON,
    "modernbert-decoder": PLAIN | {"cls_token_id": BOS, "sep_token_id": BOS},
    "jais2": COMMON,
    "lfm2": COMMON | {"layer_types": ["conv", "full_attention"]},
    "mixtral": COMMON | {"num_local_experts": 2},
    "olmoe": COMMON | {"num_experts": 2, "num_experts_per_tok": 1},
    "qwen2_moe": COMMON | {
        "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24,
    },
    "qwen3_moe": COMMON | {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 24, "head_dim": 8},
    "phimoe": COMMON | {"num_local_experts": 2},
    "granitemoe": COMMON | {"num_local_experts": 2},
    "mamba": {"vocab_size": N_VOCAB, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, **SPECIAL},
}  # fmt: skip


REFUSED: dict[str, str] = {
    "mixtral": "mixture of experts",
    "olmoe": "mixture of experts",
    "qwen2_moe": "mixture of experts",
    "qwen3_moe": "mixture of experts",
    "granitemoe": "mixture of experts",
    "phimoe": "could not be loaded",  # TransformerLens knows PhiMoEForCausalLM, transformers calls it PhimoeForCausalLM
    "mamba": "has no site",
    "apertus": "nor by any of",  # xIELU: an activation with weights of its own in every layer
    "modernbert-decoder": "W_in 96; what is hooked there are not the neurons",  # gate and linear half in one matrix
}
"""What is refused, and a word of the reason."""

DENSE = tuple(name for name in CONFIGURATIONS if name not in REFUSED)


def builder(name: str) -> Callable[[], Any]:
    """A function that makes the model of one architecture, by its model type."""

    def build() -> Any:
        import transformers as hf

        return hf.AutoModelForCausalLM.from_config(hf.AutoConfig.for_model(name, **CONFIGURATIONS[name]))

    return build
