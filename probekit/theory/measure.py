"""A circuit's error over random s-sparse inputs, pattern by pattern: what was predicted, measured.

An input has exactly s concepts on. In a pattern (11, 10, 01, 00 for a pair) the output's own concepts are
set, the rest of the s are drawn at random; output and background are drawn anew for every input. ε95 is the
largest over patterns of the 95 % quantile of |readout − truth| (¼ is reached by reading A + B with nothing
computed); the threshold error is the worst pattern's share of wrong answers at the one best threshold. Axes:
pattern, sample, slot (the concepts on), output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int

from probekit.errors import InputError
from probekit.theory.checks import Number, as_count
from probekit.theory.circuits.circuit import GATES, Circuit, DeepCircuit
from probekit.theory.circuits.draw import generator

_BLOCK = 512  # samples at a time: bounds memory at block × neurons


@dataclass(frozen=True, eq=False)
class Measured:
    """The errors of one circuit on one draw of inputs."""

    n_inputs: int
    """Inputs in each pattern."""
    mean: Float[np.ndarray, " pattern"]
    """Mean readout."""
    sd: Float[np.ndarray, " pattern"]
    """Standard deviation of the readout over outputs and inputs."""
    eps95: float
    """Largest over patterns of the 95 % quantile of |readout − truth|."""
    threshold: float
    """The common threshold at which the worst pattern errs least."""
    worst_error: float
    """Share of wrong answers in the worst pattern at that threshold."""

    @property
    def contrast(self) -> float:
        """κ = μ11 − μ10 − μ01 + μ00 for pairs; 1 for a perfect readoff, 0 for an additive one."""
        m = self.mean
        return float(m[0] - m[1] - m[2] + m[3]) if len(m) == 4 else float("nan")


def measure(
    circuit: Circuit,
    *,
    n_inputs: Number = 2_000,
    n_active: Number | None = None,
    recoded: bool = False,
    noise_sd: Number = 0.0,
    seed: int,
) -> Measured:
    """Error of a circuit, pooled over its outputs.

    Args:
        circuit: what to run.
        n_inputs: inputs in each pattern.
        n_active: s; the circuit's own by default.
        recoded: read each output as the next layer decodes it from what this one writes.
        noise_sd: Gaussian noise on every coordinate of the encoded input; as codes are unit vectors, every
            decoded read gets this much extra standard deviation.
        seed: of the inputs.

    Raises:
        InputError: fewer inputs than one, or more concepts on than there are.
    """
    reads, truth = sample_reads(
        circuit, n_inputs=n_inputs, n_active=n_active, recoded=recoded, noise_sd=noise_sd, seed=seed
    )
    errors = np.abs(reads - truth)
    threshold, worst = best_threshold(reads, truth)
    return Measured(
        n_inputs=reads.shape[1],
        mean=reads.mean(axis=1),
        sd=reads.std(axis=1, ddof=1) if reads.shape[1] > 1 else np.zeros(len(reads)),
        eps95=float(np.quantile(errors, 0.95, axis=1).max()),
        threshold=threshold,
        worst_error=worst,
    )


def eps95_by_output(
    circuit: Circuit,
    *,
    n_outputs: Number = 100,
    n_inputs: Number = 400,
    n_active: Number | None = None,
    seed: int,
) -> Float[np.ndarray, " output"]:
    """ε95 of `n_outputs` random single outputs: the largest 95 % error quantile of their patterns."""
    rng = generator(seed)
    n_chosen = min(as_count("n_outputs", n_outputs), circuit.n_outputs)
    each = as_count("n_inputs", n_inputs)
    chosen = np.repeat(rng.choice(circuit.n_outputs, size=n_chosen, replace=False), each)
    reads, truth = _reads(circuit, chosen, _active(circuit, n_active), rng, recoded=False, noise_sd=0.0)
    errors = rearrange(np.abs(reads - truth), "pattern (output input) -> pattern output input", input=each)
    return np.quantile(errors, 0.95, axis=2).max(axis=0)


def sample_reads(
    circuit: Circuit,
    *,
    n_inputs: Number,
    n_active: Number | None = None,
    recoded: bool = False,
    noise_sd: Number = 0.0,
    seed: int,
) -> tuple[Float[np.ndarray, "pattern sample"], Bool[np.ndarray, "pattern sample"]]:
    """Readouts of random outputs on random inputs, and their truth."""
    rng = generator(seed)
    chosen = rng.integers(circuit.n_outputs, size=as_count("n_inputs", n_inputs))
    return _reads(circuit, chosen, _active(circuit, n_active), rng, recoded=recoded, noise_sd=float(noise_sd))


def input_noise_sd(circuit: Circuit, *, n_inputs: Number = 200, seed: int) -> float:
    """Standard deviation, over neurons and inputs, of what superposed codes add to the pre-activations."""
    if circuit.route is None:
        raise InputError(
            f"circuit {circuit.name}: its weights act on the codes, so no decoding noise is defined."
        )
    rng = generator(seed)
    chosen = rng.integers(circuit.n_outputs, size=as_count("n_inputs", n_inputs))
    nobody = np.zeros(circuit.pairs.shape[1], dtype=np.bool_)
    active = _draw_active(circuit, chosen, nobody, circuit.n_active, rng)
    noisy = _encoded(circuit, active) @ circuit.w_in.T
    clean = circuit.route.T[active].sum(axis=1)
    return float((noisy - clean).std())


def best_threshold(
    reads: Float[np.ndarray, "pattern sample"], truth: Bool[np.ndarray, "pattern sample"]
) -> tuple[float, float]:
    """The threshold at which the worst pattern's share of wrong answers is smallest, and that share."""
    candidates = np.unique(reads)
    # between neighbours, so that no readout stands on the threshold
    candidates = np.concatenate(
        [[candidates[0] - 1.0], (candidates[1:] + candidates[:-1]) / 2, [candidates[-1] + 1]]
    )
    worst = np.zeros(len(candidates))
    for values, wanted in zip(reads, truth, strict=True):
        missed = np.searchsorted(np.sort(values[wanted]), candidates, side="right")
        falsely_on = (~wanted).sum() - np.searchsorted(np.sort(values[~wanted]), candidates, side="right")
        worst = np.maximum(worst, (missed + falsely_on) / len(values))
    lowest = np.flatnonzero(worst == worst.min())
    return float(candidates[lowest[len(lowest) // 2]]), float(worst.min())


@dataclass(frozen=True, eq=False)
class MeasuredLayer:
    """The errors of one layer of a deep circuit, at threshold ½."""

    n_true: int
    """Values that should be 1."""
    n_false: int
    """Values that should be 0."""
    missed: float
    """Share of the true ones read below ½; NaN when there are none."""
    falsely_on: float
    """Share of the false ones read at ½ or above."""
    rms: float
    """Root mean square of readout − truth."""


def measure_deep(circuit: DeepCircuit, *, n_inputs: Number = 500, seed: int) -> tuple[MeasuredLayer, ...]:
    """Errors of every layer of a deep circuit, each fed by the layers before it.

    Inputs have the first layer's s concepts on. Half of them hold a witness of a random last output (inputs
    that switch it on if nothing interferes), as far as s allows; random inputs alone would hardly ever reach
    the last layer.
    """
    rng = generator(seed)
    first = circuit.layers[0]
    concepts = np.zeros((as_count("n_inputs", n_inputs), first.n_concepts), dtype=np.bool_)
    for i, row in enumerate(concepts):
        on = list[int]()
        if i % 2 == 0:
            on = sorted(_witness(circuit, int(rng.integers(circuit.layers[-1].n_outputs))))[: first.n_active]
        rest = np.setdiff1d(np.arange(first.n_concepts), on)
        row[on] = True
        row[rng.choice(rest, size=first.n_active - len(on), replace=False)] = True
    found = list[MeasuredLayer]()
    for reads, truth in zip(circuit.read(concepts), circuit.truth(concepts), strict=True):
        above = reads >= 0.5
        n_true = int(truth.sum())
        found.append(
            MeasuredLayer(
                n_true=n_true,
                n_false=truth.size - n_true,
                missed=float((~above[truth]).mean()) if n_true else float("nan"),
                falsely_on=float(above[~truth].mean()) if n_true < truth.size else float("nan"),
                rms=float(np.sqrt(np.mean((reads - truth) ** 2))),
            )
        )
    return tuple(found)


def _witness(circuit: DeepCircuit, output: int) -> set[int]:
    wanted = {output}
    for layer in reversed(circuit.layers):
        below = set[int]()
        for k in wanted:
            both = not layer.gates or layer.gates[k] == "and"
            below |= set(layer.pairs[k].tolist() if both else layer.pairs[k, :1].tolist())
        wanted = below
    return wanted


def _active(circuit: Circuit, n_active: Number | None) -> int:
    order = circuit.pairs.shape[1]
    most = circuit.n_concepts - order
    if most < 1:
        raise InputError(
            f"circuit {circuit.name}: {circuit.n_concepts} concepts leave no background. Use more."
        )
    wanted = circuit.n_active if n_active is None else n_active
    return as_count("n_active", wanted, at_least=order, at_most=most)


def _reads(
    circuit: Circuit,
    chosen: Int[np.ndarray, " sample"],
    n_active: int,
    rng: np.random.Generator,
    *,
    recoded: bool,
    noise_sd: float,
) -> tuple[Float[np.ndarray, "pattern sample"], Bool[np.ndarray, "pattern sample"]]:
    settings = circuit.patterns
    reads = np.empty((len(settings), len(chosen)))
    truth = np.empty((len(settings), len(chosen)), dtype=np.bool_)
    for i, setting in enumerate(settings):
        for kind, gate in GATES.items():
            mine = np.isin(np.asarray(circuit.gates or ("and",) * circuit.n_outputs)[chosen], kind)
            truth[i, mine] = gate(setting[None])[0]
        active = _draw_active(circuit, chosen, setting, n_active, rng)
        for start in range(0, len(chosen), _BLOCK):
            block = slice(start, start + _BLOCK)
            neurons = _run(circuit, active[block], noise_sd, rng)
            reads[i, block] = _read_chosen(circuit, neurons, chosen[block], recoded=recoded)
    return reads, truth


def _run(
    circuit: Circuit, active: Int[np.ndarray, "sample slot"], noise_sd: float, rng: np.random.Generator
) -> Float[np.ndarray, "sample neuron"]:
    if circuit.basis_aligned and noise_sd == 0.0:
        pre = circuit.w_in.T[active].sum(axis=1) + circuit.b_in
        return pre if circuit.linear else np.maximum(pre, 0.0)
    inputs = _encoded(circuit, active)
    if noise_sd > 0.0:
        inputs = inputs + noise_sd * rng.standard_normal(inputs.shape)
    return circuit.activate(inputs)


def _encoded(circuit: Circuit, active: Int[np.ndarray, "sample slot"]) -> Float[np.ndarray, "sample input"]:
    return circuit.encode.T[active].sum(axis=1)


def _read_chosen(
    circuit: Circuit,
    neurons: Float[np.ndarray, "sample neuron"],
    chosen: Int[np.ndarray, " sample"],
    *,
    recoded: bool,
) -> Float[np.ndarray, " sample"]:
    if recoded and circuit.code_out is not None:
        written = neurons @ circuit.w_out.T
        return np.einsum("so,os->s", written, circuit.code_out[:, chosen]) + circuit.readoff_bias[chosen]
    return np.einsum("sn,sn->s", neurons, circuit.readoff[chosen]) + circuit.readoff_bias[chosen]


def _draw_active(
    circuit: Circuit,
    chosen: Int[np.ndarray, " sample"],
    setting: Bool[np.ndarray, " order"],
    n_active: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "sample slot"]:
    """The concepts on: the chosen outputs' own as the pattern says, the rest distinct and not their own."""
    own = circuit.pairs[chosen]
    n_others = n_active - int(setting.sum())
    others = rng.integers(circuit.n_concepts, size=(len(chosen), n_others))
    while True:
        rows = np.sort(np.concatenate([own, others], axis=1), axis=1)
        clash = (rows[:, 1:] == rows[:, :-1]).any(axis=1)
        if not clash.any():
            return np.concatenate([own[:, setting], others], axis=1)
        others[clash] = rng.integers(circuit.n_concepts, size=(int(clash.sum()), n_others))
