"""Error correction: features that arrive with noise leave at 0 or 1, up to the noise of the layer itself.

Hänni, Mendel, Vaintrob & Chan (arXiv 2408.05451). Every feature has a channel of c ramp units, each unit sums
the reads of the features it serves, is 0 below ½ − τ and 1 above ½ + τ (two ReLU neurons), and the feature is
read as the mean over its channel. Asymptotic only: a unit sums 2mc/n noisy reads and a feature shares its
units, so at n = d ≤ 2048 and m ≥ n the layer adds more error than it removes; `analyses/constructions.py`
shows at which size it starts to help. Axes: input, concept, neuron, output, unit.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from probekit.errors import InputError, guarded
from probekit.theory.checks import Number, as_count, as_number
from probekit.theory.circuits.circuit import Circuit
from probekit.theory.circuits.draw import generator, input_codes, sign_codes, subsets
from probekit.theory.circuits.predict import Channel, channel_prediction


@guarded
def correction(
    *,
    n_concepts: Number,
    n_neurons: Number,
    d_model: Number | None = None,
    channel: Number = 6,
    ramp: Number = 0.25,
    n_active: Number = 3,
    noise_sd: Number = 0.0,
    seed: int,
) -> Circuit:
    """A layer that cleans every concept and writes it under a new code.

    Args:
        n_concepts: m.
        n_neurons: n, even: two for each ramp unit.
        d_model: None for basis-aligned inputs, else the dimensions of superposed ±1/√d codes.
        channel: c, units of one concept.
        ramp: τ, half the width of the ramp; noise below ½ − τ is removed.
        n_active: s, concepts on in the inputs that the prediction is made for.
        noise_sd: noise of a decoded read besides that of the codes, in the inputs of the prediction.
        seed: of channels and codes.

    Raises:
        InputError: a parameter out of range, or an odd number of neurons.
    """
    concepts = as_count("n_concepts", n_concepts, at_least=2)
    rng = generator(seed)
    encode = input_codes(rng, concepts, d_model)
    return cleaned(
        "correction",
        rng,
        encode,
        np.arange(concepts, dtype=np.int64),
        superposed=d_model is not None,
        n_neurons=n_neurons,
        channel=channel,
        ramp=ramp,
        n_active=n_active,
        noise_sd=noise_sd,
    )


def cleaned(  # noqa: PLR0913
    name: str,
    rng: np.random.Generator,
    encode: Float[np.ndarray, "input concept"],
    sources: Int[np.ndarray, " output"],
    *,
    superposed: bool,
    n_neurons: Number,
    channel: Number,
    ramp: Number,
    n_active: Number,
    noise_sd: Number = 0.0,
) -> Circuit:
    """A layer whose output k is concept `sources[k]`, read through a channel of ramp units."""
    width, n_concepts = encode.shape
    neurons = as_count("n_neurons", n_neurons, at_least=2)
    if neurons % 2:
        raise InputError(
            f"n_neurons: got {neurons}, wanted an even number: a ramp unit is two neurons. Add one."
        )
    units = neurons // 2
    size = as_count("channel", channel, at_most=units)
    active = as_count("n_active", n_active, at_most=n_concepts)
    if not 0 < as_number("ramp", ramp) < 0.5:
        raise InputError(f"ramp: got {ramp!r}, wanted a half-width strictly between 0 and ½.")
    tau = float(ramp)
    members = subsets(rng, len(sources), size, units)
    served = np.zeros((units, n_concepts))
    served[members, sources[:, None]] = 1.0
    share = np.zeros((len(sources), units))
    np.put_along_axis(share, members, 1.0 / size, axis=1)
    route, thresholds = ramp_rows(served, 0.5, tau)
    readoff = np.concatenate([share, -share], axis=1)
    code_out = sign_codes(rng, width, len(sources)) if superposed else None
    prediction = Channel(
        order=1,
        n_active=active,
        n_concepts=n_concepts,
        density=float(served.mean()),
        inverse_size=1.0 / size,
        d_model=width if superposed else None,
        noise_sd=float(noise_sd),
        ramp=tau,
    )
    means, sds = channel_prediction(prediction)
    return Circuit(
        name=name,
        encode=encode,
        w_in=route @ encode.T if superposed else route,
        b_in=thresholds,
        w_out=readoff if code_out is None else code_out @ readoff,
        readoff=readoff,
        readoff_bias=np.zeros(len(sources)),
        pairs=sources[:, None],
        n_active=active,
        predicted_mean=means,
        predicted_sd=sds,
        predicted_input_sd=prediction.input_sd / (2 * tau) if superposed else 0.0,
        code_out=code_out,
        route=route,
    )


def ramp_rows(
    served: Float[np.ndarray, "unit concept"], middle: float, ramp: float
) -> tuple[Float[np.ndarray, "neuron concept"], Float[np.ndarray, " neuron"]]:
    """The two ReLUs of each ramp unit, 0 below middle − τ and 1 above middle + τ: weights and biases."""
    gain = 1.0 / (2 * ramp)
    biases = np.repeat([-(middle - ramp) * gain, -(middle + ramp) * gain], len(served))
    return np.concatenate([served, served]) * gain, biases
