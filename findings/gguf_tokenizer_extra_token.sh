#!/bin/sh
# Versions: transformers 5.23.0, gguf 0.19.0, torch 2.13.0, Python 3.11
# Behaviour: the tokenizer that transformers builds from a GGUF file can hold a token that the file does not list. A byte-level
#   vocabulary without <|endoftext|> gets one, with the first id behind the vocabulary, so text that holds it is given an id that
#   the model has no embedding for.
# Why a good guess is wrong: the file lists every token with its id and names its own marks, so a tokenizer "from the file" ought
#   to have exactly these. It is built by way of the GPT-2 class, whose default marks are added where they are missing.
# Who it hurts: whoever tokenizes free text (web pages quote <|endoftext|>) for a byte-level GGUF model with other marks, and
#   whoever compares len(tokenizer) with the rows of the embedding.
# seen: listed 64, tokenizer 65, '<|endoftext|>' -> [64]
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$here/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0
cat > "$here/run.py" <<'PY'
import sys
from pathlib import Path

import gguf
from transformers import PreTrainedTokenizerFast

folder = Path(sys.argv[1])
letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,!?;:'-", "Ġ", "Ċ", "ab"]
tokens = [*letters, *(f"<unused{i}>" for i in range(64 - len(letters) - 1)), "<s>"]
writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("gpt-2")
writer.add_token_list(tokens)
writer.add_token_types([3 if t == "<s>" else 5 if t.startswith("<unused") else 1 for t in tokens])
writer.add_token_merges(["a b"])
writer.add_bos_token_id(63)
writer.add_eos_token_id(63)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, gguf_file="tiny.gguf")
ids = tokenizer("<|endoftext|>", add_special_tokens=False)["input_ids"]
print(f"listed {len(tokens)}, tokenizer {len(tokenizer)}, '<|endoftext|>' -> {ids}")
sys.exit(0 if len(tokenizer) == 65 and ids == [64] else 1)
PY
mkdir "$here/model"
"$here/venv/bin/python" "$here/run.py" "$here/model"
