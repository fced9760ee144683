"""SAELens' format: `cfg.json` and `sae_weights.safetensors`, of a finished dictionary or of a checkpoint in training.

Source: sae-lens 6.54.12, against whose own encoders all of it is tested (`tests/model/dictionaries/`). Batch top-k
autoencoders are read with their threshold, as that library saves them when training ends.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probekit.errors import InputError
from probekit.model.dictionaries.encoder import Dictionary, InputNorm, Nonlinearity
from probekit.model.dictionaries.fields import Fields
from probekit.model.dictionaries.files import Arrays, read_json, read_safetensors

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
_SCALER, _WHITENING = "activation_scaler.json", "activation_whitening.safetensors"
_NONLINEARITY: dict[str, Nonlinearity] = {
    "standard": "relu", "topk": "topk", "abstopk": "abstopk", "jumprelu": "jumprelu", "gated": "gated",
    "batchtopk": "jumprelu", "matryoshka_batchtopk": "jumprelu",
    "transcoder": "relu", "skip_transcoder": "relu", "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}  # fmt: skip
_REFUSED = {
    "temporal": "its latents depend on the tokens before, and only encoders of one token are read",
    "matching_pursuit": "it chooses latents one after the other, and only encoders of one step are read",
}
_RESCALED = ("topk", "abstopk", "batchtopk", "matryoshka_batchtopk")
_HOOKED = ("HookedTransformer", "TransformerBridge", "SAETransformerBridge")
_DTYPES = ("float32", "float64", "float16", "bfloat16")


def read_saelens(folder: Path) -> Dictionary:
    """The encoder of a folder in SAELens' format.

    Args:
        folder: holds cfg.json and sae_weights.safetensors.

    Raises:
        InputError: a file is missing or damaged, or a field changes the encoder in a way not known here.
        ShapeError: arrays that do not fit together.
        NonFiniteError: a weight is NaN or infinite.
    """
    fields = Fields.of(folder / CONFIG, read_json(folder / CONFIG))
    architecture = _architecture(fields)
    arrays = Arrays(folder / WEIGHTS, read_safetensors(folder / WEIGHTS), f"{architecture} dictionary")
    transcoder = architecture.endswith("transcoder")
    centred = _centred(fields, transcoder)
    _check_plain(fields, architecture)

    w_enc = arrays.take(
        "W_enc", {"d_in": fields.get("d_in", int, None), "d_sae": fields.get("d_sae", int, None)}
    )
    d_in, d_sae = w_enc.shape
    d_out = fields.get("d_out", int, None) if transcoder else d_in
    norms = _decoder_norms(fields, architecture, arrays, d_sae, d_out)
    b_dec = None
    if centred or "b_dec" in arrays.arrays:
        b_dec = arrays.take("b_dec", {"d_out" if transcoder else "d_in": d_out})
    made = Dictionary(
        name=folder.name,
        made_by=f"SAELens {architecture}",
        site=_site(fields),
        nonlinearity=_NONLINEARITY[architecture],
        w_enc=w_enc,
        b_enc=arrays.take("b_mag" if architecture == "gated" else "b_enc", {"d_sae": d_sae}),
        b_dec=b_dec if centred else None,
        norms=norms,
        head=_head(fields),
        output_site=fields.about("hook_name_out", str),
        training=fields.training(),
    )
    made = _normalised(folder, fields, made)
    made = _with_own_arrays(folder, fields, architecture, arrays, made)
    if "skip" in architecture:
        arrays.take("W_skip", {"d_out": d_out, "d_in": d_in})  # a way past the latents; checked, not used
    arrays.drop(("scaling_factor", "finetuning_scaling_factor"))  # of the decoder
    arrays.require_empty()
    return made


def _architecture(fields: Fields) -> str:
    named = fields.get("architecture", str, "standard")
    activation, given = _activation(fields)
    if fields.before_6 and activation == "topk":
        named = "topk"  # before version 4 a top-k autoencoder called itself standard
    if named in _REFUSED:
        raise InputError(f"{fields.source}: architecture {named!r} is not read: {_REFUSED[named]}.")
    if named not in _NONLINEARITY:
        known = ", ".join(_NONLINEARITY)
        raise InputError(f"{fields.source}: architecture {named!r} is unknown, wanted one of {known}.")
    if given and activation != ("topk" if named == "topk" else "relu"):
        raise InputError(
            f"{fields.source}: activation_fn {activation!r} in a {named} autoencoder, wanted relu; its latents are of a "
            "kind that is not read."
        )
    return named


def _activation(fields: Fields) -> tuple[str, bool]:
    told = fields.get("activation_fn", str, None)
    options: dict[str, Any] = fields.get("activation_fn_kwargs", dict, {})
    unknown = sorted(set(options) - ({"k"} if told == "topk" else set()))
    if unknown:
        raise InputError(
            f"{fields.source}: activation_fn_kwargs has {unknown[0]!r}, which is unknown and may change the encoder."
        )
    return told or "relu", told is not None


def _centred(fields: Fields, transcoder: bool) -> bool:
    """Whether the decoder's bias is taken off the input."""
    asked = fields.get("apply_b_dec_to_input", bool, not transcoder)
    if transcoder and asked:
        raise InputError(
            f"{fields.source}: apply_b_dec_to_input is true in a transcoder, whose b_dec belongs to its output."
        )
    return asked


def _check_plain(fields: Fields, architecture: str) -> None:
    """Fields that change nothing at the values that are allowed."""
    dtype = fields.get("dtype", str, "float32").removeprefix("torch.")
    if dtype not in _DTYPES:
        raise InputError(f"{fields.source}: dtype {dtype!r} is unknown, wanted one of {', '.join(_DTYPES)}.")
    reshape = fields.get("reshape_activations", str, "none")
    site = _site(fields)
    if reshape not in ("none", "hook_z"):
        raise InputError(
            f"{fields.source}: reshape_activations {reshape!r} is unknown, wanted none or hook_z."
        )
    if reshape == "hook_z" and site is not None and not site.endswith("_z"):
        raise InputError(f"{fields.source}: reshape_activations is hook_z, but hook_name is {site!r}.")
    if fields.encoder.get("rescale_acts_by_decoder_norm") and architecture not in _RESCALED:
        raise InputError(
            f"{fields.source}: rescale_acts_by_decoder_norm in a {architecture} dictionary, which has no such step; save it "
            "with the library that wrote it, which folds the norms into the weights."
        )


def _site(fields: Fields) -> str | None:
    """The hook; None where the names are not those of TransformerLens, as with a plain Hugging Face model."""
    model_class = fields.about("model_class_name", str)
    return fields.about("hook_name", str) if model_class in (None, *_HOOKED) else None


def _head(fields: Fields) -> int | None:
    head = fields.about("hook_head_index", int)
    if head is not None and head < 0:
        raise InputError(f"{fields.source}: hook_head_index is {head}, wanted a head, counted from 0.")
    return head


def _decoder_norms(
    fields: Fields, architecture: str, arrays: Arrays, d_sae: int, d_out: int | None
) -> Tensor | None:
    """Norms of the decoder's rows where pre-activations are multiplied by them; the decoder is checked and left."""
    rescaled = architecture in _RESCALED and fields.get("rescale_acts_by_decoder_norm", bool, False)
    if "W_dec" not in arrays.arrays and not rescaled:
        return None
    w_dec = arrays.take("W_dec", {"d_sae": d_sae, "d_out": d_out})
    return w_dec.norm(dim=1) if rescaled else None


def _with_own_arrays(
    folder: Path, fields: Fields, architecture: str, arrays: Arrays, made: Dictionary
) -> Dictionary:
    """What only one architecture has."""
    each = {"d_sae": made.n_latents}
    match architecture:
        case "gated":
            gain = arrays.take("r_mag", each).exp()
            return replace(made, gate_bias=arrays.take("b_gate", each), gain=gain)
        case "topk" | "abstopk":
            return replace(made, k=_k(fields, made.n_latents))
        case "batchtopk" | "matryoshka_batchtopk":
            return _thresholded(fields, arrays, made)
        case "jumprelu" | "jumprelu_transcoder" | "jumprelu_skip_transcoder":
            logarithm = "threshold" not in arrays.arrays and "log_threshold" in arrays.arrays
            name = "log_threshold" if logarithm else "threshold"  # checkpoints before 6.13
            threshold = arrays.take(name, each)
            return replace(made, threshold=threshold.exp() if logarithm else threshold)
        case _:
            return made


def _k(fields: Fields, n_latents: int) -> int:
    options = fields.get("activation_fn_kwargs", dict, {})
    k = options.get("k") if fields.before_6 and "k" in options else fields.encoder.get("k")
    if not isinstance(k, int) or isinstance(k, bool) or not 0 < k <= n_latents:
        raise InputError(
            f"{fields.source}: a top-k autoencoder with k = {k!r:.60}, wanted a number up to {n_latents}."
        )
    return k


def _thresholded(fields: Fields, arrays: Arrays, made: Dictionary) -> Dictionary:
    """Batch top-k as JumpReLU, as the library itself saves it: which latents stay must not depend on the batch."""
    threshold = float(arrays.take("topk_threshold", {}))
    if threshold <= 0:
        raise InputError(
            f"{arrays.source}: topk_threshold is {threshold:g}: it was never estimated, so it is not known which latents "
            "are active. Train on, or read a later checkpoint."
        )
    w_enc, b_enc = made.w_enc, made.b_enc
    if made.norms is not None:  # folded, as that library does
        norms = made.norms.clamp(min=1e-8)
        w_enc, b_enc = w_enc * norms, b_enc * norms
    return replace(made, w_enc=w_enc, b_enc=b_enc, norms=None, threshold=torch.ones_like(b_enc) * threshold)


def _normalised(folder: Path, fields: Fields, made: Dictionary) -> Dictionary:
    """What is done to the input before the encoder; statistics of training lie beside a checkpoint, if anywhere."""
    asked: Any = fields.encoder.get("normalize_activations")
    if isinstance(asked, bool) and fields.before_6:
        asked = "expected_average_only_in" if asked else "none"
    asked = "none" if asked is None else asked
    plain: dict[str, InputNorm] = {name: name for name in ("none", "constant_norm_rescale", "layer_norm")}
    factor, whitening = _statistics(folder, made.n_inputs)
    if isinstance(asked, str) and asked in plain:
        if factor is not None or whitening is not None:
            raise InputError(
                f"{folder / _SCALER}: holds statistics of the inputs, but normalize_activations is {asked!r}; the files are "
                "of two dictionaries, or one was edited."
            )
        return replace(made, input_norm=plain[asked])
    if asked == "expected_average_only_in" and factor is not None:
        return replace(made, scale=factor)
    if asked == "covariance_whitening" and whitening is not None:
        return replace(made, whitening=whitening)
    if asked in ("expected_average_only_in", "covariance_whitening"):
        raise InputError(
            f"{fields.source}: inputs are normalised by {asked!r}, whose numbers are not in the folder. They lie in "
            f"{_SCALER} beside a checkpoint; a dictionary saved at the end of training has them in its weights."
        )
    raise InputError(
        f"{fields.source}: normalize_activations {asked!r:.60} is unknown, wanted {', '.join(plain)}, "
        "expected_average_only_in or covariance_whitening."
    )


def _statistics(folder: Path, d_in: int) -> tuple[float | None, tuple[Tensor, Tensor] | None]:
    if not (folder / _SCALER).is_file():
        return None, None
    told = read_json(folder / _SCALER)
    factor = told.get("scaling_factor")
    if factor is not None and (
        not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor < 1e30
    ):
        raise InputError(f"{folder / _SCALER}: scaling_factor is {factor!r:.60}, wanted a positive number.")
    if not told.get("has_whitening", True) or not (folder / _WHITENING).is_file():
        return None if factor is None else float(factor), None
    arrays = Arrays(folder / _WHITENING, read_safetensors(folder / _WHITENING), "whitening")
    mean = arrays.take("mean", {"d_in": d_in})
    return None if factor is None else float(factor), (
        mean,
        arrays.take("matrix", {"d_in": d_in, "d_in ": d_in}),
    )
