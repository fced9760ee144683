#!/usr/bin/env bash
# Versions: sae-lens 6.54.12, torch 2.13.0, Python 3.11
# Behaviour: the metadata of an autoencoder has every attribute: hasattr is true of any name, getattr(metadata, name, default)
#   gives None and never the default, and a misspelt field is None instead of an error. Only metadata.get(name, default) and
#   `name in metadata` tell what is there.
# Why a good guess is wrong: getattr with a default is how one reads a field that older files may lack, and sae-lens' own
#   configuration classes beside it are dataclasses, where it works.
# Who it hurts: readers of prepend_bos: None where the code says True by default, so texts are read without their start mark.
# seen: getattr default True gives None; hasattr of a misspelt field: True
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet torch==2.13.0 sae-lens==6.54.12 transformer-lens==3.9.0
cd "$home"
"$home/env/bin/python" -W ignore - <<'PY'
from sae_lens import SAE, StandardSAE, StandardSAEConfig
from sae_lens.saes.sae import SAEMetadata

StandardSAE(StandardSAEConfig(d_in=4, d_sae=8, metadata=SAEMetadata(hook_name="blocks.0.hook_mlp_out"))).save_model("sae")
metadata = SAE.load_from_disk("sae").cfg.metadata
got = getattr(metadata, "prepend_bos", True)
there = hasattr(metadata, "hook_nmae")
print(f"getattr default True gives {got}; hasattr of a misspelt field: {there}")
assert metadata.hook_name == "blocks.0.hook_mlp_out"
assert metadata.get("prepend_bos", True) is True
assert got is None, "getattr gives its default now"
assert there is True, "a field that is not there is absent now"
PY
