"""Mixtures of experts: where an expert's tokens and weights are, and the proof that they are there.

`transformers` keeps the experts of a layer in one module, which is called with the MLP inputs, the experts that the router
chose for each token, and their weights. An expert is a gated layer of its own, down(act(gate x) · (up x)); the layer adds up
the chosen ones by their weights. The neurons themselves pass no module: they are computed here from the inputs and the
expert's weights. `prove_experts` demands that this is what the model does: each expert, called alone by the model's own
code, gives the output that its neurons and its `down_proj` give; what the layer writes is their weighted sum; and no
position sees a later token. The model is read as `transformers` builds it, without a bridge.
Axes: doc pos token expert choice input neuron.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from probekit.errors import ConfigError, ModelError, lacks_memory
from probekit.model.hooked_model import HookedModel, Unhooked, load_unhooked
from probekit.model.plain import PlainModel
from probekit.model.sites import INPUT_SITE, NEURON_SITE, neuron_error, proof_tokens, relative_error
from probekit.model.weights import ACTIVATIONS, MlpWeights, known_activation

_POSITIONS = 8
"""Positions of a document of the proof, at most."""
_FLOAT32_EPS = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Routed:
    """What passes the experts of a layer, token by token."""

    inputs: Float[Tensor, "token input"]
    """The MLP input."""
    chosen: Int[Tensor, "token choice"]
    """The experts that the router chose."""
    weights: Float[Tensor, "token choice"]
    """The weight of each in the layer's output."""
    written: Float[Tensor, "token input"] | None = None
    """What the experts wrote together; None where it was not waited for."""


@dataclass(frozen=True)
class RoutedModel(PlainModel):
    """A model of which routes are read: `inputs` are the modules that hold the experts, `outs` the whole MLP blocks.

    A layer without experts has its own module in neither place, and is never asked for.
    """

    def capture(self, ids: Tensor, layers: Sequence[int], seen: Tensor | None = None) -> dict[str, Tensor]:
        """MLP inputs, and in the neurons' place the chosen experts and then their weights, [token 2·choice] in float32.

        Args:
            ids: tokens, [doc pos].
            layers: layers wanted, ascending.
            seen: unused; what a decoder's text cannot see anyway is not masked.
        """
        captured: dict[str, Tensor] = {}
        for layer in layers:
            routed = self.routed(ids, layer, whole=False)
            captured[INPUT_SITE.format(layer)] = routed.inputs
            captured[NEURON_SITE.format(layer)] = torch.cat(
                [routed.chosen.float(), routed.weights.float()], 1
            )
        return captured

    def routed(self, ids: Tensor, layer: int, *, whole: bool = True) -> Routed:
        """Run the model up to one layer's experts, or through the whole layer.

        Args:
            ids: tokens, [doc pos].
            layer: which layer.
            whole: whether what the MLP block writes is wanted too.

        Raises:
            ModelError: the experts are called in another way.
        """
        seen: list[Routed] = []

        def keep(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            given = (*args, *named.values())
            if len(given) < 3:
                raise ModelError(
                    f"layer {layer}: its experts are called with {len(given)} arrays, wanted the MLP inputs, the experts "
                    "chosen for each token and their weights. Choose another model."
                )
            seen.append(Routed(*given[:3]))
            if not whole:
                raise _SeenError

        def keep_written(_: nn.Module, args: tuple[Any, ...], made: Any) -> None:
            first = made[0] if isinstance(made, tuple) else made
            seen.append(Routed(*_parts(seen[0]), first.reshape(len(seen[0].inputs), -1)))
            raise _SeenError

        handles = [self.inputs[layer].register_forward_pre_hook(keep, with_kwargs=True)]
        if whole:
            handles.append(self.outs[layer].register_forward_hook(keep_written))
        try:
            self.model(ids, use_cache=False)
        except _SeenError:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return seen[-1]


class _SeenError(Exception):
    """Ends a forward at the wanted layer."""


def _parts(routed: Routed) -> tuple[Tensor, Tensor, Tensor]:
    return routed.inputs, routed.chosen, routed.weights


@dataclass(frozen=True)
class ExpertModel(HookedModel):
    """A transformer some of whose layers are mixtures of experts."""

    modules: Mapping[int, nn.Module] = field(default_factory=dict)
    """For each such layer the module that holds its experts."""

    def mlp(self, layer: int) -> MlpWeights:
        """There are none for a whole layer.

        Raises:
            ModelError: always; `expert` gives those of an expert.
        """
        raise ModelError(f"{self.name}: the weights of layer {layer} are those of its experts; ask for one.")

    def n_experts(self, layer: int) -> int:
        """Experts of a layer."""
        return len(self.module(layer).down_proj)

    def module(self, layer: int) -> Any:
        """The module that holds a layer's experts.

        Raises:
            InputError: there is no such layer.
            ConfigError: the layer has a dense MLP.
        """
        self.check_layer(layer)
        if layer not in self.modules:
            found = ", ".join(str(place) for place in sorted(self.modules))
            raise ConfigError(
                f"{self.name}: layer {layer} has a dense MLP; experts have layers {found}. Choose one of these."
            )
        return self.modules[layer]

    def expert(self, layer: int, expert: int) -> MlpWeights:
        """The weights that act at one expert's neurons, float32.

        Raises:
            InputError: there is no such layer.
            ConfigError: the layer has a dense MLP, or no such expert.
        """
        n_experts = self.n_experts(layer)
        if not 0 <= expert < n_experts:
            raise ConfigError(
                f"{self.name}: got expert {expert}, but layer {layer} has experts 0 to {n_experts - 1}; choose one of these."
            )
        return _into(self.module(layer), expert, self.activation, self.bits)


def load_expert_model(
    model: Any, *, device: str = "auto", dtype: str | None = None, tokenizer: Any | None = None
) -> ExpertModel:
    """Load a model with mixtures of experts; nothing is proved before `prove_experts`.

    Args:
        model: as in `load_hooked_model`, but no GGUF file.
        device: see there.
        dtype: see there.
        tokenizer: see there.

    Raises:
        ModelError: the model cannot be loaded, no layer of it keeps experts in the way of `transformers` 5, or an activation
            is unknown.
        ConfigError: the device or dtype is unknown or absent, or an option does not go with this kind of model.
        OutOfMemoryError: the model does not fit.
    """
    loaded = load_unhooked(model, device=device, dtype=dtype, tokenizer=tokenizer)
    found = _find_experts(loaded)
    config, parameter = loaded.model.config, next(loaded.model.parameters())
    n_layers = int(config.num_hidden_layers)
    anywhere = next(iter(found.values()))
    places = [found.get(layer, anywhere) for layer in range(n_layers)]
    first = _into(anywhere[0], 0, "relu", loaded.bits)
    return ExpertModel(
        name=loaded.name,
        bridge=loaded.model,
        tokenizer=loaded.tokenizer,
        n_layers=n_layers,
        d_model=first.d_model,
        d_mlp=first.n_neurons,
        n_vocab=len(loaded.model.get_input_embeddings().weight),
        context=int(getattr(config, "max_position_embeddings", None) or 2**31 - 1),
        activation=known_activation(str(getattr(config, "hidden_act", ""))) or "silu",
        gated=first.gated,
        bos_id=loaded.bos_id,
        device=parameter.device,
        dtype=parameter.dtype,
        bits=loaded.bits,
        plain=RoutedModel(loaded.model, [experts for experts, _ in places], [block for _, block in places]),
        notes=loaded.notes,
        modules={layer: experts for layer, (experts, _) in found.items()},
    )


def _find_experts(loaded: Unhooked) -> dict[int, tuple[nn.Module, nn.Module]]:
    """For each layer that has them the module of its experts, and the MLP block around it.

    Raises:
        ModelError: there are none.
    """
    found: dict[int, tuple[nn.Module, nn.Module]] = {}
    for name, module in loaded.model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        stored = (own.get("gate_up_proj"), own.get("down_proj"))
        if not all(matrix is not None and matrix.ndim == 3 for matrix in stored):
            continue
        place = re.search(r"\.(\d+)\.", name)
        if place is not None:
            found[int(place[1])] = module, loaded.model.get_submodule(name.rpartition(".")[0])
    if not found:
        raise ModelError(
            f"{loaded.name}: no layer keeps experts as transformers 5 does (`gate_up_proj` and `down_proj` of all experts "
            "in one tensor each); wanted a mixture of experts. Use pk.analyze for a model with dense layers."
        )
    return found


def _matrix(module: Any, name: str, expert: int) -> Tensor:
    """One expert's matrix, [output input] whatever way it is stored."""
    matrix = getattr(module, name).detach()[expert]
    return matrix.T if getattr(module, "is_transposed", False) else matrix


def _bias(module: Any, name: str, expert: int) -> Tensor | None:
    bias = getattr(module, f"{name}_bias", None)
    return None if bias is None else bias.detach()[expert]


def _into(module: Any, expert: int, activation: str, bits: int | float) -> MlpWeights:
    gate, linear = _matrix(module, "gate_up_proj", expert).chunk(2)
    bias = _bias(module, "gate_up_proj", expert)
    b_gate, b_linear = (None, None) if bias is None else bias.chunk(2)
    return MlpWeights.from_arrays(
        linear, b_linear, w_gate=gate, b_gate=b_gate, activation=activation, bits=bits
    )


def prove_experts(model: ExpertModel, layer: int) -> tuple[str, tuple[str, ...]]:
    """Run a few random tokens and demand that one layer's experts are what they are read as.

    Args:
        model: with its experts.
        layer: which layer.

    Returns:
        The activation: the one the configuration names, or, where that is not what the model computes, the known one that it
        does compute; and what a reader must know of the layer.

    Raises:
        InputError: there is no such layer.
        ConfigError: the layer has a dense MLP.
        ModelError: an expert or the layer breaks one of the theorems.
    """
    module, where = model.module(layer), f"{model.name}: layer {layer}"
    ids = proof_tokens(model.n_vocab, min(_POSITIONS, model.context)).to(model.device)
    with torch.no_grad():
        routed = _first_run(model, layer, ids)
        activation = _computed_activation(model, layer, routed.inputs)
        summed = torch.zeros_like(routed.inputs, dtype=torch.float32)
        size = torch.zeros_like(summed)
        for expert in range(model.n_experts(layer)):
            weights = _into(module, expert, activation, model.bits)
            error, own_size, made = _expert_error(module, expert, weights, routed.inputs)
            _demand(
                f"{where}, expert {expert}: what it writes does not follow from its weights",
                error,
                own_size,
                model,
            )
            share = torch.where(routed.chosen == expert, routed.weights.float(), 0.0).sum(1, keepdim=True)
            summed, size = summed + share * made, size + (share * own_size).square()
        written = module(*_parts(routed)).float()
        _demand(
            f"{where}: its experts do not add up to what they write together",
            written - summed,
            size**0.5,
            model,
        )
    _demand_causal(where, routed.inputs.reshape(*ids.shape, -1), model)
    return activation, _beside(model, layer, routed, written)


def _first_run(model: ExpertModel, layer: int, ids: Tensor) -> Routed:
    """What reaches a layer of a model that nobody has run yet.

    Raises:
        ModelError: transformers itself cannot run it.
    """
    routing: Any = model.plain
    try:
        return routing.routed(ids, layer)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, IndexError) as error:
        if lacks_memory(error):
            raise
        raise ModelError(
            f"{model.name}: transformers itself cannot run the model on a few tokens ({type(error).__name__}: {error}). "
            "Wanted a model that runs; choose another."
        ) from error


def _computed_activation(model: ExpertModel, layer: int, inputs: Tensor) -> str:
    """The activation that the configuration names if expert 0 follows by it, else the one by which it follows best.

    Raises:
        ModelError: it follows by none.
    """
    module = model.module(layer)
    relative: dict[str, float] = {}
    for activation in ACTIVATIONS:
        error, size, _ = _expert_error(module, 0, _into(module, 0, activation, model.bits), inputs)
        relative[activation] = relative_error(error, size)
    best = min(relative, key=lambda activation: relative[activation])
    if relative[model.activation] <= _tolerance(model):
        return model.activation
    if not relative[best] <= _tolerance(model):
        raise ModelError(
            f"{model.name}: layer {layer}: what expert 0 writes does not follow from its weights by any of "
            f"{', '.join(sorted(ACTIVATIONS))} (relative error {relative[best]:.2g}); wanted experts "
            "down(act(gate x) · (up x)). Choose another model."
        )
    return best


def _expert_error(
    module: Any, expert: int, weights: MlpWeights, inputs: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The error of the recomputed output of one expert, the size of what is summed, and the output itself.

    The expert is called by the model's own code: every token is sent to it alone, with weight 1.
    """
    down, bias = _matrix(module, "down_proj", expert).float(), _bias(module, "down_proj", expert)
    neurons = weights.neurons(inputs.float())
    made = neurons @ down.T + (0.0 if bias is None else bias.float())
    alone = torch.full((len(inputs), 1), expert, device=inputs.device)
    theirs = module(inputs, alone, torch.ones_like(alone, dtype=inputs.dtype)).float()
    _, neuron_size, _ = neuron_error(weights, inputs, neurons)
    return theirs - made, (neuron_size.square() @ down.square().T).sqrt(), made


def _tolerance(model: ExpertModel) -> float:
    # two stages, each with four roundings in the model's own dtype and sums that are accumulated in float32 or wider, whose
    # error grows like a random walk (see `probekit.model.sites`)
    return 8 * torch.finfo(model.dtype).eps + (model.d_model + model.d_mlp) ** 0.5 * _FLOAT32_EPS


def _demand(claim: str, error: Tensor, size: Tensor, model: ExpertModel) -> None:
    relative = relative_error(error, size)
    if not relative <= _tolerance(model):  # NaN too
        raise ModelError(
            f"{claim}: relative error {relative:.2g}, wanted ≤ {_tolerance(model):.1g}. Choose another model."
        )


def _demand_causal(where: str, inputs: Float[Tensor, "doc pos input"], model: ExpertModel) -> None:
    """Documents 0 and 1 differ in their last token only."""
    _demand(
        f"{where}: a later token changes the MLP inputs of earlier ones, so padding would too",
        inputs[0, :-1] - inputs[1, :-1],
        inputs.abs(),
        model,
    )


def _beside(model: ExpertModel, layer: int, routed: Routed, written: Tensor) -> tuple[str, ...]:
    """What the layer writes beside its routed experts, in words; nothing where that is all.

    Raises:
        ModelError: it writes something else and has no shared expert that could have written it.
    """
    assert routed.written is not None
    rest = routed.written.float() - written
    share = relative_error(rest, routed.written)
    if share <= _tolerance(model):
        return ()
    routing: Any = model.plain
    if not any("shared" in name for name, _ in routing.outs[layer].named_children()):
        raise ModelError(
            f"{model.name}: layer {layer}: the MLP writes something else than its experts do together (relative distance "
            f"{share:.2g}). Choose another model."
        )
    said = (
        f"Beside the routed experts layer {layer} has a shared one, which is not looked at. On random tokens what is not of "
        f"routed experts has a root mean square of {share:.0%} of all that the layer writes."
    )
    return (said,)
