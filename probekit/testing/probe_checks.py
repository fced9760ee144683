"""`check_probe`: the battery for anyone's probe.

A probe here is what scikit-learn calls a binary classifier: `fit(X, y)`, `decision_function(X)`, `predict(X)`, with X
Float[token neuron] and y one of two labels a token. Each check is one sentence that should hold of any probe whose numbers
are to be believed; each has a name, so that a probe that cannot keep one by its nature can say so (`without=`).
Axes: token neuron.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probekit.errors import InputError

N_TOKENS, N_NEURONS, N_HELD = 500, 24, 500
AGREE = 0.99
"""Share of decisions that must agree where an iterative solver may stop elsewhere: one token in a hundred lies so close to
the boundary that its side is rounding."""
CLOSE = 1e-6
"""Relative difference of scores that rounding alone explains, for sums of some hundred terms in float64."""


class ProbeCheckError(AssertionError):
    """A probe broke one of the checks."""


@dataclass(frozen=True)
class Bench:
    """A probe on the bench: fresh copies of it, and tokens with a label that neurons 3, 11 and 17 read."""

    probe: Any
    """The probe, not fitted."""
    seed: int
    """Of the tokens."""

    def fresh(self) -> Any:
        """A copy that was never fitted."""
        return copy.deepcopy(self.probe)

    @cached_property
    def rng(self) -> np.random.Generator:
        """Of whatever a check draws."""
        return np.random.default_rng([self.seed, 9])

    def tokens(self, part: int, n_tokens: int, share: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
        """Activations [token neuron] and labels [token]."""
        rng = np.random.default_rng([self.seed, part])
        y = rng.random(n_tokens) < share
        x = rng.standard_normal((n_tokens, N_NEURONS))
        for neuron, strength in ((3, 2.5), (11, -2.0), (17, 1.5)):
            x[:, neuron] += strength * y
        return x, y.astype(int)

    @cached_property
    def x(self) -> np.ndarray:
        """Activations to fit on."""
        return self.tokens(0, N_TOKENS)[0]

    @cached_property
    def y(self) -> np.ndarray:
        """Their labels."""
        return self.tokens(0, N_TOKENS)[1]

    @cached_property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """Activations and labels the probe never saw."""
        return self.tokens(1, N_HELD)

    @cached_property
    def fitted(self) -> Any:
        """The probe fitted on x and y; no check changes it."""
        return self.fresh().fit(self.x.copy(), self.y.copy())

    @cached_property
    def scores(self) -> np.ndarray:
        """Its scores on the held tokens."""
        return np.array(self.fitted.decision_function(self.test[0]))

    def scored(self, x: Any, y: Any, on: Any = None) -> np.ndarray:
        """Scores of a fresh probe fitted on x and y."""
        return np.asarray(self.fresh().fit(x, y).decision_function(self.test[0] if on is None else on))


Check = Callable[[Bench], bool]


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.abs(a - b).max() <= CLOSE * (1 + np.abs(b).max()))


def _agree(a: np.ndarray, b: np.ndarray) -> bool:
    return float(((a > 0) == (b > 0)).mean()) >= AGREE


def _refuses(work: Callable[[], object]) -> bool:
    try:
        work()
    except ValueError:  # ours are ValueErrors, too, and so is scikit-learn's NotFittedError
        return True
    return False


def _auc(scores: np.ndarray, y: np.ndarray) -> float:
    rank = np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    n_positive = int(y.sum())
    return float(
        (rank[y == 1].sum() - n_positive * (n_positive - 1) / 2) / (n_positive * (len(y) - n_positive))
    )


def _read_only(values: np.ndarray) -> np.ndarray:
    out = values.copy()
    out.flags.writeable = False
    return out


def _memmap(b: Bench) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        mapped = np.memmap(Path(folder) / "x", np.float64, "w+", shape=b.x.shape)
        mapped[:] = b.x
        mapped.flush()
        return _close(
            b.scored(np.memmap(Path(folder) / "x", np.float64, "r", shape=b.x.shape), b.y), b.scores
        )


def _leaves(change: Callable[[Bench], object], look: Callable[[], bytes]) -> Check:
    def check(b: Bench) -> bool:
        before = look()
        change(b)
        return look() == before

    return check


def _numpy_state() -> bytes:
    return str(np.random.get_state()).encode()  # noqa: NPY002 - the global generator is what must not be touched


def _torch_state() -> bytes:
    return torch.get_rng_state().numpy().tobytes()


def _unchanged(which: str) -> Check:
    def check(b: Bench) -> bool:
        given = {"x": b.x.copy(), "y": b.y.copy()}
        b.fresh().fit(given["x"], given["y"])
        return np.array_equal(given[which], getattr(b, which))

    return check


def _kept_apart(which: int) -> Check:
    """Changing what was given to fit does not change the fitted probe."""

    def check(b: Bench) -> bool:
        given = [b.x.copy(), b.y.copy()]
        probe = b.fresh().fit(*given)
        given[which][:] = 0
        return _close(np.asarray(probe.decision_function(b.test[0])), b.scores)

    return check


def _permuted_neurons(b: Bench) -> bool:
    order = b.rng.permutation(N_NEURONS)
    return _agree(b.scored(b.x[:, order], b.y, b.test[0][:, order]), b.scores)


def _permuted_tokens(b: Bench) -> bool:
    order = b.rng.permutation(N_TOKENS)
    return _agree(b.scored(b.x[order], b.y[order]), b.scores)


def _spoiled(b: Bench, value: float) -> np.ndarray:
    x = b.x.copy()
    x[7, 5] = value
    return x


def _with_column(x: np.ndarray, column: np.ndarray | float) -> np.ndarray:
    return np.concatenate([x, np.broadcast_to(column, (len(x),))[:, None]], 1)


def _returned_scores_are_copies(b: Bench) -> bool:
    first = np.asarray(b.fitted.decision_function(b.test[0]))
    if first.flags.writeable:
        first[:] = 0
    return _close(np.asarray(b.fitted.decision_function(b.test[0])), b.scores)


def _rare(b: Bench) -> bool:
    x, y = b.tokens(2, 4 * N_TOKENS, share=0.03)
    test, truth = b.tokens(3, 4 * N_HELD, share=0.03)
    guess = b.scored(x, y, test) > 0
    return bool((guess[truth == 1].mean() + (~guess[truth == 0]).mean()) / 2 > 0.75)


def _no_signal(b: Bench) -> bool:
    # labels drawn apart from the activations: the AUC on unseen tokens has sd 0.028 here, five of them are allowed
    y = b.rng.integers(0, 2, N_TOKENS)
    return abs(_auc(b.scored(b.x, y), b.rng.integers(0, 2, N_HELD)) - 0.5) < 0.14


def _finite(x: Callable[[Bench], np.ndarray]) -> Check:
    return lambda b: bool(np.isfinite(b.scored(x(b), b.y, x(b))).all())


CHECKS: dict[str, Check] = {
    # fitting
    "fit returns the probe": lambda b: (probe := b.fresh()).fit(b.x, b.y) is probe,
    "fitting again changes nothing": lambda b: _close(
        np.asarray(b.fresh().fit(b.x, b.y).fit(b.x, b.y).decision_function(b.test[0])), b.scores
    ),
    "fitting on something else first changes nothing": lambda b: _close(
        np.asarray(b.fresh().fit(b.test[0], 1 - b.test[1]).fit(b.x, b.y).decision_function(b.test[0])), b.scores
    ),
    "two probes fitted alike are alike": lambda b: _close(b.scored(b.x, b.y), b.scores),
    "fit leaves the activations as they were": _unchanged("x"),
    "fit leaves the labels as they were": _unchanged("y"),
    "the probe keeps no hold on the activations": _kept_apart(0),
    "the probe keeps no hold on the labels": _kept_apart(1),
    "fit draws nothing from numpy's global generator": _leaves(lambda b: b.scored(b.x, b.y), _numpy_state),
    "fit draws nothing from torch's global generator": _leaves(lambda b: b.scored(b.x, b.y), _torch_state),
    # memory layouts and types
    "read-only activations are accepted": lambda b: _close(b.scored(_read_only(b.x), b.y), b.scores),
    "read-only labels are accepted": lambda b: _close(b.scored(b.x, _read_only(b.y)), b.scores),
    "activations on disk are accepted": _memmap,
    "column-major activations are the same": lambda b: _close(b.scored(np.asfortranarray(b.x), b.y), b.scores),
    "every other row of an array is the same": lambda b: _close(
        b.scored(np.repeat(b.x, 2, 0)[::2], np.repeat(b.y, 2)[::2]), b.scores
    ),
    "float32 activations decide alike": lambda b: _agree(b.scored(b.x.astype(np.float32), b.y), b.scores),
    "boolean labels are the same": lambda b: _close(b.scored(b.x, b.y.astype(bool)), b.scores),
    "labels of other names are the same": lambda b: _close(b.scored(b.x, np.where(b.y == 1, "yes", "no")), b.scores),
    "negative zeros are zeros": lambda b: _close(
        b.scored(np.where(b.x > 0, b.x, -0.0), b.y), b.scored(np.where(b.x > 0, b.x, 0.0), b.y)
    ),
    # symmetries
    "the order of the tokens does not matter": _permuted_tokens,
    "the order of the neurons does not matter": _permuted_neurons,
    "every token twice is the same": lambda b: _agree(b.scored(np.repeat(b.x, 2, 0), np.repeat(b.y, 2)), b.scores),
    "labels exchanged, decisions exchanged": lambda b: _agree(-b.scored(b.x, 1 - b.y), b.scores),
    "the unit of all activations does not matter": lambda b: _agree(
        b.scored(1e3 * b.x, b.y, 1e3 * b.test[0]), b.scores
    ),
    "the zero of the activations does not matter": lambda b: _agree(b.scored(b.x + 5, b.y, b.test[0] + 5), b.scores),
    "the sign of a neuron does not matter": lambda b: _agree(
        b.scored(b.x * (s := np.where(np.arange(N_NEURONS) % 2, 1, -1)), b.y, b.test[0] * s), b.scores
    ),
    "a constant neuron does not matter": lambda b: _agree(
        b.scored(_with_column(b.x, 4.0), b.y, _with_column(b.test[0], 4.0)), b.scores
    ),
    "a dead neuron does not matter": lambda b: _agree(
        b.scored(_with_column(b.x, 0.0), b.y, _with_column(b.test[0], 0.0)), b.scores
    ),
    # scoring
    "one score a token": lambda b: b.scores.shape == (N_HELD,),
    "scores are finite": lambda b: bool(np.isfinite(b.scores).all()),
    "scoring twice is the same": lambda b: _close(np.asarray(b.fitted.decision_function(b.test[0])), b.scores),
    "a token's score does not depend on its company": lambda b: _close(
        np.concatenate([np.asarray(b.fitted.decision_function(b.test[0][i : i + 7])) for i in range(0, N_HELD, 7)]), b.scores
    ),
    "a token alone scores the same": lambda b: _close(np.asarray(b.fitted.decision_function(b.test[0][:1])), b.scores[:1]),
    "tokens in another order, scores in that order": lambda b: _close(
        np.asarray(b.fitted.decision_function(b.test[0][::-1])), b.scores[::-1]
    ),
    "scoring leaves the activations as they were": lambda b: (
        b.fitted.decision_function(x := b.test[0].copy()), np.array_equal(x, b.test[0])
    )[1],
    "changing the returned scores changes nothing": _returned_scores_are_copies,
    "a positive score is the second class": lambda b: np.array_equal(
        np.asarray(b.fitted.predict(b.test[0])), (b.scores > 0).astype(int)
    ),
    "predictions are labels that were given": lambda b: (
        set(np.unique(b.fresh().fit(b.x, np.where(b.y, "b", "a")).predict(b.test[0]))) <= {"a", "b"}
    ),
    "a copy scores the same": lambda b: _close(np.asarray(copy.deepcopy(b.fitted).decision_function(b.test[0])), b.scores),
    # refusals
    "one class is refused": lambda b: _refuses(lambda: b.fresh().fit(b.x, np.ones(N_TOKENS, int))),
    "three classes are refused": lambda b: _refuses(lambda: b.fresh().fit(b.x, np.arange(N_TOKENS) % 3)),
    "NaN is refused": lambda b: _refuses(lambda: b.fresh().fit(_spoiled(b, np.nan), b.y)),
    "infinity is refused": lambda b: _refuses(lambda: b.fresh().fit(_spoiled(b, np.inf), b.y)),
    "NaN is refused in scoring": lambda b: _refuses(lambda: b.fitted.decision_function(_spoiled(b, np.nan))),
    "another number of labels is refused": lambda b: _refuses(lambda: b.fresh().fit(b.x, b.y[:-1])),
    "another number of neurons is refused": lambda b: _refuses(lambda: b.fitted.decision_function(b.test[0][:, :-1])),
    "a single column is refused": lambda b: _refuses(lambda: b.fresh().fit(b.x[:, 0], b.y)),
    "no token is refused": lambda b: _refuses(lambda: b.fresh().fit(b.x[:0], b.y[:0])),
    "scoring before fitting is refused": lambda b: _refuses(lambda: b.fresh().decision_function(b.x)),
    # numbers at the edge
    "neurons that are all constant give finite scores": _finite(lambda b: np.ones_like(b.x)),
    "neurons that are all alike give finite scores": _finite(lambda b: np.repeat(b.x[:, :1], N_NEURONS, 1)),
    "tiny activations give finite scores": _finite(lambda b: 1e-30 * b.x),
    "large activations give finite scores": _finite(lambda b: 1e12 * b.x),
    "one loud neuron gives finite scores": _finite(lambda b: b.x * np.where(np.arange(N_NEURONS) == 5, 1e9, 1.0)),
    # what it is for
    "a signal that is there is found": lambda b: _auc(b.scores, b.test[1]) > 0.9,
    "a signal that is not there is not": _no_signal,
    "a signal stays when positives are rare": _rare,
}  # fmt: skip
"""Every check by the sentence it stands for."""


def check_probe(probe: Any, *, without: Iterable[str] = (), seed: int = 0) -> list[str]:
    """Put a probe through the whole battery.

    Args:
        probe: not fitted; it is copied, never changed.
        without: names of checks it cannot keep by its nature (see CHECKS).
        seed: of the tokens.

    Returns:
        Names of the checks it passed.

    Raises:
        ProbeCheckError: it broke some; the message names all of them.
        InputError: `without` names no check, or what was given is no probe.
    """
    left_out = set(without)
    unknown = sorted(left_out - CHECKS.keys())
    if unknown:
        raise InputError(f"without: {unknown[0]!r} is no check; probekit.testing.CHECKS names them.")
    missing = [
        name for name in ("fit", "decision_function", "predict") if not callable(getattr(probe, name, None))
    ]
    if missing:
        raise InputError(
            f"probe: got a {type(probe).__name__} without {', '.join(missing)}; wanted a binary classifier."
        )
    bench, broken = Bench(probe, seed), list[str]()
    for name, check in CHECKS.items():
        if name in left_out:
            continue
        try:
            if not check(bench):
                broken.append(name)
        except Exception as error:  # noqa: BLE001 - whatever a probe raises is its answer to the check
            broken.append(f"{name} (it raised {type(error).__name__}: {error})")
    if broken:
        raise ProbeCheckError(
            f"{probe!r} broke {len(broken)} of {len(CHECKS)} checks:\n  " + "\n  ".join(broken)
        )
    return [name for name in CHECKS if name not in left_out]
