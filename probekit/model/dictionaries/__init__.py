"""Dictionaries of features that other libraries trained: autoencoders and transcoders, read from their own files.

Formats: SAELens (`cfg.json`, `sae_weights.safetensors`), trained or being trained, dictionary_learning (`config.json`,
`ae.pt`), and one layer of circuit-tracer's cross-layer transcoders (`W_enc_3.safetensors`). A field or array that could
change what a latent does is honoured, or the file is refused by that field's name.
"""

from probekit.model.dictionaries.encoder import Dictionary as Dictionary
from probekit.model.dictionaries.encoder import Training as Training
from probekit.model.dictionaries.reading import read_dictionary as read_dictionary
