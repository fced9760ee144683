#!/usr/bin/env bash
# Versions: sae-lens 6.54.12, eai-sparsify 1.3.3, torch 2.13.0, Python 3.11
# Behaviour: sae-lens has a loader for the files of sparsify (EleutherAI's autoencoders). It turns the decoder over, which lies
#   in the file the way sae-lens wants it, and fails on every autoencoder that sparsify writes. Handed the decoder the right way,
#   it loads, and still encodes otherwise: it takes normalize_decoder for "the input is not centred", and sparsify centres always.
# Why a good guess is wrong: the loader is registered under the format's name, and both libraries call the arrays the same.
# Who it hurts: whoever loads these autoencoders from disk; and whoever mends the transposition alone gets other latents in
#   silence, in 98 of 100 tokens here.
# seen: size mismatch for W_dec: True; tokens with other latents once it is turned back: 98 %
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet torch==2.13.0 sae-lens==6.54.12 transformer-lens==3.9.0 eai-sparsify==1.3.3
cd "$home"
OMP_NUM_THREADS=1 "$home/env/bin/python" -W ignore - <<'PY'
import torch
from sae_lens import SAE
from sae_lens.loading.pretrained_sae_loaders import sparsify_disk_loader
from sparsify.config import SparseCoderConfig
from sparsify.sparse_coder import SparseCoder

torch.manual_seed(0)
coder = SparseCoder(16, SparseCoderConfig(k=4, num_latents=64))
with torch.no_grad():
    coder.b_dec.normal_()
    coder.encoder.bias.normal_(0, 0.1)
coder.save_to_disk("model/layers.3")
try:
    SAE.load_from_disk("model/layers.3", converter=sparsify_disk_loader, dtype="float32")
    mismatch = False
except RuntimeError as error:
    mismatch = "size mismatch for W_dec" in str(error)


def turned_back(*args, **options):
    config, arrays = sparsify_disk_loader(*args, **options)
    return config, arrays | {"W_dec": arrays["W_dec"].T.contiguous()}


x = torch.randn(500, 16)
own = coder.encode(x)
wanted = torch.zeros(500, 64).scatter_(1, own.top_indices, own.top_acts) > 0
loaded = SAE.load_from_disk("model/layers.3", converter=turned_back, dtype="float32")
other = ((loaded.encode(x) > 0) != wanted).any(1).float().mean().item()
print(f"size mismatch for W_dec: {mismatch}; tokens with other latents once it is turned back: {100 * other:.0f} %")
assert mismatch, "the loader reads sparsify's files now"
assert other > 0.9, "the input is centred now"
loaded.cfg.apply_b_dec_to_input = True
assert torch.equal(loaded.encode(x) > 0, wanted), "something else differs as well"
PY
