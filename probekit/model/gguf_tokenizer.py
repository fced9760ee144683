"""The tokenizer in a GGUF file, with the splitting rule that the file names, proved against the file's own list.

`transformers` builds it from the file, but knows only some of the splitting rules and takes GPT-2's for any other, forgets
that some vocabularies take whole words before merges, and whether a space goes first. These are put right here, and a rule
that neither knows is refused by name.
Source: the rules are those of llama.cpp's `llama-vocab.cpp`.
Axes: none.
"""

from __future__ import annotations

import json
from typing import Any

from probekit.errors import ModelError
from probekit.model.gguf import GgufFile, folder_of

_GPT2 = ("gpt-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "gpt2", "phi-2", "jina-es", "jina-de",
         "jina-v2-es", "jina-v2-de", "gigachat", "a.x-4.0", "mellum", "modern-bert")  # fmt: skip
"""Rules that are GPT-2's."""
_DIGITS_FIRST = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
"""Every digit for itself, then GPT-2's rule on what is between."""
_QWEN2 = ("qwen2", "stablelm2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "hunyuan", "solar-open")
_LLAMA3 = (
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
)
_WHOLE_WORDS_FIRST = (*_LLAMA3, "tekken")
"""A word that is a token is that token, whatever the merges say."""
_KNOWN_TO_TRANSFORMERS = (
    *_LLAMA3, "dbrx", "smaug-bpe", "tekken", "qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "qwen35", "gpt-4o",
    "llama4", "kanana2", "talkie", "minimax-m2",
)  # fmt: skip
_HARMLESS = {
    "model", "pre", "tokens", "token_type", "token_type_count", "scores", "merges", "add_bos_token", "add_eos_token",
    "add_sep_token", "add_space_prefix", "bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id",
    "eot_token_id", "eom_token_id", "seperator_token_id", "cls_token_id", "mask_token_id", "fim_pre_token_id",
    "fim_suf_token_id", "fim_mid_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id", "prefix_token_id",
    "suffix_token_id", "middle_token_id", "eot_token_ids", "suppress_tokens",
}  # fmt: skip
"""Keys that are used, or that say nothing about how text becomes tokens."""
_CONTROL = 3
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def read_tokenizer(file: GgufFile) -> Any:
    """The Hugging Face tokenizer of a file, with the special tokens that the file names and no others.

    Raises:
        ModelError: the file has none, or one that cannot be built as the file says.
    """
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] | None = file.get("tokenizer.ggml.tokens")
    if not tokens:
        raise ModelError(
            f"{file.path}: no tokenizer, so text cannot become tokens. Load the model with transformers and pass it with "
            "a corpus of tokens."
        )
    _require_known(file)
    try:
        with folder_of(file.path) as (folder, name):
            built: Any = PreTrainedTokenizerFast.from_pretrained(
                folder, gguf_file=name, local_files_only=True
            )
    except (ValueError, KeyError, TypeError, OSError, AttributeError) as error:
        raise ModelError(
            f"{file.path}: its tokenizer ({file.get('tokenizer.ggml.model')!r}) cannot be built "
            f"({type(error).__name__}: {error}). Use the model in Hugging Face format."
        ) from error
    backend = _without_foreign_tokens(built.backend_tokenizer, len(tokens))
    _split_as_stated(file, backend)
    special = {
        name: tokens[i] for name, key in _SPECIAL.items()
        if (i := file.get(f"tokenizer.ggml.{key}_token_id")) is not None and 0 <= i < len(tokens)
    }  # fmt: skip
    types = file.get("tokenizer.ggml.token_type") or []
    control = [
        token for token, kind in zip(tokens, types, strict=False)
        if kind == _CONTROL and token not in special.values() and backend.token_to_id(token) is not None
    ]  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, **special, additional_special_tokens=control, clean_up_tokenization_spaces=False,
        add_bos_token=bool(file.get("tokenizer.ggml.add_bos_token", False)),
    )  # fmt: skip
    _prove(file, tokenizer, tokens)
    return tokenizer


def _without_foreign_tokens(backend: Any, n_tokens: int) -> Any:
    """Without the marks of the class it was built by, such as <|endoftext|>, where the file lists no such token."""
    from tokenizers import Tokenizer

    held = json.loads(backend.to_str())
    held["added_tokens"] = [token for token in held["added_tokens"] if token["id"] < n_tokens]
    held["post_processor"] = None  # marks are put first by nobody but us
    return Tokenizer.from_str(json.dumps(held))


def _require_known(file: GgufFile) -> None:
    prefix = "tokenizer.ggml."
    left = sorted(
        key for key in file.keys if key.startswith(prefix) and key.removeprefix(prefix) not in _HARMLESS
    )
    # a rule that is switched off changes nothing
    left = [key for key in left if file.get(key) not in (False, [], "")]
    if left:
        raise ModelError(
            f"{file.path}: states {left[0]} for its tokenizer, which cannot be built from a GGUF file here; text would be "
            "split differently. Use the model in Hugging Face format."
        )


def _split_as_stated(file: GgufFile, backend: Any) -> None:
    """Put the splitting rule right that the file names."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    if file.get("tokenizer.ggml.model") != "gpt2":
        if file.get("tokenizer.ggml.add_space_prefix", True) or file.architecture.startswith("gemma"):
            return
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.pre_tokenizer = None
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        return
    rule = file.get("tokenizer.ggml.pre")
    if rule is None and file.architecture == "gpt2":
        rule = "gpt-2"
    if rule in _WHOLE_WORDS_FIRST:
        backend.model.ignore_merges = True
    if rule in _GPT2 or rule in _KNOWN_TO_TRANSFORMERS:
        return
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rules: dict[str, list[Any]] = {
        **{name: [pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"), byte_level] for name in _DIGITS_FIRST},
        "falcon": [
            pre_tokenizers.Split(Regex(r"[\p{P}\$\+<=>\^~\|`]+"), "isolated"),
            byte_level,
            pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
        ],
    }
    if rule in _QWEN2:
        from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        rules[str(rule)] = [pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"), bytes_only]
    if rule not in rules:
        known = sorted({*_GPT2, *_DIGITS_FIRST, *_QWEN2, *_KNOWN_TO_TRANSFORMERS, "falcon"})
        raise ModelError(
            f"{file.path}: its tokenizer splits text by the rule {rule!r} (tokenizer.ggml.pre), which is not "
            "known here; wanted "
            f"one of {', '.join(known)}. Use the model in Hugging Face format."
        )
    backend.pre_tokenizer = pre_tokenizers.Sequence(rules[str(rule)])


def _prove(file: GgufFile, tokenizer: Any, tokens: list[str]) -> None:
    """Special tokens have the file's ids and stay whole, and no token was added to the file's list."""
    if len(tokenizer) > len(tokens):
        raise ModelError(
            f"{file.path}: the tokenizer has {len(tokenizer):,} tokens, the file lists {len(tokens):,}; a special token is "
            "spelled in a way that cannot be built. Use the model in Hugging Face format."
        )
    types = file.get("tokenizer.ggml.token_type") or []
    special = {i for i, kind in enumerate(types) if kind == _CONTROL}
    named = {name: file.get(f"tokenizer.ggml.{key}_token_id") for name, key in _SPECIAL.items()}
    for name, i in named.items():
        if i is not None and 0 <= i < len(tokens) and getattr(tokenizer, f"{name}_id") != i:
            raise ModelError(
                f"{file.path}: {name} has the id {getattr(tokenizer, f'{name}_id')}, the file says {i}. Use the model in "
                "Hugging Face format."
            )
    for i in sorted(special | {i for i in named.values() if i is not None and 0 <= i < len(tokens)}):
        found = tokenizer(tokens[i], add_special_tokens=False)["input_ids"]
        if found != [i]:
            raise ModelError(
                f"{file.path}: the special token {tokens[i]!r} becomes {found}, the file says {i}; text that "
                "holds it would be "
                "read differently. Use the model in Hugging Face format."
            )
