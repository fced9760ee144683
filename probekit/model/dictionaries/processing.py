"""What TransformerLens did to a model's weights before a dictionary read it, done to the activations.

A hooked model computes with raw weights. Of the processing that `from_pretrained` offers, folding the layer norms and
centring the unembedding change no activation that a dictionary can read. Centring the writing weights takes its mean off
everything that is written to the residual stream of a LayerNorm model (every write is linear in the weights centred), which
is the same as taking it off each vector; an RMSNorm model is left alone by TransformerLens, too. The other two move what
heads compute.
Source: TransformerLens 3.9 `ProcessWeights` and `HookedTransformer.from_pretrained`; compared in
`tests/model/dictionaries/test_processing.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from probekit.errors import InputError
from probekit.model.hooked_model import HookedModel

_WRITTEN = re.compile(
    r"(embed\.|pos_embed\.)hook_out|hook_embed|hook_pos_embed|blocks\.\d+\.((attn\.|mlp\.)?hook_out|hook_in"
    r"|hook_resid_(pre|mid|post)|hook_attn_out|hook_mlp_out)"
)
_OF_HEADS = re.compile(r"blocks\.\d+\.attn\.(hook_(q|k|v|z|rot_q|rot_k|result)|(q|k|v)\.hook_out)")
_OWN_VALUES = re.compile(
    r"blocks\.\d+\.(attn\.hook_(q|k|v|z|rot_q|rot_k|pattern|attn_scores)|mlp\.hook_(pre|pre_linear|post)"
    r"|ln\d(_post)?\.hook_(normalized|scale))"
)
_NO_ACTIVATION = ("fold_ln", "center_unembed")
_LOADING = (
    "device dtype torch_dtype n_devices move_to_device default_padding_side default_prepend_bos first_n_layers n_ctx "
    "trust_remote_code local_files_only cache_dir token attn_implementation low_cpu_mem_usage hf_model tokenizer "
    "device_map use_attn_result use_split_qkv_input use_hook_mlp_in use_attn_in"
)
_OTHER_WEIGHTS = ("revision", "checkpoint_index", "checkpoint_value")
_KNOWN = {*_NO_ACTIVATION, *_OTHER_WEIGHTS, *_LOADING.split(), "center_writing_weights"}


@dataclass(frozen=True)
class Processing:
    """What is to be done to an activation, and what the user should know."""

    centred: bool
    """Whether each vector's mean is taken off."""
    warnings: tuple[str, ...]
    """What cannot be seen to."""

    def apply(self, inputs: Tensor) -> Tensor:
        """Activations as the processed model has them."""
        return inputs - inputs.mean(dim=1, keepdim=True) if self.centred else inputs


def processing_of(hooked: HookedModel, site: str, asked: dict[str, Any] | None, name: str) -> Processing:
    """What the processing of a model's weights means at one site.

    Args:
        hooked: the model, with raw weights.
        site: the hook read.
        asked: model_from_pretrained_kwargs of the dictionary.
        name: of the dictionary, for messages.

    Raises:
        InputError: an argument changes the activations in a way that cannot be made up for here, or is unknown.
    """
    asked = asked or {}
    told = "model_from_pretrained_kwargs"
    warned: list[str] = []
    for key, value in asked.items():
        off = value is None or value is False
        if key in _OTHER_WEIGHTS and value is not None:
            warned.append(
                f"{name}: was trained on the weights {key}={value!r:.60} of its model; load the same ones."
            )
        elif key in ("fold_value_biases", "refactor_factored_attn_matrices"):
            if not off and (_OF_HEADS.fullmatch(site) or not _settled(site)):
                raise InputError(
                    f"{name}: {told} has {key}={value!r:.60}, which changes {site!r}; that is not made up for. Take a "
                    "dictionary of another site, or one trained without."
                )
        elif key not in _KNOWN and not off:
            raise InputError(
                f"{name}: {told} has {key}={value!r:.60}, which is unknown and may change the activations. Take it out of "
                "the configuration if it does not."
            )
    if not asked.get("center_writing_weights") or _rms(hooked):
        return Processing(False, tuple(warned))
    if not _settled(site):
        raise InputError(
            f"{name}: {told} has center_writing_weights, and what that does to {site!r} is not known here; take a "
            "dictionary of the residual stream, an attention or MLP output, or neurons."
        )
    written = _WRITTEN.fullmatch(site) is not None
    if written and any(hook.startswith("embed_ln.") for hook in hooked.bridge.hook_dict):
        raise InputError(
            f"{name}: {told} has center_writing_weights, but {hooked.name} normalises its embedding, so that its stream is "
            "not centred by it; take a dictionary trained on the raw model."
        )
    return Processing(written, tuple(warned))


def _settled(site: str) -> bool:
    """Whether it is known what processing does to a site."""
    return any(pattern.fullmatch(site) for pattern in (_WRITTEN, _OWN_VALUES, _OF_HEADS))


def _rms(hooked: HookedModel) -> bool:
    cfg = hooked.bridge.cfg
    return str(getattr(cfg, "normalization_type", "LN")).startswith("RMS") or bool(
        getattr(cfg, "final_rms", False)
    )
