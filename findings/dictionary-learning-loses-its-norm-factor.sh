#!/usr/bin/env bash
# Versions: dictionary-learning 0.1.0, torch 2.13.0, Python 3.11
# Behaviour: trainSAE(normalize_activations=True) divides all inputs by a factor it measures and notes it with
#   trainer.config["norm_factor"] = factor. config is a property that makes a new dictionary each time, so the note is gone at
#   once; and config.json was written before. The factor is printed, and kept nowhere.
# Why a good guess is wrong: the line is there and raises nothing; on a trainer whose config is an attribute it would work.
# Who it hurts: whoever wants to train on from ae.pt, which holds biases for raw inputs, or to compare losses, which are in
#   units of the factor squared.
# seen: norm factor 12.6 measured; kept by the trainer: False; in config.json: False
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet torch==2.13.0 einops==0.8.2 tqdm==4.67.1
"$home/env/bin/pip" install --quiet --no-deps dictionary-learning==0.1.0
mkdir "$home/absent" # what its package imports for language models, data sets and logging; none of it is used here
echo 'class LanguageModel: ...' > "$home/absent/nnsight.py"
touch "$home/absent/wandb.py" "$home/absent/zstandard.py"
echo 'load_dataset = None' > "$home/absent/datasets.py"
cd "$home"
PYTHONPATH="$home/absent" "$home/env/bin/python" -W ignore - <<'PY'
import contextlib
import io
import json
import re

import torch
from dictionary_learning.trainers import StandardTrainer
from dictionary_learning.training import trainSAE

torch.manual_seed(0)
batches = [3 * torch.randn(256, 16) + 1 for _ in range(200)]
kept = []


class Trainer(StandardTrainer):
    def __init__(self, **options):
        super().__init__(**options)
        kept.append(self)


options = {"trainer": Trainer, "activation_dim": 16, "dict_size": 40, "layer": 1, "lm_name": "none", "device": "cpu",
           "steps": 20, "warmup_steps": 5, "sparsity_warmup_steps": 5}
said = io.StringIO()
with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
    trainSAE(iter(batches), [options], steps=20, save_dir="run", normalize_activations=True, device="cpu")
factor = float(re.search(r"Norm factor: ([\d.]+)", said.getvalue()).group(1))
by_trainer = "norm_factor" in kept[0].config
in_file = "norm_factor" in json.load(open("run/trainer_0/config.json"))["trainer"]
print(f"norm factor {factor:.1f} measured; kept by the trainer: {by_trainer}; in config.json: {in_file}")
assert 12 < factor < 14
assert not by_trainer and not in_file, "the factor is kept now"
PY
