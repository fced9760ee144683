#!/bin/sh
# Versions: transformer-lens 4.3.0, transformers 5.23.0, torch 2.13.0, Python 3.11
# Behaviour: a TransformerBridge of a Starcoder2 model normalises with an epsilon of 1e-5 whatever the model's configuration says,
#   so its logits are not those of the model it was given. The norm it wraps carries the right epsilon.
# Why a good guess is wrong: the bridge wraps the very modules of the model and says that it runs them; a StableLM or a Falcon
#   with an unusual epsilon agrees to rounding. Starcoder2 calls the entry norm_epsilon, which is not among the names looked for.
# Who it hurts: whoever reads activations of a model with such an entry through the bridge; nothing warns.
# seen: relative distance of the logits: norm_epsilon 1e-5 under 1e-5, norm_epsilon 1e-2 over 1e-3; wrapped norm has eps 0.01
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$here/venv/bin/pip" install --quiet --disable-pip-version-check transformer-lens==4.3.0 transformers==5.23.0
cat > "$here/run.py" <<'PY'
import copy
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedTokenizerFast, Starcoder2Config, Starcoder2ForCausalLM

folder = Path(sys.argv[1])
words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(64)}, unk_token="w0"))
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(folder)
tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
ids = torch.arange(24).reshape(2, 12)
far = {}
for epsilon in (1e-5, 1e-2):
    config = Starcoder2Config(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, intermediate_size=48,
        max_position_embeddings=32, bos_token_id=63, eos_token_id=63, norm_epsilon=epsilon,
        architectures=["Starcoder2ForCausalLM"],
    )
    torch.manual_seed(0)
    model = Starcoder2ForCausalLM(config).eval()
    config.save_pretrained(folder)
    bridge = TransformerBridge.boot_transformers(str(folder), hf_model=copy.deepcopy(model), tokenizer=tokenizer, device="cpu")
    with torch.no_grad():
        here, there = model(ids).logits, bridge(ids, return_type="logits")
    far[epsilon] = float((here - there).norm() / here.norm())
wrapped = bridge.blocks[0].ln1.original_component.eps
small, large = far[1e-5] < 1e-5, far[1e-2] > 1e-3
print(
    f"relative distance of the logits: norm_epsilon 1e-5 {'under' if small else 'not under'} 1e-5, norm_epsilon 1e-2 "
    f"{'over' if large else 'not over'} 1e-3; wrapped norm has eps {wrapped:g}"
)
sys.exit(0 if small and large and wrapped == 1e-2 else 1)
PY
mkdir "$here/model"
"$here/venv/bin/python" "$here/run.py" "$here/model" 2> "$here/log" || { cat "$here/log"; exit 1; }
