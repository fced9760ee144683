#!/usr/bin/env bash
# Versions: sae-lens 6.54.12, torch 2.13.0, Python 3.11
# Behaviour: a checkpoint of a run with normalize_activations="expected_average_only_in" holds weights for scaled inputs, and the
#   scale lies beside it in activation_scaler.json. SAE.load_from_disk neither reads that file nor warns: the autoencoder it
#   gives encodes raw inputs.
# Why a good guess is wrong: the setting is in cfg.json and stays in the loaded config, the number is in the folder, and
#   SAE.from_pretrained, which lacks that number, does warn of the same case.
# Who it hurts: whoever looks at latents of checkpoints in the middle of a run: here every token has other latents.
# seen: warnings: 0; tokens with other latents than in training: 100 %
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet torch==2.13.0 sae-lens==6.54.12 transformer-lens==3.9.0
cd "$home"
OMP_NUM_THREADS=1 "$home/env/bin/python" - <<'PY'
import json
import warnings

import torch
from sae_lens import SAE, StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.training.activation_scaler import ActivationScaler

torch.manual_seed(0)
config = StandardTrainingSAEConfig(d_in=64, d_sae=256, normalize_activations="expected_average_only_in")
sae = StandardTrainingSAE(config)
with torch.no_grad():
    sae.b_enc.normal_(0, 0.1)
    sae.b_dec.normal_(0, 0.5)
x = 10 * torch.randn(2000, 64)
scaler = ActivationScaler()
scaler.estimate_scaling_factor(64, iter([x] * 3), 3)
sae.save_model("checkpoint")  # the two calls by which a trainer writes a checkpoint
scaler.save("checkpoint/activation_scaler.json")

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    loaded = SAE.load_from_disk("checkpoint")
n_warnings = len([w for w in told if "activation" in str(w.message) or "norm" in str(w.message)])
trained = sae.encode(scaler(x)) > 0
other = ((loaded.encode(x) > 0) != trained).any(1).float().mean().item()
print(f"warnings: {n_warnings}; tokens with other latents than in training: {100 * other:.0f} %")
assert loaded.cfg.normalize_activations == "expected_average_only_in"
assert json.load(open("checkpoint/activation_scaler.json"))["scaling_factor"] < 0.2
assert n_warnings == 0, "it warns now"
assert other > 0.8, "the scale is applied now"
PY
