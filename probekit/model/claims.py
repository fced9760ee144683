"""Claims about a layer as numbers at tokens: directions, latents of a dictionary, and what a recipe finds.

A claim is evaluated on a layer *at work*: its inputs, neurons, outputs and the residual stream behind it. A null layer at
work has its own neurons and outputs, and a residual stream in which they stand in place of the layer's; so the same claim
can be read off both. Axes: token claim neuron input output latent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probekit.errors import InputError, NonFiniteError, ProbekitError, ShapeError
from probekit.model.dictionaries import Dictionary
from probekit.model.dictionaries.processing import Processing
from probekit.model.weights import MlpWeights

Place = Literal["input", "neuron", "output", "after"]
"""Where a claim is read: MLP input, neurons, MLP output, residual stream behind the layer."""
_SITES: dict[str, Place] = {
    r"mlp\.hook_in": "input",
    r"mlp\.out\.hook_in|mlp\.hook_post": "neuron",
    r"mlp\.hook_out|hook_mlp_out": "output",
    r"hook_resid_post|hook_out": "after",
}


@dataclass(frozen=True, eq=False)
class AtWork:
    """A layer, or a null layer in its place, on some tokens."""

    inputs: Float[Tensor, "token input"]
    """What it reads."""
    neurons: Float[Tensor, "token neuron"]
    """Its neurons."""
    outputs: Float[Tensor, "token output"] | None
    """What it writes; None where its output weights are not known."""
    after: Float[Tensor, "token output"] | None
    """The residual stream behind it; None where no claim is read there."""

    def at(self, place: Place) -> Tensor:
        """Activations at one place."""
        held = {"input": self.inputs, "neuron": self.neurons, "output": self.outputs, "after": self.after}[
            place
        ]
        if held is None:
            raise InputError(
                f"claims at {place!r}: the layer's output weights are not known; claim directions of its neurons."
            )
        return held


@dataclass(frozen=True, eq=False)
class Works:
    """How a layer works: weights in and out."""

    weights: MlpWeights
    """What acts at its neurons."""
    writes: Float[Tensor, "neuron output"] | None = None
    """What each neuron writes."""
    constant: Float[Tensor, " output"] | None = None
    """What the layer writes by itself; None for nothing."""

    def on(
        self, inputs: Float[Tensor, "token input"], before: Float[Tensor, "token output"] | None = None
    ) -> AtWork:
        """The layer at work.

        Args:
            inputs: what it reads; of a null layer, its own.
            before: the residual stream behind the layer less what the layer writes, where claims are read there.
        """
        return self.from_pre(inputs, self.weights.pre(inputs), before)

    def from_pre(
        self,
        inputs: Float[Tensor, "token input"],
        pre: Float[Tensor, "token half"],
        before: Float[Tensor, "token output"] | None = None,
    ) -> AtWork:
        """The same from pre-activations that are known.

        Args:
            inputs: what it reads.
            pre: what it makes of them, the gate first.
            before: as in `on`.
        """
        neurons = self.weights.activate(pre)
        outputs = None
        if self.writes is not None:
            outputs = neurons @ self.writes
            outputs = outputs if self.constant is None else outputs + self.constant
        if before is None:
            return AtWork(inputs, neurons, outputs, None)
        assert outputs is not None
        return AtWork(inputs, neurons, outputs, before + outputs)


@runtime_checkable
class Claims(Protocol):
    """Some claims about one layer."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of each claim."""
        ...

    @property
    def place(self) -> Place:
        """Where they are read."""
        ...

    def values(self, layer: AtWork) -> Float[Tensor, "token claim"]:
        """Each claim at each token."""
        ...

    def take(self, claim: int) -> Claims:
        """One of them."""
        ...


@dataclass(frozen=True, eq=False)
class ClaimedDirections:
    """Directions of the neurons or of the output."""

    names: tuple[str, ...]
    """Of each direction."""
    place: Place
    """"neuron" or "output"."""
    directions: Float[Tensor, "claim width"]
    """One row each."""

    def values(self, layer: AtWork) -> Float[Tensor, "token claim"]:
        """Projections."""
        return layer.at(self.place) @ self.directions.T

    def take(self, claim: int) -> ClaimedDirections:
        """One of them."""
        return replace(
            self, names=self.names[claim : claim + 1], directions=self.directions[claim : claim + 1]
        )


@dataclass(frozen=True, eq=False)
class ClaimedLatents:
    """Latents of a dictionary that another library trained."""

    names: tuple[str, ...]
    """Of each latent."""
    place: Place
    """Where the dictionary reads."""
    dictionary: Dictionary
    """Its encoder."""
    processing: Processing
    """What is done to the activations first."""
    latents: tuple[int, ...]
    """Which ones."""

    def values(self, layer: AtWork) -> Float[Tensor, "token claim"]:
        """Activations of the latents."""
        return self.dictionary.encode(self.processing.apply(layer.at(self.place)))[:, list(self.latents)]

    def take(self, claim: int) -> ClaimedLatents:
        """One of them; the encoder is cut down to it where latents do not compete."""
        dictionary, latent = self.dictionary, self.latents[claim]
        names = self.names[claim : claim + 1]
        if dictionary.k is not None:
            return replace(self, names=names, latents=(latent,))
        one = slice(latent, latent + 1)
        parts: dict[str, Any] = {"w_enc": dictionary.w_enc[:, one], "b_enc": dictionary.b_enc[one]}
        for name in ("threshold", "gate_bias", "gain", "norms", "out_norms"):
            held: Tensor | None = getattr(dictionary, name)
            parts[name] = None if held is None else held[one]
        return replace(self, names=names, latents=(0,), dictionary=replace(dictionary, **parts))


Encode = Callable[[np.ndarray], np.ndarray]
"""Activations [token width] → claims [token claim]."""
Recipe = Callable[[np.ndarray], "np.ndarray | Encode"]
"""Activations of the fit half → directions [claim width], or a function that encodes activations."""


@dataclass(frozen=True, eq=False)
class ClaimedByRecipe:
    """What a recipe made of one layer's activations."""

    names: tuple[str, ...]
    """Of each claim."""
    place: Place
    """Where it reads."""
    encode: Encode
    """What it found."""
    only: int | None = None
    """One claim; None for all."""

    @classmethod
    def fitted(cls, recipe: Recipe, place: Place, layer: AtWork) -> ClaimedByRecipe:
        """Let the recipe see a layer's activations on the fit half.

        Raises:
            InputError: it fails.
            ShapeError: it returns neither directions of this width nor a function that gives numbers at every token.
        """
        rows = layer.at(place).cpu().numpy()
        try:
            made: Any = recipe(rows.copy())
        except ProbekitError:
            raise
        except Exception as error:  # whatever the user's function raises
            raise InputError(
                f"recipe: it raised {type(error).__name__}: {error}. It is given activations of shape {rows.shape}, "
                "[token width], of the layer and of every null layer; fix it."
            ) from error
        if not callable(made):
            directions = np.asarray(made, np.float32)
            if directions.ndim != 2 or directions.shape[1] != rows.shape[1]:
                raise ShapeError(
                    f"recipe: returned an array of shape {directions.shape}, wanted (claim, {rows.shape[1]}) directions "
                    "or a function of activations."
                )
            made = _Projection(directions)
        encode: Any = made
        found = np.asarray(encode(rows[:1]))
        if found.ndim != 2 or len(found) != 1 or not found.shape[1]:
            raise ShapeError(
                f"recipe: its function returned shape {found.shape} for one token, wanted (token, claim)."
            )
        return cls(tuple(f"found {i}" for i in range(found.shape[1])), place, encode)

    def values(self, layer: AtWork) -> Float[Tensor, "token claim"]:
        """What the recipe's encoder gives."""
        found = np.asarray(self.encode(layer.at(self.place).cpu().numpy()), np.float32)
        if not np.isfinite(found).all():
            raise NonFiniteError("recipe: its function returned NaN or infinity; wanted finite numbers.")
        return torch.from_numpy(found if self.only is None else found[:, [self.only]])

    def take(self, claim: int) -> ClaimedByRecipe:
        """One of them."""
        return replace(self, names=self.names[claim : claim + 1], only=claim)


@dataclass(frozen=True)
class _Projection:
    directions: np.ndarray

    def __call__(self, activations: np.ndarray) -> np.ndarray:
        return activations @ self.directions.T


def claimed_directions(
    directions: Any, *, place: Place | None, n_neurons: int, d_output: int, names: Sequence[str] | None
) -> ClaimedDirections:
    """Directions as a user gives them: one, or one a row.

    Args:
        directions: array of the width of the neurons or of the output.
        place: which of the two; None lets the width decide.
        n_neurons: neurons of the layer.
        d_output: width of the output.
        names: of the directions; None numbers them.

    Raises:
        ShapeError: another width, or the two widths are one and no place is named.
        InputError: a direction of the input, whose claim is there before the layer acts.
        NonFiniteError: NaN, infinity or a direction of zeros.
    """
    if place == "input":
        raise InputError(
            "space: got 'input'; a direction of a layer's input is there before the layer acts. Claim it of the layer "
            "before (space='output'), or as a pair of concepts of this one."
        )
    rows = np.atleast_2d(np.asarray(directions, np.float32))
    widths: dict[Place, int] = {"neuron": n_neurons, "output": d_output}
    fits: list[Place] = [name for name, width in widths.items() if rows.ndim == 2 and rows.shape[-1] == width]
    chosen = place or (fits[0] if len(fits) == 1 else None)
    if chosen is None or chosen not in fits:
        raise ShapeError(
            f"claim: directions of shape {rows.shape}, wanted (claim, {n_neurons}) for neurons or (claim, {d_output}) for "
            "the output; name the space where both are one."
        )
    if not np.isfinite(rows).all() or not rows.any(1).all():
        raise NonFiniteError(
            "claim: a direction is all zeros, or holds NaN or infinity; wanted finite directions."
        )
    if names is not None and len(names) != len(rows):
        raise InputError(f"names: got {len(names)} for {len(rows)} directions, wanted one each.")
    told = tuple(names) if names is not None else tuple(f"direction {i}" for i in range(len(rows)))
    return ClaimedDirections(told, chosen, torch.from_numpy(rows))


def place_of_site(site: str, layer: int) -> Place:
    """Which place of a layer a hook is.

    Args:
        site: name of a hook of the bridge.
        layer: the layer that is audited.

    Raises:
        InputError: the hook is none of this layer's places.
    """
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", site)
    if found is not None:
        index, rest = int(found[1]), found[2]
        if rest == "hook_resid_pre" and index == layer + 1:
            return "after"
        for pattern, place in _SITES.items():
            if index == layer and re.fullmatch(pattern, rest):
                return place
    raise InputError(
        f"the dictionary reads {site!r}, which is no place of layer {layer}'s MLP; wanted its input, neurons or output, "
        f"or the residual stream right behind it. Audit the layer that it belongs to."
    )
