"""Sparse boolean circuits of low depth, and the deep network that emulates them.

After Hänni, Mendel, Vaintrob & Chan (arXiv 2408.05451). Every gate has a channel of ramp units that sum its
two inputs: "at least one" and "at least two" of them are ramps at ½ and 3/2, so and = two, or = one, xor =
one − two, and a∧¬b is "at least one" of a − b. Kinds of gates live on disjoint blocks of neurons. Each layer
decodes the superposed code that the one before wrote; an error-correction layer may stand between two of
them. All gates are off when their inputs are, so sparse inputs stay sparse. Axes: unit, concept, neuron,
output.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from probekit.errors import InputError, guarded
from probekit.theory.checks import Number, as_count
from probekit.theory.circuits.circuit import GATES, Circuit, DeepCircuit
from probekit.theory.circuits.correction import cleaned, ramp_rows
from probekit.theory.circuits.draw import generator, sign_codes, subsets

Gate = tuple[str, int, int]
"""Kind and the two inputs, which are outputs of the layer before."""

_RAMP = 0.25
_MIDDLES = {"and": (1.5,), "or": (0.5,), "xor": (0.5, 1.5), "andnot": (0.5,)}
_SIGNS = {"and": (1.0,), "or": (1.0,), "xor": (1.0, -1.0), "andnot": (1.0,)}


@guarded
def boolean_circuit(
    *,
    gates: Sequence[Sequence[Gate]],
    n_concepts: Number,
    n_neurons: Number,
    d_model: Number,
    channel: Number = 5,
    n_active: Number = 3,
    correct: bool = False,
    seed: int,
) -> DeepCircuit:
    """The network that computes layer after layer of gates on superposed codes.

    Args:
        gates: for each layer its gates, ("and" | "or" | "xor" | "andnot", a, b).
        n_concepts: m, inputs of the first layer.
        n_neurons: n, of every layer.
        d_model: d, dimensions of the ±1/√d codes between layers.
        channel: c, ramp units of one gate.
        n_active: s, concepts on in one input.
        correct: put an error-correction layer between layers. It helps only at sizes far above 2048.
        seed: of channels and codes.

    Raises:
        InputError: a parameter out of range, an unknown gate, or an input that the layer before does not have.
    """
    width_before = as_count("n_concepts", n_concepts, at_least=2)
    neurons = as_count("n_neurons", n_neurons, at_least=2)
    width = as_count("d_model", d_model)
    active = as_count("n_active", n_active, at_most=width_before)
    if not gates:
        raise InputError("gates: got no layer. Give at least one list of gates.")
    rng = generator(seed)
    encode = sign_codes(rng, width, width_before)
    layers: list[Circuit] = []
    for depth, layer in enumerate(gates):
        if correct and layers:
            between = cleaned(
                f"boolean/{depth}-correction", rng, encode, np.arange(encode.shape[1]), superposed=True,
                n_neurons=neurons - neurons % 2, channel=channel, ramp=_RAMP,
                n_active=min(active, encode.shape[1]),
            )  # fmt: skip
            layers.append(between)
            assert between.code_out is not None
            encode = between.code_out
        built = _gate_layer(rng, depth, layer, encode, neurons, as_count("channel", channel), active)
        layers.append(built)
        assert built.code_out is not None
        encode = built.code_out
    return DeepCircuit("boolean", tuple(layers))


@guarded
def random_gates(
    *,
    n_concepts: Number,
    widths: Sequence[int],
    kinds: tuple[str, ...] = ("and", "or", "xor", "andnot"),
    seed: int,
) -> list[list[Gate]]:
    """Layers of random gates of the given widths, each input used about equally often.

    Raises:
        InputError: a parameter out of range or an unknown kind.
    """
    before = as_count("n_concepts", n_concepts, at_least=2)
    unknown = set(kinds) - set(GATES)
    if unknown or not kinds:
        raise InputError(f"kinds: got {sorted(unknown)}, wanted some of {sorted(GATES)}.")
    rng = generator(seed)
    layers: list[list[Gate]] = []
    for n_gates in widths:
        inputs = _balanced_inputs(rng, as_count("widths", n_gates), before)
        chosen = rng.integers(len(kinds), size=n_gates)
        layers.append([(str(kinds[k]), int(a), int(b)) for k, (a, b) in zip(chosen, inputs, strict=True)])
        before = n_gates
    return layers


def _balanced_inputs(rng: np.random.Generator, n_gates: int, n_before: int) -> Int[np.ndarray, "gate 2"]:
    if n_before < 2:
        raise InputError(f"widths: a layer of {n_before} leaves no two inputs for the next. Widen it.")
    rounds = -(-2 * n_gates // n_before)
    first = np.concatenate([rng.permutation(n_before) for _ in range(rounds)])[:n_gates]
    # a random other input, never the same
    return np.column_stack([first, (first + rng.integers(1, n_before, size=n_gates)) % n_before])


def _gate_layer(
    rng: np.random.Generator,
    depth: int,
    gates: Sequence[Gate],
    encode: Float[np.ndarray, "input concept"],
    n_neurons: int,
    size: int,
    n_active: int,
) -> Circuit:
    width, n_before = encode.shape
    kinds, inputs = _checked(depth, gates, n_before)
    code_out = sign_codes(rng, width, len(gates))
    present = [kind for kind in GATES if kind in kinds]
    rows_each = {kind: 2 * len(_MIDDLES[kind]) for kind in present}
    weights = np.array([kinds.count(kind) * rows_each[kind] for kind in present], dtype=np.float64)
    routes, biases, reads = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for kind, share in zip(present, weights / weights.sum(), strict=True):
        mine = np.flatnonzero(np.asarray(kinds) == kind)
        n_units = int(share * n_neurons) // rows_each[kind]
        if n_units < size:
            raise InputError(
                f"n_neurons: got {n_neurons}, which leaves {n_units} units for {len(mine)} {kind!r} gates "
                f"of layer {depth}; wanted at least channel = {size}. Raise n_neurons."
            )
        members = subsets(rng, len(mine), size, n_units)
        served = np.zeros((n_units, n_before))
        served[members, inputs[mine, 0][:, None]] = 1.0
        served[members, inputs[mine, 1][:, None]] = -1.0 if kind == "andnot" else 1.0
        share_of = np.zeros((len(gates), n_units))
        share_of[mine[:, None], members] = 1.0 / size
        for middle, sign in zip(_MIDDLES[kind], _SIGNS[kind], strict=True):
            route, bias = ramp_rows(served, middle, _RAMP)
            routes.append(route)
            biases.append(bias)
            reads.append(np.concatenate([sign * share_of, -sign * share_of], axis=1))
    route, readoff = np.concatenate(routes), np.concatenate(reads, axis=1)
    return Circuit(
        name=f"boolean/{depth}",
        encode=encode,
        w_in=route @ encode.T,
        b_in=np.concatenate(biases),
        w_out=code_out @ readoff,
        readoff=readoff,
        readoff_bias=np.zeros(len(gates)),
        pairs=inputs,
        n_active=min(n_active, n_before),
        predicted_mean=np.full(4, np.nan),
        predicted_sd=np.full(4, np.nan),
        predicted_input_sd=float(np.sqrt((route**2).sum() / len(route) * n_active / width)),
        code_out=code_out,
        route=route,
        gates=tuple(kinds),
    )


def _checked(depth: int, gates: Sequence[Gate], n_before: int) -> tuple[list[str], Int[np.ndarray, "gate 2"]]:
    if not gates:
        raise InputError(f"gates: layer {depth} is empty. Give it at least one gate.")
    kinds = [gate[0] for gate in gates]
    inputs = np.array([gate[1:] for gate in gates], dtype=np.int64)
    unknown = sorted(set(kinds) - set(GATES))
    if unknown:
        raise InputError(f"gates: layer {depth} has unknown kinds {unknown}, wanted some of {sorted(GATES)}.")
    if inputs.min() < 0 or inputs.max() >= n_before:
        raise InputError(
            f"gates: layer {depth} reads {inputs.max()}, but the layer before has {n_before} outputs."
        )
    if (inputs[:, 0] == inputs[:, 1]).any():
        raise InputError(f"gates: layer {depth} has a gate with the same input twice. Give two.")
    return kinds, inputs
