"""Does a layer of the bundled model correct errors along concept directions? The exponent p, with its controls.

    python analyses/error_correction.py                  # some 2 minutes of one core
    python analyses/error_correction.py --quick --out -

After arXiv 2606.24964 (probekit/evidence/correction.py): perturbations of an MLP's input along what two concepts add to it,
along random and along principal directions, and along even mixtures of each pair; the effect is the mean squared change
of the MLP's output. p = 2 for anything quadratic, above 2 where a layer ignores what is spread over features. Each
exponent is measured on two disjoint halves of the documents, to see whether it is stable. Positive control: a planted
layer that corrects, and one that does not. Writes analyses/results/error_correction.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import probekit as pk
from probekit.evidence.correction import Effect, exponents, responses
from probekit.model.harvest import harvest
from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.model.twins import concept_directions
from probekit.probes.pairs import LabelColumns
from probekit.storage.store import write_text
from probekit.text.tokens import Tokens
from probekit.theory.circuits import correction, dense_uand
from probekit.theory.circuits.circuit import Circuit

RESULT = Path(__file__).parent / "results" / "error_correction.md"
SHARES = (0.2, 0.5)
KINDS = ("concepts", "random", "principal")
RARE, COMMON = 0.01, 0.3


def planted_rows() -> Iterator[str]:
    """Planted layers with and without correction, along their features and along random directions."""
    m, rng = 12, np.random.default_rng(0)
    features = np.stack([np.eye(m)[[2 * i, 2 * i + 1]] for i in range(m // 2)])
    turned = rng.standard_normal(features.shape)
    layers = {
        "corrects": correction(n_concepts=m, n_neurons=8 * m, channel=4, ramp=0.25, seed=0),
        "computes ANDs, does not correct": dense_uand(n_concepts=m, n_neurons=256, n_active=3, seed=0),
    }
    radii = np.geomspace(0.05, 2.0, 14)
    for name, circuit in layers.items():
        for kind, pairs in (("its features", features), ("random", turned)):
            held = responses(of_circuit(circuit), pairs, radii)
            yield f"| {name} | {kind} | " + " | ".join(told(exponents(held, radii, s)) for s in SHARES) + " |"


def of_circuit(circuit: Circuit) -> Effect:
    """Mean squared change of all outputs of a circuit."""
    rng = np.random.default_rng(0)
    inputs = (rng.random((150, circuit.d_model)) < 0.25) + 0.05 * rng.standard_normal((150, circuit.d_model))
    before = circuit.activate(inputs) @ circuit.readoff.T
    return lambda step: float(
        ((circuit.activate(inputs + step) @ circuit.readoff.T - before) ** 2).sum(1).mean()
    )


def of_layer(hooked: HookedModel, layer: int, inputs: torch.Tensor) -> Effect:
    """Mean squared change of an MLP's output."""
    mlp, out = hooked.mlp(layer), hooked.bridge.blocks[layer].mlp.W_out.detach().float()
    before = mlp.neurons(inputs)

    def effect(step: np.ndarray) -> float:
        moved = mlp.neurons(inputs + torch.from_numpy(step).float()) - before
        return float((moved @ out).square().sum(1).mean())

    return effect


def told(p: np.ndarray) -> str:
    """Median and quartiles."""
    low, middle, high = np.nanquantile(p, (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def directions(inputs: torch.Tensor, held: np.ndarray, n_pairs: int) -> dict[str, np.ndarray]:
    """Pairs of directions of each kind."""
    rng = np.random.default_rng(0)
    share = held.mean(0)
    usable = np.flatnonzero((share > RARE) & (share < COMMON))
    chosen = rng.permutation(usable)[: 2 * n_pairs].reshape(-1, 2)
    moves = concept_directions(inputs, torch.from_numpy(held.astype(np.float32))).numpy()
    principal = torch.linalg.eigh(torch.cov(inputs.T))[1].numpy().T[::-1]
    return {
        "concepts": moves[chosen].astype(float),
        "random": rng.standard_normal((n_pairs, 2, inputs.shape[1])),
        "principal": principal[: 2 * n_pairs].reshape(n_pairs, 2, -1).astype(float),
    }


def nano_rows(tokens: Tokens, hooked: HookedModel, n_pairs: int, n_rows: int) -> Iterator[str]:
    """Every layer of the bundled model."""
    labels = pk.Concepts.defaults(hooked.tokenizer, tokens).label(tokens)
    held = LabelColumns(labels.indptr, labels.tokens, labels.n_tokens).dense()
    for layer in range(hooked.n_layers):
        blocks = harvest(hooked, tokens, np.arange(tokens.n_docs), [layer])
        inputs = torch.cat([block.sites[layer][0] for block in blocks])
        size = float((inputs - inputs.mean(0)).norm(dim=1).mean())
        radii = size * np.geomspace(0.05, 1.0, 6)
        halves = [np.flatnonzero(tokens.doc_of_token % 2 == half)[:n_rows] for half in (0, 1)]
        effects = [of_layer(hooked, layer, inputs[torch.from_numpy(rows)]) for rows in halves]
        for kind, pairs in directions(inputs, held, n_pairs).items():
            found = [responses(effect, pairs, radii) for effect in effects]
            p = {share: [exponents(half, radii, share) for half in found] for share in SHARES}
            apart = np.nanmedian(np.abs(p[0.5][0] - p[0.5][1]))
            yield (
                f"| {layer} | {kind} | "
                + " | ".join(told(np.concatenate(p[share])) for share in SHARES)
                + f" | {apart:.3f} |"
            )


def report(quick: bool) -> Iterator[str]:
    """The page, line by line."""
    n_pairs, n_rows = (3, 300) if quick else (8, 600)
    yield "# Error correction by its trace: the exponent p\n"
    yield (
        "`python analyses/error_correction.py`, seed 0. Median p over pairs of directions (quartiles in brackets), at the "
        f"radius where the effect is {SHARES[0]} and {SHARES[1]} of its largest. p = 2 for any quadratic effect; above 2 "
        "where perturbations along single features do more than mixtures of the same size.\n"
    )
    yield "| planted layer | directions | p at 0.2 | p at 0.5 |"
    yield "|---|---|---|---|"
    yield from planted_rows()
    hooked = load_hooked_model("nano")
    tokens = pk.Corpus.docs(split="heldout").tokenize(
        hooked.tokenizer, context=64, max_tokens=3_000 if quick else 15_000, bos_id=hooked.bos_id
    )
    yield ""
    yield (
        f"nano: {n_pairs} pairs of directions of each kind, the MLP's own input and output, {n_rows:,} tokens of each of "
        "two disjoint halves of the documents; perturbations of 0.05 to 1 of the inputs' own deviation. Last column: median "
        "difference of a pair's p between the halves.\n"
    )
    yield "| layer | directions | p at 0.2 | p at 0.5 | halves apart |"
    yield "|---|---|---|---|---|"
    yield from nano_rows(tokens, hooked, n_pairs, n_rows)
    yield ""


def main() -> None:
    """Run the study and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default=str(RESULT), help="where to write the page; - prints it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines: list[str] = []
    for line in report(options.quick):
        lines.append(line)
        print(line, flush=True)
    if options.out != "-":
        write_text(Path(options.out), "\n".join(lines))


if __name__ == "__main__":
    main()
