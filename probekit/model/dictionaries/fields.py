"""The fields of SAELens' `cfg.json`, versions 1 to 6: which ones an encoder depends on, and which ones it does not.

Source: the classes `SAEConfig` and `…RunnerConfig` of sae-lens 2.1.3, 3.23.4, 4.4.5, 5.11.0 and 6.54.12. From version 6 on
what concerns the language model lies in `metadata`, which is free-form; before, everything lies side by side.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probekit.errors import InputError
from probekit.model.dictionaries.encoder import Training

# what the encoder depends on; each is looked at by name in saelens.py, or below
_ENCODER = (
    "architecture d_in d_sae d_out dtype apply_b_dec_to_input normalize_activations reshape_activations k "
    "rescale_acts_by_decoder_norm activation_fn activation_fn_kwargs metadata"
)
_TEXT = (
    "hook_name hook_head_index hook_name_out hook_head_index_out model_name model_class_name "
    "model_from_pretrained_kwargs prepend_bos context_size seqpos_slice"
)
# what training, storage and logging depended on, and no activation does once the weights are there. noise_scale and
# finetuning_scaling_factor act in training and in the decoder only.
_HARMLESS = (
    "device sae_lens_version sae_lens_training_version neuronpedia_id dataset_path dataset_trust_remote_code hook_layer "
    "hook_point_layer hook_eval hook_point_eval hf_hook_name hf_hook_name_out hook_layer_out exclude_special_tokens "
    "sequence_separator_token disable_concat_sequences use_chat_formatting begin_batch_token begin_sequence_token "
    "noise_scale finetuning_scaling_factor finetuning_method finetuning_tokens "
    "l1_coefficient lp_norm l1_warm_up_steps l0_coefficient l0_warm_up_steps target_l0 mse_loss_normalization "
    "scale_sparsity_penalty_by_decoder_norm aux_loss_coefficient use_ghost_grads use_sparse_activations "
    "topk_threshold_lr matryoshka_widths use_matryoshka_aux_loss jumprelu_bandwidth jumprelu_init_threshold "
    "jumprelu_sparsity_loss_mode jumprelu_ste_to_input jumprelu_tanh_scale pre_act_loss_coefficient "
    "decoder_init_norm decoder_heuristic_init decoder_heuristic_init_norm decoder_orthogonal_init "
    "init_encoder_as_decoder_transpose b_dec_init_method normalize_sae_decoder expansion_factor "
    "adam_beta1 adam_beta2 lr lr_end lr_decay_steps lr_scheduler_name lr_warm_up_steps n_restart_cycles "
    "dead_feature_threshold dead_feature_window feature_sampling_window feature_sampling_method resample_batches "
    "feature_reinit_scale train_batch_size train_batch_size_samples train_batch_size_tokens training_tokens "
    "total_training_tokens total_training_steps total_training_samples tokens_per_buffer "
    "n_batches_in_buffer n_batches_for_norm_estimate n_eval_batches eval_batch_size_prompts "
    "store_batch_size_prompts store_batch_size activations_mixing_fraction act_store_device llm_device llm_batch_size "
    "prefetch_llm_batches is_dataset_tokenized streaming use_cached_activations cached_activations_path "
    "from_pretrained_path checkpoint_path n_checkpoints save_final_checkpoint output_path resume resume_from_checkpoint "
    "verbose seed run_name sae_name autocast autocast_lm compile_llm compile_sae llm_compilation_mode "
    "sae_compilation_mode model_kwargs logger log_to_wandb wandb_entity wandb_id wandb_project wandb_log_frequency "
    "eval_every_n_wandb_logs log_optimizer_state_to_wandb log_weights_to_wandb log_activations_store_to_wandb "
    "use_cached_activations tokens_file sae"
)
_KNOWN = frozenset(f"{_ENCODER} {_TEXT} {_HARMLESS}".split())
_OLDER = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
"""Names before version 6, and what they are called since."""


@dataclass(frozen=True)
class Fields:
    """A configuration whose every field is known."""

    source: Path
    """The file."""
    encoder: dict[str, Any]
    """Fields of the autoencoder."""
    text: dict[str, Any]
    """Fields of what it was trained on."""

    @classmethod
    def of(cls, source: Path, config: dict[str, Any]) -> Fields:
        """Sort a configuration; refuse what is not known.

        Raises:
            InputError: a field is unknown, or not of the type its name says.
        """
        metadata = config.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            raise InputError(f"{source}: metadata is {metadata!r:.60}, wanted an object. {_MEND}")
        top = {_OLDER.get(name, name): value for name, value in config.items() if name != "metadata"}
        unknown = sorted(set(top) - _KNOWN)
        if unknown:
            raise InputError(
                f"{source}: field {unknown[0]!r} = {top[unknown[0]]!r:.60} is unknown and may change the encoder. Take it "
                "out if it does not; otherwise convert the dictionary with the library that wrote it."
            )
        # metadata is free-form: what else it holds concerns nobody's encoder
        text = {name: top[name] for name in _TEXT.split() if name in top}
        text |= {name: (metadata or {})[name] for name in _TEXT.split() if name in (metadata or {})}
        return cls(source, top, text)

    @property
    def before_6(self) -> bool:
        """Whether an older version of sae-lens wrote it, with other defaults."""
        metadata = self.encoder.get("metadata")
        told = self.encoder.get("sae_lens_version") or (metadata or {}).get("sae_lens_version")
        found = re.match(r"\d+", str(told)) if told else None
        return found is None or int(found.group()) < 6

    def get(self, name: str, kind: type, default: Any) -> Any:
        """A field of the encoder, or its default where it is absent or null.

        Raises:
            InputError: it is of another type.
        """
        return self._of_kind(name, self.encoder.get(name), kind, default)

    def _of_kind(self, name: str, value: Any, kind: type, default: Any) -> Any:
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise InputError(f"{self.source}: {name} is {value!r:.60}, wanted a {kind.__name__}. {_MEND}")
        return value

    def about(self, name: str, kind: type) -> Any:
        """A field of what it was trained on; None where it is absent or null.

        Raises:
            InputError: it is of another type.
        """
        return self._of_kind(name, self.text.get(name), kind, None)

    def training(self) -> Training:
        """What the dictionary was trained on.

        Raises:
            InputError: a field is of the wrong type.
        """
        positions: list[Any] = self.about("seqpos_slice", list) or []
        if any(
            value is not None and (not isinstance(value, int) or isinstance(value, bool))
            for value in positions
        ):
            raise InputError(
                f"{self.source}: seqpos_slice is {positions!r:.60}, wanted start, stop and step. {_MEND}"
            )
        trivial = positions[:1] in ([], [None], [0]) and all(value in (None, 1) for value in positions[2:])
        everything = trivial and (len(positions) < 2 or positions[1] is None)
        return Training(
            model=self.about("model_name", str),
            processing=self.about("model_from_pretrained_kwargs", dict),
            prepend_bos=self.about("prepend_bos", bool),
            context=self.about("context_size", int),
            positions=() if everything else tuple(positions),
        )


_MEND = "Correct it, or download the dictionary again."
