"""Which format a folder holds."""

from __future__ import annotations

from pathlib import Path

from probekit.errors import InputError
from probekit.model.dictionaries.circuit_tracer import FIRST, is_encoder, read_cross_layer
from probekit.model.dictionaries.dictionary_learning import ARCHIVE, read_dictionary_learning
from probekit.model.dictionaries.encoder import Dictionary
from probekit.model.dictionaries.saelens import CONFIG, WEIGHTS, read_saelens

SPARSIFY = "sae.safetensors"
"""What sparsify (EleutherAI) calls its weights; its cfg.json has the name of SAELens'."""


def read_dictionary(folder: str | Path) -> Dictionary:
    """The encoder of an autoencoder or transcoder.

    Args:
        folder: with cfg.json and sae_weights.safetensors (SAELens), or config.json and ae.pt (dictionary_learning); of a
            cross-layer transcoder (circuit-tracer) the file of one layer's encoder, such as W_enc_3.safetensors.

    Raises:
        InputError: no format is recognised, a file is damaged, or a field changes the encoder in a way not known here.
        ShapeError: arrays that do not fit together.
        NonFiniteError: a weight is NaN or infinite.
    """
    folder = Path(folder)
    if is_encoder(folder):
        return read_cross_layer(folder)
    if (folder / FIRST).is_file():
        raise InputError(
            f"{folder}: holds a cross-layer transcoder, which has an encoder for each layer; wanted one of them. Pass its "
            f"file, such as {folder / FIRST}, and the hook that it reads as site=."
        )
    if (folder / SPARSIFY).is_file() and not (folder / WEIGHTS).is_file():
        raise InputError(
            f"{folder}: {SPARSIFY} is sparsify's format, which is not read; wanted {WEIGHTS} (SAELens) or {ARCHIVE} "
            "(dictionary_learning). Encode with sparsify and give where latents are active as labels of analyze_arrays."
        )
    if (folder / CONFIG).is_file():
        return read_saelens(folder)
    if (folder / ARCHIVE).is_file():
        return read_dictionary_learning(folder)
    found = "no such folder" if not folder.exists() else "a file" if folder.is_file() else "neither in it"
    raise InputError(
        f"{folder}: no dictionary could be read ({found}); wanted a folder with {CONFIG} and {WEIGHTS}, as SAELens saves "
        f"them, or with config.json and {ARCHIVE}, as dictionary_learning does."
    )
