"""Where a model keeps its attention sinks, and what counting them costs: the measurement behind `skip_first=`.

    python analyses/attention_sinks.py nano                                     # offline, a minute or two
    python analyses/attention_sinks.py nano FOLDER/SmolLM2-135M-Instruct.Q4_1.gguf --corpus wiki.txt

A sink is a position of *massive activation*: the norm of its residual stream is more than ten times the median over all
positions of that layer (Sun et al. 2024, "Massive Activations in Large Language Models"). First table: in what share of the
documents each of the first positions is one, and how large. Second table: what it costs to count the first positions. Known
ANDs of one size are added to random neurons of a layer (in standard deviations taken without the first 8 positions, so that
the same is added throughout); readouts are fitted and judged on documents of their own, with skip_first = 0, 1, 2, 4, 8.
d′ is the median over the pairs, paired pair by pair with skip_first = 0; "noise" is the neurons' own variance in the skipped
positions. Axes: doc pos token neuron pair.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measured import RESULTS, table, write_page

from probekit.analysis.design import LabelledTokens, StudyDesign, plan
from probekit.analysis.inputs import doc_keys
from probekit.analysis.passes import measure_layers
from probekit.analysis.settings import DECIDING_K, Settings
from probekit.analysis.source import ArraySource
from probekit.evidence.pair_sampling import PairSampling
from probekit.model.harvest import harvest
from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.text.concepts.concepts import Concepts
from probekit.text.corpus import Corpus, as_corpus
from probekit.text.tokens import Tokens

SKIPS = (0, 1, 2, 4, 8)
MASSIVE = 10.0
"""Times the median norm."""
CHANNEL, AMPLITUDE = 5, 1.0
N_PAIRS = 60
MIN_SUPPORT = 20


def loaded(name: str) -> HookedModel:
    """A model by name, folder or GGUF file."""
    if not name.endswith(".gguf"):
        return load_hooked_model(name)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return load_hooked_model(model, tokenizer=AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name))


def norms(hooked: HookedModel, tokens: Tokens) -> np.ndarray:
    """Norm of the residual stream behind each block, float [layer doc pos]; NaN where there is no token."""
    found = np.full((hooked.n_layers, *tokens.ids.shape), np.nan, np.float32)
    names = [f"blocks.{layer}.hook_out" for layer in range(hooked.n_layers)]
    for start in range(0, tokens.n_docs, 16):
        ids = tokens.ids[start : start + 16]
        shown = torch.from_numpy(np.where(ids < 0, ids[:, :1], ids).astype(np.int64))

        def keep(
            activation: torch.Tensor, hook: Any, start: int = start, inside: np.ndarray = ids >= 0
        ) -> None:
            layer = int(hook.name.split(".")[1])
            length = activation.norm(dim=-1).float().numpy()
            found[layer, start : start + len(inside)] = np.where(inside, length, np.nan)

        with torch.inference_mode():
            hooked.bridge.run_with_hooks(shown, return_type=None, fwd_hooks=[(name, keep) for name in names])
    return found


def where(found: np.ndarray, tokens: Tokens) -> Iterator[str]:
    """The first table: sinks by layer and position."""
    first = tokens.first_pos
    columns = [
        "behind block",
        "start mark" if first else "(no start mark)",
        *(f"position {p + 1}" for p in range(4)),
    ]
    rows: list[list[str]] = []
    for layer in sorted(
        {0, 1, 2, 3, len(found) // 2, len(found) - 2, len(found) - 1} & set(range(len(found)))
    ):
        ratio = found[layer] / np.nanmedian(found[layer][tokens.text])
        cells = [_massive(ratio[:, 0]) if first else "–"]
        cells += [_massive(ratio[:, first + p]) for p in range(4)]
        rest = ratio[:, first + 4 :]
        rows.append([str(layer), *cells, _massive(rest[~np.isnan(rest)])])
    yield from table([*columns, "later"], rows)


def _massive(ratio: np.ndarray) -> str:
    ratio = ratio[~np.isnan(ratio)]
    share = float((ratio > MASSIVE).mean())
    return f"{share:.1%}, up to {ratio.max():.0f}×" if share else f"none (≤ {ratio.max():.1f}×)"


def design_with(
    tokens: Tokens, concepts: Concepts, pair_sampling: PairSampling
) -> tuple[StudyDesign, list[tuple[str, str]]]:
    """The study of a token block as it counts, and the names of its pairs."""
    labelled = concepts.label(tokens)
    settings = Settings(max_pairs=N_PAIRS, min_support=MIN_SUPPORT, twins=0, controls=(), spikes=())
    design = plan(LabelledTokens.of(labelled, doc_keys(tokens)), settings, pair_sampling)
    names = labelled.names
    return design, [(names[a], names[b]) for a, b in design.pairs.tolist()]


def cost(hooked: HookedModel, tokens: Tokens, layers: list[int]) -> Iterator[str]:
    """The second table: d′ of added ANDs by layer and skip_first, each row as it comes."""
    concepts = Concepts.defaults(hooked.tokenizer, tokens)
    _, named = design_with(replace(tokens, skip_first=max(SKIPS)), concepts, PairSampling.of("stratified"))
    parts: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for block in harvest(hooked, tokens, np.arange(tokens.n_docs), layers):
        for layer, (_, neurons) in block.sites.items():
            parts[layer].append(neurons)
    labels = concepts.label(tokens)
    held = [labels.dense()[:, [labels.names.index(name) for name in pair]].all(1) for pair in named]
    far = torch.from_numpy(_counted_with(tokens, max(SKIPS)))
    columns = [
        "layer",
        "skip_first",
        "tokens",
        "d′ (median)",
        "pair by pair, to skip_first = 0",
        "pairs with a larger d′",
        "neurons with over half of their variance in what is skipped",
    ]
    yield from table(columns, [])
    for layer in layers:
        neurons = torch.cat(parts.pop(layer))
        spiked = added(neurons, neurons[far].std(0), held)
        base = np.empty(0)
        for skip in SKIPS:
            design, _ = design_with(replace(tokens, skip_first=skip), concepts, PairSampling.of(named))
            kept = torch.from_numpy(_counted_with(tokens, skip))
            source = ArraySource(spiked[kept], None, None, design.rows)
            contrast = next(measure_layers(source, [0], design)).by_k[DECIDING_K]
            found = np.asarray(contrast.d_prime)
            cells = [str(layer), str(skip), f"{int(kept.sum()):,}", f"{np.median(found):.2f}"]
            if skip:
                ratio = f"× {np.median(found / base):.3f}"
                cells += [ratio, f"{int((found > base).sum())} of {len(base)}", _moved(neurons, kept)]
            else:
                base, cells = found, [*cells, "–", "–", "–"]
            yield f"| {' | '.join(cells)} |"


def _counted_with(tokens: Tokens, skip: int) -> np.ndarray:
    """Which tokens counted with skip_first = 0 are counted with another one."""
    return replace(tokens, skip_first=skip).counted[tokens.counted]


def _moved(neurons: torch.Tensor, kept: torch.Tensor) -> str:
    """How many neurons have over half of their variance in the positions that are skipped, and how many those are."""
    centred = (neurons - neurons.mean(0)) ** 2
    share = centred[~kept].sum(0) / centred.sum(0).clamp_min(1e-30)
    return f"{int((share > 0.5).sum())} of {len(share)} ({float((~kept).float().mean()):.1%} of the tokens)"


def added(neurons: torch.Tensor, unit: torch.Tensor, held: list[np.ndarray]) -> torch.Tensor:
    """The layer with an AND on five random neurons for each pair."""
    rng = np.random.default_rng(0)
    moving = np.flatnonzero(unit.numpy() > 0)
    spiked = neurons.clone()
    for both in held:
        channel = torch.from_numpy(rng.choice(moving, CHANNEL, replace=False))
        at = torch.from_numpy(np.flatnonzero(both))
        spiked[at[:, None], channel] += AMPLITUDE * unit[channel]
    return spiked


def of_model(
    name: str, corpus: Corpus, *, n_tokens: int, context: int, layers: list[int] | None, marks: str
) -> Iterator[str]:
    """Both tables of one model, with its start mark put first, without, or both ways."""
    hooked = loaded(name)
    chosen = layers if layers is not None else sorted({hooked.n_layers // 2, hooked.n_layers - 2})
    ways = {"with": (hooked.bos_id,), "without": (None,), "both": dict.fromkeys((hooked.bos_id, None))}[marks]
    for bos_id in ways:
        tokens = corpus.tokenize(hooked.tokenizer, context=context, max_tokens=n_tokens, bos_id=bos_id)
        few = corpus.tokenize(hooked.tokenizer, context=context, max_tokens=n_tokens // 3, bos_id=bos_id)
        mark = "no start mark"
        if bos_id is not None:
            mark = f"start mark `{hooked.tokenizer.convert_ids_to_tokens(bos_id)}` first"
        yield f"\n## {Path(name).name}, {mark}\n"
        yield (
            f"{few.n_docs} documents, {few.n_tokens:,} tokens. Share of documents whose position is massive, and the "
            "largest norm in medians:\n"
        )
        yield from where(norms(hooked, few), few)
        yield (
            f"\n{N_PAIRS} ANDs of {AMPLITUDE:g} standard deviation on {CHANNEL} neurons each, "
            f"{tokens.n_docs} documents:\n"
        )
        yield from cost(hooked, tokens, chosen)


def page(options: argparse.Namespace) -> Iterator[str]:
    """All of the result."""
    corpus = as_corpus(options.corpus)
    command = " ".join(["python analyses/attention_sinks.py", *(Path(m).name for m in options.models)])
    yield "# Attention sinks: where they are, and what it costs to count them\n"
    yield (
        f"`{command} --tokens {options.tokens} --context {options.context}` on {corpus.name}. A position is *massive* where "
        f"the norm of the residual stream is more than {MASSIVE:g} times the layer's median."
    )
    for name in options.models:
        yield from of_model(
            name, corpus, n_tokens=options.tokens, context=options.context, layers=options.layers,
            marks=options.marks,
        )  # fmt: skip


def main() -> None:
    """Print and write."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="nano, a folder, or a GGUF file")
    parser.add_argument("--corpus", default="docs", help="docs, or a file")
    parser.add_argument("--tokens", type=int, default=12_000)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--layers", type=int, nargs="*")
    parser.add_argument(
        "--marks", choices=("both", "with", "without"), default="both", help="the start mark first?"
    )
    parser.add_argument("--out", default=str(RESULTS / "attention_sinks.md"))
    options = parser.parse_args()
    write_page(page(options), options.out)


if __name__ == "__main__":
    main()
