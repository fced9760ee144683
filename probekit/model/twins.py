"""Random twins of an MLP layer: what it would do on the same inputs if its weights had not been learned.

* PC-sign twin (the default): x̃ = μ + U diag(±1) Uᵀ (x − μ), U the eigenvectors of the input covariance, one sign vector a
  twin, the same for gate and linear half. Every pre-activation keeps its mean and the whole pre-activation covariance is
  kept, so what the twin reads well for reasons of second moments the layer may not claim. The input's linear
  readability is untouched: x̃ is an orthogonal image of x.
* Isotropic twin: Gaussian rows of the same norm (sign flips of one draw), bias moved to the same firing rate. It flags any
  layer that merely avoids high-variance directions, so it is reported and decides nothing.
* Channel-shuffle twin: what each concept's presence adds to the pre-activations (by least squares on all labels) is moved to
  other neurons, concept by concept. Every concept is read as strongly as before, and by as many neurons; which concepts
  meet on a neuron is by chance. It asks for selectivity, and it does not keep the pre-activation covariance.
* Untrained model: the whole model with its architecture's initial weights; its inputs are untrained as well.
* Linearised layer: each neuron replaced by its least-squares line in its own pre-activations (a plane in a gated layer).

The frame (μ, U) and the firing rates are taken on a calibration sample of inputs. Axes: token neuron input.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probekit.errors import InputError
from probekit.model.encoders import layout_of
from probekit.model.folder import bare_folder
from probekit.model.hooked_model import HookedModel, load_hooked_model, one_at_a_time
from probekit.model.sign_products import SignFlipped
from probekit.model.weights import MlpWeights

LABEL_RIDGE = 1e-3
"""Ridge on each label in the regression of the inputs on all labels, relative to the label's own variance."""
RATE_TOKENS = 8_192
"""Tokens on which firing rates are matched (a rate is then known to half a percent) and neurons are linearised."""


@dataclass(frozen=True)
class InputFrame:
    """Mean and principal directions of a layer's inputs."""

    mean: Float[Tensor, " input"]
    """Mean input, fp32."""
    directions: Float[Tensor, "input input"]
    """Eigenvectors of the covariance in columns, fp32."""
    variance: Float[Tensor, " input"]
    """Variance along each direction."""

    @classmethod
    def of(cls, inputs: Float[Tensor, "token input"]) -> InputFrame:
        """The frame of a sample, in fp64."""
        x = inputs.double()
        mean = x.mean(0)
        centred = x - mean
        variance, directions = torch.linalg.eigh(centred.T @ centred / len(x))
        return cls(mean.float(), directions.float(), variance.clamp_min(0).float())


@dataclass(frozen=True)
class PcSignTwins:
    """R covariance-preserving twins of one layer."""

    weights: MlpWeights
    """The layer's own weights."""
    frame: InputFrame
    """Frame of its inputs."""
    signs: Float[Tensor, "twin input"]
    """±1 along each principal direction."""

    @classmethod
    def draw(
        cls, weights: MlpWeights, frame: InputFrame, n_twins: int, rng: np.random.Generator
    ) -> PcSignTwins:
        """Draw R sign vectors."""
        signs = rng.integers(0, 2, size=(n_twins, weights.d_model)) * 2.0 - 1.0
        return cls(weights, frame, torch.from_numpy(signs).float().to(weights.device))

    def twin_inputs(self, inputs: Float[Tensor, "token input"], twin: int) -> Float[Tensor, "token input"]:
        """x̃ of one twin."""
        frame = self.frame
        return frame.mean + ((inputs - frame.mean) @ frame.directions * self.signs[twin]) @ frame.directions.T

    def neurons(
        self, inputs: Float[Tensor, "token input"], which: Sequence[int] | None = None
    ) -> Iterator[Float[Tensor, "token neuron"]]:
        """Neurons of each twin in turn, or of some of them."""
        return (neurons for _, neurons in self.activations(inputs, which, with_pre=False))

    def activations(
        self,
        inputs: Float[Tensor, "token input"],
        which: Sequence[int] | None = None,
        *,
        with_pre: bool = True,
    ) -> Iterator[tuple[Float[Tensor, "token half"] | None, Float[Tensor, "token neuron"]]]:
        """Pre-activations (where wanted) and neurons of each twin in turn, or of some of them, in ascending order.

        Twins that stand together in `signs` share products (`probekit.model.sign_products`).
        """
        return self._flipped.activations(self._rotated(inputs), which, with_pre=with_pre)

    def columns(
        self,
        inputs: Float[Tensor, "token input"],
        which: Sequence[int] | None = None,
        *,
        with_pre: bool = True,
    ) -> Iterator[tuple[Float[Tensor, "half token"] | None, Float[Tensor, "neuron token"]]]:
        """As `activations`, with each neuron's tokens side by side."""
        return self._flipped.columns(self._rotated(inputs), which, with_pre=with_pre)

    def _rotated(self, inputs: Tensor) -> Tensor:
        return (inputs - self.frame.mean) @ self.frame.directions

    @cached_property
    def _flipped(self) -> SignFlipped:
        bias = self.weights.weight @ self.frame.mean + self.weights.bias
        into_frame = self.frame.directions.T @ self.weights.weight.T
        return SignFlipped(self.signs, into_frame, bias.expand(len(self.signs), -1), self.weights)


@dataclass(frozen=True)
class IsotropicTwins:
    """R layers of Gaussian rows with the layer's norms and firing rates; sign flips of one draw, so they share products.

    A Gaussian row whose coordinates change their signs is a Gaussian row again.
    """

    weights: MlpWeights
    """The layer's own weights."""
    rows: Float[Tensor, "half input"]
    """The draw (gate first in a gated layer)."""
    signs: Float[Tensor, "twin input"]
    """±1 for each input."""
    bias: Float[Tensor, "twin half"]
    """The bias that keeps each neuron's share of positive (gate) pre-activations on the sample."""

    @classmethod
    def draw(
        cls,
        weights: MlpWeights,
        sample: Float[Tensor, "token input"],
        n_twins: int,
        rng: np.random.Generator,
    ) -> IsotropicTwins:
        """Draw R of them.

        Args:
            weights: the layer's own.
            sample: inputs on which firing rates are matched; the first `RATE_TOKENS` are taken.
            n_twins: R.
            rng: of rows and signs.
        """
        few, own = sample[:RATE_TOKENS], weights.weight
        drawn = torch.from_numpy(rng.standard_normal(tuple(own.shape))).float().to(own.device)
        rows = drawn * (own.norm(dim=1) / drawn.norm(dim=1)).unsqueeze(1)
        signs = rng.integers(0, 2, size=(n_twins, weights.d_model)) * 2.0 - 1.0
        signs = torch.from_numpy(signs).float().to(own.device)
        # the gate decides whether a gated neuron fires; it stands first
        n = weights.n_neurons
        rate = ((few @ own[:n].T + weights.bias[:n]) > 0).float().mean(0)
        place = ((1 - rate) * (len(few) - 1)).long().clamp(0, len(few) - 1).unsqueeze(1)
        bias = weights.bias.repeat(n_twins, 1)
        for r, sign in enumerate(signs):
            # numpy sorts rows some thirty times as fast as torch sorts columns
            pre = np.sort(((rows[:n] * sign) @ few.T).cpu().numpy(), axis=1)
            bias[r, :n] = -torch.from_numpy(pre).to(own.device).gather(1, place)[:, 0]
        return cls(weights, rows, signs, bias)

    def neurons(
        self, inputs: Float[Tensor, "token input"], which: Sequence[int] | None = None
    ) -> Iterator[Float[Tensor, "token neuron"]]:
        """Neurons of each twin in turn, or of some of them, in ascending order."""
        return (neurons for _, neurons in self._flipped.activations(inputs, which, with_pre=False))

    def columns(
        self, inputs: Float[Tensor, "token input"], which: Sequence[int] | None = None
    ) -> Iterator[Float[Tensor, "neuron token"]]:
        """As `neurons`, with each neuron's tokens side by side."""
        return (neurons for _, neurons in self._flipped.columns(inputs, which, with_pre=False))

    def of(self, twin: int) -> MlpWeights:
        """One of them as a layer of its own."""
        rows, bias, n = self.rows * self.signs[twin], self.bias[twin], self.weights.n_neurons
        gate = {"w_gate": rows[:n], "b_gate": bias[:n]} if self.weights.gated else {}
        return replace(self.weights, w_in=rows[-n:], b_in=bias[-n:], **gate)

    @cached_property
    def _flipped(self) -> SignFlipped:
        return SignFlipped(self.signs, self.rows.T.contiguous(), self.bias, self.weights)


@dataclass(frozen=True)
class ChannelShuffle:
    """One layer whose concepts' channels are shuffled independently of each other."""

    weights: MlpWeights
    """The layer's own weights."""
    moves: Float[Tensor, "concept row"]
    """What the presence of each concept adds to each pre-activation (gate first in a gated layer)."""

    def neurons(
        self, inputs: Float[Tensor, "token input"], labels: Float[Tensor, "token concept"]
    ) -> Float[Tensor, "token neuron"]:
        """Neurons of the twin.

        Args:
            inputs: the MLP inputs.
            labels: labels of the same tokens, 0 or 1.
        """
        return self.weights.activate(self.weights.pre(inputs) + labels @ self.moves)

    def columns(
        self, inputs: Float[Tensor, "token input"], labels: Float[Tensor, "token concept"]
    ) -> Float[Tensor, "neuron token"]:
        """As `neurons`, with each neuron's tokens side by side."""
        pre = self.weights.pre_columns(inputs).addmm_(self.moves.T, labels.T)
        return self.weights.activate(*pre.split(self.weights.n_neurons))


def concept_directions(
    inputs: Float[Tensor, "token input"], labels: Float[Tensor, "token concept"]
) -> Float[Tensor, "concept input"]:
    """What each concept adds to the input beside all others: least squares of the input on the labels.

    A ridge of `LABEL_RIDGE` of each label's own variance settles concepts that determine each other.
    """
    x, labels = inputs.double(), labels.double()
    x, labels = x - x.mean(0), labels - labels.mean(0)
    gram = labels.T @ labels
    spread = gram.diagonal()
    gram = gram + torch.diag(
        LABEL_RIDGE * spread + (spread <= 0).double()
    )  # a concept that never varies moves nothing
    return torch.linalg.solve(gram, labels.T @ x).float()


def channel_shuffle(
    weights: MlpWeights, directions: Float[Tensor, "concept input"], rng: np.random.Generator
) -> ChannelShuffle:
    """Deal each concept's vector over the neurons anew; the same permutation for gate and linear half."""
    vectors = directions @ weights.weight.T
    n = weights.n_neurons
    order = np.stack([rng.permutation(n) for _ in range(len(vectors))])
    places = np.concatenate([order + half * n for half in range(vectors.shape[1] // n)], axis=1)
    dealt = vectors.gather(1, torch.from_numpy(places).to(vectors.device))
    return ChannelShuffle(weights, dealt - vectors)


@dataclass(frozen=True)
class LinearLayer:
    """An affine map standing in for a layer."""

    weight: Float[Tensor, "neuron input"]
    """What each linearised neuron reads."""
    bias: Float[Tensor, " neuron"]
    """Its constant."""

    def neurons(self, inputs: Float[Tensor, "token input"]) -> Float[Tensor, "token neuron"]:
        """Linearised neurons."""
        return inputs @ self.weight.T + self.bias

    def columns(self, inputs: Float[Tensor, "token input"]) -> Float[Tensor, "neuron token"]:
        """Linearised neurons, each neuron's tokens side by side."""
        return torch.addmm(self.bias[:, None], self.weight, inputs.T)


def linearised(weights: MlpWeights, sample: Float[Tensor, "token input"]) -> LinearLayer:
    """Least-squares line of each neuron in its own pre-activations over the sample's first `RATE_TOKENS`."""
    sample = sample[:RATE_TOKENS]
    pre = weights.pre(sample).double()
    target = weights.activate(pre.float()).double()
    target_mean = target.mean(0)
    target = target - target_mean
    n = weights.n_neurons
    first = pre[:, :n] - pre[:, :n].mean(0)
    s11, t1 = (first**2).sum(0), (first * target).sum(0)
    if weights.w_gate is None:
        slope = torch.where(s11 > 0, t1 / s11.clamp_min(1e-30), 0.0)
        weight = slope.unsqueeze(1) * weights.w_in.double()
    else:
        second = pre[:, n:] - pre[:, n:].mean(0)
        s22, s12, t2 = (second**2).sum(0), (first * second).sum(0), (second * target).sum(0)
        determinant = s11 * s22 - s12**2
        safe = determinant > 1e-12 * s11 * s22
        determinant = torch.where(safe, determinant, 1.0)
        on_gate = torch.where(safe, (s22 * t1 - s12 * t2) / determinant, 0.0)
        on_linear = torch.where(safe, (s11 * t2 - s12 * t1) / determinant, 0.0)
        weight = (
            on_gate.unsqueeze(1) * weights.w_gate.double() + on_linear.unsqueeze(1) * weights.w_in.double()
        )
    bias = target_mean - weight @ sample.double().mean(0)
    return LinearLayer(weight.float(), bias.float())


@one_at_a_time
def random_model(model: Any, *, seed: int) -> HookedModel:
    """A model of the same architecture that was never trained: embedding, attention and MLPs as they are initialised.

    Args:
        model: a name or folder; only its configuration is read.
        seed: of the weights.

    Raises:
        InputError: the model is an object, whose initialisation is not known.
        ModelError: the architecture cannot be loaded.
    """
    from transformer_lens.tools.analysis.interchange import random_init_bridge
    from transformers import AutoConfig, AutoModel

    if not isinstance(model, str | Path):
        raise InputError(
            f"model: got a {type(model).__name__}; an untrained model is made from a name or folder, which tells how the "
            "architecture is initialised. Save the model, or leave the untrained models out."
        )
    # the model library prints where it moves the model
    with bare_folder(str(model)) as (folder, tokenizer), redirect_stdout(StringIO()):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if layout_of(config) is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)  # noqa: TID251 - transformers draws from the global generator
                return load_hooked_model(AutoModel.from_config(config), device="cpu", tokenizer=tokenizer)
        bridge = random_init_bridge(str(folder), seed=seed, tokenizer=copy.deepcopy(tokenizer), device="cpu")
    bridge.original_model.requires_grad_(False)
    return load_hooked_model(bridge)
