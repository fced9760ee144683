"""Synthetic layers whose answer is known, and the whole machinery run on them.

A scene holds labels, documents and additive inputs x = Σ codes of the concepts that hold + Gaussian background of the
token + a Gaussian offset of the document: no site that is linear in x has an interaction, and errors that forget
documents are too small. The layers: random; one that avoids the loud directions of its inputs; readers of single
concepts; planted ANDs (probekit.circuits). Axes: token concept input neuron.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from probekit.analysis.design import LabelledTokens, StudyDesign
from probekit.analysis.design import plan as compiled
from probekit.analysis.layer_summary import LayerResult, summarise_layer
from probekit.analysis.passes import CALIBRATION_TOKENS, LayerMeasure, measure_layers
from probekit.analysis.settings import Settings
from probekit.analysis.source import ArraySource
from probekit.model.twins import InputFrame, PcSignTwins
from probekit.model.weights import MlpWeights
from probekit.probes.pairs import LabelColumns, splitmix64
from probekit.theory.circuits.circuit import Circuit
from probekit.theory.circuits.two_and import two_and

DOC_LEN = 50


@dataclass(frozen=True)
class Scene:
    """What a layer sees, and what holds there."""

    labels: np.ndarray
    """bool [token concept]."""
    doc: np.ndarray
    """int [token], non-decreasing."""
    inputs: torch.Tensor
    """fp32 [token input]."""


def make_scene(  # noqa: PLR0913
    seed: int,
    *,
    n_tokens: int,
    n_concepts: int,
    n_active: float | int,
    codes: np.ndarray | None = None,
    noise: float | int = 0.15,
    doc_noise: float | int = 0.05,
    n_loud: int = 0,
    loud: float | int = 5.0,
) -> Scene:
    """Independent concepts, additive inputs.

    Args:
        seed: of labels and background.
        n_tokens: tokens.
        n_concepts: concepts.
        n_active: mean number of concepts that hold at a token.
        codes: [input concept]; None takes basis vectors.
        noise: sd of the background of each coordinate at a token.
        doc_noise: sd of the offset that a document adds to each coordinate.
        n_loud: further coordinates that carry nothing but Gaussian noise,
        loud: of this sd.
    """
    rng = np.random.default_rng([seed, 101])
    labels = rng.random((n_tokens, n_concepts)) < n_active / n_concepts
    doc = np.arange(n_tokens) // DOC_LEN
    quiet = labels @ (np.eye(n_concepts) if codes is None else codes).T
    quiet = quiet + noise * rng.standard_normal(quiet.shape)
    quiet += doc_noise * rng.standard_normal((doc[-1] + 1, quiet.shape[1]))[doc]
    inputs = np.concatenate([quiet, loud * rng.standard_normal((n_tokens, n_loud))], axis=1)
    return Scene(labels, doc, torch.from_numpy(inputs).float())


def unit_codes(seed: int, n_inputs: int, n_concepts: int) -> np.ndarray:
    """Random unit codes [input concept]."""
    codes = np.random.default_rng([seed, 102]).standard_normal((n_inputs, n_concepts))
    return codes / np.linalg.norm(codes, axis=0)


def random_layer(seed: int, n_neurons: int, n_inputs: int, *, n_loud: int = 0) -> MlpWeights:
    """Gaussian rows of norm about 1, no bias; nothing is read from the `n_loud` last inputs."""
    rng = np.random.default_rng([seed, 103])
    rows = rng.standard_normal((n_neurons, n_inputs)) / np.sqrt(n_inputs)
    rows = np.concatenate([rows, np.zeros((n_neurons, n_loud))], axis=1)
    return MlpWeights.from_arrays(rows, np.zeros(n_neurons))


def reader_layer(seed: int, n_neurons: int, codes: np.ndarray, *, gain: float | int = 2.0) -> MlpWeights:
    """Each neuron reads one concept strongly, with a random background and a random threshold; no pair is designed."""
    rng = np.random.default_rng([seed, 104])
    n_inputs, n_concepts = codes.shape
    rows = gain * codes[:, rng.integers(0, n_concepts, n_neurons)].T
    rows += rng.standard_normal((n_neurons, n_inputs)) / np.sqrt(n_inputs)
    return MlpWeights.from_arrays(rows, rng.uniform(-gain, 0.0, n_neurons))


def layer_of(circuit: Circuit) -> MlpWeights:
    """The weights of a circuit."""
    return MlpWeights.from_arrays(circuit.w_in, circuit.b_in)


def twin_of(weights: MlpWeights, scene: Scene, design: StudyDesign, seed: int) -> MlpWeights:
    """A PC-sign twin as weights of its own: W̃ = W U S Uᵀ, b̃ = b + Wμ − W̃μ, in a gated layer for both halves.

    The frame must be the one the machinery will take (the inputs of the fit half): only then are signs in one frame
    multiplied, and the twin is exchangeable with its own twins.
    """
    frame = InputFrame.of(scene.inputs[torch.from_numpy(design.rows["fit"])])
    assert len(design.rows["fit"]) <= CALIBRATION_TOKENS
    sign = PcSignTwins.draw(weights, frame, 1, np.random.default_rng([seed, 105])).signs[0]

    def turned(rows: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        new = (rows @ frame.directions * sign) @ frame.directions.T
        return new, bias + (rows - new) @ frame.mean

    w_in, b_in = turned(weights.w_in, weights.b_in)
    if weights.w_gate is None or weights.b_gate is None:
        return replace(weights, w_in=w_in, b_in=b_in)
    w_gate, b_gate = turned(weights.w_gate, weights.b_gate)
    return replace(weights, w_in=w_in, b_in=b_in, w_gate=w_gate, b_gate=b_gate)


@dataclass(frozen=True)
class Judged:
    """A layer measured and decided."""

    design: StudyDesign
    measure: LayerMeasure
    result: LayerResult

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Tested pairs in the order of the table."""
        return [(int(a), int(b)) for a, b in self.design.tested.pairs]

    def rows_of(self, pairs: set[tuple[int, int]]) -> np.ndarray:
        """Mask of the tested pairs that are among `pairs`."""
        return np.array([pair in pairs for pair in self.pairs])

    @property
    def computed(self) -> np.ndarray:
        """Which tested pairs are computed."""
        return self.result.pairs["computed"].to_numpy(bool)

    @property
    def above(self) -> np.ndarray:
        """Which tested pairs are above their twins."""
        return self.result.pairs["above_twins"].to_numpy(bool)


def plan(scene: Scene, settings: Settings) -> StudyDesign:
    """The study design of a scene."""
    doc_key = splitmix64(np.arange(scene.doc[-1] + 1).astype(np.uint64))
    pos = np.arange(len(scene.doc)) % DOC_LEN
    return compiled(LabelledTokens(LabelColumns.from_dense(scene.labels), scene.doc, pos, doc_key), settings)


def run_layer(
    scene: Scene,
    weights: MlpWeights,
    *,
    twins: int,
    seed: int = 0,
    min_support: int = 40,
    design: StudyDesign | None = None,
) -> Judged:
    """Measure and judge one layer on a scene; `design` saves the planning where several layers share the scene."""
    settings = Settings(twins=twins, seed=seed, max_pairs=10_000, min_support=min_support, spikes=())
    design = plan(scene, settings) if design is None else design.with_settings(twins=twins, seed=seed)
    source = ArraySource(weights.neurons(scene.inputs), scene.inputs, weights, design.rows)
    measure = next(measure_layers(source, [0], design))
    n_concepts, n_pairs = scene.labels.shape[1], len(design.tested.pairs)
    result = summarise_layer(
        measure,
        design,
        names=[f"f{c}" for c in range(n_concepts)],
        kinds=["all"] * n_pairs,
        n_params=weights.n_params,
        bits_stored=32.0,
    )
    return Judged(design, measure, result)


@dataclass(frozen=True)
class Plant:
    """A planted 2-AND layer and what is true of its pairs."""

    scene: Scene
    weights: MlpWeights
    designated: set[tuple[int, int]]
    shared_channel: set[tuple[int, int]]
    """Pairs not designated whose concepts are both read by some neuron."""
    circuit: Circuit
    """The construction itself."""


def make_plant(  # noqa: PLR0913
    seed: int,
    *,
    n_pairs: int,
    n_concepts: int,
    n_neurons: int,
    n_tokens: int,
    n_active: int = 3,
    channel: int = 5,
    d_model: int | None = None,
    noise: float | int = 0.15,
) -> Plant:
    """Adler–Shavit 2-AND of low influence on a scene of its own."""
    circuit = two_and(
        pairs=n_pairs, n_concepts=n_concepts, n_neurons=n_neurons, channel=channel, influence=2, n_active=n_active,
        d_model=d_model, seed=seed,
    )  # fmt: skip
    codes = None if d_model is None else circuit.encode
    scene = make_scene(
        seed, n_tokens=n_tokens, n_concepts=n_concepts, n_active=n_active, codes=codes, noise=noise
    )
    designated = {(min(a, b), max(a, b)) for a, b in circuit.pairs.tolist()}
    assert circuit.route is not None
    reads = (circuit.route != 0).astype(np.int64)
    together = np.triu(reads.T @ reads, 1)
    shared = {(int(a), int(b)) for a, b in zip(*np.nonzero(together), strict=True)} - designated
    return Plant(scene, layer_of(circuit), designated, shared, circuit)


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Share of (positive, negative) couples in the right order, ties counted half."""
    order = np.sort(negative)
    below, upto = np.searchsorted(order, positive, "left"), np.searchsorted(order, positive, "right")
    return float((below + upto).mean() / 2 / len(order))
