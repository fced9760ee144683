"""Train `nano`, the bundled GPT-2-shaped language model, on the train split of the offline docs corpus.

    python analyses/nano/train.py --steps 4000 --seed 0            # writes probekit/model/nano and checkpoints/
    python analyses/nano/train.py --steps 400 --out /tmp/draft     # a draft elsewhere, no checkpoints

Own byte-level BPE, four layers, GELU, LayerNorm, tied embeddings, context 128. A training row starts with the
document mark and holds whole docstrings (long ones cut into rows of their own), so every row looks like the rows that
probekit harvests. The held-out loss is taken on the held-out modules, one docstring a row, beside the losses of a
uniform, a unigram and an interpolated bigram model of the same text.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from probekit.storage import store
from probekit.text.docs import docstrings

HERE = Path(__file__).parent
PACKAGE_DATA = HERE.parents[1] / "probekit" / "model" / "nano"
MARK = "<|endoftext|>"
N_CHECKPOINTS = 6
CHECKPOINT_RATIO = 2.5  # log-spaced: the last is 1/2.5 of the run, the first 1/244


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with one special token, the document mark (id 0)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[MARK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=MARK, eos_token=MARK, pad_token=MARK)


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens."""
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def pack_rows(documents: list[list[int]], context: int) -> np.ndarray:
    """Rows of `context + 1` tokens: mark, document, mark, document, …; a long document is cut into pieces."""
    width = context + 1
    rows: list[list[int]] = []
    row: list[int] = []
    for document in documents:
        for start in range(0, len(document), context):
            piece = [0, *document[start : start + context]]
            if len(row) + len(piece) > width:
                rows.append(row + [-1] * (width - len(row)))
                row = []
            row = row + piece
    return np.array(rows, dtype=np.int16)


def heldout_rows(documents: list[list[int]], context: int) -> np.ndarray:
    """One document a row, cut at `context`, the mark first, padded with -1."""
    rows = np.full((len(documents), context), -1, dtype=np.int16)
    rows[:, 0] = 0
    for row, document in zip(rows, documents, strict=True):
        row[1 : 1 + len(document)] = document[: context - 1]
    return rows


@torch.inference_mode()
def heldout_loss(model: GPT2LMHeadModel, rows: np.ndarray) -> float:
    """Mean nats per predicted token (every token after the mark)."""
    total, count = 0.0, 0
    for start in range(0, len(rows), 64):
        block = torch.from_numpy(rows[start : start + 64].astype(np.int64))
        logits = model(block.clamp_min(0)).logits[:, :-1]
        target = block[:, 1:]
        losses = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), target.reshape(-1), ignore_index=-1, reduction="sum"
        )
        total += float(losses)
        count += int((target >= 0).sum())
    return total / count


def counting_losses(train: list[list[int]], rows: np.ndarray, vocab_size: int) -> dict[str, float]:
    """Uniform, unigram and absolute-discount bigram losses in nats per token on the held-out rows."""
    unigram = np.ones(vocab_size)
    bigram = np.zeros((vocab_size, vocab_size), dtype=np.float32)
    for document in train:
        ids = np.array([0, *document])
        unigram += np.bincount(ids[1:], minlength=vocab_size)
        np.add.at(bigram, (ids[:-1], ids[1:]), 1.0)
    unigram /= unigram.sum()
    discount = 0.75  # the usual value; ±0.1 changes the loss by less than 0.01 nats
    seen = bigram.sum(1)
    held_back = np.where(seen > 0, discount * (bigram > 0).sum(1) / np.maximum(seen, 1), 1.0)
    previous, current = rows[:, :-1], rows[:, 1:]
    counted = current >= 0
    a, b = previous[counted], current[counted]
    p_bigram = np.maximum(bigram[a, b] - discount, 0) / np.maximum(seen[a], 1) + held_back[a] * unigram[b]
    return {
        "uniform": math.log(vocab_size),
        "unigram": float(-np.log(unigram[b]).mean()),
        "bigram": float(-np.log(p_bigram).mean()),
    }


def half_precision(model: GPT2LMHeadModel) -> bytes:
    """The model's weights as fp16 safetensors (tied head left out)."""
    tensors = {
        name: tensor.detach().to(torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    return safetensors_bytes(tensors, metadata={"format": "pt"})


def greedy_samples(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, prompts: list[str]
) -> list[str]:
    """Greedy continuations of a few prompts, for the card."""
    samples = []
    for prompt in prompts:
        ids = torch.tensor([[0, *encode(tokenizer, [prompt])[0]]])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=48, do_sample=False, pad_token_id=0
        )
        samples.append(tokenizer.decode(out[0, 1:], skip_special_tokens=True))
    return samples


def write_card(folder: Path, facts: dict[str, object], samples: list[str]) -> None:
    """The model card: what it is, how it was made, how good it is."""
    losses = facts["heldout_nats_per_token"]
    assert isinstance(losses, dict)
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in losses.items())
    quoted = "\n\n".join("```\n" + sample.replace("```", "'''") + "\n```" for sample in samples)
    facts_json = json.dumps(facts, indent=1)
    text = f"""# nano

A GPT-2-shaped language model of probekit's own, small enough to travel with the package, so that the demo, the tests
and the notebooks run on a really trained transformer without a network. It is not meant to write anything.

* {facts["n_layers"]} layers, d_model {facts["d_model"]}, d_mlp {facts["d_mlp"]}, {facts["n_heads"]} heads, GELU,
  LayerNorm, tied embeddings, context {facts["context"]}, byte-level BPE of {facts["vocab_size"]} tokens,
  {facts["n_parameters"]:,} parameters, stored as fp16 safetensors.
* Data: the `train` split of `probekit.Corpus.docs()`: docstrings of installed packages and the standard library
  ({facts["n_train_documents"]:,} docstrings, {facts["n_corpus_tokens"]:,} tokens). Held-out modules were never seen.
* Training: {facts["n_trained_tokens"]:,} tokens in {facts["n_steps"]:,} steps, AdamW, peak rate {facts["peak_rate"]},
  seed {facts["seed"]}, {facts["minutes"]:.0f} minutes on {facts["n_threads"]} CPU thread(s).
* Command: `{facts["command"]}`. The same command on another machine gives a similar model, not the same bits.

Held-out loss, nats per token, on {facts["n_heldout_documents"]:,} docstrings of held-out modules (one a row, cut at
the context):

| model | nats / token |
|---|---|
{rows}

Greedy continuations:

{quoted}

```json
{facts_json}
```
"""
    store.write_text(folder / "README.md", text)


def main() -> None:  # noqa: PLR0915
    """Train, evaluate, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--d-model", type=int, default=128)
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--documents", type=int, default=None, help="read only the first N training docstrings"
    )
    parser.add_argument("--out", type=Path, default=PACKAGE_DATA)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(options.seed)
    started = time.time()

    texts = list(itertools.islice(docstrings("train"), options.documents))
    heldout = list(docstrings("heldout"))
    tokenizer = train_tokenizer(texts[:20_000], options.vocab)
    documents = encode(tokenizer, texts)
    rows = pack_rows(documents, options.context)
    evaluation = heldout_rows(encode(tokenizer, heldout), options.context)
    print(f"{len(texts):,} docstrings, {sum(map(len, documents)):,} tokens, {len(rows):,} rows")

    config = GPT2Config(
        vocab_size=options.vocab, n_positions=options.context, n_embd=options.d_model, n_layer=options.layers,
        n_head=options.d_model // 32, activation_function="gelu_new", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    torch.random.manual_seed(options.seed)  # transformers initialises from the global generator
    model = GPT2LMHeadModel(config)
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=options.rate, betas=(0.9, 0.95),
    )  # fmt: skip
    warmup = min(200, options.steps // 10)
    checkpoint_steps = {
        max(1, round(options.steps / CHECKPOINT_RATIO**k)) for k in range(1, N_CHECKPOINTS + 1)
    }
    keeps_checkpoints = options.out == PACKAGE_DATA
    order = torch.randperm(len(rows), generator=generator)
    cursor, n_trained_tokens = 0, 0
    bar = tqdm(range(1, options.steps + 1), mininterval=20, unit="step")
    for step in bar:
        if cursor + options.batch > len(rows):
            order, cursor = torch.randperm(len(rows), generator=generator), 0
        block = torch.from_numpy(rows[order[cursor : cursor + options.batch].numpy()].astype(np.int64))
        cursor += options.batch
        progress = max(0.0, (step - warmup) / max(1, options.steps - warmup))
        scale = step / warmup if step < warmup else 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = options.rate * scale
        logits = model(block[:, :-1].clamp_min(0)).logits
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, options.vocab), block[:, 1:].reshape(-1), ignore_index=-1
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        n_trained_tokens += int((block[:, 1:] >= 0).sum())
        if step % 50 == 0:
            bar.set_postfix(nats=f"{float(loss):.3f}")
        if keeps_checkpoints and step in checkpoint_steps:
            store.write_bytes(HERE / "checkpoints" / f"step-{step:05d}.safetensors", half_precision(model))

    weights = half_precision(model)
    model.load_state_dict(
        {k: v.half().float() for k, v in model.state_dict().items()}
    )  # judge what is shipped
    model.eval()
    losses = counting_losses(documents, evaluation, options.vocab)
    losses["nano"] = heldout_loss(model, evaluation)
    print(losses)

    options.out.mkdir(parents=True, exist_ok=True)
    config.architectures = ["GPT2LMHeadModel"]
    store.write_text(options.out / "config.json", config.to_json_string())
    store.write_text(options.out / "tokenizer.json", tokenizer.backend_tokenizer.to_str())
    store.write_json(
        options.out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": MARK, "eos_token": MARK, "pad_token": MARK,
            "model_max_length": options.context, "clean_up_tokenization_spaces": False,
        },
    )  # fmt: skip
    store.write_bytes(options.out / "model.safetensors", weights)
    facts: dict[str, object] = {
        "n_layers": options.layers, "d_model": options.d_model, "d_mlp": 4 * options.d_model,
        "n_heads": config.n_head, "context": options.context, "vocab_size": options.vocab,
        "n_parameters": sum(p.numel() for p in model.parameters()), "n_train_documents": len(texts),
        "n_corpus_tokens": sum(map(len, documents)), "n_heldout_documents": len(heldout),
        "n_trained_tokens": n_trained_tokens, "n_steps": options.steps, "peak_rate": options.rate,
        "seed": options.seed, "n_threads": options.threads, "minutes": (time.time() - started) / 60,
        "command": shlex.join(["python", *sys.argv]), "heldout_nats_per_token": losses,
        "python": platform.python_version(), "torch": version("torch"), "transformers": version("transformers"),
        "weights_blake2b": hashlib.blake2b(weights, digest_size=32).hexdigest(),
        "heldout_blake2b": hashlib.blake2b(evaluation.tobytes(), digest_size=32).hexdigest(),
    }  # fmt: skip
    prompts = ["Return the", "Parameters\n----------\n", "Compute the"]
    write_card(options.out, facts, greedy_samples(model, tokenizer, prompts))


if __name__ == "__main__":
    main()
