"""Do MLP inputs, weights and neurons that somebody brought along belong together?

A loaded model proves its sites on tokens of our choice (`probekit.model.sites`). Arrays come from somebody else's hooks,
where the slips are of another kind: the residual stream in place of the normed input, one token off, the weights of the
layer next door. All of them break act(x Wᵀ + b) = h, so that is demanded on a sample of tokens; where it fails, the usual
slips are tried one by one and the one that explains the neurons is named.
Axes: token neuron input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional

from probekit.errors import InputError
from probekit.model.sites import neuron_error, relative_error
from probekit.model.weights import ACTIVATIONS, MlpWeights

TOLERANCE = 2.0**-7
"""Relative error that is still rounding. Each rounding to bfloat16 leaves 2⁻⁸/√3 · 0.73 = 0.0016 on average; inputs,
weights and neurons rounded apart from each other, or the three roundings of a gated layer, leave 0.003. float16 and TF32
leave a tenth of that, so one tolerance does for all of them."""
EXACT = 1e-5
"""Relative error below which the arrays were computed in float32: 1e-7 a sum, times a random walk over 10⁴ summands."""
TOKEN_TOLERANCE = 2 * TOLERANCE
"""The same for a single token, whose few neurons scatter more."""
BLOCK = 8
"""Tokens are looked at in runs of so many neighbours, spread over all of them."""
N_LEAST, N_MOST = 256, 4_096
"""Tokens looked at: the most for layers so small that it costs nothing, the fewest for those of a large model."""
WORK = 5e9
"""Multiplications that make up the mind between the two; some tenths of a second."""
N_TRIED = 1_024
"""Tokens on which the usual slips are tried."""
N_TRIED_NEURONS = 128
"""Neurons on which they are tried."""
FITTED = 0.05
"""Error on tokens left out at which a slip with unknown numbers (a bias, a gain) counts as the explanation: no more than
this and a fifth of the error without it. What is no explanation leaves most of the error."""
N_SOUGHT = 16
"""Tokens whose neurons are sought among those of all others."""
N_FREE = 8
"""Neurons that are fitted afresh to see whether the inputs determine them at all."""
N_FREE_TOKENS = 16_384
"""Tokens at most for that; wider layers are not fitted afresh."""

Rows = Float32[Tensor, "token _"]


def prove_arrays(weights: MlpWeights, inputs: Rows, neurons: Rows) -> float:
    """Demand that neurons follow from inputs by the weights, on a sample of tokens.

    Args:
        weights: of the layer.
        inputs: what the MLP reads, Float[token input].
        neurons: Float[token neuron].

    Returns:
        The relative error found: some 1e-7 for arrays from float32, 0.003 for such from bfloat16.

    Raises:
        InputError: they do not; the message says what the mismatch looks like.
    """
    n_looked_at = int(np.clip(WORK / weights.n_params, N_LEAST, N_MOST))
    rows = _sampled(len(neurons), n_looked_at // BLOCK)
    error = _Error.of(weights, inputs[rows], neurons[rows])
    if error.all_ <= EXACT:
        return error.all_
    bad = rows[error.of_token > TOKEN_TOLERANCE]
    if error.all_ <= TOLERANCE and len(bad) == 0:
        _refuse_closer_activation(weights, inputs[rows], neurons[rows], error.all_)
        return error.all_
    equation = f"{weights.activation}(x Wᵀ + b){' · (x Vᵀ + c)' * weights.gated}"
    where = f"on {len(rows):,} sampled tokens"
    if 0 < len(bad) < len(rows):
        where = f"at {len(bad):,} of {len(rows):,} sampled tokens, the first of them token {int(bad[0]):,}"
    raise InputError(
        f"inputs, weights: the neurons do not follow from them by {equation} {where}: relative error {error.all_:.2g}, "
        f"wanted ≤ {TOLERANCE:.1g}, which is what 16-bit arithmetic leaves. "
        + _Slips(weights, inputs, neurons, bad, mostly=not 0 < len(bad) < 0.9 * len(rows)).explanation()
    )


def _sampled(n_tokens: int, n_blocks: int) -> Tensor:
    """Tokens in runs of neighbours, spread evenly."""
    starts = np.linspace(0, max(n_tokens - BLOCK, 0), n_blocks).astype(np.int64)
    rows = np.unique(starts[:, None] + np.arange(BLOCK))
    return torch.from_numpy(rows[rows < n_tokens])


@dataclass(frozen=True)
class _Error:
    """How far recomputed neurons are from those given, as a share of what was summed."""

    all_: float
    of_token: Tensor

    @classmethod
    def of(cls, weights: MlpWeights, inputs: Tensor, neurons: Tensor) -> _Error:
        error, size, _ = neuron_error(weights, inputs, neurons)
        # where the summands agree in sign the sum is larger than their random walk, and so is its rounding
        size = torch.maximum(size, neurons.abs())
        tiny = torch.finfo(torch.float32).tiny
        of_token = (error.square().mean(1) / size.square().mean(1).clamp_min(tiny)).sqrt()
        return cls(relative_error(error, size), of_token)


def _refuse_closer_activation(weights: MlpWeights, inputs: Tensor, neurons: Tensor, found: float) -> None:
    """Refuse an activation that is off by no more than 16 bits would be where another one fits much better.

    gelu and its tanh approximation differ by less than 5e-4.
    """
    for name in ACTIVATIONS:
        error = _Error.of(weights.with_activation(name), inputs, neurons).all_
        if error <= min(found / 4, 10 * EXACT):
            raise InputError(
                f"activation: got {weights.activation!r}, by which the neurons follow from inputs and weights with a "
                f"relative error of {found:.2g}; by {name!r} it is {error:.2g}. Pass activation={name!r}."
            )


class _Slips:
    """The usual slips, tried one after another on tokens that do not fit."""

    def __init__(
        self, weights: MlpWeights, inputs: Tensor, neurons: Tensor, bad: Tensor, *, mostly: bool
    ) -> None:
        self._all_inputs, self._all_neurons = inputs, neurons
        self._whole = weights
        # where many tokens fit, those that do not are asked
        tried = _sampled(len(neurons), N_TRIED // BLOCK) if mostly else bad[_spread(len(bad), N_TRIED)]
        kept = _spread(weights.n_neurons, N_TRIED_NEURONS)
        self._rows, self._kept = tried, kept
        self._weights = _of_neurons(weights, kept)
        self._x, self._h = inputs[tried], neurons[tried][:, kept]
        self._found = _Error.of(self._weights, self._x, self._h).all_

    def explanation(self) -> str:
        """The slip that explains the neurons, and what to do about it."""
        exact = [(self._error(w, x), told) for told, w, x in self._exact()]
        exact += [(relative_error(guess - self._h, self._h), told) for told, guess in self._halves()]
        error, told = min(exact, default=(np.inf, ""))
        if error <= TOKEN_TOLERANCE:
            return told
        for slip in (self._shifted, self._factor, self._reordered, self._columns, self._fitted, self._free):
            told = slip()
            if told:
                return told
        return (
            "None of the usual slips explains it: they seem to come from different places, such as two layers, models or "
            "texts. Wanted inputs as the MLP itself reads them (behind the norm), neurons as its output matrix reads them, "
            "and w_in, b_in of the same layer (a gated layer needs w_gate, b_gate too)."
        )

    def _error(self, weights: MlpWeights, inputs: Tensor) -> float:
        return _Error.of(weights, inputs, self._h).all_

    def _exact(self) -> Iterator[tuple[str, MlpWeights, Tensor]]:
        """Slips without an unknown number: what to say, weights and inputs as they then would have been."""
        w, x = self._weights, self._x
        for name in ACTIVATIONS:
            if name != w.activation:
                yield (
                    f"It looks as if the activation were another: they follow by {name!r}. Pass activation={name!r}.",
                    w.with_activation(name),
                    x,
                )
        for norm, normed in _normed(x):
            yield (
                (
                    f"It looks as if inputs came from before the norm: they follow from {norm} of inputs. Pass "
                    f"what the MLP reads, behind it."
                ),
                w,
                normed,
            )
        if bool(w.bias.any()):
            yield (
                "It looks as if the neurons had been computed without a bias. Pass b_in of zeros.",
                replace(
                    w,
                    b_in=torch.zeros_like(w.b_in),
                    b_gate=None if w.b_gate is None else torch.zeros_like(w.b_gate),
                ),
                x,
            )
        if self._whole.n_neurons == self._whole.d_model:
            turned = replace(
                self._whole,
                w_in=self._whole.w_in.T,
                w_gate=None if self._whole.w_gate is None else self._whole.w_gate.T,
            )
            yield (
                "It looks as if w_in were transposed. Pass it as [neuron, input]: w_in.T.",
                _of_neurons(turned, self._kept),
                x,
            )
        if w.w_gate is not None and w.b_gate is not None:
            yield (
                "It looks as if gate and linear half were exchanged. Pass (w_in, b_in, w_gate, b_gate).",
                replace(w, w_in=w.w_gate, b_in=w.b_gate, w_gate=w.w_in, b_gate=w.b_in),
                x,
            )
            yield (
                "It looks as if neurons were the activated gate only. Pass the product with the linear half.",
                replace(w, w_in=w.w_gate, b_in=w.b_gate, w_gate=None, b_gate=None),
                x,
            )
            yield (
                "It looks as if the layer were not gated. Pass (w_in, b_in) only.",
                replace(w, w_gate=None, b_gate=None),
                x,
            )

    def _halves(self) -> Iterator[tuple[str, Tensor]]:
        """What neurons are when they were read too early."""
        pre = self._weights.pre(self._x)
        n = self._weights.n_neurons
        early = "It looks as if neurons had been read before the activation{}. Pass what the layer's output matrix reads."
        if not self._weights.gated:
            yield early.format(""), pre
            return
        yield early.format(" (they are what goes into the gate)"), pre[:, :n]
        yield early.format(" (they are the linear half alone)"), pre[:, n:]

    def _shifted(self) -> str:
        """Whether the neurons follow from the inputs of a neighbouring token."""
        for by in (1, -1, 2, -2, 3, -3):
            rows = self._rows[(self._rows + by >= 0) & (self._rows + by < len(self._all_inputs))]
            if not len(rows):
                continue
            error = _Error.of(
                self._weights, self._all_inputs[rows + by], self._all_neurons[rows][:, self._kept]
            )
            # at a seam (a document's first token) the neighbour belongs to another text
            if float((error.of_token <= TOKEN_TOLERANCE).float().mean()) >= 0.5:
                return _off(by)
        return ""

    def _factor(self) -> str:
        guess = self._weights.neurons(self._x)
        factor = float((guess * self._h).sum() / guess.square().sum().clamp_min(1e-30))
        if relative_error(factor * guess - self._h, self._h) > TOKEN_TOLERANCE or abs(factor - 1) < TOLERANCE:
            return ""
        return (
            f"It looks as if neurons were {factor:.4g} times what the layer computes. Pass neither "
            f"scaled nor dropped-out neurons."
        )

    def _reordered(self) -> str:
        """Whether the neurons of a token are those of another one."""
        rows = self._rows[_spread(len(self._rows), N_SOUGHT)]
        guess = self._weights.neurons(self._all_inputs[rows])
        theirs = self._all_neurons[:, self._kept]
        distance = theirs.square().sum(1) - 2 * guess @ theirs.T + guess.square().sum(1)[:, None]
        nearest = distance.argmin(1)
        close = (theirs[nearest] - guess).square().sum(1).sqrt() <= TOKEN_TOLERANCE * guess.square().sum(
            1
        ).sqrt()
        close &= guess.abs().amax(1) > 0  # a token of silent neurons is near every other such token
        if int(close.sum()) < max(2, 0.75 * len(rows)) or bool((nearest == rows)[close].all()):
            return ""
        offsets = (nearest - rows)[close]
        usual = int(offsets.mode().values)
        if usual and float((offsets == usual).float().mean()) >= 0.75:
            return _off(-usual)
        moved = int((offsets != 0).nonzero()[0])
        token, other = int(rows[close][moved]), int(nearest[close][moved])
        return (
            f"It looks as if the tokens of inputs and neurons stood in different orders: inputs of token "
            f"{token:,} give the neurons "
            f"of token {other:,}. Bring both into one order."
        )

    def _columns(self) -> str:
        """Whether the neurons are those of the weights in another order."""
        rows = self._rows
        guess, given = self._whole.neurons(self._all_inputs[rows]), self._all_neurons[rows]
        # a few columns of what was given are sought among all recomputed ones
        sought = _spread(given.shape[1], N_SOUGHT)
        mine = given[:, sought]
        distance = mine.square().sum(0)[:, None] - 2 * mine.T @ guess + guess.square().sum(0)
        nearest = distance.argmin(1)
        close = (guess[:, nearest] - mine).square().sum(0).sqrt() <= TOKEN_TOLERANCE * mine.square().sum(
            0
        ).sqrt()
        close &= mine.abs().amax(0) > 0  # a silent neuron is like every other
        moved = close & (nearest != sought)
        if int(close.sum()) < max(2, 0.75 * len(sought)) or not bool(moved.any()):
            return ""
        column, row = int(sought[moved][0]), int(nearest[moved][0])
        return (
            f"It looks as if the columns of neurons and the rows of w_in stood in different orders: column "
            f"{column:,} is the neuron "
            f"of row {row:,}. Bring both into one order."
        )

    def _fitted(self) -> str:
        """Whether other biases, or a factor for every input dimension, explain the neurons."""
        if len(self._rows) < 4 * BLOCK:
            return ""
        bias = _Fit(self._weights, self._x, self._h, gain=False)
        if self._explains(bias.error):
            had, has = float(self._weights.bias.abs().max()), float(bias.bias.detach().abs().max())
            return (
                f"It looks as if the bias were another or missing: they follow with biases up to {has:.3g} "
                f"(those given reach "
                f"{had:.3g}). Pass the b_in of this layer."
            )
        if self._explains(_Fit(self._weights, self._x, self._h, gain=True).error):
            return (
                "It looks as if a factor for each input dimension were missing: the gain of the norm, "
                "which is part of inputs, or "
                "folded into w_in, but not both or neither. Pass inputs as the MLP reads them with the "
                "weights as they are stored."
            )
        for norm, normed in _normed(self._x):
            if self._explains(_Fit(self._weights, normed, self._h, gain=True).error):
                return (
                    f"It looks as if inputs came from before the norm: they follow from {norm} of inputs "
                    f"with some gain for each "
                    "dimension. Pass what the MLP reads, behind the norm."
                )
        return ""

    def _free(self) -> str:
        """Whether any weights at all lead from these inputs to these neurons."""
        few = _spread(len(self._kept), N_FREE)
        n_rows = 6 * self._whole.d_model  # half of them for the fit, half of those behind a kink
        if self._whole.gated or not 4 * BLOCK <= n_rows <= min(len(self._all_inputs), N_FREE_TOKENS):
            return ""
        rows = _spread(len(self._all_inputs), n_rows)
        weights, x = _of_neurons(self._weights, few), self._all_inputs[rows]
        h = self._all_neurons[rows][:, self._kept[few]]
        if not self._explains(_Fit(weights, x, h, gain=False, matrix=True).error):
            return ""
        return (
            "The inputs do determine these neurons, but by other weights. It looks as if w_in and b_in "
            "were those of another layer, "
            "checkpoint or order of neurons."
        )

    def _explains(self, error: float) -> bool:
        return error <= min(FITTED, self._found / 5)


class _Fit:
    """Unknown numbers of a slip, fitted on half of the tokens and judged on the others."""

    def __init__(
        self, weights: MlpWeights, x: Tensor, h: Tensor, *, gain: bool, matrix: bool = False
    ) -> None:
        judged = (torch.arange(len(x)) // BLOCK) % 2 == 1
        x_fit, h_fit = x[~judged], h[~judged]
        scale = h_fit.square().mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        weight = _linear_start(x_fit, h_fit) if matrix else weights.weight
        self.bias = weights.bias.clone().requires_grad_()
        self._gain = torch.ones(x.shape[1]).requires_grad_()
        free = [self.bias, *([self._gain] if gain else []), *([weight.requires_grad_()] if matrix else [])]
        search = torch.optim.LBFGS(
            free,
            max_iter=200 if matrix else 100,
            history_size=20,
            line_search_fn="strong_wolfe",
            tolerance_change=1e-12,
        )

        def loss() -> Tensor:
            search.zero_grad()
            value = ((self._computed(weights, weight, x_fit) - h_fit) / scale).square().mean()
            value.backward()
            return value

        with torch.enable_grad():
            search.step(loss)
        with torch.no_grad():
            error = self._computed(weights, weight, x[judged]) - h[judged]
        self.error = relative_error(error, h[judged])

    def _computed(self, weights: MlpWeights, weight: Tensor, x: Tensor) -> Tensor:
        pre = functional.linear(x * self._gain, weight, self.bias)
        act = ACTIVATIONS[weights.activation]
        if not weights.gated:
            return act(pre)
        return act(pre[:, : weights.n_neurons]) * pre[:, weights.n_neurons :]


def _linear_start(x: Tensor, h: Tensor) -> Tensor:
    """Weights of the best linear map, from which those of the layer are found."""
    centred = x - x.mean(0)
    ridge = 1e-4 * centred.square().sum() / len(centred.T) * torch.eye(len(centred.T))
    return torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (h - h.mean(0))).T.contiguous()


def _normed(x: Tensor) -> list[tuple[str, Tensor]]:
    rms = x.square().mean(1, keepdim=True).add(1e-6).rsqrt()
    return [("the layer norm", functional.layer_norm(x, x.shape[1:])), ("the RMS norm", x * rms)]


def _of_neurons(weights: MlpWeights, kept: Tensor) -> MlpWeights:
    return replace(
        weights, w_in=weights.w_in[kept], b_in=weights.b_in[kept],
        w_gate=None if weights.w_gate is None else weights.w_gate[kept],
        b_gate=None if weights.b_gate is None else weights.b_gate[kept],
    )  # fmt: skip


def _spread(n: int, most: int) -> Tensor:
    """Indices spread evenly, all of them where they are few."""
    return torch.arange(n) if n <= most else torch.arange(most) * n // most


def _off(by: int) -> str:
    word = "token" if abs(by) == 1 else "tokens"
    late = "behind" if by > 0 else "before"
    return (
        f"It looks as if inputs were {abs(by):,} {word} off: the neurons of a token follow from the inputs "
        f"{abs(by):,} {word} {late} "
        "it. Align both (a start mark counted in one of them only?)."
    )
