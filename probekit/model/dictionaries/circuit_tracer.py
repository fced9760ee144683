"""circuit-tracer's format of a cross-layer transcoder: `W_enc_3.safetensors` holds the encoder that reads layer 3.

Source: circuit-tracer 0.5.0, `CrossLayerTranscoder`, against whose encoder all of it is tested. Each layer has an encoder of
its own; the decoders, from one layer into all later ones, lie in other files and play no part here. Which hook is read is
written in none of these files: the library's `config.yaml` names what comes behind the layer (`hook_resid_mid` for
`blocks.3.hook_resid_mid`), and whoever reads a layer passes the whole name as `site=`.
"""

from __future__ import annotations

import re
from pathlib import Path

from probekit.errors import InputError
from probekit.model.dictionaries.encoder import Dictionary
from probekit.model.dictionaries.files import Arrays, read_safetensors

FIRST = "W_enc_0.safetensors"


def is_encoder(path: Path) -> bool:
    """Whether a path names the encoder of one layer."""
    return _layer(path) is not None


def _layer(path: Path) -> int | None:
    found = re.fullmatch(r"W_enc_(\d+)\.safetensors", path.name)
    return None if found is None else int(found[1])


def read_cross_layer(path: Path) -> Dictionary:
    """The encoder of one layer of a cross-layer transcoder.

    Args:
        path: its file, named W_enc_LAYER.safetensors.

    Raises:
        InputError: the file is missing or damaged, or holds what changes the encoder in a way not known here.
        ShapeError: arrays that do not fit together.
        NonFiniteError: a weight is NaN or infinite.
    """
    layer = _layer(path)
    held = read_safetensors(path)
    arrays = Arrays(path, held, "cross-layer transcoder")
    w_enc = arrays.take(f"W_enc_{layer}", {"d_transcoder": None, "d_model": None}).T.contiguous()
    each = {"d_transcoder": w_enc.shape[1]}
    b_enc = arrays.take(f"b_enc_{layer}", each)
    arrays.take(f"b_dec_{layer}", {"d_model": w_enc.shape[0]})
    threshold = arrays.take(f"threshold_{layer}", each) if f"threshold_{layer}" in held else None
    if threshold is not None and bool((threshold < 0).any()):
        raise InputError(
            f"{path}: threshold_{layer} holds {float(threshold.min()):.2g}: a latent would be active below 0, which is not "
            "read. Wanted thresholds ≥ 0; download the dictionary again."
        )
    arrays.require_empty()
    return Dictionary(
        name=f"{path.resolve().parent.name} layer {layer}",
        made_by="circuit-tracer cross-layer transcoder",
        site=None,
        nonlinearity="relu" if threshold is None else "jumprelu",
        w_enc=w_enc,
        b_enc=b_enc,
        threshold=threshold,
    )
