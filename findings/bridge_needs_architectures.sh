#!/bin/sh
# Versions: transformer-lens 4.3.0, transformers 5.23.0, torch 2.13.0, Python 3.11
# Behaviour: TransformerBridge.boot_transformers is given a model in memory and asks its configuration, not the model, what it is.
#   A model that was made from a configuration has architectures = None: a Llama is then guessed from model_type and boots, a
#   Falcon is refused as an architecture that is not supported, though FalconForCausalLM is in the list that the error prints.
# Why a good guess is wrong: the model's class is at hand, the class is supported, and other models made just so do boot.
# Who it hurts: whoever studies models built from a configuration (random baselines, training from scratch, GGUF files of Gemma 3);
#   the advice in the error is to choose another architecture, where setting config.architectures is enough.
# seen: llama boots, falcon refused, falcon with architectures set boots
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$here/venv/bin/pip" install --quiet --disable-pip-version-check transformer-lens==4.3.0 transformers==5.23.0
cat > "$here/run.py" <<'PY'
import sys
from pathlib import Path

from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import FalconConfig, FalconForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = Path(sys.argv[1])
words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(64)}, unk_token="w0"))
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(folder)
tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
size = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def boots(model, architectures):
    model.config.architectures = architectures
    model.config.save_pretrained(folder)
    try:
        TransformerBridge.boot_transformers(str(folder), hf_model=model, tokenizer=tokenizer, device="cpu")
    except ValueError as error:
        assert "Could not determine supported architecture" in str(error)
        assert "'FalconForCausalLM'" in str(error)
        return "refused"
    return "boots"


llama = boots(LlamaForCausalLM(LlamaConfig(**size, intermediate_size=48)), None)
falcon = boots(FalconForCausalLM(FalconConfig(**size)), None)
named = boots(FalconForCausalLM(FalconConfig(**size)), ["FalconForCausalLM"])
print(f"llama {llama}, falcon {falcon}, falcon with architectures set {named}")
sys.exit(0 if (llama, falcon, named) == ("boots", "refused", "boots") else 1)
PY
mkdir "$here/model"
"$here/venv/bin/python" "$here/run.py" "$here/model" 2> "$here/log" || { cat "$here/log"; exit 1; }
