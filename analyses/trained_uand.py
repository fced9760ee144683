"""Trained one-layer ReLU nets beside the constructions, and the noise-mixing check of compressed computation.

    python analyses/trained_uand.py           # about two minutes on one core; writes results/trained_uand.md
    python analyses/trained_uand.py --quick --out /tmp/trained_uand.md

A net h = relu(W·f + b), R·h + c is trained on the AND of all pairs, or of some pairs, of m = 24 boolean
concepts of which exactly s = 3 are on, with 0/1 targets. There are only C(24, 3) = 2,024 inputs, so every
number is taken over all of them: nothing is sampled and nothing is held out. Each first layer, trained or
built, is then read by readouts fitted in the same way, so that a row says what the first layer makes readable.
How far the learned weights are those of a two-valued sign layer is measured beside the net's own start and
beside a layer that is one. The last part trains a net with fewer neurons than targets on labels with a
mixing matrix, with a smaller one, and with none (after Braun et al. 2025 and arXiv 2606.14673).
Axes: seed, input (one of the 2,024), neuron, concept, pair.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from probekit.storage.store import write_text
from probekit.theory.circuits import Circuit, dense_uand, gaussian_uand, two_and

S = 3
BATCH = 256
RATE = 0.02
MIXING_RATE = 0.01
HERE = Path(__file__).parent
Loss = Literal["mse", "balanced", "balanced L4"]
"""Mean square; the four patterns of every pair with weight ¼ each; the same with the fourth power."""


@dataclass(frozen=True, eq=False)
class Task:
    """All inputs with exactly s concepts on, and the pairs whose AND is wanted."""

    inputs: Bool[np.ndarray, "input concept"]
    """Every input."""
    pairs: Int[np.ndarray, "pair 2"]
    """The pairs."""

    @property
    def seen(self) -> Float[np.ndarray, "input coordinate"] | Bool[np.ndarray, "input concept"]:
        """What a net reads of each input: the concepts themselves."""
        return self.inputs

    @cached_property
    def truth(self) -> Bool[np.ndarray, "input pair"]:
        """The AND of each pair."""
        return self.inputs[:, self.pairs].all(axis=2)

    @cached_property
    def patterns(self) -> Bool[np.ndarray, "pattern input pair"]:
        """Which inputs are in pattern 11, 10, 01, 00 of each pair."""
        a, b = self.inputs[:, self.pairs[:, 0]], self.inputs[:, self.pairs[:, 1]]
        return np.stack([a & b, a & ~b, ~a & b, ~a & ~b])

    def weights(self, loss: Loss) -> Float[np.ndarray, "input pair"]:
        """Weight of each input for each pair; mean 1."""
        if loss == "mse":
            return np.ones((len(self.inputs), len(self.pairs)))
        patterns = self.patterns
        share = patterns.mean(axis=1)  # of each pattern, for each pair
        return np.einsum("qip,qp->ip", patterns, 0.25 / share)


@dataclass(frozen=True, eq=False)
class Layer:
    """A first layer, and its readouts if it came with some."""

    w_in: Float[np.ndarray, "neuron concept"]
    """Input weights."""
    b_in: Float[np.ndarray, " neuron"]
    """Biases."""
    readoff: Float[np.ndarray, "pair neuron"] | None = None
    """Its own readouts."""
    offset: Float[np.ndarray, " pair"] | None = None
    """Constants of its own readouts."""

    def neurons(self, inputs: Bool[np.ndarray, "input concept"]) -> Float[np.ndarray, "input neuron"]:
        """Neuron outputs."""
        return np.maximum(inputs @ self.w_in.T + self.b_in, 0.0)

    def read(self, inputs: Bool[np.ndarray, "input concept"]) -> Float[np.ndarray, "input pair"]:
        """Its own readouts."""
        assert self.readoff is not None
        assert self.offset is not None
        return self.neurons(inputs) @ self.readoff.T + self.offset


@dataclass(frozen=True)
class Score:
    """How well pairs are read."""

    mse: float
    """Mean square error over inputs and pairs as they come."""
    balanced: float
    """Mean square error with the four patterns at weight ¼ each; 1/16 is reached by −¼ + A/2 + B/2."""
    worst: float
    """Share of wrong answers in the worst pattern at the best threshold, one for all pairs."""
    kappa: float
    """μ11 − μ10 − μ01 + μ00, mean over pairs; 0 for every additive readout."""
    eps95: float
    """Largest over patterns of the 95 % quantile of |readout − truth|; ¼ with nothing computed."""


def all_inputs(n_concepts: int, n_active: int) -> Bool[np.ndarray, "input concept"]:
    """Every input with exactly `n_active` concepts on."""
    on = np.array(list(itertools.combinations(range(n_concepts), n_active)))
    inputs = np.zeros((len(on), n_concepts), dtype=np.bool_)
    np.put_along_axis(inputs, on, True, axis=1)
    return inputs


def all_pairs(n_concepts: int) -> Int[np.ndarray, "pair 2"]:
    """Every pair."""
    return np.column_stack(np.triu_indices(n_concepts, k=1))


def train(
    starts: Sequence[Layer], tasks: Sequence[Task], loss: Loss, *, n_steps: int, seeds: Sequence[int]
) -> list[Layer]:
    """Train one net for each seed from its start, all at once: Adam, random batches, cosine to zero.

    Args:
        starts: first layers at the start; biases as given, readouts small and random.
        tasks: the task of each net.
        loss: what is minimised.
        n_steps: batches of `BATCH` inputs.
        seeds: one for each net: its first readouts and its batches.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    n_neurons, n_pairs = len(starts[0].w_in), tasks[0].truth.shape[1]
    w_in = _stack(start.w_in for start in starts)
    b_in = _stack(start.b_in for start in starts)[:, None]
    readoff = torch.stack([torch.randn(n_pairs, n_neurons, generator=g) for g in generators])
    readoff *= 0.1 / math.sqrt(n_neurons)
    offset = torch.zeros(len(seeds), 1, n_pairs)
    inputs = _stack(task.seen for task in tasks)
    truth = _stack(task.truth for task in tasks)
    weights = _stack(task.weights(loss) for task in tasks)
    power = 4 if loss == "balanced L4" else 2
    rows = torch.arange(len(seeds))[:, None]
    parameters = [tensor.requires_grad_() for tensor in (w_in, b_in, readoff, offset)]
    optimiser = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_steps)
    for _ in range(n_steps):
        batch = torch.stack([torch.randint(inputs.shape[1], (BATCH,), generator=g) for g in generators])
        hidden = torch.relu(torch.baddbmm(b_in, inputs[rows, batch], w_in.transpose(1, 2)))
        error = torch.baddbmm(offset, hidden, readoff.transpose(1, 2)) - truth[rows, batch]
        # a sum over nets of means: no net's gradient depends on another's
        total = (weights[rows, batch] * error**power).mean(dim=(1, 2)).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        schedule.step()
    w, b, r, c = (tensor.detach().double().numpy() for tensor in parameters)
    return [Layer(w[i], b[i, 0], r[i], c[i, 0]) for i in range(len(seeds))]


def fitted(layer: Layer, task: Task, loss: Loss) -> Layer:
    """The layer with the least-squares readouts over all inputs, as they come or with balanced patterns.

    With H the neurons and a one, a pair's weighted Gram matrix is a sum over patterns, and those of 10, 01 and
    00 follow from the inputs with a on, with b on, with both, and all.
    """
    assert loss != "balanced L4", "only least squares is fitted in closed form"
    inputs, pairs = task.inputs, task.pairs
    hidden = np.column_stack([layer.neurons(inputs), np.ones(len(inputs))])
    everything = hidden.T @ hidden
    # keeps dead and parallel neurons solvable; far below the error that is measured
    ridge = 1e-9 * np.trace(everything) / len(everything) * np.eye(len(everything))
    truth = task.truth.astype(np.float64)
    if loss == "mse":
        solution = np.linalg.solve(everything + ridge, hidden.T @ truth).T
    else:
        each = np.stack([hidden[on].T @ hidden[on] for on in inputs.T])
        both = np.stack([hidden[on].T @ hidden[on] for on in task.truth.T])
        a, b = each[pairs[:, 0]], each[pairs[:, 1]]
        grams = (both, a - both, b - both, everything - a - b + both)
        factors = 0.25 / task.patterns.mean(axis=1)  # [pattern, pair]
        gram = sum(f[:, None, None] * g for f, g in zip(factors, grams, strict=True))
        wanted = (hidden.T @ truth).T * factors[0][:, None]
        solution = np.linalg.solve(gram + ridge, wanted[:, :, None])[:, :, 0]
    return Layer(layer.w_in, layer.b_in, solution[:, :-1], solution[:, -1])


def score(reads: Float[np.ndarray, "input pair"], task: Task) -> Score:
    """The errors of some readouts over all inputs."""
    truth, patterns = task.truth, task.patterns
    errors = np.abs(reads - truth)
    on, *off = (np.sort(reads[pattern]) for pattern in patterns)
    # the share missed changes only at a readout of pattern 11, so one of these is a best threshold
    missed = np.searchsorted(on, on, side="left") / len(on)
    falsely = [1 - np.searchsorted(values, on, side="left") / len(values) for values in off]
    means = [(reads * pattern).sum(axis=0) / pattern.sum(axis=0) for pattern in patterns]
    return Score(
        mse=float((errors**2).mean()),
        balanced=float(np.mean([(errors[pattern] ** 2).mean() for pattern in patterns])),
        worst=float(np.max([missed, *falsely], axis=0).min()),
        kappa=float((means[0] - means[1] - means[2] + means[3]).mean()),
        eps95=float(max(np.quantile(errors[pattern], 0.95) for pattern in patterns)),
    )


@dataclass(frozen=True)
class Form:
    """How far a first layer is a two-valued sign layer; every row of weights is divided by its rms first."""

    explained: float
    """Share of the weights' variance that the two best levels explain: 1 for two values, 2/π if Gaussian."""
    bimodality: float
    """Sarle's coefficient (skewness² + 1)/kurtosis: 1 for two values, 5/9 if uniform, 1/3 if Gaussian."""
    energy: float
    """Share of Σ w² within ±20 % of the two levels."""
    low: float
    """The lower level."""
    high: float
    """The upper level."""
    positive: float
    """Share of weights above 0."""
    sign_product: float
    """Correlation over pairs of a neuron's readouts with sign(w_a)·sign(w_b), mean over neurons."""
    product: float
    """The same with w_a·w_b."""


def levels(values: Float[np.ndarray, " weight"]) -> tuple[float, float]:
    """The two levels that explain most of the variance: exact, over all cuts of the sorted values."""
    ordered = np.sort(values)
    sums, n_low = np.cumsum(ordered)[:-1], np.arange(1, len(ordered))
    low, high = sums / n_low, (ordered.sum() - sums) / (len(ordered) - n_low)
    cut = np.argmax(n_low * low**2 + (len(ordered) - n_low) * high**2)
    return float(low[cut]), float(high[cut])


def form(layer: Layer, pairs: Int[np.ndarray, "pair 2"]) -> Form:
    """The form of a layer that has readouts."""
    assert layer.readoff is not None
    w = unit_rows(layer.w_in)
    flat = w.ravel()
    low, high = levels(flat)
    nearest = np.where(np.abs(flat - low) < np.abs(flat - high), low, high)
    centred = flat - flat.mean()
    skew, kurtosis = ((centred**k).mean() / centred.std() ** k for k in (3, 4))
    a, b = w[:, pairs[:, 0]], w[:, pairs[:, 1]]
    return Form(
        explained=float(1 - ((flat - nearest) ** 2).mean() / centred.var()),
        bimodality=float((skew**2 + 1) / kurtosis),
        energy=float((flat**2)[np.abs(flat - nearest) <= 0.2 * np.abs(nearest)].sum() / (flat**2).sum()),
        low=low,
        high=high,
        positive=float((flat > 0).mean()),
        sign_product=_row_correlation(layer.readoff.T, np.sign(a) * np.sign(b)),
        product=_row_correlation(layer.readoff.T, a * b),
    )


def unit_rows(w_in: Float[np.ndarray, "neuron concept"]) -> Float[np.ndarray, "neuron concept"]:
    """Weights with every neuron's rms 1: a ReLU neuron's scale can be moved to its readouts."""
    return w_in / np.maximum(np.sqrt((w_in**2).mean(axis=1, keepdims=True)), 1e-12)


def _row_correlation(left: np.ndarray, right: np.ndarray) -> float:
    left = left - left.mean(axis=1, keepdims=True)
    right = right - right.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    alive = norms > 1e-12
    return float(((left * right).sum(axis=1)[alive] / norms[alive]).mean())


def shuffled(layer: Layer, *, seed: int) -> Layer:
    """The layer with each neuron's weights in random order: same values and biases, no arrangement."""
    return Layer(np.random.default_rng(seed).permuted(layer.w_in, axis=1), layer.b_in)


def rounded(layer: Layer) -> Layer:
    """The layer with each weight put to the nearer of the two levels, neurons' scales and biases kept."""
    w = unit_rows(layer.w_in)
    low, high = levels(w.ravel())
    scale = np.sqrt((layer.w_in**2).mean(axis=1, keepdims=True))
    return Layer(np.where(np.abs(w - low) < np.abs(w - high), low, high) * scale, layer.b_in)


def built(circuit: Circuit) -> Layer:
    """A construction's first layer with its own readouts."""
    return Layer(circuit.w_in, circuit.b_in, circuit.readoff, circuit.readoff_bias)


def sign_table(layer: Layer, task: Task) -> Float[np.ndarray, "signs pattern"]:
    """Mean neuron output by signs (++, +−, −+, −−) of a pair's two weights and by pattern; row rms 1.

    Every input of a pattern, every pair, every neuron.
    """
    scale = np.sqrt((layer.w_in**2).mean(axis=1))
    hidden = layer.neurons(task.inputs) / np.maximum(scale, 1e-12)
    up = layer.w_in > 0
    a, b = up[:, task.pairs[:, 0]], up[:, task.pairs[:, 1]]
    means = np.stack([hidden.T @ pattern / pattern.sum(axis=0) for pattern in task.patterns], axis=-1)
    return np.stack([means[signs].mean(axis=0) for signs in (a & b, a & ~b, ~a & b, ~a & ~b)])


@dataclass(frozen=True)
class Mixing:
    """One net with n ReLU neurons trained on m > n targets relu(x) + M·x; losses per label, in units of the
    loss of n dedicated neurons on labels without M."""

    scale: float
    """Standard deviation of M's entries; 0: no mixing matrix."""
    trained: float
    """Loss on the labels that it was trained on."""
    naive: float
    """n dedicated neurons, on the same labels."""
    naive_fitted: float
    """n dedicated neurons with output weights fitted to the same labels."""
    clean: float
    """The trained net on labels without M."""
    clean_refit: float
    """The trained first layer, output weights fitted to labels without M."""
    top: float
    """Share of Σ w² of the input weights in the top n eigenvectors of M (of an unused M where scale is 0)."""


def mixing_check(
    scales: Sequence[float],
    seeds: Sequence[int],
    *,
    n_targets: int = 40,
    n_neurons: int = 20,
    p_active: float = 0.025,
    n_steps: int,
) -> list[list[Mixing]]:
    """Train nets on mixed labels; for each scale one result a seed.

    x_i is uniform in [−1, 1] with probability `p_active`, else 0; M is symmetric with a zero diagonal; the net is
    relu(x·Uᵀ)·Vᵀ without biases. Losses over 20,000 fresh inputs, the same for all nets of a seed.
    """
    cases = list(itertools.product(scales, seeds))
    generators = [torch.Generator().manual_seed(1_000 + seed) for _, seed in cases]
    shapes = torch.stack([_symmetric(n_targets, seed) for _, seed in cases])
    mixers = torch.tensor([scale for scale, _ in cases])[:, None, None] * shapes
    w_in = torch.stack([torch.randn(n_neurons, n_targets, generator=g) for g in generators])
    w_in /= math.sqrt(n_targets)
    w_out = w_in.transpose(1, 2).clone()
    parameters = [w_in.requires_grad_(), w_out.requires_grad_()]
    optimiser = torch.optim.Adam(parameters, lr=MIXING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_steps)

    def draw(g: torch.Generator, n_inputs: int) -> torch.Tensor:
        on = torch.rand(n_inputs, n_targets, generator=g) < p_active
        return (2 * torch.rand(n_inputs, n_targets, generator=g) - 1) * on

    for _ in range(n_steps):
        x = torch.stack([draw(g, 2 * BATCH) for g in generators])
        error = (
            torch.relu(x @ w_in.transpose(1, 2)) @ w_out.transpose(1, 2)
            - torch.baddbmm(torch.relu(x), x, mixers)
        )  # fmt: skip
        optimiser.zero_grad()
        (error**2).mean(dim=(1, 2)).sum().backward()
        optimiser.step()
        schedule.step()

    found = list[list[Mixing]]()
    for i, (scale, seed) in enumerate(cases):
        x = draw(torch.Generator().manual_seed(2_000 + seed), 20_000).double()
        clean = torch.relu(x)
        mixed = clean + x @ mixers[i].double()
        u, v = (tensor.detach()[i].double() for tensor in parameters)
        hidden, dedicated = torch.relu(x @ u.T), clean[:, :n_neurons]
        naive = torch.cat([dedicated, torch.zeros(len(x), n_targets - n_neurons)], dim=1)
        unit = float(((naive - clean) ** 2).mean())
        vectors = torch.linalg.eigh(shapes[i].double()).eigenvectors[:, -n_neurons:]
        result = Mixing(
            scale=scale,
            trained=float(((hidden @ v.T - mixed) ** 2).mean()) / unit,
            naive=float(((naive - mixed) ** 2).mean()) / unit,
            naive_fitted=_least(dedicated, mixed) / unit,
            clean=float(((hidden @ v.T - clean) ** 2).mean()) / unit,
            clean_refit=_least(hidden, clean) / unit,
            top=float((u @ vectors).square().sum() / u.square().sum()),
        )
        if i % len(seeds) == 0:
            found.append([])
        found[-1].append(result)
    return found


def _symmetric(n: int, seed: int) -> torch.Tensor:
    entries = torch.randn(n, n, generator=torch.Generator().manual_seed(3_000 + seed)).triu(1)
    return entries + entries.T


def _least(hidden: torch.Tensor, labels: torch.Tensor) -> float:
    gram = hidden.T @ hidden
    gram += 1e-9 * gram.trace() / len(gram) * torch.eye(len(gram))
    solution = torch.linalg.solve(gram, hidden.T @ labels)
    return float(((hidden @ solution - labels) ** 2).mean())


def _stack(arrays: Iterable[np.ndarray]) -> torch.Tensor:
    return torch.tensor(np.stack(list(arrays)), dtype=torch.float32)


# --- tables ---


def spread(values: Sequence[float], digits: int = 3, factor: float = 1.0) -> str:
    """Mean ± standard deviation over seeds."""
    scaled = factor * np.asarray(values)
    sd = f" ± {scaled.std(ddof=1):.{digits}f}" if len(scaled) > 1 else ""
    return f"{scaled.mean():.{digits}f}{sd}"


def score_cells(scores: Sequence[Score]) -> list[str]:
    """The five numbers of a row."""
    mse, balanced, worst, kappa, eps95 = zip(*map(astuple, scores), strict=True)
    return [
        spread(mse, 5),
        spread(balanced, 4),
        spread(worst, 2, 100),
        spread(kappa, 3),
        spread(eps95, 3),
    ]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


SCORE_HEADER = ["mean square error", "balanced", "worst-pattern error %", "κ", "ε95"]
Arms = dict[str, list[Layer]]


def constructions(n_concepts: int, n_neurons: int, seeds: Sequence[int]) -> Arms:
    """The universal constructions; the Gaussian layer is also what each net starts from."""
    sizes = {"n_concepts": n_concepts, "n_neurons": n_neurons, "n_active": S}
    return {
        "dense {+1, −2}": [built(dense_uand(**sizes, seed=seed)) for seed in seeds],
        "dense ±1": [built(dense_uand(**sizes, negative=1, seed=seed)) for seed in seeds],
        "Gaussian = start": [built(gaussian_uand(**sizes, seed=seed)) for seed in seeds],
    }


def starts(arms: Arms) -> list[Layer]:
    """Gaussian first layers, scaled to pre-activations of variance 1."""
    return [Layer(layer.w_in / math.sqrt(S), layer.b_in) for layer in arms["Gaussian = start"]]


@dataclass(frozen=True)
class Settings:
    """Sizes of a run."""

    n_concepts: int = 24
    widths: tuple[int, ...] = (24, 48, 96)
    seeds: tuple[int, ...] = (0, 1, 2)
    width_l4: int = 48
    n_steps: int = 2_000
    n_targeted: int = 48
    mixing: tuple[float, ...] = (0.0, 0.03, 0.06)
    mixing_steps: int = 1_500


def universal(settings: Settings) -> tuple[list[str], dict[tuple[int, Loss], list[Layer]]]:
    """Tables of part (a): scores of every arm by loss, form, and the sign table; and the trained nets."""
    inputs = all_inputs(settings.n_concepts, S)
    task = Task(inputs, all_pairs(settings.n_concepts))
    fits: tuple[Loss, ...] = ("mse", "balanced")
    rows: dict[Loss, list[list[str]]] = {loss: [] for loss in fits}
    own, forms, signs = list[list[str]](), list[list[str]](), list[list[str]]()
    nets: dict[tuple[int, Loss], list[Layer]] = {}
    for n in settings.widths:
        arms = constructions(settings.n_concepts, n, settings.seeds)
        for loss in (*fits, "balanced L4"):
            if loss == "balanced L4" and n != settings.width_l4:
                continue
            trained = train(
                starts(arms), [task] * len(settings.seeds), loss, n_steps=settings.n_steps, seeds=settings.seeds
            )  # fmt: skip
            nets[n, loss] = trained
            name = f"trained on {loss}"
            own.append([str(n), name, *score_cells([score(net.read(inputs), task) for net in trained])])
            forms.append([str(n), name, *form_cells(trained, task.pairs)])
            fit: Loss = "mse" if loss == "mse" else "balanced"
            compared = {
                name: trained,
                f"{name}, shuffled in each neuron": [
                    shuffled(net, seed=seed) for net, seed in zip(trained, settings.seeds, strict=True)
                ],
                f"{name}, put to two levels": [rounded(net) for net in trained],
                f"{name}, two levels and shuffled": [
                    shuffled(rounded(net), seed=seed)
                    for net, seed in zip(trained, settings.seeds, strict=True)
                ],
            }
            if loss != "balanced L4":
                compared |= arms
                compared["Gaussian, put to two levels"] = [
                    rounded(layer) for layer in arms["Gaussian = start"]
                ]
            for other, layers in compared.items():
                refits = [fitted(layer, task, fit) for layer in layers]
                scores = [score(layer.read(inputs), task) for layer in refits]
                rows[fit].append([str(n), other, *score_cells(scores)])
                if fit == "balanced" and other in (name, *arms):
                    forms.append([str(n), f"{other}, readouts refitted", *form_cells(refits, task.pairs)])
            print(f"  n = {n}, {loss}: {time.process_time():.0f} s of processor time")
        for name, layers in arms.items():
            scores = [score(layer.read(inputs), task) for layer in layers]
            own.append([str(n), f"{name}, the paper's", *score_cells(scores)])
        if n == settings.width_l4:
            named = {f"trained on {loss}": nets[n, loss] for loss in (*fits, "balanced L4")} | arms
            signs = [row for name, layers in named.items() for row in sign_rows(name, layers[0], task)]
    linear = Layer(np.eye(settings.n_concepts), np.zeros(settings.n_concepts))
    for loss in fits:
        scores = [score(fitted(linear, task, loss).read(inputs), task)]
        rows[loss].append(["–", "no layer: the concepts themselves", *score_cells(scores)])
    header = ["n", "first layer", *SCORE_HEADER]
    parts = list[str]()
    for loss in fits:
        parts += [f"### Readouts of every layer fitted, loss {loss}", markdown(header, rows[loss])]
    parts += ["### Readouts as trained, and as the papers give them", markdown(header, own)]
    parts += ["## Form of the first layer", FORM, markdown(FORM_HEADER, forms)]
    parts += [SIGNS.format(n=settings.width_l4), markdown(SIGN_HEADER, signs)]
    return parts, nets


FORM_HEADER = [
    "n", "layer", "variance explained by two levels", "bimodality", "energy within ±20 %", "levels", "share > 0",
    "readout vs sign product", "readout vs w_a·w_b",
]  # fmt: skip


def form_cells(layers: Sequence[Layer], pairs: Int[np.ndarray, "pair 2"]) -> list[str]:
    """The form of the layers of all seeds."""
    found = [form(layer, pairs) for layer in layers]
    cells = [spread([getattr(f, name) for f in found]) for name in ("explained", "bimodality", "energy")]
    cells.append(f"{np.mean([f.low for f in found]):.2f}, {np.mean([f.high for f in found]):+.2f}")
    return cells + [
        spread([getattr(f, name) for f in found], 2) for name in ("positive", "sign_product", "product")
    ]


SIGN_HEADER = ["layer", "signs of w_a, w_b", "00", "01", "10", "11", "11 − 10 − 01 + 00"]


def sign_rows(name: str, layer: Layer, task: Task) -> list[list[str]]:
    """The table of a layer, one row for each pair of signs."""
    table = sign_table(layer, task)
    return [
        [name, signs, *(f"{value:.2f}" for value in row[::-1]), f"{row[0] - row[1] - row[2] + row[3]:+.2f}"]
        for signs, row in zip(("++", "+−", "−+", "−−"), table, strict=True)
    ]


def targeted(settings: Settings, nets: dict[tuple[int, Loss], list[Layer]]) -> list[str]:
    """Table of part (b): wanted pairs, and as many others, read off every layer with fitted readouts."""
    inputs = all_inputs(settings.n_concepts, S)
    pairs = all_pairs(settings.n_concepts)
    wanted, others = list[Task](), list[Task]()
    for seed in settings.seeds:
        order = np.random.default_rng(seed).permutation(len(pairs))
        wanted.append(Task(inputs, pairs[order[: settings.n_targeted]]))
        others.append(Task(inputs, pairs[order[settings.n_targeted : 2 * settings.n_targeted]]))
    rows, own = list[list[str]](), list[list[str]]()
    for n in settings.widths:
        universal_arms = constructions(settings.n_concepts, n, settings.seeds)
        arms: Arms = {}
        arms["trained on them, balanced"] = train(
            starts(universal_arms), wanted, "balanced", n_steps=settings.n_steps, seeds=settings.seeds
        )
        arms["trained on all pairs, balanced"] = nets[n, "balanced"]
        for channel in (1, 3):
            arms[f"two_and, c = {channel}"] = [
                built(
                    two_and(
                        pairs=task.pairs, n_concepts=settings.n_concepts, n_neurons=n, channel=channel, n_active=S,
                        seed=seed,
                    )
                )
                for task, seed in zip(wanted, settings.seeds, strict=True)
            ]  # fmt: skip
        arms |= universal_arms
        for name, layers in arms.items():
            here = [
                score(fitted(layer, task, "balanced").read(inputs), task)
                for layer, task in zip(layers, wanted, strict=True)
            ]
            there = [
                score(fitted(layer, task, "balanced").read(inputs), task)
                for layer, task in zip(layers, others, strict=True)
            ]
            rows.append([str(n), name, *score_cells(here), *score_cells(there)[2:]])
            if name.startswith(("trained on them", "two_and")):
                scores = [score(layer.read(inputs), task) for layer, task in zip(layers, wanted, strict=True)]
                own.append([str(n), name, *score_cells(scores)])
    others_header = [f"other pairs: {word}" for word in SCORE_HEADER[2:]]
    return [
        markdown(["n", "first layer", *SCORE_HEADER, *others_header], rows),
        "Readouts as trained (on the loss named), and as the paper gives them:",
        markdown(["n", "first layer", *SCORE_HEADER], own),
    ]


def mixing(settings: Settings) -> str:
    """Table of the noise-mixing check."""
    results = mixing_check(settings.mixing, settings.seeds, n_steps=settings.mixing_steps)
    rows = [
        [
            f"{of_scale[0].scale:g}",
            *(
                spread([getattr(result, name) for result in of_scale])
                for name in ("trained", "naive", "naive_fitted", "clean", "clean_refit", "top")
            ),
            spread([1 - result.trained / result.naive for result in of_scale], 1, 100),
            spread([1 - result.trained / result.naive_fitted for result in of_scale], 1, 100),
        ]
        for of_scale in results
    ]
    return markdown(MIXING_HEADER, rows)


MIXING_HEADER = [
    "sd of M", "trained, on its labels", "n dedicated, same labels", "n dedicated, outputs fitted",
    "trained, labels without M", "its first layer refitted without M", "weights in M's top n eigenvectors",
    "gain over n dedicated %", "gain over outputs fitted %",
]  # fmt: skip

INTRODUCTION = """\
`{command}`: seeds 0 to {last} (± is the standard deviation over them), m = 24 concepts, exactly s = 3 on, all
2,024 inputs. Nets start from the Gaussian construction divided by √3 with bias 0 and are trained for {n_steps:,}
batches of 256 with Adam. Losses: mse, as inputs come (1 in 92 is positive); balanced, the patterns 11, 10, 01, 00
of each pair at weight ¼; balanced L4, the same with the fourth power. Readouts are fitted and scored on the
same 2,024 inputs, which are all there are; with n = 96 a readout has 97 parameters for 22 positive inputs, so
nothing here says how readouts would do on concepts or backgrounds that they have not seen. ε95 and the
threshold error are pooled over pairs. "Shuffled": each neuron's weights in random order, readouts fitted anew.
"Put to two levels": each weight to the nearer of the two levels of the whole layer, likewise."""

FOUND = """\
Of the committed run, without `--quick`; later headings hold the numbers.

* **Plain MSE learns no U-AND at n = m, and no better layer than random signs at n = 4m.** At n = 24 the trained
  net (.00908) does not reach the concepts themselves with no layer at all (.00902), κ = .01. At n = 48 it leads
  random ±1 signs by 1 % (.00817 against .00827), at n = 96 it is behind them (.00655 against .00645).
* **Balanced patterns make training worth it**: balanced error .054, .027, .011 at n = 24, 48, 96 against .068,
  .035, .013 of the best random layer (±1), κ .33, .63, .84 against .25, .54, .81. The lead in error is
  16 to 22 %: readability alone hardly tells a trained U-AND layer from a random-sign one.
* **No layer for all pairs comes below ε95 = ¼**, the level of reading A + B, and reading A + B has no threshold
  error at all: at these widths thresholds prove nothing and no arm represents U-AND ¼-linearly. A net trained
  with L4 and read by its own readouts has the lowest ε95 at n = 48 (.34 against .39 for ±1 with least squares).
* **{+1, −2} has the smallest error of the random layers with the papers' readouts and the largest with fitted
  ones**, at every width: its smaller variance is that of the product readout, not of the layer.
* **The two-valued sign layer is half confirmed.** Balanced training makes negative weights fewer and 2.4 to
  3.5 times larger than positive ones, the readouts follow sign(w_a)·sign(w_b) (correlation .84, .84, .77; start
  .36, .47, .51), and the table of neuron outputs by signs has the published form. But the weights do not sit on
  two levels: 14 to 24 % of their energy lies within ±20 % of them, against 12 to 14 % in a Gaussian layer and 99 to
  100 % in a two-valued one; at n = 96 two levels explain no more variance than in a Gaussian layer. Putting the
  weights to two levels costs 2 %, 7 % and 26 % of the balanced error. That a Gaussian layer loses nothing by it
  (it gains) shows how weak this evidence is by itself. Shuffling costs more (12 %, 25 %, 36 %): the learned
  layer is an arranged one, not a random draw of its values. The MSE net is nothing of the kind: heavy
  tails, less two-valued than its start, readouts unrelated to the sign product at n = 24 and 48.
* **Chosen pairs are another matter.** Trained on 48 of the 276 pairs, κ on them is .68, .94, 1.00, on other pairs
  .07, .09, .37; ε95 is below ¼ from n = 48 on (twice as many pairs as concepts, as many as neurons). Universal layers
  read both sets alike. `two_and` at these sizes is far from its regime: κ .88 with c = 3 and fitted readouts at n = 96.
* **Noise mixing is reproduced.** Without a mixing matrix a net of 20 neurons for 40 targets gains nothing over 20
  dedicated neurons (−0.1 ± 1.9 %). With one it gains 26 % and 48 %, its weights lie in the matrix's top
  eigenvectors, and on labels without the matrix it is worse than the dedicated neurons, also with output
  weights fitted anew. The gain was the mixing matrix."""

FORM = """\
Every neuron's weights are divided by their rms; the levels are those two that explain most of the variance of all of
them. A Gaussian layer has .64 of its variance explained and bimodality ⅓, two values have 1 and 1. The last columns
are correlations over pairs between a neuron's readouts and the products of its weights, mean over neurons; the
constructions' readouts are fitted to the balanced loss. "Gaussian = start" is the control: the same nets untrained."""

SIGNS = """\
Mean neuron output by the signs of the pair's two weights and by what is on (A then B), n = {n}, seed 0, row
rms 1. An AND can be read with the signs +, −, −, + of the last column. The published table of a trained net
(arXiv 2507.09816) is (.05, .15, .15, .25), (.05, 0, .15, 0), (.05, .15, 0, 0), (.05, 0, 0, 0): ++ neurons nearly
additive, the interaction in the others. The balanced nets have that form; the net trained on MSE hardly has an
interaction, and the random layers use ++ as much as −−."""

TARGETED = """\
{n} of the 276 pairs, drawn anew for each seed, influence unbounded; readouts of every layer fitted to the balanced
loss. Other pairs: as many that were not trained on, with readouts fitted just the same. `two_and` is the low-influence
case with basis-aligned inputs, c neurons a pair."""

MIXING = """\
40 targets relu(x) + M·x from 20 ReLU neurons without biases; x_i uniform in [−1, 1] with probability .025, else 0; M
symmetric, zero diagonal; {n_steps:,} batches of 512, 20,000 fresh inputs for the losses, whose unit is the loss of 20
dedicated neurons (relu(x_i) for half of the targets, 0 for the rest) on labels without M. Output weights are refitted
on the inputs that they are scored on. The top eigenvectors hold ½ of random weights; at sd 0 they are those
of a matrix that was not used. Not rebuilt: the factorisation baseline of the paper and its residual-stream embedding."""


def page(
    settings: Settings, command: str, all_tables: Sequence[str], some_tables: Sequence[str], mixing_table: str
) -> str:
    """The results as they are committed."""
    parts = [
        "# Trained nets beside the constructions",
        INTRODUCTION.format(command=command, last=settings.seeds[-1], n_steps=settings.n_steps),
        "## What came out",
        FOUND,
        "## All pairs",
        *all_tables,
        "## Some pairs",
        TARGETED.format(n=settings.n_targeted),
        *some_tables,
        "## Noise mixing",
        MIXING.format(n_steps=settings.mixing_steps),
        mixing_table,
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Train, measure, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one width and few steps: a check of the script")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "trained_uand.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings()
    if options.quick:
        settings = Settings(
            widths=(24,), seeds=(0, 1), width_l4=24, n_steps=100, mixing=(0.0, 0.06), mixing_steps=100
        )
    start = time.perf_counter()
    all_tables, nets = universal(settings)
    some_tables = targeted(settings, nets)
    command = "python analyses/trained_uand.py" + (" --quick" if options.quick else "")
    write_text(options.out, page(settings, command, all_tables, some_tables, mixing(settings)))
    print(f"{options.out} written in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
