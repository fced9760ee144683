#!/usr/bin/env bash
# Versions: dictionary-learning 0.1.0, torch 2.13.0, Python 3.11
# Behaviour: AutoEncoder.from_pretrained rescales what it reads so that the decoder has columns of norm 1. An autoencoder saved
#   and read again gives activations that differ by those norms (a factor of 0.1 in one that was just made), while the other
#   classes of the library come back as they were saved.
# Why a good guess is wrong: saving and reading is taken for the identity; the reconstruction is the same, so no check of the
#   loss shows it; load_dictionary has no way to ask for the autoencoder as it is.
# Who it hurts: whoever stores thresholds, maxima or explanations by activation level beside the file, or reads the same ae.pt
#   with another library, which does not rescale.
# seen: AutoEncoder: activations times 0.100 after reading; AutoEncoderNew: times 1.000
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet torch==2.13.0 einops==0.8.2 tqdm==4.67.1
"$home/env/bin/pip" install --quiet --no-deps dictionary-learning==0.1.0
mkdir "$home/absent" # the language-model library that its package imports; no model is run here
echo 'class LanguageModel: ...' > "$home/absent/nnsight.py"
cd "$home"
PYTHONPATH="$home/absent" "$home/env/bin/python" -W ignore - <<'PY'
import torch
from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew

torch.manual_seed(0)
x = torch.randn(500, 16)
factors = []
for kind in (AutoEncoder, AutoEncoderNew):
    made = kind(16, 40)
    torch.save(made.state_dict(), "ae.pt")
    read = kind.from_pretrained("ae.pt")
    before, after = made.encode(x), read.encode(x)
    factors.append((after.sum() / before.sum()).item())
    assert torch.allclose(made(x), read(x), atol=1e-5), "the reconstruction changed"
print(f"AutoEncoder: activations times {factors[0]:.3f} after reading; AutoEncoderNew: times {factors[1]:.3f}")
assert abs(factors[0] - 0.1) < 0.001, "AutoEncoder comes back as it was saved now"
assert abs(factors[1] - 1) < 1e-6, "AutoEncoderNew is rescaled now"
PY
