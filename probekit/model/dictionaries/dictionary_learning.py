"""dictionary_learning's format: `config.json` and `ae.pt`, which is read without unpickling.

Source: dictionary-learning 0.1.0, whose `load_dictionary` decides what the encoder is; all of it is tested against that
library. Of its autoencoders `AutoEncoder` is rescaled at loading so that its decoder has columns of norm 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probekit.errors import InputError
from probekit.model.dictionaries.encoder import Dictionary, Training
from probekit.model.dictionaries.files import Arrays, read_json
from probekit.model.dictionaries.torch_archive import read_archive

CONFIG, ARCHIVE = "config.json", "ae.pt"
_HOOKS = {"resid_post": "hook_resid_post", "attention_out": "hook_attn_out", "mlp_out": "hook_mlp_out"}


def read_dictionary_learning(folder: Path) -> Dictionary:
    """The encoder of a folder in dictionary_learning's format.

    Args:
        folder: holds config.json and ae.pt.

    Raises:
        InputError: a file is missing or damaged, or the kind of autoencoder is not known here.
        ShapeError: arrays that do not fit together.
        NonFiniteError: a weight is NaN or infinite.
    """
    source = folder / CONFIG
    trainer: Any = read_json(source).get("trainer")
    if not isinstance(trainer, dict):
        raise InputError(f"{source}: no field 'trainer', wanted one, as dictionary_learning writes it.")
    kind = trainer.get("dict_class")
    if kind not in _READERS:
        raise InputError(
            f"{source}: dict_class {kind!r:.60} is not read, wanted one of {', '.join(_READERS)}."
        )
    arrays = Arrays(folder / ARCHIVE, read_archive(folder / ARCHIVE), kind)
    if kind == "AutoEncoder" and "bias" not in arrays.arrays and "decoder.bias" in arrays.arrays:
        kind = "AutoEncoderNew"  # the trainer of the April update writes the other's name
    d_in, d_sae = _length(source, trainer, "activation_dim"), _length(source, trainer, "dict_size")
    parts = _READERS[kind](arrays, d_in, d_sae, trainer, source)
    arrays.require_empty()
    return Dictionary(
        name=folder.name,
        made_by=f"dictionary_learning {kind}",
        site=_site(trainer),
        training=Training(model=_text(trainer.get("lm_name")), context=_context(folder)),
        **parts,
    )


def _length(source: Path, trainer: dict[str, Any], name: str) -> int | None:
    value = trainer.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise InputError(f"{source}: {name} is {value!r:.60}, wanted a positive number.")
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _context(folder: Path) -> int | None:
    buffer = read_json(folder / CONFIG).get("buffer")
    length = buffer.get("ctx_len") if isinstance(buffer, dict) else None
    return length if isinstance(length, int) else None


def _site(trainer: dict[str, Any]) -> str | None:
    """The hook that a submodule is in TransformerLens, where its name follows the library's own examples."""
    layer, named = trainer.get("layer"), str(trainer.get("submodule_name"))
    found = re.fullmatch(r"(resid_post|attention_out|mlp_out)(?:_layer_(\d+))?", named)
    if found is None or not isinstance(layer, int) or found.group(2) not in (None, str(layer)):
        return None
    return f"blocks.{layer}.{_HOOKS[found.group(1)]}"


def _linear(
    arrays: Arrays, d_in: int | None, d_sae: int | None, *, biased: bool
) -> tuple[Tensor, Tensor | None]:
    """Encoder, transposed to [input latent], and its bias."""
    w_enc = arrays.take("encoder.weight", {"dict_size": d_sae, "activation_dim": d_in}).T.contiguous()
    return w_enc, arrays.take("encoder.bias", {"dict_size": w_enc.shape[1]}) if biased else None


def _decoder(arrays: Arrays, w_enc: Tensor) -> Tensor:
    shape = {"activation_dim": w_enc.shape[0], "dict_size": w_enc.shape[1]}
    return arrays.take("decoder.weight", shape)


def _autoencoder(arrays: Arrays, d_in: int | None, d_sae: int | None, *_: Any) -> dict[str, Any]:
    w_enc, b_enc = _linear(arrays, d_in, d_sae, biased=True)
    norms = _decoder(arrays, w_enc).norm(dim=0)
    b_dec = arrays.take("bias", {"activation_dim": w_enc.shape[0]})
    if torch.allclose(norms, torch.ones_like(norms)):
        return {"nonlinearity": "relu", "w_enc": w_enc, "b_enc": b_enc, "b_dec": b_dec}
    assert b_enc is not None
    return {"nonlinearity": "relu", "w_enc": w_enc * norms, "b_enc": b_enc * norms, "b_dec": b_dec}


def _autoencoder_new(arrays: Arrays, d_in: int | None, d_sae: int | None, *_: Any) -> dict[str, Any]:
    w_enc, b_enc = _linear(arrays, d_in, d_sae, biased=True)
    _decoder(arrays, w_enc)
    arrays.take("decoder.bias", {"activation_dim": w_enc.shape[0]})
    return {"nonlinearity": "relu", "w_enc": w_enc, "b_enc": b_enc}


def _gated(arrays: Arrays, d_in: int | None, d_sae: int | None, *_: Any) -> dict[str, Any]:
    w_enc, _bias = _linear(arrays, d_in, d_sae, biased=False)
    _decoder(arrays, w_enc)
    each = {"dict_size": w_enc.shape[1]}
    return {
        "nonlinearity": "gated", "w_enc": w_enc, "b_enc": arrays.take("mag_bias", each),
        "b_dec": arrays.take("decoder_bias", {"activation_dim": w_enc.shape[0]}),
        "gate_bias": arrays.take("gate_bias", each), "gain": arrays.take("r_mag", each).exp(),
    }  # fmt: skip


def _topk(
    arrays: Arrays, d_in: int | None, d_sae: int | None, trainer: dict[str, Any], source: Path
) -> dict[str, Any]:
    w_enc, b_enc = _linear(arrays, d_in, d_sae, biased=True)
    _decoder(arrays, w_enc)
    arrays.drop(("threshold",))  # estimated for another use; a token keeps its k largest
    k = _k(arrays, trainer, source, w_enc.shape[1])
    b_dec = arrays.take("b_dec", {"activation_dim": w_enc.shape[0]})
    return {"nonlinearity": "topk", "w_enc": w_enc, "b_enc": b_enc, "b_dec": b_dec, "k": k}


def _batch_topk(
    arrays: Arrays, d_in: int | None, d_sae: int | None, trainer: dict[str, Any], source: Path
) -> dict[str, Any]:
    w_enc, b_enc = _linear(arrays, d_in, d_sae, biased=True)
    _decoder(arrays, w_enc)
    _k(arrays, trainer, source, w_enc.shape[1])
    b_dec = arrays.take("b_dec", {"activation_dim": w_enc.shape[0]})
    return _thresholded(arrays, w_enc, b_enc, b_dec)


def _matryoshka(
    arrays: Arrays, d_in: int | None, d_sae: int | None, trainer: dict[str, Any], source: Path
) -> dict[str, Any]:
    w_enc, b_enc, b_dec = _flat(arrays, d_in, d_sae)
    _k(arrays, trainer, source, w_enc.shape[1])
    arrays.drop(("group_sizes",))  # all groups are active once training ends
    return _thresholded(arrays, w_enc, b_enc, b_dec)


def _jumprelu(arrays: Arrays, d_in: int | None, d_sae: int | None, *_: Any) -> dict[str, Any]:
    w_enc, b_enc, _b_dec = _flat(
        arrays, d_in, d_sae
    )  # this one does not take the decoder's bias off its input
    threshold = arrays.take("threshold", {"dict_size": w_enc.shape[1]})
    return {"nonlinearity": "jumprelu", "w_enc": w_enc, "b_enc": b_enc, "threshold": threshold}


def _flat(arrays: Arrays, d_in: int | None, d_sae: int | None) -> tuple[Tensor, Tensor, Tensor]:
    w_enc = arrays.take("W_enc", {"activation_dim": d_in, "dict_size": d_sae})
    inputs, each = {"activation_dim": w_enc.shape[0]}, {"dict_size": w_enc.shape[1]}
    arrays.take("W_dec", each | inputs)
    return w_enc, arrays.take("b_enc", each), arrays.take("b_dec", inputs)


def _thresholded(arrays: Arrays, w_enc: Tensor, b_enc: Tensor | None, b_dec: Tensor) -> dict[str, Any]:
    threshold = arrays.take("threshold", {})
    if float(threshold) < 0:
        raise InputError(
            f"{arrays.source}: threshold is {float(threshold):g}: it was never estimated, so it is not known which latents "
            "are active. Train on beyond threshold_start_step, or read a later checkpoint."
        )
    return {
        "nonlinearity": "jumprelu", "w_enc": w_enc, "b_enc": b_enc, "b_dec": b_dec,
        "threshold": threshold.expand(w_enc.shape[1]).contiguous(),
    }  # fmt: skip


def _k(arrays: Arrays, trainer: dict[str, Any], source: Path, n_latents: int) -> int:
    """The number of active latents, which both files name."""
    stored = arrays.arrays.pop("k", None)
    told = trainer.get("k")
    k = told if stored is None else int(stored) if stored.ndim == 0 else None
    if not isinstance(k, int) or isinstance(k, bool) or not 0 < k <= n_latents or told not in (None, k):
        raise InputError(
            f"{source}: k is {told!r:.60}, in {ARCHIVE} {k!r}; wanted one number up to {n_latents} in both."
        )
    return k


_READERS: dict[str, Callable[..., dict[str, Any]]] = {
    "AutoEncoder": _autoencoder, "AutoEncoderNew": _autoencoder_new, "GatedAutoEncoder": _gated, "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk, "MatryoshkaBatchTopKSAE": _matryoshka, "JumpReluAutoEncoder": _jumprelu,
}  # fmt: skip
