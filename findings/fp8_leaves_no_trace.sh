#!/bin/sh
# Versions: transformers 5.23.0, torch 2.13.0 on a CPU, accelerate 1.15.0, Python 3.11
# Behaviour: a checkpoint whose config.json says quant_method fp8 is loaded without dtype= on a CPU, its matrices are unpacked, and
#   the loaded model tells nothing of it: no hf_quantizer, no config.quantization_config.
# Why a good guess is wrong: a GGUF file that transformers dequantises in the same call leaves both on the model; code that asks
#   either of them whether a quantisation was applied is told no.
# Who it hurts: tools that record how many bits the weights had, and checks that a stated quantisation was undone.
# seen: dtype float32, hf_quantizer False, quantization_config False, largest relative error of a weight under 1/14
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$here/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 accelerate==1.15.0
cat > "$here/run.py" <<'PY'
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

folder = Path(sys.argv[1])
torch.manual_seed(0)
LlamaForCausalLM(
    LlamaConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, intermediate_size=48
    )
).save_pretrained(folder)
weights, stored = load_file(folder / "model.safetensors"), {}
for name, values in weights.items():
    if name.endswith("proj.weight"):
        scale = values.abs().max() / 448
        stored[name] = (values / scale).to(torch.float8_e4m3fn)
        stored[f"{name}_scale_inv"] = scale.reshape(1, 1)
    else:
        stored[name] = values
save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
config = json.loads((folder / "config.json").read_text())
config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
(folder / "config.json").write_text(json.dumps(config))
model = AutoModelForCausalLM.from_pretrained(folder)
name = "model.layers.1.mlp.up_proj.weight"
there, here = weights[name], model.get_parameter(name).detach().float()
large = there.abs() > there.abs().max() / 16  # normal numbers of float8: three bits of mantissa
worst = float(((here - there).abs() / there.abs())[large].max())
traces = [bool(getattr(model, "hf_quantizer", None)), bool(getattr(model.config, "quantization_config", None))]
dtype = str(model.get_parameter(name).dtype).removeprefix("torch.")
print(
    f"dtype {dtype}, hf_quantizer {traces[0]}, quantization_config {traces[1]}, largest relative error of a weight "
    f"{'under' if worst < 1 / 14 else 'not under'} 1/14"
)
sys.exit(0 if not any(traces) and worst < 1 / 14 else 1)
PY
mkdir "$here/model"
"$here/venv/bin/python" "$here/run.py" "$here/model" 2> "$here/log" || { cat "$here/log"; exit 1; }
