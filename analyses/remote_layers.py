"""Layers of a GGUF Llama measured on another machine: one that has an accelerator and cores, and neither network nor model.

    python analyses/remote_layers.py prepare FILE.gguf wikitext=valid.txt,test.txt --by-line wikitext --layers 23   # here
    python analyses/remote_layers.py run bundle --layers 0 3 8 --out results                        # there

*prepare* tokenises and labels each text and writes the quantised tensors of the first layers, with the embedding rows that
the texts use, as they lie in the file. *run* dequantises them, forwards the text once with `transformers`, and measures and
decides each layer as `pk.analyze` does, through the same `measure_layers` and `summarise_layer`. Of each layer it writes
the pairs table, the row of the summary, the counts of every twin in the layer's place, and all d′ (layer and twins, as
read and with relays removed), so that decisions can be taken again without the model.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

HEADER = ("attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon", "embedding_length",
          "feed_forward_length", "rope.freq_base", "context_length", "block_count")  # fmt: skip
NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
}  # fmt: skip
"""Tensors of a block in the file, and in the model."""
DECIDING_K = 16


# ------------------------------------------------------------------------------------------------- here


def prepare(options: argparse.Namespace) -> None:
    """Write the bundle."""
    from gguf import GGUFReader

    import probekit as pk
    from probekit.analysis.inputs import doc_keys

    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(options.model)
    fields = {
        name.partition(".")[2]: field.contents()
        for name, field in reader.fields.items()
        if name.startswith("llama.")
    }
    used: list[np.ndarray] = []
    texts: dict[str, Any] = {}
    tokenizer = _tokenizer(options.model)
    for entry in options.texts:
        name, _, paths = entry.partition("=")
        tokens = documents(paths.split(","), by_line=name in options.by_line).tokenize(
            tokenizer, context=options.context, max_tokens=options.max_tokens, bos_id=None
        )
        labels = pk.Concepts.defaults(tokenizer, tokens).label(tokens)
        texts[name] = (tokens, labels, doc_keys(tokens))
        used.append(np.unique(tokens.ids))
    vocabulary = np.unique(np.concatenate(used))
    for name, (tokens, labels, keys) in texts.items():
        np.savez_compressed(
            out / f"text-{name}.npz", ids=np.searchsorted(vocabulary, tokens.ids).astype(np.uint16), lengths=tokens.lengths,
            counted=np.packbits(tokens.counted), keys=keys, indptr=labels.indptr, tokens=labels.tokens, doc=labels.doc,
            pos=labels.pos,
            names=np.array(json.dumps([labels.names, list(labels.kinds), list(labels.lags), list(labels.by_token)])),
            types=tokens.ids[tokens.counted],
        )  # fmt: skip
    tensors: dict[str, np.ndarray] = {}
    kinds: dict[str, str] = {}
    for tensor in reader.tensors:
        block = tensor.name.split(".")
        wanted = tensor.name == "token_embd.weight" or (block[0] == "blk" and int(block[1]) < options.layers)
        if not wanted:
            continue
        rows = np.asarray(tensor.data)
        tensors[tensor.name] = rows[vocabulary] if tensor.name == "token_embd.weight" else rows
        kinds[tensor.name] = tensor.tensor_type.name
    np.savez(out / "tensors.npz", **tensors)
    (out / "header.json").write_text(
        json.dumps({"kinds": kinds, "n_layers": options.layers, **{k: fields[k] for k in HEADER}})
    )
    sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    print(f"{len(vocabulary):,} token types, {sum(sizes.values()) / 2**20:.1f} MiB: {sizes}")


def documents(paths: list[str], *, by_line: bool) -> Any:
    """The documents of some text files: as they are divided there, or line by line without headings and empty lines.

    A row holds the beginning of one document, so a text of few long documents gives more tokens by its lines.
    """
    import probekit as pk

    if not by_line:
        return pk.Corpus.from_texts([text for path in paths for text in pk.Corpus.from_file(path).texts()])
    lines = [line.strip() for path in paths for line in Path(path).read_text().splitlines()]
    return pk.Corpus.from_texts([line for line in lines if len(line) >= 40 and not line.startswith("=")])


def _tokenizer(path: str) -> Any:
    from transformers import AutoTokenizer

    file = Path(path)
    return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)


# ------------------------------------------------------------------------------------------------- there


def dequantised(rows: np.ndarray, kind: str) -> np.ndarray:
    """float32 values of rows of ggml blocks of 32: Q4_1 (scale, minimum, 16 bytes of nibbles), Q8_0 (scale, 32 bytes)."""
    if kind == "F32":
        return rows.view(np.float32)
    raw = rows.reshape(len(rows), -1)
    if kind == "Q8_0":
        blocks = raw.reshape(len(rows), -1, 34)
        scale = blocks[..., :2].copy().view(np.float16).astype(np.float32)
        return (scale * blocks[..., 2:].copy().view(np.int8)).reshape(len(rows), -1)
    assert kind == "Q4_1", kind
    blocks = raw.reshape(len(rows), -1, 20)
    scale = blocks[..., :2].copy().view(np.float16).astype(np.float32)
    least = blocks[..., 2:4].copy().view(np.float16).astype(np.float32)
    nibbles = np.concatenate([blocks[..., 4:] & 15, blocks[..., 4:] >> 4], axis=-1)
    return (scale * nibbles + least).reshape(len(rows), -1).astype(np.float32)


def llama(bundle: Path, n_layers: int) -> Any:
    """The first layers of the model, its vocabulary cut to the rows used."""
    from transformers import LlamaConfig, LlamaModel

    header = json.loads((bundle / "header.json").read_text())
    heads, kv = header["attention.head_count"], header["attention.head_count_kv"]
    tensors = np.load(bundle / "tensors.npz")  # noqa: TID251
    embedding = dequantised(tensors["token_embd.weight"], header["kinds"]["token_embd.weight"])
    model = LlamaModel(
        LlamaConfig(
            vocab_size=len(embedding), hidden_size=header["embedding_length"],
            intermediate_size=header["feed_forward_length"],
            num_hidden_layers=n_layers, num_attention_heads=heads, num_key_value_heads=kv,
            rms_norm_eps=header["attention.layer_norm_rms_epsilon"], max_position_embeddings=header["context_length"],
            rope_theta=header["rope.freq_base"], pad_token_id=None,
        )
    )  # fmt: skip
    state: dict[str, torch.Tensor] = {"embed_tokens.weight": torch.from_numpy(embedding)}
    for name, kind in header["kinds"].items():
        if not name.startswith("blk.") or int(name.split(".")[1]) >= n_layers:
            continue
        _, layer, part, _ = name.split(".")
        rows = dequantised(tensors[name], kind)
        if part in ("attn_q", "attn_k"):  # the file interleaves the two halves of a rotary pair
            n = heads if part == "attn_q" else kv
            rows = (
                rows.reshape(n, rows.shape[0] // n // 2, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)
            )
        state[f"layers.{layer}.{NAMES[part]}.weight"] = torch.from_numpy(
            rows.reshape(-1) if rows.ndim == 1 else rows
        )
    missing, extra = model.load_state_dict(state, strict=False)
    assert not extra, extra
    assert missing in ([], ["norm.weight"]), missing
    return model.eval()


def untrained(model: Any, seed: int) -> Any:
    """The same shape as it is initialised."""
    from transformers import LlamaModel

    torch.manual_seed(seed)  # noqa: TID251 - transformers initialises from the global generator only
    return LlamaModel(model.config).eval()


@torch.inference_mode()
def mlp_inputs(
    model: Any, ids: np.ndarray, counted: np.ndarray, layers: list[int], device: str
) -> dict[int, torch.Tensor]:
    """MLP inputs of every counted token, by layer, on the device."""
    model = model.to(device)
    held: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    here: dict[int, torch.Tensor] = {}
    hooks = [
        model.layers[layer].mlp.register_forward_pre_hook(
            lambda _, args, layer=layer: here.__setitem__(layer, args[0])
        )
        for layer in layers
    ]
    for first in range(0, len(ids), 64):
        rows = torch.from_numpy(ids[first : first + 64].astype(np.int64)).to(device)
        model(rows, use_cache=False)
        mask = torch.from_numpy(counted[first : first + 64]).to(device)
        for layer in layers:
            held[layer].append(here[layer][mask])
    for hook in hooks:
        hook.remove()
    return {layer: torch.cat(parts) for layer, parts in held.items()}


def run(options: argparse.Namespace) -> None:
    """Measure and decide the layers of every text in the bundle."""
    from probekit.analysis.design import LabelledTokens, plan
    from probekit.analysis.settings import Settings
    from probekit.evidence.pair_sampling import PairSampling
    from probekit.model.weights import MlpWeights
    from probekit.probes.pairs import LabelColumns

    bundle, out = Path(options.bundle), Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layers = [int(layer) for layer in options.layers]
    model = llama(bundle, max(layers) + 1)
    if options.untrained is not None:
        model = untrained(model, options.untrained)
    weights = {
        layer: MlpWeights.from_arrays(
            model.layers[layer].mlp.up_proj.weight, None, w_gate=model.layers[layer].mlp.gate_proj.weight, activation="silu",
            bits=5, device=device,
        )
        for layer in layers
    }  # fmt: skip
    for name in options.texts:
        held = np.load(bundle / f"text-{name}.npz")  # noqa: TID251
        names, kinds, lags, by_token = json.loads(str(held["names"]))
        ids = held["ids"]
        counted = np.unpackbits(held["counted"])[: ids.size].reshape(ids.shape).astype(bool)
        inputs = mlp_inputs(model, ids, counted, layers, device)
        columns = LabelColumns(held["indptr"], held["tokens"], int(counted.sum()))
        settings = Settings(
            max_tokens=int(counted.sum()), max_pairs=options.pairs, twins=options.twins, seed=options.seed, spikes=(),
            controls=(), twin_ks=(16, 0) if options.all_neurons else (16,),
        )  # fmt: skip
        pair_sampling = PairSampling.of(
            options.choice if options.pairs_of is None else pairs_of(options.pairs_of, names)
        )
        labelled = LabelledTokens(
            columns, held["doc"], held["pos"], held["keys"], names, kinds, lags, held["types"], by_token
        )
        design = plan(labelled, settings, pair_sampling)
        words = labelled.pair_kinds(design.pairs)
        print(
            f"{name}: {counted.sum():,} tokens, {design.n_testable:,} testable pairs, {time.monotonic() - start:.0f} s"
        )
        for layer in layers:
            tag = f"{name}-{layer:02d}" + (
                "" if options.untrained is None else f"-untrained{options.untrained}"
            )
            if (out / f"{tag}.json").exists():
                continue
            measure_one(tag, layer, inputs[layer], weights[layer], design, names, words, out)
            print(f"{tag}: {time.monotonic() - start:.0f} s", flush=True)


def pairs_of(table: str, names: list[str]) -> list[tuple[str, str]]:
    """The pairs of another text's table whose concepts this text has as well; those it cannot test are left out later."""
    import pandas as pd

    known, pairs = set(names), pd.read_parquet(table)
    return [(a, b) for a, b in zip(pairs["a"], pairs["b"], strict=True) if {a, b} <= known]


def measure_one(
    tag: str, layer: int, inputs: torch.Tensor, weights: Any, design: Any, names: Any, words: Any, out: Path
) -> None:
    """One layer to its files."""
    from probekit.analysis.layer_summary import summarise_layer
    from probekit.analysis.passes import measure_layers
    from probekit.analysis.source import ArraySource
    from probekit.evidence.decide import decide_twins

    source = ArraySource(weights.neurons(inputs), inputs, weights, design.rows)
    measure = replace(next(measure_layers(source, [0], design)), layer=layer)
    result = summarise_layer(
        measure, design, names=names, kinds=words, n_params=weights.n_params, bits_stored=float(weights.bits)
    )
    twins = measure.twins[DECIDING_K]
    in_place = [
        {name: int(flags.sum()) for name in ("above_plain", "above_twins", "computed")
         if (flags := getattr(decision, name)) is not None}
        for decision in decide_twins(twins, design.tested)
    ]  # fmt: skip
    neurons = measure.by_k[DECIDING_K]
    np.savez_compressed(
        out / f"{tag}.npz", pairs=design.tested.pairs, n11=design.tested.n11, d=neurons.d_prime.astype(np.float32),
        d_relay=neurons.d_relay.astype(np.float32), twins=np.stack([t.d_prime for t in twins]).astype(np.float32),
        twins_relay=np.stack([t.d_relay for t in twins]).astype(np.float32),
    )  # fmt: skip
    result.pairs.drop(columns=["neurons", "weights"]).to_parquet(out / f"{tag}.parquet", compression="zstd")
    row = {key: value for key, value in result.row.items() if key not in ("effect", "sensitivity")}
    (out / f"{tag}.json").write_text(json.dumps({"row": row, "in_place": in_place}))
    shown = ("n_tested", "n_significant_raw", "n_above_plain", "n_relayed", "n_above_twins", "n_computed")
    print(tag, {key: row[key] for key in shown}, "in place:", in_place)


def main() -> None:
    """Prepare or run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    steps = parser.add_subparsers(required=True)
    first = steps.add_parser("prepare")
    first.add_argument("model")
    first.add_argument("texts", nargs="+", help="name=file[,file]")
    first.add_argument("--by-line", nargs="*", default=[], help="texts of which every line is a document")
    first.add_argument("--layers", type=int, default=9)
    first.add_argument("--max-tokens", type=int, default=150_000)
    first.add_argument("--context", type=int, default=128)
    first.add_argument("--out", default="bundle")
    first.set_defaults(step=prepare)
    second = steps.add_parser("run")
    second.add_argument("bundle")
    second.add_argument("--texts", nargs="+", default=["wikitext"])
    second.add_argument("--layers", nargs="+", default=["0"])
    second.add_argument("--pairs", type=int, default=1_200)
    second.add_argument("--twins", type=int, default=20)
    second.add_argument("--seed", type=int, default=0)
    second.add_argument("--choice", default="stratified")
    second.add_argument(
        "--pairs-of", help="a table of another text: its pairs are tested here, to see which hold in both"
    )
    second.add_argument("--untrained", type=int)
    second.add_argument("--all-neurons", action="store_true")
    second.add_argument("--out", default="results")
    second.set_defaults(step=run)
    options = parser.parse_args()
    options.step(options)


if __name__ == "__main__":
    main()
