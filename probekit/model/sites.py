"""Where a model's neurons are read, and the proof that they are read there.

The MLP input is `blocks.L.mlp.hook_in`, the neurons are `blocks.L.mlp.out.hook_in`. Names can lie (a
mixture of experts has hooks of the same name and another meaning), so `prove_decoder` runs the model on a few
random tokens and demands theorems: the neurons follow from the MLP input by the layer's weights, the MLP
output follows from the neurons, and no position sees a later token (of encoders: `probekit.model.encoders`).
Axes: doc pos input neuron.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probekit.errors import ModelError
from probekit.model.weights import ACTIVATIONS, MlpWeights, known_activation

INPUT_SITE = "blocks.{}.mlp.hook_in"
NEURON_SITE = "blocks.{}.mlp.out.hook_in"
OUTPUT_SITE = "blocks.{}.mlp.hook_out"
_RESIDUAL_SITE = "blocks.{}.ln2.hook_in"
MlpSites = dict[str, Tensor]
"""What passes the sites of a model, [doc pos …], by name."""
_REQUIRED = (INPUT_SITE, NEURON_SITE, OUTPUT_SITE)

_PROOF_DOCS = 4
_PROOF_POSITIONS = 8
_FLOAT32_EPS = torch.finfo(torch.float32).eps


def require_sites(bridge: Any, name: str) -> None:
    """Refuse a model whose layers have no dense MLP, before anything is run.

    Raises:
        ModelError: a layer is a mixture of experts, or has no neurons to hook.
    """
    from transformer_lens.model_bridge.generalized_components.moe import MoEBridge

    blocks = getattr(bridge, "blocks", None)
    if blocks is None or len(blocks) == 0:
        raise ModelError(
            f"{name}: the model has no `blocks`, so there is no MLP layer to read; "
            "wanted a decoder-only transformer. Choose another model."
        )
    mlps = [getattr(block, "mlp", None) for block in blocks]
    experts = [layer for layer, mlp in enumerate(mlps) if isinstance(mlp, MoEBridge)]
    if experts:
        raise ModelError(
            f"{name}: layer {experts[0]} is a mixture of experts ({len(experts)} of {len(mlps)} layers "
            "are), whose neurons differ from token to token; wanted a dense MLP in every layer. "
            f"pk.experts(model, corpus, layer={experts[0]}) reads its experts, each on the tokens routed to it."
        )
    hooks = bridge.hook_dict
    for layer in range(len(mlps)):
        for site in _REQUIRED:
            if site.format(layer) not in hooks:
                raise ModelError(
                    f"{name}: layer {layer} has no site `{site.format(layer)}`; wanted a dense MLP in every "
                    "layer. Choose a transformer whose layers are attention and MLP."
                )


def read_weights(bridge: Any, layer: int, activation: str, bits: int | float) -> MlpWeights:
    """The weights that act at one layer's neurons, [neuron input] whatever way the model stores them.

    Raises:
        ModelError: the weights are quantised or otherwise no plain numbers.
    """
    mlp = bridge.blocks[layer].mlp
    gated = "gate" in dict(mlp.named_children())
    return MlpWeights.from_arrays(
        _matrix(mlp, layer, "W_in").T,
        _bias(mlp, "in"),
        w_gate=_matrix(mlp, layer, "W_gate").T if gated else None,
        b_gate=_bias(mlp, "gate") if gated else None,
        activation=activation,
        bits=bits,
    )


def prove_decoder(bridge: Any, name: str, n_vocab: int, context: int, bits: int | float) -> str:
    """Run a few random tokens and demand that every layer's sites are what their names say, and that nothing looks ahead.

    Returns:
        The activation, as `prove_sites` finds it.

    Raises:
        ModelError: a site did not fire, has another width than the weights, or breaks one of the theorems.
    """
    sites = capture(bridge, proof_tokens(n_vocab, min(_PROOF_POSITIONS, context)))
    activation = prove_sites(bridge, name, sites, bits)
    for layer in range(len(bridge.blocks)):
        _, neurons = _mlp_sites(sites, layer)
        # Documents 0 and 1 differ in their last token only.
        _demand(
            f"{name}: layer {layer}: a later token changes the neurons of earlier ones, so padding would too",
            neurons[0, :-1] - neurons[1, :-1],
            neurons,
            _tolerance(neurons, neurons.shape[-1]),
        )
    return activation


def prove_sites(bridge: Any, name: str, sites: MlpSites, bits: int | float) -> str:
    """Demand that what was read at every layer's sites is what their names say.

    Args:
        bridge: the model.
        name: what the user called it.
        sites: what passed there, [doc pos …], by name.
        bits: of a stored weight.

    Returns:
        The activation: the one the configuration names, or, where that is not what the model computes
        (BLOOM's configuration names none), the known one that it does compute.

    Raises:
        ModelError: a site did not fire, has another width than the weights, or breaks one of the theorems.
    """
    _require_fired(sites, name, len(bridge.blocks))
    named = str(bridge.cfg.act_fn)
    first = read_weights(bridge, 0, known_activation(named) or "relu", bits)
    _require_width(bridge, name, 0, first, sites)
    activation = _computed_activation(known_activation(named), first, *_mlp_sites(sites, 0))
    if activation is None:
        raise ModelError(
            f"{name}: layer 0: the neurons do not follow from the MLP input by the layer's weights and "
            f"{named!r}, nor by any of {', '.join(sorted(ACTIVATIONS))}; wanted raw weights and one of these "
            "activations. Choose a model with such an MLP."
        )
    for layer in range(len(bridge.blocks)):
        weights = read_weights(bridge, layer, activation, bits)
        _require_width(bridge, name, layer, weights, sites)
        _prove_layer(bridge, f"{name}: layer {layer}", layer, weights, sites)
    return activation


def _prove_layer(bridge: Any, where: str, layer: int, weights: MlpWeights, sites: dict[str, Tensor]) -> None:
    inputs, neurons = _mlp_sites(sites, layer)
    _demand(
        f"{where}: the neurons do not follow from the MLP input by W_in and {weights.activation}",
        *neuron_error(weights, inputs, neurons),
    )
    mlp = bridge.blocks[layer].mlp
    outputs, residual = sites[OUTPUT_SITE.format(layer)], sites.get(_RESIDUAL_SITE.format(layer))
    _demand(
        f"{where}: the MLP output does not follow from the neurons by W_out",
        *_output_error(_matrix(mlp, layer, "W_out").float(), _bias(mlp, "out"), neurons, outputs, residual),
    )


def _mlp_sites(sites: dict[str, Tensor], layer: int) -> tuple[Tensor, Tensor]:
    return sites[INPUT_SITE.format(layer)], sites[NEURON_SITE.format(layer)]


def _require_fired(sites: dict[str, Tensor], name: str, n_layers: int) -> None:
    for layer in range(n_layers):
        for site in _REQUIRED:
            if site.format(layer) not in sites:
                raise ModelError(
                    f"{name}: layer {layer}: site `{site.format(layer)}` never fired in a forward pass, so "
                    "what passes there cannot be read; choose another model."
                )


def _require_width(bridge: Any, name: str, layer: int, weights: MlpWeights, sites: dict[str, Tensor]) -> None:
    width = sites[NEURON_SITE.format(layer)].shape[-1]
    n_rows = len(_matrix(bridge.blocks[layer].mlp, layer, "W_out"))
    if not width == n_rows == weights.n_neurons:
        raise ModelError(
            f"{name}: layer {layer}: `{NEURON_SITE.format(layer)}` is {width:,} wide, but W_out has "
            f"{n_rows:,} rows and W_in {weights.n_neurons:,}; what is hooked there are not the neurons. "
            "Choose another model."
        )


def _computed_activation(
    named: str | None, weights: MlpWeights, inputs: Tensor, neurons: Tensor
) -> str | None:
    """The named activation if the neurons follow by it, else the one they follow by best, if any."""
    relative = {}
    for activation in ACTIVATIONS:
        error, size, tolerance = neuron_error(weights.with_activation(activation), inputs, neurons)
        if relative_error(error, size) <= tolerance:
            relative[activation] = relative_error(error, size)
    if named in relative:
        return named
    return min(relative, key=lambda activation: relative[activation], default=None)


def neuron_error(weights: MlpWeights, inputs: Tensor, neurons: Tensor) -> tuple[Tensor, Tensor, float]:
    """The error of the recomputed neurons, the size of what is summed, the error that rounding explains."""
    inputs_32 = inputs.float()
    size = (inputs_32.square() @ weights.weight.square().T + weights.bias.square()).sqrt()
    if weights.activation == "relu2":
        size = size.square()
    if weights.gated:
        size = size[..., : weights.n_neurons] * size[..., weights.n_neurons :]
    return weights.neurons(inputs_32) - neurons.float(), size, _tolerance(neurons, weights.d_model)


def _output_error(
    w_out: Tensor, b_out: Tensor | None, neurons: Tensor, outputs: Tensor, residual: Tensor | None
) -> tuple[Tensor, Tensor, float]:
    bias = torch.zeros(w_out.shape[1], device=w_out.device) if b_out is None else b_out.float()
    error = outputs.float() - (neurons.float() @ w_out + bias)
    size = (neurons.float().square() @ w_out.square() + bias.square()).sqrt()
    # BLOOM's MLP module adds the residual stream itself; what it adds must then be exactly that.
    if residual is not None and float((error - residual.float()).norm()) < float(error.norm()):
        error, size = error - residual.float(), torch.maximum(size, residual.float().abs())
    return error, size, _tolerance(neurons, len(w_out))


def _tolerance(activations: Tensor, n_summands: int) -> float:
    # Four roundings (input, sum, activation, product) in the model's own dtype, and sums that are
    # accumulated in float32 or wider, whose error grows like a random walk.
    return 4 * torch.finfo(activations.dtype).eps + n_summands**0.5 * _FLOAT32_EPS


def relative_error(error: Tensor, size: Tensor) -> float:
    """Root mean square of an error, as a share of that of what is summed."""
    if error.numel() == 0:
        return 0.0
    root_mean_square = size.float().square().mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny)
    return float(error.float().square().mean().sqrt() / root_mean_square)


def _demand(claim: str, error: Tensor, size: Tensor, tolerance: float) -> None:
    relative = relative_error(error, size)
    if not relative <= tolerance:  # NaN too
        raise ModelError(
            f"{claim}: relative error {relative:.2g}, wanted ≤ {tolerance:.1g}. "
            "Load the model with raw weights (no compatibility mode), or choose another."
        )


def proof_tokens(n_vocab: int, n_positions: int) -> Tensor:
    """Four random documents; the second is the first with another last token."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(n_vocab, (_PROOF_DOCS, n_positions), generator=generator)
    ids[1] = ids[0]
    ids[1, -1] = (ids[0, -1] + 1) % n_vocab
    return ids


def capture(bridge: Any, ids: Tensor) -> dict[str, Tensor]:
    """What passes the sites of every layer, [doc pos …], by name."""
    captured: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: Any) -> None:
        captured[hook.name] = activation.detach().reshape(*ids.shape, -1).clone()

    templates = (*_REQUIRED, _RESIDUAL_SITE)
    wanted = {template.format(layer) for template in templates for layer in range(len(bridge.blocks))}
    present = sorted(wanted & set(bridge.hook_dict))
    device = next(bridge.original_model.parameters()).device
    with torch.no_grad():
        bridge.run_with_hooks(ids.to(device), return_type=None, fwd_hooks=[(name, keep) for name in present])
    return captured


def _matrix(mlp: Any, layer: int, name: str) -> Tensor:
    try:
        return getattr(mlp, name).detach()
    except NotImplementedError as error:  # what the model library says of quantised and unloaded weights
        raise ModelError(
            f"layer {layer}: {name} cannot be read ({error}). Wanted float16, bfloat16 or float32 weights; "
            "load the model without quantisation or offloading."
        ) from error


def _bias(mlp: Any, half: str) -> Tensor | None:
    bias = getattr(getattr(mlp, half), "bias", None)
    return None if bias is None else bias.detach()
