"""Tiny random configurations of every encoder that is read. Axes: none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

N_VOCAB = 64
CONTEXT = 32
PAD, CLS, SEP = 0, 61, 62

COMMON: dict[str, Any] = {
    "vocab_size": N_VOCAB, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": CONTEXT, "pad_token_id": PAD, "bos_token_id": CLS, "eos_token_id": SEP,
}  # fmt: skip
PADDED = COMMON | {"max_position_embeddings": CONTEXT + 1}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "bert": COMMON,
    "roberta": PADDED,
    "distilbert": {
        "vocab_size": N_VOCAB, "dim": 16, "hidden_dim": 48, "n_layers": 2, "n_heads": 2, "max_position_embeddings": CONTEXT,
        "pad_token_id": PAD,
    },
    "modernbert": COMMON | {"cls_token_id": CLS, "sep_token_id": SEP, "mlp_bias": True},
    "xlm-roberta": PADDED,
    "camembert": PADDED,
    "roberta-prelayernorm": PADDED,
    "mpnet": PADDED,
    "electra": COMMON | {"embedding_size": 16},
    "ernie": COMMON,
    "deberta": COMMON,
    "deberta-v2": COMMON,
    "megatron-bert": COMMON,
}  # fmt: skip


def builder(name: str) -> Callable[[], Any]:
    """A function that makes the encoder of one architecture, by its model type."""

    def build() -> Any:
        import transformers as hf

        return hf.AutoModel.from_config(hf.AutoConfig.for_model(name, **CONFIGURATIONS[name]))

    return build
